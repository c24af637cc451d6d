"""MVAE: a product-of-experts posterior, trained on sub-sampled ELBO terms (Wu & Goodman, NeurIPS 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch

from mvae.batch import Batch
from mvae.modality import Modality
from mvae.models.base import MultimodalVAE, Objective
from mvae.option import Option
from mvae.subsets import distinct_terms, draw_subsets

__all__ = ["MVAE"]


class MVAE(MultimodalVAE):
    r"""The multimodal VAE of the paper.

    For a row with modalities X, a step maximises the sum over its distinct subsets X_s among the joint, each single
    and k random others (Eq. 5) of

    .. math:: \mathbb E_{q(z \mid X_s)}\Big[\sum_{i \in R_s} \lambda_i \log p(x_i \mid z)\Big]
              - \beta\, \mathrm{KL}\big[q(z \mid X_s), p(z)\big],
              \qquad q(z \mid X_s) \propto p(z) \prod_{i \in s} \tilde q(z \mid x_i) .

    With `reconstruct="given"`, R_s = s and this is Eq. 2 as the paper writes it. With `"present"`, R_s is everything
    the row has: each term is then (at lambda = beta = 1) a lower bound on the joint log-likelihood, and q(z | x_1) also
    learns to decode x_2. With names, R_s is s and these, where the row has them: with `["label"]`, q(z | image) learns
    to decode the label, while q(z | label) need not find one z for all images of a class.

    Args:
        random_subsets: k, random subsets a step beside the joint and the singles.
        reconstruct: what a term reconstructs: `"given"`, `"present"`, or what it is given and these modalities.
        free_nats: a divergence from the prior up to this costs nothing in training, so that z is used even where a
            strong decoder could do without (free bits, Kingma et al. 2016).
    """

    options: ClassVar = {
        "random_subsets": Option(
            "random subsets a step beside the joint and the singles (k of Eq. 5)",
            int,
            least=0,
            metavar="K",
            said="k = {}",
            unsaid=0,
        ),
        "reconstruct": Option(
            "what each ELBO term reconstructs: what it is 'given' (Eq. 2), all that is 'present', or what it is given"
            " and these modalities",
            Literal["given", "present"] | list[str],
            metavar="WHAT",
            said=lambda what: (
                f"each term reconstructs what is {what if isinstance(what, str) else 'given and ' + ', '.join(what)}"
            ),
            names_modalities=True,
        ),
        "free_nats": Option(
            "a divergence from the prior up to this costs nothing (free bits)", float, least=0, said="{} free nats"
        ),
    }

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        latent_dim: int,
        random_subsets: int = 0,
        reconstruct: Literal["given", "present"] | Sequence[str] = "given",
        free_nats: float = 0.0,
    ) -> None:
        super().__init__(modalities, latent_dim)
        if not free_nats >= 0:
            raise ValueError(f"free_nats: expected a number of at least 0, got {free_nats}")
        self.free_nats = free_nats
        if random_subsets < 0:
            raise ValueError(f"random_subsets: expected a number of at least 0, got {random_subsets}")
        if isinstance(reconstruct, str) and reconstruct not in ("given", "present"):
            raise ValueError(f"reconstruct: expected 'given', 'present' or a list of names, got '{reconstruct}'")
        always = {"given": (), "present": self.names}.get(reconstruct) if isinstance(reconstruct, str) else reconstruct
        always = self.known(always or ())
        self.random_subsets, self.reconstruct = random_subsets, reconstruct
        self._always = torch.tensor([name in always for name in self.names])

    def loss(self, batch: Batch, beta: float = 1.0) -> Objective:
        given = draw_subsets(len(self.names), self.random_subsets)
        complete = batch.has_all(self.names)
        counts = None if complete else distinct_terms(given, batch.presence(self.names))
        return self.evidence(batch, self.posteriors(batch, given), given | self._always, counts, beta, self.free_nats)
