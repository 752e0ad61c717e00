"""A function of the user's as a reward, held to a time limit; what fails is left out, never taken for 0."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from autodidact.catalog.from_file import from_file
from autodidact.rewards.reward import Answered, Reward, Unrewarded

Function = Callable[[str, str, str | None], float | None]
"""Input, answer and wanted output (None where there is none) -> reward, or None for no judgement."""


class Programmed(Reward):
    """What a function says, in this process.

    An answer is left out, and counted with the reason, where the function raises an exception, gives None or no number,
    or takes too long. In the main thread of a POSIX system it is interrupted when its time is over; elsewhere only
    what it gives too late is left out.

    Parameters
    ----------
    function : input, answer, wanted output or None -> number or None.
    seconds : that it may take for one answer, above 0.
    """

    def __init__(self, function: Function, *, seconds: float = 1.0) -> None:
        super().__init__()
        if not seconds > 0:
            raise ValueError(f"the time limit of a reward is above 0 seconds, got {seconds}")
        self.function = function
        self.seconds = seconds

    @classmethod
    def load(cls, name: str, *, seconds: float = 1.0) -> Programmed:
        """From ``file.py:function``.

        Raises
        ------
        FileNotFoundError : there is no such file.
        ValueError : it has no such function.
        """
        return cls(from_file(name, "function", _is_function), seconds=seconds)

    def judge(self, answers: Sequence[Answered]) -> list[float | Unrewarded]:
        return [self._one(one) for one in answers]

    def _one(self, one: Answered) -> float | Unrewarded:
        started = time.monotonic()
        try:
            with _interrupted_after(self.seconds):
                found: Any = self.function(one.input, one.answer, one.wanted)
        except _TooSlow:
            return self._too_slow
        # The function is the user's: whatever goes wrong in it is about this answer, not about the training.
        except Exception as wrong:  # noqa: BLE001
            return Unrewarded(f"{type(wrong).__name__}: {' '.join(str(wrong).split())[:80]}")
        if time.monotonic() - started > self.seconds:
            return self._too_slow
        if found is None:
            return Unrewarded("the function gave None")
        try:
            return float(found)
        except (TypeError, ValueError):
            return Unrewarded(f"the function gave {type(found).__name__}, no number")

    @property
    def _too_slow(self) -> Unrewarded:
        return Unrewarded(f"the function took more than {self.seconds:g} s")


class _TooSlow(BaseException):
    """Not an Exception, so that a function which catches those is stopped all the same."""


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)


@contextmanager
def _interrupted_after(seconds: float) -> Iterator[None]:
    """Raises `_TooSlow` inside the block when the time is over, where signals allow it."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
