"""What worlds with a first and a second attempt at each question have in common: those of SCoRe (arXiv 2409.12917)."""

from __future__ import annotations

import random
from abc import abstractmethod

from autodidact.lm.task import Demonstration, Style, Task
from autodidact.worlds.language.task import Document, Item, LanguageWorld, check_held_out, check_share

KEEP, FIX = "K", "F"
"""Open a second attempt: the first one stands, or is done again."""
AGAIN = ";"
"""Asks for a second attempt, and does not say whether the first was right."""


def plain(text: str) -> str:
    """An attempt without blanks around it and without the token that opens a second one."""
    return text.strip().removeprefix(KEEP).removeprefix(FIX)


class TwoTurnWorld(LanguageWorld):
    """Questions with two attempts: ``question first;F second``, without the blanks.

    A first attempt, then a token that says whether it is kept (K) or done again (F), then the second attempt. The
    planted gap: the first attempt is often wrong; whether it is done again depends but weakly on whether it was wrong
    (`fix_wrong`, `fix_right`), and a second attempt that is not kept is right. So both copying and solving again are
    known, and telling when to do which is left to learn. Without a token for it a copy is always the likelier string.

    Parameters
    ----------
    first_right : share of right first attempts, 0 to 1.
    fix_wrong, fix_right : probability of a second attempt that is done again where the first was wrong, or right.
    held_out : share of the keys that is for tests only, in (0, 1).

    Attributes
    ----------
    longest : symbols of an attempt, without the token that opens a second one.
    instruction : the questions in words.
    """

    longest: int
    instruction: str

    def __init__(self, *, first_right: float, fix_wrong: float, fix_right: float, held_out: float) -> None:
        for name, share in (("first_right", first_right), ("fix_wrong", fix_wrong), ("fix_right", fix_right)):
            check_share(name, share)
        check_held_out(held_out)
        self.first_right, self.fix_wrong, self.fix_right = first_right, fix_wrong, fix_right
        self.held_out = held_out

    @abstractmethod
    def right(self, prompt: str, text: str) -> bool:
        """Whether an attempt at a question is right, from the question alone; a second one with or without its first
        token. Blanks around it do not matter."""

    @abstractmethod
    def first_attempt(self, item: Item, rng: random.Random, *, right: bool) -> str:
        """A right attempt, or one that is wrong as those of the mix are."""

    @abstractmethod
    def corrected(self, item: Item, first: str, rng: random.Random) -> str:
        """What a second attempt says that is done again after this first one."""

    @staticmethod
    def second_prompt(item: Item, first: str) -> str:
        """What is read before the second attempt, of which the first token is `KEEP` or `FIX`."""
        return f"{item.prompt}{first}{AGAIN}"

    def check(self, item: Item, text: str) -> bool:
        """Whether an attempt is right, see `right`."""
        return self.right(item.prompt, text)

    def second_attempt(self, item: Item, first: str, rng: random.Random) -> str:
        """The token and the attempt, drawn as the mix has them."""
        fix = rng.random() < (self.fix_right if self.check(item, first) else self.fix_wrong)
        return FIX + self.corrected(item, first, rng) if fix else KEEP + first

    def documents(self, n: int, seed: int) -> list[Document]:
        """Questions with two attempts, see the class; `wrong` tells of the first and of the second."""
        rng = self._rng("documents", seed)
        made = []
        for _ in range(n):
            family = self.families[0] if len(self.families) == 1 else rng.choice(self.families)
            item = self._item_of(rng, family, "train")
            first = self.first_attempt(item, rng, right=rng.random() < self.first_right)
            second = self.second_attempt(item, first, rng)
            wrong = (not self.check(item, first), not self.check(item, second))
            made.append(Document(self.second_prompt(item, first) + second, family, (item.key,), wrong))
        return made

    def task(self, *, examples: int, test: int, seed: int = 0) -> Task:
        """Questions as a task whose answers end where a second attempt is asked for.

        Examples are of the training side and test items of the other; no two are alike. Outputs are those of the
        items; where others are right too, `right` says so and the task's own checker does not.
        """
        known = self.items(examples, seed + 1, split="train", distinct=True)
        tested = self.items(test, seed, distinct=True)
        return Task(
            self.instruction,
            examples=tuple(Demonstration(item.prompt, item.answer) for item in known),
            test=tuple(Demonstration(item.prompt, item.answer) for item in tested),
            style=Style(opening="", demonstration="{input}{output}", question="{input}", stop=(AGAIN,)),
            # The attempt with the token before it, and the end.
            max_tokens=self.longest + 2,
        )
