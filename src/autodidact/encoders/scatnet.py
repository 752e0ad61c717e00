"""Scattering in front, a few residual blocks behind it: an encoder for small sets of small images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from autodidact.encoders.image import ImageEncoder
from autodidact.encoders.scattering import Scattering2D
from autodidact.model import Encoded, Masked


class ScatNet(ImageEncoder):
    """The encoder of ScatSimCLR (arXiv 2108.13939, section 3): fixed wavelet scattering, then a trained adapter.

    The adapter is a 3x3 convolution and residual blocks at the resolution of the scattering, 2^scales times coarser
    than the image; its map, averaged over pool x pool regions, is the embedding. The paper's largest is
    ``small:scatnet?orientations=16&blocks=30&width=128&stem=256``.

    Parameters
    ----------
    scales : octaves of the wavelets; images need 2^scales pixels at least. Paper: 2.
    orientations : of the wavelets in half a turn. Paper: 16.
    order : of the scattering, 0 to 2. Paper: 2.
    blocks : residual blocks of two 3x3 convolutions. 0 leaves the scattering alone: there is nothing to train then.
    width : channels of the blocks.
    stem : channels of the first convolution; 0 for `width`.
    pool : regions along each axis that are embedded side by side, no more than the map has positions. Paper: 4.
    standardise : bring every scattering map to mean 0 and variance 1 over the training batches (a batch norm without
        weights): those of second order are 5 to 20 times smaller than the others.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        *,
        scales: int = 2,
        orientations: int = 8,
        order: int = 2,
        blocks: int = 2,
        width: int = 64,
        stem: int = 0,
        pool: int = 4,
        standardise: bool = True,
    ) -> None:
        super().__init__(spec)
        if blocks < 0 or width < 1 or stem < 0 or pool < 1:
            raise ValueError(
                f"small:scatnet needs width and pool of at least 1, and blocks and stem of at least 0, got {width}, "
                f"{pool}, {blocks} and {stem}"
            )
        self.scattering = Scattering2D(self.image_size, scales=scales, orientations=orientations, order=order)
        maps, size = self.channels * self.scattering.paths, self.scattering.out_size
        self.norm = nn.BatchNorm2d(maps, affine=False) if standardise else nn.Identity()
        channels = [stem or width] + [width] * blocks
        self.stages = nn.ModuleList(
            [_convolved(maps, channels[0]), *(_Residual(*channels[i : i + 2]) for i in range(blocks))] if blocks else []
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        width = channels[-1] if blocks else maps
        regions = [min(pool, side) for side in size]
        for name, side, count in zip(("down", "across"), size, regions, strict=True):
            self.register_buffer(name, _regions(side, count), persistent=False)
        self.map_shape, self.depth = (width, *size), len(self.stages)
        self.width = width * regions[0] * regions[1]

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
        x = self.norm(self.scattering(self.normalise(inputs))).contiguous(memory_format=torch.channels_last)
        tapped = {}
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in taps:
                tapped[index] = x
        pooled = self.get_buffer("down").to(x.dtype) @ x @ self.get_buffer("across").to(x.dtype).T
        return Encoded(pooled=pooled.flatten(1), map=x, taps=tapped)


def _regions(side: int, count: int) -> Float[Tensor, "count side"]:
    """Matrix that averages the positions of each of `count` regions, which overlap where they do not divide `side`."""
    matrix = torch.zeros(count, side)
    for region in range(count):
        first, last = region * side // count, -(-(region + 1) * side // count)
        matrix[region, first:last] = 1 / (last - first)
    return matrix


def _convolved(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


class _Residual(nn.Module):
    """Two 3x3 convolutions around which the input passes, through a 1x1 convolution where the channels change."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            _convolved(before, after), nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)
        )
        self.around = (
            nn.Identity()
            if before == after
            else nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        return torch.relu(self.inner(x) + self.around(x))
