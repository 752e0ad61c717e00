"""Reinforcement Learning for Generative AI (2308.14328): rewards of own answers teach what likelihood of noisy targets
does not, and estimators with better baselines have less noise."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from autodidact.claims.bases import base_lm
from autodidact.claims.claim import Claim, Figures, Statement
from autodidact.claims.engine import default_cache
from autodidact.evaluation.answers import RIGHT, answer, judged
from autodidact.lm import Sampling
from autodidact.lm.kept import LanguageModel
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Task
from autodidact.methods.language.policy_gradient import Estimator, PolicyGradient
from autodidact.methods.language.sft import SFT
from autodidact.recipes.improving import example_source, question_source
from autodidact.rewards.programs import Programmed
from autodidact.rollouts import Question
from autodidact.training import Settings, train
from autodidact.worlds.language.arithmetic import ModularSums

Way = Literal["base", "likelihood", "rewards", "random"]
DRAWS = 4
"""Answers to each test input at temperature 1."""


def run(
    *,
    way: Way,
    estimator: Estimator,
    lr: float,
    seed: int,
    world: Mapping[str, Any],
    base: Mapping[str, Any],
    questions: int,
    test: int,
    steps: int,
    batch: int,
    group: int,
    beta: float,
    gradients: int,
) -> dict[str, float]:
    """What one way makes of a model that learned sums from texts of which a share is wrong.

    ``reward`` is the percent of answers that are right when they are drawn at temperature 1, ``right`` that of the
    likeliest answers; both to inputs that no text holds. ``validation`` is ``reward`` on other such inputs.
    ``distinct`` is the percent of different texts among the answers to one input. ``noise`` is the variance of the
    estimator's gradient at the base, summed over weights; 0 where there is no estimator.
    """
    sums = ModularSums(**world)
    lm = base_lm(sums, default_cache().parent / "bases", seed=seed, dials=world, **base)
    task = sums.task(examples=questions, test=2 * test, seed=seed)
    halves = [replace(task, test=task.test[:test]), replace(task, test=task.test[test:])]
    settings = Settings(
        steps=steps, batch_size=batch, lr=lr, weight_decay=0.0, schedule="linear", clip_norm=1.0, seed=seed
    )
    noise, learned = 0.0, lm
    if way == "likelihood":
        # As many texts as the others draw answers, from the same source as the base's, wrong ones among them.
        count = steps * batch * group
        texts = [document.text.partition("?") for document in sums.documents(count, seed + 1)]
        source = example_source("texts", [(asked + mark, said) for asked, mark, said in texts])
        learned = _trained(SFT(lm), source, replace(settings, batch_size=batch * group))
    elif way != "base":
        reward = "checker" if way == "rewards" else Programmed(_unrelated(seed))
        method = PolicyGradient(lm, task, reward=reward, estimator=estimator, group=group, beta=beta, lr_scale=1.0)
        noise = _noise(copy.deepcopy(method), task, batch, gradients) if way == "rewards" else 0.0
        learned = _trained(method, question_source("questions", task, method.questions), settings)
    figures = [_figures(learned, half, seed) for half in halves]
    return {**figures[0], "validation": figures[1]["reward"], "noise": noise}


def _trained(method: SFT | PolicyGradient, source: Any, settings: Settings) -> LocalLM:
    kept = train(method, source, settings, quiet=True)
    assert isinstance(kept, LanguageModel)
    return kept.lm


def _unrelated(seed: int) -> Any:
    """A reward that knows nothing of the answer."""
    rng = np.random.default_rng(seed)
    return lambda given, said, wanted: float(rng.random() < 0.5)


def _figures(lm: LocalLM, task: Task, seed: int) -> dict[str, float]:
    """In percent, but for the length in characters."""
    likeliest = judged(task, answer(lm, task, [one.input for one in task.test]))
    sampling = Sampling(DRAWS, task.max_tokens, stop=task.style.stop, seed=seed)
    drawn = [[one.text.strip() for one in found] for found in lm.generate(_prompts(task), sampling)]
    right = [task.right(text, one.output) for texts, one in zip(drawn, task.test, strict=True) for text in texts]
    return {
        "reward": 100 * float(np.mean(right)),
        "right": 100 * likeliest[RIGHT],
        "length": likeliest["length"],
        "distinct": 100 * float(np.mean([len(set(texts)) / DRAWS for texts in drawn])),
    }


def _prompts(task: Task) -> list[str]:
    return [task.prompt(one.input) for one in task.test]


def _noise(method: PolicyGradient, task: Task, batch: int, gradients: int) -> float:
    """Variance of the gradient over draws of answers to the same questions."""
    asked = Question.of(task, method.questions[:batch])
    weights = [p for p in method.lm.parameters() if p.requires_grad]
    found = []
    if method.estimator == "reinforce":
        # Where a running mean ends, had it run for long.
        rewards = [float(method.rolled(asked, seed).rewards.mean()) for seed in range(gradients)]
        method.momentum = 0.999
        method.baseline.fill_(float(np.mean(rewards)))
    for seed in range(gradients, 2 * gradients):
        gradient = torch.autograd.grad(method.loss_of(method.rolled(asked, seed)).total, weights)
        found.append(torch.cat([part.flatten() for part in gradient]))
    return float(torch.stack(found).var(dim=0).sum())


def _over(f: Figures, arm: str, other: str, figure: str = "reward") -> float:
    return f[arm][figure] - f[other][figure]


def _quieter(f: Figures, arm: str, other: str) -> float:
    """How much less noise the second has than the first, in percent of the first."""
    return 100 * (1 - f[other]["noise"] / f[arm]["noise"]) if f[arm]["noise"] else 0.0


CLAIM = Claim(
    name="policy_gradient",
    number=61,
    statement="Trained by an exact-match reward of its own answers, a language model draws at least 5 points more of "
    "them right than after as many more texts of which 30 % are wrong.",
    run=run,
    arms={
        "base": {"way": "base", "estimator": "rloo"},
        "likelihood": {"way": "likelihood", "estimator": "rloo"},
        "reinforce": {"way": "rewards", "estimator": "reinforce"},
        "self-critical": {"way": "rewards", "estimator": "self_critical"},
        "rloo": {"way": "rewards", "estimator": "rloo"},
        "grpo": {"way": "rewards", "estimator": "grpo"},
        "ppo": {"way": "rewards", "estimator": "ppo"},
        "raml": {"way": "rewards", "estimator": "raml"},
        "random": {"way": "random", "estimator": "rloo"},
    },
    scales={
        "laptop": {
            "world": {"modulus": 10, "fewest": 3, "most": 3, "wrong": 0.3, "zeros": 0, "families": ("+", "-")},
            "base": {
                "documents": 60_000,
                "steps": 1_000,
                "batch": 64,
                "lr": 3e-3,
                "width": 64,
                "depth": 2,
                "heads": 2,
                "context": 40,
            },
            "questions": 400,
            "test": 120,
            "steps": 80,
            "lr": 1e-3,
            "batch": 16,
            "group": 8,
            "beta": 0.01,
            "gradients": 16,
        },
        "gpu": {
            "world": {"modulus": 30, "fewest": 3, "most": 4, "wrong": 0.3, "zeros": 1, "families": ("+", "-", "*")},
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
            "questions": 20_000,
            "test": 1_000,
            "steps": 1_000,
            "lr": 3e-4,
            "batch": 64,
            "group": 8,
            "beta": 0.01,
            "gradients": 16,
        },
        "tiny": {
            "world": {"modulus": 4, "fewest": 2, "most": 2, "wrong": 0.3, "zeros": 0, "families": ("+", "-")},
            "base": {
                "documents": 50,
                "steps": 2,
                "batch": 8,
                "lr": 3e-3,
                "width": 16,
                "depth": 1,
                "heads": 2,
                "context": 40,
            },
            "questions": 4,
            "test": 1,
            "steps": 1,
            "lr": 1e-3,
            "batch": 2,
            "group": 2,
            "beta": 0.01,
            "gradients": 2,
        },
    },
    metric="reward",
    budget="{steps} updates of {batch} questions with {group} answers each, or as many texts",
    tuning_seeds=(1000,),
    statements=(
        Statement(
            "gain",
            "percent of drawn answers that are right after RLOO minus after as many more texts",
            lambda f: _over(f, "rloo", "likelihood"),
            margin=5.0,
            role="main",
            unit="points",
        ),
        *(
            Statement(
                f"gain of {name}",
                f"the same after {name}",
                lambda f, arm=arm: _over(f, arm, "likelihood"),  # type: ignore[misc]
                margin=5.0,
                unit="points",
            )
            for name, arm in (("GRPO", "grpo"), ("PPO", "ppo"), ("RAML", "raml"))
        ),
        Statement(
            "likeliest answers",
            "percent of the likeliest answers that are right, after RLOO minus after as many more texts",
            lambda f: _over(f, "rloo", "likelihood", "right"),
            unit="points",
        ),
        Statement(
            "room",
            "percent of drawn answers that are right before",
            lambda f: f["base"]["reward"],
            margin=20.0,
            role="premise",
            unit="percent",
        ),
        Statement(
            "not there yet",
            "the same",
            lambda f: f["base"]["reward"],
            margin=85.0,
            direction="below",
            role="premise",
            unit="percent",
        ),
        Statement(
            "random rewards do not teach",
            "percent of drawn answers that are right after rewards at random minus before",
            lambda f: _over(f, "random", "base"),
            margin=2.0,
            direction="below",
            role="control",
            unit="points",
        ),
        Statement(
            "a greedy baseline is quieter",
            "how much less the gradient varies with the likeliest answer's reward as the baseline than with a running "
            "mean",
            lambda f: _quieter(f, "reinforce", "self-critical"),
            unit="percent",
        ),
        Statement(
            "the others' mean is quieter still",
            "the same of the mean of the other answers, against the likeliest answer's",
            lambda f: _quieter(f, "self-critical", "rloo"),
            unit="percent",
        ),
        Statement(
            "the others' mean is quieter",
            "the same of the mean of the other answers, against a running mean",
            lambda f: _quieter(f, "reinforce", "rloo"),
            unit="percent",
        ),
        Statement(
            "what it costs in variety",
            "percent of different texts among the answers to one input, after RLOO minus before",
            lambda f: _over(f, "rloo", "base", "distinct"),
            direction="below",
            unit="points",
        ),
        Statement(
            "no longer answers",
            "characters of the likeliest answers, after RLOO minus before",
            lambda f: _over(f, "rloo", "base", "length"),
            margin=3.0,
            direction="below",
            role="guard",
            unit="characters",
        ),
    ),
    notes=(
        "A greedy baseline is the noisiest here: the likeliest answer is right nearly always, a drawn one every other "
        "time, so it takes off too much. Against a running mean that has settled, the others' mean can win only where "
        "questions differ in how hard they are; here they hardly do, and a mean of seven varies itself.",
        "PPO and RAML were added once the verdicts of the others were known.",
    ),
)
