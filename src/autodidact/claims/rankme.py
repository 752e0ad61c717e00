"""RankMe (32): among runs of one method, that with the highest effective rank is nearly the best; no labels needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from autodidact.claims.claim import Claim, Figures, Statement
from autodidact.claims.images import PER_CLASS, Split, accuracies, corrupted, fresh_encoder, split_images
from autodidact.data import Source
from autodidact.data.arrays import array_source
from autodidact.data.bundled import digits
from autodidact.measures import Spectrum, rank_correlation
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.image.vicreg import VICReg
from autodidact.methods.method import Loss, Progress, Views
from autodidact.methods.two_views import TwoViews
from autodidact.training import Settings, train

GRIDS: dict[str, tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    "simclr": ("temperature", (0.05, 0.1, 0.2, 0.5, 1.0, 2.0), (3e-4, 1e-3, 3e-3)),
    "vicreg": ("covariance", (0.0, 0.01, 0.1, 1.0, 4.0), (1e-4, 3e-4, 1e-3, 3e-3)),
}
"""Method -> the option that its grid varies, the values, and the learning rates."""
SETTLED = (1e-3, 3e-3, 1e-2)
"""Learning rates that a pilot took for high enough to train a network to its end; the last is not in the grids."""
MIDDLE = {"method": "simclr", "setting": 0.2, "lr": 1e-3}
"""The run that the limits stand beside."""


class _Kept(TwoViews):
    """Keeps the loss of every update."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.losses: list[float] = []

    def loss(self, views: Views, progress: Progress) -> Loss:
        loss = super().loss(views, progress)
        self.losses.append(float(loss.total.detach()))
        return loss


class _SimCLR(_Kept, SimCLR):
    pass


class _VICReg(_Kept, VICReg):
    pass


def run(
    *,
    method: Literal["simclr", "vicreg"],
    setting: float,
    lr: float,
    seed: int,
    data: str,
    images: int,
    held: int,
    batch: int,
    seen: int,
    dimensions: int,
    encoder: str,
    view: str,
    view_changes: dict[str, Any],
    untrained: bool = False,
    noise: bool = False,
) -> dict[str, float]:
    """One run of a grid: `setting` is SimCLR's temperature or the weight of VICReg's covariance.

    ``rank`` is RankMe of the projections of the training images, as in the paper; ``rank before`` that of the
    embeddings before the projector; ``loss`` the mean over the last tenth of the updates. ``far`` says the same of
    digits, which training has not seen. With `noise` all is measured on images with noise of a standard deviation of
    0.2, after the same training.
    """
    split, far = split_images(data, images, held, seed), _digits_like(data, seed)
    network = fresh_encoder(encoder, split.train, seed)
    torch.manual_seed(seed)
    options = {GRIDS[method][0]: setting, "dimensions": dimensions, "view": view, "view_changes": view_changes}
    made: _Kept = (_SimCLR if method == "simclr" else _VICReg)(network, **options)
    if not untrained:
        train(made, split.train, Settings(steps=seen // batch, batch_size=batch, lr=lr, seed=seed), quiet=True)
    if noise:
        split, far = (
            Split(*(corrupted(part, "noise", seed, 3) for part in (each.train, each.validation, each.test)))
            for each in (split, far)
        )
    tail = made.losses[-max(1, len(made.losses) // 10) :]
    model = made.eval().kept().eval()
    here, there = (accuracies(model, each, per_class=PER_CLASS) for each in (split, far))
    return {
        **here,
        **_ranks(made, split.train),
        "loss": float(np.mean(tail)) if tail else 0.0,
        **{f"far {name}": figure for name, figure in {**there, **_ranks(made, far.train)}.items()},
    }


def _digits_like(data: str, seed: int) -> Split:
    """Digits as large as the images: 1,000 to train a probe on, two halves of the rest."""
    source = digits()
    if data != "digits":
        small = torch.as_tensor(source.read(np.arange(len(source)))["image"])
        large = F.interpolate(small.float(), size=(28, 28), mode="bilinear").round().byte()
        source = array_source(large[:, 0].numpy(), "digits", labels=np.asarray(source.column("label")))
    parts = np.split(np.random.default_rng(seed).permutation(len(source)), [1_000, 1_398])
    return Split(*(source.at(np.sort(part)) for part in parts))


def _ranks(made: _Kept, source: Source) -> dict[str, float]:
    """RankMe after and before the projector, and the slope of the spectrum before it (alpha-ReQ)."""
    before, after = Spectrum(), Spectrum()
    with torch.inference_mode():
        for batch in source.in_order(500):
            rows = made.encoder(made.encoder.prepare(batch.fields)).pooled
            before.update(rows)
            after.update(made.projector(rows))
    return {
        "rank": after.rankme(),
        "rank, centred": after.rankme(center=True),
        "rank before": before.rankme(),
        "alpha": before.alpha_req(),
    }


def _cells(figures: Figures, family: str, rates: Sequence[float] = ()) -> list[dict[str, float]]:
    _, settings, own = GRIDS[family]
    return [dict(figures[_arm(family, setting, rate)]) for setting in settings for rate in rates or own]


def _pick(cells: list[dict[str, float]], by: str) -> dict[str, float]:
    """The run that is chosen: of highest rank, lowest loss, or with a spectrum whose slope is nearest to 1."""
    scores = [
        -cell["loss"] if by == "loss" else -abs(cell["alpha"] - 1) if by == "alpha" else cell[by] for cell in cells
    ]
    return cells[int(np.argmax(scores))]


def regret(figures: Figures, family: str, by: str, what: str = "linear", rates: Sequence[float] = ()) -> float:
    """Points that the run chosen by highest rank, lowest loss, or at random stays below the best run of its grid."""
    cells = _cells(figures, family, rates)
    accuracy = [cell[what] for cell in cells]
    return max(accuracy) - (float(np.mean(accuracy)) if by == "chance" else _pick(cells, by)[what])


def _of_best_rate(figures: Figures, family: str) -> list[dict[str, float]]:
    """For each setting the run whose learning rate has the lowest loss: losses of one setting can be compared."""
    _, settings, rates = GRIDS[family]
    return [
        min((dict(figures[_arm(family, setting, rate)]) for rate in rates), key=lambda cell: cell["loss"])
        for setting in settings
    ]


def _after_loss(figures: Figures, family: str) -> float:
    """Regret where the loss chooses the learning rate of each setting, and RankMe the setting."""
    best = max(cell["linear"] for cell in _cells(figures, family))
    return best - _pick(_of_best_rate(figures, family), "rank")["linear"]


def _correlation(cells: list[dict[str, float]], what: str = "linear", rank: str = "rank") -> float:
    return rank_correlation([c[rank] for c in cells], [c[what] for c in cells])


def _gained(
    figures: Figures, family: str, by: str = "rank", what: str = "linear", rates: Sequence[float] = ()
) -> float:
    """A third of the regret of a random choice minus the regret of RankMe's: positive where RankMe is good enough."""
    return regret(figures, family, "chance", what, rates) / 3 - regret(figures, family, by, what, rates)


def _arm(family: str, setting: float, rate: float) -> str:
    return f"{family}, {GRIDS[family][0]}={setting:g}, lr={rate:g}"


def _per_family(name: str, text: str, value: Callable[..., float], **how: Any) -> list[Statement]:
    return [
        Statement(f"{name}, {family}", text.format(family=family), partial(value, family=family), **how)
        for family in GRIDS
    ]


CLAIM = Claim(
    name="rankme",
    number=32,
    statement="Among runs of one method, the one with the highest RankMe is nearly as good as the best one.",
    run=run,
    arms={
        **{
            _arm(family, setting, rate): {"method": family, "setting": setting, "lr": rate}
            for family, (_, settings, rates) in GRIDS.items()
            for setting in settings
            for rate in sorted({*rates, *SETTLED})
        },
        "untrained": {**MIDDLE, "untrained": True},
        "noise": {**MIDDLE, "noise": True},
    },
    scales={
        "laptop": {
            "data": "fashion_mnist",
            "images": 6_000,
            "held": 4_000,
            "batch": 64,
            "seen": 64_000,
            "dimensions": 128,
            "encoder": "small:convnet?width=16",
            "view": "grey",
            "view_changes": {"blur_p": 0.0},
        },
        "gpu": {
            "data": "fashion_mnist",
            "images": 50_000,
            "held": 10_000,
            "batch": 256,
            "seen": 1_280_000,
            "dimensions": 512,
            "encoder": "timm:resnet18",
            "view": "grey",
            "view_changes": {},
        },
        "tiny": {
            "data": "digits",
            "images": 600,
            "held": 300,
            "batch": 64,
            "seen": 256,
            "dimensions": 16,
            "encoder": "small:convnet?width=4",
            "view": "tiny",
            "view_changes": {},
        },
    },
    metric="linear",
    budget="{seen:,} images seen by every run of the grids, in updates of {batch}",
    seeds=range(10, 15),
    statements=(
        Statement(
            "selection",
            "a third of the regret of a random run minus the regret of the run with the highest RankMe, mean of both "
            "methods (regret: points of linear accuracy below the best run)",
            lambda f: float(np.mean([_gained(f, family) for family in GRIDS])),
            role="main",
            unit="points",
        ),
        *_per_family("selection", "the same within {family}", _gained, unit="points"),
        *(
            statement
            for by, said in {
                "rank": "the run with the highest RankMe",
                "loss": "the run with the lowest loss",
                "chance": "a random run",
                "rank, centred": "the run with the highest RankMe after the mean is taken off",
                "rank before": "the run with the highest RankMe before the projector",
                "alpha": "the run with a spectrum before the projector whose slope is nearest to 1 (alpha-ReQ)",
            }.items()
            for statement in _per_family(
                f"regret of {by}",
                f"points of linear accuracy by which {said} stays below the best run of {{family}}",
                partial(regret, by=by),
                margin=1.0,
                direction="below",
                unit="points",
            )
        ),
        *_per_family(
            "against loss",
            "regret of the run with the lowest loss minus that of the highest RankMe, {family}",
            lambda f, family: regret(f, family, "loss") - regret(f, family, "rank"),
            unit="points",
        ),
        *_per_family(
            "regret of loss, then rank",
            "points of linear accuracy below the best run of {family} where the loss chooses the learning rate of each "
            "setting, and RankMe the setting",
            _after_loss,
            margin=1.0,
            direction="below",
            unit="points",
        ),
        *_per_family(
            "selection after loss",
            "a third of the regret of a random run minus the regret of that choice, {family}",
            lambda f, family: regret(f, family, "chance") / 3 - _after_loss(f, family),
            unit="points",
        ),
        *_per_family(
            "correlation",
            "Spearman's correlation of RankMe and linear accuracy over the runs of {family}",
            lambda f, family: _correlation(_cells(f, family)),
            margin=0.5,
        ),
        *_per_family(
            "correlation, kNN",
            "the same with kNN accuracy, {family}",
            lambda f, family: _correlation(_cells(f, family), "knn"),
            margin=0.5,
        ),
        *_per_family(
            "correlation at one learning rate",
            "Spearman's correlation over the runs of {family} with the same learning rate, mean of the rates",
            lambda f, family: float(
                np.mean(
                    [
                        _correlation([dict(f[_arm(family, setting, rate)]) for setting in GRIDS[family][1]])
                        for rate in GRIDS[family][2]
                    ]
                )
            ),
            margin=0.5,
        ),
        *_per_family(
            "selection, settled",
            "a third of the regret of a random run minus that of the highest RankMe among the runs of {family} with "
            "learning rates of 0.001, 0.003 and 0.01",
            lambda f, family: _gained(f, family, rates=SETTLED),
            unit="points",
        ),
        *(
            statement
            for by, said in {
                "rank": "the highest RankMe",
                "loss": "the lowest loss",
                "chance": "chance",
            }.items()
            for statement in _per_family(
                f"regret of {by}, settled",
                f"points of linear accuracy below the best of those runs by {said}, {{family}}",
                partial(regret, by=by, rates=SETTLED),
                margin=1.0,
                direction="below",
                unit="points",
            )
        ),
        *_per_family(
            "correlation, settled",
            "Spearman's correlation of RankMe and linear accuracy over those runs, {family}",
            lambda f, family: _correlation(_cells(f, family, SETTLED)),
            margin=0.5,
        ),
        *_per_family(
            "selection, kNN",
            "a third of the regret of a random run minus that of the highest RankMe by kNN accuracy, {family}",
            lambda f, family: _gained(f, family, what="knn"),
            unit="points",
        ),
        *_per_family(
            "selection, digits",
            "the same by linear accuracy on digits, which no run has seen, {family}",
            lambda f, family: _gained(f, family, what="far linear"),
            unit="points",
        ),
        *_per_family(
            "selection by digits",
            "the same where RankMe is measured on digits too, {family}",
            lambda f, family: _gained(f, family, "far rank", "far linear"),
            unit="points",
        ),
        *_per_family(
            "correlation, digits",
            "Spearman's correlation of RankMe and linear accuracy on digits over the runs of {family}",
            lambda f, family: _correlation(_cells(f, family), "far linear"),
            margin=0.5,
        ),
        Statement(
            "room",
            "the choice matters: regret of a random run, the smaller of the two methods",
            lambda f: min(regret(f, family, "chance") for family in GRIDS),
            margin=1.0,
            role="premise",
            unit="points",
        ),
        Statement(
            "limit",
            "RankMe of a network that was never trained over that of a trained one: above 1 it would be preferred, "
            "which is why only trained runs may be compared",
            lambda f: f["untrained"]["rank"] / f[_arm(*MIDDLE.values())]["rank"],  # type: ignore[arg-type]
            margin=1.0,
        ),
        Statement(
            "limit, centred",
            "the same after the mean is taken off",
            lambda f: f["untrained"]["rank, centred"] / f[_arm(*MIDDLE.values())]["rank, centred"],  # type: ignore[arg-type]
            margin=1.0,
        ),
        Statement(
            "limit, noise",
            "RankMe of a trained network on images with noise over that on the images themselves",
            lambda f: f["noise"]["rank"] / f[_arm(*MIDDLE.values())]["rank"],  # type: ignore[arg-type]
            margin=1.0,
        ),
        Statement(
            "cost of noise",
            "linear accuracy on the images minus that on the images with noise",
            lambda f: f[_arm(*MIDDLE.values())]["linear"] - f["noise"]["linear"],  # type: ignore[arg-type]
            unit="points",
        ),
    ),
    notes=(
        "The third experiment. With 100 updates (12,800 images) seeds 0 to 4 refuted the claim; with 500, on grids of "
        "8 runs of SimCLR and 8 of Barlow Twins judged by kNN, so did seeds 10 to 14 "
        "(results/earlier/rankme_8_runs.json): the runs with the low learning rate are behind, and have the higher "
        "ranks. Here the grids are larger, updates are twice as many of half the size, which some twenty runs on seed "
        "1000 showed to be the better use of as many images, by validation accuracy, and linear probes judge, as in "
        "the paper.",
        "Why it is refuted: in a short training the rank of the projections falls as it goes on, so over learning "
        "rates the highest rank is that of the run which is least far. Among runs with the same rate RankMe orders "
        "the settings as the paper says, with correlations of about 0.8. So a choice in two steps was written down "
        "before these runs: the loss chooses the rate for each setting, whose losses can be compared, and RankMe the "
        "setting. On average it stays 0.8 points below the best run of SimCLR's grid, whether less than one is open, "
        "and 0.3 below that of VICReg's.",
        "Learning rates of 0.001 and more were taken for trained to the end after the pilot. They are not: accuracy "
        "still rises with the rate among them, and rank still falls.",
        "Two limits that RankMe is said to have came out the other way. An untrained network has a lower rank than a "
        "trained one here, with the mean taken off, too; and noise on the images lowers the rank. Both are worse by a "
        "probe, so neither would have been preferred.",
        "The paper has hundreds of long runs of ResNet-50 on ImageNet, with weight decays besides. Whether RankMe "
        "chooses over learning rates among runs that all have come to their end has not been tried: on two cores none "
        "do.",
    ),
)
