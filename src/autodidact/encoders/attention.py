"""What the tokens of a plain vision transformer look at, block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.encoders.timm_encoder import TimmEncoder
from autodidact.model import Encoder


def has_attention(encoder: Encoder) -> bool:
    """Whether it is a plain vision transformer of timm (``small:vit``, ``timm:vit_...``)."""
    return isinstance(encoder, TimmEncoder) and encoder.any_tokens and encoder.grid is not None


@torch.no_grad()
def attention_maps(encoder: Encoder, inputs: Float[Tensor, "n c h w"]) -> list[Float[Tensor, "n heads t t"]]:
    """Attention of every block: row i is the distribution over all tokens, class and register tokens first, from which
    token i gathers.

    Fused attention does not keep it, so it is computed again from each block's input; dropout is left out.

    Raises
    ------
    ValueError : the encoder is not a plain vision transformer of timm (``small:vit``, ``timm:vit_...``).
    """
    if not isinstance(encoder, TimmEncoder) or not encoder.any_tokens:
        raise ValueError(f"{encoder.name} is not a plain vision transformer: it has no attention maps")
    found: list[Tensor] = []

    def keep(attention: Any, given: tuple[Tensor, ...], named: Mapping[str, Any]) -> None:
        x = given[0]
        n, t, _ = x.shape
        q, k, _ = attention.qkv(x).reshape(n, t, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = attention.q_norm(q), attention.k_norm(k)
        if named.get("rope") is not None:
            q, k = (_turned(each, named["rope"], encoder.prefix_count) for each in (q, k))
        found.append((q * attention.scale @ k.transpose(-2, -1)).softmax(dim=-1))

    handles = [block.attn.register_forward_pre_hook(keep, with_kwargs=True) for block in encoder.model.blocks]
    try:
        encoder(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _turned(x: Float[Tensor, "n heads t d"], rope: Tensor, prefix: int) -> Float[Tensor, "n heads t d"]:
    """Queries or keys with the patches among them turned by their positions."""
    from timm.layers import apply_rot_embed_cat

    return torch.cat([x[:, :, :prefix], apply_rot_embed_cat(x[:, :, prefix:], rope)], dim=2)


def rollout(maps: Sequence[Float[Tensor, "n heads t t"]]) -> Float[Tensor, "n t t"]:
    """How much of each token of the input is in each of the output, if tokens are mixed as attention says: the product
    of (A + 1) / 2 over the blocks, A the mean over heads (Abnar and Zuidema, arXiv 2005.00928)."""
    mixed = torch.eye(maps[0].shape[-1], device=maps[0].device).expand_as(maps[0][:, 0])
    for attention in maps:
        mixed = (attention.mean(dim=1) @ mixed + mixed) / 2
    return mixed
