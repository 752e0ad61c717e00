"""What the host knows and the device that renders must know, in one copy for which nobody waits.

A copy from ordinary memory makes the host wait for the device, and a view has a dozen small tensors of parameters. So
they are laid end to end in one piece of memory, page-locked where the device is a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

# Bytes to whose multiples every tensor is aligned: enough for any type, and for reading several numbers at once.
_ALIGNED = 16


@dataclass
class Twin:
    """A tensor on the CPU, and the same on the device that renders; where that is the CPU they are one."""

    here: Tensor
    there: Tensor

    def rows(self, rows: slice) -> Twin:
        """Some rows of both."""
        here = self.here[rows]
        return Twin(here, here if self.there is self.here else self.there[rows])


class Parcel:
    """Tensors for a device. What is added has its twin there once the parcel is sent."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._twins: list[Twin] = []

    def add(self, tensor: Tensor) -> Twin:
        """Put in a tensor on the CPU."""
        twin = Twin(tensor, tensor)
        self._twins.append(twin)
        return twin

    def send(self) -> None:
        """Copy all that was added to the device, without waiting for it."""
        if self.device.type == "cpu" or not self._twins:
            return
        tensors = [twin.here for twin in self._twins]
        sizes = [-(-tensor.nbytes // _ALIGNED) * _ALIGNED for tensor in tensors]
        starts = list(accumulate(sizes, initial=0))
        # torch gives page-locked memory to the next one who asks only when copies from it are done.
        packed = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        for tensor, place in zip(tensors, _places(packed, tensors, starts), strict=True):
            place.copy_(tensor)
        arrived = packed.to(self.device, non_blocking=True)
        for twin, place in zip(self._twins, _places(arrived, tensors, starts), strict=True):
            twin.there = place
        self._twins = []


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on a device; one on the CPU gets there without being waited for."""
    device = torch.device(device)
    if tensor.device.type != "cpu" or device.type == "cpu":
        return tensor.to(device)
    here = tensor.contiguous().pin_memory() if device.type == "cuda" else tensor
    return here.to(device, non_blocking=True)


def _places(packed: Tensor, tensors: Iterable[Tensor], starts: Iterable[int]) -> list[Tensor]:
    """Where each of the tensors lies in the packed bytes, in its type and shape."""
    return [
        packed[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        for tensor, start in zip(tensors, starts, strict=False)
    ]
