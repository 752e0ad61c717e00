"""What it costs to share a batch among processes: 1, 2 and 4 of them on one machine (gloo), each with the same share.

The work of a process stays what it is, and what is added is the exchange: embeddings, statistics of batch norms,
gradients; with `sharding` also weights. Overhead by the clock says how the exchange slows an update, where every
process has a core of its own; overhead by processor time says what it takes of the processors, wherever. Both are
shares of the update of one process. What processes that exchange nothing cost each other, by the memory that they
share, is measured too: as many trainings of one process side by side. Counts of processes take turns; figures are
medians over rounds.

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
from lightning.pytorch.callbacks import Callback

from autodidact.catalog import cards, target
from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.training import Settings
from autodidact.training.learner import Learner
from autodidact.training.processes import first_process
from autodidact.training.run import fit
from common import arguments, side_by_side, tell_rows

PROCESSES = (1, 2, 4)
UPDATES, UNTIMED = 12, 3
ROWS: tuple[tuple[str, str, int, int, str], ...] = (
    ("simclr", "small:convnet?width=32", 32, 64, "none"),
    ("mae", "small:vit?width=192&depth=6&heads=6&patch=8", 64, 64, "none"),
    ("mae", "small:vit?width=192&depth=6&heads=6&patch=8", 64, 64, "full"),
)
"""Method, encoder, side of the images, samples of a process, sharding."""


class Clock(Callback):
    """When updates end, and the processor time of this process by then."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.wall.append(time.perf_counter())
        self.processor.append(time.process_time())


def update(row: int, processes: int) -> dict[str, float]:
    """Seconds of an update in this process, which is one of so many."""
    name, encoder, side, share, sharding = ROWS[row]
    pixels = np.random.default_rng(0).integers(0, 255, (1_024, side, side, 3), dtype=np.uint8)
    source = open_source(pixels, progress=False)
    torch.manual_seed(0)
    method = target(cards()[name])(build(encoder, schema=source.schema, image_size=side))
    asked: dict[str, Any] = {"batch_size": share * processes, "devices": processes, "sharding": sharding}
    settings = Settings(steps=UPDATES, accelerator="cpu", **asked)
    clock = Clock()
    fit(Learner(method, source, settings), settings, [clock], [])
    gaps = (np.diff(times[UNTIMED - 1 :]) for times in (clock.wall, clock.processor))
    return {what: float(np.median(gap)) for what, gap in zip(("seconds", "processor_seconds"), gaps, strict=True)}


def asked(row: int, processes: int, threads: int, *, apart: int = 1) -> dict[str, float]:
    """Seconds of an update that processes share; the mean of several such trainings, side by side."""
    command = [sys.executable, __file__, "--row", str(row), "--processes", str(processes), "--threads", str(threads)]
    return side_by_side(command, apart, threads)


def measured(row: int, options: argparse.Namespace, cores: int) -> dict[str, Any]:
    ways = [(processes, 1) for processes in PROCESSES] + [(1, apart) for apart in PROCESSES if 1 < apart <= cores]
    rounds: dict[tuple[int, int], list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for processes, apart in ways:
            rounds[processes, apart].append(asked(row, processes, options.threads, apart=apart))
    medians = {
        way: {what: statistics.median(one[what] for one in found) for what in found[0]} for way, found in rounds.items()
    }
    name, encoder, side, share, sharding = ROWS[row]
    told = {"method": name, "encoder": encoder, "side": side, "share": share, "sharding": sharding, "by_processes": []}
    for (processes, apart), found in medians.items():
        over = {f"{what}_overhead": found[what] / medians[1, 1][what] - 1 for what in found}
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
    tell_rows("an update shared by processes, each with as many samples", options, rows, ("torch",), cores=cores)


if __name__ == "__main__":
    main()
