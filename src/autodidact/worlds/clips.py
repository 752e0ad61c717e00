"""Clips of a thing that moves before a photograph while the camera moves too, with the box round it known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, UInt8

BEHIND = ("gravel", "brick", "grass", "coffee", "rocket", "astronaut")
THINGS = ("chelsea", "astronaut", "coffee", "rocket")


@dataclass(frozen=True)
class Clip:
    """Frames (n, height, width, 3), and of each the box round the thing: left, top, width, height in pixels."""

    frames: UInt8[np.ndarray, "n h w 3"]
    boxes: Float64[np.ndarray, "n 4"]


def clip(
    frames: int = 30,
    *,
    height: int = 180,
    width: int = 240,
    size: float = 50.0,
    speed: float = 3.0,
    camera: float = 1.5,
    growth: float = 0.2,
    noise: float = 3.0,
    seed: int = 0,
) -> Clip:
    """One thing on a straight path that bounces at the borders, before a photograph.

    The structure: all pixels of the thing move together, and differently from those behind it. The nuisance: the camera
    pans, so those behind move as well; the thing grows and shrinks; light flickers; every pixel has noise.

    How hard it is: `speed` against `camera` and `noise`. With ``speed=0, growth=0`` nothing moves but the camera.

    Parameters
    ----------
    frames : how many.
    height, width : of a frame in pixels.
    size : diameter of the thing, a round cut-out of a photograph, in pixels; 0 for no thing.
    speed : of the thing in pixels a frame.
    camera : speed at which the camera pans, in pixels a frame.
    growth : largest relative change of the size either way, in [0, 1).
    noise : standard deviation of a pixel in grey levels.
    seed : of everything that is drawn.
    """
    rng = np.random.default_rng(seed)
    behind = _photograph(BEHIND[rng.integers(len(BEHIND))], 2 * height, 2 * width)
    side = round(2 * size * (1 + growth)) + 1
    thing = _photograph(THINGS[rng.integers(len(THINGS))], side, side)
    way, pan = rng.uniform(0, 2 * math.pi, 2)
    radius = size / 2 * (1 + growth)
    where = np.array([rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)])
    step = speed * np.array([math.cos(way), math.sin(way)])
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    phase = rng.uniform(0, 2 * math.pi)
    shown, boxes = [], []
    for k in range(frames):
        shift = camera * k * np.array([math.cos(pan), math.sin(pan)])
        picture = _sampled(behind, columns + shift[0], rows + shift[1])
        reach = size / 2 * (1 + growth * math.sin(phase + 2 * math.pi * k / 30))
        if size:
            across, down = (columns - where[0]) / reach, (rows - where[1]) / reach
            middle = (side - 1) / 2
            own = _sampled(thing, middle + across * middle, middle + down * middle)
            picture = np.where((across**2 + down**2 <= 1)[..., None], own, picture)
        light = 1 + 0.03 * math.sin(phase + 0.7 * k)
        noisy = light * picture + rng.normal(0, noise, picture.shape)
        shown.append(noisy.round().clip(0, 255).astype(np.uint8))
        boxes.append([where[0] - reach, where[1] - reach, 2 * reach, 2 * reach])
        step = np.where((where + step < radius) | (where + step > np.array([width, height]) - radius), -step, step)
        where = where + step
    return Clip(np.stack(shown), np.array(boxes))


def _photograph(name: str, height: int, width: int) -> Float64[np.ndarray, "h w 3"]:
    """A photograph of scikit-image in colour, resized."""
    from skimage import data

    whole = np.asarray(getattr(data, name)(), dtype=np.float32)
    whole = np.repeat(whole[..., None], 3, axis=2) if whole.ndim == 2 else whole[..., :3]
    small = torch.nn.functional.interpolate(
        torch.from_numpy(whole).permute(2, 0, 1)[None], size=(height, width), mode="bilinear", antialias=True
    )
    return small[0].permute(1, 2, 0).double().numpy()


def _sampled(
    picture: Float64[np.ndarray, "a b 3"], x: Float64[np.ndarray, "h w"], y: Float64[np.ndarray, "h w"]
) -> Float64[np.ndarray, "h w 3"]:
    """The picture at places between its pixels, bilinear, mirrored at its borders."""
    high, wide = picture.shape[:2]
    x, y = (np.abs((place + top - 1) % (2 * top - 2) - (top - 1)) for place, top in ((x, wide), (y, high)))
    left, above = np.floor(x).astype(int).clip(0, wide - 2), np.floor(y).astype(int).clip(0, high - 2)
    u, v = (x - left)[..., None], (y - above)[..., None]
    upper = (1 - u) * picture[above, left] + u * picture[above, left + 1]
    lower = (1 - u) * picture[above + 1, left] + u * picture[above + 1, left + 1]
    return (1 - v) * upper + v * lower
