"""Hugging Face datasets as sources: saved to a folder, named on the Hub, whole or streaming."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autodidact.catalog.nearest import unknown
from autodidact.data.frame import choose_frame
from autodidact.data.images import Origin
from autodidact.data.packed import pixels_of
from autodidact.data.pictures import ImageSource
from autodidact.data.places import place_name
from autodidact.data.rows import LOOKED_AT, Classes, RowStream, column_labels, named_classes, origin_of
from autodidact.data.source import RowNames, Source
from autodidact.data.stream import Raw, StreamSource
from autodidact.data.table import table_source

if TYPE_CHECKING:
    import datasets

    from autodidact.data.request import Request


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by ``save_to_disk``."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def hub_source(place: str, split: str | None, request: Request) -> tuple[Source, str | None]:
    """A dataset as a source, and the split that is still to be cut because the dataset has none of its own."""
    held, part, left = _chosen(_load(place, streaming=False), split, place)
    name = place_name(place)
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
    return HubStream(held, place_name(place), label, request)


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


class _Cells:
    """The images of one column of a dataset, undecoded."""

    def __init__(self, held: datasets.Dataset, column: str) -> None:
        self.digest = f"{held._fingerprint}/{column}"
        self.held, self.column = _undecoded(held).select_columns([column]), column

    def __len__(self) -> int:
        return len(self.held)

    def origin(self, index: int) -> Origin:
        return origin_of(self.held[index][self.column])


def _images(
    held: datasets.Dataset, name: str, part: str | None, image: str, label: str | None, request: Request
) -> Source:
    cells, classes = _Cells(held, image), _classes(held.features)
    labels = None if label is None else column_labels(held[label][:], classes.get(label, ()), label, request)
    frame = choose_frame(cells, request.image_size, request.canvas, request.channels)
    title = name if part is None else f"{name}-{part}"
    pixels = pixels_of(cells, frame, title=title, **request.storage)
    rest = [column for column in held.column_names if column not in (image, label)]
    notes = [f"columns left aside: {', '.join(rest)}"] if rest else []
    return ImageSource(name, pixels, RowNames(len(held), f"{part or name}:"), labels, notes=notes, pictures=cells)


def _table(held: datasets.Dataset, name: str, label: str | None, request: Request) -> Source:
    classes = _classes(held.features)
    labels = None if label is None else column_labels(held[label][:], classes.get(label, ()), label, request)
    frame = named_classes(held.to_pandas(), classes, label)
    return table_source(frame, name, labels=labels, columns=request.columns, like=request.like)


class HubStream(RowStream):
    """A streaming dataset."""

    def __init__(self, held: datasets.IterableDataset, name: str, label: str | None, request: Request) -> None:
        self.held = _undecoded(held)
        features: Mapping[str, Any] = held.features or {}
        first = list(islice(self.held, LOOKED_AT))
        super().__init__(name, first, _image_column(features), label, _classes(features), _length(held), request)

    def samples(self) -> Iterator[Raw]:
        return iter(self.held)


def _classes(features: Mapping[str, Any]) -> Classes:
    return {column: tuple(names) for column, f in features.items() if (names := getattr(f, "names", None))}


def _length(held: Any) -> int | None:
    splits = getattr(held.info, "splits", None) or {}
    part = splits.get(str(held.split)) if held.split is not None else None
    return int(part.num_examples) if part is not None and part.num_examples else None
