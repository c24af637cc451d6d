"""Log-likelihoods by importance sampling, for any model, modalities and missing values (paper, section 5)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mvae.batch import Batch
from mvae.models import MultimodalVAE, as_names
from mvae.posteriors import Posterior, log_prior
from mvae.seeds import seed_of

__all__ = ["LogLikelihood", "LogMoments", "conditional", "importance_draws", "log_likelihood", "marginal_likelihoods"]

GIBIBYTE = 2**30
LARGEST_CALL = 2**15
"""Most draws of one decoder call: more are no faster, and fall out of the processor's caches."""
PRIOR_SHARE = 0.25
"""Share of the draws that come from the prior. Half gives bounds up to 0.4 nats higher on trained models, and leaves
fewer draws to a q that is right: `results/benchmarks/proposals.json`."""
NOISE_BLOCK = 1000
"""Draws of a row that come from one seed: fixed, so that the numbers do not depend on the memory."""


@dataclass(frozen=True)
class LogLikelihood:
    """Estimates for B rows, in nats, as float64 `[B]` tensors on the CPU; NaN where all targets are missing."""

    value: Tensor
    """The log-likelihood."""
    standard_error: Tensor
    """Monte Carlo error of `value` (first order): it falls with the number of samples, while more rows do not help."""
    log_weight_variance: Tensor
    """Variance of log p(x, z) - log q(z | proposal) over draws from q alone, the paper's Table 3: the lower, the better
    the proposal."""
    effective_sample_size: Tensor
    """(sum w)^2 / sum w^2, between 1 and `num_samples`: near 1 the value is a bound rather than an estimate."""
    proposal: tuple[str, ...]
    """The modalities that q(z | .) was given; empty for the prior."""
    num_samples: int
    from_prior: int = 0
    """How many of the samples came from the prior in place of q."""

    def mean(self) -> float:
        """The average row's log-likelihood, in nats."""
        return self.value.nanmean().item()


@torch.inference_mode()
def log_likelihood(
    model: MultimodalVAE,
    batch: Batch,
    targets: str | Iterable[str],
    given: str | Iterable[str] = (),
    *,
    proposal: str | Iterable[str] | None = None,
    prior_share: float = PRIOR_SHARE,
    num_samples: int = 1000,
    denominator: Literal["importance", "prior"] = "importance",
    denominator_samples: int | None = None,
    memory: int = GIBIBYTE,
    seed: int = 0,
    progress: bool = False,
) -> LogLikelihood:
    r"""Estimate log p(targets | given) of each row, in nats.

    Without `given`, with :math:`z_k \sim r(z) = (1 - a)\, q(z \mid \text{proposal}) + a\, p(z)`,

    .. math:: \log p(x_T) \approx \log \tfrac 1 K \sum_k w_k,
              \qquad w_k = \frac{p(x_T \mid z_k)\, p(z_k)}{r(z_k)} .

    The share a of the prior (defensive importance sampling, Hesterberg 1995) keeps w below p(x_T | z) / a: a q that
    misses a part of p(z | x_T), as q(z | label) does, would give a number far too low whose error looks small.
    Exactly a K draws come from the prior, none where that would be fewer than two.

    With `given`, this estimate of log p(targets, given) minus one of log p(given): by importance sampling in the same
    way with q(z | given), or from the prior, :math:`\log \tfrac 1 K \sum_k p(x_G \mid z_k)`, as the paper does
    (section 5).
    A model of p(targets | given) itself, the CVAE, needs no second term: w_k has its own p(x_T | z, x_G).
    Modality weights play no part. The random numbers of a row depend on the seed and its place only, so
    that the answer is the same, up to rounding, whatever the memory allows.

    Args:
        model: any model.
        batch: B rows; each is scored on the targets, and conditioned on the given, that it has.
        targets: names to score.
        given: names to condition on.
        proposal: names that the proposal is given, of which a row uses those it has; `()` for the prior. Default:
            targets and given together. It says where samples come from, not what is scored.
        prior_share: a, from 0, for q alone, to below 1.
        num_samples: K.
        denominator: how log p(given) is estimated, `"importance"` or, the paper's, `"prior"`.
        denominator_samples: K of log p(given); `num_samples` where None. The paper takes 5,000.
        memory: bytes that the samples may take.
        seed: of the draws.
        progress: show a bar.

    Returns:
        The estimates; `log_weight_variance` and `effective_sample_size` are those of the first term.

    Raises:
        ValueError: on unknown or repeated names, no target, a value outside its support, a bad share, or fewer than 2
            samples.
    """
    targets, given = as_names(targets), as_names(given)
    if not targets or len({*targets, *given}) < len(targets + given):
        raise ValueError(f"expected targets and given to name each modality at most once, got {targets} and {given}")
    if denominator not in ("importance", "prior"):
        raise ValueError(f"denominator: expected 'importance' or 'prior', got '{denominator}'")
    for name in model.conditions:
        if name in targets:
            raise ValueError(f"this model is given '{name}' and has no likelihood of it")
        if name not in given:
            raise ValueError(f"this model has a likelihood given {', '.join(model.conditions)} only; add it to `given`")
    proposal = targets + given if proposal is None else as_names(proposal)
    known = tuple(name for name in given if name not in model.conditions)
    batch = model.checked(batch)
    how = memory, progress, prior_share
    (joint,) = _estimates(model, batch, [targets + known], proposal, num_samples, seed, *how)
    if known:
        second = known if denominator == "importance" else (), denominator_samples or num_samples, seed_of(seed, 1)
        joint = conditional(joint, *_estimates(model, batch, [known], *second, *how))
    has_target = batch.presence(targets).any(1).cpu()
    return replace(joint, value=joint.value.where(has_target, math.nan))


def conditional(joint: LogLikelihood, marginal: LogLikelihood) -> LogLikelihood:
    """log p(targets | given) from independent estimates of log p(targets, given) and log p(given).

    Variance of the weights, effective sample size and proposal are those of `joint`.
    """
    value = joint.value - marginal.value.nan_to_num(0.0)  # nothing given: log p() = 0
    error = (joint.standard_error.square() + marginal.standard_error.nan_to_num(0.0).square()).sqrt()
    return replace(joint, value=value, standard_error=error)


@torch.inference_mode()
def marginal_likelihoods(
    model: MultimodalVAE,
    batch: Batch,
    targets: Sequence[tuple[str, ...]],
    proposal: tuple[str, ...],
    num_samples: int = 1000,
    *,
    seed: int = 0,
    memory: int = GIBIBYTE,
    progress: bool = False,
) -> list[LogLikelihood]:
    """Log-likelihoods of several sets of targets, from the same draws of q alone: each modality is decoded once.

    Raises:
        ValueError: as `importance_draws`.
    """
    return _estimates(model, model.checked(batch), targets, proposal, num_samples, seed, memory, progress)


def _estimates(
    model: MultimodalVAE,
    batch: Batch,
    targets: Sequence[tuple[str, ...]],
    proposal: tuple[str, ...],
    count: int,
    *how: Any,
) -> list[LogLikelihood]:
    """`marginal_likelihoods` of a checked batch; `how` is seed, memory, progress and share of the prior."""
    scored = tuple(dict.fromkeys(name for names in targets for name in names))
    moments = [LogMoments(len(batch)) for _ in targets]
    for draws in importance_draws(model, batch, scored, proposal, count, *how):
        for moment, names in zip(moments, targets, strict=True):
            moment.add(draws.rows, draws.log_weights(names), draws.from_prior, draws.log_excess)
    conditioned = batch.presence(model.conditions).all(1) if model.conditions else True
    return [
        moment.estimate(proposal, count, missing=~(batch.presence(names).any(1) & conditioned).cpu())
        for moment, names in zip(moments, targets, strict=True)
    ]


class LogMoments:
    """Running sums over draws of log weights w of each of B rows, from which an estimate and its quality come.

    Draws from q and from the prior are summed apart: as many of each as there are belong to the design, so that only
    what varies within each is an error.
    """

    def __init__(self, num_rows: int) -> None:
        # log of sums of w, w^2; of draws from q, then from the prior
        self.total, self.squares = torch.full((2, 2, num_rows), -math.inf, dtype=torch.float64)
        self.counts = torch.zeros(2, num_rows, dtype=torch.long)
        self.shift = torch.zeros(num_rows, dtype=torch.float64)
        self.first, self.second = torch.zeros(2, num_rows, dtype=torch.float64)  # moments of log p / q - shift

    def add(
        self, rows: slice, log_weights: Tensor, from_prior: Tensor | None = None, log_excess: Tensor | None = None
    ) -> None:
        """Add `[k, b]` draws of these rows, as `Draws` has them; all from q where nothing else is said."""
        log_weights = log_weights.cpu()
        chosen = torch.zeros(len(log_weights), dtype=torch.bool) if from_prior is None else from_prior
        own = (log_weights if log_excess is None else log_weights + log_excess.cpu())[~chosen]
        if len(own):
            self.shift[rows] = torch.where(self.total[0, rows].isinf(), own[0], self.shift[rows])
            self.first[rows] += (own - self.shift[rows]).sum(0)
            self.second[rows] += (own - self.shift[rows]).square().sum(0)
        for number, part in enumerate((log_weights[~chosen], log_weights[chosen])):
            self.counts[number, rows] += len(part)
            self.total[number, rows] = self.total[number, rows].logaddexp(part.logsumexp(0))
            self.squares[number, rows] = self.squares[number, rows].logaddexp((2 * part).logsumexp(0))

    def estimate(self, proposal: tuple[str, ...], num_samples: int, missing: Tensor) -> LogLikelihood:
        """The estimates from all `num_samples` draws, NaN for the rows `missing` `[B]`."""
        total, own = self.total.logsumexp(0), self.counts[0]
        squares, shares = (self.squares - 2 * total).exp(), (2 * (self.total - total)).exp()
        errors = (self.counts * squares - shares).clamp_min(0) / (self.counts - 1).clamp_min(1)
        columns = (
            total - math.log(num_samples),
            errors.sum(0).sqrt(),
            (self.second - self.first.square() / own).clamp_min(0) / (own - 1),
            1 / squares.sum(0),
        )
        value, error, variance, size = (column.masked_fill(missing, math.nan) for column in columns)
        from_prior = int(self.counts[1].max()) if len(missing) else 0
        return LogLikelihood(value, error, variance, size, proposal, num_samples, from_prior)


class Draws(NamedTuple):
    """Some draws for some rows."""

    rows: slice
    """Which b rows of the batch."""
    z: Tensor
    """`[k, b, D]`"""
    log_ratio: Tensor
    """log p(z) - log r(z), `[k, b]`, float64; r is q(z | proposal), or its mixture with the prior."""
    log_likelihood: dict[str, Tensor]
    """log p(x_i | z) of each scored modality, `[k, b]`, 0 where missing."""
    from_prior: Tensor
    """Which of the draws came from the prior, `[k]`, on the CPU."""
    log_excess: Tensor
    """log r(z) - log q(z | proposal), `[k, b]`."""

    def log_weights(self, names: Iterable[str], weights: Mapping[str, float] | None = None) -> Tensor:
        """log p(x_names, z) - log r(z), `[k, b]`, float64; likelihoods raised to `weights` where given."""
        total = self.log_ratio.clone()
        for name in names:
            if name in self.log_likelihood:
                total += self.log_likelihood[name] * (1.0 if weights is None else weights[name])
        return total


@torch.inference_mode()
def importance_draws(
    model: MultimodalVAE,
    batch: Batch,
    scored: tuple[str, ...],
    proposal: tuple[str, ...],
    num_samples: int,
    seed: int = 0,
    memory: int = GIBIBYTE,
    progress: bool = False,
    prior_share: float = 0.0,
) -> Iterator[Draws]:
    """Draw z from q(z | proposal), or its mixture with the prior, for each row, and score modalities under it.

    Args:
        model: any model.
        batch: B rows as `model.checked` gives them.
        scored: names whose likelihood is wanted, where present.
        proposal: names that the proposal is given, where present.
        num_samples: K, at least 2.
        seed: of the draws.
        memory: bytes that the samples may take.
        progress: show a bar.
        prior_share: how much of the mixture is the prior, as for `log_likelihood`.

    Yields:
        Piece by piece all draws of all rows.

    Raises:
        ValueError: on an unknown name, a bad share, or fewer than 2 samples.
    """
    if not 0 <= prior_share < 1:
        raise ValueError(f"prior_share: expected a number from 0 to below 1, got {prior_share}")
    if num_samples < 2:
        raise ValueError(f"num_samples: expected at least 2, got {num_samples}")
    for name in model.known((*scored, *proposal)):
        if name in scored and name not in model.modalities:
            raise ValueError(f"this model is given '{name}' and has no likelihood of it")
    table = torch.tensor([[name in scored for name in model.names]])
    at_once = min(LARGEST_CALL, max(1, memory // _bytes_per_draw(model, scored)))
    rows_at_once = max(1, at_once // min(num_samples, NOISE_BLOCK))
    draws_at_once = max(1, at_once // rows_at_once)
    chosen = _spread(round(prior_share * num_samples) if proposal else 0, num_samples)
    title = f"log p({', '.join(scored)})" if scored else "z"
    with tqdm(total=len(batch), unit="row", disable=not progress, desc=title) as bar:
        for start in range(0, len(batch), rows_at_once):
            rows = slice(start, min(start + rows_at_once, len(batch)))
            some = batch[rows]
            posterior = model.q(some, proposal)
            for block in range(0, num_samples, NOISE_BLOCK):
                size = (min(NOISE_BLOCK, num_samples - block), model.latent_dim)
                own = [_noise(size, seed_of(seed, row, block)) for row in range(rows.start, rows.stop)]
                noise = torch.stack([normal for normal, _ in own], 1).to(model.device, model.dtype)
                uniform = torch.stack([uniform for _, uniform in own]).to(model.device)
                of_prior = chosen[block : block + size[0]]
                drawn, log_q, log_r = _mixed(posterior, noise, uniform, of_prior, chosen.double().mean().item())
                parts = (part.split(draws_at_once) for part in (drawn, log_q, log_r, of_prior))
                for z, log_own, density, which in zip(*parts, strict=True):
                    likelihoods = model.log_likelihoods(some, z, table.expand(len(z), -1))
                    scores = {name: values for name, _, values in likelihoods}
                    yield Draws(rows, z, log_prior(z.double()) - density, scores, which, density - log_own)
            bar.update(len(some))


def _spread(count: int, num_samples: int) -> Tensor:
    """So many of the samples, as evenly as can be: `[num_samples]`; none where the prior or q would have only one."""
    count = min(count, num_samples - 2)
    steps = torch.arange(num_samples + 1) * (count if count >= 2 else 0) // num_samples
    return steps.diff() > 0


def _mixed(
    posterior: Posterior, noise: Tensor, uniform: Tensor, of_prior: Tensor, share: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws of z, `[n, b, D]`, those `of_prior` `[n]` from the prior, log q(z), and log r(z) of the mixture."""
    if not share:
        drawn, log_q = posterior.draws(noise, uniform)
        return drawn, log_q, log_q
    of_prior = of_prior.to(noise.device)
    drawn, log_q = noise.clone(), noise.new_empty(noise.shape[:-1], dtype=torch.float64)
    drawn[~of_prior], log_q[~of_prior] = posterior.draws(noise[~of_prior], uniform)
    log_q[of_prior] = posterior.log_prob(noise[of_prior].double())
    return drawn, log_q, torch.logaddexp(log_q + math.log1p(-share), log_prior(drawn.double()) + math.log(share))


def _noise(size: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Normal numbers of that size, and one from 0 to 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator), torch.rand((), generator=generator)


def _bytes_per_draw(model: MultimodalVAE, names: tuple[str, ...]) -> int:
    """Memory to decode and score a draw: the widest layer with its input, and the likelihood's steps."""
    widest, observation = model.latent_dim, 1
    for name in names:
        modality = model.modalities[name]
        sizes: list[int] = []

        def record(module: nn.Module, inputs: object, output: object, sizes: list[int] = sizes) -> None:
            sizes.append(output.numel() if isinstance(output, Tensor) else 0)

        hooks = [module.register_forward_hook(record) for module in modality.decoder.modules()]
        try:
            width = model.latent_dim + modality.condition_width
            distribution = modality.decoder(torch.zeros(2, width, device=model.device, dtype=model.dtype))
            if modality.is_string:  # whose network runs when a string is scored, and keeps all of its steps
                distribution.log_prob(torch.zeros(2, *modality.shape, dtype=torch.long, device=model.device))
                sizes = [sum(sizes)]
        finally:
            for hook in hooks:
                hook.remove()
        widest = max(widest, max(sizes, default=0) // 2)
        observation = max(observation, math.prod(modality.shape))
    return model.dtype.itemsize * (3 * widest + 4 * observation + 12 * model.latent_dim)
