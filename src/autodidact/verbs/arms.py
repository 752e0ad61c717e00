"""One arm of a comparison: a method with settings, pretrained on some seed, and measured with and without labels."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from autodidact.catalog import members, suites
from autodidact.compare.arms import SECONDS, cell_path
from autodidact.compare.grid import Setting
from autodidact.data import Source, fingerprint
from autodidact.data.folder import evenly
from autodidact.evaluation.embeddings import Embeddings, embedder
from autodidact.evaluation.protocols import choose
from autodidact.evaluation.several_views import of_views
from autodidact.measures import rankme
from autodidact.methods.predicting import answer_field
from autodidact.model import Model
from autodidact.model.device import pick_device
from autodidact.recipes.names import demands, encoder_names, find
from autodidact.training import NonFinite, Settings
from autodidact.training.journal import METRICS, read_metrics
from autodidact.verbs.evaluate import evaluate, names_of
from autodidact.verbs.opened import open_data
from autodidact.verbs.pretrain import RECORD, pretrain

RANKED = 4096
"""Embeddings whose rank is told."""
LOGGED = {"loss": "loss", "rankme_projection": "rankme/projection"}
"""Figures of an arm that are the last value of a metric in its log, where it has one."""


@dataclass(frozen=True)
class Arms:
    """What is done for an arm and a seed, the same for all arms.

    Attributes
    ----------
    encoder : of all arms whose method or setting does not say another, or by slot.
    trained : arguments of `pretrain` that all arms share.
    measured : arguments of `evaluate`.
    print : fingerprint of the data.
    """

    data: str | Path | Source
    out: Path
    settings: Settings
    encoder: str | Mapping[str, str] | None
    trained: Mapping[str, Any]
    measured: Mapping[str, Any]
    draws: int
    print: str
    quiet: bool

    @classmethod
    def of(
        cls,
        data: str | Path | Source,
        source: Source,
        out: str | Path,
        settings: Settings,
        encoder: str | Mapping[str, str] | None,
        *,
        encoder_arguments: Mapping[str, Any] | None,
        labels: str | float,
        protocols: Sequence[str],
        test: str | Path | Source | None,
        label_from: str | None,
        cache: bool,
        draws: int,
        quiet: bool,
        **network: Any,
    ) -> Self:
        """From the arguments of `compare` and `choose`; `source` is `data`, opened.

        Raises
        ------
        ValueError : it is a stream.
        """
        if source.streaming:
            raise ValueError(f"'{source.name}' is a stream; runs are compared on rows by position, so save it first")
        trained = {"encoder_arguments": dict(encoder_arguments or {}), **network, "labels": label_from, "cache": cache}
        measured = {"labels": labels, "protocols": protocols, "test": test, "label_from": label_from, "cache": cache}
        return cls(data, Path(out), settings, encoder, trained, measured, draws, fingerprint(source), quiet)

    def key(self, arm: Setting) -> dict[str, Any]:
        """All that the figures of an arm depend on beside the seed."""
        budget = {name: value for name, value in self.settings.identity().items() if name != "seed"}
        return {
            **asdict(replace(arm, name="")),
            "encoders": networks(arm, self.encoder),
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
        model = self.trained_model(arm, seed)
        return {**self.answers(arm, seed), **self.label_free(arm, seed, model)}

    def trained_model(self, arm: Setting, seed: int, until: float = 1.0) -> Model:
        """The arm's model after that share of its training, which another call goes on with."""
        try:
            return pretrain(
                arm.method,
                self.data,
                out=self.folder(arm, seed),
                settings=replace(self.settings, seed=seed, **arm.training),
                method_arguments=dict(arm.options),
                until=until,
                report=False,
                quiet=self.quiet,
                **{**self.trained, "encoder": networks(arm, self.encoder), **arm.network},
            )
        except NonFinite as stopped:
            raise NonFinite(f"{arm.name}, seed {seed}: {stopped}") from stopped

    def answers(self, arm: Setting, seed: int) -> dict[str, float]:
        """What the protocols say of a trained arm; nothing where there are none."""
        return self._measure(self.folder(arm, seed), seed, "pretrained", "none") if self.measured["protocols"] else {}

    def label_free(self, arm: Setting, seed: int, model: Model) -> dict[str, float]:
        """What can be said of an arm without labels."""
        device = pick_device(self.settings.accelerator)
        return label_free(model, self.folder(arm, seed), self.data, self.trained["cache"], device)

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


def protocols_of(source: Source, asked: str | Sequence[str] | None) -> list[str]:
    """Names of the protocols; none where the data has no answers and nobody asked for any."""
    names = names_of(asked)
    if asked and not names:
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


def check_fit(arm: Setting, source: Source) -> None:
    """Raise ValueError where the arm's method cannot use the data."""
    cls, card = find(arm.method)
    demands(cls, card, arm.options).check(source, arm.method)


def networks(arm: Setting, asked: str | Mapping[str, str] | None) -> dict[str, str]:
    """Names of the encoders of an arm, by slot; "encoder" of its setting goes before the one asked for."""
    cls, card = find(arm.method)
    wanted = demands(cls, card, arm.options)
    return encoder_names(arm.network.get("encoder", asked), wanted.slots, wanted.encoder)


def label_free(
    model: Model, folder: Path, data: str | Path | Source, cache: bool, device: torch.device | str
) -> dict[str, float]:
    """What can be said of a run without labels."""
    found: dict[str, float] = {}
    if "embed" in model.abilities:
        source = open_data(model, data, folder, cache=cache, quiet=True)
        found |= of_views(model, source, device=device)
        rows = Embeddings(embedder(model, device), source).at(np.asarray(evenly(len(source), RANKED)))
        with warnings.catch_warnings():
            # Of few rows the rank is bounded by their number, alike for all arms.
            warnings.simplefilter("ignore", UserWarning)
            found["rankme"] = float(rankme(torch.from_numpy(rows))) if rows.any() else 0.0
    for name, metric in LOGGED.items():
        if values := logged(folder, metric):
            found[name] = values[-1]
    return {**found, SECONDS: float(_record(folder)["seconds"])}


def methods_of(
    asked: Sequence[str], encoder: str | Mapping[str, str] | None
) -> tuple[list[str], str | Mapping[str, str] | None]:
    """The methods that names stand for, and their encoder: a suite's own where none is named."""
    found = suites(asked)
    return members(asked), found[0].encoder if encoder is None and found else encoder


def logged(folder: Path, metric: str) -> list[float]:
    """Values of a metric in the newest log of a run."""
    logs = sorted(folder.rglob(METRICS), key=lambda path: path.stat().st_mtime)
    return [value for _, name, value in (read_metrics(logs[-1]) if logs else []) if name == metric]


def _record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / RECORD).read_text()))
