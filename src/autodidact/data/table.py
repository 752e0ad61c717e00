"""A table as people have it, as numbers a network can take: numeric, categorical, date, text, label.

The schema holds everything that was decided (columns, units, category names), so that another table is read with the
same coding by giving it as `like`. Missing values stay missing: NaN in numeric columns, -1 in categorical ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from autodidact.catalog.nearest import unknown
from autodidact.data.ids import Ids, row_ids
from autodidact.data.labels import Labels, Task, category_name, coded, natural
from autodidact.data.schema import Field, Schema
from autodidact.data.source import ArraySource, RowNames

if TYPE_CHECKING:
    import pandas as pd

ColumnKind = Literal["numeric", "categorical", "date", "text", "ignore"]
KINDS = get_args(ColumnKind)
# %Y%m%d looks like a number, so it counts only where a date is asked for; it is last.
_DATE_FORMATS = ("ISO8601", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%Y%m%d")
_MOSTLY = 0.9


@dataclass
class _Coding:
    """Columns of a table on their way to arrays."""

    numeric: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    units: dict[str, str | None] = field(default_factory=dict)
    categorical: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    text: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def table_source(
    frame: pd.DataFrame,
    name: str,
    *,
    ids: Ids | None = None,
    names: Sequence[str] | None = None,
    labels: str | Labels | None = None,
    task: Task = "auto",
    columns: Mapping[str, ColumnKind] | None = None,
    like: Schema | None = None,
    notes: Sequence[str] = (),
) -> ArraySource:
    """A source with the fields "numeric", "categorical", "text" and "label" or "target", as far as the table has them.

    How a column is taken, where `columns` does not say: numbers are numeric; dates and times are numeric, in days since
    1970-01-01 UTC (of 03/04/2020, where no other cell tells, the month is 3); text that is a number (or a date) in at
    least 90 % of its cells is numeric, the other cells missing; booleans, and text with at most max(20, min(1000, rows
    / 10)) different values, are categorical; other text is left aside, unless the table has nothing else. Whole numbers
    that count the rows, or differ in each and are named as an id, are left aside. Columns without any value are left
    aside; columns with one value are kept and named in the notes.

    Parameters
    ----------
    frame : the rows.
    ids, names : of the rows; default made of `name` and row number.
    labels : column that holds the label, which is no input then; or labels that are coded already.
    task : whether labels are "classes" or a "number"; see `labels.coded`.
    columns : column -> kind, where the rules above are not what is wanted.
    like : schema of an earlier source whose columns, categories and classes are to be used: a missing column is an
        error, an unknown one is left aside, an unseen category is missing.
    """
    columns = dict(columns or {})
    frame = frame.rename(columns=str)
    present = list(frame.columns)
    if duplicates := sorted({c for c in present if present.count(c) > 1}):
        raise ValueError(f"'{name}' has several columns called {', '.join(duplicates)}")
    if len(frame) == 0:
        raise ValueError(f"'{name}' has columns but no row")
    for column, kind in columns.items():
        if column not in present:
            raise unknown(f"column of '{name}'", column, present)
        if kind not in KINDS:
            raise unknown(f"kind of column '{column}'", kind, KINDS)
    if isinstance(labels, str):
        if labels not in present:
            raise unknown(f"label column of '{name}'", labels, present)
        known = None if like is None else like.get("label") or like.get("target")
        label: Labels | None = coded(frame[labels], labels, task, known)
        inputs = frame.drop(columns=labels)
    else:
        label, inputs = labels, frame
    coding = _Coding()
    if like is not None and any(entry.kind in ("numeric", "categorical", "text") for entry in like.values()):
        _code_like(inputs, coding, like, name)
    else:
        for column in inputs.columns:
            _code(column, inputs[column], columns.get(column), coding, len(inputs.columns) == 1)
        if not coding.numeric and not coding.categorical and not coding.text:
            texts = [c for c in inputs.columns if columns.get(c) != "ignore" and _is_text(inputs[c])]
            for column in texts:
                coding.text[column] = _texts(inputs[column])
    return _assemble(frame, name, ids, names, label, coding, notes)


def _assemble(
    frame: pd.DataFrame,
    name: str,
    ids: Ids | None,
    names: Sequence[str] | None,
    label: Labels | None,
    coding: _Coding,
    notes: Sequence[str],
) -> ArraySource:
    fields: dict[str, Any] = {}
    schema = Schema()
    if coding.numeric:
        fields["numeric"] = np.stack(list(coding.numeric.values()), axis=1)
        units = tuple(coding.units.get(column) for column in coding.numeric)
        schema["numeric"] = Field(
            "numeric",
            shape=(len(coding.numeric),),
            columns=tuple(coding.numeric),
            units=units if any(units) else (),
        )
    if coding.categorical:
        fields["categorical"] = np.stack(list(coding.categorical.values()), axis=1)
        categories = tuple(coding.categories[column] for column in coding.categorical)
        schema["categorical"] = Field(
            "categorical",
            shape=(len(coding.categorical),),
            columns=tuple(coding.categorical),
            cardinalities=tuple(len(names_) for names_ in categories),
            categories=categories,
        )
    for column, texts in coding.text.items():
        own = "text" if len(coding.text) == 1 else column
        if own in fields:
            raise ValueError(f"text column '{column}' of '{name}' is called as a field is; rename it")
        fields[own] = texts
        schema[own] = Field("text", columns=(column,))
    if not fields:
        raise ValueError(f"no column of '{name}' can be used: {'; '.join(coding.notes)}")
    said = [*notes, *coding.notes]
    if label is not None:
        fields[label.field] = label.values
        schema[label.field] = label.about
        said += label.notes
    source = ArraySource(
        name,
        fields,
        schema,
        row_ids(name, "", len(frame)) if ids is None else ids,
        RowNames(len(frame), f"{name}:") if names is None else names,
    )
    source.notes = said
    return source


def _code(column: str, series: pd.Series, kind: ColumnKind | None, coding: _Coding, alone: bool) -> None:
    import pandas as pd

    if kind == "ignore":
        return
    if not series.notna().any():
        coding.notes.append(f"column '{column}' is left aside: it has no value")
        return
    if kind == "text":
        coding.text[column] = _texts(series)
        return
    if kind is None and not _is_scalar(series):
        coding.notes.append(f"column '{column}' is left aside: its cells are no single values")
        return
    if kind in (None, "numeric") and (numbers := _numbers(series)) is not None:
        if kind is None and not alone and _counts_rows(column, series, numbers):
            coding.notes.append(f"column '{column}' is left aside: it numbers the rows")
            return
        _note_lost(column, series, numbers, "numbers", coding)
        _add_numeric(column, numbers, None, coding)
        return
    if kind in (None, "date") and (days := _days(series, asked=kind == "date")) is not None:
        _note_lost(column, series, days, "dates", coding)
        _add_numeric(column, days, "days", coding)
        return
    if kind in ("numeric", "date"):
        raise ValueError(f"column '{column}' cannot be taken as {kind}, for example {str(series.dropna().iloc[0])!r}")
    distinct = series.nunique()
    boolean = pd.api.types.is_bool_dtype(series)
    if kind == "categorical" or boolean or distinct <= max(20, min(1000, len(series) // 10)):
        texts = [category_name(v) if k else None for v, k in zip(series.tolist(), series.notna().tolist(), strict=True)]
        names = tuple(sorted({text for text in texts if text is not None}, key=natural))
        index = {text: i for i, text in enumerate(names)}
        coding.categorical[column] = np.array([-1 if t is None else index[t] for t in texts], dtype=np.int64)
        coding.categories[column] = names
        if len(names) == 1:
            coding.notes.append(f"column '{column}' is constant: '{names[0]}'")
        return
    coding.notes.append(
        f"column '{column}' is left aside: text with {distinct:,} different values (to use it: "
        f"{column}=text or {column}=categorical)"
    )


def _code_like(frame: pd.DataFrame, coding: _Coding, like: Schema, name: str) -> None:
    numeric, categorical = like.get("numeric"), like.get("categorical")
    texts = [column for entry in like.values() if entry.kind == "text" for column in entry.columns]
    wanted = [*(numeric.columns if numeric else ()), *(categorical.columns if categorical else ()), *texts]
    if absent := [column for column in wanted if column not in frame.columns]:
        raise ValueError(
            f"'{name}' lacks {len(absent)} of the {len(wanted)} columns that are needed: {', '.join(absent)}; it has "
            f"{', '.join(frame.columns)}"
        )
    if numeric is not None:
        units = numeric.units or (None,) * len(numeric.columns)
        for column, unit in zip(numeric.columns, units, strict=True):
            series = frame[column]
            values = _days(series, asked=True) if unit == "days" else _coerced(series)
            if values is None:
                values = np.full(len(frame), np.nan)
            _note_lost(column, series, values, "dates" if unit == "days" else "numbers", coding)
            _add_numeric(column, values, unit, coding, constant=False)
    if categorical is not None:
        for column, names in zip(categorical.columns, categorical.categories, strict=True):
            index = {text: i for i, text in enumerate(names)}
            series = frame[column]
            known = series.notna().to_numpy()
            codes = np.array([index.get(category_name(v), -1) for v in series.tolist()], dtype=np.int64)
            codes = np.where(known, codes, -1)
            if unseen := int((known & (codes < 0)).sum()):
                coding.notes.append(f"column '{column}': {unseen:,} cells with categories not seen before are missing")
            coding.categorical[column], coding.categories[column] = codes, names
    if extra := [column for column in frame.columns if column not in wanted]:
        coding.notes.append(f"{len(extra)} columns are left aside, the model does not know them: {', '.join(extra)}")
    for column in texts:
        coding.text[column] = _texts(frame[column])


def _add_numeric(
    column: str, values: NDArray[np.float64], unit: str | None, coding: _Coding, constant: bool = True
) -> None:
    with np.errstate(over="ignore"):
        small = values.astype(np.float32)
    if infinite := int(np.isinf(small).sum()):
        coding.notes.append(f"column '{column}': {infinite:,} infinite cells are missing")
        small[np.isinf(small)] = np.nan
    if constant and np.nanmin(small, initial=np.inf) == np.nanmax(small, initial=-np.inf):
        coding.notes.append(f"column '{column}' is constant: {np.nanmin(small):g}")
    coding.numeric[column] = small
    coding.units[column] = unit


def _note_lost(column: str, series: pd.Series, values: NDArray[np.float64], what: str, coding: _Coding) -> None:
    lost = np.isnan(values) & series.notna().to_numpy()
    if lost.any():
        example = series[lost].iloc[0]
        coding.notes.append(
            f"column '{column}': {int(lost.sum()):,} cells are no {what} and count as missing ({example!r})"
        )


def _is_text(series: pd.Series) -> bool:
    import pandas as pd

    return pd.api.types.is_string_dtype(series) or series.dtype == object


def _is_scalar(series: pd.Series) -> bool:
    return series.dtype != object or not any(
        isinstance(v, list | dict | tuple | set | bytes | np.ndarray) for v in series.dropna().head(100)
    )


def _texts(series: pd.Series) -> list[str]:
    return ["" if missing else str(v) for v, missing in zip(series.tolist(), series.isna().tolist(), strict=True)]


def _numbers(series: pd.Series) -> NDArray[np.float64] | None:
    """The column as numbers where at least 90 % of its values are, else None."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(series) or isinstance(series.dtype, pd.CategoricalDtype):
        return None
    if pd.api.types.is_datetime64_any_dtype(series) or pd.api.types.is_timedelta64_dtype(series):
        return np.asarray(series.dt.total_seconds(), dtype=np.float64) if series.dtype.kind == "m" else None
    if not pd.api.types.is_numeric_dtype(series) and series.map(lambda v: isinstance(v, bool)).any():
        return None
    numbers = _coerced(series)
    enough = np.isfinite(numbers).sum() >= _MOSTLY * series.notna().sum()
    return numbers if pd.api.types.is_numeric_dtype(series) or enough else None


def _coerced(series: pd.Series) -> NDArray[np.float64]:
    import pandas as pd

    return np.asarray(pd.to_numeric(series, errors="coerce").astype("float64"), dtype=np.float64)


def _days(series: pd.Series, *, asked: bool) -> NDArray[np.float64] | None:
    """The column as days since 1970-01-01 UTC where at least 90 % of its values are dates, else None."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(series):
        stamps = pd.to_datetime(series, utc=True)
    else:
        texts = series.astype("str").where(series.notna())
        # A thousand cells decide on the way of writing; the whole column is read in that one only.
        pattern, found = _date_format(texts.dropna().head(1000), asked)
        if pattern is None or not (asked or found >= _MOSTLY):
            return None
        stamps = pd.to_datetime(texts, format=pattern, errors="coerce", utc=True)
    return np.asarray((stamps - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1), dtype=np.float64)


def _date_format(texts: pd.Series, asked: bool) -> tuple[str | None, float]:
    """The way of writing dates that reads most of the texts, and the share that it reads; the first among equals."""
    import pandas as pd

    formats = _DATE_FORMATS if asked else _DATE_FORMATS[:-1]
    shares = [
        float(pd.to_datetime(texts, format=pattern, errors="coerce", utc=True).notna().mean()) for pattern in formats
    ]
    best = int(np.argmax(shares))
    return (formats[best], shares[best]) if shares[best] > 0 else (None, 0.0)


def _counts_rows(column: str, series: pd.Series, numbers: NDArray[np.float64]) -> bool:
    if np.isnan(numbers).any() or not (numbers == np.round(numbers)).all() or len(numbers) < 3:
        return False
    words = column.lower().replace("-", "_").replace(" ", "_").split("_")
    named = bool({"id", "index", "idx", "unnamed:", "rowid", "key"} & set(words)) or column.startswith("Unnamed:")
    steps = np.diff(numbers)
    return bool((steps == 1).all()) or (named and series.is_unique)
