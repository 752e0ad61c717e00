"""Sources: reading, choosing, joining and combining, by stable ids."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autodidact.data import ArraySource, Batch, Field, Ragged, Schema, Store, chained, mixed, together
from autodidact.data.ids import positions_of, row_ids, sample_id, sample_ids


def numbers(name: str, values: list[float], start: int = 0) -> ArraySource:
    array = np.array(values, dtype=np.float32)
    ids = np.arange(start, start + len(values))
    return ArraySource(name, {"x": array}, Schema(x=Field("target")), ids)


def test_an_id_depends_on_source_name_and_index_alone():
    assert sample_id("photos", "a/1.png") == sample_ids("photos", ["b", "a/1.png"])[1]
    assert sample_id("photos", "a", 7) == row_ids("photos", "a", 9)[7]
    assert (
        len({sample_id("photos", "a"), sample_id("photos", "b"), sample_id("other", "a"), sample_id("photosa", "")})
        == 4
    )


def test_ids_of_a_million_rows_are_distinct_and_fit_int64():
    ids = row_ids("table", "", 1_000_000)
    assert len(np.unique(ids)) == 1_000_000
    assert ids.min() >= 0


def test_row_ids_do_not_change_when_rows_are_appended():
    assert row_ids("t", "", 10).tolist() == row_ids("t", "", 20)[:10].tolist()


@given(st.lists(st.integers(0, 50), unique=True), st.lists(st.integers(0, 50)))
def test_positions_of_finds_every_id_and_marks_the_absent(ids, wanted):
    found = positions_of(np.array(ids, dtype=np.int64), wanted)
    assert found.tolist() == [ids.index(w) if w in ids else -1 for w in wanted]


def test_only_keeps_the_order_of_the_ids_asked_for():
    source = numbers("s", [0, 10, 20, 30], start=5)
    part = source.only([8, 5])
    assert part.read(np.array([0, 1]))["x"].tolist() == [30, 0]
    assert part.ids.tolist() == [8, 5]
    assert list(part.names) == ["3", "0"]
    assert part.column("x").tolist() == [30, 0]


def test_an_unknown_id_is_an_error_that_counts():
    with pytest.raises(ValueError, match="2 of 3 ids are not in source 's'"):
        numbers("s", [1, 2]).only([0, 8, 9])


def test_a_part_of_a_part_reads_the_source_itself():
    source = numbers("s", [0, 10, 20, 30])
    part = source.at([3, 2, 1]).at([2, 0])
    assert part.base is source  # type: ignore[attr-defined]
    assert part.read(np.array([0, 1]))["x"].tolist() == [10, 30]
    assert list(part.names[0:2]) == ["1", "3"]


def test_in_order_visits_every_sample_once():
    batches = list(numbers("s", list(range(7))).in_order(3))
    assert [len(b) for b in batches] == [3, 3, 1]
    assert torch.cat([b["x"] for b in batches]).tolist() == list(range(7))


def test_without_hides_a_field_from_schema_batches_and_columns():
    source = ArraySource(
        "s", {"a": np.arange(3), "b": np.arange(3)}, Schema(a=Field("group"), b=Field("label")), np.arange(3)
    )
    bare = source.without("b")
    assert list(bare.schema) == ["a"]
    assert list(bare.read(np.array([1]))) == ["a"]
    with pytest.raises(ValueError, match="no field 'b'"):
        bare.column("b")


def test_fields_of_unequal_length_are_an_error():
    with pytest.raises(ValueError, match="field 'x' has 2 rows, the source has 3"):
        ArraySource("s", {"x": np.zeros(2)}, Schema(x=Field("target")), np.arange(3))


def test_columns_of_a_store_become_fields_and_absent_samples_are_left_out():
    source = numbers("s", [0, 10, 20, 30])
    store = Store()
    store.append([3, 1], code=torch.tensor([33, 11]), note=["c", "a"])
    joined = source.joined(store)
    assert joined.ids.tolist() == [1, 3]
    assert joined.missing == 2  # type: ignore[attr-defined]
    batch = joined.batch(np.array([1, 0]))
    assert batch["x"].tolist() == [30, 10]
    assert batch["code"].tolist() == [33, 11]
    assert batch["note"] == ["c", "a"]
    assert joined.column("code").tolist() == [11, 33]
    assert joined.schema["code"].kind == "group"
    assert joined.schema["note"].kind == "text"


def test_a_joined_column_replaces_a_field_of_its_name():
    store = Store()
    store.append([0, 1], x=np.array([5.0, 6.0]))
    assert numbers("s", [1, 2]).joined(store).read(np.array([0, 1]))["x"].tolist() == [5, 6]


def test_only_the_columns_asked_for_are_joined():
    store = Store()
    store.append([0, 1], a=np.array([1, 2]), b=np.array([3, 4]))
    assert list(numbers("s", [1, 2]).joined(store, ["b"]).schema) == ["x", "b"]
    with pytest.raises(ValueError, match="has no column 'c'"):
        numbers("s", [1, 2]).joined(store, ["c"])


def test_a_store_of_other_samples_cannot_be_joined():
    store = Store(name="codes")
    store.append([77], a=np.array([1]))
    with pytest.raises(ValueError, match="no sample of 's' is in the store 'codes'"):
        numbers("s", [1, 2]).joined(store)


def test_together_prefixes_fields_and_refuses_reading_by_position():
    both = together(shares={"b": 2.0}, a=numbers("p", [1, 2]), b=numbers("q", [3, 4, 5], start=10))
    assert list(both.schema) == ["a.x", "b.x"]
    assert both.column("b.x").tolist() == [3, 4, 5]
    assert both.shares == {"a": 1.0, "b": 2.0}
    assert both.names[0] == "a/0"
    with pytest.raises(TypeError, match="stream by stream"):
        both.batch(np.array([0]))


def test_mixed_rates_follow_the_sizes_unless_given():
    a, b = numbers("p", [1, 2]), numbers("q", [3, 4, 5], start=10)
    assert mixed(a=a, b=b).shares == {"a": 2.0, "b": 3.0}
    assert mixed(rates={"a": 1, "b": 4}, a=a, b=b).shares == {"a": 1.0, "b": 4.0}


def test_unknown_streams_and_impossible_shares_are_errors():
    a = numbers("p", [1, 2])
    with pytest.raises(ValueError, match="no source named c; there is a"):
        together(shares={"c": 1}, a=a)
    with pytest.raises(ValueError, match="must be positive"):
        together(shares={"a": 0}, a=a)
    with pytest.raises(ValueError, match="no rate for b"):
        mixed(rates={"a": 1}, a=a, b=a)
    with pytest.raises(ValueError, match="at least one source"):
        chained()


def test_chained_sources_read_by_position_are_one_after_another():
    both = chained(a=numbers("p", [1, 2]), b=numbers("q", [3, 4, 5], start=10))
    assert list(both.schema) == ["x"]
    assert both.read(np.array([4, 0, 2, 1]))["x"].tolist() == [5, 1, 3, 2]
    assert both.batch(np.array([3])).ids.tolist() == [11]
    assert both.column("x").tolist() == [1, 2, 3, 4, 5]


def test_chained_sources_must_agree_on_what_a_field_is():
    other = ArraySource("q", {"x": np.arange(2)}, Schema(x=Field("label", classes=("a", "b"))), np.arange(2))
    with pytest.raises(ValueError, match="field 'x' of 'b'"):
        chained(a=numbers("p", [1, 2]), b=other)


@given(st.lists(st.lists(st.integers(0, 9)), min_size=1), st.data())
def test_ragged_select_equals_picking_from_a_list(lists, data):
    ragged = Ragged.of([torch.tensor(item, dtype=torch.long) for item in lists])
    index = data.draw(st.lists(st.integers(0, len(lists) - 1)))
    picked = ragged.select(torch.tensor(index, dtype=torch.long))
    assert [t.tolist() for t in picked] == [lists[i] for i in index]


def test_ragged_padding_marks_what_is_real():
    dense, mask = Ragged.of([torch.tensor([1.0, 2.0]), torch.tensor([3.0])]).padded(-1)
    assert dense.tolist() == [[1, 2], [3, -1]]
    assert mask.tolist() == [[True, True], [True, False]]


def test_a_batch_selects_every_kind_of_field():
    batch = Batch(
        torch.tensor([7, 8, 9]),
        {"x": torch.tensor([1, 2, 3]), "r": Ragged.of([torch.tensor([k]) for k in (4, 5, 6)]), "t": ["a", "b", "c"]},
    )
    some = batch.select(torch.tensor([2, 0]))
    assert some.ids.tolist() == [9, 7]
    assert some["x"].tolist() == [3, 1]
    assert some["r"].values.tolist() == [6, 4]
    assert some["t"] == ["c", "a"]


def test_a_batch_of_streams_has_no_common_positions():
    part = Batch(torch.tensor([1]), {"x": torch.tensor([1])})
    with pytest.raises(TypeError, match="no common positions"):
        Batch(torch.tensor([1]), {}, {}, {"a": part}).select(torch.tensor([0]))


def test_a_missing_field_is_named_with_those_there_are():
    with pytest.raises(KeyError, match="no 'y'; it has x"):
        Batch(torch.tensor([1]), {"x": torch.tensor([1])})["y"]


def test_a_schema_survives_its_plain_form():
    schema = Schema(
        numeric=Field("numeric", shape=(2,), columns=("a", "b"), units=(None, "days")),
        categorical=Field("categorical", shape=(1,), columns=("c",), cardinalities=(2,), categories=(("x", "y"),)),
        image=Field("image", shape=(1, 2, 3), unit="px", time_axis=0),
    )
    assert Schema.from_plain(schema.plain()) == schema


def test_a_schema_names_the_field_that_is_needed_and_what_there_is():
    with pytest.raises(ValueError, match=r"method needs a field 'image' of kind image; this data has x \(target\)"):
        numbers("s", [1]).schema.require({"image": "image"}, "method")


def test_sources_survive_pickling():
    source = numbers("s", [0, 10, 20]).at([2, 0])
    again = pickle.loads(pickle.dumps(source))
    assert again.read(np.array([0, 1]))["x"].tolist() == [20, 0]
    assert list(again.names) == ["2", "0"]
