"""What every language world offers: items with a known answer, an oracle, and a pretraining mix without test items."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, get_args

from autodidact.catalog import unknown

Split = Literal["train", "test"]
TRIES = 2_000
"""Draws in a row that may miss before a request is held to be impossible."""


@dataclass(frozen=True)
class Item:
    """One question whose answer is known.

    Attributes
    ----------
    prompt : what the model reads; it writes what follows.
    answer : the right answer in its plainest form; `LanguageWorld.check` may accept others.
    family : the skill that is asked for, one of the world's families.
    difficulty : from 1; what it counts is the world's to say (symbols, terms, entities).
    key : what is held out. All items of one key are on one side of the split.
    """

    prompt: str
    answer: str
    family: str
    difficulty: int
    key: str


@dataclass(frozen=True)
class Document:
    """One text of the pretraining mix, with what only its generator knows.

    Attributes
    ----------
    text : what is trained on.
    family : the skill that it shows.
    keys : of the items that are in it, with right or wrong answers; empty where none is.
    wrong : for each statement in it, whether it is false. Statements and keys are not the same number where a text
        states something that no item asks.
    given : beginning of the text that is read and not learned; empty for its first symbol alone.
    """

    text: str
    family: str
    keys: tuple[str, ...]
    wrong: tuple[bool, ...]
    given: str = ""


class LanguageWorld(ABC):
    """A source of language tasks whose truth is known.

    The split is a hash of an item's key. It depends on the world's name, on the key and on `held_out` alone: never on a
    seed, nor on another dial. A test item is therefore in no pretraining mix of the same `held_out`, whatever its seed
    and dials; and what is held out at a smaller share is held out at every larger one.

    Attributes
    ----------
    name : of the kind of world.
    alphabet : every symbol that a prompt, an answer or a document may hold, in order and once each. A tokenizer of
        characters is built from it.
    families : the skills, by name.
    held_out : share of the keys that is for tests only, in (0, 1).
    """

    name: str
    alphabet: str
    families: tuple[str, ...]
    held_out: float

    @abstractmethod
    def documents(self, n: int, seed: int) -> list[Document]:
        """The pretraining mix. The first texts are the same however many are asked for."""

    @abstractmethod
    def _item(self, rng: random.Random, family: str, split: Split) -> Item:
        """Some item of a family. One of the other side is drawn again, so a world may leave the side out of account."""

    def items(
        self,
        n: int,
        seed: int,
        *,
        split: Split = "test",
        families: Sequence[str] | None = None,
        distinct: bool = False,
    ) -> list[Item]:
        """Items of one side of the split. The first are the same however many are asked for.

        Parameters
        ----------
        n : how many, from 0.
        seed : of every draw.
        split : "test" for those that no pretraining mix holds.
        families : skills to draw from, each as often; default all.
        distinct : whether no two may have the same prompt and family. A family of which no further one is found is then
            left to the others.

        Raises
        ------
        ValueError : an unknown family or split, or fewer items than asked for can be found.
        """
        families = self.families if families is None else tuple(families)
        for family in families:
            if family not in self.families:
                raise unknown(f"family of {self.name}", family, self.families)
        if split not in get_args(Split):
            raise unknown("split", split, get_args(Split))
        if n < 0 or not families:
            raise ValueError(f"items need a family and n from 0, got {list(families)} and {n}")
        rng, left = self._rng("items", seed), list(families)
        made: list[Item] = []
        seen: set[tuple[str, str]] = set()
        while len(made) < n:
            family = rng.choice(left)
            item = self._search(rng, family, split, seen)
            if item is None:
                left.remove(family)
                if not left:
                    raise ValueError(
                        f"only {len(made)} {split} items of {', '.join(families)} were found, not {n}; ask for fewer, "
                        "or widen the dials"
                    )
                continue
            made.append(item)
            if distinct:
                seen.add((item.family, item.prompt))
        return made

    def split(self, key: str) -> Split:
        """The side that a key is on."""
        drawn = int.from_bytes(blake2b(f"{self.name} {key}".encode(), digest_size=8).digest(), "big") / 2**64
        return "test" if drawn < self.held_out else "train"

    def check(self, item: Item, text: str) -> bool:
        """The oracle: whether a text is a right answer. Blanks around it do not matter."""
        return text.strip() == item.answer

    def credit(self, item: Item, text: str) -> float:
        """How good an answer is, in [0, 1]: 1 if it is right, else the share of symbols that are right in their place.

        The share is of the longer of the two texts, so that neither cutting off nor running on is rewarded.
        """
        if self.check(item, text):
            return 1.0
        said = text.strip()
        return _agreement(said, item.answer)

    def _item_of(self, rng: random.Random, family: str, split: Split) -> Item:
        """An item of one side of the split."""
        item = self._search(rng, family, split, set())
        if item is None:
            raise ValueError(f"no {split} item of family '{family}' was found; widen the dials")
        return item

    def _search(self, rng: random.Random, family: str, split: Split, seen: set[tuple[str, str]]) -> Item | None:
        """An item of one side of the split that was not seen yet; None where many draws found none."""
        for _ in range(TRIES):
            item = self._item(rng, family, split)
            if self.split(item.key) == split and (item.family, item.prompt) not in seen:
                return item
        return None

    def _rng(self, purpose: str, seed: int) -> random.Random:
        """The draws for one purpose: those for another, or another world, are independent of them."""
        return random.Random(f"{self.name} {purpose} {seed}")


def _agreement(said: str, wanted: str) -> float:
    longer = max(len(said), len(wanted))
    return sum(a == b for a, b in zip(said, wanted, strict=False)) / longer if longer else 1.0


def symbols(*texts: str) -> str:
    """An alphabet: the symbols of some texts, in order and once each."""
    return "".join(sorted({symbol for text in texts for symbol in text}))


def check_share(name: str, share: float, *, least: float = 0.0, most: float = 1.0) -> None:
    """Raise ValueError for a dial that is not a share within its range, ends included."""
    if not least <= share <= most:
        raise ValueError(f"{name} must be from {least} to {most}, got {share}")


def check_held_out(share: float) -> None:
    """Raise ValueError for a share that leaves nothing to train or to test on."""
    if not 0 < share < 1:
        raise ValueError(f"held_out must be in (0, 1), got {share}")


def check_range(name: str, low: int, high: int, *, least: int, most: int) -> None:
    """Raise ValueError for a range of whole numbers that is empty or leaves its bounds."""
    if not least <= low <= high <= most:
        raise ValueError(f"{name} must go up within {least} to {most}, got {low} to {high}")
