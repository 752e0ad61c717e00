"""The small convolutional encoders."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from autodidact.encoders import build
from autodidact.encoders.convnet import ConvPool, SmallConvNet
from autodidact.model import Masked


def naive(stage: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """Convolution, batch norm with running statistics and ReLU, written out."""
    conv, norm = stage[0], stage[1]
    x = functional.conv2d(x, conv.weight.double(), stride=conv.stride, padding=conv.padding)
    shape = (1, -1, 1, 1)
    x = (x - norm.running_mean.double().view(shape)) / (norm.running_var.double().view(shape) + norm.eps).sqrt()
    x = (x * norm.weight.double().view(shape) + norm.bias.double().view(shape)).clamp(min=0)
    if len(stage) == 4:
        n, c, h, w = x.shape
        x = x[:, :, : h // 2 * 2, : w // 2 * 2].view(n, c, h // 2, 2, w // 2, 2).amax(dim=(3, 5))
    return x


@pytest.mark.parametrize("name", ["small:convnet", "small:convpool"])
def test_every_stage_is_convolution_norm_relu_and_the_last_is_averaged(name: str) -> None:
    torch.manual_seed(0)
    encoder = build(name, image_size=(18, 26), channels=2, width=4, statistics=([0.3, 0.4], [0.2, 0.5])).eval()
    for part in encoder.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    images = torch.rand(3, 2, 18, 26)
    encoded = encoder(images, taps=range(encoder.depth))
    x = (images.double() - torch.tensor([0.3, 0.4]).view(2, 1, 1)) / torch.tensor([0.2, 0.5]).view(2, 1, 1)
    for index, stage in enumerate(encoder.stages):
        x = naive(stage, x)
        torch.testing.assert_close(encoded.taps[index].double(), x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoded.map.double(), x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoded.pooled.double(), x.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [8, 12, 16, 28, 32, 48, 64])
def test_convnet_ends_on_about_four_by_four_positions(side: int) -> None:
    encoder = build("small:convnet", image_size=side, channels=1)
    assert isinstance(encoder, SmallConvNet)
    assert encoder.map_shape == (128, *encoder(torch.rand(2, 1, side, side)).map.shape[2:])
    assert 3 <= encoder.map_shape[1] <= 6


@pytest.mark.parametrize(("side", "stride"), [(8, 1), (16, 1), (23, 1), (24, 2), (32, 2)])
def test_first_layer_keeps_the_resolution_of_tiny_images_only(side: int, stride: int) -> None:
    assert build("small:convnet", image_size=side, channels=1).stages[0][0].stride == (stride, stride)


def test_autoencoders_encoder_is_that_of_the_paper() -> None:
    encoder = build("small:convpool", image_size=32)
    assert isinstance(encoder, ConvPool)
    assert encoder.map_shape == (128, 4, 4)
    assert [stage[0].out_channels for stage in encoder.stages] == [32, 64, 128]


@pytest.mark.parametrize("name", ["small:convnet", "small:convpool"])
def test_a_convnet_drops_no_tokens_and_has_no_further_layers(name: str) -> None:
    encoder = build(name, image_size=8, channels=1)
    with pytest.raises(ValueError, match="cannot drop tokens"):
        encoder(torch.rand(2, 1, 8, 8), keep=torch.zeros(2, 1, dtype=torch.long))
    with pytest.raises(ValueError, match="cannot mask tokens"):
        encoder(torch.rand(2, 1, 8, 8), masked=Masked(torch.zeros(2, 1, dtype=torch.bool), torch.zeros(1)))
    with pytest.raises(ValueError, match=rf"{name} has layers 0 to {encoder.depth - 1}, not 9"):
        encoder(torch.rand(2, 1, 8, 8), taps=(9,))
