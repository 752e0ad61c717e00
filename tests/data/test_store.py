"""Store: what is appended stays, what is torn is done again, nothing is decided twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from autodidact.data import ArraySource, Batch, Field, Ragged, Schema, Store, derive


def ten() -> ArraySource:
    return ArraySource("ten", {"x": np.arange(10)}, Schema(x=Field("group")), np.arange(100, 110))


def double(batch: Batch) -> dict:
    return {"y": batch["x"] * 2}


COLUMNS = {
    "whole": torch.tensor([1, 2, 3]),
    "half": torch.tensor([0.5, 1.5, 2.5]),
    "low": torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16),
    "truth": np.array([True, False, True]),
    "rows": np.arange(6.0).reshape(3, 2),
    "grids": torch.arange(24).reshape(3, 2, 4),
    "flags": torch.tensor([[True, False], [False, False], [True, True]]),
    "text": ["a", "b\n", "ü"],
    "maybe": ["a", None, "c"],
    "dicts": [{"k": 1}, {"k": 2}, {"k": 3}],
}


@pytest.mark.parametrize("kept", ["in memory", "on disk"])
@pytest.mark.parametrize("name", list(COLUMNS))
def test_a_column_comes_back_as_it_went_in(tmp_path: Path, name: str, kept: str):
    value = COLUMNS[name]
    store = Store(tmp_path if kept == "on disk" else None)
    store.append([5, 6], **{name: value[:2]})
    store.append([7], **{name: value[2:]})
    back = (Store(tmp_path) if kept == "on disk" else store).column(name)
    if isinstance(value, list):
        assert back == value
    else:
        expected = value.float().numpy() if name == "low" else np.asarray(value)
        np.testing.assert_array_equal(back, expected)
        assert np.asarray(back).dtype == expected.dtype


@pytest.mark.parametrize("width", [(), (3,)], ids=["scalars", "vectors"])
def test_ragged_columns_come_back(tmp_path: Path, width: tuple[int, ...]):
    parts = [torch.randn(n, *width) for n in (2, 0, 4)]
    store = Store(tmp_path)
    store.append([1, 2], r=Ragged.of(parts[:2]))
    store.append([3], r=Ragged.of(parts[2:]))
    back = Store(tmp_path).column("r")
    assert isinstance(back, Ragged)
    assert all(torch.equal(a, b) for a, b in zip(back, parts, strict=True))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.tensor([1]), "group"),
        (torch.tensor([1.5]), "target"),
        (torch.zeros(1, 4), "vector"),
        (torch.tensor([True]), "mask"),
        (["a"], "text"),
        ([3], "group"),
        (Ragged.of([torch.tensor([1])]), "sequence"),
    ],
)
def test_kinds_follow_the_first_rows(value, kind):
    store = Store()
    store.append([1], v=value)
    assert store.schema["v"].kind == kind


def test_a_given_schema_outlives_reopening(tmp_path: Path):
    Store(tmp_path, schema={"c": Field("label", classes=("a", "b"))}).append([1], c=np.array([0]))
    assert Store(tmp_path).schema["c"].classes == ("a", "b")


def test_rows_are_never_overwritten():
    store = Store()
    store.append([1, 2], v=np.array([1, 2]))
    with pytest.raises(ValueError, match="already has some of these ids"):
        store.append([2], v=np.array([9]))
    with pytest.raises(ValueError, match="already has some of these ids"):
        store.append([3, 3], v=np.array([9, 9]))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"w": np.array([1])}, r"has columns \['v'\], got \['w'\]"),
        ({"v": np.zeros((2, 2))}, "column 'v' has 2 rows for 1 ids"),
        ({"v": np.zeros((1, 3))}, r"have shape \(2,\), got \(3,\)"),
        ({}, "at least one column"),
        ({"v": np.zeros((1, 2)), "id": np.array([1])}, "none called 'id'"),
    ],
)
def test_rows_unlike_the_earlier_ones_are_an_error_and_change_nothing(columns, message):
    store = Store(name="s")
    store.append([1], v=np.zeros((1, 2)))
    with pytest.raises(ValueError, match=message):
        store.append([2], **columns)
    assert store.ids.tolist() == [1]
    assert len(store) == 1


def test_derive_visits_every_sample_once_and_keeps_the_reasons(tmp_path: Path):
    seen: list[int] = []

    def judge(batch: Batch) -> dict:
        seen.extend(batch["x"].tolist())
        return {"y": batch["x"] * 2, "dropped": ["odd" if x % 2 else None for x in batch["x"].tolist()]}

    store = derive(judge, ten(), Store(tmp_path), batch_size=3)
    assert seen == list(range(10))
    assert store.ids.tolist() == [100, 102, 104, 106, 108]
    assert store.column("y").tolist() == [0, 4, 8, 12, 16]
    assert store.dropped == {101: "odd", 103: "odd", 105: "odd", 107: "odd", 109: "odd"}
    assert Store(tmp_path).dropped == store.dropped


def test_a_crash_half_way_costs_only_the_batch_at_hand(tmp_path: Path):
    calls: list[list[int]] = []

    def breaks(batch: Batch) -> dict:
        calls.append(batch["x"].tolist())
        if len(calls) == 3:
            raise RuntimeError("the power is gone")
        return {"y": batch["x"] * 2, "dropped": ["no" if x == 1 else None for x in batch["x"].tolist()]}

    with pytest.raises(RuntimeError):
        derive(breaks, ten(), Store(tmp_path), batch_size=3)
    calls.append([])
    store = derive(breaks, ten(), Store(tmp_path), batch_size=3)
    assert calls == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [], [6, 7, 8], [9]]
    assert store.column("y").tolist() == [0, 4, 6, 8, 10, 12, 14, 16, 18]


def test_a_damaged_part_is_set_aside_and_only_its_rows_are_due(tmp_path: Path):
    derive(double, ten(), Store(tmp_path), batch_size=4)
    part = tmp_path / "part-000001.parquet"
    part.write_bytes(part.read_bytes()[:50])
    seen: list[int] = []

    def watched(batch: Batch) -> dict:
        seen.extend(batch["x"].tolist())
        return double(batch)

    with pytest.warns(UserWarning, match=r"part-000001\.parquet is damaged"):
        store = Store(tmp_path)
    derive(watched, ten(), store, batch_size=4)
    assert seen == [4, 5, 6, 7]
    again = Store(tmp_path)
    assert sorted(again.ids.tolist()) == list(range(100, 110))
    assert dict(zip(again.ids.tolist(), again.column("y").tolist(), strict=True)) == {100 + x: 2 * x for x in range(10)}


def test_half_a_journal_line_is_cut_off_and_that_sample_is_due_again(tmp_path: Path):
    Store(tmp_path).drop({100: "first", 101: "second {}"})
    journal = tmp_path / "dropped.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"id": 102, "reason": "thi')
    store = Store(tmp_path)
    assert store.dropped == {100: "first", 101: "second {}"}
    store.drop({102: "third"})
    assert Store(tmp_path).dropped[102] == "third"
    assert [json.loads(line)["id"] for line in journal.read_text().splitlines()] == [100, 101, 102]


def test_a_part_being_written_is_no_part(tmp_path: Path):
    Store(tmp_path).append([1], v=np.array([1]))
    (tmp_path / ".part-000001.parquet.99").write_bytes(b"half")
    assert Store(tmp_path).ids.tolist() == [1]


def test_a_second_writer_is_noticed(tmp_path: Path):
    first, second = Store(tmp_path), Store(tmp_path)
    first.append([1], v=np.array([1]))
    with pytest.raises(FileExistsError, match="one writer at a time"):
        second.append([2], v=np.array([2]))
    assert Store(tmp_path).ids.tolist() == [1]


def test_decided_ids_are_the_kept_and_the_dropped():
    store = Store()
    store.append([1], v=np.array([1]))
    store.drop({2: "no"})
    assert store.has([1, 2, 3]).tolist() == [True, True, False]


def test_a_batch_whose_rows_are_all_dropped_adds_no_row():
    store = derive(lambda batch: {"y": batch["x"], "dropped": ["no"] * len(batch)}, ten(), Store())
    assert len(store) == 0
    assert len(store.dropped) == 10


@pytest.mark.parametrize(
    ("rows", "message"),
    [({"y": [1]}, "returned 1 values for 10 samples"), ({"y": [0] * 10, "dropped": ["a"]}, "1 reasons")],
)
def test_a_derivation_of_another_length_is_an_error(rows, message):
    with pytest.raises(ValueError, match=message):
        derive(lambda _: rows, ten(), Store())


def test_the_table_has_ids_first():
    store = derive(double, ten(), Store())
    assert store.table().column_names == ["id", "y"]
    assert Store().table().num_rows == 0
