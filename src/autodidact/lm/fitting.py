"""Requests that leave a model room for what it is to write: of what could be shown, as much as fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from autodidact.lm.lm import LM

Part = TypeVar("Part")
LONG = "longer than the context"
"""The reason for which a text is left out."""
SHOWN = 60
"""Characters of such a text by which it is named."""


class NoRoom(ValueError):
    """A request leaves no room for what is to follow it, however little is shown."""


def lacking(lm: LM | None, prompt: str, tokens: int) -> int:
    """Tokens by which a prompt, and so many after it, exceed the context of a model.

    Parameters
    ----------
    lm : that is asked; None for one of which nothing is known.
    tokens : that are to follow, from 0.

    Returns
    -------
    int
        0 where they fit, and where the context is not known here, as behind an address.
    """
    room = None if lm is None else lm.room(prompt)
    return 0 if room is None else max(0, tokens - room)


def named(texts: Sequence[str]) -> str:
    """Texts that are too long, each by how it begins."""
    return ", ".join(repr(text[:SHOWN]) for text in texts)


def fitting(
    lm: LM | None,
    parts: Sequence[Part],
    written: Callable[[Sequence[Part]], str],
    *,
    tokens: int,
    longest: float = math.inf,
    least: int = 1,
    cure: str = "show less",
) -> str:
    """What is written of the parts, of as many from the front on as leave room.

    Parameters
    ----------
    lm : that is asked; None for one of which nothing is known.
    written : parts -> the request that shows them.
    tokens : that are to follow the request.
    longest : characters of a request. One that shows no more than `least` parts may be longer.
    least : parts that are always shown, where there are so many.
    cure : what helps where not even these fit, for the error.

    Raises
    ------
    NoRoom : with `least` parts the request and what follows it are longer than the model's context.
    """
    left = list(parts)
    while True:
        text = written(left)
        lack = lacking(lm, text, tokens)
        if not lack and (len(text) <= longest or len(left) <= least):
            return text
        if len(left) <= least:
            assert lm is not None
            raise NoRoom(
                f"the shortest request and {tokens} tokens after it are {lack} tokens more than {lm.name} has a "
                f"context for: {cure}"
            )
        left.pop()
