"""Continual pretraining: any method through one data set after another, with annealed branches; what it forgets."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from autodidact.catalog import Card
from autodidact.data import RandomBatching, ReplayBatching, Source, split, united
from autodidact.data.open import SKIPPED
from autodidact.evaluation.retained import held_out_loss, neighbour_accuracy
from autodidact.evaluation.table import Table
from autodidact.measures import retention
from autodidact.methods.method import Method
from autodidact.model import Model
from autodidact.model.device import pick_device
from autodidact.recipes.further import opened_like
from autodidact.recipes.names import MethodSpec, method_of, named_method
from autodidact.recipes.stages import Recipe, Site, Stage, training
from autodidact.schedules import Plan
from autodidact.training.feed import epoch_length

CARD = Card(
    name="continual",
    target="Continual",
    kind="recipe",
    title="Continual pretraining",
    paper="Singh, Janson, Mehrbod, Ibrahim, Rish, Belilovsky, Therien: Beyond Cosine Decay (2503.02844, 2025)",
    summary="Trains any method on one data set after another, with the optimiser's state; says what is forgotten.",
    needs=(("image", "image"),),
    arguments=("then", "method", "replay"),
    asks="--method.then B,C",
    encoder="small:convnet",
)

ANSWERS = ("label", "target", "group")


@dataclass(frozen=True)
class Part:
    """One data set of the stream: what is trained on, and what is held out."""

    name: str
    train: Source
    held: Source

    @property
    def label(self) -> str | None:
        """The field with classes, where held-out samples have at least two."""
        field = self.held.schema.first("label")
        if field is None or any(len(np.unique(known[known >= 0])) < 2 for known in self._answers(field)):
            return None
        return field

    def _answers(self, field: str) -> list[np.ndarray]:
        return [np.asarray(part.column(field)) for part in (self.train, self.held)]


class Continual(Recipe):
    """Continual pretraining (arXiv 2503.02844): ``--data A --method.then B,C --schedule infinite``.

    One method is trained through the stream with one optimiser, whose state is never reset and whose updates are
    counted once over all of it. Each data set has the same number of updates, or of epochs. With --schedule
    ``infinite`` (the paper's) or ``wsd`` the last part of each budget is a branch: a copy that is annealed, measured
    and kept in its stage, while the next data set goes on from the state before the annealing. ``repeated_cosine``
    warms up again with every data set; ``cosine``, which is what there is unless another is asked for, and ``linear``
    fall once over the whole stream; ``constant`` never does. The result is what the last data set ends with, annealed
    where there is a branch.

    The stage "forgetting" is a table. Row "after T" has for every data set I up to T "loss I", the method's own loss on
    its held-out samples, and where it has labels "knn I", the accuracy of nearest neighbours; the last row also their
    averages and what was forgotten (`autodidact.measures.retention`). Rows "before T" and "entering T" have the losses
    of the state that goes on (not annealed) before data set T, and after the first `entry` of its budget: the bump of a
    new warm-up. Compare only states that are annealed alike.

    What a method itself schedules over a training, such as a teacher's momentum, reaches its end with every data set.
    Methods that keep something for each sample cannot be trained so. With several data sets of labels, classes may
    differ.

    Parameters
    ----------
    then : the data sets after the first, in their order, named as the data itself is; with commas between.
    method : what is trained, by name, or with options as ``{name: dcl, temperature: 0.2}``.
    replay : share of every batch that is drawn from earlier data sets, in [0, 1); language models: about 0.05.
    buffer : samples of each earlier data set that are kept for that, drawn at random; 0 for all.
    held : share of each data set that is held out and measured on, in (0, 1).
    entry : share of a later data set's budget after which losses are measured once, in [0, 1); 0 for not at all.
    """

    def __init__(
        self,
        *,
        then: Source | str | Sequence[Source | str] = (),
        method: MethodSpec = "simclr",
        replay: float = 0.0,
        buffer: int = 0,
        held: float = 0.1,
        entry: float = 0.1,
    ) -> None:
        cls = named_method(method)[0]
        if "samples" in inspect.signature(cls).parameters:
            raise ValueError(
                f"{cls.__name__} keeps something for each sample of one data set, so it cannot go through several"
            )
        if not 0 <= replay < 1 or buffer < 0:
            raise ValueError(f"replay lies in [0, 1) and buffer is not negative, got {replay} and {buffer}")
        if buffer and not replay:
            raise ValueError(f"a buffer of {buffer} samples is of no use without replay")
        if not 0 < held < 1 or not 0 <= entry < 1:
            raise ValueError(f"held lies in (0, 1) and entry in [0, 1), got {held} and {entry}")
        self.further = [then] if isinstance(then, Source) else _named(then) if isinstance(then, str) else list(then)
        if not self.further:
            raise ValueError("continual training needs data sets after the first: --method.then B,C")
        self.method, self.replay, self.buffer, self.held, self.entry = method, replay, buffer, held, entry

    def stages(self, site: Site) -> list[Stage]:
        plan = site.settings.plan()
        if plan.cycles is not None:
            raise ValueError("a stream has a cycle for each of its data sets: leave out --cycles")
        if site.settings.tokens:
            raise ValueError("a stream counts each data set in --steps or --epochs, not in --tokens")
        skipped = site.folder / SKIPPED
        further = [
            opened_like(data, site.source, "data set", quiet=site.quiet, skipped=skipped) for data in self.further
        ]
        if site.source.streaming:
            raise ValueError(f"'{site.source.name}' is a stream; save it first, so that some of it can be held out")
        parts = [divided(source, self.held) for source in (site.source, *further)]
        walk = _Walk(self, site, plan, parts)
        stages: list[Stage] = []
        for number in range(1, len(parts) + 1):
            stages += walk.through(number)

        def forgetting(results: Mapping[str, Any]) -> Table:
            table = Table({"data": [part.name for part in parts], "schedule": plan.name})
            for found in results.values():
                table.merge(found)
            site.note("forgetting", *_summed_up(table, len(parts), site.settings.seed))
            return table

        measured = tuple(stage.name for stage in stages if stage.name.startswith("measure"))
        last = walk.kept(len(parts))
        return [
            *stages,
            Stage("forgetting", forgetting, measured),
            Stage("result", lambda results: results[last], (last, "forgetting")),
        ]


@dataclass(frozen=True)
class _Walk:
    """The stages of one data set after another."""

    recipe: Continual
    site: Site
    plan: Plan
    parts: Sequence[Part]

    def made(self) -> Method:
        return method_of(self.recipe.method, self.site.encoder, self.site.source, self.site.settings.seed)

    def shown(self, number: int, method: Method) -> Source:
        """What is trained on with data set `number`; sets the method's batches where earlier ones are replayed."""
        own = self.parts[number - 1].train
        if number == 1 or not self.recipe.replay:
            return own
        if method.batching != RandomBatching():
            raise ValueError(f"{type(method).__name__} makes its batches by a rule of its own; use it without replay")
        earlier = [self._kept_samples(earlier) for earlier in range(1, number)]
        bare = [_without_answers(source, method) for source in (own, *earlier)]
        method.batching = ReplayBatching(len(own), self.recipe.replay)
        return united(**{f"d{place}": source for place, source in enumerate(bare)})

    def _kept_samples(self, number: int) -> Source:
        source = self.parts[number - 1].train
        if not self.recipe.buffer or self.recipe.buffer >= len(source):
            return source
        order = np.random.default_rng([self.site.settings.seed, number]).permutation(len(source))
        return source.at(np.sort(order[: self.recipe.buffer]))

    @cached_property
    def budgets(self) -> list[int]:
        """Updates for every data set."""
        settings = self.site.settings
        if settings.steps:
            return [settings.steps] * len(self.parts)
        found = []
        for number in range(1, len(self.parts) + 1):
            method = self.made()
            length = epoch_length(self.shown(number, method), method.batching, settings.batch_size)
            found.append((settings.epochs or 0) * length)
        return found

    def kept(self, number: int) -> str:
        """The stage with the model that is kept of a data set."""
        budgets = self.budgets
        return f"anneal.{number}" if self.plan.steps(budgets)[number - 1] < budgets[number - 1] else f"train.{number}"

    def through(self, number: int) -> list[Stage]:
        """The stages of one data set."""
        budgets = self.budgets
        trunk = self.plan.steps(budgets)
        before = f"train.{number - 1}" if number > 1 else ""
        entry = min(trunk[number - 1] - 1, max(1, round(self.recipe.entry * budgets[number - 1])))
        stages = []
        course = self.plan.trunk(budgets)
        if before and self.recipe.entry and entry:
            stages.append(self._training(f"enter.{number}", number, entry, before, course))
            before = f"enter.{number}"
        else:
            entry = 0
        stages.append(self._training(f"train.{number}", number, trunk[number - 1] - entry, before, course))
        if self.kept(number) != f"train.{number}":
            steps = budgets[number - 1] - trunk[number - 1]
            branch = self.plan.annealed(budgets, number - 1)
            stages.append(self._training(f"anneal.{number}", number, steps, f"train.{number}", branch))
        at = {f"after {number}": self.kept(number)}
        if entry:
            at |= {f"before {number}": f"train.{number - 1}", f"entering {number}": f"enter.{number}"}
        return [*stages, self._measuring(number, at)]

    def _training(self, stage: str, number: int, steps: int, carry: str, course: Any) -> Stage:
        settings = replace(self.site.settings, steps=steps, epochs=None)

        @training
        def run(_: Mapping[str, Any]) -> Model:
            method = self.made()
            source = self.shown(number, method)
            return self.site.train(stage, method, source, settings, carry=carry, course=course)

        return Stage(stage, run, (carry,) if carry else ())

    def _measuring(self, number: int, at: Mapping[str, str]) -> Stage:
        """Losses of all data sets so far in the states `at` (row -> stage); neighbours in the one that is kept."""
        seed, size = self.site.settings.seed, self.site.settings.batch_size
        device = pick_device(self.site.settings.accelerator)

        def run(_: Mapping[str, Any]) -> Table:
            table = Table()
            for row, stage in at.items():
                method = self.site.restored(stage, self.made())
                for place, part in enumerate(self.parts[:number], start=1):
                    loss = held_out_loss(method, part.held, min(size, len(part.held)), device=device)
                    table.add(row, f"loss {place}", seed, loss)
                    if row.startswith("after") and part.label:
                        model = method.kept().eval()
                        found = neighbour_accuracy(model, part.train, part.held, part.label, device=device)
                        table.add(row, f"knn {place}", seed, found)
            return table

        return Stage(f"measure.{number}", run, tuple(dict.fromkeys(at.values())))


def divided(source: Source, held: float) -> Part:
    """A data set of the stream, of which a share is held out, decided by a hash of each sample."""
    sides = split(source, {"train": 1 - held, "held": held})
    return Part(source.name, sides["train"], sides["held"])


def _named(names: str) -> list[Source | str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _without_answers(source: Source, method: Method) -> Source:
    """Without the fields that say what a sample is, unless the method reads them: classes of data sets differ."""
    for name, field in list(source.schema.items()):
        if field.kind in ANSWERS and name not in method.needs:
            source = source.without(name)
    return source


def _summed_up(table: Table, count: int, seed: int) -> list[str]:
    """Adds averages and what was forgotten to the last row; says them."""
    said = []
    for metric, higher in (("loss", False), ("knn", True)):
        rows = [[(f"after {t}", f"{metric} {i}") for i in range(1, t + 1)] for t in range(1, count + 1)]
        if not all(table.has(arm, name, seed) for row in rows for arm, name in row):
            continue
        scores = [[table.values(arm, name)[0] for arm, name in row] for row in rows]
        found = retention(scores, higher_is_better=higher)
        table.add(f"after {count}", f"{metric} average", seed, found.average)
        table.add(f"after {count}", f"{metric} forgetting", seed, found.forgetting)
        said.append(f"{metric} of {count} data sets: {found.average:.3f} on average, {found.forgetting:.3f} forgotten")
    return said
