"""A model whose every likelihood is known: z ~ N(0, I), x_i = W_i z + b_i + s_i noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from mvae.batch import Batch
from mvae.likelihoods import Categorical, Normal
from mvae.modality import Condition, Decoder, Modality
from mvae.models import CVAE, MMVAE, MVAE, MVAEQ, VAE, MultimodalVAE
from mvae.models.joint import JointEncoderVAE

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
        weight, bias, log_variance = modality.encoder.buffers()
        variance = log_variance.sigmoid()  # 1 / (1 + T): that of q(z | x_i)
        raw = log_variance if method is MVAEQ else variance.log()
        encoder = LinearEncoder((weight.T * (1 - variance) * (1 + error)).T, bias, raw + error)
        modalities[name] = Modality(encoder, modality.decoder, latent_dim)
    options = [LinearJointEncoder(experts, error)] if issubclass(method, JointEncoderVAE) else []
    return method(modalities, latent_dim, *options).eval(), parameters


CONDITIONS = {"class": Categorical(4), "numbers": Normal((2, 1))}


class ConditionalLinearEncoder(nn.Module):
    """q(z | x, c) of x = W z + A c + b + s noise."""

    def __init__(self, back: LinearEncoder, slope: Tensor) -> None:
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
