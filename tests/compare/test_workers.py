"""Worker processes: what they return, how a failure is told, and that nothing waits for a dead one."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from autodidact.compare.workers import Workers, run_cells

CELLS = [{"arm": "a", "seed": seed} for seed in range(4)]


def threads_and(arm: str, seed: int) -> dict[str, Any]:
    """Works in a worker process: what it was given, and its number of threads."""
    import torch

    if arm == "broken":
        raise ValueError(f"no luck with {seed}")
    if arm == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"given": [arm, seed], "threads": torch.get_num_threads(), "process": os.getpid()}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Worker processes find this file."""
    monkeypatch.setenv("PYTHONPATH", str(request.path.parent))


def test_every_cell_is_done_once_in_other_processes_of_one_thread() -> None:
    found: list[tuple[Any, Any]] = []
    run_cells("test_workers:threads_and", CELLS, 2, lambda cell, returned: found.append((cell, returned)))
    assert sorted(cell["seed"] for cell, _ in found) == [0, 1, 2, 3]
    assert all(returned["given"] == ["a", cell["seed"]] for cell, returned in found)
    assert {returned["threads"] for _, returned in found} == {1}
    assert os.getpid() not in {returned["process"] for _, returned in found}


@pytest.mark.parametrize(
    ("arm", "said"), [("broken", "broken, seed 7: ValueError: no luck with 7"), ("killed", "was killed")]
)
def test_a_cell_that_fails_is_named_and_the_others_that_ran_are_kept(arm: str, said: str) -> None:
    found = []
    with pytest.raises(RuntimeError, match=said):
        run_cells(
            "test_workers:threads_and",
            [CELLS[0], {"arm": arm, "seed": 7}, *CELLS[1:]],
            1,
            lambda cell, _: found.append(cell),
        )
    assert found == [CELLS[0]]


def test_threads_share_processes_and_a_killed_one_is_replaced() -> None:
    found: list[Any] = []

    def ask(arm: str) -> None:
        workers.do([{"arm": arm, "seed": seed} for seed in range(3)], lambda _, returned: found.append(returned))

    with Workers("test_workers:threads_and", 2) as workers, ThreadPoolExecutor(2) as pool:
        with pytest.raises(RuntimeError, match="was killed"):
            ask("killed")
        list(pool.map(ask, ["a", "b"]))
    assert sorted(returned["given"] for returned in found) == [[arm, seed] for arm in "ab" for seed in range(3)]
    assert len({returned["process"] for returned in found}) <= 2
