"""compare: methods x settings x seeds on the same data under one budget, in one table."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autodidact.compare.arms import SECONDS, cell_path, run_arms
from autodidact.compare.grid import Setting, settings_of
from autodidact.data import Source, fingerprint, open_source
from autodidact.data.folder import evenly
from autodidact.evaluation.embeddings import Embeddings, embedder
from autodidact.evaluation.protocols import choose
from autodidact.evaluation.table import Table
from autodidact.measures import rankme
from autodidact.methods.predicting import answer_field
from autodidact.model import Model
from autodidact.recipes.names import demands, encoder_names, find
from autodidact.training import NonFinite, Settings
from autodidact.training.journal import METRICS, read_metrics
from autodidact.verbs.evaluate import evaluate
from autodidact.verbs.opened import open_data
from autodidact.verbs.pretrain import RECORD, pretrain, versions

# More rows than this change RankMe of usual widths by less than the spread between seeds.
RANKED = 4096
FROZEN_BASELINES = ("raw", "random")


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
    methods : names, as a sequence or separated by commas; the first is the one that others are compared to.
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
    settings : how to train all arms; its epochs or steps are the budget. The seed is set for each run.
    test : test data; default a fifth of `data`, see `autodidact.evaluate`.
    label_from : where labels come from, see `autodidact.pretrain`.
    cache : pack images into the cache first.
    json : file that gets the table.
    quiet : print nothing while it runs.

    Returns
    -------
    Table
        Arms x figures x seeds. Figures: the protocols; ``rankme`` of the embeddings; ``loss``, the last of training, to
        be compared between arms of one objective only; ``seconds`` of pretraining. With labels there are two more arms,
        "raw" and "random": the input itself, and the first arm's network untrained. ``about["differences"]`` has the
        paired differences of every arm to the first.

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
    arms = settings_of(_names(methods), grid or {})
    settings = settings or Settings()
    source = open_source(
        data, labels=label_from, image_size=image_size, channels=channels, cache=cache, progress=not quiet
    )
    chosen = _protocols(source, protocols)
    encoders = {arm.name: _fitting(arm, source, encoder) for arm in arms}
    work = _Work(
        data,
        Path(out),
        settings,
        encoders,
        {
            "encoder_arguments": dict(encoder_arguments or {}),
            "image_size": image_size,
            "channels": channels,
            "pretrained": pretrained,
            "labels": label_from,
            "cache": cache,
        },
        {"labels": labels, "protocols": chosen, "test": test, "label_from": label_from, "cache": cache},
        draws,
        fingerprint(source),
        quiet,
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
        about=_about(source, arms, encoders, settings, labels if chosen else None, chosen, draws),
        say=None if quiet else _say,
    )
    table.about["differences"] = differences(table, arms[0].name)
    if json is not None:
        table.save(json)
    return table


@dataclass(frozen=True)
class _Work:
    """What is done for one arm and seed.

    Attributes
    ----------
    encoders : arm -> slot -> name.
    trained : arguments of `pretrain` that all arms share.
    measured : arguments of `evaluate`.
    print : fingerprint of the data.
    """

    data: str | Path | Source
    out: Path
    settings: Settings
    encoders: Mapping[str, Mapping[str, str]]
    trained: Mapping[str, Any]
    measured: Mapping[str, Any]
    draws: int
    print: str
    quiet: bool

    def key(self, arm: Setting) -> dict[str, Any]:
        """All that the figures of an arm depend on beside the seed."""
        budget = {name: value for name, value in self.settings.identity().items() if name != "seed"}
        return {
            **asdict(replace(arm, name="")),
            "encoders": dict(self.encoders[arm.name]),
            "trained": dict(self.trained),
            "settings": budget,
            "measured": {**self.measured, "test": str(getattr(self.measured["test"], "name", self.measured["test"]))},
            "draws": self.draws,
            "data": self.print,
        }

    def folder(self, arm: Setting, seed: int) -> Path:
        """The run folder, beside the file of its figures."""
        return cell_path(self.out, arm.name, seed, self.key(arm)).with_suffix("")

    def arm(self, arm: Setting, seed: int) -> dict[str, float]:
        """Pretrain and measure."""
        folder = self.folder(arm, seed)
        try:
            model = pretrain(
                arm.method,
                self.data,
                out=folder,
                settings=replace(self.settings, seed=seed, **arm.training),
                method_arguments=dict(arm.options),
                report=False,
                quiet=self.quiet,
                **{**self.trained, "encoder": self.encoders[arm.name], **arm.network},
            )
        except NonFinite as stopped:
            raise NonFinite(f"{arm.name}, seed {seed}: {stopped}") from stopped
        found = self._measure(folder, seed, "pretrained", "none") if self.measured["protocols"] else {}
        return {**found, **_label_free(model, folder, self.data, self.trained["cache"])}

    def baseline(self, name: str, arm: Setting, seed: int) -> dict[str, float]:
        """Measure what needs no pretraining: the raw input, or an arm's network before it."""
        return {**self._measure(self.folder(arm, seed), seed, name, name), SECONDS: 0.0}

    def _measure(self, run: Path, seed: int, arm: str, baselines: str) -> dict[str, float]:
        first = seed * self.draws
        table = evaluate(
            run, self.data, baselines=baselines, seeds=self.draws, first_seed=first, quiet=True, **self.measured
        )
        draws = range(first, first + self.draws)
        found = {
            metric: [v for a, m, s, v in table.rows() if (a, m) == (arm, metric) and s in draws]
            for metric in table.metrics
        }
        return {metric: float(np.mean(values)) for metric, values in found.items() if values}


def differences(table: Table, first: str) -> dict[str, dict[str, dict[str, float | None]]]:
    """Arm -> metric -> mean, low, high of the paired difference to the first arm; the ends are None with one seed."""
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for arm in table.arms:
        for metric in table.metrics:
            if arm != first and set(table.seeds(arm, metric)) & set(table.seeds(first, metric)):
                ends = table.difference(arm, first, metric)
                found.setdefault(arm, {})[metric] = {
                    name: end if np.isfinite(end) else None
                    for name, end in zip(("mean", "low", "high"), ends, strict=True)
                }
    return found


def _names(given: str | Sequence[str]) -> list[str]:
    names = given.split(",") if isinstance(given, str) else list(given)
    return [name.strip() for name in names if name.strip()]


def _protocols(source: Source, asked: str | Sequence[str] | None) -> list[str]:
    """Names of the protocols; none where the data has no answers and nobody asked for any."""
    names = [] if asked is None else _names(asked)
    if names == ["none"]:
        return []
    if not names and source.schema.first("label") is None and source.schema.first("target") is None:
        return []
    _, classes = answer_field(source.schema)
    usual = ["knn", "linear"] if classes else ["regress"]
    chosen = choose(names or usual, "label" if classes else "target")
    if apart := [each.name for each in chosen if each.by_group]:
        raise ValueError(
            f"protocol '{apart[0]}' needs groups, which only evaluate takes: autodidact evaluate RUN --group"
        )
    return [each.name for each in chosen]


def _fitting(arm: Setting, source: Source, asked: str | Mapping[str, str] | None) -> dict[str, str]:
    """The encoders of an arm, by slot; ValueError where its method cannot use the data."""
    cls, card = find(arm.method)
    wanted = demands(cls, card, arm.options)
    wanted.check(source, arm.method)
    return encoder_names(arm.network.get("encoder", asked), wanted.slots, wanted.encoder)


def _label_free(model: Model, folder: Path, data: str | Path | Source, cache: bool) -> dict[str, float]:
    """What can be said of a run without labels."""
    found = {}
    if "embed" in model.abilities:
        source = open_data(model, data, folder, cache=cache, quiet=True)
        rows = Embeddings(embedder(model), source).at(np.asarray(evenly(len(source), RANKED)))
        with warnings.catch_warnings():
            # Of few rows the rank is bounded by their number, alike for all arms.
            warnings.simplefilter("ignore", UserWarning)
            found["rankme"] = float(rankme(torch.from_numpy(rows)))
    logs = sorted(folder.rglob(METRICS), key=lambda path: path.stat().st_mtime)
    losses = [value for _, name, value in (read_metrics(logs[-1]) if logs else []) if name == "loss"]
    if losses:
        found["loss"] = losses[-1]
    return {**found, SECONDS: float(_record(folder)["seconds"])}


def _record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / RECORD).read_text()))


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
        "budget": f"{settings.steps} updates" if settings.steps else f"{settings.epochs} epochs",
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
