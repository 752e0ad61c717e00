"""Residual networks of any width, with selective kernels if wanted, for small and for large images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autodidact.catalog import unknown
from autodidact.encoders.convnet import Stages

LAYERS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
"""Depth -> blocks in each of the four stages; from 50 on they are bottlenecks."""
SMALL = 64
"""Pixels of the smaller side up to which the stem keeps the resolution."""


class ResNet(Stages):
    """ResNet (He et al., 1512.03385) whose channels, the stem's included, are `width` times the usual ones.

    With selective kernels it is the encoder of SimCLR v2 (2006.10029, section 3 and appendix): every strided shortcut
    averages 2x2 pixels before its 1x1 convolution, as in ResNet-D (He et al., 1812.01187), and each block has a
    `SelectiveKernel` for its (first) 3x3 convolution. timm has neither that kernel nor such widths: its
    ``skresnet`` families mix two dilations (1903.06586), and its ``wide_resnet`` families widen the bottleneck alone.

    Images of at most 64 pixels get a 3x3 stem without max-pool (SimCLR, 2002.05709, appendix B.9), and stages halve
    them only while 4 positions a side remain; larger ones get the 7x7 stem, or with selective kernels the three 3x3
    convolutions of ResNet-D. The last norm of each block starts at zero, so that a block starts as its shortcut.

    Parameters
    ----------
    depth : 18, 34, 50, 101, 152 or 200.
    width : multiplier of all channels, above 0. Paper: 1, 2 and 3; for small images on a CPU 0.25 is plenty.
    sk : whether there are selective kernels.
    """

    def __init__(self, spec: Mapping[str, Any], *, depth: int = 18, width: int | float = 1, sk: bool = False) -> None:
        super().__init__(spec)
        if depth not in LAYERS:
            raise unknown("depth of a ResNet", str(depth), [str(known) for known in LAYERS])
        channels = [round(64 * 2**stage * width) for stage in range(4)]
        if channels[0] < 2:
            raise ValueError(f"small:resnet needs a width that leaves at least 2 channels, got {width}")
        small = min(self.image_size) <= SMALL
        stem = _stem(self.channels, channels[0], small=small, deep=sk)
        size = self.image_size if small else tuple(-(-side // 4) for side in self.image_size)
        bottleneck = depth >= 50
        given = channels[0]
        stages: list[nn.Sequential] = []
        for number, (count, inner) in enumerate(zip(LAYERS[depth], channels, strict=True)):
            stride = 2 if number and (not small or min(size) > 6) else 1
            blocks: list[nn.Module] = [] if number else [stem]
            for block in range(count):
                blocks.append(Block(given, inner, stride if block == 0 else 1, bottleneck=bottleneck, sk=sk))
                given = 4 * inner if bottleneck else inner
            stages.append(nn.Sequential(*blocks))
            size = tuple(-(-side // stride) for side in size)
        self.stages = nn.ModuleList(stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self._settle(given, (size[0], size[1]))


class Block(nn.Module):
    """A residual block: two 3x3 convolutions, or a 3x3 one between two of 1x1; ReLU of its sum with the shortcut."""

    def __init__(self, given: int, channels: int, stride: int, *, bottleneck: bool, sk: bool) -> None:
        super().__init__()
        out = 4 * channels if bottleneck else channels
        before = _layer(given, channels, 1) if bottleneck else []
        inner = channels if bottleneck else given
        middle = [SelectiveKernel(inner, channels, stride)] if sk else _layer(inner, channels, 3, stride)
        after = _layer(channels, out, 1 if bottleneck else 3)[:-1]
        nn.init.zeros_(after[-1].weight)  # type: ignore[arg-type]
        self.body = nn.Sequential(*before, *middle, *after)
        self.shortcut = nn.Sequential()
        if stride > 1 or given != out:
            pool = [nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)] if sk and stride > 1 else []
            self.shortcut = nn.Sequential(*pool, *_layer(given, out, 1, 1 if sk else stride)[:-1])

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d oh ow"]:
        return torch.relu(self.body(x) + self.shortcut(x))


class SelectiveKernel(nn.Module):
    r"""Two 3x3 convolutions whose shares in the output each sample chooses, channel by channel (SimCLR v2's form).

    One convolution makes both streams a and b, each with BatchNorm and ReLU. With the mean over positions m of a + b,
    ``w = softmax over the streams of W2 relu(norm(W1 m))`` and the output is ``w_a a + w_b b``.

    Parameters
    ----------
    given, channels, stride : of the convolutions.
    ratio, least : size of W1 m: ``max(ratio * channels, least)``. Paper: 1/16, 32.
    """

    def __init__(self, given: int, channels: int, stride: int = 1, *, ratio: float = 1 / 16, least: int = 32) -> None:
        super().__init__()
        self.streams = nn.Sequential(*_layer(given, 2 * channels, 3, stride))
        middle = max(int(ratio * channels), least)
        self.choose = nn.Sequential(*_layer(channels, middle, 1), nn.Conv2d(middle, 2 * channels, 1, bias=False))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d oh ow"]:
        streams = self.streams(x).unflatten(1, (2, -1))
        chosen = self.choose(streams.sum(dim=1).mean(dim=(2, 3), keepdim=True))
        return (streams * chosen.unflatten(1, (2, -1)).softmax(dim=1)).sum(dim=1)


def _layer(given: int, out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(given, out, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    ]


def _stem(given: int, out: int, *, small: bool, deep: bool) -> nn.Sequential:
    if small:
        return nn.Sequential(*_layer(given, out, 3))
    first = (
        [*_layer(given, out // 2, 3, 2), *_layer(out // 2, out // 2, 3), *_layer(out // 2, out, 3)]
        if deep
        else _layer(given, out, 7, 2)
    )
    return nn.Sequential(*first, nn.MaxPool2d(3, stride=2, padding=1))
