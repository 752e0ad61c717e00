"""Rendering views: from images and drawn parameters to pixels. Nothing is random here.

A batch is cut into chunks whose pixels stay in a processor's cache. Within a chunk every step is done for all samples
at once, or for those concerned; steps that concern nobody in the batch cost nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from autodidact.views import blur, colour, erase, geometry, noise, recycled
from autodidact.views.parameters import ViewParameters
from autodidact.views.parcel import Parcel, Twin
from autodidact.views.scratch import Scratch, borrowed

ChannelValues = float | tuple[float, ...]
Step = Callable[[Tensor, slice, Scratch], object]

# Numbers in the images of a chunk: on a CPU four megabytes, enough to hide what an operation costs to start, yet of a
# size with its caches, and twice as many where torch shares operations out; on an accelerator a quarter gigabyte.
_CHUNK = 2**20
_CHUNK_ACCELERATOR = 2**26
# Numbers in the images that a step for some samples only takes out, changes together and puts back.
_PART = 2**18
# On a CPU, images smaller than this are put back by one call, larger ones one by one: the call is slow, but starts
# quickly.
_COPIED_TOGETHER = 2**13


@dataclass(frozen=True)
class Look:
    """Settings of a view that are the same for all samples."""

    size: int | tuple[int, int] = 224
    """Side of the view in pixels, or (height, width)."""
    interpolation: geometry.Interpolation = "bilinear"
    """"bilinear" or "bicubic", both antialiased. An affine map beyond crop and flip is always bilinear."""
    padding: geometry.Padding = "zeros"
    """What an affine map shows beyond the image's edge: "zeros", "border" or "reflection"."""
    blur_kernel: int | None = None
    """Taps of the blur, odd. None = a tenth of the view's shorter side, made odd, at least 3 (SimCLR's rule)."""
    solarise_threshold: float = 0.5
    """Values from here up (0 to 1) are inverted where a view is solarised."""
    erase_value: float = 0.0
    """What an erased rectangle is filled with, 0 (black) to 1 (white)."""
    mean: ChannelValues = 0.0
    """Subtracted from every channel at the end (image range 0 to 1); one number or one a channel."""
    std: ChannelValues = 1.0
    """Divided by at the end; one number or one a channel."""

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise ValueError(f"size must be at least 1 pixel, got {self.size}")
        for name, allowed in (("interpolation", geometry.INTERPOLATIONS), ("padding", geometry.PADDINGS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        kernel = self.blur_kernel
        if kernel is not None and (kernel < 1 or kernel % 2 == 0):
            raise ValueError(f"blur_kernel must be an odd number of pixels, got {kernel}")
        for name in ("solarise_threshold", "erase_value"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a grey value between 0 and 1, got {getattr(self, name)}")

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the view in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def kernel(self) -> int:
        """Taps of the blur, cut to what the view's shorter side can reflect."""
        side = min(self.shape)
        wanted = self.blur_kernel if self.blur_kernel is not None else max(3, side // 10 // 2 * 2 + 1)
        return min(wanted, 2 * side - 1)

    @torch.no_grad()
    def render(
        self,
        images: Shaped[Tensor, "n c h w"],
        parameters: ViewParameters,
        *,
        chunk: int | None = None,
    ) -> Float[Tensor, "n c out_h out_w"]:
        """Make the views that `parameters` describe. No gradient passes.

        Order: crop with resize, flips and affine map; brightness, contrast, saturation and hue; greyscale; blur;
        solarise; noise; erase; normalise.

        Parameters
        ----------
        images : tensor (n, c, h, w)
            uint8 (0 to 255) or floating point (0 to 1), any number of channels, on any device.
        parameters : ViewParameters of n rows
        chunk : int, optional
            Samples of a chunk. It changes speed and memory, and the result by no more than rounding.

        Returns
        -------
        float32 tensor (n, c, out_h, out_w).
        """
        if not images.dtype.is_floating_point and images.dtype != torch.uint8:
            raise ValueError(f"images must be uint8 or floating point, got {images.dtype}")
        n, channels = images.shape[:2]
        if len(parameters) != n:
            raise ValueError(f"{len(parameters)} rows of parameters for {n} images")
        out = recycled.empty((n, channels, *self.shape), images.device)
        if n == 0:
            return out
        cpu = images.device.type == "cpu"
        largest = max(out[0].numel(), images[0].numel())
        if chunk is None:
            most = _CHUNK * min(torch.get_num_threads(), 2) if cpu else _CHUNK_ACCELERATOR
            chunk = max(1, min(n, most // largest))

        # Within its chunk a sample is placed by the turn of its hue, so that those turning hue together lie together.
        jitter = _Jitter(parameters, channels)
        place = torch.arange(n).div(chunk, rounding_mode="floor") * 8 + jitter.hue_turn
        order = place.argsort(stable=True)
        parcel = Parcel(images.device)
        back = parcel.add(order.argsort() % chunk)
        p, jitter = parameters[order], jitter.reordered(order, parcel)
        resample = self._resampler(p, images, parcel.add(order), parcel)
        starts = range(0, n, chunk)
        steps = [jitter.step, *self._steps(p, channels, [slice(s, min(s + chunk, n)) for s in starts], parcel)]
        parcel.send()

        # Threads that take a chunk each would wait for Python's lock at every operation.
        with torch.no_grad(), borrowed() as scratch:
            for start in starts:
                rows = slice(start, min(start + chunk, n))
                x = resample(rows, scratch)
                for step in steps:
                    step(x, rows, scratch)
                torch.index_select(x, 0, back.there[rows], out=out[rows])
        return out

    def _resampler(
        self, p: ViewParameters, images: Tensor, samples: Twin, parcel: Parcel
    ) -> Callable[[slice, Scratch], Tensor]:
        """A function from rows of `p` to their samples of the images, cropped and resized."""
        affine = p.affine.unbind(1)
        still = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0])
        if bool((p.affine == still).all()):
            windows = geometry.Windows(parcel.add(p.crop), parcel.add(p.flip), parcel.add(p.vertical_flip), samples)

            def resize(rows: slice, scratch: Scratch) -> Tensor:
                x = geometry.resized(images, windows.rows(rows), self.shape, self.interpolation, scratch)
                return x.clamp_(0, 1) if self.interpolation == "bicubic" else x

            return resize

        height, width = self.shape
        mirror = torch.stack([1 - 2.0 * p.flip, 1 - 2.0 * p.vertical_flip], dim=1)
        shift = p.affine[:, 1:3] * torch.tensor([width, height])
        matrix = mirror[:, :, None] * geometry.affine_matrix(affine[0], shift, affine[3], affine[4])
        canvas = (images.shape[2], images.shape[3])
        linear = parcel.add(geometry.sampled_places(p.crop, matrix, self.shape, canvas))

        def move(rows: slice, scratch: Scratch) -> Tensor:
            chosen = images.index_select(0, samples.there[rows])
            scaled = chosen.to(torch.float32).mul_(1 / 255) if images.dtype == torch.uint8 else chosen.float()
            return geometry.sampled(scaled, linear.there[rows], self.shape, self.padding)

        return move

    def _steps(self, p: ViewParameters, channels: int, chunks: list[slice], parcel: Parcel) -> Iterator[Step]:
        """What follows the colours, each step as a function of a chunk, its rows in `p`, and scratch memory."""
        if channels > 1 and bool(p.grey.any()):
            grey = _Some(chunks, lambda rows: p.grey[rows].nonzero()[:, 0], parcel)
            yield lambda x, rows, scratch: _on_some(
                x, grey.of(rows), lambda part, _: colour.to_grey_(part, scratch), scratch
            )
        if bool((p.sigma > 0).any()):
            weights = blur.gaussian_taps(p.sigma, self.kernel)
            radius = (weights > 0).sum(dim=1) - 1
            taps = parcel.add(weights)

            def by_strength(rows: slice) -> Tensor:
                sigma = p.sigma[rows]
                return sigma.argsort()[int((sigma == 0).sum()) :]

            blurred = _Some(chunks, by_strength, parcel)

            def blur_some(x: Tensor, rows: slice, scratch: Scratch) -> None:
                def work(part: Tensor, chosen: Twin) -> None:
                    most = int(radius[rows][chosen.here].max()) + 1
                    blur.convolve_(part, taps.there[rows][chosen.there, :most], scratch)

                _on_some(x, blurred.of(rows), work, scratch)

            yield blur_some
        if bool(p.solarise.any()):
            solarised = _Some(chunks, lambda rows: p.solarise[rows].nonzero()[:, 0], parcel)
            yield lambda x, rows, scratch: _on_some(
                x, solarised.of(rows), lambda part, _: colour.solarise_(part, self.solarise_threshold), scratch
            )
        if bool((p.noise > 0).any()):
            std, seeds = parcel.add(p.noise), parcel.add(p.noise_seed)
            yield lambda x, rows, scratch: noise.add_noise_(
                x, std.there[rows], noise.standard_noise(seeds.there[rows], x.shape[1:], scratch)
            )
        if bool((p.erase[:, 2:] > 0).all(dim=1).any()):
            rectangles = parcel.add(p.erase)
            yield lambda x, rows, scratch: erase.erase_(x, rectangles.there[rows], self.erase_value)
        scale, offset = map(parcel.add, colour.normalisation(self.mean, self.std, channels, torch.device("cpu")))
        if bool((scale.here != 1).any()):
            yield lambda x, rows, scratch: x.mul_(scale.there)
        if bool((offset.here != 0).any()):
            yield lambda x, rows, scratch: x.add_(offset.there)


class _Jitter:
    """Brightness, contrast, saturation and hue of a batch, each sample in its own order.

    The first three are blends (`colour.blend_`), done for all samples at once however their turns are mixed. Hue is of
    another kind: `hue_turn` says before which blend a sample turns its hue (0, 1, 2, or after the last), and is largest
    for samples whose colours do not change at all.
    """

    def __init__(self, p: ViewParameters, channels: int) -> None:
        changed = (p.jitter != torch.tensor([1.0, 1.0, 1.0, 0.0])).any(dim=0)
        changed &= torch.tensor([True, True, channels > 1, channels == 3])
        blends = changed[:3].nonzero()[:, 0]
        self.turns_hue = bool(changed[3])
        self.blends = len(blends)
        self.last = torch.full((len(p),), -1)
        turn = p.order.argsort(dim=1)
        ranks = turn[:, blends].argsort(dim=1)  # stage -> which of the blends
        due = blends[ranks] if len(blends) else ranks
        factor = p.jitter.gather(1, due)
        self.factor = factor
        self.grey = torch.where(due == 2, 1 - factor, 0.0) if bool(changed[2]) else None
        self.mean = torch.where(due == 1, 1 - factor, 0.0) if bool(changed[1]) else None
        self.shift = p.jitter[:, 3]
        still = (p.jitter[:, changed] == torch.tensor([1.0, 1.0, 1.0, 0.0])[changed]).all(dim=1)
        before = (turn[:, blends] < turn[:, 3:]).sum(dim=1)
        self.hue_turn = torch.where(still, self.blends + 1, before if self.turns_hue else 0)

    def reordered(self, order: Tensor, parcel: Parcel) -> _Jitter:
        """The same for the samples in another order, for the device of the parcel."""
        self.hue_turn = self.hue_turn[order]
        self.turns = self.hue_turn.tolist()
        self.factors = parcel.add(self.factor[order])
        self.greys = None if self.grey is None else parcel.add(self.grey[order])
        self.means = None if self.mean is None else parcel.add(self.mean[order])
        self.own = parcel.add(colour.hue_centres(self.shift[order])) if self.turns_hue else None
        return self

    def step(self, x: Tensor, rows: slice, scratch: Scratch) -> None:
        """Apply all of it to a chunk, in place."""
        turns: Sequence[int] = self.turns[rows]
        bounds = [bisect_left(turns, stage) for stage in range(self.blends + 2)]
        end = bounds[-1]
        if end == 0:
            return
        chunk, within = x[:end], slice(rows.start, rows.start + end)
        for stage in range(self.blends + 1):
            start, stop = bounds[stage], bounds[stage + 1]
            if self.own is not None and start < stop:
                colour.turn_hue_(x[start:stop], self.own.there[rows.start + start : rows.start + stop], scratch)
            if stage < self.blends:
                colour.blend_(
                    chunk,
                    self.factors.there[within, stage],
                    None if self.greys is None else self.greys.there[within, stage],
                    None if self.means is None else self.means.there[within, stage],
                    scratch,
                )


class _Some:
    """The samples of each chunk that a step concerns, by their places in the chunk.

    Parameters
    ----------
    chunks : where each begins and ends.
    chosen : from a chunk to places in it, on the CPU.
    parcel : with which they go to the device.
    """

    def __init__(self, chunks: list[slice], chosen: Callable[[slice], Tensor], parcel: Parcel) -> None:
        places = [chosen(rows) for rows in chunks]
        ends = list(accumulate(map(len, places), initial=0))
        self._parts = {rows.start: slice(*part) for rows, part in zip(chunks, pairwise(ends), strict=True)}
        self._places = parcel.add(torch.cat(places))

    def of(self, rows: slice) -> Twin:
        """Those of one chunk."""
        return self._places.rows(self._parts[rows.start])


def _on_some(x: Tensor, chosen: Twin, work: Callable[[Tensor, Twin], object], scratch: Scratch) -> None:
    """Let `work` change the chosen samples of `x` in place, a few at a time so that its own buffers stay small.

    A single sample is a view of `x`; several are taken out and put back.
    """
    most = _PART if x.device.type == "cpu" else _CHUNK_ACCELERATOR
    step = max(1, most // x[0].numel())
    for start in range(0, len(chosen.here), step):
        some = chosen.rows(slice(start, start + step))
        count = len(some.here)
        if count == 1:
            only = int(some.here)
            work(x[only : only + 1], some)
            continue
        part = torch.index_select(x, 0, some.there, out=scratch.take("part", (count, *x.shape[1:]), x.device))
        work(part, some)
        if x.device.type != "cpu" or part[0].numel() < _COPIED_TOGETHER:
            x.index_copy_(0, some.there, part)
        else:
            for i, changed in zip(some.here.tolist(), part.unbind(0), strict=True):
                x[i] = changed
