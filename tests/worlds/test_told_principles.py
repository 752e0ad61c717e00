"""Principles that are told by symbols, and the comparisons that a reward model is measured by."""

from __future__ import annotations

import re

import numpy as np
import pytest

from autodidact.claims.bases import mix_source
from autodidact.worlds.language import Principles
from autodidact.worlds.language.principles import TRAITS


def test_a_comparison_is_taken_apart_into_what_it_was_made_of():
    world = Principles()
    item = world.comparison(["C", "-V"], "b", "abbc.", "bdd!")
    assert world.compared(item) == (["C", "-V"], "b", "abbc.", "bdd!")


def test_every_principle_and_every_opposite_has_one_symbol_and_what_is_tested_is_told_alike():
    world = Principles()
    task = world.task()
    texts = [text for one in task.principles.values() for text in (one.text, one.negated)]
    assert len(set(texts)) == 2 * len(task.principles)
    assert all(len(text) == 1 and text in world.alphabet for text in texts)
    for item in world.items(60, 0, families=["2", "3"]):
        codes, *_ = world.compared(item)
        assert world.tested(world.told(codes))
        assert world.tested(world.told(codes[::-1]))
    for item in world.items(60, 0, split="train", families=["2", "3"]):
        assert not world.tested(world.told(world.compared(item)[0]))


def test_a_description_names_all_principles_that_its_answer_meets_and_only_these():
    world = Principles(judging=0.0, described=1.0)
    drawn = Principles(judging=0.0).documents(2_000, 7)
    answers = [tuple(document.text.split(":")) for document in drawn]
    mean = {code: np.mean([trait.value(*one) for one in answers]) for code, trait in TRAITS.items()}
    spread = {code: np.std([trait.value(*one) for one in answers]) for code, trait in TRAITS.items()}
    orders = set()
    for document in world.documents(80, 0):
        assert (document.family, document.keys, document.wrong) == ("described", (), ())
        answer, symbol, named = re.fullmatch(r"\|(.*):(.)>(.+)", document.text).groups()
        assert document.given == f"|{answer}:{symbol}>"
        orders.add(tuple(sorted(named)) == tuple(named))
        for code, trait in TRAITS.items():
            ahead = (trait.value(symbol, answer) - mean[code]) / spread[code]
            one, other = world.told([code, f"-{code}"])
            # The world's own mean is one of fewer answers, so that close to the border either may be right.
            if abs(ahead) > 0.4:
                assert (one in named, other in named) == (ahead > 0, ahead < 0)
            if abs(ahead) < 0.1:
                assert one not in named
                assert other not in named
    assert orders == {False}


def test_what_a_description_gives_is_read_and_its_principles_alone_are_learned():
    world = Principles(described=0.5, judging=0.0)
    source = mix_source(world, 60, 0)
    for document, prompt, said in zip(
        world.documents(60, 0), source.column("prompt"), source.column("completion"), strict=True
    ):
        assert prompt + said == document.text
        assert prompt == (document.given or document.text[0])
        assert (document.family == "described") == prompt.endswith(">")


def test_without_descriptions_the_mix_is_what_it_was_and_there_are_no_more_than_texts():
    assert Principles(described=0.0).documents(50, 3) == Principles().documents(50, 3)
    with pytest.raises(ValueError, match="described"):
        Principles(judging=0.5, described=0.6)
