"""Roll-outs hold exactly the tokens that were drawn, and what is said of them is that of the policy that drew."""

from __future__ import annotations

import math

import pytest
import torch

from autodidact.lm.adapters import add_adapter
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.objectives import raml_weights, rloo
from autodidact.rewards import named
from autodidact.rollouts import Policy, Question, advantages, judged, of_siblings, paid
from autodidact.rollouts.judging import learned_from

PROMPTS = ["ab>", "cab>", "b>"]


@pytest.fixture
def lm():
    made = tiny_lm("abc>;", width=16, depth=1, context=32)
    with torch.no_grad():
        made.module.lm_head.weight.mul_(8)
    return made


def moved(lm):
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_tokens_are_those_that_were_drawn_and_so_are_their_log_probabilities(lm, temperature):
    policy = Policy(lm, temperature=temperature)
    drawn = policy.draw(PROMPTS, group=6, max_tokens=4, stop=(";",), seed=1)
    passed = policy.passed(drawn.tokens)
    assert len(drawn) == 18
    assert {one.finish for one in drawn.completions} == {"stop", "length"}
    for row, one in enumerate(drawn.completions):
        mask = drawn.tokens.answer[row]
        assert tuple(drawn.tokens.ids[row][mask].tolist()) == one.tokens
        if temperature == 1:
            assert passed.logprobs[row][mask].tolist() == pytest.approx(one.logprobs, abs=1e-4)
        assert bool(drawn.ended[row]) == (one.finish == "stop")
    assert (passed.logprobs[~drawn.tokens.answer] == 0).all()


def test_at_another_temperature_log_probabilities_are_those_of_the_distribution_that_was_drawn_from(lm):
    policy = Policy(lm, temperature=0.5)
    drawn = policy.draw(["ab>"], group=400, max_tokens=1, seed=0)
    first = policy.passed(drawn.tokens).logprobs[drawn.tokens.answer]
    shares = {int(t): math.exp(float(p)) for t, p in zip(drawn.tokens.ids[:, -1], first.detach(), strict=True)}
    for token, share in shares.items():
        seen = sum(one.tokens == (token,) for one in drawn.completions) / 400
        assert seen == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 400) + 1e-3)
    assert sum(shares.values()) > 0.9


def test_what_is_drawn_follows_from_weights_prompts_and_seed_and_not_from_the_mode_or_what_else_is_asked(lm):
    policy = Policy(lm).train()
    first = policy.draw(PROMPTS, group=3, max_tokens=4, seed=5)
    torch.rand(7)
    alone = policy.eval().draw(PROMPTS[1:2], group=3, max_tokens=4, seed=5)
    other = policy.draw(PROMPTS, group=3, max_tokens=4, seed=6)
    assert [one.tokens for one in first.completions[3:6]] == [one.tokens for one in alone.completions]
    assert first.texts != other.texts


@pytest.mark.parametrize("divergence", ["reward", "k2", "k3", "exact"])
def test_at_the_start_nothing_diverges_and_later_an_adapter_switched_off_is_the_same_reference_as_a_copy(
    lm, divergence
):
    add_adapter(lm, rank=2)
    still = lm.frozen()
    policy, copied = Policy(lm), Policy(lm, start=still)
    assert policy.start is None
    drawn = policy.draw(PROMPTS, group=3, max_tokens=4, seed=0)
    assert policy.passed(drawn.tokens, divergence).kl.abs().max() < 1e-6
    moved(lm)
    first, second = policy.passed(drawn.tokens, divergence), copied.passed(drawn.tokens, divergence)
    torch.testing.assert_close(first.kl, second.kl, atol=1e-6, rtol=1e-5)
    assert first.kl.abs().max() > 1e-3
    assert (first.kl[~drawn.tokens.answer] == 0).all()
    assert first.kl.requires_grad == (divergence != "reward")
    torch.testing.assert_close(policy.reference(drawn.tokens), copied.reference(drawn.tokens), atol=1e-6, rtol=1e-5)


def test_a_trained_adapter_is_no_reference_unless_its_base_is_asked_for(lm):
    add_adapter(lm, rank=2)
    moved(lm)
    assert Policy(lm).start is not None
    assert Policy(lm, start="base").start is None
    with pytest.raises(ValueError, match="no adapter to switch off"):
        Policy(tiny_lm("ab", width=16, depth=1), start="base")


def test_the_exact_divergence_and_entropy_are_sums_over_the_vocabulary_at_the_states_visited(lm):
    policy = Policy(lm)
    moved(lm)
    drawn = policy.draw(PROMPTS, group=2, max_tokens=3, seed=0)
    passed = policy.passed(drawn.tokens, "exact", entropy=True)
    ours, theirs = (model.answer_logits(drawn.tokens).double().log_softmax(-1) for model in (lm, policy.start))
    mask = drawn.tokens.answer
    both = zip(ours.tolist(), theirs.tolist(), strict=True)
    kl = [sum(math.exp(p) * (p - q) for p, q in zip(*rows, strict=True)) for rows in both]
    entropy = [-sum(math.exp(p) * p for p in row) for row in ours.tolist()]
    assert passed.kl[mask].tolist() == pytest.approx(kl, abs=1e-5)
    assert passed.entropy[mask].tolist() == pytest.approx(entropy, abs=1e-5)
    found = policy.passed(drawn.tokens, "exact", ref=policy.reference(drawn.tokens))
    assert torch.equal(found.kl, passed.kl)


def test_advantages_are_those_of_a_loop_over_the_answers_that_have_a_reward():
    nan = math.nan
    rewards = torch.tensor([[1.0, 3.0, nan], [2.0, nan, nan], [0.0, 4.0, 5.0], [nan] * 3], dtype=torch.float64)
    found, used = advantages(rewards, rloo)
    assert found.tolist() == [[-2.0, 2.0, 0.0], [0.0, 0.0, 0.0], [-4.5, 1.5, 3.0], [0.0, 0.0, 0.0]]
    assert used.tolist() == [[True, True, False], [False] * 3, [True] * 3, [False] * 3]
    shares, used = advantages(rewards, lambda rows: raml_weights(rows, 1.0), least=1)
    assert used.tolist() == rewards.isfinite().tolist()
    assert shares.sum(dim=1).tolist() == pytest.approx([1, 1, 1, 0])
    assert not advantages(torch.full((2, 3), 0.7), of_siblings("grpo"))[0].any()


def task(**entries) -> Task:
    return Task(
        "Double.",
        examples=(Demonstration("a", "aa"), Demonstration("b", "bb")),
        style=Style(opening="", demonstration="{input}>{output};", question="{input}>", stop=(";",)),
        **entries,
    )


def test_an_answer_that_was_cut_off_pays_for_it_and_every_nat_has_its_price(lm):
    asked = task()
    drawn = Policy(lm).draw(["a>", "b>"], group=8, max_tokens=2, stop=(";",), seed=2)
    questions = Question.of(asked, ["a", "b"])
    plain, _ = judged(drawn, questions, named("checker", asked))
    fined, _ = judged(drawn, questions, named("checker", asked), missing_end=0.5)
    assert (plain - fined).tolist() == [0.5 * (one.finish == "length") for one in drawn.completions]
    assert 0 < (~drawn.ended).sum() < 16
    kl = torch.tensor([[0.1, 0.2, 9.0]])
    assert float(paid(torch.tensor([1.0]), kl, torch.tensor([[True, True, False]]), 2.0)) == pytest.approx(0.4)


def test_inputs_without_outputs_are_asked_only_where_the_reward_needs_none():
    asked = task(inputs=("c", "a"))
    assert learned_from(asked, named("checker", asked)) == ["a", "b"]
    assert learned_from(asked, named("length:3", asked)) == ["c", "a", "b"]
    bare = Task("Double.", inputs=("c",))
    with pytest.raises(ValueError, match="examples: inputs with their outputs; it has none"):
        learned_from(bare, named("checker", bare))
