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


@given(size=st.integers(1, 12), pushes=st.lists(st.lists(st.integers(0, 15), max_size=9), max_size=6))
def test_a_queue_of_distinct_samples_holds_the_newest_row_of_each(size: int, pushes: list[list[int]]) -> None:
    queue, held, count = Queue(size, 1, distinct=True), {}, 0
    for ids in pushes:
        rows = torch.arange(count, count + len(ids))[:, None].float()
        queue.push(rows, torch.tensor(ids, dtype=torch.long), torch.tensor(ids, dtype=torch.long) % 3)
        count += len(ids)
        latest = dict(zip(ids, rows[:, 0].tolist(), strict=True))
        # One that is held keeps its place; the oldest of the others make room for the new ones, in their order.
        last = sorted(latest, key=lambda sample: latest[sample])
        held |= {sample: latest[sample] for sample in last if sample in held}
        held |= {sample: latest[sample] for sample in last if sample not in held}
        held = dict(list(held.items())[-size:])
    assert dict(zip(queue.ids.tolist(), queue.embeddings[:, 0].tolist(), strict=True)) == held
    assert torch.equal(queue.labels, queue.ids % 3)


def test_labels_are_kept_beside_the_rows_and_are_unknown_if_not_given() -> None:
    queue = Queue(4, 2)
    queue.push(torch.zeros(2, 2), torch.tensor([5, 6]), torch.tensor([1, -1]))
    queue.push(torch.zeros(1, 2))
    assert queue.labels.tolist() == [1, -1, -1]


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
    with pytest.raises(ValueError, match=r"one label per row: got \(1,\) labels for 2 rows"):
        Queue(5, 3).push(torch.ones(2, 3), torch.arange(2), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match="needs the ids"):
        Queue(5, 3, distinct=True).push(torch.ones(2, 3))
