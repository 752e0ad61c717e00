"""Where a view looks: crops, and resampling them to one size.

A crop with its resize and flip is a linear map along each axis, so it is written as one small matrix a side and applied
by batched matrix products: exact antialiasing, any scale, and each sample its own window.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

Interpolation = Literal["bilinear", "bicubic"]
Padding = Literal["zeros", "border", "reflection"]

_ATTEMPTS = 10


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


def whole_pixels(box: Shaped[Tensor, "n 4"], height: int, width: int) -> Int[Tensor, "n 4"]:
    """Boxes rounded to whole pixels and cut to the canvas; ValueError for one that lies outside it or holds nothing."""
    start = box[:, :2].double().round()
    stop = (box[:, :2].double() + box[:, 2:].double()).round()
    canvas = torch.tensor([height, width], dtype=torch.float64, device=box.device)
    start, stop = start.clamp(min=0), torch.minimum(stop, canvas)
    empty = ((stop - start) < 1).any(dim=1)
    if bool(empty.any()):
        first = int(empty.nonzero()[0, 0])
        raise ValueError(
            f"box {first} is {box[first].tolist()} (top, left, height, width), which holds no pixel of the "
            f"{height} x {width} canvas"
        )
    return torch.cat([start, stop - start], dim=1).long().cpu()


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
    triangle (bilinear) or the cubic with a = -0.5 (bicubic), normalised to sum 1. That is the antialiased resampling of Pillow
    and of torch's `interpolate(antialias=True)`. Where `reverse` is True the line comes out mirrored.
    """
    device = start.device
    scale = length.to(torch.float32) / target
    stretch = scale.clamp(min=1.0)
    centre = scale[:, None] * (torch.arange(target, device=device, dtype=torch.float32) + 0.5)
    if reverse is not None:
        centre = torch.where(reverse[:, None], centre.flip(1), centre)
    inside = torch.arange(source, device=device, dtype=torch.float32) - start[:, None]
    distance = ((inside[:, None, :] + 0.5 - centre[:, :, None]) / stretch[:, None, None]).abs_()
    if interpolation == "bilinear":
        weights = (1 - distance).clamp_(min=0)
    else:
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weights = torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
    weights.masked_fill_(((inside < 0) | (inside >= length[:, None]))[:, None, :], 0)
    return weights / weights.sum(dim=2, keepdim=True)


def resized_crop(
    images: Shaped[Tensor, "n c h w"],
    crops: Int[Tensor, "n 4"],
    size: tuple[int, int],
    interpolation: Interpolation = "bilinear",
    flip: Bool[Tensor, " n"] | None = None,
    vertical_flip: Bool[Tensor, " n"] | None = None,
) -> Float[Tensor, "n c out_h out_w"]:
    """Each sample's window (top, left, height, width) resampled to `size` = (height, width), mirrored where asked.

    uint8 images give values in [0, 1]; others keep their range. Equals torchvision's `resized_crop(antialias=True)`.
    """
    device = images.device
    crops = crops.to(device)
    rows = resample_matrix(
        crops[:, 0],
        crops[:, 2],
        images.shape[2],
        size[0],
        interpolation,
        None if vertical_flip is None else vertical_flip.to(device),
    )
    columns = resample_matrix(
        crops[:, 1], crops[:, 3], images.shape[3], size[1], interpolation, None if flip is None else flip.to(device)
    )
    x = images.to(torch.float32)
    if images.dtype == torch.uint8:
        columns = columns / 255
    n, c, height, width = x.shape
    x = torch.bmm(x.reshape(n, c * height, width), columns.transpose(1, 2)).view(n, c, height, size[1])
    return torch.matmul(rows[:, None], x)


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

    Where the crop shrinks, `k` x `k` points a pixel are averaged, k = the largest shrinking factor of the batch rounded
    up: a box filter against aliasing. `matrix` is that of `affine_matrix`.
    """
    n, _, height, width = images.shape
    window = crops.to(images.device, torch.float32)
    scale_y, scale_x = window[:, 2] / size[0], window[:, 3] / size[1]
    k = max(1, math.ceil(float(torch.stack([crops[:, 2] / size[0], crops[:, 3] / size[1]]).max()) - 1e-6)) if n else 1
    matrix = matrix.to(images.device)
    ys = (torch.arange(size[0] * k, device=images.device) + 0.5) / k - size[0] / 2
    xs = (torch.arange(size[1] * k, device=images.device) + 0.5) / k - size[1] / 2
    m = matrix[:, :, :, None, None]
    x = m[:, 0, 0] * xs + m[:, 0, 1] * ys[:, None] + m[:, 0, 2]
    y = m[:, 1, 0] * xs + m[:, 1, 1] * ys[:, None] + m[:, 1, 2]

    def over(value: Tensor) -> Tensor:
        return value[:, None, None]

    x = x * over(scale_x) + over(window[:, 1] + window[:, 3] / 2)
    y = y * over(scale_y) + over(window[:, 0] + window[:, 2] / 2)
    grid = torch.stack([x * (2 / width) - 1, y * (2 / height) - 1], dim=3)
    out = F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return F.avg_pool2d(out, k) if k > 1 else out
