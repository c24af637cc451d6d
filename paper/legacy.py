"""`python -m paper`: the experiments by name, what they take, and the running of one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

__all__ = ["main"]


COMPARED = {
    "table2": "Table 2: test log-likelihoods of all models.",
    "table3": "Table 3: variances of the log importance weights of all models.",
    "figure2": "Figure 2: images drawn from the prior and given a label.",
}
EXPERIMENTS = {
    "table1": "Table 1: parameters of the inference networks.",
    **COMPARED,
    "figure3": "Figure 3: labels predicted from images, by how many pairs were seen, beside every baseline.",
    "few-pairs": "What helps, beyond the paper, to predict a label from few pairs.",
    "k-effect": "The effect of k: MVAE19 on CelebA by its number of random ELBO terms.",
    "dropping": "MVAE19 on CelebA when modalities are dropped at random in training.",
    "attributes": "18 attributes of CelebA's faces predicted from the image, beside simpler ways.",
    "figure4": "Figure 4: image transformations as modalities, each made from others.",
    "table4": "Table 4: translation from few aligned sentences, beside simpler ways.",
    "table5": "Table 5: sentences translated both ways.",
    "collapse": "What keeps z in use in translation, and Transformers, compared on validation sentences.",
    "digits": "Labels of digits from few pairs, beside logistic regression on the same pairs.",
    "reconstruct": "What each ELBO term reconstructs, compared on validation rows.",
}


FIGURE3_MODELS = (
    "mvae, mvae-weight-1, mvae-label, mvae-q, mvae-q-label, jmvae, supervised, logistic, autoencoder, vae, rbm; and"
    " mvae-weight-10, mvae-longer"
)
TABLE_MODELS = "vae, cvae, bivcca, jmvae, mvae-q, mvae, mvae-label, mvae19"
TABLE_DATASETS = ("--dataset", "binary-mnist, mnist, fashion-mnist, multimnist, celeba")
CHOICES: dict[str, tuple[tuple[str, str], ...]] = {
    "table2": (TABLE_DATASETS, ("--model", TABLE_MODELS)),
    "table3": (TABLE_DATASETS, ("--model", TABLE_MODELS)),
    "figure2": (TABLE_DATASETS, ("--model", "mvae, mvae-label, mvae19")),
    "figure3": (("--dataset", "binary-mnist, fashion-mnist, multimnist"), ("--model", FIGURE3_MODELS)),
    "few-pairs": (
        ("--dataset", "binary-mnist, fashion-mnist"),
        ("--variant", "plain, smoothness, propagation, chosen, ..."),
        ("--pairs", "100, 1000"),
    ),
    "attributes": (("--predictor", "majority, logistic, mvae-label, mvae19"),),
    "figure4": (("--recipe", "paper, given, sharper, deeper, normal, laplace, learned"),),
    "collapse": (("--variant", "nothing, word-dropout, annealing, ..., transformer, equal-time"),),
    "table4": (("--model", "mvae, mvae-annealed, pairs, nearest"), ("--share", "0.001, 0.005, 0.01, 0.05, 0.1, 1")),
}
"""What of an experiment may be chosen, and from what."""
TIMES = {
    **dict.fromkeys(COMPARED, "2 hours a data set"),
    "figure3": "5 hours a data set",
    "few-pairs": "5 hours a data set",
    "k-effect": "2 hours",
    "dropping": "2 hours",
    "attributes": "2 hours",
    "figure4": "3 hours",
    "collapse": "2 hours",
    "table4": "3 hours",
    "table5": "3 hours",
}
"""Below which the preset `cpu` stays on 2 cores."""
KEPT = (*COMPARED, "few-pairs", "attributes", "figure4", "collapse", "table4", "table5")
"""Experiments whose trained models are kept."""


def _parser() -> ArgumentParser:
    """An experiment a subcommand."""
    parser = ArgumentParser(
        prog="python -m paper",
        formatter_class=_Help,
        description="Run an experiment whose results the docs show. Each finished cell is kept."
        " Example: python -m paper table1",
    )
    commands = parser.add_subcommands(dest="experiment")
    for name, summary in EXPERIMENTS.items():
        options = " --dataset mnist --preset smoke" if name in COMPARED else ""
        options = " --dataset fashion-mnist --preset smoke" if name in ("figure3", "few-pairs") else options
        more = " Trained models are kept in --runs, which the tables and the figure share." if name in COMPARED else ""
        description = f"{summary}{more} Example: python -m paper {name}{options}"
        part = ArgumentParser(description=description, formatter_class=_Help)
        commands.add_subcommand(name, part, help=summary)
        add = part.add_argument
        if name == "digits":
            add("--seeds", metavar="N", type=PositiveInt, default=10, help="seeds, each other pairs (default: 10)")
            add("--validation-rows", metavar="N", type=NonNegativeInt, default=0, help="set aside (default: 0)")
        elif name == "reconstruct":
            add("--dataset", type=str, default="mnist", help="a data set with image and label (default: mnist)")
            add("--epochs", metavar="N", type=PositiveInt, default=5, help="for each choice (default: 5)")
            add("--data-dir", metavar="DIR", type=str, help="where to look first for data files")
        for option, names in CHOICES.get(name, ()):
            add(option, metavar="NAME", type=str, nargs="+", help=f"{names} (default: all)")
        if name in TIMES:
            _add_preset_arguments(part, TIMES[name])
        if name in ("table2", "table3"):
            add("--seeds", metavar="N", type=PositiveInt, default=1, help="how many seeds, from 0 (default: 1)")
        if name in KEPT:
            add("--runs", metavar="DIR", type=str, default="runs/reproduce", help="folder of trained models")
        add("--out", metavar="DIR", type=str, default="results", help="folder of the results (default: results)")
        add("--docs", metavar="DIR", type=str, default=None, help="folder to write the page for the docs into")
        add("--resume", action="store_true", help="keep what is finished")
    return parser


def _add_preset_arguments(parser: ArgumentParser, time: str) -> None:
    add = parser.add_argument
    add(
        "--preset",
        choices=["smoke", "cpu", "paper"],
        default="cpu",
        help=f"smoke: seconds, to see it work; cpu: under {time} on 2 cores; paper: the paper's epochs, for a GPU"
        " (default: cpu)",
    )
    add("--jobs", metavar="N", type=PositiveInt, help="models at a time (default: one a core, up to 6 on a GPU)")
    add("--data-dir", metavar="DIR", type=str, help="where to look first for data files")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an experiment; the exit status: 0, 1 where some cells failed (the others are kept), 2 for wrong input."""
    chosen = _parser().parse_args(arguments)
    try:
        _run(chosen.experiment, chosen[chosen.experiment])
    except (ArithmeticError, RuntimeError) as error:
        return _fail(error, 1)
    except (ValueError, OSError) as error:
        return _fail(error, 2)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


def _fail(error: Exception, status: int) -> int:
    if os.environ.get("MVAE_DEBUG"):
        raise error
    print(f"paper: {error}", file=sys.stderr)
    return status


class _Help(DefaultHelpFormatter):
    """Help without the types and defaults that the library adds."""

    def _get_help_string(self, action: Any) -> str:
        return action.help or ""


def _run(experiment: str, options: Namespace) -> None:
    """Run an experiment, print its page, and write the page where `--docs` says.

    Raises:
        ValueError: on names that are not known; else as the experiment does.
    """
    from mvae.files import read_json, write_text

    lines, path, page, name = _RUNNERS[experiment](experiment, options)
    for line in lines:
        print(line, flush=True)
    text = page(read_json(path))
    print(f"\n{text}")
    if options.docs:
        write_text(Path(options.docs) / f"{name}.md", text)


Plan = tuple[Iterator[str], Path, Callable[[dict[str, Any]], str], str]
"""Lines as the work goes on, the JSON file it fills, the page made of that file, the page's name."""


def _planned(
    name: str,
    options: Namespace,
    reproduce: Callable[..., Iterator[str]],
    page: Callable[[dict[str, Any]], str],
    *chosen: Any,
) -> Plan:
    """The plan of an experiment that has presets: `reproduce(setup, *chosen)`, and its page."""
    from paper.setup import Setup

    given = {key: options[key] for key in ("preset", "data_dir", "jobs", "resume")}
    setup = Setup(**given, folder=Path(options.out))
    if name in KEPT:
        setup = replace(setup, runs=Path(options.runs))
    return reproduce(setup, *chosen), setup.path(name), page, name


def _table(name: str, options: Namespace) -> Plan:
    from paper import comparison, table_pages, tables

    datasets, models = _datasets(options, comparison.DATASETS), _among(options, "model", comparison.MODELS)
    reproduce, page = partial(tables.reproduce, name), partial(table_pages.page, name)
    return _planned(name, options, reproduce, page, datasets, models, options.seeds)


def _figure2(name: str, options: Namespace) -> Plan:
    from paper import comparison, figure2

    datasets, models = _datasets(options, comparison.DATASETS), _among(options, "model", figure2.MODELS_DRAWN)
    return _planned(name, options, figure2.reproduce, figure2.page, datasets, models)


def _figure3(name: str, options: Namespace) -> Plan:
    from paper import figure3, figure3_page

    models, datasets = _among(options, "model", figure3.MODELS), _among(options, "dataset", figure3.DATASETS)
    return _planned(name, options, figure3.reproduce, figure3_page.page, datasets, models)


def _few_pairs(name: str, options: Namespace) -> Plan:
    from paper import few_pairs

    variants, datasets = _among(options, "variant", few_pairs.VARIANTS), _among(options, "dataset", few_pairs.DATASETS)
    levels = few_pairs.PRESETS[options.preset].levels
    known = {str(pairs): pairs for dataset in datasets for pairs in levels[dataset]}
    pairs = [known[text] for text in _among(options, "pairs", known)]
    return _planned(name, options, few_pairs.reproduce, few_pairs.page, datasets, variants, pairs)


def _celeba19(name: str, options: Namespace) -> Plan:
    from paper import celeba19

    return _planned(name, options, partial(celeba19.reproduce, name), partial(celeba19.page, name))


def _attributes(name: str, options: Namespace) -> Plan:
    from paper import attributes

    predictors = _among(options, "predictor", attributes.PREDICTORS)
    return _planned(name, options, attributes.reproduce, attributes.page, predictors)


def _figure4(name: str, options: Namespace) -> Plan:
    from paper import figure4, figure4_page

    recipes = _among(options, "recipe", figure4.RECIPES)
    return _planned(name, options, figure4.reproduce, figure4_page.page, recipes)


def _translation(name: str, options: Namespace) -> Plan:
    from paper import translation, translation_page

    reproduce, page = partial(translation.reproduce, name), partial(translation_page.page, name)
    if name == "table5":
        return _planned(name, options, reproduce, page)
    shares = {f"{share:g}": share for share in translation.SHARES}
    chosen = [shares[text] for text in _among(options, "share", shares)]
    return _planned(name, options, reproduce, page, _among(options, "model", translation.MODELS), chosen)


def _collapse(name: str, options: Namespace) -> Plan:
    from paper import collapse

    return _planned(name, options, collapse.reproduce, collapse.page, _among(options, "variant", collapse.VARIANTS))


_RUNNERS: dict[str, Callable[[str, Namespace], Plan]] = {
    "table2": _table,
    "table3": _table,
    "figure2": _figure2,
    "figure3": _figure3,
    "few-pairs": _few_pairs,
    "k-effect": _celeba19,
    "dropping": _celeba19,
    "attributes": _attributes,
    "figure4": _figure4,
    "table4": _translation,
    "table5": _translation,
    "collapse": _collapse,
}


def _datasets(options: Namespace, known: Iterable[str]) -> list[str]:
    """The data sets chosen; where none is, all known ones but those that cannot be fetched and are not there."""
    from mvae.data.sources import SOURCES

    names = _among(options, "dataset", known)
    for name in [] if options.dataset else list(names):
        part = SOURCES[name].part
        try:
            _ = part and part(options.data_dir)
        except ValueError as error:
            print(f"without {name}: {error}", flush=True)
            names.remove(name)
    return names


def _among(options: Namespace, option: str, known: Iterable[str]) -> list[str]:
    """The names chosen, all known ones where none is."""
    chosen = options[option] or ()
    for name in chosen:
        if name not in known:
            raise ValueError(f"--{option}: expected some of {', '.join(known)}, got '{name}'")
    return list(dict.fromkeys(chosen or known))
