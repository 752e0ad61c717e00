"""How well a language model answers the inputs of a task, and whether it wins by degenerate means."""

from __future__ import annotations

from collections.abc import Sequence

from autodidact.evaluation.table import Table
from autodidact.lm import LM, Sampling
from autodidact.lm.task import Task

RIGHT = "right"


def answer(lm: LM, task: Task, inputs: Sequence[str]) -> list[str]:
    """The likeliest answer to each input, asked with the task's demonstrations, without spaces around it."""
    sampling = Sampling(max_tokens=task.max_tokens, temperature=0.0, stop=task.style.stop)
    return [found[0].text.strip() for found in lm.generate([task.prompt(text) for text in inputs], sampling)]


def judged(task: Task, answers: Sequence[str]) -> dict[str, float]:
    """Figures of the answers to the task's test inputs, in their order.

    Returns
    -------
    dict
        ``right``: share that the task's checker takes for the wanted one. Beside it what would be wrong with a win:
        ``empty``, ``copied`` (the input itself) and ``different`` (distinct answers by their number, against one answer
        for everything), all shares; ``length``: mean, in characters.

    Raises
    ------
    ValueError : the task has no test inputs, or numbers differ.
    """
    return _figures(task, answers, _right(task, answers))


def _right(task: Task, answers: Sequence[str]) -> list[bool]:
    """Which answers to the test inputs are right. Found out once for all figures: a program may have to run for it."""
    if not task.test or len(answers) != len(task.test):
        raise ValueError(f"{len(answers)} answers for {len(task.test)} test inputs")
    return [task.right(said, one.output, one.input) for said, one in zip(answers, task.test, strict=True)]


def _figures(task: Task, answers: Sequence[str], right: Sequence[bool]) -> dict[str, float]:
    count = len(answers)
    return {
        RIGHT: sum(right) / count,
        "empty": sum(not said for said in answers) / count,
        "copied": sum(said == one.input.strip() for said, one in zip(answers, task.test, strict=True)) / count,
        "different": len(set(answers)) / count,
        "length": sum(map(len, answers)) / count,
    }


def compared(task: Task, before: list[str], after: list[str]) -> Table:
    """The model's answers to the test inputs before and after, as a table."""
    first, second = _right(task, before), _right(task, after)
    found = {"before": _figures(task, before, first), "after": _figures(task, after, second)}
    changes = list(zip(first, second, strict=True))
    fixed, broken = changes.count((False, True)), changes.count((True, False))
    table = Table(
        {
            "title": "The task's test inputs, answered with the demonstrations",
            "sentence": f"{found['before'][RIGHT]:.1%} of the {len(task.test):,} answers were right before, "
            f"{found['after'][RIGHT]:.1%} are now: {fixed:,} became right and {broken:,} wrong.",
            "checker": task.checked_by,
        }
    )
    for arm, figures in found.items():
        for metric, value in figures.items():
            table.add(arm, metric, 0, value)
    return table
