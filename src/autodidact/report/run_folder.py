"""What a run folder holds, finished or not, read without running anything."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from autodidact.data.open import SKIPPED
from autodidact.data.places import place_name
from autodidact.recipes.stages import DONE, LEFT_OUT, NOTES
from autodidact.training import checkpoint as checkpoints
from autodidact.training.checkpoint import Checkpoint
from autodidact.training.journal import METRICS, read_metrics

CONFIG, RECORD = "config.yaml", "run.json"

Curves = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class Training:
    """One training of the run: the run's own, or that of a recipe's stage.

    Attributes
    ----------
    name : of the stage; empty for the run's own training.
    folder : holds ``log`` and ``checkpoints``.
    curves : metric -> (update, value) in order; values that are not finite are left out.
    """

    name: str
    folder: Path
    curves: Curves

    @cached_property
    def checkpoint(self) -> Checkpoint | None:
        """The newest whole checkpoint; None before the first one."""
        return checkpoints.read(self.folder / "checkpoints")

    @cached_property
    def left_out(self) -> Counter[str]:
        """How many answers that a language model drew for it were left out, by reason."""
        path = self.folder / LEFT_OUT
        return Counter(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})

    @property
    def updates(self) -> int:
        """Updates done at the newest checkpoint."""
        return int(self.checkpoint.progress["updates"]) if self.checkpoint else 0

    @property
    def total(self) -> int:
        """Updates planned; 0 before the first checkpoint."""
        return int(self.checkpoint.progress["total"]) if self.checkpoint else 0


@dataclass(frozen=True)
class StageLine:
    """A stage of a recipe: its name, what it made ("model", "store", "table"), and the seconds it took; unfinished
    stages have neither."""

    name: str
    kind: str | None
    seconds: float | None


@dataclass(frozen=True)
class RunFolder:
    """A run folder.

    Attributes
    ----------
    path : the folder.
    config : what was asked, from config.yaml.
    record : what happened, from run.json.
    trainings : in the order in which they ran.
    stages : of a recipe, in the order in which they finished, then what has begun; empty for a single method.
    skipped : files that could not be read, each with "name" and "reason".
    notes : what the stages of a recipe decided on the data, in sentences.
    evaluations : files of evaluations/*.json, by name.
    """

    path: Path
    config: Mapping[str, Any]
    record: Mapping[str, Any]
    trainings: Sequence[Training]
    stages: Sequence[StageLine]
    skipped: Sequence[Mapping[str, Any]]
    notes: Sequence[str]
    evaluations: Sequence[Path]

    @property
    def finished(self) -> bool:
        return (self.path / "model" / "model.json").exists()

    @property
    def of_language(self) -> bool:
        """Whether it improves a language model, and so has a task in place of data."""
        return self.config.get("verb") == "improve"

    @property
    def method(self) -> str:
        return str(self.config.get("method", "?"))

    @property
    def data(self) -> str:
        """Name of the data (or of the task) without the path to it."""
        return str(self.record.get("data") or place_name(str(self.config.get("data", "?"))))

    def last(self, name: str) -> float | None:
        """The newest value of a metric in the last training that has it."""
        found = [training.curves[name] for training in self.trainings if training.curves.get(name)]
        return found[-1][-1][1] if found else None


def read_run(path: str | Path) -> RunFolder:
    """Read a run folder.

    Raises
    ------
    FileNotFoundError : the folder does not exist, or is not a run's.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"no such run: {path}")
    if not (path / CONFIG).exists():
        raise FileNotFoundError(f"{path} is not a run folder ({CONFIG} is missing)")
    stages = _stages(path)
    folders = [("", path)] + [(line.name, path / "stages" / line.name) for line in stages]
    return RunFolder(
        path,
        yaml.safe_load((path / CONFIG).read_text()) or {},
        json.loads((path / RECORD).read_text()) if (path / RECORD).exists() else {},
        [_training(name, folder) for name, folder in folders if (folder / "log" / METRICS).exists()],
        stages,
        [dict(row) for row in _json_lines(path / SKIPPED)],
        [f"{line.name}: {note}" for line in stages for note in _notes(path / "stages" / line.name)],
        sorted((path / "evaluations").glob("*.json")),
    )


def _training(name: str, folder: Path) -> Training:
    curves: Curves = {}
    for step, metric, value in read_metrics(folder / "log" / METRICS):
        if value == value and abs(value) != float("inf"):
            curves.setdefault(metric, []).append((step, value))
    return Training(name, folder, curves)


def _stages(path: Path) -> list[StageLine]:
    """Finished stages by the time at which they finished, then the others by the time at which they began."""
    lines = []
    for folder in (path / "stages").glob("*/"):
        done = folder / DONE
        said = json.loads(done.read_text()) if done.exists() else {}
        moment = done.stat().st_mtime if said else folder.stat().st_ctime
        lines.append((not said, moment, StageLine(folder.name, said.get("kind"), said.get("seconds"))))
    return [line for *_, line in sorted(lines, key=lambda entry: entry[:2])]


def _notes(stage: Path) -> list[str]:
    return (stage / NOTES).read_text().splitlines() if (stage / NOTES).exists() else []


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; a half-written last line is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
