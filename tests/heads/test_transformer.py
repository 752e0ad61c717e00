"""The transformer layer against PyTorch's own, and the positions against a loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from autodidact.heads import Tail, TransformerLayer, initialise, sinusoidal


def reference(layer: TransformerLayer, width: int, heads: int, hidden: int) -> nn.TransformerEncoderLayer:
    twin = nn.TransformerEncoderLayer(
        width, heads, hidden, dropout=0.0, batch_first=True, norm_first=layer.norm == "pre", activation="relu"
    ).double()
    weights = {
        "self_attn.in_proj_weight": layer.qkv.weight,
        "self_attn.in_proj_bias": layer.qkv.bias,
        "self_attn.out_proj.weight": layer.out.weight,
        "self_attn.out_proj.bias": layer.out.bias,
        "linear1.weight": layer.mlp[0].weight,
        "linear1.bias": layer.mlp[0].bias,
        "linear2.weight": layer.mlp[3].weight,
        "linear2.bias": layer.mlp[3].bias,
        "norm1.weight": layer.norm1.weight,
        "norm1.bias": layer.norm1.bias,
        "norm2.weight": layer.norm2.weight,
        "norm2.bias": layer.norm2.bias,
    }
    twin.load_state_dict(weights)
    return twin


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_layer_equals_pytorchs_with_the_same_weights(norm: str) -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(12, 3, 20, norm=norm).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(4, 7, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x), reference(layer, 12, 3, 20)(x), rtol=1e-10, atol=1e-10)


def test_layer_treats_tokens_as_a_set() -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(8, 2, 16).double()
    x, order = torch.randn(2, 5, 8, dtype=torch.float64), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])


def test_width_must_be_a_multiple_of_heads() -> None:
    with pytest.raises(ValueError, match="multiple of the number of heads"):
        TransformerLayer(10, 3, 16)


@pytest.mark.parametrize("width", [6, 7])
@pytest.mark.parametrize("base", [100.0, 10_000.0])
def test_positions_are_sines_and_cosines_of_falling_frequency(width: int, base: float) -> None:
    positions = torch.tensor([0, 1, 5, 40])
    table = sinusoidal(positions, width, base=base)
    for row, p in enumerate(positions.tolist()):
        for i in range(width):
            angle = p / base ** ((i - i % 2) / width)
            expected = math.cos(angle) if i % 2 else math.sin(angle)
            assert float(table[row, i]) == pytest.approx(expected, abs=2e-6)


def test_tail_ends_on_a_layer_norm() -> None:
    out = Tail(16)(torch.randn(3, 5, 16))
    torch.testing.assert_close(out.mean(dim=-1), torch.zeros(3, 5), atol=1e-6, rtol=0)


def test_initialise_draws_small_normal_weights_and_zero_biases() -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(32, 4, 64)
    initialise(layer, std=0.02)
    weights = layer.mlp[0].weight
    assert weights.std().item() == pytest.approx(0.02, rel=0.05)
    assert (weights.abs() > 0.04).float().mean().item() == pytest.approx(0.0455, abs=0.02)
    assert layer.mlp[0].bias.abs().max() == layer.qkv.bias.abs().max() == 0


def test_initialise_leaves_attention_as_wide_as_pytorchs_own() -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(32, 4, 64)
    initialise(layer, std=0.02)
    theirs = torch.nn.MultiheadAttention(32, 4).in_proj_weight
    bound = (6 / (32 + 3 * 32)) ** 0.5
    assert bound * 0.99 < layer.qkv.weight.abs().max() <= bound
    assert layer.qkv.weight.std().item() == pytest.approx(theirs.std().item(), rel=0.05)
