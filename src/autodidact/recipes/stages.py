"""The stage engine: a recipe is a small graph of train, derive and measure, and resumes by itself."""

from __future__ import annotations

import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from autodidact.catalog import unknown
from autodidact.data.batch import Batch
from autodidact.data.schema import Kind
from autodidact.data.source import Source
from autodidact.data.store import Store, derive
from autodidact.evaluation.embeddings import embedder
from autodidact.evaluation.table import Table
from autodidact.methods.method import Method
from autodidact.model import Encoder, Model, load_model
from autodidact.model.device import pick_device
from autodidact.model.model import write_aside
from autodidact.schedules import Course
from autodidact.training import Settings, train
from autodidact.training.checkpoint import by_prefix
from autodidact.training.processes import first_process
from autodidact.training.run import carried

if TYPE_CHECKING:
    from autodidact.lm import LM
    from autodidact.lm.local import LocalLM
    from autodidact.lm.task import Task as LanguageTask

Artefact = Model | Store | Table
DONE, NOTES, LEFT_OUT = "done.json", "notes.txt", "left_out.json"


@dataclass
class Site:
    """Where a recipe runs: the data, the networks and settings that the user asked for, and the run's folder.

    Attributes
    ----------
    source : the samples.
    encoder : makes a fresh encoder for a slot; the weights follow from the run's seed and the slot, and from a second
        argument, the number of the draw, where a recipe trains several networks for one slot.
    settings : the user's training settings, for the recipe's main training.
    folder : every stage gets its own folder below it.
    quiet : no progress lines.
    lm, student, task : of recipes that improve a language model: what generates, what is trained (None where the model
        runs elsewhere), and what it is to become better at.
    open_lm : opens a further language model by its name, whose answers are kept and counted with the others.
    """

    source: Source
    encoder: Callable[..., Encoder]
    settings: Settings
    folder: Path
    quiet: bool = False
    lm: LM | None = None
    student: LocalLM | None = None
    task: LanguageTask | None = None
    open_lm: Callable[[str], LM] | None = None

    def train(
        self,
        stage: str,
        method: Method,
        source: Source,
        settings: Settings | None = None,
        *,
        carry: str = "",
        course: Course | None = None,
    ) -> Model:
        """Train inside a stage; a training that was cut off goes on.

        Parameters
        ----------
        carry : earlier stage, a parent of this one, that trained the same method: this training goes on from its end,
            with the optimiser's state and the count of updates. That stage is left as it is, so several may carry it.
        course : learning-rate multiplier by the count of updates, instead of the schedule of the settings.
        """
        if carry and not first_process():
            # What it ended with is written by the first process.
            _wait_for(self.at(carry) / DONE)
        return train(
            method,
            source,
            settings or self.settings,
            out=self.at(stage),
            quiet=self.quiet,
            title=stage,
            carry=self.at(carry) if carry else None,
            course=course,
        )

    def restored(self, stage: str, method: Method) -> Method:
        """A method with all weights that a stage's training ended with (the averaged ones, where an average is kept),
        heads included: what the stage's model has left behind."""
        saved = carried(self.at(stage)).tensors
        method.load_state_dict(by_prefix(saved, "average") or by_prefix(saved, "method"))
        return method

    def store(self, stage: str, **schema: Any) -> Store:
        """The stage's store, continued where it was cut off."""
        return Store(self.at(stage) / "store", name=stage, schema=schema)

    def embedded(self, stage: str, model: Model, source: Source) -> Store:
        """The stage's store with the "embedding" of every sample of a source, L2-normalised, continued where it was cut
        off; computed on the device that the settings ask for.

        Raises
        ------
        ValueError : an embedding holds NaN or infinite values.
        """
        featurise = embedder(model, pick_device(self.settings.accelerator))

        def rows(batch: Batch) -> dict[str, Any]:
            found = featurise(batch).float().cpu()
            if not found.isfinite().all():
                raise ValueError(f"{stage}: the model embeds samples of '{source.name}' as NaN or infinite values")
            return {"embedding": torch.nn.functional.normalize(found)}

        return derive(rows, source, self.store(stage), batch_size=512)

    def note(self, stage: str, *sentences: str) -> None:
        """Say what a stage decided on the data: on stderr unless quiet, in the stage's folder, and in the report."""
        if not self.quiet:
            for sentence in sentences:
                print(f"{stage}: {sentence}", file=sys.stderr)
        self.at(stage).mkdir(parents=True, exist_ok=True)
        write_aside(self.at(stage) / NOTES, "".join(f"{sentence}\n" for sentence in sentences).encode())

    def at(self, stage: str) -> Path:
        return self.folder / "stages" / stage


@dataclass(frozen=True)
class Stage:
    """One step of a recipe.

    Attributes
    ----------
    name : unique in the recipe; a stage of a later round carries its number ("train.2"), so that any later stage can
        name the result of any earlier round.
    run : gets the results of the parents by name, and returns this stage's result.
    parents : stages whose results `run` reads; they come earlier in the list.
    """

    name: str
    run: Callable[[Mapping[str, Any]], Artefact]
    parents: tuple[str, ...] = ()


def at_once(source: Source) -> None:
    """Raise ValueError where the data is a stream: for stages that look at all of it."""
    if source.streaming:
        raise ValueError(f"'{source.name}' is a stream; the stages need all of the data at once")


def rounds(count: int, of: Callable[[int], Sequence[Stage]]) -> list[Stage]:
    """The stages of `count` rounds, from 1; `of(k)` gives those of round k, with its number in their names."""
    return [stage for number in range(1, count + 1) for stage in of(number)]


class Recipe(ABC):
    """Several trainings and derivations in a row.

    Like a `Method`, the constructor's keyword arguments are command-line options, and `slots` names the networks. An
    argument of type `recipes.names.MethodSpec` names the method that the recipe trains; data and networks are then what
    that method asks for. An argument of type `Source` is further data, named as the data itself is.
    """

    needs: ClassVar[Mapping[str, Kind]] = {"image": "image"}
    one_need_suffices: ClassVar[bool] = False
    slots: ClassVar[tuple[str, ...]] = ("encoder",)

    @abstractmethod
    def stages(self, site: Site) -> list[Stage]:
        """The stages in an order in which they can run; the last one gives the result."""


@dataclass
class Run:
    """Runs the stages of one recipe in a folder.

    A finished stage is read back from its folder, not run again.
    """

    stages: Sequence[Stage]
    folder: Path
    kinds: Mapping[str, type[Model]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: list[str] = []
        for stage in self.stages:
            if stage.name in seen:
                raise ValueError(f"two stages are called '{stage.name}'")
            for parent in stage.parents:
                if parent not in seen:
                    raise unknown(f"parent of stage '{stage.name}'", parent, seen)
            seen.append(stage.name)

    def result(self) -> Artefact:
        """Run what is not done yet; the result of the last stage."""
        results: dict[str, Artefact] = {}
        needed = self._needed()
        for stage in self.stages:
            if stage.name in needed:
                results[stage.name] = self._stage(stage, results)
        return results[self.stages[-1].name]

    def _needed(self) -> set[str]:
        """The last stage, and what the stages that are not done need; results nobody asks for are not read."""
        needed = {self.stages[-1].name}
        for stage in reversed(self.stages):
            if not (self._folder(stage.name) / DONE).exists():
                needed |= {stage.name, *stage.parents}
        return needed

    def _stage(self, stage: Stage, results: Mapping[str, Artefact]) -> Artefact:
        folder = self._folder(stage.name)
        if not first_process() and not (folder / DONE).exists() and not _training(stage):
            _wait_for(folder / DONE)
        if (folder / DONE).exists():
            return self._load(folder)
        started = time.monotonic()
        result = stage.run({parent: results[parent] for parent in stage.parents})
        if first_process():
            folder.mkdir(parents=True, exist_ok=True)
            kind = _save(result, folder)
            done = {"stage": stage.name, "kind": kind, "seconds": round(time.monotonic() - started, 3)}
            write_aside(folder / DONE, json.dumps(done).encode())
        return result

    def read(self, stage: str) -> Artefact:
        """The result of a finished stage, from its folder."""
        return self._load(self._folder(stage))

    def _load(self, folder: Path) -> Artefact:
        kind = json.loads((folder / DONE).read_text())["kind"]
        if kind == "model":
            return load_model(folder / "model", kinds=self.kinds)
        return Store(folder / "store", name=folder.name) if kind == "store" else Table.load(folder / "table.json")

    def _folder(self, stage: str) -> Path:
        return self.folder / "stages" / stage


def _save(result: Artefact, folder: Path) -> str:
    if isinstance(result, Model):
        result.save(folder / "model")
        return "model"
    if isinstance(result, Store):
        if result.folder != folder / "store":
            raise ValueError("a stage must write its own store: use site.store(name)")
        return "store"
    result.save(folder / "table.json")
    return "table"


def _training(stage: Stage) -> bool:
    """All processes train together; anything else is the first one's work, and the others wait for its result."""
    return getattr(stage.run, "trains", False)


def training(run: Callable[[Mapping[str, Any]], Artefact]) -> Callable[[Mapping[str, Any]], Artefact]:
    """Marks the `run` of a stage that trains: with several processes, all of them take part."""
    run.trains = True  # type: ignore[attr-defined]
    return run


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.2)
