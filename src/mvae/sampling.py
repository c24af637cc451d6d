"""Drawing from a trained model into files: images as a grid, labels and numbers as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mvae.figures import image_grid, is_image_shape, read_image
from mvae.modality import Variable
from mvae.models import MultimodalVAE
from mvae.storage import atomic, write_json

__all__ = ["draw", "read_given", "write_samples"]


def read_given(model: MultimodalVAE, texts: Mapping[str, str]) -> dict[str, Tensor]:
    """Turn `NAME=VALUE` as a person types it into observations.

    Args:
        model: what will be conditioned.
        texts: name to text: a class number, a number, numbers parted by commas, or for an image the path of a picture
            (made grey or coloured, resized, and binarised at 1/2 where the model's images are binary).

    Returns:
        Name to observation.

    Raises:
        ValueError: on an unknown name or a value that is not of its modality, saying what is possible.
    """
    given = {}
    for name, text in texts.items():
        if name not in model.names:
            raise ValueError(f"unknown modality '{name}'; this model has {', '.join(model.names)}")
        given[name] = _read_value(name, model.variables[name], text)
    return given


@torch.no_grad()
def draw(model: MultimodalVAE, given: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Draw z given some modalities (the prior where none), and from it what is not given (everything where all is).

    Args:
        model: what to draw from.
        given: name to one observation.
        count: number of draws.

    Returns:
        Name to `[count, *shape]`. Images are the mean of p(x | z), as in the paper's figures; the rest is drawn.
    """
    modelled = list(model.modalities)
    names = [name for name in modelled if name not in given] or modelled
    drawn = model.decode(model.draw_latent(dict(given) or None, count).squeeze(1), names)
    return {
        name: distribution.mean if is_image_shape(model.modalities[name].shape) else distribution.sample()
        for name, distribution in drawn.items()
    }


def write_samples(samples: Mapping[str, Tensor], out: Path) -> list[Path]:
    """Write draws: images as grids into a `.png`, the rest as rows into a `.csv` or `.json` of the same name.

    Args:
        samples: name to `[count, *shape]`.
        out: a path that ends in `.png`, `.csv` or `.json`; further files get the modality's name or another ending.

    Returns:
        The files written.

    Raises:
        ValueError: if the ending is another, there is nothing of that kind to write, or a file is already there.
    """
    images = {name: values for name, values in samples.items() if is_image_shape(tuple(values.shape[1:]))}
    others = {name: values.tolist() for name, values in samples.items() if name not in images}
    if out.suffix == ".png" and images:
        paths = {name: out if index == 0 else out.with_stem(f"{out.stem}-{name}") for index, name in enumerate(images)}
        _refuse_existing(paths.values())
        for name, path in paths.items():
            columns = math.ceil(math.sqrt(len(images[name])))
            with atomic(path) as temporary:
                image_grid(_in_rows(images[name], columns)).save(temporary)
        return list(paths.values())
    if out.suffix in (".csv", ".json") and others:
        _refuse_existing([out])
        if out.suffix == ".json":
            write_json(out, others)
        else:
            import pandas

            with atomic(out) as temporary:
                pandas.DataFrame(_flat_columns(others)).to_csv(temporary, index=False)
        return [out]
    kinds = " and ".join(
        [
            *([".png for " + ", ".join(images)] if images else []),
            *([".csv or .json for " + ", ".join(others)] if others else []),
        ]
    )
    raise ValueError(f"{out}: what was drawn can be written as {kinds}")


def _read_value(name: str, modality: Variable, text: str) -> Tensor:
    if modality.num_classes is not None:
        if not text.isdecimal() or int(text) >= modality.num_classes:
            raise ValueError(f"{name}: expected a class from 0 to {modality.num_classes - 1}, got '{text}'")
        return torch.tensor(int(text))
    if is_image_shape(modality.shape):
        image = read_image(text, modality.shape)
        return (image > 0.5).float() if modality.binary else image
    try:
        values = torch.tensor([float(part) for part in text.split(",")])
    except ValueError:
        values = torch.empty(0)
    if len(values) != math.prod(modality.shape) or not values.isfinite().all():
        count = math.prod(modality.shape)
        raise ValueError(f"{name}: expected {count} number{'s parted by commas' * (count > 1)}, got '{text}'")
    return values.reshape(modality.shape)


def _in_rows(images: Tensor, columns: int) -> Tensor:
    rows = math.ceil(len(images) / columns)
    filled = images.new_full((rows * columns, *images.shape[1:]), math.nan)
    filled[: len(images)] = images
    return filled.reshape(rows, columns, *images.shape[1:])


def _flat_columns(samples: Mapping[str, list[object]]) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {}
    for name, rows in samples.items():
        flat = torch.tensor(rows).flatten(1).T.tolist() if isinstance(rows[0], list) else [rows]
        columns |= {name if len(flat) == 1 else f"{name}[{index}]": column for index, column in enumerate(flat)}
    return columns


def _refuse_existing(paths: object) -> None:
    for path in paths:  # type: ignore[attr-defined]
        if path.exists():
            raise ValueError(f"{path} is already there; choose another name")
