"""SCoRe: what each stage rewards, by enumeration and on drawn attempts; a run of both stages, killed and resumed."""

from __future__ import annotations

import copy
import itertools
import json
import warnings
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from autodidact.evaluation.table import Table
from autodidact.evaluation.two_turns import transitions
from autodidact.lm.adapters import adapter_off, add_adapter
from autodidact.lm.kept import LanguageModel
from autodidact.lm.lm import Prompt, Sampling
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.lm.turns import asked_again, two_answers
from autodidact.measures.editing import edit_ratio
from autodidact.methods.language.two_turns import TwoTurns, mixed_in
from autodidact.model import load_model
from autodidact.objectives import credited, shaped
from autodidact.recipes.self_correct import SelfCorrect
from autodidact.rewards.programs import Programmed
from autodidact.training import Settings
from autodidact.verbs.apply import apply
from autodidact.verbs.improve import improve

STYLE = Style(opening="", demonstration="{input}>{output};", question="{input}>", stop=(";",))
WORDS = [a + b for a in "abc" for b in "abc"]
TASK = Task(
    "The first letter.",
    examples=tuple(Demonstration(w, w[0]) for w in WORDS),
    test=(Demonstration("aba", "a"), Demonstration("bab", "b")),
    style=STYLE,
    max_tokens=3,
)

SECOND = torch.tensor(list(itertools.product(range(3), repeat=2)))
"""All second answers of two tokens out of three."""


def second_probabilities(theta: Tensor) -> Tensor:
    """Of all second answers after each of three first ones, (3, 9): theta is (3, 4, 3)."""
    first = theta[:, 0].log_softmax(-1)[:, SECOND[:, 0]]
    rows = theta[:, 1:].log_softmax(-1)
    return (first + rows[:, SECOND[:, 0], SECOND[:, 1]]).exp()


@pytest.fixture
def toy() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Parameters of a first answer of one token and of second ones, and the rewards of both."""
    generator = torch.Generator().manual_seed(0)
    phi = torch.randn(3, dtype=torch.float64, generator=generator).requires_grad_()
    theta = torch.randn(3, 4, 3, dtype=torch.float64, generator=generator).requires_grad_()
    r1 = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    r2 = (torch.rand(9, dtype=torch.float64, generator=generator) < 0.4).double()
    return phi, theta, r1, r2


def expected_gradients(toy, alpha: float, credit: str) -> tuple[Tensor, Tensor]:
    """Exact expected policy gradient of first and second parameters, by the sum over all answers of both turns."""
    phi, theta, r1, r2 = toy
    worth = shaped(r1[None], r2.expand(1, 3, 9), alpha)[0]
    after = second_probabilities(theta)
    weight = credited(r1[None], (9 * after.detach() * worth)[None], credit)[0]
    log_first, log_second = phi.log_softmax(0), after.log()
    p1 = phi.softmax(0).detach()
    objective = (p1 * weight * log_first).sum() + (p1[:, None] * after.detach() * worth * log_second).sum()
    return torch.autograd.grad(objective, (phi, theta))


@pytest.mark.parametrize("alpha", [0.5, 5.0])
def test_at_once_credited_the_bonus_multiplies_the_second_gradient_by_one_plus_alpha_and_leaves_the_first(toy, alpha):
    plain, bonus = expected_gradients(toy, 0.0, "instant"), expected_gradients(toy, alpha, "instant")
    torch.testing.assert_close(bonus[1], (1 + alpha) * plain[1], atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(bonus[0], plain[0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 5.0])
def test_credited_with_the_return_a_right_first_answer_has_the_coefficient_one_minus_alpha(toy, alpha):
    phi, theta, r1, r2 = toy
    found = expected_gradients(toy, alpha, "return")[0]
    second = (second_probabilities(theta) @ r2).detach()
    weight = (1 - alpha) * r1 + (1 + alpha) * second
    right = torch.autograd.grad(phi.softmax(0) @ weight, phi)[0]
    torch.testing.assert_close(found, right, atol=1e-12, rtol=0)


@pytest.fixture
def lm():
    made = tiny_lm("abc>;!", width=16, depth=1, context=32)
    with torch.no_grad():
        made.module.lm_head.weight.mul_(6)
    return made


def letters(given: str, answer: str, wanted: str | None) -> float:
    return answer.count("a") - 0.3 * answer.count("b") + 0.1 * len(answer)


def method(lm, **options) -> TwoTurns:
    return TwoTurns(
        lm, TASK, **{"reward": Programmed(letters), "request": "!", "alpha": 2.0, "firsts": 3, "follow": 4, **options}
    )


def attempted(made: TwoTurns, seed: int = 1):
    return made.attempted([made._questions[text] for text in ("ab", "cc")], seed)


def gradient(made: TwoTurns, total: Tensor) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(total, [*made.lm.parameters()], retain_graph=True)])


def moved(lm) -> None:
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))


def rewards_of(made: TwoTurns, tokens) -> list[float]:
    texts = [made.lm.wording.text(row[mask].tolist()) for row, mask in zip(tokens.ids, tokens.answer, strict=True)]
    return [letters("", text.partition(";")[0].strip(), None) for text in texts]


@pytest.mark.parametrize("credit", ["instant", "return"])
def test_attempts_are_compared_with_their_siblings_by_a_loop(lm, credit):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = method(lm, credit=credit)
    found = attempted(made)
    r1, r2 = rewards_of(made, found.first), rewards_of(made, found.second)
    first, second = [], []
    for question in range(2):
        weights = []
        for place in range(3):
            row = 3 * question + place
            worth = [r + 2.0 * (r - r1[row]) for r in r2[4 * row : 4 * row + 4]]
            second += [w - (sum(worth) - w) / 3 for w in worth]
            weights.append(r1[row] + (sum(worth) / 4 if credit == "return" else 0.0))
        first += [w - (sum(weights) - w) / 2 for w in weights]
    assert found.second_advantages.tolist() == pytest.approx(second, abs=1e-5)
    assert found.first_advantages.tolist() == pytest.approx(first, abs=1e-5)
    # What a second answer follows from is the first one of its own row.
    for row in range(24):
        before = found.second.ids[row][found.second.attention[row] & ~found.second.answer[row]].tolist()
        said = found.first.ids[row // 4][found.first.attention[row // 4]].tolist()
        said = said[:-1] if said[-1] in lm.ends else said
        assert before[: len(said)] == said


@pytest.mark.parametrize("credit", ["instant", "return"])
def test_first_answers_of_the_reference_are_mixed_in_for_second_answers_alone_by_a_loop(lm, credit):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        without, made = method(lm, credit=credit), method(lm, credit=credit, mixed=1.0)
    moved(lm)
    plain, found = attempted(without), attempted(made)
    # The policy's own attempts, and what they weigh, are what they are without.
    assert len(plain.second) == 24
    assert len(found.second) == 32
    assert torch.equal(found.first.ids, plain.first.ids)
    torch.testing.assert_close(found.first_advantages, plain.first_advantages)
    torch.testing.assert_close(found.second_advantages[:24], plain.second_advantages, atol=1e-5, rtol=0)
    alone, mixed = (
        [row[mask].tolist() for row, mask in zip(one.ids, one.attention, strict=True)]
        for one in (plain.second, found.second)
    )
    assert mixed[:24] == alone
    # What the others follow from was drawn by what the model was before it was moved.
    start = made.policy.start
    assert start is not None
    drawn = start.generate(["ab>", "cc>"], Sampling(1, TASK.max_tokens, stop=STYLE.stop, seed=1 + 2))
    r2 = rewards_of(made, found.second)[24:]
    for place, (asked, (before,)) in enumerate(zip(("ab>", "cc>"), drawn, strict=True)):
        r1 = letters("", before.text.strip(), None)
        worth = [r + 2.0 * (r - r1) for r in r2[4 * place : 4 * place + 4]]
        expected = [w - (sum(worth) - w) / 3 for w in worth]
        assert found.second_advantages[24 + 4 * place :][:4].tolist() == pytest.approx(expected, abs=1e-5)
        (prompt,) = lm.wording.prompt_ids([Prompt.of(asked)])
        begun = [*prompt, *(token for token in before.tokens if token not in lm.ends)]
        assert all(row[: len(begun)] == begun for row in mixed[24 + 4 * place :][:4])
    assert {name: float(found.figures[name]) for name in ("first", "second", "edited")} == pytest.approx(
        {name: float(plain.figures[name]) for name in ("first", "second", "edited")}
    )
    assert float(found.figures["mixed"]) == pytest.approx(2 / 8)
    # Second answers all count alike.
    each = made.lm.logprobs(found.second).sum(dim=1)
    bare = replace(found, first_advantages=torch.zeros_like(found.first_advantages))
    made.beta_first = made.beta_second = 0.0
    alone = -(each * found.second_advantages).mean() / TASK.max_tokens
    torch.testing.assert_close(gradient(made, made.loss_of(bare).total), gradient(made, alone), atol=1e-6, rtol=1e-4)


def test_the_reference_answers_as_large_a_share_of_the_questions_as_was_asked_for(lm):
    questions = list(range(4000))
    third, half = (mixed_in(questions, share, 5) for share in (1 / 3, 0.5))  # type: ignore[arg-type]
    assert set(third) < set(half)
    assert abs(len(half) / 4000 - 0.5) < 0.04
    assert half == mixed_in(questions, 0.5, 5) != mixed_in(questions, 0.5, 6)  # type: ignore[arg-type]
    assert mixed_in(questions, 0.0, 5) == []  # type: ignore[arg-type]
    assert mixed_in(questions, 1.0, 5) == questions  # type: ignore[arg-type]


def test_the_first_stage_has_no_policy_gradient_on_first_answers_only_the_divergence(lm):
    made = method(lm, rewarded_first=False, alpha=0.0, beta_first=0.7, beta_second=0.0)
    found = attempted(made)
    assert found.first_advantages.abs().max() == 0
    # At the reference the divergence has no gradient: what is left is that of the second answers alone.
    each = made.lm.logprobs(found.second).sum(dim=1)
    alone = -(each * found.second_advantages).mean() / TASK.max_tokens
    torch.testing.assert_close(gradient(made, made.loss_of(found).total), gradient(made, alone), atol=1e-6, rtol=1e-4)
    moved(lm)
    away = attempted(made)
    quiet = replace(away, second_advantages=torch.zeros_like(away.second_advantages))
    kl = made.policy.passed(away.first, "exact").kl.sum(dim=1).mean() / TASK.max_tokens
    torch.testing.assert_close(
        gradient(made, made.loss_of(quiet).total), gradient(made, 0.7 * kl), atol=1e-6, rtol=1e-4
    )


@pytest.mark.parametrize("kl", ["exact", "k3"])
def test_at_the_reference_both_divergences_are_zero_and_later_never_negative(lm, kl):
    made = method(lm, kl=kl)
    terms = made.loss_of(attempted(made)).terms
    assert abs(float(terms["kl_first"])) < 1e-6
    assert abs(float(terms["kl_second"])) < 1e-6
    moved(lm)
    terms = made.loss_of(attempted(made)).terms
    assert float(terms["kl_first"]) > 1e-4
    assert float(terms["kl_second"]) > 1e-4


def answers_of(lm) -> list[list[int]]:
    """All first answers as tokens: up to three, with nothing behind one that ends it."""
    ends = {*lm.ends, *lm.wording.answer_ids(list(STYLE.stop))[0]}
    rows = [row for n in (1, 2, 3) for row in itertools.product(range(len(lm.module.lm_head.weight)), repeat=n)]
    return [[*row] for row in rows if not ends & {*row[:-1]} and (len(row) == TASK.max_tokens or row[-1] in ends)]


def nats_moved(made: TwoTurns) -> float:
    """KL(pi(. | x) || reference) of first answers, by the sum over all of them, as a mean over questions."""
    rows, total = answers_of(made.lm), 0.0
    for prompt in ("ab>", "cc>"):
        tokens = made.lm.encode([prompt] * len(rows), rows)
        with torch.no_grad():
            now, before = (one.logprobs(tokens).sum(dim=1).double() for one in (made.lm, made.policy.start))
        assert float(now.exp().sum()) == pytest.approx(1, abs=1e-5)
        total += float((now.exp() * (now - before)).sum()) / 2
    return total


def test_the_greater_its_price_the_less_first_answers_move_and_in_the_end_not_at_all(lm):
    moves = []
    for price in (0.0, 0.3, 3.0, 30.0, 300.0):
        made = method(
            copy.deepcopy(lm), rewarded_first=False, alpha=0.0, beta_first=price, beta_second=0.0, request="!!"
        )
        optimiser = torch.optim.Adam(made.lm.parameters(), lr=1e-2)
        slower = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, 20)
        for seed in range(20):
            optimiser.zero_grad()
            made.loss_of(attempted(made, seed)).total.backward()
            optimiser.step()
            slower.step()
        moves.append(nats_moved(made))
    assert moves[0] > 1
    assert moves[0] > 1.5 * moves[1] > 3 * moves[2] > 20 * moves[3]
    # What is left is the noise of the steps.
    assert max(moves[3:]) < 0.02


def test_with_a_growing_price_the_first_stage_descends_the_divergence_of_first_answers_and_nothing_else(lm):
    start = lm.frozen()
    made = method(lm, rewarded_first=False, alpha=0.0, beta_first=0.0, beta_second=0.0)
    moved(lm)
    found = attempted(made)
    now, before = (one.answer_logits(found.first).log_softmax(1) for one in (lm, start))
    kl = gradient(made, (now.exp() * (now - before)).sum())
    apart = []
    for price in (0.0, 1.0, 10.0, 100.0, 1000.0, 10_000.0):
        made.beta_first = price
        step = gradient(made, made.loss_of(found).total)
        apart.append(1 - float(torch.nn.functional.cosine_similarity(step.double(), kl.double(), dim=0)))
    assert apart[0] > 0.5
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] < 1e-6


def test_equal_rewards_teach_nothing_and_an_answer_without_a_reward_is_left_out(lm):
    made = method(lm, reward=Programmed(lambda *_: 0.4), beta_first=0.0, beta_second=0.0)
    assert gradient(made, made.loss_of(attempted(made)).total).abs().max() < 1e-7
    made = method(lm, reward=Programmed(lambda given, answer, wanted: None if "b" in answer else 1.0 + len(answer)))
    found = attempted(made)
    assert made.dropped["the function gave None"] > 0
    assert torch.isfinite(found.second_advantages).all()
    assert torch.isfinite(found.first_advantages).all()
    assert 0 < float(found.figures["dropped"]) < 1
    assert torch.isfinite(made.loss_of(found).total)
    with pytest.raises(ValueError, match="none of the first 6 answers has a reward: 6 times ZeroDivisionError"):
        attempted(method(lm, reward=Programmed(lambda *_: 1 / 0)))


def test_without_a_bonus_second_answers_count_whatever_became_of_the_reward_of_the_first():
    first, second = torch.tensor([[float("nan"), 0.5]]), torch.tensor([[[0.25, float("nan")], [1.0, 0.0]]])
    torch.testing.assert_close(shaped(first, second, 0.0), second, equal_nan=True)
    assert shaped(first, second, 1.0)[0, 0].isnan().all()


def test_the_first_stage_learns_from_second_answers_after_a_first_one_whose_reward_failed_by_a_loop(lm):
    reward = Programmed(lambda given, answer, wanted: None if "b" in answer else letters(given, answer, wanted))
    found = attempted(method(lm, reward=reward, rewarded_first=False, alpha=0.0))

    def texts(tokens) -> list[str]:
        said = [lm.wording.text(row[mask].tolist()) for row, mask in zip(tokens.ids, tokens.answer, strict=True)]
        return [text.partition(";")[0].strip() for text in said]

    second, expected = texts(found.second), list[float]()
    for row in range(6):
        worth = [None if "b" in text else letters("", text, None) for text in second[4 * row : 4 * row + 4]]
        known = [one for one in worth if one is not None]
        expected += [
            0.0 if one is None or len(known) < 2 else one - (sum(known) - one) / (len(known) - 1) for one in worth
        ]
    assert found.second_advantages.tolist() == pytest.approx(expected, abs=1e-5)
    failed = [row for row, text in enumerate(texts(found.first)) if "b" in text]
    assert any(found.second_advantages[4 * row : 4 * row + 4].abs().max() > 0.1 for row in failed)


def test_empty_and_unfinished_first_answers_are_asked_again_like_any_other(lm):
    with torch.no_grad():
        lm.module.lm_head.weight.mul_(0)
    made = method(lm, missing_end=0.5)
    found = attempted(made)
    lengths = found.first.answer.sum(dim=1)
    assert 1 in lengths
    assert float(found.figures["cut_off"]) > 0
    assert len(found.second) == 24


def test_delta_is_what_was_fixed_less_what_was_broken():
    task = replace(TASK, test=tuple(Demonstration(w, w[0]) for w in ("aaa", "bbb", "ccc", "abc", "bca")))
    found = transitions(task, [("a", "a"), ("x", "b"), ("c", ""), ("x", "y"), ("x", "b")])
    assert found == pytest.approx(
        {"first": 0.4, "second": 0.6, "delta": 0.2, "fixed": 0.4, "broken": 0.2, "edited": 0.8, "edit_ratio": 0.8}
    )
    assert found["delta"] == pytest.approx(found["second"] - found["first"])
    with pytest.raises(ValueError, match="1 pairs of answers for 5 test inputs"):
        transitions(task, [("a", "a")])


def test_where_several_answers_are_right_a_judge_of_ones_own_says_so():
    task = replace(TASK, test=tuple(Demonstration(w, w[0]) for w in ("abc", "bca")))
    found = transitions(task, [("c", "b"), ("x", "c")], lambda one, said: said in one.input)
    assert (found["first"], found["second"], found["fixed"], found["broken"]) == (0.5, 1.0, 0.5, 0.0)


def test_two_answers_are_drawn_as_asked_or_are_the_likeliest(lm):
    sampling = Sampling(1, TASK.max_tokens, stop=STYLE.stop, seed=7)
    words = ["ab", "cc", "ba", "ca"]
    for how in (sampling, None):
        asked = how or replace(sampling, temperature=0.0)
        expected = []
        for word in words:
            first = lm.generate([f"{word}>"], asked)[0][0]
            second = lm.generate([asked_again(lm, f"{word}>", first, "!")], asked)[0][0]
            expected.append((first.text.strip(), second.text.strip()))
        assert two_answers(lm, TASK, words, "!", how) == expected
    assert two_answers(lm, TASK, words, "!", sampling) != two_answers(lm, TASK, words, "!")


@pytest.mark.parametrize(
    ("a", "b", "ratio"),
    [("", "", 0), ("abc", "abc", 0), ("abc", "", 1), ("kitten", "sitting", 3 / 7), ("131", "132", 1 / 3)],
)
def test_the_edit_ratio_is_levenshteins_distance_over_the_longer(a, b, ratio):
    assert edit_ratio(a, b) == edit_ratio(b, a) == pytest.approx(ratio)


QUICK = Settings(steps=3, batch_size=4, lr=1e-2, weight_decay=0.0, deterministic=True, checkpoint_steps=1)
OPTIONS = {"request": "!", "firsts": 2, "follow": 2, "lr_scale": 1.0, "alpha": 5.0, "mixed": 0.5}


def test_a_run_of_both_stages_goes_on_after_two_kills_and_ends_as_if_there_had_been_none(lm, tmp_path, monkeypatch):
    def go(out, model):
        return improve("self_correct", model, TASK, out=out, settings=QUICK, method_arguments=OPTIONS, quiet=True)

    whole = go(tmp_path / "whole", lm.frozen().requires_grad_())
    with monkeypatch.context() as patched:
        patched.setattr(SelfCorrect, "second", _killed)
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path / "cut", lm.frozen().requires_grad_())
    with monkeypatch.context() as patched:
        # In the second update of the second stage, in which first answers of the reference are mixed in.
        patched.setattr(TwoTurns, "attempted", _killed_at(TwoTurns.attempted, 2))
        with pytest.raises(MemoryError):
            go(tmp_path / "cut", lm.frozen().requires_grad_())
    back = go(tmp_path / "cut", lm.frozen().requires_grad_())
    assert isinstance(back, LanguageModel)
    for (name, a), (_, b) in zip(whole.state_dict().items(), back.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    start = dict(lm.state_dict())
    assert any(not torch.equal(value, start[name]) for name, value in whole.lm.state_dict().items())
    table = Table.load(tmp_path / "cut" / "evaluations" / "self_correct.json")
    assert table.arms == ["before", "after"]
    for arm in table.arms:
        figures = {name: table.mean_interval(arm, name).mean for name in table.metrics}
        assert figures["delta"] == pytest.approx(figures["fixed"] - figures["broken"])
        assert figures["delta"] == pytest.approx(figures["second"] - figures["first"])
    assert "were wrong and became right" in (tmp_path / "cut" / "report.html").read_text()
    rows = [json.loads(line) for line in (tmp_path / "cut" / "examples.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [f"{word}>" for word in WORDS]
    (tmp_path / "in.txt").write_text("ab\ncc\n")
    written = apply(tmp_path / "cut", tmp_path / "in.txt", ability="generate", out=tmp_path / "o.jsonl", quiet=True)
    said = [json.loads(line) for line in written.read_text().splitlines()]
    assert all({"input", "first", "output"} <= set(row) for row in said)
    assert load_model(tmp_path / "cut").again == "!"


def test_each_stage_is_made_of_the_options_that_it_is_for(lm):
    given = {"alpha": 3.0, "beta_first": 0.5, "beta": 0.02, "credit": "return", "mixed": 0.25, "kl": "k3"}
    both = {"request": "!", "firsts": 3, "follow": 5, "missing_end": 0.125, "lr_scale": 0.75}
    with pytest.warns(UserWarning, match="failing first"):
        recipe = SelfCorrect(**given, **both, temperature=0.5)
    start = lm.frozen()
    with pytest.warns(UserWarning, match="failing first"):
        one, two = recipe.first(lm, TASK), recipe.second(lm, TASK, start)
    for made in (one, two):
        assert {name: getattr(made, name) for name in both} == both
        assert (made.kl, made.policy.temperature, made.beta_second) == ("k3", 0.5, 0.02)
    # The first one rewards second answers alone, and holds first ones to what the model is now.
    assert (one.rewarded_first, one.alpha, one.credit, one.mixed, one.beta_first) == (False, 0.0, "instant", 0.0, 0.5)
    assert one.policy.start is not lm
    assert one.policy.start is not start
    assert (two.rewarded_first, two.alpha, two.credit, two.mixed, two.beta_first) == (True, 3.0, "return", 0.25, 0.02)
    assert two.policy.start is start


def test_the_reward_and_its_seconds_are_those_of_both_stages(lm, tmp_path):
    (tmp_path / "mine.py").write_text("def reward(given, answer, wanted):\n    return 0.5\n")
    recipe = SelfCorrect(reward=f"{tmp_path / 'mine.py'}:reward", seconds=7.0)
    for made in (recipe.first(lm, TASK), recipe.second(lm, TASK, "now")):
        assert isinstance(made.reward, Programmed)
        assert made.reward.seconds == 7.0


def test_an_adapter_switched_off_is_the_reference_of_both_stages(lm):
    add_adapter(lm, rank=2)
    recipe = SelfCorrect(request="!")
    first = recipe.first(lm, TASK)
    assert first.policy.start is None
    moved(lm)
    second = recipe.second(lm, TASK, "base")
    assert second.policy.start is None
    found = second.attempted([second._questions["ab"]], 0)
    with adapter_off(lm), torch.no_grad():
        expected = lm.logprobs(found.first)
    torch.testing.assert_close(second.policy.reference(found.first), expected)
    mixing = SelfCorrect(request="!", mixed=1.0).second(lm, TASK, "base")
    with adapter_off(lm):
        theirs = lm.generate(["ab>"], Sampling(1, TASK.max_tokens, stop=STYLE.stop, seed=0 + 2))[0][0]
    read = mixing.attempted([mixing._questions["ab"]], 0).second
    before = read.ids[-1][read.attention[-1] & ~read.answer[-1]].tolist()
    (prompt,) = lm.wording.prompt_ids([Prompt.of("ab>")])
    begun = [*prompt, *(token for token in theirs.tokens if token not in lm.ends)]
    assert before[: len(begun)] == begun
    assert recipe.second(lm, TASK, "now").policy.start is not None


def _killed(*_, **__):
    raise KeyboardInterrupt


def _killed_at(attempted, number):
    """The method until it is called for that time."""
    calls = itertools.count(1)

    def called(*given):
        if next(calls) == number:
            raise MemoryError
        return attempted(*given)

    return called


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"alpha": -1.0}, "alpha, the bonus for progress, is 0 or more"),
        ({"firsts": 1}, "2 or more first answers"),
        ({"follow": 1}, "2 or more second answers"),
        ({"credit": "retrun"}, "did you mean 'return'"),
        ({"kl": "k1"}, "unknown divergence in the loss 'k1'"),
        ({"beta": -0.1}, "are 0 or more"),
        ({"mixed": 1.5}, r"is in \[0, 1\], got 1.5"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(options, said):
    with pytest.raises(ValueError, match=said):
        SelfCorrect(**options)


def test_paying_for_failing_first_is_warned_of():
    with pytest.warns(UserWarning, match="the policy is paid for failing first"):
        SelfCorrect(credit="return")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SelfCorrect(credit="return", alpha=0.5)
        SelfCorrect()


def test_a_model_elsewhere_and_a_task_without_examples_are_refused_before_anything_is_asked(lm, tmp_path):
    elsewhere = ScriptedLM(lambda _: "x")
    with pytest.raises(ValueError, match="SelfCorrect trains a model, and scripted runs elsewhere"):
        improve("self_correct", elsewhere, TASK, out=tmp_path / "a", quiet=True)
    assert elsewhere.calls == []
    with pytest.raises(ValueError, match="learns from the task's examples"):
        improve("self_correct", lm, Task("x", inputs=("a",)), out=tmp_path / "b", quiet=True)
