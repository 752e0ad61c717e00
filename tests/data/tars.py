"""Small shards, for the tests of those who read them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable

from PIL import Image


def png(value: int) -> bytes:
    """A grey picture of 4 x 4 pixels of one brightness."""
    buffer = io.BytesIO()
    Image.new("L", (4, 4), value).save(buffer, "PNG")
    return buffer.getvalue()


def tar_of(samples: Iterable[dict[str, bytes]], mode: str = "w", folder: str = "./a") -> bytes:
    """A shard with the parts of each sample by their ending."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for key, parts in enumerate(samples):
            for ending, content in parts.items():
                about = tarfile.TarInfo(f"{folder}/{key:04d}.{ending}")
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))
    return buffer.getvalue()


def numbered(first: int, count: int) -> list[dict[str, bytes]]:
    """Samples whose picture is as bright as their number, with one of three classes."""
    return [{"png": png(value), "cls": str(value % 3).encode()} for value in range(first, first + count)]
