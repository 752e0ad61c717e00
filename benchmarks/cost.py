"""Time and memory of a training on a CPU: as `pretrain --plan` foresees them, and as they are.

Every figure is of a process of its own; with two processes, of one of them. Memory is what tensors take at most in an
update: of a training, weights and the optimiser's state, and what torch's profiler sees allocated beside them. What the
process grows by is told beside it. Most batches are larger than those that a forecast tries, so that they are on its
line; two processes it tries together. Forecast and training take turns; figures are medians. Where processes share a
batch, trainings of their shares that exchange nothing, side by side, are timed too: what they take less, the exchange
costs. And they are foreseen a second time, by one process alone that counts what it would send to others, as is done
where this machine has not all devices: with the bytes a second that as many processes pass round a ring here, and the
time that a message between them takes.

    python benchmarks/cost.py --json benchmarks/cost.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from torch.profiler import ProfilerActivity, profile

from autodidact.catalog import cards, target
from autodidact.data import Source, open_source
from autodidact.encoders import build
from autodidact.methods.method import Method
from autodidact.training import Settings, cost
from autodidact.training.learner import Learner
from autodidact.training.processes import first_process
from autodidact.training.run import fit
from common import arguments, forget_the_highest, resident, side_by_side, tell_rows

GOAL = 0.2
"""Largest error, as a share of what was measured."""
UPDATES, UNTIMED = 8, 3
ROWS: tuple[tuple[str, str, int, int, int], ...] = (
    ("simclr", "small:convnet?width=32", 32, 512, 2),
    ("simclr", "small:convnet?width=32", 32, 4_096, 1),
    ("simclr", "small:convnet?width=32", 32, 4_096, 2),
    ("simclr", "timm:resnet18", 32, 96, 1),
    ("mae", "timm:vit_tiny_patch16_224", 96, 256, 1),
    ("dino", "small:vit?width=128&depth=4&heads=4&patch=8", 64, 128, 1),
    ("dino", "small:vit?width=128&depth=4&heads=4&patch=8", 64, 256, 2),
    ("mae", "timm:vit_tiny_patch16_224", 96, 16, 2),
)
"""Method, encoder, side of the images, batch, processes. In the last one the gradients are much beside the work."""
PASSED, PASSES = 32 << 20, 7
"""Bytes that processes sum to time their link, and how often."""


class Clock(Callback):
    """The times at which updates end, and the bytes that the one after them takes at most."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True)

    def on_train_batch_start(self, _: Any, learner: Any, *__: Any) -> None:
        if learner.updates == UPDATES:
            self.resident = resident("VmHWM")
            kept = [value for state in learner.optimiser.state.values() for value in state.values()]
            self.bytes = sum(tensor.nbytes for tensor in (*learner.method.state_dict().values(), *kept))
            self.profiler.__enter__()

    def on_train_batch_end(self, _: Any, learner: Any, *__: Any) -> None:
        self.times.append(time.perf_counter())
        if learner.updates > UPDATES:
            self.profiler.__exit__(None, None, None)
            events = [e for e in self.profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
            changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
            self.bytes += int(np.cumsum(changes).max())


def made(method: str, encoder: str, side: int) -> tuple[Method, Source]:
    pixels = np.random.default_rng(0).integers(0, 255, (4_096, side, side, 3), dtype=np.uint8)
    source = open_source(pixels, progress=False)
    torch.manual_seed(0)
    return target(cards()[method])(build(encoder, schema=source.schema, image_size=side)), source


def foreseen(method: str, encoder: str, side: int, batch: int, devices: int) -> dict[str, float]:
    settings = Settings(steps=UPDATES, batch_size=batch, devices=devices, accelerator="cpu")
    forecast = cost.foresee(*made(method, encoder, side), settings, together=True)
    return {"seconds": forecast.update(link=float("inf")), "bytes": forecast.memory_of(forecast.share)}


def formula(method: str, encoder: str, side: int, batch: int, devices: int) -> dict[str, float]:
    """Of several processes from one alone: what it takes, and what the exchange is then said to add."""
    settings = Settings(steps=UPDATES, batch_size=batch, devices=devices, accelerator="cpu")
    forecast = cost.foresee(*made(method, encoder, side), settings)
    bandwidth, delay = link(devices)
    exchange = forecast.exchange(bandwidth, delay)
    figures = {"seconds": forecast.update(bandwidth, delay), "bytes": forecast.memory_of(forecast.share)}
    return {**figures, "exchange": exchange, "link": bandwidth, "delay": delay, "messages": forecast.messages}


def link(devices: int) -> tuple[float, float]:
    """Bytes a second that a process sends while all of them sum a tensor over gloo, and the seconds that it takes where
    the tensor is a number: medians of several."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        torch.multiprocessing.spawn(passed_round, (devices, folder, str(told)), devices)
        bandwidth, delay = json.loads(told.read_text())
    return bandwidth, delay


def passed_round(rank: int, devices: int, folder: str, told: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=devices)

    def median(values: torch.Tensor) -> float:
        seconds = []
        for _ in range(1 + PASSES):
            dist.barrier()
            started = time.perf_counter()
            dist.all_reduce(values)
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds[1:])

    whole, number = median(torch.zeros(PASSED // 4)), median(torch.zeros(1))
    if rank == 0:
        Path(told).write_text(json.dumps((2 * (devices - 1) / devices * PASSED / (whole - number), number)))
    dist.destroy_process_group()


def found(method: str, encoder: str, side: int, batch: int, devices: int) -> dict[str, float]:
    settings = Settings(steps=UPDATES + 1, batch_size=batch, devices=devices, accelerator="cpu")
    before = resident("VmRSS")
    forget_the_highest()
    clock = Clock()
    fit(Learner(*made(method, encoder, side), settings), settings, [clock], [])
    gaps = np.diff(clock.times[UNTIMED - 1 : UPDATES])
    return {"seconds": float(np.median(gaps)), "bytes": float(clock.bytes), "resident": float(clock.resident - before)}


def asked(what: str, row: int, threads: int) -> dict[str, float]:
    """Figures of one process, or means of several side by side."""
    command = [sys.executable, __file__, "--do", what, "--row", str(row), "--threads", str(threads)]
    return side_by_side(command, ROWS[row][-1] if what == "apart" else 1, threads)


def measured(row: int, options: argparse.Namespace) -> dict[str, Any]:
    method, encoder, side, batch, devices = ROWS[row]
    ways = ("foreseen", "found", "apart", "formula") if devices > 1 else ("foreseen", "found")
    rounds = [{what: asked(what, row, options.threads) for what in ways} for _ in range(options.rounds)]
    medians = {
        what: {figure: statistics.median(one[what][figure] for one in rounds) for figure in rounds[0][what]}
        for what in ways
    }
    errors = {name: medians["foreseen"][name] / medians["found"][name] - 1 for name in ("seconds", "bytes")}
    if devices > 1:
        errors["formula"] = medians["formula"]["seconds"] / medians["found"]["seconds"] - 1
    spread = {what: [one(r[what]["seconds"] for r in rounds) for one in (min, max)] for what in ways}
    told = {"method": method, "encoder": encoder, "side": side, "batch": batch, "devices": devices}
    print(told, medians, errors, flush=True)
    return {**told, **medians, "errors": errors, "spread": spread}


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    ways = ("foreseen", "found", "apart", "formula")
    parser.add_argument("--do", choices=ways, help="for the processes that this one starts")
    parser.add_argument("--row", type=int, help="for the processes that this one starts")
    parser.add_argument(
        "--again", type=int, nargs="+", help="rows to measure, from 0; the others stay as --json has them"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.do:
        method, encoder, side, batch, devices = ROWS[options.row]
        if options.do == "apart":
            batch, devices = batch // devices, 1
        way = {"foreseen": foreseen, "formula": formula}.get(options.do, found)
        figures = way(method, encoder, side, batch, devices)
        if first_process():
            print(json.dumps(figures))
        return
    rows = json.loads(options.json.read_text())["rows"] if options.again else [{} for _ in ROWS]
    for row in options.again or range(len(ROWS)):
        rows[row] = measured(row, options)
    what = "time and memory of a training on a CPU, foreseen and found"
    tell_rows(what, options, rows, ("torch", "lightning", "timm"), goal=GOAL)


if __name__ == "__main__":
    main()
