"""The data sets by name, and how one becomes train, validation and test rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch

from mvae.batch import Batch
from mvae.data.dataset import SPLIT_SEED, Dataset, hold_out, unpair
from mvae.data.download import Collection
from mvae.data.mnist import FASHION_MNIST, MNIST, binarise, load_idx_pairs

__all__ = ["SOURCES", "Source", "load_dataset", "source_named"]

BINARY_SEED = 1  # rows that are binarised once are the same whatever seed a run has
SKIP = {"skip_damaged": False}


@dataclass(frozen=True)
class Source:
    """A data set that `mvae` knows by name. Its reader is imported when it is used."""

    summary: str
    load: Callable[..., tuple[Batch, ...]]
    """From a data directory (or None) and options to training and test rows; or to training, validation and test rows,
    where the data set comes so split."""
    collection: Collection | None = None
    """The files it is read from; None where it comes with a library."""
    binary: bool = False
    """Whether its images are binarised."""
    part: Callable[..., str] | None = None
    """From a data directory (or None) and options to the share of it that is here, where that may be a part."""
    options: Callable[[], Mapping[str, bool | int]] = dict
    """Its own options with their defaults."""
    recipe: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    """From its recipe to one with the user's additions to the data set."""
    learned: Callable[..., dict[str, Any]] | None = None
    """From a spec, as plain data, a data directory (or None) and options to the spec with what is learned from the
    data, such as the words of a language, and with the means of this machine to read it."""


def _later(place: str, **given: Any) -> Callable[..., Any]:
    """A function of `mvae.data`, by file and name, that is imported when it is called, with some arguments given."""
    file, name = place.split(".")
    return lambda *others, **more: getattr(import_module(f"mvae.data.{file}"), name)(*others, **given, **more)


def _part_of_faces(data_dir: str | Path | None, landmarks: bool | None = None, **_: bool | int) -> str:
    found = _later("celeba.part_at_hand")(data_dir)
    return found if landmarks is None else f"{found}; masks by {_later('vision.masks_by')(data_dir, landmarks)}"


SOURCES: dict[str, Source] = {
    "digits": Source("1,797 real 8x8 digits with labels, bundled", lambda _: _later("digits.load_digits")()),
    "mnist": Source("70,000 28x28 digits with labels, grey", partial(load_idx_pairs, MNIST), MNIST),
    "binary-mnist": Source("MNIST, binarised", partial(load_idx_pairs, MNIST), MNIST, binary=True),
    "multimnist": Source(
        "70,000 50x50 canvases of up to four digits, and their text",
        lambda data_dir, **rules: _later("multimnist.load_multimnist")(data_dir, _later("multimnist.Rules")(**rules)),
        MNIST,
        options=lambda: asdict(_later("multimnist.Rules")()),
    ),
    "celeba": Source(
        "faces and 18 attributes, all in one modality",
        _later("celeba.load_celeba"),
        part=_part_of_faces,
        options=lambda: SKIP,
    ),
    "celeba19": Source(
        "faces and 18 attributes, each a modality",
        _later("celeba.load_celeba", apart=True),
        part=_part_of_faces,
        options=lambda: SKIP,
    ),
    "vision": Source(
        "faces and five transformations of each, each a modality",
        _later("vision.load_vision"),
        part=partial(_part_of_faces, landmarks=False),
        options=lambda: SKIP | {"landmarks": False},
        recipe=_later("vision.with_own"),
        learned=_later("vision.with_finder"),
    ),
    "iwslt-en-vi": Source(
        "English sentences and their Vietnamese translations",
        _later("iwslt.load_iwslt"),
        part=lambda data_dir, **_: _later("iwslt.part_of_iwslt")(data_dir),
        options=lambda: import_module("mvae.data.iwslt").OPTIONS,
        learned=_later("iwslt.with_vocabularies"),
    ),
    "fashion-mnist": Source(
        "70,000 28x28 pictures of clothes with labels, grey", partial(load_idx_pairs, FASHION_MNIST), FASHION_MNIST
    ),
}


def source_named(name: str) -> Source:
    """The source of that name; a `ValueError` on an unknown name, listing the known."""
    if name not in SOURCES:
        raise ValueError(f"unknown source '{name}'; known are {', '.join(SOURCES)}")
    return SOURCES[name]


def load_dataset(
    source: str = "digits",
    *,
    data_dir: str | Path | None = None,
    validation_rows: int = 0,
    paired_fraction: float = 1.0,
    balance: str | None = None,
    binarisation: Literal["dynamic", "fixed"] = "dynamic",
    options: Mapping[str, bool | int] | None = None,
    seed: int = 0,
) -> Dataset:
    """Read a source and split it.

    Args:
        source: a name in `SOURCES`.
        data_dir: where to look first for its files.
        validation_rows: number of rows to take out of the training rows, the same ones for every seed.
        paired_fraction: share of rows that stay paired, in training and in validation (`splits.unpair`).
        balance: a category each of whose values is to be paired equally often.
        binarisation: for a binary source, draw training images anew at each use, or once. Validation and test rows
            are drawn once, the same for every seed.
        options: the source's own options, see `SOURCES[source].options()`.
        seed: chooses the rows that stay paired.

    Raises:
        ValueError: on an unknown source or an option out of range; `DataError` on missing or damaged files.

    Example:
        >>> load_dataset("digits", validation_rows=135).train
        Batch(1212 rows; image: (1, 8, 8), 1212 present; label: (), 1212 present)
    """
    known = source_named(source)
    if binarisation not in ("dynamic", "fixed"):
        raise ValueError(f"binarisation: expected 'dynamic' or 'fixed', got '{binarisation}'")
    chosen = _checked(source, known, options or {})
    everything, *split, test = known.load(data_dir, **chosen)
    if split and validation_rows:
        raise ValueError(f"validation_rows: expected 0, for '{source}' has validation rows of its own")
    kept, held = hold_out(len(everything), validation_rows, SPLIT_SEED)
    train, validation = (everything, split[0]) if split else (everything[kept], everything[held])
    description, transform = known.summary, None
    if known.part is not None:
        description += f" ({known.part(data_dir, **chosen)})"
    if chosen:
        description += f"; {', '.join(f'{name} {value}' for name, value in chosen.items())}"
    if known.binary:
        generator = torch.Generator().manual_seed(BINARY_SEED)
        test, validation = binarise(test, generator), binarise(validation, generator)
        if binarisation == "dynamic":
            transform = binarise
            description += ": training images anew at each use, the others once"
        else:
            train = binarise(train, generator)
            description += " once"
    if balance is not None and paired_fraction == 1:
        raise ValueError("balance: all rows stay paired; it goes with a paired fraction below 1")
    if paired_fraction != 1:
        train = unpair(train, paired_fraction, seed, balance)
        validation = unpair(validation, paired_fraction, seed, balance) if len(validation) else validation
        evenly = "" if balance is None else f", each {balance} equally often"
        description += f"; {paired_fraction:.4g} of the rows paired{evenly}"
    return Dataset(source, train, validation, test, description, transform)


def _checked(source: str, known: Source, options: Mapping[str, bool | int]) -> dict[str, bool | int]:
    """Options of a source that differ from their defaults."""
    defaults = known.options()
    for name, value in options.items():
        if name not in defaults:
            raise ValueError(f"options: '{source}' has no '{name}'; it has {', '.join(defaults) or 'none'}")
        if type(value) is not type(defaults[name]):
            kind = "true or false" if isinstance(defaults[name], bool) else "a whole number"
            raise ValueError(f"options: {name}: expected {kind}, got {value!r}")
    return {name: value for name, value in options.items() if value != defaults[name]}
