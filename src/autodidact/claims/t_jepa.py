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
from autodidact.methods.table.t_jepa import TJEPA
from autodidact.model import Encoder
from autodidact.model.model import embed
from autodidact.training import Settings, train

POOLED = 7
DRAWS = 3


def table(name: str, rows: int) -> Source:
    """A real table; images become tables of their pixels: digits as they are, garments averaged to 7 x 7."""
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
    seed: int,
    tables: list[str],
    rows: int,
    labelled: int,
    steps: int,
    batch: int,
    lr: float,
    width: int,
    depth: int,
) -> dict[str, float]:
    """Read-outs with few labels on one kind of inputs, for every table.

    Seven tenths of a table's rows, without their answers, are there to pretrain on; the labelled rows are among them,
    and the score is that of a linear read-out on the rest: percent correct, or 100 times R squared; mean of 3 draws of
    labelled rows. ``spread NAME`` is the mean standard deviation over rows of the embedding's dimensions.
    """
    figures: dict[str, float] = {}
    for name in tables:
        source = table(name, rows)
        order = np.random.default_rng(seed).permutation(len(source))
        known, test = source.at(order[: 7 * len(order) // 10]), source.at(order[7 * len(order) // 10 :])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Ranges of the columns come from the rows that may be seen.
            statistics: Any = table_statistics(known)
            spec = f"small:tabular?width={width}&depth={depth}&reg={reg}"
            encoder = build(spec, schema=source.schema, statistics=statistics)
            method = TJEPA(encoder, released=released)
        if inputs == "t_jepa":
            size = min(batch, len(known))
            settings = Settings(steps=steps, batch_size=size, lr=lr, weight_decay=0.0, warmup=0.05, seed=seed)
            model = train(method, known, settings, quiet=True)
        else:
            model = method.kept()
        embedded = [_inputs(model, part, encoder if inputs == "raw" else None) for part in (known, test)]
        figures[name] = _score(embedded[0], embedded[1], known, test, labelled, seed)
        figures[f"spread {name}"] = float(per_dimension_std(torch.from_numpy(embedded[0])).mean())
    figures["mean"] = float(np.mean([figures[name] for name in tables]))
    return figures


def _inputs(model: Any, source: Source, raw: Encoder | None) -> Float32[np.ndarray, "n d"]:
    """Embeddings, or the numeric columns themselves by their range, with missing values in the middle of it."""
    model.eval()
    parts = []
    for batch in source.in_order(500):
        if raw is None:
            assert isinstance(model, EncoderModel)
            parts.append(embed(model, batch))
            continue
        given = raw.prepare(batch.fields)
        parts.append(raw.scaled(given).nan_to_num(0.5))  # type: ignore[operator]
    return torch.cat(parts).float().numpy()


def _score(
    train_rows: Float32[np.ndarray, "n d"],
    test_rows: Float32[np.ndarray, "m d"],
    known: Source,
    test: Source,
    labelled: int,
    seed: int,
) -> float:
    classifies = known.schema.first("label") is not None
    field = "label" if classifies else "target"
    answers, truth = np.asarray(known.column(field)), np.asarray(test.column(field))
    scores = []
    for draw in range(DRAWS):
        few = np.random.default_rng([seed, draw]).permutation(len(answers))[:labelled]
        rest = np.setdiff1d(np.arange(len(answers)), few)
        classes = int(max(answers.max(), truth.max())) + 1 if classifies else 0
        frozen = Frozen(train_rows[few], answers[few], train_rows[rest], test_rows, classes, seed)
        if classifies:
            scores.append(float((fit_probe(frozen).predict(test_rows) == truth).mean()))
        else:
            residual = ((regress(frozen) - truth) ** 2).sum()
            scores.append(1 - float(residual / ((truth - truth.mean()) ** 2).sum()))
    return 100 * float(np.mean(scores))


def _gain(figures: Figures, arm: str, against: tuple[str, ...]) -> float:
    """Median over the tables of the gain over the better of some arms: at least half of the tables gain that much."""
    tables = [name for name in figures[arm] if name != "mean" and not name.startswith(("spread", "seconds"))]
    return float(np.median([figures[arm][name] - max(figures[a][name] for a in against) for name in tables]))


def _spread(figures: Figures, arm: str) -> float:
    return float(np.mean([value for name, value in figures[arm].items() if name.startswith("spread")]))


CLAIM = Claim(
    name="t_jepa",
    number=28,
    statement="With few labels, linear read-outs of T-JEPA's latents beat those of the raw columns and of the same "
    "encoder with random weights by a point or more, on at least half of the tables.",
    run=run,
    arms={
        "t_jepa": {},
        "raw": {"inputs": "raw"},
        "random": {"inputs": "random"},
        "without [REG]": {"reg": 0},
        "released masking": {"released": True},
    },
    scales={
        "laptop": {
            "tables": ["digits", "garments", "breast_cancer", "wine", "diabetes"],
            "rows": 6_000,
            "labelled": 100,
            "steps": 600,
            "batch": 128,
            "lr": 1e-3,
            "width": 32,
            "depth": 2,
        },
        "gpu": {
            "tables": ["digits", "garments", "breast_cancer", "wine", "diabetes"],
            "rows": 60_000,
            "labelled": 100,
            "steps": 20_000,
            "batch": 512,
            "lr": 4e-4,
            "width": 64,
            "depth": 16,
        },
        "tiny": {
            "tables": ["wine", "diabetes"],
            "rows": 100,
            "labelled": 60,
            "steps": 4,
            "batch": 32,
            "lr": 1e-3,
            "width": 8,
            "depth": 1,
        },
    },
    metric="mean",
    budget="{steps:,} updates of {batch} rows for each table, {labelled} labels for the read-out",
    statements=(
        Statement(
            "gain",
            "score of T-JEPA minus the better of raw columns and random weights, median over the tables",
            lambda f: _gain(f, "t_jepa", ("raw", "random")),
            margin=1.0,
            role="main",
            unit="points",
        ),
        Statement(
            "against raw",
            "score of T-JEPA minus that of the raw columns, median over the tables",
            lambda f: _gain(f, "t_jepa", ("raw",)),
            unit="points",
        ),
        Statement(
            "against random",
            "score of T-JEPA minus that of the same encoder with random weights, median over the tables",
            lambda f: _gain(f, "t_jepa", ("random",)),
            unit="points",
        ),
        Statement(
            "[REG] spreads",
            "spread of the latents over rows without [REG] over that with it",
            lambda f: _spread(f, "without [REG]") / _spread(f, "t_jepa"),
            margin=1.0,
            direction="below",
        ),
        Statement(
            "[REG] helps",
            "score with [REG] minus that without it, mean over the tables",
            lambda f: f["t_jepa"]["mean"] - f["without [REG]"]["mean"],
            unit="points",
        ),
        Statement(
            "masking",
            "score with the paper's masking minus that of the released code's, mean over the tables",
            lambda f: f["t_jepa"]["mean"] - f["released masking"]["mean"],
            unit="points",
        ),
    ),
)
