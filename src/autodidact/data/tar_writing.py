"""Samples copied into one tar file, as the files that they were read from, in the layout that shards have."""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from tqdm import tqdm

from autodidact.data.durable import aside
from autodidact.data.images import SUFFIXES
from autodidact.data.shard_files import BLOCK
from autodidact.data.source import Positions, Source

READERS = 16
"""Threads that fetch samples: of files far away most of the time is waiting."""
FETCHED = 64
"""Samples that are fetched side by side."""


def write_tar(file: Path, samples: Sequence[tuple[Source, Positions]], *, seed: int = 0, progress: bool = False) -> int:
    """Copy samples of sources into a tar file, undecoded; the file appears at once and whole.

    They are fetched in the order of their sources and lie in random order, since shards are read in sequence. So their
    bytes need twice their space for a while.

    Parameters
    ----------
    samples : sources, with the positions of the samples to copy.
    seed : of the order.
    progress : show on stderr how far it is.

    Returns
    -------
    int
        How many samples it holds.

    Raises
    ------
    ValueError : a source was not read from files of images.
    """
    places: list[tuple[int, int]] = []
    taken: set[str] = set()
    with (
        TemporaryFile(dir=file.parent) as fetched,
        tqdm(
            total=sum(len(positions) for _, positions in samples),
            desc="copy",
            unit=" samples",
            disable=not progress,
            file=sys.stderr,
            delay=2,
        ) as bar,
    ):
        for source, positions in samples:
            for name, files in _fetched(source, np.sort(positions)):
                members = _members(_key(name, taken), files)
                places.append((fetched.tell(), len(members)))
                fetched.write(members)
                bar.update()
        with aside(file) as beside, beside.open("wb") as archive:
            for number in np.random.default_rng(seed).permutation(len(places)).tolist():
                start, size = places[number]
                fetched.seek(start)
                archive.write(fetched.read(size))
            archive.write(bytes(2 * BLOCK))
            archive.write(bytes(-archive.tell() % tarfile.RECORDSIZE))
    return len(places)


def _fetched(source: Source, positions: Positions) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Names and files of samples."""
    with ThreadPoolExecutor(READERS) as threads:
        for start in range(0, len(positions), FETCHED):
            part = positions[start : start + FETCHED].tolist()
            names = [source.names[position] for position in part]
            yield from zip(names, threads.map(source.undecoded, part), strict=True)


def _key(name: str, taken: set[str]) -> str:
    """What the files of a sample share, made of its name: no other sample has it, and its last part has no dot."""
    folder, _, base = name.rpartition("/")
    stem, dot, ending = base.rpartition(".")
    plain = (stem if f"{dot}{ending}".lower() in SUFFIXES else base).replace(".", "_").replace(":", "-")
    # A name never leads out of the folder that somebody unpacks the file in.
    path = "/".join([part for part in folder.split("/") if part not in ("", ".", "..")] + [plain])
    key, again = path, 1
    while key in taken:
        again += 1
        key = f"{path}-{again}"
    taken.add(key)
    return key


def _members(key: str, files: Mapping[str, bytes]) -> bytes:
    """The files of a sample with their headers."""
    pieces = []
    for ending, content in files.items():
        about = tarfile.TarInfo(f"{key}.{ending}")
        about.size = len(content)
        pieces += [about.tobuf(tarfile.PAX_FORMAT), content, bytes(-len(content) % BLOCK)]
    return b"".join(pieces)
