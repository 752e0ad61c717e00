"""Arrays that people saved with numpy: images or feature vectors, with or without labels."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autodidact.data.batch import Value
from autodidact.data.folder import evenly
from autodidact.data.ids import Ids, row_ids
from autodidact.data.labels import Labels, Task, coded
from autodidact.data.schema import Field, Schema
from autodidact.data.source import ArraySource, Positions, RowNames, Source, named

IMAGE_KEYS = ("images", "image", "x", "data", "x_train", "arr_0")
LABEL_KEYS = ("labels", "label", "y", "target", "targets", "y_train", "arr_1")


def load_array(path: Path, labels: str | None) -> tuple[NDArray[Any], NDArray[Any] | None, list[str]]:
    """The values of a ``.npy`` (mapped into memory) or ``.npz`` file, its labels, and what was left aside.

    Raises
    ------
    ValueError
        The file is damaged, holds Python objects, or has none of the usual keys.
    FileNotFoundError
        There is neither a key nor a file of the name given as `labels`.
    """
    if path.suffix == ".npy":
        return _read(path), None if labels in (None, "none") else _labels_beside(path, str(labels), []), []
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{path} is not a whole numpy archive: {error}") from error
    with archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
        usual = {key.lower(): key for key in members}
        wanted = next((usual[key] for key in IMAGE_KEYS if key in usual), None)
        if wanted is None:
            raise ValueError(
                f"{path} holds {', '.join(members) or 'nothing'}; one of {', '.join(IMAGE_KEYS)} is needed"
            )
        own = labels or next((usual[key] for key in LABEL_KEYS if key in usual and usual[key] != wanted), "none")
        found: NDArray[Any] | None = None
        if own in members:
            found = _read(path, archive, members[own])
        elif own != "none":
            found = _labels_beside(path, own, list(members))
        rest = [key for key in members if key not in (wanted, own)]
        notes = [f"left aside: {', '.join(rest)}"] if rest else []
        return _read(path, archive, members[wanted]), found, notes


def _read(path: Path, archive: zipfile.ZipFile | None = None, member: str = "") -> NDArray[Any]:
    """One array of a file; nothing in it is ever run."""
    try:
        if archive is None:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with archive.open(member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        text = str(error)
        if any(word in text for word in ("pickle", "Object arrays", "Python objects")):
            text = "Python objects are never loaded (they could run code); save plain numbers"
        raise ValueError(f"{path} cannot be read as an array: {text}") from error


def _labels_beside(path: Path, labels: str, keys: list[str]) -> NDArray[Any]:
    for candidate in (Path(labels).expanduser(), path.parent / labels):
        if candidate.suffix == ".npy" and candidate.is_file():
            return np.asarray(_read(candidate))
    raise FileNotFoundError(
        f"labels of {path.name} are a .npy file with a value a row"
        + (f", or one of {', '.join(keys)}" if keys else "")
        + f"; there is no '{labels}'"
    )


def array_source(
    values: NDArray[Any],
    name: str,
    *,
    labels: NDArray[Any] | None = None,
    task: Task = "auto",
    ids: Ids | None = None,
    classes: tuple[str, ...] = (),
    known: Field | None = None,
    notes: list[str] | None = None,
) -> Source:
    """A source of the rows of an array.

    (n, d) numbers are a table of d numeric columns x0, x1, ...; (n, h, w), (n, h, w, c) and (n, c, h, w) numbers are
    images, the channel axis being the shorter of the second and the last one. uint8 stays as it is; uint16 is scaled by
    1/65535; floats must lie in [0, 1], or in [0, 255] and are scaled then. Values are converted when they are read, so
    a mapped file stays on the disk.

    Parameters
    ----------
    labels : (n,) values, see `labels.coded`.
    classes : names of the classes, where `labels` are their indices.
    known : label of the data that this data is to be like.
    """
    if not (np.issubdtype(values.dtype, np.number) or values.dtype == bool) or values.dtype.kind == "c":
        raise ValueError(f"'{name}' holds {values.dtype}; accepted are whole and floating numbers")
    if values.ndim not in (2, 3, 4) or 0 in values.shape:
        raise ValueError(
            f"'{name}' has shape {values.shape}; accepted are (n, d) vectors, (n, h, w), (n, h, w, c) and (n, c, h, w) "
            "images"
        )
    label: Labels | None = None
    if labels is not None:
        if labels.shape != (len(values),):
            raise ValueError(f"'{name}' has {len(values)} rows and labels of shape {labels.shape}")
        if classes:
            label = Labels("label", labels.astype(np.int64), Field("label", classes=classes))
        else:
            label = coded(labels, "labels", task, known)
    ids = row_ids(name, "", len(values)) if ids is None else ids
    said = [*(notes or []), *(label.notes if label else [])]
    if values.ndim == 2:
        columns = tuple(f"x{i}" for i in range(values.shape[1]))
        schema = Schema(numeric=Field("numeric", shape=(len(columns),), columns=columns))
        fields: dict[str, Any] = {"numeric": np.asarray(values, dtype=np.float32)}
        if label is not None:
            fields[label.field], schema[label.field] = label.values, label.about
        source: Source = ArraySource(name, fields, schema, ids, RowNames(len(values), f"{name}:"))
    else:
        source = ImageArray(name, values, ids, label)
    source.notes = said
    return source


class ImageArray(Source):
    """Images that lie in one array, perhaps mapped from a file. Field "image": uint8, or float32 in [0, 1]."""

    def __init__(self, name: str, values: NDArray[Any], ids: Ids, label: Labels | None) -> None:
        self.name, self.ids, self.context = name, ids, {}
        self.names = RowNames(len(values), f"{name}:")
        self.values = values
        self.first = values.ndim == 4 and values.shape[1] < values.shape[3]
        self.scale = _scale(values, name)
        if values.ndim == 3:
            shape: tuple[int, ...] = (1, *values.shape[1:])
        else:
            shape = values.shape[1:] if self.first else (values.shape[3], *values.shape[1:3])
        self.schema = Schema(image=Field("image", shape=tuple(int(s) for s in shape)))
        self.scalars: Mapping[str, NDArray[Any]] = {} if label is None else {label.field: label.values}
        if label is not None:
            self.schema[label.field] = label.about

    def read(self, positions: Positions) -> dict[str, Value]:
        order = np.argsort(positions, kind="stable")
        found = np.empty((len(positions), *self.values.shape[1:]), dtype=self.values.dtype)
        # In the order of the file, so that a cold disk reads forward.
        found[order] = self.values[positions[order]]
        if self.scale != 1 or found.dtype != np.uint8:
            found = found.astype(np.float32) * np.float32(self.scale)
        if found.ndim == 3:
            found = found[:, None]
        elif not self.first:
            found = np.ascontiguousarray(found.transpose(0, 3, 1, 2))
        fields: dict[str, Value] = {"image": torch.from_numpy(found)}
        return fields | {name: torch.from_numpy(values[positions]) for name, values in self.scalars.items()}

    def column(self, field: str) -> NDArray[Any]:
        return np.asarray(named(self.scalars, field, self.name))

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if isinstance(self.values, np.memmap) and self.values.filename is not None:
            # A mapped file travels to worker processes as its name, not as its bytes.
            state["values"] = _Mapped(Path(self.values.filename))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        values = state["values"]
        self.__dict__ |= state | (
            {"values": np.load(values.path, mmap_mode="r")} if isinstance(values, _Mapped) else {}
        )


class _Mapped:
    def __init__(self, path: Path) -> None:
        self.path = path


def _scale(values: NDArray[Any], name: str) -> float:
    """What brings the values to uint8 or [0, 1]; from up to 1,024 images evenly spread where there are many."""
    if values.dtype == np.uint8:
        return 1
    if values.dtype == np.uint16:
        return 1 / 65535
    if values.dtype == bool:
        return 1
    looked = values[list(evenly(len(values), 1024))]
    low, high = float(looked.min()), float(looked.max())
    if not (np.isfinite(low) and np.isfinite(high) and low >= 0 and high <= 255):
        raise ValueError(
            f"'{name}' has {values.dtype} pixels from {low:g} to {high:g}; accepted are uint8, uint16, [0, 1] and "
            "[0, 255]"
        )
    return 1 if high <= 1 and values.dtype.kind == "f" else 1 / 255
