"""The models, one file each, and their registry."""

from mvae.models.base import MultimodalVAE, Objective, as_names
from mvae.models.bivcca import BiVCCA
from mvae.models.cvae import CVAE
from mvae.models.jmvae import JMVAE
from mvae.models.mmvae import MMVAE
from mvae.models.mvae import MVAE
from mvae.models.mvae_q import MVAEQ
from mvae.models.telbo import TELBO
from mvae.models.vae import VAE

__all__ = [
    "CVAE",
    "JMVAE",
    "METHODS",
    "MMVAE",
    "MVAE",
    "MVAEQ",
    "TELBO",
    "VAE",
    "BiVCCA",
    "MultimodalVAE",
    "Objective",
    "as_names",
]

METHODS: dict[str, type[MultimodalVAE]] = {
    "mvae": MVAE,
    "mvae-q": MVAEQ,
    "vae": VAE,
    "cvae": CVAE,
    "bivcca": BiVCCA,
    "jmvae": JMVAE,
    "telbo": TELBO,
    "mmvae": MMVAE,
}
"""Methods by the name that `mvae fit --method` takes."""
