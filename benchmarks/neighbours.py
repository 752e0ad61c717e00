"""The nearest rows of a large bank by cosine: against scikit-learn's brute force.

Each contestant runs in a process of its own on the same numbers: processor time, and memory as the highest resident
size during the search over the resident size before it (Linux). Contestants take turns; figures are medians.

On a GPU there are more queries, and seconds are those of the wall clock; ours has the rows there when its time begins
and has what it found on the processor when it ends, and its memory is the most that torch holds beyond the rows.
scikit-learn stays on the processor, with all of its cores.

    python benchmarks/neighbours.py --json benchmarks/neighbours.json
    python benchmarks/neighbours.py --device cuda --json benchmarks/neighbours_gpu.json
    python benchmarks/neighbours.py --device cuda --small    # a few rows, without a GPU too
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from autodidact.data.cores import cores
from common import (
    arguments,
    clock,
    device_arguments,
    held,
    most_held,
    place,
    surroundings,
    tell,
    where,
)

GOAL = 10.0
"""Times as fast as scikit-learn."""
SKLEARN = "scikit-learn"
SIZES = ("bank", "queries", "width", "neighbours")
QUERIES = {"cpu": 1_000, "cuda": 10_000}
SMALL = {"bank": 5_000, "queries": 50, "width": 32, "rounds": 1}
AGREEMENT = 0.999
"""Share of the rows that contestants must both find: rounding may decide between two rows that are as near."""


def search(contestant: str, neighbours: int) -> Callable[[Any, Any], Any]:
    """What finds rows, of arrays for scikit-learn, of tensors for ours."""
    if contestant == SKLEARN:
        from sklearn.neighbors import NearestNeighbors

        return lambda bank, queries: (
            NearestNeighbors(n_neighbors=neighbours, algorithm="brute", metric="cosine", n_jobs=1)
            .fit(bank)
            .kneighbors(queries, return_distance=False)
        )
    from autodidact.measures.neighbours import nearest

    return lambda bank, queries: nearest(queries, bank, neighbours)[1].cpu().numpy()


def measure(contestant: str, options: argparse.Namespace, at: Path) -> dict[str, float]:
    """Run in the child: seconds and bytes beyond the rows; what was found is written."""
    rng = np.random.default_rng(0)
    bank = rng.standard_normal((options.bank, options.width), dtype=np.float32)
    queries = rng.standard_normal((options.queries, options.width), dtype=np.float32)
    find = search(contestant, options.neighbours)
    rows: Any = (bank, queries)
    device = "cpu" if contestant == SKLEARN else place(options)
    if contestant != SKLEARN:
        import torch

        rows = [torch.from_numpy(part).to(device) for part in rows]
    find(rows[0][:1000], rows[1][:10])
    before = held(device)
    start, start_of_work = clock(device), time.process_time()
    found = find(*rows)
    took = time.process_time() - start_of_work if options.device == "cpu" else clock(device) - start
    most = most_held(device)
    np.save(at, found)
    return {"seconds": took, "memory": most - before}


def child(contestant: str, options: argparse.Namespace, at: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--contestant", contestant, "--found", str(at), "--device", options.device]
    command += [text for name in SIZES for text in (f"--{name}", str(getattr(options, name)))]
    command += ["--small"] if options.small else []
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(options.threads))
    ended = subprocess.run(command, env={**os.environ, **limits}, check=True, capture_output=True, text=True)
    return json.loads(ended.stdout.splitlines()[-1])


def agreement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Share of the rows found that both found, whatever their order."""
    return float(np.mean([len(np.intersect1d(*both)) / len(both[0]) for both in zip(ours, theirs, strict=True)]))


def main() -> None:
    parser = arguments(__doc__, rounds=3, threads=0)
    parser.add_argument("--bank", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, help=f"default {QUERIES['cpu']:,}, on a GPU {QUERIES['cuda']:,}")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--neighbours", type=int, default=20)
    device_arguments(parser)
    parser.add_argument("--contestant", help="for the processes that this one starts")
    parser.add_argument("--found", type=Path, help="where such a process writes what it found")
    options = parser.parse_args()
    place(options)
    options.queries = options.queries or QUERIES[options.device]
    options.threads = options.threads or (1 if options.device == "cpu" else cores())
    if options.small:
        vars(options).update(SMALL)
    if options.contestant:
        print(json.dumps(measure(options.contestant, options, options.found)))
        return
    told: dict[str, list[Any]] = {"autodidact": [], SKLEARN: []}
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / f"{number}.npy" for number in range(len(told))]
        for _ in range(options.rounds):
            for (contestant, found), at in zip(told.items(), places, strict=True):
                found.append(child(contestant, options, at))
                print(contestant, found[-1], flush=True)
        agreed = agreement(*(np.load(at) for at in places))
    assert agreed >= AGREEMENT, f"the contestants found different rows: {agreed:.4f} of them are the same"
    ratios = [peer["seconds"] / own["seconds"] for peer, own in zip(told[SKLEARN], told["autodidact"], strict=True)]
    row = {
        contestant: {name: statistics.median(one[name] for one in found) for name in ("seconds", "memory")}
        for contestant, found in told.items()
    }
    result = {
        "what": f"nearest rows by cosine on a {'CPU' if options.device == 'cpu' else 'GPU'}",
        **where(options),
        **{name: getattr(options, name) for name in SIZES},
        "rounds": options.rounds,
        "threads": options.threads,
        **surroundings("torch", SKLEARN, "numpy"),
        "contestants": row,
        "times_as_fast": statistics.median(ratios),
        "ratios": ratios,
        "agreement": agreed,
        "goal": GOAL,
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
