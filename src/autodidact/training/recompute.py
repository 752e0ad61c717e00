"""Activations that are computed again in the backward pass instead of being kept: less memory, more time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Recomputed:
    """Beside a module's own class: while it trains, only its input is kept, and its inside is computed again when the
    gradient comes back (Chen et al., arXiv 1604.06174).

    Results and gradients are those of the module itself. What it counts on the way, such as the running statistics of
    batch norms, is counted once.
    """

    def forward(self, *inputs: Any, **options: Any) -> Any:
        own = super().forward  # type: ignore[misc]
        assert isinstance(self, nn.Module)
        if not (self.training and torch.is_grad_enabled()):
            return own(*inputs, **options)
        module = self

        def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
            return nullcontext(), _without_counting(module)

        return checkpoint(own, *inputs, use_reentrant=False, context_fn=contexts, **options)


def recompute(network: nn.Module) -> list[nn.Module]:
    """Let a network's repeated parts keep only their inputs while it trains.

    The parts are those that stand beside others of their class: blocks of a transformer, stages of a convolutional
    network. They get a class of their own, so copies of the network are as it is.

    Returns
    -------
    list
        The parts.

    Raises
    ------
    ValueError : there are no such parts.
    """
    parts = list(repeated(network))
    if not parts:
        raise ValueError(f"{type(network).__name__} has no repeated parts whose activations could be computed again")
    for part in parts:
        cls = type(part)
        if not issubclass(cls, Recomputed):
            part.__class__ = type(cls.__name__, (Recomputed, cls), {})
    return parts


def restore(parts: list[nn.Module]) -> None:
    """Give the parts their own classes back."""
    for part in parts:
        if isinstance(part, Recomputed):
            part.__class__ = type(part).__bases__[1]


def repeated(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost parts of a network that stand beside others of their class: its blocks, or its stages."""
    children = [child for child in module.children() if next(child.parameters(), None) is not None]
    classes = [type(child) for child in children]
    for child in children:
        if classes.count(type(child)) > 1 and not isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield child
        else:
            yield from repeated(child)


@contextmanager
def _without_counting(module: nn.Module) -> Iterator[None]:
    """The buffers inside stay as they are: what is written goes to copies. Their own memory is not touched, since
    autograd would take that for a change of what it has kept."""
    kept = [(part, dict(part._buffers)) for part in module.modules() if part._buffers]
    for part, buffers in kept:
        part._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
    try:
        yield
    finally:
        for part, buffers in kept:
            part._buffers.update(buffers)
