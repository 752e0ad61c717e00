"""Block corruption of GMML (arXiv 2205.14986), also used by SiT: connected rectangles of an image replaced by something
else. All images of a batch are worked on together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autodidact.views.parcel import sent

Fill = Literal["noise", "zeros", "self", "alien"]
FILLS: tuple[Fill, ...] = ("noise", "zeros", "self", "alien")

# Rectangles drawn at a time: one for each bit of an int64, less the sign and one that says "none".
_ROUND = 62
# Rounds in which rectangles start anywhere, as in the authors' loop; later ones start on pixels still open.
_FREE_ROUNDS = 8
# Cells worked on at a time, so that temporaries stay in a cache.
_CELLS_AT_ONCE = 2**17


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
    for name, most in (("r_max", r_max), ("alien_r_max", alien_r_max)):
        _check_share(name, most)
    if (fill == "alien" or alien_p > 0) and n == 1 and donors is None:
        raise ValueError("alien blocks come from the other images of the batch, and this batch has one image")
    home = generator.device
    pasted = torch.rand(n, generator=generator, device=home) < alien_p
    shares = torch.where(pasted, alien_r_max, r_max)
    mask, offsets = _masks_and_offsets(n, (height, width), generator, shares, align, max_block, fill == "self")
    if donors is None:
        donors = torch.randint(n, (n,), generator=generator, device=home)
    seed = int(torch.randint(2**62, (1,), generator=generator, device=home))

    device = images.device
    mask, pasted, donors = (sent(drawn, device) for drawn in (mask, pasted, donors))
    if fill == "noise":
        pixels = torch.Generator(device).manual_seed(seed)
        source = torch.randn(images.shape, generator=pixels, device=device, dtype=images.dtype)
    elif fill == "zeros":
        source = torch.zeros_like(images)
    elif fill == "alien":
        source = images[donors]
    elif offsets is not None:
        rows = torch.arange(height, device=device)[:, None] + sent(offsets[0], device)
        columns = torch.arange(width, device=device) + sent(offsets[1], device)
        flat = (rows * width + columns).view(n, 1, -1).expand(-1, images.shape[1], -1)
        source = images.flatten(2).gather(2, flat).view_as(images)
    if alien_p > 0:
        source = torch.where(pasted[:, None, None, None], images[donors], source)
    return Corrupted(torch.where(mask, source, images), mask)


@dataclass(frozen=True)
class BlockCorruption:
    """Settings of `gmml_corruption`; calling it corrupts a batch.

    Attributes
    ----------
    fill : what blocks become, one of `FILLS`.
    share : largest share of the area that is corrupted.
    align : blocks begin and end at multiples of this many pixels.
    max_block : longest side of a block as a share of the image's side.
    alien_p : probability that an image gets blocks of another image instead.
    alien_share : `share` of those images.
    """

    fill: str
    share: float
    align: int
    max_block: float
    alien_p: float
    alien_share: float

    def __post_init__(self) -> None:
        if self.fill not in FILLS:
            raise ValueError(f"fill must be one of {', '.join(FILLS)}, got {self.fill!r}")
        for name, most in (("share", self.share), ("alien_share", self.alien_share)):
            _check_share(name, most)

    def __call__(self, images: Float[Tensor, "n c h w"], generator: torch.Generator) -> Corrupted:
        return gmml_corruption(
            images,
            generator,
            fill=cast(Fill, self.fill),
            r_max=self.share,
            align=self.align,
            max_block=self.max_block,
            alien_p=self.alien_p,
            alien_r_max=self.alien_share,
        )

    def check(self, size: tuple[int, int]) -> None:
        """Raise ValueError where images of this size cannot be corrupted so."""
        self(torch.zeros(2, 1, *size), torch.Generator())


def _check_share(name: str, share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"{name} must be a share in (0, 1] of the area, got {share}")


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
    then holds the one value `align`. Rectangles beyond the first 496 of an image start on pixels still open, so the
    drawing ends for every size, alignment and share.
    """
    shares = torch.as_tensor(r_max, dtype=torch.float32, device=generator.device).expand(n)
    return _masks_and_offsets(n, size, generator, shares, align, max_block, offsets=False)[0]


def _masks_and_offsets(
    n: int,
    size: tuple[int, int],
    generator: torch.Generator,
    shares: Tensor,
    align: int,
    max_block: float,
    offsets: bool,
) -> tuple[Tensor, Tensor | None]:
    """Masks (n, 1, h, w), and how many rows and columns away each pixel's "self" source lies (2, n, h, w) if asked.

    Work is done on cells of align x align pixels, in rounds of 62 rectangles an image.
    """
    height, width = size
    home = generator.device
    if not 1 <= align <= min(size):
        raise ValueError(f"align must be between 1 and the image's shorter side ({min(size)} px), got {align}")
    if not 0 < max_block <= 1:
        raise ValueError(f"max_block must be a share in (0, 1] of the image's side, got {max_block}")
    if n and not (float(shares.min()) > 0 and float(shares.max()) <= 1):
        raise ValueError(f"r_max must be a share in (0, 1] of the area, got {shares.unique().tolist()}")
    cells = (height // align, width // align)
    low = shares.clamp(max=0.5)
    area = (low + (shares - low) * torch.rand(n, generator=generator, device=home)) * (height * width)
    needed = (area / align**2).ceil().clamp(max=cells[0] * cells[1]).long()

    mask = torch.zeros(n, *cells, dtype=torch.bool, device=home)
    away = torch.zeros(2, n, *cells, dtype=torch.long, device=home) if offsets else None
    unfinished = torch.arange(n, device=home)
    seeds: tuple[Tensor, Tensor] | None = None
    rounds = 0
    while len(unfinished):
        rounds += 1
        rectangles = [
            _sides(length, pixels, len(unfinished), align, max_block, generator, None if seeds is None else seeds[axis])
            for axis, (length, pixels) in enumerate(zip(cells, size, strict=True))
        ]
        for part in torch.arange(len(unfinished), device=home).split(max(1, _CELLS_AT_ONCE // (cells[0] * cells[1]))):
            images = unfinished[part]
            (top, tall, down), (left, wide, right) = ([x[part] for x in drawn] for drawn in rectangles)
            covered = mask[images]
            first = _first_cover(top, tall, cells[0], left, wide, cells[1])
            counts = torch.zeros(len(part), _ROUND + 1, dtype=torch.long, device=home)
            counts.scatter_add_(1, first.flatten(1), (~covered).flatten(1).long())
            reached = covered.flatten(1).sum(1, keepdim=True) + counts[:, :_ROUND].cumsum(1) >= needed[images, None]
            taken = torch.where(reached.any(1), reached.to(torch.uint8).argmax(1) + 1, _ROUND)
            fresh = (first < taken[:, None, None]) & ~covered
            mask[images] = covered | fresh
            if away is not None:
                # A cell under several rectangles shows the first one's source. The authors' loop would show the last
                # one's, but both are random places, so the distribution is the same.
                at = first.clamp(max=_ROUND - 1).flatten(1)
                for axis, moved in enumerate((down, right)):
                    away[axis, images] = torch.where(fresh, moved.gather(1, at).view_as(fresh), away[axis, images])
        unfinished = (mask.flatten(1).sum(1) < needed).nonzero()[:, 0]
        if len(unfinished) and rounds >= _FREE_ROUNDS:
            left_open = (~mask[unfinished]).flatten(1).float()
            cell = torch.multinomial(left_open, _ROUND, replacement=True, generator=generator)
            seeds = (cell.div(cells[1], rounding_mode="floor"), cell % cells[1])

    def to_pixels(x: Tensor) -> Tensor:
        x = x.repeat_interleave(align, dim=-2).repeat_interleave(align, dim=-1)
        return F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]))

    return to_pixels(mask)[:, None], None if away is None else to_pixels(away * align)


def _sides(
    cells: int,
    pixels: int,
    n: int,
    align: int,
    max_block: float,
    generator: torch.Generator,
    start: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """First cell, length in cells, and move to a random other place, along one axis, of 62 rectangles for n images."""
    u = torch.rand(3, n, _ROUND, generator=generator, device=generator.device)
    if start is None:
        start = (u[0] * max(pixels - align, 1)).long().div(align, rounding_mode="floor")
    longest = max(int(max_block * pixels), align + 1)
    side = (align + (u[1] * (longest - align)).long()).clamp(max=longest - 1)
    side = torch.minimum(side, pixels - start * align)
    side = torch.minimum((side / align).round().long().clamp(min=1), cells - start)
    return start, side, (u[2] * (cells - side + 1)).long() - start


def _first_cover(top: Tensor, tall: Tensor, rows: int, left: Tensor, wide: Tensor, columns: int) -> Tensor:
    """(n, rows, columns): the number of the first of 62 rectangles that covers a cell, 62 where none does.

    Bit k of an integer says whether rectangle k covers a row, likewise for a column, so one "and" gives all rectangles
    over a cell. The lowest bit set is the first one; its number is the exponent of that power of two as a float.
    """
    powers = 2 ** torch.arange(_ROUND, device=top.device)[:, None]

    def bits(start: Tensor, length: Tensor, cells: int) -> Tensor:
        at = torch.arange(cells, device=start.device)
        return (((at >= start[..., None]) & (at < (start + length)[..., None])) * powers).sum(dim=1)

    over = bits(top, tall, rows)[:, :, None] & bits(left, wide, columns)[:, None, :]
    over |= 2**_ROUND
    lowest = over.bitwise_and_(-over).to(torch.float32).view(torch.int32)
    return lowest.bitwise_right_shift(23).sub_(127).long()
