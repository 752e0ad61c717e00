"""Policy gradients: the estimators' gradients on drawn answers, what is dropped, and that training goes on exactly."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from autodidact.lm.kept import LanguageModel
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.methods.language.policy_gradient import PolicyGradient
from autodidact.methods.method import Progress
from autodidact.recipes.improving import question_source
from autodidact.rewards.programs import Programmed
from autodidact.training import Settings, train
from autodidact.verbs.improve import improve

STYLE = Style(
    opening="",
    demonstration="{input}>{output};",
    question="{input}>",
    stop=(";",),
    inputs_opening="?",
    inputs_item="{input};",
    inputs_ask="",
    inputs_ask_labelled="{label}<",
)
WORDS = [a + b for a in "abc" for b in "abc"]
WHOLE = ("ab>", "cc>")
"""Prompts of the questions that most tests ask."""
TASK = Task(
    "The first letter.",
    examples=tuple(Demonstration(w, w[0]) for w in WORDS),
    style=STYLE,
    max_tokens=3,
    inputs=("cc",),
)


@pytest.fixture
def lm():
    return tiny_lm("abc>;", width=16, depth=1, context=16)


def letters(given: str, answer: str, wanted: str | None) -> float:
    """A reward that tells answers apart."""
    return answer.count("a") - 0.3 * answer.count("b") + 0.1 * len(answer)


def method(lm, **options) -> PolicyGradient:
    return PolicyGradient(lm, TASK, **{"reward": Programmed(letters), "group": 4, "missing_end": 0.0, **options})


def rolled(made: PolicyGradient, seed: int = 3):
    return made.rolled([made._questions[text] for text in ("ab", "cc")], seed)


def gradient(made: PolicyGradient, total: Tensor) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(total, [*made.lm.parameters()], retain_graph=True)])


def naive(made: PolicyGradient, weights: list[float], found) -> Tensor:
    """- mean over answers of weight times log-probability, by the model's own scoring of each."""
    each = made.lm.logprobs(found.tokens).sum(dim=1)
    return -(each * torch.tensor(weights, dtype=each.dtype)).mean() / TASK.max_tokens


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("estimator", ["rloo", "grpo", "reinforce", "raml"])
def test_the_gradient_is_that_of_a_loop_over_the_answers(lm, estimator, beta):
    made = method(lm, estimator=estimator, beta=beta, tau=0.5)
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    found = rolled(made)
    nats = (found.old - found.ref).sum(dim=1)
    assert nats.abs().max() > 1e-3
    worth = (found.rewards - beta * nats).reshape(2, 4).tolist()
    weights = []
    for row in worth:
        mean = sum(row) / 4
        spread = (sum((r - mean) ** 2 for r in row) / 3) ** 0.5
        total = sum(torch.tensor([r / 0.5 for r in row]).exp().tolist())
        for r in row:
            weights.append(
                {
                    "rloo": r - (sum(row) - r) / 3,
                    "grpo": (r - mean) / (spread + 1e-4),
                    "reinforce": r,
                    "raml": 4 * float(torch.tensor(r / 0.5).exp()) / total,
                }[estimator]
            )
    mine, theirs = gradient(made, made.loss_of(found).total), gradient(made, naive(made, weights, found))
    torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-4)
    assert mine.abs().max() > 1e-4


def test_the_best_answers_alone_are_learned_where_tau_is_zero(lm):
    made = method(lm, estimator="raml", tau=0.0, beta=0.0)
    found = rolled(made)
    for weights, rewards in zip(found.advantages.reshape(2, 4), found.rewards.reshape(2, 4), strict=True):
        best = rewards == rewards.max()
        assert weights.tolist() == pytest.approx((4 * best / best.sum()).tolist())


def test_on_the_first_step_the_ratio_is_one_and_nothing_is_clipped(lm):
    made = method(lm, beta=0.1)
    found = rolled(made)
    assert torch.equal(made.policy.passed(found.tokens).logprobs.detach(), found.old)


def test_the_likeliest_answer_is_the_baseline_of_self_critical_training(lm):
    made = method(lm, estimator="self_critical", beta=0.0)
    found = rolled(made)
    likeliest = [letters("", text.strip(), None) for _, text in made.answers() if _ in WHOLE]
    expected = found.rewards.reshape(2, 4) - torch.tensor(likeliest)[:, None]
    torch.testing.assert_close(found.advantages.reshape(2, 4), expected)


def test_equal_rewards_teach_nothing(lm):
    for estimator in ("rloo", "grpo", "self_critical"):
        made = method(lm, estimator=estimator, reward=Programmed(lambda *_: 0.7), beta=0.0)
        assert gradient(made, made.loss_of(rolled(made)).total).abs().max() < 1e-9


def test_a_constant_added_to_the_rewards_changes_no_group_gradient(lm):
    for estimator in ("rloo", "grpo"):
        shifted = method(lm, estimator=estimator, reward=Programmed(lambda *given: letters(*given) + 100))
        plain = method(lm, estimator=estimator)
        first, second = (gradient(made, made.loss_of(rolled(made)).total) for made in (plain, shifted))
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-3)


def test_an_answer_without_a_reward_is_as_if_it_had_not_been_drawn(lm):
    whole = method(lm, beta=0.0)
    found = rolled(whole)
    unknown = set(_answers(whole)[:1])
    made = method(lm, beta=0.0, reward=Programmed(lambda g, a, w: None if (g, a) in unknown else letters(g, a, w)))
    kept = rolled(made)
    gone = [pair in unknown for pair in _answers(whole)]
    assert len(kept.tokens) == 8 - sum(gone)
    assert made.dropped == {"the function gave None": sum(gone)}
    rows = [row for row, out in enumerate(gone) if not out]
    assert kept.rewards.tolist() == pytest.approx(found.rewards[rows].tolist())
    # The others are compared among themselves.
    first = [r for r, out in zip(found.rewards.tolist()[:4], gone[:4], strict=True) if not out]
    if len(first) > 1:
        assert float(kept.advantages[0]) == pytest.approx(first[0] - sum(first[1:]) / (len(first) - 1), abs=1e-5)


@pytest.mark.parametrize("estimator", ["rloo", "grpo"])
def test_an_answer_with_a_reward_and_none_to_compare_it_with_is_left_out_and_counted(lm, estimator):
    number = iter(range(8))
    # Of the second question's answers the first alone has a reward.
    some = Programmed(lambda *given: letters(*given) if next(number) < 5 else None)
    made = method(lm, estimator=estimator, reward=some)
    found = rolled(made)
    assert made.dropped == {"the function gave None": 3, "no other answer to compare with": 1}
    assert len(found.tokens) == 4
    assert float(found.figures["dropped"]) == 0.5


def test_answers_beside_a_likeliest_one_without_a_reward_are_left_out_and_counted(lm):
    drawn, number = _answers(method(lm)), iter(range(10))
    known = [True] * 7 + [False] + [True, False]
    # Eight answers, of which the last has no reward, then the likeliest ones, of which the second has none.
    some = Programmed(lambda *given: letters(*given) if known[next(number)] else None)
    made = method(lm, estimator="self_critical", reward=some)
    found = rolled(made)
    assert made.dropped == {"the function gave None": 1, "greedy answer had no reward": 3}
    assert len(found.tokens) == 4
    assert len(drawn) == 8
    assert float(found.figures["dropped"]) == 0.5


def _answers(made: PolicyGradient) -> list[tuple[str, str]]:
    asked = [made._questions[text] for text in ("ab", "cc")]
    drawn = made.draw([one.prompt for one in asked], group=4, seed=3)
    return [(one.input, text) for one, text in zip([q for q in asked for _ in range(4)], drawn.texts, strict=True)]


@pytest.mark.parametrize("estimator", ["reinforce", "self_critical", "ppo", "raml"])
def test_estimators_that_compare_no_siblings_learn_from_one_answer_to_each_question(lm, tmp_path, estimator):
    made = method(lm, estimator=estimator, group=1, beta=0.0, lr_scale=1.0)
    found = rolled(made)
    assert len(found.tokens) == 2
    likeliest = torch.tensor([letters("", text.strip(), None) for asked, text in made.answers() if asked in WHOLE])
    expected = {
        "reinforce": found.rewards,
        "self_critical": found.rewards - likeliest,
        # Of a group of one the answer is the best, and all of its weight.
        "raml": torch.ones(2),
    }
    if estimator in expected:
        torch.testing.assert_close(found.advantages, expected[estimator])
    before = {name: value.clone() for name, value in lm.state_dict().items()}
    source = question_source("questions", TASK, made.questions)
    train(made, source, replace(FAST, steps=1, batch_size=9), out=tmp_path, quiet=True)
    rows = [row.split(",") for row in (tmp_path / "log" / "metrics.csv").read_text().splitlines()[1:]]
    losses = [float(value) for _, name, value in rows if name == "loss"]
    assert len(losses) == 1
    assert np.isfinite(losses).all()
    after = lm.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any(not torch.equal(value, before[name]) for name, value in after.items())


def test_an_empty_answer_is_its_end_alone_and_has_the_reward_of_an_empty_text(lm):
    # Nothing but the end ends an answer, and what holds a letter has no reward.
    task, (end,) = replace(TASK, style=replace(STYLE, stop=())), lm.ends
    options = {"estimator": "reinforce", "group": 32, "beta": 0.0, "missing_end": 1.0}
    made = PolicyGradient(lm, task, reward=Programmed(lambda _, answer, __: None if answer else 0.7), **options)
    found = rolled(made)
    alone = ended_at_once(found, end)
    assert len(alone) > 1
    assert found.rewards[alone].tolist() == pytest.approx([0.7] * len(alone))
    assert found.advantages[alone].tolist() == pytest.approx([0.7] * len(alone))
    tokens = found.tokens[alone]
    width = tokens.ids.shape[1]
    logprobs = {"old": found.old[alone, :width], "ref": found.ref[alone, :width]}
    empty = replace(found, tokens=tokens, advantages=found.advantages[alone], **logprobs)
    loss = made.loss_of(empty).total
    assert float(loss.detach()) == pytest.approx(-0.7 / TASK.max_tokens)
    prompts = [
        row[seen & ~own].tolist() for row, seen, own in zip(tokens.ids, tokens.attention, tokens.answer, strict=True)
    ]
    said = [lm.module(torch.tensor([row])).logits[0, -1].log_softmax(0)[end] for row in prompts]
    step = gradient(made, -0.7 * torch.stack(said).mean() / TASK.max_tokens)
    torch.testing.assert_close(gradient(made, loss), step, atol=1e-6, rtol=1e-4)
    # The task's checker takes it for wrong, not for nothing to judge.
    checked = rolled(PolicyGradient(lm, task, reward="checker", **options))
    assert set(checked.rewards[ended_at_once(checked, end)].tolist()) == {0.0}


def ended_at_once(found, end: int) -> Tensor:
    """The rows of answers that are their end alone."""
    rows = zip(found.tokens.ids, found.tokens.answer, strict=True)
    return torch.tensor([row[own].tolist() == [end] for row, own in rows]).nonzero()[:, 0]


def test_no_reward_at_all_is_an_error_at_once_and_a_pause_later(lm):
    fails = [True]
    made = method(lm, reward=Programmed(lambda *given: None if fails[0] else letters(*given)), beta=0.0)
    with pytest.raises(ValueError, match="none of the first 8 answers has a reward: 8 times the function gave None"):
        rolled(made)
    fails[0] = False
    rolled(made)
    made.dropped["earlier"] += 1
    fails[0] = True
    found = rolled(made)
    assert found.idle
    assert gradient(made, made.loss_of(found).total).abs().max() == 0


@pytest.mark.parametrize("kl", ["k2", "k3", "exact"])
def test_a_divergence_in_the_loss_pulls_back_where_the_rewards_say_nothing(lm, kl):
    made = method(lm, kl=kl, beta=1.0, reward=Programmed(lambda *_: 0.0))
    with torch.no_grad():
        lm.module.lm_head.weight.add_(
            torch.randn(lm.module.lm_head.weight.shape, generator=torch.Generator().manual_seed(2))
        )
    found = rolled(made)
    before = made.policy.passed(found.tokens, kl).kl.sum()
    step = gradient(made, made.loss_of(found).total)
    assert torch.nn.functional.cosine_similarity(step, gradient(made, before), dim=0) > 0.99


def test_the_value_head_reads_what_came_before_a_token_and_sends_no_gradient_into_the_model(lm):
    made = method(lm, estimator="ppo")
    found = rolled(made)
    features, values, returns = found.valued
    layer = lm.hidden(found.tokens, [1])[1]
    torch.testing.assert_close(features[:, 1:], layer[:, :-1])
    assert not features.requires_grad
    ahead = (returns - values)[found.tokens.answer]
    whitened = (ahead - ahead.mean()) / (ahead.var(correction=0) + 1e-8).sqrt()
    torch.testing.assert_close(found.advantages[found.tokens.answer], whitened, atol=1e-5, rtol=1e-4)
    total = made.value_loss_of(found).total
    assert all(g is None for g in torch.autograd.grad(total, [*lm.parameters()], allow_unused=True))


def moved(lm, seed: int = 1, by: float = 0.1) -> None:
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("kl", ["reward", "k3"])
def test_the_returns_of_ppo_are_those_of_a_loop_over_the_tokens(lm, kl):
    beta, gamma, lam = 0.3, 0.9, 0.7
    made = method(lm, estimator="ppo", beta=beta, gamma=gamma, lam=lam, kl=kl)
    moved(lm)
    with torch.no_grad():
        for weight in made.value.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)))
    found = rolled(made)
    tokens, values = found.tokens, found.valued[1].double()
    with torch.no_grad():
        nats = (made.lm.logprobs(tokens) - made.policy.reference(tokens)).double()
    assert nats.abs().max() > 0.05
    assert values[tokens.answer].abs().max() > 0.05
    rewards = [letters(given, answer, None) for given, answer in _answers(made)]
    assert found.rewards.tolist() == pytest.approx(rewards)
    ahead = torch.zeros(tokens.ids.shape, dtype=torch.float64)
    for row, reward in enumerate(rewards):
        places = tokens.answer[row].nonzero()[:, 0].tolist()
        after, worth = 0.0, 0.0
        for place in reversed(places):
            paid = (reward if place == places[-1] else 0.0) - (beta * float(nats[row, place]) if kl == "reward" else 0)
            error = paid + gamma * worth - float(values[row, place])
            after = error + gamma * lam * after
            worth = float(values[row, place])
            ahead[row, place] = after
    mask = tokens.answer
    torch.testing.assert_close(found.valued[2].double()[mask], (ahead + values)[mask], atol=1e-5, rtol=1e-4)
    white = (ahead[mask] - ahead[mask].mean()) / ahead[mask].std(correction=0)
    torch.testing.assert_close(found.advantages.double()[mask], white, atol=1e-4, rtol=1e-3)


def test_entropy_is_climbed(lm):
    made = method(lm, estimator="reinforce", beta=0.0, entropy=0.7)
    moved(lm)
    found = rolled(made)
    said = lm.answer_logits(found.tokens).log_softmax(1)
    spread = -(said.exp() * said).sum() / len(found.rewards) / TASK.max_tokens
    theirs = gradient(made, naive(made, found.advantages.tolist(), found) - 0.7 * spread)
    torch.testing.assert_close(gradient(made, made.loss_of(found).total), theirs, atol=1e-6, rtol=1e-4)
    assert gradient(made, spread).abs().max() > 1e-3


@pytest.mark.parametrize("normaliser", ["constant", "token", "sequence"])
@pytest.mark.parametrize("clip", [0.03, 0.3])
def test_off_the_policy_that_drew_ratios_are_clipped_and_sums_divided_as_asked(lm, clip, normaliser):
    made = method(lm, beta=0.0, clip=clip, normaliser=normaliser)
    found = rolled(made)
    moved(lm, by=0.05)
    now, mask = lm.logprobs(found.tokens), found.tokens.answer
    lengths = mask.sum(dim=1).tolist()
    assert len(set(lengths)) > 1
    total, clipped = torch.zeros(()), []
    for row, ahead in enumerate(found.advantages.tolist()):
        divided = {
            "constant": len(lengths) * TASK.max_tokens,
            "token": sum(lengths),
            "sequence": len(lengths) * lengths[row],
        }[normaliser]
        for place in mask[row].nonzero()[:, 0].tolist():
            ratio = (now[row, place] - found.old[row, place]).exp()
            past = bool(ratio.detach() > 1 + clip if ahead > 0 else ratio.detach() < 1 - clip)
            clipped.append(past)
            if not past:
                total = total - ratio * ahead / divided
    assert any(clipped) or clip > 0.03
    assert not all(clipped)
    mine = gradient(made, made.loss_of(found).total)
    torch.testing.assert_close(mine, gradient(made, total), atol=1e-6, rtol=1e-4)
    assert mine.abs().max() > 1e-4


class Descending:
    """A step that descends plainly, and notes what was descended by which name."""

    def __init__(self, made: PolicyGradient) -> None:
        self.progress = Progress(0, 10, 0, torch.Generator().manual_seed(0))
        self.groups = {group.name: group.parameters for group in made.groups()}
        self.seen: list[tuple[str, float]] = []

    def descend(self, loss, only: str):
        self.seen.append((only, float(loss.total.detach())))
        learned = list(self.groups[only])
        grads = torch.autograd.grad(loss.total, learned, allow_unused=True)
        with torch.no_grad():
            for weight, grad in zip(learned, grads, strict=True):
                weight.sub_(0 if grad is None else 0.5 * grad)
        return loss


def test_the_answers_of_an_update_are_learned_from_as_often_as_asked_and_drawn_once(lm):
    asked = []
    reward = Programmed(lambda *given: asked.append(given) or letters(*given))
    made = method(lm, estimator="ppo", inner=3, reward=reward)
    step = Descending(made)
    made.improved(question_source("questions", TASK, made.questions).batch(np.array([0, 1])), step)
    assert [only for only, _ in step.seen] == ["value", "policy"] * 3
    assert len(asked) == 8
    for name in ("value", "policy"):
        assert len({value for only, value in step.seen if only == name}) == 3


def test_the_running_mean_is_that_of_earlier_answers_and_forgets_as_fast_as_asked(lm):
    made = method(lm, estimator="reinforce", beta=0.0, momentum=0.6)
    first, second = rolled(made, 3), rolled(made, 4)
    mean = 0.4 * float(first.rewards.mean())
    torch.testing.assert_close(first.advantages, first.rewards)
    torch.testing.assert_close(second.advantages, second.rewards - mean)
    assert abs(mean) > 1e-2
    assert float(made.baseline) == pytest.approx(0.6 * mean + 0.4 * float(second.rewards.mean()), abs=1e-6)


@pytest.mark.parametrize("clip", [0.02, 9.0])
def test_a_value_moves_no_further_than_asked_from_what_it_was(lm, clip):
    made = method(lm, estimator="ppo", value_clip=clip)
    found = rolled(made)
    seen, old, returns = found.valued
    weights = [*made.value.parameters()]
    with torch.no_grad():
        for weight in weights:
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(5)))
    mask = found.tokens.answer
    now, before, target = made.value(seen)[mask], old[mask], returns[mask]
    held = torch.maximum(torch.minimum(now, before + clip), before - clip)
    assert bool(((now - before).abs() > 0.02).any())
    each = [(max((a - g) ** 2, (b - g) ** 2)) / 2 for a, b, g in zip(now, held, target, strict=True)]
    total = torch.stack(each).mean()
    loss = made.value_loss_of(found).total
    assert float(loss.detach()) == pytest.approx(float(total.detach()), abs=1e-6)
    both = (torch.autograd.grad(one, weights, retain_graph=True) for one in (loss, total))
    for mine, theirs in zip(*both, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-4)


def test_the_likeliest_answer_to_one_question_is_no_baseline_of_another(lm):
    def apart(given: str, answer: str, wanted: str | None) -> float:
        return letters(given, answer, wanted) + 5 * (given == "ab")

    made = method(lm, estimator="self_critical", beta=0.0, reward=Programmed(apart))
    found = rolled(made)
    likeliest = {asked: text.strip() for asked, text in made.answers()}
    off = [apart(given, likeliest[f"{given}>"], None) for given in ("ab", "cc")]
    assert abs(off[0] - off[1]) > 1
    expected = found.rewards.reshape(2, 4) - torch.tensor(off)[:, None]
    torch.testing.assert_close(found.advantages.reshape(2, 4), expected)


def test_wanted_answers_are_learned_from_their_beginnings_and_drawn_from_there_on(lm):
    words = replace(TASK, examples=tuple(Demonstration(w, f"{w}{w[0]}") for w in WORDS), max_tokens=4)
    seen = []
    reward = Programmed(lambda given, answer, wanted: seen.append((answer, wanted)) or float(answer == wanted))
    options = {"mixed": 0.5, "group": 3, "estimator": "reinforce", "beta": 0.0, "missing_end": 0.0}
    made = PolicyGradient(lm, words, reward=reward, **options)
    batch = question_source("questions", words, made.questions).batch(np.array([2, 6]))
    for step, share in ((0, 1.0), (1, 2 / 3), (2, 1 / 3), (3, 0.0), (5, 0.0)):
        seen.clear()
        made.baseline.zero_()
        views = made.views(batch, Progress(step, 6, 0, torch.Generator().manual_seed(step)))
        found = made.rolled(views["questions"], views["seed"])
        many = round(3 * share)
        assert len(seen) == 6
        assert all(answer.startswith(wanted[:many]) for answer, wanted in seen)
        if not many:
            assert found.given is None
            continue
        prompts, ids = ["ab>", "bc>"], [lm.wording.answer_ids([w])[0][:many] for w in ("aba", "bcb")]
        told = lm.logprobs(lm.encode(prompts, ids)).sum(dim=1).mean() / 4
        each = lm.logprobs(found.tokens).sum(dim=1)
        drawn = (each * torch.tensor([float(answer == wanted) for answer, wanted in seen])).mean() / 4
        mine = gradient(made, made.loss_of(found).total)
        torch.testing.assert_close(mine, gradient(made, -told - drawn), atol=1e-6, rtol=1e-4)


PHASES = {"schedule": "infinite", "warmup": 0.2, "cooldown": 0.4, "anneal": 0.3}
FAST = Settings(steps=6, batch_size=3, lr=1e-2, weight_decay=0.0, deterministic=True, **PHASES)


@pytest.mark.parametrize(
    "options",
    [
        {"estimator": "ppo", "inner": 2, "kl_target": 0.05, "reward": "checker + 0.2*novelty"},
        {"estimator": "reinforce", "kl": "k3"},
        {"reward": "discriminator?width=8&alone=1&every=2 + 0.1*novelty", "completions": 2},
    ],
)
def test_a_training_that_was_cut_off_draws_what_it_would_have_drawn_and_ends_with_the_same_weights(
    lm, tmp_path, options
):
    def make() -> PolicyGradient:
        torch.manual_seed(0)
        return PolicyGradient(copy.deepcopy(lm), TASK, **{"group": 2, "lr_scale": 1.0, **options})

    source = question_source("questions", TASK, make().questions)
    whole, cut, resumed = make(), make(), make()
    train(whole, source, FAST, quiet=True)
    train(cut, source, FAST, out=tmp_path, until=0.5, quiet=True)
    train(resumed, source, FAST, out=tmp_path, quiet=True)
    for (name, a), (_, b) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    start = make().state_dict()
    assert any(not torch.equal(value, start[name]) for name, value in whole.lm.state_dict(prefix="policy.lm.").items())


def test_answers_that_were_left_out_before_a_training_was_cut_off_stay_counted(lm, tmp_path):
    def make() -> PolicyGradient:
        torch.manual_seed(0)
        some = Programmed(lambda given, answer, wanted: None if given == WORDS[0] else float(len(answer)))
        return PolicyGradient(copy.deepcopy(lm), TASK, reward=some, group=2, lr_scale=1.0)

    source = question_source("questions", TASK, make().questions)
    whole, cut, resumed = make(), make(), make()
    train(whole, source, FAST, quiet=True)
    train(cut, source, FAST, out=tmp_path, until=0.5, quiet=True)
    train(resumed, source, FAST, out=tmp_path, quiet=True)
    assert 0 < cut.dropped.total() < whole.dropped.total()
    assert resumed.dropped == whole.dropped


def test_a_run_learns_from_the_checker_and_leaves_what_it_says_to_be_read(lm, tmp_path):
    settings = Settings(steps=15, batch_size=9, lr=3e-2, weight_decay=0.0, schedule="constant", clip_norm=1.0)
    out, always = tmp_path / "run", replace(TASK, examples=tuple(Demonstration(w, "a") for w in WORDS), max_tokens=2)
    arguments = {"group": 6, "lr_scale": 1.0, "beta": 0.01}
    model = improve("policy_gradient", lm, always, out=out, settings=settings, method_arguments=arguments, quiet=True)
    assert isinstance(model, LanguageModel)
    rows = [json.loads(line) for line in (out / "examples.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [f"{word}>" for word in WORDS]
    assert sum(row["completion"] == "a" for row in rows) >= 7
    assert "loss/reward" in (out / "log" / "metrics.csv").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"group": 1}, "'rloo' needs 2 or more answers"),
        ({"group": 0, "estimator": "reinforce"}, "needs 1 or more answers"),
        ({"beta": -0.1}, "beta is 0 or more"),
        ({"estimator": "rlo"}, "did you mean 'rloo'"),
        ({"kl": "k4"}, "unknown divergence 'k4'"),
        ({"temperature": 0.0}, "temperature above 0"),
        ({"inner": 0}, "inner is at least 1"),
        ({"kl_target": 0.1, "beta": 0.0}, "a beta of 0 stays 0"),
        ({"mixed": 1.5}, r"gamma, lam and mixed in \[0, 1\]"),
        ({"reward": "cheker"}, "did you mean 'checker'"),
        ({"reward": "label"}, "needs a task with labels"),
    ],
)
def test_options_that_make_no_sense_are_refused(lm, options, said):
    with pytest.raises(ValueError, match=said):
        PolicyGradient(lm, TASK, **options)


def test_a_model_that_runs_elsewhere_and_a_task_without_examples_are_refused_before_anything_is_asked(lm, tmp_path):
    elsewhere = ScriptedLM(lambda _: "x")
    with pytest.raises(ValueError, match="PolicyGradient trains a model, and this one runs elsewhere"):
        improve("policy_gradient", elsewhere, TASK, out=tmp_path / "a", quiet=True)
    with pytest.raises(ValueError, match="learns from the task's examples: inputs with their outputs"):
        improve("policy_gradient", lm, Task("x", inputs=("a",)), out=tmp_path / "b", quiet=True)
    assert elsewhere.calls == []
