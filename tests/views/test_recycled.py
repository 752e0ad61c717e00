"""Result memory: alone in its block while anyone holds it, handed out again after."""

from __future__ import annotations

import gc

import torch

from autodidact.views import recycled

SHAPE = (2, 3, 300, 300)
CPU = torch.device("cpu")


def test_a_dropped_result_leaves_its_memory_to_the_next() -> None:
    first = recycled.empty(SHAPE, CPU)
    where = first.data_ptr()
    del first
    gc.collect()
    assert recycled.empty(SHAPE, CPU).data_ptr() == where


def test_memory_that_a_view_still_needs_is_not_handed_out() -> None:
    first = recycled.empty(SHAPE, CPU).fill_(7)
    corner, where = first[1, 2, 100:, 100:], first.data_ptr()
    del first
    gc.collect()
    others = [recycled.empty(SHAPE, CPU).fill_(0) for _ in range(6)]
    assert where not in {other.data_ptr() for other in others}
    assert bool((corner == 7).all())


def test_memory_saved_for_backward_is_not_handed_out() -> None:
    weight = torch.ones(300, requires_grad=True)
    loss = (recycled.empty(SHAPE, CPU).fill_(3) * weight).sum()
    gc.collect()
    recycled.empty(SHAPE, CPU).fill_(0)
    loss.backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, torch.full((300,), 3.0 * 2 * 3 * 300))


def test_little_is_kept_idle() -> None:
    held = [recycled.empty(SHAPE, CPU) for _ in range(20)]
    del held
    gc.collect()
    assert len(recycled._idle) <= 4


def test_small_and_other_shapes_get_what_they_ask_for() -> None:
    assert recycled.empty((3, 5), CPU).shape == (3, 5)
    for side in (300, 310, 300):
        tensor = recycled.empty((2, 3, side, side), CPU)
        assert tensor.shape == (2, 3, side, side)
        assert tensor.is_contiguous()
        assert tensor.dtype == torch.float32
