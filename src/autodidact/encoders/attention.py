"""What the tokens of a plain vision transformer look at, block by block."""

from __future__ import annotations

from collections.abc import Sequence

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

    Fused attention does not keep it, so for this the blocks attend step by step; dropout is left out.

    Raises
    ------
    ValueError : the encoder is not a plain vision transformer of timm (``small:vit``, ``timm:vit_...``).
    """
    if not isinstance(encoder, TimmEncoder) or not has_attention(encoder):
        raise ValueError(f"{encoder.name} is not a plain vision transformer: it has no attention maps")
    found: list[Tensor] = []
    attentions = [block.attn for block in encoder.model.blocks]
    fused = [attention.fused_attn for attention in attentions]
    handles = [
        attention.attn_drop.register_forward_pre_hook(lambda _, given: found.append(given[0]))
        for attention in attentions
    ]
    try:
        for attention in attentions:
            attention.fused_attn = False
        encoder(inputs)
    finally:
        for attention, handle, was in zip(attentions, handles, fused, strict=True):
            handle.remove()
            attention.fused_attn = was
    return found


def rollout(maps: Sequence[Float[Tensor, "n heads t t"]]) -> Float[Tensor, "n t t"]:
    """How much of each token of the input is in each of the output, if tokens are mixed as attention says: the product
    of (A + 1) / 2 over the blocks, A the mean over heads (Abnar and Zuidema, arXiv 2005.00928)."""
    mixed = torch.eye(maps[0].shape[-1], device=maps[0].device).expand_as(maps[0][:, 0])
    for attention in maps:
        mixed = (attention.mean(dim=1) @ mixed + mixed) / 2
    return mixed
