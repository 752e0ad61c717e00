"""measure: arms x protocols x draws of labels, into a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from autodidact.data.source import Positions, Source
from autodidact.data.splits import label_fraction
from autodidact.encoders.kept import PredictorModel
from autodidact.evaluation.arms import Arm, Bench
from autodidact.evaluation.audit import Groups, Sight, Truth
from autodidact.evaluation.finetune import Tuning, choose_rate, distill, finetune, outputs
from autodidact.evaluation.frozen import Frozen
from autodidact.evaluation.hidden import Hidden
from autodidact.evaluation.protocols import PROTOCOLS, AnswerKind, Protocol
from autodidact.evaluation.table import Table
from autodidact.measures import accuracy

POOL_SEED = 0


@dataclass
class Measurement:
    """Arms x protocols x draws of labels on one bench.

    The answers of the test rows are read in one place only, after the predictions are made, to score them; those of
    unlabelled rows nowhere.

    Parameters
    ----------
    bench : the rows.
    answer : name of the field that is predicted, "label" or "target".
    labels : the budget, as `autodidact.data.label_fraction` takes it.
    tuning : how networks are trained.
    groups : of the test rows, for protocols that report by group.
    harmful : numbers of the classes that are harmful where they are wrong, for the protocol that counts them.
    """

    bench: Bench
    answer: str
    labels: str | float
    tuning: Tuning = field(default_factory=Tuning)
    groups: Groups | None = None
    harmful: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        schema = self.bench.train.schema
        self.kind: AnswerKind = "label" if schema[self.answer].kind == "label" else "target"
        self.classes = len(schema[self.answer].classes) if self.kind == "label" else 0
        self.truth = np.asarray(self.bench.test.column(self.answer))
        # Drawn once: the same unlabelled rows for every arm and draw, so their embeddings are computed once.
        self.order = np.random.default_rng(POOL_SEED).permutation(len(self.bench.train))

    def draw(self, seed: int) -> Positions:
        """Positions of the training rows whose answers may be used, ascending."""
        return label_fraction(self.bench.train, self.labels, seed, self.answer)

    def metrics(self, protocol: Protocol) -> list[str]:
        """Columns of the table that a protocol of one prediction fills: its name (accuracy), or "NAME r2" and "NAME
        rmse"."""
        return [protocol.name] if self.kind == "label" else [f"{protocol.name} r2", f"{protocol.name} rmse"]

    def done(self, table: Table, arm: Arm, protocol: Protocol, seed: int) -> bool:
        """Whether the table holds the figures of an arm, a protocol and a draw. Those of a protocol with several of
        them are written together, so any one tells."""
        if protocol.look is None:
            return all(table.has(arm.name, metric, seed) for metric in self.metrics(protocol))
        return any(table.has(arm.name, metric, seed) for metric in table.metrics if _belongs(metric, protocol))

    def run(
        self,
        arms: Mapping[str, Arm],
        protocols: Sequence[Protocol],
        seeds: Sequence[int],
        table: Table,
        *,
        save: Callable[[Table], object] = lambda _: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> Table:
        """Fill the cells that the table does not hold yet.

        An arm without embeddings (from scratch) is measured by the protocols that train networks; where none was asked
        for, by "finetune", so that it always has a figure.

        Parameters
        ----------
        seeds : one draw of labels each.
        save : called whenever a cell was written, so that a measurement that is cut off goes on.
        say : gets a line for every cell.
        """
        for seed in seeds:
            draw = _Draw(self, seed, table, say)
            for arm in arms.values():
                for protocol in self.fitting(arm, protocols):
                    if self.done(table, arm, protocol, seed):
                        continue
                    for metric, value in self._figures(draw, arm, protocol, seeds[0]).items():
                        if not table.has(arm.name, metric, seed):
                            table.add(arm.name, metric, seed, value)
                        say(f"{arm.name}, {metric}, draw {seed}: {value:.4f}")
                    save(table)
        return table

    @staticmethod
    def fitting(arm: Arm, protocols: Sequence[Protocol]) -> list[Protocol]:
        """Those of the protocols that an arm is measured by."""
        found = [p for p in protocols if (arm.frozen if p.embeds else arm.network) is not None]
        return found or ([] if arm.network is None else [PROTOCOLS["finetune"]])

    def _figures(self, draw: _Draw, arm: Arm, protocol: Protocol, first_seed: int) -> dict[str, float]:
        if protocol.look is not None and protocol.score is not None:
            seen = protocol.look(draw.sight(arm, protocol))
            figures = protocol.score(
                seen, Truth(self.truth.astype(np.int64), self.groups, np.asarray(self.harmful, np.int64))
            )
            return {f"{protocol.name} {name}": value for name, value in figures.items()}
        predicted = draw.predict(arm, protocol, first_seed)
        return dict(zip(self.metrics(protocol), self.score(predicted), strict=True))

    def score(self, predicted: np.ndarray[Any, Any]) -> list[float]:
        """Accuracy; or R2 and root mean squared error, in the target's unit."""
        if self.kind == "label":
            return [accuracy(torch.from_numpy(predicted), torch.from_numpy(self.truth))]
        error = float(((predicted - self.truth.astype(np.float64)) ** 2).mean())
        return [1 - error / float(self.truth.astype(np.float64).var()), error**0.5]


def _belongs(metric: str, protocol: Protocol) -> bool:
    return metric.startswith(f"{protocol.name} ")


class _Draw:
    """One draw of labels: what protocols are given, and the networks that later ones build on."""

    def __init__(self, measurement: Measurement, seed: int, table: Table, say: Callable[[str], None]) -> None:
        self.of, self.seed, self.table, self.say = measurement, seed, table, say
        self.positions = measurement.draw(seed)
        labelled = np.zeros(len(measurement.bench.train), dtype=bool)
        labelled[self.positions] = True
        self.others = measurement.order[~labelled[measurement.order]]
        self.answers = np.asarray(measurement.bench.train.column(measurement.answer))[self.positions]
        self._teachers: dict[str, PredictorModel] = {}

    def predict(self, arm: Arm, protocol: Protocol, first_seed: int) -> np.ndarray[Any, Any]:
        """Predictions of all test rows."""
        unlabelled = np.sort(self.others[: protocol.unlabelled])
        if protocol.frozen is not None:
            return protocol.frozen(self._frozen(arm, unlabelled))
        model = self._teacher(arm, first_seed)
        if protocol.name == "finetune+distill":
            model = self._student(arm, model, unlabelled)
        bench = self.of.bench
        said = outputs(model, Hidden(bench.test), batch_size=bench.batch_size, accelerator=self.of.tuning.accelerator)
        return said.argmax(1).astype(np.int64) if self.of.classes else said

    def sight(self, arm: Arm, protocol: Protocol) -> Sight:
        """What a protocol with several figures looks at."""
        assert arm.frozen is not None
        frozen = self._frozen(arm, np.sort(self.others[: protocol.unlabelled]))
        return Sight(frozen, arm.frozen(self.seed).changed)

    def _frozen(self, arm: Arm, unlabelled: Positions) -> Frozen:
        assert arm.frozen is not None
        sides, bench = arm.frozen(self.seed), self.of.bench
        return Frozen(
            sides.train.at(self.positions),
            self.answers,
            sides.train.at(unlabelled),
            sides.test.at(np.arange(len(bench.test))),
            self.of.classes,
            self.seed,
        )

    def _teacher(self, arm: Arm, first_seed: int) -> PredictorModel:
        assert arm.network is not None
        if arm.name not in self._teachers:
            rate = self._rate(arm, first_seed)
            updates = self.of.tuning.updates(len(self.positions))
            self.say(
                f"{arm.name}, draw {self.seed}: training a network on {len(self.positions)} labels, {updates} updates"
            )
            self._teachers[arm.name] = finetune(
                arm.network(self.seed),
                self._labelled(),
                pretrained=arm.pretrained,
                tuning=self.of.tuning,
                lr=rate,
                seed=self.seed,
                read_out=arm.read_out,
            )
        return self._teachers[arm.name]

    def _student(self, arm: Arm, teacher: PredictorModel, unlabelled: Positions) -> PredictorModel:
        assert arm.network is not None
        known = self.answers
        nothing = np.full(len(unlabelled), -1 if self.of.classes else np.nan, dtype=known.dtype)
        rows = self.of.bench.train.at(np.concatenate([self.positions, unlabelled]))
        return distill(
            teacher,
            arm.network(self.seed),
            rows,
            np.concatenate([known, nothing]),
            tuning=self.of.tuning,
            seed=self.seed,
        )

    def _labelled(self) -> Source:
        return self.of.bench.train.at(self.positions)

    def _rate(self, arm: Arm, first_seed: int) -> float:
        """The arm's learning rate: chosen once, on the labels of the first draw, and kept beside the figures."""
        assert arm.network is not None
        rates = self.table.about.setdefault("learning_rates", {})
        if arm.name not in rates:
            first = self if self.seed == first_seed else _Draw(self.of, first_seed, self.table, self.say)
            rate, why = choose_rate(
                arm.network,
                first._labelled(),
                pretrained=arm.pretrained,
                tuning=self.of.tuning,
                seed=first_seed,
                read_out=arm.read_out,
                say=lambda line: self.say(f"{arm.name}: {line}"),
            )
            rates[arm.name] = {"lr": rate, "how": why}
        return float(rates[arm.name]["lr"])
