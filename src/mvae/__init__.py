"""Multimodal variational autoencoders: one joint distribution over several kinds of data, any of them missing."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES = {
    "mvae.batch": ["Batch"],
    "mvae.config.folder": ["load"],
    "mvae.data.dataset": ["Dataset"],
    "mvae.data.shards": ["open_shards"],
    "mvae.data.sources": ["SOURCES", "load_dataset"],
    "mvae.evaluation.classification": ["classify"],
    "mvae.evaluation.likelihood": ["log_likelihood"],
    "mvae.modality": ["Modality"],
    "mvae.models": ["CVAE", "JMVAE", "MMVAE", "MVAE", "MVAEQ", "TELBO", "VAE", "BiVCCA"],
    "mvae.tables.answers": ["embed", "impute", "score"],
    "mvae.tables.inspect": ["inspect"],
    "mvae.training.fit": ["fit"],
    "mvae.training.train": ["train"],
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOMES)  # noqa: PLE0605

if TYPE_CHECKING:
    from mvae.batch import Batch as Batch
    from mvae.config.folder import load as load
    from mvae.data.dataset import Dataset as Dataset
    from mvae.data.shards import open_shards as open_shards
    from mvae.data.sources import SOURCES as SOURCES
    from mvae.data.sources import load_dataset as load_dataset
    from mvae.evaluation.classification import classify as classify
    from mvae.evaluation.likelihood import log_likelihood as log_likelihood
    from mvae.modality import Modality as Modality
    from mvae.models import CVAE as CVAE
    from mvae.models import JMVAE as JMVAE
    from mvae.models import MMVAE as MMVAE
    from mvae.models import MVAE as MVAE
    from mvae.models import MVAEQ as MVAEQ
    from mvae.models import TELBO as TELBO
    from mvae.models import VAE as VAE
    from mvae.models import BiVCCA as BiVCCA
    from mvae.tables.answers import embed as embed
    from mvae.tables.answers import impute as impute
    from mvae.tables.answers import score as score
    from mvae.tables.inspect import inspect as inspect
    from mvae.training.fit import fit as fit
    from mvae.training.train import train as train


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import mvae` itself loads nothing heavy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mvae' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
