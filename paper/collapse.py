"""`collapse`: what keeps z in use where the decoders of sentences could do without it.

Remedies known for it, each alone and together, and Transformers in place of recurrent networks, on validation
sentences: how `mvae-annealed` in Tables 4 and 5 is trained was chosen here, not on test sentences.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mvae.config.build import build_model
from mvae.config.folder import METRICS
from mvae.config.recipes import resolve
from mvae.config.specs import RunSpec, parse
from mvae.data.iwslt import LANGUAGES
from mvae.files import read_json
from mvae.training.epochs import ELBO, held
from mvae.training.prepare import learned
from paper.runner import CATALOG, Cell, Report, Setup, places, titles
from paper.trained import train_on_rows
from paper.translation import check, load_pairs, options_of, scores_of
from paper.translation_view import DIRECTIONS, SOURCE, epochs_of

__all__ = ["check", "measure", "view"]

VARIANTS = CATALOG["collapse"]["choices"]["variant"]
ALL_EPOCHS = "all epochs"
"""In place of the number of epochs, of which presets have different ones."""
RECURRENT, TRANSFORMER = "both", "transformer"
"""Two that differ in their networks alone, which have no dropout but that of words."""
NETWORKS = {RECURRENT: "recurrent (LSTM)", TRANSFORMER: "Transformer"}
EQUAL_TIME = CATALOG["collapse"]["last"]
"""The one of them that took longer, once more: for as many epochs as fit into the time of the other."""
LAYERS, HEADS, WIDEST = 2, 4, 256
"""Of the Transformers; the last is how wide each head may be."""


def measure(cell: Cell, setup: Setup, report: Report) -> dict[str, Any]:
    """Train a variant on all training pairs, and score it on validation rows."""
    name, spent, whole = cell["variant"], setup.spent, load_pairs(setup)
    networks = name
    if name == EQUAL_TIME:
        networks, epochs = in_equal_time(read_json(setup.path)["cells"])
        spent = spent | {"epochs": epochs}
    folder = setup.runs / setup.preset / "collapse" / name
    model, trained = train_on_rows(folder, spec_of(networks, spent, setup.data_dir), whole, report)
    report("scoring", 0, 1)
    metrics = read_json(folder / METRICS)
    rows, among = whole.validation[: spent["rows"]], whole.validation[: spent["found_among"]]
    return {
        "variant": name,
        "networks": networks,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_rows": len(whole.train),
        "rows": len(rows),
        "found_among": len(among),
        "data": whole.description,
        "held": held(metrics["kept"]),
        "epoch": metrics["kept"]["epoch"],
        "elbos": [record[ELBO] for record in metrics["history"]],
        "scores": scores_of(model, rows, among, spent["samples"], ("joint", "vi given en", "en given vi")),
        "trained": trained,
    }


def in_equal_time(cells: Sequence[Mapping[str, Any]]) -> tuple[str, int]:
    """Which of `NETWORKS` took longer, and how many epochs of it fit into the time of the other, at least one.

    Raises:
        ValueError: if the time of one of them is not known.
    """
    pair = {cell["variant"]: cell for cell in cells if cell["variant"] in NETWORKS}
    if len(pair) < len(NETWORKS) or not _timed(*pair.values()):
        raise ValueError(f"{EQUAL_TIME}: needs {' and '.join(NETWORKS)} first, each trained without a break")
    spent = {name: cell["trained"]["processor_seconds"] for name, cell in pair.items()}
    slower = max(spent, key=spent.__getitem__)
    return slower, max(1, int(len(pair[slower]["elbos"]) * min(spent.values()) / spent[slower]))


def _timed(*cells: Mapping[str, Any]) -> bool:
    """Whether it is known how long the processor worked on them."""
    return all("processor_seconds" in cell["trained"] and not cell["trained"]["resumed"] for cell in cells)


def spec_of(name: str, spent: Mapping[str, Any], data_dir: str | None) -> RunSpec:
    """How a variant is trained."""
    # the last weights: the best ELBO is often that of an epoch before z holds much
    options = options_of(spent) | {"training.keep": "last"} | VARIANTS[name].get("options", {})
    options = {place: epochs_of(spent["epochs"]) if value == ALL_EPOCHS else value for place, value in options.items()}
    spec = learned(resolve(SOURCE, None, places(options, *LANGUAGES)), data_dir)
    return _with_transformers(spec) if name == TRANSFORMER else spec


def _with_transformers(spec: RunSpec) -> RunSpec:
    """Transformers in place of the recurrent networks, of the width that has as many parameters, as near as can be."""
    wanted, widths = _parameters(spec), range(1, WIDEST + 1)
    enough = bisect_left(widths, wanted, key=lambda each: _parameters(_transformers(spec, each)))
    near = [_transformers(spec, each) for each in widths[max(0, enough - 1) : enough + 1]]
    return min(near, key=lambda one: abs(_parameters(one) - wanted))


def _transformers(spec: RunSpec, each: int) -> RunSpec:
    network = {"kind": "transformer", "width": HEADS * each, "heads": HEADS, "layers": LAYERS, "dropout": 0.0}
    content = spec.model_dump(mode="json")
    for language in LANGUAGES:
        content["model"]["modalities"][language] |= {
            "encoder": network,
            "decoder": network
            | {"word_dropout": VARIANTS[TRANSFORMER]["options"]["model.modalities.*.decoder.word_dropout"]},
        }
    return parse(content, "transformer")


def _parameters(spec: RunSpec) -> int:
    return sum(parameter.numel() for parameter in build_model(spec.model).parameters())


def view(_: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The page's content: remedies, and both kinds of networks after as many epochs and after as long a time."""
    frame = pd.json_normalize(content["cells"], sep=" ")
    for one, other in DIRECTIONS:
        frame[f"found {one} to {other}, %"] = (100 * frame[f"scores retrieval {one} to {other}"]).map("{:.1f}".format)
    shown = frame.assign(elbo=frame["elbos"].str[-1], epochs=frame["elbos"].str.len().astype(str))
    unbroken = frame["trained processor_seconds"].where(~frame["trained resumed"])
    shown["minutes"] = (unbroken / 60).map("{:.1f}".format, na_action="ignore")
    shown["size"] = shown["parameters"].map("{:,}".format)
    slower = frame.loc[frame["variant"] == EQUAL_TIME, "networks"].map(NETWORKS)
    timed = {EQUAL_TIME: f"{slower.iloc[0]}, in the time of the other"} if len(slower) else {}
    return {
        "some": content["cells"][0],
        "frame": frame[frame["variant"] != EQUAL_TIME],
        "variants": titles("collapse", "variant"),
        "shown": shown,
        "networks": NETWORKS | timed if set(NETWORKS) <= set(frame["variant"]) else {},
    }
