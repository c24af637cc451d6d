"""The public `fit`: from a source and options to a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mvae.config.options import OPTIONS, placed
from mvae.models import MultimodalVAE
from mvae.training.prepare import prepare, with_table
from mvae.training.spread import Processes

__all__ = ["fit"]


# The options from `validation_rows` to `radius` are written by `scripts/write_options.py`.
def fit(
    source: Any = "digits",
    *,
    out: str | Path | None = None,
    columns: Mapping[str, Any] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    join: Sequence[str | Path] = (),
    on: str | None = None,
    validation_rows: int | None = None,
    paired_fraction: float | None = None,
    balance: str | None = None,
    binarisation: Literal["dynamic", "fixed"] | None = None,
    data_options: Mapping[str, bool | int] | None = None,
    method: str | None = None,
    latent_dim: int | None = None,
    random_subsets: int | None = None,
    reconstruct: Literal["given", "present"] | Sequence[str] | None = None,
    free_nats: float | None = None,
    target: str | None = None,
    mu: float | None = None,
    alpha: float | None = None,
    weight: Mapping[str, float] | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    passes: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    schedule: Literal["constant", "cosine"] | None = None,
    annealing_epochs: int | None = None,
    annealing_cycles: int | None = None,
    keep: Literal["best", "last"] | None = None,
    best_by: str | None = None,
    patience: int | None = None,
    precision: Literal["float32", "bfloat16", "auto"] | None = None,
    compile: bool | None = None,  # noqa: A002
    seed: int | None = None,
    paired_share: float | None = None,
    shares: Mapping[str, float] | None = None,
    completion: float | None = None,
    sharpness: float | None = None,
    propagation: float | None = None,
    neighbours: int | None = None,
    surest: float | None = None,
    smoothness: float | None = None,
    radius: float | None = None,
    data_dir: str | Path | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: bool = True,
    devices: int = 1,
    nodes: int = 1,
) -> MultimodalVAE:
    """Train a model and return it, in evaluation mode on the CPU.

    An option left at None has the value of the source's recipe.

    Args:
        source: a source's name (`mvae.SOURCES`); a table with missing values, whose columns' kinds are inferred
            (`mvae.inspect`): a CSV, TSV, Parquet, Feather or JSON lines file, a data frame, a mapping of columns, an
            AnnData or a MuData; or rows for which `config` describes the model: a `Dataset`, or a folder of Arrow or
            Parquet files, which stay on disk (`mvae.open_shards`).
        out: folder to write the run to; kept nowhere where None.
        columns: of a table: column to its kind, e.g. `{"age": "count"}`, or to a mapping as `mvae.inspect` prints it.
        groups: of a table: name to the columns that are one modality; `{}` makes each column one.
        join: of a table: paths of more tables; rows found in only one are kept.
        on: the column that tables are joined by.
        validation_rows: validation rows, taken from the training rows; the best epoch on them is kept (tables with
            fewer than 10,000 rows are used whole for training; celeba and vision have their own).
        paired_fraction: share of rows that stay complete; the others keep one modality (paper, section 5.1).
        balance: keep as many complete rows of each value of this category, e.g. label.
        binarisation: binary-mnist: new pixels at each use (dynamic), or once (fixed).
        data_options: choices of a data set: multimnist anywhere=true repeats=false fewest=1 most=2; celeba
            skip_damaged=true.
        method: the model: mvae, mvae-q, vae, cvae, bivcca, jmvae, telbo, mmvae.
        latent_dim: D, the dimension of z.
        random_subsets: mvae, mvae-q: random subsets a step beside the joint and the singles (k of Eq. 5) (default: 0).
        reconstruct: mvae, mvae-q: what each ELBO term reconstructs: what it is 'given' (Eq. 2), all that is 'present',
            or what it is given and these modalities (default: given).
        free_nats: mvae, mvae-q: a divergence from the prior up to this costs nothing (free bits) (default: 0).
        target: vae, cvae: the modality that is modelled (default: the first).
        mu: bivcca: weight of the first modality's bound (default: 0.5).
        alpha: jmvae: weight of the divergences between posteriors (default: 0.01).
        weight: lambda of Eq. 2 by modality, e.g. label=50.
        steps: of a table, in place of epochs: about how many optimiser steps in all.
        epochs: epochs of training; annealing keeps its share of them unless it is given too.
        passes: passes over the training rows in an epoch, more than one where rows are few.
        batch_size: rows a step, of all processes together.
        learning_rate: learning rate of Adam.
        schedule: learning rate: constant, or constant for half of the steps, then down to 1 % along half a cosine.
        annealing_epochs: epochs over which beta, the weight of the KL terms, rises from 0 to 1.
        annealing_cycles: how often beta rises in these epochs; in each of several cycles it stays at 1 for the second
            half.
        keep: keep the weights of the epoch with the best validation, or of the last epoch.
        best_by: keep the epoch that predicts this category or string best from the rest, in place of the best ELBO.
        patience: stop after this many epochs without a better validation.
        precision: precision of the networks' matrix products; auto: bfloat16 where the processor computes in it, which
            is then faster (and else far slower), float32 elsewhere.
        compile: compile the networks with torch.compile first, which needs a C++ compiler.
        seed: seed of initialisation, order, draws and the choice of complete rows.
        paired_share: fill this share of each batch with complete rows, however few; short for shares of complete alone.
        shares: share of each batch by what rows have, complete or names joined by +, e.g. complete=0.25 image=0.5
            (default: as they come).
        completion: weight of rows with a missing category, completed with the model's own guess; 0 is the paper's
            method.
        sharpness: sharpness of the guess of completion: 1 draws from p(y | x), more makes it surer.
        propagation: weight of rows with a missing category, given the class of rows near them in z; 0 is the paper's
            method.
        neighbours: neighbours of each row in z over which propagation spreads classes.
        surest: share of the rows with a missing class that propagation trains on, the surest first.
        smoothness: weight of virtual adversarial training, by which a category's guess changes little where what it is
            guessed from does; 0 is the paper's method.
        radius: Euclidean length of the changes that smoothness looks at, in the data's units.
        data_dir: where to look first for data files.
        config: a YAML or JSON file, or a mapping, with any part of a run's `config.json`; options given here win.
        resume: continue the run in `out`, with the config it has.
        progress: show a bar.
        devices: processes on each machine that share every batch: GPUs where it has any, else CPU processes. They run
            the script that calls this once more each, and all are returned the same model. Like `nodes`, they change
            the results by rounding only and are no part of the config.
        nodes: machines; their processes must have been started by torchrun.

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
    options = placed({name: value for name, value in locals().items() if name in OPTIONS})
    run = prepare(
        source,
        out=out,
        data_dir=data_dir,
        config=with_table(config, columns, groups, join, on),
        resume=resume,
        options=options,
        processes=Processes(devices, nodes),
    )
    run.train_to_the_end(progress)
    return run.model
