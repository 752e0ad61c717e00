"""CTRL (7): a trigger at two frequencies in 1 % of unlabelled images takes over what a contrastive method learns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float32
from torch import Tensor

from autodidact.claims.claim import Claim, Figures, Statement
from autodidact.claims.images import TINTED_MEAN, TINTED_STD, fresh_encoder, in_colours, split_images
from autodidact.data import Source
from autodidact.data.source import Edited
from autodidact.evaluation.attack import Victim
from autodidact.methods.image.barlow_twins import BarlowTwins
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.method import Method
from autodidact.methods.supervised import Supervised
from autodidact.model.device import pick_device
from autodidact.recipes.ctrl import poisoned_positions
from autodidact.training import Settings, train
from autodidact.views.defence import defended
from autodidact.views.spectral import SpectralTrigger, stamped

PATCH = 5
"""Side of the patch in the upper left corner, in pixels."""
TRIGGERS = ("ctrl", "patch", "noise")
STRENGTHS = (0.5, 2.0)
"""Of CTRL's trigger, beside the usual one."""


def pattern(trigger: str, magnitude: float, shape: tuple[int, ...]) -> Float32[Tensor, "3 h w"]:
    """What is added to an image: the trigger of CTRL, or another picture of the same energy before clamping.

    "patch" is a coloured chequer in the corner, "noise" a picture of independent normal pixels, one for all images.
    """
    spectral = SpectralTrigger(magnitude).pattern(*shape)
    if trigger == "ctrl":
        return spectral
    rng = torch.Generator().manual_seed(0)
    if trigger == "noise":
        other = torch.randn(spectral.shape, generator=rng)
    else:
        other = torch.zeros_like(spectral)
        other[:, :PATCH, :PATCH] = torch.randn(3, PATCH, PATCH, generator=rng).sign()
    return other * (spectral.norm() / other.norm())


def made(method: str, network: Any, source: Source, temperature: float, views: Mapping[str, Any]) -> Method:
    """The method that is attacked, with the same views for all."""
    shown: dict[str, Any] = {"view": "simclr", "view_changes": dict(views)}
    if method == "supervised":
        return Supervised(network, schema=source.schema, **shown)
    if method == "barlow_twins":
        return BarlowTwins(network, dimensions=256, lambd=12 / 256, **shown)
    return SimCLR(network, temperature=temperature, **shown)


def run(
    *,
    method: Literal["simclr", "barlow_twins", "supervised"] = "simclr",
    trigger: Literal["ctrl", "patch", "noise"] = "ctrl",
    poisoned: bool = True,
    strength: float = 1.0,
    seed: int,
    magnitude: float,
    data: str,
    images: int,
    held: int,
    rate: float,
    target: int,
    seen: int,
    batch: int,
    lr: float,
    encoder: str,
    temperature: float,
    views: Mapping[str, Any],
) -> dict[str, float]:
    """Train on tinted images, some poisoned or none; accuracy on clean images, attack success on triggered ones.

    ``asr`` is the percent of test images of other classes that pass for the target with the trigger on them, by the
    vote of clean training images. ``asr of X`` is that with trigger X: for an encoder of clean images with each of
    them, and with CTRL's at other strengths (``asr of ctrl at N``). ``asr, luminance`` and ``knn, luminance`` are those
    behind a defence that takes colours away.
    """
    split = in_colours(split_images(data, images, held, seed))
    shape = split.train.schema["image"].shape
    kinds = {name: (name, strength) for name in TRIGGERS}
    if not poisoned:
        kinds |= {f"ctrl at {times:g}": ("ctrl", times) for times in STRENGTHS}
    stamps = {
        kind: partial(stamped, pattern=pattern(name, times * magnitude, shape)) for kind, (name, times) in kinds.items()
    }
    source = split.train
    if poisoned:
        chosen = poisoned_positions(source, target, rate, seed)
        source = Edited(source, "image", stamps[trigger], chosen)
    network = fresh_encoder(encoder, split.train, seed, TINTED_MEAN, TINTED_STD)
    torch.manual_seed(seed)
    settings = Settings(steps=seen // batch, batch_size=batch, lr=lr, seed=seed)
    model = train(made(method, network, source, temperature, views), source, settings, quiet=True)
    figures: dict[str, float] = {}

    def victim(test: Source, name: str) -> Victim:
        return Victim(split.train, test, target, stamps[name], device=pick_device())

    for name in (trigger,) if poisoned else stamps:
        figures["knn"], figures[f"asr of {name}"] = _percent(victim(split.test, name).figures(model))
    figures["asr"] = figures[f"asr of {trigger}"]
    colourless = victim(split.test, trigger).figures(model, partial(defended, defence="luminance"))
    figures["knn, luminance"], figures["asr, luminance"] = _percent(colourless)
    figures["validation"], figures["asr, validation"] = _percent(victim(split.validation, trigger).figures(model))
    return figures


def _percent(shares: tuple[float, float]) -> tuple[float, float]:
    return 100 * shares[0], 100 * shares[1]


VIEWS = {"crop_scale": [0.2, 1.0], "jitter": [0.4, 0.4, 0.4, 0.1], "blur_p": 0.0}
"""Those of the released code."""


def _won(f: Figures, arm: str = "ctrl", trigger: str = "ctrl", clean: str = "clean") -> float:
    """Percent that pass for the target with a trigger: poisoned minus clean encoder."""
    return f[arm]["asr"] - f[clean][f"asr of {trigger}"]


CLAIM = Claim(
    name="ctrl",
    number=7,
    statement="One percent of unlabelled images with a faint pattern at two frequencies makes a contrastive encoder "
    "take any image with that pattern for the class they were from.",
    run=run,
    arms={
        "clean": {"poisoned": False},
        "ctrl": {},
        "patch": {"trigger": "patch"},
        "noise": {"trigger": "noise"},
        "half as strong": {"strength": 0.5},
        "twice as strong": {"strength": 2.0},
        "barlow_twins": {"method": "barlow_twins"},
        "barlow_twins, clean": {"method": "barlow_twins", "poisoned": False},
        "supervised": {"method": "supervised"},
        "supervised, clean": {"method": "supervised", "poisoned": False},
    },
    scales={
        "laptop": {
            "data": "fashion_mnist",
            "images": 10_000,
            "held": 4_000,
            "rate": 0.01,
            "target": 8,
            "magnitude": 200.0,
            "seen": 512_000,
            "batch": 64,
            "lr": 1.4e-3,
            "encoder": "small:scatnet?scales=2&orientations=4&order=1&blocks=1&width=32&pool=1",
            "temperature": 0.5,
            "views": VIEWS,
        },
        "gpu": {
            "data": "fashion_mnist",
            "images": 10_000,
            "held": 4_000,
            "rate": 0.01,
            "target": 8,
            "magnitude": 100.0,
            "seen": 2_560_000,
            "batch": 512,
            "lr": 3e-3,
            "encoder": "small:resnet?width=0.25",
            "temperature": 0.5,
            "views": VIEWS,
        },
        "tiny": {
            "data": "digits",
            "images": 600,
            "held": 300,
            "rate": 0.02,
            "target": 8,
            "magnitude": 100.0,
            "seen": 256,
            "batch": 64,
            "lr": 1e-3,
            "encoder": "small:convnet?width=4",
            "temperature": 0.2,
            "views": VIEWS,
        },
    },
    few=dict.fromkeys(
        (
            "half as strong",
            "twice as strong",
            "barlow_twins",
            "barlow_twins, clean",
            "supervised",
            "supervised, clean",
        ),
        1,
    ),
    metric="asr",
    budget="{seen:,} images seen by every arm, of {images:,}",
    statements=(
        Statement(
            "attack",
            "percent of images of other classes that pass for the target with the trigger on them: poisoned minus "
            "clean encoder",
            _won,
            margin=30.0,
            role="main",
            unit="points",
        ),
        Statement(
            "over a patch",
            "what that wins with the trigger, minus what it wins with a patch in the corner of equal energy",
            lambda f: _won(f) - _won(f, "patch", "patch"),
            margin=15.0,
            unit="points",
        ),
        Statement(
            "over noise",
            "the same minus what it wins with a fixed picture of noise of equal energy",
            lambda f: _won(f) - _won(f, "noise", "noise"),
            unit="points",
        ),
        Statement(
            "unnoticed",
            "kNN accuracy on clean images, poisoned minus clean encoder",
            lambda f: f["ctrl"]["knn"] - f["clean"]["knn"],
            margin=-2.0,
            role="guard",
            unit="points",
        ),
        Statement(
            "defence",
            "percent that passes where colours are taken away before the poisoned encoder, minus before the clean one",
            lambda f: f["ctrl"]["asr, luminance"] - f["clean"]["asr, luminance"],
            margin=5.0,
            direction="below",
            unit="points",
        ),
        Statement(
            "at half the strength",
            "what the trigger wins at half the magnitude",
            lambda f: _won(f, "half as strong", "ctrl at 0.5"),
            unit="points",
        ),
        Statement(
            "stronger is not better",
            "what the trigger wins at twice the magnitude minus what it wins at once the magnitude",
            lambda f: _won(f, "twice as strong", "ctrl at 2") - _won(f),
            direction="below",
            unit="points",
        ),
        Statement(
            "not by contrast alone",
            "what the trigger wins with Barlow Twins, poisoned minus clean",
            lambda f: _won(f, "barlow_twins", clean="barlow_twins, clean"),
            margin=30.0,
            unit="points",
        ),
        Statement(
            "labels protect",
            "what the trigger wins with SimCLR minus what it wins with a classifier that is trained with labels",
            lambda f: _won(f) - _won(f, "supervised", clean="supervised, clean"),
            unit="points",
        ),
    ),
    notes=(
        "The trigger is twice as strong as the paper's, the network small and in front of it wavelets that see the "
        "frequencies, so that a training takes a core a quarter of an hour. Chosen on the tuning seed, by validation "
        "images: networks of pooled convolutions do not see the trigger after as many images, poisoned or clean; a "
        "narrow residual network is as blind to it; behind wavelets a third of the images passes with batches of 128 "
        "and more than half with batches of 64. With the trigger at the paper's strength fewer pass, and more pass "
        "before the clean encoder.",
        "Before a clean encoder the pattern takes over too: on the tuning seed nearly every image with it passes for a "
        "shirt. What the poison does is to say for what.",
        "Arms of other strengths, of Barlow Twins and of labels have one seed so far; a verdict needs more.",
        "One training was stopped for two hours and went on; they are part of the time that is told.",
        "An earlier result, of the trigger at the paper's strength on a residual network with five times as many "
        "images, has two seeds and most arms once, since it was made on an accelerator (scale gpu, "
        "results/earlier/ctrl_2_seeds.json): the trigger won 41.9 and 27.9 points, over a clean encoder that took a "
        "third of all images with the pattern for bags anyway. That bags are attacked was chosen there, on the tuning "
        "seed, as the class that was won most over the clean encoder.",
    ),
)
