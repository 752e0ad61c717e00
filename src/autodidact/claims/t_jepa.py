"""T-JEPA (28): its latents of a table's columns serve simple read-outs better than the columns themselves."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32

from autodidact.claims.claim import Claim, Figures, Statement
from autodidact.data import ArraySource, Field, Source, open_source, table_statistics
from autodidact.data.schema import Schema
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel
from autodidact.evaluation.frozen import Frozen
from autodidact.evaluation.linear import fit_probe
from autodidact.evaluation.regress import regress
from autodidact.measures import per_dimension_std
from autodidact.methods.method import Progress
from autodidact.methods.table.t_jepa import TJEPA
from autodidact.model import Encoder
from autodidact.model.model import embed
from autodidact.training import Settings, train
from autodidact.worlds.latent_factors import latent_factors

POOLED = 7
DRAWS = 3
DECAYS = (1e-1, 1e-2, 1e-3)
"""Candidates of the read-out with many labels, where the strongest decays never win."""
SYNTHETIC = "latent factors"


def table(name: str, rows: int) -> Source:
    """A table; images become tables of their pixels: digits as they are, garments averaged to 7 x 7."""
    if name == SYNTHETIC:
        return latent_factors(rows)
    if name in ("breast_cancer", "wine", "diabetes"):
        return open_source(name, progress=False)
    images = open_source("fashion_mnist", split="train", progress=False) if name == "garments" else open_source(name)
    chosen = np.random.default_rng(0).permutation(len(images))[:rows]
    pixels = torch.stack([images.batch(np.array([i]))["image"][0, 0] for i in chosen]).float()
    if name == "garments":
        pixels = torch.nn.functional.adaptive_avg_pool2d(pixels[:, None], POOLED)[:, 0]
    columns = pixels.flatten(1).numpy()
    columns = columns[:, columns.std(0) > 0]
    names = tuple(f"pixel {i}" for i in range(columns.shape[1]))
    labels = np.asarray(images.column("label"))[chosen]
    schema = Schema(numeric=Field("numeric", (columns.shape[1],), columns=names), label=images.schema["label"])
    return ArraySource(name, {"numeric": columns, "label": labels}, schema, np.arange(len(columns)))


def run(
    *,
    inputs: Literal["raw", "random", "t_jepa"] = "t_jepa",
    reg: int = 1,
    released: bool = False,
    first: int | None = None,
    longer: int = 1,
    faster: float = 1.0,
    seed: int,
    tables: list[str],
    rows: int,
    few: int,
    many: int,
    steps: int,
    batch: int,
    lr: float,
    targets: int,
    width: int,
    depth: int,
    heads: int,
    predictor: int,
) -> dict[str, float]:
    """Linear read-outs of one kind of inputs, for every table.

    Seven tenths of a table's rows, without their answers, are there to pretrain on; the labelled rows are among them,
    and the score is that of a linear read-out on the rest: percent correct, or 100 times R squared. ``NAME`` is the
    score with `many` labels, or all there are; ``few NAME`` that with `few`, mean of 3 draws. ``spread NAME`` is the
    mean standard deviation over rows of the embedding's dimensions, and ``predicted NAME`` the share of the target
    latents' variance over rows that the predictor accounts for: above 0 it knows more than each column's mean.
    `first` leaves out all tables but the first so many; `longer` and `faster` multiply updates and learning rate.
    """
    figures: dict[str, float] = {}
    tables = tables[:first]
    for name in tables:
        source = table(name, rows)
        order = np.random.default_rng(seed).permutation(len(source))
        known, test = source.at(order[: 7 * len(order) // 10]), source.at(order[7 * len(order) // 10 :])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Ranges of the columns come from the rows that may be seen.
            statistics: Any = table_statistics(known)
            spec = f"small:tabular?width={width}&depth={depth}&heads={heads}&reg={reg}"
            encoder = build(spec, schema=source.schema, statistics=statistics)
            method = TJEPA(encoder, released=released, targets=targets, hidden=predictor, heads=heads)
        if inputs == "t_jepa":
            size = min(batch, len(known))
            rate = lr * faster
            settings = Settings(
                steps=steps * longer, batch_size=size, lr=rate, weight_decay=0.0, warmup=0.05, seed=seed
            )
            model = train(method, known, settings, quiet=True)
            figures[f"predicted {name}"] = _predicted(method, known, seed)
        else:
            model = method.kept()
        rows_in, rows_out = (_inputs(model, part, encoder if inputs == "raw" else None) for part in (known, test))
        figures[name] = _score(rows_in, rows_out, known, test, many, 1, seed)
        figures[f"few {name}"] = _score(rows_in, rows_out, known, test, few, DRAWS, seed)
        figures[f"spread {name}"] = float(per_dimension_std(torch.from_numpy(rows_in)).mean())
    figures["mean"] = float(np.mean([figures[name] for name in tables]))
    return figures


def _predicted(method: TJEPA, known: Source, seed: int) -> float:
    """1 - the loss over the variance of the target latents over rows."""
    method.eval()
    progress = Progress(0, 1, 0, torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        loss = method.loss(method.views(known.batch(np.arange(min(1000, len(known)))), progress), progress)
    return 1 - float(loss.total / loss.terms["spread"])


def _inputs(model: Any, source: Source, raw: Encoder | None) -> Float32[np.ndarray, "n d"]:
    """Embeddings, or the columns themselves: numbers by their range, 0.5 where missing, and categories one-hot."""
    model.eval()
    parts = []
    for batch in source.in_order(500):
        if raw is None:
            assert isinstance(model, EncoderModel)
            parts.append(embed(model, batch))
            continue
        given = raw.prepare(batch.fields)
        columns = [raw.scaled(given).nan_to_num(0.5)]  # type: ignore[operator]
        for index, size in enumerate(raw.cardinalities):  # type: ignore[arg-type]
            columns.append((given.categorical[:, index, None] == torch.arange(size)).float())
        parts.append(torch.cat(columns, dim=1))
    return torch.cat(parts).float().numpy()


def _score(
    train_rows: Float32[np.ndarray, "n d"],
    test_rows: Float32[np.ndarray, "m d"],
    known: Source,
    test: Source,
    labelled: int,
    draws: int,
    seed: int,
) -> float:
    classifies = known.schema.first("label") is not None
    field = "label" if classifies else "target"
    answers, truth = np.asarray(known.column(field)), np.asarray(test.column(field))
    scores = []
    for draw in range(draws):
        chosen = np.random.default_rng([seed, draw]).permutation(len(answers))[:labelled]
        rest = np.setdiff1d(np.arange(len(answers)), chosen)
        classes = int(max(answers.max(), truth.max())) + 1 if classifies else 0
        frozen = Frozen(train_rows[chosen], answers[chosen], train_rows[rest], test_rows, classes, seed)
        if classifies:
            probe = fit_probe(frozen, DECAYS) if draws == 1 else fit_probe(frozen)
            scores.append(float((probe.predict(test_rows) == truth).mean()))
        else:
            residual = ((regress(frozen) - truth) ** 2).sum()
            scores.append(1 - float(residual / ((truth - truth.mean()) ** 2).sum()))
    return 100 * float(np.mean(scores))


def _real(figures: Figures, arm: str) -> list[str]:
    return [name for name in figures[arm] if f"spread {name}" in figures[arm] and name != SYNTHETIC]


def _gain(figures: Figures, arm: str, against: tuple[str, ...], prefix: str = "") -> float:
    """Median over the real tables of the gain over the better of some arms: at least half of them gain that much."""
    names = [prefix + name for name in _real(figures, arm)]
    return float(np.median([figures[arm][name] - max(figures[a][name] for a in against) for name in names]))


def _on(figures: Figures, name: str, arm: str, *against: str) -> float:
    """Gain on one table."""
    return figures[arm][name] - max(figures[a][name] for a in against)


def _first(figures: Figures) -> str:
    return _real(figures, "released masking")[0]


def _mean(figures: Figures, arm: str, prefix: str = "") -> float:
    return float(np.mean([figures[arm][prefix + name] for name in _real(figures, arm)]))


CLAIM = Claim(
    name="t_jepa",
    number=28,
    statement="Linear read-outs of T-JEPA's latents beat those of the raw columns and of the same encoder with random "
    "weights by a point or more, on at least half of the real tables.",
    run=run,
    arms={
        "t_jepa": {},
        "raw": {"inputs": "raw"},
        "random": {"inputs": "random"},
        "without [REG]": {"reg": 0},
        "released masking": {"released": True, "first": 1},
        "longer": {"longer": 2, "faster": 2.0, "first": 2},
    },
    scales={
        "laptop": {
            "tables": ["garments", "digits", "breast_cancer", "wine", "diabetes", SYNTHETIC],
            "rows": 6_000,
            "few": 100,
            "many": 2_000,
            "steps": 1_500,
            "batch": 64,
            "lr": 1e-3,
            "targets": 2,
            "width": 32,
            "depth": 2,
            "heads": 2,
            "predictor": 32,
        },
        "gpu": {
            "tables": ["garments", "digits", "breast_cancer", "wine", "diabetes", SYNTHETIC],
            "rows": 60_000,
            "few": 100,
            "many": 2_000,
            "steps": 20_000,
            "batch": 512,
            "lr": 4e-4,
            "targets": 4,
            "width": 64,
            "depth": 16,
            "heads": 2,
            "predictor": 16,
        },
        "tiny": {
            "tables": ["wine", "diabetes", SYNTHETIC],
            "rows": 100,
            "few": 40,
            "many": 60,
            "steps": 4,
            "batch": 32,
            "lr": 1e-3,
            "targets": 2,
            "width": 8,
            "depth": 1,
            "heads": 2,
            "predictor": 8,
        },
    },
    metric="mean",
    budget="{steps:,} updates of {batch} rows for each table; {many:,} labels for the read-out, or all there are",
    statements=(
        Statement(
            "gain",
            "score of T-JEPA minus the better of raw columns and random weights, median over the real tables",
            lambda f: _gain(f, "t_jepa", ("raw", "random")),
            margin=1.0,
            role="main",
            unit="points",
        ),
        Statement(
            "few labels",
            "the same with few labels",
            lambda f: _gain(f, "t_jepa", ("raw", "random"), "few "),
            margin=1.0,
            unit="points",
        ),
        Statement(
            "against raw",
            "score of T-JEPA minus that of the raw columns, median over the real tables",
            lambda f: _gain(f, "t_jepa", ("raw",)),
            unit="points",
        ),
        Statement(
            "against random",
            "score of T-JEPA minus that of the same encoder with random weights, median over the real tables",
            lambda f: _gain(f, "t_jepa", ("random",)),
            unit="points",
        ),
        Statement(
            "garments",
            "score of T-JEPA minus the better of raw columns and random weights, on garments, the largest real table",
            lambda f: _on(f, _first(f), "t_jepa", "raw", "random"),
            unit="points",
        ),
        Statement(
            "synthetic",
            "score of T-JEPA minus the better of raw columns and random weights, on the synthetic table",
            lambda f: _on(f, SYNTHETIC, "t_jepa", "raw", "random"),
            margin=1.0,
            unit="points",
        ),
        Statement(
            "learns",
            "share of the target latents' variance over rows that the predictor explains, median over the real tables",
            lambda f: float(np.median([f["t_jepa"][f"predicted {name}"] for name in _real(f, "t_jepa")])),
        ),
        Statement(
            "longer",
            "twice the updates at twice the rate: score minus the better of raw columns and random weights, mean over "
            "the first two tables",
            lambda f: float(np.mean([_on(f, name, "longer", "raw", "random") for name in _real(f, "longer")])),
            margin=1.0,
            unit="points",
        ),
        Statement(
            "longer, few labels",
            "twice the updates at twice the rate, few labels: score minus the better of raw columns and random weights",
            lambda f: float(np.mean([_on(f, f"few {name}", "longer", "raw", "random") for name in _real(f, "longer")])),
            margin=1.0,
            unit="points",
        ),
        Statement(
            "longer learns",
            "twice the updates at twice the rate: share of the variance that the predictor explains, mean over the "
            "first two tables",
            lambda f: _mean(f, "longer", "predicted "),
        ),
        Statement(
            "[REG] spreads",
            "spread of the latents over rows without [REG] over that with it, mean over the real tables",
            lambda f: _mean(f, "without [REG]", "spread ") / _mean(f, "t_jepa", "spread "),
            margin=1.0,
            direction="below",
        ),
        Statement(
            "[REG] helps",
            "score with [REG] minus that without it, mean over the real tables",
            lambda f: _mean(f, "t_jepa") - _mean(f, "without [REG]"),
            unit="points",
        ),
        Statement(
            "masking",
            "score with the paper's masking minus that of the released code's, on garments",
            lambda f: _on(f, _first(f), "t_jepa", "released masking"),
            unit="points",
        ),
    ),
    notes=(
        "The settings come from tuning seed 1000: the most labels and a rate of 1e-3 were kindest to T-JEPA among "
        "rates of 1e-3 to 3e-3, momentum 0.99 to 0.998, 600 to 4,000 updates, contexts of 0.14 to 0.37 and of "
        "0.15 to 0.8 of the columns, 20 to 4,200 labels, and [REG] in the read-out or not (a difference of 0.2 "
        "points at most).",
        "No fault was found that explains the missing gain. Against the authors' code, masks, loss, slow copy, "
        "schedules, ranges and read-out do what the paper says. One difference was removed, attention that began "
        "ten times too weak; on garments it made none (before, 69.4 and 80.2 % with 100 and 2,000 labels).",
        "Training begins with the columns' means: a token's position outweighs its value by far (the latents vary "
        "by 0.001 over rows, in dimensions whose mean square is 1), so for about 1,000 updates the loss stays "
        "above that variance ('learns' below 0) and the latents serve as well as random ones. A rate of 3e-3 with "
        "momentum 0.99 collapses on the synthetic table.",
        "So 1,500 updates are too few for most of these tables, and an arm with twice the updates at twice the rate, "
        "taken from seed 1000 as well, was added after the first five arms had been reported, to tell a training too "
        "short from a method that does not help. It has learned, and gains less than a point all the same.",
        "The same on seed 1000, in more detail. Digits, rate 2e-3: after 1,500 "
        "and 3,000 updates 17 and 65 % of the variance are predicted; 100 labels give 82.8 and 78.9 % (random "
        "weights 85.5), 1,000 give 95.6 and 95.0 (95.7). Garments, rate 2e-3, 2,500 updates: 86 % predicted; 50 "
        "labels give 58.3 (random weights 61.3, raw 59.9), 4,200 give 81.6 (80.8, 80.2), and 81.0 (83.5, 84.8) to "
        "a small MLP.",
        "Why: what columns can tell of each other is mostly one shared factor. On garments the first principal "
        "component grows from 0.41 of the latents' variance to 0.65, and the details that tell the classes apart "
        "lose weight. What remains of a gain over raw columns the random encoder has too: it bends every column.",
        "Not tried, so open: the paper's own scale (16 layers, 300 epochs of 50,000 rows and more, deep read-outs "
        "on all labels, the length of training chosen by a labelled probe); --scale gpu is nearer to it. The "
        "released masking is tried on garments only and the longer training on garments and digits, so their means "
        "are of those tables.",
    ),
)
