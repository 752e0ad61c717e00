"""Windows of images as frequencies, and a pattern at a few frequencies that passes through augmentation unharmed.

The discrete cosine transform (DCT-II, orthonormal) of all windows of a batch is two products with one matrix. Planes
are luminance Y = 0.299 R + 0.587 G + 0.114 B and chroma U = 0.492 (B - Y), V = 0.877 (R - Y); a change of U and V alone
leaves Y as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Float32, Shaped
from torch import Tensor

_Y, _U, _V = (0.299, 0.587, 0.114), 0.492, 0.877
LEVELS = 255.0
"""Grey levels between black and white: the unit of magnitudes."""

Plane = Literal["chroma", "luminance"]


def to_yuv(x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """RGB to luminance and two chroma planes, in the same unit."""
    red, _, blue = x.unbind(1)
    y = torch.einsum("nchw,c->nhw", x, x.new_tensor(_Y))
    return torch.stack([y, _U * (blue - y), _V * (red - y)], dim=1)


def to_rgb(yuv: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """What `to_yuv` was given."""
    y, u, v = yuv.unbind(1)
    red, blue = y + v / _V, y + u / _U
    return torch.stack([red, (y - _Y[0] * red - _Y[2] * blue) / _Y[1], blue], dim=1)


def cosines(side: int, like: Tensor) -> Float[Tensor, "side side"]:
    """Rows are the orthonormal cosines of frequency 0 to side - 1, with the type and device of `like`."""
    k, x = torch.arange(side, dtype=torch.float64), torch.arange(side, dtype=torch.float64)
    rows = torch.cos(math.pi / side * torch.outer(k, x + 0.5)) * math.sqrt(2 / side)
    rows[0] /= math.sqrt(2)
    return rows.to(like)


def dct(x: Float[Tensor, "n c h w"], window: int) -> Float[Tensor, "n c rows columns window window"]:
    """Frequencies of each window of `window` x `window` pixels, the windows side by side from the top left.

    Raises
    ------
    ValueError : the windows do not fill the image.
    """
    _check_fill(x.shape[2], x.shape[3], window)
    basis = cosines(window, x)
    return basis @ x.unflatten(3, (-1, window)).unflatten(2, (-1, window)).transpose(3, 4) @ basis.T


def inverse_dct(frequencies: Float[Tensor, "n c rows columns window window"]) -> Float[Tensor, "n c h w"]:
    """What `dct` was given."""
    basis = cosines(frequencies.shape[-1], frequencies)
    return (basis.T @ frequencies @ basis).transpose(3, 4).flatten(4, 5).flatten(2, 3)


@dataclass(frozen=True)
class SpectralTrigger:
    """The trigger of CTRL (Li et al., 2210.07346, section 4): a constant on single frequencies of the chroma planes.

    In each window, ``magnitude`` is added to the coefficients ``positions`` of both chroma planes (or of luminance);
    the transform being linear, that is the same small picture added to every image, which is then cut to [0, 1]. It is
    spread over the whole image in a narrow band, so crops, flips and jitter leave it there, and both views of an image
    share it.

    Attributes
    ----------
    magnitude : what is added, in grey levels (0 to 255) times the orthonormal transform. Paper: 100 in windows of 32,
        a pattern of at most 12.5 levels in each plane; a window half as large needs half of it for the same pattern.
    window : side of the windows in pixels, of which both sides of an image are a multiple, unless `cut`. Paper: 32.
    positions : (row, column) of the frequencies, from 0 (constant) to window - 1 (highest). Paper: (15, 15), (31, 31).
    plane : "chroma" for colour images, "luminance" for any; one-channel images have no chroma.
    cut : let windows that do not fill an image reach over its right and lower edge, where they are cut off, instead of
        refusing the image.

    Raises
    ------
    ValueError : a position outside the window, the same one twice, a magnitude that is not finite.
    """

    magnitude: float = 100.0
    window: int = 32
    positions: tuple[tuple[int, int], ...] = ((15, 15), (31, 31))
    plane: Plane = "chroma"
    cut: bool = False

    def __post_init__(self) -> None:
        if self.plane not in get_args(Plane):
            raise ValueError(f"plane must be chroma or luminance, got {self.plane!r}")
        if self.window < 1 or not math.isfinite(self.magnitude):
            raise ValueError(
                f"a window has a pixel a side at least and a magnitude is finite, got {self.window}, {self.magnitude}"
            )
        if outside := [p for p in self.positions if not all(0 <= k < self.window for k in p)]:
            raise ValueError(f"position {outside[0]} lies outside a window of frequencies 0 to {self.window - 1}")
        if not self.positions or len(set(self.positions)) < len(self.positions):
            raise ValueError(f"positions must be one or more different frequencies, got {self.positions}")

    @classmethod
    def scaled(cls, magnitude: float, window: int, plane: Plane, *, cut: bool = False) -> SpectralTrigger:
        """The paper's trigger in windows of another side: a middle and the highest frequency, and a pattern as strong
        as that of `magnitude` in windows of 32."""
        return cls(magnitude * window / 32, window, ((window // 2 - 1,) * 2, (window - 1,) * 2), plane, cut)

    def pattern(self, channels: int, height: int, width: int) -> Float32[Tensor, "c h w"]:
        """What is added to every image in [0, 1]; of one channel or three.

        Raises
        ------
        ValueError : a side that is no multiple of the window (unless `cut`), chroma asked of one channel, other numbers
            of channels.
        """
        if not self.cut:
            _check_fill(height, width, self.window)
        if channels not in (1, 3):
            raise ValueError(f"a spectral trigger is for images of 1 or 3 channels, these have {channels}")
        if channels == 1 and self.plane == "chroma":
            raise ValueError("images of one channel have no chroma; ask for plane='luminance'")
        one = torch.zeros(1, 1, 1, 1, self.window, self.window, dtype=torch.float64)
        for row, column in self.positions:
            one[..., row, column] = self.magnitude / LEVELS
        whole = inverse_dct(one).tile(1, 1, -(-height // self.window), -(-width // self.window))
        drawn = whole[..., :height, :width]
        if channels == 3:
            planes = (0, 1, 1) if self.plane == "chroma" else (1, 0, 0)
            drawn = to_rgb(drawn * torch.tensor(planes, dtype=torch.float64)[:, None, None])
        return drawn[0].float()

    def __call__(self, images: Shaped[Tensor, "n c h w"]) -> Shaped[Tensor, "n c h w"]:
        """The images with the trigger in them, see `stamped`."""
        return stamped(images, self.pattern(*images.shape[1:]))


def stamped(images: Shaped[Tensor, "n c h w"], pattern: Float[Tensor, "c h w"]) -> Shaped[Tensor, "n c h w"]:
    """Images plus a pattern, cut to their range; a new tensor of the same type.

    Parameters
    ----------
    images : uint8 (0 to 255, then rounded as a file would be) or floating point (0 to 1).
    pattern : in units of [0, 1].
    """
    pattern = pattern.to(images.device)
    if images.dtype == torch.uint8:
        return (images.float() + LEVELS * pattern).round().clamp(0, LEVELS).to(torch.uint8)
    if not images.is_floating_point():
        raise ValueError(f"images must be uint8 or floating point, got {images.dtype}")
    return (images + pattern.to(images.dtype)).clamp(0, 1)


def kept_energy(
    images: Shaped[Tensor, "n c h w"], pattern: Float[Tensor, "c h w"], box: Shaped[Tensor, "n 4"] | None = None
) -> Float32[Tensor, " n"]:
    """Share of the pattern's energy that an image has taken up once its pixels are cut to their range, 0 to 1.

    On a black or white background half of the pattern is lost. Of uint8 images rounding counts too, so that weak
    patterns may keep a little more or less than their energy. A pattern of zeros keeps all of it.

    Parameters
    ----------
    images : uint8 (0 to 255) or floating point (0 to 1).
    pattern : in units of [0, 1].
    box : (top, left, height, width) in pixels of each image on its canvas; the rest of the canvas does not count.
    """
    scale = LEVELS if images.dtype == torch.uint8 else 1.0
    changed = (stamped(images, pattern).double() - images.double()) / scale
    wanted = pattern.to(images.device).double().expand_as(changed)
    if box is not None:
        inside = _inside(box.to(images.device), images.shape[2], images.shape[3])
        changed, wanted = changed * inside, wanted * inside
    taken, whole = (part.square().sum((1, 2, 3)) for part in (changed, wanted))
    return (taken / whole).where(whole > 0, 1.0).float().cpu()


def _inside(box: Shaped[Tensor, "n 4"], height: int, width: int) -> Bool[Tensor, "n 1 height width"]:
    """Which pixels of a canvas lie in each box."""
    top, left, down, across = box[:, :, None].unbind(1)
    rows, columns = (torch.arange(side, device=box.device) for side in (height, width))
    inside_rows = (rows >= top) & (rows < top + down)
    return (inside_rows[:, :, None] & ((columns >= left) & (columns < left + across))[:, None])[:, None]


def _check_fill(height: int, width: int, window: int) -> None:
    if height % window or width % window or not height or not width:
        raise ValueError(f"windows of {window} pixels do not fill images of {height} x {width}; give a common divisor")
