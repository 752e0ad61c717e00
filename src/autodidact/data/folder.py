"""The image files below a folder: found, named and fingerprinted, without opening one."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from autodidact.data.asking import GONE, OTHER, asked, asked_together
from autodidact.data.cores import cores
from autodidact.data.images import SUFFIXES, Origin

AT_ONCE = 10_000
"""Files whose names are joined before they are hashed: a million calls take longer than what they do."""


@dataclass
class Files:
    """Image files below one folder, sorted by name.

    Attributes
    ----------
    root : the folder.
    names : names relative to it, ``/`` between folders.
    digest : fingerprint of names, sizes and modification times. It does not depend on where the folder lies; a file
        that is rewritten with the same size and time goes unnoticed.
    skipped : folders that could not be listed.
    notes : what else lies there.
    """

    root: Path
    names: Sequence[str]
    digest: str
    skipped: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    def origin(self, index: int) -> Origin:
        """What to decode for one file: its path."""
        return os.path.join(self.root, self.names[index])  # noqa: PTH118 (five times cheaper than Path, once an image)


def list_images(root: Path) -> Files:
    """Every image file below `root`, by its suffix; hidden files are left out, links are followed once.

    Raises
    ------
    ValueError
        There is none; the message says what lies there instead.
    """
    entries: list[tuple[str, int, int]] = []
    skipped: list[dict[str, str]] = []
    others: Counter[str] = Counter()
    for prefix, names, where in _walk(root, "", set(), skipped):
        images = [name for name in names if name.lower().endswith(SUFFIXES)]
        if len(images) < len(names):
            left = [name for name in names if not name.lower().endswith(SUFFIXES)]
            others.update(os.path.splitext(name)[1].lower() or "no suffix" for name in left)  # noqa: PTH122 (as above)
        told = where.asked(images)
        for name, size, modified in zip(images, told[::2], told[1::2], strict=True):
            if size == OTHER:
                # Opening a pipe would wait for ever.
                skipped.append({"name": prefix + name, "reason": "not a regular file"})
            else:
                # A dangling link (GONE) stays in the list, so that it is named among the skipped when it is opened.
                entries.append((prefix + name, size, modified))
    if not entries:
        there = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
        raise ValueError(
            f"no image below {root} (looked for {', '.join(SUFFIXES)}); it holds {there or 'no file at all'}"
        )
    entries.sort()
    notes = []
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
        notes.append(f"{sum(others.values()):,} files that are no images are left aside ({kinds})")
    return Files(root, [name for name, _, _ in entries], _fingerprint(entries), skipped, notes)


def listed_images(path: Path) -> Files:
    """The image files that a text file names, one a line; relative names count from the folder of the list.

    The root is the innermost folder that all of them lie in. A file that is named twice counts once; one that is not
    there stays in the list, so that it is named among the skipped when it is opened.

    Raises
    ------
    ValueError
        The list is empty, a line is no image by its suffix, or not one of the files is there.
    """
    lines = [os.fsdecode(line) for line in path.read_bytes().splitlines()]
    places = list(dict.fromkeys(os.path.abspath(path.parent / line.strip()) for line in lines if line.strip()))  # noqa: PTH100
    if not places:
        raise ValueError(f"the list {path} is empty; it names one image file a line")
    for place in places:
        if not place.lower().endswith(SUFFIXES):
            raise ValueError(f"the list {path} names '{place}', which is no image ({', '.join(SUFFIXES)})")
    root = Path(os.path.commonpath([os.path.dirname(place) for place in places]))  # noqa: PTH120
    told = asked(places)
    named = [os.path.relpath(place, root) for place in places]
    entries = list(zip(named, told[::2], told[1::2], strict=True))
    if all(size == GONE for _, size, _ in entries):
        raise ValueError(f"of the {len(places)} files that {path} names none is there, such as '{places[0]}'")
    entries.sort()
    return Files(root, [name for name, _, _ in entries], _fingerprint(entries))


def _fingerprint(entries: Sequence[tuple[str, int, int]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for start in range(0, len(entries), AT_ONCE):
        told = "".join([f"{name}\0{size}\0{modified}\0" for name, size, modified in entries[start : start + AT_ONCE]])
        digest.update(told.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


class _Opened:
    """A folder whose files are asked for from inside it, where the system can do that: a million paths that begin at
    the root take seconds longer."""

    def __init__(self, folder: Path) -> None:
        inside = os.stat in os.supports_dir_fd and os.scandir in os.supports_fd
        self.folder = folder
        self.descriptor = os.open(folder, os.O_RDONLY) if inside else None
        self.place = folder if self.descriptor is None else self.descriptor

    def asked(self, names: Sequence[str]) -> Sequence[int]:
        """Size and time of its files, one after the other (`asking.asked`)."""
        if self.descriptor is None:
            return asked([f"{self.folder}{os.sep}{name}" for name in names])
        return asked_together(names, str(self.folder), self.descriptor, cores())

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


def _walk(
    folder: Path, prefix: str, seen: set[tuple[int, int]], skipped: list[dict[str, str]]
) -> Iterator[tuple[str, list[str], _Opened]]:
    """Every folder, with what stands before the names of its files, these, and itself."""
    try:
        opened = _Opened(folder)
    except OSError as error:
        skipped.append({"name": prefix or ".", "reason": f"the folder cannot be listed: {error.strerror}"})
        return
    try:
        status = os.stat(opened.place)  # noqa: PTH116 (as above)
        # Links may lead back up; a folder is visited once.
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(opened.place) as listing:
            entries = [entry for entry in listing if not entry.name.startswith(".")]
        folders = {entry.name for entry in entries if entry.is_dir()}
        yield prefix, sorted(entry.name for entry in entries if entry.name not in folders), opened
    except OSError as error:
        skipped.append({"name": prefix or ".", "reason": f"the folder cannot be listed: {error.strerror}"})
        return
    finally:
        opened.close()
    for name in sorted(folders):
        yield from _walk(folder / name, f"{prefix}{name}/", seen, skipped)


def class_folders(
    names: Sequence[str], split_names: Sequence[str], level: str | None = None
) -> tuple[list[str], str] | None:
    """The class of every file by its folder, and which folder level that is; None where folders tell no classes.

    A first level made of split names only (train, val, test) is passed over. Then the first level that has at least two
    folders counts, else the folder directly around the file. A file that lies in no folder means: no classes.

    Parameters
    ----------
    level : "first" or "parent" decides the level.
    """
    folders = [name.rpartition("/")[0] for name in names]
    # There are far fewer folders than files.
    parts = {folder: folder.split("/") if folder else [] for folder in dict.fromkeys(folders)}
    first = {part[0] for part in parts.values() if part}
    skip = 1 if first and first <= set(split_names) else 0
    if not all(part[skip:] for part in parts.values()):
        return None
    for word, pick in (("first", 0), ("parent", -1)):
        classes = {folder: part[skip:][pick] for folder, part in parts.items()}
        if level == word or (level is None and len(set(classes.values())) >= 2):
            return [classes[folder] for folder in folders], f"{word} level"
    return None


def evenly(count: int, wanted: int) -> Sequence[int]:
    """At most `wanted` of the numbers below `count`, evenly spaced."""
    return range(count) if count <= wanted else np.linspace(0, count - 1, wanted).astype(int).tolist()
