"""From tokens or maps back to pixels: GMML's reconstruction head and the mirrored decoder of an autoencoder."""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class PixelHead(nn.Module):
    """Three (Linear, GELU) on every token, then a transposed convolution from each token to its patch.

    GMML (2205.14986) and SiT: a light head, so that the encoder has to do the work. Pixels are predicted in the
    normalised space of the encoder's input or in [0, 1], whichever the loss compares with.

    Parameters
    ----------
    width : size of a token.
    channels : of the image.
    grid : (rows, columns) of tokens.
    patch : (height, width) of a patch in pixels, the kernel and stride of the last layer.
    """

    def __init__(self, width: int, channels: int, grid: tuple[int, int], patch: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.mlp = nn.Sequential(*(part for _ in range(3) for part in (nn.Linear(width, width), nn.GELU())))
        self.to_pixels = nn.ConvTranspose2d(width, channels, kernel_size=patch, stride=patch)

    def forward(self, tokens: Float[Tensor, "n t d"]) -> Float[Tensor, "n c h w"]:
        return self.to_pixels(self.mlp(tokens).transpose(1, 2).unflatten(2, self.grid))


class MirroredDecoder(nn.Module):
    """Nearest up-sampling and a 3x3 convolution a stage, back through the sizes of the encoder.

    The other half of ``small:convpool`` (G-SimCLR, 2009.12007, section III): channels fall by half a stage with
    BatchNorm and ReLU, and the last convolution gives logits of the image, whose sigmoid is in [0, 1].

    Parameters
    ----------
    width : channels of the encoder's last map.
    channels : of the image.
    image_size : (height, width) of the image; sides that are odd on the way down are restored exactly.
    stages : number of times that the encoder halved.
    """

    def __init__(self, width: int, channels: int, image_size: tuple[int, int], stages: int = 3) -> None:
        super().__init__()
        height, side = image_size
        self.sizes = [(height >> left, side >> left) for left in reversed(range(stages))]
        widths = [width >> stage for stage in range(stages)]
        if widths[-1] < 1 or min(height, side) < 2**stages:
            raise ValueError(f"{width} channels and {height}x{side} pixels cannot be halved {stages} times")
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(narrow * 2, narrow, 3, padding=1, bias=False), nn.BatchNorm2d(narrow), nn.ReLU(inplace=True)
            )
            for narrow in widths[1:]
        )
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "n d h w"]) -> Float[Tensor, "n c height width"]:
        for size, stage in zip(self.sizes, (*self.stages, self.last), strict=True):
            x = stage(functional.interpolate(x, size=size, mode="nearest"))
        return x


@runtime_checkable
class SpatialEncoder(Protocol):
    """What `convolutional_decoder` needs to know of an image encoder."""

    spec: dict[str, Any]
    map_shape: tuple[int, int, int] | None


def convolutional_decoder(encoder: SpatialEncoder) -> MirroredDecoder:
    """The `MirroredDecoder` for the map of an image encoder, with a stage for every time that the encoder halved."""
    if encoder.map_shape is None:
        raise ValueError(f"{encoder.spec['name']} has no spatial map to decode from; use small:convpool")
    width, *map_size = encoder.map_shape
    height, side = encoder.spec["image_size"]
    return MirroredDecoder(width, encoder.spec["channels"], (height, side), _halvings(min(height, side), min(map_size)))


def _halvings(before: int, after: int) -> int:
    """How often a side was halved, rounded down or up each time; 12 becomes 1 in 3 steps and 2 in 3, too."""
    exact = (times for times in range(1, before) if after in (before >> times, -(-before // 2**times)))
    return next(exact, max(1, round(math.log2(before / after))))
