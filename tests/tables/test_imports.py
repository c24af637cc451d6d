"""What a table's rooms import: specs no pandas, answers nothing that they do not use."""

import subprocess
import sys

import pytest

HEAVY = "sklearn scipy matplotlib PIL rich pooch joblib tensorboard lightning skimage torch._dynamo jsonargparse yaml"


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        ("mvae.config.specs mvae.config.build mvae.models", f"pandas pyarrow mvae.tables {HEAVY}"),
        ("mvae.tables.answers mvae.tables.draws mvae.tables.write", HEAVY),
    ],
)
def test_little_is_imported(modules, without):
    code = f"import sys, {', '.join(modules.split())}; print(*(name for name in sys.argv[1:] if name in sys.modules))"
    command = [sys.executable, "-c", code, *without.split()]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == ""
