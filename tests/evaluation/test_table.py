"""The Table: figures by arm, metric and seed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from autodidact.evaluation.table import Table


def filled() -> Table:
    table = Table({"data": "digits"})
    for seed, value in zip((4, 2, 3), (0.9, 0.8, 0.85), strict=True):
        table.add("pretrained", "knn", seed, value)
    for seed, value in zip((2, 3, 4), (0.7, 0.72, 0.71), strict=True):
        table.add("raw", "knn", seed, value)
    table.add("raw", "linear", 2, 0.5)
    return table


def test_values_come_by_ascending_seed() -> None:
    assert filled().values("pretrained", "knn") == [0.8, 0.85, 0.9]
    assert filled().seeds("pretrained", "knn") == [2, 3, 4]
    assert filled().values("pretrained", "linear") == []


def test_interval_of_the_mean_is_students_t() -> None:
    mean, low, high = filled().mean_interval("pretrained", "knn")
    # t quantile of 2 degrees of freedom at 97.5 %; sd of (0.8, 0.85, 0.9) is 0.05.
    half = 4.302652729696 * 0.05 / math.sqrt(3)
    np.testing.assert_allclose((mean, low, high), (0.85, 0.85 - half, 0.85 + half), rtol=1e-9)


def test_difference_is_paired_by_seed_not_by_place() -> None:
    difference = filled().difference("pretrained", "raw", "knn")
    pairs = np.array([0.8 - 0.7, 0.85 - 0.72, 0.9 - 0.71])
    half = stats.t.ppf(0.975, 2) * pairs.std(ddof=1) / math.sqrt(3)
    np.testing.assert_allclose(difference, (pairs.mean(), pairs.mean() - half, pairs.mean() + half), rtol=1e-9)


def test_difference_between_two_metrics_uses_the_shared_seeds() -> None:
    difference = filled().difference("pretrained", "raw", "knn", "linear")
    np.testing.assert_allclose(difference.mean, 0.8 - 0.5)
    assert (difference.low, difference.high) == (-math.inf, math.inf)


def test_difference_without_a_shared_seed_is_an_error() -> None:
    table = Table()
    table.add("a", "knn", 0, 0.5)
    table.add("b", "knn", 1, 0.5)
    with pytest.raises(ValueError, match="no seed in common"):
        table.difference("a", "b", "knn")


def test_a_cell_is_written_once() -> None:
    table = filled()
    assert table.has("raw", "linear", 2)
    assert not table.has("raw", "linear", 3)
    with pytest.raises(ValueError, match="already in the table"):
        table.add("raw", "linear", 2, 0.6)
    with pytest.raises(ValueError, match="not a figure"):
        table.add("raw", "linear", 3, math.nan)


def test_a_table_comes_back_from_its_file(tmp_path: Path) -> None:
    table = filled()
    table.add("Größe", "finetune+distill", 0, 1 / 3)
    path = table.save(tmp_path / "deep" / "t.json")
    assert Table.load(path) == table
    plain = json.loads(path.read_text())
    assert plain["figures"]["raw"]["knn"] == {"2": 0.7, "3": 0.72, "4": 0.71}
    assert plain["intervals"]["raw"]["linear"] == {"mean": 0.5, "low": None, "high": None}
    assert list(tmp_path.joinpath("deep").iterdir()) == [path]


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"figures": [1]}')
    with pytest.raises(ValueError, match=r"t\.json is not a table"):
        Table.load(tmp_path / "t.json")
    with pytest.raises(FileNotFoundError, match="no such table"):
        Table.load(tmp_path / "u.json")


def test_merging_takes_what_is_missing_and_refuses_contradictions() -> None:
    table, other = filled(), Table({"data": "other", "more": 1})
    other.add("raw", "knn", 2, 0.7)
    other.add("scratch", "knn", 2, 0.6)
    table.merge(other)
    assert table.values("scratch", "knn") == [0.6]
    assert table.about == {"data": "digits", "more": 1}
    third = Table()
    third.add("raw", "knn", 2, 0.71)
    with pytest.raises(ValueError, match="one table"):
        table.merge(third)


def test_an_unknown_arm_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'pretrained'"):
        filled().values("pretrain", "knn")
    with pytest.raises(ValueError, match="did you mean 'knn'"):
        filled().values("raw", "kn")


def test_text_is_aligned_and_says_how_sure_the_mean_is() -> None:
    lines = filled().text().splitlines()
    assert lines[1].split() == ["pretrained", "0.850", "±", "0.124", "-"]
    assert lines[2].split() == ["raw", "0.710", "±", "0.025", "0.500"]
    assert lines[0].index("knn") + 3 == lines[1].index("0.124") + 5 == lines[2].index("0.025") + 5


def test_markdown_has_one_cell_for_every_arm_and_metric() -> None:
    header, rule, *rows = filled().markdown().splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["", "knn", "linear"]
    assert set(rule) <= set("|-: ")
    assert [cell.strip() for cell in rows[0].strip("|").split("|")] == ["pretrained", "0.850 ± 0.124", "-"]
    assert len({len(line) for line in (header, rule, *rows)}) == 1
