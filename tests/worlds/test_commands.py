"""The world of commands: what its oracle says, what is held out, and what a weak model seldom sees."""

from __future__ import annotations

from collections import Counter

import pytest

from autodidact.lm.instructions import Instance
from autodidact.lm.tiny import tiny_lm
from autodidact.worlds.language import Commands
from autodidact.worlds.language.commands import ALONE, LAYOUT, LISTS, WITH_INPUT


@pytest.mark.parametrize(
    ("instruction", "given", "wanted"),
    [
        ("reverse these", "c a b", "b a c"),
        ("please put these in order", "c a b", "a b c"),
        ("kindly name the commonest", "a b b", "b"),
        ("now count from b to d", "", "b c d"),
        ("list d lower to b", "", "d c b"),
        ("reverse these", "", None),
        ("reverse these", "x y", None),
        ("count from b to d", "a", None),
        ("count from d to b", "", None),
        ("please please reverse these", "a b", None),
        ("", "a", None),
    ],
)
def test_the_oracle_follows_a_command_and_knows_no_other(instruction, given, wanted) -> None:
    assert Commands().answer(instruction, given) == wanted


def test_no_text_holds_an_instruction_that_is_tested_and_every_instance_in_a_text_is_right() -> None:
    world = Commands(broken=0.0)
    tested = {item.key for item in world.items(300, 0, distinct=True)}
    for document in world.documents(400, 0):
        assert not tested & set(document.keys)
        if document.text[0] in LISTS.values():
            assert LAYOUT.read_list(document.text[1:]) == list(document.keys)
            continue
        found = LAYOUT.read("", document.text)
        assert [one.instruction for one in found if isinstance(one, Instance)] == list(document.keys)
        assert all(world.answer(one.instruction, one.input) == one.output for one in found)


def test_weak_operations_are_seldom_done_and_as_often_asked_for() -> None:
    world = Commands(weak=("reverse", "down"), rare=0.1, mixed=0.0)
    done, listed = Counter(), Counter()
    of = {way: name for name, ways in WITH_INPUT.items() for way in ways}
    for document in world.documents(2000, 0):
        counts = listed if document.text[0] in LISTS.values() else done
        for key in document.keys:
            counts.update(name for way, name in of.items() if key.endswith(way))
    assert done["reverse"] < 0.2 * done["sort"]
    assert listed["reverse"] > 0.7 * listed["sort"]


def test_tokens_cover_every_text_one_a_word_and_pairs_make_fewer() -> None:
    world = Commands()
    text = "please reverse these: c a b d> d b a c;count from b to d> b c d;"
    plain, pairs = (tiny_lm(world.tokens(pairs=some), width=8, depth=1, heads=1).tokenizer for some in (False, True))
    assert len(plain.tokenize(text)) == 24
    assert len(pairs.tokenize(text)) == 19
    for tokenizer in (plain, pairs):
        assert all(0 not in tokenizer(one.text)["input_ids"] for one in world.documents(200, 1))


def test_a_task_has_seeds_of_both_kinds_and_tests_what_no_seed_says() -> None:
    task = Commands().task(seeds=(5, 3), test=20, seed=1)
    assert [bool(one.input) for one in task.seeds] == [True] * 5 + [False] * 3
    assert len(task.test) == 20
    assert not {one.input.partition(":")[0] for one in task.test} & {one.instruction for one in task.seeds}
    assert set(WITH_INPUT) & set(ALONE) == set()


@pytest.mark.parametrize(
    ("dials", "said"),
    [
        ({"weak": ("revers",)}, "did you mean 'reverse'"),
        ({"rare": 2.0}, "rare must be from 0"),
        ({"shortest": 1}, "must go up within 2 to 8"),
        ({"held_out": 1.0}, "held_out must be in"),
    ],
)
def test_dials_out_of_range_are_refused(dials, said) -> None:
    with pytest.raises(ValueError, match=said):
        Commands(**dials)
