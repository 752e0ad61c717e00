"""Small convolutional encoders for small images: four 3x3 layers, or three pooled ones (G-SimCLR's autoencoder)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from autodidact.encoders.image import ImageEncoder
from autodidact.model import Encoded, Masked


class Stages(ImageEncoder):
    """Stages one after another; the last one's map, averaged over positions, is the embedding."""

    stages: nn.ModuleList

    def forward(
        self,
        inputs: Float[Tensor, "n c h w"],
        *,
        keep: Int[Tensor, "n k"] | None = None,
        masked: Masked | None = None,
        unplaced: Bool[Tensor, "n t"] | None = None,
        taps: Sequence[int] = (),
    ) -> Encoded:
        self.no_keep(keep)
        self.no_masked(masked)
        self.no_unplaced(unplaced)
        self.need_tap(taps)
        # channels_last is 1.1 to 1.5 times faster on CPUs at these sizes, and needed for tensor cores on GPUs.
        x = self.normalise(inputs).contiguous(memory_format=torch.channels_last)
        tapped = {}
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in taps:
                tapped[index] = x
        return Encoded(pooled=x.mean(dim=(2, 3)), map=x, taps=tapped)

    def _settle(self, channels: int, size: tuple[int, int]) -> None:
        """Take note of the shapes of the last map, and lay the weights out for channels-last."""
        self.width, self.depth, self.map_shape = channels, len(self.stages), (channels, *size)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class SmallConvNet(Stages):
    """3x3 convolution, BatchNorm, ReLU, four times; for images of 8 to 96 pixels.

    Resolution is halved until about 4x4 positions remain: round(log2(side / 4)) times. Below 24 pixels the first layer
    keeps the full resolution; from there on it halves too, since it would cost more than all others together.

    Parameters
    ----------
    width : channels of the first layer; the others have 2, 4 and 4 times as many, so the embedding has ``4 * width``.
    layers : number of layers; further ones beyond four have ``4 * width`` channels.
    """

    def __init__(self, spec: Mapping[str, Any], *, width: int = 32, layers: int = 4) -> None:
        super().__init__(spec)
        if width < 1 or layers < 1:
            raise ValueError(f"small:convnet needs width and layers of at least 1, got {width} and {layers}")
        side = min(self.image_size)
        halvings = max(0, round(math.log2(side / 4)))
        first = 1 if side < 24 else 0
        strides = [2 if first <= index < first + halvings else 1 for index in range(layers)]
        channels = [self.channels, *(width * min(2**index, 4) for index in range(layers))]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels[index], channels[index + 1], 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(channels[index + 1]),
                nn.ReLU(inplace=True),
            )
            for index, stride in enumerate(strides)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        factor = math.prod(strides)
        self._settle(channels[-1], (-(-self.image_size[0] // factor), -(-self.image_size[1] // factor)))


class ConvPool(Stages):
    """3x3 convolution, BatchNorm, ReLU, 2x2 max-pool, with 32, 64 and 128 channels.

    Encoder of the denoising autoencoder of G-SimCLR (2009.12007, section III): a 32x32 image becomes a 4x4x128 map
    whose average over positions is clustered. `autodidact.heads.MirroredDecoder` is its other half.

    Parameters
    ----------
    width : channels of the first stage; each further one has twice as many.
    stages : number of stages; each halves the resolution, rounding down.
    """

    def __init__(self, spec: Mapping[str, Any], *, width: int = 32, stages: int = 3) -> None:
        super().__init__(spec)
        if min(self.image_size) < 2**stages:
            raise ValueError(f"small:convpool halves {stages} times and needs images of at least {2**stages} pixels")
        channels = [self.channels, *(width * 2**index for index in range(stages))]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels[index], channels[index + 1], 3, padding=1, bias=False),
                nn.BatchNorm2d(channels[index + 1]),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            )
            for index in range(stages)
        )
        self._settle(channels[-1], (self.image_size[0] >> stages, self.image_size[1] >> stages))
