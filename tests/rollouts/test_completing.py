"""What a token is worth: against all completions of a policy that is small enough, and the gradient that follows."""

from __future__ import annotations

import itertools

import pytest
import torch

from autodidact.lm import Completion
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.methods.language.policy_gradient import PolicyGradient
from autodidact.objectives import reinforce_loss
from autodidact.rewards import Unrewarded
from autodidact.rewards.programs import Programmed
from autodidact.rewards.reward import Reward
from autodidact.rollouts import Policy, Question, judged
from autodidact.rollouts.completing import _whole, worth_of_tokens

STYLE = Style(opening="", demonstration="{input}>{output};", question="{input}>", stop=(";",))
TASK = Task("x", examples=(Demonstration("a", "ab"), Demonstration("b", "ba")), style=STYLE, max_tokens=3)


@pytest.fixture
def lm():
    made = tiny_lm("abc>;", width=16, depth=1, context=16)
    with torch.no_grad():
        made.module.lm_head.weight.mul_(8)
    return made


def letters(given: str, answer: str, wanted: str | None) -> float:
    return answer.count("a") - 0.4 * answer.count("b") + 0.1 * len(answer) + 0.2 * (given == "a")


def test_with_any_number_of_completions_the_mean_gradient_over_all_that_can_be_drawn_is_that_of_the_expected_reward():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(3, dtype=torch.float64, generator=generator).requires_grad_()
    second = torch.randn(3, 3, dtype=torch.float64, generator=generator).requires_grad_()
    reward = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    log_first, log_second = first.log_softmax(0), second.log_softmax(1)
    both = (log_first[:, None] + log_second).exp()
    exact = torch.autograd.grad((both * reward).sum(), (first, second), retain_graph=True)
    p_first, p_second = log_first.exp().detach(), log_second.exp().detach()
    found = [torch.zeros_like(part) for part in exact]
    # An answer of two tokens, and two completions of its first: all that can happen, each as often as it does.
    for y1, y2, c1, c2 in itertools.product(range(3), repeat=4):
        often = p_first[y1] * p_second[y1, y2] * p_second[y1, c1] * p_second[y1, c2]
        worth = torch.stack([(reward[y1, c1] + reward[y1, c2]) / 2, reward[y1, y2]]) - 0.7
        logprobs = torch.stack([log_first[y1], log_second[y1, y2]])[None]
        loss = reinforce_loss(logprobs, torch.ones(1, 2, dtype=torch.bool), worth[None])
        for total, part in zip(found, torch.autograd.grad(loss, (first, second), retain_graph=True), strict=True):
            total -= often * part
    for mine, theirs in zip(found, exact, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-10, rtol=0)


def test_a_token_is_worth_the_mean_over_all_ways_to_go_on_from_it(lm):
    policy = Policy(lm)
    asked = Question.of(TASK, ["a", "b"])
    drawn = policy.draw([one.prompt for one in asked], group=3, max_tokens=2, stop=STYLE.stop, seed=1)
    rewards, _ = judged(drawn, asked, Programmed(letters), missing_end=0.5)
    options = {"max_tokens": 2, "stop": STYLE.stop, "missing_end": 0.5}
    worth, reasons = worth_of_tokens(
        policy, drawn, asked, Programmed(letters), rewards, completions=800, seed=1, **options
    )
    assert not reasons
    checked = 0
    for row, one in enumerate(drawn.completions):
        places = drawn.tokens.answer[row].nonzero()[:, 0]
        assert float(worth[row][places[-1]]) == float(rewards[row])
        assert (worth[row][~drawn.tokens.answer[row]] == 0).all()
        if len(one.tokens) == 1:
            continue
        question = asked[row // 3]
        every = [[one.tokens[0], token] for token in range(lm.causal.config.vocab_size)]
        with torch.no_grad():
            logprobs = lm.logprobs(lm.encode([question.prompt] * len(every), every)).double()
        shares = (logprobs.sum(dim=1) - logprobs[:, places[0]]).exp()
        texts = [lm.wording.text([token for token in ids if token != lm.end]) for ids in every]
        ends = [ids[1] == lm.end or ";" in text for ids, text in zip(every, texts, strict=True)]
        values = torch.tensor(
            [
                letters(question.input, text.partition(";")[0], None) - 0.5 * (not end)
                for text, end in zip(texts, ends, strict=True)
            ],
            dtype=torch.float64,
        )
        mean = float((shares * values).sum())
        spread = float((shares * (values - mean).square()).sum().sqrt())
        assert float(worth[row][places[0]]) == pytest.approx(mean, abs=4 * spread / 800**0.5 + 1e-6)
        checked += 1
    assert checked >= 3


class Picky(Reward):
    """Judges answers to one input alone, and of those only some."""

    def judge(self, answers):
        return [
            Unrewarded("no c") if "c" in one.answer or one.input == "b" else letters(one.input, one.answer, None)
            for one in answers
        ]


def test_completions_without_a_reward_are_left_out_and_where_there_is_none_the_answer_stands_in(lm):
    policy = Policy(lm)
    asked = Question.of(TASK, ["a", "b"])
    drawn = policy.draw([one.prompt for one in asked], group=4, max_tokens=3, seed=2)
    rewards = judged(drawn, asked, Programmed(letters))[0]
    worth, reasons = worth_of_tokens(policy, drawn, asked, Picky(), rewards, completions=2, max_tokens=3, seed=2)
    for row in range(4, 8):
        assert (worth[row][drawn.tokens.answer[row]] == rewards[row]).all()
    assert reasons["no c"] >= sum(2 * (len(one.tokens) - 1) for one in drawn.completions[4:])
    assert worth.isfinite().all()


def test_a_text_that_ends_answers_is_seen_where_a_completion_goes_on_in_the_middle_of_it(lm):
    answer = Completion("a;", "length", lm.wording.answer_ids(["a;b"])[0], (-1.0, -1.0, -1.0))
    rest = Completion(";c", "length", lm.wording.answer_ids([";c"])[0], (-2.0, -2.0))
    whole = _whole(Policy(lm), answer, 2, rest, 4, (";;",))
    assert (whole.text, whole.finish, whole.logprobs) == ("a", "stop", (-1.0, -1.0, -2.0))


@pytest.mark.parametrize("estimator", ["rloo", "reinforce"])
def test_what_the_estimator_takes_off_is_taken_off_the_worth_of_every_token(lm, estimator):
    made = PolicyGradient(
        lm, TASK, reward=Programmed(letters), estimator=estimator, group=4, completions=3, beta=0.0, missing_end=0.0
    )
    made.baseline.fill_(0.3)
    asked = [made._questions["a"], made._questions["b"]]
    drawn = made.draw([one.asked for one in asked], group=4, seed=5)
    rewards, _ = judged(drawn, asked, made.reward)
    worth, _ = worth_of_tokens(
        made.policy, drawn, asked, made.reward, rewards, completions=3, max_tokens=3, stop=STYLE.stop, seed=5
    )
    found = made.rolled(asked, 5)
    total = torch.zeros(())
    logprobs = lm.logprobs(found.tokens)
    for row in range(8):
        others = [float(rewards[k]) for k in range(8) if k // 4 == row // 4 and k != row]
        off = sum(others) / 3 if estimator == "rloo" else 0.3
        for place in found.tokens.answer[row].nonzero()[:, 0].tolist():
            assert float(found.advantages[row, place]) == pytest.approx(float(worth[row, place]) - off, abs=1e-5)
            total = total - (float(worth[row, place]) - off) * logprobs[row, place] / 8 / TASK.max_tokens
    weights = [*lm.parameters()]
    mine = torch.autograd.grad(made.loss_of(found).total, weights, retain_graph=True)
    theirs = torch.autograd.grad(total, weights)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("estimator", ["grpo", "ppo", "raml"])
def test_completions_go_with_estimators_that_only_take_something_off(lm, estimator):
    with pytest.raises(ValueError, match=f"for reinforce, self_critical, rloo only; got 2 for '{estimator}'"):
        PolicyGradient(lm, TASK, estimator=estimator, completions=2)
