"""`mvae fit`: train a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from mvae.cli.options import INTERRUPTED, Command, fail, of_table, pairs, table_arguments

if TYPE_CHECKING:
    from mvae.training.run import Run

__all__ = ["FIT"]


def _fit_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "source",
        help="a data set: digits, mnist, multimnist, celeba, ... ('mvae data list'); a table, with holes in it, in a"
        " .csv, .tsv, .parquet, .feather or .jsonl file; or a folder of Arrow or Parquet files, a column a modality,"
        " which stay on disk (with --config)",
    )
    table_arguments(parser)
    add("--out", metavar="DIR", type=str, help="folder of the run (default: runs/SOURCE)")
    add("--resume", action="store_true", help="continue the run in --out from its last checkpoint")
    add("--method", type=str, help="the model: mvae, mvae-q, vae, cvae, bivcca, jmvae or telbo")
    add("--epochs", metavar="N", type=PositiveInt, help="passes over the training rows")
    add("--batch-size", metavar="N", type=PositiveInt, help="rows a step, of all processes together")
    add("--latent-dim", metavar="D", type=PositiveInt, help="dimension of z")
    add("--learning-rate", metavar="F", type=PositiveFloat, help="of Adam")
    add("--annealing-epochs", metavar="N", type=NonNegativeInt, help="epochs over which the KL weight rises to 1")
    add("--subsets", metavar="K", type=NonNegativeInt, help="mvae, mvae-q: random subsets a step (k of Eq. 5)")
    add(
        "--validation-rows",
        metavar="N",
        type=NonNegativeInt,
        help="rows to hold out, which say which epoch is kept (of a table below 10,000 rows none; celeba and vision"
        " have their own)",
    )
    add(
        "--paired-fraction",
        metavar="F",
        type=ClosedUnitInterval,
        help="share of rows that stay paired; the others keep one modality",
    )
    add("--balance", metavar="NAME", type=str, help="pair each value of this category equally often, e.g. label")
    add("--binarisation", choices=["dynamic", "fixed"], help="of binary-mnist: new pixels at each use, or once")
    add(
        "--data-options",
        metavar="NAME=VALUE",
        type=str,
        nargs="+",
        help="of the data set: multimnist anywhere=true, repeats=false, fewest=1, most=2; celeba skip_damaged=true",
    )
    add("--weight", metavar="NAME=F", type=str, nargs="+", help="weight lambda of a modality, e.g. label=50")
    add(
        "--reconstruct",
        metavar="WHAT",
        type=str,
        help="mvae, mvae-q: what each term decodes: 'given' (Eq. 2), all that is 'present', or what is given and"
        " NAME,NAME,...",
    )
    add("--target", metavar="NAME", type=str, help="vae, cvae: the modality that is modelled (the first)")
    add("--alpha", metavar="F", type=NonNegativeFloat, help="jmvae: weight of the two divergences (0.01)")
    add("--mu", metavar="F", type=ClosedUnitInterval, help="bivcca: weight of the first modality's bound (0.5)")
    add(
        "--paired-share",
        metavar="F",
        type=ClosedUnitInterval,
        help="fill this share of each batch with complete rows, however few",
    )
    add(
        "--completion",
        metavar="F",
        type=NonNegativeFloat,
        help="weight of rows lacking a category, completed with the model's own guess; 0 is the paper's method",
    )
    add(
        "--propagation",
        metavar="F",
        type=NonNegativeFloat,
        help="weight of rows lacking a category, with the class of the rows near them in z; 0 is the paper's method",
    )
    add(
        "--smoothness",
        metavar="F",
        type=NonNegativeFloat,
        help="weight of virtual adversarial training, for few paired rows; 0 is the paper's method",
    )
    add("--best-by", metavar="NAME", type=str, help="keep the epoch that predicts this category best, not by the ELBO")
    add("--patience", metavar="N", type=PositiveInt, help="stop after N epochs without a better validation")
    add(
        "--precision",
        choices=["float32", "bfloat16", "auto"],
        help="of the networks' matrix products in training; auto: bfloat16 where the processor computes in it",
    )
    add("--compile", action="store_true", default=None, help="compile the networks first (needs a C++ compiler)")
    add("--seed", metavar="N", type=NonNegativeInt, help="of initialisation, order, draws and the paired rows")
    add("--data-dir", metavar="DIR", type=str, help="where to look first for data files (then $MVAE_DATA, the cache)")
    add("--devices", metavar="N", type=PositiveInt, default=1, help="GPUs, or CPU processes, on each machine (1)")
    add("--nodes", metavar="M", type=PositiveInt, default=1, help="machines, with torchrun or Slurm (1)")
    add(
        "--config",
        metavar="FILE.yaml",
        type=str,
        help="any part of a run's config.json, networks too, or the name of a recipe, or of a variant; flags win",
    )


def _fit(options: Namespace) -> int:
    if options.devices * options.nodes > 1:  # read when torch is imported: DDP warns of what is as it should be
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from mvae.training.fit import OPTIONS, paired_only, placed
    from mvae.training.prepare import folder_of_shards, prepare, takes_table
    from mvae.training.spread import LostProcessError, Processes

    table = Path(options.source).stem if takes_table(options.source) else None
    shards = None if table else folder_of_shards(options.source)
    out = options.out or f"runs/{shards.name if shards else table or options.source}"
    run = prepare(
        options.source,
        out=out,
        data_dir=options.data_dir,
        config=of_table(options, options.config),
        resume=options.resume,
        options=placed(
            {name: options[name] for name in OPTIONS.keys() - {"reconstruct", "shares", "data_options"}}
            | {"reconstruct": _reconstruct(options.reconstruct), "shares": paired_only(options.paired_share)}
            | {"data_options": _data_options(options.data_options)},
            {name: _number(name, value) for name, value in pairs("--weight", options.weight).items()},
        ),
        processes=Processes(options.devices, options.nodes),
    )
    try:
        return _trained(run) if run.processes.first else _followed(run)
    except LostProcessError as error:
        return fail(error, 1)


def _trained(run: Run) -> int:
    from mvae.cli.display import print_outcome, print_plan

    print_plan(run)
    outcome = run.train()
    print_outcome(run, outcome)
    return INTERRUPTED if outcome.interrupted else 0


def _followed(run: Run) -> int:
    """Train beside the first process, which does the talking."""
    try:
        return INTERRUPTED if run.train(progress=False).interrupted else 0
    except ArithmeticError:
        return 1


def _reconstruct(text: str | None) -> str | list[str] | None:
    return text if text in (None, "given", "present") else text.split(",")


def _data_options(texts: Sequence[str] | None) -> dict[str, bool | int] | None:
    found: dict[str, bool | int] = {}
    for name, text in pairs("--data-options", texts).items():
        if text not in ("true", "false") and not text.isdecimal():
            raise ValueError(f"--data-options {name}: expected true, false or a whole number, got '{text}'")
        found[name] = int(text) if text.isdecimal() else text == "true"
    return found or None


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--weight {name}: expected a number, got '{text}'") from None


FIT = Command(
    "Train a model. What is not said comes from the recipe of the data set."
    " Example: mvae fit digits --paired-fraction 0.1 --out runs/first",
    _fit_arguments,
    _fit,
)
