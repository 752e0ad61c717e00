"""Supervised fine-tuning learns completions and nothing of the prompts, and a training that was cut off goes on."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from tests.lm.tokenizers_of_kinds import bytewise_tokenizer, pieces_tokenizer, with_tokenizer

from autodidact.lm.tiny import tiny_lm
from autodidact.methods.language.sft import SFT
from autodidact.methods.method import Progress
from autodidact.recipes.improving import example_source
from autodidact.training import Settings, train

PAIRS = [("ab>", "ba"), ("a>", "a"), ("cab>", "bac"), ("bc>", "cb")]


@pytest.fixture
def lm():
    return tiny_lm("abc>", width=16, depth=1, context=32)


def loss_of(method: SFT, pairs) -> torch.Tensor:
    batch = example_source("pairs", pairs).batch(np.arange(len(pairs)))
    progress = Progress(0, 1, 0, torch.Generator())
    with torch.no_grad():
        views = method.views(batch, progress)
    return method.loss(views, progress).total


@pytest.mark.parametrize("mean", ["token", "sequence"])
def test_the_loss_is_that_of_the_answers_tokens_and_their_end(lm, mean):
    each = [-np.array(score.logprobs) for score in lm.score([p for p, _ in PAIRS], [c for _, c in PAIRS])]
    assert [len(row) for row in each] == [3, 2, 4, 3]
    naive = np.concatenate(each).mean() if mean == "token" else np.mean([row.mean() for row in each])
    assert loss_of(SFT(lm, mean=mean), PAIRS).item() == pytest.approx(naive, rel=1e-5)


KINDS = {
    "characters": (
        lambda: tiny_lm("abc= ").tokenizer,
        [
            ("c=", "ab", ["c", "="], ["a", "b", "<end>"]),
            ("a cab=", " b", ["a", " ", "c", "a", "b", "="], [" ", "b", "<end>"]),
            ("abc", "", ["a", "b", "c"], ["<end>"]),
            ("b", "cabba", ["b"], ["c", "a", "b", "b", "a", "<end>"]),
        ],
    ),
    "metaspace": (
        pieces_tokenizer,
        [
            ("c=", "ab", ["<s>", "▁", "c", "="], ["ab", "</s>"]),
            ("a cab=", " a b", ["<s>", "▁a", "▁", "c", "ab", "="], ["▁a", "▁b", "</s>"]),
            ("abc", "", ["<s>", "▁a", "b", "c"], ["</s>"]),
            ("b", "cabba", ["<s>", "▁b"], ["c", "ab", "b", "a", "</s>"]),
        ],
    ),
    "bytes": (
        bytewise_tokenizer,
        [
            ("c=", "ab", ["c", "="], ["ab", "<eos>"]),
            ("a cab=", " é", ["a", "Ġ", "c", "ab", "="], ["Ġ", "Ã", "©", "<eos>"]),
            ("é", "", ["Ã", "©"], ["<eos>"]),
            ("b=ab", "cabba", ["b", "=ab"], ["c", "ab", "b", "a", "<eos>"]),
        ],
    ),
}


@pytest.mark.parametrize("mean", ["token", "sequence"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_a_loop_over_the_answers_tokens_in_float64_whatever_the_tokenizer(kind, mean):
    tokenizer, rows = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lm = with_tokenizer(tokenizer()).double()
    with torch.no_grad():
        for weight in lm.module.parameters():
            weight.mul_(6)
    each = []
    for _, _, prompt, answer in rows:
        read, nats = list(prompt), []
        for token in answer:
            ids = torch.tensor([lm.tokenizer.convert_tokens_to_ids(read)])
            with torch.no_grad():
                logits = lm.module(input_ids=ids).logits[0, -1].tolist()
            highest = max(logits)
            total = highest + math.log(math.fsum(math.exp(logit - highest) for logit in logits))
            nats.append(total - logits[lm.tokenizer.convert_tokens_to_ids(token)])
            read.append(token)
        each.append(nats)
    if mean == "token":
        naive = math.fsum(nat for nats in each for nat in nats) / sum(map(len, each))
    else:
        naive = math.fsum(math.fsum(nats) / len(nats) for nats in each) / len(each)
    found = loss_of(SFT(lm, mean=mean), [(prompt, answer) for prompt, answer, _, _ in rows])
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(naive, abs=1e-10)


def test_an_answer_without_a_text_is_its_end_alone(lm):
    assert loss_of(SFT(lm), [("ab>", "")]).item() == pytest.approx(-lm.score(["ab>"], [""])[0].total, rel=1e-5)


def test_no_token_of_a_prompt_is_learned(lm):
    # Two prompts that end alike for a model that looks at its last token only: one layer whose attention is taken out.
    torch.nn.init.zeros_(lm.module.model.layers[0].self_attn.o_proj.weight)
    gradients = [
        torch.autograd.grad(loss_of(SFT(lm), [(prompt, "b")]), lm.module.lm_head.weight)[0]
        for prompt in ("a>", "ccab>")
    ]
    assert torch.allclose(*gradients, atol=1e-7)


def test_a_training_that_was_cut_off_ends_with_the_same_weights(lm, tmp_path):
    # The schedule without an end serves methods for language too.
    phases = {"schedule": "infinite", "warmup": 0.2, "cooldown": 0.4, "anneal": 0.3}
    settings = Settings(steps=6, batch_size=2, lr=1e-2, deterministic=True, **phases)
    source = example_source("pairs", PAIRS)
    whole = train(SFT(copy.deepcopy(lm)), source, settings, quiet=True)
    train(SFT(copy.deepcopy(lm)), source, settings, out=tmp_path, until=0.5, quiet=True)
    resumed = train(SFT(copy.deepcopy(lm)), source, settings, out=tmp_path, quiet=True)
    for (name, a), (_, b) in zip(whole.lm.state_dict().items(), resumed.lm.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_examples_are_learned_by_heart(lm):
    kept = train(SFT(lm), example_source("pairs", PAIRS), Settings(steps=150, batch_size=4, lr=3e-2), quiet=True)
    assert min(score.mean for score in kept.lm.score([p for p, _ in PAIRS], [c for _, c in PAIRS])) > -0.3
