"""The command line: parses, calls the library, prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from mvae import __version__
from mvae.cli.data import DATA
from mvae.cli.evaluate import EVALUATE
from mvae.cli.export import EXPORT
from mvae.cli.fit import FIT
from mvae.cli.options import INTERRUPTED, Help, fail
from mvae.cli.sample import SAMPLE
from mvae.cli.tables import EMBED, IMPUTE, INSPECT, SCORE
from mvae.cli.translate import TRANSLATE

__all__ = ["main"]

COMMANDS = {
    "fit": FIT,
    "inspect": INSPECT,
    "impute": IMPUTE,
    "embed": EMBED,
    "score": SCORE,
    "export": EXPORT,
    "evaluate": EVALUATE,
    "sample": SAMPLE,
    "translate": TRANSLATE,
    "data": DATA,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `mvae` with these arguments; those of the process where None.

    Returns:
        The exit status: 0, 1 for what went wrong while working, 2 for wrong input, 130 after Ctrl-C.
    """
    parser = _parser()
    chosen = parser.parse_args(arguments)
    options = chosen[chosen.command]
    try:
        return COMMANDS[chosen.command].run(options)
    except ArithmeticError as error:
        return fail(error, 1)
    except (ValueError, OSError) as error:
        return fail(error, 2)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="mvae",
        formatter_class=Help,
        description="Learn one joint distribution over several kinds of data, with any of them missing, and answer in"
        " any direction: classify, generate, fill in, score.",
        epilog="Start with: mvae fit digits --paired-fraction 0.1 --out runs/first",
        version=__version__,
    )
    commands = parser.add_subcommands(dest="command")
    for name, command in COMMANDS.items():
        part = ArgumentParser(description=command.summary, formatter_class=Help)
        commands.add_subcommand(name, part, help=command.summary.split(". ")[0])
        command.add_arguments(part)
    return parser
