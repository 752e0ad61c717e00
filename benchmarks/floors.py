"""How far from the floor the parts are whose goals are missed: random views of a batch, and nearest neighbours.

The floor is the longer of the operations of matrix products at the rate of a large one and the bytes that every
operation reads and writes at the rate of a copy, both measured in the same run; what stays in the processor's caches
may be below it. Beside it stands which of torch's operations the time goes to, by torch's profiler. For neighbours, the
distances alone are a matrix product: what a peer takes beside that is all that can be won.

    python benchmarks/floors.py --json benchmarks/floors.json
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from autodidact.measures.neighbours import nearest
from common import arguments, tell_rows
from step_profile import Bytes, rates
from views import BATCH, ours, photographs

SIZES = (32, 96, 224)
SHOWN = 6
"""Operations that are named."""


def measured(what: str, run: Callable[[], Any], options: argparse.Namespace, rate: dict[str, float]) -> dict[str, Any]:
    """Seconds, the floor, and the operations that take most of the time."""
    for _ in range(2):
        run()
    times = []
    for _ in range(options.rounds):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    with FlopCounterMode(display=False) as operations, Bytes() as moved:
        run()
    counts = {"operations": float(operations.get_total_flops()), "bytes": float(moved.moved)}
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    events = sorted(profiler.key_averages(), key=lambda event: event.self_cpu_time_total, reverse=True)
    whole = sum(event.self_cpu_time_total for event in events)
    found = {
        "what": what,
        "seconds": statistics.median(times),
        "spread": [min(times), max(times)],
        **counts,
        "floors": {name: counts[name] / rate[name] for name in counts},
        "calls": {e.key.removeprefix("aten::"): e.self_cpu_time_total / whole for e in events[:SHOWN]},
    }
    print(found, flush=True)
    return found


def main() -> None:
    parser = arguments(__doc__, rounds=9)
    parser.add_argument("--bank", type=int, default=1_000_000)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rate = rates()
    rows = []
    with torch.no_grad():
        for size in SIZES:
            run = ours(photographs(BATCH[size], size), size)
            rows.append(measured(f"two views of {BATCH[size]} images, {size} px", run, options, rate))
        generator = torch.Generator().manual_seed(0)
        bank, queries = (torch.randn(n, 512, generator=generator) for n in (options.bank, 1_000))
        told = f"the 20 nearest of {options.bank:,} rows for 1,000 queries"
        rows.append(measured(told, lambda: nearest(queries, bank, 20), options, rate))
    tell_rows("parts whose goals are missed, and their floors", options, rows, ("torch",), rates=rate)


if __name__ == "__main__":
    main()
