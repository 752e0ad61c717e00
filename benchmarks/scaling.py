"""What it costs to share a batch among processes: 1, 2 and 4 of them on one machine (gloo), each with the same share.

The work of a process stays what it is, and what is added is the exchange: embeddings, statistics of batch norms,
gradients; with `sharding` also weights. Overhead by the clock says how the exchange slows an update, where every
process has a core of its own; overhead by processor time says what it takes of the processors, wherever. Both are
shares of the update of one process. What processes that exchange nothing cost each other, by the memory that they
share, is measured too: as many trainings of one process side by side. Counts of processes take turns; figures are
medians over rounds.

What an exchange costs where nobody waits is measured apart: the collectives of one update are counted, and each is then
run alone, with tensors of its size, by the same processes. What the overhead is more than their sum is waiting for each
other, and memory that is shared. A large network on a share like those that are trained in earnest is among the rows:
there the same collectives are little beside the work.

    python benchmarks/scaling.py --json benchmarks/scaling.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from autodidact.catalog import cards, target
from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.training import Settings
from autodidact.training.learner import Learner
from autodidact.training.processes import first_process
from autodidact.training.run import fit
from common import arguments, side_by_side, tell_rows

GOAL = 1.7
"""Throughput of two processes, as a multiple of one's."""
UPDATES, UNTIMED, ALONE = 12, 3, 9
"""Updates of a training; of those before the clock runs; how often a collective is run alone."""
ROWS: tuple[tuple[str, str, int, int, str, tuple[int, ...]], ...] = (
    ("simclr", "small:convnet?width=32", 32, 64, "none", (1, 2, 4)),
    ("simclr", "timm:resnet18", 32, 64, "none", (1, 2)),
    ("mae", "small:vit?width=192&depth=6&heads=6&patch=8", 64, 64, "none", (1, 2, 4)),
    ("mae", "small:vit?width=192&depth=6&heads=6&patch=8", 64, 64, "full", (1, 2, 4)),
)
"""Method, encoder, side of the images, samples of a process, sharding, numbers of processes."""
TIMES = ("seconds", "processor_seconds")


class Collectives(TorchDispatchMode):
    """The collectives that run inside the block: torch's function and what it was given, of tensors only their kind."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.startswith("c10d::") and "barrier" not in func._schema.name:
            self.seen.append((func, tree_map_only(Tensor, lambda one: torch.empty_like(one, device="meta"), args)))
        return func(*args, **(kwargs or {}))

    @property
    def bytes(self) -> int:
        """Of all tensors that they were given, those that they fill among them."""
        return sum(leaf.nbytes for _, args in self.seen for leaf in tree_leaves(args) if isinstance(leaf, Tensor))

    def alone(self) -> float:
        """Seconds that they take one after another, each once all processes are there: sums of medians."""
        return sum(map(_alone, *zip(*self.seen, strict=True))) if self.seen else 0.0


def _alone(func: Any, args: Any) -> float:
    given = tree_map_only(Tensor, lambda one: torch.zeros_like(one, device="cpu"), args)
    seconds = []
    for _ in range(ALONE):
        dist.barrier()
        started = time.perf_counter()
        for made in tree_leaves(func(*given)):
            if isinstance(made, torch.ScriptObject):
                made.wait()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


class Clock(Callback):
    """When updates end, and the processor time of this process by then; and what the last update exchanged."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []
        self.exchanged: dict[str, float] = {}
        self._collectives = Collectives()

    def on_train_batch_start(self, *_: Any) -> None:
        if len(self.wall) == UPDATES:
            self._collectives.__enter__()

    def on_train_batch_end(self, *_: Any) -> None:
        if len(self.wall) < UPDATES:
            self.wall.append(time.perf_counter())
            self.processor.append(time.process_time())
            return
        self._collectives.__exit__(None, None, None)
        self.exchanged = {
            "collectives": len(self._collectives.seen),
            "collective_bytes": self._collectives.bytes,
            "collective_seconds": self._collectives.alone(),
        }


def update(row: int, processes: int) -> dict[str, float]:
    """Seconds of an update in this process, which is one of so many."""
    name, encoder, side, share, sharding, _ = ROWS[row]
    pixels = np.random.default_rng(0).integers(0, 255, (1_024, side, side, 3), dtype=np.uint8)
    source = open_source(pixels, progress=False)
    torch.manual_seed(0)
    method = target(cards()[name])(build(encoder, schema=source.schema, image_size=side))
    asked: dict[str, Any] = {"batch_size": share * processes, "devices": processes, "sharding": sharding}
    settings = Settings(steps=UPDATES + 1, accelerator="cpu", **asked)
    clock = Clock()
    fit(Learner(method, source, settings), settings, [clock], [])
    gaps = (np.diff(times[UNTIMED - 1 :]) for times in (clock.wall, clock.processor))
    return {**{what: float(np.median(gap)) for what, gap in zip(TIMES, gaps, strict=True)}, **clock.exchanged}


def asked(row: int, processes: int, threads: int, *, apart: int = 1) -> dict[str, float]:
    """Seconds of an update that processes share; the mean of several such trainings, side by side."""
    command = [sys.executable, __file__, "--row", str(row), "--processes", str(processes), "--threads", str(threads)]
    return side_by_side(command, apart, threads)


def measured(row: int, options: argparse.Namespace, cores: int) -> dict[str, Any]:
    name, encoder, side, share, sharding, counts = ROWS[row]
    ways = [(processes, 1) for processes in counts] + [(1, apart) for apart in counts if 1 < apart <= cores]
    rounds: dict[tuple[int, int], list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for processes, apart in ways:
            rounds[processes, apart].append(asked(row, processes, options.threads, apart=apart))
    medians = {
        way: {what: statistics.median(one[what] for one in found) for what in found[0]} for way, found in rounds.items()
    }
    told = {"method": name, "encoder": encoder, "side": side, "share": share, "sharding": sharding, "by_processes": []}
    for (processes, apart), found in medians.items():
        over = {f"{what}_overhead": found[what] / medians[1, 1][what] - 1 for what in TIMES}
        both = zip(rounds[processes, apart], rounds[1, 1], strict=True)
        enough = processes * apart * options.threads <= cores
        way = {"processes": processes, "apart": apart, **found, **over, "a_core_each": enough}
        told["by_processes"].append({**way, "overheads": [one["seconds"] / own["seconds"] - 1 for one, own in both]})
    print(told, flush=True)
    return told


def main() -> None:
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--row", type=int, help="for the processes that this one starts")
    parser.add_argument("--processes", type=int, help="for the processes that this one starts")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.row is not None:
        found = update(options.row, options.processes)
        if first_process():
            print(json.dumps(found))
        return
    cores = len(os.sched_getaffinity(0))
    rows = [measured(row, options, cores) for row in range(len(ROWS))]
    tell_rows(
        "an update shared by processes, each with as many samples", options, rows, ("torch",), cores=cores, goal=GOAL
    )


if __name__ == "__main__":
    main()
