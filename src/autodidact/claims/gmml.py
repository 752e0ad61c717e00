"""GMML (50): repainting corrupted groups of patches prepares a vision transformer for few labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch

from autodidact.claims.claim import Claim, Statement
from autodidact.claims.images import (
    first_of_each,
    fresh_encoder,
    labels_of,
    percent_right,
    split_images,
    tokens_of_an_image,
)
from autodidact.data import Source
from autodidact.evaluation.finetune import Tuning, finetune
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.masked.gmml import GMML
from autodidact.methods.masked.mae import MAE
from autodidact.methods.masked.simmim import SimMIM
from autodidact.methods.method import Method, Progress
from autodidact.model import Encoder
from autodidact.training import Settings, train
from autodidact.training.tokens import counted_tokens, outer_encoders

Other = Literal["simmim", "mae", "simclr"]


def run(
    *,
    pretrain: bool = True,
    longer: bool = False,
    other: Other | None = None,
    alien_p: float = 0.5,
    share: float = 0.75,
    side: int | None = None,
    view_changes: Mapping[str, Any] | None = None,
    lr: float,
    seed: int,
    data: str,
    images: int,
    held: int,
    per_class: int,
    steps: int,
    tuned_steps: int,
    batch: int,
    encoder: str,
    patch: int,
    max_block: float,
    pretrain_lr: float,
    tuning_view: Mapping[str, Any],
) -> dict[str, float]:
    """Pretrain, or not, on unlabelled images; fine-tune on a few labels; accuracy on the test images.

    `longer` gives the updates that pretraining would have had to the supervised training. ``error`` is what is left of
    the L1 distance on the validation images, under the masks that the arm was trained with.

    An `other` method than GMML is trained until as many tokens went through the encoder; ``tokens`` is how many, as a
    multiple of those of GMML's updates. Images are enlarged to `side` pixels first, where one is given; `view_changes`
    are of the light augmentation that GMML trains with.
    """
    split = split_images(data, images, held, seed, side)
    network = fresh_encoder(encoder, split.train, seed)
    figures: dict[str, float] = {}
    common: dict[str, Any] = {"batch_size": batch, "weight_decay": 0.04, "clip_norm": 3.0, "warmup": 0.1, "seed": seed}
    if pretrain and other is not None:
        torch.manual_seed(seed)
        rival = _rival(other, network, tuning_view)
        tokens = steps * batch * tokens_of_an_image(network, split.train)
        with counted_tokens(outer_encoders(rival)) as spent:
            train(rival, split.train, Settings(tokens=tokens, lr=pretrain_lr, **common), quiet=True)
        figures = {"tokens": spent.tokens / tokens}
    elif pretrain:
        torch.manual_seed(seed)
        light = None if view_changes is None else dict(view_changes)
        method = GMML(network, align=patch, max_block=max_block, alien_p=alien_p, share=share, view_changes=light)
        train(method, split.train, Settings(steps=steps, lr=pretrain_lr, **common), quiet=True)
        figures = _reconstruction(method.eval(), split.validation)
    few = first_of_each(labels_of(split.train), per_class)
    updates = tuned_steps + (steps if longer else 0)
    tuning = Tuning(steps=updates, batch_size=batch, weight_decay=0.05, view="grey", view_changes=dict(tuning_view))
    predictor = finetune(network, split.train.at(few), pretrained=pretrain, tuning=tuning, lr=lr, seed=seed)
    return {
        "finetuned": percent_right(predictor, split.test),
        "validation": percent_right(predictor, split.validation),
        **figures,
    }


def _rival(name: Other, network: Encoder, view: Mapping[str, Any]) -> Method:
    if name == "mae":
        return MAE(network, depth=1)
    if name == "simmim":
        return SimMIM(network)
    changes = {name: value for name, value in view.items() if name != "crop_scale"}
    return SimCLR(network, hidden=256, dimensions=64, view="grey", view_changes=changes)


def _reconstruction(method: GMML, source: Source) -> dict[str, float]:
    losses, shares = [], []
    progress = Progress(0, 1, 0, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for batch in source.in_order(500):
            loss = method.loss(method.views(batch, progress), progress)
            losses.append(float(loss.total))
            shares.append(float(loss.terms["corrupted"]))
    return {"error": float(np.mean(losses)), "corrupted": 100 * float(np.mean(shares))}


OTHERS: dict[Other, float] = {"simmim": 5e-4, "mae": 2e-3, "simclr": 5e-4}
"""Other methods, with the rate of pretraining that tuning chose for each in the claim `vit_suite`."""
DIGITS: Mapping[str, Any] = {
    "data": "digits",
    "images": 1_000,
    "held": 398,
    "side": 16,
    "encoder": "small:vit?width=64&depth=4&heads=4&patch=4&pool=avg",
    "patch": 4,
    "view_changes": {"flip": 0.0},
    "tuning_view": {"crop_scale": [0.5, 1.0], "blur_p": 0.0, "flip": 0.0},
}
"""Digits of 8 pixels enlarged to 16; a digit in a mirror is none."""
CLAIM = Claim(
    name="gmml",
    number=50,
    statement="On a few thousand images, GMML prepares a vision transformer for few labels: fine-tuned, it is at least "
    "3 points better than trained from scratch.",
    run=run,
    arms={
        "gmml": {},
        "scratch": {"pretrain": False},
        "scratch, longer": {"pretrain": False, "longer": True},
        "isolated patches": {"max_block": 0.01},
        "noise only": {"alien_p": 0.0},
        "isolated, equal area": {"max_block": 0.01, "share": 0.875},
        "up to a quarter": {"share": 0.25},
        "up to a half": {"share": 0.5},
        **{name: {"other": name, "pretrain_lr": rate} for name, rate in OTHERS.items()},
        "gmml, digits": {**DIGITS},
        "scratch, digits": {"pretrain": False, **DIGITS},
        "scratch, longer, digits": {"pretrain": False, "longer": True, **DIGITS},
        "isolated, equal area, digits": {"max_block": 0.01, "share": 0.875, **DIGITS},
    },
    scales={
        "laptop": {
            "data": "fashion_mnist",
            "images": 4_000,
            "held": 4_000,
            "per_class": 10,
            "steps": 3_000,
            "tuned_steps": 600,
            "batch": 64,
            "encoder": "small:vit?width=64&depth=4&heads=4&patch=7&pool=avg",
            "patch": 7,
            "max_block": 0.5,
            "pretrain_lr": 2e-3,
            "tuning_view": {"crop_scale": [0.5, 1.0], "blur_p": 0.0},
        },
        "gpu": {
            "data": "fashion_mnist",
            "images": 10_000,
            "held": 10_000,
            "per_class": 10,
            "steps": 30_000,
            "tuned_steps": 2_000,
            "batch": 128,
            "encoder": "small:vit?width=192&depth=12&heads=6&patch=4&pool=avg",
            "patch": 4,
            "max_block": 0.3,
            "pretrain_lr": 1e-3,
            "tuning_view": {"crop_scale": [0.5, 1.0]},
        },
        "tiny": {
            "data": "digits",
            "images": 600,
            "held": 300,
            "per_class": 3,
            "steps": 4,
            "tuned_steps": 4,
            "batch": 32,
            "encoder": "small:vit?width=8&depth=2&heads=2&patch=2&pool=avg",
            "patch": 2,
            "max_block": 0.5,
            "pretrain_lr": 1e-3,
            "tuning_view": {"flip": 0.0},
        },
    },
    metric="finetuned",
    budget="{steps:,} updates of {batch} unlabelled images, then {tuned_steps:,} on {per_class} labels a class; "
    "'scratch, longer' spends all of them on the labels",
    grid={"lr": [1e-3, 3e-3]},
    tunes={
        "scratch, longer": "scratch",
        "isolated patches": "gmml",
        "noise only": "gmml",
        "isolated, equal area": "gmml",
        "up to a quarter": "gmml",
        "up to a half": "gmml",
        "scratch, longer, digits": "scratch, digits",
        "isolated, equal area, digits": "gmml, digits",
    },
    tuning_seeds=(1000,),
    seeds=range(16),
    same_as=("d363dd601df2", "76bc927a5293"),
    few={
        "isolated patches": 5,
        "noise only": 5,
        "isolated, equal area": 5,
        "up to a quarter": 5,
        "up to a half": 5,
        **dict.fromkeys(OTHERS, 5),
        **{f"{arm}, digits": 5 for arm in ("gmml", "scratch", "scratch, longer", "isolated, equal area")},
    },
    statements=(
        Statement(
            "gain",
            "accuracy after fine-tuning on 10 labels a class, GMML minus from scratch",
            lambda f: f["gmml"]["finetuned"] - f["scratch"]["finetuned"],
            margin=3.0,
            role="main",
            unit="points",
        ),
        Statement(
            "not by compute alone",
            "the same against training from scratch for as many updates in total",
            lambda f: f["gmml"]["finetuned"] - f["scratch, longer"]["finetuned"],
            role="guard",
            unit="points",
        ),
        Statement(
            "groups are harder",
            "L1 error left after training, groups of patches (51.5 % of the pixels) minus isolated patches (48.6 %)",
            lambda f: f["gmml"]["error"] - f["isolated patches"]["error"],
        ),
        Statement(
            "groups teach more",
            "accuracy after fine-tuning, groups of patches (51.5 %) minus isolated patches (48.6 %)",
            lambda f: f["gmml"]["finetuned"] - f["isolated patches"]["finetuned"],
            unit="points",
        ),
        Statement(
            "groups are harder, equal area",
            "L1 error left after training, groups of patches (51.5 %) minus isolated ones with a larger share (51.3 %)",
            lambda f: f["gmml"]["error"] - f["isolated, equal area"]["error"],
        ),
        Statement(
            "groups teach more, equal area",
            "accuracy after fine-tuning, groups of patches (51.5 %) minus isolated ones with a larger share (51.3 %)",
            lambda f: f["gmml"]["finetuned"] - f["isolated, equal area"]["finetuned"],
            unit="points",
        ),
        Statement(
            "against a quarter",
            "accuracy after fine-tuning, noise on up to 75 % of the image (with aliens 51.5 % in all) minus up to 25 % "
            "(32 %)",
            lambda f: f["gmml"]["finetuned"] - f["up to a quarter"]["finetuned"],
            unit="points",
        ),
        Statement(
            "against a half",
            "the same minus noise on up to 50 % (44 %)",
            lambda f: f["gmml"]["finetuned"] - f["up to a half"]["finetuned"],
            unit="points",
        ),
        *(
            Statement(
                f"against {said}",
                f"accuracy after fine-tuning, GMML minus {said} with as many tokens through the encoder",
                lambda f, name=name: f["gmml"]["finetuned"] - f[name]["finetuned"],  # type: ignore[misc]
                unit="points",
            )
            for name, said in zip(OTHERS, ("SimMIM", "MAE", "SimCLR"), strict=True)
        ),
        Statement(
            "aliens",
            "accuracy after fine-tuning, noise and blocks of other images (51.5 %) minus noise alone (67.5 %)",
            lambda f: f["gmml"]["finetuned"] - f["noise only"]["finetuned"],
            unit="points",
        ),
        Statement(
            "gain on digits",
            "the gain over training from scratch on handwritten digits",
            lambda f: f["gmml, digits"]["finetuned"] - f["scratch, digits"]["finetuned"],
            margin=3.0,
            unit="points",
        ),
        Statement(
            "not by compute alone, on digits",
            "the same over as many updates in total",
            lambda f: f["gmml, digits"]["finetuned"] - f["scratch, longer, digits"]["finetuned"],
            unit="points",
        ),
        Statement(
            "groups are harder, equal area, on digits",
            "L1 error left after training on digits, groups of patches minus isolated ones with a larger share",
            lambda f: f["gmml, digits"]["error"] - f["isolated, equal area, digits"]["error"],
        ),
        Statement(
            "groups teach more, equal area, on digits",
            "accuracy after fine-tuning on digits, groups of patches minus isolated ones with a larger share",
            lambda f: f["gmml, digits"]["finetuned"] - f["isolated, equal area, digits"]["finetuned"],
            unit="points",
        ),
    ),
    notes=(
        "Patches of 4 pixels and other widths were piloted on seed 1000 before: there, too, GMML was far ahead "
        "after few labelled updates and behind after as many in all. Whether it saves more than labelled updates is "
        "what the guard asks.",
        "Over 8 seeds, on another processor, both the gain and the guard were open by a hair "
        "(results/earlier/gmml_8_seeds.json). So there are 16 now, all trained anew, those 8 among them; nothing "
        "else was changed. A seed gives other figures on another processor, by several points: rounding differs, "
        "and thousands of updates later so do the weights.",
        "The gain over the same labelled updates from scratch is there, about as large as was asked for, and still "
        "open at that margin. The guard is refuted: who spends all updates on the labels alone is a point better "
        "off. So on garments what GMML saves is labelled updates, no more. A refuted guard refutes the claim "
        "whether or not the gain is large enough: a rule that was made plain only with this result.",
        "Shares of the pixels are as measured on validation images. Isolated patches cannot go beyond the share that "
        "is drawn by most of a block, so there is an arm of them with a larger share, 0.875, that corrupts about as "
        "much as groups do. With noise alone it is 67.5 %, since blocks of another image cover less of an image.",
        "The arms of equal area and of smaller shares were added later, with the rate of GMML and in a run of their "
        "own. What is repainted is harder in groups at equal area too, by less than it seemed; whether it teaches "
        "more, and whether the share matters at all, five seeds leave open.",
        "SimMIM with isolated patches, MAE and SimCLR were added once all other figures were known: the same network, "
        "images and batches, as many tokens through the encoder (decoders and heads are not counted, so MAE makes four "
        "times as many updates), the rate of pretraining that suits each in the claim `vit_suite`, which for GMML is "
        "the one used here, and a rate of fine-tuning tuned for each alike. Theirs is a run of its own, later than "
        "GMML's on the same seeds. MAE is two points ahead of GMML.",
        "Digits were added once all figures on garments were known: scans of 8 pixels enlarged to 16, as many updates, "
        "views without a mirror, a rate of fine-tuning tuned for each alike. The gain over as many labelled updates is "
        "twice as large there, and as many updates in all on the labels alone are ahead again. Groups are harder again "
        "at equal area, by more, and whether they teach more stays open.",
        "The rate of training from scratch, 3e-3, is the higher of the two that were tried, on digits too: with a "
        "still higher one, what is gained over it could be less.",
    ),
)
