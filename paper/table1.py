"""`mvae reproduce table1`: parameters of the inference networks, counted in the built models."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from math import comb
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from mvae.config.build import build_model
from mvae.config.recipes import resolve
from mvae.config.specs import ModelSpec
from mvae.export import markdown_table
from mvae.models import MultimodalVAE
from paper.comparison import MODELS
from paper.results import Results
from paper.tables import paper_values

__all__ = ["count_subset_networks", "page", "reproduce"]

TITLES = {
    "mnist": "MNIST, BinaryMNIST",
    "fashion-mnist": "FashionMNIST",
    "multimnist": "MultiMNIST",
    "celeba": "CelebA",
    "celeba19": "CelebA19",
}
LATENT_DIM = 100
ATTRIBUTES = 18
NOTES = {
    (
        "multimnist",
        "jmvae",
    ): "By the recipe that is exact on the other data sets: features of each encoder side by side,"
    " one hidden layer of 512. The paper gives no other.",
    (
        "celeba19",
        "mvae",
    ): "With the encoder of all 18 attributes for each single one, which must be how the paper counted."
    " With an embedding of two values, as the authors released it, {embedding:,}.",
    ("celeba19", "jmvae"): "A network for each of the {subsets:,} subsets of two and more, by formula: the convolutions"
    " where the image is in it, the layers of each attribute, one hidden layer on all, a head. Never built.",
}


def reproduce(folder: Path, resume: bool = False) -> Iterator[str]:
    """Build the models and count, data set by data set.

    Args:
        folder: gets `table1.json`.
        resume: keep what is finished.

    Yields:
        A line for each data set.
    """
    results = Results(folder / "table1.json", {"latent_dim": LATENT_DIM}, resume)
    for dataset, printed in paper_values("table1").items():
        for method, paper in printed.items():
            if results.has(dataset=dataset, model=method):
                continue
            ours = _jmvae19() if (dataset, method) == ("celeba19", "jmvae") else _count(_model(dataset, method))
            results.add({"dataset": dataset, "model": method, "parameters": ours, "paper": int(paper)})
        yield f"{TITLES[dataset]}: {len(printed)} models counted"
    embedding = _count(_model("celeba19-embedding", "mvae"))
    results.content["others"] = {"embedding": embedding, "subsets": 2 ** (ATTRIBUTES + 1) - ATTRIBUTES - 2}
    results.save()


def page(content: dict[str, Any]) -> str:
    """The docs page of these results, in Markdown."""
    rows: list[list[str]] = []
    notes: list[str] = []
    for cell in content["cells"]:
        ours, paper = cell["parameters"], cell["paper"]
        large = paper > 10**9  # printed with five digits
        printed, shown = (f"{number:.4e}" if large else f"{number:,}" for number in (paper, ours))
        verdict = "exact" if printed == shown else f"{ours - paper:+,}"
        if note := NOTES.get((cell["dataset"], cell["model"])):
            notes.append(f"{len(notes) + 1}. {note.format(**content['others'])}")
            verdict += f" [{len(notes)}]"
        title = MODELS[cell["model"]].title + ("19" if cell["dataset"].startswith("celeba19") else "")
        rows.append([TITLES[cell["dataset"]], title, f"{ours:,}", printed, verdict])
    made = content["provenance"]
    table = markdown_table(["data set", "model", "here", "paper", ""], rows)
    return PAGE.format(table=table, notes="\n".join(notes), command=made["command"], commit=made["commit"])


PAGE = """# Table 1: parameters of the inference networks

Counted in the models as `mvae` builds them. One model that covers every subset of N modalities costs the MVAE one
encoder a modality; a network a subset costs the JMVAE 2^N.

{table}

{notes}

Made by `{command}` at commit {commit}; the numbers are in `results/table1.json`.
"""


def count_subset_networks(image: int, flat: int, attribute: int, width: int, hidden: int, latent_dim: int) -> int:
    """Parameters of one network for each subset of an image and 18 attributes that has two or more of them.

    Args:
        image: parameters of the image's features.
        flat: how many these are.
        attribute: parameters of one attribute's features.
        width: how many these are.
        hidden: width of the layer on all features.
        latent_dim: D.
    """
    total = 0
    for with_image in (0, 1):
        for count in range(2 - with_image, ATTRIBUTES + 1):
            features = flat * with_image + width * count
            dense = (features + 1) * hidden + (hidden + 1) * 2 * latent_dim
            total += comb(ATTRIBUTES, count) * (image * with_image + attribute * count + dense)
    return total


def _model(dataset: str, method: str) -> MultimodalVAE:
    options: dict[tuple[str, ...], Any] = {("model", "method"): method}
    if dataset in ("mnist", "fashion-mnist"):
        return build_model(resolve(dataset, None, options).model)
    described = {"method": method, "latent_dim": LATENT_DIM, "modalities": _modalities(dataset)}
    return build_model(ModelSpec.model_validate(described))


def _modalities(dataset: str) -> dict[str, Any]:
    described = yaml.safe_load((resources.files(__package__) / "table1.yaml").read_text(encoding="utf-8"))
    parts = described[dataset]
    if "attribute" not in parts:
        return parts
    attributes = {f"attribute {number}": parts["attribute"] for number in range(1, ATTRIBUTES + 1)}
    return {"image": parts["image"], **attributes}


def _jmvae19() -> int:
    image: Any
    attributes: Any
    image, attributes = (modality.encoder for modality in _model("celeba", "mvae").modalities.values())
    hidden = image.head.in_features
    return count_subset_networks(
        image=_parameters(image.features),
        flat=image.layers[0].in_features,
        attribute=_parameters(attributes.layers),
        width=attributes.head.in_features,
        hidden=hidden,
        latent_dim=LATENT_DIM,
    )


def _count(model: MultimodalVAE) -> int:
    return sum(_parameters(network) for network in model.inference_networks)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
