"""Methods of language models that ask questions of a task themselves, instead of being given its answers."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from autodidact.methods.method import Method


class OnTask(Method):
    """A method that is made of a language model and the task that it is to become better at.

    Its constructor takes both by position and keyword arguments after them; only these are options of the command line.
    It is trained on the fields "input" and "prompt" of `questions`.
    """

    needs: ClassVar = {"input": "text", "prompt": "text"}
    slots = ("lm",)

    dropped: Counter[str]
    """Answers that were left out since this process began, by reason."""

    @property
    @abstractmethod
    def questions(self) -> Sequence[str]:
        """The task's inputs that it is trained on, each once."""

    @abstractmethod
    def answers(self, most: int = 200) -> list[tuple[str, str]]:
        """Prompts of some questions with the likeliest answers, for people to read."""
