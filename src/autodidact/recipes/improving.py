"""What recipes share that make a language model better at a task."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from autodidact.data import ArraySource, Field, Source, Store
from autodidact.data.ids import row_ids
from autodidact.data.schema import Schema
from autodidact.lm import LM, Capability, Completion, Incapable, Sampling
from autodidact.lm.kept import LanguageModel
from autodidact.lm.local import LocalLM
from autodidact.lm.repeated import generate_each
from autodidact.lm.task import Task
from autodidact.methods.language.sft import SFT
from autodidact.methods.on_task import OnTask
from autodidact.model.model import write_aside
from autodidact.recipes.stages import LEFT_OUT, Recipe, Site
from autodidact.training import Settings

EXAMPLES = "examples.jsonl"
Example = tuple[str, str]
"""A prompt, and the completion that is wanted after it."""


class Improvement(Recipe):
    """A recipe that starts from a language model and a task, see `Site`.

    Attributes
    ----------
    answers_itself : whether what is kept answers by itself; if not, the recipe measures how it answers.
    """

    answers_itself: ClassVar[bool] = True
    needs: ClassVar = {}
    slots = ("lm",)

    def start(self, site: Site, *capabilities: Capability) -> tuple[LM, Task]:
        """What generates, and the task.

        Raises
        ------
        Incapable : the model lacks a capability.
        """
        if site.lm is None or site.task is None:
            raise ValueError(f"{type(self).__name__} improves a language model: autodidact improve, not pretrain")
        site.lm.need(type(self).__name__, *capabilities)
        return site.lm, site.task

    def student(self, site: Site) -> LocalLM:
        """What is trained.

        Raises
        ------
        Incapable : no model was given whose weights can be changed.
        """
        if site.student is None:
            raise Incapable(
                f"{type(self).__name__} trains a model, and {site.lm.name if site.lm else 'this one'} runs elsewhere; "
                "name one that runs here as the student"
            )
        return site.student


def example_source(name: str, examples: Sequence[Example]) -> Source:
    """Prompts and completions as data to train on."""
    prompts, completions = [list(column) for column in zip(*examples, strict=True)] or [[], []]
    schema = Schema(prompt=Field("text"), completion=Field("text"))
    ids = row_ids(name, "", len(examples))
    return ArraySource(name, {"prompt": prompts, "completion": completions}, schema, ids)


def question_source(name: str, task: Task, inputs: Sequence[str]) -> Source:
    """Inputs of a task with their prompts as data to train on."""
    fields = {"input": list(inputs), "prompt": [task.prompt(text) for text in inputs]}
    schema = Schema(input=Field("text"), prompt=Field("text"))
    return ArraySource(name, fields, schema, row_ids(name, "", len(inputs)))


def examples_of(store: Store) -> list[Example]:
    """The columns "prompt" and "completion" of a store."""
    return list(zip(store.column("prompt"), store.column("completion"), strict=True))


def write_examples(folder: Path, examples: Sequence[Example]) -> None:
    """Write into a run folder what the model is trained on, one JSON object of prompt and completion a line.

    SFTTrainer of trl reads it as it is, by ``load_dataset("json", data_files=...)``: it learns the completion, and the
    end of the text behind it. Where all texts of a column are dates alone, `datasets` makes times of them. axolotl
    learns the same by this configuration::

        datasets:
          - path: examples.jsonl
            ds_type: json
            type:
              field_instruction: prompt
              field_output: completion
              format: "{instruction}"
              no_input_format: "{instruction}"
        train_on_inputs: false

    The texts are those that a model without a chat template reads. With one, the training here puts the prompt into
    the template, and trl and axolotl do so only when they are told to. Of an empty completion axolotl learns nothing,
    not even its end.
    """
    lines = [json.dumps({"prompt": p, "completion": c}, ensure_ascii=False) + "\n" for p, c in examples]
    write_aside(folder / EXAMPLES, "".join(lines).encode())


def write_left_out(folder: Path, method: OnTask) -> None:
    """Write into the folder of a training, for the report, how many drawn answers were left out, by reason.

    Nothing is written where none was, so that what a training said that was whole already stays.
    """
    if method.dropped:
        write_aside(folder / LEFT_OUT, json.dumps(dict(method.dropped.most_common()), ensure_ascii=False).encode())


def filled(settings: Settings, source: Source) -> Settings:
    """The settings with batches that the data fills: a task may hold fewer rows than a batch."""
    return replace(settings, batch_size=min(settings.batch_size, len(source)))


def fine_tuned(site: Site, stage: str, student: LocalLM, examples: Sequence[Example]) -> LanguageModel:
    """Train a language model on examples, inside a stage, and keep it with the task."""
    write_examples(site.folder, examples)
    source = example_source(stage, examples)
    kept = site.train(stage, SFT(student), source, filled(site.settings, source))
    assert isinstance(kept, LanguageModel)
    return LanguageModel(kept.lm, site.task)


def one_each(lm: LM, prompts: Sequence[str], sampling: Sampling) -> list[Completion]:
    """An answer to each prompt; prompts that are alike get different draws."""
    return [found[0] for found in generate_each(lm, prompts, replace(sampling, n=1))]


def told(what: str, store: Store) -> list[str]:
    """How many of something a store kept and dropped, and why."""
    reasons = Counter(store.dropped.values())
    said = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return [f"{len(store)} {what}s are kept, {len(store.dropped)} are dropped" + (f" ({said})" if said else "")]


def must_have(what: str, store: Store) -> None:
    """Raise ValueError, with the reasons, where a store kept nothing."""
    if not len(store):
        raise ValueError(f"nothing is left: {told(what, store)[0]}")
