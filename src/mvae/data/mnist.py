"""`mnist`, `binary-mnist` and `fashion-mnist`: images and labels in the IDX files of their authors."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import torch
from torch import Tensor

from mvae.batch import Batch
from mvae.data.download import LARGEST, Collection, read_bytes
from mvae.files import DataError

__all__ = ["FASHION_MNIST", "MNIST", "binarise", "load_idx_pairs", "read_idx"]

NUM_CLASSES = 10

MNIST = Collection(
    "mnist",
    {
        "train-images-idx3-ubyte.gz": ("6bbc9ace898e44ae57da46a324031adb", 47_040_016),
        "train-labels-idx1-ubyte.gz": ("a25bea736e30d166cdddb491f175f624", 60_008),
        "t10k-images-idx3-ubyte.gz": ("2646ac647ad5339dbf082846283269ea", 7_840_016),
        "t10k-labels-idx1-ubyte.gz": ("27ae3e4e09519cfbb04c329615203637", 10_008),
    },
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
)
FASHION_MNIST = Collection(
    "fashion-mnist",
    {
        "train-images-idx3-ubyte.gz": ("f4a8712d7a061bf5bd6d2ca38dc4d50a", 47_040_016),
        "train-labels-idx1-ubyte.gz": ("9018921c3c673c538a1fc5bad174d6f9", 60_008),
        "t10k-images-idx3-ubyte.gz": ("8181f5470baa50b63fa0f6fddb340f0a", 7_840_016),
        "t10k-labels-idx1-ubyte.gz": ("15d484375f8d13e6eb1aabb0c3f46965", 10_008),
    },
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
)


def load_idx_pairs(collection: Collection, data_dir: str | Path | None = None) -> tuple[Batch, ...]:
    """Training and test rows: `image` `[1, 28, 28]`, grey in [0, 1], and `label`, 0 to 9.

    Raises:
        DataError: on a missing, damaged or misaligned file, naming it and the fault.
    """
    images, labels, test_images, test_labels = collection.find(data_dir).values()
    return _pair(images, labels), _pair(test_images, test_labels)


def read_idx(path: Path, num_dimensions: int) -> Tensor:
    """Read an IDX file of unsigned bytes, with so many dimensions: a magic number, the sizes, the values.

    A `DataError` if they are not those of such a file.
    """
    header = 4 + 4 * num_dimensions
    content = read_bytes(path, header)
    if len(content) < header:
        raise DataError(f"{path}: {len(content)} bytes, too short for the {header}-byte header of an IDX file")
    magic = int.from_bytes(content[:4], "big")
    expected = 0x0800 + num_dimensions  # 08: unsigned bytes
    if magic != expected:
        raise DataError(f"{path}: magic number {magic:#010x}, expected {expected:#010x}")
    sizes = struct.unpack(f">{num_dimensions}I", content[4:header])
    shown, needed = "x".join(map(str, sizes)), math.prod(sizes)
    most = min(needed, LARGEST)
    content = read_bytes(path, header + most)
    if (found := len(content) - header) != needed:
        more = " or more" if found > most else ""
        raise DataError(f"{path}: sizes {shown} need {needed} bytes of values, found {found}{more}")
    if not all(sizes):
        raise DataError(f"{path}: sizes {shown}: there are no values")
    return torch.frombuffer(bytearray(content[header:]), dtype=torch.uint8).reshape(sizes)


def binarise(batch: Batch, generator: torch.Generator | None = None) -> Batch:
    """Draw each pixel of `image`, if there is one, from the Bernoulli distribution whose mean is its grey value."""
    if "image" not in batch.values:
        return batch
    grey = batch.values["image"]
    uniform = batch.drawn(lambda like: torch.rand(like.shape, generator=generator, device=like.device), grey)
    return batch.holding({**batch.values, "image": (uniform < grey).to(grey.dtype)})


def _pair(image_path: Path, label_path: Path) -> Batch:
    images, labels = read_idx(image_path, 3), read_idx(label_path, 1)
    if len(images) != len(labels):
        raise DataError(f"{image_path} has {len(images)} images but {label_path} has {len(labels)} labels")
    if images.shape[1:] != (28, 28):
        raise DataError(f"{image_path}: expected images of 28x28, got {images.shape[1]}x{images.shape[2]}")
    if int(labels.max()) >= NUM_CLASSES:
        row = int((labels >= NUM_CLASSES).nonzero()[0])
        raise DataError(f"{label_path}: label {int(labels[row])} at row {row}, expected 0 to {NUM_CLASSES - 1}")
    return Batch({"image": images.unsqueeze(1).float() / 255, "label": labels.long()})
