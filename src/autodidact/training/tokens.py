"""What a training costs in tokens that go through an encoder: counted at the encoders' own calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from autodidact.data.batch import Batch
from autodidact.methods.method import Loss, Progress
from autodidact.model import Encoded, Encoder


@dataclass
class TokenCount:
    """What encoders were asked for.

    Attributes
    ----------
    tokens : that came out of them: patches, columns or time steps, class and register tokens too, of every sample; of
        hierarchical transformers those of the last stage.
    tokenless : names of encoders that were asked and have no tokens.
    """

    tokens: int = 0
    tokenless: set[str] = field(default_factory=set)


@contextmanager
def counted_tokens(encoders: Iterable[Encoder]) -> Iterator[TokenCount]:
    """Count the tokens that these encoders encode inside the block, with gradient or without.

    A token that was dropped (`keep`) costs nothing, one that is masked (`masked`) costs as much as any other. Counting
    is by hooks, so it is exact for whatever a method does, teachers and several views included.
    """
    count = TokenCount()

    def hook(encoder: nn.Module, _: Any, encoded: Encoded) -> None:
        if encoded.tokens is None:
            assert isinstance(encoder, Encoder)
            count.tokenless.add(encoder.name)
            return
        prefix = 0 if encoded.prefix is None else encoded.prefix.shape[1]
        count.tokens += encoded.tokens.shape[0] * (encoded.tokens.shape[1] + prefix)

    handles = [encoder.register_forward_hook(hook) for encoder in encoders]
    try:
        yield count
    finally:
        for handle in handles:
            handle.remove()


def outer_encoders(module: nn.Module) -> list[Encoder]:
    """The encoders inside a module, each once, without those that are parts of another."""
    found: dict[int, Encoder] = {}

    def walk(part: nn.Module) -> None:
        if isinstance(part, Encoder):
            found[id(part)] = part
            return
        for child in part.children():
            walk(child)

    walk(module)
    return list(found.values())


class Rehearsal:
    """A `Step` that descends nowhere: what an update would ask of the encoders, and nothing more.

    Parameters
    ----------
    progress : where training would be.
    draw : gives the n-th further batch.
    """

    def __init__(self, progress: Progress, draw: Callable[[int], Batch]) -> None:
        self.progress = progress
        self._draw, self._drawn = draw, 0

    def descend(self, loss: Loss, only: str | None = None) -> Loss:
        return loss

    def trial(self) -> AbstractContextManager[None]:
        return nullcontext()

    def draw(self) -> Batch:
        self._drawn += 1
        return self._draw(self._drawn - 1)
