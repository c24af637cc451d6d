"""The base of all models: encode once, decode once, a posterior given any modalities, generation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, Self
from urllib.parse import quote

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from mvae.batch import Batch
from mvae.experts import Experts, product_of_experts
from mvae.modality import Modality, Variable
from mvae.models.objective import Objective
from mvae.models.parts import Parts
from mvae.networks.bank import Banked, banks_of
from mvae.option import Option
from mvae.posteriors import Gaussian, Posterior
from mvae.seeds import Drawing

__all__ = ["MultimodalVAE", "Objective", "as_names"]


def as_names(names: str | Iterable[str]) -> tuple[str, ...]:
    """Names as a tuple; a single one may be given as it is.

    Example:
        >>> as_names("label"), as_names(["image", "label"])
        (('label',), ('image', 'label'))
    """
    return (names,) if isinstance(names, str) else tuple(names)


def module_name(name: str) -> str:
    """A modality's name as a valid name of a module in torch; no two collide."""
    escaped = quote(name, safe=" ").replace(".", "%2E")
    return escaped + "%" if hasattr(nn.ModuleDict(), escaped) or not escaped else escaped


class MultimodalVAE(Banked, ABC):
    """A joint distribution p(z) prod_i p(x_i | z) over modalities, z ~ N(0, I), with an inference network.

    A method is a subclass with its objective (`loss`) and, where its posterior is no product of experts with the prior,
    its `combine`, from experts to Gaussians, or its `posteriors`.

    Args:
        modalities: name to `Modality`, in the order in which tables list them, or to `Condition`: a modality that the
            model is given and does not model.
        latent_dim: D, the dimension of z, for which the modalities were built.
    """

    takes_conditions = False
    """Whether modalities may be conditions."""
    needs_complete_rows = False
    """Whether the method learns only from rows that have all modalities."""
    num_stages = 1
    """Number of stages of training, of equally many epochs."""
    combine = staticmethod(product_of_experts)
    """From the experts, a table of subsets and presence to the Gaussian q(z | X_s) of each subset."""
    options: ClassVar[Mapping[str, Option]] = {}
    """The method's own options by name; the defaults are the constructor's."""

    @classmethod
    def build(cls, parts: Parts, **options: Any) -> Self:
        """The model of all parts, with the method's own options."""
        return cls({name: parts.modality(name) for name in parts.names}, parts.latent_dim, **options)

    def __init__(self, modalities: Mapping[str, Variable], latent_dim: int) -> None:
        super().__init__()
        if not modalities:
            raise ValueError("a model needs at least one modality")
        for name, modality in modalities.items():
            if isinstance(modality, Modality) and modality.latent_dim != latent_dim:
                raise ValueError(f"modality '{name}' has latent_dim {modality.latent_dim}, the model {latent_dim}")
            if not self.takes_conditions and not (isinstance(modality, Modality) and not modality.condition_width):
                kind = type(self).__name__
                raise ValueError(f"{kind} takes no conditions; '{name}' is one, or its networks take some")
        self.names = tuple(modalities)
        self.latent_dim = latent_dim
        self._modalities = nn.ModuleDict({module_name(name): modality for name, modality in modalities.items()})
        self._encoders = banks_of({name: modality.encoder for name, modality in self.modalities.items()})
        self._decoders = banks_of({name: modality.decoder for name, modality in self.modalities.items()})
        self._banks = [*self._encoders, *self._decoders]
        self._shapes = {name: variable.shape for name, variable in modalities.items()}
        self._place = {name: number for number, name in enumerate(self.names)}
        self.register_buffer("_anchor", torch.empty(0), persistent=False)  # on the parameters' device, in their type

    @property
    def variables(self) -> dict[str, Variable]:
        """Modalities and conditions by name."""
        return dict(zip(self.names, self._modalities.values(), strict=True))  # type: ignore[arg-type]

    @property
    def modalities(self) -> dict[str, Modality]:
        """The modalities by name."""
        return {name: variable for name, variable in self.variables.items() if isinstance(variable, Modality)}

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions, e.g. the CVAE's label."""
        return tuple(name for name, variable in self.variables.items() if not isinstance(variable, Modality))

    @property
    def inference_networks(self) -> list[nn.Module]:
        """The networks of q(z | .), whose parameters the paper's Table 1 counts."""
        return [modality.encoder for modality in self.modalities.values()]

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self._anchor.device  # type: ignore[return-value]

    @property
    def dtype(self) -> torch.dtype:
        """The type of the parameters and of z."""
        return self._anchor.dtype  # type: ignore[return-value]

    @abstractmethod
    def loss(self, batch: Batch, beta: float = 1.0) -> Objective:
        """The training objective on a batch.

        Args:
            batch: B rows, in which modalities may be missing in any pattern.
            beta: weight of the KL terms (Eq. 1), annealed from 0 to 1 in training.

        Raises:
            ValueError: naming a modality that the model does not have, or one with values of another shape.
        """

    def enter_stage(self, stage: int) -> None:
        """Get ready for a stage of training, counted from 0; called at the start of each epoch."""

    def usable(self, batch: Batch) -> Tensor:
        """Which rows `[B]` this method learns from: complete rows, or those with any modality where that is enough."""
        present = batch.presence(self.names)
        return present.all(1) if self.needs_complete_rows else present.any(1)

    # Inference

    def encode(self, batch: Batch, names: str | Iterable[str] | None = None) -> Experts:
        """Experts of all N modalities, from one call of each encoder on the rows that have its modality.

        Args:
            batch: B rows.
            names: modalities to use; all where None.
        """
        self._expect(batch)
        wanted = set(self.names if names is None else self.known(names))
        order: list[str] = []
        parts: list[tuple[Tensor, Tensor]] = []
        for bank in self._encoders:
            some = [name for name in bank.modules if name in wanted and name in batch.values]
            encoded = bank.encode(batch, some, self.latent_dim) if some else None
            if encoded is not None:
                parts.append(encoded)
                order += some
        if rest := [name for name in self.names if name not in order]:
            zeros = torch.zeros(len(rest), len(batch), self.latent_dim, device=self.device, dtype=self.dtype)
            parts.append((zeros, zeros))
            order += rest
        mean, log_variance = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts, strict=True))
        if tuple(order) != self.names:
            place = {name: number for number, name in enumerate(order)}
            index = torch.tensor([place[name] for name in self.names], device=mean.device)
            mean, log_variance = mean[index], log_variance[index]
        table = batch.presence(self.names)
        if len(wanted) < len(self.names):
            table = table & torch.tensor([name in wanted for name in self.names], device=batch.device)
        return Experts(mean, log_variance, table)

    def posteriors(self, batch: Batch, subsets: Tensor) -> Posterior:
        """q(z | X_s) of batch shape `[S, B]`: by default products of experts with the prior (paper, Eq. 4).

        Args:
            batch: B rows.
            subsets: boolean `[S, N]`. Of each subset a row uses what it has; with nothing it gets the prior.
        """
        return Gaussian(*self.combine(*self._experts(batch, subsets)))

    def q(self, batch: Batch, given: Iterable[str] | None = None) -> Posterior:
        """`posterior` without checks, of a batch as `checked` or `read` returns it."""
        table = [[given is None or name in given for name in self.names]]
        return self.posteriors(batch, torch.tensor(table))[0]

    def posterior(self, batch: Batch | Mapping[str, object], given: str | Iterable[str] | None = None) -> Posterior:
        """q(z | what is given and observed), of batch shape `[B]`; most methods' is a `Gaussian`.

        Args:
            batch: B rows, or a mapping of values as `generate` takes it.
            given: names to condition on; all where None. A row with none of them gets the prior.

        Raises:
            ValueError: on an unknown name, or a value outside its likelihood's support.
        """
        return self.q(self.checked(batch), None if given is None else self.known(given))

    # Generation

    def decode(self, z: Tensor, names: str | Iterable[str] | None = None) -> dict[str, Distribution]:
        """p(x_i | z) of each named modality (all where None), of batch shape `[...]`, given z `[..., D]`."""
        modalities = self.modalities
        names = tuple(modalities) if names is None else self.known(names)
        for name in names:
            if name not in modalities:
                models = ", ".join(modalities)
                raise ValueError(f"cannot generate '{name}': it is a condition of this model, which models {models}")
        return {name: modalities[name].decoder(z) for name in names}

    @torch.no_grad()
    def draw_latent(self, given: Batch | Mapping[str, object] | None = None, num_samples: int = 1) -> Tensor:
        """Draws of z, `[num_samples, B, D]`, for `decode`; arguments and errors as of `generate`.

        In a model with conditions their numbers follow those of z.
        """
        if given is None:
            z = torch.randn(num_samples, 1, self.latent_dim, device=self.device, dtype=self.dtype)
            return self._decoder_input(None, z)
        return self.draw_given(self.checked(given), num_samples)

    @torch.no_grad()
    def draw_given(self, batch: Batch, num_samples: int = 1) -> Tensor:
        """`draw_latent` of a batch as `checked` returns it."""
        for name in self.conditions:
            if name in batch.present and not batch.present[name].all():
                row = int((~batch.present[name]).nonzero()[0])
                raise ValueError(f"row {row} lacks '{name}', a condition of this model")
        return self._decoder_input(batch, self.q(batch).sample((num_samples,)))

    @torch.no_grad()
    def generate(
        self,
        given: Batch | Mapping[str, object] | None = None,
        names: str | Iterable[str] | None = None,
        num_samples: int = 1,
        mean: bool = False,
        seed: int | None = None,
    ) -> dict[str, Tensor]:
        """Draw z given some modalities (or nothing), then the named modalities given z.

        Args:
            given: a batch of B rows, or a mapping like `{"label": 7}` to one observation or a sequence of B. Where
                None, z is drawn from the prior, and B = 1.
            names: what to generate; all modalities where None.
            num_samples: draws of z for each row.
            mean: return the mean of p(x_i | z), or the most likely class, in place of a draw.
            seed: of the draws, which are then the same in any thread; torch's global generator where None.

        Returns:
            Name to tensor `[num_samples, B, *shape]`.

        Raises:
            ValueError: on an unknown name, or a given value outside its likelihood's support.
        """
        drawn = {}
        with nullcontext() if seed is None else Drawing(seed, self.device):
            for name, distribution in self.decode(self.draw_latent(given, num_samples), names).items():
                centre = "mode" if self.modalities[name].num_symbols else "mean"
                drawn[name] = getattr(distribution, centre) if mean else distribution.sample()
        return drawn

    # Parts of losses and estimators

    def class_logits(self, name: str, z: Tensor) -> Tensor:
        """log p(x_i = c | z) of each class c of a category, up to a constant: `[..., D]` to `[..., C]`."""
        (bank,) = (bank for bank in self._decoders if name in bank.modules)
        return bank.call(name, lambda decoder, z: decoder(z).logits, z)

    def log_likelihoods(
        self, batch: Batch, z: Tensor, reconstruct: Tensor, counts: Tensor | None = None
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """log p(x_i | z_s) of each modality in the terms that reconstruct it, from one call of each decoder.

        Args:
            batch: B rows.
            z: `[S, B, D]`, one draw a term and row.
            reconstruct: boolean `[S, N]`, which modalities each term reconstructs.
            counts: boolean `[S, B]`, which terms count for which row; all where None.

        Yields:
            For each modality that some term reconstructs: its name, those terms `[S_i]` (ascending), and the values
            `[S_i, B]`, 0 where the modality is missing or the term does not count.
        """
        for names, owner, terms, values in self._term_likelihoods(batch, z, reconstruct, counts):
            sizes = owner.bincount(minlength=len(names)).tolist()
            yield from zip(names, terms.split(sizes), values.split(sizes), strict=True)

    def _term_likelihoods(
        self, batch: Batch, z: Tensor, reconstruct: Tensor, counts: Tensor | None
    ) -> Iterator[tuple[tuple[str, ...], Tensor, Tensor, Tensor]]:
        """`log_likelihoods` of modalities of one architecture at once: their names, and what `Bank.score` returns."""
        z = self._decoder_input(batch, z)
        wanted = reconstruct.any(0).tolist()
        for bank in self._decoders:
            some = tuple(name for name in bank.modules if wanted[self._place[name]] and name in batch.values)
            if some:
                scored = bank.score(batch, some, z, reconstruct[:, [self._place[name] for name in some]], counts)
                if scored is not None:
                    yield some, *scored

    def evidence(
        self,
        batch: Batch,
        posterior: Posterior,
        reconstruct: Tensor,
        counts: Tensor | None = None,
        beta: float = 1.0,
        free_nats: float = 0.0,
    ) -> Objective:
        """The ELBO terms of Eq. 2 under given posteriors, one draw of z each.

        A mixture has the stratified bound: one draw of each component, weighted as in the mixture, with the mixture's
        log q(z) - log p(z) in place of the divergence.

        Args:
            batch: B rows.
            posterior: q(z | .), of batch shape `[S, B]`.
            reconstruct: boolean `[S, N]`, which modalities each term reconstructs.
            counts: boolean `[S, B]`, which terms count for which row; all where None.
            beta: weight of the KL terms.
            free_nats: a KL term below this costs nothing; `kl` and `elbo` do without.

        Raises:
            ValueError: as `loss`.
        """
        self._expect(batch)
        strata, share = posterior.strata()
        z = strata.mean + strata.stddev * batch.drawn(torch.randn_like, strata.mean, dim=1)
        kl, subsets = posterior.divergences(z), len(reconstruct)
        if share is not None:
            reconstruct = reconstruct.repeat(len(share) // subsets, 1)
            inside = share > 0
            counts = inside if counts is None else inside & counts.repeat(len(share) // subsets, 1)
            counts = None if counts.all() else counts
        terms = -beta * (kl.clamp_min(free_nats) if free_nats else kl)
        kl = kl if share is None else (share * kl).unflatten(0, (-1, subsets)).sum(0)
        elbo = -kl[0]
        modalities = self.modalities
        log_likelihood: dict[str, Tensor] = {}
        for names, owner, rows, values in self._term_likelihoods(batch, z, reconstruct, counts):
            weights = values.new_tensor([modalities[name].weight for name in names])[owner].unsqueeze(1)
            terms = terms.index_add(0, rows, weights * values)
            if share is None:
                elbo = elbo + values[rows == 0].sum(0)
            else:
                elbo = elbo + (share[rows] * values)[rows % subsets == 0].sum(0)
            sizes = owner.bincount(minlength=len(names)).tolist()
            log_likelihood |= dict(zip(names, values.split(sizes), strict=True))
        terms = terms if share is None else share * terms
        if counts is not None:
            terms = torch.where(counts, terms, 0.0)
        return Objective(-terms.sum(0).mean(), terms, log_likelihood, kl, elbo)

    def elbo(self, batch: Batch) -> Tensor:
        """One-sample estimate of the ELBO of all that is observed, beta and every lambda 1 (Eq. 2): `[B]`, in nats.

        Training keeps the epoch whose validation rows have the highest.
        """
        return self._joint_bound(batch).elbo

    def _joint_bound(self, batch: Batch, beta: float = 1.0, counts: Tensor | None = None) -> Objective:
        """The one term that is given, and reconstructs, all that a row has."""
        everything = torch.ones(1, len(self.names), dtype=torch.bool)
        return self.evidence(batch, self.posteriors(batch, everything), everything, counts, beta)

    def check(self, batch: Batch) -> None:
        """Refuse a batch this model cannot read.

        Raises:
            ValueError: naming the modality, and the row of a value outside its likelihood's support.
        """
        self.known(batch.values)
        for name, values in batch.values.items():
            rows = batch.rows(name)
            self.variables[name].check(name, values if rows is None else values[rows], rows)

    def checked(self, given: Batch | Mapping[str, object]) -> Batch:
        """A batch, or a mapping as `generate` takes it, on the model's device in the types its networks read.

        Raises:
            ValueError: as `check`.
        """
        if not isinstance(given, Batch):
            self.known(given)
            given = Batch.of({name: self._rows_of(name, value) for name, value in given.items()})
        given = given.to(self.device)
        self.check(given)
        return self.read(given)

    def read(self, batch: Batch) -> Batch:
        """The batch in the types that the networks read; bytes become numbers from 0 to 1. Other names stay."""
        read = {n: variable.as_read(batch.values[n]) for n, variable in self.variables.items() if n in batch.values}
        changed = any(value is not batch.values[name] for name, value in read.items())
        return batch.holding({**batch.values, **read}) if changed else batch

    def _decoder_input(self, batch: Batch | None, z: Tensor) -> Tensor:
        """z, and in a model with conditions their numbers after it."""
        return z

    def _complete(self, batch: Batch) -> Batch:
        """The complete rows, from which alone some methods learn."""
        self._expect(batch)
        complete = self.usable(batch)
        if not complete.any():
            raise ValueError(f"{type(self).__name__} learns from rows with {', '.join(self.names)}; the batch has none")
        return batch if complete.all() else batch[complete]

    def _with_complete_rows(
        self,
        single: tuple[Tensor, Tensor],
        batch: Batch,
        subsets: Tensor,
        encode: Callable[[Batch], tuple[Tensor, Tensor]],
    ) -> Gaussian:
        """`single` `[S, B, D]`, replaced by what a network of all modalities gives where all are given and observed."""
        complete = self.usable(batch)
        known = subsets.all(1).to(complete.device).unsqueeze(1) & complete  # [S, B]
        if not known.any():
            return Gaussian(*single)
        row, encoded = (complete.cumsum(0) - 1).expand(known.shape)[known], encode(batch[complete])
        pairs = zip(single, encoded, strict=True)
        mean, log_variance = (old.index_put((known,), new[row].to(old.dtype)) for old, new in pairs)
        return Gaussian(mean, log_variance)

    def _expect_two(self) -> None:
        if len(self.names) != 2:
            kind, names = type(self).__name__, ", ".join(self.names)
            raise ValueError(
                f"{kind} has two modalities, got {names}; more need a network for each subset (the MVAE needs none)"
            )

    def _experts(self, batch: Batch, subsets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Arguments of products of experts: means, log variances, subsets, presence (None where rows are complete)."""
        used = [name for name, some in zip(self.names, subsets.any(0).tolist(), strict=True) if some]
        mean, log_variance, present = self.encode(batch, used)
        complete = len(used) == len(self.names) and batch.has_all(self.names)
        return mean, log_variance, subsets, None if complete else present

    def _expect(self, batch: Batch) -> None:
        """Refuse names that the model does not have, and other shapes than theirs."""
        for name, shape in batch.shapes.items():
            if self._shapes.get(name) != shape:
                self.known([name])
                self.variables[name].check_shape(name, shape)

    def _rows_of(self, name: str, value: object) -> object:
        """A sequence of observations as it is; one observation as a batch of one."""
        if isinstance(value, Sequence) and not isinstance(value, str):
            return value
        tensor = torch.as_tensor(value)
        return tensor.unsqueeze(0) if tuple(tensor.shape) == self.variables[name].shape else tensor

    def known(self, names: str | Iterable[str]) -> tuple[str, ...]:
        """The names as a tuple; a ValueError on one that is neither a modality nor a condition of this model."""
        names = as_names(names)
        for name in names:
            if name not in self.names:
                raise ValueError(f"unknown modality '{name}'; this model has {', '.join(self.names)}")
        return names
