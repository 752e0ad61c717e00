"""JEPA dynamics (13): a deep linear JEPA passes over strong noise that a masked autoencoder learns first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from autodidact.claims.claim import Claim, Figures, Statement
from autodidact.claims.images import labels_of, split_images
from autodidact.data import Source
from autodidact.evaluation.curves import Curves
from autodidact.evaluation.frozen import Frozen
from autodidact.evaluation.linear import fit_probe
from autodidact.measures import LinearNetwork
from autodidact.measures.jepa_dynamics import FeatureDynamics, Objective

SHOWN = (1, 3, 10)
"""Directions of the views, by covariance, that the picture shows beside the noise."""
MOVES = np.array([[1, 1], [0, 1], [2, 1], [1, 0], [1, 2]])
"""Where the window of an image with a margin of a pixel may begin: rows, columns."""
THEORY = ", theory"
POINTS = 25
"""Steps at which it shows them, in equal ratios."""


def run(
    *,
    objective: Objective,
    layers: int = 3,
    world: Literal["digits", "pendulum"] = "digits",
    seed: int,
    images: int,
    held: int,
    steps: int,
    looks: Sequence[int],
    start: float,
    noises: int,
    strength: float,
    influence: float,
    rate: float,
    draws: int,
    directions: int,
) -> dict[str, float]:
    """Descend one objective in closed form on pairs of views, beside coordinates of correlated noise.

    The views are digits shifted by a pixel, `draws` pairs of each, or a pendulum at one moment and at the next. Noise
    is drawn for every pair anew.

    ``noise share at S`` is ||W P||^2 / ||W||^2 of the encoder after S steps, P the noise coordinates. ``probe`` reads
    the encoder's leading right singular directions: percent of test digits that logistic regression tells apart, or of
    the variance of the pendulum's later states that linear regression explains. ``X after S`` is how strongly the
    encoder has taken up a feature, ``X, theory after S`` what the scalar dynamics of the paper say of it.
    """
    rng = np.random.default_rng(seed)
    shown = _digits(images, held, draws, seed, rng) if world == "digits" else _pendulum(images, held, draws, rng)
    noise = _noise(len(shown.x), noises, strength, influence, rng)
    x, y = (torch.cat([view, part], dim=1) for view, part in zip((shown.x, shown.y), noise, strict=True))
    sxx, syx = x.T @ x / len(x), y.T @ x / len(x)
    among = torch.linalg.eigh((syx + syx.T)[:-noises, :-noises] / 2)[1].flip(1)
    train, test = (
        torch.cat([seen, _noise(len(seen), noises, strength, influence, rng)[0]], dim=1)
        for seen in (shown.train, shown.test)
    )
    network = LinearNetwork.balanced(objective, len(sxx), layers, start)
    times = {int(step) for step in np.geomspace(1, steps, min(POINTS, steps)).round()}
    stride = rate / float(torch.linalg.eigvalsh(sxx)[-1])
    features = {
        "noise": torch.eye(len(sxx), dtype=torch.float64)[:, -noises:],
        **{
            f"direction {place}": torch.cat([among[:, [place - 1]], torch.zeros(noises, 1, dtype=torch.float64)])
            for place in SHOWN
            if place <= among.shape[1]
        },
    }
    predicted = {
        name: _predicted(objective, layers, start, stride, steps, along, sxx, syx) for name, along in features.items()
    }
    figures: dict[str, float] = {}
    for step, now in enumerate(network.descent(objective, sxx, syx, rate=stride, steps=steps), start=1):
        encoder = now.encoder
        if step in looks:
            share = encoder[:, -noises:].square().sum() / encoder.square().sum()
            leading = torch.linalg.svd(encoder)[2][:directions].T
            figures[f"noise share at {step}"] = float(share)
            figures[f"probe at {step}"] = shown.probe(train @ leading, test @ leading)
        if step in times:
            for name, along in features.items():
                figures[f"{name} after {step}"] = float((encoder @ along).norm(dim=0).mean())
                figures[f"{name}{THEORY} after {step}"] = predicted[name][step - 1]
    return {**figures, "probe": figures[f"probe at {looks[-1]}"]}


@dataclass
class _Shown:
    """Pairs of views whose largest covariance along any direction is 1; and what a probe learns and is asked."""

    x: Float64[Tensor, "n d"]
    y: Float64[Tensor, "n d"]
    train: Float64[Tensor, "m d"]
    test: Float64[Tensor, "k d"]
    probe: Callable[[Tensor, Tensor], float]


def _predicted(
    objective: Objective,
    layers: int,
    start: float,
    stride: float,
    steps: int,
    along: Float64[Tensor, "d m"],
    sxx: Float64[Tensor, "d d"],
    syx: Float64[Tensor, "d d"],
) -> list[float]:
    """The amplitude of a feature in the encoder after every step, if it were by itself."""
    lambdas = (along * (syx @ along)).sum(0).mean()[None]
    rhos = lambdas / (along * (sxx @ along)).sum(0).mean()
    dynamics = FeatureDynamics(objective, layers)
    amplitude, found = torch.full((1,), start, dtype=torch.float64), []
    for _ in range(steps):
        amplitude = amplitude + stride * dynamics.velocity(amplitude, lambdas, rhos)
        found.append(float(amplitude**layers))
    return found


def _digits(images: int, held: int, draws: int, seed: int, rng: np.random.Generator) -> _Shown:
    split = split_images("digits", images, held, seed)
    pixels = _pixels(split.train).repeat(draws, 1, 1)
    views = [_shifted(pixels, rng) for _ in range(2)]
    x, y = (view - view.mean(0) for view in views)
    scale = _scale(x, y)
    train, test = ((_pixels(part).flatten(1) - views[0].mean(0)) / scale for part in (split.train, split.test))
    answers, truth = labels_of(split.train), labels_of(split.test)
    return _Shown(x / scale, y / scale, train, test, lambda rows, held: _probe(rows, answers, held, truth))


PUSH, EVERY = 3.0, 5
"""Spread of the torque in rad/s^2 (0.31 is the root of 1 - 0.95^2), and steps of 0.02 s between two looks."""


def _pendulum(images: int, held: int, draws: int, rng: np.random.Generator) -> _Shown:
    """Sine, cosine and speed of a damped pendulum that is pushed about, and the same a tenth of a second later."""
    rows = images * draws
    states, angle, speed, torque = [], float(rng.uniform(-np.pi, np.pi)), 0.0, 0.0
    for step in range((rows + held + 2) * EVERY):
        torque = 0.95 * torque + PUSH * 0.31 * rng.normal()
        speed += 0.02 * (-9.8 * np.sin(angle) - 0.2 * speed + torque)
        angle += 0.02 * speed
        if step % EVERY == 0:
            states.append([np.sin(angle), np.cos(angle), speed / 3])
    seen = torch.tensor(states, dtype=torch.float64)
    seen = seen - seen[:rows].mean(0)
    x, y = seen[:rows], seen[1 : rows + 1]
    scale = _scale(x, y)
    test = seen[rows + 1 : rows + 1 + held] / scale

    def probe(known: Tensor, asked: Tensor) -> float:
        answers = torch.linalg.lstsq(known, x / scale).solution
        return 100 * float(1 - (asked @ answers - test).square().sum() / test.square().sum())

    return _Shown(x / scale, y / scale, x / scale, test, probe)


def _scale(x: Float64[Tensor, "n d"], y: Float64[Tensor, "n d"]) -> float:
    """Root of the largest covariance between the views of any direction."""
    return float(torch.linalg.eigvalsh((y.T @ x + x.T @ y) / 2 / len(x))[-1].sqrt())


def _pixels(source: Source) -> Float64[Tensor, "n side side"]:
    images = source.batch(np.arange(len(source)))["image"]
    assert isinstance(images, Tensor)
    return images[:, 0].double() / 255


def _shifted(pixels: Float64[Tensor, "n side side"], rng: np.random.Generator) -> Float64[Tensor, "n d"]:
    """Every image as it is or moved by a pixel in one of four directions, with nothing where it came from."""
    side = pixels.shape[1]
    padded = torch.nn.functional.pad(pixels, (1, 1, 1, 1))
    down, right = torch.from_numpy(MOVES[rng.integers(0, len(MOVES), len(pixels))]).T[:, :, None]
    along = torch.arange(side)
    rows = padded[torch.arange(len(pixels))[:, None, None], (down + along)[:, :, None], (right + along)[:, None]]
    return rows.flatten(1)


def _noise(
    rows: int, coordinates: int, strength: float, influence: float, rng: np.random.Generator
) -> list[Float64[Tensor, "n c"]]:
    """Two views of noise with covariance `strength`, of which one view predicts the other with slope `influence`."""
    shared = rng.normal(size=(rows, coordinates)) * strength**0.5
    own = (strength / influence - strength) ** 0.5
    return [torch.from_numpy(shared + own * rng.normal(size=shared.shape)) for _ in range(2)]


def _probe(rows: Float64[Tensor, "n d"], answers: np.ndarray, test: Float64[Tensor, "m d"], truth: np.ndarray) -> float:
    train, held = rows.float().numpy(), test.float().numpy()
    frozen = Frozen(train, answers, train[:0], held, int(answers.max()) + 1)
    return 100 * float((fit_probe(frozen).predict(held) == truth).mean())


def noise_ratio(variant: str) -> Callable[[Figures], float]:
    """The noise share of the JEPA over that of the MAE, at the step at which that is largest."""

    def worst(figures: Figures) -> float:
        jepa, mae = (figures[f"{objective}{variant}"] for objective in ("jepa", "mae"))
        return max(jepa[name] / mae[name] for name in mae if name.startswith("noise share"))

    return worst


def probe_gain(variant: str) -> Callable[[Figures], float]:
    """What the probe gains by the JEPA over the MAE, at the end."""
    return lambda figures: figures[f"jepa{variant}"]["probe"] - figures[f"mae{variant}"]["probe"]


def first_share(figures: Mapping[str, float]) -> float:
    """The noise share at the first of the steps at which it is looked at."""
    return next(value for name, value in figures.items() if name.startswith("noise share"))


def last_share(figures: Mapping[str, float]) -> float:
    """The noise share at the last of those steps."""
    return [value for name, value in figures.items() if name.startswith("noise share")][-1]


def curves(by_seed: Sequence[Figures]) -> list[Curves]:
    """Amplitudes of image directions and noise in the encoder, and what the theory says of them: means over the seeds,
    a panel for each objective."""
    panels = []
    for arm in ("jepa", "mae"):
        lines: dict[str, list[tuple[float, float]]] = {}
        for name in by_seed[0][arm]:
            what, after, step = name.partition(" after ")
            if after:
                mean = float(np.mean([figures[arm][name] for figures in by_seed]))
                lines.setdefault(what, []).append((float(step), mean))
        beside = {name: name.removesuffix(THEORY) for name in lines if name.endswith(THEORY)}
        title = f"{arm.upper()}: what the encoder has learned; dashed: in theory"
        panels.append(Curves(title, "step", "amplitude", lines, log_x=True, beside=beside))
    return panels


SETTINGS = {
    "images": 1_197,
    "held": 300,
    "steps": 3_000,
    "looks": (150, 750, 3_000),
    "start": 0.6,
    "noises": 8,
    "strength": 1.5,
    "influence": 0.3,
    "rate": 0.1,
    "draws": 4,
    "directions": 10,
}

VARIANTS: dict[str, dict[str, Any]] = {
    "2 layers": {"layers": 2},
    "4 layers": {"layers": 4, "start": 0.7},
    "6 layers": {"layers": 6, "start": 0.8},
    "pendulum": {"world": "pendulum", "directions": 3},
    "pendulum, 1 layer": {"world": "pendulum", "directions": 3, "layers": 1},
}
"""Deeper networks start larger: the time that a JEPA needs grows with the start's inverse to the power 2 L - 1."""
CLAIM = Claim(
    name="jepa_dynamics",
    number=13,
    statement="Beside noise that covaries strongly between views but is hardly predictable, a deep linear JEPA shown "
    "four pairs of views of each image takes up less than half of the noise that a masked autoencoder does, and its "
    "leading features tell digits apart better.",
    run=run,
    arms={
        "jepa": {"objective": "jepa"},
        "mae": {"objective": "mae"},
        "jepa, 1 layer": {"objective": "jepa", "layers": 1},
        "mae, 1 layer": {"objective": "mae", "layers": 1},
        "jepa, predictable noise": {"objective": "jepa", "influence": 0.95},
        "mae, predictable noise": {"objective": "mae", "influence": 0.95},
        "jepa, 1 pair": {"objective": "jepa", "draws": 1},
        "mae, 1 pair": {"objective": "mae", "draws": 1},
        "jepa, 40 pairs": {"objective": "jepa", "draws": 40},
        "mae, 40 pairs": {"objective": "mae", "draws": 40},
        **{
            f"{objective}, {variant}": {"objective": objective, **changes}
            for variant, changes in VARIANTS.items()
            for objective in ("jepa", "mae")
        },
    },
    scales={
        "laptop": SETTINGS,
        "gpu": SETTINGS,
        "tiny": {**SETTINGS, "images": 300, "draws": 2, "steps": 6, "looks": (2, 4, 6)},
    },
    metric="probe",
    budget="{steps:,} steps of full-batch gradient descent from the same layers, on {draws} pairs of views of each "
    "image unless the arm says otherwise",
    statements=(
        Statement(
            "noise",
            "share of the noise in the encoder, JEPA over MAE, at the worst of three steps",
            noise_ratio(""),
            margin=0.5,
            direction="below",
            role="main",
        ),
        Statement(
            "not by learning nothing",
            "digits that a probe on the 10 leading directions tells apart, JEPA minus MAE, at the end",
            probe_gain(""),
            margin=3.0,
            role="guard",
            unit="points",
        ),
        Statement(
            "temptation",
            "noise share of the MAE at the first of the steps",
            lambda f: first_share(f["mae"]),
            margin=0.1,
            role="premise",
        ),
        Statement(
            "depth",
            "the ratio of noise shares with one layer minus that with three",
            lambda f: noise_ratio(", 1 layer")(f) - noise_ratio("")(f),
        ),
        *(
            Statement(
                f"noise, {variant}",
                f"the ratio of noise shares with {variant}",
                noise_ratio(f", {variant}"),
                margin=0.5,
                direction="below",
            )
            for variant in ("2 layers", "4 layers", "6 layers")
        ),
        Statement(
            "noise, over time",
            "the ratio of noise shares where the views are a pendulum at one moment and at the next",
            noise_ratio(", pendulum"),
            margin=0.5,
            direction="below",
        ),
        Statement(
            "noise at the end, over time",
            "the same after the last step only",
            lambda f: last_share(f["jepa, pendulum"]) / last_share(f["mae, pendulum"]),
            margin=0.5,
            direction="below",
        ),
        Statement(
            "probe, over time",
            "variance of the pendulum's state that the 3 leading directions explain, JEPA minus MAE",
            probe_gain(", pendulum"),
            margin=3.0,
            unit="points",
        ),
        Statement(
            "depth, over time",
            "the ratio of noise shares with one layer minus that with three, on the pendulum",
            lambda f: noise_ratio(", pendulum, 1 layer")(f) - noise_ratio(", pendulum")(f),
        ),
        Statement(
            "by unpredictability",
            "the ratio of noise shares where one view of the noise predicts the other (rho 0.95) minus that where it "
            "hardly does (rho 0.3)",
            lambda f: noise_ratio(", predictable noise")(f) - noise_ratio("")(f),
        ),
        *(
            Statement(
                f"noise, {pairs}",
                f"the same ratio of noise shares with {pairs} of views of each image",
                noise_ratio(f", {pairs}"),
                margin=0.5,
                direction="below",
            )
            for pairs in ("1 pair", "40 pairs")
        ),
        *(
            Statement(
                f"probe, {pairs}",
                f"the same difference of the probe with {pairs} of views of each image",
                probe_gain(f", {pairs}"),
                margin=3.0,
                unit="points",
            )
            for pairs in ("1 pair", "40 pairs")
        ),
    ),
    same_as=("9ba202cccd73", "6d94d224f6d0"),
    draws=curves,
    notes=(
        "How many pairs of views the covariances are made of was left open by the design and matters, as a pilot on "
        "seed 1000 showed: with one pair of each image an MAE also learns to predict noise from pixels that hardly "
        "vary, by chance, which makes its encoder large and the share of the noise small; with many pairs a probe of "
        "it does well. So there are arms for both beside those of the main statement. The probe reads images that are "
        "not moved.",
        "The noise stays out of the JEPA with any number of pairs, though with one pair of each image by a little less "
        "than half. What that is worth to a probe does depend on it: much with one pair of each image, and with 40 "
        "less than nothing, for then the MAE's probe is the better one. Noise that one view predicts from the other is "
        "the better feature for a JEPA, and in the end it takes up more of it than the MAE.",
        "With more layers less noise gets in; networks of 4 and 6 layers begin larger (0.7 and 0.8 instead of 0.6), or "
        "a JEPA would not get anywhere in these steps, so they do not differ in depth alone. On the pendulum the ratio "
        "at the worst of the three steps is near 1: after 150 steps neither encoder has got rid of the noise that it "
        "began with. A pilot on seed 1000 had shown that, so the statement on the last step was put beside it before "
        "the reported seeds were run. One layer is faster there than three, and better at that early step.",
        "In the picture the theory is that of a feature by itself, from its covariance and regression coefficient. The "
        "noise follows it, an MAE's until it begins to fall. Image directions are taken up more strongly than it says: "
        "no basis makes both covariances of the images diagonal, as it assumes.",
    ),
)
