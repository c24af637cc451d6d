"""The shape of what a run's folder holds beside its spec: the epochs of its training, and its scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from mvae.config.specs import validated
from mvae.files import read_json

__all__ = ["History", "Metrics", "Scores", "checked_json"]

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
ELBO = "validation/elbo"


class History(BaseModel):
    """What a checkpoint says of the epochs that are done."""

    history: Annotated[list[dict[str, Number]], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_of_one_training(self) -> History:
        if [record.get("epoch") for record in self.history] != list(range(1, len(self.history) + 1)):
            raise ValueError("history: expected epochs from 1 on, in order")
        if len({ELBO in record for record in self.history}) > 1:
            raise ValueError(f"history: expected '{ELBO}' in all epochs or in none")
        return self


class Metrics(History):
    """`metrics.json`."""

    kept: dict[str, Number]


class _LogLikelihood(BaseModel):
    targets: list[str]
    given: list[str]
    nats: Number | None = None


class _Accuracy(BaseModel):
    target: str
    given: list[str]
    accuracy: Number


class Scores(BaseModel):
    """`evaluation.json`, as far as a model card shows it."""

    split: str
    samples: int
    log_likelihood: list[_LogLikelihood]
    accuracy: list[_Accuracy]


def checked_json(kind: type[BaseModel], path: Path) -> Any:
    """The content of a JSON file of a run that has this shape; a `RunError` or a `SpecError` says what is wrong."""
    content = read_json(path)
    validated(kind, content, str(path))
    return content
