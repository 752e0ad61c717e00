"""The nearest rows of a large bank by cosine, on a CPU: against scikit-learn's brute force.

Each contestant runs in a process of its own on the same numbers: processor time, and memory as the highest resident
size during the search over the resident size before it (Linux). Contestants take turns; figures are medians.

    python benchmarks/neighbours.py --json benchmarks/neighbours.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from common import arguments, forget_the_highest, resident, surroundings, tell

GOAL = 10.0
"""Times as fast as scikit-learn."""
SKLEARN = "scikit-learn"


def search(contestant: str, neighbours: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    if contestant == SKLEARN:
        from sklearn.neighbors import NearestNeighbors

        return lambda bank, queries: (
            NearestNeighbors(n_neighbors=neighbours, algorithm="brute", metric="cosine", n_jobs=1)
            .fit(bank)
            .kneighbors(queries, return_distance=False)
        )
    import torch

    from autodidact.measures.neighbours import nearest

    return lambda bank, queries: nearest(torch.from_numpy(queries), torch.from_numpy(bank), neighbours)[1].numpy()


def measure(contestant: str, options: argparse.Namespace) -> None:
    """In a process of its own: prints what it found."""
    rng = np.random.default_rng(0)
    bank = rng.standard_normal((options.bank, options.width), dtype=np.float32)
    queries = rng.standard_normal((options.queries, options.width), dtype=np.float32)
    find = search(contestant, options.neighbours)
    find(bank[:1000], queries[:10])
    forget_the_highest()
    before, start = resident("VmRSS"), time.process_time()
    found = find(bank, queries)
    took = time.process_time() - start
    told = {"seconds": took, "memory": resident("VmHWM") - before, "sum": int(found.astype(np.int64).sum())}
    print(json.dumps(told))


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--bank", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--neighbours", type=int, default=20)
    parser.add_argument("--contestant", help="for the processes that this one starts")
    options = parser.parse_args()
    if options.contestant:
        measure(options.contestant, options)
        return
    sizes = {name: getattr(options, name) for name in ("bank", "queries", "width", "neighbours")}
    asked = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(options.threads))
    told: dict[str, list[Any]] = {"autodidact": [], SKLEARN: []}
    for _ in range(options.rounds):
        for contestant, found in told.items():
            command = [sys.executable, __file__, "--contestant", contestant, *asked]
            ended = subprocess.run(command, env={**os.environ, **limits}, check=True, capture_output=True, text=True)
            found.append(json.loads(ended.stdout.splitlines()[-1]))
            print(contestant, found[-1], flush=True)
    assert len({one["sum"] for found in told.values() for one in found}) == 1, "the contestants found different rows"
    ratios = [peer["seconds"] / own["seconds"] for peer, own in zip(told[SKLEARN], told["autodidact"], strict=True)]
    row = {
        contestant: {name: statistics.median(one[name] for one in found) for name in ("seconds", "memory")}
        for contestant, found in told.items()
    }
    result = {
        "what": "nearest rows by cosine on a CPU",
        **sizes,
        "rounds": options.rounds,
        "threads": options.threads,
        **surroundings("torch", SKLEARN, "numpy"),
        "contestants": row,
        "times_as_fast": statistics.median(ratios),
        "ratios": ratios,
        "goal": GOAL,
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
