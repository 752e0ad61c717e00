"""Decoding by a rule, early exits, single heads and interventions, against greedy decoding and attention by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from autodidact.lm import Incapable, Prompt, Sampling
from autodidact.lm.decoding import (
    Next,
    across_layers,
    against,
    decode,
    first_tokens,
    jensen_shannon,
    likeliest,
    plausible,
)
from autodidact.lm.intervening import intervention
from autodidact.lm.latent import (
    answer_exits,
    exit_logits,
    head_outputs,
    head_states,
    heads_scaled,
    heads_shifted,
    settled_layers,
)
from autodidact.lm.tiny import tiny_lm

PROMPTS = ["ab>", "a>", "cab>abc"]
LIKELIEST = Sampling(max_tokens=8, temperature=0.0, stop=(";",))


@pytest.fixture(scope="module")
def lm():
    return tiny_lm("abc>;", width=16, depth=3, context=32, seed=3)


@pytest.fixture(scope="module")
def amateur():
    return tiny_lm("abc>;", width=16, depth=1, context=32, seed=4)


def texts(found) -> list[str]:
    return [one.text for one in found]


def test_the_likeliest_by_a_rule_are_those_of_greedy_decoding(lm):
    expected = [found[0] for found in lm.generate(PROMPTS, LIKELIEST)]
    found = decode(lm, PROMPTS, LIKELIEST, likeliest)
    assert texts(found) == texts(expected)
    assert [one.finish for one in found] == [one.finish for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_against_itself_with_alpha_one_contrastive_decoding_is_greedy(lm):
    assert texts(decode(lm, PROMPTS, LIKELIEST, against(lm, 1.0))) == texts(decode(lm, PROMPTS, LIKELIEST, likeliest))


def test_a_contrast_takes_the_largest_lead_of_the_expert_among_plausible_tokens(lm, amateur):
    prompts, alpha = PROMPTS[:2], 0.6
    found = decode(lm, prompts, Sampling(max_tokens=1, temperature=0.0), against(amateur, alpha))
    for prompt, one in zip(prompts, found, strict=True):
        expert, weak = (
            model.answer_logits(model.encode([prompt], [[0]]))[0].softmax(0).tolist() for model in (lm, amateur)
        )
        leads = {
            k: math.log(p) - math.log(q)
            for k, (p, q) in enumerate(zip(expert, weak, strict=True))
            if p >= alpha * max(expert)
        }
        assert one.tokens[0] == max(leads, key=leads.get)


@pytest.mark.parametrize("alpha", [0.3, 0.9])
def test_dola_never_leaves_the_plausible_set(lm, alpha):
    found = decode(lm, PROMPTS, LIKELIEST, across_layers(lm, [0, 1, 2], alpha))
    for prompt, one in zip(PROMPTS, found, strict=True):
        logprobs = lm.answer_logits(lm.encode([prompt], [one.tokens])).log_softmax(1)
        taken = logprobs[torch.arange(len(one.tokens)), list(one.tokens)]
        assert bool((taken >= logprobs.amax(1) + math.log(alpha) - 1e-5).all())


def test_dola_scores_tokens_against_the_early_layer_that_differs_most_from_the_last(lm):
    seen: list[Next] = []

    def rule(known: Next) -> torch.Tensor:
        seen.append(known)
        return known.logits

    decode(lm, PROMPTS, Sampling(max_tokens=4, temperature=0.0), rule)
    chosen = set()
    for known in seen:
        scores = across_layers(lm, [0, 1, 2], 0.2)(known)
        for row in range(len(known.logits)):
            last = known.logits[row].double().softmax(0)
            early = [exit_logits(lm, known.hidden[k], k)[row].detach().double().softmax(0) for k in range(3)]
            apart = []
            for p in early:
                m = (p + last) / 2
                apart.append(float((p * (p / m).log()).sum() + (last * (last / m).log()).sum()))
            most = max(range(3), key=lambda k: apart[k])
            chosen.add(most)
            expected = (last.log() - early[most].log()).masked_fill(last < 0.2 * last.max(), -torch.inf)
            torch.testing.assert_close(scores[row].double(), expected, atol=1e-4, rtol=1e-4)
    assert chosen


def test_the_heads_that_tell_right_from_wrong_best_are_pushed_by_the_spread_along_their_own_direction(monkeypatch):
    lm = tiny_lm("abc>;", width=16, depth=3, context=32, seed=3)
    rng = np.random.default_rng(0)
    right = np.array([True, False] * 10)
    states = rng.normal(size=(20, 3, 2, 8))
    # Two of six heads know, one of them in greater units.
    for layer, head, scale in ((0, 1, 1.0), (2, 0, 5.0)):
        states[:, layer, head] = scale * (states[:, layer, head] * 0.1 + np.where(right, 2.0, -1.0)[:, None])
    monkeypatch.setattr(
        "autodidact.lm.intervening.head_states", lambda lm, tokens: torch.from_numpy(states).flatten(2).float()
    )
    found = intervention(lm, ["ab>"] * 20, ["a"] * 20, right.tolist(), share=1 / 3, strength=2.0)
    expected = np.zeros((3, 2, 8))
    for layer, head in ((0, 1), (2, 0)):
        mine = states[:, layer, head]
        lead = mine[right].mean(0) - mine[~right].mean(0)
        lead /= np.sqrt((lead**2).sum())
        along = (mine * lead).sum(1)
        expected[layer, head] = 2.0 * np.sqrt(((along - along.mean()) ** 2).mean()) * lead
    np.testing.assert_allclose(found.unflatten(1, (2, 8)).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_plausible_tokens_are_those_near_the_likeliest():
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    assert plausible(logits, 1.0).isfinite().tolist() == [[True, False, False]]
    assert plausible(logits, 0.5).isfinite().tolist() == [[True, True, False]]
    assert plausible(logits, 0.0).isfinite().all()


def test_jensen_shannon_of_log_probabilities_is_that_of_its_formula():
    p, q = torch.rand(2, 4, 5, dtype=torch.float64).softmax(-1)
    middle = (p + q) / 2
    naive = ((p * (p / middle).log()).sum(1) + (q * (q / middle).log()).sum(1)) / 2
    torch.testing.assert_close(jensen_shannon(p.log(), q.log()), naive)
    far = torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.0, 1.0]]).log()
    assert float(jensen_shannon(*far)) == pytest.approx(math.log(2))


def test_the_exit_at_the_last_layer_is_what_the_model_says(lm):
    tokens = lm.encode(PROMPTS, ["ab", "c", "bb"])
    exits = answer_exits(lm, tokens, [0, 1, 2, 3])
    torch.testing.assert_close(exits[3], lm.answer_logits(tokens))
    # By hand: the norm, then the head.
    hidden = lm.hidden(tokens, [1])[1][tokens.answer.roll(-1, 1) & tokens.attention]
    scaled = hidden * (hidden.pow(2).mean(1, keepdim=True) + lm.causal.config.rms_norm_eps).rsqrt()
    by_hand = scaled * lm.causal.model.norm.weight @ lm.causal.lm_head.weight.T
    torch.testing.assert_close(exits[1], by_hand, atol=1e-5, rtol=1e-5)


def test_a_token_has_settled_where_all_later_layers_agree():
    def said(*tokens: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor(tokens), 3).float()

    found = settled_layers({0: said(0, 1, 2), 1: said(0, 2, 1), 2: said(0, 2, 2)})
    assert found.tolist() == [0, 1, 2]


def test_heads_at_full_strength_change_nothing(lm):
    tokens = lm.encode(PROMPTS, ["ab", "c", "bb"])
    plain = lm.logprobs(tokens)
    with heads_scaled(lm, {layer: torch.ones(2) for layer in range(3)}):
        torch.testing.assert_close(lm.logprobs(tokens), plain)
    with heads_scaled(lm, {0: torch.tensor([1.0, 0.0])}):
        assert not torch.allclose(lm.logprobs(tokens), plain)
    torch.testing.assert_close(lm.logprobs(tokens), plain)
    with pytest.raises(ValueError, match="has heads in layers 0 to 2, got 3"), heads_scaled(lm, {3: torch.ones(2)}):
        pass


def test_one_head_alone_is_attention_by_hand(lm):
    block, width = lm.causal.model.layers[0], 8
    tokens = lm.encode(["cab>"], ["abc"], end=False)
    seen: list[torch.Tensor] = []
    hook = block.self_attn.register_forward_hook(lambda _, args, out: seen.append(out[0]))
    with torch.no_grad(), heads_scaled(lm, {0: torch.tensor([0.0, 1.0])}):
        lm.hidden(tokens, [0])
    hook.remove()
    with torch.no_grad():
        x = block.input_layernorm(lm.hidden(tokens, [0])[0])[0].double()
    q, k, v = (
        (x @ layer.weight.double().T)[:, width:].detach()
        for layer in (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj)
    )
    half = width // 2
    angles = torch.arange(len(x))[:, None].double() * 10000.0 ** (-torch.arange(half).double() / half)

    def turned(z: torch.Tensor) -> torch.Tensor:
        a, b = z[:, :half], z[:, half:]
        return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], 1)

    scores = turned(q) @ turned(k).T / math.sqrt(width)
    scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
    mixed = scores.softmax(1) @ v
    expected = mixed @ block.self_attn.o_proj.weight.double()[:, width:].T
    torch.testing.assert_close(seen[0][0].double(), expected.detach(), atol=1e-5, rtol=1e-4)


def test_an_intervention_of_no_strength_is_none_and_others_push_few_heads_to_the_right_side(lm):
    prompts, answers = ["ab>", "ba>", "cb>", "bc>"] * 2, ["a", "a", "c", "c"] * 2
    right = [text == "a" for text in answers]
    still = intervention(lm, prompts, answers, right, share=0.3, strength=0.0)
    assert float(still.abs().max()) == 0
    shift = intervention(lm, prompts, answers, right, share=0.3, strength=2.0)
    assert int((shift.unflatten(1, (2, 8)).abs().amax(2) > 0).sum()) == round(0.3 * 6)
    torch.testing.assert_close(intervention(lm, prompts, answers, right, share=0.3, strength=4.0), 2 * shift)
    states = head_states(lm, lm.encode(prompts, answers, end=False))
    lead = states[torch.tensor(right)].mean(0) - states[~torch.tensor(right)].mean(0)
    assert float((lead * shift).sum()) > 0
    tokens = lm.encode(PROMPTS, ["ab", "c", "bb"])
    plain = lm.logprobs(tokens)
    with heads_shifted(lm, dict(enumerate(still))):
        torch.testing.assert_close(lm.logprobs(tokens), plain)
    with heads_shifted(lm, dict(enumerate(shift))):
        assert not torch.allclose(lm.logprobs(tokens), plain)
    with pytest.raises(ValueError, match="probes need 2 right and 2 wrong answers, got 8 and 0"):
        intervention(lm, prompts, answers, [True] * 8)


def test_first_tokens_are_the_likeliest_ones(lm):
    found = first_tokens(lm, PROMPTS, 2)
    logits = lm.answer_logits(lm.encode(PROMPTS, [[0]] * 3))
    assert torch.equal(found, logits.topk(2, 1).indices)


def test_models_of_other_tokens_and_layers_that_are_not_there_are_refused(lm):
    other = tiny_lm("abc>;d", width=16, depth=1, context=32)
    with pytest.raises(Incapable, match="has other tokens than the model"):
        decode(lm, PROMPTS, LIKELIEST, against(other))
    with pytest.raises(ValueError, match=r"early layers lie from 0 to 2, got \[3\]"):
        across_layers(lm, [3])
    with pytest.raises(ValueError, match="exceed tiny's context of 32"):
        decode(lm, ["a" * 30], LIKELIEST, likeliest)
    assert len(head_outputs(lm)) == 3


def test_logits_that_are_no_numbers_are_told():
    broken = tiny_lm("abc>;", width=16, depth=1, context=32)
    with torch.no_grad():
        broken.causal.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="gave logits that are no numbers"):
        decode(broken, PROMPTS, LIKELIEST, likeliest)


def test_a_rule_sees_the_text_so_far_and_every_layer(lm):
    seen: list[Next] = []

    def rule(known: Next) -> torch.Tensor:
        seen.append(known)
        return known.logits

    decode(lm, ["ab>"], Sampling(max_tokens=2, temperature=0.0), rule)
    assert seen[0].ids.tolist() == lm.wording.prompt_ids([Prompt.of("ab>")])
    assert len(seen[0].hidden) == 4
