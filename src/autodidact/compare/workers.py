"""Cells of a comparison in several processes, one thread each, so that no figure depends on how many there are.

The processes are started as ``python -m autodidact.compare.workers MODULE:FUNCTION`` and are handed one cell at a time
over their standard input, so nothing is asked of the program that calls.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from queue import Queue
from typing import Any, Self

from autodidact.lean import leave_out_metrics

Cell = Mapping[str, Any]
"""Arguments of the function that does the work, JSON-ready; "arm" and "seed" are among them."""


class Workers:
    """Processes that do the work of cells, for one thread or for several that ask at once; close it with ``with``.

    Parameters
    ----------
    function : "module:name" of the function that does it; it is called with a cell's arguments by name, and what it
        returns is JSON-ready.
    jobs : most processes; they are started as they are needed.
    """

    def __init__(self, function: str, jobs: int) -> None:
        self.function, self.jobs = function, jobs
        self._lock = threading.Lock()
        self._idle: Queue[subprocess.Popen[str]] = Queue()
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.terminate()
            process.wait()

    def do(self, cells: Sequence[Cell], done: Callable[[Cell, Any], object]) -> None:
        """Do the work of every cell.

        Parameters
        ----------
        cells : what to do, in the order in which it is begun.
        done : called for every finished cell with what the function returned, by one thread at a time.

        Raises
        ------
        RuntimeError
            A cell failed; the others that were running are finished first.
        """
        lock = threading.Lock()
        failed: list[str] = []

        def one(cell: Cell) -> None:
            process = self._take()
            try:
                if failed:
                    return
                answer = _ask(process, cell)
                if "returned" not in answer:
                    failed.append(f"{cell['arm']}, seed {cell['seed']}: {answer['failed']}")
                    return
                with lock:
                    done(cell, answer["returned"])
            finally:
                self._give_back(process)

        with ThreadPoolExecutor(max(1, min(self.jobs, len(cells)))) as pool:
            list(pool.map(one, cells))
        if failed:
            raise RuntimeError("; ".join(failed))

    def _take(self) -> subprocess.Popen[str]:
        with self._lock:
            if self._idle.empty() and len(self._started) < self.jobs:
                self._started.append(_start(self.function))
                return self._started[-1]
        return self._idle.get()

    def _give_back(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is not None:
            # Dead: another one takes its place, for those who still wait.
            with self._lock:
                self._started.remove(process)
                process = _start(self.function)
                self._started.append(process)
        self._idle.put(process)


def run_cells(function: str, cells: Sequence[Cell], jobs: int, done: Callable[[Cell, Any], object]) -> None:
    """Do the work of every cell in processes of its own, see `Workers`."""
    with Workers(function, jobs) as workers:
        workers.do(cells, done)


def _ask(process: subprocess.Popen[str], cell: Cell) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(cell) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except BrokenPipeError:
        answer = ""
    if not answer:
        process.kill()
        process.wait()
        return {"failed": "was killed"}
    return dict(json.loads(answer))


def _start(function: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "autodidact.compare.workers", function]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )


def main(function: str) -> None:
    """Read cells, one JSON line each, and answer with what the function returned, or the error."""
    import torch

    torch.set_num_threads(1)
    leave_out_metrics()
    module, name = function.split(":")
    work = getattr(import_module(module), name)
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            answer = {"returned": work(**json.loads(line))}
        except Exception as error:  # noqa: BLE001 - told to the parent, which raises it
            answer = {"failed": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
