"""Streams of rows: mappings from column to value, of which one may be an image as bytes or as the name of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from autodidact.data.batch import Value
from autodidact.data.cores import cores
from autodidact.data.frame import Frame, choose_frame, side_limit
from autodidact.data.images import Origin, Pixels, UnreadableImage, decode, without_warnings
from autodidact.data.labels import Labels, classes_of, coded, recoded
from autodidact.data.schema import Field, Schema
from autodidact.data.stream import Raw, StreamSource
from autodidact.data.table import table_source

if TYPE_CHECKING:
    import pandas as pd

    from autodidact.data.request import Request

LOOKED_AT = 1000
"""Rows at the beginning of a stream that tell what is not known otherwise: classes, columns, the canvas."""
Classes = Mapping[str, tuple[str, ...]]
"""Column -> names of the classes that its integers stand for."""


class RowStream(StreamSource):
    """Rows in sequence; the images of one column on a canvas, or all columns as a table, fixed by the first rows.

    Parameters
    ----------
    first : rows at the beginning of the stream.
    image, label : columns, where there are any. An image is bytes, or ``{"bytes": ..., "path": ...}``.
    classes : of columns that hold numbers of classes.
    length : rows where their number is known.
    """

    def __init__(
        self,
        name: str,
        first: Sequence[Raw],
        image: str | None,
        label: str | None,
        classes: Classes,
        length: int | None,
        request: Request,
    ) -> None:
        self.image, self.label, self.classes = image or "", label or "", classes
        self.about = None
        schema = Schema()
        if label is not None:
            looked = column_labels([row.get(label) for row in first], classes.get(label, ()), label, request)
            self.about = (looked.field, looked.about)
        if self.image:
            self.frame = _stream_frame([row.get(self.image) for row in first], request)
            shape = (self.frame.channels, self.frame.height, self.frame.width)
            schema["image"], schema["box"] = Field("image", shape=shape), Field("box", shape=(4,), unit="px")
        else:
            table = table_source(self._rows(first), name, columns=request.columns, like=request.like)
            schema |= table.schema
        if self.about is not None:
            schema[self.about[0]] = self.about[1]
        super().__init__(name, Schema(schema), length, request.buffer)
        if not self.image:
            self.notes += [*table.notes, f"columns and categories are those of the first {len(first):,} samples"]

    def decode(self, raws: Sequence[Raw]) -> tuple[dict[str, Value], dict[int, str]]:
        with without_warnings():
            fields, bad = self._decoded_images(raws) if self.image else (self._decoded_rows(raws), {})
        if self.about is not None:
            field, about = self.about
            values = [raw.get(self.label) for place, raw in enumerate(raws) if place not in bad]
            if names := self.classes.get(self.label):
                values = class_names(values, names)
            fields[field] = torch.from_numpy(recoded(values, about))
        return fields, bad

    def _decoded_images(self, raws: Sequence[Raw]) -> tuple[dict[str, Value], dict[int, str]]:
        parts = min(cores(), len(raws))
        with ThreadPoolExecutor(parts) as threads:
            shares = [raws[k * len(raws) // parts : (k + 1) * len(raws) // parts] for k in range(parts)]
            found = list(chain.from_iterable(threads.map(lambda share: [self._decoded(raw) for raw in share], shares)))
        frame = self.frame
        images, boxes, bad = [], [], {}
        for place, image in enumerate(found):
            if isinstance(image, str):
                bad[place] = image
                continue
            canvas = np.zeros((frame.channels, frame.height, frame.width), dtype=np.uint8)
            canvas[:, : image.shape[1], : image.shape[2]] = image
            images.append(canvas)
            boxes.append((0.0, 0.0, float(image.shape[1]), float(image.shape[2])))
        if not images:
            return {}, bad
        return {"image": torch.from_numpy(np.stack(images)), "box": torch.tensor(boxes)}, bad

    def _decoded(self, raw: Raw) -> Pixels | str:
        """The image of a row, or why there is none."""
        try:
            return decode(origin_of(raw.get(self.image)), self.frame.channels, (self.frame.height, self.frame.width))
        except UnreadableImage as error:
            return str(error)

    def _decoded_rows(self, raws: Sequence[Raw]) -> dict[str, Value]:
        table = table_source(self._rows(raws), self.name, like=self.schema)
        return table.read(np.arange(len(table)))

    def _rows(self, raws: Sequence[Raw]) -> pd.DataFrame:
        import pandas as pd

        return named_classes(pd.DataFrame(list(raws)), self.classes, self.label or None)


class HeldCells:
    """Undecoded images in memory, to look at their headers."""

    digest = ""

    def __init__(self, cells: Sequence[Any]) -> None:
        self.cells = cells

    def __len__(self) -> int:
        return len(self.cells)

    def origin(self, index: int) -> Origin:
        return origin_of(self.cells[index])


def _stream_frame(cells: Sequence[Any], request: Request) -> Frame:
    """The canvas of a stream: the size of its first images where they have one, else a square, for what is to come."""
    frame = choose_frame(HeldCells(cells), request.image_size, request.canvas, request.channels)
    if frame.uniform or request.canvas is not None:
        return frame
    side = side_limit(request.image_size)
    return replace(frame, height=side, width=side)


def origin_of(cell: Any) -> Origin:
    """What to decode for a cell of an image column: its bytes, else the file that it names, perhaps a remote one."""
    if isinstance(cell, bytes):
        return cell
    if not isinstance(cell, Mapping) or (cell.get("bytes") is None and not cell.get("path")):
        raise UnreadableImage("the cell is empty")
    if cell.get("bytes") is not None:
        return bytes(cell["bytes"])
    path = str(cell["path"])
    if "://" not in path:
        return path
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            return bytes(file.read())
    except OSError as error:
        raise UnreadableImage(f"{path} cannot be fetched: {error}") from error


def column_labels(values: Sequence[Any], classes: Sequence[str], name: str, request: Request) -> Labels:
    """Labels of a column; where it holds numbers of known classes, those classes in their order."""
    if not classes:
        return coded(values, name, request.task, request.known_label)
    known = request.known_label or Field("label", classes=tuple(classes))
    return classes_of(class_names(values, classes), name, known)


def class_names(values: Sequence[Any], classes: Sequence[str]) -> list[str | None]:
    """Names of the classes that integers stand for; None where nothing is known."""
    return [classes[int(v)] if _known(v) and v >= 0 else None for v in values]


def _known(value: Any) -> bool:
    """Whether a cell holds something: None and NaN do not."""
    return value is not None and value == value


def named_classes(frame: pd.DataFrame, classes: Classes, label: str | None) -> pd.DataFrame:
    """The table without its label, class indices of the other columns replaced by the names of the classes."""
    for column, names in classes.items():
        if column != label:
            frame[column] = class_names(frame[column].tolist(), names)
    return frame if label is None else frame.drop(columns=label, errors="ignore")
