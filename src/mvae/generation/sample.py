"""Draws from a trained model, into files: images as a grid, labels, numbers and texts as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from mvae.data.pictures import image_grid, read_image
from mvae.data.texts import as_read, as_words
from mvae.files import atomic, reserved, together, write_json
from mvae.modality import Variable, is_image_shape
from mvae.models import MultimodalVAE
from mvae.vocabularies import Alphabet, Vocabulary

__all__ = ["Drawn", "are_images", "draw", "read_given", "shown", "write_samples"]

Drawn = Tensor | list[str]
"""Observations of one modality: numbers, or texts."""


def read_given(model: MultimodalVAE, texts: Mapping[str, str]) -> dict[str, Tensor]:
    """Turn values as a person types them, by name, into observations.

    Args:
        model: whose modalities they are.
        texts: name to text: a class number, a number, numbers parted by commas, the names of a vector's elements that
            are 1 while the others are 0, a text, or for an image the path of a picture (made grey or coloured, resized,
            cropped to the middle, and binarised at 1/2 where the model's images are binary).

    Raises:
        ValueError: on an unknown name or a value that is not of its modality, saying what is possible.
    """
    given = {}
    for name, text in texts.items():
        if name not in model.names:
            vector = next((vector for vector, part in model.variables.items() if name in part.elements), None)
            hint = f"; '{name}' is one of the elements of {vector}: say {vector}={name}" if vector else ""
            raise ValueError(f"unknown modality '{name}'; this model has {', '.join(model.names)}{hint}")
        given[name] = _read_value(name, model.variables[name], text)
    return given


@torch.no_grad()
def draw(model: MultimodalVAE, given: Mapping[str, Tensor], count: int) -> dict[str, Drawn]:
    """Draw z given one observation each of some modalities (or none), and decode the others (or all, if all are given).

    Returns:
        Name to `[count, *shape]`, or to `count` texts where the modality has an alphabet. Images are the mean of
        p(x | z), as in the paper's figures; the rest is drawn.
    """
    names = [name for name in model.modalities if name not in given] or list(model.modalities)
    drawn = model.decode(model.draw_latent(dict(given) or None, count).squeeze(1), names)
    samples: dict[str, Drawn] = {}
    for name, distribution in drawn.items():
        modality = model.modalities[name]
        values = distribution.mean if is_image_shape(modality.shape) else distribution.sample()
        alphabet = modality.alphabet
        samples[name] = values if alphabet is None else [shown(alphabet, symbols) for symbols in values]
    return samples


def shown(alphabet: Alphabet | Vocabulary, symbols: Tensor) -> str:
    """The text of symbols `[T]`, as people write it."""
    text = alphabet.text(symbols)
    return as_read(text) if isinstance(alphabet, Vocabulary) else text


def write_samples(
    samples: Mapping[str, Drawn], out: Path, elements: Mapping[str, Sequence[str]] | None = None
) -> list[Path]:
    """Write the images of what `draw` gives as grids into `.png` files, or the rest as rows into a `.csv` or `.json`.

    Args:
        samples: name to draws.
        out: ends in `.png`, `.csv` or `.json`; pictures after the first have the modality's name added.
        elements: names of the elements of vectors, by modality; their numbers where it has none.

    Returns:
        The files written.

    Raises:
        ValueError: if the ending is another, there is nothing of that kind to write, or a file exists.
    """
    images = {name: values for name, values in samples.items() if are_images(values)}
    others = {name: values for name, values in samples.items() if name not in images}
    if out.suffix == ".png" and images:
        paths = [out, *(out.with_stem(f"{out.stem}-{name}") for name in list(images)[1:])]
        with reserved(*paths), together(*paths) as temporaries:
            for temporary, values in zip(temporaries, images.values(), strict=True):
                image_grid(_in_rows(values)).save(temporary)
        return paths
    if out.suffix in (".csv", ".json") and others:
        with reserved(out):
            if out.suffix == ".json":
                write_json(out, {n: rows.tolist() if isinstance(rows, Tensor) else rows for n, rows in others.items()})
            else:
                import pandas

                with atomic(out) as temporary:
                    pandas.DataFrame(_flat_columns(others, elements or {})).to_csv(temporary, index=False)
        return [out]
    endings = ((".png", images), (".csv or .json", others))
    kinds = " and ".join(f"{ending} for {', '.join(names)}" for ending, names in endings if names)
    raise ValueError(f"{out}: what was drawn can be written as {kinds}")


def _read_value(name: str, modality: Variable, text: str) -> Tensor:
    if modality.num_classes is not None:
        if not text.isdecimal() or int(text) >= modality.num_classes:
            raise ValueError(f"{name}: expected a class from 0 to {modality.num_classes - 1}, got '{text}'")
        return torch.tensor(int(text))
    if is_image_shape(modality.shape):
        image = read_image(text, modality.shape)
        return (image > 0.5).float() if modality.binary else image
    if modality.alphabet is not None:
        try:
            words = as_words(text) if isinstance(modality.alphabet, Vocabulary) else text
            return modality.alphabet.symbols(words, modality.shape[0])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    if modality.elements and modality.binary:
        chosen = [part.strip() for part in text.split(",") if part.strip()]
        if set(chosen) <= set(modality.elements):
            return torch.tensor([float(element in chosen) for element in modality.elements])
    try:
        values = torch.tensor([float(part) for part in text.split(",")])
    except ValueError:
        values = torch.empty(0)
    count = math.prod(modality.shape)
    if len(values) != count or not values.isfinite().all():
        names = f", or some of {', '.join(modality.elements)}" if modality.elements and modality.binary else ""
        raise ValueError(f"{name}: expected {count} number{'s parted by commas' * (count > 1)}{names}, got '{text}'")
    return values.reshape(modality.shape)


def are_images(values: Drawn) -> TypeGuard[Tensor]:
    """Whether draws are pictures."""
    return isinstance(values, Tensor) and is_image_shape(tuple(values.shape[1:]))


def _in_rows(images: Tensor) -> Tensor:
    """Images `[N, ...]` in about as many rows as columns, the last row filled up with NaN."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    filled = images.new_full((rows * columns, *images.shape[1:]), math.nan)
    filled[: len(images)] = images
    return filled.unflatten(0, (rows, columns))


def _flat_columns(samples: Mapping[str, Drawn], elements: Mapping[str, Sequence[str]]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for name, rows in samples.items():
        flat = [rows] if isinstance(rows, list) else rows.reshape(len(rows), -1).T.tolist()
        called = elements.get(name) or range(len(flat))
        columns |= {name if len(flat) == 1 else f"{name}[{one}]": part for one, part in zip(called, flat, strict=True)}
    return columns
