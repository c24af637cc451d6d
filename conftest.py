"""Run what README and docs show: Python blocks as they stand, and the `$ mvae` lines of console blocks."""

import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from forked import run_mvae


def run_commands(example: Example) -> str | None:
    """Run each line that starts with `$ mvae`; the lines between are what a reader will see, not compared."""
    for line in example.parsed.splitlines():
        if line.startswith("$ "):
            command, *arguments = shlex.split(line.removeprefix("$ "))
            assert command == "mvae", line
            result = run_mvae(arguments, Path.cwd(), os.environ)
            if result.returncode:
                return f"{line}\n{result.stdout}{result.stderr}"
    return None


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Each document runs in an empty folder of its own."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("docs"))
    yield
    os.chdir(before)


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("console", run_commands), SkipParser()],
    patterns=["*.md"],
    fixtures=["workplace"],
).pytest()
