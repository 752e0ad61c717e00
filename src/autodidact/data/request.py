"""How data is to be taken, for those who open one kind of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodidact.data.labels import Task
from autodidact.data.schema import Field, Schema


@dataclass(frozen=True)
class Request:
    """The options of `open_source` that say how data is taken."""

    labels: str | None
    task: Task
    image_size: int | None
    canvas: int | tuple[int, int] | None
    channels: int | None
    columns: dict[str, Any]
    like: Schema | None
    buffer: int
    cache: bool
    cache_dir: str | Path | None
    workers: int
    progress: bool
    by_position: bool

    @property
    def known_label(self) -> Field | None:
        """The label of the data that this data is to be like."""
        return None if self.like is None else self.like.get("label") or self.like.get("target")

    @property
    def storage(self) -> dict[str, Any]:
        """Arguments of `packed.pixels_of`."""
        return {
            "cache": self.cache,
            "cache_dir": self.cache_dir,
            "workers": self.workers,
            "progress": self.progress,
        }
