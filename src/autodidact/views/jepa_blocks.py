"""Blocks of I-JEPA (arXiv 2301.08243): a large block of an image is seen, and four small ones are to be predicted."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from autodidact.views.parcel import sent
from autodidact.views.token_masks import masked_indices, rectangle_sides


class JEPABlocks(NamedTuple):
    """Token numbers in raster order of the grid, ascending within a set."""

    context: Int[Tensor, "n context"]
    targets: Int[Tensor, "n sets target"]


REDRAWS = 20


def jepa_blocks(
    n: int,
    grid: tuple[int, int],
    generator: torch.Generator,
    *,
    target_area: tuple[float, float] = (0.15, 0.2),
    target_aspect: tuple[float, float] = (0.75, 1.5),
    context_area: tuple[float, float] = (0.85, 1.0),
    targets: int = 4,
    least: int = 1,
    device: torch.device | str | None = None,
) -> JEPABlocks:
    """Draw `targets` target blocks and a context without them for each of `n` images.

    The context block has the shape of the grid. As in the authors' code, the sides of the target blocks, and those of
    the context block, are drawn once for the batch, so that rows stack; their places are drawn for every image and
    block. Target blocks may overlap each other. The context is its block without all target tokens, cut to the size of
    the smallest of the batch: tokens are left out at random, where the authors' code leaves out the last ones in raster
    order.

    An image whose context would have fewer than `least` tokens gets new places. After 20 draws, the target blocks of
    those that are left lie all at the place of the first, where the context block leaves it the most.

    Parameters
    ----------
    n : int
        Images.
    grid : (rows, columns)
        Of tokens.
    generator : torch.Generator
        The only source of randomness.
    target_area, context_area : (low, high)
        Share of the grid, 0 < low <= high <= 1. Paper: (0.15, 0.2) and (0.85, 1).
    target_aspect : (low, high)
        Rows over columns of a target block. Paper: (0.75, 1.5).
    targets : int
        Target blocks for each image, >= 1. Paper: 4.
    least : int
        Tokens that a context has at least. Authors' code: 10, of 196.
    device : device, optional
        Where the numbers are put; the generator's device if left out.

    Raises
    ------
    ValueError
        Shares out of range, or blocks so large on this grid that a single target may leave a context of fewer than
        `least` tokens.
    """
    if targets < 1 or least < 1:
        raise ValueError(f"targets and least must be at least 1, got {targets} and {least}")
    shape = grid[0] / grid[1]
    seen = rectangle_sides(1, grid, generator, area=context_area, aspect=(shape, shape))[0]
    sides = rectangle_sides(1, grid, generator, area=target_area, aspect=target_aspect)[0]
    smallest, largest = _smallest_block(grid, context_area[0]), _largest_block(grid, target_area[1], target_aspect)
    if smallest - largest < least:
        raise ValueError(
            f"on a grid of {grid[0]} x {grid[1]} tokens a target block has up to {largest} tokens and the context "
            f"block as few as {smallest}; that leaves fewer than {least} for the context: use smaller patches, less "
            "target_area or more context_area"
        )
    context = _placed(n, grid, seen, generator)
    blocks = _placed(n * targets, grid, sides, generator).unflatten(0, (n, targets))
    for redraw in range(REDRAWS + 1):
        left = context & ~blocks.any(dim=1)
        short = left.sum(dim=1) < least
        # Every image draws anew, and only those in need take it: what the others get hangs on nobody else's luck.
        if not bool(short.any()):
            break
        if redraw < REDRAWS:
            again = _placed(n * targets, grid, sides, generator).unflatten(0, (n, targets))
            blocks = torch.where(short[:, None, None], again, blocks)
        else:
            blocks = torch.where(short[:, None, None], blocks[:, :1].expand_as(blocks), blocks)
    left = context & ~blocks.any(dim=1)
    count = int(left.sum(dim=1).min()) if n else 0
    scores = torch.rand(n, left.shape[1], generator=generator, device=left.device) + ~left
    index = scores.argsort(dim=1)[:, :count].sort(dim=1).values
    home = device or generator.device
    asked = masked_indices(blocks.flatten(0, 1)).view(n, targets, int(sides.prod()))
    return JEPABlocks(sent(index, home), sent(asked, home))


def _placed(
    n: int, grid: tuple[int, int], sides: Int[Tensor, " 2"], generator: torch.Generator
) -> Bool[Tensor, "n tokens"]:
    """Rectangles of the same sides, each at a place of its own, uniform over those inside the grid."""
    draws = torch.rand(n, 2, generator=generator, device=generator.device)
    inside = []
    for axis, length in enumerate(grid):
        places = torch.arange(length, device=generator.device)
        side = sides[axis]
        start = (draws[:, axis : axis + 1] * (length - side + 1)).long().minimum(length - side)
        inside.append((places >= start) & (places < start + side))
    return (inside[0][:, :, None] & inside[1][:, None, :]).flatten(1)


def _smallest_block(grid: tuple[int, int], share: float) -> int:
    return math.prod(max(1, round(math.sqrt(share) * length)) for length in grid)


def _largest_block(grid: tuple[int, int], share: float, aspect: tuple[float, float]) -> int:
    """An upper bound on the tokens of a block: both sides are rounded, at most half a token upwards."""
    area = share * math.prod(grid)
    ratios = [aspect[0] * (aspect[1] / aspect[0]) ** (step / 64) for step in range(65)]
    return max(
        min(grid[0], max(1, round(math.sqrt(area * ratio)))) * min(grid[1], max(1, round(math.sqrt(area / ratio))))
        for ratio in ratios
    )
