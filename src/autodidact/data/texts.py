"""Texts that people have as lines: a ``.txt`` file with one a line, or ``.jsonl`` with several fields each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autodidact.data.ids import row_ids
from autodidact.data.schema import Field, Schema
from autodidact.data.source import ArraySource, RowNames

SUFFIXES = (".txt", ".jsonl")


def text_source(path: str | Path, field: str = "input") -> ArraySource:
    """The texts of a file, in its order.

    Parameters
    ----------
    path : ``.txt``: every line that is not blank is a text; ``.jsonl``: every line is an object with the same texts by
        name, or a text.
    field : what a text without a name is called.

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : another ending, a line that is not JSON, one whose fields are not texts or not those of the first, or a
        file without any.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"texts are read from {' or '.join(SUFFIXES)}, not from '{path.name}'")
    try:
        lines = [(number, line) for number, line in enumerate(path.read_text().split("\n"), 1) if line.strip()]
    except UnicodeDecodeError as broken:
        raise ValueError(f"{path} is not UTF-8 text: {broken.reason} at byte {broken.start}") from broken
    if path.suffix.lower() == ".txt":
        rows = [{field: line.strip()} for _, line in lines]
    else:
        rows = [_row(path, number, line, field) for number, line in lines]
    if not rows:
        raise ValueError(f"{path} holds no text")
    names = list(rows[0])
    for (number, _), row in zip(lines, rows, strict=True):
        if set(row) != set(names):
            raise ValueError(f"line {number} of {path.name} has {', '.join(row)}; the first one has {', '.join(names)}")
    return ArraySource(
        path.stem,
        {name: [row[name] for row in rows] for name in names},
        Schema({name: Field("text") for name in names}),
        row_ids(path.stem, "", len(rows)),
        RowNames(len(rows), f"{path.stem}:"),
    )


def _row(path: Path, number: int, line: str, field: str) -> dict[str, str]:
    try:
        read: Any = json.loads(line)
    except json.JSONDecodeError as broken:
        raise ValueError(f"line {number} of {path.name} is not JSON: {broken}") from broken
    row = {field: read} if isinstance(read, str) else read
    texts = {name: value for name, value in row.items() if isinstance(value, str)} if isinstance(row, dict) else {}
    if not texts:
        raise ValueError(f"line {number} of {path.name} holds no text: {line[:80]}")
    return texts
