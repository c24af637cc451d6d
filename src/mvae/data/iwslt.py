"""`iwslt-en-vi`: English sentences and their Vietnamese translations, each language a modality (paper, section 7).

The files are Stanford's of IWSLT 2015: a sentence a line, line by line its translation, words parted by spaces. Works
on the full 133,317 pairs as on the first of them. tst2012 validates, tst2013 tests, as is usual.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from mvae.batch import Batch
from mvae.data.download import data_places, text_lines
from mvae.files import DataError
from mvae.vocabularies import Vocabulary, learned_pieces

__all__ = [
    "ALL_PAIRS",
    "LANGUAGES",
    "count_pairs",
    "load_iwslt",
    "part_of_iwslt",
    "read_pairs",
    "read_vocabulary",
    "sentences",
    "vocabularies",
    "with_vocabularies",
]

ALL_PAIRS = 133_317
FOLDER = "iwslt15-en-vi"
LANGUAGES = ("en", "vi")
PARTS = ("train", "tst2012", "tst2013")
SPECIAL = ("<unk>", "<s>", "</s>")
LONGEST, FEWEST = 70, 2
OPTIONS = {"longest": LONGEST, "fewest": FEWEST, "pieces": 0}


def load_iwslt(
    data_dir: str | Path | None = None, longest: int = LONGEST, fewest: int = FEWEST, pieces: int = 0
) -> tuple[Batch, Batch, Batch]:
    """Training, validation and test rows: `en` and `vi`, symbols `[longest]` of `vocabularies`.

    Longer sentences are cut. A row lacks a language whose line is empty.

    Args:
        data_dir: where to look first for the folder `iwslt15-en-vi`.
        longest: words, or pieces, of a sentence that are read.
        fewest: how often a word must stand in the training sentences to have a symbol of its own.
        pieces: how many pieces of words are learned of each language's training sentences, whatever `fewest` and the
            files of words say; 0 for whole words.

    Raises:
        DataError: naming the file, and line, that is missing or damaged.
        ValueError: on an option that is too small; without `tokenizers`, where there are pieces.
    """
    _check(longest, fewest, pieces)
    folder, batches = _find(data_dir), []
    pairs = {part: _pairs(folder, part) for part in PARTS}
    words = _vocabularies(folder, pairs[PARTS[0]], fewest, pieces)
    for part in PARTS:
        values, present = {}, {}
        for language, lines in zip(LANGUAGES, pairs[part], strict=True):
            cut = [words[language].cut(line, longest)[0] for line in lines]
            values[language] = torch.stack([words[language].symbols(line, longest) for line in cut])
            present[language] = torch.tensor([bool(line) for line in lines])
        keep = torch.stack(list(present.values())).any(0)
        batch = Batch(values, present)
        batches.append(batch if keep.all() else batch[keep.nonzero().flatten()])
    return batches[0], batches[1], batches[2]


def sentences(data_dir: str | Path | None, part: str) -> dict[str, list[str]]:
    """The lines of a part, as they are, of the rows that have both languages.

    Args:
        data_dir: as for `load_iwslt`.
        part: `"train"`, `"tst2012"` or `"tst2013"`.

    Raises:
        DataError: as `load_iwslt`.
    """
    rows = [pair for pair in zip(*_pairs(_find(data_dir), part), strict=True) if all(pair)]
    return {language: [pair[number] for pair in rows] for number, language in enumerate(LANGUAGES)}


def vocabularies(data_dir: str | Path | None = None, fewest: int = FEWEST, pieces: int = 0) -> dict[str, Vocabulary]:
    """The words of each language: those of `vocab.en` and `vocab.vi` that stand often enough in the training sentences.

    Where such a file is missing, all words of the training sentences may be.

    Args:
        data_dir: as for `load_iwslt`, and so are the others.
        fewest: how often a word must stand in the training sentences.
        pieces: how many pieces of words there are in place of words, whatever else is said.

    Raises:
        DataError: as `load_iwslt`.
    """
    folder = _find(data_dir)
    return _vocabularies(folder, _pairs(folder, PARTS[0]), fewest, pieces)


def _vocabularies(folder: Path, train: list[list[str]], fewest: int, pieces: int) -> dict[str, Vocabulary]:
    if pieces:
        return {
            language: Vocabulary(_pieces(tuple(lines), pieces), pieces=True)
            for language, lines in zip(LANGUAGES, train, strict=True)
        }
    found = {}
    for language, lines in zip(LANGUAGES, train, strict=True):
        counts, path = Counter(word for line in lines for word in line.split()), folder / f"vocab.{language}"
        known = read_vocabulary(path) if path.is_file() else [word for word, _ in counts.most_common()]
        found[language] = Vocabulary(tuple(word for word in known if counts[word] >= fewest and word not in SPECIAL))
    return found


_pieces = lru_cache(maxsize=len(LANGUAGES))(learned_pieces)


def _check(longest: int, fewest: int, pieces: int) -> None:
    if min(longest, fewest) < 1:
        raise ValueError(f"longest, fewest: expected at least 1, got {longest} and {fewest}")
    if pieces < 0:
        raise ValueError(f"pieces: expected at least 0, got {pieces}")


def with_vocabularies(
    content: dict[str, Any],
    data_dir: str | Path | None = None,
    longest: int = LONGEST,
    fewest: int = FEWEST,
    pieces: int = 0,
) -> dict[str, Any]:
    """A spec, as plain data, in which each language without words has those of the data set.

    Args:
        content: the spec.
        data_dir: as for `load_iwslt`, and so are the others.
        longest: words, or pieces, of a sentence.
        fewest: how often a word must stand in the training sentences.
        pieces: how many pieces of words there are in place of words.

    Raises:
        DataError: as `load_iwslt`; if a language has other words already, as that of a run on other files has.
        ValueError: on an option that is too small.
    """
    _check(longest, fewest, pieces)
    modalities = dict(content["model"]["modalities"])
    for language, vocabulary in vocabularies(data_dir, fewest, pieces).items():
        part = modalities.get(language)
        words = None if part is None else part["likelihood"].get("words")
        if words and tuple(words) != vocabulary.words:
            raise DataError(
                f"{language}: the words of the training sentences ({len(vocabulary.words):,}) are not those that the"
                f" model has learned ({len(words):,}); it was trained on other files"
                + (", or its pieces were learned by another version of tokenizers" if pieces else "")
            )
        if part is not None and words == []:
            learned = {"num_symbols": vocabulary.num_symbols, "end": vocabulary.end, "words": list(vocabulary.words)}
            learned["pieces"] = vocabulary.pieces
            modalities[language] = part | {"shape": [longest], "likelihood": part["likelihood"] | learned}
    return content | {"model": content["model"] | {"modalities": modalities}}


def part_of_iwslt(data_dir: str | Path | None = None) -> str:
    """How much of the data set there is, in words, and where its first empty line is, if it has any.

    Raises:
        DataError: as `load_iwslt`.
    """
    pairs = [*zip(*_pairs(_find(data_dir), PARTS[0]), strict=True)]
    lacking = [number for number, pair in enumerate(pairs, 1) if not all(pair)]
    empty = f", {len(lacking):,} of them with an empty side (first: line {lacking[0]:,})" if lacking else ""
    return f"{len(pairs):,} of {ALL_PAIRS:,} training pairs{empty}"


def count_pairs(data_dir: str | Path | None = None) -> int:
    """How many lines the training files have.

    Raises:
        DataError: as `load_iwslt`.
    """
    return len(_pairs(_find(data_dir), PARTS[0])[0])


def read_pairs(paths: Sequence[Path]) -> list[list[str]]:
    """The lines of files whose lines belong together.

    Raises:
        DataError: naming a line that is not UTF-8, or the numbers of lines where they differ.
    """
    found = [_lines(path) for path in paths]
    for path, lines in zip(paths, found, strict=True):
        if len(lines) != len(found[0]):
            counts = f"{len(lines):,} lines, and {paths[0].name} has {len(found[0]):,}"
            raise DataError(f"{path}: {counts}; expected a translation a line")
    if not found[0]:
        raise DataError(f"{paths[0]}: no lines")
    return found


def read_vocabulary(path: Path) -> list[str]:
    """The words of a vocabulary file, one a line.

    Raises:
        DataError: naming a line that holds another number of words than one, or one that was there before.
    """
    words: dict[str, int] = {}
    for number, line in enumerate(_lines(path), 1):
        if len(line.split()) != 1:
            raise DataError(f"{path}, line {number}: expected one word, got {line[:40]!r}")
        if line.strip() in words:
            raise DataError(f"{path}, line {number}: '{line.strip()}' stands in line {words[line.strip()]} already")
        words[line.strip()] = number
    return list(words)


def _pairs(folder: Path, part: str) -> list[list[str]]:
    return read_pairs([folder / f"{part}.{language}" for language in LANGUAGES])


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in text_lines(path)]


def _find(data_dir: str | Path | None) -> Path:
    places = data_places(data_dir)
    names = [f"{part}.{language}" for part in PARTS for language in LANGUAGES]
    for place in places:
        for folder in (place / FOLDER, place):
            if all((folder / name).is_file() for name in names):
                return folder
    raise DataError(
        f"no {FOLDER} files in {', '.join(map(str, places))}. Put {', '.join(names)}, vocab.en and vocab.vi into"
        f" DIR/{FOLDER} and pass --data-dir DIR or set MVAE_DATA=DIR"
    )
