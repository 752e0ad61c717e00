"""Jigsaw: tiles of an image, and a set of their orders that are easy to tell apart."""

from __future__ import annotations

import math
from functools import cache
from itertools import permutations

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from autodidact.views.parcel import sent

ALL_ORDERS_UP_TO = 9
DRAWN_ORDERS = 100_000


def tiles(images: Shaped[Tensor, "n c h w"], grid: int) -> Shaped[Tensor, "n tiles c tile_h tile_w"]:
    """The grid x grid equal tiles of each image, row by row.

    Raises
    ------
    ValueError
        Sides that the grid does not divide.
    """
    height, width = images.shape[2:]
    if grid < 1 or height % grid or width % grid:
        raise ValueError(f"images of {height} x {width} pixels cannot be cut into {grid} x {grid} equal tiles")
    cut = images.unflatten(3, (grid, -1)).unflatten(2, (grid, -1))
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def assembled(parts: Shaped[Tensor, "n tiles c tile_h tile_w"]) -> Shaped[Tensor, "n c h w"]:
    """The images that `tiles` cut."""
    grid = math.isqrt(parts.shape[1])
    return parts.unflatten(1, (grid, grid)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def ordered(parts: Shaped[Tensor, "n tiles *tile"], orders: Int[Tensor, "n tiles"]) -> Shaped[Tensor, "n tiles *tile"]:
    """Tiles of each image in its own order: place k shows tile ``orders[:, k]``."""
    return parts[torch.arange(len(parts), device=parts.device)[:, None], sent(orders, parts.device)]


def cut_inside(
    parts: Shaped[Tensor, "n tiles c tile_h tile_w"], size: tuple[int, int], generator: torch.Generator
) -> Shaped[Tensor, "n tiles c h w"]:
    """A smaller piece of each tile, at a random place of its own, so that edges do not go on from tile to tile.

    Raises
    ------
    ValueError
        A size larger than the tiles.
    """
    n, count, _, *given = parts.shape
    if size[0] > given[0] or size[1] > given[1]:
        raise ValueError(f"tiles of {given[0]} x {given[1]} pixels hold no pieces of {size[0]} x {size[1]}")
    device = parts.device

    def places(whole: int, piece: int) -> Tensor:
        first = torch.randint(whole - piece + 1, (n, count, 1), generator=generator, device=generator.device)
        return sent(first, device) + torch.arange(piece, device=device)

    rows, columns = places(given[0], size[0]), places(given[1], size[1])
    image, tile = torch.arange(n, device=device)[:, None, None, None], torch.arange(count, device=device)[:, None, None]
    return parts.movedim(2, -1)[image, tile, rows[..., None], columns[:, :, None]].movedim(-1, 2)


def tile_units(parts: Float[Tensor, "n tiles c h w"]) -> Float[Tensor, "n tiles c h w"]:
    """Every channel of every tile with mean 0 and standard deviation 1; one that is the same everywhere is 0."""
    mean, spread = parts.mean(dim=(3, 4), keepdim=True), parts.std(dim=(3, 4), correction=0, keepdim=True)
    return (parts - mean) / spread.clamp(min=1e-3)


@cache
def distant_orders(count: int, things: int) -> Int[Tensor, "count things"]:
    """Orders that differ from each other in as many places as can be, the given one first.

    Chosen one after another: next is the order whose smallest Hamming distance to those chosen is largest, among these
    the one with the largest sum of distances, among these the first (Noroozi and Favaro, 1603.09246, algorithm 1, with
    the minimum in place of the mean). All orders are candidates up to 9 things, above that 100,000 drawn ones; the
    same set is found every time.

    Raises
    ------
    ValueError
        More orders than there are, or fewer than one.
    """
    if not 1 <= count <= math.factorial(things):
        raise ValueError(f"{things} things have 1 to {math.factorial(things):,} orders, {count} were asked for")
    candidates = _candidates(things)
    if count > len(candidates):
        raise ValueError(
            f"at most {len(candidates):,} orders of {things} things can be told apart, {count} were asked for"
        )
    chosen = [0]
    nearest = torch.full((len(candidates),), things, dtype=torch.int64)
    total = torch.zeros(len(candidates), dtype=torch.int64)
    while len(chosen) < count:
        distance = (candidates != candidates[chosen[-1]]).sum(dim=1)
        nearest, total = nearest.minimum(distance), total + distance
        # One number to compare by: the sum, at most `things` an order chosen, never outweighs the minimum.
        chosen.append(int((nearest * (things * count + 1) + total).argmax()))
    return candidates[chosen].long()


def _candidates(things: int) -> Int[Tensor, "candidates things"]:
    if things <= ALL_ORDERS_UP_TO:
        return torch.tensor(list(permutations(range(things))), dtype=torch.int8)
    drawn: Float[Tensor, "candidates things"] = torch.rand(
        DRAWN_ORDERS - 1, things, generator=torch.Generator().manual_seed(0)
    )
    return torch.cat([torch.arange(things)[None], drawn.argsort(dim=1)]).to(torch.int8)
