"""One process in place of many: what it hears, what it would send, and what it computes, against counts by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch import Tensor

from autodidact.catalog import cards, target
from autodidact.data import Source, open_source
from autodidact.encoders import build
from autodidact.methods.method import Method
from autodidact.objectives import nt_xent
from autodidact.training import Settings
from autodidact.training.cost import foresee
from autodidact.training.pretended import PretendedGroup, pretended

pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated.*:FutureWarning")
WORLD = 4


@pytest.mark.parametrize(
    ("exchange", "heard", "sent"),
    [
        (lambda x: dist.all_reduce(x), [4.0, 8.0, 12.0], 2 * 3 / 4 * 12),
        (lambda x: dist.all_reduce(x, dist.ReduceOp.MAX), [1.0, 2.0, 3.0], 2 * 3 / 4 * 12),
        (lambda x: dist.broadcast(x, 0), [1.0, 2.0, 3.0], 3 / 4 * 12),
        (lambda x: dist_nn.all_gather(x)[3], [1.0, 2.0, 3.0], 3 / 4 * 48),
        (lambda x: into(x.new_empty(12), x)[9:], [1.0, 2.0, 3.0], 3 / 4 * 48),
        (lambda x: parts(x.new_empty(3), x.repeat(4)), [4.0, 8.0, 12.0], 3 / 4 * 48),
        (lambda _: dist.barrier(), [1.0, 2.0, 3.0], 0.0),
    ],
)
def test_a_process_hears_itself_in_place_of_the_others(
    exchange: Callable[[Tensor], Tensor | None], heard: list[float], sent: float
) -> None:
    with pretended(WORLD) as group:
        assert (dist.get_world_size(), dist.get_rank()) == (WORLD, 0)
        x = torch.tensor([1.0, 2.0, 3.0])
        answer = exchange(x)
        assert (x if answer is None else answer).tolist() == heard
        assert (group.sent, group.messages) == (sent, 1)
    assert not dist.is_initialized()


def into(output: Tensor, own: Tensor) -> Tensor:
    dist.all_gather_into_tensor(output, own)
    return output


def parts(output: Tensor, whole: Tensor) -> Tensor:
    dist.reduce_scatter_tensor(output, whole)
    return output


def test_gradients_come_back_as_from_as_many_that_are_alike() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    with pretended(WORLD) as group:
        (torch.cat(dist_nn.all_gather(x)) * 3).sum().backward()
        assert group.messages == 2
    assert x.grad is not None
    assert x.grad.tolist() == [4 * 3.0, 4 * 3.0]


def test_a_loss_is_computed_of_the_embeddings_of_all() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 6, 5, dtype=torch.float64)
    with pretended(WORLD):
        among = nt_xent(first, second, temperature=0.5)
    # Each process holds the same rows, so the batch is four copies of them.
    whole = nt_xent(first.repeat(WORLD, 1), second.repeat(WORLD, 1), temperature=0.5)
    assert float(among) == pytest.approx(float(whole), rel=1e-12)


def test_a_process_that_has_met_others_pretends_nothing() -> None:
    with pretended(2), pytest.raises(RuntimeError, match="belongs to a group already"), pretended(4):
        pass
    assert not dist.is_initialized()


def test_an_error_inside_leaves_no_group_behind() -> None:
    with pytest.raises(ValueError, match="inside"), pretended(2):
        raise ValueError("inside")
    assert not dist.is_initialized()


def images(count: int = 256) -> Source:
    return open_source("digits", progress=False).at(np.arange(count))


def method(name: str, **given: Any) -> Method:
    torch.manual_seed(0)
    network = build("small:vit", width=16, depth=2, heads=2, patch=2, image_size=8, channels=1)
    return target(cards()[name])(network, **given)


def test_embeddings_that_a_plan_sends_are_counted_by_hand() -> None:
    settings = Settings(steps=1, batch_size=8 * 32, devices=8, accelerator="cpu")
    found = foresee(method("simclr", dimensions=24), images(), settings)
    assert found.sizes == (16, 32)
    for size, sent in zip(found.sizes, found.sent, strict=True):
        # Two views of all go out, and their gradients come back.
        assert sent == pytest.approx(7 / 8 * 2 * (2 * 8 * size * 24 * 4), rel=0.05)


@pytest.mark.parametrize("name", ["simclr", "barlow_twins", "vicreg", "swav", "dino", "byol", "mae", "moco"])
def test_methods_of_every_kind_are_planned_for_devices_that_are_not_here(name: str) -> None:
    alone = foresee(method(name), images(), Settings(steps=1, batch_size=16, accelerator="cpu"))
    assert (alone.exchanged, alone.exchange(), alone.messages) == (0.0, 0.0, 0)
    found = foresee(method(name), images(), Settings(steps=1, batch_size=8 * 16, devices=4, nodes=2, accelerator="cpu"))
    assert (found.devices, found.share, found.gradients) == (8, 16, alone.gradients)
    assert found.messages > 0
    assert found.exchanged >= 2 * 7 / 8 * found.gradients
    assert isinstance(found.sent[0], float)
    assert not dist.is_initialized()


def test_what_all_devices_gather_is_in_the_memory_of_a_plan() -> None:
    few, many = (
        foresee(method("simclr"), images(1024), Settings(steps=1, batch_size=16 * n, devices=n, accelerator="cpu"))
        for n in (1, 64)
    )
    # The gathered rows of both views, 128 numbers each, and as much for their gradients.
    assert many.memory_of(16) - few.memory_of(16) > 2 * 64 * 16 * 128 * 4


def test_the_group_is_what_it_is_taken_for() -> None:
    with pretended(3) as group:
        assert isinstance(group, PretendedGroup)
        assert group.size() == 3
