"""Files of tensors (safetensors): written with a checksum, and compared with a model before they are read."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mvae.files import LARGEST, RunError, atomic, opened, read_bytes, scratch, shortened

__all__ = ["DamagedError", "TensorFile", "write_tensors"]

TEXTS, CHECKSUM = "__metadata__", "crc32"
NUMBER = 8
"""Bytes of the length that a file begins with, and of the largest number in a tensor."""
ADVICE = "restore it from a copy, or train anew in another folder"


class DamagedError(RunError):
    """A file of tensors is not one, or not what was written."""

    def __init__(self, path: Path | zipfile.Path, fault: object) -> None:
        self.said = f"{path}: damaged ({shortened(fault)})"
        super().__init__(f"{self.said}; {ADVICE}")


class TensorFile:
    """A file of tensors, of which only the header has been read.

    Raises:
        FileNotFoundError: if there is none.
        RunError: if it cannot be read; a `DamagedError` if its header is damaged.
    """

    def __init__(self, path: Path | zipfile.Path) -> None:
        self.path = path
        try:
            with opened(path) as file:
                length = int.from_bytes(file.read(NUMBER), "little")
                if not 2 <= length <= LARGEST:
                    raise ValueError("it does not begin with a header")
                header = json.loads(file.read(length))
            self.texts: dict[str, str] = dict(header.pop(TEXTS, {}))
            self.shapes = {name: tuple(about["shape"]) for name, about in header.items()}
            self.size = NUMBER + length + max((int(about["data_offsets"][1]) for about in header.values()), default=0)
            self._before = NUMBER + length
        except (RunError, FileNotFoundError):
            raise
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError) as error:
            raise DamagedError(path, error) from error

    def fault(self, said: str) -> RunError:
        """What is wrong with the file, and what to do."""
        return RunError(f"{self.path}: {said}; {ADVICE}")

    def check(self, expected: Mapping[str, Tensor]) -> None:
        """Refuse, by a `RunError`, tensors of other names or shapes than are expected, before they are read."""
        names = expected.keys() | self.shapes.keys()
        for name in sorted(names, key=lambda name: (not name.startswith("model."), name)):  # the optimiser's last
            found, shown = self.shapes.get(name), shortened(name, 100)
            if found is None:
                raise self.fault(f"tensor '{shown}' is missing")
            if name not in expected:
                raise self.fault(f"tensor '{shown}' is not part of the model")
            if found != (own := tuple(expected[name].shape)):
                raise self.fault(f"tensor '{shown}' has shape {shortened(found, 60)}, the model has {own}")

    def read(self, expected: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The tensors; a `RunError` if they are not those expected, have NaN, or do not fit their checksum."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        most = self.size
        if expected is not None:
            self.check(expected)
            most = self._before + NUMBER * sum(value.numel() for value in expected.values())
        try:
            tensors = load(read_bytes(self.path, most))
        except (SafetensorError, LookupError, RuntimeError, OverflowError) as error:
            raise DamagedError(self.path, error) from error
        if self.texts.get(CHECKSUM) not in (None, _checksum(tensors, self.texts)):
            raise DamagedError(self.path, "its content does not fit its checksum")
        for name, value in tensors.items():
            if expected is not None and name in expected and value.dtype != expected[name].dtype:
                raise self.fault(f"tensor '{name}' is of {value.dtype}, the model's of {expected[name].dtype}")
            if value.is_floating_point() and value.isnan().any():
                raise self.fault(f"tensor '{shortened(name, 100)}' has numbers that are NaN")
        return tensors


def write_tensors(path: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str] | None = None) -> None:
    """Write tensors to a file, from whatever device; its header also holds texts, by name."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = dict(texts or {})
    header[CHECKSUM] = _checksum(content, header)
    with atomic(path) as temporary, scratch(path) as folder:
        written = folder / path.name  # `save_file` writes a temporary file of its own beside it, for the user alone
        try:
            save_file(content, written, header)
        except SafetensorError as error:  # no space, for one
            raise OSError(str(error)) from error
        written.chmod(temporary.stat().st_mode)
        written.replace(temporary)


def _checksum(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    """A checksum of the texts and all numbers, which tells a bit that has flipped."""
    found = zlib.crc32(json.dumps({name: texts[name] for name in sorted(texts) if name != CHECKSUM}).encode())
    for name in sorted(tensors):
        found = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"
