"""The models, one file each, and their registry."""

from mvae.models.base import MultimodalVAE, Objective
from mvae.models.mvae import MVAE

__all__ = ["METHODS", "MVAE", "MultimodalVAE", "Objective"]

METHODS: dict[str, type[MultimodalVAE]] = {"mvae": MVAE}
"""Methods by the name that `mvae fit --method` takes."""
