"""Tables: how columns are taken, what is missing, and reading another table with the same coding."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from autodidact.data import Schema, open_source
from autodidact.data.source import Source
from autodidact.data.table import table_source
from autodidact.data.table_file import read_frame

ROWS = 200


def column_of(source: Source, name: str) -> np.ndarray:
    for field in ("numeric", "categorical"):
        if field in source.schema and name in source.schema[field].columns:
            values = np.asarray(source.read(np.arange(len(source)))[field])
            return values[:, source.schema[field].columns.index(name)]
    raise AssertionError(f"no column {name} in {source.schema}")


def taken(series: object, **options) -> tuple[str, np.ndarray]:
    """Field and values of a column beside a plain one."""
    frame = pd.DataFrame({"c": series, "other": np.linspace(0.5, 9.5, len(series))})  # type: ignore[arg-type]
    source = table_source(frame, "t", **options)
    field = next((f for f in source.schema if "c" in source.schema[f].columns), "nowhere")
    return field, column_of(source, "c") if field in ("numeric", "categorical") else np.empty(0)


def test_numbers_are_numeric_and_missing_ones_nan():
    field, values = taken([1.5, None, 3.0])
    assert field == "numeric"
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, [1.5, np.nan, 3])


def test_few_texts_are_categorical_in_the_order_of_their_names_and_missing_ones_minus_one():
    frame = pd.DataFrame({"c": ["red", None, "blue", "red"]})
    source = table_source(frame, "t")
    assert source.schema["categorical"].categories == (("blue", "red"),)
    assert source.schema["categorical"].cardinalities == (2,)
    assert column_of(source, "c").tolist() == [1, -1, 0, 1]


def test_numbers_as_category_names_are_in_their_order():
    source = table_source(pd.DataFrame({"c": pd.Categorical([10, 9, 1])}), "t")
    assert source.schema["categorical"].categories == (("1", "9", "10"),)


@pytest.mark.parametrize("values", [[True, False, True], pd.array([True, None, False], dtype="boolean")])
def test_truth_values_are_categorical(values):
    field, codes = taken(values)
    assert field == "categorical"
    assert codes.tolist() == [{True: 1, False: 0}.get(v, -1) for v in values]


def test_truth_values_with_holes_read_from_csv_are_categorical(tmp_path: Path):
    (tmp_path / "t.csv").write_text("a,b\nTrue,1.5\n,2.5\nFalse,3.5\n")
    source = open_source(tmp_path / "t.csv")
    assert source.schema["categorical"].categories == (("False", "True"),)
    assert column_of(source, "a").tolist() == [1, -1, 0]


def test_numbers_written_as_text_are_numeric_and_strays_are_missing_and_told():
    texts = [str(i / 2) for i in range(ROWS)]
    texts[7] = "about three"
    frame = pd.DataFrame({"c": texts})
    source = table_source(frame, "t")
    expected = np.arange(ROWS) / 2
    expected[7] = np.nan
    np.testing.assert_array_equal(column_of(source, "c"), expected)
    assert "column 'c': 1 cells are no numbers and count as missing ('about three')" in source.notes


@pytest.mark.parametrize(
    "texts",
    [
        ["2020-01-01", "1969-12-31", None],
        ["2020-01-01T00:00:00Z", "1969-12-31T02:00:00+02:00", None],
        ["2020/01/01", "1969/12/31", None],
        ["01.01.2020", "31.12.1969", None],
        ["01/01/2020", "31/12/1969", None],
        ["01/01/2020", "12/31/1969", None],
        [dt.date(2020, 1, 1), dt.date(1969, 12, 31), None],
        pd.to_datetime(["2020-01-01", "1969-12-31", None]),
        pd.to_datetime(["2020-01-01", "1969-12-31", None]).tz_localize("UTC"),
    ],
    ids=["iso", "iso zone", "slashes", "dots", "day first", "month first", "dates", "stamps", "zoned stamps"],
)
def test_dates_are_days_since_1970(texts):
    frame = pd.DataFrame({"c": texts, "x": [1.5, 2.5, 3.5]})
    source = table_source(frame, "t")
    np.testing.assert_array_equal(column_of(source, "c"), [18262, -1, np.nan])
    assert source.schema["numeric"].units == ("days", None)


def test_a_time_of_day_is_part_of_a_day():
    source = table_source(pd.DataFrame({"c": ["2020-01-01 06:00", "2020-01-01 18:00", "2020-01-02 00:00"]}), "t")
    assert column_of(source, "c").tolist() == [18262.25, 18262.75, 18263]


def test_durations_are_numeric_in_seconds():
    _, values = taken(pd.to_timedelta([1.5, None, 90], unit="s"))
    np.testing.assert_array_equal(values, [1.5, np.nan, 90])


def test_text_is_left_aside_and_told():
    field, _ = taken([f"a note of number {i}, and nothing else" for i in range(ROWS)])
    assert field == "nowhere"
    frame = pd.DataFrame({"c": [f"note {i}" for i in range(ROWS)], "x": np.linspace(0, 1, ROWS)})
    assert any("'c' is left aside: text with 200 different values" in note for note in table_source(frame, "t").notes)


def test_the_number_of_categories_may_grow_with_the_table():
    many = [f"k{i % 90}" for i in range(1000)]
    assert taken(many)[0] == "categorical"
    assert taken(many[:ROWS])[0] == "nowhere"


def test_columns_can_be_told_how_to_be_taken():
    frame = pd.DataFrame(
        {
            "zip": [10115, 20095, 10115, 80331],
            "note": ["a", "b", "a", "b"],
            "code": ["x", "y", "x", "y"],
            "day": ["20200101", "20200102", "20200103", "20200104"],
            "x": [1.5, 2.5, 3.5, 4.5],
        }
    )
    source = open_source(frame, columns="zip=categorical,note=text,code=ignore,day=date")
    assert source.schema["categorical"].categories == (("10115", "20095", "80331"),)
    assert source.schema["numeric"].columns == ("day", "x")
    assert source.read(np.array([1, 0]))["text"] == ["b", "a"]
    np.testing.assert_array_equal(column_of(source, "day"), [18262, 18263, 18264, 18265])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"zap": "text"}, "did you mean 'zip'"),
        ({"zip": "txt"}, "did you mean 'text'"),
        ({"word": "numeric"}, "cannot be taken as numeric, for example 'hello'"),
        ({"word": "date"}, "cannot be taken as date"),
        ("zip", "NAME=KIND"),
    ],
)
def test_columns_told_wrongly_are_errors(columns, message):
    frame = pd.DataFrame({"zip": [1.5, 2.5], "word": ["hello", "you"]})
    with pytest.raises(ValueError, match=message):
        open_source(frame, columns=columns)


@pytest.mark.parametrize("name", ["anything", "Unnamed: 0"])
def test_row_numbers_are_left_aside(name):
    frame = pd.DataFrame({name: range(5, 5 + ROWS), "x": np.linspace(0, 1, ROWS)})
    source = table_source(frame, "t")
    assert source.schema["numeric"].columns == ("x",)
    assert f"column '{name}' is left aside: it numbers the rows" in source.notes


def test_distinct_whole_numbers_named_as_an_id_are_left_aside_and_others_kept():
    values = np.random.default_rng(0).permutation(10_000)[:ROWS]
    frame = pd.DataFrame({"patient_id": values, "width": values, "x": np.linspace(0, 1, ROWS)})
    assert table_source(frame, "t").schema["numeric"].columns == ("width", "x")


def test_a_table_of_one_column_keeps_it():
    assert table_source(pd.DataFrame({"c": range(5)}), "t").schema["numeric"].columns == ("c",)


def test_empty_columns_are_left_aside_and_constant_ones_told():
    frame = pd.DataFrame({"none": [None] * 3, "same": [2.0, 2.0, None], "word": ["a"] * 3, "x": [1.5, 2.5, 3.5]})
    source = table_source(frame, "t")
    assert source.schema["numeric"].columns == ("same", "x")
    assert source.notes == [
        "column 'none' is left aside: it has no value",
        "column 'same' is constant: 2",
        "column 'word' is constant: 'a'",
    ]


def test_infinite_cells_are_missing_and_told():
    source = table_source(pd.DataFrame({"c": [1.5, np.inf, 1e300]}), "t")
    np.testing.assert_array_equal(column_of(source, "c"), [1.5, np.nan, np.nan])
    assert "column 'c': 2 infinite cells are missing" in source.notes


def test_cells_that_hold_lists_are_left_aside():
    frame = pd.DataFrame({"c": [[1], [2]], "x": [1.5, 2.5]})
    assert any("cells are no single values" in note for note in table_source(frame, "t").notes)


def test_a_table_of_nothing_but_text_is_text():
    source = table_source(pd.DataFrame({"story": [f"it was night {i}" for i in range(ROWS)]}), "t")
    assert source.schema["text"].kind == "text"
    assert source.read(np.array([3]))["text"] == ["it was night 3"]


LABELS = [
    (["b", "a", None, "b"], "label", [1, 0, -1, 1], ("a", "b")),
    ([True, False, True, False], "label", [1, 0, 1, 0], ("False", "True")),
    ([3, 1, 3, 1], "label", [1, 0, 1, 0], ("1", "3")),
    ([3.0, 1.0, None, 1.0], "label", [1, 0, -1, 0], ("1", "3")),
    ([0.5, 1.25, None, 3.0], "target", [0.5, 1.25, np.nan, 3.0], ()),
]


@pytest.mark.parametrize(("values", "field", "expected", "classes"), LABELS)
def test_labels_are_classes_or_a_number_by_their_values(values, field, expected, classes):
    source = open_source(pd.DataFrame({"x": [1.5, 2.5, 3.5, 4.5], "y": values}), labels="y")
    np.testing.assert_array_equal(source.column(field), expected)
    assert source.schema[field].classes == classes
    assert source.schema["numeric"].columns == ("x",)


def test_many_whole_numbers_are_a_quantity():
    frame = pd.DataFrame({"x": np.linspace(0, 1, ROWS), "y": np.arange(ROWS) // 2})
    assert "target" in open_source(frame, labels="y").schema
    assert "label" in open_source(frame, labels="y", task="classes").schema
    assert "target" in open_source(frame.assign(y=np.arange(ROWS) % 3), labels="y", task="number").schema


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "z"}, "unknown label column of 'table' 'z'"),
        ({"labels": "empty"}, "every value is missing"),
        ({"labels": "word", "task": "number"}, "is not a number in 200 rows, for example 'w0'"),
        ({"labels": "word"}, "another value in each of its 200 rows"),
        ({"labels": "x", "task": "clases"}, "did you mean 'classes'"),
    ],
)
def test_labels_that_cannot_be_had_are_errors(options, message):
    frame = pd.DataFrame({"x": np.linspace(0, 1, ROWS), "word": [f"w{i}" for i in range(ROWS)], "empty": [None] * ROWS})
    with pytest.raises(ValueError, match=message):
        open_source(frame, **options)


@pytest.fixture
def trained() -> Schema:
    frame = pd.DataFrame(
        {
            "age": [1.5, 2.5, 3.5],
            "when": ["2020-01-01", "2020-01-02", None],
            "town": ["Bonn", "Köln", "Bonn"],
            "y": ["no", "yes", "no"],
        }
    )
    return open_source(frame, labels="y").schema


def test_another_table_is_read_with_the_same_coding(trained: Schema):
    frame = pd.DataFrame(
        {
            "extra": [0.1, 0.2, 0.3, 0.4],
            "town": ["Köln", "Aachen", None, "Bonn"],
            "y": ["yes", "maybe", None, "no"],
            "when": ["2020-01-03", "soon", None, "2020-01-01"],
            "age": ["7", "old", 9, None],
        }
    )
    source = open_source(frame, labels="y", like=trained)
    assert source.schema == trained
    np.testing.assert_array_equal(column_of(source, "age"), [7, np.nan, 9, np.nan])
    np.testing.assert_array_equal(column_of(source, "when"), [18264, np.nan, np.nan, 18262])
    assert column_of(source, "town").tolist() == [1, -1, -1, 0]
    assert source.column("label").tolist() == [1, -1, -1, 0]
    notes = "\n".join(source.notes)
    assert "column 'town': 1 cells with categories not seen before are missing" in notes
    assert "column 'age': 1 cells are no numbers" in notes
    assert "1 labels are of 1 classes that the model does not know ('maybe')" in notes
    assert "1 columns are left aside, the model does not know them: extra" in notes


def test_a_task_that_the_known_labels_contradict_is_an_error(trained: Schema):
    frame = pd.DataFrame({"age": [1.0], "when": [None], "town": ["Bonn"], "y": ["no"]})
    with pytest.raises(ValueError, match="task=number was asked for"):
        open_source(frame, labels="y", task="number", like=trained)


def test_another_table_needs_no_labels(trained: Schema):
    source = open_source(pd.DataFrame({"age": [1.0], "when": [None], "town": ["Bonn"]}), like=trained)
    assert "label" not in source.schema


def test_a_schema_read_back_from_json_codes_alike(trained: Schema):
    frame = pd.DataFrame({"age": [1.0], "when": ["2020-01-01"], "town": ["Köln"]})
    again = Schema.from_plain(trained.plain())
    one, two = open_source(frame, like=trained), open_source(frame, like=again)
    assert one.schema == two.schema
    assert column_of(two, "town").tolist() == [1]


def test_another_table_without_a_needed_column_is_an_error(trained: Schema):
    with pytest.raises(ValueError, match="lacks 2 of the 3 columns that are needed: when, town; it has age"):
        open_source(pd.DataFrame({"age": [1.0]}), like=trained)


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_separator_is_found(tmp_path: Path, mark: str):
    (tmp_path / "t.csv").write_text(f"a{mark}b\n1.5{mark}x\n2.5{mark}y\n")
    assert list(read_frame(tmp_path / "t.csv").columns) == ["a", "b"]


def test_marks_of_missing_values_are_missing(tmp_path: Path):
    (tmp_path / "t.csv").write_text("a,b\n1.5,x\n?,NA\n-,\n4.5,y\n")
    source = open_source(tmp_path / "t.csv")
    np.testing.assert_array_equal(column_of(source, "a"), [1.5, np.nan, np.nan, 4.5])
    assert column_of(source, "b").tolist() == [0, -1, -1, 1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_the_encoding_is_found(tmp_path: Path, encoding: str):
    (tmp_path / "t.csv").write_bytes("größe,ort\n1.5,Köln\n2.5,Bonn\n".encode(encoding))
    source = open_source(tmp_path / "t.csv")
    assert source.schema["numeric"].columns == ("größe",)
    assert source.schema["categorical"].categories == (("Bonn", "Köln"),)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv", "parquet"])
def test_every_kind_of_file_gives_the_same_source(tmp_path: Path, suffix: str):
    frame = pd.DataFrame({"a": [1.5, None, 3.5], "b": ["x", "y", None]})
    path = tmp_path / f"pets.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    source = open_source(path)
    assert source.name == "pets"
    np.testing.assert_array_equal(column_of(source, "a"), [1.5, np.nan, 3.5])
    assert column_of(source, "b").tolist() == [0, 1, -1]
    assert list(source.names) == ["pets:0", "pets:1", "pets:2"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "cannot be read as a table: the file is empty"),
        ("t.csv", b"a,b\n", "'t' has columns but no row"),
        ("t.csv", b'a,b\n"1,2\n3', "cannot be read as a table"),
        ("t.parquet", b"no parquet", "cannot be read as a table"),
        ("t.csv.gz", b"no gzip", "cannot be read as a table"),
    ],
)
def test_files_that_are_no_tables_are_errors(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path / name)


def test_a_folder_of_tables_is_one_table_with_ids_by_file(tmp_path: Path):
    folder = tmp_path / "months"
    folder.mkdir()
    (folder / "a.csv").write_text("x,k\n1.5,u\n2.5,v\n")
    (folder / "b.csv").write_text("x,k\n3.5,u\n")
    before = open_source(folder)
    assert column_of(before, "x").tolist() == [1.5, 2.5, 3.5]
    assert list(before.names) == ["a.csv:0", "a.csv:1", "b.csv:0"]
    (folder / "a.csv").write_text("x,k\n1.5,u\n2.5,v\n9.5,v\n")
    after = open_source(folder)
    assert set(before.ids) < set(after.ids)
    (folder / "c.csv").write_text("x,z\n1.5,u\n")
    with pytest.raises(ValueError, match=r"c\.csv has other columns than a\.csv"):
        open_source(folder)


def test_breast_cancer_with_holes_and_a_text_column_is_read_as_it_is(tmp_path: Path):
    from sklearn.datasets import load_breast_cancer

    frame = load_breast_cancer(as_frame=True).frame
    rng = np.random.default_rng(0)
    holes = rng.random((len(frame), 30)) < 0.05
    inputs = frame.drop(columns="target").mask(holes)
    table = inputs.assign(
        remark=[f"seen by doctor {i} on ward {i % 7}" for i in range(len(frame))], target=frame["target"]
    )
    table.to_csv(tmp_path / "cancer.csv", index=False)
    source = open_source(tmp_path / "cancer.csv", labels="target")
    values = np.asarray(source.read(np.arange(569))["numeric"])
    np.testing.assert_array_equal(values, inputs.to_numpy(np.float32))
    assert np.bincount(source.column("label")).tolist() == [212, 357]
    assert any("'remark' is left aside" in note for note in source.notes)
