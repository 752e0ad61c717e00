"""What losses over the batch of all processes hold in memory, by the number of processes.

The processes are played by one: each collective gives it what it sent itself. So sizes are those of a real training,
and numbers are not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.training.forked import together
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from autodidact.objectives import barlow_twins, dcl, info_nce
from autodidact.objectives.shards import gathered, shard_sizes

WORLDS = (1, 2, 4)
ROWS, WIDTH, BLOCK = 256, 32, 64


class Held(TorchDispatchMode):
    """Counts the bytes of all tensors that were made inside the block and are alive, whoever keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        given = {tensor.untyped_storage()._cdata for tensor in tree_iter((args, kwargs)) if isinstance(tensor, Tensor)}
        for tensor in tree_iter(found):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage())._cdata not in given:
                self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.alive = {key: (kept, size) for key, (kept, size) in self.alive.items() if not kept.expired()}
        self.most = max(self.most, sum(size for _, size in self.alive.values()))
        return found


def all_pairs(z1: Tensor, z2: Tensor) -> Tensor:
    """A loss that holds every pair of the batch of all processes."""
    z = torch.cat(gathered(torch.cat([z1, z2]), shard_sizes(2 * len(z1), z1.device)))
    return (z @ z.T).exp().sum(dim=1).log().mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "info_nce": partial(info_nce, block=BLOCK),
    "dcl": dcl,
    "barlow_twins": barlow_twins,
    "all pairs": all_pairs,
}


def most_held(name: str, worlds: tuple[int, ...]) -> list[int]:
    """Bytes at the peak of one forward and backward pass, in a process of so many that have `ROWS` pairs each."""
    found = []
    for world in worlds:
        dist.init_process_group("fake", rank=0, world_size=world, store=FakeStore())
        z1, z2 = (torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
        with Held() as held:
            LOSSES[name](z1.requires_grad_(), z2.requires_grad_()).backward()
        found.append(held.most)
        dist.destroy_process_group()
    return found


@pytest.mark.parametrize("name", ["info_nce", "dcl"])
def test_a_contrastive_loss_holds_as_much_more_for_each_further_process(name: str) -> None:
    (one, two, four) = together(1, most_held, name, WORLDS)[0]
    embeddings = 2 * ROWS * WIDTH * 4
    assert four - two == pytest.approx(2 * (two - one), rel=0.1)
    # Far from the rows by columns that all pairs of a process would take.
    assert two - one < 8 * embeddings < 2 * ROWS * 2 * ROWS * 4


def test_of_a_loss_that_holds_all_pairs_it_is_seen_that_memory_grows_with_the_square() -> None:
    (_, two, four) = together(1, most_held, "all pairs", WORLDS)[0]
    assert four > 3.5 * two


def test_barlow_twins_holds_as_much_whatever_the_number_of_processes() -> None:
    (_, two, four) = together(1, most_held, "barlow_twins", WORLDS)[0]
    assert four == pytest.approx(two, abs=100)
