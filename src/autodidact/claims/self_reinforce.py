"""Self-Reinforcement (43): what a few true traces change in a model is taken further on questions without answers."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from autodidact.claims.bases import base_lm, taught
from autodidact.claims.claim import Claim, Figures, Statement
from autodidact.claims.engine import default_cache
from autodidact.data import Source, Store
from autodidact.lm import Sampling
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Task
from autodidact.methods.language.dpo import DPO
from autodidact.methods.language.sft import SFT
from autodidact.methods.method import Method
from autodidact.recipes.improving import example_source
from autodidact.recipes.preferring import Pair, pair_source, pairs_of
from autodidact.recipes.self_reinforce import SelfReinforce
from autodidact.worlds.language.arithmetic import ModularSums

Way = Literal["base", "sft", "longer", "self-training", "reinforce", "supervised"]
Filter = Literal["votes", "none", "oracle"]


def run(
    *,
    way: Way,
    lr: float,
    seed: int,
    world: Mapping[str, Any],
    base: Mapping[str, Any],
    families: Sequence[str],
    examples: int,
    inputs: int,
    test: int,
    steps: int,
    further: int,
    batch: int,
    votes: int,
    nll_weight: float,
    filter: Filter = "votes",
    rounds: int = 2,
    shuffled: bool = False,
    style: Literal["steps", "totals"] | None = None,
) -> dict[str, float]:
    """What one way makes of a model of sums with wrong steps.

    ``right`` is the percent of answers to test inputs that are right, four drawn at temperature 1 to each;
    ``validation`` the same on other inputs; ``greedy`` percent of likeliest answers. ``better`` is by how many points
    strong answers are right more often than weak ones, ``true`` the percent of kept pairs whose strong answer is right
    and whose weak one is not, ``kept`` the percent of inputs with a pair, all of the first round. ``length`` is the
    mean length of an answer, ``silent`` the percent without a final one; ``chosen`` the mean log-probability of chosen
    answers of the first round, after less before it, in nats.
    """
    sums = ModularSums(**world)
    lm = base_lm(sums, default_cache().parent / "bases", seed=seed, dials=world, **base)
    task = sums.task(examples=examples, inputs=inputs, test=2 * test, seed=seed, style=style, families=families)
    known = sums.items(examples + inputs, seed + 1, split="train", families=families, distinct=True)
    truth = {one.prompt: one.answer for one in known}
    learn = Learning(lr, batch, seed, nll_weight)
    halves = [replace(task, test=task.test[:test]), replace(task, test=task.test[test:])]
    solved = [(one.input, one.output) for one in task.examples]
    figures = dict.fromkeys(("better", "true", "kept", "chosen"), 0.0)
    if way == "base":
        return _measured(lm, halves, figures)
    first = learn.answers(lm, solved, steps)
    if way == "longer":
        first = learn.answers(lm, solved, steps + further)
    elif way == "supervised":
        rng = random.Random(seed)
        solved = [(one.prompt, sums.trace(one, rng)) for one in known[examples:]]
        first = learn.answers(first, solved, further)
    elif way == "self-training":
        # As many samples as the pairs and their votes take.
        said = first.generate(task.inputs, Sampling(n=votes + 1, max_tokens=task.max_tokens, seed=seed))
        asked_each = zip(task.inputs, said, strict=True)
        own = [(asked, one.text) for asked, each in asked_each for one in each if one.finish == "stop"]
        first = learn.answers(first, own, further)
    elif way == "reinforce":
        models = [lm, first]
        method = SelfReinforce(rounds=rounds, filter="votes" if filter == "votes" else "none", votes=votes, keep="last")
        for number, asked in enumerate(method.portions(task, seed)[0]):
            store = Store(name="pairs")
            method.pair_up(models[-1], models[-2], models[-1], task, asked, store, 10 * seed + number)
            pairs, references = pairs_of(store) if len(store) else ([], [])
            if filter == "oracle":
                places = [k for k, pair in enumerate(pairs) if _right(task, pair, truth) == (True, False)]
                pairs, references = [pairs[k] for k in places], [references[k] for k in places]
            if shuffled:
                turned = np.random.default_rng(seed).random(len(pairs)) < 0.5
                pairs = [(p, r, c) if turn else (p, c, r) for (p, c, r), turn in zip(pairs, turned, strict=True)]
                references = [pair[::-1] if turn else pair for pair, turn in zip(references, turned, strict=True)]
            if not pairs:
                models.append(models[-1])
                continue
            models.append(learn.pairs(models[-1], pairs, references, further // rounds))
            if number == 0:
                figures = _of_pairs(task, pairs, truth, len(asked))
                figures["better"] = _share_right(first, task, asked, truth, seed) - _share_right(
                    lm, task, asked, truth, seed
                )
                after = models[-1].score([p for p, _, _ in pairs], [c for _, c, _ in pairs])
                figures["chosen"] = float(np.mean([one.total for one in after]) - np.mean([c for c, _ in references]))
        first = models[-1]
    return _measured(first, halves, figures)


class Learning:
    """How a model is trained further, as a copy."""

    def __init__(self, lr: float, batch: int, seed: int, nll_weight: float) -> None:
        self.lr, self.batch, self.seed, self.nll_weight = lr, batch, seed, nll_weight

    def answers(self, lm: LocalLM, pairs: Sequence[tuple[str, str]], steps: int) -> LocalLM:
        """On inputs with outputs."""
        return self._trained(SFT(copy.deepcopy(lm)), example_source("pairs", pairs), steps)

    def pairs(
        self, lm: LocalLM, pairs: Sequence[Pair], references: Sequence[tuple[float, float]], steps: int
    ) -> LocalLM:
        """On preferences, at a rate that is lower by the method's own factor."""
        method = DPO(copy.deepcopy(lm), reference="recorded", nll_weight=self.nll_weight)
        return self._trained(method, pair_source("pairs", pairs, references), steps)

    def _trained(self, method: Method, source: Source, steps: int) -> LocalLM:
        return taught(method, source, steps=steps, batch=self.batch, lr=self.lr, seed=self.seed)


def _measured(lm: LocalLM, halves: Sequence[Task], figures: Mapping[str, float]) -> dict[str, float]:
    found = {**figures}
    for name, task in zip(("right", "validation"), halves, strict=True):
        prompts = [one.input for one in task.test]
        drawn = lm.generate(prompts, Sampling(n=4, max_tokens=task.max_tokens, seed=1))
        texts = [(one.text, wanted.output) for each, wanted in zip(drawn, task.test, strict=True) for one in each]
        found[name] = 100 * float(np.mean([task.right(said, wanted) for said, wanted in texts]))
        if name == "right":
            found["length"] = float(np.mean([len(said) for said, _ in texts]))
            found["silent"] = 100 * float(np.mean([task.meant(said) is None for said, _ in texts]))
            likeliest = lm.generate(prompts, Sampling(max_tokens=task.max_tokens, temperature=0.0))
            right = [task.right(one[0].text, wanted.output) for one, wanted in zip(likeliest, task.test, strict=True)]
            found["greedy"] = 100 * float(np.mean(right))
    return found


def _right(task: Task, pair: Pair, truth: Mapping[str, str]) -> tuple[bool, bool]:
    prompt, chosen, rejected = pair
    return task.right(chosen, truth[prompt]), task.right(rejected, truth[prompt])


def _of_pairs(task: Task, pairs: Sequence[Pair], truth: Mapping[str, str], asked: int) -> dict[str, float]:
    true = [_right(task, pair, truth) == (True, False) for pair in pairs]
    return {"true": 100 * float(np.mean(true)), "kept": 100 * len(pairs) / asked, "better": 0.0, "chosen": 0.0}


def _share_right(lm: LocalLM, task: Task, asked: Sequence[str], truth: Mapping[str, str], seed: int) -> float:
    drawn = lm.generate(asked, Sampling(max_tokens=task.max_tokens, seed=seed))
    return 100 * float(np.mean([task.right(one[0].text, truth[p]) for p, one in zip(asked, drawn, strict=True)]))


def _over(f: Figures, arm: str, figure: str = "right") -> float:
    return f["self-reinforce"][figure] - f[arm][figure]


CLAIM = Claim(
    name="self_reinforce",
    number=43,
    statement="Two rounds of preferring what a model says after a few true traces to what it said before, on questions "
    "without answers, make at least 3 points more of its answers right than as many more steps on the traces.",
    run=run,
    arms={
        "base": {"way": "base"},
        "sft": {"way": "sft"},
        "sft longer": {"way": "longer"},
        "self-training": {"way": "self-training"},
        "self-reinforce": {"way": "reinforce"},
        "one round": {"way": "reinforce", "rounds": 1},
        "no filter": {"way": "reinforce", "filter": "none"},
        "shuffled": {"way": "reinforce", "shuffled": True},
        "oracle filter": {"way": "reinforce", "filter": "oracle"},
        "one style": {"way": "reinforce", "style": "totals"},
        "sft of one style": {"way": "sft", "style": "totals"},
        "supervised": {"way": "supervised"},
    },
    scales={
        "laptop": {
            "world": {"modulus": 7, "fewest": 3, "most": 4, "wrong": 0.4, "families": ("+", "-", "#")},
            "families": ("+", "-"),
            "base": {
                "documents": 60_000,
                "steps": 3_000,
                "batch": 64,
                "lr": 3e-3,
                "width": 64,
                "depth": 2,
                "heads": 2,
                "context": 256,
            },
            "examples": 96,
            "inputs": 800,
            "test": 300,
            "steps": 40,
            "further": 200,
            "batch": 32,
            "votes": 4,
            "nll_weight": 1.0,
            "lr": 1e-4,
        },
        "gpu": {
            "world": {"modulus": 20, "fewest": 3, "most": 6, "wrong": 0.4},
            "families": ("+", "-", "*"),
            "base": {
                "documents": 1_000_000,
                "steps": 20_000,
                "batch": 256,
                "lr": 1e-3,
                "width": 256,
                "depth": 6,
                "heads": 8,
                "context": 96,
            },
            "examples": 128,
            "inputs": 4_000,
            "test": 1_000,
            "steps": 60,
            "further": 300,
            "batch": 64,
            "votes": 8,
            "nll_weight": 1.0,
            "lr": 3e-4,
        },
        "tiny": {
            "world": {"modulus": 4, "fewest": 2, "most": 2, "wrong": 0.3},
            "families": ("+",),
            "base": {
                "documents": 200,
                "steps": 4,
                "batch": 16,
                "lr": 3e-3,
                "width": 16,
                "depth": 1,
                "heads": 2,
                "context": 32,
            },
            "examples": 4,
            "inputs": 6,
            "test": 2,
            "steps": 2,
            "further": 2,
            "batch": 4,
            "votes": 2,
            "nll_weight": 1.0,
            "lr": 1e-3,
        },
    },
    metric="right",
    tuning_seeds=(1000,),
    seeds=range(10),
    budget="{steps} steps on {examples} true traces, {further} further steps of {batch}, {inputs} questions without "
    "answers",
    statements=(
        Statement(
            "gain",
            "percent of sampled test answers that are right, after two rounds minus after as many more steps on the "
            "traces",
            lambda f: _over(f, "sft longer"),
            margin=3.0,
            role="main",
            unit="points",
        ),
        Statement(
            "room",
            "percent right before any of it",
            lambda f: f["base"]["right"],
            margin=80.0,
            direction="below",
            role="premise",
            unit="percent",
        ),
        Statement(
            "strong is better than weak",
            "percent of strong answers that are right minus of weak ones, on the questions of the first round",
            lambda f: f["self-reinforce"]["better"],
            role="premise",
            unit="points",
        ),
        Statement(
            "kept pairs are true",
            "percent of kept pairs whose strong answer is right and whose weak one is not, minus without the filter",
            lambda f: _over(f, "no filter", "true"),
            unit="points",
        ),
        Statement(
            "precision of the filter",
            "percent of kept pairs whose strong answer is right and whose weak one is not",
            lambda f: f["self-reinforce"]["true"],
            margin=50.0,
            unit="percent",
        ),
        Statement(
            "over the traces alone",
            "percent right after two rounds minus after the traces alone, which takes a sixth of the steps",
            lambda f: _over(f, "sft"),
            unit="points",
        ),
        Statement(
            "by the filter",
            "percent right with the filter minus without it",
            lambda f: _over(f, "no filter"),
            unit="points",
        ),
        Statement(
            "over self-training",
            "the same minus after as many steps on the strong model's own answers",
            lambda f: _over(f, "self-training"),
            unit="points",
        ),
        Statement(
            "by the second round",
            "the same minus after one round of as many steps in all",
            lambda f: _over(f, "one round"),
            unit="points",
        ),
        Statement(
            "greedy",
            "percent of likeliest answers that are right, after two rounds minus after as many steps on the traces",
            lambda f: _over(f, "sft longer", "greedy"),
            unit="points",
        ),
        Statement(
            "shuffled preferences do not teach",
            "percent right after pairs of which half are turned around, minus after the traces alone",
            lambda f: f["shuffled"]["right"] - f["sft"]["right"],
            margin=1.0,
            direction="below",
            role="control",
            unit="points",
        ),
        Statement(
            "shuffled preferences are no better at all",
            "the same",
            lambda f: f["shuffled"]["right"] - f["sft"]["right"],
            direction="below",
            unit="points",
        ),
        Statement(
            "a perfect filter",
            "percent right with a filter that knows the answers minus with the vote",
            lambda f: f["oracle filter"]["right"] - f["self-reinforce"]["right"],
            unit="points",
        ),
        Statement(
            "what true answers would do",
            "percent right with true traces to the same questions minus with none",
            lambda f: f["supervised"]["right"] - f["self-reinforce"]["right"],
            unit="points",
        ),
        Statement(
            "of one style",
            "percent right where all traces are of one style, after two rounds minus after the traces alone",
            lambda f: f["one style"]["right"] - f["sft of one style"]["right"],
            unit="points",
        ),
        Statement(
            "no silence",
            "percent of answers without a final one, after two rounds minus after the traces alone",
            lambda f: _over(f, "sft", "silent"),
            margin=2.0,
            direction="below",
            role="guard",
            unit="points",
        ),
        Statement(
            "no long answers",
            "characters of an answer, after two rounds minus after the traces alone",
            lambda f: _over(f, "sft", "length"),
            margin=2.0,
            direction="below",
            role="guard",
            unit="characters",
        ),
        Statement(
            "chosen answers",
            "log-probability of chosen answers after the first round minus before it",
            lambda f: f["self-reinforce"]["chosen"],
            unit="nats",
        ),
    ),
    notes=(
        "Rates, steps and the likelihood beside the preferences were chosen on the tuning seed; at ten times the rate, "
        "preferences made answers worse there.",
        "The filter's precision, the difference to the traces alone and the shuffled control at 0 were added once the "
        "other verdicts were known. The traces of one style are right ones: they teach steps as well as a style.",
        "As many more steps on the few traces learn them by heart. That sharpens what is drawn, which is all that the "
        "main question counts, and costs right answers: of the arms whose traces are of all styles the likeliest "
        "answers are right least often after it, and after self-reinforcement none is lost.",
        "The first five seeds left the main question open (results/earlier/self_reinforce_5_seeds.json), so five more "
        "were run, of everything.",
    ),
)
