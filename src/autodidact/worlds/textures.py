"""Grey patches of photographs: what real surfaces look like, with nothing in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

SURFACES = ("brick", "grass", "gravel")
"""Pictures of scikit-image that show one surface all over."""


def textures(
    rows: int, side: int, rng: np.random.Generator, pictures: Sequence[str] = SURFACES, step: int = 2
) -> UInt8[Tensor, "n 1 side side"]:
    """Square patches at random places of random pictures.

    Parameters
    ----------
    rows, side : how many, and their side in pixels.
    rng : of the pictures and places.
    pictures : names of scikit-image's, each grey and more than ``step * side`` pixels large.
    step : pixels of the picture between two of the patch.
    """
    from skimage import data

    held = [getattr(data, name)() for name in pictures]
    cut = []
    for which in rng.integers(0, len(held), rows):
        picture = held[which]
        top, left = (rng.integers(0, edge - step * side) for edge in picture.shape[:2])
        cut.append(picture[top : top + step * side : step, left : left + step * side : step])
    return torch.from_numpy(np.stack(cut)).to(torch.uint8)[:, None] if cut else torch.empty(0, 1, side, side).byte()
