"""Linear-Gaussian models of other methods than the MVAE, and of conditions."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from mvae.batch import Batch
from mvae.likelihoods import Categorical, Normal
from mvae.linear_gaussian import SCALES, exact, linear_gaussian
from mvae.modality import Condition, Decoder, Modality
from mvae.models import CVAE, MMVAE, MVAEQ, VAE, MultimodalVAE
from mvae.models.joint import JointEncoderVAE


class LinearJointEncoder(nn.Module):
    """q(z | x_1, x_2) from two experts, by the formula of a normal posterior; `error` spoils it."""

    def __init__(self, experts: list[nn.Module], error: float) -> None:
        super().__init__()
        self.experts, self.error = nn.ModuleList(experts), error

    def forward(self, *values: Tensor) -> tuple[Tensor, Tensor]:
        said = [expert(x) for expert, x in zip(self.experts, values, strict=True)]
        precision = 1 + sum((-log_variance).exp() for _, log_variance in said)
        mean = sum(mean * (-log_variance).exp() for mean, log_variance in said) / precision
        return mean * (1 + self.error), self.error - precision.log()


def linear_gaussian_of(
    method: type[MultimodalVAE], latent_dim: int = 1, error: float = 0.0
) -> tuple[MultimodalVAE, dict[str, Tensor]]:
    """That model as one of another method, whose encoders give the exact posteriors; `error` spoils them.

    The VAE has modality a, those of two modalities a and b, MVAE-Q and MMVAE all three.
    """
    model, parameters = linear_gaussian(latent_dim)
    names = {VAE: "a", MVAEQ: "abc", MMVAE: "abc"}.get(method, "ab")
    modalities, experts = {}, []
    for name in names:
        modality = model.modalities[name]
        experts.append(modality.encoder)
        encoder = deepcopy(modality.encoder)
        weight, bias = encoder.head.weight.data, encoder.head.bias.data
        log_variance = bias[latent_dim:].clone()
        variance = log_variance.sigmoid()  # 1 / (1 + T): that of q(z | x_i)
        bias[:latent_dim] *= (1 - variance) * (1 + error)
        weight[:latent_dim] *= ((1 - variance) * (1 + error)).unsqueeze(1)
        bias[latent_dim:] = (log_variance if method is MVAEQ else variance.log()) + error
        modalities[name] = Modality(encoder, modality.decoder, latent_dim)
    options = [LinearJointEncoder(experts, error)] if issubclass(method, JointEncoderVAE) else []
    return method(modalities, latent_dim, *options).eval(), parameters


CONDITIONS = {"class": Categorical(4), "numbers": Normal((2, 1))}


class ConditionalLinearEncoder(nn.Module):
    """q(z | x, c) of x = W z + A c + b + s noise."""

    def __init__(self, back: nn.Module, slope: Tensor) -> None:
        super().__init__()
        self.back = back
        self.register_buffer("slope", slope)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        return self.back(x - condition @ self.slope.T)


def conditional_linear_gaussian(
    names: tuple[str, ...], latent_dim: int = 1, error: float = 0.0
) -> tuple[CVAE, dict[str, Tensor]]:
    """x = W z + A c + b + s noise of three numbers, given conditions named in `CONDITIONS`; their numbers are c."""
    vae, parameters = linear_gaussian_of(VAE, latent_dim, error)
    conditions = {name: Condition(CONDITIONS[name]) for name in names}
    width = sum(condition.width for condition in conditions.values())
    slope = torch.randn(3, width, generator=torch.Generator().manual_seed(1))
    decoder = nn.Linear(latent_dim + width, 3)
    weight, bias = (parameters[f"a.{part}"].float() for part in ("weight", "bias"))
    decoder.weight.data, decoder.bias.data = torch.cat([weight, slope], 1), bias
    encoder = ConditionalLinearEncoder(vae.modalities["a"].encoder, slope)
    target = Modality(encoder, Decoder(decoder, Normal((3,), SCALES["a"])), latent_dim, condition_width=width)
    return CVAE({"a": target, **conditions}, latent_dim).eval(), parameters | {"a.slope": slope.double()}


def conditional_rows(count: int, seed: int = 0) -> Batch:
    """Rows of a and of every condition, from nowhere in particular."""
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        {
            "a": 2 * torch.randn(count, 3, generator=generator),
            "class": torch.randint(4, (count,), generator=generator),
            "numbers": torch.randn(count, 2, 1, generator=generator),
        }
    )


def exact_conditional(parameters: dict[str, Tensor], batch: Batch, names: tuple[str, ...]) -> Tensor:
    """log p(a | these conditions) of each row, in nats."""
    numbers = {
        "class": torch.eye(4, dtype=torch.float64)[batch.values["class"]],
        "numbers": batch.values["numbers"].double().reshape(len(batch), 2),
    }
    shift = torch.cat([numbers[name] for name in names], 1) @ parameters["a.slope"].T
    return exact(parameters, ("a",)).log_prob(batch.values["a"].double() - shift)
