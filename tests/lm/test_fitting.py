"""Requests that leave room: as much is shown as fits, and what never fits is an error that says what helps."""

from __future__ import annotations

import pytest

from autodidact.lm.fitting import NoRoom, fitting, lacking
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.tiny import tiny_lm

PARTS = ["aaa", "bb", "cccc", "d"]


@pytest.fixture(scope="module")
def lm():
    return tiny_lm("abcd;", width=16, depth=1, context=16)


def test_what_lacks_is_counted_in_tokens_and_nothing_lacks_where_the_context_is_not_known(lm):
    assert [lacking(lm, "a" * 10, tokens) for tokens in (5, 6, 7, 9)] == [0, 0, 1, 3]
    assert lacking(lm, "a" * 20, 1) == 5
    assert lacking(ScriptedLM({}), "a" * 20, 1) == lacking(None, "a" * 20, 1) == 0


def test_parts_are_shown_from_the_front_as_many_as_leave_room_for_so_many_tokens(lm):
    found = {tokens: fitting(lm, PARTS, "".join, tokens=tokens) for tokens in range(14)}
    for tokens, text in found.items():
        # A token a character, of 16.
        fits = [k for k in (1, 2, 3, 4) if len("".join(PARTS[:k])) + tokens <= 16]
        assert text == "".join(PARTS[: max(fits)])
    assert {len(text) for text in found.values()} == {3, 5, 9, 10}


def test_a_request_is_no_longer_than_so_many_characters_but_where_the_least_is_shown():
    assert [fitting(None, PARTS, "".join, tokens=1, longest=k) for k in (10, 9, 8, 3, 2)] == [
        "aaabbccccd",
        "aaabbcccc",
        "aaabb",
        "aaa",
        "aaa",
    ]
    assert fitting(None, PARTS, "".join, tokens=1, longest=2, least=0) == ""


def test_where_not_even_the_least_leaves_room_it_is_said_what_helps(lm):
    with pytest.raises(
        NoRoom, match=r"and 14 tokens after it are 1 tokens more than tiny@.* has a context for: sit up"
    ):
        fitting(lm, PARTS, "".join, tokens=14, cure="sit up")
