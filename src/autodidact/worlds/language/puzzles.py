"""Puzzles with second attempts: a world in which a wrong answer says much of what a right one is."""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import lru_cache
from itertools import product

from autodidact.worlds.language.task import Item, Split, check_range, symbols
from autodidact.worlds.language.two_turns import AGAIN, FIX, KEEP, TwoTurnWorld, plain

NAMES = "pqrstuvw"
"""Of the variables; none is a token of attempts. A small letter is a variable, a capital one its negation."""


class TwoTurnPuzzles(TwoTurnWorld):
    """Satisfiability of clauses of two literals, with a first and a second attempt.

    The structure: ``pQ,qr,Ps,St=PQrsT;FPQrST``: clauses, of each of which a literal must hold, a small letter for its
    variable and a capital one for its negation; a first attempt, which says of each variable in the order of the
    alphabet which of both holds; then a token that says whether it is kept (K) or done again (F), and the second
    attempt. Every puzzle has an answer, mostly several, and all of them are right; the one that an item names is the
    first of them in order. Each is as often the first attempt where that is right.

    The planted gap is that of `TwoTurnWorld`. A wrong first attempt is one value away from a right one, and a second
    one that is not kept is the nearest right one, or one of the nearest: what the first attempt violates says what to
    change, so it is evidence, where in `TwoTurnSums` all must be reckoned anew. Nuisance: the order of the clauses and
    of the literals in each.

    The key of an item is its set of clauses. Difficulty is 1 plus the number of variables that occur with both signs:
    where there is none, every literal can hold.

    Fair for: whether a method learns to correct itself, and by which transitions. Not fair for: more variables or
    clauses than the mix has; which right answer is preferred.

    Parameters
    ----------
    variables : 3 to 8. With more, fewer puzzles are alike and fewer variables meet.
    clauses : 2 to twice the variables, all different. Of all values at random about 3/4 to this power are right: with
        more, puzzles are harder.
    first_right, fix_wrong, fix_right : see `TwoTurnWorld`.
    held_out : share of the sets of clauses that is for tests only, in (0, 1).
    """

    name = "two-turn puzzles"
    families = ("puzzle",)
    instruction = "Find values such that a literal of every clause holds."

    def __init__(
        self,
        *,
        variables: int = 5,
        clauses: int = 4,
        first_right: float = 0.5,
        fix_wrong: float = 0.65,
        fix_right: float = 0.25,
        held_out: float = 0.2,
    ) -> None:
        super().__init__(first_right=first_right, fix_wrong=fix_wrong, fix_right=fix_right, held_out=held_out)
        check_range("variables", variables, variables, least=3, most=len(NAMES))
        check_range("clauses", clauses, clauses, least=2, most=2 * variables)
        self.variables, self.clauses, self.longest = variables, clauses, variables
        names = NAMES[:variables]
        self.alphabet = symbols(",=", AGAIN, KEEP, FIX, names, names.upper())
        self._texts = ["".join(values) for values in product(*((name.upper(), name) for name in names))]
        self._numbers = {text: number for number, text in enumerate(self._texts)}
        # Which of all assignments a literal holds in, as the bits of a number.
        self._holding = {
            literal: sum(1 << number for text, number in self._numbers.items() if literal in text)
            for literal in names + names.upper()
        }

    def right(self, prompt: str, text: str) -> bool:
        said = plain(text)
        return said in self._numbers and all(_holds(clause, said) for clause in _clauses(prompt))

    def credit(self, item: Item, text: str) -> float:
        """Share of the clauses that hold; 0 for what is no attempt."""
        said, clauses = plain(text), _clauses(item.prompt)
        return sum(_holds(clause, said) for clause in clauses) / len(clauses) if said in self._numbers else 0.0

    def answers(self, prompt: str) -> list[str]:
        """All right answers to a puzzle, in order."""
        return [self._texts[k] for k in _places(self._solved(_clauses(prompt)))]

    def first_attempt(self, item: Item, rng: random.Random, *, right: bool) -> str:
        """A right answer, or a wrong one that is one value away from a right one; each such as often."""
        solved = self._solved(_clauses(item.prompt))
        if right:
            return self._texts[rng.choice(_places(solved))]
        near = {k ^ 1 << place for k in _places(solved) for place in range(self.variables)}
        return self._texts[rng.choice(sorted(k for k in near if not solved >> k & 1))]

    def corrected(self, item: Item, first: str, rng: random.Random) -> str:
        """The right answer that differs in the fewest values, one of them at random where several do."""
        found, before = _places(self._solved(_clauses(item.prompt))), self._numbers.get(first)
        # To what is no attempt at all every answer is as near.
        far = [0 if before is None else (k ^ before).bit_count() for k in found]
        least = min(far)
        return self._texts[rng.choice([k for k, distance in zip(found, far, strict=True) if distance == least])]

    def _item(self, rng: random.Random, family: str, split: Split) -> Item:
        names = NAMES[: self.variables]
        while True:
            drawn: dict[str, str] = {}
            while len(drawn) < self.clauses:
                clause = "".join(rng.choice((name, name.upper())) for name in rng.sample(names, 2))
                drawn.setdefault("".join(sorted(clause, key=str.lower)), clause)
            if solved := self._solved(drawn.values()):
                break
        prompt, key = ",".join(drawn.values()) + "=", ",".join(sorted(drawn))
        both = sum(name in prompt and name.upper() in prompt for name in names)
        return Item(prompt, self._texts[_places(solved)[0]], family, 1 + both, key)

    def _solved(self, clauses: Iterable[str]) -> int:
        """Which of all assignments every clause holds in, as the bits of a number."""
        found = (1 << len(self._texts)) - 1
        for clause in clauses:
            found &= self._holding[clause[0]] | self._holding[clause[1]]
        return found


def _clauses(prompt: str) -> list[str]:
    return prompt[:-1].split(",")


def _holds(clause: str, said: str) -> bool:
    return any(literal in said for literal in clause)


@lru_cache(maxsize=2**14)
def _places(number: int) -> tuple[int, ...]:
    """The places of the bits that are 1, from the lowest."""
    return tuple(place for place in range(number.bit_length()) if number >> place & 1)
