"""apply: one ability of a model over all samples of a source, written to a file; `embed` is its short form."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, get_args

import torch
from tqdm import tqdm

from autodidact.catalog import unknown
from autodidact.data import Batch, Source
from autodidact.data.ahead import BATCHES_AHEAD, ahead
from autodidact.data.courier import Courier, Sent
from autodidact.data.open import write_skipped
from autodidact.data.returning import Returning, lagging
from autodidact.data.source import Stretch
from autodidact.encoders.kept import PredictorModel
from autodidact.model import Ability, Model
from autodidact.model.device import pick_device
from autodidact.model.memory import keeping_memory
from autodidact.verbs.opened import open_data, open_run
from autodidact.verbs.parts import Parts, concatenated, table_of

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".npy", ".jsonl")
PART_SECONDS, PART_BYTES = 30.0, 64 << 20
"""After which what is done is written, so that a killed run has lost no more than that."""


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
    data : anything that `autodidact.data.open_source` accepts, or a source; labels are not needed. For a language model
        a ``.txt`` file with an input a line, or ``.jsonl`` with "input" (or "prompt"), and "output" to be scored or
        "options" to choose from.
    ability : "embed", "predict", "parse" (on which patch each patch of an image depends; for small:dependency_vit),
        "generate", "score" and "choose" of language models, "generate" of diffusion models too, which draw an image for
        every row, or another that the model declares.
    out : file to write; without one the values are returned. ``.parquet``: a row a sample, with the columns ``id``,
        ``name`` (the file name, or the row) and the values: ``embedding`` as a list of fixed size; of a classifier
        ``class`` and ``probabilities``; of a regression ``value``; of parsed images ``saliency``, ``parent`` and
        ``part``, lists over the patches, row by row. ``.npy``: the values as one array, and beside it
        ``NAME.names.csv`` with the columns ``row``, ``id``, ``name``; of a classifier the probabilities, of parsed
        images the saliency. ``.jsonl``: the rows of ``.parquet`` as JSON objects, a line each; of a language model that
        generates with ``output`` and ``input``, of one that chooses with ``choice`` and ``probabilities``.
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
        The model lacks the ability, the data does not fit the model, the file's ending is unknown, or a stream has no
        file to be written to.

    Notes
    -----
    What is done lies beside the file, in ``.NAME.parts``, until all is done; the same command then goes on after what a
    killed one had finished. The file itself appears at once and whole, and no more than a part of the values is
    held in memory. Samples that cannot be read are left out and listed in ``NAME.skipped.jsonl``. A stream (shards, a
    streaming dataset) is read once, in its order; its names are the shard and the file in it, or the number of the row.
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
    if source.streaming and target is None:
        raise ValueError(f"'{source.name}' is a stream, whose values need not fit into memory: name a file to write")
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
    parts = None if target is None else Parts(target, _key(model, source, ability))
    model.to(where)
    said = _said(model, source, ability, where, batch_size, 0 if parts is None else parts.samples, quiet)
    if parts is None:
        pieces = [columns for _, columns in said]
        name = _main(list(pieces[0]))
        values = _joined([piece[name] for piece in pieces])
        return values.numpy() if isinstance(values, torch.Tensor) else values
    _keep(said, parts, source)
    return parts.finish(_main)


def _said(
    model: Model, source: Source, ability: str, device: str, size: int, start: int, quiet: bool
) -> Iterator[tuple[Stretch, dict[str, Any]]]:
    """What the model says of the samples from number `start` on, a batch at a time."""
    bar = tqdm(total=len(source) or None, initial=start, desc=ability, unit="sample", disable=quiet)
    courier = Courier(torch.device(device)) if device == "cuda" else None
    read = ((stretch, _sent(stretch, courier)) for stretch in source.stretches(size, start))

    def asked(stretch: Stretch, sent: Sent | None) -> tuple[Stretch, dict[str, Any]]:
        batch = stretch.batch if courier is None or sent is None else courier.receive(sent)
        return stretch, {} if batch is None else _asked(model, batch.to(device), ability)

    with bar, keeping_memory() as keep, ahead(read, BATCHES_AHEAD) as stretches:
        # A GPU is asked about the next batch before what it says of one is read. Others have answered by then.
        for stretch, answer in lagging((asked(*each) for each in stretches), 0 if courier is None else 1):
            yield stretch, _columns(model, answer, ability) if answer else {}
            bar.update(stretch.samples)
            keep()


def _sent(stretch: Stretch, courier: Courier | None) -> Sent | None:
    """The batch of a stretch on its way to a GPU; None where there is no batch, or no GPU."""
    return None if courier is None or stretch.batch is None else courier.send(stretch.batch)


def _keep(said: Iterator[tuple[Stretch, dict[str, Any]]], parts: Parts, source: Source) -> None:
    """Write what is said in parts, and beside the file what could not be read."""
    skipped = skipped_file(parts.target)
    if not parts.samples:
        skipped.unlink(missing_ok=True)
    waiting: list[pa.Table] = []
    held, covered, begun = 0, parts.samples, monotonic()

    def write() -> None:
        nonlocal waiting, held, begun
        if source.skipped:
            write_skipped(source, skipped)
        if waiting:
            parts.add(concatenated(waiting), covered)
        waiting, held, begun = [], 0, monotonic()

    for stretch, columns in said:
        covered += stretch.samples
        if stretch.batch is not None:
            if parts.target.suffix.lower() == ".npy" and not isinstance(columns[_main(list(columns))], torch.Tensor):
                raise ValueError("only numbers are written as .npy; use .parquet or .jsonl")
            waiting.append(table_of(stretch.batch.ids.numpy(), stretch.names, columns))
            held += waiting[-1].nbytes
        if monotonic() - begun >= PART_SECONDS or held >= PART_BYTES:
            write()
    write()


def skipped_file(target: Path) -> Path:
    """Where the samples are listed that a file lacks because they could not be read."""
    return target.with_suffix(".skipped.jsonl")


def _asked(model: Model, batch: Batch, ability: str) -> dict[str, Any]:
    """What the model says of a batch, its tensors on their way to the host; under the ability's name if it is one."""
    with torch.inference_mode():
        said = getattr(model, ability)(batch)
        if isinstance(said, torch.Tensor) and said.is_floating_point():
            said = said.float()
        if not isinstance(said, Mapping):
            said = {ability: said}
        return {name: Returning.of(value) if isinstance(value, torch.Tensor) else value for name, value in said.items()}


def _columns(model: Model, answer: Mapping[str, Any], ability: str) -> dict[str, Any]:
    """What was said of a batch, as columns."""
    columns = {name: value.here() if isinstance(value, Returning) else value for name, value in answer.items()}
    if columns.keys() != {ability}:
        return columns
    said = columns[ability]
    if ability == "embed":
        return {"embedding": said.flatten(1)}
    if ability == "predict" and isinstance(model, PredictorModel):
        if not model.classes:
            return {"value": said}
        return {"class": [model.classes[i] for i in said.argmax(1).tolist()], "probabilities": said}
    return columns


def _joined(parts: list[Any]) -> Any:
    return torch.cat(parts) if isinstance(parts[0], torch.Tensor) else [item for part in parts for item in part]


def _key(model: Model, source: Source, ability: str) -> str:
    """Of the weights, the data and the ability."""
    digest = hashlib.blake2b(ability.encode(), digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    digest.update(source.identity())
    return digest.hexdigest()


def _main(columns: Sequence[str]) -> str:
    """The column that holds the values: of a classifier the probabilities, not the names of the classes."""
    return "probabilities" if "probabilities" in columns else columns[0]
