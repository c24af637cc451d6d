"""The short form of the reliability campaign: a few cases of each kind, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_nothing_is_lost(tmp_path):
    words = [sys.executable, "-m", "campaign", "--short", "--out", str(tmp_path / "found.json")]
    ended = subprocess.run(
        words, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["cases"]
    assert all(case["outcome"] in ("recovered", "refused") for case in found["cases"])
