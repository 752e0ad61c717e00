"""Batches brought to a GPU while it computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from autodidact.data.batch import Batch, Ragged


@dataclass(frozen=True)
class Sent:
    """A batch on its way.

    Attributes
    ----------
    batch : on the device, with what it will hold.
    arrived : when it holds that.
    """

    batch: Batch
    arrived: torch.cuda.Event


class Courier:
    """Copies batches to a GPU beside what it computes, from page-locked memory.

    What reads batches sends them, in a thread of its own; what computes receives them.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def send(self, batch: Batch) -> Sent:
        """Have a batch copied; nobody waits."""
        with torch.cuda.stream(self.stream):
            moved = batch.pin_memory().to(self.device, non_blocking=True)
            return Sent(moved, self.stream.record_event())

    def receive(self, sent: Sent) -> Batch:
        """The batch, for what is computed from now on; the device waits for it, the host does not."""
        now = torch.cuda.current_stream(self.device)
        now.wait_event(sent.arrived)
        for tensor in tensors_of(sent.batch):
            # Its memory is that of the other stream, which may not have it back before this one is done with it.
            tensor.record_stream(now)
        return sent.batch


def tensors_of(batch: Batch) -> Iterator[Tensor]:
    """All tensors in a batch and in its streams; none of its context."""
    yield batch.ids
    for value in batch.fields.values():
        if isinstance(value, Ragged):
            yield from (value.values, value.lengths)
        elif isinstance(value, Tensor):
            yield value
    for stream in batch.streams.values():
        yield from tensors_of(stream)
