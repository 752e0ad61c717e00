"""improve: from a language model and a task to a better model in a run folder."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from autodidact.catalog import unknown
from autodidact.data import Source
from autodidact.evaluation.answers import answer, compared
from autodidact.lm import LM
from autodidact.lm.cached import Cached
from autodidact.lm.kept import LanguageModel
from autodidact.lm.ledger import Budgeted, Spent
from autodidact.lm.local import LocalLM
from autodidact.lm.names import LARGE, open_lm
from autodidact.lm.recorded import Recorded
from autodidact.lm.task import Task
from autodidact.lm.task_file import read_task
from autodidact.methods.method import Method
from autodidact.methods.on_task import OnTask
from autodidact.model import Encoder, Model, load_model
from autodidact.model.model import SETTINGS
from autodidact.recipes.improving import (
    EXAMPLES,
    Improvement,
    example_source,
    filled,
    question_source,
    write_examples,
    write_left_out,
)
from autodidact.recipes.names import check_options, find, seeded_weights
from autodidact.recipes.preferring import PAIRS, differing, pair_source, write_pairs
from autodidact.recipes.stages import Run, Site
from autodidact.training import Settings, train
from autodidact.training.language import ADAPTER_LR, TRAINING
from autodidact.training.processes import first_process
from autodidact.verbs.pretrain import claim_folder, record

TRANSCRIPT, ANSWERS = "transcript.jsonl", "answers"
ADAPTER_RANK = 16


def improve(
    method: str,
    model: str | Path | LM,
    task: str | Path | Task,
    *,
    out: str | Path | None = None,
    student: str | Path | LocalLM | None = None,
    adapter: int | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
    method_arguments: Mapping[str, Any] | None = None,
    call_budget: int | None = None,
    token_budget: int | None = None,
    threads: int = 8,
    timeout: float = 600.0,
    key: str = "OPENAI_API_KEY",
    device: str = "auto",
    fresh: bool = False,
    force: bool = False,
    report: bool = True,
    quiet: bool = False,
) -> Model:
    """Improve a language model at a task, and write the run folder.

    What the model generates is kept in ``OUT/answers`` as it arrives, so that a run that was cut off, by a kill or by
    its budget, asks for nothing twice: the same command goes on.

    Parameters
    ----------
    method : name of a method that improves language models (`autodidact methods` lists them), or ``file.py:Class``.
    model : what generates, see `autodidact.lm.names.open_lm`: a folder of transformers, a name on the hub, a run of
        this verb, ``http://ADDRESS/v1#MODEL``; or a model.
    task : YAML file, see `autodidact.lm.task_file.read_task`; or a task.
    out : run folder; default ``runs/METHOD-TASK``. A run found there is gone on with, or returned when it is finished.
    student : what is trained, named in the same way; default the model itself, where it runs here.
    adapter : rank of the LoRA adapter that is trained, 0 to train all weights; default 16 for models of more than 200
        million weights, else 0.
    settings : how to train, or by name what is to be changed of the default, which is that of
        `autodidact.training.language`: an adapter learns at a rate of its own, wherever it comes from. A batch is at
        most all rows of the task.
    method_arguments : the method's options.
    call_budget : answers that the model may be asked for in this run; default without limit. A run that reaches a limit
        stops, and the same command with a higher one goes on.
    token_budget : the same in tokens of prompts and answers together.
    threads : requests that an address gets at once.
    timeout : seconds after which a request to an address counts as failed and is made again.
    key : name of the environment variable that holds the key of an address.
    device : "auto", "cpu" or "gpu", for models that run here.
    fresh : do not go on with a run: an existing `out` is an error.
    force : with `fresh`, delete what is in `out`.
    report : write ``report.html`` at the end.
    quiet : no progress lines.

    Returns
    -------
    Model
        What the method keeps, also saved in ``OUT/model``. Beside it: ``hf/``, the same for transformers, or the
        adapter for peft; ``examples.jsonl``, what it was trained on, as lines of prompt and completion, and
        ``pairs.jsonl``, lines of prompt, chosen and rejected, both of which trl reads; ``transcript.jsonl``, every
        call; and, where the task has test inputs, ``evaluations/task.json``: the answers of what is trained, before and
        after, whatever writes the data.

    Raises
    ------
    ValueError : no such method or option; a model that lacks what the method needs; a task that makes no sense.
    FileNotFoundError : no such task or model.
    BudgetExceeded : a limit was reached.
    """
    given = dict(method_arguments or {})
    cls, _ = find(method)
    if cls.slots != ("lm",):
        raise ValueError(f"'{method}' does not improve language models; autodidact pretrain {method} trains with it")
    check_options(cls, given)
    wanted = read_task(task) if not isinstance(task, Task) else task
    changes = {} if settings is None or isinstance(settings, Settings) else settings
    known = settings if isinstance(settings, Settings) else training(**changes)
    said = _plain_settings(known)
    if known is not settings and "lr" not in changes:
        # What is trained is opened below, and only then it is known whether it has an adapter.
        del said["lr"]
    folder = Path(out) if out is not None else run_folder(method, task)
    config = {
        "verb": "improve",
        "method": method,
        "model": _called(model),
        "data": "a task" if isinstance(task, Task) else str(task),
        "task": json.loads(json.dumps({**wanted.plain(), "test": [asdict(one) for one in wanted.test]})),
        "student": None if student is None else _called(student),
        "adapter": adapter,
        "method_arguments": given,
        "settings": said,
    }
    claim_folder(folder, config, fresh=fresh, force=force)
    if (folder / "model" / SETTINGS).exists():
        return load_model(folder)
    opening = partial(open_lm, device=device, threads=threads, timeout=timeout, key=key)
    speaker = model if isinstance(model, LM) else opening(model)
    learner = _student(speaker, student, adapter, device)
    if "lr" not in said:
        known = training(adapter=learner is not None and learner.has_adapter, **changes)
        claim_folder(folder, {**config, "settings": _plain_settings(known)}, fresh=False, force=False)
    record(folder, {"status": "improving", "method": method, "model": speaker.name})
    started = time.monotonic()
    budgeted = Budgeted(speaker, calls=call_budget, tokens=token_budget)
    asked = _kept_answers(budgeted, folder)
    further: dict[str, Cached] = {}

    def open_further(name: str) -> LM:
        if name not in further:
            further[name] = _kept_answers(budgeted.beside(opening(name)), folder)
        return further[name]

    try:
        # Whatever cannot work is found out here, before anything is asked of the model.
        if issubclass(cls, Method):
            work: Callable[[], Any] = _one_training(cls, learner, wanted, known, given, folder, quiet)
        else:
            assert issubclass(cls, Improvement)
            site = Site(example_source("task", _pairs(wanted)), _no_encoder, known, folder, quiet)
            site.lm, site.student, site.task, site.open_lm = asked, learner, wanted, open_further
            work = Run(cls(**given).stages(site), folder).result
        before = _answers(_measured(cls, asked, speaker, learner), wanted)
        kept = work()
    finally:
        with suppress(OSError):
            record(folder, {"spent": _plain_spent(budgeted.spent)})
        for one in (asked, *further.values()):
            one.close()
    if not isinstance(kept, LanguageModel):
        raise ValueError(f"recipe '{method}' ended with a {type(kept).__name__}, not a language model")
    if not first_process():
        return kept
    if before is not None and kept.answers_itself:
        after = _answers(kept.lm, wanted)
        compared(wanted, before, after or []).save(folder / "evaluations" / "task.json")
    if isinstance(kept.lm, LocalLM):
        kept.lm.save_folder(folder / "hf")
    kept.save(folder / "model")
    seconds = round(time.monotonic() - started, 1)
    learned = sum(_lines(folder / name) for name in (EXAMPLES, PAIRS))
    record(folder, {"status": "finished", "samples": learned, "seconds": seconds})
    if report:
        from autodidact.report import write_report

        write_report(folder)
    return kept


def _kept_answers(budgeted: Budgeted, folder: Path) -> Cached:
    return Cached(Recorded(budgeted, folder / TRANSCRIPT), folder / ANSWERS)


def training(*, adapter: bool = False, **changes: Any) -> Settings:
    """How a language model, or the adapter of one, is trained, with what is to be changed of it."""
    rate = {"lr": ADAPTER_LR} if adapter else {}
    length = {} if {"steps", "tokens"} & changes.keys() else {"epochs": TRAINING["epochs"]}
    rest = {name: value for name, value in TRAINING.items() if name != "epochs"}
    return Settings(**{**rest, **rate, **length, **changes})


def _student(speaker: LM, asked: str | Path | LocalLM | None, adapter: int | None, device: str) -> LocalLM | None:
    """What is trained, with an adapter where one is wanted; None where nothing runs here."""
    found = speaker if asked is None else asked if isinstance(asked, LM) else open_lm(asked, device=device)
    if not isinstance(found, LocalLM):
        if asked is not None:
            raise ValueError(f"the student must run here, '{found.name}' does not")
        return None
    if found.has_adapter:
        return found
    weights = sum(p.numel() for p in found.parameters())
    rank = (ADAPTER_RANK if weights > LARGE else 0) if adapter is None else adapter
    if rank < 0:
        raise ValueError(f"the rank of an adapter is 0 or more, got {rank}")
    if rank:
        from autodidact.lm.adapters import add_adapter

        add_adapter(found, rank=rank)
    return found


def _one_training(
    cls: type[Method],
    student: LocalLM | None,
    task: Task,
    settings: Settings,
    given: Mapping[str, Any],
    folder: Path,
    quiet: bool,
) -> Callable[[], Model]:
    """A method by itself: what trains it on the task's examples, or its pairs of answers."""
    if student is None:
        raise ValueError(
            f"{cls.__name__} trains a model, and this one runs elsewhere; name one that runs here: --student"
        )
    if issubclass(cls, OnTask):
        return _on_task(cls, student, task, settings, given, folder, quiet)
    source, write = _pairs_of(cls, task) if "chosen" in cls.needs else _examples_of(cls, task)
    source.schema.require(cls.needs, f"method '{cls.__name__}'")
    made = cls(student, **given)

    def work() -> Model:
        write(folder)
        kept = train(made, source, filled(settings, source), out=folder, quiet=quiet)
        assert isinstance(kept, LanguageModel)
        return LanguageModel(kept.lm, task)

    return work


def _on_task(
    cls: type[OnTask],
    student: LocalLM,
    task: Task,
    settings: Settings,
    given: Mapping[str, Any],
    folder: Path,
    quiet: bool,
) -> Callable[[], Model]:
    """A method that asks the task's questions itself. What it answers at the end is written down to be read."""
    # What a method asks for beside these is its own; what the base class takes is what they all end with.
    make: Callable[..., OnTask] = cls
    with seeded_weights(settings.seed):
        made = make(student, task, **given)
    source = question_source("questions", task, made.questions)

    def work() -> Model:
        kept = train(made, source, filled(settings, source), out=folder, quiet=quiet)
        write_examples(folder, made.answers())
        write_left_out(folder, made)
        return kept

    return work


def _examples_of(cls: type[Method], task: Task) -> tuple[Source, Callable[[Path], None]]:
    """A task's examples as data, and what writes them into a run folder."""
    found = [(task.prompt(one.input), task.completion(one.output)) for one in task.examples]
    if not found:
        raise ValueError(f"{cls.__name__} learns from the task's examples, and it has none: examples: FILE.jsonl")
    return example_source("examples", found), partial(write_examples, examples=found)


def _pairs_of(cls: type[Method], task: Task) -> tuple[Source, Callable[[Path], None]]:
    """The same of a task's pairs of answers."""
    found, alike = differing(task.preferences())
    if not found:
        raise ValueError(
            f"{cls.__name__} learns from the task's pairs of answers, and it has none"
            + (f" but {alike} whose answers are the same" if alike else "")
            + ": pairs: FILE.jsonl with prompt, chosen and rejected"
        )
    if alike:
        warnings.warn(f"{alike} of {alike + len(found)} pairs are left out: their answers are the same", stacklevel=3)
    return pair_source("pairs", found), partial(write_pairs, pairs=found)


def _pairs(task: Task) -> list[tuple[str, str]]:
    """The demonstrations and examples of a task, as data that a recipe may look at."""
    shown = [*task.demonstrations, *task.examples]
    return [(task.style.question.format(input=one.input), task.answer(one.output)) for one in shown]


def _measured(cls: type, asked: LM, speaker: LM, student: LocalLM | None) -> LM | None:
    """Whose answers to the test inputs are those before: the student's where there is one, for its answers are those
    after; None where what is kept does not answer by itself, and is measured by the recipe."""
    if issubclass(cls, Improvement) and not cls.answers_itself:
        return None
    # A student that generates too is asked through what keeps its answers.
    return asked if student is None or student is speaker else student


def _answers(lm: LM | None, task: Task) -> list[str] | None:
    """Answers to the test inputs; None where there are none, or nobody to ask."""
    return answer(lm, task, [one.input for one in task.test]) if lm is not None and task.test else None


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _no_encoder(slot: str, draw: int = 0) -> Encoder:
    raise unknown("network of a language model's method", slot, ["lm"])


def _called(model: str | Path | LM) -> str:
    return model.name if isinstance(model, LM) else str(model)


def run_folder(method: str, task: str | Path | Task) -> Path:
    """The run folder where none is named: ``runs/METHOD-TASK``."""
    named = "task" if isinstance(task, Task) else Path(task).stem
    return Path("runs") / f"{Path(method).stem.split(':')[0]}-{named}"


def _plain_settings(settings: Settings) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}


def _plain_spent(spent: Spent) -> dict[str, float]:
    return {name: round(value, 3) for name, value in asdict(spent).items()}
