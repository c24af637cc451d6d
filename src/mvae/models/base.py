"""What every model here has in common: encode once, decode once, a posterior given any modalities, generation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from mvae.data.batch import Batch
from mvae.experts import Experts, kl_to_prior, product_of_experts
from mvae.modality import Modality

__all__ = ["MultimodalVAE", "Objective", "as_names"]


class Objective(NamedTuple):
    """What a training step minimises, and what it is made of. All in nats."""

    loss: Tensor
    """Scalar: minus the mean over the batch of each row's summed terms."""
    terms: Tensor
    """`[S, B]`, the weighted ELBO terms; those that a row does not train are 0."""
    log_likelihood: dict[str, Tensor]
    """For each modality, the unweighted log p(x_i | z) of the terms that reconstruct it, `[S_i, B]`, 0 where absent;
    its first row belongs to the joint term."""
    kl: Tensor
    """`[S, B]`, the divergence of each term's posterior from the prior."""

    @property
    def elbo(self) -> Tensor:
        """`[B]`: the joint term with beta = 1 and every lambda = 1, a lower bound on log p(everything present)."""
        return sum((values[0] for values in self.log_likelihood.values()), start=-self.kl[0])


class MultimodalVAE(nn.Module, ABC):
    """A joint distribution p(z) prod_i p(x_i | z) over modalities, z ~ N(0, I), with an inference network.

    A method is a subclass that says what it minimises (`loss`) and, where its posterior is no product of experts,
    overrides `posterior`.

    Args:
        modalities: name to `Modality`, in the order in which tables list them.
        latent_dim: D, the dimension of z.

    Raises:
        ValueError: if there is no modality or a modality was built for another D.
    """

    def __init__(self, modalities: Mapping[str, Modality], latent_dim: int) -> None:
        super().__init__()
        if not modalities:
            raise ValueError("a model needs at least one modality")
        for name, modality in modalities.items():
            if modality.latent_dim != latent_dim:
                raise ValueError(f"modality '{name}' has latent_dim {modality.latent_dim}, the model {latent_dim}")
        self.names = tuple(modalities)
        self.latent_dim = latent_dim
        self._modalities = nn.ModuleDict({_module_name(name): modality for name, modality in modalities.items()})

    @property
    def modalities(self) -> dict[str, Modality]:
        """The modalities by name."""
        return dict(zip(self.names, self._modalities.values(), strict=True))  # type: ignore[arg-type]

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @abstractmethod
    def loss(self, batch: Batch, beta: float = 1.0) -> Objective:
        """The training objective on a batch.

        Args:
            batch: B rows; modalities may be absent in any pattern.
            beta: weight of the KL terms (Eq. 1), annealed from 0 to 1 in training.
        """

    # Inference

    def encode(self, batch: Batch, names: str | Iterable[str] | None = None) -> Experts:
        """One expert a modality: every encoder runs once, on the rows that have its modality.

        Args:
            batch: B rows.
            names: use only these modalities; all the model's where None.

        Returns:
            Experts over all N modalities of the model, in its order.
        """
        names = self.names if names is None else self._known(names)
        size = (len(batch), self.latent_dim)
        means, log_variances, present = [], [], []
        for name, modality in self.modalities.items():
            rows = batch.rows(name) if name in names else _NO_ROWS
            if rows is None:
                mean, log_variance = modality.encoder(batch.values[name])
            elif not len(rows):
                mean = log_variance = torch.zeros(size, device=self.device)
            else:
                some_mean, some_log_variance = modality.encoder(batch.values[name][rows])
                mean = some_mean.new_zeros(size).index_copy(0, rows, some_mean)
                log_variance = some_mean.new_zeros(size).index_copy(0, rows, some_log_variance)
            means.append(mean)
            log_variances.append(log_variance)
            present.append(name in names)
        table = batch.presence(self.names) & torch.tensor(present, device=batch.device)
        return Experts(torch.stack(means), torch.stack(log_variances), table)

    def posterior(self, batch: Batch | Mapping[str, object], given: str | Iterable[str] | None = None) -> Normal:
        """q(z | what is given and present): the product of these experts and the prior (paper, Eq. 4).

        Args:
            batch: B rows, or a mapping of values as `generate` takes it.
            given: names to condition on; all that is present where None. A row with none of them gets the prior.

        Returns:
            A Normal of shape `[B, D]`.

        Raises:
            ValueError: on an unknown name, or a value outside its likelihood's support.
        """
        batch = self.checked(batch)
        mean, log_variance, present = self.encode(batch, given)
        everything = torch.ones(1, len(self.names), dtype=torch.bool)
        (mean,), (log_variance,) = product_of_experts(mean, log_variance, everything, present)
        return Normal(mean, (0.5 * log_variance).exp(), validate_args=False)

    # Generation

    def decode(self, z: Tensor, names: str | Iterable[str] | None = None) -> dict[str, Distribution]:
        """p(x_i | z) of each named modality.

        Args:
            z: `[..., D]`.
            names: all modalities where None.

        Returns:
            Name to a Distribution whose batch shape is that of z without its last dimension.
        """
        modalities = self.modalities
        return {name: modalities[name].decoder(z) for name in self._known(self.names if names is None else names)}

    @torch.no_grad()
    def generate(
        self,
        given: Batch | Mapping[str, object] | None = None,
        names: str | Iterable[str] | None = None,
        num_samples: int = 1,
        mean: bool = False,
    ) -> dict[str, Tensor]:
        """Draw z given some modalities (or nothing), then the named modalities given z.

        Args:
            given: a batch of B rows, or a mapping like `{"label": 7}`: one observation or a sequence of B of them. z
                is drawn from the prior where None, and B = 1.
            names: what to generate; all modalities where None.
            num_samples: draws of z for each row.
            mean: return the mean of p(x_i | z) (of a categorical, its most likely class) in place of a draw.

        Returns:
            Name to tensor `[num_samples, B, *shape]`.

        Raises:
            ValueError: on an unknown name, or a given value outside its likelihood's support.
        """
        if given is None:
            z = torch.randn(num_samples, 1, self.latent_dim, device=self.device)
        else:
            z = self.posterior(given).sample((num_samples,))
        drawn = {}
        for name, distribution in self.decode(z, names).items():
            centre = "mode" if self.modalities[name].num_classes else "mean"
            drawn[name] = getattr(distribution, centre) if mean else distribution.sample()
        return drawn

    # What losses and estimators are built from

    def log_likelihoods(
        self, batch: Batch, z: Tensor, reconstruct: Tensor, counts: Tensor | None = None
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """log p(x_i | z_s) of each modality in the terms that reconstruct it: every decoder runs once.

        The rows (s, b) of a modality are stacked: the terms s that reconstruct it, the rows b that have it.

        Args:
            batch: B rows.
            z: `[S, B, D]`, one draw a term and row.
            reconstruct: boolean `[S, N]`, which modalities each term reconstructs.
            counts: boolean `[S, B]`, which terms count for which row; all where None.

        Yields:
            For each modality that some term reconstructs: its name, those terms `[S_i]` (ascending), and the values
            `[S_i, B]`, 0 where the modality is absent or the term does not count.
        """
        for index, (name, modality) in enumerate(self.modalities.items()):
            terms = reconstruct[:, index].nonzero().flatten().to(z.device)
            present = batch.rows(name)
            if not len(terms) or (present is not None and not len(present)):
                continue
            drawn = z if len(terms) == len(z) else z[terms]
            if present is None and counts is None:
                yield name, terms, modality.decoder(drawn).log_prob(batch.values[name])
                continue
            keep = batch.present[name] if counts is None else batch.present[name] & counts[terms]
            term, row = keep.expand(len(terms), -1).nonzero(as_tuple=True)
            some = modality.decoder(drawn[term, row]).log_prob(batch.values[name][row])
            yield name, terms, some.new_zeros(len(terms), len(batch)).index_put((term, row), some)

    def elbo(self, batch: Batch) -> Tensor:
        """One-sample estimate of the ELBO of everything present: beta = 1, every lambda = 1 (paper, Eq. 2).

        Returns:
            `[B]`, in nats.
        """
        mean, log_variance, present = self.encode(batch)
        everything = torch.ones(1, len(self.names), dtype=torch.bool)
        mean, log_variance = product_of_experts(mean, log_variance, everything, present)
        z = Normal(mean, (0.5 * log_variance).exp(), validate_args=False).rsample()
        bound = -kl_to_prior(mean, log_variance)[0]
        for _, _, values in self.log_likelihoods(batch, z, everything):
            bound = bound + values[0]
        return bound

    def check(self, batch: Batch) -> None:
        """Refuse a batch this model cannot read.

        Raises:
            ValueError: naming the modality, and the row of a value outside its likelihood's support.
        """
        self._known(batch.values)
        for name, values in batch.values.items():
            rows = batch.rows(name)
            self.modalities[name].check(name, values if rows is None else values[rows], rows)

    def checked(self, given: Batch | Mapping[str, object]) -> Batch:
        """The door: a batch that this model can read, on its device and in the types its networks take.

        Args:
            given: a batch, or a mapping of values as `generate` takes it.

        Raises:
            ValueError: as `check`.
        """
        if not isinstance(given, Batch):
            self._known(given)
            given = Batch.of({name: self._rows_of(name, value) for name, value in given.items()})
        given = given.to(self.device)
        self.check(given)
        modalities = self.modalities
        return Batch({name: modalities[name].as_read(value) for name, value in given.values.items()}, given.present)

    def _rows_of(self, name: str, value: object) -> object:
        """One observation becomes a batch of one; a sequence of observations stays."""
        shape = self.modalities[name].shape
        if isinstance(value, Sequence) and not isinstance(value, str):
            return value
        tensor = torch.as_tensor(value)
        return tensor.unsqueeze(0) if tuple(tensor.shape) == shape else tensor

    def _known(self, names: str | Iterable[str]) -> tuple[str, ...]:
        names = as_names(names)
        for name in names:
            if name not in self.names:
                raise ValueError(f"unknown modality '{name}'; this model has {', '.join(self.names)}")
        return names


def as_names(names: str | Iterable[str]) -> tuple[str, ...]:
    """Names as a tuple; a single one may be given as it is.

    Example:
        >>> as_names("label"), as_names(["image", "label"])
        (('label',), ('image', 'label'))
    """
    return (names,) if isinstance(names, str) else tuple(names)


_NO_ROWS = torch.zeros(0, dtype=torch.long)


def _module_name(name: str) -> str:
    """A modality's name as torch allows a module to be called: any name works, and no two collide."""
    escaped = quote(name, safe=" ").replace(".", "%2E")
    return escaped + "%" if hasattr(nn.ModuleDict(), escaped) or not escaped else escaped
