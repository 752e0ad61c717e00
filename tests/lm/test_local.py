"""A model that runs here: what it generates, scores and chooses, by naive float64 loops and in worlds small enough."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.lm.tokenizers_of_kinds import bytewise_tokenizer, pieces_tokenizer, with_tokenizer
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    GPTNeoXConfig,
    Qwen2Config,
)

from autodidact.lm import Incapable, Message, Prompt, Sampling
from autodidact.lm.drawing import pick, uniforms
from autodidact.lm.local import LocalLM
from autodidact.lm.tiny import tiny_lm
from autodidact.lm.tokenised import Tokenised, batches
from autodidact.measures import token_confidence

LETTERS = "abcdefgh \n."
SIZES = {"vocab_size": 2 + len(LETTERS), "eos_token_id": 1, "bos_token_id": None, "pad_token_id": 0}
CONFIGS: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64, **SIZES),
    "gpt_neox": lambda: GPTNeoXConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        **SIZES,
    ),
    "qwen2": lambda: Qwen2Config(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        **SIZES,
    ),
}
FAMILIES = ["llama", *CONFIGS]
PROMPTS = ["abc", "a", "hgfe dcba", "bad.\n"]
COMPLETIONS = ["de", "", "a\nb.", "ch"]


def sharpened(lm: LocalLM, scale: float = 6.0) -> LocalLM:
    """Weights far from 0, so that what is likely differs much from place to place."""
    with torch.no_grad():
        for weight in lm.module.parameters():
            if weight.ndim > 1:
                weight.mul_(scale)
    return lm


def family(name: str) -> LocalLM:
    lm = tiny_lm(LETTERS, width=32, context=64)
    if name != "llama":
        with torch.random.fork_rng():
            torch.manual_seed(1)
            lm = LocalLM(AutoModelForCausalLM.from_config(CONFIGS[name]()), lm.tokenizer, label=name).eval()
    return sharpened(lm)


@pytest.fixture(scope="module")
def models() -> dict[str, LocalLM]:
    return {name: family(name) for name in FAMILIES}


@pytest.fixture(scope="module")
def lm(models: dict[str, LocalLM]) -> LocalLM:
    return models["llama"]


@pytest.fixture(scope="module")
def exact(models: dict[str, LocalLM]) -> LocalLM:
    """One in float64; the norm of a Llama would compute in float32 all the same."""
    return models["gpt2"].frozen().double()


@pytest.fixture
def own() -> LocalLM:
    """One that a test may change."""
    return tiny_lm(LETTERS, width=16, depth=1, context=64)


def ids_of(text: str) -> list[int]:
    return [2 + LETTERS.index(letter) for letter in text]


def after(lm: LocalLM, ids: Sequence[int]) -> Tensor:
    """Log-probabilities in float64 of what follows tokens that go through the model alone."""
    with torch.no_grad():
        return lm.module(input_ids=torch.tensor([list(ids)])).logits[0, -1].double().log_softmax(dim=0)


def naive(lm: LocalLM, prompt: Sequence[int], answer: Sequence[int]) -> list[float]:
    return [float(after(lm, [*prompt, *answer[:k]])[token]) for k, token in enumerate(answer)]


# Scores


@pytest.mark.parametrize("name", FAMILIES)
def test_a_score_is_that_of_a_loop_that_reads_one_token_after_the_other(name: str, models: dict[str, LocalLM]) -> None:
    lm = models[name]
    for prompt, completion, score in zip(PROMPTS, COMPLETIONS, lm.score(PROMPTS, COMPLETIONS), strict=True):
        assert score.logprobs == pytest.approx(naive(lm, ids_of(prompt), [*ids_of(completion), 1]), abs=2e-5)


def test_in_float64_a_score_agrees_to_ten_digits(exact: LocalLM) -> None:
    for prompt, completion, score in zip(PROMPTS, COMPLETIONS, exact.score(PROMPTS, COMPLETIONS), strict=True):
        assert score.logprobs == pytest.approx(naive(exact, ids_of(prompt), [*ids_of(completion), 1]), abs=1e-10)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_score_does_not_depend_on_what_else_is_scored(name: str, models: dict[str, LocalLM]) -> None:
    lm = models[name]
    together = lm.score(PROMPTS, COMPLETIONS)
    for prompt, completion, score in zip(PROMPTS, COMPLETIONS, together, strict=True):
        (alone,) = lm.score([prompt], [completion])
        assert score.logprobs == pytest.approx(alone.logprobs, abs=1e-5)


# By the distances of tokens alone, and by their places: to the former padding on the left would make no difference.
@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_what_a_model_says_does_not_depend_on_the_side_that_its_tokenizer_pads_on(name: str, side: str) -> None:
    lm = family(name)
    lm.tokenizer.padding_side = side
    sampling = Sampling(n=2, max_tokens=6, seed=1)
    together = lm.score(PROMPTS, COMPLETIONS)
    chosen, drawn = lm.choose(PROMPTS, ["a", "b"]), lm.generate(PROMPTS, sampling)
    for row, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
        assert together[row].logprobs == pytest.approx(naive(lm, ids_of(prompt), [*ids_of(completion), 1]), abs=2e-5)
        assert together[row].logprobs == pytest.approx(lm.score([prompt], [completion])[0].logprobs, abs=1e-5)
        assert chosen[row] == pytest.approx(lm.choose([prompt], ["a", "b"])[0], abs=1e-5)
        assert [one.tokens for one in drawn[row]] == [one.tokens for one in lm.generate([prompt], sampling)[0]]


def test_a_score_does_not_depend_on_the_batches(own: LocalLM) -> None:
    whole = own.score(PROMPTS, COMPLETIONS)
    own.budget = 9
    for one, other in zip(whole, own.score(PROMPTS, COMPLETIONS), strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_text_scores_the_same_wherever_it_is_cut_into_prompt_and_completion(exact: LocalLM, cut: int) -> None:
    text = "bad.he"
    whole, part = exact.score([text[:1], text[:cut]], [text[1:], text[cut:]])
    assert part.logprobs == pytest.approx(whole.logprobs[cut - 1 :], abs=1e-10)


def test_the_end_is_one_more_token(lm: LocalLM) -> None:
    (with_end,), (without,) = lm.score(["ab"], ["c"]), lm.score(["ab"], ["c"], end=False)
    assert with_end.logprobs == pytest.approx([*without.logprobs, float(after(lm, ids_of("abc"))[1])], abs=1e-5)


def test_log_probabilities_are_zero_outside_completions(lm: LocalLM) -> None:
    tokenised = lm.encode(PROMPTS, COMPLETIONS)
    values = lm.logprobs(tokenised)
    assert values.dtype == torch.float32
    assert (values[~tokenised.answer] == 0).all()
    assert (values[tokenised.answer] < 0).all()


def test_a_model_in_half_precision_gives_log_probabilities_in_float32(own: LocalLM) -> None:
    own.to(torch.bfloat16)
    assert own.logprobs(own.encode(["ab"], ["c"])).dtype == torch.float32


def test_an_architecture_that_gives_all_logits_gives_the_same_log_probabilities(
    own: LocalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenised = own.encode(PROMPTS, COMPLETIONS)
    expected = own.logprobs(tokenised)
    forward = type(own.module).forward

    def without_choice(self: Any, input_ids: Tensor, attention_mask: Tensor, use_cache: bool) -> Any:
        return forward(self, input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

    monkeypatch.setattr(type(own.module), "forward", without_choice)
    assert own.logprobs(tokenised).tolist() == pytest.approx(np.asarray(expected.tolist()), abs=1e-6)


def test_the_gradient_is_that_of_a_finite_difference(exact: LocalLM) -> None:
    model = exact.frozen().requires_grad_(True)
    tokenised = model.encode(PROMPTS, COMPLETIONS)
    weight = model.module.transformer.h[0].mlp.c_fc.weight
    model.logprobs(tokenised).sum().backward()
    place, step = (3, 5), 1e-6
    with torch.no_grad():
        weight[place] += step
        above = float(model.logprobs(tokenised).sum())
        weight[place] -= 2 * step
        below = float(model.logprobs(tokenised).sum())
    assert weight.grad is not None
    assert float(weight.grad[place]) == pytest.approx((above - below) / (2 * step), rel=1e-5)


def test_chosen_rows_are_as_wide_as_the_longest_of_them(lm: LocalLM) -> None:
    tokenised = lm.encode(PROMPTS, COMPLETIONS)
    part = tokenised[[1, 0]]
    assert part.ids.tolist() == [[*ids_of("a"), 1, 0, 0, 0, 0], [*ids_of("abcde"), 1]]
    assert part.lengths.tolist() == [2, 6]
    assert part.answer.tolist() == [[False, True, False, False, False, False], [False] * 3 + [True] * 3]


def test_batches_hold_every_row_once_within_the_budget(generator: torch.Generator) -> None:
    lengths = torch.randint(1, 40, (57,), generator=generator).tolist()
    found = batches(lengths, 60)
    assert sorted(itertools.chain(*found)) == list(range(57))
    assert all(len(rows) * max(lengths[row] for row in rows) <= 60 for rows in found)
    assert batches([5, 90], 60) == [[1], [0]]
    assert batches([5, 6, 7], 60, most=2) == [[2, 1], [0]]


# Choices


def test_a_choice_between_tokens_is_their_share(exact: LocalLM) -> None:
    found = exact.choose(PROMPTS, list("abc"))
    for prompt, row in zip(PROMPTS, found, strict=True):
        weights = after(exact, ids_of(prompt)).exp()[ids_of("abc")]
        assert row == pytest.approx((weights / weights.sum()).numpy(), abs=1e-12)


def test_a_choice_between_all_tokens_is_the_models_own_distribution(exact: LocalLM) -> None:
    found = exact.choose(["bad"], list(LETTERS))
    whole = after(exact, ids_of("bad")).exp()
    assert found.sum() == pytest.approx(1, abs=1e-12)
    assert found[0] * float(1 - whole[0] - whole[1]) == pytest.approx(whole[2:].numpy(), abs=1e-12)


def test_a_choice_between_tokens_takes_one_pass(own: LocalLM) -> None:
    passes = []
    own.module.register_forward_hook(lambda *_: passes.append(1))
    own.choose(PROMPTS, ["a", "b", "c"])
    assert len(passes) == 1


def test_options_of_several_tokens_are_scored_in_full(exact: LocalLM) -> None:
    options = ["ab", "ac", "d"]
    found = exact.choose(["h", "bad"], options)
    for prompt, row in zip(["h", "bad"], found, strict=True):
        weights = np.exp([sum(naive(exact, ids_of(prompt), ids_of(option))) for option in options])
        assert row == pytest.approx(weights / weights.sum(), abs=1e-10)


# Generation


@pytest.mark.parametrize("name", FAMILIES)
def test_temperature_zero_takes_the_likeliest_token_each_time(name: str, models: dict[str, LocalLM]) -> None:
    lm = models[name]
    found = lm.generate(PROMPTS, Sampling(max_tokens=12, temperature=0.0))
    for prompt, (completion,) in zip(PROMPTS, found, strict=True):
        ids: list[int] = []
        while len(ids) < 12 and 1 not in ids:
            ids.append(int(after(lm, [*ids_of(prompt), *ids]).argmax()))
        assert completion.tokens == tuple(ids)


def test_at_temperature_zero_all_samples_are_the_same(lm: LocalLM) -> None:
    (found,) = lm.generate(["ab"], Sampling(n=3, max_tokens=8, temperature=0.0))
    assert {completion.text for completion in found} == {found[0].text}
    assert [completion.sample for completion in found] == [0, 1, 2]


@pytest.mark.parametrize("name", FAMILIES)
def test_samples_follow_from_the_seed_whatever_else_is_asked(name: str, models: dict[str, LocalLM]) -> None:
    lm = models[name]
    sampling = Sampling(n=4, max_tokens=10, seed=3)
    together = lm.generate(PROMPTS, sampling)
    assert lm.generate(PROMPTS, sampling) == together
    for prompt, completions in zip(PROMPTS, together, strict=True):
        (alone,) = lm.generate([prompt], Sampling(n=2, max_tokens=10, seed=3))
        assert [one.tokens for one in alone] == [one.tokens for one in completions[:2]]


def test_samples_do_not_depend_on_the_batches(own: LocalLM) -> None:
    sampling = Sampling(n=3, max_tokens=8)
    whole = own.generate(PROMPTS, sampling)
    own.budget = 20
    assert [[one.text for one in row] for row in own.generate(PROMPTS, sampling)] == [
        [one.text for one in row] for row in whole
    ]


def test_another_seed_and_another_sample_draw_something_else(lm: LocalLM) -> None:
    first, second = (lm.generate(["ab"], Sampling(n=8, max_tokens=10, seed=seed))[0] for seed in (0, 1))
    assert len({one.text for one in first + second}) > 10


def test_a_longer_limit_only_goes_on(lm: LocalLM) -> None:
    (short,), (long,) = (lm.generate(["ab"], Sampling(n=8, max_tokens=length)) for length in (3, 9))
    for one, other in zip(short, long, strict=True):
        assert other.tokens is not None
        assert one.tokens == other.tokens[:3]


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.5])
def test_noted_log_probabilities_are_those_of_a_score_whatever_the_temperature(
    exact: LocalLM, temperature: float
) -> None:
    sampling = Sampling(n=3, max_tokens=6, temperature=temperature, top_p=0.9)
    for prompt, completions in zip(PROMPTS, exact.generate(PROMPTS, sampling), strict=True):
        for one in completions:
            assert one.tokens is not None
            assert one.logprobs == pytest.approx(naive(exact, ids_of(prompt), one.tokens), abs=1e-5)
            values = exact.logprobs(exact.encode([prompt], [one.tokens]))[0, len(prompt) :]
            assert one.logprobs == pytest.approx(values.tolist(), abs=1e-5)


def test_a_completion_that_ended_scores_what_was_noted(lm: LocalLM) -> None:
    (found,) = lm.generate(["ab"], Sampling(n=60, max_tokens=30))
    ended = [one for one in found if one.finish == "stop" and 0 not in (one.tokens or ())]
    assert len(ended) > 10
    for one, score in zip(ended, lm.score(["ab"] * len(ended), [one.text for one in ended]), strict=True):
        assert one.tokens is not None
        assert one.tokens[-1] == 1
        assert score.logprobs == pytest.approx(one.logprobs, abs=1e-5)


def test_the_perplexity_of_an_answer_counts_its_end_as_its_score_does(lm: LocalLM) -> None:
    (found,) = lm.generate(["ab"], Sampling(n=60, max_tokens=30))
    ended = [one for one in found if one.finish == "stop" and 0 not in (one.tokens or ())]
    assert len(ended) > 10
    for one, score in zip(ended, lm.score(["ab"] * len(ended), [one.text for one in ended]), strict=True):
        assert one.logprobs is not None
        assert len(one.logprobs) == len(one.text) + 1
        assert token_confidence(one.logprobs).perplexity == pytest.approx(math.exp(-score.mean), rel=1e-4)


def test_what_was_cut_off_has_no_end(lm: LocalLM) -> None:
    (found,) = lm.generate(["ab"], Sampling(n=60, max_tokens=2))
    for one in found:
        assert one.tokens is not None
        assert (one.finish == "stop") == (1 in one.tokens)
        assert one.completion_tokens == len(one.tokens) == len(one.logprobs or ())
        assert one.prompt_tokens == 2


def test_the_probabilities_of_all_completions_sum_to_one() -> None:
    lm = sharpened(tiny_lm("ab", width=16, depth=1, context=16)).double()
    # Padding is a token like any other to the model; here it cannot be said, so that texts are all there is.
    lm.module.lm_head.register_forward_hook(
        lambda module, given, out: torch.cat([torch.full_like(out[..., :1], -torch.inf), out[..., 1:]], dim=-1)
    )
    ended = ["", "a", "b"]
    cut_off = ["aa", "ab", "ba", "bb"]
    total = [math.exp(score.total) for score in lm.score(["b"] * 3, ended)]
    total += [math.exp(score.total) for score in lm.score(["b"] * 4, cut_off, end=False)]
    assert sum(total) == pytest.approx(1, abs=1e-12)
    (drawn,) = lm.generate(["b"], Sampling(n=1000, max_tokens=2))
    shares = {text: np.mean([one.text == text for one in drawn]) for text in ended + cut_off}
    for (text, share), expected in zip(shares.items(), total, strict=True):
        assert share == pytest.approx(expected, abs=4 * math.sqrt(expected / 1000)), text


def filtered(weights: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """The distribution that is drawn from, token by token in float64."""
    weights = weights ** (1 / temperature)
    order = sorted(range(len(weights)), key=lambda token: -weights[token])
    if top_k:
        order = order[:top_k]
    whole = sum(weights[token] for token in order)
    kept, share = [], 0.0
    for token in order:
        if share >= top_p:
            break
        kept.append(token)
        share += weights[token] / whole
    found = np.zeros(len(weights))
    found[kept] = weights[kept] / weights[kept].sum()
    return found


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [
        (1.0, 0, 1.0),
        (0.5, 0, 1.0),
        (2.0, 0, 1.0),
        (1.0, 3, 1.0),
        (1.0, 0, 0.7),
        (1.5, 4, 0.8),
        (1.0, 5, 1.0),
        (1.0, 1, 1.0),
    ],
)
def test_frequencies_are_those_of_the_distribution(temperature: float, top_k: int, top_p: float) -> None:
    weights = np.array([0.1, 0.4, 0.05, 0.25, 0.2])
    n = 20000
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    uniform = torch.from_numpy(np.random.default_rng(0).random(n))
    logits = torch.from_numpy(np.log(weights)).float().expand(n, 5) + 3
    counts = np.bincount(pick(logits, sampling, uniform)[:, 0].numpy(), minlength=5)
    expected = filtered(weights, temperature, top_k, top_p) * n
    assert (counts[expected == 0] == 0).all()
    likely = expected > 0
    # Chi-square with at most 4 degrees of freedom exceeds 23.5 once in ten thousand.
    assert ((counts[likely] - expected[likely]) ** 2 / expected[likely]).sum() < 23.5


def test_a_model_is_drawn_from_by_temperature_and_top_k() -> None:
    lm = sharpened(tiny_lm("abc", width=16, depth=1, context=16))
    (found,) = lm.generate(["ab"], Sampling(n=1500, max_tokens=1, temperature=1.3, top_k=3))
    tokens = [one.tokens[0] for one in found if one.tokens]
    expected = filtered(after(lm, [2, 3]).exp().numpy(), 1.3, 3, 1) * 1500
    counts = np.bincount(tokens, minlength=5)
    assert (counts[expected == 0] == 0).all()
    assert ((counts - expected)[expected > 0] ** 2 / expected[expected > 0]).sum() < 23.5


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2**-53])
def test_a_token_without_probability_is_never_drawn(number: float) -> None:
    logits = torch.tensor([[-torch.inf, 2.0, -torch.inf, 2.0, -torch.inf]])
    for temperature in (1e-30, 1.0, 1e30):
        chosen = pick(logits, Sampling(temperature=temperature), torch.tensor([number], dtype=torch.float64))
        assert int(chosen) == (1 if number < 0.5 else 3)


def test_the_numbers_drawn_with_differ_by_prompt_sample_and_seed() -> None:
    prompt, other = Prompt.of("a"), Prompt.of("b")
    drawn = [
        uniforms(prompt, 0, Sampling()),
        uniforms(other, 0, Sampling()),
        uniforms(prompt, 1, Sampling()),
        uniforms(prompt, 0, Sampling(seed=1)),
    ]
    for one, two in itertools.combinations(drawn, 2):
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.4


def test_a_text_that_ends_a_completion_is_not_in_it(lm: LocalLM) -> None:
    (free,) = lm.generate(["ab"], Sampling(n=40, max_tokens=20))
    (found,) = lm.generate(["ab"], Sampling(n=40, max_tokens=20, stop=("c", "ha")))
    assert any("c" in one.text or "ha" in one.text for one in free)
    for one, whole in zip(found, free, strict=True):
        places = [place for stop in ("c", "ha") if (place := whole.text.find(stop)) >= 0]
        assert one.text == (whole.text[: min(places)] if places else whole.text)
        assert one.finish == ("stop" if places else whole.finish)


def test_tokens_of_a_stopped_completion_reach_to_the_text_that_ended_it(lm: LocalLM) -> None:
    (found,) = lm.generate(["ab"], Sampling(n=40, max_tokens=20, stop=("c",)))
    stopped = [one for one in found if one.tokens and one.tokens[-1] == ids_of("c")[0]]
    assert stopped
    for one in stopped:
        assert one.tokens is not None
        assert ids_of("c")[0] not in one.tokens[:-1]
        assert one.logprobs == pytest.approx(naive(lm, ids_of("ab"), one.tokens), abs=2e-5)


def test_the_text_that_is_complete_first_ends_a_completion_whatever_was_drawn_after_it(lm: LocalLM) -> None:
    sampling = Sampling(max_tokens=9, stop=("bcd", "c"))
    for drawn in ("abc", "abcd", "abcdcbcd"):
        ids = ids_of(drawn)
        completion = lm.completion(ids, [-1.0] * len(ids), sampling)
        assert (completion.text, completion.tokens) == ("ab", tuple(ids_of("abc")))


def test_generation_ends_when_every_row_has_met_its_end(own: LocalLM) -> None:
    steps = []
    own.module.register_forward_hook(lambda *_: steps.append(1))
    own.generate(["ab", "c"], Sampling(n=2, max_tokens=50, stop=tuple(LETTERS)))
    assert len(steps) < 10


def test_settings_of_the_models_folder_do_not_change_what_is_drawn(own: LocalLM) -> None:
    sampling = Sampling(n=4, max_tokens=20)
    before = own.generate(["ab"], sampling)
    own.module.generation_config = GenerationConfig(
        do_sample=True, temperature=0.01, top_k=1, repetition_penalty=5.0, no_repeat_ngram_size=1, min_new_tokens=15
    )
    assert own.generate(["ab"], sampling) == before
    assert own.module.generation_config.temperature == 0.01


def test_end_tokens_of_the_models_folder_end_a_completion(own: LocalLM) -> None:
    own.module.generation_config.eos_token_id = [1, *ids_of("abcd")]
    lm = LocalLM(own.module, own.tokenizer)
    assert (lm.ends, lm.end) == ((1, *ids_of("abcd")), 1)
    for one in lm.generate(["h"], Sampling(n=30, max_tokens=30))[0]:
        assert one.tokens is not None
        assert not set(one.text) & set("abcd")
        assert (one.finish == "stop") == (one.tokens[-1] in lm.ends)


def test_no_prompts_give_nothing(lm: LocalLM) -> None:
    assert lm.generate([], Sampling()) == []
    assert lm.score([], []) == []
    assert lm.choose([], ["a", "b"]).shape == (0, 2)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_while_generating_and_scoring_and_the_mode_is_left_as_it_was(training: bool) -> None:
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=32, **SIZES)
    lm = LocalLM(AutoModelForCausalLM.from_config(config), tiny_lm(LETTERS).tokenizer)
    lm.eval()
    expected = lm.score(["ab"], ["c"]), lm.generate(["ab"], Sampling(max_tokens=5))
    lm.train(training)
    assert (lm.score(["ab"], ["c"]), lm.generate(["ab"], Sampling(max_tokens=5))) == expected
    assert all(part.training == training for part in lm.modules())


# Chat and tokenizers

TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}{{ m.content }}{% if not loop.last or m.role != 'assistant' or True %}<end>"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}a{% endif %}"
)


def test_a_chat_template_is_used_where_there_is_one() -> None:
    lm = tiny_lm("usabc")
    assert "chat" not in lm.capabilities
    lm.tokenizer.chat_template = TEMPLATE
    chat = LocalLM(lm.module, lm.tokenizer)
    assert "chat" in chat.capabilities
    prompt = Prompt((Message("system", "c"), Message("user", "b")))
    tokenised = chat.encode([prompt], ["ab"])
    assert chat.tokenizer.decode(tokenised.ids[0]) == "sc<end>ub<end>aab<end>"
    assert tokenised.answer[0].tolist() == [False] * 7 + [True] * 3


def test_an_assistant_that_spoke_last_goes_on_speaking() -> None:
    lm = tiny_lm("usabc")
    lm.tokenizer.chat_template = TEMPLATE
    tokenised = lm.encode([Prompt((Message("user", "b"), Message("assistant", "cc")))], ["a"])
    assert lm.tokenizer.decode(tokenised.ids[0]) == "ub<end>acca<end>"


def test_the_token_with_which_the_template_closes_an_answer_is_the_end() -> None:
    lm = tiny_lm(["u", "s", "a", "b", "<turn>"])
    lm.tokenizer.chat_template = TEMPLATE.replace("<end>", "<turn>")
    lm.module.generation_config.eos_token_id = [1, 6]
    assert LocalLM(lm.module, lm.tokenizer).end == 6


def test_without_a_template_the_texts_follow_one_another(lm: LocalLM) -> None:
    messages = (Message("system", "ab"), Message("user", "c"))
    assert lm.score([messages], ["d"]) == lm.score(["abc"], ["d"])


@pytest.fixture(scope="module")
def pieces() -> LocalLM:
    return with_tokenizer(pieces_tokenizer())


@pytest.fixture(scope="module")
def bytewise() -> LocalLM:
    return with_tokenizer(bytewise_tokenizer())


def test_a_prompt_begins_as_the_tokenizer_begins_texts_and_does_not_end_so(pieces: LocalLM) -> None:
    tokenised = pieces.encode(["ab"], ["c"])
    assert pieces.tokenizer.convert_ids_to_tokens(tokenised.ids[0]) == ["<s>", "▁a", "b", "c", "</s>"]
    assert tokenised.answer[0].tolist() == [False, False, False, True, True]


@pytest.mark.parametrize(("completion", "tokens"), [("ab", ["ab"]), (" ab", ["▁a", "b"]), (" a b", ["▁a", "▁b"])])
def test_no_space_is_put_before_a_completion(pieces: LocalLM, completion: str, tokens: list[str]) -> None:
    tokenised = pieces.encode(["c="], [completion], end=False)
    answer = tokenised.ids[tokenised.answer].tolist()
    assert pieces.tokenizer.convert_ids_to_tokens(answer) == tokens
    assert pieces.wording.text(answer) == completion


def test_tokens_of_a_completion_do_not_depend_on_those_beside_it(pieces: LocalLM) -> None:
    texts = ["ab", "=", "\n", "a", "", " b"]
    assert pieces.wording.answer_ids(texts) == [pieces.wording.answer_ids([text])[0] for text in texts]


def test_a_completion_keeps_the_space_that_it_was_generated_with(pieces: LocalLM) -> None:
    sampling = Sampling(n=200, max_tokens=1, temperature=5.0)
    texts = {one.text for one in pieces.generate(["c"], sampling)[0]}
    assert {"a", " a", "ab"} <= texts


def test_the_prompts_tokens_do_not_change_with_what_follows(bytewise: LocalLM) -> None:
    joint = bytewise.tokenizer.convert_ids_to_tokens(bytewise.tokenizer("c=ab")["input_ids"])
    tokenised = bytewise.encode(["c="], ["ab"], end=False)
    assert joint == ["c", "=ab"]
    assert bytewise.tokenizer.convert_ids_to_tokens(tokenised.ids[0]) == ["c", "=", "ab"]
    assert tokenised.answer[0].tolist() == [False, False, True]


def test_a_stop_text_of_several_bytes_to_a_character_is_found(bytewise: LocalLM) -> None:
    ids = bytewise.tokenizer("aaé→bb")["input_ids"]
    completion = bytewise.completion(ids, [-1.0] * len(ids), Sampling(max_tokens=20, stop=("é→",)))
    assert (completion.text, completion.finish) == ("aa", "stop")
    assert completion.tokens == tuple(ids[:7])


def test_tokens_that_were_drawn_are_encoded_as_they_are(bytewise: LocalLM) -> None:
    letters = bytewise.tokenizer.convert_tokens_to_ids(["a", "b", "<eos>"])
    tokenised = bytewise.encode(["c=", "c"], [letters, "ab"])
    assert tokenised.ids[0][tokenised.answer[0]].tolist() == letters
    assert tokenised.ids[1][tokenised.answer[1]].tolist() == bytewise.tokenizer.convert_tokens_to_ids(["ab", "<eos>"])


# Inner layers, references, names


def test_hidden_states_are_those_of_each_row_alone(exact: LocalLM) -> None:
    tokenised = exact.encode(PROMPTS, COMPLETIONS)
    found = exact.hidden(tokenised, [0, 2])
    assert sorted(found) == [0, 2]
    for row in range(len(PROMPTS)):
        length = int(tokenised.lengths[row])
        alone = exact.module(input_ids=tokenised.ids[row : row + 1, :length], output_hidden_states=True).hidden_states
        for layer, value in found.items():
            assert torch.allclose(value[row, :length], alone[layer][0], atol=1e-12)


def test_the_last_layer_leads_to_the_models_own_distribution(exact: LocalLM) -> None:
    tokenised = exact.encode(["bad"], ["a"])
    last = exact.hidden(tokenised, [2])[2][0, 2]
    found = exact.module.lm_head(last).log_softmax(dim=0)
    assert torch.allclose(found, after(exact, ids_of("bad")), atol=1e-12)


def test_a_frozen_copy_stays_what_it_was_and_never_trains(own: LocalLM) -> None:
    still = own.frozen()
    before = still.score(["ab"], ["c"])
    assert not any(weight.requires_grad for weight in still.parameters())
    assert all(weight.requires_grad for weight in own.parameters())
    step(own)
    assert still.score(["ab"], ["c"]) == before != own.score(["ab"], ["c"])
    assert not still.train().module.training


def step(lm: LocalLM, **settings: Any) -> None:
    optimizer = torch.optim.AdamW(lm.parameters(), lr=1e-3, **settings)
    lm.logprobs(lm.encode(["ab"], ["c"])).sum().backward()
    optimizer.step()


def test_the_same_weights_have_the_same_name(own: LocalLM) -> None:
    assert tiny_lm(LETTERS, width=16, depth=1, context=64).name == own.name == own.frozen().name


@pytest.mark.parametrize("settings", [{}, {"foreach": True}, {"fused": True}])
def test_a_step_of_an_optimizer_changes_the_name(own: LocalLM, settings: dict[str, bool]) -> None:
    before = own.name
    step(own, **settings)
    assert own.name != before


def test_loaded_weights_change_the_name_and_those_before_bring_it_back(own: LocalLM) -> None:
    before, weights = own.name, {name: value.clone() for name, value in own.state_dict().items()}
    own.load_state_dict(tiny_lm(LETTERS, width=16, depth=1, context=64, seed=1).state_dict())
    assert own.name != before
    own.load_state_dict(weights)
    assert own.name == before


def test_one_value_changed_behind_torchs_back_is_seen_when_it_is_said(own: LocalLM) -> None:
    before = own.name
    own.module.model.layers[0].mlp.up_proj.weight.data[3, 1] += 1
    own.changed()
    assert own.name != before


def test_another_template_is_another_name(own: LocalLM) -> None:
    before = own.name
    own.tokenizer.chat_template = TEMPLATE
    assert own.name != before


def test_a_name_is_not_computed_again_without_need(own: LocalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    before = own.name
    monkeypatch.setattr(LocalLM, "_compute_digest", lambda self: pytest.fail("computed again"))
    own.generate(["ab"], Sampling(max_tokens=3))
    assert own.name == before


# Folders


@pytest.mark.parametrize("name", FAMILIES)
def test_transformers_loads_what_was_saved(name: str, models: dict[str, LocalLM], tmp_path: Path) -> None:
    lm = models[name]
    lm.save_folder(tmp_path / "kept")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "kept").eval()
    given = torch.tensor([ids_of("bad. abc")])
    with torch.no_grad():
        assert torch.equal(theirs(input_ids=given).logits, lm.module(input_ids=given).logits)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_loaded_model_says_what_the_saved_one_said(name: str, models: dict[str, LocalLM], tmp_path: Path) -> None:
    lm = models[name]
    lm.save_folder(tmp_path / "kept")
    loaded = LocalLM.load(tmp_path / "kept", device="cpu")
    sampling = Sampling(n=2, max_tokens=6, stop=("b",))
    assert loaded.generate(PROMPTS, sampling) == lm.generate(PROMPTS, sampling)
    assert (loaded.end, loaded.context, loaded.capabilities) == (lm.end, lm.context, lm.capabilities)
    assert loaded.name.split("@")[0] == "kept"
    assert not loaded.training


def test_weights_are_loaded_in_the_kind_that_is_asked_for(own: LocalLM, tmp_path: Path) -> None:
    own.save_folder(tmp_path)
    assert LocalLM.load(tmp_path, device="cpu").module.dtype == torch.float32
    assert LocalLM.load(tmp_path, device="cpu", dtype=torch.bfloat16).module.dtype == torch.bfloat16


@pytest.mark.parametrize("name", FAMILIES)
def test_plain_settings_and_weights_make_the_same_model_again(name: str, models: dict[str, LocalLM]) -> None:
    lm = models[name]
    settings = json.loads(json.dumps(lm.plain()))
    again = LocalLM.from_plain(settings)
    again.load_state_dict(lm.state_dict())
    assert again.score(PROMPTS, COMPLETIONS) == lm.score(PROMPTS, COMPLETIONS)
    assert again.name == lm.name
    assert again.plain() == lm.plain()


def test_building_a_model_leaves_the_global_random_state_alone(own: LocalLM) -> None:
    before = torch.random.get_rng_state()
    LocalLM.from_plain(own.plain())
    assert torch.equal(torch.random.get_rng_state(), before)


# Errors


def test_an_empty_prompt_is_refused(lm: LocalLM) -> None:
    for call in (
        lambda: lm.generate([""], Sampling()),
        lambda: lm.score([""], ["a"]),
        lambda: lm.choose([""], ["a", "b"]),
    ):
        with pytest.raises(ValueError, match="must not be empty"):
            call()


def test_what_exceeds_the_context_is_refused_with_the_numbers(lm: LocalLM) -> None:
    with pytest.raises(ValueError, match=r"prompt of 60 tokens and max_tokens of 5 make 65; tiny has a context of 64"):
        lm.generate(["a", "a" * 60], Sampling(max_tokens=5))
    with pytest.raises(ValueError, match=r"prompt of 60 tokens and completion of 5 make 65"):
        lm.score(["a" * 60], ["abcd"])
    lm.score(["a" * 60], ["abcd"], end=False)
    lm.generate(["a" * 60], Sampling(max_tokens=4))


def test_text_without_a_token_is_refused_and_named(lm: LocalLM) -> None:
    with pytest.raises(ValueError, match=r"'aXb%' holds what the tokenizer has no token for: 'X' '%'"):
        lm.generate(["aXb%"], Sampling())
    with pytest.raises(ValueError, match=r"no token for: 'Z'"):
        lm.score(["a"], ["Z"])
    with pytest.raises(ValueError, match=r"no token for: 'Z'"):
        lm.choose(["a"], ["Z", "a"])


def test_a_completion_with_nothing_to_score_is_refused(lm: LocalLM) -> None:
    with pytest.raises(ValueError, match="nothing to score"):
        lm.score(["a"], [""], end=False)


def test_numbers_that_differ_are_refused(lm: LocalLM) -> None:
    with pytest.raises(ValueError, match="2 prompts were given with 1 completions"):
        lm.score(["a", "b"], ["c"])


def test_the_end_of_a_model_without_one_is_not_scored() -> None:
    lm = tiny_lm("ab")
    lm.tokenizer.eos_token = None
    lm.module.generation_config.eos_token_id = None
    endless = LocalLM(lm.module, lm.tokenizer)
    with pytest.raises(Incapable, match="no end token"):
        endless.score(["a"], ["b"])
    assert len(endless.score(["a"], ["b"], end=False)[0].logprobs) == 1
    (found,) = endless.generate(["a"], Sampling(n=2, max_tokens=6))
    assert [one.finish for one in found] == ["length", "length"]


def test_logits_that_are_no_numbers_are_an_error(own: LocalLM) -> None:
    with torch.no_grad():
        own.module.lm_head.weight[3] = torch.nan
    for call in (
        lambda: own.generate(["a"], Sampling(max_tokens=3)),
        lambda: own.generate(["a"], Sampling(max_tokens=3, temperature=0.0)),
        lambda: own.generate(["a"], Sampling(max_tokens=3, top_p=0.5, top_k=3)),
        lambda: own.score(["a"], ["b"]),
        lambda: own.choose(["a"], ["b", "a"]),
        lambda: own.choose(["a"], ["ba", "a"]),
    ):
        with pytest.raises(ValueError, match="logits that are no numbers"):
            call()


def test_a_layer_that_is_not_there_is_refused(lm: LocalLM) -> None:
    with pytest.raises(ValueError, match="has layers 0 to 2, got 3"):
        lm.hidden(lm.encode(["a"], ["b"]), [3])


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        LocalLM.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        LocalLM.load("./nowhere")


def test_a_name_on_the_hub_that_cannot_be_reached_is_said_to_be_so() -> None:
    with pytest.raises(ValueError, match=r"no language model at 'nobody/nothing'.*needs the network or its cache"):
        LocalLM.load("nobody/nothing", device="cpu")


def test_weights_that_are_no_safetensors_are_refused(own: LocalLM, tmp_path: Path) -> None:
    own.save_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(own.module.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors"):
        LocalLM.load(tmp_path, device="cpu")


def test_a_damaged_file_of_weights_is_refused(own: LocalLM, tmp_path: Path) -> None:
    own.save_folder(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="no language model at"):
        LocalLM.load(tmp_path, device="cpu")


def test_rows_without_padding_are_what_they_were_given_as() -> None:
    tokenised = Tokenised.of([([3, 4], [5]), ([3], [6])], pad=9)
    assert tokenised.ids.tolist() == [[3, 4, 5], [3, 6, 9]]
    assert tokenised.attention.tolist() == [[True] * 3, [True, True, False]]
    assert tokenised.answer.tolist() == [[False, False, True], [False, True, False]]
