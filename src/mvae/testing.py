"""Contract checks for parts of your own; an AssertionError says what a part did and what was expected."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from mvae.batch import Batch, Part, per_row
from mvae.linear_gaussian import check_exact
from mvae.models import MultimodalVAE
from mvae.seeds import seeded

__all__ = ["check_decoder", "check_encoder", "check_exact", "check_likelihood", "check_method"]

# Numbers, and whole numbers, in the place of missing values; and how many probabilities are summed at most.
FILLERS = ((0.0, 0), (math.nan, -1), (math.inf, 10**9), (-1e300, -(10**9)))
MOST_LISTED = 10**5


def check_encoder(encoder: nn.Module, rows: Tensor, latent_dim: int) -> None:
    """Check an encoder: observations to one Gaussian expert a row, whatever the other rows are.

    Args:
        encoder: module from `[B, ...]` to (mean, log_variance), each `[B, D]`. A copy is tried, in evaluation mode.
        rows: at least two different observations.
        latent_dim: D.
    """
    encoder = deepcopy(encoder).eval()
    expert = encoder(rows)
    shapes = [tuple(part.shape) for part in expert] if isinstance(expert, tuple | list | Tensor) else type(expert)
    _expect("encoder: shapes of (mean, log_variance)", shapes, [(len(rows), latent_dim)] * 2)
    for row in range(len(rows)):
        for part, alone, what in zip(expert, encoder(rows[[row]]), ("mean", "log variance"), strict=True):
            assert part[row].isfinite().all(), f"encoder: the {what} of row {row} is not finite"
            assert _close(part[[row]], alone), f"encoder: the {what} of row {row} depends on the other rows"
    _check_gradients("encoder", sum(part.square().sum() for part in expert), dict(encoder.named_parameters()))


def check_decoder(decoder: nn.Module, latent_dim: int, rows: Tensor) -> None:
    """Check a decoder: z to a Distribution over one observation, which scores rows and its own samples.

    Args:
        decoder: module from z `[..., D]` to a Distribution of batch shape `[...]`. A copy is tried, in evaluation mode.
        latent_dim: D.
        rows: observations `[B, *shape]`.
    """
    decoder = deepcopy(decoder).eval()
    like = next((p for p in decoder.parameters() if p.is_floating_point()), torch.zeros(()))
    with seeded(1):
        for leading in ((), (5,), (2, 5), (2, len(rows))):
            z = torch.randn(*leading, latent_dim, dtype=like.dtype, device=like.device, requires_grad=True)
            distribution = decoder(z)
            assert isinstance(distribution, Distribution), f"decoder: expected a Distribution, got {type(distribution)}"
            _expect(f"decoder: batch shape for z of shape {tuple(z.shape)}", distribution.batch_shape, leading)
            _expect("decoder: event shape", distribution.event_shape, rows.shape[1:])
            drawn = distribution.sample()
            _expect("decoder: shape of a sample", drawn.shape, leading + rows.shape[1:])
            assert distribution.support.check(drawn).all(), "decoder: a sample is outside its support"  # type: ignore[union-attr]
            assert distribution.log_prob(drawn).isfinite().all(), "decoder: log_prob of a sample is not finite"
    assert distribution.support.check(rows).all(), "decoder: a row is outside its support"  # type: ignore[union-attr]
    scores = distribution.log_prob(rows)
    _expect("decoder: shape of log_prob", scores.shape, (2, len(rows)))
    assert scores.isfinite().all(), "decoder: log_prob of a row is not finite"
    for row in range(len(rows)):
        alone = decoder(z[:, row]).log_prob(rows[row])
        assert _close(scores[:, row], alone), f"decoder: log_prob of row {row} depends on the other rows"
    _check_gradients("decoder", scores.sum(), {"z": z, **dict(decoder.named_parameters())})


def check_likelihood(head: nn.Module, rows: Tensor) -> None:
    """Check a likelihood as a decoder, and that its probabilities sum, or integrate, to 1 where that can be computed.

    Args:
        head: module with `num_parameters`, P, from `[..., P]` to a Distribution of batch shape `[...]`.
        rows: observations `[B, *shape]`.
    """
    count: Any = getattr(head, "num_parameters", None)
    _expect("likelihood: type of num_parameters", type(count), int)
    check_decoder(head, count, rows)
    with torch.no_grad(), seeded(1):
        total = _total(deepcopy(head).double()(torch.randn(3, count).double()))
    assert total is None or (total - 1).abs().max() < 1e-3, f"likelihood: expected a total of 1, got {total}"


def check_method(build: Callable[[], MultimodalVAE], rows: Batch) -> None:
    """Check a method, in all its stages, on rows that lack modalities in any pattern.

    Missing values are never read (NaN, infinity or huge numbers in their place change nothing), networks run once a
    step, gradients are finite, rows do not mix, `state_dict` carries all that is learned, a row with nothing has the
    prior as its posterior, float64 stays float64.

    Args:
        build: gives a new model of the method.
        rows: at least two complete rows of all its modalities and conditions.
    """
    model = build().double()
    assert rows.complete, "rows: expected no missing values"
    _expect("rows: modalities", sorted(rows.values), sorted(model.names))
    rows, count = model.checked(rows), len(model.names)
    patterns = torch.tensor(list(product((False, True), repeat=min(count, 6)))).repeat(1, count)[:, :count]
    turns = torch.arange(max(len(rows), 2 * len(patterns)))
    mixed = rows[turns % len(rows)], patterns[turns % len(patterns)]
    for stage in range(model.num_stages):
        model.enter_stage(stage)
        for some, present in (mixed, *((rows, one.expand(len(rows), -1)) for one in patterns)):
            if model.usable(_masked(model, some, present)).any():
                _check_missing(model, some, present)
        for batch in (rows,) if model.needs_complete_rows else (rows, _masked(model, *mixed)):
            objective = _step(model.eval(), batch)[0]
            _expect("loss: rows of terms, kl, elbo", {objective.elbo.shape, objective.terms.shape[1:]}, {(len(batch),)})
            for row in range(len(batch)):  # which draws, of all rows' noise, its own
                alone = _step(model, batch[Part(torch.tensor([row]), row, len(batch))])[0].terms
                assert _close(objective.terms[:, [row]], alone), f"loss: terms of row {row} depend on the other rows"
    _check_posteriors(model.eval(), _masked(model, *mixed), {(), model.names, *((name,) for name in model.names)})
    other = build().double().eval()
    for parameter in other.parameters():
        parameter.data.zero_()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.posterior(rows).mean, model.posterior(rows).mean), "state_dict: the posterior changes"
    results = {"loss": objective.loss, "elbo": objective.elbo, "posterior": model.posterior(rows).mean}
    for what, value in (results | model.generate(rows)).items():
        assert value.dtype in (torch.float64, torch.long), f"{what}: expected float64, got {value.dtype}"


def _check_missing(model: MultimodalVAE, rows: Batch, present: Tensor) -> None:
    """Values in the place of missing ones change nothing, neither in training nor in evaluation."""
    expected: dict[str, Tensor] = {}
    for number, integer in FILLERS:
        batch, trained = _masked(model, rows, present, number, integer), deepcopy(model).train()
        objective, found = _step(trained, batch)
        with seeded(1), torch.no_grad():
            posterior = trained.eval().posterior(batch)
            found |= {"mean": posterior.mean, "variance": posterior.variance, "elbo": trained.elbo(batch)}
        found |= {"terms": objective.terms, "kl": objective.kl, **objective.log_likelihood, "loss": objective.loss}
        for name, value in found.items():
            assert value.isfinite().all(), (
                f"{name} is not finite where {number} or {integer} is in a missing value's place"
            )
            assert torch.equal(value, expected.setdefault(name, value)), f"{name} depends on missing values"


def _check_posteriors(model: MultimodalVAE, batch: Batch, questions: set[tuple[str, ...]]) -> None:
    for given in questions:
        together, has = model.q(batch, given), batch.presence(given or model.names)
        for row in range(len(batch)):
            alone = model.q(batch[[row]], given)
            for part in ("mean", "variance"):
                value = getattr(together, part)[[row]]
                assert _close(value, getattr(alone, part)), f"posterior: the {part} of row {row} depends on other rows"
                if not given or not has[row].any():
                    prior = torch.full_like(value, float(part == "variance"))
                    assert _close(value, prior), f"posterior: expected the prior given nothing, got the {part} {value}"


def _step(model: MultimodalVAE, batch: Batch) -> tuple[Any, dict[str, Tensor]]:
    """The objective of a seeded step; gradients, and what batch normalisation gathers, by name."""
    calls: Counter[nn.Module] = Counter()
    networks = {modality.encoder: f"encoder of '{name}'" for name, modality in model.modalities.items()}
    networks |= {modality.decoder: f"decoder of '{name}'" for name, modality in model.modalities.items()}
    hooks = [net.register_forward_hook(lambda net, *_: calls.update([net])) for net in networks]
    with seeded(1):
        objective = model.loss(batch, 0.7)
    for hook in hooks:
        hook.remove()
    for net, count in calls.items():
        assert count == 1, f"loss: the {networks[net]} ran {count} times, expected at most once"
    _expect("loss: shape", objective.loss.shape, ())
    return objective, _gradients(objective.loss, dict(model.named_parameters())) | dict(model.named_buffers())


def _check_gradients(what: str, value: Any, inputs: dict[str, Any]) -> None:
    for name, part in _gradients(value, inputs).items():
        assert part.isfinite().all(), f"{what}: the {name} is not finite"


def _gradients(value: Any, inputs: dict[str, Any]) -> dict[str, Tensor]:
    inputs = {f"gradient of {name}": part for name, part in inputs.items() if part.requires_grad}
    if not inputs or not value.requires_grad:
        return {}
    found = torch.autograd.grad(value, list(inputs.values()), materialize_grads=True)
    return dict(zip(inputs, found, strict=True))


def _masked(model: MultimodalVAE, rows: Batch, present: Tensor, number: float = 0.0, integer: int = 0) -> Batch:
    """Rows with these numbers, and whole numbers, in place of missing values."""
    values = {}
    for name, here in zip(model.names, present.T, strict=True):
        value = rows.values[name]
        blank = torch.tensor(number if value.is_floating_point() else integer, dtype=value.dtype)
        values[name] = torch.where(per_row(here, value), value, blank)
    return Batch(values, dict(zip(model.names, present.T, strict=True)))


def _total(distribution: Distribution) -> Tensor | None:
    """The sum or integral of probabilities, one a distribution of the batch; None where it cannot be computed."""
    support: Any = getattr(distribution.support, "base_constraint", distribution.support)
    bounds: list[Any] = [getattr(support, f"{end}_bound", None) for end in ("lower", "upper")]
    (low, high), size = (0, 1) if support is constraints.boolean else bounds, distribution.event_shape.numel()
    if support.is_discrete and low is not None and (high is not None or not distribution.event_shape):
        each = range(int(low), MOST_LISTED if high is None else int(high) + 1)
        if len(each) ** size > MOST_LISTED:
            return None
        listed = torch.tensor(list(product(each, repeat=size)), dtype=torch.float64)
        return distribution.log_prob(listed.reshape(-1, 1, *distribution.event_shape)).exp().sum(0)
    if distribution.event_shape or support.is_discrete:
        return None
    t = torch.linspace(-35, 35, 200_001, dtype=torch.float64).unsqueeze(1)
    middle = distribution.sample(torch.Size([1001])).median(0).values
    x = middle + t.sinh() if low is None else low + (t.exp() if high is None else (high - low) * t.sigmoid())
    return torch.trapezoid(distribution.log_prob(x).exp(), x, dim=0)


def _expect(what: str, found: object, expected: object) -> None:
    assert found == expected, f"{what}: expected {expected}, got {found}"


def _close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
