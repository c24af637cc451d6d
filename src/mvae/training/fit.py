"""The public `fit`: from a source and options to a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mvae.data.loading import COMPLETE
from mvae.models import MultimodalVAE
from mvae.training.prepare import prepare, with_table
from mvae.training.spread import Processes

__all__ = ["OPTIONS", "fit", "paired_only", "placed"]

OPTIONS: dict[str, tuple[str, ...]] = {
    "method": ("model", "method"),
    "latent_dim": ("model", "latent_dim"),
    "subsets": ("model", "subsets"),
    "reconstruct": ("model", "reconstruct"),
    "target": ("model", "target"),
    "alpha": ("model", "alpha"),
    "mu": ("model", "mu"),
    "validation_rows": ("data", "validation_rows"),
    "paired_fraction": ("data", "paired_fraction"),
    "balance": ("data", "balance"),
    "binarisation": ("data", "binarisation"),
    "data_options": ("data", "options"),
    "epochs": ("training", "epochs"),
    "batch_size": ("training", "batch_size"),
    "learning_rate": ("training", "learning_rate"),
    "annealing_epochs": ("training", "annealing_epochs"),
    "shares": ("training", "shares"),
    "completion": ("training", "completion"),
    "propagation": ("training", "propagation"),
    "smoothness": ("training", "smoothness"),
    "best_by": ("training", "best_by"),
    "patience": ("training", "patience"),
    "precision": ("training", "precision"),
    "compile": ("training", "compile"),
    "seed": ("training", "seed"),
}
"""The options of `fit` by name, and their places in a `RunSpec`."""


def fit(
    source: Any = "digits",
    *,
    out: str | Path | None = None,
    columns: Mapping[str, Any] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    join: Sequence[str | Path] = (),
    on: str | None = None,
    method: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    latent_dim: int | None = None,
    learning_rate: float | None = None,
    annealing_epochs: int | None = None,
    subsets: int | None = None,
    validation_rows: int | None = None,
    paired_fraction: float | None = None,
    balance: str | None = None,
    binarisation: Literal["dynamic", "fixed"] | None = None,
    data_options: Mapping[str, bool | int] | None = None,
    weight: Mapping[str, float] | None = None,
    reconstruct: Literal["given", "present"] | Sequence[str] | None = None,
    target: str | None = None,
    alpha: float | None = None,
    mu: float | None = None,
    paired_share: float | None = None,
    completion: float | None = None,
    propagation: float | None = None,
    smoothness: float | None = None,
    best_by: str | None = None,
    patience: int | None = None,
    precision: Literal["float32", "bfloat16", "auto"] | None = None,
    compile: bool | None = None,  # noqa: A002
    seed: int | None = None,
    data_dir: str | Path | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: bool = True,
    devices: int = 1,
    nodes: int = 1,
) -> MultimodalVAE:
    """Train a model and return it, in evaluation mode on the CPU.

    Every option left at None has the value of the source's recipe.

    Args:
        source: a source's name (`mvae.SOURCES`); a table with holes, whose columns' kinds are inferred
            (`mvae.inspect`): a CSV, TSV, Parquet, Feather or JSON lines file, a data frame, a mapping of columns, an
            AnnData or a MuData; or rows for which `config` describes the model: a `Dataset`, or a folder of Arrow or
            Parquet files, which stay on disk (`mvae.open_shards`).
        out: folder to write the run to; kept nowhere where None.
        columns: of a table: column to its kind, e.g. `{"age": "count"}`, or to a mapping as `mvae.inspect` prints it.
        groups: of a table: name to the columns that are one modality; `{}` makes each column one.
        join: of a table: paths of more tables; rows found in only one are kept.
        on: the column that tables are joined by.
        method: a name in `mvae.models.METHODS`.
        epochs: passes over the training rows. Annealing keeps its share of them unless it is given.
        batch_size: rows a step, of all processes together.
        latent_dim: D, the dimension of z.
        learning_rate: of Adam.
        annealing_epochs: epochs over which beta of Eq. 1 rises from 0 to 1.
        subsets: mvae and mvae-q: k of Eq. 5, random subsets a step.
        validation_rows: rows to hold out, of which the best epoch is kept; of a table with fewer than 10,000 none.
        paired_fraction: share of rows that stay paired; the others keep one modality (paper, section 5.1).
        balance: a category of which each value shall be paired equally often.
        binarisation: of binary images, `"dynamic"` or `"fixed"`.
        data_options: what else may be chosen of a source (`load_dataset`), e.g. `{"anywhere": True}` of multimnist.
        weight: lambda of Eq. 2 by modality.
        reconstruct: mvae and mvae-q: what each ELBO term reconstructs: what it is `"given"` (Eq. 2), all that is
            `"present"`, or what it is given and the modalities named.
        target: vae and cvae: the modality that is modelled; the first where None.
        alpha: jmvae: weight of the divergences between posteriors.
        mu: bivcca: weight of the first modality's bound.
        paired_share: fill this share of each batch with complete rows, however few there are; as they come where None.
        completion: weight of rows that lack a category, completed with the model's own guess
            (`mvae.fewlabels.completion`; not in the paper); 0 for none.
        propagation: weight of rows that lack a category, with the class that spreads to them from rows near them in z
            (`mvae.fewlabels.propagation`; not in the paper); 0 for none.
        smoothness: weight of virtual adversarial training, which makes the guess of a category change little where
            what it is guessed from does (`mvae.fewlabels.smoothness`; not in the paper); 0 for none.
        best_by: the category or string whose accuracy given the rest, on validation rows, says which epoch's weights
            are best; the ELBO where None.
        patience: stop after so many epochs without a better validation.
        precision: of the networks' matrix products in training: `"float32"`, `"bfloat16"`, which is faster where the
            processor computes in it and far slower where not, or `"auto"`, the faster one here. Parameters, products of
            experts and likelihoods are float32 either way.
        compile: compile the networks with `torch.compile` first, which takes a minute and needs a C++ compiler.
            Results are the same to rounding.
        seed: of initialisation, order, draws and the choice of paired rows.
        data_dir: where to look first for data files.
        config: a YAML or JSON file, or a mapping, with any part of a run's `config.json`; options given here win.
        resume: continue the run in `out`, with the config it has.
        progress: show a bar.
        devices: processes on each machine that share every batch: GPUs where it has any, else CPU processes. They run
            the script that calls this once more each, and all are returned the same model. Like `nodes`,
            they change the results by rounding only and are no part of the config.
        nodes: machines; their processes must have been started by torchrun or Slurm.

    Raises:
        ValueError: on bad options or data, naming the place; `RunError` if `out` is not usable.
        NonFiniteLossError: if training diverges.
        OSError: if `compile` is asked for and fails.
        LostProcessError: if one of several processes dies.
        KeyboardInterrupt: on Ctrl-C, after saving the best weights so far.

    Example:
        >>> model = fit("digits", epochs=1, progress=False)
        >>> model.generate({"label": 7}, ["image"])["image"].shape
        torch.Size([1, 1, 1, 8, 8])
    """
    run = prepare(
        source,
        out=out,
        data_dir=data_dir,
        config=with_table(config, columns, groups, join, on),
        resume=resume,
        options=placed(
            {
                "method": method,
                "latent_dim": latent_dim,
                "subsets": subsets,
                "reconstruct": reconstruct,
                "target": target,
                "alpha": alpha,
                "mu": mu,
                "validation_rows": validation_rows,
                "paired_fraction": paired_fraction,
                "balance": balance,
                "binarisation": binarisation,
                "data_options": data_options,
                "epochs": epochs,
                "batch_size": batch_size,
                "learning_rate": learning_rate,
                "annealing_epochs": annealing_epochs,
                "shares": paired_only(paired_share),
                "completion": completion,
                "propagation": propagation,
                "smoothness": smoothness,
                "best_by": best_by,
                "patience": patience,
                "precision": precision,
                "compile": compile,
                "seed": seed,
            },
            weight,
        ),
        processes=Processes(devices, nodes),
    )
    run.train_to_the_end(progress)
    return run.model


def paired_only(share: float | None) -> dict[str, float] | None:
    """`--paired-share` as the shares of a spec: so much of each batch complete, the rest as it comes."""
    return None if share is None else {COMPLETE: share}


def placed(options: Mapping[str, Any], weights: Mapping[str, float] | None = None) -> dict[tuple[str, ...], Any]:
    """Options of `fit` by their places in a `RunSpec`.

    Args:
        options: name, a key of `OPTIONS`, to value.
        weights: modality to its weight lambda.
    """
    places = {OPTIONS[name]: value for name, value in options.items()}
    if options.get("best_by") is not None:  # a recipe may keep the last
        places["training", "keep"] = "best"
    return places | {("model", "modalities", name, "weight"): value for name, value in (weights or {}).items()}
