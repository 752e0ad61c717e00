"""A scripted model with a small context, in which each character is a token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from autodidact.lm.answering import Answer, Request
from autodidact.lm.lm import Asked, Prompt
from autodidact.lm.scripted import ScriptedLM


class Small(ScriptedLM):
    """Refuses what exceeds its context, as a model that runs here does."""

    def __init__(self, script: Any, context: int, **given: Any) -> None:
        super().__init__(script, **given)
        self.context = context

    def room(self, prompt: Asked) -> int:
        assert self.context is not None
        return self.context - len(Prompt.of(prompt).text)

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        for request in requests:
            if self.room(request.prompt) < request.sampling.max_tokens:
                raise ValueError(f"{request.prompt.text!r} does not fit")
        return super().answers(requests)
