"""Residual networks: those of timm where timm has them, selective kernels by hand where it has not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autodidact.encoders import build
from autodidact.encoders.resnet import Block, ResNet, SelectiveKernel


def randomised(module: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
    return module.eval()


def resnet(**arguments: object) -> ResNet:
    encoder = build("small:resnet", **{"image_size": 32, "width": 0.125, **arguments})
    assert isinstance(encoder, ResNet)
    return encoder


@pytest.mark.parametrize(("depth", "size"), [(18, 32), (50, 32), (18, 96)])
def test_without_selective_kernels_it_is_timms_network_given_the_same_weights(depth: int, size: int) -> None:
    ours = randomised(resnet(depth=depth, image_size=size, width=1)).double()
    theirs = build(f"timm:resnet{depth}", image_size=size).double().eval()
    # Both list stem, body and shortcut of every block in one order, under other names.
    values, names = list(ours.state_dict().values()), list(theirs.state_dict())
    assert len(values) == len(names)
    theirs.load_state_dict(dict(zip(names, values, strict=True)))
    images = torch.rand(1, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        found, expected = ours(images), theirs(images)
    torch.testing.assert_close(found.map, expected.map, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.pooled, expected.pooled, rtol=1e-9, atol=1e-9)


def normed(x: Tensor, norm: nn.Module) -> Tensor:
    shape = (1, -1, 1, 1)
    x = (x - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()  # type: ignore[operator, union-attr]
    return x * norm.weight.view(shape) + norm.bias.view(shape)  # type: ignore[operator, union-attr]


@pytest.mark.parametrize(("channels", "middle"), [(6, 32), (640, 40)])
def test_a_selective_kernel_mixes_two_streams_by_shares_that_each_sample_chooses(channels: int, middle: int) -> None:
    kernel = randomised(SelectiveKernel(3, channels, 2).double())
    x = torch.randn(2, 3, 7, 7, dtype=torch.float64)
    convolution, norm, _ = kernel.streams
    both = normed(functional.conv2d(x, convolution.weight, stride=2, padding=1), norm).clamp(min=0)
    a, b = both[:, :channels], both[:, channels:]
    first, norm, _, second = kernel.choose
    assert first.weight.shape[0] == middle
    expected = torch.zeros_like(a)
    for i in range(2):
        mean = torch.stack([(a[i, c] + b[i, c]).sum() / 16 for c in range(channels)])
        hidden = normed((first.weight[:, :, 0, 0] @ mean).view(1, -1, 1, 1), norm).clamp(min=0).flatten()
        chosen = second.weight[:, :, 0, 0] @ hidden
        for c in range(channels):
            share = 1 / (1 + torch.exp(chosen[channels + c] - chosen[c]))
            expected[i, c] = share * a[i, c] + (1 - share) * b[i, c]
    torch.testing.assert_close(kernel(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("side", [6, 7])
def test_a_strided_shortcut_averages_two_by_two_pixels_where_kernels_are_selective(side: int) -> None:
    block = randomised(Block(4, 6, 2, bottleneck=False, sk=True))
    x = torch.randn(2, 4, side, side)
    steps = range(0, side, 2)
    pooled = torch.stack(
        [torch.stack([x[:, :, i : i + 2, j : j + 2].mean(dim=(2, 3)) for j in steps], dim=2) for i in steps], dim=2
    )
    expected = normed(torch.einsum("oc,nchw->nohw", block.shortcut[1].weight[:, :, 0, 0], pooled), block.shortcut[2])
    torch.testing.assert_close(block.shortcut(x), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(block(x), (block.body(x) + expected).clamp(min=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sk", [False, True])
@pytest.mark.parametrize("depth", [18, 50])
def test_the_width_multiplies_the_channels_of_every_convolution_but_the_images(depth: int, sk: bool) -> None:
    narrow, wide = (resnet(depth=depth, sk=sk, width=width) for width in (0.375, 0.75))
    assert (narrow.width, wide.width) == ((192, 384) if depth == 18 else (768, 1536))
    pairs = zip(narrow.modules(), wide.modules(), strict=True)
    shapes = [(a.weight.shape, b.weight.shape) for a, b in pairs if isinstance(a, nn.Conv2d) and a.out_channels != 32]
    # 32 is the least size inside a selective kernel, at any width.
    body = [(a, b) for a, b in shapes if a[1] not in (3, 32)]
    assert len(body) >= 16
    assert all((2 * a[0], 2 * a[1], *a[2:]) == tuple(b) for a, b in body)


def test_a_block_starts_as_its_shortcut() -> None:
    block = Block(4, 4, 1, bottleneck=False, sk=True).train()
    x = torch.randn(3, 4, 5, 5).clamp(min=0)
    torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize(("side", "rows"), [(8, 4), (12, 6), (16, 4), (28, 4), (32, 4), (64, 8), (96, 3)])
def test_small_images_keep_four_positions_a_side(side: int, rows: int) -> None:
    for sk in (False, True):
        encoder = resnet(image_size=side, sk=sk)
        assert encoder.map_shape == (64, rows, rows)
        assert encoder.eval()(torch.rand(2, 3, side, side)).map.shape[1:] == encoder.map_shape


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"depth": 19}, "unknown depth of a ResNet '19'; did you mean '18'"), ({"width": 0.01}, "at least 2 channels")],
)
def test_a_depth_or_width_that_there_is_not_is_refused(arguments: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resnet(**arguments)
