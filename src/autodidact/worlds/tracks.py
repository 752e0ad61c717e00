"""Tracks of real garments: every garment is filmed along a path of its own before photographs."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.data import ArraySource, Field, Source
from autodidact.data.ids import row_ids
from autodidact.data.schema import Schema

PHOTOGRAPHS = ("camera", "brick", "grass", "gravel", "coins", "page", "moon", "text")
"""Of scikit-image, grey."""


def tracks(
    things: Source,
    views: int,
    *,
    size: int = 32,
    turn: float = 75.0,
    stride: float = 25.0,
    background: float = 0.3,
    light: float = 0.3,
    seed: int = 0,
) -> Source:
    """Several views of every image of a source, along a smooth path of viewpoints that starts anywhere.

    The structure: a track is one thing; things of one class look alike from one side, and as canonical sides differ by
    chance, two things of a class seldom show the same one. The nuisance: rotation in the plane, scale, shear and
    perspective, which change along the track by a step each view and turn back at the end of their range; a gradient of
    light; and a photograph behind the thing, another part of it in every view. Fields: "image" (1, size, size) uint8,
    "track", "label" of the thing, and "truth_angle", the rotation in degrees.

    How hard it is: `turn` and `background` are the dials. With ``turn=0, background=0`` all views of a thing are nearly
    the thing itself.

    Parameters
    ----------
    things : images on black, one channel (Fashion-MNIST, digits), with field "label".
    views : of each thing, >= 1.
    size : side of a view in pixels.
    turn : largest rotation either way in degrees.
    stride : rotation between two views of a track in degrees.
    background : contrast of the photograph, in [0, 1].
    light : largest relative change of brightness from the middle to an edge, in [0, 1].
    seed : of everything that is drawn.
    """
    if views < 1:
        raise ValueError(f"a track has at least 1 view, got {views}")
    images = things.batch(np.arange(len(things)))["image"].float() / 255
    generator = torch.Generator().manual_seed(seed)
    angle, shape = _paths(len(images), views, turn, stride, generator)
    rows = []
    for first in range(0, len(images), 500):
        part = slice(first, first + 500)
        seen = _seen(images[part].repeat_interleave(views, 0), angle[part].flatten(), shape[part].flatten(0, 1), size)
        cover = (4 * seen).clamp(max=1)
        behind = _behind(len(seen), views, size, generator)
        lit = seen * cover + background * behind * (1 - cover)
        rows.append((255 * (lit * _light(len(seen), size, light, generator)).clamp(0, 1)).round().to(torch.uint8))
    track = np.repeat(np.arange(len(things)), views)
    fields: dict[str, Any] = {
        "image": torch.cat(rows),
        "track": track,
        "label": np.asarray(things.column("label"))[track],
        "truth_angle": angle.flatten().numpy(),
    }
    schema = Schema(
        image=Field("image", (1, size, size)),
        track=Field("group"),
        label=things.schema["label"],
        truth_angle=Field("target", unit="deg"),
    )
    name = f"tracks of {things.name}"
    return ArraySource(name, fields, schema, row_ids(name, str(seed), len(track)))


def _paths(
    things: int, views: int, turn: float, stride: float, generator: torch.Generator
) -> tuple[Float[Tensor, "things views"], Float[Tensor, "things views 5"]]:
    """Rotation in degrees; and scale, shear, both perspectives and a phase, each in [-1, 1]."""
    steps = torch.arange(views)
    start = torch.rand(things, 6, 1, generator=generator) * 4
    way = torch.rand(things, 6, 1, generator=generator).sub(0.5).sign()
    pace = torch.full((6, 1), stride / max(turn, 1e-9))
    # A triangle wave of period 4 in [-1, 1]: steady steps that turn back at the ends.
    wave = (torch.remainder(start + way * pace * steps, 4) - 2).abs() - 1
    return turn * wave[:, 0], wave[:, 1:].transpose(1, 2)


def _seen(
    images: Float[Tensor, "n 1 h w"], angle: Float[Tensor, " n"], shape: Float[Tensor, "n 5"], size: int
) -> Float[Tensor, "n 1 size size"]:
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    scale = 0.95 + 0.25 * shape[:, 0]
    depth = 1 + 0.25 * (shape[:, 2, None, None] * x + shape[:, 3, None, None] * y)
    u, v = x / depth / scale[:, None, None], y / depth / scale[:, None, None]
    u = u + 0.25 * shape[:, 1, None, None] * v
    cosine, sine = ((angle * math.pi / 180).cos()[:, None, None], (angle * math.pi / 180).sin()[:, None, None])
    grid = torch.stack([cosine * u - sine * v, sine * u + cosine * v], dim=3)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def _behind(n: int, views: int, size: int, generator: torch.Generator) -> Float[Tensor, "n 1 size size"]:
    """Of one photograph a track, another window each view."""
    held = _photographs()
    which = torch.randint(len(held), (n // views,), generator=generator).repeat_interleave(views)
    top, left = (torch.randint(held.shape[1] - size, (n,), generator=generator) for _ in range(2))
    reach = torch.arange(size)
    return held[which[:, None, None], (top[:, None] + reach)[:, :, None], (left[:, None] + reach)[:, None, :]][:, None]


def _light(n: int, size: int, light: float, generator: torch.Generator) -> Float[Tensor, "n 1 size size"]:
    line = torch.linspace(-1, 1, size)
    way = torch.rand(n, generator=generator) * 2 * math.pi
    strength = light * torch.rand(n, generator=generator)
    across = way.cos()[:, None, None] * line + way.sin()[:, None, None] * line[:, None]
    return (1 + strength[:, None, None] * across)[:, None]


@cache
def _photographs() -> Float[Tensor, "photographs side side"]:
    """The photographs, each resized to 160 pixels a side and stretched to [0, 1]."""
    from skimage import data

    held = []
    for name in PHOTOGRAPHS:
        grey = torch.from_numpy(np.asarray(getattr(data, name)(), dtype=np.float32))
        small = torch.nn.functional.interpolate(grey[None, None], size=(160, 160), mode="area")[0, 0]
        held.append((small - small.min()) / (small.max() - small.min()))
    return torch.stack(held)
