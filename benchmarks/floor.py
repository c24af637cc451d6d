"""The floor of a step: its matrix products alone, counted from the networks and run at the machine's own rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mvae.models import MultimodalVAE

__all__ = ["Product", "decoder_terms", "forward_products", "run", "step_products", "work"]

TOGETHER = 8
"""Products of one shape from so many on are run as one batched product."""


@dataclass(frozen=True)
class Product:
    """What a layer multiplies: forward, its weight's gradient, and its input's where something below learns."""

    kind: str
    """`linear`, `conv` or `transposed conv`."""
    inputs: tuple[int, ...]
    weight: tuple[int, ...]
    outputs: tuple[int, ...]
    options: tuple[object, ...] = ()
    """Of a convolution: stride, padding, output padding."""
    backward: bool = True
    input_gradient: bool = True

    @property
    def passes(self) -> int:
        """How often the layer's product is made: forward, and for either gradient."""
        return 1 + self.backward * (1 + self.input_gradient)

    @property
    def operations(self) -> int:
        """Multiplications and additions: 2 for each weight and place where it is applied."""
        size = 1
        for length in self.weight:
            size *= length
        places = self.outputs if self.kind == "conv" else self.inputs
        if self.kind != "linear":
            size *= places[2] * places[3]
        return 2 * self.passes * size * places[0]


def decoder_terms(count: int, k: int) -> float:
    """In how many ELBO terms of a step a modality is reconstructed (Eq. 2 and 5), on average over the random subsets.

    The joint and its own, and each of the k random subsets with probability E[size] / N, size uniform in 2 .. N - 1.
    """
    return 2 + k * (count + 1) / 2 / count if count > 2 else 2


def step_products(model: MultimodalVAE, values: Mapping[str, Tensor], terms: float) -> list[Product]:
    """The products of a training step: each row encoded once, each decoder run on the rows of `terms` terms."""
    found = []
    for name, modality in model.modalities.items():
        rows = values[name]
        found += _products(modality.encoder, rows, first_learns=False)
        z = torch.zeros(round(terms * len(rows)), model.latent_dim)
        found += _products(modality.decoder.network, z, first_learns=True)
    return found


def forward_products(model: MultimodalVAE, rows: int) -> list[Product]:
    """The products of decoding so many draws of z, without gradients."""
    z, found = torch.zeros(rows, model.latent_dim), []
    for modality in model.modalities.values():
        found += _products(modality.decoder.network, z, first_learns=True, backward=False)
    return found


@torch.no_grad()
def _products(network: nn.Module, given: Tensor, first_learns: bool, backward: bool = True) -> Iterator[Product]:
    """Products of the layers in the order in which they run; the first takes no gradient of data."""
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((layer, inputs[0], output))

    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)
    hooks = [layer.register_forward_hook(note) for layer in network.modules() if isinstance(layer, kinds)]
    training = network.training
    network.eval()(given)
    network.train(training)
    for hook in hooks:
        hook.remove()
    for number, (layer, inputs, output) in enumerate(seen):
        learns = first_learns or number > 0
        shapes = tuple(inputs.shape), tuple(layer.weight.shape), tuple(output.shape)
        if isinstance(layer, nn.Linear):
            yield Product("linear", *shapes, (), backward, learns)
        elif isinstance(layer, nn.Conv2d):
            yield Product("conv", *shapes, (layer.stride, layer.padding, (0, 0)), backward, learns)
        elif isinstance(layer, nn.ConvTranspose2d):
            options = layer.stride, layer.padding, layer.output_padding
            yield Product("transposed conv", *shapes, options, backward, learns)


def work(products: list[Product]) -> int:
    """Floating-point operations of the products."""
    return sum(product.operations for product in products)


def run(products: list[Product], dtype: torch.dtype = torch.float32) -> Callable[[], None]:
    """Something that runs the products, on numbers of that type, and nothing else."""
    parts: list[Callable[[], object]] = []
    for product, count in Counter(products).items():
        if product.kind != "linear":
            parts += [_convolution(product, dtype)] * count
        elif count < TOGETHER:
            parts += [_linear(product, dtype)] * count
        else:
            parts.append(_linear(product, dtype, count))

    def multiply() -> None:
        with torch.no_grad():
            for part in parts:
                part()

    return multiply


def _linear(product: Product, dtype: torch.dtype, count: int | None = None) -> Callable[[], object]:
    """One such product, or `count` of them as one batched product."""
    rows, width = product.inputs
    out = product.outputs[1]
    many, times = ((), torch.mm) if count is None else ((count,), torch.bmm)
    x, weight, gradient = (
        torch.rand(*many, *shape, dtype=dtype) for shape in ((rows, width), (out, width), (rows, out))
    )

    def multiply() -> None:
        times(x, weight.mT)
        if product.backward:
            times(gradient.mT, x)
        if product.backward and product.input_gradient:
            times(gradient, weight)

    return multiply


def _convolution(product: Product, dtype: torch.dtype) -> Callable[[], object]:
    x, weight, gradient = (
        torch.rand(shape, dtype=dtype) for shape in (product.inputs, product.weight, product.outputs)
    )
    stride, padding, extra = product.options
    transposed = product.kind == "transposed conv"
    wanted = [product.input_gradient, True, False]

    def multiply() -> None:
        torch.convolution(x, weight, None, stride, padding, (1, 1), transposed, extra, 1)
        if product.backward:
            torch.ops.aten.convolution_backward(
                gradient, x, weight, None, stride, padding, (1, 1), transposed, extra, 1, wanted
            )

    return multiply
