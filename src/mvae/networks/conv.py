"""Convolutional encoders and decoders of images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mvae.networks.mlp import FeaturesEncoder

__all__ = ["ConvDecoder", "ConvEncoder", "conv_features"]

Layer = tuple[int, int, int, int]
"""Channels, kernel size, stride, padding."""


def conv_features(shape: Sequence[int], layers: Sequence[Layer], batch_norm: bool = False) -> nn.Sequential:
    """Convolutions without bias, each followed by swish, flattened; batch normalisation after each but the first."""
    sizes = feature_shapes(shape, layers)
    modules: list[nn.Module] = []
    for index, (channels, kernel, stride, padding) in enumerate(layers):
        modules.append(nn.Conv2d(sizes[index][0], channels, kernel, stride, padding, bias=False))
        modules += [nn.BatchNorm2d(channels)] if batch_norm and index else []
        modules.append(nn.SiLU())
    return _channels_last(nn.Sequential(*modules, nn.Flatten()))


def _channels_last(network: nn.Sequential) -> nn.Sequential:
    """The network with its kernels laid out channel by channel for each pixel, in which convolutions are faster."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class ConvEncoder(FeaturesEncoder):
    """An image to a Gaussian expert: convolutions, one hidden layer, a head; swish throughout.

    FashionMNIST in the paper: `layers=((64, 4, 2, 1), (128, 4, 2, 1)), hidden=512`. Convolutions have no bias.

    Args:
        shape: `(channels, height, width)`.
        layers: `(channels, kernel, stride, padding)` of each convolution.
        hidden: width of the hidden layer.
        batch_norm: batch normalisation after each convolution but the first.
        dropout: and `condition_width`, as `FeaturesEncoder` takes them.

    Raises:
        ValueError: if a convolution does not fit the image.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int,
        layers: Sequence[Layer] = ((64, 4, 2, 1), (128, 4, 2, 1)),
        hidden: int = 512,
        batch_norm: bool = False,
        dropout: float = 0.0,
        condition_width: int = 0,
    ) -> None:
        features, width = conv_features(shape, layers, batch_norm), math.prod(feature_shapes(shape, layers)[-1])
        super().__init__(features, width, latent_dim, [hidden], dropout=dropout, condition_width=condition_width)


class ConvDecoder(nn.Module):
    """z to a number a pixel: `ConvEncoder` backwards, with the same arguments.

    `hidden` is the width of a layer between z and the smallest feature map, 0 for none. Batch normalisation follows
    each transposed convolution but the last.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent_dim: int,
        layers: Sequence[Layer] = ((64, 4, 2, 1), (128, 4, 2, 1)),
        hidden: int = 512,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        sizes = feature_shapes(shape, layers)
        smallest = math.prod(sizes[-1])
        modules: list[nn.Module] = [nn.Linear(latent_dim, hidden), nn.SiLU()] if hidden else []
        modules += [nn.Linear(hidden or latent_dim, smallest), nn.SiLU(), nn.Unflatten(1, sizes[-1])]
        for index in range(len(layers) - 1, -1, -1):
            _, kernel, stride, padding = layers[index]
            (channels, *small), (out, *large) = sizes[index + 1], sizes[index]
            extra = tuple(n - ((m - 1) * stride - 2 * padding + kernel) for m, n in zip(small, large, strict=True))
            modules.append(nn.ConvTranspose2d(channels, out, kernel, stride, padding, (extra[0], extra[1]), bias=False))
            if index:
                modules += [nn.BatchNorm2d(out)] if batch_norm else []
                modules.append(nn.SiLU())
        self.layers = _channels_last(nn.Sequential(*modules))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z.reshape(-1, z.shape[-1])).reshape(*z.shape[:-1], -1)


def feature_shapes(shape: Sequence[int], layers: Sequence[Layer]) -> list[tuple[int, int, int]]:
    """Shapes of the image and of each convolution's output; a ValueError if one of them leaves nothing."""
    if len(shape) != 3:
        raise ValueError(f"expected an image of shape (channels, height, width), got {tuple(shape)}")
    shapes = [(shape[0], shape[1], shape[2])]
    for channels, kernel, stride, padding in layers:
        _, height, width = shapes[-1]
        size = tuple((n + 2 * padding - kernel) // stride + 1 for n in (height, width))
        if min(size) < 1:
            of = f"kernel {kernel}, stride {stride} and padding {padding}"
            raise ValueError(f"a convolution with {of} does not fit {height}x{width}")
        shapes.append((channels, size[0], size[1]))
    return shapes
