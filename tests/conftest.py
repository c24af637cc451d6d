"""What several test files share: small files in the originals' formats, real processes, one trained run."""

import gzip
import os
import shutil
import signal
import struct
import subprocess
from pathlib import Path

import pytest
import torch

from forked import COMMAND, run_mvae

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in the background: what tests start would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)

NAMES = {"train": "train", "test": "t10k"}


def idx(values):
    """A uint8 tensor in the IDX format of MNIST's authors."""
    header = struct.pack(f">{1 + values.dim()}I", 0x0800 + values.dim(), *values.shape)
    return header + values.contiguous().numpy().tobytes()


def write_pairs(folder, num_train=40, num_test=12, seed=0):
    """Write the four files with random contents; returns `{"train": (images, labels), "test": ...}`."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    written = {}
    for part, count in (("train", num_train), ("test", num_test)):
        images = torch.randint(0, 256, (count, 28, 28), generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, 10, (count,), generator=generator, dtype=torch.uint8)
        written[part] = images, labels
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{NAMES[part]}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(values), mtime=0))
    return written


@pytest.fixture(name="idx")
def idx_fixture():
    return idx


@pytest.fixture(scope="session")
def write_mnist():
    return write_pairs


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An environment in which no data files lie anywhere; returns the directory of user caches."""
    cache = tmp_path / "user-cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv("MVAE_DATA", raising=False)
    monkeypatch.delenv("MVAE_MIRROR", raising=False)
    return cache


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """The environment of child processes: no data, no cache of the person who runs the tests."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MVAE_")}
    return own | {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="session")
def start(environment):
    """Start a real `mvae` process."""

    def start(*arguments, cwd, stdin=subprocess.DEVNULL, **variables):
        # A shell that runs the tests in its background has SIGINT ignored, and children would inherit that.
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen(
                [*COMMAND, *map(str, arguments)],
                cwd=cwd,
                env=environment | variables,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            signal.signal(signal.SIGINT, handler)

    return start


@pytest.fixture(scope="session")
def mvae_command(environment):
    """Run a real `mvae` process to its end."""

    def run(*arguments, cwd, **variables):
        return run_mvae(arguments, cwd, environment | variables)

    return run


@pytest.fixture(scope="session")
def first_fit(mvae_command, tmp_path_factory):
    """`mvae fit digits --epochs 2`: the folder and what the process said."""
    place = tmp_path_factory.mktemp("runs")
    return place / "first", mvae_command("fit", "digits", "--epochs", 2, "--out", "first", cwd=place)


@pytest.fixture(scope="session")
def digits_run(first_fit):
    """The folder of a small run on digits; for reading only."""
    folder, result = first_fit
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def run_copy(digits_run, tmp_path):
    """A run's folder that a test may damage."""
    return Path(shutil.copytree(digits_run, tmp_path / "run"))


@pytest.fixture
def noise(monkeypatch):
    """The standard normal draws that losses have made so far, in order."""
    drawn, randn_like = [], torch.randn_like

    def recorded(*args, **options):
        drawn.append(randn_like(*args, **options))
        return drawn[-1]

    monkeypatch.setattr(torch, "randn_like", recorded)
    return drawn


@pytest.fixture
def tiny_config():
    """A config without a recipe: a vector, a picture, a category, all small."""
    dense = {"kind": "mlp", "hidden": [8]}
    return {
        "data": {},
        "model": {
            "latent_dim": 2,
            "modalities": {
                "point": {"shape": [3], "likelihood": {"kind": "normal"}, "encoder": dense, "decoder": dense},
                "picture": {
                    "shape": [1, 4, 4],
                    "likelihood": {"kind": "bernoulli"},
                    "encoder": dense,
                    "decoder": dense,
                },
                "class": {
                    "shape": [],
                    "likelihood": {"kind": "categorical", "num_classes": 4},
                    "encoder": {"kind": "embedding", "hidden": [8]},
                    "decoder": dense,
                },
            },
        },
        "training": {"epochs": 2, "batch_size": 16},
    }
