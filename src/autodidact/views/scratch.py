"""Memory for temporaries that is kept from chunk to chunk and from batch to batch.

Fresh memory costs a page fault for every 4 kB, several times what the arithmetic on it costs; so a pipeline borrows a
`Scratch` and hands it to its steps. A Scratch is used by one thread at a time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# One that has grown beyond this many bytes is not kept.
_LARGEST_KEPT = 2**26


class Scratch:
    """Named buffers on one device, each as large as the largest asked for under its name."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self._buffers.values())

    def take(
        self, name: str, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """A contiguous tensor of `shape` with arbitrary content, valid until the same name is taken again."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size or buffer.dtype != dtype or buffer.device != device:
            # A buffer made in inference mode could never be written to outside it.
            with torch.inference_mode(False):
                buffer = self._buffers[name] = torch.empty(size, device=device, dtype=dtype)
        return buffer[:size].view(shape)

    def like(self, name: str, x: Tensor) -> Tensor:
        """A contiguous tensor of the shape, type and device of `x`."""
        return self.take(name, tuple(x.shape), x.device, x.dtype)


_idle: deque[Scratch] = deque(maxlen=64)


@contextmanager
def borrowed() -> Iterator[Scratch]:
    """A Scratch for the time of the block, one used before if one is idle."""
    try:
        scratch = _idle.pop()
    except IndexError:
        scratch = Scratch()
    yield scratch
    if scratch.size <= _LARGEST_KEPT:
        _idle.append(scratch)
