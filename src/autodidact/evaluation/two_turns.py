"""How a model answers, and how it answers when it is asked again: what SCoRe (2409.12917, section 3) measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autodidact.lm.task import Demonstration, Task
from autodidact.measures.editing import edit_ratio

Right = Callable[[Demonstration, str], bool]
"""A test input with the wanted output, and an answer -> whether it is right."""


def transitions(task: Task, answers: Sequence[tuple[str, str]], right: Right | None = None) -> dict[str, float]:
    """Figures of two answers to each of the task's test inputs.

    Parameters
    ----------
    right : default the task's checker; for questions that have several right answers.

    Returns
    -------
    dict
        ``first``, ``second``: shares of right answers in either turn; ``delta``: second less first; ``fixed``: share
        that was wrong and became right; ``broken``: share that was right and became wrong, so that delta is fixed less
        broken; ``edited``: share of second answers that differ from the first; ``edit_ratio``: mean edit distance of
        the two, as a share of the longer one.

    Raises
    ------
    ValueError : the task has no test inputs, or numbers differ.
    """
    if not task.test or len(answers) != len(task.test):
        raise ValueError(f"{len(answers)} pairs of answers for {len(task.test)} test inputs")
    judge = right or (lambda one, said: task.right(said, one.output, one.input))
    count = len(answers)
    pairs = [(judge(one, a), judge(one, b)) for (a, b), one in zip(answers, task.test, strict=True)]
    first, second = (sum(pair[turn] for pair in pairs) / count for turn in (0, 1))
    fixed, broken = (sum(pair == change for pair in pairs) / count for change in ((False, True), (True, False)))
    return {
        "first": first,
        "second": second,
        "delta": fixed - broken,
        "fixed": fixed,
        "broken": broken,
        "edited": sum(a != b for a, b in answers) / count,
        "edit_ratio": sum(edit_ratio(a, b) for a, b in answers) / count,
    }
