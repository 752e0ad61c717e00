"""Where a plain vision transformer looks in a few images: the attention of its last block, head by head."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.data.source import Source
from autodidact.encoders.attention import attention_maps, has_attention
from autodidact.encoders.kept import EncoderModel, PredictorModel
from autodidact.encoders.timm_encoder import TimmEncoder
from autodidact.model import Model
from autodidact.report.looks import enlarged, strips, thumbnail
from autodidact.report.markup import section
from autodidact.report.samples import few, first_stream

COUNT = 8
HEADS = 4
OF_CLASS = "Where the class token looks in the last block: the mean of all heads, and the first heads one by one. "
OF_PATCHES = (
    "Which patches the others look at in the last block: the mean of all heads, and the first heads one by one. "
)
LEAD = (
    "The brighter a patch, the more of it is taken up; each picture has its own scale. In a model that learned what "
    "images are of, heads tend to pick out things; heads that are alike everywhere, or grey, picked out nothing yet."
)


def attention(model: Model, source: Source) -> str:
    """The section of attention; nothing where the encoder is no plain vision transformer, or the data has no order."""
    source = first_stream(source)
    if source.streaming or not isinstance(model, EncoderModel | PredictorModel) or not has_attention(model.encoder):
        return ""
    encoder = model.encoder
    assert isinstance(encoder, TimmEncoder)
    batch, names = few(source, COUNT)
    with torch.inference_mode():
        images = encoder.prepare(batch.fields)
        last = attention_maps(encoder.eval(), images)[-1]
    grid, prefix = encoder.patches, last.shape[-1] - encoder.patches[0] * encoder.patches[1]
    by_class = encoder.pools_class_token and model.tap in (None, "pooled+mean")
    seen = looked_at(last, prefix, class_token=by_class)
    rows = []
    for image, heads in zip(images, seen, strict=True):
        shown = {"image": thumbnail(image), "all heads": enlarged(heads.mean(0).view(1, *grid))}
        if len(heads) > 1:
            shown |= {f"head {i + 1}": enlarged(head.view(1, *grid)) for i, head in enumerate(heads[:HEADS])}
        rows.append(shown)
    lead = (OF_CLASS if by_class else OF_PATCHES) + LEAD
    return section("attention", "Where it looks", strips(names, rows), lead=lead)


def looked_at(
    maps: Float[Tensor, "n heads t t"], prefix: int, *, class_token: bool
) -> Float[Tensor, "n heads patches"]:
    """How much every patch is looked at, relative to the one that is looked at most: by the class token, which is the
    first, or by all patches on average. `prefix` is the number of tokens before the patches."""
    rows = maps[:, :, 0] if class_token else maps[:, :, prefix:].mean(dim=2)
    seen = rows[..., prefix:]
    return seen / seen.amax(dim=-1, keepdim=True)
