"""Sums that are rated: what the mix shows, and what it leaves to be learned."""

from __future__ import annotations

import pytest

from autodidact.worlds.language import ModularSums, RatedSums


def test_ratings_are_those_of_the_oracle_but_for_the_planted_noise_and_stand_beside_a_right_answer():
    for noise in (0.0, 0.4):
        world = RatedSums(noise=noise, rated=0.9)
        rows = [document for document in world.documents(400, 3) if ":" in document.text]
        assert abs(len(rows) - 360) < 30
        same = 0
        for document in rows:
            reference, _, rest = document.text.partition("|")
            prompt, _, tail = rest.partition("?")
            said, _, digit = tail.partition(":")
            item = next(one for one in _items(world, prompt + "?", document.family))
            assert world.check(item, reference)
            assert document.wrong == (not world.check(item, said),)
            same += int(digit) == world.rating(item, said)
        # A tenth of the ratings that are drawn at random are right by chance.
        assert abs(same / len(rows) - (1 - 0.9 * noise)) < 0.07


def _items(world: RatedSums, prompt: str, family: str):
    numbers = [int(number) for number in prompt[:-1].split(family)]
    from autodidact.worlds.language.arithmetic import RULES
    from autodidact.worlds.language.task import Item

    total = world._totals(numbers, RULES[family].true)[-1]
    yield Item(prompt, str(total), family, len(numbers), "")


def test_the_other_texts_are_those_of_the_plain_sums_and_no_test_item_is_rated():
    world = RatedSums(rated=0.5)
    assert {key for document in world.documents(300, 0) for key in document.keys}.isdisjoint(
        {item.key for item in world.items(300, 1)}
    )
    plain = {document.text for document in ModularSums().documents(300, 0)}
    assert sum(document.text in plain for document in RatedSums(rated=0.0).documents(300, 0)) > 0


def test_a_task_of_sums_is_judged_in_the_form_of_the_mix():
    world = RatedSums()
    items = world.items(5, 0, split="train")
    task = world.judging(items, 0)
    assert all(world.check(item, one.output) for item, one in zip(items, task.examples, strict=True))
    assert task.judge.rated("", "1+2?", "1+2=3>3", "[1][3]>3") == "[1][3]>3|1+2?1+2=3>3:"
    with pytest.raises(ValueError, match="rated must be"):
        RatedSums(rated=1.0)
