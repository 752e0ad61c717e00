"""Texts that people have as lines: a ``.txt`` file with one a line, or ``.jsonl`` with several fields each."""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from pathlib import Path
from typing import Any

from autodidact.data.ids import row_ids
from autodidact.data.schema import Field, Schema
from autodidact.data.source import ArraySource, RowNames

SUFFIXES = (".txt", ".jsonl")
OPTIONS = "options"
"""The field that holds a list of texts: a closed set of answers."""


def text_source(path: str | Path, field: str = "input") -> ArraySource:
    """The texts of a file, in its order.

    Parameters
    ----------
    path : ``.txt``: every line that is not blank is a text; ``.jsonl``: every line is an object with the same texts by
        name, or a text. Its field "options" is a list of texts.
    field : what a text without a name is called.

    Returns
    -------
    ArraySource
        Ids follow from the content of the whole file and the number of the row: what was made of another content under
        the same name is not taken for this one's.

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : another ending, a line that is not JSON, one whose fields are not texts or not those of the first, or a
        file without any.
    """
    path = Path(path)
    content = _content(path)
    lines = _numbered(content)
    if path.suffix.lower() == ".txt":
        rows: list[dict[str, Any]] = [{field: line} for _, line in lines]
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
        Schema({name: Field("options" if name == OPTIONS else "text") for name in names}),
        row_ids(path.stem, blake2b(content.encode(), digest_size=8).hexdigest(), len(rows)),
        RowNames(len(rows), f"{path.stem}:"),
    )


def read_rows(path: str | Path) -> list[Any]:
    """What the lines of a file hold: texts (``.txt``) or whatever is JSON (``.jsonl``); blank lines are left out.

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : another ending, text that is not UTF-8, a line that is not JSON.
    """
    path = Path(path)
    lines = _numbered(_content(path))
    return [_json(path, *line) for line in lines] if path.suffix.lower() == ".jsonl" else [line for _, line in lines]


def read_passages(path: str | Path, *, words: int = 100) -> list[str]:
    """The passages of a corpus, in the order of its files and of the texts in them.

    Parameters
    ----------
    path : a file, or a folder whose files are read, those in folders inside it too. Of ``.txt`` and ``.md``: what blank
        lines divide, or, in a file without any, each line; ``.jsonl``: each text of `text_source`, its fields one after
        another. Other files are left out.
    words : of a passage, at most; a longer one is cut into several.

    Raises
    ------
    FileNotFoundError : there is no such file or folder.
    ValueError : no text in it, a file that is not UTF-8, words below 1.
    """
    path = Path(path)
    if words < 1:
        raise ValueError(f"a passage has 1 word at least, got {words}")
    if not path.exists():
        raise FileNotFoundError(f"no such corpus: {path}")
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    files = [file for file in found if file.is_file() and file.suffix.lower() in (*SUFFIXES, ".md")]
    texts = [text.split() for file in files for text in _texts_of(file)]
    passages = [" ".join(text[start : start + words]) for text in texts for start in range(0, len(text), words)]
    if not passages:
        raise ValueError(f"the corpus {path} holds no text; .txt, .md and .jsonl files are read")
    return passages


def _texts_of(file: Path) -> list[str]:
    if file.suffix.lower() == ".jsonl":
        source = text_source(file, "text")
        columns = [source.column(name) for name in source.schema]
        return [" ".join(row) for row in zip(*columns, strict=True)]
    text = _decoded(file)
    parts = re.split(r"\n[^\S\n]*\n", text.strip())
    return parts if len(parts) > 1 else text.split("\n")


def _content(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"texts are read from {' or '.join(SUFFIXES)}, not from '{path.name}'")
    return _decoded(path)


def _decoded(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as broken:
        raise ValueError(f"{path} is not UTF-8 text: {broken.reason} at byte {broken.start}") from broken


def _numbered(content: str) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers and without the spaces around them. Unicode has other ends of
    lines, which may stand in a text."""
    return [(number, line.strip()) for number, line in enumerate(content.split("\n"), 1) if line.strip()]


def _json(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as broken:
        raise ValueError(f"line {number} of {path.name} is not JSON: {broken}") from broken


def _row(path: Path, number: int, line: str, field: str) -> dict[str, Any]:
    read = _json(path, number, line)
    row = {field: read} if isinstance(read, str) else read
    given = row if isinstance(row, dict) else {}
    texts = {name: value for name, value in given.items() if isinstance(value, str) and name != OPTIONS}
    if not texts:
        raise ValueError(f"line {number} of {path.name} holds no text: {line[:80]}")
    if OPTIONS not in given:
        return texts
    options = given[OPTIONS]
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise ValueError(f"line {number} of {path.name}: its {OPTIONS} are no list of texts")
    return {**texts, OPTIONS: options}
