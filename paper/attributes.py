"""`attributes`: 18 attributes of a face predicted from its image, beside simpler ways."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from mvae.batch import Batch
from mvae.data.celeba import ATTRIBUTES
from mvae.data.sources import load_dataset
from mvae.models import MultimodalVAE
from paper.baselines.logistic import PairedLogisticRegression, thumbnails
from paper.compared import MODELS, spec_of, train_model, trained_model
from paper.runner import Cell, Report, Setup, titles
from paper.trained import placed

PREDICTORS = titles("attributes", "predictor")
MEASURES = {"accuracy": "accuracy", "balanced": "balanced accuracy", "auc": "AUC"}


def measure(cell: Cell, setup: Setup, report: Report) -> dict[str, Any]:
    """Predict the attributes of all test images, training the model if it is not trained yet."""
    name, spent = cell["predictor"], setup.spent
    whole = load_dataset("celeba19", data_dir=setup.data_dir)
    train, test = whole.train[: spent["train_rows"]], whole.test
    epochs = None
    if name in MODELS:
        train_model(_model(name), setup, report)
        model, _ = trained_model(_model(name), setup)
        epochs = spec_of(_model(name), setup).training.epochs
        found = attribute_probabilities(placed(model), test.only(["image"]), spent["draws"])
    else:
        found, seen = {}, [Batch({"numbers": torch.from_numpy(thumbnails(rows))}) for rows in (train, test)]
        for number, attribute in enumerate(ATTRIBUTES):
            report("fitting", number, len(ATTRIBUTES))
            frequency = train.values[attribute].double().mean().item()
            found[attribute] = np.full(len(test), frequency)
            if name == "logistic" and 0 < frequency < 1:
                regression = PairedLogisticRegression(features="numbers", numbers=_numbers, target=attribute)
                regression.fit(Batch({**seen[0].values, attribute: train.values[attribute]}))
                found[attribute] = regression.probabilities(seen[1])[:, 1]
    return {
        "predictor": name,
        "epochs": epochs,
        "train_rows": len(train),
        "rows": len(test),
        "data": whole.description,
        "attributes": {name: _scores(test.values[name].numpy(), found[name]) for name in ATTRIBUTES},
    }


def _model(predictor: str) -> Cell:
    return {"dataset": "celeba", "model": predictor, "seed": 0}


def _numbers(rows: Batch) -> np.ndarray:
    return rows.values["numbers"].numpy()


@torch.inference_mode()
def attribute_probabilities(model: MultimodalVAE, images: Batch, samples: int) -> dict[str, np.ndarray]:
    """p(attribute | image) by the decoder, averaged over draws from q(z | image): `[B]` for each of `ATTRIBUTES`.

    The model is of `celeba`, all attributes in one modality, or of `celeba19`; draws are seeded with 0.
    """
    torch.manual_seed(0)
    names = [name for name in model.modalities if name != "image"]
    parts = []
    for start in range(0, len(images), 100):
        drawn = model.decode(model.draw_latent(images[start : start + 100], samples), names)
        if names == ["attributes"]:
            parts.append(drawn["attributes"].mean.mean(0))
        else:
            parts.append(torch.stack([drawn[name].probs[..., 1].mean(0) for name in ATTRIBUTES], 1))  # type: ignore[attr-defined]
    return dict(zip(ATTRIBUTES, torch.cat(parts).cpu().numpy().T, strict=True))


def _scores(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    guesses = probabilities > 0.5
    both = len(np.unique(truth)) == 2  # else a balance of two classes says nothing
    return {
        "frequency": float(truth.mean()),
        "accuracy": float(accuracy_score(truth, guesses)),
        "balanced": float(balanced_accuracy_score(truth, guesses)) if both else None,
        "auc": float(roc_auc_score(truth, probabilities)) if both else None,
    }


def view(_: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The page's content: scores by attribute and predictor, beside them how frequent an attribute is."""
    cells = content["cells"]
    frequencies = {name: dict.fromkeys(MEASURES, found["frequency"]) for name, found in cells[0]["attributes"].items()}
    scores = {"has it": frequencies} | {cell["predictor"]: cell["attributes"] for cell in cells}
    epochs = sorted({str(cell["epochs"]) for cell in cells if cell["epochs"]})
    return {
        "scores": pd.DataFrame(
            {"predictor": predictor, "attribute": attribute, **one}
            for predictor, found in scores.items()
            for attribute, one in found.items()
        ),
        "attributes": dict(zip(ATTRIBUTES, ATTRIBUTES, strict=True)),
        "predictors": PREDICTORS,
        "measures": MEASURES,
        "some": cells[0],
        "epochs": " or ".join(epochs) or "no",
    }
