"""Attention maps of plain vision transformers."""

from __future__ import annotations

import pytest
import torch

from autodidact.encoders import build
from autodidact.encoders.attention import attention_maps, rollout


def vit(positions="learned"):
    torch.manual_seed(0)
    name = f"small:vit?width=16&depth=2&heads=2&registers=1&positions={positions}"
    encoder = build(name, image_size=16, channels=1).eval()
    for block in encoder.model.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.3)
    return encoder


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_maps_mix_the_values_as_the_fused_attention_does(positions):
    encoder, images, seen = vit(positions), torch.rand(3, 1, 16, 16), {}
    for number, block in enumerate(encoder.model.blocks):
        block.attn.qkv.register_forward_hook(lambda _, given, out, n=number: seen.__setitem__((n, "qkv"), out))
        block.attn.proj.register_forward_pre_hook(lambda _, given, n=number: seen.__setitem__((n, "mixed"), given[0]))
    maps = attention_maps(encoder, images)
    assert [tuple(m.shape) for m in maps] == [(3, 2, 66, 66)] * 2
    for number, attention in enumerate(maps):
        torch.testing.assert_close(attention.sum(-1), torch.ones(3, 2, 66))
        v = seen[number, "qkv"].view(3, 66, 3, 2, 8)[:, :, 2].transpose(1, 2)
        mixed = (attention @ v).transpose(1, 2).flatten(2)
        torch.testing.assert_close(mixed, seen[number, "mixed"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["vit_small_patch16_rope_mixed_224", "eva02_tiny_patch14_224", "vit_small_patch16_dinov3"]
)
def test_of_timms_other_transformers_tokens_are_mixed_as_the_maps_say(name):
    """The rows of the values, mixed by the maps and projected, are what the fused attention gave."""
    torch.manual_seed(0)
    encoder = build(f"timm:{name}", image_size=32, embed_dim=24, depth=2, num_heads=2, patch_size=8).eval()
    seen = {}
    for number, block in enumerate(encoder.model.blocks):
        torch.nn.init.normal_(block.attn.proj.weight)
        block.attn.register_forward_hook(lambda _, given, out, n=number: seen.update({n: (given[0], out)}))
    images = torch.rand(2, 3, 32, 32)
    pooled = encoder(images).pooled
    fused = dict(seen)
    for number, attention in enumerate(attention_maps(encoder, images)):
        given, out = fused[number]
        block = encoder.model.blocks[number].attn
        own = block.v_proj(given) if block.qkv is None else block.qkv(given)[..., 48:]
        if getattr(block, "v_bias", None) is not None and block.qkv is not None:
            own = own + block.v_bias
        mixed = attention @ own.unflatten(2, (2, 12)).transpose(1, 2)
        expected = block.proj(block.norm(mixed.transpose(1, 2).flatten(2)))
        torch.testing.assert_close(expected, out, rtol=1e-4, atol=1e-5)
    assert torch.equal(encoder(images).pooled, pooled)
    assert all(block.attn.fused_attn for block in encoder.model.blocks)


def test_a_rollout_is_the_product_of_half_mixed_attention_and_keeps_rows_whole():
    maps = attention_maps(vit(), torch.rand(2, 1, 16, 16))
    one, two = ((m.mean(1).double() + torch.eye(66).double()) / 2 for m in maps)
    torch.testing.assert_close(rollout(maps).double(), two @ one, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(rollout(maps).sum(-1), torch.ones(2, 66))


def test_other_encoders_have_none():
    with pytest.raises(ValueError, match="small:convnet is not a plain vision transformer"):
        attention_maps(build("small:convnet", image_size=8, channels=1), torch.rand(1, 1, 8, 8))
