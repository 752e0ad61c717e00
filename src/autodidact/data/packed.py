"""Images decoded once into one file of bytes that is mapped into memory; read many times at the speed of memory.

An entry of the cache is a folder:

- ``pixels.u8``: (n, channels, height, width) bytes, one place for every picture, readable or not;
- ``boxes.i32``: (n, 4) top, left, height, width of the part of the canvas that holds the image, 0 where skipped;
- ``journal.jsonl``: stretches that are done, with the pictures skipped in them and why; a killed run goes on after
them;
- ``done.json``: written last; the entry is complete.

Its name holds the digest of pictures and settings, so a changed folder gets a new entry and an old one stays valid. The
lock belongs to the process that packs and ends with it, however it ends. Knows nothing of labels, names or sources.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from autodidact.data.cores import cores
from autodidact.data.decoding import WORTH_A_PROCESS, Decoding, Helper, read_ahead
from autodidact.data.durable import write_aside
from autodidact.data.folder import Files
from autodidact.data.frame import Frame, Pictures
from autodidact.data.images import Pixels, UnreadableImage, decode, without_warnings
from autodidact.data.source import Positions

VERSION = 2
CHUNK_BYTES = 16 << 20
CHUNK_IMAGES = 512
FLUSH_BYTES = 256 << 20
LARGE_IMAGE = 128 * 128
SPARE_BYTES = 64 << 20

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


class PixelStore(Protocol):
    """Where pixels come from: the packed cache, or the files themselves.

    Attributes
    ----------
    frame : the canvas.
    boxes : (n, 4) int32, for every picture; height 0 where it is skipped.
    reasons : position -> why it is skipped.
    """

    frame: Frame
    boxes: NDArray[np.int32]
    reasons: dict[int, str]

    def read(self, positions: Positions) -> UInt8[Tensor, "n c h w"]: ...


class PackedPixels:
    """Pixels of a complete cache entry. Pickles as a path; each process maps the file itself."""

    def __init__(self, entry: Path, frame: Frame, boxes: NDArray[np.int32], reasons: dict[int, str]) -> None:
        self.entry, self.frame, self.boxes, self.reasons = entry, frame, boxes, reasons
        self._map: NDArray[np.uint8] | None = None
        self._cold = True

    def read(self, positions: Positions) -> UInt8[Tensor, "n c h w"]:
        """Canvases at `positions`, copied all at once.

        Where the last reading had to wait for the disk they are visited in the order of the file, so that a cold disk
        reads forward; that costs a second copy.
        """
        if self._map is None:
            shape = (len(self.boxes), self.frame.channels, self.frame.height, self.frame.width)
            self._map = np.asarray(np.memmap(self.entry / "pixels.u8", np.uint8, "r", shape=shape))
        before = waits_for_disk()
        if self._cold:
            order = np.argsort(positions, kind="stable")
            found = np.empty((len(positions), *self._map.shape[1:]), dtype=np.uint8)
            found[order] = self._map.take(positions[order], axis=0)
        else:
            found = self._map.take(positions, axis=0)
        self._cold = waits_for_disk() > before
        return torch.from_numpy(found)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None, "_cold": True}


class DirectPixels:
    """Pixels decoded from their files at every reading; the same values as the packed ones."""

    def __init__(self, pictures: Pictures, frame: Frame, boxes: NDArray[np.int32], reasons: dict[int, str]) -> None:
        self.pictures, self.frame, self.boxes, self.reasons = pictures, frame, boxes, reasons

    def read(self, positions: Positions) -> UInt8[Tensor, "n c h w"]:
        """Canvases at `positions`. OSError for a file that was readable when the source was opened and is no more."""
        found = np.zeros((len(positions), self.frame.channels, self.frame.height, self.frame.width), dtype=np.uint8)
        limit = (self.frame.height, self.frame.width)
        with without_warnings():
            for place, position in enumerate(positions.tolist()):
                origin = self.pictures.origin(position)
                try:
                    image = decode(origin, self.frame.channels, limit)
                except UnreadableImage as error:
                    what = origin if isinstance(origin, str | Path) else f"image {position}"
                    raise OSError(f"{what} could be read when the data was opened, now it cannot: {error}") from error
                found[place, :, : image.shape[1], : image.shape[2]] = image
        return torch.from_numpy(found)


def waits_for_disk() -> int:
    """How often this thread waited for a page of a mapped file; always 0 where the system does not tell."""
    if not hasattr(resource, "RUSAGE_THREAD"):
        return 0
    return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Where packed images go: `cache_dir`, else ``$AUTODIDACT_CACHE``, else ``~/.cache/autodidact``."""
    chosen = cache_dir or os.environ.get("AUTODIDACT_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "autodidact"


def pixels_of(
    pictures: Pictures,
    frame: Frame,
    *,
    title: str,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    workers: int = 0,
    progress: bool = True,
) -> PixelStore:
    """Pixels of all pictures: from the cache, which is filled first where it is not.

    Without `cache` every picture is still decoded once, to know which ones are readable; only that knowledge is kept.

    Parameters
    ----------
    title : name of the data, for the progress bar and the entry's folder.
    workers : threads that decode, or processes where there are many images and small ones; 0: as many as there are
        cores, or one where small images are few.

    Raises
    ------
    OSError
        The cache cannot be written, or the disk is (or becomes) too small; what was packed is kept.
    """
    folder = cache_folder(cache_dir)
    packing = _Packing(pictures, frame, folder / "images" / _entry_name(pictures, frame, title, cache), cache)
    known = packing.complete()
    if known is None:
        from filelock import FileLock, Timeout

        try:
            packing.entry.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"the image cache {folder} cannot be written ({error.strerror}); name another folder with --cache-dir "
                "or $AUTODIDACT_CACHE"
            ) from error
        lock = FileLock(packing.entry / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _say(progress, f"another process is packing {title}; waiting for it")
            lock.acquire()
        try:
            known = packing.complete() or packing.run(title, workers, progress)
        finally:
            lock.release()
    boxes, reasons = known
    if len(reasons) == len(pictures):
        raise ValueError(f"none of the {len(pictures):,} images of {title} can be read; the first: {reasons[0]}")
    if cache:
        return PackedPixels(packing.entry, frame, boxes, reasons)
    return DirectPixels(pictures, frame, boxes, reasons)


def _entry_name(pictures: Pictures, frame: Frame, title: str, cache: bool) -> str:
    settings = f"{VERSION}/{frame.channels}/{frame.height}/{frame.width}/{len(pictures)}/{pictures.digest}"
    key = hashlib.blake2b(settings.encode(), digest_size=8).hexdigest()
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in title)[:40]
    return f"{plain}-{key}" + ("" if cache else "-checked")


def _say(progress: bool, text: str) -> None:
    if progress:
        print(text, file=sys.stderr, flush=True)


@dataclass
class _Packing:
    pictures: Pictures
    frame: Frame
    entry: Path
    keep_pixels: bool

    def complete(self) -> tuple[NDArray[np.int32], dict[int, str]] | None:
        """Boxes and reasons of a complete entry, None where it is not there or not whole."""
        try:
            reasons = json.loads((self.entry / "done.json").read_text())["skipped"]
            boxes = np.fromfile(self.entry / "boxes.i32", dtype=np.int32).reshape(-1, 4)
            size = (self.entry / "pixels.u8").stat().st_size if self.keep_pixels else self._pixel_bytes
        except (OSError, ValueError, KeyError):
            return None
        if len(boxes) != len(self.pictures) or size != self._pixel_bytes:
            return None
        return boxes, {int(position): reason for position, reason in reasons.items()}

    @property
    def _pixel_bytes(self) -> int:
        return len(self.pictures) * self.frame.size if self.keep_pixels else 0

    def run(self, title: str, workers: int, progress: bool) -> tuple[NDArray[np.int32], dict[int, str]]:
        from tqdm import tqdm

        reasons, stretches = self._journal()
        total = len(self.pictures)
        done = sum(stop - start for start, stop in stretches)
        self._check_disk()
        c, h, w = self.frame.channels, self.frame.height, self.frame.width
        if self.keep_pixels:
            _say(
                progress,
                f"packing {total:,} images of {title} as {c} x {h} x {w} bytes: {megabytes(self._pixel_bytes)} in "
                f"{self.entry}" + (f" ({done:,} are there already)" if done else ""),
            )
        bar = tqdm(
            total=total,
            initial=done,
            unit=" images",
            desc="packing" if self.keep_pixels else "checking",
            disable=not progress,
            file=sys.stderr,
            mininterval=0.5,
        )
        with (
            without_warnings(),
            bar,
            self._writer("boxes.i32", 16) as boxes,
            self._writer("pixels.u8", self.frame.size) as pixels,
        ):
            written = 0
            pending: list[_Chunk] = []
            try:
                for chunk in self._decoded(_gaps(stretches, total, self._chunk), workers):
                    boxes.put(chunk.start, chunk.boxes)
                    if self.keep_pixels:
                        pixels.put(chunk.start, chunk.pixels)
                    bar.update(chunk.stop - chunk.start)
                    written += (chunk.stop - chunk.start) * self.frame.size
                    reasons |= chunk.reasons
                    pending.append(chunk.without_pixels())
                    if written >= FLUSH_BYTES:
                        self._flush(pending, boxes, pixels)
                        written = 0
            finally:
                # Also on Ctrl-C or a full disk: what is decoded is not decoded again.
                self._flush(pending, boxes, pixels)
        write_aside(self.entry / "done.json", json.dumps({"skipped": reasons}).encode())
        found = self.complete()
        assert found is not None
        return found

    @property
    def _chunk(self) -> int:
        return max(1, min(CHUNK_IMAGES, CHUNK_BYTES // self.frame.size))

    def _check_disk(self) -> None:
        pixels = self.entry / "pixels.u8"
        there = pixels.stat().st_blocks * 512 if self.keep_pixels and pixels.exists() else 0
        needed = self._pixel_bytes + 16 * len(self.pictures) - there + SPARE_BYTES
        free = shutil.disk_usage(self.entry).free
        if needed > free:
            raise OSError(
                f"packing {len(self.pictures):,} images takes {megabytes(self._pixel_bytes)}, and {self.entry} has "
                f"{megabytes(free)} left; use a smaller --image-size, another --cache-dir, or --no-cache"
            )

    def _journal(self) -> tuple[dict[int, str], list[tuple[int, int]]]:
        """What an earlier run finished. A torn last line is that run's death: cut off, its stretch done again."""
        path = self.entry / "journal.jsonl"
        reasons: dict[int, str] = {}
        stretches: list[tuple[int, int]] = []
        if not path.exists():
            return reasons, stretches
        files = {"boxes.i32": 16 * len(self.pictures)} | ({"pixels.u8": self._pixel_bytes} if self.keep_pixels else {})
        for name, size in files.items():
            # Files have their full size before the first line is written: another size means that someone cut them.
            if not (self.entry / name).exists() or (self.entry / name).stat().st_size != size:
                path.unlink()
                return reasons, stretches
        whole = 0
        for line in path.read_bytes().splitlines(keepends=True):
            try:
                start, stop, skipped = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            stretches.append((start, stop))
            reasons |= {int(position): reason for position, reason in skipped.items()}
        os.truncate(path, whole)
        return reasons, sorted(stretches)

    def _decoded(self, spans: Sequence[tuple[int, int]], workers: int) -> Iterator[_Chunk]:
        small = self.frame.pixels < LARGE_IMAGE
        most = workers or cores()
        helpers = min(most, sum(stop - start for start, stop in spans) // WORTH_A_PROCESS, len(spans)) if small else 0
        if helpers > 1:
            yield from self._decoded_by_others(spans, helpers)
        elif len(spans) == 1 or (workers == 0 and small) or most == 1:
            for now, after in zip(spans, [*spans[1:], (0, 0)], strict=False):
                if isinstance(self.pictures, Files):
                    read_ahead([self.pictures.origin(place) for place in range(*after)])
                yield self._decode(now, self.decoding)
        else:
            yield from self._in_threads(spans, most, lambda span: self._decode(span, self.decoding))

    def _decoded_by_others(self, spans: Sequence[tuple[int, int]], count: int) -> Iterator[_Chunk]:
        helpers = [Helper(self.decoding) for _ in range(count)]
        idle: SimpleQueue[Helper] = SimpleQueue()
        for helper in helpers:
            idle.put(helper)

        def decode_elsewhere(span: tuple[int, int]) -> _Chunk:
            helper = idle.get()
            try:
                return self._decode(span, helper)
            finally:
                idle.put(helper)

        try:
            yield from self._in_threads(spans, count, decode_elsewhere)
        finally:
            for helper in helpers:
                helper.close()

    @staticmethod
    def _in_threads(
        spans: Sequence[tuple[int, int]], threads: int, work: Callable[[tuple[int, int]], _Chunk]
    ) -> Iterator[_Chunk]:
        """The chunks in their order, some of them worked on ahead."""
        with ThreadPoolExecutor(threads, "decode") as pool:
            ahead = [pool.submit(work, span) for span in spans[: 2 * threads]]
            rest = iter(spans[2 * threads :])
            try:
                while ahead:
                    chunk = ahead.pop(0).result()
                    if (span := next(rest, None)) is not None:
                        ahead.append(pool.submit(work, span))
                    yield chunk
            finally:
                for waiting in ahead:
                    waiting.cancel()

    def _decode(self, span: tuple[int, int], by: Decoding | Helper) -> _Chunk:
        start, stop = span
        found = by.all(self.pictures.origin, range(start, stop))
        reasons = {start + number: reason for number, reason in sorted(found.reasons.items())}
        return _Chunk(start, stop, found.pixels, found.boxes, reasons)

    @property
    def decoding(self) -> Decoding:
        return Decoding(self.frame.channels, self.frame.height, self.frame.width, self.keep_pixels)

    def _writer(self, name: str, row: int) -> _Rows:
        return _Rows(self.entry / name if self.keep_pixels or name != "pixels.u8" else None, row, len(self.pictures))

    def _flush(self, pending: list[_Chunk], boxes: _Rows, pixels: _Rows) -> None:
        """Bytes first, then the line that vouches for them."""
        if not pending:
            return
        boxes.sync()
        pixels.sync()
        with (self.entry / "journal.jsonl").open("a") as journal:
            for chunk in pending:
                journal.write(json.dumps([chunk.start, chunk.stop, chunk.reasons]) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        pending.clear()


@dataclass
class _Chunk:
    start: int
    stop: int
    pixels: Pixels
    boxes: NDArray[np.int32]
    reasons: dict[int, str]

    def without_pixels(self) -> _Chunk:
        return _Chunk(self.start, self.stop, self.pixels[:0].copy(), self.boxes[:0].copy(), self.reasons)


class _Rows:
    """A file of rows of fixed size, written in any order; None writes nothing."""

    def __init__(self, path: Path | None, row: int, rows: int) -> None:
        self.path, self.row, self.rows = path, row, rows
        self.file: BinaryIO | None = None

    def __enter__(self) -> _Rows:
        if self.path is not None:
            self.path.touch()
            self.file = self.path.open("r+b")
            self.file.truncate(self.row * self.rows)
        return self

    def __exit__(self, *_: Any) -> None:
        if self.file is not None:
            self.file.close()

    def put(self, start: int, values: NDArray[Any]) -> None:
        assert self.file is not None
        self.file.seek(start * self.row)
        self.file.write(values.data)

    def sync(self) -> None:
        if self.file is not None:
            self.file.flush()
            os.fsync(self.file.fileno())


def _gaps(stretches: Sequence[tuple[int, int]], total: int, size: int) -> list[tuple[int, int]]:
    """What lies between the sorted `stretches`, cut into pieces of at most `size`."""
    pieces: list[tuple[int, int]] = []
    begin = 0
    for start, stop in [*stretches, (total, total)]:
        pieces += [(at, min(at + size, start)) for at in range(begin, start, size)]
        begin = max(begin, stop)
    return pieces


def megabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def box_field(boxes: NDArray[np.int32], positions: Positions) -> Float[Tensor, "n 4"]:
    """Boxes as the field "box": float32 pixels."""
    return torch.from_numpy(boxes[positions].astype(np.float32))
