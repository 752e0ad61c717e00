"""IDX files, the format of MNIST and its kin (yann.lecun.com/exdb/mnist, "the IDX file format")."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IMAGES = re.compile(r"(?P<part>.*?)[-_.]?images[-_.]idx[34][-_.]ubyte(\.gz)?$")
_PARTS = {"train": "train", "t10k": "test", "test": "test", "val": "val", "valid": "val"}


def read_idx(path: Path) -> NDArray[Any]:
    """The array of an IDX file, gzipped or not.

    Two zero bytes, a byte for the type, a byte for the number of axes, the axes as big-endian 32-bit numbers, the
    values.

    Raises
    ------
    ValueError
        It is not an IDX file, or it is cut short.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} cannot be unpacked: {error}") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _TYPES:
        raise ValueError(f"{path} is not an IDX file: it begins with {raw[:4].hex(' ') or 'nothing'}")
    axes = raw[3]
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", axes, 4)) if len(raw) >= 4 + 4 * axes else ()
    kind = np.dtype(_TYPES[raw[2]])
    expected = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if len(shape) != axes or len(raw) - 4 - 4 * axes != expected:
        raise ValueError(f"{path} is cut short or too long: {len(raw) - 4 - 4 * axes} bytes for shape {shape}")
    values = np.frombuffer(raw, kind, offset=4 + 4 * axes).reshape(shape)
    return values if kind.itemsize == 1 else values.astype(kind.newbyteorder("="))


def idx_parts(folder: Path) -> dict[str, tuple[Path, Path | None]]:
    """Splits of a folder of IDX files: name -> (images, labels or None). Empty where there are none."""
    found: dict[str, tuple[Path, Path | None]] = {}
    for path in sorted(folder.iterdir()):
        match = _IMAGES.fullmatch(path.name)
        if match:
            part = match["part"].lower()
            name = next((split for word, split in _PARTS.items() if part.endswith(word)), part or "train")
            found[name] = (path, labels_beside(path))
    return found


def is_idx_images(path: Path) -> bool:
    """Whether a file is called as IDX images are."""
    return _IMAGES.fullmatch(path.name) is not None


def labels_beside(images: Path) -> Path | None:
    """The file of labels that belongs to a file of images, packed or not; None where there is none."""
    name = re.sub(r"images([-_.])idx[34]", r"labels\1idx1", images.name).removesuffix(".gz")
    return next((p for p in (images.with_name(name), images.with_name(name + ".gz")) if p.is_file()), None)
