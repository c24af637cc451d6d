"""Log-likelihoods by importance sampling, for any model, modalities and pattern of absence (paper, section 5)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mvae.data.batch import Batch
from mvae.data.loading import seed_of
from mvae.models import MultimodalVAE, as_names

__all__ = ["LogLikelihood", "importance_draws", "log_likelihood"]

GIBIBYTE = 2**30
LARGEST_CALL = 2**15
"""Draws a decoder call at most: more are no faster, and fall out of the processor's caches."""
NOISE_BLOCK = 1000
"""Draws of a row that come from one seed: fixed, so that the numbers do not depend on the memory."""


@dataclass(frozen=True)
class LogLikelihood:
    """Estimates for B rows, in nats, as float64 `[B]` tensors on the CPU.

    A row that lacks some targets is scored on those it has; one that lacks all has NaN.
    """

    value: Tensor
    """The log-likelihood."""
    standard_error: Tensor
    """Monte Carlo error of `value` (first order): it falls with the number of samples, while more rows do not help."""
    log_weight_variance: Tensor
    """Variance of the log importance weights, the paper's Table 3: the lower, the better the proposal."""
    effective_sample_size: Tensor
    """(sum w)^2 / sum w^2, between 1 and `num_samples`: near 1 the value is a bound rather than an estimate."""
    proposal: tuple[str, ...]
    """The modalities that q(z | .) was given; empty for the prior."""
    num_samples: int

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
    num_samples: int = 1000,
    denominator: Literal["importance", "prior"] = "importance",
    denominator_samples: int | None = None,
    memory: int = GIBIBYTE,
    seed: int = 0,
    progress: bool = False,
) -> LogLikelihood:
    r"""Estimate log p(targets | given) of each row, in nats.

    Without `given`, with :math:`z_k \sim q(z \mid \text{proposal})`,

    .. math:: \log p(x_T) \approx \log \tfrac 1 K \sum_k w_k,
              \qquad w_k = \frac{p(x_T \mid z_k)\, p(z_k)}{q(z_k \mid \text{proposal})} .

    With `given`, this estimate of log p(targets, given) minus one of log p(given): by importance sampling from
    q(z | given), or from the prior, :math:`\log \tfrac 1 K \sum_k p(x_G \mid z_k)`, as the paper does (section 5).
    Modality weights play no part. The random numbers of a row depend on the seed and its place only, so
    that the answer is the same, up to rounding, whatever the memory allows.

    Args:
        model: any model.
        batch: B rows; any modality may be absent in any row.
        targets: names to score.
        given: names to condition on.
        proposal: names that the proposal is given, of which a row uses those it has; `()` for the prior. Default:
            targets and given together. It says where samples come from, not what is scored.
        num_samples: K.
        denominator: how log p(given) is estimated, `"importance"` or, the paper's, `"prior"`.
        denominator_samples: K of log p(given); `num_samples` where None. The paper takes 5,000.
        memory: what the samples may take, in bytes.
        seed: of the draws.
        progress: show a bar.

    Returns:
        The estimates; `log_weight_variance` and `effective_sample_size` are those of the first term.

    Raises:
        ValueError: on unknown or repeated names, no target, a value outside its support, or fewer than 2 samples.
    """
    targets, given = as_names(targets), as_names(given)
    scored = targets + given
    proposal = scored if proposal is None else as_names(proposal)
    if not targets or len(set(scored)) < len(scored):
        raise ValueError(f"expected targets and given to name each modality at most once, got {targets} and {given}")
    if denominator not in ("importance", "prior"):
        raise ValueError(f"denominator: expected 'importance' or 'prior', got '{denominator}'")
    joint = _marginal(model, batch, scored, proposal, num_samples, seed, memory, progress)
    value, error = joint.value, joint.standard_error
    if given:
        behind = given if denominator == "importance" else ()
        count = denominator_samples or num_samples
        marginal = _marginal(model, batch, given, behind, count, seed_of(seed, 1), memory, progress)
        value = value - marginal.value.nan_to_num(0.0)  # nothing given: log p() = 0
        error = (error.square() + marginal.standard_error.nan_to_num(0.0).square()).sqrt()
    has_target = batch.presence(targets).any(1).cpu()
    value = value.where(has_target, math.nan)
    return LogLikelihood(
        value, error, joint.log_weight_variance, joint.effective_sample_size, joint.proposal, num_samples
    )


def _marginal(
    model: MultimodalVAE,
    batch: Batch,
    scored: tuple[str, ...],
    proposal: tuple[str, ...],
    num_samples: int,
    seed: int,
    memory: int,
    progress: bool,
) -> LogLikelihood:
    total, squares = torch.full((2, len(batch)), -math.inf, dtype=torch.float64)  # of log w and of log w^2
    shift = torch.zeros(len(batch), dtype=torch.float64)
    first, second = torch.zeros(2, len(batch), dtype=torch.float64)  # moments of log w - shift
    for rows, _, weights in importance_draws(model, batch, scored, proposal, num_samples, seed, memory, progress):
        log_weights = weights.cpu()
        shift[rows] = torch.where(total[rows].isinf(), log_weights[0], shift[rows])
        total[rows] = total[rows].logaddexp(log_weights.logsumexp(0))
        squares[rows] = squares[rows].logaddexp((2 * log_weights).logsumexp(0))
        first[rows] += (log_weights - shift[rows]).sum(0)
        second[rows] += (log_weights - shift[rows]).square().sum(0)
    size = (2 * total - squares).exp()
    columns = torch.stack(
        [
            total - math.log(num_samples),
            ((num_samples / size - 1).clamp_min(0) / (num_samples - 1)).sqrt(),
            (second - first.square() / num_samples).clamp_min(0) / (num_samples - 1),
            size,
        ]
    )
    absent = ~batch.presence(scored).any(1).cpu()
    columns[:, absent] = math.nan
    value, error, variance, size = columns
    return LogLikelihood(value, error, variance, size, proposal, num_samples)


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
    tempered: bool = False,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Draw z from q(z | proposal) for each row and weigh it: p(scored, z) / q(z | proposal).

    Args:
        model: any model.
        batch: B rows.
        scored: names whose likelihood is part of the weight, where present.
        proposal: names that the proposal is given, where present.
        num_samples: K, at least 2.
        seed: of the draws.
        memory: what the samples may take, in bytes.
        progress: show a bar.
        tempered: raise each modality's likelihood to its weight lambda, as training does (Eq. 2).

    Yields:
        Piece by piece: a slice of b rows, some of their draws `[k, b, D]`, and their log weights `[k, b]`, float64.

    Raises:
        ValueError: on an unknown name, a value outside its support, or fewer than 2 samples.
    """
    if num_samples < 2:
        raise ValueError(f"num_samples: expected at least 2, got {num_samples}")
    for name in (*scored, *proposal):
        if name not in model.names:
            raise ValueError(f"unknown modality '{name}'; this model has {', '.join(model.names)}")
    batch, modalities = model.checked(batch), model.modalities
    table = torch.tensor([[name in scored for name in model.names]])
    at_once = min(LARGEST_CALL, max(1, memory // _bytes_per_draw(model, scored)))
    rows_at_once = max(1, at_once // min(num_samples, NOISE_BLOCK))
    draws_at_once = max(1, at_once // rows_at_once)
    with tqdm(
        total=len(batch), unit="row", disable=not progress, desc=f"log p({', '.join(scored)})" if scored else "z"
    ) as bar:
        for start in range(0, len(batch), rows_at_once):
            rows = slice(start, min(start + rows_at_once, len(batch)))
            some = batch[rows]
            posterior = model.posterior(some, proposal)
            for block in range(0, num_samples, NOISE_BLOCK):
                size = (min(NOISE_BLOCK, num_samples - block), model.latent_dim)
                noise = torch.stack(
                    [_noise(size, seed_of(seed, row, block)) for row in range(rows.start, rows.stop)], 1
                )
                for piece in noise.to(posterior.mean).split(draws_at_once):
                    z = posterior.mean + posterior.stddev * piece
                    # log p(z) - log q(z | .): the constants cancel
                    ratio = 0.5 * (piece.double().square() - z.double().square()) + posterior.stddev.double().log()
                    log_weights = ratio.sum(-1)
                    for name, _, values in model.log_likelihoods(some, z, table.expand(len(z), -1)):
                        log_weights += values * (modalities[name].weight if tempered else 1.0)
                    yield rows, z, log_weights
            bar.update(len(some))


def _noise(size: tuple[int, int], seed: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def _bytes_per_draw(model: MultimodalVAE, names: tuple[str, ...]) -> int:
    """What decoding and scoring a draw takes: the widest layer with its input, and the likelihood's steps."""
    widest, observation = model.latent_dim, 1
    for name in names:
        modality = model.modalities[name]
        sizes: list[int] = []

        def record(module: nn.Module, inputs: object, output: object, sizes: list[int] = sizes) -> None:
            sizes.append(output.numel() if isinstance(output, Tensor) else 0)

        hooks = [module.register_forward_hook(record) for module in modality.decoder.modules()]
        try:
            modality.decoder(torch.zeros(2, model.latent_dim, device=model.device))
        finally:
            for hook in hooks:
                hook.remove()
        widest = max(widest, max(sizes, default=0) // 2)
        observation = max(observation, math.prod(modality.shape))
    return 4 * (3 * widest + 4 * observation + 12 * model.latent_dim)
