"""Principles that are told by symbols, and the comparisons that a reward model is measured by."""

from __future__ import annotations

from autodidact.worlds.language import Principles


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
