"""A transformer layer, and fixed sinusoidal positions: what tokenised tables and predictors are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

Norm = Literal["pre", "post"]


class TransformerLayer(nn.Module):
    """Self-attention over tokens, then a two-layer MLP, each with a residual connection and a LayerNorm.

    Post-norm, x <- LN(x + f(x)), is the form of Vaswani et al. (1706.03762) that T-JEPA uses; pre-norm,
    x <- x + f(LN(x)), the one of vision transformers.

    Parameters
    ----------
    width : size of a token; a multiple of `heads`.
    heads : attention heads.
    hidden : width of the MLP.
    dropout : probability, on the attention's output, inside the MLP and on its output.
    norm : where the LayerNorms are.
    activation : of the MLP.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        dropout: float = 0.0,
        norm: Norm = "post",
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of the number of heads {heads}")
        self.heads, self.norm = heads, norm
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), activation(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )
        self.dropout = nn.Dropout(dropout)

    def attend(self, x: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        """softmax(Q Kᵀ / sqrt(d / heads)) V of every head, projected back to d."""
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(q, k, v)
        return self.dropout(self.out(attended.transpose(1, 2).reshape(n, t, d)))

    def forward(self, x: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        if self.norm == "post":
            x = self.norm1(x + self.attend(x))
            return self.norm2(x + self.mlp(x))
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Tail(nn.Sequential):
    """Dropout, LayerNorm, Linear, dropout, LayerNorm: what ends T-JEPA's encoder and predictor."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__(
            nn.Dropout(dropout), nn.LayerNorm(width), nn.Linear(width, width), nn.Dropout(dropout), nn.LayerNorm(width)
        )


def sinusoidal(
    positions: Int[Tensor, "*shape"] | Float[Tensor, "*shape"], width: int, *, base: float = 10_000.0
) -> Float[Tensor, "*shape width"]:
    """Fixed positions: entry 2i is sin(p / base^(2i/d)), entry 2i+1 is cos of the same angle (Vaswani et al., 3.5).

    Parameters
    ----------
    positions : indices of the tokens.
    width : d, the size of a token; odd widths end on a sine.
    base : frequency base; T-JEPA's code uses 100.
    """
    even = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32)
    angle = positions[..., None].float() / base ** (even / width)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)[..., :width]


def sinusoidal_grid(grid: Sequence[int], width: int, *, base: float = 10_000.0) -> Float[Tensor, "places width"]:
    """Fixed positions on a grid, in raster order: `sinusoidal` of the place along each axis, side by side, last axis
    first (MAE, 2111.06377).

    Parameters
    ----------
    grid : places along each axis, such as (rows, columns).
    width : size of a token, a multiple of twice the number of axes.
    base : frequency base.
    """
    if width % (2 * len(grid)):
        raise ValueError(
            f"positions on {len(grid)} axes need a width that is a multiple of {2 * len(grid)}, got {width}"
        )
    places = torch.meshgrid(*(torch.arange(length) for length in grid), indexing="ij")
    parts = [sinusoidal(place.flatten(), width // len(grid), base=base) for place in reversed(places)]
    return torch.cat(parts, dim=1)


def initialise(module: nn.Module, std: float = 0.02) -> None:
    """Normal weights, zero biases and unit norms, for every Linear and LayerNorm inside; attention starts wider.

    The packed query, key and value projection is Xavier-uniform, as PyTorch's own attention draws it and as it stays in
    T-JEPA's code, which goes over Linear modules only. With `std` there too, ten times less of a row's other tokens
    would reach a token at the start.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            # Cut at 2, not at two standard deviations: the convention of timm and of I-JEPA.
            nn.init.trunc_normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, TransformerLayer):
            nn.init.xavier_uniform_(part.qkv.weight)
