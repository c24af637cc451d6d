import os
import shutil
import subprocess
import sys
from pathlib import Path

import mvae

ROOT = Path(__file__).parents[1]


def test_docs_build_without_warnings_and_run_the_examples(tmp_path):
    """From a copy, in which no example has been run before."""
    for folder in ("docs", "examples"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("_build", "gallery", "__pycache__")
        )
    (tmp_path / "paper").symlink_to(ROOT / "paper")  # whose pictures the pages show
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "html",
        tmp_path / "docs",
        tmp_path / "html",
    ]
    result = subprocess.run(
        command, env=os.environ | {"MPLBACKEND": "agg"}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    reference = "".join(page.read_text(encoding="utf-8") for page in (tmp_path / "html" / "reference").glob("*.html"))
    assert [name for name in mvae.__all__ if f'id="mvae.{name}"' not in reference] == []
    for example in {path.stem for path in (ROOT / "examples").glob("*.py")} - {"quickstart"}:
        page = (tmp_path / "html" / "gallery" / f"{example}.html").read_text(encoding="utf-8")
        assert "sphx-glr-script-out" in page, f"{example} has not run"
        assert f"sphx_glr_{example}_001.png" in page, f"{example} has drawn nothing"
