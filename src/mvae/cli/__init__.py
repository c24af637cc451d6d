"""The command line: parses, calls the library, prints."""

from __future__ import annotations

import argparse
import os
import sys
from codecs import lookup
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from mvae import __version__

__all__ = ["main"]

COMMANDS = {
    "fit": ("Train a model", "fit"),
    "inspect": ("Show the inferred kind of each column of a table", "tables"),
    "impute": ("Fill the missing cells of a table", "tables"),
    "embed": ("Embed each row of a table in the latent space", "tables"),
    "score": ("Score each row of a table, the least likely first", "tables"),
    "export": ("Write a run for another machine", "export"),
    "evaluate": ("Score a model on held-out rows", "evaluate"),
    "sample": ("Draw from a model", "sample"),
    "translate": ("Make pictures of pictures, or texts of texts", "translate"),
    "data": ("List, check and fetch data sets", "data"),
}
"""Commands: a summary, and the file here, which is imported when the command is chosen."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `mvae` with these arguments; those of the process where None.

    Returns:
        The exit status: 0, 1 for what went wrong while working, 2 for wrong input, 130 after Ctrl-C, 141 where the
        reader of the output has gone, as with `| head`.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started it
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        stream = getattr(sys, name)
        if lookup(stream.encoding or "utf-8").name == "ascii":  # as in the locale C, where names would be errors
            stream.reconfigure(encoding="utf-8")
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141
    finally:
        _end_output()


def _end_output() -> None:
    """Write the rest of the output; what cannot be written goes nowhere, or Python complains about it at its end."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"mvae: the output could not be written: {error.strerror}", file=sys.stderr)
            sys.exit(2)


def _run(arguments: Sequence[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    if not given or given[0] not in COMMANDS:
        _overview().parse_args(given)  # which shows help or what is wrong, and exits
        return 2
    from jsonargparse import ArgumentParser

    from mvae.cli.options import Command, Help, fail

    summary, place = COMMANDS[given[0]]
    command: Command = getattr(import_module(f"mvae.cli.{place}"), given[0].upper())
    said = f"{summary}. {command.run.__doc__}"
    parser = ArgumentParser(prog=f"mvae {given[0]}", description=said, formatter_class=Help)
    command.add_arguments(parser)
    options = parser.parse_args(given[1:])
    try:
        if options.get("out") == "":
            raise ValueError("--out: expected a name, got ''")
        return command.run(options)
    except ArithmeticError as error:
        return fail(error, 1)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        return fail(error, 2)


def _overview() -> argparse.ArgumentParser:
    """The parser of `mvae --help`, which is quick: that of a command takes longer to import than this to run."""
    parser = argparse.ArgumentParser(
        prog="mvae",
        description="Learn one joint distribution over several kinds of data, with any of them missing, and answer in"
        " any direction: classify, generate, fill in, score.",
        epilog="Start with: mvae fit digits --paired-fraction 0.1 --out runs/first",
    )
    parser.add_argument("--version", action="version", version=f"mvae {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, title="commands")
    for name, (summary, _) in COMMANDS.items():
        commands.add_parser(name, help=summary)
    return parser
