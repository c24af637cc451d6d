"""Small float64 models of each method over a vector and a label, and bounds written with torch.distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Categorical as Classes
from torch.distributions import Normal as Gaussian
from torch.distributions import kl_divergence

from mvae.batch import Batch
from mvae.likelihoods import Categorical, Normal
from mvae.modality import Condition, Decoder, Modality
from mvae.models import CVAE, JMVAE, TELBO, VAE, MultimodalVAE, Objective
from mvae.networks.joint import JointEncoder
from mvae.networks.mlp import EmbeddingEncoder, Flat, MLPDecoder, MLPEncoder

LATENT = 3
CLASSES = 4
WEIGHTS = {"vector": 2.0, "label": 5.0}


def vector(batch_norm: bool = False, condition_width: int = 0) -> Modality:
    """Three numbers of weight 2."""
    head = Normal((3,), scale=None)
    encoder = MLPEncoder((3,), LATENT, (6,), batch_norm, condition_width=condition_width)
    decoder = Decoder(MLPDecoder(LATENT + condition_width, 3, (6,)), head)
    return Modality(encoder, decoder, LATENT, WEIGHTS["vector"], condition_width)


def label() -> Modality:
    """One of four classes, of weight 5."""
    decoder = Decoder(MLPDecoder(LATENT, CLASSES, (6,)), Categorical(CLASSES))
    return Modality(EmbeddingEncoder(CLASSES, LATENT, (6,)), decoder, LATENT, WEIGHTS["label"])


def build(method: type[MultimodalVAE], batch_norm: bool = False, **options: object) -> MultimodalVAE:
    """A model of the method; its parameters are the same at each call."""
    torch.manual_seed(0)
    if method is VAE:
        return VAE({"vector": vector(batch_norm)}, LATENT).double()
    if method is CVAE:
        condition = Condition(Categorical(CLASSES))
        return CVAE({"vector": vector(batch_norm, CLASSES), "label": condition}, LATENT).double()
    if issubclass(method, JMVAE | TELBO):
        features = [MLPFeatures(batch_norm), torch.nn.Embedding(CLASSES, 5)]
        options["joint_encoder"] = JointEncoder(features, [5, 5], LATENT, 6)
    return method({"vector": vector(batch_norm), "label": label()}, LATENT, **options).double()


class MLPFeatures(torch.nn.Sequential):
    """What the joint encoder sees of the vector."""

    def __init__(self, batch_norm: bool) -> None:
        super().__init__(Flat(), torch.nn.Linear(3, 5), *([torch.nn.BatchNorm1d(5)] if batch_norm else []))


def complete_rows(model: MultimodalVAE, count: int = 7, seed: int = 0) -> Batch:
    """Rows that have everything that the model knows."""
    generator = torch.Generator().manual_seed(seed)
    values = {
        "vector": torch.randn(count, 3, generator=generator, dtype=torch.float64),
        "label": torch.randint(CLASSES, (count,), generator=generator),
    }
    return Batch(values).only(model.names)


def rows_with_holes(model: MultimodalVAE, count: int = 11, number: float = math.nan, integer: int = -1) -> Batch:
    """Rows in all patterns of absence: row 0 has nothing, 1 the vector, 2 the label, 3 both, 4 nothing and so on.

    `number` and `integer` stand where values are absent.
    """
    values, present = dict(complete_rows(model, count).values), {}
    for bit, name in enumerate(("vector", "label")):
        if name in values:
            present[name] = (torch.arange(count) >> bit & 1).bool()
            filler = number if values[name].is_floating_point() else integer
            shown = present[name].reshape(-1, *(1,) * (values[name].dim() - 1))
            values[name] = torch.where(shown, values[name], torch.tensor(filler, dtype=values[name].dtype))
    return Batch(values, present)


def log_prob(model: MultimodalVAE, name: str, z: Tensor, x: Tensor, condition: Tensor | None = None) -> Tensor:
    """log p(x | z) in nats by torch.distributions, from what the decoder's network gives."""
    decoder = model.modalities[name].decoder
    parameters = decoder.network(z if condition is None else torch.cat([z, condition], -1))
    if name == "label":
        return Classes(logits=parameters).log_prob(x)
    return Gaussian(parameters, decoder.likelihood.log_scale.exp()).log_prob(x).sum(-1)


def gaussian(encoded: tuple[Tensor, Tensor]) -> Gaussian:
    """q(z | .) from what an encoder gives."""
    mean, log_variance = encoded
    return Gaussian(mean, log_variance.exp().sqrt())


def bound(
    model: MultimodalVAE,
    posterior: Gaussian,
    noise: Tensor,
    batch: Batch,
    names: tuple[str, ...],
    beta: float = 1.0,
    weighted: bool = True,
    condition: Tensor | None = None,
) -> Tensor:
    """E[sum_i lambda_i log p(x_i | z)] - beta KL[q, p(z)] of each row, with z from these standard normal draws."""
    z = posterior.mean + posterior.stddev * noise
    scores = {name: log_prob(model, name, z, batch.values[name], condition) for name in names}
    prior = Gaussian(torch.zeros_like(z), torch.ones_like(z))
    reconstruction = sum(WEIGHTS[name] ** weighted * score for name, score in scores.items())
    return reconstruction - beta * kl_divergence(posterior, prior).sum(-1)


def gradients(model: MultimodalVAE, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of each parameter that learns, by name; zeros where the loss does not depend on it."""
    parameters = {name: part for name, part in model.named_parameters() if part.requires_grad}
    found = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True, retain_graph=True)
    return dict(zip(parameters, found, strict=True))


def assert_same_objective(model: MultimodalVAE, objective: Objective, terms: Tensor, elbo: Tensor) -> None:
    """The objective is made of these terms `[S, B]` and ELBOs `[B]`, its gradients too."""
    loss = -terms.sum(0).mean()
    torch.testing.assert_close(objective.terms, terms, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(objective.loss, loss, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(objective.elbo, elbo, rtol=1e-10, atol=1e-10)
    expected = gradients(model, loss)
    assert any(gradient.any() for gradient in expected.values())
    for name, gradient in gradients(model, objective.loss).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-8, atol=1e-10, msg=lambda t, n=name: f"{n}: {t}")


DENSE = {"kind": "mlp", "hidden": [16]}
POINT_AND_CLASS = {
    "latent_dim": 2,
    "reconstruct": "present",
    "modalities": {
        "point": {"shape": [3], "likelihood": {"kind": "normal"}, "encoder": DENSE, "decoder": DENSE},
        "class": {
            "shape": [],
            "likelihood": {"kind": "categorical", "num_classes": 4},
            "encoder": {"kind": "embedding", "hidden": [8]},
            "decoder": DENSE,
        },
    },
}
"""A model of a point in space and its class, as a config has it."""
