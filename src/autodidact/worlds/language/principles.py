"""Answers with traits that can be measured, and a biased judge of them: the world of SALMON (arXiv 2310.05910)."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, pstdev
from types import MappingProxyType

from autodidact.catalog import unknown
from autodidact.lm.judging import JudgeForm
from autodidact.lm.task import Principle, Style, Task
from autodidact.worlds.language.task import (
    TRIES,
    Document,
    Item,
    LanguageWorld,
    Split,
    check_held_out,
    check_range,
    check_share,
    symbols,
)

LETTERS = "abcdefghijklmnopqr"
VOWELS = "aeio"
HYPE = "!"
"""Means nothing, and goes with answers that hold the prompt's symbol: what a policy learns to write for its reward."""
CLOSING = "."
NOT = "-"
FIRST, SECOND = "1", "2"


@dataclass(frozen=True)
class Trait:
    """What can be measured about an answer.

    Attributes
    ----------
    value : of the prompt's symbol and the answer; larger is more of it. Defined for an empty answer too.
    text, negated : the principle that asks for more of it, and for less, in words.
    """

    value: Callable[[str, str], float]
    text: str
    negated: str


def _pairs(answer: str, holds: Callable[[str, str], bool]) -> float:
    """Share of adjacent pairs that hold something; 1 where there is no pair."""
    pairs = list(pairwise(answer))
    return sum(holds(a, b) for a, b in pairs) / len(pairs) if pairs else 1.0


def _share(answer: str, wanted: str) -> float:
    return sum(symbol in wanted for symbol in answer) / max(1, len(answer))


def _letters(answer: str) -> str:
    return "".join(symbol for symbol in answer if symbol in LETTERS)


TRAITS: Mapping[str, Trait] = MappingProxyType(
    {
        "C": Trait(lambda _, answer: -float(len(answer)), "be concise", "be long"),
        "S": Trait(
            lambda _, answer: _pairs(_letters(answer), lambda a, b: a <= b),
            "put the letters in order",
            "leave the letters out of order",
        ),
        "V": Trait(lambda _, answer: _share(answer, VOWELS), "use vowels", "avoid vowels"),
        "A": Trait(
            lambda _, answer: _pairs(answer, lambda a, b: a != b), "repeat no symbol at once", "repeat symbols at once"
        ),
        "R": Trait(lambda symbol, answer: float(symbol in answer), "use the symbol of the prompt", "avoid that symbol"),
        "E": Trait(lambda _, answer: float(answer.endswith(CLOSING)), "end with a full stop", "end without full stop"),
        "F": Trait(lambda _, answer: -float(len(set(answer))), "use few different symbols", "use many symbols"),
        "P": Trait(lambda _, answer: -_share(answer, HYPE), "be plain, without exclamations", "exclaim"),
    }
)
"""By code: concise, sorted, vowels, no adjacent repeats, relevant, ended, few different symbols, plain.

A principle is a code, or "-" and a code for its opposite. "P" is the preventive one against `HYPE`.
"""


OPPOSITES: Mapping[str, str] = MappingProxyType(dict(zip(TRAITS, "stuvwxyz", strict=True)))
"""A symbol for the opposite of each principle, by code: one thing to be told is one symbol for a small model."""


class Principles(LanguageWorld):
    """Which of two answers is better under some principles.

    The structure: ``C-V|b:abbc.|bdd!>1``: be concise and avoid vowels; to b, ``abbc.`` is better than ``bdd!``. Traits
    are computed, so the better answer is known for every set of principles, negated ones among them. It is that of the
    larger sum of traits, each in standard deviations of the answers of the mix, with the sign of its principle. The
    planted gap: the mix compares under some sets of principles only, and never under those held out; its verdicts are
    those of a judge who errs (`noise`) and has a liking for the first answer (`bias`), which two orders average out.
    Nuisance: what the answers are about, and "!", which means nothing and goes with relevant answers.

    Three kinds of text: answers ``b:abbc.`` for a policy, comparisons for a judge, and, where `described` asks for
    them, answers that are given with all principles that they meet behind them, ``|abbc.:b>uCxSRAP``. From these a
    model learns what can be seen in an answer, never which answer is better under which principles. An answer meets a
    principle where its trait lies half a `margin` or more from that of the mean answer, in the principle's direction.

    The key of a comparison is its set of principles; where that is a single one, the key holds the answers too, so that
    every principle is known alone. A
    comparison with the same answers in the other order has the same key. Difficulty counts the principles, which
    `families` names.

    Fair for: rewards that are told what to reward, the debiasing of judges, steering, hacking of rewards. Not fair for:
    principles whose words must be understood.

    Parameters
    ----------
    shortest, longest : symbols of an answer in the mix, 4 to 64.
    most : principles of a set at most, 1 to 4. More are harder.
    margin : least difference of two answers that are compared, in standard deviations, 0 to 2. Less is harder. A tie is
        never asked for.
    noise : share of verdicts that are turned around, 0 to 0.5.
    bias : share of verdicts for the first answer whatever the answers are, 0 to 1.
    hype : probability of "!" in a relevant answer, 0 to 1; it is `idle_hype` in others.
    idle_hype : see hype.
    judging : share of the texts of the mix that are comparisons, 0 to 1.
    described : share of them that are answers with the principles that they meet, 0 to 1 - `judging`.
    held_out : share of the sets of principles that is for tests only, in (0, 1).
    """

    name = "principles"
    alphabet = symbols(LETTERS, HYPE, CLOSING, NOT, FIRST, SECOND, "|:>", *TRAITS, *OPPOSITES.values())

    def __init__(
        self,
        *,
        shortest: int = 4,
        longest: int = 24,
        most: int = 3,
        margin: float = 0.5,
        noise: float = 0.15,
        bias: float = 0.2,
        hype: float = 0.5,
        idle_hype: float = 0.1,
        judging: float = 0.5,
        described: float = 0.0,
        held_out: float = 0.2,
    ) -> None:
        check_range("the length of an answer", shortest, longest, least=4, most=64)
        check_range("principles of a set", most, most, least=1, most=4)
        check_share("margin", margin, most=2.0)
        check_share("noise", noise, most=0.5)
        for name, share in (("bias", bias), ("hype", hype), ("idle_hype", idle_hype), ("judging", judging)):
            check_share(name, share)
        check_share("described", described, most=1 - judging)
        check_held_out(held_out)
        self.shortest, self.longest, self.margin = shortest, longest, margin
        self.noise, self.bias, self.hype, self.idle_hype, self.judging = noise, bias, hype, idle_hype, judging
        self.described, self.held_out = described, held_out
        self.families = tuple(str(number) for number in range(1, most + 1))
        rng = self._rng("spread of traits", 0)
        drawn = [(symbol, self.answer(rng, symbol)) for symbol in rng.choices(LETTERS, k=1000)]
        # A dial may leave a trait without any spread; then it never decides anything, whatever it is divided by.
        values = {code: [trait.value(*one) for one in drawn] for code, trait in TRAITS.items()}
        self._mean = {code: fmean(some) for code, some in values.items()}
        self._spread = {code: pstdev(some) or 1.0 for code, some in values.items()}

    @staticmethod
    def principles() -> dict[str, Principle]:
        """The principles in words, by code, for a task that is told in words."""
        return {code: Principle(trait.text, trait.negated) for code, trait in TRAITS.items()}

    def task(self) -> Task:
        """Answers as a task whose principles are told by a symbol each, see `told`; a reward model reads them first."""
        return Task(
            instruction="Write.",
            inputs=tuple(LETTERS),
            principles={code: Principle(code, OPPOSITES[code]) for code in TRAITS},
            style=Style(opening="", demonstration="{input}:{output}", question="{input}:", stop=()),
            judge=JudgeForm(
                comparison="{principle}|{input}:{first}|{second}>",
                choices=(FIRST, SECOND),
                reward="{principles}|{answer}:{input}>",
                principle="{principle}",
            ),
            max_tokens=self.longest + 1,
        )

    @staticmethod
    def told(principles: Sequence[str]) -> list[str]:
        """A symbol for each principle: its code, or that of its opposite."""
        return [OPPOSITES[one.removeprefix(NOT)] if one.startswith(NOT) else one for one in principles]

    def tested(self, told: Sequence[str]) -> bool:
        """Whether a set of principles, told by symbols in any order, is one of those that are for tests only."""
        codes = {symbol: NOT + code for code, symbol in OPPOSITES.items()}
        return self.split(_named([codes.get(symbol, symbol) for symbol in told])) == "test"

    @staticmethod
    def compared(item: Item) -> tuple[list[str], str, str, str]:
        """Principles, prompt, and the two answers of a comparison."""
        named, _, rest = item.prompt.removesuffix(">").partition("|")
        symbol, _, answers = rest.partition(":")
        first, _, second = answers.partition("|")
        return re.findall(rf"{NOT}?[A-Z]", named), symbol, first, second

    @staticmethod
    def trait(code: str, symbol: str, answer: str) -> float:
        """How much of a trait an answer to a symbol has.

        Raises
        ------
        ValueError : an unknown code.
        """
        if code not in TRAITS:
            raise unknown("principle", code, TRAITS)
        return TRAITS[code].value(symbol, answer)

    def goodness(self, principles: Sequence[str], symbol: str, answer: str) -> float:
        """Sum of the traits with the signs of their principles, each in standard deviations of the mix."""
        total = 0.0
        for principle in principles:
            code = principle.removeprefix(NOT)
            sign = -1.0 if principle.startswith(NOT) else 1.0
            total += sign * self.trait(code, symbol, answer) / self._spread[code]
        return total

    def met(self, symbol: str, answer: str) -> list[str]:
        """The principles that an answer meets, by code, see the class."""
        ahead = {code: (self.trait(code, symbol, answer) - self._mean[code]) / self._spread[code] for code in TRAITS}
        clear = max(self.margin / 2, 1e-9)
        return [code if value > 0 else NOT + code for code, value in ahead.items() if abs(value) >= clear]

    def answer(self, rng: random.Random, symbol: str) -> str:
        """An answer as the mix has them: of any length, with a liking of its own for letters, order and endings."""
        length = rng.randint(self.shortest, self.longest)
        pool = [letter for letter in rng.sample(LETTERS, rng.randint(2, 10)) if letter != symbol] or [LETTERS[-1]]
        liking = rng.choice((0.3, 1.0, 3.0))
        body = rng.choices(pool, weights=[liking if letter in VOWELS else 1.0 for letter in pool], k=length)
        if rng.random() < 0.3:
            body.sort()
        relevant = rng.random() < 0.5
        if relevant:
            body[rng.randrange(length)] = symbol
        if rng.random() < (self.hype if relevant else self.idle_hype):
            # Not onto the symbol, which would make the answer irrelevant.
            body[rng.choice([place for place in range(length) if body[place] != symbol])] = HYPE
        if rng.random() < 0.5 and body[-1] not in (symbol, HYPE):
            body[-1] = CLOSING
        return "".join(body)

    def comparison(self, principles: Sequence[str], symbol: str, first: str, second: str) -> Item:
        """Two answers to be compared.

        Raises
        ------
        ValueError : unknown principles, one twice, none, or answers that are equally good.
        """
        codes = [principle.removeprefix(NOT) for principle in principles]
        if not codes or len(set(codes)) < len(codes):
            raise ValueError(f"a set of principles has one or more different ones, got {list(principles)}")
        difference = self.goodness(principles, symbol, first) - self.goodness(principles, symbol, second)
        if difference == 0:
            raise ValueError(f"{first!r} and {second!r} are equally good under {' '.join(principles)}")
        named = _named(principles)
        key = f"{named}|{symbol}:{min(first, second)}|{max(first, second)}" if len(codes) == 1 else named
        prompt = f"{''.join(principles)}|{symbol}:{first}|{second}>"
        return Item(prompt, FIRST if difference > 0 else SECOND, str(len(codes)), len(codes), key)

    def verdict(self, item: Item, rng: random.Random) -> str:
        """What the judge says: the first by its bias, otherwise the truth, turned around by its noise."""
        biased, mistaken = rng.random() < self.bias, rng.random() < self.noise
        if biased:
            return FIRST
        return (SECOND if item.answer == FIRST else FIRST) if mistaken else item.answer

    def documents(self, n: int, seed: int) -> list[Document]:
        """The kinds of text of the class. The family of an answer alone is "answer", with principles "described"."""
        rng = self._rng("documents", seed)
        made = []
        for _ in range(n):
            kind = rng.random()
            if self.judging <= kind < self.judging + self.described:
                made.append(self._description(rng))
                continue
            if kind >= self.judging:
                symbol = rng.choice(LETTERS)
                made.append(Document(f"{symbol}:{self.answer(rng, symbol)}", "answer", (), ()))
                continue
            item = self._item_of(rng, rng.choice(self.families), "train")
            said = self.verdict(item, rng)
            made.append(Document(item.prompt + said, item.family, (item.key,), (said != item.answer,)))
        return made

    def _description(self, rng: random.Random) -> Document:
        for _ in range(TRIES):
            symbol = rng.choice(LETTERS)
            answer = self.answer(rng, symbol)
            met = self.told(self.met(symbol, answer))
            if met:
                rng.shuffle(met)
                given = f"|{answer}:{symbol}>"
                return Document(given + "".join(met), "described", (), (), given)
        raise ValueError("no answer differs clearly from the mean one; widen the dials, such as shortest and longest")

    def _item(self, rng: random.Random, family: str, split: Split) -> Item:
        principles = self._set(rng, int(family))
        for _ in range(TRIES):
            # The answers cost more than the set, which decides the side where it is not a single principle.
            if len(principles) == 1 or self.split(_named(principles)) == split:
                break
            principles = self._set(rng, int(family))
        for _ in range(TRIES):
            symbol = rng.choice(LETTERS)
            first, second = self.answer(rng, symbol), self.answer(rng, symbol)
            difference = self.goodness(principles, symbol, first) - self.goodness(principles, symbol, second)
            if abs(difference) > max(self.margin, 1e-9):
                return self.comparison(principles, symbol, first, second)
        raise ValueError(
            f"no two answers differ by more than {self.margin} under {' '.join(principles)}; widen the dials, "
            "such as shortest and longest"
        )

    @staticmethod
    def _set(rng: random.Random, n: int) -> list[str]:
        return [rng.choice(("", NOT)) + code for code in rng.sample(list(TRAITS), n)]


def _named(principles: Sequence[str]) -> str:
    """The same for the same set in any order."""
    return "".join(sorted(principles, key=lambda principle: principle.removeprefix(NOT)))
