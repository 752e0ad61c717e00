"""One collated draw: ids, named fields, and the context behind every batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass
class Ragged:
    """Sequences of unequal length, laid end to end.

    Attributes
    ----------
    values : (total, ...) all elements.
    lengths : (n,) length of each sequence; they sum to ``total``.
    """

    values: Tensor
    lengths: Int[Tensor, " n"]

    @classmethod
    def of(cls, sequences: Sequence[Tensor]) -> Self:
        """Pack a list of (length, ...) tensors."""
        lengths = torch.tensor([len(s) for s in sequences], dtype=torch.long)
        return cls(torch.cat(list(sequences)) if sequences else torch.empty(0), lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.values.split(self.lengths.tolist()))

    @cached_property
    def starts(self) -> Int[Tensor, " n"]:
        """(n,) where each sequence begins in `values`."""
        return self.lengths.cumsum(0) - self.lengths

    def select(self, index: Tensor) -> Ragged:
        """The sequences at positions `index`."""
        lengths = self.lengths[index]
        shift = self.starts[index] - (lengths.cumsum(0) - lengths)
        return Ragged(
            self.values[
                torch.repeat_interleave(shift, lengths) + torch.arange(int(lengths.sum()), device=shift.device)
            ],
            lengths,
        )

    def padded(self, value: float = 0) -> tuple[Tensor, Bool[Tensor, "n longest"]]:
        """Dense (n, longest, ...) tensor and the mask of its real elements."""
        dense = torch.nn.utils.rnn.pad_sequence(list(self), batch_first=True, padding_value=value)
        mask = torch.arange(dense.shape[1], device=dense.device) < self.lengths.to(dense.device)[:, None]
        return dense, mask

    def pin_memory(self) -> Ragged:
        return Ragged(self.values.pin_memory(), self.lengths.pin_memory())

    def to(self, *args: Any, **kwargs: Any) -> Ragged:
        return Ragged(self.values.to(*args, **kwargs), self.lengths.to(*args, **kwargs))


Value = Tensor | Ragged | list[str] | list[list[str]]


def _map(value: Value, of_tensor: Callable[[Any], Any]) -> Value:
    return value if isinstance(value, list) else of_tensor(value)


@dataclass
class Batch:
    """Samples of one step.

    Attributes
    ----------
    ids : (n,) stable sample ids; for a batch of several streams, those of all streams in order.
    fields : name -> value whose first axis is the batch.
    context : name -> value that is the same behind every batch (a graph, a catalogue), already on the device.
    streams : name -> batch, for a source made by `together`; empty otherwise.
    """

    ids: Int[Tensor, " n"]
    fields: dict[str, Value] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    streams: dict[str, Batch] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        """A field, or a stream, by name."""
        if name in self.fields:
            return self.fields[name]
        if name in self.streams:
            return self.streams[name]
        raise KeyError(f"batch has no '{name}'; it has {', '.join([*self.fields, *self.streams]) or 'nothing'}")

    def get(self, name: str) -> Any:
        """A field or stream by name, None where the batch lacks it."""
        return self.fields.get(name, self.streams.get(name))

    def __contains__(self, name: str) -> bool:
        return name in self.fields or name in self.streams

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The batch on a device; the context is moved by whoever built the batch, once."""
        move = lambda t: t.to(device, non_blocking=non_blocking)  # noqa: E731
        return Batch(
            move(self.ids),
            {name: _map(value, move) for name, value in self.fields.items()},
            self.context,
            {name: stream.to(device, non_blocking) for name, stream in self.streams.items()},
        )

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, from which a GPU copies without waiting; what a DataLoader asks for."""
        pin = lambda t: t.pin_memory()  # noqa: E731
        return Batch(
            pin(self.ids),
            {name: _map(value, pin) for name, value in self.fields.items()},
            self.context,
            {name: stream.pin_memory() for name, stream in self.streams.items()},
        )

    def select(self, index: Int[Tensor, " m"]) -> Batch:
        """The samples at positions `index`."""

        def pick(value: Value) -> Value:
            if isinstance(value, Ragged):
                return value.select(index)
            return [value[i] for i in index.tolist()] if isinstance(value, list) else value[index]

        if self.streams:
            raise TypeError("a batch of several streams has no common positions; select from one of its .streams")
        return Batch(self.ids[index], {name: pick(v) for name, v in self.fields.items()}, self.context)
