"""Multimodal variational autoencoders: one joint distribution over several kinds of data, any of them missing."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Batch": "mvae.batch",
    "Dataset": "mvae.data.dataset",
    "CVAE": "mvae.models.cvae",
    "BiVCCA": "mvae.models.bivcca",
    "JMVAE": "mvae.models.jmvae",
    "MMVAE": "mvae.models.mmvae",
    "MVAE": "mvae.models.mvae",
    "MVAEQ": "mvae.models.mvae_q",
    "TELBO": "mvae.models.telbo",
    "VAE": "mvae.models.vae",
    "Modality": "mvae.modality",
    "SOURCES": "mvae.data.sources",
    "classify": "mvae.evaluation.classification",
    "embed": "mvae.tables.answers",
    "fit": "mvae.training.fit",
    "impute": "mvae.tables.answers",
    "inspect": "mvae.tables.inspect",
    "load": "mvae.config.folder",
    "load_dataset": "mvae.data.sources",
    "log_likelihood": "mvae.evaluation.likelihood",
    "open_shards": "mvae.data.shards",
    "score": "mvae.tables.answers",
    "train": "mvae.training.train",
}
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
    from mvae.models.bivcca import BiVCCA as BiVCCA
    from mvae.models.cvae import CVAE as CVAE
    from mvae.models.jmvae import JMVAE as JMVAE
    from mvae.models.mmvae import MMVAE as MMVAE
    from mvae.models.mvae import MVAE as MVAE
    from mvae.models.mvae_q import MVAEQ as MVAEQ
    from mvae.models.telbo import TELBO as TELBO
    from mvae.models.vae import VAE as VAE
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
