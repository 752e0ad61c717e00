"""Tiny models: symbols to tokens and back, and weights from the seed alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaForCausalLM

from autodidact.lm.local import LocalLM
from autodidact.lm.tiny import characters, tiny_lm

SYMBOLS = ["a", "b", "\n", " ", "<go>", "<", "go", ".", "]", "\\", "-", "é", "→"]


@pytest.fixture(scope="module")
def lm() -> LocalLM:
    return tiny_lm(SYMBOLS, width=16, depth=1)


def test_it_is_a_llama_of_transformers(lm: LocalLM) -> None:
    assert type(lm.module) is LlamaForCausalLM
    assert (lm.module.config.vocab_size, lm.context, lm.end) == (2 + len(SYMBOLS), 128, 1)


def test_tokens_are_numbered_in_the_order_of_the_symbols_after_padding_and_end(lm: LocalLM) -> None:
    assert [lm.tokenizer.convert_tokens_to_ids(name) for name in ("<pad>", "<end>", *SYMBOLS)] == list(range(15))


def test_the_longest_symbol_that_fits_comes_first(lm: LocalLM) -> None:
    ids = lm.tokenizer("a<go><gob")["input_ids"]
    assert lm.tokenizer.convert_ids_to_tokens(ids) == ["a", "<go>", "<", "go", "b"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(SYMBOLS), min_size=1))
def test_a_text_comes_back_from_its_tokens(lm: LocalLM, parts: list[str]) -> None:
    text = "".join(parts)
    assert lm.wording.text(lm.wording.answer_ids([text])[0]) == text


def test_weights_follow_from_the_seed_alone(lm: LocalLM) -> None:
    torch.manual_seed(5)
    again, other = (tiny_lm(SYMBOLS, width=16, depth=1, seed=seed) for seed in (0, 1))
    assert again.name == lm.name != other.name


def test_building_one_leaves_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    tiny_lm("ab", width=16, depth=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_it_learns_to_continue_a_text() -> None:
    lm = tiny_lm("abcd", width=16, depth=1)
    optimizer = torch.optim.AdamW(lm.parameters(), lr=0.03)
    pairs = lm.encode(["a", "b", "c"], ["bcd", "cd", "d"])
    for _ in range(60):
        optimizer.zero_grad()
        (-lm.logprobs(pairs).sum() / pairs.answer.sum()).backward()
        optimizer.step()
    assert all(score.mean > -0.1 for score in lm.score(["a", "b", "c"], ["bcd", "cd", "d"]))


def test_characters_are_those_of_the_texts_in_order() -> None:
    assert characters(["cab", "ba\n"]) == ["\n", "a", "b", "c"]
    assert characters([]) == []


@pytest.mark.parametrize("symbols", ["", ["a", ""], ["a", "<end>"]])
def test_symbols_that_are_none_are_refused(symbols: list[str]) -> None:
    with pytest.raises(ValueError, match="symbols are one or more texts"):
        tiny_lm(symbols)


@pytest.mark.parametrize("sizes", [{"width": 30, "heads": 4}, {"depth": 0}, {"context": 0}, {"width": 6, "heads": 2}])
def test_sizes_that_do_not_go_together_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="multiple of twice the heads"):
        tiny_lm("ab", **sizes)
