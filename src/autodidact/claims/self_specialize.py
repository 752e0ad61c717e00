"""Self-Specialization (31): a few seeds of a domain bring out what a model knows of it, better than general ones do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from autodidact.claims.bases import base_lm, taught
from autodidact.claims.claim import Claim, Figures, Statement
from autodidact.claims.engine import default_cache
from autodidact.data import Store
from autodidact.evaluation.answers import answer, judged
from autodidact.lm import Sampling
from autodidact.lm.adapters import Specialists, add_adapter
from autodidact.lm.instructions import Instance
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Demonstration, Task
from autodidact.methods.language.sft import SFT
from autodidact.recipes.improving import example_source
from autodidact.recipes.self_specialize import Library, SelfSpecialize
from autodidact.selection.bm25 import BM25
from autodidact.selection.dense import Dense
from autodidact.worlds.language.facts import VERBS, Facts, Verb

Way = Literal[
    "few-shot",
    "seeds",
    "generic",
    "no retrieval",
    "dense",
    "specialised",
    "again",
    "another domain",
    "oracle",
    "all weights",
    "two adapters",
]
RANKS = (2, 32)
"""Ranks of adapters beside that of the others."""
FEW = 2
"""Seeds of the arms that stand beside the question."""
SHOTS = (0, 1, 5)
FIGURES = ("right", "across", "elsewhere", "false", "about", "kept", "empty", "copied", "own", "other")


def run(
    *,
    way: Way,
    seed: int,
    world: Mapping[str, Any],
    base: Mapping[str, Any],
    verbs: Sequence[Verb],
    seeds: int,
    test: int,
    rounds: int,
    per_round: int,
    learned: int,
    steps: int,
    batch: int,
    rank: int,
    lr: float,
    lr_all: float,
) -> dict[str, float]:
    """What one way makes of a model, in the domain that it was seldom or never asked about.

    ``right`` is the percent of questions about unseen entities that are answered right, by some verbs of the seeds,
    ``across`` by verbs that no text and no seed asks by, ``elsewhere`` about another domain. Of the questions that the
    model wrote itself, ``kept`` is the number, ``about`` the percent that are about the domain, and ``false`` the
    percent of the answers to lookups that are no facts; ``empty`` and ``copied`` are percents of the answers. Of two
    adapters on one trunk, ``own`` is the percent right about the domain of each, ``other`` about that of the other one,
    all in one batch.
    """
    facts = Facts(**world)
    folder = default_cache().parent / "bases"
    lm = base_lm(facts, folder, seed=seed, dials=world, symbols=facts.tokens(), **base)
    domains = {"generic": range(len(facts.domains)), "another domain": [1]}.get(way, [0])
    task = facts.task(list(domains), seeds=seeds, test=test, verbs=verbs, seed=seed)
    hidden = [verb for verb in VERBS if verb not in facts.verbs]
    tasks = {
        "right": task,
        "across": facts.task([0], seeds=seeds, test=test, verbs=hidden, seed=seed),
        "elsewhere": facts.task([1], seeds=seeds, test=test, about=1, verbs=verbs, seed=seed),
    }
    method = SelfSpecialize(
        rounds=rounds, per_round=per_round, shown=4, shown_made=1, shots=3, passages=3, task_tokens=24, shortest=2
    )
    made = dict.fromkeys(FIGURES, 0.0)
    if way == "few-shot":
        return made | _few_shot(lm, tasks)

    def learned_from(task: Task, pairs: Sequence[tuple[Instance, str]]) -> LocalLM:
        student = deepcopy(lm)
        if way != "all weights":
            add_adapter(student, rank=rank, seed=seed)
        rows = [*((one, one.output) for one in task.seeds), *pairs]
        source = example_source("tasks", [(task.prompt(one.instruction), task.completion(said)) for one, said in rows])
        rate = lr_all if way == "all weights" else lr
        return taught(SFT(student), source, steps=steps, batch=batch, lr=rate, seed=seed)

    def written(task: Task, domain: int) -> list[tuple[Instance, str]]:
        store = Store(name="tasks")
        method.invent(lm, task, store, seed)
        library = _library(facts.corpus(domain, seed=seed), lm, way)
        pairs = _answered(method, lm, task, store, library, seed)[:learned]
        if way == "again":
            pairs = _answered(method, learned_from(task, pairs), task, store, library, seed)[:learned]
        return pairs

    pairs = [] if way == "seeds" else written(task, 0)
    made |= _quality(facts, pairs)
    if way == "oracle":
        asked = [(one, facts.asked(one.instruction)) for one, _ in pairs]
        pairs = [(one, item.answer) for one, item in asked if item is not None]
    expert = learned_from(task, pairs)
    if way == "two adapters":
        other = tasks["elsewhere"]
        both = Specialists({"0": expert, "1": learned_from(other, written(other, 1))})
        made |= _side_by_side(both, {"0": task, "1": other})
    return made | _judged(expert, tasks)


def _library(corpus: Sequence[str], lm: LocalLM, way: Way) -> Library:
    """What answers are shown from: texts that are found by their words, but for three ways."""
    if way in ("no retrieval", "generic"):
        return Library((), None)
    return Library(corpus, Dense(corpus, lm.pooled) if way == "dense" else BM25(corpus))


def _side_by_side(both: Specialists, tasks: Mapping[str, Task]) -> dict[str, float]:
    """What adapters get right of their own and of each other's questions, which are answered in one batch."""
    rows = [(own, about, one) for own in tasks for about, task in tasks.items() for one in task.test]
    first = next(iter(tasks.values()))
    sampling = Sampling(max_tokens=first.max_tokens, temperature=0.0, stop=first.style.stop)
    said = both.generate([first.prompt(one.input) for _, _, one in rows], [own for own, _, _ in rows], sampling)
    right: dict[bool, list[bool]] = {True: [], False: []}
    for (own, about, one), (answer_,) in zip(rows, said, strict=True):
        right[own == about].append(first.right(answer_.text, one.output))
    return {name: 100 * float(np.mean(right[own])) for name, own in (("own", True), ("other", False))}


def _answered(
    method: SelfSpecialize, lm: LocalLM, task: Task, tasks: Store, library: Library, seed: int
) -> list[tuple[Instance, str]]:
    """The tasks that the model wrote, each with its answer, in the order in which they were written."""
    if not len(tasks):
        return []
    store = Store(name="responses")
    method.respond(lm, task, tasks, store, library, seed)
    if not len(store):
        return []
    of = dict(zip(tasks.ids.tolist(), tasks.column("instruction"), strict=True))
    said = zip(store.ids.tolist(), store.column("completion"), strict=True)
    return [(Instance(of[id_]), task.style.output(text)) for id_, text in said]


def _quality(facts: Facts, pairs: Sequence[tuple[Instance, str]]) -> dict[str, float]:
    asked = [(facts.asked(one.instruction), said) for one, said in pairs]
    lookups = [facts.check(item, said) for item, said in asked if item and item.family.startswith("lookup")]
    about = [item is not None and item.family.endswith(" 0") for item, _ in asked]
    return {
        "kept": float(len(pairs)),
        "about": 100 * float(np.mean(about)) if about else 0.0,
        "false": 100 - 100 * float(np.mean(lookups)) if lookups else 0.0,
    }


def _judged(lm: LocalLM, tasks: Mapping[str, Task], shots: int = 0) -> dict[str, float]:
    found = dict[str, float]()
    for name, task in tasks.items():
        shown = tuple(Demonstration(one.instruction, one.output) for one in task.seeds[:shots])
        shown_task = replace(task, demonstrations=shown)
        figures = judged(shown_task, answer(lm, shown_task, [one.input for one in task.test]))
        found[name] = 100 * figures["right"]
        if name == "right":
            found |= {kind: 100 * figures[kind] for kind in ("empty", "copied")}
    return found


def _few_shot(lm: LocalLM, tasks: Mapping[str, Task]) -> dict[str, float]:
    """The base with as many demonstrations as serve it best, by the questions of the seeds that are not shown."""
    task = tasks["right"]
    rest = task.seeds[max(SHOTS) :]
    checked = replace(
        task, test=tuple(Demonstration(one.instruction, one.output) for one in rest), seeds=task.seeds[:5]
    )
    scores = {shots: _judged(lm, {"right": checked}, shots)["right"] for shots in SHOTS}
    return _judged(lm, tasks, max(SHOTS, key=lambda shots: scores[shots]))


def _over(f: Figures, arm: str, figure: str = "right") -> float:
    return f["specialised"][figure] - f[arm][figure]


def _over_rank(rank: int) -> Callable[[Figures], float]:
    """What an adapter of a rank gets right beyond that of the other arms."""
    return lambda f: -_over(f, f"rank {rank}")


CLAIM = Claim(
    name="self_specialize",
    number=31,
    statement="Tuned on tasks of a domain that it wrote from a few seeds and answered with the domain's texts, a "
    "language model answers at least 5 points more of its questions right than after tasks from seeds of all domains.",
    run=run,
    arms={
        **{way: {"way": way} for way in get_args(Way)},
        **{f"rank {rank}": {"way": "specialised", "rank": rank} for rank in RANKS},
    },
    few={"two adapters": FEW, "dense": FEW, **{f"rank {rank}": FEW for rank in RANKS}},
    scales={
        "laptop": {
            "world": {
                "entities": 32,
                "attributes": 3,
                "values": 6,
                "held_out": 0.4,
                "asking": 0.5,
                "hidden": ("list", "compare"),
                "statements": 6,
                "questions": (2, 5),
                "lists": 0.3,
                "reading": 0.2,
                "rare": 0.05,
                "restated": 0.4,
            },
            "base": {
                "documents": 40_000,
                "steps": 900,
                "batch": 32,
                "lr": 3e-3,
                "width": 64,
                "depth": 2,
                "heads": 4,
                "context": 128,
            },
            "verbs": ("lookup",),
            "seeds": 16,
            "test": 21,
            "rounds": 20,
            "per_round": 10,
            "learned": 200,
            "steps": 150,
            "batch": 32,
            "rank": 8,
            "lr": 3e-3,
            "lr_all": 1e-3,
        },
        "gpu": {
            "world": {
                "entities": 200,
                "attributes": 6,
                "values": 12,
                "asking": 0.5,
                "questions": (3, 6),
                "lists": 0.3,
                "reading": 0.3,
            },
            "base": {
                "documents": 1_000_000,
                "steps": 30_000,
                "batch": 256,
                "lr": 1e-3,
                "width": 256,
                "depth": 6,
                "heads": 8,
                "context": 256,
            },
            "verbs": ("lookup", "list", "extract"),
            "seeds": 40,
            "test": 400,
            "rounds": 60,
            "per_round": 10,
            "learned": 600,
            "steps": 400,
            "batch": 64,
            "rank": 8,
            "lr": 1e-3,
            "lr_all": 3e-4,
        },
        "tiny": {
            "world": {
                "entities": 24,
                "attributes": 2,
                "values": 4,
                "held_out": 0.4,
                "questions": (2, 3),
                "reading": 0.3,
            },
            "base": {
                "documents": 100,
                "steps": 3,
                "batch": 8,
                "lr": 3e-3,
                "width": 16,
                "depth": 1,
                "heads": 2,
                "context": 128,
            },
            "verbs": ("lookup", "list", "extract"),
            "seeds": 6,
            "test": 2,
            "rounds": 1,
            "per_round": 1,
            "learned": 4,
            "steps": 1,
            "batch": 4,
            "rank": 2,
            "lr": 1e-3,
            "lr_all": 1e-3,
        },
    },
    metric="right",
    budget="{seeds} seeds, {rounds} rounds of {per_round} requests, {steps} steps on {learned} tasks and the seeds",
    tuning_seeds=(1000,),
    statements=(
        Statement(
            "domain",
            "percent of questions about unseen entities of the domain answered right, after seeds of the domain minus "
            "after seeds of all domains",
            lambda f: _over(f, "generic"),
            margin=5.0,
            role="main",
            unit="points",
        ),
        Statement(
            "room",
            "percent right of the base at its best number of demonstrations",
            lambda f: f["few-shot"]["right"],
            margin=80.0,
            direction="below",
            role="premise",
            unit="percent",
        ),
        Statement(
            "its own domain",
            "percent of the tasks that it writes after seeds of the domain that are about it",
            lambda f: f["specialised"]["about"],
            margin=50.0,
            role="premise",
            unit="percent",
        ),
        Statement(
            "over demonstrations",
            "the same minus of the base at its best number of demonstrations",
            lambda f: _over(f, "few-shot"),
            margin=5.0,
            unit="points",
        ),
        Statement(
            "over the seeds",
            "the same minus after learning the seeds alone",
            lambda f: _over(f, "seeds"),
            unit="points",
        ),
        Statement(
            "retrieval",
            "percent of its answers to lookups that are false, with the domain's texts minus seven tenths of without",
            lambda f: f["specialised"]["false"] - 0.7 * f["no retrieval"]["false"],
            direction="below",
            unit="points",
        ),
        Statement(
            "over no retrieval",
            "percent right, after answers with the domain's texts minus without",
            lambda f: _over(f, "no retrieval"),
            unit="points",
        ),
        Statement(
            "once more",
            "percent right, after the tuned model answered once more minus after the first time",
            lambda f: f["again"]["right"] - f["specialised"]["right"],
            unit="points",
        ),
        Statement(
            "verbs that nothing asks by",
            "percent of such questions answered right, after specialising minus of the base",
            lambda f: _over(f, "few-shot", "across"),
            unit="points",
        ),
        Statement(
            "seeds of another domain",
            "percent right, after seeds of another domain minus halfway between the base and specialising: what is "
            "learned is the domain and not the form alone",
            lambda f: f["another domain"]["right"] - (f["few-shot"]["right"] + f["specialised"]["right"]) / 2,
            direction="below",
            role="control",
            unit="points",
        ),
        Statement(
            "forgetting",
            "percent of questions about another domain answered right, after specialising minus of the base",
            lambda f: _over(f, "few-shot", "elsewhere"),
            unit="points",
        ),
        Statement(
            "all weights",
            "percent right, after training all weights minus an adapter",
            lambda f: f["all weights"]["right"] - f["specialised"]["right"],
            unit="points",
        ),
        *(
            Statement(
                f"rank {rank}",
                f"percent right, with an adapter of rank {rank} minus of the others' rank",
                _over_rank(rank),
                unit="points",
            )
            for rank in RANKS
        ),
        Statement(
            "two adapters",
            "percent right of questions about two domains, by the adapter of the question's own domain minus by the "
            "other one, on one trunk and in one batch",
            lambda f: f["two adapters"]["own"] - f["two adapters"]["other"],
            unit="points",
        ),
        Statement(
            "words over embeddings",
            "percent right, after answers with texts that are found by their words minus by the model's own embeddings",
            lambda f: _over(f, "dense"),
            unit="points",
        ),
        Statement(
            "what true answers add",
            "percent right after true answers to the same tasks minus its own",
            lambda f: f["oracle"]["right"] - f["specialised"]["right"],
            unit="points",
        ),
        Statement(
            "no empty answers",
            "percent of empty answers, after minus before",
            lambda f: _over(f, "few-shot", "empty"),
            margin=2.0,
            direction="below",
            role="guard",
            unit="points",
        ),
    ),
    notes=(
        "It has no result. At the laptop's scale questions are lookups about the entities held out, and these leave no "
        "gap: a base is right about the target as often as about what it was asked for, even where no text asks about "
        "the target, so there is nothing to bring out. Nor is there one where the target is asked in names of "
        "attributes that a few dozen statements use: a base that knows the facts knows them by these names as well. "
        "The world needs another gap first.",
    ),
)
