"""BSS: all images of a batch are given one style, view by view, so that no style tells an image's negatives apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autodidact.catalog import Card
from autodidact.data.batch import Batch
from autodidact.methods.method import Group, Loss, Method, Progress, Sweep, Views
from autodidact.methods.two_views import SeveralViews, view_names
from autodidact.model import Encoder, Model
from autodidact.objectives.shards import from_first
from autodidact.views import (
    draw_references,
    eval_view,
    look_of,
    restyle,
    split_look,
    with_look,
)
from autodidact.views.geometry import whole_boxes
from autodidact.views.parcel import sent

CARD = Card(
    name="bss",
    target="BSS",
    kind="method",
    number=36,
    title="BSS",
    paper="Scalbert, Vakalopoulou, Couzinié-Devy: Towards domain-invariant Self-Supervised Learning with Batch Styles "
    "Standardization (2303.06088, 2023)",
    summary="Makes SimCLR, MoCo, SwAV and others hold on domains never seen: the images of a batch share one style.",
    needs=(("image", "image"),),
    arguments=("method", "style", "slots", "ratio", "negatives"),
    claim="bss",
    encoder="small:convnet",
)

TAKEN = (
    *("simclr", "dcl", "scat_simclr", "moco", "moco_v3", "swav", "seer", "dino", "ibot"),
    *("byol", "simsiam", "direct_pred", "barlow_twins", "mixed_barlow_twins", "vicreg"),
)
"""Methods whose views can be standardised, by name."""


class BSS(Method):
    """Batch Styles Standardization (arXiv 2303.06088, section 3), for any method on random views of images.

    Each view belongs to a style slot. For a slot one image of the batch and one ratio r are drawn, and every image gets
    the low-frequency amplitude of that image (`autodidact.views.restyle`) and the same colour jitter, greyscale, blur
    and solarising. So the views of a slot are alike in style and those of an image differ in it. The method then does
    what it does, with negatives from the own slot (SimCLR, DCL, ScatSimCLR, MoCo: N - 1 of them where plain NT-Xent has
    2N - 2) or codes balanced in each slot (SwAV, SEER). MoCo v3 keeps its negatives, the other view's keys, which are
    of one style too; all others have none and learn from the views alone. All processes share the style of a slot,
    which comes from the first one's part of the batch.

    It works with every method on several random views of an image: simclr, dcl, scat_simclr, moco, moco_v3, swav, seer,
    dino, ibot, byol, simsiam, direct_pred, barlow_twins, mixed_barlow_twins, vicreg. Mixed Barlow Twins then mixes
    standardised views and iBOT masks them; the turned or shuffled images of ScatSimCLR's task keep their own styles. It
    does not work with methods that show each image once (mae, rotation and the like) or read labels (look, sla). The
    paper's third base method, MSN, is not here.

    Images smaller than the canvas that they lie on are enlarged to it before they get a style, since a spectrum is that
    of a whole rectangle; crops are drawn in the image as it was, and keep their shape.

    It takes away what lies in low-frequency amplitude: illumination, colour, contrast. A domain that differs otherwise
    (sketches, another texture) is not made alike by it.

    Parameters
    ----------
    encoder : image encoder.
    method : the method whose views are standardised, by name, or with its options: ``{name: swav, local_count: 2}``.
    style : "batch" gives all images of a slot the style of one image of the batch (the paper's); "image" gives each
        image that of another one, with a ratio and a colour jitter of its own and all negatives: ordinary Fourier
        augmentation, to compare with.
    slots : number of styles in a batch, one for each view; 0 for as many as the method shows views, small ones
        included. More are possible where the method compares any number of views (SimCLR, DCL, BYOL, Barlow Twins and
        the like); never fewer, since a view's positive must have another style.
    ratio : share r of the spectrum's area that is taken, drawn uniformly between these two numbers in [0, 1]. The
        paper's range is not known; in large parts of the spectrum lies content.
    jitter : whether colour jitter, greyscale, blur, solarising and the strength of noise are drawn once a slot
        ("batch") or once an image ("image"); "auto" is as `style`.
    negatives : "slot" takes negatives from the own slot only and balances codes inside it; "all" leaves the method as
        it is; "auto" is "slot" where images share a style.
    order : "style, crop" gives styles to whole images, which are cropped then; "crop, style" to the crops.
    references : images that styles come from: "random" ones of the batch, always different ones for different slots,
        or ones that lie "far" apart in mean colour, for batches in which one domain is common.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        method: Method | str = "simclr",
        style: Literal["batch", "image"] = "batch",
        slots: int = 0,
        ratio: tuple[float, float] = (0.01, 0.15),
        jitter: Literal["auto", "batch", "image"] = "auto",
        negatives: Literal["auto", "slot", "all"] = "auto",
        order: Literal["style, crop", "crop, style"] = "style, crop",
        references: Literal["random", "far"] = "random",
    ) -> None:
        super().__init__()
        for name, given, known in (
            ("style", style, ("batch", "image")),
            ("jitter", jitter, ("auto", "batch", "image")),
            ("negatives", negatives, ("auto", "slot", "all")),
            ("order", order, ("style, crop", "crop, style")),
            ("references", references, ("random", "far")),
        ):
            if given not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {given!r}")
        self.method = _standardisable(method, encoder)
        self.batching, self.refresh_every = self.method.batching, self.method.refresh_every
        low, high = float(ratio[0]), float(ratio[-1])
        if not 0 <= low <= high <= 1:
            raise ValueError(f"ratio is (low, high) with 0 <= low <= high <= 1, got {tuple(ratio)}")
        shown = len(self.method.augments)
        if slots < 0 or 0 < slots < shown:
            raise ValueError(
                f"{type(self.method).__name__} shows {shown} views, and each has a style of its own, so that positives "
                f"differ in style: slots is 0 or at least {shown}; got {slots}"
            )
        if slots > shown and not self.method.takes_more_views:
            raise ValueError(f"{type(self.method).__name__} compares {shown} views, there cannot be {slots} slots")
        if style == "image" and (slots or negatives == "slot" or references == "far"):
            raise ValueError(
                "with style 'image' no two images share a style: slots, negatives and references must stay"
            )
        self.style, self.ratio, self.order, self.references = style, (low, high), order, references
        self.names = view_names(max(shown, slots))
        self.one_look = jitter == "batch" or (jitter == "auto" and style == "batch")
        self.own_slot = negatives == "slot" or (negatives == "auto" and style == "batch")

    @property
    def encoder(self) -> Encoder:
        return self.method.encoder

    def views(self, batch: Batch, progress: Progress) -> Views:
        images, box, generator = batch["image"], batch.get("box"), progress.generator
        if len(images) < 2:
            raise ValueError("a style is shared by the images of a batch, and this one has a single image")
        height, width = images.shape[-2:]
        if box is not None:
            # Around an image smaller than its canvas there is nothing that a style could be taken from. At the canvas'
            # resolution crops find what they would find without a style.
            images = eval_view(images, (height, width), box=box)
        before = self.order == "style, crop"
        index, ratios = self._drawn(images, generator)
        styled = self._restyled(images, index, ratios) if before else None
        named = {}
        for view, name in enumerate(self.names):
            augment = self.method.augments[view % len(self.method.augments)]
            parameters = augment.draw(len(images), height, width, generator, box)
            if box is not None:
                boxes = whole_boxes(len(images), height, width, box)
                parameters = replace(parameters, crop=_enlarged(parameters.crop, boxes, height, width))
            if self.one_look:
                # On the images' device, since that is where processes exchange tensors.
                own = sent(look_of(parameters), images.device)
                parameters = with_look(parameters, from_first(own).cpu())
            if styled is not None:
                named[name] = augment.render(styled[view], parameters)
                continue
            geometry, rest = split_look(parameters, augment.shape)
            crops = replace(augment, mean=0.0, std=1.0).render(images, geometry)
            styled_crops = self._restyled(crops, index[view, None], ratios[view, None])[0]
            named[name] = augment.render(styled_crops, rest)
        slot = self._slot_of(len(images), images.device) if self.own_slot else None
        return self.method.completed(Views(named, batch.ids, slot=slot), batch, progress)

    def _drawn(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Where the styles come from, and their ratios: (views, 1), or (views, n) where each image has its own."""
        kinds, many = len(self.names), len(images) if self.style == "image" else 1
        low, high = self.ratio
        u = sent(torch.rand(kinds, many, generator=generator, device=generator.device), images.device)
        if self.style == "image":
            drawn = [draw_references(images, many, generator) for _ in range(kinds)]
            return torch.stack(drawn), low + (high - low) * u
        chosen = draw_references(images, kinds, generator, far=self.references == "far")
        return chosen[:, None], from_first(low + (high - low) * u)

    def _restyled(self, images: Tensor, index: Tensor, ratios: Tensor) -> Float[Tensor, "views n c h w"]:
        styles = images[index]
        return restyle(images, from_first(styles) if self.style == "batch" else styles, ratios)

    def _slot_of(self, n: int, device: torch.device) -> dict[str, Tensor]:
        return {name: torch.full((n,), view, device=device) for view, name in enumerate(self.names)}

    def loss(self, views: Views, progress: Progress) -> Loss:
        return self.method.loss(views, progress)

    def after_update(self, progress: Progress) -> None:
        self.method.after_update(progress)

    def refresh(self, sweep: Sweep, progress: Progress) -> None:
        self.method.refresh(sweep, progress)

    def groups(self) -> list[Group]:
        return self.method.groups()

    def pictures(self, views: Views) -> dict[str, Float[Tensor, "n c h w"]]:
        return self.method.pictures(views)

    def kept(self) -> Model:
        return self.method.kept()


def _enlarged(crops: Int[Tensor, "n 4"], boxes: Int[Tensor, "n 4"], height: int, width: int) -> Int[Tensor, "n 4"]:
    """Windows inside boxes, once each box is enlarged to `height` x `width` pixels."""
    factor = torch.tensor([height, width]) / boxes[:, 2:]
    first = (crops[:, :2] - boxes[:, :2]) * factor
    start, stop = first.round(), (first + crops[:, 2:] * factor).round()
    return torch.cat([start, stop - start], dim=1).long()


def _standardisable(method: Method | str, encoder: Encoder) -> SeveralViews:
    """The method, if it is one whose views can be made for it."""
    if isinstance(method, str):
        raise ValueError(f"in Python, give bss a method on the same encoder, not the name {method!r}")
    cls: Any = type(method)
    if not isinstance(method, SeveralViews) or cls.views is not SeveralViews.views or cls.update is not Method.update:
        raise ValueError(
            f"bss makes the views for methods on several random views of an image ({', '.join(TAKEN)}), not for "
            f"{cls.__name__}, whose views are others"
        )
    if method.encoder is not encoder:
        raise ValueError("bss and its method must have one encoder")
    return method
