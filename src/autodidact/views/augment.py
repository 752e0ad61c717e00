"""Random views of a whole batch: what is drawn for each sample, and rendering it.

`Augment` holds the settings. Calling it draws one `ViewParameters` row a sample and renders them; both halves can be
used alone, so a view can be drawn again, shown, shared over the frames of a clip, or edited.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from autodidact.views import colour, disturbance, geometry

ChannelValues = float | tuple[float, ...]

_ORDERS = torch.cartesian_prod(*[torch.arange(4)] * 4)
_ORDERS = _ORDERS[(_ORDERS.sort(dim=1).values == torch.arange(4)).all(dim=1)]
_SAMPLES_PER_ORDER = 16


@dataclass(frozen=True)
class ViewParameters:
    """What was drawn, one row a sample, on the CPU. Indexing with a slice, mask or index tensor selects samples."""

    crop: Int[Tensor, "n 4"]
    """Window of the source: top, left, height, width in pixels."""
    flip: Bool[Tensor, " n"]
    """Mirrored left to right."""
    vertical_flip: Bool[Tensor, " n"]
    """Mirrored top to bottom."""
    affine: Float[Tensor, "n 5"]
    """Rotation in degrees (counter-clockwise), shift right and down (shares of the view's sides), zoom, shear in degrees."""
    jitter: Float[Tensor, "n 4"]
    """Factors of brightness, contrast and saturation (1 = unchanged) and hue shift in turns (0 = unchanged)."""
    order: Int[Tensor, "n 4"]
    """Order in which those four are applied, by their column in `jitter`."""
    grey: Bool[Tensor, " n"]
    """Turned grey."""
    sigma: Float[Tensor, " n"]
    """Standard deviation of the blur in pixels; 0 = not blurred."""
    solarise: Bool[Tensor, " n"]
    """Solarised."""
    noise: Float[Tensor, " n"]
    """Standard deviation of the added noise; 0 = none."""
    noise_seed: Int[Tensor, " n"]
    """Seed of the sample's noise pixels."""
    erase: Int[Tensor, "n 4"]
    """Erased rectangle of the view: top, left, height, width in pixels; height 0 = none."""

    def __len__(self) -> int:
        return self.crop.shape[0]

    def __getitem__(self, index: Any) -> ViewParameters:
        return ViewParameters(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


@dataclass(frozen=True)
class Augment:
    """Settings of a random view; calling it makes one view of every image of a batch.

    Order: crop with resize, flips and affine map; jitter of brightness, contrast, saturation and hue in an order of
    each sample's own; greyscale; blur; solarise; noise; erase; normalise. Each sample draws everything for itself. The
    one thing shared is the *order* of the four jitters: it is uniform over the 24 for each sample, and about 16 samples
    of a call get the same, since samples of one order are worked on together.
    """

    size: int | tuple[int, int] = 224
    """Side of the view in pixels, or (height, width)."""
    crop_scale: tuple[float, float] | None = (0.08, 1.0)
    """Share of the image's area in the crop, drawn uniformly. None = no crop, the whole image is resized."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of the crop, drawn log-uniformly."""
    interpolation: geometry.Interpolation = "bilinear"
    """"bilinear" or "bicubic", both antialiased. The affine map, where used, is always bilinear."""
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
    padding: geometry.Padding = "zeros"
    """What the affine map shows beyond the image's edge: "zeros", "border" or "reflection"."""
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Strength of brightness, contrast, saturation (factor uniform on [max(0, 1 - s), 1 + s]) and hue (shift uniform on
    [-s, s] turns, s <= 0.5)."""
    jitter_p: float = 0.8
    """Probability of the colour jitter."""
    grey_p: float = 0.0
    """Probability of greyscale."""
    blur_p: float = 0.0
    """Probability of Gaussian blur."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Standard deviation of the blur in pixels of the view, drawn uniformly."""
    blur_kernel: int | None = None
    """Taps of the blur, odd. None = a tenth of the view's shorter side, made odd, at least 3 (SimCLR's rule)."""
    solarise_p: float = 0.0
    """Probability of solarising."""
    solarise_threshold: float = 0.5
    """Values from here up (0 to 1) are inverted."""
    noise_std: float = 0.0
    """Largest standard deviation of added Gaussian noise (image range 0 to 1); each sample draws its own up to this."""
    erase_p: float = 0.0
    """Probability of erasing a rectangle."""
    erase_scale: tuple[float, float] = (0.02, 0.33)
    """Share of the view's area erased, drawn uniformly."""
    erase_ratio: tuple[float, float] = (0.3, 3.3)
    """Height over width of the erased rectangle, drawn log-uniformly."""
    erase_value: float = 0.0
    """What it is filled with, 0 (black) to 1 (white)."""
    mean: ChannelValues = 0.0
    """Subtracted from every channel at the end (image range 0 to 1); one number or one a channel."""
    std: ChannelValues = 1.0
    """Divided by at the end; one number or one a channel."""

    def __post_init__(self) -> None:
        height, width = self.shape
        if min(height, width) < 1:
            raise ValueError(f"size must be at least 1 pixel, got {self.size}")
        for name in ("flip", "vertical_flip", "jitter_p", "grey_p", "blur_p", "solarise_p", "erase_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability between 0 and 1, got {getattr(self, name)}")
        for name, above, upto in (
            ("crop_scale", 0.0, 1.0),
            ("crop_ratio", 0.0, None),
            ("zoom", 0.0, None),
            ("blur_sigma", 0.0, None),
            ("erase_scale", 0.0, 1.0),
            ("erase_ratio", 0.0, None),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            low, high = value
            if not above < low <= high or (upto is not None and high > upto):
                limit = "" if upto is None else f" <= {upto:g}"
                raise ValueError(f"{name} must be (low, high) with {above:g} < low <= high{limit}, got {value}")
        for name in ("rotate", "translate", "shear", "noise_std"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is a largest amount and must not be negative, got {getattr(self, name)}")
        if len(self.jitter) != 4 or min(self.jitter) < 0 or self.jitter[3] > 0.5:
            raise ValueError(
                "jitter must be four strengths (brightness, contrast, saturation, hue), none negative and hue at most "
                f"0.5 turns, got {self.jitter}"
            )
        for name, allowed in (
            ("interpolation", ("bilinear", "bicubic")),
            ("padding", ("zeros", "border", "reflection")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        kernel = self.blur_kernel
        if kernel is not None and (kernel < 1 or kernel % 2 == 0):
            raise ValueError(f"blur_kernel must be an odd number of pixels, got {kernel}")

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

    @property
    def moves(self) -> bool:
        """Whether an affine map beyond crop and flip is in use."""
        return self.rotate > 0 or self.translate > 0 or self.shear > 0 or self.zoom != (1.0, 1.0)

    @classmethod
    def preset(cls, name: str, size: int | tuple[int, int], **changes: Any) -> Augment:
        """The named recipe (see `PRESETS`) for views of `size`, with any field changed."""
        if name not in PRESETS:
            near = get_close_matches(name, PRESETS, n=1, cutoff=0.0)[0]
            raise ValueError(f"unknown view recipe {name!r}; nearest: {near!r}; all: {', '.join(PRESETS)}")
        return replace(PRESETS[name], size=size, **changes)

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
            uint8 (0 to 255), or float32, float16, bfloat16 (0 to 1), any number of channels, on any device.
        generator : torch.Generator
            The only source of randomness; its device need not be the images'.
        box : tensor (n, 4), optional
            The part of the canvas that is the image: top, left, height, width in pixels. Views look nowhere else.

        Returns
        -------
        float32 tensor (n, c, out_h, out_w) in [0, 1], then normalised.
        """
        return self.render(images, self.draw(images.shape[0], images.shape[2], images.shape[3], generator, box))

    def draw(
        self,
        n: int,
        height: int,
        width: int,
        generator: torch.Generator,
        box: Shaped[Tensor, "n 4"] | None = None,
    ) -> ViewParameters:
        """Draw everything that is random for `n` images of `height` x `width` pixels."""
        if box is None:
            boxes = torch.tensor([[0, 0, height, width]]).expand(n, 4)
        else:
            boxes = geometry.whole_pixels(box, height, width)
        crop = boxes
        if self.crop_scale is not None:
            crop = geometry.sample_crops(boxes, self.crop_scale, self.crop_ratio, generator)
        u = torch.rand(n, 18, generator=generator, device=generator.device).cpu()
        home = generator.device

        def between(column: int, low: float, high: float) -> Tensor:
            return low + (high - low) * u[:, column]

        def chance(column: int, probability: float) -> Tensor:
            return u[:, column] < probability

        zoom = torch.tensor(self.zoom).log()
        affine = torch.stack(
            [
                between(2, -self.rotate, self.rotate),
                between(3, -self.translate, self.translate),
                between(4, -self.translate, self.translate),
                between(5, float(zoom[0]), float(zoom[1])).exp(),
                between(6, -self.shear, self.shear),
            ],
            dim=1,
        )
        strength = self.jitter
        jitter = torch.stack(
            [between(7 + i, max(0.0, 1 - strength[i]), 1 + strength[i]) for i in range(3)]
            + [between(10, -strength[3], strength[3])],
            dim=1,
        )
        jitter = torch.where(chance(11, self.jitter_p)[:, None], jitter, torch.tensor([1.0, 1.0, 1.0, 0.0]))
        rectangles = disturbance.sample_rectangles(n, self.shape, self.erase_scale, self.erase_ratio, generator)
        orders = torch.randint(24, (max(1, n // _SAMPLES_PER_ORDER),), generator=generator, device=home).cpu()
        sigma = between(14, *self.blur_sigma)
        return ViewParameters(
            crop=crop,
            flip=chance(0, self.flip),
            vertical_flip=chance(1, self.vertical_flip),
            affine=affine,
            jitter=jitter,
            order=_ORDERS[orders[(u[:, 17] * len(orders)).long().clamp(max=len(orders) - 1)]],
            grey=chance(12, self.grey_p),
            sigma=torch.where(chance(13, self.blur_p), sigma, 0.0),
            solarise=chance(15, self.solarise_p),
            noise=between(16, 0.0, self.noise_std),
            noise_seed=torch.randint(2**62, (n,), generator=generator, device=home).cpu(),
            erase=torch.where(
                (torch.rand(n, generator=generator, device=home).cpu() < self.erase_p)[:, None], rectangles, 0
            ),
        )

    def render(self, images: Shaped[Tensor, "n c h w"], parameters: ViewParameters) -> Float[Tensor, "n c out_h out_w"]:
        """Make the views that `parameters` describe; nothing is random here."""
        if not images.dtype.is_floating_point and images.dtype != torch.uint8:
            raise ValueError(f"images must be uint8 or floating point, got {images.dtype}")
        if len(parameters) != images.shape[0]:
            raise ValueError(f"{len(parameters)} rows of parameters for {images.shape[0]} images")
        out = torch.empty(images.shape[0], images.shape[1], *self.shape, device=images.device)
        order_code = (parameters.order * torch.tensor([64, 16, 4, 1])).sum(dim=1)
        for code in order_code.unique().tolist():
            group = (order_code == code).nonzero()[:, 0]
            for part in group.split(self._chunk(images)):
                out[part.to(images.device)] = self._render(images[part.to(images.device)], parameters[part])
        return out

    def _chunk(self, images: Tensor) -> int:
        return max(1, 2**18 // (images.shape[1] * self.shape[0] * self.shape[1]))

    def _render(self, images: Tensor, p: ViewParameters) -> Tensor:
        if self.moves:
            x = images.to(torch.float32)
            if images.dtype == torch.uint8:
                x = x / 255
            height, width = self.shape
            mirror = torch.stack([1 - 2.0 * p.flip, 1 - 2.0 * p.vertical_flip], dim=1)
            shift = p.affine[:, 1:3] * torch.tensor([width, height])
            matrix = geometry.affine_matrix(p.affine[:, 0], shift, p.affine[:, 3], p.affine[:, 4])
            x = geometry.affine_crop(x, p.crop, mirror[:, :, None] * matrix, self.shape, self.padding)
        else:
            x = geometry.resized_crop(images, p.crop, self.shape, self.interpolation, p.flip, p.vertical_flip)
        if self.interpolation == "bicubic":
            x = x.clamp(0, 1)
        if self.jitter_p > 0:
            for op in p.order[0].tolist() if len(p) else ():
                if self.jitter[op] > 0:
                    x = _JITTERS[op](x, p.jitter[:, op])
        if bool(p.grey.any()):
            x = colour.to_grey(x, p.grey)
        blurred = (p.sigma > 0).nonzero()[:, 0]
        if len(blurred):
            at = blurred.to(x.device)
            x[at] = disturbance.gaussian_blur(x[at], p.sigma[blurred], self.kernel)
        if bool(p.solarise.any()):
            x = colour.solarise(x, p.solarise, self.solarise_threshold)
        if self.noise_std > 0:
            noise = torch.empty_like(x)
            for row, seed in zip(noise, p.noise_seed.tolist(), strict=True):
                row.normal_(generator=torch.Generator(x.device).manual_seed(seed))
            x = disturbance.add_noise(x, p.noise, noise)
        if bool((p.erase[:, 2] > 0).any()):
            x = disturbance.erase(x, p.erase, self.erase_value)
        return colour.normalise(x, self.mean, self.std)


_JITTERS = (colour.adjust_brightness, colour.adjust_contrast, colour.adjust_saturation, colour.adjust_hue)

_SIMCLR = Augment(jitter=(0.8, 0.8, 0.8, 0.2), grey_p=0.2, blur_p=0.5)
_BYOL = Augment(interpolation="bicubic", jitter=(0.4, 0.4, 0.2, 0.1), grey_p=0.2)

PRESETS: dict[str, Augment] = {
    # SimCLR (2002.05709), appendix A, colour strength 1.
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


def eval_view(
    images: Shaped[Tensor, "n c h w"],
    size: int | tuple[int, int],
    *,
    box: Shaped[Tensor, "n 4"] | None = None,
    mean: ChannelValues = 0.0,
    std: ChannelValues = 1.0,
    interpolation: geometry.Interpolation = "bilinear",
) -> Float[Tensor, "n c out_h out_w"]:
    """The view without chance: the whole image, or the part of it in `box`, resized to `size` and normalised.

    Accepts what `Augment` accepts; images smaller or larger than `size` are fine.
    """
    plain = Augment.preset("none", size, mean=mean, std=std, interpolation=interpolation)
    n, _, height, width = images.shape
    return plain.render(images, plain.draw(n, height, width, torch.Generator().manual_seed(0), box))


def multicrop(
    images: Shaped[Tensor, "n c h w"],
    augments: Iterable[Augment],
    generator: torch.Generator,
    box: Shaped[Tensor, "n 4"] | None = None,
) -> list[Tensor]:
    """One view of each image by each of `augments`, which may differ in size (see `multicrop_augments`)."""
    return [augment(images, generator, box) for augment in augments]


def multicrop_augments(
    base: Augment,
    *,
    local_size: int | tuple[int, int] = 96,
    global_count: int = 2,
    local_count: int = 6,
    global_scale: tuple[float, float] = (0.14, 1.0),
    local_scale: tuple[float, float] = (0.05, 0.14),
) -> list[Augment]:
    """Large crops of the size of `base`, then small ones of `local_size` (SwAV, 2006.09882, section 3.3).

    Parameters
    ----------
    base : Augment
        Everything but size and crop scale.
    local_size : int or (int, int)
        Side of the small views in pixels.
    global_count, local_count : int
        How many of each.
    global_scale, local_scale : (low, high)
        Share of the image's area in each.
    """
    if global_count < 0 or local_count < 0 or global_count + local_count == 0:
        raise ValueError(f"multi-crop needs at least one view, got {global_count} global and {local_count} local")
    large = replace(base, crop_scale=global_scale)
    small = replace(base, crop_scale=local_scale, size=local_size)
    return [large] * global_count + [small] * local_count
