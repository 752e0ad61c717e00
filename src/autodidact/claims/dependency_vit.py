"""DependencyViT (19): trained on labels alone, its messages point at the object and stay within it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from sklearn.metrics import roc_auc_score
from torch import Tensor

from autodidact.claims.claim import Claim, Figures, Statement
from autodidact.claims.images import fresh_encoder, percent_right
from autodidact.data import Source
from autodidact.encoders.attention import attention_maps, rollout
from autodidact.encoders.dependency_vit import DependencyViT, TokenPruner
from autodidact.encoders.kept import PredictorModel
from autodidact.measures import dependency_tree, foreground
from autodidact.methods.supervised import Supervised
from autodidact.model import Encoder
from autodidact.training import Settings, train
from autodidact.worlds.scenes import digit_scenes

Network = Literal["dependency", "vanilla", "lite", "lite, sent", "chance"]
Shown = Literal["received", "sent"]
MEAN, STD = 0.5, 0.16
"""Of the scenes in [0, 1]."""


class Chance(TokenPruner):
    """Drops tokens that chance names: what a lite network has to beat."""

    generator: torch.Generator

    def worth(self, mask: Float[Tensor, "n t t"], messages: Float[Tensor, "n t"]) -> Float[Tensor, "n t"]:
        return torch.rand(messages.shape, generator=self.generator).to(messages.device)


def run(
    *,
    network: Network = "dependency",
    trained: bool = True,
    shown_by: Shown = "received",
    lr: float,
    seed: int,
    images: int,
    held: int,
    side: int,
    size: tuple[int, int],
    contrast: tuple[float, float],
    roughness: float,
    steps: int,
    batch: int,
    width: int,
    depth: int,
    heads: int,
    patch: int,
    layer_scale: float,
    prune: tuple[int, ...],
) -> dict[str, float]:
    """Train a network on the labels of scenes; what it names, and where what it attends to lies.

    ``test`` and ``validation`` are percent of the scenes with one digit named right. ``auroc`` is the mean over test
    scenes of the area under the curve with which the saliency of a pixel's patch tells digits from surfaces: for a
    DependencyViT, if `shown_by` is "sent", what is left of a patch's messages in the last block; for a plain network
    the attention that a patch receives in the later half of the blocks. ``rollout`` is the same of a
    plain network's rollout, ``iou`` of what lies above the image's mean. ``edges`` is the share of the tree's edges
    from patches of a digit, in scenes with two, that lead into the same digit; ``by feature`` the same of the tree of
    the most similar patches, ``by chance`` of parents drawn at random.
    """
    look = {"side": side, "contrast": tuple(contrast), "roughness": roughness}
    train_set, validation = (
        _scenes(n, 1, tuple(size), "train", 10 * seed + i, **look) for i, n in enumerate((images, held))
    )
    test = _scenes(held, 1, tuple(size), "held", 10 * seed + 2, **look)
    two = _scenes(held, 2, (min(size[0], side // 2), side // 2), "held", 10 * seed + 3, **look)
    encoder = fresh_encoder(_name(network, width, depth, heads, patch, layer_scale, prune), train_set, seed, MEAN, STD)
    if network == "chance":
        _by_chance(encoder, seed)
    torch.manual_seed(seed)
    method = Supervised(encoder, schema=train_set.schema, view="none")
    if trained:
        settings = Settings(
            steps=steps, batch_size=batch, lr=lr, weight_decay=0.05, warmup=0.1, clip_norm=1.0, seed=seed
        )
        train(method, train_set, settings, quiet=True)
    predictor = method.kept().eval().cpu()
    assert isinstance(predictor, PredictorModel)
    encoder = predictor.encoder
    return {
        "test": percent_right(predictor, test),
        "validation": percent_right(predictor, validation),
        **_where(encoder, test, shown_by),
        **_edges(encoder, two),
    }


@cache
def _scenes(
    rows: int, digits: Literal[1, 2], size: tuple[int, int], part: Literal["train", "held"], seed: int, **look: Any
) -> Source:
    return digit_scenes(rows, digits=digits, size=size, part=part, seed=seed, **look)


def _name(
    network: Network, width: int, depth: int, heads: int, patch: int, layer_scale: float, prune: tuple[int, ...]
) -> str:
    if network == "vanilla":
        return (
            f"timm:vit_tiny_patch16_224?embed_dim={width}&depth={depth}&num_heads={heads}&patch_size={patch}"
            f"&class_token=false&global_pool=avg&init_values={layer_scale}"
        )
    name = f"small:dependency_vit?width={width}&depth={depth}&heads={heads}&patch={patch}&layer_scale={layer_scale}"
    if network == "dependency":
        return name
    score = "sent" if network == "lite, sent" else "received"
    return f"{name}&prune={list(prune)}&prune_score={score}"


def _by_chance(encoder: Encoder, seed: int) -> None:
    assert isinstance(encoder, DependencyViT)
    for block, pruner in encoder.pruners.items():
        assert isinstance(pruner, TokenPruner)
        drawn = Chance(pruner.share)
        drawn.generator = torch.Generator().manual_seed(seed)
        encoder.pruners[block] = drawn


@torch.inference_mode()
def _where(encoder: Encoder, source: Source, shown_by: Shown) -> dict[str, float]:
    found: dict[str, list[float]] = {"auroc": [], "rollout": [], "iou": []}
    for batch in source.in_order(250):
        inputs = encoder.prepare(batch.fields)
        mask = batch["truth_masks"].any(dim=1)
        if isinstance(encoder, DependencyViT):
            sent = shown_by == "sent"
            saliency = encoder.dependencies(inputs)[-1].messages if sent else encoder.parse(inputs).saliency
            rolled = None
        else:
            maps = attention_maps(encoder, inputs)
            saliency = torch.stack([m.mean(1) for m in maps[len(maps) // 2 :]]).mean(0).mean(1)
            rolled = rollout(maps).mean(1)
        found["auroc"] += _aurocs(_spread(saliency, encoder), mask)
        found["rollout"] += _aurocs(_spread(saliency if rolled is None else rolled, encoder), mask)
        above = _spread(foreground(saliency).float(), encoder) > 0.5
        shared, either = (above & mask).sum((1, 2)), (above | mask).sum((1, 2))
        found["iou"] += (shared / either.clamp(min=1)).tolist()
    return {name: float(np.mean(values)) for name, values in found.items()}


def _spread(values: Float[Tensor, "n t"], encoder: Encoder) -> Float[Tensor, "n h w"]:
    """Values of patches as those of their pixels."""
    assert encoder.grid is not None
    side = encoder.spec["image_size"][0] // encoder.grid[0]
    return values.unflatten(1, encoder.grid).repeat_interleave(side, 1).repeat_interleave(side, 2)


def _aurocs(saliency: Float[Tensor, "n h w"], mask: Bool[Tensor, "n h w"]) -> list[float]:
    return [float(roc_auc_score(m.flatten(), s.flatten())) for s, m in zip(saliency, mask, strict=True)]


@torch.inference_mode()
def _edges(encoder: Encoder, source: Source) -> dict[str, float]:
    """Of edges that start at a patch of a digit, the share that ends in the same digit."""
    found: dict[str, list[Tensor]] = {"edges": [], "by feature": [], "by chance": []}
    assert encoder.grid is not None
    side = encoder.spec["image_size"][0] // encoder.grid[0]
    for batch in source.in_order(250):
        inputs = encoder.prepare(batch.fields)
        cover = torch.nn.functional.avg_pool2d(batch["truth_masks"].float(), side).flatten(2)
        # A patch is a digit's where a quarter of it is ink: of most digits that leaves 3 to 8 patches.
        digit = torch.where(cover.amax(1) > 0.25, cover.argmax(1), -1)
        same = (digit[:, :, None] == digit[:, None]) & (digit >= 0)[:, :, None]
        off = 1 - torch.eye(digit.shape[1])
        chance = (same * off).sum(2) / off.sum(1)
        tokens = encoder(inputs).tokens
        assert tokens is not None
        unit = torch.nn.functional.normalize(tokens.float(), dim=2)
        trees = {"by feature": dependency_tree(unit @ unit.transpose(1, 2))}
        if isinstance(encoder, DependencyViT):
            trees["edges"] = encoder.parse(inputs).parent
        else:
            maps = attention_maps(encoder, inputs)
            # Who gathers from a patch is to a patch of a plain network what it sends to: its parent.
            trees["edges"] = dependency_tree(torch.stack([m.mean(1) for m in maps]).mean(0).transpose(1, 2))
        for name, parent in trees.items():
            child = (digit >= 0) & (parent >= 0)
            found[name].append(same.gather(2, parent.clamp(min=0)[..., None])[..., 0][child].float())
        found["by chance"].append(chance[digit >= 0])
    return {name: 100 * float(torch.cat(values).mean()) for name, values in found.items()}


def _gain(better: str, than: str, figure: str) -> Callable[[Figures], float]:
    return lambda f: f[better][figure] - f[than][figure]


CLAIM = Claim(
    name="dependency_vit",
    number=19,
    statement="Trained on the labels of scenes alone, the mass that a DependencyViT's patches receive tells objects "
    "from background, by at least 0.05 of AUROC better than the attention of a plain vision transformer.",
    run=run,
    arms={
        "dependency": {},
        "vanilla": {"network": "vanilla"},
        "lite": {"network": "lite"},
        "lite, sent": {"network": "lite, sent"},
        "chance": {"network": "chance"},
        "untrained": {"trained": False},
        "by what is sent": {"shown_by": "sent"},
        "lite, scaled alike": {"network": "lite"},
        "chance, scaled alike": {"network": "chance"},
    },
    scales={
        "laptop": {
            "images": 6_000,
            "held": 1_000,
            "side": 24,
            "size": [18, 22],
            "contrast": [0.4, 0.48],
            "roughness": 0.05,
            "steps": 2_000,
            "batch": 64,
            "width": 32,
            "depth": 4,
            "heads": 4,
            "patch": 4,
            "lr": 2e-3,
            "prune": [1, 2],
        },
        "gpu": {
            "images": 50_000,
            "held": 5_000,
            "side": 64,
            "size": [20, 32],
            "contrast": [0.15, 0.4],
            "roughness": 0.1,
            "steps": 30_000,
            "batch": 256,
            "width": 192,
            "depth": 12,
            "heads": 12,
            "patch": 4,
            "lr": 2e-3,
            "prune": [4, 8],
        },
        "tiny": {
            "images": 64,
            "held": 40,
            "side": 16,
            "size": [8, 8],
            "contrast": [0.25, 0.45],
            "roughness": 0.1,
            "steps": 3,
            "batch": 32,
            "width": 8,
            "depth": 3,
            "heads": 2,
            "patch": 4,
            "lr": 2e-3,
            "prune": [1, 2],
        },
    },
    metric="auroc",
    budget="{steps:,} updates of {batch} labelled scenes",
    grid={"layer_scale": [0.1, 1.0]},
    tunes={
        "untrained": "dependency",
        "chance": "lite",
        "lite, sent": "lite",
        "by what is sent": "dependency",
        "lite, scaled alike": "dependency",
        "chance, scaled alike": "dependency",
    },
    tuning_seeds=(1000,),
    same_as=("c7de3e52d463", "ffa2c4865bd2"),
    seeds=range(13),
    few={
        "untrained": 5,
        "lite": 5,
        "lite, sent": 3,
        "chance": 5,
        "by what is sent": 5,
        "lite, scaled alike": 5,
        "chance, scaled alike": 5,
    },
    statements=(
        Statement(
            "saliency",
            "AUROC of saliency against the masks of the digits, DependencyViT minus plain vision transformer",
            _gain("dependency", "vanilla", "auroc"),
            margin=0.05,
            role="main",
        ),
        Statement(
            "it learns the labels",
            "accuracy on test scenes, of which chance names 10 percent",
            lambda f: f["dependency"]["test"],
            margin=50.0,
            role="premise",
            unit="percent",
        ),
        Statement(
            "the plain network learns them too",
            "the same of the plain vision transformer, without which its attention says nothing",
            lambda f: f["vanilla"]["test"],
            margin=30.0,
            role="premise",
            unit="percent",
        ),
        Statement(
            "saliency is good",
            "AUROC of DependencyViT's saliency",
            lambda f: f["dependency"]["auroc"],
            margin=0.7,
            role="guard",
        ),
        Statement(
            "not by its architecture alone",
            "AUROC, trained minus untrained DependencyViT",
            _gain("dependency", "untrained", "auroc"),
            margin=0.05,
            role="guard",
        ),
        Statement(
            "not by a worse network",
            "accuracy on test scenes, DependencyViT minus plain vision transformer",
            _gain("dependency", "vanilla", "test"),
            margin=-3.0,
            unit="points",
        ),
        Statement(
            "overlap",
            "IoU of what lies above the image's mean with the digits, DependencyViT minus plain vision transformer",
            _gain("dependency", "vanilla", "iou"),
        ),
        Statement(
            "against rollout",
            "AUROC, DependencyViT minus the rollout of a plain vision transformer",
            lambda f: f["dependency"]["auroc"] - f["vanilla"]["rollout"],
            margin=0.05,
        ),
        Statement(
            "edges stay in a digit",
            "edges from a digit that end in the same digit, of scenes with two, minus what chance gives",
            lambda f: f["dependency"]["edges"] - f["dependency"]["by chance"],
            margin=10.0,
            unit="points",
        ),
        Statement(
            "edges against features",
            "the same minus those of the tree of the most similar patches",
            lambda f: f["dependency"]["edges"] - f["dependency"]["by feature"],
            unit="points",
        ),
        Statement(
            "Lite costs little",
            "accuracy on test scenes, with the 32 percent that received least dropped minus with none",
            _gain("lite", "dependency", "test"),
            margin=-1.0,
            unit="points",
        ),
        Statement(
            "chance costs more",
            "accuracy on test scenes, those that received least dropped minus as many dropped by chance",
            _gain("lite", "chance", "test"),
            margin=1.0,
            unit="points",
        ),
        Statement(
            "Lite costs little, scaled alike",
            "accuracy on test scenes, Lite that starts with DependencyViT's own scale of the blocks minus that one",
            _gain("lite, scaled alike", "dependency", "test"),
            margin=-1.0,
            unit="points",
        ),
        Statement(
            "who has sent",
            "accuracy on test scenes, those that received least dropped minus those that have least left to send",
            _gain("lite", "lite, sent", "test"),
            unit="points",
        ),
        Statement(
            "chance costs more, scaled alike",
            "accuracy on test scenes, Lite from DependencyViT's scale of the blocks minus as many dropped by chance",
            _gain("lite, scaled alike", "chance, scaled alike", "test"),
            margin=1.0,
            unit="points",
        ),
        Statement(
            "what is sent",
            "AUROC of what is left of a patch's messages in the last block, minus that of the mass that it receives",
            _gain("by what is sent", "dependency", "auroc"),
        ),
        Statement(
            "what is sent, against a plain network",
            "AUROC of what is left of a patch's messages, minus a plain vision transformer's attention",
            _gain("by what is sent", "vanilla", "auroc"),
            margin=0.05,
        ),
    ),
    notes=(
        "The truth of the masks is never used in training. What a network sees of them without having learned anything "
        "is what the untrained arm shows: in scenes whose digits are all brighter than the surfaces that is nearly all "
        "of it, so here they are brighter or darker by a fair coin.",
        "Large digits on smooth surfaces: on 32 pixels with rougher ones neither network had learned anything after a "
        "thousand updates of a few thousand scenes, which is what a laptop has time for.",
        "What the blocks are scaled by at the start is tuned for every network. On the tuning seed 0.1 was better for "
        "both, for the plain one by far.",
        "For Lite, its controls among them, 1.0 was chosen, on one seed and by little; so what Lite loses here is not "
        "the pruning's alone.",
        "So Lite and its control were trained again from the scale of the network that they prune, on the first five "
        "seeds: most of the loss is gone, and to drop by chance costs more. These two arms, the one that shows what is "
        "left to send, and the statements on overlap and on what was sent were added with the verdict known.",
        "What is left to send in the last block tells digits the other way round: it is least where they are.",
        "Scenes with two digits have smaller ones, of half the side, than those that the networks were trained on.",
        "Five seeds left it open, -0.08 [-0.23, 0.07] (results/earlier/dependency_vit_5_seeds.json); so the main "
        "question has thirteen now, those five among them.",
        "After 2,000 updates the networks are not at their ends. Trained three times as long on 20,000 scenes (the "
        "tuning seed and seed 0) they are: they name 84 to 86 and 91 percent of the test scenes, and the plain "
        "network's attention tells the digits with an AUROC of 0.83 and 0.87, DependencyViT's messages with 0.44 to "
        "0.74, however far the message controllers are open at the start. What a patch still sends in its last "
        "block points away from the digits.",
        "Without labels, as the paper trains its network too, there was nothing to build on (tuning seed, AUROC of "
        "DependencyViT and of the plain network): 0.37 and 0.17 after 4,000 updates of SimMIM, 0.42 and 0.54 after "
        "2,500 of DINO; a linear probe named 22 to 29 percent of the digits.",
    ),
)
