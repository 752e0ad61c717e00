"""Frequencies at which some images of a set stick out together: what a pattern hidden in part of them leaves behind.

Knows nothing of files, thresholds or verdicts; images are tensors, and every image is a row number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from autodidact.views.spectral import LEVELS, dct, to_yuv

PLANES = {1: ("luminance",), 3: ("luminance", "chroma U", "chroma V")}
SIDES = (8, 16, 32, 64)
"""Windows that are tried, beside the whole image up to the largest of them."""
NOISE = 0.5
"""Grey levels: least spread of a frequency, a little more than what rounding to 8 bits alone leaves."""
STEPS = tuple(2 ** (k / 2) for k in range(2, 13))
"""Thresholds in units of the spread, from 2 to 64, two to an octave."""
FIRST = 2
"""Index of the least of them, 4, at which an image sticks out."""
UNEVEN = 0.25
"""How far `WindowScan.expected` is off by the content of a set alone, as a share of it. In images saved as JPEG the
multiples of the frequencies of its 8 x 8 blocks stand out from those around them, and more to one side than to the
other: a share that stays in a set ten times as large, where chance alone grows with the root of the number only."""
BAND = 0.25
"""Frequencies below this share of the highest one in both directions are left aside: there the content lies."""
ALIKE = 0.995
"""Images whose thumbnails correlate more than this are one image, saved twice."""
COMPARED = 1_024
"""Images that are compared with one another to find copies."""


@dataclass(frozen=True)
class Finding:
    """One frequency at which more images stick out, all to one side, than chance or content explain.

    Attributes
    ----------
    plane : "luminance", "chroma U" or "chroma V".
    window : side of the windows in pixels.
    row, column : of the frequency in the window's transform, from 0 to window - 1.
    sign : 1 or -1, the side to which they stick out.
    score : (found - expected) / sqrt(expected + 1 + (`UNEVEN` expected)^2); however many images there are, it stays
        below (found / expected - 1) / `UNEVEN`.
    expected : images that would stick out by content alone.
    magnitude : median of what these images have more than the others, in grey levels, as `SpectralTrigger` takes it.
    images : rows of the images that stick out, ascending.
    """

    plane: str
    window: int
    row: int
    column: int
    sign: int
    score: float
    expected: float
    magnitude: float
    images: Int[Tensor, " m"]


def windows_for(height: int, width: int) -> tuple[int, ...]:
    """Sides of the windows in which images of a size are looked at, largest first; none below 8 pixels."""
    side = min(height, width)
    found = {size for size in SIDES if size <= side} | ({side} if SIDES[0] <= side <= SIDES[-1] else set())
    return tuple(sorted(found, reverse=True))


def mean_frequencies(images: Shaped[Tensor, "n c h w"], window: int) -> Float[Tensor, "n c window window"]:
    """Mean over an image's whole windows of their transforms, times the root of their number: a pattern that repeats in
    every window adds up, content does not. In grey levels; planes as in `to_yuv`.

    Parameters
    ----------
    images : uint8 (0 to 255) or floating point (0 to 1), of one channel or three, at least a window large. What is left
        over at the right and the bottom is not looked at.
    """
    x = images.float() if images.dtype == torch.uint8 else images.float() * LEVELS
    x = x[..., : x.shape[2] // window * window, : x.shape[3] // window * window]
    found = dct(to_yuv(x) if x.shape[1] == 3 else x, window)
    return found.mean((2, 3)) * (found.shape[2] * found.shape[3]) ** 0.5


class WindowScan:
    """What sticks out in windows of one size, gathered batch by batch.

    An image's frequency is taken off its median over a sample of the set and divided by its spread there, and then by
    the mean of its neighbours in the same image, where that is above 1. An edge or a texture raises a whole
    neighbourhood of frequencies, a hidden pattern single ones.

    Parameters
    ----------
    sample : frequencies of some of the images, `mean_frequencies`; poisoned ones must be less than half of them.
    window : side in pixels.
    """

    def __init__(self, sample: Float[Tensor, "n c w w"], window: int) -> None:
        self.window = window
        self.middle = sample.median(0).values
        self.spread = (sample - self.middle).abs().median(0).values.mul_(1.4826).clamp_(min=NOISE)
        self._within = torch.zeros(len(STEPS), 2, *self.middle.shape, dtype=torch.long)
        self._kept: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def update(self, images: Shaped[Tensor, "n c h w"], rows: Int[Tensor, " n"]) -> None:
        """Count the images of a batch; `rows` are their numbers in the set."""
        frequencies = mean_frequencies(images, self.window)
        off = frequencies - self.middle
        z = off / self.spread
        size = z.abs()
        around = (F.avg_pool2d(F.pad(size, (2, 2, 2, 2), mode="reflect"), 5, 1) * 25 - size) / 24
        t = z / around.clamp(min=1)
        image, cell = (t.flatten(1).abs() > STEPS[0]).nonzero(as_tuple=True)
        value = t.flatten(1)[image, cell]
        octave = torch.bucketize(value.abs(), torch.tensor(STEPS)) - 1
        place = (octave * 2 + (value < 0)) * self.middle.numel() + cell
        self._within += place.bincount(minlength=self._within.numel()).view_as(self._within)
        far = octave >= FIRST
        windows = (images.shape[2] // self.window) * (images.shape[3] // self.window)
        magnitude = off.flatten(1)[image[far], cell[far]] / windows**0.5
        self._kept.append((rows[image[far]].int(), cell[far].int(), value[far], magnitude))

    @property
    def counts(self) -> Float[Tensor, "steps 2 c w w"]:
        """Images that stick out beyond each of `STEPS`, to either side."""
        return self._within.flip(0).cumsum(0).flip(0).float()

    def expected(self) -> Float[Tensor, "steps 2 c w w"]:
        """Images that content alone would bring beyond each of `STEPS` from the third on, to each side.

        The largest of three: as many as stick out to the other side; as many as at the 48 frequencies around, on
        average of both sides; as many as lie between half of the step and the step, because the tails of natural images
        thin out, while a pattern of one strength leaves a gap below it.
        """
        counts = self.counts
        beyond = counts[FIRST:]
        both = beyond.sum(1)
        around = (F.avg_pool2d(F.pad(both, (3, 3, 3, 3), mode="reflect"), 7, 1) * 49 - both) / 96
        between = counts[: len(STEPS) - FIRST] - beyond
        return torch.stack([beyond.flip(1), around[:, None].expand_as(beyond), between]).amax(0)

    def findings(self, threshold: float, thumbnails: Float[Tensor, "n k"]) -> list[Finding]:
        """Frequencies whose score reaches a threshold, highest first, at their best step; copies of one image count
        once.

        Parameters
        ----------
        thumbnails : standardised rows, one for each image, whose product is their correlation.
        """
        expected = self.expected()
        spread = (expected + 1 + (UNEVEN * expected) ** 2).sqrt()
        scores = (self.counts[FIRST:] - expected) / spread
        scores[..., ~band(self.window)] = 0
        best, step = scores.max(0)
        image, cell, t, magnitude = (torch.cat(part) for part in zip(*self._kept, strict=True))
        found = []
        for side, plane, row, column in (best >= threshold).nonzero().tolist():
            index, sign = int(step[side, plane, row, column]), 1 - 2 * side
            here = cell == (plane * self.window + row) * self.window + column
            chosen = here & (sign * t > STEPS[FIRST + index])
            images = image[chosen].long().sort().values
            due = float(expected[index, side, plane, row, column])
            # Copies are taken away last, where few images are left to compare.
            score = (different(thumbnails[images]) - due) / float(spread[index, side, plane, row, column])
            if score >= threshold:
                named, size = PLANES[len(self.middle)][plane], abs(float(magnitude[chosen].median()))
                found.append(Finding(named, self.window, row, column, sign, score, due, size, images))
        return sorted(found, key=lambda finding: -finding.score)


def band(window: int) -> Bool[Tensor, "w w"]:
    """Which frequencies of a window are looked at."""
    each = torch.arange(window) >= BAND * window
    return each[:, None] | each[None]


def thumbnails(images: Shaped[Tensor, "n c h w"]) -> Float[Tensor, "n 256"]:
    """Images of 16 x 16 grey pixels with mean 0 and length 1, all zero where an image is of one shade."""
    small = F.adaptive_avg_pool2d(images.float().mean(1, keepdim=True), 16).flatten(1)
    return F.normalize(small - small.mean(1, keepdim=True), dim=1)


def different(rows: Float[Tensor, "n k"]) -> float:
    """How many of the images with these thumbnails are no copy of an earlier one; of many by their first `COMPARED`."""
    first = rows[:COMPARED]
    copies = (first @ first.T > ALIKE).tril(-1).any(1)
    return len(rows) * (1 - float(copies.float().mean()))


def strongest(findings: Sequence[Finding]) -> list[Finding]:
    """Of findings in windows of several sizes, those in the size with the highest score; of equals, with the fewest.

    The same pattern shows in windows of other sizes too, spread over several frequencies.
    """
    sizes = {finding.window: [f for f in findings if f.window == finding.window] for finding in findings}
    best = min(sizes.values(), key=lambda own: (-max(f.score for f in own), len(own)), default=[])
    return sorted(best, key=lambda finding: -finding.score)
