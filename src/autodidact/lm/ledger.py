"""What calls cost, and a model that stops before a budget is exceeded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from threading import Lock

from autodidact.lm.answering import Answer, Draw, Request, Scoring, Unfinished, Wrapped, answers
from autodidact.lm.lm import LM, Completion, Prompt

TEMPLATE = 64
"""Tokens that a chat template is taken to add to a prompt, at most."""


@dataclass(frozen=True)
class Spent:
    """What was spent.

    Attributes
    ----------
    calls : requests that were answered: samples, scores, choices.
    prompt_tokens, completion_tokens : what they cost.
    untold : calls whose tokens were not told; they count with the most that they can have cost.
    seconds : for which answers were waited.
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    untold: int = 0
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Spent) -> Spent:
        return Spent(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


class Meter:
    """Counts what is spent, also where several threads spend it."""

    def __init__(self) -> None:
        self.spent = Spent()
        self._turn = Lock()

    def add(self, spent: Spent) -> None:
        with self._turn:
            self.spent += spent


def most(request: Request) -> Spent:
    """The most that a request can cost: no token is shorter than a byte, and a draw ends at its `max_tokens`."""
    prompt = prompt_bound(request.prompt)
    if isinstance(request, Draw):
        return Spent(1, prompt, request.sampling.max_tokens)
    if isinstance(request, Scoring):
        return Spent(1, prompt + len(request.completion.encode()) + 1)
    # A model that chooses by scores reads the prompt with each option and writes a token after it.
    options = len(request.options)
    return Spent(1, options * prompt + sum(len(option.encode()) for option in request.options), options)


def prompt_bound(prompt: Prompt) -> int:
    """The most tokens that a prompt can have."""
    return len(prompt.text.encode()) + TEMPLATE


class BudgetExceeded(Unfinished):
    """The next request could cost more than is left of a budget.

    Attributes
    ----------
    answered : the requests whose answers had arrived, in their order, each with its answer.
    spent : what they and those before them cost.
    """

    def __init__(self, why: str, spent: Spent) -> None:
        super().__init__(why)
        self.spent = spent


class Budgeted(Wrapped):
    """A model that raises `BudgetExceeded` before a request that could exceed a budget.

    A request is made only where the most that it can cost is left; what it did cost is known afterwards. Requests that
    are under way together, in other threads too, each reserve that much, and where no more fits, the rest of a call
    comes after them. So calls and tokens do not exceed the budget, unless a chat template adds more than `TEMPLATE`
    tokens to a prompt. The time is looked at before each group of requests, and the last group may run over it.

    A cache belongs around the budget, ``Cached(Budgeted(lm, ...), folder)``: what it knows costs nothing, each answer
    is kept as it arrives, and a run that a budget ended goes on where it was once there is a new one. The other way
    round, answers from the cache are charged as if they were new.

    Parameters
    ----------
    lm : the model. Where it counts its own tokens (`EndpointLM` does, attribute ``meter``), these count, so that they
        are the server's own numbers, of scores and choices too; otherwise those of the completions do, and scores and
        choices count with the most that they can cost.
    calls : samples, scores and choices that may be asked for.
    tokens : of prompts and completions together.
    seconds : for which answers may be waited.
    together : requests in a group, at most, where there is a budget of seconds.
    clock : seconds that have passed since some moment.
    """

    def __init__(
        self,
        lm: LM,
        *,
        calls: int | None = None,
        tokens: int | None = None,
        seconds: float | None = None,
        together: int = 64,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(lm)
        for name, limit in (("calls", calls), ("tokens", tokens), ("seconds", seconds)):
            if limit is not None and not limit > 0:
                raise ValueError(f"a budget of {name} must be above 0, got {limit}")
        if together < 1:
            raise ValueError(f"together must be at least 1, got {together}")
        self.calls, self.tokens, self.seconds = calls, tokens, seconds
        self._together = together
        self._clock = clock
        self._counted = Meter()
        self._told: Meter | None = getattr(lm, "meter", None)
        self._before = self._told.spent if self._told else Spent()
        self._reserved = Spent()
        self._prompts: dict[str, int] = {}
        self._sharing: list[Budgeted] = [self]
        self._turn = Lock()

    def beside(self, lm: LM) -> Budgeted:
        """A further model that spends from the same budget; `spent` is then what all of them spent."""
        found = Budgeted(
            lm,
            calls=self.calls,
            tokens=self.tokens,
            seconds=self.seconds,
            together=self._together,
            clock=self._clock,
        )
        found._sharing, found._turn = self._sharing, self._turn
        self._sharing.append(found)
        return found

    @property
    def spent(self) -> Spent:
        """What was spent since this budget began."""
        return sum((one._own for one in self._sharing), Spent())

    @property
    def _own(self) -> Spent:
        counted = self._counted.spent
        if self._told is None:
            return counted
        told = self._told.spent - self._before
        return Spent(counted.calls, told.prompt_tokens, told.completion_tokens, told.untold, counted.seconds)

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        done = 0
        while done < len(requests):
            reserved = self._reserve(requests[done:])
            group = requests[done : done + len(reserved)]
            began = self._clock()
            try:
                for position, answer in answers(self.lm, group):
                    self._counted.add(self._cost(group[position], answer))
                    self._release(reserved.pop(position))
                    yield done + position, answer
            finally:
                self._counted.add(Spent(seconds=self._clock() - began))
                for left in reserved.values():
                    self._release(left)
            done += len(group)

    def _reserve(self, requests: Sequence[Request]) -> dict[int, Spent]:
        """What the next requests can cost, by position: of as many as fit."""
        reserved: dict[int, Spent] = {}
        size = len(requests) if self.seconds is None else self._together
        with self._turn:
            spent = self.spent
            promised = sum((one._reserved for one in self._sharing if one is not self), Spent())
            for position, request in enumerate(requests[:size]):
                needed = self._most(request)
                short = self._short(spent + promised + self._reserved + needed)
                if short and not reserved:
                    raise BudgetExceeded(
                        f"the budget of {short} does not suffice: {self._summary(spent)} spent, the next request can "
                        f"take {needed.calls} call and {needed.tokens} tokens; {len(requests)} requests are left",
                        spent,
                    )
                if short:
                    break
                self._reserved += needed
                reserved[position] = needed
        return reserved

    def _short(self, total: Spent) -> str:
        """The budget that a total exceeds; empty where none."""
        if self.calls is not None and total.calls > self.calls:
            return f"{self.calls} calls"
        if self.tokens is not None and total.tokens > self.tokens:
            return f"{self.tokens} tokens"
        if self.seconds is not None and total.seconds >= self.seconds:
            return f"{self.seconds:g} seconds"
        return ""

    def _summary(self, spent: Spent) -> str:
        return f"{spent.calls} calls, {spent.tokens} tokens and {spent.seconds:.1f} seconds are"

    def _release(self, reserved: Spent) -> None:
        with self._turn:
            self._reserved -= reserved

    def _most(self, request: Request) -> Spent:
        """The most that a request can cost, where its prompt's tokens may be known from an earlier sample."""
        known = self._prompts.get(request.prompt.digest)
        bound = most(request)
        return bound if known is None or not isinstance(request, Draw) else Spent(1, known, bound.completion_tokens)

    def _cost(self, request: Request, answer: Answer) -> Spent:
        bound = self._most(request)
        if not isinstance(answer, Completion) or answer.prompt_tokens is None or answer.completion_tokens is None:
            return Spent(1, bound.prompt_tokens, bound.completion_tokens, untold=1)
        self._prompts[request.prompt.digest] = answer.prompt_tokens
        return Spent(1, answer.prompt_tokens, answer.completion_tokens)
