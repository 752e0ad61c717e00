"""One way to name data: whatever a person has, by name, path or value, becomes a `Source`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autodidact.catalog.nearest import unknown
from autodidact.data.arrays import array_source, load_array
from autodidact.data.bundled import FASHION_CLASSES, NAMED, fashion_mnist, idx_source
from autodidact.data.folder import class_folders, list_images
from autodidact.data.frame import choose_frame
from autodidact.data.ids import row_ids
from autodidact.data.idx import idx_parts, is_idx_images, labels_beside, read_idx
from autodidact.data.images import SUFFIXES
from autodidact.data.labels import Labels, Task, classes_of, from_file, labels_file
from autodidact.data.packed import pixels_of
from autodidact.data.pictures import ImageSource
from autodidact.data.schema import Schema
from autodidact.data.source import Source

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".csv.gz", ".tsv.gz")
SPLITS = ("train", "val", "test")
SPLIT_SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
NAMES = (*NAMED, "fashion_mnist")
ACCEPTED = (
    f"a folder of images ({' '.join(SUFFIXES)}), a .npy or .npz file, a CSV, TSV or Parquet table (or a folder of "
    "them), IDX files or their folder, a saved Hugging Face dataset, hf:ID or hf-stream:ID, or one of the names "
    f"{', '.join(NAMES)}"
)


def open_source(
    data: Any,
    *,
    labels: str | None = None,
    task: Task = "auto",
    split: str | None = None,
    image_size: int | None = None,
    canvas: int | tuple[int, int] | None = None,
    channels: int | None = None,
    columns: Mapping[str, str] | str | None = None,
    like: Schema | None = None,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    workers: int = 0,
    progress: bool = True,
    skipped: str | Path | None = None,
) -> Source:
    """Open data, whatever it is.

    Parameters
    ----------
    data : a path, a name, a data frame, an array or a source. Paths: a folder of images, nested as deep as it may be; a
        ``.npy`` or ``.npz`` array of images or vectors; a CSV, TSV or Parquet table, or a folder of tables with the
        same columns; IDX files or their folder; a dataset saved by Hugging Face datasets. Names: ``digits``,
        ``breast_cancer``, ``wine``, ``diabetes``, ``fashion_mnist``; ``hf:ID-or-folder`` and
        ``hf-stream:ID-or-folder``. ``:SPLIT`` behind any of them is the same as `split`.
    labels : where labels come from. Tables and datasets: a column. Folders of images: ``first`` or ``parent`` for the
        first or the innermost folder level, ``none``, or ``FILE[:FILE_COLUMN][:LABEL_COLUMN]`` for a CSV or Parquet
        file that names the images; default: the folders, where every image lies in one and there are at least two.
        Arrays: a key of the ``.npz`` or a ``.npy`` file.
    task : whether labels are ``classes`` or a ``number``; default by their values.
    split : ``train``, ``val``, ``test`` or ``all``. Data with splits of its own (folders of these names, IDX files,
        Hugging Face) gives that one, and without `split` the training part; other data is split 80/10/10 by a hash of
        each sample (`splits.split`), and is whole without `split`.
    image_size : side in pixels at which images will be used; it bounds the canvas, see `frame.choose_frame`.
    canvas : side of the canvas, or (height, width), instead.
    channels : 1 or 3 channels of image files; default 1 where all are grey.
    columns : how single columns of a table are taken: column -> ``numeric``, ``categorical``, ``date``, ``text`` or
        ``ignore``; also as text, ``"zip=categorical,note=text"``.
    like : schema of the data that a model was trained on: its classes, categories, columns and channels are used.
    cache : pack images once (`packed`); otherwise they are decoded from their files whenever they are read.
    cache_dir : where packed images go; default ``$AUTODIDACT_CACHE`` or ``~/.cache/autodidact``.
    workers : threads that decode while packing; 0 chooses.
    progress : show on stderr what is packed and how far it is.
    skipped : file that gets one JSON line ``{"name", "reason"}`` for everything that could not be read; by default none
        is written, ``source.skipped`` has them.

    Returns
    -------
    Source
        Its ``notes`` say in plain sentences how the data was taken.

    Raises
    ------
    FileNotFoundError, ValueError
        With what was given, what is accepted, and the nearest valid name.
    """
    asked = _Asked(
        labels, task, image_size, canvas, channels, _column_kinds(columns), like, cache, cache_dir, workers, progress
    )
    source = _open(data, split, asked)
    if skipped is not None:
        _write_skipped(Path(skipped), source)
    return source


class _Asked:
    """The options of `open_source`, for those who open one kind of data."""

    def __init__(
        self,
        labels: str | None,
        task: Task,
        image_size: int | None,
        canvas: int | tuple[int, int] | None,
        channels: int | None,
        columns: dict[str, Any],
        like: Schema | None,
        cache: bool,
        cache_dir: str | Path | None,
        workers: int,
        progress: bool,
    ) -> None:
        self.labels, self.task, self.image_size, self.canvas, self.columns = labels, task, image_size, canvas, columns
        self.like, self.cache, self.cache_dir, self.workers, self.progress = like, cache, cache_dir, workers, progress
        known = like["image"].shape[0] if like and "image" in like and like["image"].shape else None
        self.channels = channels if channels is not None else known if known in (1, 3) else None


def _open(data: Any, split: str | None, asked: _Asked) -> Source:
    if isinstance(data, Source):
        return _part(data, split)
    if not isinstance(data, str | Path):
        return _part(_value(data, asked), split)
    text, behind = _name_and_split(str(data))
    if behind and split and behind != split:
        raise ValueError(f"'{data}' names the split {behind}, and split={split} is given too")
    split = split or behind
    if text == "fashion_mnist" and not Path(text).exists():
        return fashion_mnist(split or "train")
    if text in NAMED and not Path(text).exists():
        if asked.labels is not None and asked.labels not in ("label", "target"):
            raise ValueError(f"'{text}' comes with its labels; leave out labels='{asked.labels}'")
        return _part(NAMED[text](), split)
    return _open_path(Path(text).expanduser(), split, asked)


def _value(data: Any, asked: _Asked) -> Source:
    import pandas as pd

    if isinstance(data, np.ndarray):
        return array_source(data, "array", like=asked.like)
    if not isinstance(data, pd.DataFrame):
        raise ValueError(
            f"cannot open a {type(data).__name__} as data; accepted are {ACCEPTED}, a data frame or an array"
        )
    from autodidact.data.table import table_source

    return table_source(data, "table", labels=asked.labels, task=asked.task, columns=asked.columns, like=asked.like)


def _open_path(path: Path, split: str | None, asked: _Asked) -> Source:
    if not path.exists():
        raise FileNotFoundError(_not_found(path))
    if path.is_dir():
        return _open_folder(path, split, asked)
    lower = path.name.lower()
    if lower.endswith(TABLE_SUFFIXES):
        return _part(_tables([path], _plain(path), asked), split)
    if lower.endswith((".npy", ".npz")):
        values, given, notes = load_array(path, asked.labels)
        return _part(
            array_source(values, _plain(path), labels=given, task=asked.task, like=asked.like, notes=notes), split
        )
    if is_idx_images(path):
        beside = labels_beside(path)
        images = read_idx(path)
        ids = row_ids(path.parent.name, path.name, len(images))
        given = None if beside is None else read_idx(beside)
        return _part(array_source(images, path.parent.name, labels=given, ids=ids, like=asked.like), split)
    if lower.endswith(SUFFIXES):
        raise ValueError(f"{path} is a single image; give the folder that it lies in")
    raise ValueError(f"{path} is not data of a known kind; accepted are {ACCEPTED}")


def _open_folder(path: Path, split: str | None, asked: _Asked) -> Source:
    entries = {entry.name for entry in path.iterdir()}
    if not entries:
        raise ValueError(f"{path} is empty")
    if idx_parts(path):
        named = path.resolve().name in ("fashion-mnist", "fashion_mnist")
        return idx_source(path, path.resolve().name, split, FASHION_CLASSES if named else ())
    tables = sorted(entry for entry in path.iterdir() if entry.name.lower().endswith(TABLE_SUFFIXES))
    if tables and not any((path / name).is_dir() or name.lower().endswith(SUFFIXES) for name in entries):
        return _part(_tables(tables, path.resolve().name, asked), split)
    return _image_folder(path, split, asked)


def _image_folder(root: Path, split: str | None, asked: _Asked) -> Source:
    files = list_images(root)
    name = root.resolve().name
    keep, split = _split_folder(files.names, split)
    frame = choose_frame(files, asked.image_size, asked.canvas, asked.channels)
    labels = _folder_labels(files.names, root, asked)
    pixels = pixels_of(
        files,
        frame,
        title=name,
        cache=asked.cache,
        cache_dir=asked.cache_dir,
        workers=asked.workers,
        progress=asked.progress,
    )
    source: Source = ImageSource(name, pixels, files.names, labels, skipped=files.skipped, notes=files.notes)
    if keep is not None:
        places = np.isin(np.asarray([n.split("/", 1)[0] for n in source.names]), sorted(keep))
        source = source.at(np.flatnonzero(places))
    return _part(source, split)


def _split_folder(names: Sequence[str], split: str | None) -> tuple[set[str] | None, str | None]:
    """Which first-level folders the split means, where all are called like splits; and what remains to split."""
    first = {name.split("/", 1)[0] if "/" in name else "" for name in names}
    if not first <= set(SPLIT_FOLDERS) or len(first) < 2:
        return None, split
    if split == "all":
        return None, None
    chosen = {folder for folder in first if SPLIT_FOLDERS[folder] == (split or "train")}
    if not chosen:
        raise unknown("split", split or "train", [*{SPLIT_FOLDERS[folder] for folder in first}, "all"])
    return chosen, None


def _folder_labels(names: Sequence[str], root: Path, asked: _Asked) -> Labels | None:
    like = asked.like
    known = None if like is None else like.get("label") or like.get("target")
    if asked.labels == "none":
        return None
    if asked.labels in (None, "first", "parent"):
        found = class_folders(names, tuple(SPLIT_FOLDERS), asked.labels)
        if found is None:
            if asked.labels is None:
                return None
            raise ValueError(f"labels='{asked.labels}' needs every image of {root} to lie in a folder; '{names[0]}'")
        classes, level = found
        labels = classes_of(classes, level, known, distinct=True)
        labels.notes.append(f"labels are the folders of the {level}")
        return labels
    where = labels_file(asked.labels, root)
    if where is None:
        raise ValueError(
            f"labels='{asked.labels}' is no way to label a folder of images; accepted are first, parent, none, or "
            "FILE[:FILE_COLUMN][:LABEL_COLUMN] with a CSV or Parquet file"
        )
    return from_file(where[0], where[1], names, asked.task, known)


def _tables(paths: Sequence[Path], name: str, asked: _Asked) -> Source:
    import pandas as pd

    from autodidact.data.table import read_frame, table_source

    frames = [read_frame(path) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if set(frame.columns) != set(frames[0].columns):
            raise ValueError(f"{path.name} has other columns than {paths[0].name}; tables of one folder must agree")
    alone = len(paths) == 1
    ids = np.concatenate([row_ids(name, "" if alone else p.name, len(f)) for p, f in zip(paths, frames, strict=True)])
    names = None
    if not alone:
        names = [f"{p.name}:{row}" for p, f in zip(paths, frames, strict=True) for row in range(len(f))]
    return table_source(
        pd.concat(frames, ignore_index=True),
        name,
        ids=ids,
        names=names,
        labels=asked.labels,
        task=asked.task,
        columns=asked.columns,
        like=asked.like,
    )


def _part(source: Source, split: str | None) -> Source:
    """A split of data that has none of its own."""
    if split is None or split == "all":
        return source
    if split not in SPLIT_SHARES:
        raise unknown("split", split, [*SPLIT_SHARES, "all"])
    from autodidact.data.splits import split as cut

    return cut(source, SPLIT_SHARES)[split]


def _name_and_split(text: str) -> tuple[str, str | None]:
    head, colon, tail = text.rpartition(":")
    if colon and head and tail and "/" not in tail and not Path(text).exists():
        return head, tail
    return text, None


def _plain(path: Path) -> str:
    name = path.name
    for suffix in (".gz", ".csv", ".tsv", ".parquet", ".npy", ".npz"):
        name = name.removesuffix(suffix)
    return name or path.name


def _column_kinds(columns: Mapping[str, str] | str | None) -> dict[str, Any]:
    if columns is None:
        return {}
    if isinstance(columns, str):
        pairs = [pair.partition("=") for pair in columns.split(",") if pair]
        if bad := [name for name, mark, _ in pairs if not mark]:
            raise ValueError(f"columns are given as NAME=KIND,NAME=KIND; '{bad[0]}' has no kind")
        return {name.strip(): kind.strip() for name, _, kind in pairs}
    return dict(columns)


def _not_found(path: Path) -> str:
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    from difflib import get_close_matches

    near = get_close_matches(path.name, [*beside, *NAMES], n=1, cutoff=0.6)
    hint = f"; did you mean '{near[0] if near[0] in NAMES else path.parent / near[0]}'?" if near else ""
    return (
        f"there is no data '{path}'{hint} Accepted are {ACCEPTED}"
        if hint
        else f"there is no data '{path}'; accepted are {ACCEPTED}"
    )


def _write_skipped(path: Path, source: Source) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(dict(entry)) + "\n" for entry in source.skipped))
