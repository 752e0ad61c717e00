"""One way to name data: whatever a person has, by name, path or value, becomes a `Source`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from autodidact.catalog.nearest import unknown
from autodidact.data.arrays import array_source, load_array
from autodidact.data.bundled import FASHION_CLASSES, NAMED, fashion_mnist, idx_source
from autodidact.data.durable import write_aside
from autodidact.data.folder import Files, class_folders, list_images, listed_images
from autodidact.data.frame import choose_frame
from autodidact.data.ids import row_ids
from autodidact.data.idx import idx_parts, is_idx_images, labels_beside, read_idx
from autodidact.data.images import SUFFIXES
from autodidact.data.labels import FILE_SUFFIXES, Labels, Task, classes_of, from_file, labels_file
from autodidact.data.packed import pixels_of
from autodidact.data.pictures import ImageSource
from autodidact.data.request import Request
from autodidact.data.schema import Schema
from autodidact.data.shard_files import TAR
from autodidact.data.source import Source
from autodidact.data.splits import SPLIT_FOLDERS
from autodidact.data.splits import split as cut
from autodidact.data.table_file import read_frame

SPLIT_SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
NAMES = (*NAMED, "fashion_mnist")
SHARDS = "shards:"
"""Before a place whose files are to be read in sequence."""
SKIPPED = "skipped.jsonl"
"""File of a run that lists what could not be read."""
LIST = ".txt"
"""Ending of a file that names images."""
ACCEPTED = (
    f"a folder of images ({' '.join(SUFFIXES)}), a .txt file that names images one a line, a .npy or .npz file, a CSV, "
    "TSV or Parquet table or a folder of them, IDX files or their folder, a folder of tar shards, shards:PLACE, a "
    "saved Hugging Face dataset, hf:ID, hf-stream:ID, or one of the names "
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
    buffer: int = 1000,
    cache: bool = True,
    cache_dir: str | Path | None = None,
    workers: int = 0,
    progress: bool = True,
    by_position: bool = False,
    skipped: str | Path | None = None,
) -> Source:
    """Open data, whatever it is.

    Parameters
    ----------
    data : a path, a name, a data frame, an array or a source. Paths: a folder of images, nested as deep as it may be; a
        ``.txt`` file that names images, one a line (`folder.listed_images`), as `autodidact select` writes it; a
        ``.npy`` or ``.npz`` array of images or vectors; a CSV, TSV or Parquet table, or a folder of tables with the
        same columns; IDX files or their folder; a dataset saved by Hugging Face datasets. Names: ``digits``,
        ``breast_cancer``, ``wine``, ``diabetes``, ``fashion_mnist``; ``hf:ID-or-folder``, and
        ``hf-stream:ID-or-folder`` for one that is read in sequence. Shards, read in sequence too (unless
        `by_position`), for data that no disk holds (`shards.shard_stream`): tar files or a folder of them, ``shards:``
        before a folder of Parquet files or a pattern, or an address such as ``s3://bucket/train-{000..127}.tar``.
        ``:SPLIT`` behind any of them is the same as `split`.
    labels : where labels come from. Tables and datasets: a column. Folders of images: ``first`` or ``parent`` for the
        first or the innermost folder level, or ``FILE[:FILE_COLUMN][:LABEL_COLUMN]`` for a CSV or Parquet file that
        names the images; default: the folders, where every image lies in one and there are at least two. Arrays: a key
        of the ``.npz``, or a ``.npy`` file. ``none``: no labels, even where there are some.
    task : whether labels are ``classes`` or a ``number``; default by their values (`labels.coded`).
    split : ``train``, ``val``, ``test`` or ``all``. Data with splits of its own (folders of these names, IDX files,
        Hugging Face) gives that one, and without `split` the training part; other data is split 80/10/10 by a hash of
        each sample (`splits.split`), and is whole without `split`.
    image_size : side in pixels at which images will be used; it bounds the canvas, see `frame.choose_frame`.
    canvas : side of the canvas in pixels, or (height, width), instead.
    channels : 1 or 3 channels of image files; default 1 where all are grey. Arrays keep theirs.
    columns : how single columns of a table are taken: column -> ``numeric``, ``categorical``, ``date``, ``text`` or
        ``ignore``; also as text, ``"zip=categorical,note=text"``. Default by their values (`table.table_source`).
    like : schema of the data that a model was trained on: its classes, categories, columns and channels are used.
    buffer : samples of a stream among which the next one is drawn at random.
    cache : pack images once (`packed`); otherwise they are decoded from their files whenever they are read.
    cache_dir : where packed images go; default ``$AUTODIDACT_CACHE`` or ``~/.cache/autodidact``.
    workers : threads that decode while packing; 0 chooses.
    progress : show on stderr what is packed and how far it is.
    by_position : shards are no stream but read by position, as other data is (`placed.placed_source`): an index of
        their samples is made once, and images are packed, unless `cache` says otherwise.
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
    kinds = _column_kinds(columns)
    if kinds and like is not None:
        raise ValueError("columns= and like= exclude each other: the schema says already how each column is taken")
    known = like["image"].shape[0] if like and "image" in like and like["image"].shape else None
    request = Request(
        labels=labels,
        task=task,
        image_size=image_size,
        canvas=canvas,
        channels=channels if channels is not None or known not in (1, 3) else known,
        columns=kinds,
        like=like,
        buffer=buffer,
        cache=cache,
        cache_dir=cache_dir,
        workers=workers,
        progress=progress,
        by_position=by_position,
    )
    source = _open(data, split, request)
    _check_used(source, kinds, canvas, channels)
    if skipped is not None:
        write_skipped(source, Path(skipped))
    return source


def write_skipped(source: Source, path: Path, *, further: bool = False) -> None:
    """One JSON line for everything of a source that could not be read; of a stream, beside what the file has already.

    A stream finds out while it is read, perhaps in several runs and by several processes.

    Parameters
    ----------
    further : the file is also that of other data: what it has stays, and the lines say which data they are of.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    with FileLock(lock):
        of = {"data": source.name} if further else {}
        lines = [json.dumps({**entry, **of}) for entry in source.skipped]
        if (source.streaming or further) and path.is_file():
            lines = list(dict.fromkeys([*path.read_text().splitlines(), *lines]))
        write_aside(path, "".join(f"{line}\n" for line in lines).encode())
        # Who waits for it sees that it is gone, and makes it anew; where an open file cannot be removed it stays.
        with suppress(OSError):
            lock.unlink()


def _open(data: Any, split: str | None, request: Request) -> Source:
    if isinstance(data, Source):
        return _part(data, split)
    if not isinstance(data, str | Path):
        return _part(_value(data, request), split)
    text, behind = _name_and_split(str(data))
    if behind and split and behind != split:
        raise ValueError(f"'{data}' names the split {behind}, and split={split} is given too")
    split = split or behind
    if text.startswith("hf-stream:"):
        from autodidact.data.hub import hub_stream

        return hub_stream(text.removeprefix("hf-stream:"), split, request)
    if "://" in text or text.startswith(SHARDS) or text.lower().endswith(TAR):
        return _shards(text.removeprefix(SHARDS), split, request)
    if text.startswith("hf:"):
        return _hub(text.removeprefix("hf:"), split, request)
    if text in NAMES and not Path(text).exists():
        return _bundled(text, split, request)
    return _open_path(Path(text).expanduser(), split, request)


def _value(data: Any, request: Request) -> Source:
    import pandas as pd

    if isinstance(data, np.ndarray):
        if request.labels not in (None, "none"):
            raise ValueError("labels of an array in memory are not named; use autodidact.data.arrays.array_source")
        return array_source(data, "array")
    if not isinstance(data, pd.DataFrame):
        raise ValueError(
            f"cannot open a {type(data).__name__} as data; accepted are {ACCEPTED}, a data frame or an array"
        )
    return _table(data, "table", request)


def _hub(place: str, split: str | None, request: Request) -> Source:
    from autodidact.data.hub import hub_source

    source, left = hub_source(place, split, request)
    return _part(source, left)


def _shards(place: str, split: str | None, request: Request) -> Source:
    if request.by_position:
        from autodidact.data.placed import placed_source

        return placed_source(place, split, request)
    from autodidact.data.shards import shard_stream

    return shard_stream(place, split, request)


def _bundled(name: str, split: str | None, request: Request) -> Source:
    source = fashion_mnist(split or "train") if name == "fashion_mnist" else _part(NAMED[name](), split)
    return _own_labels(source, request)


def _own_labels(source: Source, request: Request) -> Source:
    """Data that brings its labels: they may be left aside, not chosen."""
    own = source.schema.first("label") or source.schema.first("target")
    if request.labels == "none" and own is not None:
        return source.without(own)
    if request.labels not in (None, "none", own):
        raise ValueError(
            f"'{source.name}' brings its own labels" + (f" ('{own}')" if own else " or none") + "; labels="
            f"'{request.labels}' is not among them (accepted: none)"
        )
    return source


def _open_path(path: Path, split: str | None, request: Request) -> Source:
    if not path.exists():
        raise FileNotFoundError(_not_found(path))
    if path.is_dir():
        return _open_folder(path, split, request)
    lower = path.name.lower()
    if lower.endswith(FILE_SUFFIXES):
        return _part(_tables([path], _plain(path), request), split)
    if lower.endswith((".npy", ".npz")):
        values, given, notes = load_array(path, request.labels)
        source = array_source(
            values, _plain(path), labels=given, task=request.task, known=request.known_label, notes=notes
        )
        return _part(source, split)
    if is_idx_images(path):
        beside = labels_beside(path)
        images, given = read_idx(path), None if beside is None else read_idx(beside)
        name = path.resolve().parent.name
        ids = row_ids(name, path.name.removesuffix(".gz"), len(images))
        source = array_source(images, name, labels=given, ids=ids, task="classes", known=request.known_label)
        return _part(_own_labels(source, request), split)
    if lower.endswith(LIST):
        return _images(listed_images(path), _plain(path), split, request)
    if lower.endswith(SUFFIXES):
        raise ValueError(f"{path} is a single image; give the folder that it lies in")
    raise ValueError(f"{path} is not data of a known kind; accepted are {ACCEPTED}")


def _open_folder(path: Path, split: str | None, request: Request) -> Source:
    entries = sorted(path.iterdir())
    name = path.resolve().name
    if not entries:
        raise ValueError(f"the folder {path} is empty; accepted are {ACCEPTED}")
    if {"dataset_dict.json", "state.json"} & {entry.name for entry in entries}:
        return _hub(str(path), split, request)
    if idx_parts(path):
        named = name in ("fashion-mnist", "fashion_mnist")
        return _own_labels(idx_source(path, name, split, FASHION_CLASSES if named else ()), request)
    if any(entry.name.lower().endswith(TAR) for entry in entries):
        return _shards(str(path), split, request)
    tables = [entry for entry in entries if entry.name.lower().endswith(FILE_SUFFIXES)]
    if tables and not any(entry.is_dir() or entry.name.lower().endswith(SUFFIXES) for entry in entries):
        return _part(_tables(tables, name, request), split)
    return _images(list_images(path), name, split, request)


def _images(files: Files, name: str, split: str | None, request: Request) -> Source:
    folders, split = _split_folders(files.names, split)
    frame = choose_frame(files, request.image_size, request.canvas, request.channels)
    labels = _folder_labels(files.names, files.root, request)
    pixels = pixels_of(files, frame, title=name, **request.storage)
    source: Source = ImageSource(
        name, pixels, files.names, labels, skipped=files.skipped, notes=files.notes, pictures=files
    )
    if folders is not None:
        inside = [position for position, known in enumerate(source.names) if known.split("/", 1)[0] in folders]
        source = source.at(inside)
    return _part(source, split)


def _split_folders(names: Sequence[str], split: str | None) -> tuple[set[str] | None, str | None]:
    """Which first-level folders the split means, where all are called like splits; and what remains to be cut."""
    first = {name.split("/", 1)[0] if "/" in name else "" for name in names}
    if not first <= set(SPLIT_FOLDERS) or len(first) < 2:
        return None, split
    if split == "all":
        return None, None
    chosen = {folder for folder in first if SPLIT_FOLDERS[folder] == (split or "train")}
    if not chosen:
        raise unknown("split", split or "train", [*{SPLIT_FOLDERS[folder] for folder in first}, "all"])
    return chosen, None


def _folder_labels(names: Sequence[str], root: Path, request: Request) -> Labels | None:
    if request.labels == "none":
        return None
    if request.labels in (None, "first", "parent"):
        found = class_folders(names, tuple(SPLIT_FOLDERS), request.labels)
        if found is None:
            if request.labels is None:
                return None
            alone = next(name for name in names if "/" not in name or name.split("/")[0] in SPLIT_FOLDERS)
            raise ValueError(f"labels='{request.labels}' needs every image in a class folder; '{alone}' is in none")
        classes, level = found
        labels = classes_of(classes, level, request.known_label, distinct=True)
        labels.notes.append(f"labels are the folders of the {level}")
        return labels
    where = labels_file(str(request.labels), root)
    if where is None:
        raise ValueError(
            f"labels='{request.labels}' is no way to label a folder of images; accepted are first, parent, none, or "
            "FILE[:FILE_COLUMN][:LABEL_COLUMN] with a CSV or Parquet file"
        )
    return from_file(where[0], where[1], names, request.task, request.known_label)


def _tables(paths: Sequence[Path], name: str, request: Request) -> Source:
    import pandas as pd

    frames = [read_frame(path) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if set(frame.columns) != set(frames[0].columns):
            raise ValueError(f"{path.name} has other columns than {paths[0].name}; tables of one folder must agree")
    if len(paths) == 1:
        return _table(frames[0], name, request)
    parts = list(zip(paths, frames, strict=True))
    source = _table(pd.concat(frames, ignore_index=True), name, request)
    # Ids by file, so that a table that grows leaves those of the others alone.
    source.ids = np.concatenate([row_ids(name, path.name, len(frame)) for path, frame in parts])
    source.names = [f"{path.name}:{row}" for path, frame in parts for row in range(len(frame))]
    return source


def _table(frame: Any, name: str, request: Request) -> Source:
    from autodidact.data.table import table_source

    labels = None if request.labels == "none" and "none" not in frame.columns else request.labels
    return table_source(frame, name, labels=labels, task=request.task, columns=request.columns, like=request.like)


def _part(source: Source, split: str | None) -> Source:
    """A split of data that has none of its own."""
    if split is None or split == "all":
        return source
    if split not in SPLIT_SHARES:
        raise unknown("split", split, [*SPLIT_SHARES, "all"])
    if source.streaming:
        raise ValueError(f"'{source.name}' is a stream, which cannot be cut into splits")
    return cut(source, SPLIT_SHARES)[split]


def _check_used(
    source: Source, columns: Mapping[str, str], canvas: int | tuple[int, int] | None, channels: int | None
) -> None:
    """Options that mean nothing for this data are errors, not silence."""
    image = source.schema.get("image")
    if columns and image is not None:
        raise ValueError(f"columns= is for tables; '{source.name}' holds images")
    if image is None:
        for name, value in (("canvas", canvas), ("channels", channels)):
            if value is not None:
                raise ValueError(f"{name}={value} is for images; '{source.name}' holds {', '.join(source.schema)}")
    elif channels is not None and image.shape[0] != channels:
        raise ValueError(f"'{source.name}' is an array of images with {image.shape[0]} channels, not {channels}")


def _name_and_split(text: str) -> tuple[str, str | None]:
    head, colon, tail = text.rpartition(":")
    if colon and tail and head not in ("", "hf", "hf-stream", "shards") and "/" not in tail and not Path(text).exists():
        return head, tail
    return text, None


def _plain(path: Path) -> str:
    name = path.name
    for suffix in (".gz", ".csv", ".tsv", ".parquet", ".npy", ".npz", ".txt"):
        name = name.removesuffix(suffix)
    return name or path.name


def _column_kinds(columns: Mapping[str, str] | str | None) -> dict[str, Any]:
    if not isinstance(columns, str):
        return dict(columns or {})
    kinds = {}
    for pair in filter(None, columns.split(",")):
        name, mark, kind = pair.rpartition("=")
        if not mark:
            raise ValueError(f"columns are given as NAME=KIND,NAME=KIND; '{pair}' has no kind")
        kinds[name.strip()] = kind.strip()
    return kinds


def _not_found(path: Path) -> str:
    beside = list(path.parent.iterdir()) if path.parent.is_dir() else []
    known = {entry.name: str(entry) for entry in beside} | {name: name for name in NAMES}
    near = get_close_matches(path.name, known, n=1, cutoff=0.6)
    hint = f", did you mean '{known[near[0]]}'?" if near else ";"
    return f"there is no data '{path}'{hint} Accepted are {ACCEPTED}"
