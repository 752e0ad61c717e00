"""What a person wrote about samples, as numbers: classes or a quantity, from values, folders or a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from autodidact.catalog.nearest import unknown
from autodidact.data.schema import Field
from autodidact.data.table_file import read_frame

if TYPE_CHECKING:
    import pandas as pd

Task = Literal["auto", "classes", "number"]
TASKS = ("auto", "classes", "number")

FILE_SUFFIXES = (".csv", ".tsv", ".parquet", ".csv.gz", ".tsv.gz")
_FILE_COLUMNS = ("file_name", "filename", "file", "name", "path", "image", "image_id", "id")
_LABEL_COLUMNS = ("label", "labels", "class", "target", "y", "category")


class Labels:
    """Labels of n samples.

    Attributes
    ----------
    field : "label" (classes) or "target" (a quantity); the name that the values have in a source.
    values : (n,) int64 with -1 where unknown, or float32 with NaN where unknown.
    about : its entry of the schema.
    notes : what a person should know.
    """

    def __init__(self, field: str, values: NDArray[Any], about: Field, notes: Sequence[str] = ()) -> None:
        self.field, self.values, self.about, self.notes = field, values, about, list(notes)


def coded(values: Any, name: str, task: Task = "auto", like: Field | None = None) -> Labels:
    """Labels from raw values: strings, booleans, numbers, missing ones among them.

    Strings, booleans and categories are classes. Whole numbers are classes where they take at most 20 values, or at
    most 100 with 20 samples each on average; other numbers are a quantity. Classes are ordered by number where all
    their names are numbers, else by name.

    Parameters
    ----------
    values : n values, anything pandas takes.
    name : name of the column, for messages.
    task : "classes" or "number" decide instead of the rule above.
    like : entry of another source's schema whose classes (or quantity) are to be used; a class that it lacks is
        unknown.

    Raises
    ------
    ValueError
        No value is known, a quantity is asked of text, or classes differ in every sample.
    """
    import pandas as pd

    if task not in TASKS:
        raise unknown("task", task, TASKS)
    series = pd.Series(values).reset_index(drop=True)
    known = series.notna()
    if not known.any():
        raise ValueError(f"column '{name}' holds no label: every value is missing")
    numbers = series.astype("float64") if pd.api.types.is_numeric_dtype(series) else None
    if like is not None:
        kind: Task = "classes" if like.kind == "label" else "number"
        if task not in ("auto", kind):
            raise ValueError(f"task={task} was asked for, but the labels are to be like known ones: task={kind}")
        task = kind
    if task == "number" or (task == "auto" and numbers is not None and not _are_classes(series, numbers)):
        if numbers is None:
            numbers = pd.to_numeric(series, errors="coerce")
            if (bad := int((numbers.isna() & known).sum())) > 0:
                example = series[numbers.isna() & known].iloc[0]
                raise ValueError(f"column '{name}' is not a number in {bad:,} rows, for example {str(example)!r}")
        return Labels("target", numbers.to_numpy(np.float32, na_value=np.nan), Field("target", columns=(name,)))
    texts = [category_name(v) if k else None for v, k in zip(series.tolist(), known.tolist(), strict=True)]
    return classes_of(texts, name, like)


def _are_classes(series: pd.Series, numbers: pd.Series) -> bool:
    import pandas as pd

    if pd.api.types.is_bool_dtype(series):
        return True
    present = numbers.dropna()
    distinct = present.nunique()
    whole = bool((present == present.round()).all())
    return whole and (distinct <= 20 or (distinct <= 100 and len(present) >= 20 * distinct))


def classes_of(texts: Sequence[str | None], name: str, like: Field | None = None, *, distinct: bool = False) -> Labels:
    """Class labels from names, None where unknown; `distinct` allows as many classes as samples."""
    present = {text for text in texts if text is not None}
    if like is None and not distinct and len(present) > 50 and len(present) == sum(text is not None for text in texts):
        raise ValueError(
            f"column '{name}' has another value in each of its {len(present):,} rows: these are no classes"
        )
    order = like.classes if like is not None else tuple(sorted(present, key=natural))
    index = {text: i for i, text in enumerate(order)}
    values = np.array([index.get(text, -1) if text is not None else -1 for text in texts], dtype=np.int64)
    notes = []
    strange = Counter(text for text in texts if text is not None and text not in index)
    if strange:
        shown = ", ".join(f"'{text}'" for text, _ in strange.most_common(5))
        notes.append(
            f"{sum(strange.values()):,} labels are of {len(strange)} classes that the model does not know ({shown})"
        )
    return Labels("label", values, Field("label", classes=order), notes)


def recoded(values: Sequence[Any], about: Field) -> NDArray[Any]:
    """Values of more samples by the classes (or as the quantity) of a label that is known already.

    Parameters
    ----------
    about : entry of the label in a schema.
    """
    import pandas as pd

    if about.kind == "target":
        return pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").to_numpy(np.float32, na_value=np.nan)
    known = [value is not None and value == value for value in values]
    return classes_of([category_name(v) if k else None for v, k in zip(values, known, strict=True)], "", about).values


def category_name(value: Any) -> str:
    """The name of a class or category: 3.0 is "3", True is "True"."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def natural(text: str) -> tuple[int, float, str]:
    """A sort key that puts "10" after "9", and numbers before names."""
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)


def labels_file(spec: str, beside: Path) -> tuple[Path, list[str]] | None:
    """The file of ``FILE[:FILE_COLUMN[:LABEL_COLUMN]]`` or ``FILE:LABEL_COLUMN`` and the columns; None if it names
    none.

    The file is looked for in the working directory, then in `beside`.
    """
    parts = spec.split(":")
    for cut in range(len(parts), 0, -1):
        name = ":".join(parts[:cut])
        for path in (Path(name).expanduser(), beside / name):
            if path.is_file() or (path.is_dir() and any(path.glob("*.csv"))):
                return path, parts[cut:]
    if parts[0].lower().endswith(FILE_SUFFIXES):
        raise FileNotFoundError(f"the file of labels '{parts[0]}' is neither here nor in {beside}")
    return None


def from_file(
    path: Path, columns: Sequence[str], names: Sequence[str], task: Task = "auto", like: Field | None = None
) -> Labels:
    """Labels of named files from a CSV or Parquet file (or a folder of CSV files) that has a row for each.

    A row belongs to the file whose relative name it gives, else to the one whose base name, with or without suffix, it
    gives and no other has. Without `columns` the file column is the one whose values are found most often, and the
    label column the one called label, class, target, y or category, or the only other one.

    Raises
    ------
    ValueError
        A column is absent or cannot be guessed, two rows contradict each other, or no row belongs to any file.
    """
    import pandas as pd

    parts = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    table = pd.concat([read_frame(part) for part in parts], ignore_index=True)
    for column in columns:
        if column not in table.columns:
            raise unknown(f"column of {path.name}", column, [str(c) for c in table.columns])
    places = _places(names)
    file_column = columns[0] if len(columns) == 2 else _file_column(table, places, path, set(columns))
    label_column = columns[-1] if columns else _label_column(table, file_column, path)
    rows = np.full(len(names), -1, dtype=np.int64)
    strangers = 0
    for row, given in enumerate(_written(table[file_column])):
        place = _place(places, given)
        if place is None:
            strangers += 1
        elif rows[place] >= 0 and _differ(table[label_column].iloc[rows[place]], table[label_column].iloc[row]):
            raise ValueError(f"{path.name} gives '{names[place]}' two labels (rows {rows[place] + 1} and {row + 1})")
        else:
            rows[place] = row
    if (rows < 0).all():
        example = table[file_column].iloc[0] if len(table) else ""
        raise ValueError(
            f"no row of {path.name} names one of the files: column '{file_column}' has for example '{example}', the "
            f"files are named like '{names[0]}'"
        )
    found = table[label_column].where(table[label_column].notna(), None)
    labels = coded([found.iloc[row] if row >= 0 else None for row in rows], str(label_column), task, like)
    labels.notes.append(f"labels from {path.name}, column '{label_column}', by '{file_column}'")
    if missing := int((rows < 0).sum()):
        labels.notes.append(f"{missing:,} files have no row in {path.name}: their label is unknown")
    if strangers:
        labels.notes.append(f"{strangers:,} rows of {path.name} name no file that is there")
    return labels


def _written(column: pd.Series) -> list[str]:
    return [
        "" if missing else category_name(v) for v, missing in zip(column.tolist(), column.isna().tolist(), strict=True)
    ]


def _differ(first: Any, second: Any) -> bool:
    return bool(first != second) and not (first is None or second is None or (first != first and second != second))


def _places(names: Sequence[str]) -> dict[str, int | None]:
    """Every way to name a file -> its position; None where two files share it."""
    places: dict[str, int | None] = {}
    for index, name in enumerate(names):
        base = name.rsplit("/", 1)[-1]
        for way in {base, base.rsplit(".", 1)[0], name.rsplit(".", 1)[0]} - {name}:
            places[way] = None if way in places else index
    return places | {name: index for index, name in enumerate(names)}


def _place(places: dict[str, int | None], given: str) -> int | None:
    given = given.strip().replace("\\", "/").removeprefix("./")
    while given not in places and "/" in given:
        given = given.split("/", 1)[1]
    return places.get(given)


def _file_column(table: pd.DataFrame, places: dict[str, int | None], path: Path, taken: set[str]) -> Any:
    best, most = None, 0
    for column in table.columns:
        if column in taken:
            continue
        found = sum(_place(places, text) is not None for text in _written(table[column].head(1000)))
        # Among equals the usual names win, then the first column.
        if found > most or (found == most > 0 and column in _FILE_COLUMNS and best not in _FILE_COLUMNS):
            best, most = column, found
    if best is None:
        raise ValueError(f"no column of {path.name} names the files; it has {', '.join(map(str, table.columns))}")
    return best


def _label_column(table: pd.DataFrame, file_column: Any, path: Path) -> Any:
    others = [column for column in table.columns if column != file_column]
    named = [column for column in others if str(column).lower() in _LABEL_COLUMNS]
    if len(named) == 1 or len(others) == 1:
        return (named or others)[0]
    raise ValueError(
        f"which column of {path.name} holds the labels? Say {path.name}:COLUMN with one of "
        f"{', '.join(map(str, others))}"
    )
