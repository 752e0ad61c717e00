"""Trajectory balance: its gradient on drawn answers, and that what is learned is drawn in proportion to its worth."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from autodidact.lm.task import Demonstration, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.methods.language.policy_gradient import PolicyGradient
from autodidact.methods.language.trajectory_balance import TrajectoryBalance
from autodidact.recipes.improving import question_source
from autodidact.rewards.programs import Programmed
from autodidact.training import Settings, train

STYLE = Style(opening="", demonstration="{input}>{output};", question="{input}>", stop=())
TASK = Task("Say it.", examples=(Demonstration("a", "ab"), Demonstration("b", "ba")), style=STYLE, max_tokens=3)


@pytest.fixture
def lm():
    return tiny_lm("ab>", width=16, depth=1, context=16)


def worth(given: str, answer: str, wanted: str | None) -> float:
    return 1.0 if answer in ("ab", "ba", "bb") else 0.0


def method(lm, **options) -> TrajectoryBalance:
    return TrajectoryBalance(lm, TASK, **{"reward": Programmed(worth), "missing_end": 0.0, "group": 4, **options})


def gradient(lm, total) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(total, [*lm.parameters()])])


def test_on_its_own_answers_the_gradient_is_that_of_the_reward_less_tau_times_the_divergence(lm):
    made = method(lm, tau=0.4)
    same = PolicyGradient(lm, TASK, reward=made.reward, beta=0.4, estimator="grpo", std=False, group=4, missing_end=0.0)
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    asked = [made._questions["a"], made._questions["b"]]
    mine = gradient(lm, made.loss_of(made.weighed(asked, 5)).total)
    theirs = gradient(lm, same.loss_of(same.rolled(asked, 5)).total)
    torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-4)
    assert mine.abs().max() > 1e-4


def test_an_answer_without_a_reward_is_left_out_and_a_lone_one_with_it(lm):
    made = method(lm, reward=Programmed(lambda given, *_: None if given == "a" else 1.0))
    found = made.weighed([made._questions["a"], made._questions["b"]], 0)
    assert set(found.question.tolist()) == {1}
    assert made.dropped == {"the function gave None": 4}
    made.reward = Programmed(lambda *_: None)
    idle = made.weighed([made._questions["a"]], 0)
    assert idle.idle
    assert gradient(lm, made.loss_of(idle).total).abs().max() == 0


@pytest.mark.parametrize("prior", [True, False])
def test_what_answers_are_drawn_in_proportion_to_has_the_start_as_a_factor_unless_told_otherwise(lm, prior):
    made = method(lm, tau=0.4, prior=prior)
    still = copy.deepcopy(lm)
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    found = made.weighed([made._questions["a"], made._questions["b"]], 5)
    drawn = made.draw(["a>", "b>"], group=4, seed=5, temperature=1.0)
    worths = torch.tensor([worth("", text, None) / 0.4 for text in drawn.texts])
    with torch.no_grad():
        start = still.logprobs(found.tokens).sum(dim=1)
    torch.testing.assert_close(found.target, worths + start if prior else worths, atol=1e-5, rtol=1e-5)
    assert len(set(worths.tolist())) == 2


def test_an_answer_with_a_reward_and_none_to_compare_it_with_is_left_out_and_counted(lm):
    number = iter(range(8))
    made = method(lm, reward=Programmed(lambda *given: worth(*given) if next(number) < 5 else None))
    found = made.weighed([made._questions["a"], made._questions["b"]], 0)
    assert found.question.tolist() == [0] * 4
    assert made.dropped == {"the function gave None": 3, "no other answer to compare with": 1}
    assert float(found.figures["dropped"]) == 0.5


def shares(lm, rows: list[list[int]]) -> torch.Tensor:
    """Probabilities of answers to "a>", given as tokens."""
    with torch.no_grad():
        return lm.logprobs(lm.encode(["a>"] * len(rows), rows)).sum(dim=1).double().exp()


def test_what_is_learned_is_drawn_in_proportion_to_its_worth_drawn_from_a_hotter_policy(lm):
    still = copy.deepcopy(lm)
    made = method(lm, tau=0.3, group=48, temperature=1.5, lr_scale=1.0)
    settings = Settings(steps=60, batch_size=2, lr=2e-2, weight_decay=0.0, schedule="linear")
    train(made, question_source("questions", TASK, made.questions), settings, quiet=True)
    # All answers of up to three tokens, of which token 1 is the end and token 0 says nothing.
    rows = [[*row, 1] for n in range(3) for row in itertools.product((0, 2, 3, 4), repeat=n)]
    rows += [list(row) for row in itertools.product((0, 2, 3, 4), repeat=3)]
    before, after = shares(still, rows), shares(lm, rows)
    assert float(before.sum()) == pytest.approx(1, abs=1e-5)
    worths = [worth("", lm.wording.text([t for t in row if t != 1]), None) for row in rows]
    target = before * torch.tensor(worths, dtype=torch.float64).div(0.3).exp()
    target /= target.sum()
    start, end = (float((given - target).abs().sum()) / 2 for given in (before, after))
    assert start > 0.3
    assert end < 0.3 * start, (end, start)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tau": 0.0}, "tau and temperature are above 0"),
        ({"group": 1}, "group is 2 or more"),
        ({"missing_end": -1.0}, "missing_end is 0 or more"),
        ({"reward": "cheker"}, "did you mean 'checker'"),
    ],
)
def test_options_that_make_no_sense_are_refused(lm, options, said):
    with pytest.raises(ValueError, match=said):
        TrajectoryBalance(lm, TASK, **options)
