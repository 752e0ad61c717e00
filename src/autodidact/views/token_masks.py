"""Masks over a grid of tokens, with exactly the asked count in every row, and moving tokens in and out by index.

True means masked. A grid has any number of axes: (tokens,) for a sequence, (rows, columns) for an image or a
spectrogram, (time, rows, columns) for a clip, (depth, rows, columns) for a volume. Tokens are numbered in raster order.
Nothing here knows what a token holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from autodidact.views.parcel import sent


def random_mask(
    n: int, tokens: int, count: int, generator: torch.Generator, *, device: torch.device | str | None = None
) -> Bool[Tensor, "n tokens"]:
    """Mask `count` tokens of every row, each subset equally likely (MAE, He et al. 2022).

    Parameters
    ----------
    n, tokens, count : int
        Rows, tokens in a row, tokens to mask; 0 <= count <= tokens.
    generator : torch.Generator
        The only source of randomness.
    device : device, optional
        Where the mask is put; the generator's device if left out.

    Returns
    -------
    bool tensor (n, tokens), True where masked; every row has exactly `count`.
    """
    _check_count(count, tokens)
    scores = torch.rand(n, tokens, generator=generator, device=generator.device)
    return sent(_lowest(scores, count), device or generator.device)


def group_mask(
    n: int,
    grid: Sequence[int],
    count: int,
    generator: torch.Generator,
    *,
    group: int | Sequence[int] = 2,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "n tokens"]:
    """Mask whole aligned tiles of tokens (SimMIM's 32-pixel units; tubes with group=(T, 1, 1)).

    Tiles are taken in a random order of their own for each row, their tokens in raster order, until `count` tokens are
    masked: so at most one tile of a row is masked in part, and none when every tile has the same size and `count` is a
    multiple of it.

    Parameters
    ----------
    n, count : int
        Rows, and tokens to mask in each; 0 <= count <= product of `grid`.
    grid : sequence of int
        Tokens along each axis.
    generator : torch.Generator
        The only source of randomness.
    group : int or sequence of int
        Tokens of a tile along each axis. An edge tile is smaller where the grid is not a multiple of it.
    device : device, optional
        Where the mask is put; the generator's device if left out.
    """
    grid = _checked_grid(grid)
    tokens = math.prod(grid)
    _check_count(count, tokens)
    sides = (group,) * len(grid) if isinstance(group, int) else tuple(group)
    if len(sides) != len(grid) or min(sides) < 1:
        raise ValueError(f"group must be a size >= 1 for each of the {len(grid)} axes of the grid, got {group!r}")
    tile = torch.zeros(grid, dtype=torch.long)
    for axis, (length, side) in enumerate(zip(grid, sides, strict=True)):
        along = torch.arange(length).div(side, rounding_mode="floor")
        tile = tile * math.ceil(length / side) + along.view([-1 if a == axis else 1 for a in range(len(grid))])
    tile = tile.flatten().to(generator.device)
    tiles = int(tile.max()) + 1
    order = torch.rand(n, tiles, generator=generator, device=generator.device).argsort(dim=1).argsort(dim=1)
    keys = order[:, tile] * tokens + torch.arange(tokens, device=generator.device)
    return sent(_lowest(keys, count), device or generator.device)


def block_mask(
    n: int,
    grid: Sequence[int],
    count: int,
    generator: torch.Generator,
    *,
    block: tuple[float, float] = (0.15, 0.45),
    aspect: tuple[float, float] | None = None,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "n tokens"]:
    """Mask rectangles of connected tokens until exactly `count` are masked (block-wise masking as in BEiT).

    Each block starts at a random token that is still open, so it always adds something and the drawing ends; its side
    along an axis of length L is uniform over the whole numbers from round(low * L) to round(high * L) (at least 1), and
    it is shifted back into the grid where it would leave it. Blocks may overlap. Of the last block only the first open
    tokens in raster order are masked, as many as are still missing. With `aspect` the sides of a block on an image's
    grid follow from its area and its shape instead, see `rectangle_sides`.

    Parameters
    ----------
    n, count : int
        Rows, and tokens to mask in each; 0 <= count <= product of `grid`.
    grid : sequence of int
        Tokens along each axis.
    generator : torch.Generator
        The only source of randomness.
    block : (low, high)
        Side of a block as a share of the grid's side, 0 < low <= high <= 1; with `aspect`, its area as a share of the
        grid's.
    aspect : (low, high), optional
        Rows over columns of a block, drawn log-uniformly. BEiT: (0.3, 1 / 0.3) with areas from 16 of 196 tokens on.
    device : device, optional
        Where the mask is put; the generator's device if left out.
    """
    grid = _checked_grid(grid)
    tokens = math.prod(grid)
    _check_count(count, tokens)
    low, high = block
    if not 0 < low <= high <= 1:
        raise ValueError(f"block must be shares 0 < low <= high <= 1 of the grid's side, got {block}")
    if aspect is not None and len(grid) != 2:
        raise ValueError(f"the aspect of a block is that of rows over columns; this grid has {len(grid)} axes")
    home = generator.device
    mask = torch.zeros(n, tokens, dtype=torch.bool, device=home)
    axes = [torch.arange(length, device=home) for length in grid]
    missing = torch.full((n,), count, device=home)
    while count and n and bool((missing > 0).any()):
        seed = (torch.rand(n, tokens, generator=generator, device=home) + mask).argmin(dim=1)
        if aspect is None:
            least = torch.tensor([max(1, round(low * length)) for length in grid], device=home)
            most = torch.tensor([max(1, round(high * length)) for length in grid], device=home)
            sides = torch.rand(n, len(grid), generator=generator, device=home)
            sides = torch.minimum(least + (sides * (most - least + 1)).long(), most)
        else:
            sides = rectangle_sides(n, grid, generator, area=block, aspect=aspect)
        place = torch.rand(n, len(grid), generator=generator, device=home)
        inside = torch.ones(n, *grid, dtype=torch.bool, device=home)
        stride = tokens
        for axis, length in enumerate(grid):
            stride //= length
            side = sides[:, axis]
            at = seed.div(stride, rounding_mode="floor") % length
            start = torch.minimum((at - (place[:, axis] * side).long()).clamp(min=0), length - side)
            shape = [n] + [-1 if a == axis else 1 for a in range(len(grid))]
            covered = (axes[axis] >= start[:, None]) & (axes[axis] < (start + side)[:, None])
            inside &= covered.view(shape)
        fresh = inside.flatten(1) & ~mask
        fresh &= fresh.cumsum(dim=1) <= missing[:, None]
        mask |= fresh
        missing -= fresh.sum(dim=1)
    return sent(mask, device or home)


def rectangle_sides(
    n: int,
    grid: Sequence[int],
    generator: torch.Generator,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Int[Tensor, "n 2"]:
    """Rows and columns of random rectangles on a grid of tokens.

    With A uniform in `area` times the number of tokens and r log-uniform in `aspect`, round(sqrt(A r)) rows and
    round(sqrt(A / r)) columns, from 1 to those of the grid (BEiT; I-JEPA).

    Parameters
    ----------
    n : int
        Rectangles.
    grid : (rows, columns)
        Of tokens.
    generator : torch.Generator
        The only source of randomness.
    area : (low, high)
        Share of the grid, 0 < low <= high <= 1.
    aspect : (low, high)
        Rows over columns, 0 < low <= high.
    """
    for name, (low, high), most in (("area", area, 1.0), ("aspect", aspect, math.inf)):
        if not 0 < low <= high <= most:
            limit = " <= 1" if most == 1 else ""
            raise ValueError(f"{name} must be (low, high) with 0 < low <= high{limit}, got {(low, high)}")
    u, v = torch.rand(n, 2, generator=generator, device=generator.device).unbind(1)
    size = math.prod(grid) * (area[0] + u * (area[1] - area[0]))
    ratio = (math.log(aspect[0]) + v * (math.log(aspect[1]) - math.log(aspect[0]))).exp()
    sides = torch.stack(((size * ratio).sqrt(), (size / ratio).sqrt()), dim=1).round().long()
    return sides.clamp(min=1).minimum(torch.tensor(grid, device=generator.device))


def keep_indices(mask: Bool[Tensor, "n tokens"]) -> Int[Tensor, "n kept"]:
    """Indices of the tokens that are not masked, ascending, row by row.

    Raises ValueError when rows keep different numbers of tokens, since they could not be stacked.
    """
    return masked_indices(~mask)


def masked_indices(mask: Bool[Tensor, "n tokens"]) -> Int[Tensor, "n masked"]:
    """Indices of the masked tokens, ascending, row by row; ValueError when the rows differ in count."""
    n, tokens = mask.shape
    counts = mask.sum(dim=1)
    count = int(counts[0]) if n else 0
    if bool((counts != count).any()):
        raise ValueError(
            f"every row must hold the same number of tokens to be gathered, got {int(counts.min())} to "
            f"{int(counts.max())} of {tokens}"
        )
    return mask.nonzero()[:, 1].view(n, count)


def gather_tokens(x: Shaped[Tensor, "n tokens *rest"], index: Int[Tensor, "n k"]) -> Shaped[Tensor, "n k *rest"]:
    """Row by row, the tokens at `index`: out[i, j] = x[i, index[i, j]]."""
    return x[torch.arange(x.shape[0], device=x.device)[:, None], sent(index, x.device)]


def scatter_tokens(
    x: Shaped[Tensor, "n k *rest"],
    index: Int[Tensor, "n k"],
    into: Shaped[Tensor, "n tokens *rest"],
) -> Shaped[Tensor, "n tokens *rest"]:
    """Inverse of `gather_tokens`: a copy of `into` whose tokens at `index` are `x`. Gradient reaches both."""
    rows = torch.arange(x.shape[0], device=x.device)[:, None]
    return into.to(x.dtype).index_put((rows, sent(index, x.device)), x)


def pixel_mask(
    mask: Bool[Tensor, "n tokens"], grid: tuple[int, int], size: tuple[int, int]
) -> Bool[Tensor, "n 1 height width"]:
    """Spread a token mask over the pixels of its patches; `size` = (height, width) must be a multiple of `grid`."""
    if size[0] % grid[0] or size[1] % grid[1] or grid[0] * grid[1] != mask.shape[1]:
        raise ValueError(
            f"a grid of {grid[0]} x {grid[1]} tokens does not tile {size[0]} x {size[1]} pixels "
            f"with {mask.shape[1]} tokens"
        )
    cells = mask.view(-1, 1, *grid)
    return cells.repeat_interleave(size[0] // grid[0], dim=2).repeat_interleave(size[1] // grid[1], dim=3)


def _lowest(scores: Tensor, count: int) -> Tensor:
    chosen = scores.argsort(dim=1)[:, :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, chosen, True)


def _check_count(count: int, tokens: int) -> None:
    if not 0 <= count <= tokens:
        raise ValueError(f"count must be between 0 and the {tokens} tokens of a row, got {count}")


def _checked_grid(grid: Sequence[int]) -> tuple[int, ...]:
    sides = tuple(int(side) for side in grid)
    if not sides or min(sides) < 1:
        raise ValueError(f"grid must name at least one axis, each of 1 token or more, got {tuple(grid)}")
    return sides
