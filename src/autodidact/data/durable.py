"""Files that are whole or not there: written beside, made durable, then renamed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def write_aside(path: Path, content: Any) -> None:
    """Write bytes so that a crash at any moment leaves the old file or the new one, never half of one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    if hasattr(os, "O_DIRECTORY"):
        # The rename itself is durable once the folder is.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
