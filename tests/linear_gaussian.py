"""A model whose every likelihood is known: z ~ N(0, I), x_i = W_i z + b_i + s_i noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from mvae.data.batch import Batch
from mvae.likelihoods import Normal
from mvae.modality import Decoder, Modality
from mvae.models import MVAE

SCALES = {"a": 1.0, "b": 1.2, "c": 0.9}  # weak enough that a posterior given more is a fair proposal given less


class LinearEncoder(nn.Module):
    """A Gaussian expert whose mean is linear in x and whose variance is constant."""

    def __init__(self, weight: Tensor, bias: Tensor, log_variance: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.register_buffer("log_variance", log_variance)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = (x - self.bias) @ self.weight.T
        return mean, self.log_variance.expand_as(mean)


def linear_gaussian(latent_dim: int = 1, error: float = 0.0, seed: int = 0) -> tuple[MVAE, dict[str, Tensor]]:
    """Such a model over modalities a, b and c of 3, 2 and 4 numbers, and its parameters.

    With orthogonal columns of W_i the exact experts are diagonal: precision W_i' W_i / s_i^2. `error` spoils them.
    """
    generator = torch.Generator().manual_seed(seed)
    modalities, parameters = {}, {}
    for (name, scale), size in zip(SCALES.items(), (3, 2, 4), strict=True):
        orthogonal = torch.linalg.qr(torch.randn(size, latent_dim, generator=generator)).Q
        weight = orthogonal * (0.3 + 0.3 * torch.rand(latent_dim, generator=generator))
        bias = torch.randn(size, generator=generator)
        precision = weight.square().sum(0) / scale**2
        decoder = nn.Linear(latent_dim, size)
        decoder.weight.data, decoder.bias.data = weight, bias
        back = (weight / weight.square().sum(0)).T
        encoder = LinearEncoder(back * (1 + error), bias, -precision.log() + error)
        modalities[name] = Modality(encoder, Decoder(decoder, Normal((size,), scale)), latent_dim)
        parameters |= {f"{name}.weight": weight.double(), f"{name}.bias": bias.double()}
    return MVAE(modalities, latent_dim).eval(), parameters


def exact(parameters: dict[str, Tensor], names: tuple[str, ...]) -> MultivariateNormal:
    """The exact distribution of these modalities, one after the other, in float64."""
    weight = torch.cat([parameters[f"{name}.weight"] for name in names])
    bias = torch.cat([parameters[f"{name}.bias"] for name in names])
    noise = torch.cat([torch.full((len(parameters[f"{name}.bias"]),), SCALES[name] ** 2).double() for name in names])
    return MultivariateNormal(bias, weight @ weight.T + noise.diag())


def exact_log_likelihood(parameters: dict[str, Tensor], batch: Batch, names: tuple[str, ...]) -> Tensor:
    """log p of these modalities for each row, in nats; 0 for none."""
    if not names:
        return torch.zeros(len(batch), dtype=torch.float64)
    return exact(parameters, names).log_prob(torch.cat([batch.values[name].double() for name in names], 1))


def rows(parameters: dict[str, Tensor], count: int, seed: int = 0) -> Batch:
    """Draws from the exact joint distribution."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        everything = exact(parameters, tuple(SCALES)).sample((count,)).float()
    return Batch(dict(zip(SCALES, everything.split([3, 2, 4], 1), strict=True)))
