"""BSS (36): with one style a batch, SimCLR learns features that hold in a domain it has never seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32

from autodidact.claims.claim import Claim, Statement
from autodidact.claims.images import embeddings, first_of_each, labels_of, split_images
from autodidact.data import Batch, Source, channel_statistics
from autodidact.encoders import build
from autodidact.evaluation.frozen import Frozen
from autodidact.evaluation.knn import knn
from autodidact.evaluation.linear import fit_probe
from autodidact.measures import nearest
from autodidact.methods.image.bss import BSS
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.method import Method, Progress, Views
from autodidact.training import Settings, train
from autodidact.worlds.domains import domains

SEEN, UNSEEN, LIMIT = ("noon", "dusk", "lamp"), ("frost",), ("sketch",)
NEIGHBOURS = 10


class _Oracle(SimCLR):
    """Contrasts images of one true domain only."""

    def views(self, batch: Batch, progress: Progress) -> Views:
        views = super().views(batch, progress)
        return Views(views.named, views.ids, slot=dict.fromkeys(views.named, batch["truth_domain"]))


def run(
    *,
    style: Literal["own", "image", "batch"],
    negatives: Literal["all", "slot", "domain"],
    ratio: float,
    colour: float,
    seed: int,
    data: str,
    images: int,
    held: int,
    per_class: int,
    spurious: float,
    strength: float,
    batch: int,
    steps: int,
    lr: float,
    temperature: float,
    encoder: str,
    view: str,
    view_changes: Mapping[str, Any],
) -> dict[str, float]:
    """Pretrain on pictures of three domains; accuracies of one probe there, in a fourth domain, and on sketches.

    `ratio` is the largest share of the spectrum that changes hands, where any does; `colour` is the probability of
    colour jitter, four times that of greyscale. ``validation`` is kNN accuracy in the domains seen, since of others
    nobody has labels.
    """
    split = split_images(data, images, held, seed)

    def shown(source: Source, names: tuple[str, ...], draw: int, tie: float = 0.0) -> Source:
        return domains(source, names, spurious=tie, strength=strength, seed=10 * seed + draw)

    source = shown(split.train, SEEN, 0, spurious)
    torch.manual_seed(seed)
    network = build(encoder, schema=source.schema, statistics=channel_statistics(source))
    changes = {**view_changes, "jitter_p": colour, "grey_p": colour / 4}
    options: dict[str, Any] = {"temperature": temperature, "view": view, "view_changes": changes}
    method: Method = (_Oracle if negatives == "domain" else SimCLR)(network, **options)
    if style != "own":
        assert negatives != "domain"
        method = BSS(network, method=method, style=style, negatives=negatives, ratio=(min(0.01, ratio), ratio))
    settings = Settings(steps=steps, batch_size=batch, lr=lr, seed=seed)
    model = train(method, source, settings, quiet=True)

    rows, answers, place = (embeddings(model, source), labels_of(source), _domain_of(source))
    few = first_of_each(answers, per_class)
    known = Frozen(rows[few], answers[few], rows, rows[:1], int(answers.max()) + 1)
    probe = fit_probe(known)
    figures = {}
    tests = {
        "seen": shown(split.test, SEEN, 1),
        "unseen": shown(split.test, UNSEEN, 2),
        "sketch": shown(split.test, LIMIT, 3),
    }
    for name, test in tests.items():
        found = embeddings(model, test)
        figures[f"linear {name}"] = _percent(probe.predict(found) == labels_of(test))
        figures[f"knn {name}"] = _percent(knn(Frozen(rows, answers, rows[:0], found, known.classes)) == labels_of(test))
        if name == "seen":
            where = _domain_of(test)
            teller = fit_probe(Frozen(rows[:2000], place[:2000], rows, rows[:1], len(SEEN)))
            figures["domain told"] = _percent(teller.predict(found) == where)
            figures["domain purity"] = purity(found, where)
    validation = shown(split.validation, SEEN, 4)
    frozen = Frozen(rows, answers, rows[:0], embeddings(model, validation), known.classes)
    figures["validation"] = _percent(knn(frozen) == labels_of(validation))
    return figures


def purity(rows: Float32[np.ndarray, "n d"], groups: np.ndarray) -> float:
    """Percent of the ten nearest other rows by cosine that are of the own group."""
    _, found = nearest(torch.from_numpy(rows), torch.from_numpy(rows), NEIGHBOURS + 1)
    return _percent(groups[found[:, 1:].numpy()] == groups[:, None])


def _domain_of(source: Source) -> np.ndarray:
    return np.asarray(source.column("truth_domain"), dtype=np.int64)


def _percent(right: np.ndarray) -> float:
    return 100 * float(np.mean(right))


CLAIM = Claim(
    name="bss",
    number=36,
    statement="With one style a batch and negatives of that style, SimCLR's features hold in a domain never seen.",
    run=run,
    arms={
        "bss": {"style": "batch", "negatives": "slot"},
        "simclr": {"style": "own", "negatives": "all"},
        "a style an image": {"style": "image", "negatives": "all"},
        "bss, all negatives": {"style": "batch", "negatives": "all"},
        "true domains": {"style": "own", "negatives": "domain"},
    },
    scales={
        "laptop": {
            "data": "fashion_mnist",
            "images": 6_000,
            "held": 3_000,
            "per_class": 100,
            "spurious": 0.6,
            "strength": 1.0,
            "batch": 128,
            "steps": 1_000,
            "temperature": 0.2,
            "encoder": "small:convnet?width=16",
            "view": "simclr",
            "view_changes": {"blur_p": 0.0},
        },
        "gpu": {
            "data": "fashion_mnist",
            "images": 50_000,
            "held": 10_000,
            "per_class": 100,
            "spurious": 0.6,
            "strength": 1.0,
            "batch": 512,
            "steps": 20_000,
            "temperature": 0.2,
            "encoder": "timm:resnet18",
            "view": "simclr",
            "view_changes": {},
        },
        "tiny": {
            "data": "digits",
            "images": 600,
            "held": 200,
            "per_class": 20,
            "spurious": 0.6,
            "strength": 1.0,
            "batch": 32,
            "steps": 4,
            "temperature": 0.2,
            "encoder": "small:convnet?width=4",
            "view": "simclr",
            "view_changes": {"blur_p": 0.0},
        },
    },
    metric="linear unseen",
    budget="{steps:,} updates of {batch} images in 2 views by every arm",
    grid={"lr": [1e-3, 3e-3], "ratio": [0.02, 0.1], "colour": [0.0, 0.8]},
    tunes={"bss, all negatives": "bss", "true domains": "simclr"},
    tuning_seeds=(1000,),
    seeds=range(16),
    few={"true domains": 5},
    statements=(
        Statement(
            "gain",
            "linear probe in the unseen domain, BSS minus SimCLR",
            lambda f: f["bss"]["linear unseen"] - f["simclr"]["linear unseen"],
            margin=3.0,
            role="main",
            unit="points",
        ),
        Statement(
            "over a style an image",
            "the same minus other styles image by image",
            lambda f: f["bss"]["linear unseen"] - f["a style an image"]["linear unseen"],
            unit="points",
        ),
        Statement(
            "over all negatives",
            "the same minus one style a batch with negatives of all styles",
            lambda f: f["bss"]["linear unseen"] - f["bss, all negatives"]["linear unseen"],
            unit="points",
        ),
        Statement(
            "domains forgotten",
            "how well a linear probe tells the domain, BSS minus SimCLR",
            lambda f: f["bss"]["domain told"] - f["simclr"]["domain told"],
            direction="below",
            unit="points",
        ),
        Statement(
            "neighbours of other domains",
            "share of the ten nearest that are of the own domain, BSS minus SimCLR",
            lambda f: f["bss"]["domain purity"] - f["simclr"]["domain purity"],
            direction="below",
            unit="points",
        ),
        Statement(
            "not at the price of the seen domains",
            "linear probe in the domains seen, BSS minus SimCLR",
            lambda f: f["bss"]["linear seen"] - f["simclr"]["linear seen"],
            margin=-1.0,
            role="guard",
            unit="points",
        ),
        Statement(
            "beyond low frequencies",
            "linear probe on sketches, whose style is no matter of low frequencies, BSS minus SimCLR",
            lambda f: f["bss"]["linear sketch"] - f["simclr"]["linear sketch"],
            unit="points",
        ),
        Statement(
            "beyond low frequencies, over a style an image",
            "the same, BSS minus other styles image by image",
            lambda f: f["bss"]["linear sketch"] - f["a style an image"]["linear sketch"],
            unit="points",
        ),
        Statement(
            "over the true domains",
            "linear probe in the unseen domain, BSS minus SimCLR with negatives of the true domain only",
            lambda f: f["bss"]["linear unseen"] - f["true domains"]["linear unseen"],
            unit="points",
        ),
    ),
    notes=(
        "Five seeds had left the main question open, +8.7 [2.2, 15.2] (results/earlier/bss_5_seeds.json), because "
        "plain SimCLR differs much from seed to seed in the unseen domain; eleven more were added, for the arms that "
        "the first two statements ask for, and later for the third one's.",
        "What wins is that styles change hands. That all images of a batch share one, and that negatives come from it, "
        "adds nothing that could be shown: the differences to other styles image by image, and to negatives of all "
        "styles, are open.",
        "On sketches, styles image by image are better than one for the batch. That, and the arm with the true "
        "domains, were put beside the others once all figures were known.",
        "Tuning, on the domains seen, gave colour jitter to plain SimCLR, which is lost without, and took it from all "
        "arms that exchange styles. Pilots on the tuning seed had shown no gain with jitter for both, so whether there "
        "is any became part of the grid, for every arm.",
    ),
)
