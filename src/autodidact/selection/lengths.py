"""Length: which generated texts are about as long as the examples they should be like."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LengthWindow:
    """Lengths that are accepted: from `low`, and below `high`.

    Attributes
    ----------
    low, high : in characters.
    widened : by how many characters each end was moved, for want of a spread among the examples; 0 otherwise.
    """

    low: float
    high: float
    widened: float = 0.0

    def holds(self, text: str) -> bool:
        """Whether a text is as long as asked for."""
        return self.low <= len(text) < self.high


def length_window(demos: Sequence[str], widen: float = 0.5) -> LengthWindow:
    """Mean length of the examples, plus and minus two standard deviations, upper end excluded (SELF-GUIDE, 2407.12874).

    The standard deviation divides by the number of examples. Where it is 0, as for one example, nothing would be
    accepted; each end is then moved by `widen` times the mean length, and by one character at least.

    Parameters
    ----------
    demos : examples.
    widen : above 0, in units of their mean length.

    Raises
    ------
    ValueError
        No examples, widen <= 0.

    Warns
    -----
    UserWarning
        The window was widened, and by how much.
    """
    if not demos:
        raise ValueError("a window of lengths needs an example")
    if not widen > 0:
        raise ValueError(f"widen must be above 0, got {widen}")
    lengths = [len(demo) for demo in demos]
    mean, spread = statistics.fmean(lengths), statistics.pstdev(lengths)
    if spread:
        return LengthWindow(mean - 2 * spread, mean + 2 * spread)
    by = max(widen * mean, 1.0)
    warnings.warn(
        f"the {len(demos)} example(s) have one length, {mean:.0f} characters: lengths within {by:g} of it are accepted",
        stacklevel=2,
    )
    return LengthWindow(mean - by, mean + by, by)
