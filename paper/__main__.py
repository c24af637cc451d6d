"""`python -m paper`: lists the experiments; runs one, prints its page, and writes it where `--docs` says."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from mvae.cli.options import Help

TYPES = {None: str, 0: NonNegativeInt, 1: PositiveInt}
"""The type of an option, by the least that it may be."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an experiment.

    Returns:
        The exit status: 0, 1 where some cells failed (the others are kept), 2 for wrong input, 130 after Ctrl-C.
    """
    catalog = yaml.safe_load(Path(__file__).with_name("catalog.yaml").read_text(encoding="utf-8"))
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        for name, entry in catalog.items():
            print(f"{name:12} {entry['title']}" + (f" Under {entry['hours']} on 2 cores." if "hours" in entry else ""))
        print("\nThe times are those of --preset cpu, the default; smoke takes seconds, paper is for a GPU.")
        return 0
    chosen = _parser(catalog).parse_args(arguments)
    try:
        _run(chosen.experiment, catalog[chosen.experiment], chosen[chosen.experiment])
    except (ArithmeticError, RuntimeError) as error:
        return _fail(error, 1)
    except (ValueError, OSError) as error:
        return _fail(error, 2)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


def _parser(catalog: dict[str, Any]) -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m paper",
        formatter_class=Help,
        description="Run an experiment whose results the docs show. Each finished cell is kept. Without one, all are"
        " listed. Example: python -m paper table1",
    )
    commands = parser.add_subcommands(dest="experiment")
    for name, entry in catalog.items():
        example = " ".join(filter(None, ["Example: python -m paper", name, entry.get("example")]))
        part = ArgumentParser(description=f"{entry['title']} {example}", formatter_class=Help)
        commands.add_subcommand(name, part, help=entry["title"])
        _add_arguments(part.add_argument, entry)
    return parser


def _add_arguments(add: Callable[..., Any], entry: dict[str, Any]) -> None:
    for choice, names in entry.get("choices", {}).items():
        add(f"--{choice}", metavar="NAME", type=str, nargs="+", help=f"{', '.join(map(_text, names))} (default: all)")
    for name, option in entry.get("options", {}).items():
        default = "" if option["default"] is None else f" (default: {option['default']})"
        flag, kind = f"--{name.replace('_', '-')}", TYPES[option.get("least")]
        add(flag, type=kind, default=option["default"], help=option["help"] + default)
    if "presets" in entry:
        said = f"smoke: seconds, to see it work; cpu: under {entry['hours']} on 2 cores; paper: the paper's epochs"
        add("--preset", choices=list(entry["presets"]), default="cpu", help=f"{said}, for a GPU (default: cpu)")
        add("--jobs", metavar="N", type=PositiveInt, help="cells at a time (default: one a core, up to 6 on a GPU)")
        add("--data-dir", metavar="DIR", type=str, help="where to look first for data files")
    if entry.get("keeps"):
        add("--runs", metavar="DIR", type=str, default="runs/reproduce", help="folder of trained models")
    add("--out", metavar="DIR", type=str, default="paper/results", help="of the results (default: paper/results)")
    add("--docs", metavar="DIR", type=str, default=None, help="folder to write the page for the docs into")
    add("--resume", action="store_true", help="keep what is finished")


def _run(experiment: str, entry: dict[str, Any], options: Namespace) -> None:
    from mvae.files import read_json, write_text
    from paper.runner import Setup, page, run

    chosen = {choice: _among(choice, names, options) for choice, names in entry.get("choices", {}).items()}
    given = {key: options[key] for key in ("preset", "data_dir", "jobs", "resume") if key in options}
    given |= {"runs": Path(options.runs)} if "runs" in options else {}
    more = {name: options[name] for name in entry.get("options", {})}
    setup = Setup(experiment, folder=Path(options.out), chosen=chosen, options=more, **given)
    for line in run(setup):
        print(line, flush=True)
    text = page(experiment, read_json(setup.path))
    print(f"\n{text}")
    if options.docs:
        write_text(Path(options.docs) / f"{setup.name}.md", text)


def _among(choice: str, names: Sequence[Any], options: Namespace) -> list[Any]:
    """The names chosen; where none are, all but data sets that cannot be fetched and are not there."""
    known = {_text(name): name for name in names}
    if options[choice]:
        for name in options[choice]:
            if name not in known:
                raise ValueError(f"--{choice}: expected some of {', '.join(known)}, got '{name}'")
        return [known[name] for name in dict.fromkeys(options[choice])]
    return [name for name in names if choice != "dataset" or _there(name, options.data_dir)]


def _there(dataset: str, data_dir: str | None) -> bool:
    from mvae.data.sources import SOURCES

    part = SOURCES[dataset].part
    try:
        _ = part and part(data_dir)
    except ValueError as error:
        print(f"without {dataset}: {error}", flush=True)
        return False
    return True


def _text(name: Any) -> str:
    return f"{name:g}" if isinstance(name, float) else str(name)


def _fail(error: Exception, status: int) -> int:
    if os.environ.get("MVAE_DEBUG"):
        raise error
    print(f"paper: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
