"""Run what README and docs show: Python blocks as they stand, and the `$ ` lines of console blocks in a shell."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser


def run_commands(example: Example) -> str | None:
    """Run each line that starts with `$ `; the lines between are what a reader will see, not compared."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for line in example.parsed.splitlines():
        if line.startswith("$ "):
            result = subprocess.run(line[2:], shell=True, capture_output=True, text=True, env=environment, check=False)
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
