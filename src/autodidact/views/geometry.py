"""Where a view looks: crops, and resampling them to one size.

A crop with its resize and flip is a linear map along each axis, so it can be written as one small matrix a side and
applied to the whole batch by matrix products: exact antialiasing, any scale, each sample its own window. That is the
way on accelerators and for tiny images. On a CPU those matrices are mostly zeros once images are larger, and torch's
antialiased kernel, window by window, is faster: on uint8 images many times so.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from autodidact.views.parcel import Parcel, Twin
from autodidact.views.scratch import Scratch

Interpolation = Literal["bilinear", "bicubic"]
Padding = Literal["zeros", "border", "reflection"]
INTERPOLATIONS: tuple[Interpolation, ...] = ("bilinear", "bicubic")
PADDINGS: tuple[Padding, ...] = ("zeros", "border", "reflection")

_ATTEMPTS = 10

# Multiplications a sample up to which dense matrices beat the kernel for single windows on a CPU (measured).
_PRODUCTS_WORTHWHILE = 600_000

# Pixels from which a window of planes is brought into channels-last memory channel by channel: the one call for it is
# slow and starts quickly.
_WINDOW_BY_CHANNEL = 10_000


def sample_crops(
    boxes: Int[Tensor, "n 4"],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Int[Tensor, "n 4"]:
    """Random crops as torchvision's RandomResizedCrop draws them, for all samples at once.

    Ten tries: area = U(scale) * box area, aspect ratio width / height = exp(U(log ratio)), sides rounded to pixels; the
    first that fits the box is placed uniformly in it. If none fits, the largest centred window whose aspect ratio is
    clamped to `ratio`.

    Parameters
    ----------
    boxes : int tensor (n, 4) on the CPU
        Window each crop must stay in: top, left, height, width in pixels.
    scale : (low, high)
        Share of the box's area.
    ratio : (low, high)
        Width over height.
    generator : torch.Generator
        The only source of randomness.

    Returns
    -------
    int tensor (n, 4): top, left, height, width.
    """
    n = boxes.shape[0]
    top, left, height, width = boxes.to(torch.float64).unbind(1)
    u = torch.rand(n, 2 * _ATTEMPTS + 2, generator=generator, device=generator.device, dtype=torch.float64).cpu()
    area = (height * width)[:, None] * (scale[0] + (scale[1] - scale[0]) * u[:, :_ATTEMPTS])
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(log_low + (log_high - log_low) * u[:, _ATTEMPTS : 2 * _ATTEMPTS])
    tried_width, tried_height = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (tried_width > 0) & (tried_width <= width[:, None]) & (tried_height > 0) & (tried_height <= height[:, None])
    first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
    crop_height, crop_width = tried_height.gather(1, first)[:, 0], tried_width.gather(1, first)[:, 0]
    crop_top = (u[:, -2] * (height - crop_height + 1)).floor()
    crop_left = (u[:, -1] * (width - crop_width + 1)).floor()

    natural = width / height
    whole_width = torch.where(natural > ratio[1], (height * ratio[1]).round(), width)
    whole_height = torch.where(natural < ratio[0], (width / ratio[0]).round(), height)
    found = fits.any(dim=1)
    crop_height = torch.where(found, crop_height, whole_height)
    crop_width = torch.where(found, crop_width, whole_width)
    crop_top = torch.where(found, crop_top, ((height - whole_height) / 2).floor())
    crop_left = torch.where(found, crop_left, ((width - whole_width) / 2).floor())
    return torch.stack([top + crop_top, left + crop_left, crop_height, crop_width], dim=1).long()


def whole_boxes(n: int, height: int, width: int, box: Shaped[Tensor, "n 4"] | None = None) -> Int[Tensor, "n 4"]:
    """Boxes (top, left, height, width) in whole pixels, cut to the canvas; without `box` the whole canvas for each.

    Returned on the CPU. ValueError for a box that lies outside the canvas or holds no pixel of it.
    """
    if box is None:
        return torch.tensor([[0, 0, height, width]]).expand(n, 4)
    box = box.detach().to("cpu", torch.float64)
    canvas = torch.tensor([height, width], dtype=torch.float64)
    start, stop = box[:, :2].round(), (box[:, :2] + box[:, 2:]).round()
    start, stop = start.clamp(min=0), torch.minimum(stop, canvas)
    empty = ~((stop - start) >= 1).all(dim=1)
    if bool(empty.any()):
        first = int(empty.nonzero()[0, 0])
        raise ValueError(
            f"box {first} is {box[first].tolist()} (top, left, height, width), which holds no pixel of the "
            f"{height} x {width} canvas"
        )
    return torch.cat([start, stop - start], dim=1).long()


def resample_matrix(
    start: Int[Tensor, " n"],
    length: Int[Tensor, " n"],
    source: int,
    target: int,
    interpolation: Interpolation = "bilinear",
    reverse: Bool[Tensor, " n"] | None = None,
) -> Float[Tensor, "n target source"]:
    """Matrices that resample pixels [start, start + length) of a line of `source` pixels to `target` pixels.

    With s = length / target, row i weighs pixel j of the window by k((j + 0.5 - s (i + 0.5)) / max(s, 1)), k the
    triangle (bilinear) or the cubic with a = -0.5 (bicubic), normalised to sum 1. That is the antialiased resampling of
    Pillow and of torch's `interpolate(antialias=True)`. Where `reverse` is True the line comes out mirrored.
    """
    device = start.device
    scale = length.to(torch.float32) / target
    stretch = scale.clamp(min=1.0)[:, None]
    centre = scale[:, None] * (torch.arange(target, device=device, dtype=torch.float32) + 0.5)
    if reverse is not None:
        centre = torch.where(reverse.to(device)[:, None], centre.flip(1), centre)
    inside = torch.arange(source, device=device, dtype=torch.float32) - start[:, None]
    weights = (((inside + 0.5) / stretch)[:, None, :] - (centre / stretch)[:, :, None]).abs_()
    if interpolation == "bilinear":
        weights.neg_().add_(1).clamp_(min=0)
    else:
        distance = weights
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weights = torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
    weights.mul_(((inside >= 0) & (inside < length[:, None])).float()[:, None, :])
    return weights.div_(weights.sum(dim=2, keepdim=True))


class Windows(NamedTuple):
    """What `resized_crop` is told of each sample, on the CPU and on the images' device."""

    crops: Twin
    flip: Twin
    vertical_flip: Twin
    samples: Twin

    def rows(self, rows: slice) -> Windows:
        """Those of some samples."""
        return Windows(*(twin.rows(rows) for twin in self))


def resized_crop(
    images: Shaped[Tensor, "n c h w"],
    crops: Int[Tensor, "m 4"],
    size: tuple[int, int],
    interpolation: Interpolation = "bilinear",
    flip: Bool[Tensor, " m"] | None = None,
    vertical_flip: Bool[Tensor, " m"] | None = None,
    *,
    samples: Int[Tensor, " m"] | None = None,
    scratch: Scratch | None = None,
) -> Float[Tensor, "m c out_h out_w"]:
    """Each sample's window (top, left, height, width) resampled to `size` = (height, width), mirrored where asked.

    uint8 images give float32 values in [0, 1], exact or rounded to 8 bits as torchvision does for uint8 images; others
    keep their range. Equals torchvision's `resized_crop(antialias=True)`. Images in channels-last memory (stored height
    x width x channel) are the fastest for uint8 photographs. Crops and flips belong to the images at `samples`, or to
    all in their order.
    """
    parcel, none = Parcel(images.device), torch.zeros(len(crops), dtype=torch.bool)
    windows = Windows(
        parcel.add(crops.cpu()),
        parcel.add(none if flip is None else flip.cpu()),
        parcel.add(none if vertical_flip is None else vertical_flip.cpu()),
        parcel.add(torch.arange(len(crops)) if samples is None else samples.cpu()),
    )
    parcel.send()
    return resized(images, windows, size, interpolation, scratch or Scratch())


def resized(
    images: Shaped[Tensor, "n c h w"],
    windows: Windows,
    size: tuple[int, int],
    interpolation: Interpolation,
    scratch: Scratch,
) -> Float[Tensor, "m c out_h out_w"]:
    """`resized_crop` of what is on the images' device already, for which it does not wait."""
    crops, flip, vertical_flip, samples = windows
    c, height, width = images.shape[1:]
    n = len(crops.here)
    mirrored = bool(flip.here.any()) or bool(vertical_flip.here.any())
    whole = torch.tensor([0, 0, *size])
    device = images.device
    if size == (height, width) and not mirrored and bool((crops.here == whole).all()):
        out = scratch.take("view", (n, c, *size), device)
        out.copy_(images.index_select(0, samples.there))
        return out.mul_(1 / 255) if images.dtype == torch.uint8 else out
    products = c * size[1] * height * (width + size[0])
    if device.type == "cpu" and products > _PRODUCTS_WORTHWHILE:
        return _resized_one_by_one(
            images, crops.here, size, interpolation, flip.here, vertical_flip.here, samples.here, scratch
        )
    tops, lefts, heights, widths = crops.there.unbind(1)
    rows = resample_matrix(tops, heights, height, size[0], interpolation, vertical_flip.there)
    columns = resample_matrix(lefts, widths, width, size[1], interpolation, flip.there)
    if images.dtype == torch.uint8:
        columns.mul_(1 / 255)
    source = scratch.take("source", (n, c * height, width), device)
    source.view(n, c, height, width).copy_(images.index_select(0, samples.there))
    across = scratch.take("across", (n, c * height, size[1]), device)
    torch.bmm(source, columns.transpose(1, 2), out=across)
    out = scratch.take("view", (n, c, *size), device)
    return torch.matmul(rows[:, None], across.view(n, c, height, size[1]), out=out)


def _resized_one_by_one(
    images: Tensor,
    crops: Tensor,
    size: tuple[int, int],
    interpolation: Interpolation,
    flip: Tensor,
    vertical_flip: Tensor,
    samples: Tensor,
    scratch: Scratch,
) -> Tensor:
    """The same by torch's antialiased kernel, window by window; uint8 it wants in channels-last memory."""
    n, c = len(crops), images.shape[1]
    eight_bit = images.dtype == torch.uint8
    resample = getattr(torch.ops.aten, f"_upsample_{interpolation}2d_aa").default
    out = scratch.take("view", (n, c, *size), images.device)
    flipped, turned = flip.tolist(), vertical_flip.tolist()
    strides, first = images.stride(), images.storage_offset()
    targets = out.split(1)
    for i, number, (top, left, height, width) in zip(range(n), samples.tolist(), crops.tolist(), strict=True):
        at = first + number * strides[0] + top * strides[2] + left * strides[3]
        window = images.as_strided((1, c, height, width), strides, at)
        if not eight_bit:
            window = window.to(torch.float32)
        elif strides[1] != 1 and height * width < _WINDOW_BY_CHANNEL:
            window = window.contiguous(memory_format=torch.channels_last)
        elif strides[1] != 1:
            interleaved = scratch.take("window", (1, height, width, c), images.device, torch.uint8)
            for to, plane in zip(interleaved.unbind(3), window.unbind(1), strict=True):
                to.copy_(plane)
            window = interleaved.permute(0, 3, 1, 2)
        view = resample(window, size, False)
        mirrored = [axis for axis, yes in ((2, turned[i]), (3, flipped[i])) if yes]
        targets[i].copy_(view.flip(mirrored) if mirrored else view)
    return out.mul_(1 / 255) if eight_bit else out


def affine_matrix(
    rotation: Float[Tensor, " n"],
    translation: Float[Tensor, "n 2"],
    zoom: Float[Tensor, " n"],
    shear: Float[Tensor, " n"],
) -> Float[Tensor, "n 2 3"]:
    """Maps from view to source coordinates, both counted in view pixels from the centre, x before y.

    The content is sheared along x (degrees), zoomed, turned counter-clockwise about the centre by `rotation` degrees
    and moved by `translation` (right, down) pixels; returned is the inverse of that, which is what sampling needs.
    """
    angle, slant = torch.deg2rad(rotation), torch.tan(torch.deg2rad(shear))
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # inverse of R(angle) * zoom * [[1, slant], [0, 1]]: first turn back, then undo the slant
    a, b = cos, -sin
    c, d = sin, cos
    linear = torch.stack([torch.stack([a - slant * c, b - slant * d], 1), torch.stack([c, d], 1)], 1)
    return torch.cat([linear, -(linear @ translation[:, :, None])], dim=2)


def affine_crop(
    images: Float[Tensor, "n c h w"],
    crops: Int[Tensor, "n 4"],
    matrix: Float[Tensor, "n 2 3"],
    size: tuple[int, int],
    padding: Padding = "zeros",
) -> Float[Tensor, "n c out_h out_w"]:
    """Crop, resize and affine map in one bilinear sampling, so nothing inside the image is lost at the crop's border.

    Where the canvas is larger than the view, k x k points are averaged for each pixel, k = the ratio of their sides
    less a half, rounded up: a box filter against aliasing. `matrix` is that of `affine_matrix`.
    """
    linear = sampled_places(crops, matrix, size, (images.shape[2], images.shape[3]))
    return sampled(images, linear.to(images.device), size, padding)


def sampled_places(
    crops: Int[Tensor, "n 4"],
    matrix: Float[Tensor, "n 2 3"],
    size: tuple[int, int],
    canvas: tuple[int, int],
) -> Float[Tensor, "n 2 3"]:
    """Maps from pixels of the view, counted from its centre, to the canvas (height, width), which runs from -1 to 1."""
    device = crops.device
    window, sides = crops.to(torch.float32), torch.tensor([canvas[1], canvas[0]], device=device)
    scale = window[:, 2:].flip(1) / torch.tensor([size[1], size[0]], device=device) * 2 / sides
    centre = (window[:, :2] + window[:, 2:] / 2).flip(1) * 2 / sides - 1
    linear = matrix.to(device) * scale[:, :, None]
    linear[:, :, 2] += centre
    return linear


def sampled(
    images: Float[Tensor, "n c h w"],
    linear: Float[Tensor, "n 2 3"],
    size: tuple[int, int],
    padding: Padding = "zeros",
) -> Float[Tensor, "n c out_h out_w"]:
    """`affine_crop` by the maps of `sampled_places`, on the images' device."""
    n, _, height, width = images.shape
    k = max(1, math.ceil(max(height / size[0], width / size[1]) - 0.5))
    # x = xx * column + xy * row + x0, y likewise.
    rows, columns = (
        (torch.arange(side * k, device=images.device, dtype=torch.float32) + 0.5) / k - side / 2 for side in size
    )
    across = linear[:, :, :1] * columns + linear[:, :, 2:]
    down = linear[:, :, 1:2] * rows
    grid = torch.empty(n, size[0] * k, size[1] * k, 2, device=images.device)
    for axis in range(2):
        torch.add(across[:, axis, None, :], down[:, axis, :, None], out=grid[..., axis])
    out = F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return F.avg_pool2d(out, k) if k > 1 else out
