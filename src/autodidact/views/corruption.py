"""Block corruption of GMML (arXiv 2205.14986), also used by SiT: connected rectangles of an image replaced by something
else. All images of a batch are worked on together."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Fill = Literal["noise", "zeros", "self", "alien"]
FILLS: tuple[Fill, ...] = ("noise", "zeros", "self", "alien")

# Rectangles drawn at a time: one for each bit of an int64, the sign bit left alone.
_ROUND = 62


class Corrupted(NamedTuple):
    """The corrupted images and where they were corrupted (True), the same for all channels."""

    images: Float[Tensor, "n c h w"]
    mask: Bool[Tensor, "n 1 h w"]


def gmml_corruption(
    images: Float[Tensor, "n c h w"],
    generator: torch.Generator,
    *,
    fill: Fill = "noise",
    r_max: float = 0.75,
    align: int = 1,
    max_block: float = 0.3,
    alien_p: float = 0.0,
    alien_r_max: float = 0.3,
    donors: Int[Tensor, " n"] | None = None,
) -> Corrupted:
    """Replace blocks of connected pixels until a random share of every image is corrupted.

    For each image a target area is drawn, n = U(min(0.5, r_max), r_max) * H * W; then rectangles are added, anywhere
    and overlapping, until the corrupted area reaches it (see `gmml_mask`). Inside the mask the image is replaced by

    - "noise": N(0, 1), independent for each pixel and channel (images are expected to be normalised);
    - "zeros": 0, the mean colour of normalised images;
    - "self": each rectangle shows the same-sized rectangle at another place of the same clean image;
    - "alien": the same pixels of another image of the batch. Like the authors' code the donor is drawn from the whole
      batch and can be the image itself: then nothing changes although the mask is set.

    The authors' second stage is `alien_p`: with that probability (theirs: 1 / (number of fills + 1), so 0.5 with one
    fill) an image is instead taken clean and gets only alien blocks over `alien_r_max` of its area.

    Parameters
    ----------
    images : float tensor (n, c, h, w)
        Normalised images. Not modified.
    generator : torch.Generator
        The only source of randomness. The fill noise is drawn on the images' device, from a seed drawn here.
    fill : {"noise", "zeros", "self", "alien"}
    r_max : float
        Largest target share of the area, in (0, 1]. Paper: 0.75, hence 50 to 75 % (plus at most one block). Below 0.5
        the share is r_max itself.
    align : int
        Blocks start and end at multiples of this many pixels; 1 = free (authors' code), the patch size = whole tokens.
        Rows and columns beyond the last full multiple are never corrupted.
    max_block : float
        Longest side of a block as a share of the image's side, in (0, 1]. Paper: 0.3. A block is never shorter than
        `align`, whatever this says.
    alien_p : float
        Probability, for each image, of clean image plus alien blocks instead of `fill`.
    alien_r_max : float
        `r_max` of those images. Authors: 0.3.
    donors : int tensor (n,), optional
        Index of each image's donor for alien blocks; drawn if left out.

    Returns
    -------
    Corrupted(images, mask)

    Raises
    ------
    ValueError
        For a share or probability out of range, an `align` larger than the image, or alien blocks in a batch of one.
    """
    n, _, height, width = images.shape
    if fill not in FILLS:
        raise ValueError(f"fill must be one of {', '.join(FILLS)}, got {fill!r}")
    if not 0 <= alien_p <= 1:
        raise ValueError(f"alien_p is a probability between 0 and 1, got {alien_p}")
    if (fill == "alien" or alien_p > 0) and n == 1 and donors is None:
        raise ValueError("alien blocks come from the other images of the batch, and this batch has one image")
    home = generator.device
    pasted = torch.rand(n, generator=generator, device=home) < alien_p
    shares = torch.where(pasted, alien_r_max, r_max)
    mask, offset_row, offset_column = _masks_and_offsets(n, (height, width), generator, shares, align, max_block)
    if donors is None:
        donors = torch.randint(n, (n,), generator=generator, device=home)
    seed = int(torch.randint(2**62, (1,), generator=generator, device=home))

    device = images.device
    mask, pasted, donors = mask.to(device), pasted.to(device), donors.to(device)
    if fill == "noise":
        pixels = torch.Generator(device).manual_seed(seed)
        source = torch.randn(images.shape, generator=pixels, device=device, dtype=images.dtype)
    elif fill == "zeros":
        source = torch.zeros_like(images)
    elif fill == "alien":
        source = images[donors]
    else:
        rows = torch.arange(height, device=device)[:, None] + offset_row.to(device)
        columns = torch.arange(width, device=device) + offset_column.to(device)
        flat = (rows * width + columns).view(n, 1, -1).expand(-1, images.shape[1], -1)
        source = images.flatten(2).gather(2, flat).view_as(images)
    if alien_p > 0:
        source = torch.where(pasted[:, None, None, None], images[donors], source)
    return Corrupted(torch.where(mask, source, images), mask)


def gmml_mask(
    n: int,
    size: tuple[int, int],
    generator: torch.Generator,
    *,
    r_max: float | Float[Tensor, " n"] = 0.75,
    align: int = 1,
    max_block: float = 0.3,
) -> Bool[Tensor, "n 1 h w"]:
    """The masks of `gmml_corruption` alone, on the generator's device.

    A rectangle's top row is align * floor(U{0 .. H - align - 1} / align), its height min(U{align .. maxh - 1}, H -
    top) rounded to a multiple of `align` and at least one, maxh = int(max_block * H); columns likewise. The authors
    draw a height from an empty range when int(0.3 H) <= align (32 pixels in patches of 16) and fail; here the range
    then holds the one value `align`. Rectangles beyond the first 62 of an image start on pixels still open, so the
    drawing ends for every size, alignment and share.
    """
    shares = torch.as_tensor(r_max, dtype=torch.float32, device=generator.device).expand(n)
    return _masks_and_offsets(n, size, generator, shares, align, max_block)[0]


def _masks_and_offsets(
    n: int, size: tuple[int, int], generator: torch.Generator, shares: Tensor, align: int, max_block: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Masks (n, 1, h, w), and how many rows and columns away each pixel's "self" source lies (n, h, w).

    Work is done on cells of align x align pixels. In a round, 62 rectangles are drawn for each image and each cell gets
    an integer whose bit k says that rectangle k covers it: the union of the first k rectangles is then one comparison,
    and the number of rectangles needed is found by bisection instead of painting them one after the other.
    """
    height, width = size
    home = generator.device
    if not 1 <= align <= min(size):
        raise ValueError(f"align must be between 1 and the image's shorter side ({min(size)} px), got {align}")
    if not 0 < max_block <= 1:
        raise ValueError(f"max_block must be a share in (0, 1] of the image's side, got {max_block}")
    if n and not (float(shares.min()) > 0 and float(shares.max()) <= 1):
        raise ValueError(f"r_max must be a share in (0, 1] of the area, got {shares.tolist()}")
    cells = (height // align, width // align)
    low = shares.clamp(max=0.5)
    area = (low + (shares - low) * torch.rand(n, generator=generator, device=home)) * (height * width)
    needed = (area / align**2).ceil().clamp(max=cells[0] * cells[1]).long()

    union = torch.zeros(n, *cells, dtype=torch.bool, device=home)
    rows_away = torch.zeros(n, *cells, dtype=torch.long, device=home)
    columns_away = torch.zeros_like(rows_away)
    powers = 2 ** torch.arange(_ROUND, device=home)
    open_rows = torch.arange(n, device=home)
    first = True
    while open_rows.numel():
        count = open_rows.numel()
        spans = []
        starts_at = (
            None
            if first
            else torch.multinomial((~union[open_rows]).flatten(1).float(), _ROUND, True, generator=generator)
        )
        for axis, (length, pixels) in enumerate(zip(cells, size, strict=True)):
            u = torch.rand(3, count, _ROUND, generator=generator, device=home)
            if starts_at is None:
                start = (u[0] * max(pixels - align, 1)).long() // align
            else:
                start = starts_at // cells[1] if axis == 0 else starts_at % cells[1]
            longest = max(int(max_block * pixels), align + 1)
            side = (align + (u[1] * (longest - align)).long()).clamp(max=longest - 1)
            side = torch.minimum(side, pixels - start * align)
            side = torch.minimum((side / align).round().long().clamp(min=1), length - start)
            away = (u[2] * (length - side + 1)).long() - start
            at = torch.arange(length, device=home)
            covered = (at >= start[..., None]) & (at < (start + side)[..., None])
            spans.append(((covered * powers[:, None]).sum(dim=1), away))
        (row_bits, row_away), (column_bits, column_away) = spans
        cover = row_bits[:, :, None] & column_bits[:, None, :]
        old = union[open_rows]
        taken = _rectangles_needed(cover, old, needed[open_rows])
        cover &= (2**taken - 1)[:, None, None]
        # The lowest set bit is the first rectangle that covers the cell; a later one painted over it would show the
        # later source, but which of two random places is shown makes no difference to the distribution.
        which = torch.where(cover > 0, (cover & -cover).double().log2(), 0).long().flatten(1)
        fresh = (cover > 0) & ~old
        for target, away in ((rows_away, row_away), (columns_away, column_away)):
            target[open_rows] = torch.where(fresh, away.gather(1, which).view_as(fresh), target[open_rows])
        union[open_rows] = old | (cover > 0)
        open_rows = (union.flatten(1).sum(1) < needed).nonzero()[:, 0]
        first = False

    def to_pixels(x: Tensor) -> Tensor:
        x = x.repeat_interleave(align, dim=1).repeat_interleave(align, dim=2)
        return torch.nn.functional.pad(x, (0, width - x.shape[2], 0, height - x.shape[1]))

    return to_pixels(union)[:, None], to_pixels(rows_away * align), to_pixels(columns_away * align)


def _rectangles_needed(cover: Tensor, old: Tensor, needed: Tensor) -> Tensor:
    """Smallest k for which `old` and the first k rectangles cover `needed` cells; 62 when even all do not."""
    low, high = torch.zeros_like(needed), torch.full_like(needed, _ROUND)
    while bool((low < high).any()):
        middle = (low + high) // 2
        reached = ((cover & (2**middle - 1)[:, None, None]) > 0).logical_or_(old).flatten(1).sum(1) >= needed
        low, high = torch.where(reached, low, middle + 1), torch.where(reached, middle, high)
    return low.clamp(max=_ROUND)
