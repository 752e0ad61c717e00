"""Whether losses are finite, found out without waiting for an accelerator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch

from autodidact.data.returning import Returning
from autodidact.methods.method import Loss
from autodidact.objectives.shards import world_size


class NonFinite(RuntimeError):
    """A loss was NaN or infinite; the message names the term."""


def require_finite(loss: Loss) -> None:
    """Raise `NonFinite` naming the terms that are NaN or infinite."""
    if bool(torch.isfinite(loss.total.detach()).all()):
        return
    bad = [name for name, term in loss.terms.items() if not bool(torch.isfinite(term.detach()).all())]
    raise _error(float(loss.total.detach()), bad)


def _error(total: float, bad: list[str]) -> NonFinite:
    which = f"term{'s' if len(bad) > 1 else ''} {', '.join(bad)}" if bad else "total"
    return NonFinite(f"the loss is {total} ({which}); lower the learning rate or look at the data")


class Lookout:
    """Stops a training at a loss that is NaN or infinite.

    On a CPU a loss is looked at before anything is made of it. To look at one on an accelerator the host would have to
    wait until it is computed, and the accelerator then for the host. So its values are copied to the host on the way,
    and read when the next loss is shown, or when `settle` is asked for: before anything is kept of what the loss has
    led to. By then the copy was made long ago.
    """

    def __init__(self) -> None:
        self._shown: _Shown | None = None

    def show(self, loss: Loss) -> None:
        """Look at a loss that is to be descended; NonFinite for it, or for the one before."""
        if not behind(loss.total.device):
            require_finite(loss)
            return
        self.settle()
        self._shown = _Shown.of(loss)

    def settle(self) -> None:
        """Raise NonFinite where a loss that was shown was not finite."""
        shown, self._shown = self._shown, None
        if shown is not None:
            shown.require_finite()


def behind(device: torch.device) -> bool:
    """Whether a device may still have to compute what the host has asked for."""
    return device.type != "cpu"


@dataclass
class _Shown:
    """The values of a loss on their way to the host.

    Attributes
    ----------
    names : of the terms.
    values : the total of all processes, this process's total, and of each term the value, or of several the largest.
    """

    names: list[str]
    values: Returning

    @classmethod
    def of(cls, loss: Loss) -> Self:
        total = loss.total.detach()
        terms = [term.detach().to(total.device, non_blocking=True) for term in loss.terms.values()]
        values = torch.stack([total, total, *(term.abs().amax() if term.ndim else term for term in terms)])
        if world_size() > 1:
            # Where one process stops, all do, and the first saves nothing of what another one has spoilt.
            torch.distributed.all_reduce(values[:1])
        return cls(list(loss.terms), Returning.of(values))

    def require_finite(self) -> None:
        """Raise `NonFinite` naming the terms that are NaN or infinite."""
        everywhere, total, *terms = self.values.here().tolist()
        if math.isfinite(everywhere):
            return
        if math.isfinite(total):
            raise NonFinite("the loss of another process is not finite; lower the learning rate or look at the data")
        raise _error(total, [name for name, value in zip(self.names, terms, strict=True) if not math.isfinite(value)])
