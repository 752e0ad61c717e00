"""Items made ready by a thread: the same ones, the same errors, and no thread left behind."""

from __future__ import annotations

import threading
from itertools import count, islice

import pytest

from autodidact.data.ahead import ahead


def running() -> int:
    return threading.active_count()


def test_it_gives_the_same_items_and_ends_with_them():
    before = running()
    with ahead(iter(range(50)), 3) as items:
        assert list(items) == list(range(50))
    assert running() == before


def test_a_thread_ends_with_the_context_however_much_is_left():
    before = running()
    with ahead(count(), 2) as items:
        assert list(islice(items, 5)) == [0, 1, 2, 3, 4]
    assert running() == before


def test_it_makes_no_more_than_so_many_beforehand():
    made = []
    waited = threading.Event()

    def items():
        for number in range(9):
            made.append(number)
            if number == 3:
                waited.set()
            yield number

    with ahead(items(), 2) as ready:
        assert next(ready) == 0
        assert waited.wait(5)
        # One was taken, two wait, and one is in the hand of the thread.
        assert len(made) == 4


def test_what_goes_wrong_is_told_when_its_turn_comes():
    def items():
        yield 1
        raise ValueError("the third is broken")

    before = running()
    with ahead(items(), 5) as ready:
        assert next(ready) == 1
        with pytest.raises(ValueError, match="the third is broken"):
            next(ready)
    assert running() == before
