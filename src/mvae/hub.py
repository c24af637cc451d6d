"""Runs on the Hugging Face Hub. Only data is exchanged: a run from elsewhere is loaded without running code from it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from mvae.config.folder import load
from mvae.export import CARD, EXCHANGED, export
from mvae.files import reserved, scratch
from mvae.optional import imported

__all__ = ["pull", "push"]


def push(run: str | Path, repository: str, private: bool = False) -> str:
    """Put a run on the Hugging Face Hub, as `export` writes it.

    Args:
        run: folder of a trained run.
        repository: its name there, `user/name`; created if it does not exist.
        private: whether a repository that is created is private.

    Returns:
        The address of the upload.

    Raises:
        ValueError: if the run is not trained, or the package `huggingface_hub` is missing.
    """
    hub = _hub()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        export(run, folder)
        hub.create_repo(repository, private=private, exist_ok=True)
        return str(hub.upload_folder(repo_id=repository, folder_path=str(folder), commit_message="A run of mvae"))


def pull(repository: str, out: str | Path) -> Path:
    """Download configuration, weights, scores and card of a run on the Hugging Face Hub, `user/name`, to a new folder.

    Returns:
        The folder, for `mvae.load`.

    Raises:
        ValueError: if `out` exists, the repository is not a run, or the package `huggingface_hub` is missing.
    """
    path = Path(out)
    hub = _hub()
    with reserved(path), scratch(path) as temporary:
        folder = temporary / "run"
        hub.snapshot_download(repository, local_dir=str(folder), allow_patterns=[*EXCHANGED, CARD])
        load(folder)
        shutil.rmtree(folder / ".cache", ignore_errors=True)
        folder.replace(path)
    return path


def _hub() -> Any:
    return imported("huggingface_hub", "runs on the Hub", "hub").HfApi()
