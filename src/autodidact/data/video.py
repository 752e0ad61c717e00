"""Videos as frames: files that OpenCV decodes, or folders of numbered images. One frame is held at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autodidact.catalog.extras import need
from autodidact.data.images import SUFFIXES as IMAGES
from autodidact.data.images import UnreadableImage, decode

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".ogv")
WHOLE = 1 << 20
"""Pixels a side that no frame has: frames are not made smaller."""

Frame = NDArray[np.uint8]
"""Height, width and the three colours red, green and blue."""


class UnreadableVideo(Exception):
    """A video that cannot be had; the message is the reason, in plain words."""


@dataclass(frozen=True)
class Video:
    """One video below a folder.

    Attributes
    ----------
    name : relative to the folder, without the ending of a file, ``/`` between folders; unique there.
    path : of the file, or of the folder of its frames.
    """

    name: str
    path: Path


def list_videos(root: Path) -> list[Video]:
    """Every video below a folder, sorted by name: files by their ending, and folders that hold two images or more.

    Hidden files and folders are left out. `root` may also be one video file, or one folder of frames.

    Raises
    ------
    ValueError
        There is none.
    """
    if root.is_file() and root.suffix.lower() in SUFFIXES:
        return [Video(root.stem, root)]
    if not root.is_dir():
        raise ValueError(f"{root} is neither a folder nor a video ({', '.join(SUFFIXES)})")
    found: list[Video] = []
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        here = Path(folder)
        prefix = "" if here == root else f"{here.relative_to(root).as_posix()}/"
        seen = [name for name in names if not name.startswith(".")]
        videos = sorted(name for name in seen if name.lower().endswith(SUFFIXES))
        stems = [Path(name).stem for name in videos]
        # Two files of one name, a.mp4 and a.avi, keep their endings.
        found += [
            Video(prefix + (name if stems.count(stem) > 1 else stem), here / name)
            for name, stem in zip(videos, stems, strict=True)
        ]
        if sum(name.lower().endswith(IMAGES) for name in seen) > 1:
            found.append(Video(prefix.rstrip("/") or root.resolve().name, here))
    if not found:
        raise ValueError(
            f"no video below {root}: neither a file ({', '.join(SUFFIXES)}) nor a folder of two images or more"
        )
    names = [video.name for video in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"'{twice[0]}' is both a video and a folder of frames below {root}; rename one of them")
    return sorted(found, key=lambda video: video.name)


def frames(video: Video) -> Iterator[Frame]:
    """The frames of a video in order; those of a folder by the numbers in their names, 2 before 10.

    Raises
    ------
    UnreadableVideo
        Nothing of it can be decoded, or the frames of a folder differ in size. A file that breaks off ends there.
    """
    shape: tuple[int, ...] | None = None
    for frame in _of_folder(video.path) if video.path.is_dir() else _of_file(video.path):
        if shape is not None and frame.shape != shape:
            raise UnreadableVideo(f"its frames differ in size: {_size(shape)} and {_size(frame.shape)}")
        shape = frame.shape
        yield frame
    if shape is None:
        raise UnreadableVideo("no frame of it can be decoded")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _of_folder(folder: Path) -> Iterator[Frame]:
    names = [path.name for path in folder.iterdir() if path.suffix.lower() in IMAGES and not path.name.startswith(".")]
    for name in sorted(names, key=_by_number):
        try:
            pixels = decode(folder / name, 3, (WHOLE, WHOLE))
        except UnreadableImage as error:
            raise UnreadableVideo(f"its frame {name}: {error}") from error
        yield np.ascontiguousarray(pixels.transpose(1, 2, 0))


def _by_number(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _of_file(path: Path) -> Iterator[Frame]:
    cv2 = opencv(f"reading {path.name}")
    if path.stat().st_size == 0:
        raise UnreadableVideo("the file is empty")
    opened = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        while True:
            there, frame = opened.read()
            if not there:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        opened.release()


def opencv(who: str) -> Any:
    """The module cv2, which says nothing of its own; ValueError names the extra that brings it."""
    cv2 = need("cv2", "video", who)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2
