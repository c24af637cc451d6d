"""Texts, character by character."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from mvae.batch import Batch
from mvae.config.table_spec import MOST_CHARACTERS, ColumnSpec, TextColumn
from mvae.evaluation.classification import write
from mvae.files import DataError
from mvae.models import MultimodalVAE
from mvae.tables.cells import Cells
from mvae.tables.kinds.base import ALL_ROWS, Answer, ModalityKind, Rows, register

__all__ = ["Text"]


@register
class Text(ModalityKind):
    """Texts, a modality of strings. It learns its characters from all rows."""

    column = TextColumn
    is_filled = True

    def learned(self, cells: Cells, rows: Rows = ALL_ROWS) -> ColumnSpec:
        texts = [text for text in cells.texts(self.words)[0] if text is not None]
        if not texts:
            raise DataError(f"column '{cells.name}': no training row has a text")
        length = self.spec.length or min(MOST_CHARACTERS, max(map(len, texts)))
        return self.spec.model_copy(update={"length": length, "characters": "".join(sorted(set("".join(texts))))})

    @property
    def modality(self) -> dict[str, Any]:
        known = self.spec.characters or ""
        return {
            "shape": [self.spec.length],
            "likelihood": {"kind": "string", "num_symbols": len(known) + 1, "end": len(known), "characters": known},
            "encoder": {"kind": "gru", "embedding": 32, "hidden": 64},
            "decoder": {"kind": "gru", "embedding": 32, "hidden": 64, "layers": 1, "word_dropout": 0.1},
        }

    def encoded(self, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
        """Symbols `[R, length]`, and which rows have a text; characters beyond the length, or unknown, are left out."""
        code = {character: number for number, character in enumerate(self.spec.characters)}
        texts, _ = cells.texts(self.words)
        symbols = np.full((len(texts), self.spec.length), len(code), dtype=np.int64)
        for row, text in enumerate(texts):
            known = [code[character] for character in text or "" if character in code][: self.spec.length]
            symbols[row, : len(known)] = known
        return symbols, np.array([text is not None for text in texts])

    def answer(self, model: MultimodalVAE, name: str, rows: Batch, draws: int) -> Answer:
        """The likeliest text of each row."""
        texts = self._texts(model, name, write(model, rows, name))
        drawn = model.decode(model.draw_given(rows, max(1, draws)), name)[name].sample()
        samples = [self._texts(model, name, one) for one in drawn]
        return Answer(texts, np.full(len(texts), np.nan), texts, texts, np.stack(samples))

    def drawn(self, model: MultimodalVAE, name: str, z: Tensor) -> Sequence[Any]:
        return self._texts(model, name, model.modalities[name].decoder(z).sample()).tolist()

    @staticmethod
    def _texts(model: MultimodalVAE, name: str, symbols: Tensor) -> np.ndarray:
        alphabet = model.modalities[name].alphabet
        assert alphabet is not None
        return np.array([alphabet.text(one) for one in symbols], dtype=object)
