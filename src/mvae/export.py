"""Runs for other machines: one folder or zip with a model card, and networks as programs of torch.

Only data is exchanged, configuration and weights: a run from elsewhere is loaded without running code from it.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mvae import __version__
from mvae.config.folder import CONFIG, METRICS, WEIGHTS, load, read_spec, root_of
from mvae.config.results import Metrics, Scores, checked_json
from mvae.config.specs import OwnModelSpec, OwnRunSpec, OwnVariableSpec, RunSpec
from mvae.config.tensors import TensorFile
from mvae.files import LARGEST, RunError, atomic, read_bytes, reserved, scratch, to_disk
from mvae.modality import Decoder
from mvae.models import MultimodalVAE
from mvae.training.epochs import ELBO

__all__ = ["CARD", "EXCHANGED", "export", "markdown_table", "model_card"]

CARD, EVALUATION, PROGRAMS = "README.md", "evaluation.json", "programs"
EXCHANGED = (CONFIG, WEIGHTS, METRICS, EVALUATION)


def export(run: str | Path, out: str | Path, programs: bool = False, model: MultimodalVAE | None = None) -> list[str]:
    """Write a run for `mvae.load` on another machine: configuration, weights, scores and a model card.

    Args:
        run: folder of a trained run.
        out: a new folder, or a new file ending in `.zip`.
        programs: write networks as programs too, `programs/NAME.encoder.pt2` and `NAME.decoder.pt2`, which
            `torch.export.load` runs without this package: an encoder gives `(mean, log_variance)`, a decoder the
            parameters of its likelihood. Texts have no such decoder.
        model: for a run of `mvae.train` with `programs`, a model to fill.

    Returns:
        The names of the files written.

    Raises:
        RunError: if the run is not trained.
        ValueError: if `out` exists.
    """
    path = Path(out)
    with reserved(path), scratch(path) as temporary:
        folder = temporary / "run"
        names = _collect(Path(run), folder, programs, model)
        if path.suffix == ".zip":
            with atomic(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for name in names:
                    archive.write(folder / name, name)
        else:
            for name in (*names, "."):
                to_disk(folder / name)
            folder.replace(path)
            to_disk(path.parent)
    return names


def _collect(run: Path, folder: Path, programs: bool, model: MultimodalVAE | None) -> list[str]:
    root = root_of(run)
    own = isinstance(read_spec(run, own=True), OwnRunSpec)
    if own and programs and model is None:
        raise RunError(f"programs: {run} holds no networks, which are your own; give a model to fill (model=...)")
    if model is not None or not own:
        model = load(run, model)  # refuses an incomplete run
    elif not (root / WEIGHTS).is_file():
        raise RunError(f"{run} has no {WEIGHTS}: its training did not end")
    folder.mkdir()
    names = [name for name in EXCHANGED if (root / name).exists()]
    for name in names:
        most = TensorFile(root / name).size if name == WEIGHTS else LARGEST
        (folder / name).write_bytes(read_bytes(root / name, most))
    (folder / CARD).write_text(model_card(folder), encoding="utf-8")
    written = _programs(model, folder / PROGRAMS) if programs and model is not None else []
    return [*names, CARD, *(f"{PROGRAMS}/{name}" for name in written)]


def model_card(run: str | Path) -> str:
    """The model, training data and scores of a run's folder, in Markdown with the Hub's header."""
    spec, folder = read_spec(run, own=True), Path(run)
    metrics = checked_json(Metrics, folder / METRICS) if (folder / METRICS).exists() else {}
    kept = metrics.get("kept", {})
    loaded = ", model=build()" if isinstance(spec.model, OwnModelSpec) else ""
    rows, method = [], spec.model.own if isinstance(spec.model, OwnModelSpec) else spec.model.method
    for name, part in spec.model.modalities.items():
        kind = "your own" if isinstance(part, OwnVariableSpec) else part.likelihood.kind
        weight = "given" if part.weight is None else f"{part.weight:g}"
        rows.append([as_markdown(name), "x".join(map(str, part.shape)) or "one value", kind, weight])
    lines = [
        "---\nlibrary_name: mvae\ntags: [multimodal, variational-autoencoder, missing-data]\n---\n",
        f"# {as_markdown(spec.data.source or 'A run on rows from Python')}, {as_markdown(method)}\n",
        f"A multimodal variational autoencoder ({as_markdown(method)}, {spec.model.latent_dim} latent dimensions) of"
        f" {len(rows)} modalities, trained with mvae {__version__} for {len(metrics.get('history', []))} epochs"
        f" (seed {spec.training.seed}).\n",
        markdown_table(["modality", "shape", "likelihood", "weight"], rows) + "\n",
        *_columns(spec),
        *_scores(folder, kept),
        f'## Use\n\n```python\nimport mvae\n\nmodel = mvae.load("this folder, or its zip"{loaded})\n'
        "model.generate(None)\n```\n",
    ]
    return "\n".join(lines)


def _columns(spec: RunSpec) -> list[str]:
    if spec.data.table is None:
        return []
    columns = spec.data.table.columns
    rows = [[as_markdown(part) for part in (n, c.kind, getattr(c, "why", ""))] for n, c in columns.items()]
    table = markdown_table(["column", "kind", ""], rows)
    return [f"## Columns\n\n{table}\n", "`mvae impute` fills missing cells of a table with these columns.\n"]


def _scores(folder: Path, kept: dict[str, Any]) -> list[str]:
    elbo = kept.get(ELBO)
    lines = [] if elbo is None else [f"Validation ELBO of the epoch kept ({kept['epoch']}): {elbo:.2f} nats.\n"]
    if (folder / EVALUATION).exists():
        report = checked_json(Scores, folder / EVALUATION)
        for score in report["log_likelihood"]:
            if score.get("nats") is not None:
                given = f" given {', '.join(score['given'])}" if score["given"] else ""
                name = as_markdown(f"log p({', '.join(score['targets'])}{given})")
                lines.append(f"- {name}: {score['nats']:.2f} nats a row")
        for score in report["accuracy"]:
            name = as_markdown(f"accuracy of {score['target']} from {', '.join(score['given'])}")
            lines.append(f"- {name}: {100 * score['accuracy']:.1f} %")
        lines.append(f"\nOn {report['split']} rows, {report['samples']} importance samples.\n")
    return ["## Scores\n", *lines] if lines else []


def _programs(model: MultimodalVAE, folder: Path) -> list[str]:
    folder.mkdir()
    names = []
    for name, modality in model.modalities.items():
        with torch.no_grad():
            example = modality.decoder(torch.zeros(2, model.latent_dim)).sample()
        parts: dict[str, tuple[nn.Module, torch.Tensor]] = {"encoder": (modality.encoder, modality.as_read(example))}
        if isinstance(modality.decoder, Decoder):
            parts["decoder"] = modality.decoder.network, torch.zeros(2, model.latent_dim)
        for what, (network, inputs) in parts.items():
            rows = ({0: torch.export.Dim("rows")},)
            program = torch.export.export(network.eval(), (inputs,), dynamic_shapes=rows)
            file = f"{name.replace('/', '_')}.{what}.pt2"
            torch.export.save(program, folder / file)
            names.append(file)
    shapes = {name: list(variable.shape) for name, variable in model.variables.items()}
    (folder / "shapes.json").write_text(json.dumps(shapes, indent=2), encoding="utf-8")
    return [*names, "shapes.json"]


def as_markdown(text: object) -> str:
    """A text, such as a name from a table, as Markdown that shows it: no link, HTML or end of a cell is in it."""
    marks = r"[&<>\[\]`|*~#@\\]|:(?=//)|(?<![^\W_])_|_(?![^\W_])|(?<=www)\."
    return re.sub(marks, lambda mark: f"&#{ord(mark[0])};", " ".join(str(text).split()))


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; columns after the first that hold numbers only are aligned to the right."""
    numeric = [all(not row[column] or row[column][0] in "+-0123456789" for row in rows) for column in range(len(head))]
    lines = [head, ["---", *("---:" if number else "---" for number in numeric[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
