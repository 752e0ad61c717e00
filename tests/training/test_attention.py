"""Attention under bf16 on a CPU: over few tokens it is computed in float32, whoever asks for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from autodidact.catalog import cards, target
from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.training import Settings, train
from autodidact.training import attention as short
from autodidact.training.attention import SHORT, ShortAttentionInFloat


def triple(tokens: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, tokens, 8, generator=generator).to(dtype)
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_()


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    scores = q.double() @ k.double().transpose(-2, -1) / q.shape[-1] ** 0.5
    return (scores if mask is None else scores + mask.double()).softmax(-1) @ v.double()


@pytest.mark.parametrize("masked", [False, True])
def test_of_few_tokens_the_result_is_the_exact_one_rounded_once(masked: bool) -> None:
    q, k, v = triple(17, torch.bfloat16)
    mask = torch.randn(17, 17, generator=torch.Generator().manual_seed(1)) if masked else None
    with ShortAttentionInFloat(), torch.autocast("cpu", torch.bfloat16):
        made = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    exact = softmax_attention(q, k, v, mask)
    assert made.dtype == torch.bfloat16
    # But for numbers that lie between two of bf16, all are the nearest there is; torch's own are not.
    assert (made != exact.to(torch.bfloat16)).float().mean() < 0.01
    with torch.autocast("cpu", torch.bfloat16):
        own = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert (own != exact.to(torch.bfloat16)).float().mean() > 0.05
    (gradient,) = torch.autograd.grad(made.float().square().sum(), q)
    (wanted,) = torch.autograd.grad(exact.square().sum(), q)
    assert torch.allclose(gradient.double(), wanted.double(), atol=0.02)


def result(inputs: tuple[Tensor, Tensor, Tensor], *, bf16: bool, mode: bool) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        if not mode:
            return functional.scaled_dot_product_attention(*inputs)
        with ShortAttentionInFloat():
            return functional.scaled_dot_product_attention(*inputs)


@pytest.mark.parametrize(("tokens", "bf16"), [(17, False), (SHORT + 1, True), (SHORT + 1, False)])
def test_in_float32_and_of_many_tokens_nothing_changes(tokens: int, bf16: bool) -> None:
    inputs = triple(tokens)
    assert torch.equal(result(inputs, bf16=bf16, mode=True), result(inputs, bf16=bf16, mode=False))


@pytest.mark.parametrize("encoder", ["small:vit?width=16&depth=2&heads=2&patch=4", "timm:vit_tiny_patch16_224"])
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_training_in_bf16_attends_so(encoder: str, precision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[torch.dtype]()

    def spied(attend: Callable[..., Tensor], *args: Any, **named: Any) -> Tensor:
        made = attend(*args, **named)
        seen.append(made.dtype)
        return made

    monkeypatch.setattr(short, "_attention", partial(spied, short._attention))
    source = open_source("digits", progress=False).at(np.arange(16))
    size = 32 if encoder.startswith("timm") else 16
    method = target(cards()["mae"])(build(encoder, image_size=size, channels=1), depth=1)
    train(
        method, source, Settings(steps=1, batch_size=16, precision=precision, accelerator="cpu", devices=1), quiet=True
    )
    assert bool(seen) == (precision == "bf16")
    assert set(seen) <= {torch.bfloat16}
