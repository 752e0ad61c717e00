"""apply: one ability of a model over all samples of a source, written to a file; `embed` is its short form."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from tqdm import tqdm

from autodidact.catalog import unknown
from autodidact.data import Batch, Source, Store, derive
from autodidact.data.ids import positions_of
from autodidact.encoders.kept import PredictorModel
from autodidact.model import Ability, Model
from autodidact.model.device import pick_device
from autodidact.verbs.opened import open_data, open_run

SUFFIXES = (".parquet", ".npy")
PART_BYTES = 64 << 20


def embed(run: str | Path | Model, data: Any, *, out: str | Path | None = None, **options: Any) -> Any:
    """`apply` with the ability "embed"."""
    return apply(run, data, ability="embed", out=out, **options)


def apply(
    run: str | Path | Model,
    data: Any,
    *,
    ability: Ability = "embed",
    out: str | Path | None = None,
    split: str | None = None,
    batch_size: int = 256,
    device: str = "auto",
    cache: bool = True,
    quiet: bool = False,
) -> Any:
    """Apply a model to every sample, in the order of the source.

    Parameters
    ----------
    run : run folder, model folder, or a model.
    data : anything that `autodidact.data.open_source` accepts, or a source; labels are not needed.
    ability : "embed", "predict", "parse" (on which patch each patch of an image depends; for small:dependency_vit), or
        another that the model declares.
    out : file to write; without one the values are returned. ``.parquet``: a row a sample, with the columns ``id``,
        ``name`` (the file name, or the row) and the values: ``embedding`` as a list of fixed size; of a classifier
        ``class`` and ``probabilities``; of a regression ``value``; of parsed images ``saliency``, ``parent`` and
        ``part``, lists over the patches, row by row. ``.npy``: the values as one array, and beside it
        ``NAME.names.csv`` with the columns ``row``, ``id``, ``name``; of a classifier the probabilities, of parsed
        images the saliency.
    split : part of the data, see `autodidact.data.open_source`.
    batch_size : samples in one call of the model.
    device : "auto", "cpu" or "gpu".
    cache : pack images into the cache first.
    quiet : no progress line.

    Returns
    -------
    Path or array
        The file that was written; without `out` the values, a row a sample (a list of text for "generate").

    Raises
    ------
    ValueError
        The model lacks the ability, the data does not fit the model, or the file's ending is unknown.

    Notes
    -----
    What is done lies beside the file, in ``.NAME.parts``, until all is done; the same command then goes on after what a
    killed one had finished. The file itself appears at once and whole.
    """
    if ability not in get_args(Ability):
        raise unknown("ability", str(ability), get_args(Ability))
    target = None if out is None else Path(out)
    if target is not None and target.suffix.lower() not in SUFFIXES:
        raise ValueError(f"cannot write '{target.name}': its ending must be one of {', '.join(SUFFIXES)}")
    if target is not None and target.is_dir():
        raise ValueError(f"{target} is a folder; give the name of a file, such as {target / f'{ability}.parquet'}")
    model, folder = open_run(run)
    model.can(ability)
    where = pick_device(device)
    source = open_data(model, data, folder, split=split, cache=cache, quiet=quiet)
    if source.streaming:
        raise ValueError(f"'{source.name}' is a stream; save it first, so that every row keeps its name")
    if target is None:
        store = Store(name=ability)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        store = _parts(target, model, source, ability)
    model.to(where)
    _fill(store, model, source, ability, where, batch_size, quiet)
    if target is None:
        values = store.column(_main(store))
        return values if isinstance(values, np.ndarray) else list(values)
    if target.suffix.lower() == ".parquet":
        _write_parquet(target, store, source)
    else:
        _write_npy(target, store, source)
    shutil.rmtree(_parts_folder(target))
    return target


def _fill(store: Store, model: Model, source: Source, ability: str, device: str, batch_size: int, quiet: bool) -> None:
    """Derive the samples that the store lacks; each part of about 64 MB of input is durable when it is done."""
    rows = max(batch_size, _rows_of(PART_BYTES, source) // batch_size * batch_size)
    with tqdm(total=len(source), initial=len(store), desc=ability, unit="sample", disable=quiet) as bar:

        def of(batch: Batch) -> Mapping[str, Any]:
            found = []
            for start in range(0, len(batch), batch_size):
                piece = batch.select(torch.arange(start, min(start + batch_size, len(batch))))
                found.append(_columns(model, piece.to(device), ability))
                bar.update(len(piece))
            return {name: _joined([part[name] for part in found]) for name in found[0]}

        derive(of, source, store, batch_size=rows)


def _rows_of(size: int, source: Source) -> int:
    sample = source.read(np.zeros(1, dtype=np.int64))
    tensors = [value for value in sample.values() if isinstance(value, torch.Tensor)]
    return size // max(1, sum(tensor.numel() * tensor.element_size() for tensor in tensors))


def _columns(model: Model, batch: Batch, ability: str) -> dict[str, Any]:
    """What the model says of a batch, as columns."""
    with torch.inference_mode():
        said = getattr(model, ability)(batch)
    if isinstance(said, Mapping):
        return {name: values.cpu() if isinstance(values, torch.Tensor) else values for name, values in said.items()}
    if isinstance(said, torch.Tensor):
        said = said.float().cpu() if said.is_floating_point() else said.cpu()
    if ability == "embed":
        return {"embedding": said.flatten(1)}
    if ability == "predict" and isinstance(model, PredictorModel):
        if not model.classes:
            return {"value": said}
        return {"class": [model.classes[i] for i in said.argmax(1).tolist()], "probabilities": said}
    return {ability: said}


def _joined(parts: list[Any]) -> Any:
    return torch.cat(parts) if isinstance(parts[0], torch.Tensor) else [item for part in parts for item in part]


def _parts_folder(target: Path) -> Path:
    return target.with_name(f".{target.name}.parts")


def _parts(target: Path, model: Model, source: Source, ability: str) -> Store:
    """The store in which parts are kept until all is done; parts of another model, source or ability are removed."""
    digest = hashlib.blake2b(ability.encode(), digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    digest.update(source.ids.tobytes())
    own = _parts_folder(target) / digest.hexdigest()
    if own.parent.exists() and not own.exists():
        shutil.rmtree(own.parent)
    return Store(own, name=ability)


def _main(store: Store) -> str:
    """The column that holds the values: of a classifier the probabilities, not the names of the classes."""
    return "probabilities" if "probabilities" in store.columns else store.columns[0]


def _names(source: Source) -> list[str]:
    """Names as text that any reader takes; bytes of a file name that are no UTF-8 are written as \\xNN."""
    return [os.fsencode(name).decode("utf-8", "backslashreplace") for name in source.names]


def _order(store: Store, source: Source) -> Any:
    """Where the store has the rows of the source; None where it has them in the same order."""
    return None if np.array_equal(store.ids, source.ids) else positions_of(store.ids, source.ids)


def _write_parquet(target: Path, store: Store, source: Source) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = store.table()
    if (order := _order(store, source)) is not None:
        rows = rows.take(order)
    rows = rows.add_column(1, "name", pa.array(_names(source)))
    aside = _aside(target)
    pq.write_table(rows, aside)
    _settle(aside, target)


def _write_npy(target: Path, store: Store, source: Source) -> None:
    values = store.column(_main(store))
    if not isinstance(values, np.ndarray):
        raise ValueError("text cannot be written as .npy; use .parquet")
    if (order := _order(store, source)) is not None:
        values = values[order]
    listed = target.with_suffix(".names.csv")
    aside = _aside(listed)
    with aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "id", "name"])
        writer.writerows(zip(range(len(source)), source.ids.tolist(), _names(source), strict=True))
    _settle(aside, listed)
    aside = _aside(target)
    with aside.open("wb") as file:
        np.save(file, values, allow_pickle=False)
    _settle(aside, target)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")


def _settle(aside: Path, path: Path) -> None:
    """Sync and rename, so that the file is never seen half-written."""
    with aside.open("rb+") as file:
        os.fsync(file.fileno())
    aside.replace(path)
