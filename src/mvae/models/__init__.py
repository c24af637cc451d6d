"""The models, one file each, and their registry."""

from mvae.models.base import MultimodalVAE, Objective, as_names
from mvae.models.mvae import MVAE

__all__ = ["METHODS", "MVAE", "MultimodalVAE", "Objective", "as_names"]

METHODS: dict[str, type[MultimodalVAE]] = {"mvae": MVAE}
"""Methods by the name that `mvae fit --method` takes."""
