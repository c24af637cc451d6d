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
from mvae.data.download import locate, text_lines
from mvae.files import DataError
from mvae.vocabularies import Vocabulary, learned_pieces

__all__ = ["ALL_PAIRS", "LANGUAGES", "count_pairs", "load_iwslt", "part_of_iwslt", "sentences", "vocabularies"]

ALL_PAIRS = 133_317
LANGUAGES = ("en", "vi")
PARTS = ("train", "tst2012", "tst2013")
SPECIAL = ("<unk>", "<s>", "</s>")
LONGEST, FEWEST = 70, 2
OPTIONS = {"longest": LONGEST, "fewest": FEWEST, "pieces": 0}


def load_iwslt(
    data_dir: str | Path | None = None, longest: int = LONGEST, fewest: int = FEWEST, pieces: int = 0
) -> tuple[Batch, ...]:
    """Training, validation and test rows: `en` and `vi`, symbols `[longest]` of `vocabularies`.

    Longer sentences are cut. A language whose line is empty is missing.

    Args:
        data_dir: where to look first for the folder `iwslt15-en-vi`.
        longest: words, or pieces, of a sentence that are read.
        fewest: as `vocabularies`.
        pieces: as `vocabularies`.

    Raises:
        DataError: naming the file, and line, that is missing or damaged.
        ValueError: on an option that is too small; without `tokenizers`, if pieces are asked for.
    """
    _check(longest, fewest, pieces)
    words, batches = vocabularies(data_dir, fewest, pieces), []
    for part in PARTS:
        values, present = {}, {}
        for language, lines in zip(LANGUAGES, _pairs(data_dir, part), strict=True):
            cut = [words[language].cut(line, longest)[0] for line in lines]
            values[language] = torch.stack([words[language].symbols(line, longest) for line in cut])
            present[language] = torch.tensor([bool(line) for line in lines])
        batch = Batch(values, present)
        batches.append(batch[batch.presence(LANGUAGES).any(1).nonzero().flatten()])
    return tuple(batches)


def sentences(data_dir: str | Path | None, part: str) -> dict[str, list[str]]:
    """The lines of `"train"`, `"tst2012"` or `"tst2013"`, by language, of the rows that have both languages."""
    rows = [pair for pair in zip(*_pairs(data_dir, part), strict=True) if all(pair)]
    return {language: [pair[number] for pair in rows] for number, language in enumerate(LANGUAGES)}


def vocabularies(data_dir: str | Path | None = None, fewest: int = FEWEST, pieces: int = 0) -> dict[str, Vocabulary]:
    """The words of each language: those of `vocab.en` and `vocab.vi`, or of all training sentences without such files.

    Args:
        data_dir: as for `load_iwslt`.
        fewest: occurrences in the training sentences that a word needs.
        pieces: learn so many pieces of words of each language's training sentences in place of words; 0 for words.
    """
    found = {}
    for language, lines in zip(LANGUAGES, _pairs(data_dir, PARTS[0]), strict=True):
        if pieces:
            found[language] = Vocabulary(_pieces(tuple(lines), pieces), pieces=True)
            continue
        counts, path = Counter(word for line in lines for word in line.split()), _find(data_dir) / f"vocab.{language}"
        known = _read_vocabulary(path) if path.is_file() else [word for word, _ in counts.most_common()]
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
    """A spec, as plain data, in which each language without words has those of the data set; options as `load_iwslt`.

    A `DataError` if a language has other words already, as in a run on other files.
    """
    _check(longest, fewest, pieces)
    modalities = dict(content["model"]["modalities"])
    for language, vocabulary in vocabularies(data_dir, fewest, pieces).items():
        if language not in modalities:
            continue
        part = modalities[language]
        words = part["likelihood"].get("words")
        if words and tuple(words) != vocabulary.words:
            raise DataError(
                f"{language}: the words of the training sentences ({len(vocabulary.words):,}) are not those that the"
                f" model has learned ({len(words):,}); it was trained on other files"
                + (", or its pieces were learned by another version of tokenizers" if pieces else "")
            )
        if words == []:
            learned = {name: getattr(vocabulary, name) for name in ("num_symbols", "end", "pieces")}
            learned["words"] = list(vocabulary.words)
            modalities[language] = part | {"shape": [longest], "likelihood": part["likelihood"] | learned}
    return content | {"model": content["model"] | {"modalities": modalities}}


def part_of_iwslt(data_dir: str | Path | None = None) -> str:
    """The share of the data set that is here, in words, and its first empty line; errors as `load_iwslt`."""
    pairs = [*zip(*_pairs(data_dir, PARTS[0]), strict=True)]
    partial = [number for number, pair in enumerate(pairs, 1) if not all(pair)]
    empty = f", {len(partial):,} of them with an empty side (first: line {partial[0]:,})" if partial else ""
    return f"{len(pairs):,} of {ALL_PAIRS:,} training pairs{empty}"


def count_pairs(data_dir: str | Path | None = None) -> int:
    """The number of lines of the training files."""
    return len(_pairs(data_dir, PARTS[0])[0])


def _pairs(data_dir: str | Path | None, part: str) -> Sequence[list[str]]:
    """The lines of a part in each language, as many in one as in the other."""
    paths = [_find(data_dir) / f"{part}.{language}" for language in LANGUAGES]
    first, second = ([line.strip() for line in text_lines(path)] for path in paths)
    if len(first) != len(second):
        counts = f"{len(second):,} lines, and {paths[0].name} has {len(first):,}"
        raise DataError(f"{paths[1]}: {counts}; expected a translation a line")
    if not first:
        raise DataError(f"{paths[0]}: no lines")
    return first, second


def _read_vocabulary(path: Path) -> list[str]:
    words: dict[str, int] = {}
    for number, line in enumerate(text_lines(path), 1):
        word = line.strip()
        if len(word.split()) != 1:
            raise DataError(f"{path}, line {number}: expected one word, got {word[:40]!r}")
        if word in words:
            raise DataError(f"{path}, line {number}: '{word}' is in line {words[word]} already")
        words[word] = number
    return list(words)


def _find(data_dir: str | Path | None) -> Path:
    found = locate("iwslt15-en-vi", [f"{part}.{language}" for part in PARTS for language in LANGUAGES], data_dir)
    return found["train.en"].parent
