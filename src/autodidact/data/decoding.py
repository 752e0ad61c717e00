"""Many images decoded one after the other, here or in another process.

Small images keep Python's lock for most of the time that they take, so that threads would wait for each other; several
processes do not. Another process imports this file and what it names, without the package's own imports, which take
longer than decoding thousands of images. What it does not answer is decoded here: the result is always the same.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from autodidact.data.images import Channels, Origin, Pixels, UnreadableImage, decode, without_warnings

WORTH_A_PROCESS = 2_500
"""Small images that are worth another process: it starts in the time that it takes to decode some of them."""


@dataclass
class Decoded:
    """A stretch of images: on one canvas each, with their boxes, and why there is none, by number in the stretch."""

    pixels: Pixels
    boxes: NDArray[np.int32]
    reasons: dict[int, str]


@dataclass(frozen=True)
class Decoding:
    """How images are decoded: onto a canvas of this shape, and whether their pixels are kept."""

    channels: Channels
    height: int
    width: int
    keep_pixels: bool = True

    def all(self, origin: Callable[[int], Origin], places: Sequence[int]) -> Decoded:
        """What `origin` says is at these places, decoded one by one; it may raise UnreadableImage itself."""
        found = self.empty(len(places))
        for number, place in enumerate(places):
            try:
                image = decode(origin(place), self.channels, (self.height, self.width))
            except UnreadableImage as error:
                found.reasons[number] = str(error)
                continue
            _, height, width = image.shape
            found.boxes[number] = (0, 0, height, width)
            if self.keep_pixels:
                found.pixels[number, :, :height, :width] = image
        return found

    def empty(self, count: int) -> Decoded:
        shape = (count if self.keep_pixels else 0, self.channels, self.height, self.width)
        return Decoded(np.zeros(shape, np.uint8), np.zeros((count, 4), np.int32), {})


class Helper:
    """Another process that decodes, for one thread at a time."""

    def __init__(self, decoding: Decoding) -> None:
        self.decoding = decoding
        self.process = _started(decoding)

    def all(self, origin: Callable[[int], Origin], places: Sequence[int]) -> Decoded:
        """As `Decoding.all`."""
        if self.process is not None:
            asked, unreadable = _asked(origin, places)
            answer = self._answer(asked, len(places))
            if answer is not None:
                answer.reasons |= unreadable
                return answer
            self.close()
        return self.decoding.all(origin, places)

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _answer(self, asked: Sequence[bytes], count: int) -> Decoded | None:
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.writelines(asked)
            self.process.stdin.flush()
            head = array("q", [0, 0])
            _fill(self.process.stdout, head)
            if head[0] != count:
                raise ValueError("another program's words")
            found, told = self.decoding.empty(count), bytearray(head[1])
            for part in (found.boxes, found.pixels, told):
                _fill(self.process.stdout, part)
        except (OSError, EOFError, ValueError):
            return None
        found.reasons = {int(number): reason for number, reason in json.loads(told).items()}
        return found


def read_ahead(origins: Sequence[Origin]) -> None:
    """Ask the disk for files before the first one is decoded; a cold disk then takes a third."""
    if not hasattr(os, "posix_fadvise"):
        return
    for origin in origins:
        if isinstance(origin, bytes):
            continue
        try:
            file = os.open(origin, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            # Decoding will find out, and say why.
            continue
        try:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
        except OSError:
            # A pipe, which decoding refuses.
            continue
        finally:
            os.close(file)


def _asked(origin: Callable[[int], Origin], places: Sequence[int]) -> tuple[list[bytes], dict[int, str]]:
    """The images as another process is told of them: their number; the length of each, below 0 where it is a path; and
    all of them. With the places of those that cannot be had, and why."""
    contents: list[bytes] = []
    lengths = array("q", [len(places)])
    unreadable: dict[int, str] = {}
    for number, place in enumerate(places):
        try:
            one = origin(place)
        except UnreadableImage as error:
            unreadable[number] = str(error)
            one = b""
        contents.append(one if isinstance(one, bytes) else os.fsencode(one))
        lengths.append(len(contents[-1]) if isinstance(one, bytes) else -len(contents[-1]))
    return [lengths.tobytes(), *contents], unreadable


def _fill(pipe: IO[bytes], part: Any) -> None:
    """Read as many bytes as there is room for."""
    room = memoryview(part).cast("B") if memoryview(part).nbytes else memoryview(b"")
    while len(room):
        if not (read := pipe.readinto(room)):  # type: ignore[attr-defined]
            raise EOFError
        room = room[read:]


_PROGRAM = """
import sys, types
sys.path += sys.argv[4:]
for name, folder in (("autodidact", sys.argv[2]), ("autodidact.data", sys.argv[3])):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from autodidact.data.decoding import _serve
_serve(sys.argv[1])
"""


def _started(decoding: Decoding) -> subprocess.Popen[bytes] | None:
    """A process that waits for images."""
    import PIL
    import torch
    from PIL import Image, ImageFile

    here = Path(__file__).resolve().parent
    # What a program has set in Pillow holds there too.
    told = {**vars(decoding), "truncated": ImageFile.LOAD_TRUNCATED_IMAGES, "most": Image.MAX_IMAGE_PIXELS}
    installed = dict.fromkeys(str(Path(str(module.__file__)).resolve().parents[1]) for module in (PIL, np, torch))
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM, json.dumps(told), str(here.parent), str(here), *installed]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    # Nothing is multiplied there, and a library that multiplies starts as many threads as there are cores.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        return subprocess.Popen(command, env=environment, **pipes)
    except OSError:
        return None


def _serve(told: str) -> None:
    """What that process does, until nobody listens."""
    from PIL import Image, ImageFile

    settings = json.loads(told)
    ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = settings.pop("truncated"), settings.pop("most")
    decoding = Decoding(**settings)
    # Ctrl-C reaches all processes of a terminal; the one that asked decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asking, answering = sys.stdin.buffer, sys.stdout.buffer
    with without_warnings():
        while True:
            count = array("q", [0])
            try:
                _fill(asking, count)
            except EOFError:
                return
            lengths = array("q", bytes(8 * count[0]))
            _fill(asking, lengths)
            contents = [asking.read(abs(length)) for length in lengths]
            origins = [
                os.fsdecode(content) if length < 0 else content
                for content, length in zip(contents, lengths, strict=True)
            ]
            read_ahead(origins)
            found = decoding.all(origins.__getitem__, range(len(origins)))
            reasons = json.dumps(found.reasons).encode()
            answering.write(array("q", [len(origins), len(reasons)]).tobytes())
            for part in (found.boxes.data, found.pixels.data, reasons):
                answering.write(part)
            answering.flush()
