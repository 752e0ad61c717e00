"""Values brought from a device to the host while the device computes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Returning:
    """A tensor on its way to the host.

    To read a tensor of an accelerator is to wait until it is computed, and the accelerator has nothing to do meanwhile.
    So the host asks for the copy, asks for more to be computed, and reads what has arrived.

    Attributes
    ----------
    values : on the host with what they will hold, or still on the device.
    arrived : when they hold it; None where to read them is to wait for them.
    """

    values: Tensor
    arrived: torch.cuda.Event | None = None

    @classmethod
    def of(cls, values: Tensor) -> Self:
        """Have a tensor copied; nobody waits."""
        if values.device.type != "cuda":
            return cls(values)
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(values.device))
        return cls(host, arrived)

    def here(self) -> Tensor:
        """The tensor on the host; waits until it is there."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return self.values.cpu()


def lagging(asked: Iterable[T], by: int = 1) -> Iterator[T]:
    """The same in the same order, each after so many more were asked for."""
    waiting: deque[T] = deque()
    for each in asked:
        waiting.append(each)
        if len(waiting) > by:
            yield waiting.popleft()
    yield from waiting
