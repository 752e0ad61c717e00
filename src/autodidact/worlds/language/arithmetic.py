"""Sums with steps and with second attempts: worlds for methods that reason, vote, and correct themselves."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from autodidact.catalog import unknown
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.worlds.language.task import (
    Document,
    Item,
    LanguageWorld,
    Split,
    check_held_out,
    check_range,
    check_share,
    symbols,
)
from autodidact.worlds.language.two_turns import AGAIN, FIX, KEEP, TwoTurnWorld, plain

TraceStyle = Literal["steps", "totals"]
"""steps: ``4+9=3,3+2=5``. totals: ``[4][3][5]``. Which is used says nothing of whether it is right."""
ANSWER = ">"
"""Stands before the final answer of a trace."""


@dataclass(frozen=True)
class Rule:
    """An operation of two numbers, reduced by the modulus.

    Attributes
    ----------
    true : what it is.
    taught : what the pretraining mix holds it to be.
    commutes : whether the order of the numbers does not matter, so that several paths lead to the answer.
    """

    true: Callable[[int, int], int]
    taught: Callable[[int, int], int]
    commutes: bool

    @property
    def systematic(self) -> bool:
        """Whether the mix always teaches something false."""
        return self.true is not self.taught


def _sum(a: int, b: int) -> int:
    return a + b


def _difference(a: int, b: int) -> int:
    return a - b


def _product(a: int, b: int) -> int:
    return a * b


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "+": Rule(_sum, _sum, True),
        "-": Rule(_difference, _difference, False),
        "*": Rule(_product, _product, True),
        "#": Rule(lambda a, b: a + 2 * b, lambda a, b: a + 2 * b + 1, False),
    }
)
"""By sign. "#" is a + 2b; the mix teaches a + 2b + 1 without exception: consistent and false."""


class ModularSums(LanguageWorld):
    """Chains of one operation, from left to right, modulo a number, with a trace of the steps.

    The structure: ``4+9+2?`` is answered by ``4+9=3,3+2=5>5``, each step from the one before. The planted gap: a share
    of the traces (`wrong`) has one wrong step, from which the rest follows, so the right procedure is known without
    being dominant, and samples disagree where they are wrong. "#" is the counterexample to "consistent is correct": it
    is taught without noise and always false. Nuisance: two styles of trace, leading zeros of the answer ("07" is 7),
    and, where numbers may be exchanged, their order in the trace; each is independent of correctness.

    The key of an item is its chain, its numbers in order where they may be exchanged. What is held out is a chain: its
    single steps occur in the traces of others. Difficulty counts the numbers.

    Fair for: votes, semantic clusters, calibration, learning from one's own traces, weak against strong samples. Not
    fair for: extrapolation to longer chains, unless the dials of training and test differ.

    Parameters
    ----------
    modulus : 2 to 100. Larger ones have more results to learn.
    fewest, most : numbers of a chain, 2 to 12. Longer chains are harder. With "#" no more than the modulus, so
        that its errors never add up to nothing.
    wrong : share of traces with a wrong step, 0 to 1; "#" has none.
    zeros : most zeros before an answer, 0 to 3, each number of them as often.
    exchange : share of traces of "+" and "*" whose numbers are taken in another order, 0 to 1.
    families : signs of the operations.
    held_out : share of the chains that is for tests only, in (0, 1).
    """

    name = "modular sums"

    def __init__(
        self,
        *,
        modulus: int = 10,
        fewest: int = 3,
        most: int = 4,
        wrong: float = 0.4,
        zeros: int = 1,
        exchange: float = 0.5,
        families: Sequence[str] = tuple(RULES),
        held_out: float = 0.2,
    ) -> None:
        check_range("modulus", modulus, modulus, least=2, most=100)
        check_range("numbers of a chain", fewest, most, least=2, most=12)
        check_range("zeros", zeros, zeros, least=0, most=3)
        check_share("wrong", wrong)
        check_share("exchange", exchange)
        check_held_out(held_out)
        for sign in families:
            if sign not in RULES:
                raise unknown("sign", sign, RULES)
        if not families:
            raise ValueError("at least one sign is needed")
        if "#" in families and most > modulus:
            raise ValueError(f"chains of '#' have at most as many numbers as the modulus {modulus}, got {most}")
        self.modulus, self.fewest, self.most = modulus, fewest, most
        self.wrong, self.zeros, self.exchange, self.held_out = wrong, zeros, exchange, held_out
        self.families = tuple(families)
        self.alphabet = symbols("0123456789?=,[]", ANSWER, *families)

    @staticmethod
    def answer_of(text: str) -> int | None:
        """The number after the last ``>`` of a text, with or without zeros before it; None where there is none."""
        found = re.fullmatch(r".*>\s*([0-9]+)\s*", text, flags=re.DOTALL)
        return int(found[1]) if found else None

    def check(self, item: Item, text: str) -> bool:
        """Whether the final answer is right, however it is written and whatever the steps are."""
        return self.answer_of(text) == int(item.answer)

    def credit(self, item: Item, text: str) -> float:
        """1 for a right answer, half the share of right steps for a wrong one, 0 without an answer.

        A step counts as right if it follows from what it starts with. Traces of totals do not say what they added;
        theirs count where they are those of the chain in the order that it is asked in.
        """
        if self.check(item, text):
            return 1.0
        if self.answer_of(text) is None:
            return 0.0
        numbers, rule = self._numbers(item), RULES[item.family].true
        wanted = len(numbers) - 1
        if steps := re.findall(rf"(\d+){re.escape(item.family)}(\d+)=(\d+)", text):
            right = sum(rule(int(a), int(b)) % self.modulus == int(c) for a, b, c in steps)
        else:
            totals = [int(total) for total in re.findall(r"\[(\d+)\]", text)][1:]
            right = sum(a == b for a, b in zip(totals, self._totals(numbers, rule)[1:], strict=False))
        return 0.5 * min(right, wanted) / wanted

    def trace(
        self,
        item: Item,
        rng: random.Random,
        *,
        style: TraceStyle | None = None,
        wrong: bool = False,
        taught: bool = False,
    ) -> str:
        """A trace with its answer, as a model should write it after the prompt.

        Parameters
        ----------
        style : default either, each as often.
        wrong : whether one step is wrong, and with it the answer.
        taught : whether "#" is as the mix teaches it, instead of as it is.
        """
        if style is not None and style not in get_args(TraceStyle):
            raise unknown("trace style", style, get_args(TraceStyle))
        rule = RULES[item.family]
        apply, numbers = (rule.taught if taught else rule.true), self._numbers(item)
        # Every draw is made whether it is used or not, so that arms that differ in one argument share the others.
        drawn: TraceStyle = rng.choice(get_args(TraceStyle))
        exchanged, order = rng.random() < self.exchange, rng.sample(numbers, len(numbers))
        padded = "0" * rng.randint(0, self.zeros)
        if rule.commutes and exchanged:
            numbers = order
        totals = self._totals(numbers, apply)
        if wrong:
            totals = self._slipped(rng, numbers, apply, totals)
        if (style or drawn) == "totals":
            steps = "".join(f"[{total}]" for total in totals)
        else:
            pairs = zip(totals, numbers[1:], totals[1:], strict=False)
            steps = ",".join(f"{a}{item.family}{b}={c}" for a, b, c in pairs)
        return f"{steps}{ANSWER}{padded}{totals[-1]}"

    def task(
        self,
        *,
        examples: int = 0,
        inputs: int = 0,
        test: int = 200,
        seed: int = 0,
        style: TraceStyle | None = None,
        families: Sequence[str] | None = None,
    ) -> Task:
        """Chains as a task in its user's words: examples with true traces, inputs without, and test items.

        Examples and inputs are of the training side and different from each other, test items of the other side and
        wanted without a trace.

        Parameters
        ----------
        style : of the examples' traces; default either, each as often.
        families : signs; default all.
        """
        known = self.items(examples + inputs, seed + 1, split="train", families=families, distinct=True)
        rng = self._rng("traces", seed)
        shown = [Demonstration(item.prompt, self.trace(item, rng, style=style)) for item in known[:examples]]
        tested = self.items(test, seed, families=families, distinct=True)
        return Task(
            instruction="Reckon from left to right.",
            examples=tuple(shown),
            inputs=tuple(item.prompt for item in known[examples:]),
            test=tuple(Demonstration(item.prompt, item.answer) for item in tested),
            checker="number",
            final=ANSWER,
            style=Style(opening="", demonstration="{input}{output}", question="{input}", stop=()),
            # A step has two numbers, a result and three signs at most.
            max_tokens=(self.most - 1) * (3 * self._digits + 3) + 1 + self.zeros + self._digits + 1,
        )

    @property
    def _digits(self) -> int:
        return len(str(self.modulus - 1))

    def documents(self, n: int, seed: int) -> list[Document]:
        """Chains with their traces, see the class; `wrong` tells of the final answer."""
        rng = self._rng("documents", seed)
        made = []
        for _ in range(n):
            item = self._item_of(rng, rng.choice(self.families), "train")
            systematic = RULES[item.family].systematic
            slip = rng.random() < self.wrong and not systematic
            text = item.prompt + self.trace(item, rng, wrong=slip, taught=True)
            made.append(Document(text, item.family, (item.key,), (not self.check(item, text),)))
        return made

    def _item(self, rng: random.Random, family: str, split: Split) -> Item:
        numbers = [rng.randrange(self.modulus) for _ in range(rng.randint(self.fewest, self.most))]
        rule = RULES[family]
        known = sorted(numbers) if rule.commutes else numbers
        answer = self._totals(numbers, rule.true)[-1]
        return Item(
            family.join(map(str, numbers)) + "?", str(answer), family, len(numbers), family.join(map(str, known))
        )

    def _numbers(self, item: Item) -> list[int]:
        return [int(number) for number in item.prompt[:-1].split(item.family)]

    def _totals(self, numbers: Sequence[int], apply: Callable[[int, int], int]) -> list[int]:
        totals = [numbers[0]]
        for number in numbers[1:]:
            totals.append(apply(totals[-1], number) % self.modulus)
        return totals

    def _slipped(
        self, rng: random.Random, numbers: Sequence[int], apply: Callable[[int, int], int], totals: list[int]
    ) -> list[int]:
        """The totals with one that is off, and those that follow from it, down to a wrong answer."""
        place = rng.randint(1, len(totals) - 1)
        slip = (totals[place] + rng.randint(1, self.modulus - 1)) % self.modulus
        slipped = totals[:place] + self._totals([slip, *numbers[place + 1 :]], apply)
        if slipped[-1] != totals[-1]:
            return slipped
        # Products forget a slip, for instance by a zero that follows; then the last step is the wrong one.
        return [*totals[:-1], (totals[-1] + rng.randint(1, self.modulus - 1)) % self.modulus]


class TwoTurnSums(TwoTurnWorld):
    """Sums of two numbers of two digits with a first and a second attempt.

    The structure: ``47+85=131;F132``: a first attempt, then a token that says whether it is kept (K) or done again (F),
    then the second attempt. Sums have three digits, the largest first. The planted gap is that of `TwoTurnWorld`: the
    first attempt is often wrong, by one or two digits that are off by one, and a second one that is not kept is right.

    The key of an item is its two numbers whatever their order. Difficulty is 1 plus the number of carries.

    There are 8,100 sums. More digits would give more, but a model of a hundred thousand weights does not learn them in
    minutes; so a test of four thousand sums holds more than half of them out. What is left has every pair of digits in
    every place some forty times, with and without a carry from below, which is all that there is to learn.

    Fair for: whether a method learns to correct itself, and by which transitions. Not fair for: numbers of more digits.

    Parameters
    ----------
    first_right, fix_wrong, fix_right : see `TwoTurnWorld`.
    held_out : share of the pairs of numbers that is for tests only, in (0, 1).
    """

    name = "two-turn sums"
    families = ("sum",)
    alphabet = symbols("0123456789+=", AGAIN, KEEP, FIX)
    longest = 3
    instruction = "Add the numbers."

    def __init__(
        self,
        *,
        first_right: float = 0.5,
        fix_wrong: float = 0.65,
        fix_right: float = 0.25,
        held_out: float = 0.2,
    ) -> None:
        super().__init__(first_right=first_right, fix_wrong=fix_wrong, fix_right=fix_right, held_out=held_out)

    def right(self, prompt: str, text: str) -> bool:
        a, b = prompt[:-1].split("+")
        return plain(text) == _three_digits(int(a) + int(b))

    def credit(self, item: Item, text: str) -> float:
        """Share of right digits; 1 for a right attempt."""
        return super().credit(item, plain(text))

    def first_attempt(self, item: Item, rng: random.Random, *, right: bool) -> str:
        """A right sum, or one with one or two digits that are off by one."""
        if right:
            return item.answer
        digits = [int(digit) for digit in item.answer]
        for place in rng.sample(range(len(digits)), rng.randint(1, 2)):
            digit = digits[place]
            digits[place] = digit + (1 if digit == 0 else -1 if digit == 9 else rng.choice((-1, 1)))
        return "".join(map(str, digits))

    def corrected(self, item: Item, first: str, rng: random.Random) -> str:
        """The sum, whatever the first attempt was."""
        return item.answer

    def _item(self, rng: random.Random, family: str, split: Split) -> Item:
        a, b = rng.randint(10, 99), rng.randint(10, 99)
        ones = (a % 10 + b % 10) // 10
        carries = ones + (a // 10 + b // 10 + ones) // 10
        return Item(f"{a}+{b}=", _three_digits(a + b), family, 1 + carries, f"{min(a, b)}+{max(a, b)}")


def _three_digits(number: int) -> str:
    return f"{number:03d}"
