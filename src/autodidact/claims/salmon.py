"""SALMON (22): one reward model that reads principles steers a policy to whichever of them it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from json import dumps, loads
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from autodidact.claims.bases import base_lm
from autodidact.claims.claim import Claim, Figures, Statement
from autodidact.claims.engine import default_cache
from autodidact.data import Store
from autodidact.lm import LM, Incapable, Sampling
from autodidact.lm.kept import LanguageModel
from autodidact.lm.lm import Asked, Prompt, check_options, shares_of
from autodidact.lm.local import LocalLM
from autodidact.lm.reward_model import RewardModel
from autodidact.lm.task import Task
from autodidact.methods.language.bradley_terry import BradleyTerry
from autodidact.methods.language.policy_gradient import PolicyGradient
from autodidact.recipes.improving import question_source
from autodidact.recipes.salmon import Example, Salmon, preference_source
from autodidact.rewards.principled import Principled
from autodidact.training import Settings, train
from autodidact.worlds.language.principles import HYPE, LETTERS, Principles
from autodidact.worlds.language.task import Item

Labels = Literal["both orders", "one order", "shuffled"]


def run(
    *,
    told: bool,
    labels: Labels,
    steer: Sequence[str],
    bonus: float,
    lr: float,
    seed: int,
    world: Mapping[str, Any],
    base: Mapping[str, Any],
    judge: Mapping[str, float],
    pairs: int,
    passes: int,
    most: int,
    reward: Mapping[str, Any],
    updates: int,
    questions: int,
    group: int,
    beta: float,
    test: int,
    measured: int,
) -> dict[str, float]:
    """What a policy becomes under some principles, by a reward model that is told them or is not.

    ``accuracy`` is the percent of comparisons under combinations of principles that were never seen together, in which
    the reward model gives the better answer more. ``C``, ``S``, ``V`` and ``R`` are traits of the answers (concise,
    sorted, vowels, relevant), as differences from the start in standard deviations there; ``relevant`` and ``hype`` are
    percents of answers that hold the prompt's symbol, and "!"; ``different`` percent of answers that differ.
    """
    settings = dumps({"world": dict(world), "base": dict(base), "judge": dict(judge), "reward": dict(reward)})
    made = _rewarded(seed, settings, pairs, passes, most, test, told, labels)
    lm = _copied(made.lm)
    start = _answers(lm, made.task, measured, seed)
    if steer:
        model = made.model
        always, prevent = (steer, ()) if told else ((), ("",))
        principled = Principled(model, always=always, prevent=prevent, drawn=0, length_bonus=bonus)
        method = PolicyGradient(
            lm, made.task, reward=principled, group=group, beta=beta, temperature=1.0, lr_scale=1.0, missing_end=1.0
        )
        learning = Settings(steps=updates, batch_size=questions, lr=lr, weight_decay=0.0, clip_norm=1.0, seed=seed)
        kept = train(method, question_source("questions", made.task, method.questions), learning, quiet=True)
        assert isinstance(kept, LanguageModel)
        lm = kept.lm
    after = _answers(lm, made.task, measured, seed + 1)
    found = {"accuracy": 100 * made.accuracy}
    for code in ("C", "S", "V", "R"):
        before, now = (np.array([Principles.trait(code, *one) for one in some]) for some in (start, after))
        found[code] = float((now.mean() - before.mean()) / max(float(before.std()), 1e-9))
    found["relevant"] = 100 * float(np.mean([symbol in text for symbol, text in after]))
    found["hype"] = 100 * float(np.mean([HYPE in text for _, text in after]))
    found["different"] = 100 * len(set(after)) / len(after)
    return found


class PlantedJudge(LM):
    """Compares by the truth, with planted faults: a liking for the first place, and verdicts turned around at random.

    Parameters
    ----------
    sharp : log-odds for each standard deviation of difference.
    bias : log-odds of the first place.
    noise : share of comparisons that are turned around.
    """

    capabilities = frozenset({"choose"})

    def __init__(self, world: Principles, *, sharp: float, bias: float, noise: float, seed: int) -> None:
        self.world, self.sharp, self.bias, self.noise, self.seed = world, sharp, bias, noise, seed
        self.name = f"planted {sharp} {bias} {noise} {seed}"

    def generate(self, prompts: Sequence[Asked], sampling: Sampling) -> Any:
        raise Incapable(f"{self.name} compares answers and writes none")

    def choose(
        self, prompts: Sequence[Asked], options: Sequence[str], *, divided: bool = True
    ) -> Float64[np.ndarray, "n c"]:
        check_options(options)
        odds = np.array([self._odds(Prompt.of(prompt).text) for prompt in prompts])
        return shares_of(-np.logaddexp(0, np.stack([-odds, odds], axis=1)), divided)

    def _odds(self, prompt: str) -> float:
        principles, symbol, first, second = Principles.compared(Item(prompt, "", "", 1, ""))
        gap = self.world.goodness(principles, symbol, first) - self.world.goodness(principles, symbol, second)
        drawn = blake2b(f"{self.seed} {prompt}".encode(), digest_size=8).digest()
        turned = int.from_bytes(drawn, "big") / 2**64 < self.noise
        return self.sharp * (-gap if turned else gap) + self.bias


class Rewarded:
    """A reward model, the policy that it is for, and how well it judges unseen combinations."""

    def __init__(self, lm: LocalLM, task: Task, model: RewardModel, accuracy: float) -> None:
        self.lm, self.task, self.model, self.accuracy = lm, task, model, accuracy


@lru_cache(maxsize=4)
def _rewarded(
    seed: int, settings: str, pairs: int, passes: int, most: int, test: int, told: bool, labels: Labels
) -> Rewarded:
    dials = loads(settings)
    world = Principles(**dials["world"])
    lm = base_lm(world, default_cache().parent / "bases", seed=seed, dials=dials["world"], **dials["base"])
    task = world.task()
    recipe = Salmon(shortest=1, passes=passes, most=most, drawn=0, held_out=0.0)
    drawn = lm.generate(
        [task.prompt(symbol) for symbol in LETTERS],
        Sampling(n=2 * -(-pairs // len(LETTERS)), max_tokens=task.max_tokens, temperature=1.0, seed=seed),
    )
    rows = [
        (symbol, one.text, two.text)
        for symbol, some in zip(LETTERS, drawn, strict=True)
        for one, two in zip(some[::2], some[1::2], strict=True)
        if one.text and two.text and one.text != two.text
    ]
    answers, judged = Store(name="pairs"), Store(name="judged")
    columns = dict(zip(("input", "first", "second"), (list(column) for column in zip(*rows, strict=True)), strict=True))
    answers.append(list(range(len(rows))), **columns)
    recipe.compare(PlantedJudge(world, **dials["judge"], seed=seed), task, answers, judged)
    if labels == "one order":
        # The second order says what the first one says: nothing is taken off the judge's liking.
        once, one = Store(name="once"), np.asarray(judged.column("one"))
        once.append(judged.ids, one=one, swapped=one)
        judged = once
    learned, _, _ = recipe.examples(task, answers, judged, seed)
    seen = [one for one in learned if len(one[3]) == 1 or not world.tested(one[3])]
    if labels == "shuffled":
        coins = np.random.default_rng(seed).random(len(seen)) < 0.5
        turned = zip(seen, coins, strict=True)
        seen = [(one[0], one[2], one[1], one[3]) if coin else one for one, coin in turned]
    examples: list[Example] = seen if told else [(*one[:3], []) for one in seen]
    made = RewardModel(_copied(lm), task, ())
    training = dials["reward"]
    learning = Settings(
        epochs=training["epochs"],
        batch_size=min(training["batch"], len(examples)),
        lr=training["lr"],
        weight_decay=0.0,
        schedule="linear",
        clip_norm=1.0,
        seed=seed,
    )
    found = train(BradleyTerry(made), preference_source(made, examples), learning, quiet=True)
    assert isinstance(found, RewardModel)
    families = [family for family in world.families if family != "1"]
    return Rewarded(lm, task, found, _accuracy(found, world, world.items(test, seed, families=families), told))


def _accuracy(model: RewardModel, world: Principles, items: Sequence[Item], told: bool) -> float:
    named, symbols, first_ones, second_ones = zip(*(world.compared(item) for item in items), strict=True)
    principles = [world.told(codes) if told else [] for codes in named]
    first, second = (model.judge(symbols, answers, principles).numpy() for answers in (first_ones, second_ones))
    better = np.array([item.answer == "1" for item in items])
    return float(np.mean(np.where(first == second, 0.5, (first > second) == better)))


def _copied(lm: LocalLM) -> LocalLM:
    learner = LocalLM.from_plain(lm.plain())
    learner.load_state_dict(lm.state_dict())
    return learner


def _answers(lm: LocalLM, task: Task, count: int, seed: int) -> list[tuple[str, str]]:
    """Symbols with answers to them."""
    sampling = Sampling(n=-(-count // len(LETTERS)), max_tokens=task.max_tokens, temperature=1.0, seed=seed)
    drawn = lm.generate([task.prompt(symbol) for symbol in LETTERS], sampling)
    return [(symbol, one.text) for symbol, some in zip(LETTERS, drawn, strict=True) for one in some]


STEERED = {"concise": ("C", 1.0), "long": ("C", -1.0), "sorted": ("S", 1.0), "vowels": ("V", 1.0)}
"""Arm -> the trait that it is to change, and in which direction."""


def _least(f: Figures) -> float:
    """The least of the changes in the directions that were asked for."""
    return min(sign * f[name][trait] for name, (trait, sign) in STEERED.items())


ARM: dict[str, Any] = {"told": True, "labels": "both orders", "steer": (), "bonus": 0.0}

CLAIM = Claim(
    name="salmon",
    number=22,
    statement="One reward model that reads principles steers a policy to each of four of them: every trait moves by at "
    "least one standard deviation in the direction that is asked for.",
    run=run,
    arms={
        "start": ARM,
        "concise": {**ARM, "steer": ("C",)},
        "long": {**ARM, "steer": ("-C",)},
        "sorted": {**ARM, "steer": ("S",)},
        "vowels": {**ARM, "steer": ("V",)},
        "not told": {**ARM, "told": False, "steer": ("C",)},
        "one order": {**ARM, "labels": "one order"},
        "shuffled labels": {**ARM, "labels": "shuffled", "steer": ("C",)},
        "relevant": {**ARM, "steer": ("R",)},
        "relevant and plain": {**ARM, "steer": ("R", "P")},
        "bonus": {**ARM, "steer": ("R",), "bonus": 5.0},
    },
    scales={
        "laptop": {
            "world": {
                "shortest": 4,
                "longest": 8,
                "most": 3,
                "judging": 0.0,
                "described": 0.8,
                "hype": 0.5,
                "idle_hype": 0.1,
            },
            "base": {
                "documents": 40_000,
                "steps": 8_000,
                "batch": 64,
                "lr": 3e-3,
                "width": 64,
                "depth": 2,
                "heads": 4,
                "context": 48,
            },
            "judge": {"sharp": 2.0, "bias": 1.5, "noise": 0.15},
            "pairs": 18_000,
            "passes": 4,
            "most": 3,
            "reward": {"epochs": 4, "batch": 32, "lr": 1e-3},
            "updates": 120,
            "lr": 5e-4,
            "questions": 16,
            "group": 4,
            "beta": 0.02,
            "test": 500,
            "measured": 400,
        },
        "gpu": {
            "world": {
                "shortest": 4,
                "longest": 24,
                "most": 3,
                "judging": 0.0,
                "described": 0.8,
                "hype": 0.5,
                "idle_hype": 0.1,
            },
            "base": {
                "documents": 400_000,
                "steps": 10_000,
                "batch": 256,
                "lr": 1e-3,
                "width": 192,
                "depth": 4,
                "heads": 6,
                "context": 96,
            },
            "judge": {"sharp": 2.0, "bias": 1.5, "noise": 0.15},
            "pairs": 18_000,
            "passes": 4,
            "most": 3,
            "reward": {"epochs": 2, "batch": 64, "lr": 5e-4},
            "updates": 400,
            "lr": 2e-4,
            "questions": 18,
            "group": 16,
            "beta": 0.02,
            "test": 2_000,
            "measured": 2_000,
        },
        "tiny": {
            "world": {"shortest": 4, "longest": 6, "most": 2, "judging": 0.0, "described": 0.5},
            "base": {
                "documents": 120,
                "steps": 3,
                "batch": 16,
                "lr": 3e-3,
                "width": 16,
                "depth": 1,
                "heads": 2,
                "context": 32,
            },
            "judge": {"sharp": 2.0, "bias": 1.5, "noise": 0.15},
            "pairs": 18,
            "passes": 2,
            "most": 2,
            "reward": {"epochs": 1, "batch": 8, "lr": 1e-3},
            "updates": 1,
            "lr": 5e-4,
            "questions": 4,
            "group": 2,
            "beta": 0.02,
            "test": 10,
            "measured": 18,
        },
    },
    metric="accuracy",
    budget="{pairs} pairs of answers, {updates} updates of {questions} questions with {group} answers each",
    grid={},
    tuning_seeds=(1000,),
    same_as=("640db804bba1", "6928cdc86aa5"),
    statements=(
        Statement(
            "steered",
            "the least of four traits' changes in the direction asked for, in standard deviations of the start",
            _least,
            margin=1.0,
            role="main",
            unit="standard deviations",
        ),
        Statement(
            "there is something to steer",
            "percent of different answers among those before any training with rewards",
            lambda f: f["start"]["different"],
            margin=50.0,
            role="premise",
            unit="percent",
        ),
        Statement(
            "unseen combinations",
            "percent of comparisons under combinations never seen together in which the better answer gets more reward",
            lambda f: f["concise"]["accuracy"],
            margin=80.0,
            unit="percent",
        ),
        Statement(
            "over a model that is not told",
            "the same minus that of a reward model of the same labels that is told no principles",
            lambda f: f["concise"]["accuracy"] - f["not told"]["accuracy"],
            margin=15.0,
            unit="points",
        ),
        Statement(
            "by asking in both orders",
            "the same minus that of a reward model whose labels come from one order",
            lambda f: f["concise"]["accuracy"] - f["one order"]["accuracy"],
            unit="points",
        ),
        Statement(
            "a model that is not told steers nowhere",
            "the greatest change of the three traits, either way, where the reward model is told no principles",
            lambda f: max(abs(f["not told"][trait]) for trait in ("C", "S", "V")),
            margin=1.0,
            direction="below",
            role="control",
            unit="standard deviations",
        ),
        Statement(
            "shuffled labels teach no principle",
            "percent of comparisons under combinations never seen together in which the better answer gets more "
            "reward, where which of two answers is called the better one was drawn by lot",
            lambda f: f["shuffled labels"]["accuracy"],
            margin=60.0,
            direction="below",
            role="control",
            unit="percent",
        ),
        Statement(
            "nor do they steer",
            "the greatest change of the three traits, either way, by a reward model of such labels that is told to be "
            "concise",
            lambda f: max(abs(f["shuffled labels"][trait]) for trait in ("C", "S", "V")),
            margin=1.0,
            direction="below",
            role="control",
            unit="standard deviations",
        ),
        Statement(
            "a hack appears",
            "percent of answers with an exclamation after training for relevance, minus before",
            lambda f: f["relevant"]["hype"] - f["start"]["hype"],
            unit="points",
        ),
        Statement(
            "a principle against it",
            "percent of answers with an exclamation where a principle against it was added, minus half of that without",
            lambda f: f["relevant and plain"]["hype"] - f["relevant"]["hype"] / 2,
            direction="below",
            unit="points",
        ),
        Statement(
            "relevance stays",
            "percent of relevant answers with that principle, as a percentage of that without it",
            lambda f: 100 * f["relevant and plain"]["relevant"] / max(f["relevant"]["relevant"], 1e-9),
            margin=90.0,
            unit="percent",
        ),
        Statement(
            "a bonus for length lengthens",
            "conciseness after training for relevance with a bonus for length, minus without",
            lambda f: f["bonus"]["C"] - f["relevant"]["C"],
            direction="below",
            unit="standard deviations",
        ),
        Statement(
            "answers still differ",
            "least percent of different answers among those of a steered policy",
            lambda f: min(f[arm]["different"] for arm in STEERED),
            margin=10.0,
            role="guard",
            unit="percent",
        ),
    ),
    notes=(
        "The judge is scripted: it knows the truth, likes the first place and turns 15 % of its verdicts around. The "
        "sheet's is a small model trained to compare.",
        "On the tuning seed the base and the number of pairs were raised, 2,000 to 8,000 updates and 6,000 to 18,000 "
        "pairs, because the reward model did not tell order, repetition and variety; a higher rate, more passes and a "
        "wider base that learns for 4,000 updates were tried too. All arms take what was chosen.",
        "Neither this base nor any other that was tried learns to see whether an answer holds the prompt's symbol. "
        "Asked for relevance, the reward model of three seeds of five goes by the exclamation that comes along with "
        "it: the policy exclaims in nine answers of ten and becomes no more relevant, and a principle against that, "
        "told to the same reward model, takes it to one in a hundred. In the two other seeds there is no such hack.",
        "'a model that is not told steers nowhere' was added when three seeds were done, beside a control on the least "
        "of the four changes that could not fail: one policy does not get shorter and longer at once. Its margin is "
        "that of the main statement. The other one was taken out, and shuffled labels were added, once all other "
        "figures were known; their margins were fixed before they were run, with bases trained anew. The premise came "
        "then too, and is met by the runs before.",
    ),
)
