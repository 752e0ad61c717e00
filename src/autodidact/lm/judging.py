"""How answers are put before a judge, and what a judge's digits come to: the expected rating."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64

from autodidact.lm.lm import LM

DIGITS = tuple("0123456789")
"""Ratings, from the worst to the best."""


@dataclass(frozen=True)
class JudgeForm:
    """How a judge is asked about answers.

    Attributes
    ----------
    rating : asks for a rating from 0 to 9, with ``{input}`` and ``{answer}``; the model writes the digit that follows.
        It can have the task's ``{instruction}``. It ends in a line break because all tokenizers have a digit after
        one as a token of its own.
    referenced : the same with the wanted answer, ``{reference}``.
    comparison : asks which of two answers, ``{first}`` and ``{second}``, to ``{input}`` is the better one under one
        ``{principle}``; the model writes one of `choices`.
    choices : the first answer, and the second.
    reward : what a reward model reads, with ``{answer}``, ``{input}`` and ``{principles}``, the answer first.
    principle : one of these, with ``{principle}``.
    """

    rating: str = (
        "{instruction}\n\nInput: {input}\nAnswer: {answer}\n\n"
        "How good is this answer, from 0 (useless) to 9 (as good as can be)? One digit:\n"
    )
    referenced: str = (
        "{instruction}\n\nInput: {input}\nA good answer: {reference}\nAnswer: {answer}\n\n"
        "How good is this answer, from 0 (useless) to 9 (as good as can be)? One digit:\n"
    )
    comparison: str = (
        "{instruction}\n\nInput: {input}\nAnswer (a): {first}\nAnswer (b): {second}\n\n"
        "Only one thing counts: {principle}\nWhich answer is better in this, a or b? One letter:\n"
    )
    choices: tuple[str, ...] = ("a", "b")
    reward: str = (
        "Answer: {answer}\n\nIt was given to this: {instruction}\nInput: {input}\n\n"
        "What counts:\n{principles}\nHow good is the answer in this:"
    )
    principle: str = "- {principle}\n"

    _PLACES: ClassVar[dict[str, set[str]]] = {
        "rating": {"input", "answer"},
        "referenced": {"input", "answer", "reference"},
        "comparison": {"input", "principle", "first", "second"},
        "reward": {"answer", "input", "principles"},
        "principle": {"principle"},
    }

    def __post_init__(self) -> None:
        for name, needed in self._PLACES.items():
            free = set() if name == "principle" else {"instruction"}
            check_places(f"judge.{name}", getattr(self, name), needed, free)
        if len(self.choices) != 2 or len(set(self.choices)) < 2 or "" in self.choices:
            raise ValueError(f"judge.choices are two different texts, got {list(self.choices)}")

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> JudgeForm:
        """From entries as a task file or settings have them."""
        return cls(**{**plain, **({"choices": tuple(plain["choices"])} if "choices" in plain else {})})

    def rated(self, instruction: str, question: str, answer: str, reference: str | None = None) -> str:
        """The prompt that asks for the rating of an answer, with the wanted one where there is one."""
        if reference is None:
            return self.rating.format(instruction=instruction, input=question, answer=answer)
        return self.referenced.format(instruction=instruction, input=question, answer=answer, reference=reference)


def check_places(name: str, template: str, needed: set[str], free: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Raise ValueError for a text that is no template, or does not name what it must.

    Parameters
    ----------
    name : of the template, for the message.
    needed, free : what it must name, and what it may name beside it.
    """
    try:
        used = {place for _, place, _, _ in string.Formatter().parse(template) if place is not None}
    except ValueError as broken:
        raise ValueError(f"{name} is no template ({broken}); a brace is written twice") from broken
    if not needed <= used <= needed | free:
        wanted = " and ".join(f"{{{place}}}" for place in sorted(needed)) or "no place"
        also = "".join(f", it may name {{{place}}}" for place in sorted(free))
        raise ValueError(f"{name} must name {wanted} and nothing else{also}; got {template!r}")


def expected_ratings(lm: LM, prompts: Sequence[str]) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    r"""Expected digit that a model writes next, in [0, 9], and how likely it is to write a digit at all.

    :math:`q = \sum_k k p_k / \sum_k p_k` (Self-J, 2409.00935). What an address does not tell among the likeliest
    tokens counts as 0. Where no digit is likely at all, q is NaN.
    """
    if not prompts:
        return np.empty(0), np.empty(0)
    shares = lm.choose(prompts, DIGITS, divided=False)
    mass = shares.sum(axis=1)
    # Below the least normal number a quotient says nothing.
    known = mass > np.finfo(np.float64).tiny
    ratings = np.full(len(mass), np.nan)
    ratings[known] = shares[known] @ np.arange(10) / mass[known]
    return ratings, mass
