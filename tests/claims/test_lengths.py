"""Self-feedback by the length of answers and by layer: what is counted, and the curves of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autodidact.claims.self_feedback import CLAIM, LEAST, by_length, curves
from autodidact.lm.lm import Completion
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.signals import Asked
from autodidact.lm.task import Demonstration, Task
from autodidact.measures import auroc

NAMES = {"semantic": "semantic_entropy", "vote": "vote_share", "token": "mean_logprob"}


def said(text: str, length: int, surprise: float) -> Completion:
    return Completion(text, "stop", tokens=(7,) * length, logprobs=(-surprise,) * length)


def questions(rng: np.random.Generator) -> tuple[Task, list[Asked]]:
    """Answers of 4 and of 9 tokens; of 2 tokens there are too few, and two are without a final answer."""
    rows, wanted = [], []
    for k, length in enumerate([4] * 8 + [9] * 6 + [2] * (LEAST - 1)):
        votes = int(rng.integers(2, 5))
        texts = ["=1"] * votes + [f"={n}" for n in range(2, 6 - votes)]
        rows.append(Asked(f"q{k}", f"q{k}?", [said(t, length, float(rng.random())) for t in texts]))
        wanted.append("1" if rng.random() < votes / 4 else "0")
    for k in range(2):
        rows.append(Asked(f"n{k}", f"n{k}?", [said("none", 4, 0.1)]))
        wanted.append("1")
    test = tuple(Demonstration(row.input, output) for row, output in zip(rows, wanted, strict=True))
    return Task("Answer.", test=test, final="="), rows


def test_votes_and_signals_are_those_of_the_answers_of_one_length() -> None:
    task, rows = questions(np.random.default_rng(3))
    found = by_length(ScriptedLM(lambda _: ""), task, rows, NAMES)
    assert {int(name.partition(" at ")[2]) for name in found} == {4, 9}
    for length, places in ((4, range(8)), (9, range(8, 14))):
        shares, entropies, right = [], [], []
        for k in places:
            texts = [one.text for one in rows[k].answers]
            counts = [texts.count(text) / len(texts) for text in dict.fromkeys(texts)]
            shares.append(max(counts))
            entropies.append(-sum(p * math.log(p) for p in counts))
            right.append(task.test[k].output == "1")
        assert found[f"questions at {length}"] == len(places)
        assert found[f"share at {length}"] == pytest.approx(100 * sum(shares) / len(places))
        assert found[f"voted right at {length}"] == pytest.approx(100 * sum(right) / len(places))
        assert 0 < sum(right) < len(right)
        assert found[f"vote at {length}"] == pytest.approx(100 * auroc(np.array(shares), np.array(right)))
        assert found[f"semantic at {length}"] == pytest.approx(100 * auroc(-np.array(entropies), np.array(right)))


def test_where_all_are_right_a_length_has_votes_and_no_curve_of_signals() -> None:
    rows = [Asked(f"q{k}", "", [said("=1", 3, 0.1 * k)]) for k in range(LEAST)]
    task = Task("Answer.", test=tuple(Demonstration(row.input, "1") for row in rows), final="=")
    found = by_length(ScriptedLM(lambda _: ""), task, rows, NAMES)
    assert found == {"questions at 3": LEAST, "voted right at 3": 100.0, "share at 3": 100.0}


def test_curves_are_means_over_the_seeds_that_have_a_length_in_order_of_length() -> None:
    seeds = [
        {
            "signals": {
                "share at 9": 40.0,
                "share at 10": 20.0,
                "voted right at 9": 50.0,
                "vote at 9": 70.0,
                "share": 1.0,
            }
        },
        {"signals": {"share at 9": 60.0, "voted right at 9": 60.0}},
        {"greedy": {"right": 3.0}},
    ]
    votes, signals = curves(seeds)
    assert votes.lines == {"voted right": [(9.0, 55.0)], "share": [(9.0, 50.0), (10.0, 20.0)]}
    assert signals.lines == {"vote": [(9.0, 70.0)]}
    assert curves([{"greedy": {"right": 3.0}}]) == []
    assert CLAIM.draws is curves


def test_curves_by_layer_are_means_over_the_seeds_that_have_them() -> None:
    seeds = [
        {"signals": {"exit.0": 20.0, "exit.1": 60.0}, "by layer": {"right.0": 10.0, "right.1": 30.0, "right": 50.0}},
        {"signals": {"exit.0": 40.0, "exit.1": 80.0}, "by layer": {"right.0": 0.0, "right.1": 50.0, "right": 50.0}},
        {"signals": {"exit.0": 60.0, "exit.1": 100.0}},
    ]
    (layers,) = curves(seeds)
    assert layers.lines == {
        "the last layer's token": [(0.0, 40.0), (1.0, 80.0)],
        "the right answer": [(0.0, 5.0), (1.0, 40.0)],
    }
