"""Random views of a whole batch: the settings, the drawing, and the recipes known by name.

Calling an `Augment` draws one row of `ViewParameters` a sample and renders them. Both halves can be used alone, so a
view can be drawn once and rendered again, shown, shared over the frames of a clip, or edited.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from autodidact.views import erase, geometry
from autodidact.views.look import Look
from autodidact.views.parameters import ViewParameters


@dataclass(frozen=True)
class Augment(Look):
    """Settings of a random view; calling it makes one view of every image of a batch.

    Each sample draws everything for itself, the order of the colour jitters included.
    """

    crop_scale: tuple[float, float] | None = (0.08, 1.0)
    """Share of the image's area in the crop, drawn uniformly. None = no crop, the whole image is resized."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of the crop, drawn log-uniformly."""
    flip: float = 0.5
    """Probability of mirroring left to right."""
    vertical_flip: float = 0.0
    """Probability of mirroring top to bottom."""
    rotate: float = 0.0
    """Largest rotation in degrees; drawn uniformly from -rotate to rotate."""
    translate: float = 0.0
    """Largest shift along each axis as a share of the view's side; drawn uniformly from -translate to translate."""
    zoom: tuple[float, float] = (1.0, 1.0)
    """Magnification, drawn log-uniformly, on top of that of the crop."""
    shear: float = 0.0
    """Largest shear along x in degrees; drawn uniformly from -shear to shear."""
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Strength of brightness, contrast, saturation (factor uniform on [max(0, 1 - s), 1 + s]) and hue (shift uniform on
    [-s, s] turns, s <= 0.5)."""
    jitter_p: float = 0.8
    """Probability of the colour jitter, in which each sample applies the four in a random order of its own."""
    grey_p: float = 0.0
    """Probability of greyscale."""
    blur_p: float = 0.0
    """Probability of Gaussian blur."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Standard deviation of the blur in pixels of the view, drawn uniformly."""
    solarise_p: float = 0.0
    """Probability of solarising."""
    noise_std: float = 0.0
    """Largest standard deviation of added Gaussian noise (image range 0 to 1); each sample draws its own up to this."""
    erase_p: float = 0.0
    """Probability of erasing a rectangle."""
    erase_scale: tuple[float, float] = (0.02, 0.33)
    """Share of the view's area erased, drawn uniformly."""
    erase_ratio: tuple[float, float] = (0.3, 3.3)
    """Height over width of the erased rectangle, drawn log-uniformly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("flip", "vertical_flip", "jitter_p", "grey_p", "blur_p", "solarise_p", "erase_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability between 0 and 1, got {getattr(self, name)}")
        for name in ("crop_scale", "crop_ratio", "zoom", "blur_sigma", "erase_scale", "erase_ratio"):
            value = getattr(self, name)
            most = 1.0 if name.endswith("_scale") else float("inf")
            if value is not None and not 0 < value[0] <= value[1] <= most:
                limit = " <= 1" if most == 1 else ""
                raise ValueError(f"{name} must be (low, high) with 0 < low <= high{limit}, got {value}")
        for name in ("rotate", "translate", "shear", "noise_std"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is a largest amount and must not be negative, got {getattr(self, name)}")
        if len(self.jitter) != 4 or min(self.jitter) < 0 or self.jitter[3] > 0.5:
            raise ValueError(
                "jitter must be four strengths (brightness, contrast, saturation, hue), none negative and hue at most "
                f"0.5 turns, got {self.jitter}"
            )

    @classmethod
    def preset(cls, name: str, size: int | tuple[int, int], **changes: Any) -> Augment:
        """The named recipe (see `PRESETS`) for views of `size`, with any field changed."""
        if name not in PRESETS:
            near = get_close_matches(name, PRESETS, n=1, cutoff=0.0)[0]
            raise ValueError(f"unknown view recipe {name!r}; nearest: {near!r}; all: {', '.join(PRESETS)}")
        known = [field.name for field in fields(cls) if field.name != "size"]
        for given in changes:
            if given not in known:
                near = get_close_matches(given, known, n=1, cutoff=0.0)[0]
                raise ValueError(f"views have no field {given!r}; nearest: {near!r}; all: {', '.join(known)}")
        try:
            return replace(PRESETS[name], size=size, **changes)
        except TypeError as error:
            raise ValueError(f"a view cannot be made with {changes}: {error}") from error

    def __call__(
        self,
        images: Shaped[Tensor, "n c h w"],
        generator: torch.Generator,
        box: Shaped[Tensor, "n 4"] | None = None,
    ) -> Float[Tensor, "n c out_h out_w"]:
        """One random view of each image.

        Parameters
        ----------
        images : tensor (n, c, h, w)
            uint8 (0 to 255) or floating point (0 to 1), any number of channels, on any device.
        generator : torch.Generator
            The only source of randomness; its device need not be the images'.
        box : tensor (n, 4), optional
            The part of the canvas that is the image: top, left, height, width in pixels. Crops look nowhere else.

        Returns
        -------
        float32 tensor (n, c, out_h, out_w) in [0, 1], then normalised.
        """
        n, _, height, width = images.shape
        return self.render(images, self.draw(n, height, width, generator, box))

    def draw(
        self,
        n: int,
        height: int,
        width: int,
        generator: torch.Generator,
        box: Shaped[Tensor, "n 4"] | None = None,
    ) -> ViewParameters:
        """Draw everything that is random for `n` images of `height` x `width` pixels."""
        crop = geometry.whole_boxes(n, height, width, box)
        if self.crop_scale is not None:
            crop = geometry.sample_crops(crop, self.crop_scale, self.crop_ratio, generator)
        u = torch.rand(22, n, generator=generator, device=generator.device).cpu().unbind(0)

        def between(column: int, low: float, high: float) -> Tensor:
            return u[column] * (high - low) + low

        def chance(column: int, probability: float) -> Tensor:
            return u[column] < probability

        plain = ViewParameters.plain(crop)
        affine, jitter, erased, seeds = plain.affine, plain.jitter, plain.erase, plain.noise_seed
        if self.rotate or self.translate or self.shear or self.zoom != (1.0, 1.0):
            low, high = torch.tensor(self.zoom).log().tolist()
            shift = self.translate
            turned, slanted = between(2, -self.rotate, self.rotate), between(6, -self.shear, self.shear)
            moved = between(3, -shift, shift), between(4, -shift, shift)
            affine = torch.stack([turned, *moved, between(5, low, high).exp(), slanted], dim=1)
        if any(self.jitter) and self.jitter_p:
            factors = [between(7 + i, max(0.0, 1 - s), 1 + s) for i, s in enumerate(self.jitter[:3])]
            drawn = torch.stack([*factors, between(10, -self.jitter[3], self.jitter[3])], dim=1)
            jitter = torch.where(chance(11, self.jitter_p)[:, None], drawn, jitter)
        if self.erase_p:
            drawn = erase.sample_rectangles(n, self.shape, self.erase_scale, self.erase_ratio, generator)
            erased = torch.where(chance(17, self.erase_p)[:, None], drawn, 0)
        if self.noise_std:
            seeds = torch.randint(2**31, (n,), generator=generator, device=generator.device).cpu()
        return ViewParameters(
            crop=crop,
            flip=chance(0, self.flip),
            vertical_flip=chance(1, self.vertical_flip),
            affine=affine,
            jitter=jitter,
            order=torch.stack(u[18:22], dim=1).argsort(dim=1),
            grey=chance(12, self.grey_p),
            sigma=between(14, *self.blur_sigma) * chance(13, self.blur_p),
            solarise=chance(15, self.solarise_p),
            noise=between(16, 0.0, self.noise_std),
            noise_seed=seeds,
            erase=erased,
        )


_SIMCLR = Augment(jitter=(0.8, 0.8, 0.8, 0.2), grey_p=0.2, blur_p=0.5)
_BYOL = Augment(interpolation="bicubic", jitter=(0.4, 0.4, 0.2, 0.1), grey_p=0.2)

PRESETS: dict[str, Augment] = {
    # SimCLR (2002.05709), appendix A, colour strength 1; crops are resized bilinearly, there bicubically.
    "simclr": _SIMCLR,
    # Barlow Twins (2103.03230), section 3: the two views differ in blur and solarising.
    "barlow_a": replace(_BYOL, blur_p=1.0),
    "barlow_b": replace(_BYOL, blur_p=0.1, solarise_p=0.2),
    # GMML (2205.14986): light, since the corruption does the work.
    "gmml": Augment(crop_scale=(0.05, 1.0), jitter=(0.1, 0.1, 0.1, 0.01), jitter_p=0.3, blur_p=0.1),
    # G-SimCLR (2009.12007): flip and weak colour on the whole image, no crop.
    "g_simclr": Augment(crop_scale=None, jitter=(0.16, 0.16, 0.16, 0.04), jitter_p=0.5, grey_p=0.5),
    # Crop and flip.
    "weak": Augment(crop_scale=(0.2, 1.0)),
    # Small grey pictures of things (garments): what a mirror leaves valid.
    "grey": Augment(crop_scale=(0.3, 1.0), jitter=(0.4, 0.4, 0.0, 0.0), blur_p=0.2, blur_sigma=(0.1, 1.0), erase_p=0.2),
    # Digits and glyphs, 8 to 32 pixels: a mirrored digit is another one, so no flip.
    "tiny": Augment(
        crop_scale=(0.5, 1.0),
        flip=0.0,
        rotate=15.0,
        translate=0.1,
        jitter=(0.4, 0.4, 0.0, 0.0),
        noise_std=0.1,
        erase_p=0.3,
        erase_scale=(0.02, 0.2),
    ),
    # Resize only.
    "none": Augment(crop_scale=None, flip=0.0),
}
