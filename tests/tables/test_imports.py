"""What a table's rooms import: specs no pandas, answers nothing that they do not use."""

import pytest

from forked import run_python

HEAVY = "sklearn scipy matplotlib PIL rich pooch joblib tensorboard lightning skimage torch._dynamo jsonargparse yaml"


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        ("mvae.config.specs mvae.config.build mvae.models", f"pandas pyarrow mvae.tables {HEAVY}"),
        ("mvae.tables.answers mvae.tables.draws mvae.tables.write", HEAVY),
    ],
)
def test_little_is_imported(modules, without):
    result = run_python(f"import sys, {', '.join(modules.split())}; print(*sys.modules.keys() & {without.split()})")
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr
