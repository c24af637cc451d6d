"""Run what README and docs show, and compare what is printed with what they say is printed.

A `python` block runs as it stands, each `$ mvae` line of a `console` block as a command. The lines below a command, and
a `text` block below a `python` block, are what was printed: compared but for numbers, and spaces between words. With
`WRITE_OUTPUTS=1` in the environment they are written anew instead: a page says where by any line, or an empty block.
"""

import contextlib
import io
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from forked import run_mvae

collect_ignore = ["docs/gallery"]  # examples that Sphinx has copied and run
WRITE = bool(os.environ.get("WRITE_OUTPUTS"))
anew: dict[str, tuple[str, list[tuple[int, int, str]]]] = {}
run_python = PythonEvaluator()


def alike(text: str) -> str:
    """A text without what differs from machine to machine: numbers, rules and the width of columns."""
    return " ".join(re.sub(r"[-+]?\d[\d.,]*(e[-+]?\d+)?%?|[-─]{2,}", "0", text).split())


def compare(example: Example, said: str, printed: str, what: str) -> str | None:
    """None where the document says what was printed, or is to be told."""
    if WRITE or alike(said) == alike(printed):
        return None
    return f"{what} printed\n{printed}\nand {example.document.path} says\n{said}"


def rewrite(example: Example, text: str) -> None:
    """Keep a block's new content until all has run."""
    start = example.region.start + example.parsed.offset
    assert example.document.text[start:].startswith(example.parsed)
    _, blocks = anew.setdefault(example.document.path, (example.document.text, []))
    blocks.append((start, start + len(example.parsed), text))


def run_commands(example: Example) -> str | None:
    """Run each line that starts with `$ mvae`. Where nothing stands below a command, its output is not compared."""
    blocks = re.split(r"^\$ ", example.parsed, flags=re.MULTILINE)[1:]
    text = ""
    for block in blocks:
        line, _, said = block.partition("\n")
        command, *arguments = shlex.split(line)
        assert command == "mvae", line
        result = run_mvae(arguments, Path.cwd(), os.environ)
        if result.returncode:
            return f"{line}\n{result.stdout}{result.stderr}"
        printed = "\n".join(part.rstrip() for part in result.stdout.strip("\n").splitlines())
        if said.strip() and (fault := compare(example, said, printed, line)):
            return fault
        text += f"$ {line}\n" + (f"{printed}\n" if said.strip() else "")
    if WRITE:
        rewrite(example, text)
    return None


def run_block(example: Example) -> str | None:
    """Run a block and keep what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        run_python(example)
    example.namespace["printed"] = printed.getvalue().strip("\n") + "\n"
    return None


def check_printed(example: Example) -> str | None:
    """Compare a block with what the one above it printed."""
    printed = example.namespace["printed"]
    if WRITE:
        rewrite(example, printed)
    return compare(example, example.parsed, printed, "the block above")


def pytest_sessionfinish() -> None:
    """Write the documents whose blocks have new contents, from the last block to the first."""
    for path, (old, blocks) in anew.items():
        new = old
        for start, end, content in sorted(blocks, reverse=True):
            new = new[:start] + content + new[end:]
        Path(path).write_text(new, encoding="utf-8")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Each document runs in an empty folder of its own."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("docs"))
    yield
    os.chdir(before)


pytest_collect_file = Sybil(
    parsers=[
        CodeBlockParser("python", run_block),
        CodeBlockParser("text", check_printed),
        CodeBlockParser("console", run_commands),
        SkipParser(),
    ],
    patterns=["*.md"],
    fixtures=["workplace"],
).pytest()
