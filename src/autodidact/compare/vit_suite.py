"""The families of self-supervision for vision transformers, to be compared on one network under one budget."""

from __future__ import annotations

from autodidact.catalog import Card

CARD = Card(
    name="vit_suite",
    target="ViTSuite",
    kind="suite",
    number=26,
    title="Self-supervision for vision transformers, compared",
    paper="Khan, Sohail, Fayyaz, Yang: A Survey of the Self Supervised Learning Mechanisms for Vision Transformers "
    "(2408.17059, 2024)",
    summary="Nineteen methods of seven families on one vision transformer, one budget and one protocol, in one table.",
    needs=(("image", "image"),),
    claim="vit_suite",
    encoder="small:vit?registers=1",
    members=(
        "rotation",
        "jigsaw",
        "patch_position",
        "mae",
        "simmim",
        "gmml",
        "beit",
        "maskfeat",
        "simclr",
        "moco_v3",
        "swav",
        "dino",
        "byol",
        "data2vec",
        "i_jepa",
        "barlow_twins",
        "vicreg",
        "ibot",
        "sit",
    ),
)

FAMILIES: dict[str, tuple[str, ...]] = {
    "geometric": ("rotation", "jigsaw", "patch_position"),
    "masked": ("mae", "simmim", "gmml", "beit", "maskfeat"),
    "contrastive": ("simclr", "moco_v3"),
    "clustering": ("swav",),
    "self-distillation": ("dino", "byol", "data2vec", "i_jepa"),
    "decorrelation": ("barlow_twins", "vicreg"),
    "hybrid": ("ibot", "sit"),
}
"""Families A to G of the survey's taxonomy -> the methods that stand for them."""


class ViTSuite:
    """The survey's taxonomy as a comparison: ``autodidact compare --methods vit_suite`` stands for its methods.

    All of them train the same vision transformer, ``small:vit?registers=1`` unless another is named, under one budget
    and are measured alike; ``--tokens N`` is the fair one, since masked methods encode fewer tokens an image and small
    views cost less than large ones. Which family suits some data is not known beforehand: masked modelling is said to
    need fine-tuning, contrast and distillation to give features that can be used as they are. A first look at four
    families takes minutes: ``--methods rotation,mae,simclr,dino --steps 500``.

    The families, by what makes the supervision: geometric (rotation, jigsaw, patch_position), masked (mae, simmim,
    gmml, beit, maskfeat), contrastive (simclr, moco_v3), clustering (swav), self-distillation (dino, byol, data2vec,
    i_jepa), decorrelation (barlow_twins, vicreg) and hybrid (ibot, sit).

    The claim has garments and a longer training; the comparison at the end of the suite's page has digits, and so few
    updates that some methods have hardly begun and none reaches the raw pixels.
    """
