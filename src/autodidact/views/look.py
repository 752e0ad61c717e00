"""Rendering views: from images and drawn parameters to pixels. Nothing is random here.

A batch is cut into chunks whose pixels stay in a processor's cache. Within a chunk every step is done for all samples
at once, or for those concerned; steps that concern nobody in the batch cost nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from autodidact.views import blur, colour, erase, geometry, noise, recycled
from autodidact.views.parameters import ViewParameters
from autodidact.views.scratch import Scratch, borrowed

ChannelValues = float | tuple[float, ...]
Step = Callable[[Tensor, slice, Scratch], object]

# Numbers in the images of a chunk: on a CPU four megabytes, enough to hide what an operation costs to start, yet
# of a size with its caches; on an accelerator a quarter gigabyte.
_CHUNK = 2**20
_CHUNK_ACCELERATOR = 2**26
# Numbers in the images of a batch that are worth another thread.
_CHUNK_A_THREAD = 2**18
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
        solarise; noise; erase; normalise. On a CPU chunks are shared out to as many threads as torch may use.

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
        threads = min(torch.get_num_threads(), 1 + n * largest // _CHUNK_A_THREAD) if cpu else 1
        if chunk is None:
            most = (_CHUNK if cpu else _CHUNK_ACCELERATOR) // largest
            chunk = max(1, min(math.ceil(n / threads), most))

        # Within its chunk a sample is placed by the turn of its hue, so that those turning hue together lie together.
        jitter = _Jitter(parameters, channels)
        place = torch.arange(n).div(chunk, rounding_mode="floor") * 8 + jitter.hue_turn
        order = place.argsort(stable=True)
        back = (order.argsort() % chunk).to(images.device)
        p, jitter = parameters[order], jitter.reordered(order, images.device)
        resample = self._resampler(p)
        steps = [jitter.step, *self._steps(p, channels, images.device)]

        def work(start: int) -> None:
            rows = slice(start, min(start + chunk, n))
            # Grad and inference mode are of a thread; what the caller has, the workers must have too.
            with torch.inference_mode(inference), torch.no_grad(), borrowed() as scratch:
                x = resample(images, order[rows], rows, scratch)
                for step in steps:
                    step(x, rows, scratch)
                torch.index_select(x, 0, back[rows], out=out[rows])

        inference = torch.is_inference_mode_enabled()
        _in_threads(work, range(0, n, chunk), threads)
        return out

    def _resampler(self, p: ViewParameters) -> Callable[[Tensor, Tensor, slice, Scratch], Tensor]:
        """A function from images, the samples to take, and their rows in `p`, to those samples cropped and resized."""
        affine = p.affine.unbind(1)
        still = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0])
        if bool((p.affine == still).all()):

            def resize(images: Tensor, samples: Tensor, rows: slice, scratch: Scratch) -> Tensor:
                x = geometry.resized_crop(
                    images,
                    p.crop[rows],
                    self.shape,
                    self.interpolation,
                    p.flip[rows],
                    p.vertical_flip[rows],
                    samples=samples,
                    scratch=scratch,
                )
                return x.clamp_(0, 1) if self.interpolation == "bicubic" else x

            return resize

        height, width = self.shape
        mirror = torch.stack([1 - 2.0 * p.flip, 1 - 2.0 * p.vertical_flip], dim=1)
        shift = p.affine[:, 1:3] * torch.tensor([width, height])
        matrix = mirror[:, :, None] * geometry.affine_matrix(affine[0], shift, affine[3], affine[4])

        def move(images: Tensor, samples: Tensor, rows: slice, scratch: Scratch) -> Tensor:
            chosen = images.index_select(0, samples.to(images.device))
            scaled = chosen.to(torch.float32).mul_(1 / 255) if images.dtype == torch.uint8 else chosen.float()
            return geometry.affine_crop(scaled, p.crop[rows], matrix[rows], self.shape, self.padding)

        return move

    def _steps(self, p: ViewParameters, channels: int, device: torch.device) -> Iterator[Step]:
        """What follows the colours, each step as a function of a chunk, its rows in `p`, and scratch memory."""
        if channels > 1 and bool(p.grey.any()):
            yield lambda x, rows, scratch: _on_some(
                x, p.grey[rows].nonzero()[:, 0], lambda part, _: colour.to_grey_(part, scratch), scratch
            )
        if bool((p.sigma > 0).any()):
            taps = blur.gaussian_taps(p.sigma, self.kernel)
            radius = (taps > 0).sum(dim=1) - 1
            taps_there = taps.to(device)

            def blurred(x: Tensor, rows: slice, scratch: Scratch) -> None:
                sigma = p.sigma[rows]
                by_strength = sigma.argsort()[int((sigma == 0).sum()) :]

                def work(part: Tensor, chosen: Tensor) -> None:
                    taps = taps_there[rows][chosen.to(device), : int(radius[rows][chosen].max()) + 1]
                    blur.convolve_(part, taps, scratch)

                _on_some(x, by_strength, work, scratch)

            yield blurred
        if bool(p.solarise.any()):
            yield lambda x, rows, scratch: _on_some(
                x,
                p.solarise[rows].nonzero()[:, 0],
                lambda part, _: colour.solarise_(part, self.solarise_threshold),
                scratch,
            )
        if bool((p.noise > 0).any()):
            std, seeds = p.noise.to(device), p.noise_seed.to(device)
            yield lambda x, rows, scratch: noise.add_noise_(
                x, std[rows], noise.standard_noise(seeds[rows], x.shape[1:], scratch)
            )
        if bool((p.erase[:, 2:] > 0).all(dim=1).any()):
            yield lambda x, rows, scratch: erase.erase_(x, p.erase[rows], self.erase_value)
        scale, offset = colour.normalisation(self.mean, self.std, channels, torch.device("cpu"))
        scaled, moved = bool((scale != 1).any()), bool((offset != 0).any())
        scale, offset = scale.to(device), offset.to(device)
        if scaled:
            yield lambda x, rows, scratch: x.mul_(scale)
        if moved:
            yield lambda x, rows, scratch: x.add_(offset)


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

    def reordered(self, order: Tensor, device: torch.device) -> _Jitter:
        """The same for the samples in another order, on the device that will render them."""
        self.hue_turn = self.hue_turn[order]
        self.turns = self.hue_turn.tolist()
        self.factor = self.factor[order].to(device)
        self.grey = None if self.grey is None else self.grey[order].to(device)
        self.mean = None if self.mean is None else self.mean[order].to(device)
        self.own = colour.hue_centres(self.shift[order]).to(device) if self.turns_hue else None
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
                colour.turn_hue_(x[start:stop], self.own[rows.start + start : rows.start + stop], scratch)
            if stage < self.blends:
                colour.blend_(
                    chunk,
                    self.factor[within, stage],
                    None if self.grey is None else self.grey[within, stage],
                    None if self.mean is None else self.mean[within, stage],
                    scratch,
                )


def _in_threads(work: Callable[[int], object], items: Sequence[int], threads: int) -> None:
    """Do `work` on the items, by up to `threads` threads in each of which torch uses a single one.

    Chunks in parallel beat parallel operations: most of these are too short to be shared out well.
    """
    if threads == 1 or len(items) == 1:
        for item in items:
            work(item)
        return
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(min(threads, len(items)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(work, items))
    finally:
        # A thread's setting is also what later threads start with; this thread's own was not touched.
        torch.set_num_threads(before)


def _on_some(x: Tensor, chosen: Tensor, work: Callable[[Tensor, Tensor], object], scratch: Scratch) -> None:
    """Let `work` change the chosen samples of `x` in place, a few at a time so that its own buffers stay small.

    A single sample is a view of `x`; several are taken out and put back.
    """
    most = _PART if x.device.type == "cpu" else _CHUNK_ACCELERATOR
    for some in chosen.split(max(1, most // x[0].numel())) if len(chosen) else ():
        if len(some) == 1:
            work(x[int(some) : int(some) + 1], some)
            continue
        at = some.to(x.device)
        part = torch.index_select(x, 0, at, out=scratch.take("part", (len(some), *x.shape[1:]), x.device))
        work(part, some)
        if x.device.type != "cpu" or part[0].numel() < _COPIED_TOGETHER:
            x.index_copy_(0, at, part)
        else:
            for i, changed in zip(some.tolist(), part.unbind(0), strict=True):
                x[i] = changed
