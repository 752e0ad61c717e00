"""Short texts with a reward of several equal modes, few enough that the distribution to be learned can be summed up."""

from __future__ import annotations

import itertools
import random

import torch
from jaxtyping import Float64
from torch import Tensor

from autodidact.lm.task import Style, Task

LETTERS = "abcdefghij"
START = ">"
"""What every text is written after."""


class PlantedModes:
    """Texts of one length, of which a few are worth 1, those near them less, and nearly all others nothing.

    A text that differs from the nearest mode in d places is worth 1 - d / (reach + 1), and nothing beyond. Beside that
    some texts that lie near no mode are worth half as much as a mode, alone and without a hill to be climbed: the
    nuisance. A text of another length is worth nothing.

    Parameters
    ----------
    letters : different letters, from 2 to 10.
    length : of the texts, from 1.
    modes : texts that are worth 1, from 1; any two differ in more than `reach` places.
    reach : places in which a text may differ from a mode and still be worth something, 0 or more.
    decoys : texts that are worth a half by themselves, 0 or more.
    seed : of where they lie.

    Attributes
    ----------
    texts : all texts of the length, in order.
    worth : of each of them, in [0, 1].
    modes : those that are worth 1.

    Raises
    ------
    ValueError : a number out of its range, or more modes and decoys than there is room for.
    """

    def __init__(
        self, *, letters: int = 4, length: int = 6, modes: int = 8, reach: int = 2, decoys: int = 8, seed: int = 0
    ) -> None:
        if not 2 <= letters <= len(LETTERS) or min(length, modes) < 1 or min(reach, decoys) < 0:
            raise ValueError(
                f"planted modes have 2 to {len(LETTERS)} letters, length and modes of 1 or more and reach and decoys "
                f"of 0 or more; got {letters}, {length}, {modes}, {reach} and {decoys}"
            )
        self.alphabet, self.length = LETTERS[:letters], length
        self.texts = ["".join(row) for row in itertools.product(self.alphabet, repeat=length)]
        order = random.Random(seed).sample(self.texts, len(self.texts))
        self.modes = tuple(_apart(order, modes, reach))
        near = {text: min(_distance(text, mode) for mode in self.modes) for text in order}
        far = [text for text in order if near[text] > reach]
        if len(self.modes) < modes or len(far) < decoys:
            raise ValueError(f"{modes} modes and {decoys} decoys do not fit among {len(order)} texts at reach {reach}")
        chosen = set(far[:decoys])
        self._worth = {
            text: 0.5 if text in chosen else max(0.0, 1 - distance / (reach + 1)) for text, distance in near.items()
        }

    @property
    def worth(self) -> Float64[Tensor, " n"]:
        return torch.tensor([self._worth[text] for text in self.texts], dtype=torch.float64)

    def reward(self, given: str, answer: str, wanted: str | None) -> float:
        """What an answer is worth, whatever was asked; as `rewards.programs.Programmed` takes it."""
        return self._worth.get(answer, 0.0)

    def task(self) -> Task:
        """To write a text that is worth something."""
        style = Style(opening="", demonstration="{input}{output}", question="{input}", stop=())
        return Task("Write a text.", inputs=(START,), style=style, max_tokens=self.length + 1)


def _apart(order: list[str], count: int, reach: int) -> list[str]:
    """The first texts that differ from one another in more than `reach` places."""
    found: list[str] = []
    for text in order:
        if len(found) < count and all(_distance(text, other) > reach for other in found):
            found.append(text)
    return found


def _distance(first: str, second: str) -> int:
    return sum(a != b for a, b in zip(first, second, strict=True))
