"""Trying again: what passes is waited for, longer each time. It knows nothing of what is tried."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

import numpy as np

Result = TypeVar("Result")


class Passing(Exception):
    """An attempt failed in a way that may pass.

    Parameters
    ----------
    why : in a few words.
    wait : seconds that were asked for before the next attempt; None where nothing was.
    """

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


class Exhausted(Exception):
    """All attempts failed; the message says how often and in which ways."""


class Retries:
    """How often something is tried, and how long is waited between two attempts.

    After failure k the wait is first * 2^(k-1) seconds, at most `longest`, times a number drawn from [0.5, 1), so that
    many who failed together do not come back together. A longer wait that was asked for is kept; one beyond `longest`
    ends the attempts.

    Parameters
    ----------
    attempts : from 1.
    first, longest : seconds.
    generator : of the draws.
    sleep : waits so many seconds.
    """

    def __init__(
        self,
        attempts: int = 6,
        *,
        first: float = 1.0,
        longest: float = 120.0,
        generator: np.random.Generator | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if attempts < 1 or not 0 <= first <= longest:
            raise ValueError(
                f"attempts must be at least 1 and 0 <= first <= longest, got {attempts} and {first}, {longest} seconds"
            )
        self.attempts = attempts
        self.first = first
        self.longest = longest
        # Programs that start together must not draw the same waits, so this one default follows from no seed.
        self.generator = generator or np.random.default_rng()
        self.sleep = sleep
        self._turn = Lock()

    def wait(self, failures: int, asked: float | None = None) -> float:
        """Seconds to wait after so many failures."""
        with self._turn:
            share = self.generator.uniform(0.5, 1.0)
        return max(asked or 0.0, min(self.longest, self.first * 2 ** (failures - 1)) * share)

    def run(self, attempt: Callable[[], Result], *, given_up: Callable[[], bool] = lambda: False) -> Result:
        """The result of the first attempt that succeeds.

        Parameters
        ----------
        attempt : raises `Passing` where the next attempt may succeed; any other error ends the attempts.
        given_up : asked before each further attempt; true ends the attempts.

        Raises
        ------
        Exhausted : no attempt succeeded.
        """
        failures: list[str] = []
        waited = 0.0
        while True:
            try:
                return attempt()
            except Passing as failure:
                failures.append(str(failure))
                asked = failure.wait
            too_long = asked is not None and asked > self.longest
            if len(failures) == self.attempts or too_long or given_up():
                why = f"; the last asks to wait {asked:g} s, more than {self.longest:g} s" if too_long else ""
                raise Exhausted(f"{_times(failures)}; {waited:.1f} s were waited in between{why}")
            seconds = self.wait(len(failures), asked)
            self.sleep(seconds)
            waited += seconds


def _times(failures: list[str]) -> str:
    """Each way of failing, with its number where it occurred several times."""
    counted = Counter(failures)
    named = ", ".join(why if number == 1 else f"{why} ({number} times)" for why, number in counted.items())
    return f"{len(failures)} attempt{'s' * (len(failures) != 1)} failed: {named}"
