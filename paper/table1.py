"""`table1`: parameters of the inference networks, counted in the built models."""

from collections.abc import Iterator, Mapping
from math import comb
from typing import Any

from torch import nn

from mvae.config.build import build_model
from mvae.config.recipes import resolve
from mvae.config.specs import ModelSpec
from mvae.models import MultimodalVAE
from paper.results import Results
from paper.runner import CATALOG, Cell, Report, Setup, read, titles

TITLES, MODELS = CATALOG["table1"]["titles"], titles("table2", "model")
ATTRIBUTES = 18
NOTES = (("multimnist", "jmvae"), ("celeba19", "jmvae"), ("celeba19", "mvae"))
"""What the page has a note on, in order."""


def cells(_: Setup) -> list[list[Cell]]:
    """The models that the paper counts, those of a data set together."""
    printed = read("paper.yaml")["table1"]
    return [[{"dataset": dataset, "model": model} for model in models] for dataset, models in printed.items()]


def measure(cells: list[Cell], setup: Setup, report: Report) -> list[dict[str, Any]]:
    """Build the models of a data set and count."""
    found = []
    for cell in cells:
        dataset, model = cell["dataset"], cell["model"]
        ours = _jmvae19() if (dataset, model) == ("celeba19", "jmvae") else _count(_model(dataset, model))
        found.append({**cell, "parameters": ours, "paper": int(read("paper.yaml")["table1"][dataset][model])})
    return found


def finish(results: Results, _: Setup) -> Iterator[str]:
    """Count what the notes say."""
    embedding = _count(_model("celeba19-embedding", "mvae"))
    results.content["others"] = {"embedding": embedding, "subsets": 2 ** (ATTRIBUTES + 1) - ATTRIBUTES - 2}
    results.save()
    return iter(())


def view(_: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The page's content: the counts beside the paper's, of which the largest is printed with five digits."""
    rows = []
    for cell in content["cells"]:
        large = cell["paper"] > 10**9
        printed, shown = (f"{cell[which]:{'.4e' if large else ','}}" for which in ("paper", "parameters"))
        verdict = "exact" if printed == shown else f"{cell['parameters'] - cell['paper']:+,}"
        key = cell["dataset"], cell["model"]
        verdict += f" [{NOTES.index(key) + 1}]" if key in NOTES else ""
        title = MODELS[cell["model"]] + ("19" if cell["dataset"].startswith("celeba19") else "")
        rows.append([TITLES[cell["dataset"]], title, f"{cell['parameters']:,}", printed, verdict])
    missed = [f"{title} on {dataset}" for dataset, title, *_, verdict in rows if not verdict.startswith("exact")]
    return {"rows": rows, "others": content["others"], "missed": missed, "exact": len(rows) - len(missed)}


def count_subset_networks(image: int, flat: int, attribute: int, width: int, hidden: int, latent_dim: int) -> int:
    """Parameters of one network for each subset of an image and 18 attributes that has two or more of them.

    `image` and `attribute` are the parameters of their features, of which there are `flat` and `width`; all features
    enter a layer of `hidden` units.
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
    described = {"method": method, "modalities": _modalities(dataset), **CATALOG["table1"]["settings"]}
    return build_model(ModelSpec.model_validate(described))


def _modalities(dataset: str) -> dict[str, Any]:
    parts = read("table1.yaml")[dataset]
    if "attribute" not in parts:
        return parts
    attributes = {f"attribute {number}": parts["attribute"] for number in range(1, ATTRIBUTES + 1)}
    return {"image": parts["image"], **attributes}


def _jmvae19() -> int:
    parts: Any = _model("celeba", "mvae").modalities
    image, attributes = parts["image"].encoder, parts["attributes"].encoder
    features = _parameters(image.features), image.layers[0].in_features
    each = _parameters(attributes.layers), attributes.head.in_features
    return count_subset_networks(*features, *each, image.head.in_features, **CATALOG["table1"]["settings"])


def _count(model: MultimodalVAE) -> int:
    return sum(_parameters(network) for network in model.inference_networks)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
