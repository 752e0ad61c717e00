"""Cells of a claim in several processes, one thread each, so that a result does not depend on the number of processes.

The processes are started as ``python -m autodidact.claims.workers`` and are handed one cell at a time over their
standard input, so nothing is asked of the program that calls.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import Any

Cell = Mapping[str, Any]
"""Arguments of `autodidact.claims.engine.work`, JSON-ready."""


def run_cells(cells: Sequence[Cell], jobs: int, done: Callable[[Cell], None]) -> None:
    """Do the work of every cell; each keeps its figures itself.

    Parameters
    ----------
    cells : what to do, in the order in which it is begun.
    jobs : processes.
    done : called for every finished cell.

    Raises
    ------
    RuntimeError
        A cell failed; the others that were running are finished first.
    """
    idle: Queue[subprocess.Popen[str]] = Queue()
    started = [_start() for _ in range(min(jobs, len(cells)))]
    for process in started:
        idle.put(process)
    lock = threading.Lock()
    failed: list[str] = []

    def one(cell: Cell) -> None:
        if failed:
            return
        process = idle.get()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(cell) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            if answer.strip() != "done":
                failed.append(f"{cell['arm']}, seed {cell['seed']}: {json.loads(answer) if answer else 'was killed'}")
                return
            with lock:
                done(cell)
        finally:
            idle.put(process)

    try:
        with ThreadPoolExecutor(max(1, len(started))) as pool:
            list(pool.map(one, cells))
    finally:
        for process in started:
            process.terminate()
            process.wait()
    if failed:
        raise RuntimeError("; ".join(failed))


def _start() -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "autodidact.claims.workers"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )


def main() -> None:
    """Read cells, one JSON line each, and answer "done" or the error."""
    import torch

    from autodidact.claims.engine import work

    torch.set_num_threads(1)
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            work(**json.loads(line))
            answer = "done"
        except Exception as error:  # noqa: BLE001 - told to the parent, which raises it
            answer = json.dumps(f"{type(error).__name__}: {error}")
        answers.write(answer + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
