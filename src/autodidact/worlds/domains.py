"""Real pictures as seen in several domains: content is real, style is rendered, and which domain is which is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.catalog import unknown
from autodidact.data import ArraySource, Field, Source
from autodidact.data.schema import Schema


@dataclass(frozen=True)
class Domain:
    """How a domain shows a grey picture. The defaults show it as it is, in the colours of grey."""

    ink: tuple[float, float, float] = (0.9, 0.9, 0.9)
    """What white becomes, in RGB from 0 to 1."""
    paper: tuple[float, float, float] = (0.1, 0.1, 0.1)
    """What black becomes."""
    gamma: float = 1.0
    """Exponent of the contrast curve."""
    light: float = 0.0
    """Where the light comes from, in degrees."""
    fall: float = 0.0
    """How much brighter the near edge is than the middle, as a share."""
    grain: float = 0.0
    """Standard deviation of the noise."""
    slope: float = 1.0
    """Its amplitude falls with frequency as 1 / f to this power."""
    blur: float = 0.0
    """Standard deviation of a Gaussian blur, in pixels."""
    outline: float = 0.0
    """Share of outlines (1) in place of areas (0): a change of what lies at high frequencies, in phase too."""


DOMAINS = {
    "noon": Domain((0.95, 0.9, 0.75), (0.3, 0.35, 0.5), gamma=0.9, light=60, fall=0.3, grain=0.02, slope=0.5),
    "dusk": Domain((0.85, 0.45, 0.35), (0.15, 0.08, 0.2), gamma=1.3, light=180, fall=0.5, grain=0.03, slope=1.0),
    "lamp": Domain(
        (0.95, 0.85, 0.3), (0.35, 0.15, 0.05), gamma=0.7, light=270, fall=0.6, grain=0.02, slope=1.5, blur=0.5
    ),
    "frost": Domain(
        (0.7, 0.95, 0.95), (0.2, 0.4, 0.6), gamma=1.1, light=120, fall=0.4, grain=0.02, slope=2.0, blur=0.3
    ),
    "sketch": Domain((0.1, 0.1, 0.1), (0.95, 0.95, 0.9), grain=0.02, slope=0.0, outline=1.0),
}
"""Four that differ in what low-frequency amplitude carries, and one that does not: a sketch on white paper."""
WOBBLE = 0.05
"""Standard deviation, from picture to picture of a domain, of its colours and of the logarithm of its exponents."""


def domains(
    source: Source, names: Sequence[str], *, spurious: float = 0.0, strength: float = 1.0, seed: int = 0
) -> Source:
    """Grey pictures, each shown in colour in one of several domains.

    Structure: what the picture shows, its label. Nuisance: the domain, which sets colours, contrast, direction and
    strength of the light, grain and blur, and varies a little from picture to picture. Which domain a picture is in is
    in the field ``truth_domain`` (a position in `names`).

    Dials: `spurious` ties the domain to the class, so that a style tells the class here and nowhere else; `strength`
    says how far apart domains are. "sketch" is a domain that no change of low-frequency amplitude turns into another.

    Parameters
    ----------
    source : grey images with labels.
    names : domains of `DOMAINS`, at least one.
    spurious : share of the pictures, in [0, 1], that are in the domain of their class (class c in the domain c modulo
        the number of domains); the others are in any.
    strength : 0 for no difference of domains, 1 for that of `DOMAINS`.
    seed : of the domains of the pictures and of the noise.
    """
    for name in names:
        if name not in DOMAINS:
            raise unknown("domain", name, DOMAINS)
    if not names:
        raise ValueError(f"at least one domain is needed, of {', '.join(DOMAINS)}")
    if not 0 <= spurious <= 1 or not 0 <= strength <= 1:
        raise ValueError(f"spurious and strength lie in [0, 1], got {spurious} and {strength}")
    rng = np.random.default_rng(seed)
    labels = np.asarray(source.column("label"), dtype=np.int64)
    chosen = rng.integers(len(names), size=len(labels))
    chosen = np.where(rng.random(len(labels)) < spurious, labels % len(names), chosen)
    images = source.batch(np.arange(len(source)))["image"]
    if images.shape[1] != 1:
        raise ValueError(f"domains are rendered from grey images, '{source.name}' has {images.shape[1]} channels")
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    shown = torch.empty(len(images), 3, *images.shape[2:], dtype=torch.uint8)
    for number, name in enumerate(names):
        rows = torch.from_numpy(np.flatnonzero(chosen == number))
        rendered = render(images[rows].float()[:, 0] / 255, _weakened(DOMAINS[name], strength), generator)
        shown[rows] = (255 * rendered).round().to(torch.uint8)
    schema = Schema(
        image=Field("image", tuple(shown.shape[1:])), label=source.schema["label"], truth_domain=Field("group")
    )
    values: dict[str, Any] = {"image": shown, "label": labels, "truth_domain": chosen.astype(np.int64)}
    return ArraySource(f"{source.name} in {', '.join(names)}", values, schema, source.ids)


def render(pictures: Float[Tensor, "n h w"], domain: Domain, generator: torch.Generator) -> Float[Tensor, "n 3 h w"]:
    """Pictures from 0 (black) to 1 as a domain shows them."""
    n, height, width = pictures.shape

    def wobble(*shape: int) -> Tensor:
        return WOBBLE * torch.randn(n, *shape, generator=generator)

    drawn = torch.lerp(pictures, _outlines(pictures), domain.outline)
    drawn = drawn ** (domain.gamma * wobble(1, 1).exp())
    ink, paper = (torch.tensor(colour) + wobble(3) for colour in (domain.ink, domain.paper))
    x = torch.lerp(paper[:, :, None, None], ink[:, :, None, None], drawn[:, None])
    angle = math.radians(domain.light) + math.tau * wobble()
    down, right = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    towards = angle.cos()[:, None, None] * right + angle.sin()[:, None, None] * down[:, None]
    x = x * (1 + domain.fall * towards[:, None])
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    blurred = torch.fft.rfft2(x) * torch.exp(-2 * (math.pi * domain.blur * frequency) ** 2)
    shape = frequency.clamp(min=1 / max(height, width)) ** -domain.slope
    noise = torch.fft.irfft2(torch.fft.rfft2(torch.randn(x.shape, generator=generator)) * shape, s=(height, width))
    noise = noise * (domain.grain / noise.std(dim=(1, 2, 3), keepdim=True))
    return (torch.fft.irfft2(blurred, s=(height, width)) + noise).clamp(0, 1)


def _outlines(pictures: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    right = torch.diff(pictures, dim=2, append=pictures[:, :, -1:])
    down = torch.diff(pictures, dim=1, append=pictures[:, -1:])
    return (2 * torch.hypot(right, down)).clamp(0, 1)


def _weakened(domain: Domain, strength: float) -> Domain:
    plain = Domain()
    values: dict[str, Any] = {}
    for field in fields(Domain):
        own, none = getattr(domain, field.name), getattr(plain, field.name)
        if isinstance(own, tuple):
            values[field.name] = tuple(n + strength * (o - n) for o, n in zip(own, none, strict=True))
        else:
            values[field.name] = none + strength * (own - none)
    return Domain(**values)
