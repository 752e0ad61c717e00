"""A vision transformer for small images, made by timm so that timm can load it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autodidact.catalog import unknown
from autodidact.data.schema import Schema
from autodidact.encoders import timm_encoder
from autodidact.encoders.image import image_spec

ROTARY = {"dynamic_img_size": True, "init_values": 1.0}
"""Any number of patches; timm has no such model without LayerScale, so it starts at 1."""
POSITIONS = ("learned", "separable", "rotary")


def build(
    *,
    width: int = 128,
    depth: int = 6,
    heads: int = 4,
    patch: int | None = None,
    mlp_ratio: float = 4.0,
    drop_path: float = 0.0,
    registers: int = 0,
    pool: str = "token",
    positions: str = "learned",
    schema: Schema | None = None,
    image_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    statistics: Any = None,
) -> timm_encoder.TimmEncoder:
    """A plain pre-norm ViT with a class token.

    Parameters
    ----------
    width : size of a token, a multiple of `heads`.
    depth : number of blocks.
    heads : attention heads.
    patch : side of a patch in pixels; by default the smallest divisor of both sides, at least 2, with at most 64
        patches (8 px: 2, 28 and 32 px: 4, 64 px: 8).
    mlp_ratio : width of the blocks' MLP over `width`.
    drop_path : rate of stochastic depth in the last block; it grows linearly from 0 in the first.
    registers : number of register tokens.
    pool : the embedding: "token" for the class token, "avg" for the mean of the patch tokens.
    positions : "learned" for a vector that is added to each patch; "separable" for the sum of a learned vector of its
        row and one of its column, as many parameters as rows and columns; "rotary" for queries and keys that every
        block turns by row and column (RoPE-Axial, arXiv 2403.13298), so that attention sees how far apart patches are;
        needs ``width / heads`` to be a multiple of 4.
    """
    asked = {
        "width": width,
        "depth": depth,
        "heads": heads,
        "patch": patch,
        "mlp_ratio": mlp_ratio,
        "drop_path": drop_path,
        "registers": registers,
        "pool": pool,
        "positions": positions,
    }
    if width % heads:
        raise ValueError(f"small:vit needs a width that is a multiple of heads, got {width} and {heads}")
    if pool not in ("token", "avg"):
        raise ValueError(f"small:vit pools by 'token' or 'avg', got {pool!r}")
    if positions not in POSITIONS:
        raise unknown("positions of small:vit", positions, POSITIONS)
    rotary, separable = positions == "rotary", positions == "separable"
    if rotary and (width // heads) % 4:
        raise ValueError(
            f"rotary positions need a width that is a multiple of four times the heads, got {width} and {heads}"
        )
    spec = image_spec(
        "small:vit", asked, schema=schema, image_size=image_size, channels=channels, statistics=statistics
    )
    return timm_encoder.build_sized(
        {**spec, "separable": True} if separable else spec,
        timm_name="vit_small_patch16_rope_224" if rotary else "vit_tiny_patch16_224",
        args={
            "patch_size": patch or default_patch(*spec["image_size"]),
            "embed_dim": width,
            "depth": depth,
            "num_heads": heads,
            "mlp_ratio": mlp_ratio,
            "drop_path_rate": drop_path,
            "num_reg_tokens" if rotary else "reg_tokens": registers,
            "global_pool": pool,
            **(ROTARY if rotary else {}),
            # Class and register tokens are in no row or column.
            **({"no_embed_class": True} if separable else {}),
        },
    )


def default_patch(height: int, width: int) -> int:
    """The smallest divisor of both sides, at least 2, that gives at most 64 patches."""
    for patch in range(2, min(height, width) // 2 + 1):
        if height % patch == 0 and width % patch == 0 and (height // patch) * (width // patch) <= 64:
            return patch
    raise ValueError(
        f"no patch size divides {height}x{width} into 4 to 64 patches; use --image-size {max(8, 4 * round(height / 4))}"
    )
