"""The page of a language model that learned from rewards: curves, what is wrong with a win, answers left out."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from autodidact.lm.task import Demonstration, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.methods.on_task import ALONE
from autodidact.report import write_report
from autodidact.training import Settings
from autodidact.verbs.improve import improve

STYLE = Style(opening="", demonstration="{input}>{output};", question="{input}>", stop=(";",))
TASK = Task(
    "The first letter.",
    examples=tuple(Demonstration(a + b, a) for a in "abc" for b in "abc"),
    test=(Demonstration("aba", "a"), Demonstration("bab", "b"), Demonstration("cab", "c")),
    style=STYLE,
    max_tokens=3,
)
REWARD = """
def reward(given, answer, wanted):
    if answer.startswith("b"):
        raise ValueError("no <b>")
    return None if "c" in answer else len(answer)
"""
WHY = ("ValueError: no <b>", "the function gave None")
METHODS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "policy_gradient": ({"group": 4}, [""]),
    "trajectory_balance": ({"group": 4}, [""]),
    "self_correct": ({"request": "!"}, ["stages/first", "stages/second"]),
}
"""Options of each method, and the folders of its trainings."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of methods that learn from a reward which is not known of every answer."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "mine.py").write_text(REWARD)
    for name, (options, _) in METHODS.items():
        improve(
            name,
            tiny_lm("abc>;!", width=16, depth=1, context=32),
            TASK,
            out=folder / name,
            settings=Settings(steps=3, batch_size=9, lr=1e-3),
            method_arguments={"reward": f"{folder / 'mine.py'}:reward", **options},
            quiet=True,
        )
    return {name: folder / name for name in METHODS}


def page(run: Path) -> str:
    return (run / "report.html").read_text()


def cells(html: str, label: str) -> list[list[str]]:
    """The cells of the table with that label, row by row."""
    (found,) = re.findall(rf'aria-label="{label}".*?</table>', html)
    rows = re.findall(r"<tr>(.*?)</tr>", found)
    return [[unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def test_the_reward_and_the_divergence_of_policy_gradients_are_drawn_beside_what_would_be_wrong_with_a_win(runs):
    html = page(runs["policy_gradient"])
    figures = dict(re.findall(r"<h4>(.*?) <span.*?</h4>(.*?)</figure>", html, re.DOTALL))
    for title, line in (("Reward", "reward"), ("Divergence from the start", "answers")):
        assert re.search(rf"{title}. {line}: from \S+ to \S+ over updates 1 to 3", figures[title])
    assert "left out: from" in figures["What lacks something"]
    table = cells(html, "Results")
    assert table[0] == ["", "right", "empty", "copied", "different", "length"]
    assert [row[0] for row in table[1:]] == ["before", "after"]


@pytest.mark.parametrize("name", METHODS)
def test_why_answers_that_were_drawn_were_dropped_is_counted_in_the_report(runs, name):
    html, (_, folders) = page(runs[name]), METHODS[name]
    for folder in folders:
        counts = json.loads((runs[name] / folder / "left_out.json").read_text())
        # Beside an answer without a reward another one may be left alone.
        assert set(WHY) <= set(counts) <= {*WHY, ALONE}
        assert min(counts.values()) > 0
        label = f"Why answers of {Path(folder).name or 'training'} were dropped"
        rows = sorted(counts.items(), key=lambda row: -row[1])
        assert cells(html, label) == [["why dropped", "answers"], *([why, str(count)] for why, count in rows)]
        said = f"{sum(counts.values())} drawn answers were dropped, since their reward is not known, or that of all "
        assert f"{said}they would be compared with." in html
    assert html.count("drawn answers were dropped") == len(folders)
    # There is no row of a stage to read.
    assert "Read some rows" not in html


def test_counts_of_dropped_answers_are_those_of_all_updates(runs):
    metrics = (runs["policy_gradient"] / "log" / "metrics.csv").read_text().splitlines()
    shares = [float(value) for _, name, value in (row.split(",") for row in metrics[1:]) if name == "loss/dropped"]
    counts = json.loads((runs["policy_gradient"] / "left_out.json").read_text())
    assert len(shares) == 3
    assert sum(counts.values()) == pytest.approx(9 * 4 * sum(shares))


def test_a_run_that_dropped_no_answer_says_nothing_of_it(runs, tmp_path):
    run = tmp_path / "run"
    settings = Settings(steps=2, batch_size=9, lr=1e-3)
    lm = tiny_lm("abc>;!", width=16, depth=1, context=32)
    improve("policy_gradient", lm, TASK, out=run, settings=settings, quiet=True, report=False)
    assert not (run / "left_out.json").exists()
    assert "What was made" not in write_report(run).read_text()
