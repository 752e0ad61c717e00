"""A file of a table, read as a data frame."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

MISSING = ("?", "-", ".")
"""Cells that are taken as missing, beside those that pandas takes so."""


def read_frame(path: Path) -> pd.DataFrame:
    """A CSV (any of , ; tab | between cells; UTF-8, else Windows-1252) or Parquet file as a data frame.

    Besides what pandas takes as missing, "?", "-" and "." are.

    Raises
    ------
    ValueError
        The file is empty or is not what its suffix says.
    """
    import pandas as pd

    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        encoding = _encoding(path)
        return pd.read_csv(path, sep=_separator(path, encoding), encoding=encoding, na_values=MISSING, low_memory=False)
    except (ValueError, OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} cannot be read as a table: {' '.join(str(error).split())[:200]}") from error


def _encoding(path: Path) -> str:
    if path.name.lower().endswith(".gz"):
        return "utf-8-sig"
    try:
        with path.open(encoding="utf-8-sig") as file:
            while file.read(1 << 20):
                pass
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _separator(path: Path, encoding: str) -> str:
    """The separator that cuts the header into most cells."""
    import gzip

    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rt", encoding=encoding, newline="") as file:
        header = file.readline()
    if not header.strip():
        raise ValueError("the file is empty")
    return max(",;\t|", key=lambda mark: len(next(csv.reader([header], delimiter=mark))))
