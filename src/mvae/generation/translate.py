"""From some modalities to others: pictures as means and single draws, texts by beam search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from mvae.batch import Batch
from mvae.data.pictures import image_grid, open_picture
from mvae.data.texts import as_read, as_words
from mvae.data.vision import CERTAIN, transformed
from mvae.files import refuse_existing, together
from mvae.generation.sample import read_given, shown
from mvae.modality import is_image_shape
from mvae.models import MultimodalVAE, as_names
from mvae.seeds import seeded
from mvae.vocabularies import Alphabet, Vocabulary

__all__ = [
    "Translated",
    "check_pictures",
    "paths_of",
    "read_picture",
    "translate",
    "translate_texts",
    "with_certain",
    "write_pictures",
]

ROWS_AT_ONCE = 50
TRANSLATION_SAMPLES = 50
"""Draws of z that an answer is the average over."""


@dataclass(frozen=True)
class Translated:
    """One modality, given others."""

    mean: Tensor
    """E[x | given], `[B, *shape]`: the mean of p(x | z), averaged over draws of z from q(z | given)."""
    draws: Tensor
    """The mean of p(x | z) for single draws of z, `[draws, B, *shape]`."""


@torch.no_grad()
def translate(
    model: MultimodalVAE,
    given: Batch | Mapping[str, Tensor],
    names: str | Sequence[str],
    draws: int = 0,
    num_samples: int = TRANSLATION_SAMPLES,
    seed: int = 0,
) -> dict[str, Translated]:
    """Modalities of numbers or pictures, given others.

    Args:
        model: any model.
        given: B rows of some modalities, or one observation of each.
        names: modalities to make; one that is given too is its reconstruction.
        draws: how many single draws are returned.
        num_samples: draws of z a row, `draws` at least.
        seed: of the draws.

    Raises:
        ValueError: on an unknown name, or a modality whose likelihood has no mean.
    """
    names = as_names(names)
    for name in names:
        if name in model.modalities and model.modalities[name].num_symbols:
            raise ValueError(f"'{name}' has no mean; draw it: mvae sample")
    rows = model.checked(given)
    count, parts = max(num_samples, draws), []
    with seeded(seed, model.device):
        for start in range(0, len(rows), ROWS_AT_ONCE):
            z = model.draw_given(rows[start : start + ROWS_AT_ONCE], count)
            found = {name: distribution.mean.cpu() for name, distribution in model.decode(z, names).items()}
            parts.append({name: (values.mean(0), values[:draws].clone()) for name, values in found.items()})
    return {
        name: Translated(torch.cat([part[name][0] for part in parts]), torch.cat([part[name][1] for part in parts], 1))
        for name in names
    }


def with_certain(found: Mapping[str, Translated], given: Mapping[str, Tensor]) -> dict[str, Translated]:
    """Translations corrected by what the given `[B, 1 or 3, 64, 64]` show for certain (`mvae.data.vision.CERTAIN`)."""
    result = dict(found)
    for (source, target), correct in CERTAIN.items():
        if source in given and target in result:
            one = result[target]
            result[target] = Translated(correct(one.mean, given[source]), correct(one.draws, given[source]))
    return result


def read_picture(
    model: MultimodalVAE,
    path: str | Path,
    names: Sequence[str],
    transform: bool = True,
    data_dir: str | None = None,
    landmarks: bool = False,
) -> dict[str, Tensor]:
    """A picture file, of any format and size, as observations `[1, C, H, W]` of some modalities of a model.

    Args:
        model: whose modalities they are.
        path: of the picture.
        names: of the modalities.
        transform: make each by the transformation of that name; else the picture is only resized.
        data_dir: as `mvae.data.vision.transformed`.
        landmarks: as `mvae.data.vision.transformed`.

    Raises:
        ValueError: if it is not readable, a name is unknown or no picture, or a transformation finds nothing in it.
    """
    given: dict[str, Tensor] = {}
    for name in check_pictures(model, names):
        if not transform:
            given |= read_given(model, {name: str(path)})
            continue
        found = transformed(open_picture(path), name, data_dir, landmarks)
        if found is None:
            raise ValueError(f"{path}: nothing found for '{name}', such as a face that is seen from the front")
        given[name] = found
    return {name: value.unsqueeze(0) for name, value in given.items()}


@dataclass(frozen=True)
class Sentence:
    """A translation, and what of the text was not read."""

    translation: str
    unknown: tuple[str, ...] = ()
    """Words that the model does not know, and reads as one and the same."""
    cut: int = 0
    """How many words, or pieces of words, at its end were too many for the model."""


@torch.no_grad()
def translate_texts(
    model: MultimodalVAE, texts: Iterable[str], source: str, target: str, width: int = 5
) -> Iterator[Sentence]:
    """Translate texts, as people write them, from one modality of texts to another, one after the other.

    Each is read as the mean of q(z | text), and written by a beam search of that width. A blank text stays blank.

    Raises:
        ValueError: on a modality that is unknown or has no texts, or a text with other characters than it has.
    """
    if source == target:
        raise ValueError(f"'{source}' to '{target}': expected another modality")
    reads, writes = (_alphabet(model, name) for name in (source, target))
    (length,) = model.modalities[source].shape
    for text in texts:
        if not text.strip():
            yield Sentence("")
            continue
        unknown, cut, kept = [], 0, text
        if isinstance(reads, Vocabulary):
            kept, cut = reads.cut(as_words(text), length)
            unknown = [as_read(word) for word in reads.strange(kept)]
        z = model.posterior({source: reads.symbols(kept, length).unsqueeze(0)}).mean
        written = shown(writes, model.modalities[target].decoder(z).beam(width)[0])
        yield Sentence(written, tuple(dict.fromkeys(unknown)), cut)


def _alphabet(model: MultimodalVAE, name: str) -> Alphabet | Vocabulary:
    model.known([name])
    alphabet = model.modalities[name].alphabet if name in model.modalities else None
    if alphabet is None:
        raise ValueError(f"'{name}' has no texts")
    return alphabet


def check_pictures(model: MultimodalVAE, names: Sequence[str]) -> Sequence[str]:
    """The names, if all are of modalities that are pictures; `ValueError` on an unknown one or another kind."""
    for name in model.known(names):
        if not is_image_shape(model.variables[name].shape):
            raise ValueError(f"'{name}' is not a picture; for other kinds: mvae sample")
    return names


def paths_of(pictures: Sequence[str], names: Sequence[str], draws: int, folder: Path) -> dict[str, dict[str, Path]]:
    """The files of `write_pictures`: by picture, then by modality, and for draws by modality and `-draws`.

    Raises:
        ValueError: if a file exists, or two pictures would be written to one.
    """
    kinds = [*names, *(f"{name}-draws" for name in names if draws)]
    places = {one: {kind: folder / f"{Path(one).stem}-{kind}.png" for kind in kinds} for one in pictures}
    counts = Counter(path for paths in places.values() for path in paths.values())
    for paths in places.values():
        refuse_existing([*paths.values()])
    twice = next((path for path, count in counts.items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} would be written twice")
    return places


def write_pictures(found: Mapping[str, Translated], paths: Mapping[str, Path]) -> None:
    """Write translations of one row, and its draws beside each other, to the paths of `paths_of`, making folders."""
    pictures = {}
    for name, one in found.items():
        pixels = (one.mean[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
        pictures[name] = Image.fromarray((pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).numpy())
        if len(one.draws):
            pictures[f"{name}-draws"] = image_grid(one.draws[:, 0].unsqueeze(0))
    for kind in pictures:
        paths[kind].parent.mkdir(parents=True, exist_ok=True)
    with together(*(paths[kind] for kind in pictures)) as temporaries:
        for temporary, picture in zip(temporaries, pictures.values(), strict=True):
            picture.save(temporary)
