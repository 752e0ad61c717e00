"""Memory of results that is used again once a result is dropped.

A training loop makes batches of the same size over and over. Memory fresh from the operating system costs a page fault
for every 4 kB when it is first written, a fifth of the time of making the views in it; so the memory of a batch that
nobody holds any more is handed out again. A tensor from here is an ordinary one, alone in its memory.
"""

from __future__ import annotations

import math
import weakref
from collections import deque

import torch
from jaxtyping import Float
from torch import Tensor

# Only blocks that torch would fetch from the operating system, and not those that nobody should hold idle (bytes).
_WORTHWHILE = range(2**20, 2**28)

# Two views of a batch at work, two of the next one being made.
_idle: deque[Tensor] = deque(maxlen=4)


def empty(shape: tuple[int, ...], device: torch.device) -> Float[Tensor, "*shape"]:
    """A float32 tensor of arbitrary content; on a CPU in memory used before, if a block of that size is idle."""
    count = math.prod(shape)
    if device.type != "cpu" or 4 * count not in _WORTHWHILE:
        return torch.empty(shape, device=device)
    block = _taken(count)
    # The array lives exactly as long as the storage of the tensor made from it, views of the tensor included.
    lease = block.numpy()
    weakref.finalize(lease, _idle.append, block).atexit = False
    return torch.from_numpy(lease).view(shape)


def _taken(count: int) -> Tensor:
    for _ in range(len(_idle)):
        try:
            block = _idle.pop()
        except IndexError:  # another thread took the last
            break
        if block.numel() == count:
            return block
        _idle.appendleft(block)
    return torch.empty(count)
