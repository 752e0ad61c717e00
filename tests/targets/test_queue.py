"""First in, first out, with ids."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autodidact.targets import Queue


@given(size=st.integers(1, 12), pushes=st.lists(st.integers(0, 20), max_size=8))
def test_the_queue_holds_exactly_the_latest_rows(size: int, pushes: list[int]) -> None:
    queue, history = Queue(size, 2), torch.zeros(0, 2)
    for count in pushes:
        rows = torch.arange(len(history), len(history) + count)[:, None] + torch.tensor([0.0, 0.5])
        queue.push(rows, rows[:, 0].long())
        history = torch.cat([history, rows])
    latest = history[-size:]
    order = queue.ids.argsort()
    assert len(queue) == len(latest)
    assert torch.equal(queue.embeddings[order], latest)
    assert torch.equal(queue.ids[order], latest[:, 0].long())


def test_nothing_is_held_before_the_first_push() -> None:
    queue = Queue(8, 3)
    assert len(queue) == 0
    assert queue.embeddings.shape == (0, 3)


def test_rows_are_stored_without_gradient_and_without_an_id_if_none_is_given() -> None:
    queue = Queue(4, 2)
    queue.push(torch.randn(3, 2, requires_grad=True).to(torch.bfloat16))
    assert not queue.embeddings.requires_grad
    assert queue.embeddings.dtype == torch.float32
    assert queue.ids.tolist() == [-1, -1, -1]


def test_a_restored_queue_goes_on_exactly() -> None:
    queue = Queue(5, 2)
    queue.push(torch.randn(7, 2), torch.arange(7))
    restored = Queue(5, 2)
    restored.load_state_dict(queue.state_dict())
    more = torch.randn(2, 2)
    for one in (queue, restored):
        one.push(more, torch.tensor([7, 8]))
    assert torch.equal(queue.embeddings, restored.embeddings)
    assert torch.equal(queue.ids, restored.ids)


@pytest.mark.usefixtures("wrong_types")
def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="size=0 and dim=3"):
        Queue(0, 3)
    with pytest.raises(ValueError, match=r"rows of width 3, got \(2, 4\)"):
        Queue(5, 3).push(torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"one id per row: got \(3,\) ids for 2 rows"):
        Queue(5, 3).push(torch.ones(2, 3), torch.arange(3))
