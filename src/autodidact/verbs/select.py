"""select: which samples of a large pool resemble a small target set, as a list or shard that training takes."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autodidact.data import Source
from autodidact.data.durable import write_aside
from autodidact.data.folder import list_images, listed_images
from autodidact.data.open import write_skipped
from autodidact.data.tar_writing import write_tar
from autodidact.evaluation.embeddings import Embeddings, embedder
from autodidact.model import Model
from autodidact.model.device import pick_device
from autodidact.recipes.simcore import CoresetRule
from autodidact.selection import Coreset
from autodidact.verbs.apply import skipped_file
from autodidact.verbs.opened import open_data, open_run

SUFFIXES = (".txt", ".csv", ".tar")


def select(
    run: str | Path | Model,
    pool: str | Path | Source,
    target: str | Path | Source,
    *,
    out: str | Path,
    clusters: int = 100,
    count: int = 0,
    share: float = 0.0,
    stop: float = 0.95,
    patience: int = 20,
    most: int = 50,
    exclude_near_duplicates: float = 0.9999,
    with_target: bool = False,
    seed: int = 0,
    batch_size: int = 256,
    device: str = "auto",
    cache: bool = True,
    quiet: bool = False,
) -> Path:
    """Select samples of a pool by SimCore (arXiv 2303.11101), and write down which.

    Parameters
    ----------
    run : run folder or model folder of a model that embeds, best one pretrained on the target; or a model.
    pool : what to select from: anything that `autodidact.data.open_source` accepts, or a source.
    target : what the selection shall resemble, named in the same way.
    out : file to write. ``.txt``: the files of the selected images, one a line, which ``--data`` accepts; the pool is a
        folder of images or such a list. ``.csv``: a row a sample with the columns ``id``, ``name`` (the file name, or
        the row), ``round`` and ``similarity``. ``.tar``: the selected samples themselves, copied undecoded with what
        lies beside their images, in random order, which ``--data`` accepts as a shard; the pool is images that were
        read from files, of whatever kind: a folder, a list, shards, a dataset.
    clusters : k-means clusters of the target; where it has no more samples, each is a centroid. Paper: 100.
    count : samples to select; 0 for as many as `share` or `stop` says.
    share : share of the pool to select, in (0, 1]; 0 for as many as `stop` says. Paper: 0.01 and 0.05.
    stop : the selection ends with the first round whose mean resemblance falls below this share of that of round
        `patience`, in (0, 1]. Paper: 0.95.
    patience : round from which it may end, at least 1. Paper: 20; take less where there are many clusters.
    most : end at this many times the target's samples, if nothing ends it before. Paper: 50.
    exclude_near_duplicates : cosine of the embeddings from which a sample of the pool counts as a copy of a target
        sample and is left out, counted; 0 leaves none out.
    with_target : name the images of the target before the selected ones in a ``.txt`` list, copy them too into a
        ``.tar``: the paper trains on both.
    seed : of the clusters, of the draw in a last round that is too large, and of the order in a ``.tar``.
    batch_size : samples in one call of the model.
    device : "auto", "cpu" or "gpu".
    cache : pack images into the cache first.
    quiet : print nothing.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    ValueError
        The model does not embed, the data does not fit it, the pool is smaller than the clusters, an option is out of
        range, or the file's ending is unknown or does not suit the pool.

    Notes
    -----
    What could not be read of pool and target is listed in ``NAME.skipped.jsonl`` beside the file.
    Shards are read by position: an index of their samples is made once, and images are packed as those of a folder.
    """
    rule = CoresetRule(clusters, count, share, stop, patience, most, exclude_near_duplicates)
    file = Path(out)
    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"cannot write '{file.name}': its ending must be one of {', '.join(SUFFIXES)}")
    listing, copying = (file.suffix.lower() == ending for ending in (".txt", ".tar"))
    if with_target and not (listing or copying):
        raise ValueError(f"with_target is for a list of files or for a shard, such as {file.with_suffix('.txt')}")
    roots = [_root(data) if listing else None for data in (pool, target if with_target else pool)]
    model, folder = open_run(run)
    model.can("embed")
    where = pick_device(device)
    opened = [
        open_data(model, data, folder, labels="none", cache=cache, by_position=True, quiet=quiet)
        for data in (pool, target)
    ]
    for source in opened:
        if source.streaming:
            raise ValueError(f"'{source.name}' is a stream; save it first, so that every sample keeps its name")
    for source in opened[: 1 + with_target] if copying else ():
        # Said before the work is done.
        source.undecoded(0)
    rows = [
        torch.from_numpy(
            Embeddings(embedder(model, where), source, batch_size=batch_size, quiet=quiet).at(np.arange(len(source)))
        )
        for source in opened
    ]
    found, copies = rule(rows[1], rows[0], torch.Generator().manual_seed(seed))
    if not quiet:
        for sentence in rule.told(found, len(copies), len(opened[0])):
            print(f"select: {sentence}", file=sys.stderr)
    names = [opened[0].names[int(position)] for position in found.positions]
    file.parent.mkdir(parents=True, exist_ok=True)
    _list_skipped(opened, skipped_file(file), quiet=quiet)
    if listing:
        own = [os.path.join(str(roots[1]), name) for name in opened[1].names] if with_target else []  # noqa: PTH118
        lines = [*own, *(os.path.join(str(roots[0]), name) for name in names)]  # noqa: PTH118
        if strange := [line for line in lines if "\n" in line or "\r" in line]:
            raise ValueError(f"a list cannot name {strange[0]!r}, which holds a line break; write a .csv")
        write_aside(file, b"".join(os.fsencode(line) + b"\n" for line in lines))
    elif copying:
        chosen = [(opened[0], found.positions.numpy())]
        own_rows = [(opened[1], np.arange(len(opened[1])))] if with_target else []
        write_tar(file, [*own_rows, *chosen], seed=seed, progress=not quiet)
    else:
        _write_csv(file, names, opened[0], found)
    return file


def _list_skipped(opened: Sequence[Source], listed: Path, *, quiet: bool) -> None:
    """What could not be read, in a file and counted on stderr; of an earlier selection nothing stays."""
    listed.unlink(missing_ok=True)
    for what, source in zip(("pool", "target"), opened, strict=True):
        if source.skipped:
            write_skipped(source, listed, further=True)
            if not quiet:
                count = len(source.skipped)
                print(f"select: {count} files of the {what} could not be read, see {listed}", file=sys.stderr)


def _root(data: Any) -> Path:
    """The folder that the names of a folder of images, or of a list of them, count from."""
    path = Path(str(data)).expanduser()
    if not isinstance(data, Source) and not path.exists():
        raise ValueError(
            f"a .txt list is of image files, and there is no folder or list of them at '{data}'; mend the path, or "
            "write a .tar or a .csv"
        )
    if isinstance(data, Source) or not (path.is_dir() or path.suffix.lower() == ".txt"):
        raise ValueError(f"a .txt list is of image files, and '{data}' is no folder of images; write a .tar or a .csv")
    return (list_images(path) if path.is_dir() else listed_images(path)).root.resolve()


def _write_csv(file: Path, names: list[str], pool: Source, found: Coreset) -> None:
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    with aside.open("w", newline="", encoding="utf-8", errors="backslashreplace") as opened:
        writer = csv.writer(opened)
        writer.writerow(["id", "name", "round", "similarity"])
        ids = pool.ids[found.positions.numpy()].tolist()
        similarity = [f"{value:.6f}" for value in found.similarity.tolist()]
        writer.writerows(zip(ids, names, found.rounds.tolist(), similarity, strict=True))
    aside.replace(file)
