"""compare: methods x settings x seeds on the same data under one budget, in one table."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from autodidact.compare.arms import run_arms
from autodidact.compare.grid import Setting, settings_of
from autodidact.data import Source, open_source
from autodidact.evaluation.table import Table
from autodidact.training import Settings
from autodidact.verbs.arms import Arms, check_fit, methods_of, networks, protocols_of
from autodidact.verbs.evaluate import names_of
from autodidact.verbs.pretrain import versions

FROZEN_BASELINES = ("raw", "random")
OF_ONE_METHOD = ("loss", "rankme", "rankme_projection")
"""Figures that say nothing between methods: objectives have units of their own, and so has their rank."""


def compare(
    data: str | Path | Source,
    methods: str | Sequence[str],
    *,
    out: str | Path = "runs/compare",
    seeds: int = 3,
    first_seed: int = 0,
    labels: str | float = "100%",
    protocols: str | Sequence[str] | None = None,
    draws: int = 1,
    grid: Mapping[str, Sequence[Any]] | None = None,
    encoder: str | Mapping[str, str] | None = None,
    encoder_arguments: Mapping[str, Any] | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    pretrained: bool | str = False,
    settings: Settings | None = None,
    test: str | Path | Source | None = None,
    label_from: str | None = None,
    cache: bool = True,
    json: str | Path | None = None,
    quiet: bool = False,
) -> Table:
    """Pretrain several methods and settings under one budget, and measure each in the same way.

    Every arm and seed is a run folder below `out`. What is finished is not done again, so a comparison that was cut off
    goes on, and more seeds or arms cost only themselves.

    Parameters
    ----------
    data : what to pretrain on and, where it has labels, to evaluate on.
    methods : names, as a sequence or separated by commas; the first is the one that others are compared to. A suite
        (``vit_suite``) stands for its methods, and for its encoder where none is named.
    out : folder of the runs and their figures.
    seeds : runs of every arm; seed k of all arms shares the order of the data and the draw of labels.
    first_seed : the first of their seeds.
    labels : how many labels the protocols may use, see `autodidact.evaluate`.
    protocols : names, as a sequence or separated by commas, see `autodidact.evaluate`; "none" measures without labels
        only. Default "knn,linear" or "regress" where the data has labels.
    draws : draws of labels for each run; its figure is their mean.
    grid : ``method.NAME``, a field of `Settings`, ``encoder`` or ``image_size`` -> values; every combination becomes an
        arm. An option applies to the methods that have it. What sets the budget cannot be in the grid.
    encoder : of all methods; default each method's own, which compares methods together with their encoders.
    encoder_arguments, image_size, channels, pretrained : see `autodidact.pretrain`.
    settings : how to train all arms; its epochs, steps or tokens are the budget. The seed is set for each run.
    test : test data; default a fifth of `data`, see `autodidact.evaluate`.
    label_from : where labels come from, see `autodidact.pretrain`.
    cache : pack images into the cache first.
    json : file that gets the table.
    quiet : print nothing while it runs.

    Returns
    -------
    Table
        Arms x figures x seeds. Figures: the protocols; of images ``retrieval``, how often a view finds another one of
        its image, and ``lidar`` of the same views; ``rankme`` of the embeddings; ``rankme_projection``, the last of
        training, where the method logs it; ``loss``, the last of training, to be compared between arms of one objective
        only; ``seconds`` of pretraining. With labels there are two more arms, "raw" and "random": the input itself, and
        the first arm's network untrained. ``about["differences"]`` has the paired differences of every arm to the
        first, those of losses and ranks between arms of one method only.

    Raises
    ------
    ValueError
        An unknown method, protocol or entry of the grid, or data that does not fit one of the methods: before anything
        is trained.
    autodidact.training.NonFinite
        The loss of an arm became NaN or infinite; the message names the arm.
    """
    if seeds < 1 or draws < 1:
        raise ValueError(f"a comparison needs at least one seed and one draw, got {seeds} and {draws}")
    names, encoder = methods_of(names_of(methods), encoder)
    arms = settings_of(names, grid or {})
    settings = settings or Settings()
    source = open_source(
        data, labels=label_from, image_size=image_size, channels=channels, cache=cache, progress=not quiet
    )
    chosen = protocols_of(source, protocols)
    for arm in arms:
        check_fit(arm, source)
    encoders = {arm.name: networks(arm, encoder) for arm in arms}
    work = Arms.of(
        data,
        source,
        out,
        settings,
        encoder,
        encoder_arguments=encoder_arguments,
        image_size=image_size,
        channels=channels,
        pretrained=pretrained,
        labels=labels,
        protocols=chosen,
        test=test,
        label_from=label_from,
        cache=cache,
        draws=draws,
        quiet=quiet,
    )
    beside = FROZEN_BASELINES if chosen else ()
    table = run_arms(
        {
            **{arm.name: partial(work.arm, arm) for arm in arms},
            **{name: partial(work.baseline, name, arms[0]) for name in beside},
        },
        range(first_seed, first_seed + seeds),
        folder=out,
        keys={**{arm.name: work.key(arm) for arm in arms}, **{name: work.key(arms[0]) for name in beside}},
        about={
            **_about(source, arms, encoders, settings, labels if chosen else None, chosen, draws),
            "encoder_arguments": dict(encoder_arguments or {}),
            "image_size": image_size,
        },
        say=None if quiet else _say,
    )
    table.about["differences"] = differences(table, arms[0].name)
    if json is not None:
        table.save(json)
    return table


def differences(table: Table, first: str) -> dict[str, dict[str, dict[str, float | None]]]:
    """Arm -> metric -> mean, low, high of the paired difference to the first arm; the ends are None with one seed."""
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for arm in table.arms:
        for metric in table.metrics:
            if arm != first and comparable(table, arm, first, metric):
                ends = table.difference(arm, first, metric)
                found.setdefault(arm, {})[metric] = {
                    name: end if np.isfinite(end) else None
                    for name, end in zip(("mean", "low", "high"), ends, strict=True)
                }
    return found


def comparable(table: Table, arm: str, first: str, metric: str) -> bool:
    """Whether the difference of two arms says anything: both have the metric, and loss and ranks are of one method."""
    methods = [table.about.get("arms", {}).get(name, {}).get("method") for name in (arm, first)]
    if metric in OF_ONE_METHOD and methods[0] != methods[1]:
        return False
    return bool(set(table.seeds(arm, metric)) & set(table.seeds(first, metric)))


def _about(
    source: Source,
    arms: Sequence[Setting],
    encoders: Mapping[str, Mapping[str, str]],
    settings: Settings,
    labels: str | float | None,
    protocols: Sequence[str],
    draws: int,
) -> dict[str, Any]:
    """What stands beside the figures."""
    different = {tuple(sorted(encoders[arm.name].items())) for arm in arms if "encoder" not in arm.network}
    return {
        "data": source.name,
        "samples": len(source),
        "budget": settings.length,
        "batch_size": settings.batch_size,
        "labels": labels,
        "draws": draws,
        "protocols": list(protocols),
        "arms": {arm.name: {**asdict(arm), "encoder": dict(encoders[arm.name])} for arm in arms},
        "notes": ["the methods have different encoders: name one with --encoder to compare methods alone"]
        if len(different) > 1
        else [],
        "versions": versions(),
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
