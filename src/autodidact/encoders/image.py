"""What all image encoders share: preparing a batch, and normalising inside the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.data.schema import Kind, Schema
from autodidact.encoders.statistics import statistic
from autodidact.model import Encoder
from autodidact.views import eval_view


class ImageEncoder(Encoder):
    """An encoder of images of one size.

    Parameters
    ----------
    spec : "name", "args", "image_size" (height, width), "channels", "mean", "std" (per channel, of images in [0, 1])
        and "field", the name of the image field.
    """

    accepts: Kind = "image"
    mean: Tensor
    std: Tensor

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.spec = dict(spec)
        self.image_size: tuple[int, int] = (int(spec["image_size"][0]), int(spec["image_size"][1]))
        self.channels = int(spec["channels"])
        self.register_buffer("mean", torch.tensor(spec["mean"], dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(spec["std"], dtype=torch.float32).view(-1, 1, 1))

    def prepare(self, fields: Mapping[str, Any]) -> Float[Tensor, "n c h w"]:
        """Images in [0, 1] of the encoder's size, from uint8 or float images of any size.

        A field "box" (top, left, height, width in pixels) tells which part of a canvas holds the image.
        """
        field = self.spec.get("field", "image")
        if field not in fields:
            raise ValueError(f"{self.name} reads the field '{field}'; the batch has {', '.join(fields) or 'nothing'}")
        images = fields[field]
        self._check_channels(images.shape[1])
        return eval_view(images, self.image_size, box=fields.get("box"))

    def normalise(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """(x - mean) / std per channel."""
        return (images - self.mean.to(images.dtype)) / self.std.to(images.dtype)

    def as_image(self, normalised: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Inverse of `normalise`."""
        return normalised * self.std.to(normalised.dtype) + self.mean.to(normalised.dtype)

    @property
    def patches(self) -> tuple[int, int]:
        """Rows and columns of patch tokens; ValueError where there are none."""
        if not self.token_width or self.grid is None:
            raise ValueError(f"{self.name} has no patch tokens")
        return self.grid

    @property
    def patch(self) -> tuple[int, int]:
        """Height and width in pixels of the patch of a token."""
        rows, columns = self.patches
        return self.image_size[0] // rows, self.image_size[1] // columns

    def fits(self, schema: Schema) -> None:
        field = self.spec.get("field", "image")
        schema.require({field: "image"}, self.name)
        if schema[field].shape:
            self._check_channels(schema[field].shape[0])

    def _check_channels(self, given: int) -> None:
        if given != self.channels:
            raise ValueError(f"{self.name} was built for images of {self.channels} channels, these have {given}")


def image_spec(
    name: str,
    args: Mapping[str, Any],
    *,
    schema: Schema | None,
    image_size: int | Sequence[int] | None,
    channels: int | None,
    statistics: Any,
    default_size: int | None = None,
) -> dict[str, Any]:
    """The spec of an image encoder, from what was asked and what the data says.

    Parameters
    ----------
    schema : where field name, channels and size come from unless they are given.
    image_size : side, or (height, width), in pixels.
    statistics : "mean" and "std" per channel of images in [0, 1]; without them 0.5 and 0.25.
    default_size : side where nothing else tells it.
    """
    field = (schema.first("image") if schema is not None else None) or "image"
    shape = schema[field].shape if schema is not None and field in schema else ()
    channels = channels or (shape[0] if shape else 3)
    size = image_size or shape[1:] or default_size
    if not size:
        raise ValueError(f"{name} needs an image size (--image-size PX): this data does not tell one")
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))
    if min(height, width, channels) < 1:
        raise ValueError(f"image size and channels must be positive, got {height}x{width} and {channels}")
    return {
        "name": name,
        "args": dict(args),
        "image_size": [height, width],
        "channels": channels,
        "mean": _per_channel(statistics, "mean", 0.5, channels),
        "std": _per_channel(statistics, "std", 0.25, channels),
        "field": field,
    }


def _per_channel(statistics: Any, key: str, default: float, channels: int) -> list[float]:
    known = statistic(statistics, key)
    if known is None:
        return [default] * channels
    values = torch.as_tensor(known, dtype=torch.float64).flatten()
    if len(values) not in (1, channels):
        raise ValueError(f"there are {len(values)} values of the {key} for {channels} channels")
    # A channel that never varies must not divide by zero.
    values = values.expand(channels).clamp(min=1e-3) if key == "std" else values.expand(channels)
    return [float(value) for value in values]
