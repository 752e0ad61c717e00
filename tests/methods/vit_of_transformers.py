"""Weights of our vision transformers and of the layers of our heads, under the names that transformers has for them."""

from __future__ import annotations

from torch import Tensor, nn

CONFIG = {
    "image_size": 16,
    "patch_size": 4,
    "num_channels": 2,
    "hidden_size": 16,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "layer_norm_eps": 1e-6,
}
"""Of the encoder `small:vit?width=16&depth=2&heads=2&patch=4` of two channels of 16 pixels."""


def encoder_weights(model: nn.Module) -> dict[str, Tensor]:
    own = model.state_dict()
    found = {
        "vit.embeddings.cls_token": own["cls_token"],
        "vit.embeddings.position_embeddings": own["pos_embed"],
        "vit.layernorm.weight": own["norm.weight"],
        "vit.layernorm.bias": own["norm.bias"],
    }
    for kind in ("weight", "bias"):
        found[f"vit.embeddings.patch_embeddings.projection.{kind}"] = own[f"patch_embed.proj.{kind}"]
        for number, _ in enumerate(model.blocks):
            names = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
            found |= layer_weights(
                f"vit.layers.{number}", [own[f"blocks.{number}.{name}.{kind}"] for name in names], kind
            )
    return found


def decoder_weights(decoder: nn.Module) -> dict[str, Tensor]:
    own = decoder.state_dict()
    found = {"decoder.mask_token": own["mask"][None, None]}
    for kind in ("weight", "bias"):
        for ours, theirs in (("embed", "decoder_embed"), ("norm", "decoder_norm"), ("out", "decoder_pred")):
            found[f"decoder.{theirs}.{kind}"] = own[f"{ours}.{kind}"]
        for number, _ in enumerate(decoder.layers):
            names = ("norm1", "qkv", "out", "norm2", "mlp.0", "mlp.3")
            tensors = [own[f"layers.{number}.{name}.{kind}"] for name in names]
            found |= layer_weights(f"decoder.decoder_layers.{number}", tensors, kind)
    return found


def layer_weights(to: str, tensors: list[Tensor], kind: str) -> dict[str, Tensor]:
    before, qkv, out, after, first, second = tensors
    named = dict(zip(("q_proj", "k_proj", "v_proj"), qkv.chunk(3), strict=True)) | {"o_proj": out}
    found = {f"{to}.attention.{name}.{kind}": tensor for name, tensor in named.items()}
    rest = {"layernorm_before": before, "layernorm_after": after, "mlp.fc1": first, "mlp.fc2": second}
    return found | {f"{to}.{name}.{kind}": tensor for name, tensor in rest.items()}
