"""SCoRe (2409.12917): rewards of two stages teach a model to correct itself, where plain rewards of both answers do
not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from autodidact.claims.bases import kept_base, mix_source
from autodidact.claims.claim import Claim, Figures, Statement
from autodidact.claims.engine import default_cache
from autodidact.evaluation.two_turns import transitions
from autodidact.lm import Sampling
from autodidact.lm.kept import LanguageModel
from autodidact.lm.local import LocalLM
from autodidact.lm.repeated import generate_each
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.lm.turns import asked_again, two_answers
from autodidact.methods.language.sft import SFT
from autodidact.methods.language.two_turns import TwoTurns
from autodidact.model import Model
from autodidact.recipes.improving import example_source, question_source
from autodidact.rewards.programs import Programmed
from autodidact.training import Settings, train
from autodidact.worlds.language.arithmetic import AGAIN, FIX, KEEP, TwoTurnSums

Way = Literal["base", "traces", "pairs", "rewards", "random"]
CHUNK = 50
"""Updates of the base between looks at how many first answers are right."""


def run(
    *,
    way: Way,
    first_stage: float,
    bonus: bool,
    length: float,
    lr: float,
    seed: int,
    world: Mapping[str, Any],
    base: Mapping[str, Any],
    questions: int,
    test: int,
    steps: int,
    batch: int,
    firsts: int,
    follow: int,
    alpha: float,
    beta_first: float,
    beta: float,
) -> dict[str, float]:
    """What one way makes of a model that knows first and second attempts at sums, many of them wrong.

    Of the likeliest answers to sums that no text holds, in percent: ``first`` and ``second``, right in either turn;
    ``delta``, second less first; ``fixed``, wrong then right; ``broken``, right then wrong; ``edited``, second ones
    that differ from the first; ``edit_ratio``, of their symbols. ``delta_drawn`` is ``delta`` of answers drawn at
    temperature 1. ``validation`` is ``second`` of other such sums.
    """
    sums = TwoTurnSums(**world)
    lm = _base(sums, seed, world, **base)
    task = task_of(sums, questions, 2 * test, seed)
    halves = [replace(task, test=task.test[:test]), replace(task, test=task.test[test:])]
    learning = Learning(lr, seed, batch, firsts, follow)
    updates = max(1, round(steps * length))
    if way == "traces" or way == "pairs":
        lm = learning.from_own(lm, task, updates, pairs=way == "pairs")
    elif way != "base":
        shared = {
            "reward": Programmed(_rewarded if way == "rewards" else _unrelated(seed)),
            "firsts": firsts,
            "follow": follow,
        }
        start, early = lm.frozen(), round(updates * first_stage)
        if early:
            held = {"rewarded_first": False, "alpha": 0.0, "beta_first": beta_first, "beta_second": beta}
            lm = learning.by_rewards(lm, task, early, "first", **held, **shared, reference=start)
        both = {"alpha": alpha if bonus else 0.0, "beta_first": beta, "beta_second": beta}
        lm = learning.by_rewards(lm, task, updates - early, "second", **both, **shared, reference=start)
    found = [_figures(lm, half) for half in halves]
    return {**found[0], "validation": found[1]["second"], "delta_drawn": _drawn_delta(lm, halves[0], seed)}


def task_of(sums: TwoTurnSums, questions: int, test: int, seed: int) -> Task:
    """Sums as a task, whose answers end where a second attempt is asked for."""
    known = sums.items(questions, seed + 1, split="train", distinct=True)
    tested = sums.items(test, seed, distinct=True)
    return Task(
        "Add the numbers.",
        examples=tuple(Demonstration(item.prompt, item.answer) for item in known),
        test=tuple(Demonstration(item.prompt, item.answer) for item in tested),
        style=Style(opening="", demonstration="{input}{output}", question="{input}", stop=(AGAIN,)),
        # Three digits with the token before them, and the end.
        max_tokens=5,
    )


def right(said: str, wanted: str) -> bool:
    """Whether an attempt is right, with or without the token that opens a second one."""
    return plain(said) == wanted


def plain(said: str) -> str:
    """An attempt without the token that opens it."""
    return said.removeprefix(KEEP).removeprefix(FIX)


def _rewarded(given: str, said: str, wanted: str | None) -> float:
    return float(right(said, wanted or ""))


def _unrelated(seed: int) -> Any:
    """A reward that knows nothing of the answer."""
    rng = np.random.default_rng(seed)
    return lambda given, said, wanted: float(rng.random() < 0.5)


class Learning:
    """How a model is trained further, for as many draws whatever the way."""

    def __init__(self, lr: float, seed: int, batch: int, firsts: int, follow: int) -> None:
        self.lr, self.seed, self.batch, self.firsts, self.follow = lr, seed, batch, firsts, follow

    def by_rewards(self, lm: LocalLM, task: Task, steps: int, stage: str, **options: Any) -> LocalLM:
        """One stage of policy gradients of both turns."""
        method = TwoTurns(lm, task, request="", lr_scale=1.0, **options)
        source = question_source(stage, task, method.questions)
        return _trained(method, source, self._settings(steps, self.batch))

    def from_own(self, lm: LocalLM, task: Task, steps: int, *, pairs: bool) -> LocalLM:
        """Likelihood of own attempts whose second one is right: of both (STaR), or where the first one is wrong of
        the second one alone (pairs). As many are drawn as rewards are given in `steps` updates."""
        rng = np.random.default_rng(self.seed)
        order = rng.integers(len(task.examples), size=steps * self.batch)
        asked = [task.examples[k] for k in order for _ in range(self.firsts)]
        once = Sampling(1, task.max_tokens, stop=task.style.stop, seed=self.seed)
        first = [one[0] for one in generate_each(lm, [one.input for one in asked], once)]
        again = [asked_again(lm, one.input, said, "") for one, said in zip(asked, first, strict=True)]
        second = generate_each(lm, again, replace(once, n=self.follow))
        kept = []
        for one, before, attempts in zip(asked, first, second, strict=True):
            for after in attempts:
                if right(after.text, one.output) and not (pairs and right(before.text, one.output)):
                    begun = f"{one.input}{before.text}{AGAIN}" if pairs else one.input
                    said = after.text if pairs else f"{before.text}{AGAIN}{after.text}"
                    kept.append((begun, said))
        if not kept:
            return lm
        size = min(self.batch * self.firsts * self.follow, len(kept))
        return _trained(SFT(lm), example_source("own", kept), self._settings(steps, size))

    def _settings(self, steps: int, batch: int) -> Settings:
        return Settings(
            steps=steps,
            batch_size=batch,
            lr=self.lr,
            weight_decay=0.0,
            schedule="constant",
            warmup=0.0,
            clip_norm=1.0,
            seed=self.seed,
        )


def _trained(method: SFT | TwoTurns, source: Any, settings: Settings) -> LocalLM:
    kept = train(method, source, settings, quiet=True)
    assert isinstance(kept, LanguageModel)
    return kept.lm


def _base(
    sums: TwoTurnSums,
    seed: int,
    dials: Mapping[str, Any],
    *,
    documents: int,
    enough: float,
    most: int,
    batch: int,
    lr: float,
    **sizes: int,
) -> LocalLM:
    """A model of the world's texts, trained until so large a share of its first answers is right, or that long.

    How many updates that takes differs much from seed to seed, and the share rises within few of them.
    """

    def make() -> Model:
        lm = tiny_lm(sums.alphabet, seed=seed, **sizes)
        source, looked_at = mix_source(sums, documents, seed), task_of(sums, 1, 200, seed + 1)
        settings = Settings(
            steps=CHUNK, batch_size=batch, lr=lr, weight_decay=0.01, schedule="constant", warmup=0.0, clip_norm=1.0
        )
        for number in range(max(1, most // CHUNK)):
            lm = _trained(SFT(lm), source, replace(settings, seed=1000 * seed + number))
            if _figures(lm, looked_at)["first"] > 100 * enough:
                break
        return LanguageModel(lm)

    key = {"documents": documents, "enough": enough, "most": most, "batch": batch, "lr": lr, "chunk": CHUNK, **sizes}
    folder = default_cache().parent / "bases"
    return kept_base(folder, {"world": sums.name, "dials": dict(dials), "seed": seed, **key}, make)


def _figures(lm: LocalLM, task: Task) -> dict[str, float]:
    """In percent."""
    said = two_answers(lm, task, [one.input for one in task.test], "")
    found = transitions(task, [(first, plain(second)) for first, second in said])
    return {name: 100 * value for name, value in found.items()}


def _drawn_delta(lm: LocalLM, task: Task, seed: int) -> float:
    """`delta` at temperature 1, in percent."""
    sampling = Sampling(1, task.max_tokens, stop=task.style.stop, seed=seed)
    first = [found[0] for found in lm.generate([one.input for one in task.test], sampling)]
    again = [asked_again(lm, one.input, said, "") for one, said in zip(task.test, first, strict=True)]
    second = [found[0] for found in lm.generate(again, sampling)]
    shares = [
        np.mean([right(said.text, one.output) for said, one in zip(turn, task.test, strict=True)])
        for turn in (first, second)
    ]
    return 100 * float(shares[1] - shares[0])


def _over(f: Figures, arm: str, other: str, figure: str = "delta") -> float:
    return f[arm][figure] - f[other][figure]


WHOLE = {"first_stage": 0.0, "bonus": False, "length": 1.0}
SCORE = {"way": "rewards", "first_stage": 0.5, "bonus": True, "length": 1.0}
CLAIM = Claim(
    name="self_correct",
    number=64,
    statement="Trained in two stages with a bonus for progress, a language model gains more from its first answer to "
    "its second than after plain rewards of both.",
    run=run,
    arms={
        "base": {"way": "base", **WHOLE},
        "traces": {"way": "traces", **WHOLE},
        "pairs": {"way": "pairs", **WHOLE},
        "plain": {"way": "rewards", **WHOLE},
        "plain, half": {"way": "rewards", **WHOLE, "length": 0.5},
        "score": SCORE,
        "one stage": {**SCORE, "first_stage": 0.0},
        "no bonus": {**SCORE, "bonus": False},
        "random": {**SCORE, "way": "random"},
    },
    scales={
        "laptop": {
            "world": {"held_out": 0.25},
            "base": {
                "documents": 100_000,
                "enough": 0.45,
                "most": 6_000,
                "batch": 64,
                "lr": 3e-3,
                "width": 64,
                "depth": 2,
                "heads": 2,
                "context": 24,
            },
            "questions": 2_000,
            "test": 900,
            "steps": 240,
            "lr": 1e-3,
            "batch": 16,
            "firsts": 2,
            "follow": 4,
            "alpha": 5.0,
            "beta_first": 1.0,
            "beta": 0.01,
        },
        "gpu": {
            "world": {"held_out": 0.25},
            "base": {
                "documents": 1_000_000,
                "enough": 0.45,
                "most": 20_000,
                "batch": 256,
                "lr": 1e-3,
                "width": 128,
                "depth": 4,
                "heads": 4,
                "context": 24,
            },
            "questions": 5_000,
            "test": 900,
            "steps": 2_000,
            "lr": 3e-4,
            "batch": 32,
            "firsts": 2,
            "follow": 4,
            "alpha": 5.0,
            "beta_first": 1.0,
            "beta": 0.01,
        },
        "tiny": {
            "world": {"held_out": 0.25},
            "base": {
                "documents": 100,
                "enough": 0.45,
                "most": 1,
                "batch": 4,
                "lr": 3e-3,
                "width": 16,
                "depth": 1,
                "heads": 2,
                "context": 24,
            },
            "questions": 4,
            "test": 2,
            "steps": 2,
            "lr": 1e-3,
            "batch": 2,
            "firsts": 2,
            "follow": 2,
            "alpha": 5.0,
            "beta_first": 1.0,
            "beta": 0.01,
        },
    },
    metric="delta",
    budget="{steps} updates of {batch} questions, {firsts} first answers to each and {follow} second ones after each",
    tuning_seeds=(1000,),
    statements=(
        Statement(
            "progress",
            "points by which second answers are better than first ones, after SCoRe minus after plain rewards",
            lambda f: _over(f, "score", "plain"),
            role="main",
            unit="points",
        ),
        Statement(
            "it corrects itself",
            "points by which second answers are better than first ones after SCoRe",
            lambda f: f["score"]["delta"],
            unit="points",
        ),
        Statement(
            "it does not copy",
            "percent of second answers that differ from the first after SCoRe, minus three times that after plain "
            "rewards",
            lambda f: f["score"]["edited"] - 3 * f["plain"]["edited"],
            unit="points",
        ),
        Statement(
            "progress over the base",
            "points by which second answers are better than first ones, after SCoRe minus before",
            lambda f: _over(f, "score", "base"),
            unit="points",
        ),
        Statement(
            "right in the end",
            "percent of second answers that are right, after SCoRe minus after plain rewards of as many draws",
            lambda f: _over(f, "score", "plain", "second"),
            unit="points",
        ),
        Statement(
            "right in the end, by the second stage",
            "the same minus after as many updates of plain rewards as the second stage has",
            lambda f: _over(f, "score", "plain, half", "second"),
            unit="points",
        ),
        Statement(
            "by the first stage",
            "progress after SCoRe minus after the second stage alone, for as long as both",
            lambda f: _over(f, "score", "one stage"),
            unit="points",
        ),
        Statement(
            "by the bonus",
            "progress after SCoRe minus after both stages without the bonus",
            lambda f: _over(f, "score", "no bonus"),
            unit="points",
        ),
        Statement(
            "over own traces",
            "progress after SCoRe minus after likelihood of own attempts that end right (STaR)",
            lambda f: _over(f, "score", "traces"),
            unit="points",
        ),
        Statement(
            "over pairs",
            "progress after SCoRe minus after likelihood of own right second answers to wrong first ones (Pair-SFT)",
            lambda f: _over(f, "score", "pairs"),
            unit="points",
        ),
        Statement(
            "room",
            "percent of first answers that are right before",
            lambda f: f["base"]["first"],
            margin=30.0,
            role="premise",
            unit="percent",
        ),
        Statement(
            "not there yet",
            "the same",
            lambda f: f["base"]["first"],
            margin=85.0,
            direction="below",
            role="premise",
            unit="percent",
        ),
        Statement(
            "random rewards do not teach",
            "percent of second answers that are right, after SCoRe with rewards at random minus before",
            lambda f: _over(f, "random", "base", "second"),
            margin=2.0,
            direction="below",
            role="control",
            unit="points",
        ),
        Statement(
            "no failing first",
            "percent of first answers that are right, after SCoRe minus before",
            lambda f: _over(f, "score", "base", "first"),
            role="guard",
            margin=-2.0,
            unit="points",
        ),
    ),
)
