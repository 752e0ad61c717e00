"""Preferences of a language model: the loss of whole answers, its references, and what is learned from pairs."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from autodidact.lm.adapters import add_adapter
from autodidact.lm.local import LocalLM
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.task import Preference, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.methods.language.dpo import DPO
from autodidact.methods.method import Loss, Progress
from autodidact.model import load_model
from autodidact.recipes.preferring import pair_source
from autodidact.training import Settings, train
from autodidact.verbs.improve import improve

PAIRS = [("ab>", "ba", "ab"), ("a>", "a", "ccc"), ("cab>", "bac", "c"), ("bc>", "cb", "bcb")]


@pytest.fixture
def lm() -> LocalLM:
    return tiny_lm("abc>", width=16, depth=1, context=32)


def loss_of(method: DPO, pairs=PAIRS, references=()) -> Loss:
    batch = pair_source("pairs", pairs, references).batch(np.arange(len(pairs)))
    progress = Progress(0, 1, 0, torch.Generator())
    with torch.no_grad():
        views = method.views(batch, progress)
    return method.loss(views, progress)


def totals(lm: LocalLM, pairs=PAIRS) -> list[tuple[float, float]]:
    """Log-probabilities of chosen and rejected answers with their ends, pair by pair."""
    return [tuple(score.total for score in lm.score([p, p], [c, r])) for p, c, r in pairs]


@pytest.mark.parametrize(("beta", "e", "alpha"), [(0.1, 0.0, 0.0), (0.5, 0.2, 0.0), (0.3, 0.0, 0.7)])
def test_the_loss_is_that_of_whole_answers_with_their_ends(lm, beta, e, alpha):
    references = [(-3.0, -7.0), (-2.0, -1.0), (-9.0, -4.0), (-5.5, -6.5)]
    method = DPO(lm, beta=beta, label_smoothing=e, nll_weight=alpha)
    naive = 0.0
    for (_, c, _), (chosen, rejected), (ref_c, ref_r) in zip(PAIRS, totals(lm), references, strict=True):
        margin = beta * ((chosen - ref_c) - (rejected - ref_r))
        naive += (1 - e) * math.log1p(math.exp(-margin)) + e * math.log1p(math.exp(margin))
        naive -= alpha * chosen / (len(c) + 1)
    assert loss_of(method, references=references).total.item() == pytest.approx(naive / 4, rel=1e-5)


@pytest.mark.parametrize("adapter", [False, True])
def test_at_the_start_it_is_log_two_whatever_the_reference(lm, adapter):
    if adapter:
        add_adapter(lm, rank=2)
    for reference in ("auto", "copy", *(["base"] if adapter else [])):
        found = loss_of(DPO(lm, reference=reference))
        assert found.total.item() == pytest.approx(math.log(2), abs=1e-6)
        assert found.terms["margin"].item() == pytest.approx(0, abs=1e-6)
    recorded = loss_of(DPO(lm, reference="recorded"), references=totals(lm))
    assert recorded.total.item() == pytest.approx(math.log(2), abs=1e-6)


def test_the_adapters_base_is_the_reference_and_costs_no_copy_nor_any_gradient(lm):
    add_adapter(lm, rank=2)
    base = totals(lm)
    with torch.no_grad():
        for name, weight in lm.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    method = DPO(lm)
    assert method.still is None
    trained = {name for name, p in method.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in trained)
    other = DPO(copy.deepcopy(lm), reference="recorded")
    assert loss_of(method).total.item() == pytest.approx(loss_of(other, references=base).total.item(), rel=1e-5)
    loss_of(method).total.backward()
    assert any(p.grad.abs().max() > 0 for p in method.parameters() if p.grad is not None)


def test_dropout_does_not_enter_the_reference(lm):
    add_adapter(lm, rank=2, dropout=0.5)
    method = DPO(lm).train()
    given = pair_source("pairs", PAIRS).batch(np.arange(4))
    views = method.views(given, Progress(0, 1, 0, torch.Generator()))
    answer = views["pairs"].answer
    assert torch.equal(method._reference(views, answer)[0], method._reference(views, answer)[0])
    assert method.training


def test_the_order_of_the_answers_turns_the_margin_around_and_other_pairs_do_not_matter(lm):
    references = [(-3.0, -7.0), (-2.0, -1.0), (-9.0, -4.0), (-5.5, -6.5)]
    swapped = [(p, r, c) for p, c, r in PAIRS]
    method = DPO(lm)
    margin = loss_of(method, references=references).terms["margin"]
    turned = loss_of(method, swapped, [pair[::-1] for pair in references]).terms["margin"]
    torch.testing.assert_close(turned, -margin)
    # Padding: alone, or beside longer ones.
    alone = [loss_of(method, [pair], [ref]).terms["margin"] for pair, ref in zip(PAIRS, references, strict=True)]
    torch.testing.assert_close(torch.stack(alone).mean(), margin)


def test_answers_that_are_the_same_have_no_gradient(lm):
    loss_of(DPO(lm, reference="copy"), [("ab>", "ba", "ba")]).total.backward()
    assert max(p.grad.abs().max() for p in lm.parameters() if p.grad is not None) < 1e-7


def test_the_chosen_answers_become_likelier_than_the_rejected_ones_and_a_killed_training_ends_alike(lm, tmp_path):
    settings = Settings(steps=30, batch_size=4, lr=3e-2, deterministic=True)
    source = pair_source("pairs", PAIRS)
    whole = train(DPO(copy.deepcopy(lm), lr_scale=1.0), source, settings, quiet=True)
    train(DPO(copy.deepcopy(lm), lr_scale=1.0), source, settings, out=tmp_path, until=0.5, quiet=True)
    resumed = train(DPO(copy.deepcopy(lm), lr_scale=1.0), source, settings, out=tmp_path, quiet=True)
    before, after = totals(lm), totals(whole.lm)
    for (c0, r0), (c1, r1) in zip(before, after, strict=True):
        assert c1 - r1 > c0 - r0 + 1
    assert after == totals(resumed.lm)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"beta": 0.0}, "beta must be above 0, got 0"),
        ({"lr_scale": 0.0}, "lr_scale must be above 0"),
        ({"label_smoothing": 0.5}, r"label_smoothing lies in \[0, 0.5\)"),
        ({"nll_weight": -1.0}, "nll_weight must be 0 or more"),
        ({"reference": "base"}, "has no adapter, so its base is itself"),
    ],
)
def test_options_out_of_range_are_refused(lm, options, said):
    with pytest.raises(ValueError, match=said):
        DPO(lm, **options)


def test_references_that_are_wanted_and_not_there_are_missed(lm):
    with pytest.raises(ValueError, match="the pairs have no ref_chosen and ref_rejected"):
        loss_of(DPO(lm, reference="recorded"))


STYLE = Style(opening="", demonstration="{input}>{output};", question="{input}>", stop=(";",))


def test_a_tasks_pairs_are_learned_from_the_command_and_those_that_are_alike_left_out(lm, tmp_path: Path):
    pairs = (*(Preference(c, r, prompt=p) for p, c, r in PAIRS[:2]), Preference("aa", " aa", input="a"))
    task = Task("Turn it around.", pairs=pairs, style=STYLE)
    quick = Settings(steps=8, batch_size=2, lr=3e-2)
    with pytest.warns(UserWarning, match="1 of 3 pairs are left out"):
        improve("dpo", lm, task, out=tmp_path / "run", settings=quick, quiet=True, report=False)
    rows = [json.loads(line) for line in (tmp_path / "run" / "pairs.jsonl").read_text().splitlines()]
    assert rows == [{"prompt": p, "chosen": c, "rejected": r} for p, c, r in PAIRS[:2]]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["samples"] == 2
    back = load_model(tmp_path / "run")
    for (c0, r0), (c1, r1) in zip(totals(tiny_again(), PAIRS[:2]), totals(back.lm, PAIRS[:2]), strict=True):
        assert c1 - r1 > c0 - r0


def tiny_again() -> LocalLM:
    return tiny_lm("abc>", width=16, depth=1, context=32)


def test_pairs_and_weights_are_needed(lm, tmp_path):
    asked = {"out": tmp_path / "run", "quiet": True}
    with pytest.raises(ValueError, match="DPO learns from the task's pairs of answers, and it has none: pairs"):
        improve("dpo", lm, Task("Turn."), **asked)
    alike = Task("Turn.", pairs=(Preference("a", "a", prompt="p"),), style=STYLE)
    with pytest.raises(ValueError, match="none but 1 whose answers are the same"):
        improve("dpo", lm, alike, **{**asked, "out": tmp_path / "other"})
    with pytest.raises(ValueError, match="DPO trains a model, and this one runs elsewhere"):
        improve("dpo", ScriptedLM(lambda _: "x"), alike, **{**asked, "out": tmp_path / "third"})
