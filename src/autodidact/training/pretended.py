"""Devices that this machine lacks: a process computes what it would among them, and what it would send is counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor

BACKEND = "pretended"
_Group: Any = dist.ProcessGroup
"""Its stubs have every call in several forms, of which torch itself makes one."""


class _Done(dist.Work):
    def wait(self, timeout: timedelta = timedelta(0)) -> bool:
        return True


class PretendedGroup(_Group):
    """A group of which this process is the only one, and hears itself in place of the others.

    What it gathers is as large as the embeddings and statistics of all, so that what is computed of them takes the time
    and the memory that it would take; the values are of no use.

    Attributes
    ----------
    sent : bytes that this process would have sent, were they passed round a ring: of a sum 2 (n - 1) / n times those of
        the tensor, of what is gathered or scattered (n - 1) / n times those of the whole.
    messages : exchanges that it would have waited for.
    """

    def __init__(self, world: int) -> None:
        super().__init__(0, world)
        self.sent = 0.0
        self.messages = 0

    def _reduce(self, tensor: Tensor, opts: Any) -> None:
        if opts is None or opts.reduceOp == dist.ReduceOp.SUM:
            tensor.mul_(self.size())

    def _sends(self, tensors: list[Tensor], times: float = 1.0) -> dist.Work:
        self.sent += times * (1 - 1 / self.size()) * sum(tensor.nbytes for tensor in tensors)
        self.messages += 1
        return _Done()

    def allreduce(self, tensors: list[Tensor], opts: Any = None) -> dist.Work:
        for tensor in tensors:
            self._reduce(tensor, opts)
        return self._sends(tensors, 2)

    def broadcast(self, tensors: list[Tensor], *_: Any, **__: Any) -> dist.Work:
        return self._sends(tensors)

    def allgather(self, outputs: list[list[Tensor]], inputs: list[Tensor], *_: Any, **__: Any) -> dist.Work:
        for row, own in zip(outputs, inputs, strict=True):
            for output in row:
                output.copy_(own)
        return self._sends([output for row in outputs for output in row])

    def _allgather_base(self, output: Tensor, own: Tensor, *_: Any, **__: Any) -> dist.Work:
        output.view(self.size(), -1).copy_(own.reshape(1, -1))
        return self._sends([output])

    def alltoall(self, outputs: list[Tensor], inputs: list[Tensor], *_: Any, **__: Any) -> dist.Work:
        for output in outputs:
            output.copy_(inputs[0])
        return self._sends(outputs)

    def reduce_scatter(self, outputs: list[Tensor], inputs: list[list[Tensor]], opts: Any = None) -> dist.Work:
        for output, row in zip(outputs, inputs, strict=True):
            self._reduce(output.copy_(row[0]), opts)
        return self._sends([tensor for row in inputs for tensor in row])

    def _reduce_scatter_base(self, output: Tensor, whole: Tensor, opts: Any = None) -> dist.Work:
        self._reduce(output.copy_(whole.view(self.size(), *output.shape)[0]), opts)
        return self._sends([whole])

    def barrier(self, *_: Any, **__: Any) -> dist.Work:
        return self._sends([])


def _group(_: dist.Store, __: int, world: int, ___: timedelta) -> PretendedGroup:
    return PretendedGroup(world)


class PretendedStrategy(SingleDeviceStrategy):
    """Lightning's for one device, which takes it for the first of many."""

    def __init__(self, world: int, *, gpu: bool) -> None:
        super().__init__(device="cuda:0" if gpu else "cpu")
        self.world_size = world


@contextmanager
def pretended(world: int) -> Iterator[PretendedGroup]:
    """Inside the block this process is the first of so many.

    Raises
    ------
    RuntimeError : it is one of several already.
    """
    if dist.is_initialized():
        raise RuntimeError("this process belongs to a group already")
    if BACKEND not in dist.Backend.backend_list:
        dist.Backend.register_backend(BACKEND, _group, devices=["cpu", "cuda"])
    dist.init_process_group(BACKEND, store=dist.HashStore(), rank=0, world_size=world)
    try:
        group = dist.group.WORLD
        assert isinstance(group, PretendedGroup)
        yield group
    finally:
        dist.destroy_process_group()
