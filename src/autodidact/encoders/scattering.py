"""Scattering: wavelets, moduli and local averages, without a single weight.

Morlet wavelets of J scales and L orientations respond to oriented texture; what the modulus leaves is averaged over
2^J pixels and kept at every 2^J-th. The result hardly moves when the image does, and keeps what averaging the image
itself would lose (Mallat, arXiv 1101.2286; Bruna and Mallat, arXiv 1203.1513). Wavelets are applied in the Fourier
domain; the average is a Gaussian, hence one small matrix along each axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autodidact.objectives.embeddings import full_precision, full_precision_region

SPREAD = 0.8
"""Standard deviation of the finest wavelet's envelope in pixels; doubles with every scale."""
CENTRE = 0.75 * math.pi
"""Frequency of the finest wavelet, radians per pixel; halves with every scale."""
SLANT = 4.0
"""Envelopes are L / SLANT times as long across their waves as along them."""
TOGETHER = 2**22
"""Bytes of the waves of one scale that a processor works on at once, so that they stay in its caches."""


def scattering_channels(scales: int, orientations: int, order: int = 2) -> int:
    """Maps a channel: 1 average, L J of first order, and L^2 J (J - 1) / 2 of second order."""
    first = orientations * scales
    return 1 + (first if order >= 1 else 0) + (first * orientations * (scales - 1) // 2 if order == 2 else 0)


class Scattering2D(nn.Module):
    r"""Scattering coefficients up to second order of images of one size.

    With Morlet wavelets :math:`\psi_{j,l}`, a Gaussian :math:`\phi_J` and convolution :math:`\star`::

        S0 = x * phi_J
        S1 = |x * psi_(j,l)| * phi_J
        S2 = ||x * psi_(j1,l1)| * psi_(j2,l2)| * phi_J        j1 < j2

    each at every 2^J-th pixel of either axis. The image is continued beyond its border by reflection. Paths come in the
    order j1, l1, j2, l2, those of lower order first, and channel by channel: all paths of the first, then all of the
    second.

    Parameters
    ----------
    size : (height, width) in pixels, at least 2^scales.
    scales : J, octaves of the wavelets; at least 1.
    orientations : L, in half a turn; at least 1.
    order : 0, 1 or 2.
    """

    def __init__(self, size: tuple[int, int], *, scales: int = 2, orientations: int = 8, order: int = 2) -> None:
        super().__init__()
        if scales < 1 or orientations < 1 or order not in (0, 1, 2):
            raise ValueError(
                f"scattering needs scales and orientations of at least 1 and an order of 0, 1 or 2, got {scales}, "
                f"{orientations} and {order}"
            )
        if 2**scales > min(size):
            raise ValueError(f"{scales} scales need images of at least {2**scales} pixels, got {size[0]} x {size[1]}")
        self.size, self.scales, self.orientations, self.order = size, scales, orientations, order
        self.paths = scattering_channels(scales, orientations, order)
        self.out_size = (size[0] >> scales, size[1] >> scales)
        bank = filter_bank(size, scales, orientations)
        # Made anew with the module, so neither saved nor trained; buffers all the same, to be where the module is.
        for name, tensor in bank.tensors().items():
            self.register_buffer(name, tensor if tensor.dtype == torch.long else tensor.float(), persistent=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n maps out_h out_w"]:
        if tuple(x.shape[-2:]) != self.size:
            height, width = self.size
            raise ValueError(
                f"these filters are for images of {height} x {width} pixels, got {x.shape[-2]} x {x.shape[-1]}"
            )
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return self._scattered(x)
        waves = x.shape[1] * self.orientations * len(self._of("rows")) * len(self._of("columns")) * 8
        return torch.cat([self._scattered(part) for part in x.split(max(TOGETHER // waves, 1))])

    def _scattered(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n maps out_h out_w"]:
        """Coefficients of images that are worked on together."""
        with full_precision_region(x.device):
            x = full_precision(x).index_select(2, self._of("rows")).index_select(3, self._of("columns"))[:, :, None]
            zeroth, first, second = [self._averaged(x, 0)], [], []
            spectrum = _spectrum(x)
            for j in range(self.scales if self.order else 0):
                waves = self._moduli(spectrum, j, 0)
                first.append(self._averaged(waves, j))
                if self.order == 2 and j + 1 < self.scales:
                    # One orientation at a time: what is held at once then fits a processor's cache.
                    for one in _spectrum(waves).split(1, dim=-3):
                        second += [
                            self._averaged(self._moduli(one, coarser, j), coarser)
                            for coarser in range(j + 1, self.scales)
                        ]
            return torch.cat([*zeroth, *first, *second], dim=2).flatten(1, 2)

    def _of(self, name: str) -> Tensor:
        return self.get_buffer(name)

    def _moduli(self, spectrum: Tensor, scale: int, resolution: int) -> Tensor:
        """|signal * psi| of all orientations of a scale, of a signal kept at every 2^resolution-th pixel."""
        return _inverse_moduli(spectrum * self._of(f"wavelets_{scale}_{resolution}"), 2 ** (scale - resolution))

    def _averaged(self, signal: Tensor, resolution: int) -> Tensor:
        """signal * phi_J at every 2^J-th pixel of the image, the reflected border left out."""
        return self._of(f"down_{resolution}") @ signal @ self._of(f"across_{resolution}")


def _spectrum(signal: Tensor) -> Tensor:
    """Fourier transform of the last two axes.

    Complex; in graphs for other runtimes, which seldom know complex numbers, real and imaginary part along a new first
    axis, found by matrices.
    """
    if not torch.compiler.is_exporting():
        return torch.fft.fft2(signal)
    real, imaginary = signal, torch.zeros_like(signal)
    for _ in range(2):
        cosine, sine = _waves(real.shape[-1], 1, real)
        real, imaginary = real @ cosine + imaginary @ sine, imaginary @ cosine - real @ sine
        real, imaginary = real.transpose(-1, -2), imaginary.transpose(-1, -2)
    return torch.stack([real, imaginary])


def _inverse_moduli(spectrum: Tensor, every: int) -> Tensor:
    """Absolute value of what has this Fourier transform, at every `every`-th pixel of the last two axes."""
    if not torch.compiler.is_exporting():
        if every > 1:
            # Leaving out pixels in space is the mean over aliases in frequency.
            spectrum = spectrum.unflatten(-1, (every, -1)).mean(-2).unflatten(-2, (every, -1)).mean(-3)
        # The modulus has no direction at 0; torch gives it the gradient 0 there.
        return torch.fft.ifft2(spectrum).abs()
    real, imaginary = spectrum[0], spectrum[1]
    for _ in range(2):
        cosine, sine = _waves(real.shape[-1], every, real)
        real, imaginary = real @ cosine - imaginary @ sine, imaginary @ cosine + real @ sine
        real, imaginary = real.transpose(-1, -2) / len(cosine), imaginary.transpose(-1, -2) / len(cosine)
    return (real**2 + imaginary**2).sqrt()


def _waves(count: int, every: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of 2 pi k m / count, for all k and every `every`-th m."""
    at = torch.arange(count, device=like.device)
    angle = (at[:, None] * at[::every] % count).to(like.dtype) * (2 * math.pi / count)
    return angle.cos(), angle.sin()


@dataclass(frozen=True)
class FilterBank:
    """What `Scattering2D` multiplies with, in float64.

    Attributes
    ----------
    rows, columns : where each row and column of the continued image comes from.
    wavelets : (scale, resolution) -> (L, rows, columns), real in the Fourier domain.
    down, across : resolution -> matrix of the average, from the left and from the right.
    """

    rows: Tensor
    columns: Tensor
    wavelets: dict[tuple[int, int], Tensor]
    down: tuple[Tensor, ...]
    across: tuple[Tensor, ...]

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name."""
        return {
            "rows": self.rows,
            "columns": self.columns,
            **{f"wavelets_{scale}_{resolution}": one for (scale, resolution), one in self.wavelets.items()},
            **{f"down_{resolution}": one for resolution, one in enumerate(self.down)},
            **{f"across_{resolution}": one for resolution, one in enumerate(self.across)},
        }


@cache
def filter_bank(size: tuple[int, int], scales: int, orientations: int) -> FilterBank:
    """The filters for images of a size; made once for each."""
    blocks = [(side >> scales) + 2 for side in size]
    padded = [count << scales for count in blocks]
    wavelets = {
        (scale, resolution): torch.stack(
            [_morlet(padded, resolution, scale, turn, orientations) for turn in range(orientations)]
        )
        for scale in range(scales)
        for resolution in range(scale + 1)
        # Images come at full resolution, moduli of scale r at every 2^r-th pixel and only to coarser wavelets.
        if resolution == 0 or resolution < scale
    }
    low = [tuple(_average(count, scales, resolution) for resolution in range(scales)) for count in blocks]
    return FilterBank(
        rows=_reflected(size[0], padded[0]),
        columns=_reflected(size[1], padded[1]),
        wavelets=wavelets,
        down=low[0],
        across=tuple(matrix.T.contiguous() for matrix in low[1]),
    )


def _reflected(side: int, padded: int) -> Tensor:
    """Indices that continue an axis by reflection at its first and last pixel, as often as it takes."""
    at = torch.arange(padded) - (padded - side) // 2
    period = max(1, 2 * (side - 1))
    return (at % period).minimum(-at % period)


def _frequencies(padded: int, resolution: int) -> Tensor:
    """Radians per pixel of the image, in the order of the Fourier transform of every 2^resolution-th pixel."""
    count = padded >> resolution
    return torch.fft.fftfreq(count, dtype=torch.float64) * count * (2 * math.pi / padded)


def _morlet(padded: list[int], resolution: int, scale: int, turn: int, orientations: int) -> Tensor:
    """Fourier transform of a Gaussian-windowed wave less what would give it a mean.

    Sampling the wavelet at whole pixels repeats its spectrum at every 2 pi; near repetitions are added.
    """
    spread, centre, slant = SPREAD * 2**scale, CENTRE / 2**scale, SLANT / orientations
    angle = (orientations // 2 - 1 - turn) * math.pi / orientations
    along = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    reach = 1 + math.ceil(6 * max(1.0, slant) / spread / (2 * math.pi))
    repeats = 2 * math.pi * torch.arange(-reach, reach + 1, dtype=torch.float64)

    def envelope(down: Tensor, across: Tensor, shift: float) -> Tensor:
        row = (down[:, None] + repeats)[:, None, :, None]
        column = (across[:, None] + repeats)[None, :, None, :]
        forward = row * along[0] + column * along[1] - shift
        sideways = column * along[0] - row * along[1]
        return torch.exp(-0.5 * spread**2 * (forward**2 + (sideways / slant) ** 2)).sum((-2, -1))

    nothing = torch.zeros(1, dtype=torch.float64)
    mean = envelope(nothing, nothing, centre) / envelope(nothing, nothing, 0.0)
    down, across = (_frequencies(side, resolution) for side in padded)
    return envelope(down, across, centre) - mean * envelope(down, across, 0.0)


def _average(blocks: int, scales: int, resolution: int) -> Tensor:
    """Matrix from an axis of every 2^resolution-th pixel to the inner ones of every 2^scales-th, averaged."""
    padded = blocks << scales
    count, spread = padded >> resolution, SPREAD * 2 ** (scales - 1)
    repeats = 2 * math.pi * torch.arange(-2, 3, dtype=torch.float64)
    response = torch.exp(-0.5 * (spread * (_frequencies(padded, resolution)[:, None] + repeats)) ** 2).sum(1)
    kernel = torch.fft.ifft(response).real
    at = torch.arange(1, blocks - 1) << (scales - resolution)
    return kernel[(at[:, None] - torch.arange(count)) % count]
