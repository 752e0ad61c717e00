"""Files that are whole or not there: written beside, made durable, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` when the block ends: a crash at any moment leaves the old file or the new one,
    never half of one. Where the block fails, what was written is removed."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):
        # The rename itself is durable once the folder is.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_aside(path: Path, content: Any) -> None:
    """Write bytes through `aside`."""
    with aside(path) as beside:
        beside.write_bytes(content)
