"""Linear-Gaussian models, whose every likelihood is known: something to check methods and estimators against."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from mvae.batch import Batch
from mvae.evaluation.likelihood import log_likelihood
from mvae.likelihoods import Normal
from mvae.modality import Decoder, Modality
from mvae.models import MVAE, MultimodalVAE
from mvae.networks.mlp import MLPDecoder, MLPEncoder
from mvae.seeds import seeded

__all__ = ["SCALES", "check_exact", "draws", "exact", "exact_log_likelihood", "linear_gaussian"]

SCALES = {"a": 1.0, "b": 1.2, "c": 0.9}
"""Standard deviations s_i: so large that a posterior given more is a fair proposal given less."""


def linear_gaussian(latent_dim: int = 1, error: float = 0.0, seed: int = 0) -> tuple[MVAE, dict[str, Tensor]]:
    """A model whose likelihoods are known: z ~ N(0, I), x_i = W_i z + b_i + s_i noise; and its W and b in float64.

    The modalities a, b and c have 3, 2 and 4 numbers. With orthogonal columns of W_i the exact experts are diagonal,
    with precision W_i' W_i / s_i^2. `error` spoils them.
    """
    generator = torch.Generator().manual_seed(seed)
    modalities: dict[str, Modality] = {}
    parameters: dict[str, Tensor] = {}
    for (name, scale), size in zip(SCALES.items(), (3, 2, 4), strict=True):
        orthogonal = torch.linalg.qr(torch.randn(size, latent_dim, generator=generator)).Q
        weight = orthogonal * (0.3 + 0.3 * torch.rand(latent_dim, generator=generator))
        bias = torch.randn(size, generator=generator)
        back = (weight / weight.square().sum(0)).T * (1 + error)
        log_variance = error - (weight.square().sum(0) / scale**2).log()
        encoder, network = MLPEncoder((size,), latent_dim, ()), MLPDecoder(latent_dim, size, ())
        encoder.head.weight.data = torch.cat([back, torch.zeros_like(back)])
        encoder.head.bias.data = torch.cat([-back @ bias, log_variance])
        network.head.weight.data, network.head.bias.data = weight, bias
        modalities[name] = Modality(encoder, Decoder(network, Normal((size,), scale)), latent_dim)
        parameters |= {f"{name}.weight": weight.double(), f"{name}.bias": bias.double()}
    return MVAE(modalities, latent_dim).eval(), parameters


def exact(parameters: Mapping[str, Tensor], names: Sequence[str]) -> MultivariateNormal:
    """The exact distribution of these modalities of a linear-Gaussian model, one after the other, in float64."""
    weight, bias = (torch.cat([parameters[f"{name}.{part}"] for name in names]) for part in ("weight", "bias"))
    noise = torch.cat([torch.full_like(parameters[f"{name}.bias"], SCALES[name] ** 2) for name in names])
    return MultivariateNormal(bias, weight @ weight.T + noise.diag())


def exact_log_likelihood(parameters: Mapping[str, Tensor], batch: Batch, names: Sequence[str]) -> Tensor:
    """log p of these modalities for each row, in nats; 0 for none."""
    if not names:
        return torch.zeros(len(batch), dtype=torch.float64)
    return exact(parameters, names).log_prob(torch.cat([batch.values[name].double() for name in names], 1))


def draws(parameters: Mapping[str, Tensor], count: int, seed: int = 0) -> Batch:
    """Draws from the exact joint distribution."""
    with seeded(seed):
        everything = exact(parameters, tuple(SCALES)).sample((count,)).float()
    return Batch(dict(zip(SCALES, everything.split([3, 2, 4], 1), strict=True)))


def check_exact(method: Callable[[Mapping[str, Modality], int], MultimodalVAE], num_modalities: int = 3) -> None:
    """Check likelihoods of linear-Gaussian models, known exactly, given any of their modalities.

    An importance estimate has to be within 5 standard errors, and the mean ELBO not above.

    Args:
        method: from modalities and D to a model, such as a class of model.
        num_modalities: how many the method takes, from 1 to 3.
    """
    example, parameters = linear_gaussian(2, error=-0.6)
    names = example.names[:num_modalities]
    model = method({name: example.modalities[name] for name in names}, 2).double().eval()
    rows, everything = draws(parameters, 10), torch.ones(1, num_modalities, dtype=torch.bool)
    for present in [some for some in product((False, True), repeat=num_modalities) if any(some)]:
        some = [name for name, here in zip(names, present, strict=True) if here]
        batch, exact = model.checked(rows.only(some)), exact_log_likelihood(parameters, rows, some)
        found = log_likelihood(model, batch, some, num_samples=4000)
        wrong = (found.value - exact).abs() > 5 * found.standard_error + 1e-5
        assert not wrong.any(), f"given {some}: log-likelihoods {found.value[wrong]}, expected {exact[wrong]}"
        many = batch[torch.arange(len(batch)).repeat(500)]
        with seeded(0), torch.no_grad():
            elbo = model.evidence(many, model.posteriors(many, everything), everything).elbo.reshape(500, -1)
        above = elbo.mean(0) > exact + 5 * elbo.std(0) / math.sqrt(500) + 1e-5
        assert not above.any(), f"given {some}: mean ELBOs {elbo.mean(0)[above]}, expected at most {exact[above]}"
