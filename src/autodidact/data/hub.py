"""Hugging Face datasets as sources: saved to a folder, named on the Hub, whole or streaming."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from autodidact.catalog.nearest import unknown
from autodidact.data.batch import Value
from autodidact.data.frame import Frame, choose_frame, side_limit
from autodidact.data.images import Origin, UnreadableImage, decode, without_warnings
from autodidact.data.labels import Labels, classes_of, coded, recoded
from autodidact.data.packed import pixels_of
from autodidact.data.pictures import ImageSource
from autodidact.data.schema import Field, Schema
from autodidact.data.source import RowNames, Source
from autodidact.data.stream import Raw, StreamSource
from autodidact.data.table import table_source

if TYPE_CHECKING:
    import datasets
    import pandas as pd

    from autodidact.data.open import Request

LOOKED_AT = 1000


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by ``save_to_disk``."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def hub_source(place: str, split: str | None, request: Request) -> tuple[Source, str | None]:
    """A dataset as a source, and the split that is still to be cut because the dataset has none of its own."""
    held, part, left = _chosen(_load(place, streaming=False), split, place)
    name = Path(place).name or place
    label = _label_column(held.features, request.labels, place)
    image = _image_column(held.features)
    if image is None:
        return _table(held, name, label, request), left
    return _images(held, name, part, image, label, request), left


def hub_stream(place: str, split: str | None, request: Request) -> StreamSource:
    """A dataset as a stream. What its features do not tell is taken from its first 1,000 samples."""
    held, _, left = _chosen(_load(place, streaming=True), split, place)
    if left is not None:
        raise ValueError(f"'{place}' has no splits, and a stream cannot be cut into '{left}' and the rest")
    columns = held.features or next(iter(held), None)
    if columns is None:
        raise ValueError(f"'{place}' has no sample")
    label = _label_column(dict(columns), request.labels, place)
    return HubStream(held, Path(place).name or place, label, request)


def _load(place: str, *, streaming: bool) -> Any:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Hugging Face datasets are read with the package datasets: pip install 'autodidact[hf]'", name="datasets"
        ) from error
    path = Path(place).expanduser()
    if path.is_dir() and is_saved(path):
        held = datasets.load_from_disk(str(path))
        if not streaming:
            return held
        if isinstance(held, datasets.DatasetDict):
            return {name: part.to_iterable_dataset() for name, part in held.items()}
        return held.to_iterable_dataset()
    try:
        return datasets.load_dataset(str(path) if path.exists() else place, streaming=streaming)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"'{place}' is neither a folder that datasets reads nor a dataset that the Hub gives: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error


def _chosen(held: Any, split: str | None, place: str) -> tuple[Any, str | None, str | None]:
    """One part of what was loaded, its name, and the split that is still to be cut where there are no parts."""
    import datasets

    if not isinstance(held, Mapping):
        return held, None, None if split == "all" else split
    parts = list(held)
    if split == "all":
        return datasets.concatenate_datasets([held[part] for part in parts]), "all", None
    chosen = split or ("train" if "train" in parts else parts[0])
    if chosen not in parts and chosen == "val" and "validation" in parts:
        chosen = "validation"
    if chosen not in parts:
        raise unknown(f"split of '{place}'", chosen, [*parts, "all"])
    return held[chosen], chosen, None


def _image_column(features: Mapping[str, Any]) -> str | None:
    return next((name for name, feature in features.items() if type(feature).__name__ == "Image"), None)


def _label_column(features: Mapping[str, Any], asked: str | None, place: str) -> str | None:
    """The column asked for, else the first of class labels; None where there is none or "none" is asked for."""
    if asked == "none":
        return None
    if asked is None:
        return next((name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"), None)
    if asked not in features:
        raise unknown(f"column of '{place}'", asked, features)
    return asked


def _undecoded(held: Any) -> Any:
    """The dataset with images as bytes or paths, so that only what is used is decoded, and by our own rules."""
    import datasets

    for name, feature in (held.features or {}).items():
        if isinstance(feature, datasets.Image):
            held = held.cast_column(name, datasets.Image(decode=False))
    return held


def _origin(cell: Any) -> Origin:
    """What to decode for a cell of an image column: its bytes, else the file that it names, perhaps a remote one."""
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


def _labels(values: Sequence[Any], feature: Any, name: str, request: Request) -> Labels:
    """Labels of a column; those of a ClassLabel feature have its classes, in its order."""
    classes = tuple(getattr(feature, "names", None) or ())
    if not classes:
        return coded(values, name, request.task, request.known_label)
    return classes_of(_class_names(values, classes), name, request.known_label or Field("label", classes=classes))


def _class_names(values: Sequence[Any], classes: Sequence[str]) -> list[str | None]:
    return [classes[int(v)] if _known(v) and v >= 0 else None for v in values]


def _known(value: Any) -> bool:
    """Whether a cell holds something: None and NaN do not."""
    return value is not None and value == value


class _Cells:
    """The images of one column of a dataset, undecoded."""

    def __init__(self, held: datasets.Dataset, column: str) -> None:
        self.digest = f"{held._fingerprint}/{column}"
        self.held, self.column = _undecoded(held).select_columns([column]), column

    def __len__(self) -> int:
        return len(self.held)

    def origin(self, index: int) -> Origin:
        return _origin(self.held[index][self.column])


def _images(
    held: datasets.Dataset, name: str, part: str | None, image: str, label: str | None, request: Request
) -> Source:
    cells = _Cells(held, image)
    labels = None if label is None else _labels(held[label][:], held.features[label], label, request)
    frame = choose_frame(cells, request.image_size, request.canvas, request.channels)
    title = name if part is None else f"{name}-{part}"
    pixels = pixels_of(cells, frame, title=title, **request.storage)
    rest = [column for column in held.column_names if column not in (image, label)]
    notes = [f"columns left aside: {', '.join(rest)}"] if rest else []
    return ImageSource(name, pixels, RowNames(len(held), f"{part or name}:"), labels, notes=notes)


def _table(held: datasets.Dataset, name: str, label: str | None, request: Request) -> Source:
    labels = None if label is None else _labels(held[label][:], held.features[label], label, request)
    frame = _named_classes(held.to_pandas(), held.features, label)
    return table_source(frame, name, labels=labels, columns=request.columns, like=request.like)


def _named_classes(frame: pd.DataFrame, features: Mapping[str, Any], label: str | None) -> pd.DataFrame:
    """The table without its label, class indices of the other columns replaced by the names of the classes."""
    for column, feature in features.items():
        if column != label and (classes := getattr(feature, "names", None)):
            frame[column] = _class_names(frame[column].tolist(), classes)
    return frame if label is None else frame.drop(columns=label)


class HubStream(StreamSource):
    """A streaming dataset; its images on a canvas, or its columns, fixed by its first samples."""

    def __init__(self, held: datasets.IterableDataset, name: str, label: str | None, request: Request) -> None:
        self.held = _undecoded(held)
        self.features: Mapping[str, Any] = held.features or {}
        self.image, self.label = _image_column(self.features) or "", label or ""
        first = list(islice(self.held, LOOKED_AT))
        self.about = None
        schema = Schema()
        if label is not None:
            looked = _labels([row[label] for row in first], self.features.get(label), label, request)
            self.about = (looked.field, looked.about)
        if self.image:
            self.frame = _stream_frame([row[self.image] for row in first], request)
            shape = (self.frame.channels, self.frame.height, self.frame.width)
            schema["image"], schema["box"] = Field("image", shape=shape), Field("box", shape=(4,), unit="px")
        else:
            frame = self._rows(first)
            table = table_source(frame, name, columns=request.columns, like=request.like)
            schema |= table.schema
        if self.about is not None:
            schema[self.about[0]] = self.about[1]
        super().__init__(name, Schema(schema), _length(held), request.buffer)
        if not self.image:
            self.notes += [*table.notes, f"columns and categories are those of the first {len(first):,} samples"]

    def samples(self) -> Iterator[Raw]:
        return iter(self.held)

    def decode(self, raws: Sequence[Raw]) -> tuple[dict[str, Value], dict[int, str]]:
        with without_warnings():
            fields, bad = self._decoded_images(raws) if self.image else (self._decoded_rows(raws), {})
        if self.about is not None:
            field, about = self.about
            values = [raw[self.label] for place, raw in enumerate(raws) if place not in bad]
            if classes := getattr(self.features.get(self.label), "names", None):
                values = _class_names(values, classes)
            fields[field] = torch.from_numpy(recoded(values, about))
        return fields, bad

    def _decoded_images(self, raws: Sequence[Raw]) -> tuple[dict[str, Value], dict[int, str]]:
        frame = self.frame
        images, boxes, bad = [], [], {}
        for place, raw in enumerate(raws):
            try:
                image = decode(_origin(raw[self.image]), frame.channels, (frame.height, frame.width))
            except UnreadableImage as error:
                bad[place] = str(error)
                continue
            canvas = np.zeros((frame.channels, frame.height, frame.width), dtype=np.uint8)
            canvas[:, : image.shape[1], : image.shape[2]] = image
            images.append(canvas)
            boxes.append((0.0, 0.0, float(image.shape[1]), float(image.shape[2])))
        if not images:
            return {}, bad
        return {"image": torch.from_numpy(np.stack(images)), "box": torch.tensor(boxes)}, bad

    def _decoded_rows(self, raws: Sequence[Raw]) -> dict[str, Value]:
        table = table_source(self._rows(raws), self.name, like=self.schema)
        return table.read(np.arange(len(table)))

    def _rows(self, raws: Sequence[Raw]) -> pd.DataFrame:
        import pandas as pd

        return _named_classes(pd.DataFrame(list(raws)), self.features, self.label or None)


class _Held:
    """Undecoded images in memory, to look at their headers."""

    digest = ""

    def __init__(self, cells: Sequence[Any]) -> None:
        self.cells = cells

    def __len__(self) -> int:
        return len(self.cells)

    def origin(self, index: int) -> Origin:
        return _origin(self.cells[index])


def _stream_frame(cells: Sequence[Any], request: Request) -> Frame:
    """The canvas of a stream: the size of its first images where they have one, else a square, for what is to come."""
    frame = choose_frame(_Held(cells), request.image_size, request.canvas, request.channels)
    if frame.uniform or request.canvas is not None:
        return frame
    side = side_limit(request.image_size)
    return replace(frame, height=side, width=side)


def _length(held: Any) -> int | None:
    splits = getattr(held.info, "splits", None) or {}
    part = splits.get(str(held.split)) if held.split is not None else None
    return int(part.num_examples) if part is not None and part.num_examples else None
