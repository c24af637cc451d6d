"""What every model here has in common: encode once, decode once, a posterior given any modalities, generation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from mvae.batch import Batch
from mvae.experts import Experts, product_of_experts
from mvae.modality import Modality, Variable
from mvae.models.names import as_names, module_name
from mvae.models.objective import Objective
from mvae.models.parts import Parts
from mvae.networks.bank import Bank, Banked, banks_of
from mvae.option import Option
from mvae.posteriors import Gaussian, Posterior

__all__ = ["MultimodalVAE", "Objective", "as_names"]


class MultimodalVAE(Banked, ABC):
    """A joint distribution p(z) prod_i p(x_i | z) over modalities, z ~ N(0, I), with an inference network.

    A method is a subclass that says what it minimises (`loss`) and, where its posterior is no product of experts with
    the prior, overrides `posteriors`.

    Args:
        modalities: name to `Modality`, in the order in which tables list them. A `Condition` among them is a modality
            that the model is given and has no distribution of.
        latent_dim: D, the dimension of z.

    Raises:
        ValueError: if there is no modality, a modality was built for another D, or there are conditions and the
            method takes none.
    """

    takes_conditions = False
    """Whether some of what the model reads may be a `Condition`."""
    needs_complete_rows = False
    """Whether it learns only from rows that have everything."""
    num_stages = 1
    """Into how many parts, of equally many epochs, the method's training falls."""
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
                raise ValueError(
                    f"{type(self).__name__} takes no conditions; '{name}' is one, or its networks take some"
                )
        self.names = tuple(modalities)
        self.latent_dim = latent_dim
        self._modalities = nn.ModuleDict({module_name(name): modality for name, modality in modalities.items()})
        self._encoders = banks_of({name: modality.encoder for name, modality in self.modalities.items()})
        self._decoders = banks_of({name: modality.decoder for name, modality in self.modalities.items()})
        self._shapes = {name: variable.shape for name, variable in modalities.items()}
        self._place = {name: number for number, name in enumerate(self.names)}
        self.register_buffer("_anchor", torch.empty(0), persistent=False)  # is where the parameters are

    @property
    def _banks(self) -> list[Bank]:
        return [*self._encoders, *self._decoders]

    @property
    def variables(self) -> dict[str, Variable]:
        """All that the model reads, by name: modalities and conditions."""
        return dict(zip(self.names, self._modalities.values(), strict=True))  # type: ignore[arg-type]

    @property
    def modalities(self) -> dict[str, Modality]:
        """The modalities by name: what the model has a distribution of."""
        return {name: variable for name, variable in self.variables.items() if isinstance(variable, Modality)}

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of what the model must be given, e.g. the CVAE's label."""
        return tuple(name for name, variable in self.variables.items() if not isinstance(variable, Modality))

    @property
    def inference_networks(self) -> list[nn.Module]:
        """The networks behind q(z | .), whose parameters the paper's Table 1 counts."""
        return [modality.encoder for modality in self.modalities.values()]

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self._anchor.device  # type: ignore[return-value]

    @property
    def dtype(self) -> torch.dtype:
        """The type of the parameters, and so of z."""
        return self._anchor.dtype  # type: ignore[return-value]

    @abstractmethod
    def loss(self, batch: Batch, beta: float = 1.0) -> Objective:
        """The training objective on a batch.

        Args:
            batch: B rows; modalities may be absent in any pattern.
            beta: weight of the KL terms (Eq. 1), annealed from 0 to 1 in training.
        """

    def enter_stage(self, stage: int) -> None:
        """Get ready for a stage of training, counted from 0; called at the start of each epoch."""

    def usable(self, batch: Batch) -> Tensor:
        """Which rows `[B]` this method learns from: those that have everything, or anything where that is enough."""
        present = batch.presence(self.names)
        return present.all(1) if self.needs_complete_rows else present.any(1)

    # Inference

    def encode(self, batch: Batch, names: str | Iterable[str] | None = None) -> Experts:
        """One expert a modality: every encoder runs once, on the rows that have its modality.

        Args:
            batch: B rows.
            names: use only these modalities; all the model's where None.

        Returns:
            Experts over all N modalities of the model, in its order.
        """
        self._expect(batch)
        wanted = set(self.names if names is None else self._known(names))
        means, log_variances, order = [], [], []
        for bank in self._encoders:
            some = [name for name in bank.modules if name in wanted and name in batch.values]
            encoded = bank.encode(batch, some, self.latent_dim) if some else None
            if encoded is not None:
                means.append(encoded[0])
                log_variances.append(encoded[1])
                order += some
        if len(order) < len(self.names):
            rest = [name for name in self.names if name not in order]
            zeros = torch.zeros(len(rest), len(batch), self.latent_dim, device=self.device, dtype=self.dtype)
            means.append(zeros)
            log_variances.append(zeros)
            order += rest
        mean, log_variance = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in (means, log_variances))
        if tuple(order) != self.names:
            place = {name: number for number, name in enumerate(order)}
            index = torch.tensor([place[name] for name in self.names], device=mean.device)
            mean, log_variance = mean[index], log_variance[index]
        table = batch.presence(self.names)
        if len(wanted) < len(self.names):
            table = table & torch.tensor([name in wanted for name in self.names], device=batch.device)
        return Experts(mean, log_variance, table)

    def posteriors(self, batch: Batch, subsets: Tensor) -> Posterior:
        """q(z | X_s) of many subsets at once: the product of their experts and the prior (paper, Eq. 4).

        Args:
            batch: B rows.
            subsets: boolean `[S, N]`. What a row lacks counts as left out; a row left with nothing gets the prior.

        Returns:
            Distributions of z of batch shape `[S, B]`.
        """
        return Gaussian(*product_of_experts(*self._experts(batch, subsets)))

    def q(self, batch: Batch, given: Iterable[str] | None = None) -> Posterior:
        """As `posterior`, of a batch as `checked` or `read` gives it and names of the model: nothing is checked."""
        table = [[given is None or name in given for name in self.names]]
        return self.posteriors(batch, torch.tensor(table))[0]

    def posterior(self, batch: Batch | Mapping[str, object], given: str | Iterable[str] | None = None) -> Posterior:
        """q(z | what is given and present).

        Args:
            batch: B rows, or a mapping of values as `generate` takes it.
            given: names to condition on; all that is present where None. A row with none of them gets the prior.

        Returns:
            A distribution of z of batch shape `[B]`, most methods' a `Gaussian`.

        Raises:
            ValueError: on an unknown name, or a value outside its likelihood's support.
        """
        return self.q(self.checked(batch), None if given is None else self._known(given))

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
        return {name: modalities[name].decoder(z) for name in self._modelled(names)}

    @torch.no_grad()
    def draw_latent(self, given: Batch | Mapping[str, object] | None = None, num_samples: int = 1) -> Tensor:
        """Draw z given some modalities, or from the prior where None.

        Args:
            given: as for `generate`.
            num_samples: draws for each row.

        Returns:
            `[num_samples, B, D]`, as `decode` takes it: in a model with conditions, theirs stand beside z.

        Raises:
            ValueError: as `generate`.
        """
        if given is None:
            return self._decoder_input(
                None, torch.randn(num_samples, 1, self.latent_dim, device=self.device, dtype=self.dtype)
            )
        return self.draw_given(self.checked(given), num_samples)

    @torch.no_grad()
    def draw_given(self, batch: Batch, num_samples: int = 1) -> Tensor:
        """As `draw_latent`, of a batch as `checked` gives it, which is not checked again."""
        for name in self.conditions:
            if name in batch.present and not batch.present[name].all():
                row = int((~batch.present[name]).nonzero()[0])
                raise ValueError(f"row {row} lacks '{name}', which this model must be given")
        return self._decoder_input(batch, self.q(batch).sample((num_samples,)))

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
        drawn = {}
        for name, distribution in self.decode(self.draw_latent(given, num_samples), names).items():
            centre = "mode" if self.modalities[name].num_symbols else "mean"
            drawn[name] = getattr(distribution, centre) if mean else distribution.sample()
        return drawn

    # What losses and estimators are built from

    def class_logits(self, name: str, z: Tensor) -> Tensor:
        """log p(x_i = c | z) of each class c of a category, up to a constant: `[..., D]` to `[..., C]`."""
        (bank,) = (bank for bank in self._decoders if name in bank.modules)
        return bank.call(name, lambda decoder, z: decoder(z).logits, z)

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
        for names, owner, terms, values in self._term_likelihoods(batch, z, reconstruct, counts):
            sizes = owner.bincount(minlength=len(names)).tolist()
            yield from zip(names, terms.split(sizes), values.split(sizes), strict=True)

    def _term_likelihoods(
        self, batch: Batch, z: Tensor, reconstruct: Tensor, counts: Tensor | None
    ) -> Iterator[tuple[tuple[str, ...], Tensor, Tensor, Tensor]]:
        """As `log_likelihoods`, for all modalities of an architecture at once.

        Yields:
            Names; then, for the P pairs of a modality and a term that reconstructs it: the modality's number among the
            names `[P]`, ascending, the term `[P]`, and the values `[P, B]`.
        """
        z = self._decoder_input(batch, z)
        wanted = reconstruct.any(0).tolist()
        for bank in self._decoders:
            some = tuple(name for name in bank.modules if wanted[self._place[name]] and name in batch.values)
            if some:
                scored = bank.score(batch, some, z, reconstruct, [self._place[name] for name in some], counts)
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

        A mixture's is the stratified bound: each of its components is drawn from and is a term of its own, weighted as
        it is in the mixture, with log q(z) - log p(z) of the whole mixture for the divergence.

        Args:
            batch: B rows.
            posterior: q(z | .), of batch shape `[S, B]`.
            reconstruct: boolean `[S, N]`, which modalities each term reconstructs.
            counts: boolean `[S, B]`, which terms count for which row; all where None.
            beta: weight of the KL terms.
            free_nats: up to where a KL term costs nothing; `kl` and `elbo` are without it.
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
        """One-sample estimate of the ELBO of everything present: beta = 1, every lambda = 1 (paper, Eq. 2).

        Training keeps the epoch whose validation rows have the highest.

        Returns:
            `[B]`, in nats.
        """
        everything = torch.ones(1, len(self.names), dtype=torch.bool)
        return self.evidence(batch, self.posteriors(batch, everything), everything).elbo

    def check(self, batch: Batch) -> None:
        """Refuse a batch this model cannot read.

        Raises:
            ValueError: naming the modality, and the row of a value outside its likelihood's support.
        """
        self._known(batch.values)
        for name, values in batch.values.items():
            rows = batch.rows(name)
            self.variables[name].check(name, values if rows is None else values[rows], rows)

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
        known = self.variables
        return given.holding({name: known[name].as_read(value) for name, value in given.values.items()})

    def read(self, batch: Batch) -> Batch:
        """The batch in the types that the networks take; bytes become numbers from 0 to 1. Other names stay."""
        known, values = self.variables, dict(batch.values)
        unread = [name for name, value in values.items() if name in known and not known[name].is_read(value)]
        if not unread:
            return batch
        values |= {name: known[name].as_read(values[name]) for name in unread}
        return batch.holding(values)

    def _decoder_input(self, batch: Batch | None, z: Tensor) -> Tensor:
        """What the decoders take: z, and in a model with conditions those of each row beside it."""
        return z

    def _complete(self, batch: Batch) -> Batch:
        """The rows that have everything, which is all that some methods learn from."""
        self._expect(batch)
        whole = self.usable(batch)
        if not whole.any():
            raise ValueError(f"{type(self).__name__} learns from rows with {', '.join(self.names)}; the batch has none")
        return batch if whole.all() else batch[whole]

    def _with_whole_rows(
        self,
        single: tuple[Tensor, Tensor],
        batch: Batch,
        subsets: Tensor,
        encode: Callable[[Batch], tuple[Tensor, Tensor]],
    ) -> Gaussian:
        """`single`, of `[S, B, D]`, with what a network of everything gives where all is given and present."""
        whole = self.usable(batch)
        known = subsets.all(1).to(whole.device).unsqueeze(1) & whole  # [S, B]
        if not known.any():
            return Gaussian(*single)
        row = (whole.cumsum(0) - 1).expand(known.shape)[known]
        mean, log_variance = (
            old.index_put((known,), new[row].to(old.dtype))
            for old, new in zip(single, encode(batch[whole]), strict=True)
        )
        return Gaussian(mean, log_variance)

    def _expect_two(self) -> None:
        if len(self.names) != 2:
            raise ValueError(
                f"{type(self).__name__} has two modalities, got {', '.join(self.names)}; a network for each subset of"
                " more would be needed (the MVAE needs none)"
            )

    def _experts(self, batch: Batch, subsets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """What products of experts take: means, log variances, subsets and presence, None where rows are whole."""
        used = [name for name, some in zip(self.names, subsets.any(0).tolist(), strict=True) if some]
        mean, log_variance, present = self.encode(batch, used)
        whole = len(used) == len(self.names) and batch.has_all(self.names)
        return mean, log_variance, subsets, None if whole else present

    def _expect(self, batch: Batch) -> None:
        """Refuse names that the model does not have, and other shapes than theirs."""
        for name, shape in batch.shapes.items():
            if self._shapes.get(name) != shape:
                self._known([name])
                self.variables[name].check_shape(name, shape)

    def _rows_of(self, name: str, value: object) -> object:
        """One observation becomes a batch of one; a sequence of observations stays."""
        shape = self.variables[name].shape
        if isinstance(value, Sequence) and not isinstance(value, str):
            return value
        tensor = torch.as_tensor(value)
        return tensor.unsqueeze(0) if tuple(tensor.shape) == shape else tensor

    def _modelled(self, names: str | Iterable[str] | None) -> tuple[str, ...]:
        modalities = self.modalities
        if names is None:
            return tuple(modalities)
        for name in self._known(names):
            if name not in modalities:
                raise ValueError(
                    f"'{name}' is what this model is given; it has a distribution of {', '.join(modalities)}"
                )
        return as_names(names)

    def _known(self, names: str | Iterable[str]) -> tuple[str, ...]:
        names = as_names(names)
        for name in names:
            if name not in self.names:
                raise ValueError(f"unknown modality '{name}'; this model has {', '.join(self.names)}")
        return names
