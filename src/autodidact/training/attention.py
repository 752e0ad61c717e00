"""Attention on a CPU under bf16: over short sequences, in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

SHORT = 256
"""Tokens up to which torch's fused kernel takes longer in bf16 than in float32 on a CPU."""


class ShortAttentionInFloat(TorchFunctionMode):
    """Inside the block, attention in bf16 over at most 256 tokens on a CPU is computed in float32.

    Whoever calls ``scaled_dot_product_attention``, timm and transformers too, gets the result in the type that it would
    have had, rounded once. Over few tokens torch's fused kernel takes several times as long in bf16 as in float32, so
    that ``--precision bf16`` would make the training of a small vision transformer, or a masked one, slower
    (benchmarks/bf16.json).
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        return func(*args, **kwargs)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *rest: Any, **named: Any
) -> Tensor:
    attend = functional.scaled_dot_product_attention
    asked = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    if query.device.type != "cpu" or asked != torch.bfloat16 or max(query.shape[-2], key.shape[-2]) > SHORT:
        return attend(query, key, value, attn_mask, *rest, **named)
    if attn_mask is not None and attn_mask.is_floating_point():
        attn_mask = attn_mask.float()
    with torch.autocast("cpu", enabled=False):
        attended = attend(query.float(), key.float(), value.float(), attn_mask, *rest, **named)
    return attended.to(asked)
