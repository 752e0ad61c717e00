"""Heads that give pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autodidact.encoders import build
from autodidact.heads import MirroredDecoder, PixelHead, convolutional_decoder


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / 2**0.5))


@pytest.mark.parametrize(("grid", "patch"), [((2, 3), (4, 2)), ((3, 1), (2, 5))])
def test_each_token_paints_its_own_patch(grid: tuple[int, int], patch: tuple[int, int]) -> None:
    torch.manual_seed(0)
    head = PixelHead(6, 2, grid, patch).double()
    tokens = torch.randn(3, grid[0] * grid[1], 6, dtype=torch.float64)
    image = head(tokens)
    assert image.shape == (3, 2, grid[0] * patch[0], grid[1] * patch[1])
    for index in range(grid[0] * grid[1]):
        row, column = divmod(index, grid[1])
        hidden = tokens[:, index]
        for linear in head.mlp[::2]:
            hidden = gelu(hidden @ linear.weight.T + linear.bias)
        painted = torch.einsum("nd,dchw->nchw", hidden, head.to_pixels.weight) + head.to_pixels.bias[:, None, None]
        there = image[:, :, row * patch[0] : (row + 1) * patch[0], column * patch[1] : (column + 1) * patch[1]]
        torch.testing.assert_close(there, painted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [(28, 28), (32, 20), (9, 15)])
def test_decoder_restores_the_size_that_three_poolings_took_away(size: tuple[int, int]) -> None:
    bottom = (size[0] // 8, size[1] // 8)
    image = MirroredDecoder(16, 3, size)(torch.randn(2, 16, *bottom))
    assert image.shape == (2, 3, *size)


def test_decoder_repeats_each_position_before_it_convolves() -> None:
    torch.manual_seed(0)
    decoder = MirroredDecoder(4, 1, (4, 4), stages=1).double()
    nn.init.zeros_(decoder.last.weight)
    # Only the centre tap of the first channel: the output is the enlarged channel itself.
    with torch.no_grad():
        decoder.last.weight[0, 0, 1, 1] = 1
        decoder.last.bias.zero_()
    x = torch.randn(2, 4, 2, 2, dtype=torch.float64)
    enlarged = x[:, :1].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(decoder(x), enlarged)


def test_decoder_of_too_small_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match="halved 3 times"):
        MirroredDecoder(128, 1, (7, 28))


@pytest.mark.parametrize(
    ("name", "size"), [("small:convpool", (28, 28)), ("small:convpool", (33, 20)), ("small:convnet", (32, 28))]
)
def test_decoder_of_an_encoder_turns_its_map_into_an_image(name: str, size: tuple[int, int]) -> None:
    encoder = build(name, image_size=size, channels=2)
    image = torch.rand(3, 2, *size)
    decoder = convolutional_decoder(encoder)
    assert decoder(encoder(image).map).shape == image.shape
    assert len(decoder.sizes) == 3
    narrowest = decoder.last.in_channels
    assert narrowest == encoder.map_shape[0] // 4


def test_an_encoder_without_a_map_has_no_decoder() -> None:
    encoder = build("small:convnet", image_size=8)
    encoder.map_shape = None
    with pytest.raises(ValueError, match="small:convnet has no spatial map"):
        convolutional_decoder(encoder)
