"""Memory that is kept for the next tensor: fewer page faults, given back at the end, and never where it is scarce."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from autodidact.data import open_source
from autodidact.evaluation.embeddings import Embeddings
from autodidact.model import memory
from autodidact.model.memory import keeping_memory, memory_limit

LARGE = 2**25
"""Floats of a tensor that malloc gets straight from the operating system: 128 MB."""

pytestmark = pytest.mark.skipif(memory._library() is None, reason="another C library than GNU's")


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room enough, whatever the machine has left."""
    monkeypatch.setattr(memory, "_room", lambda _: True)


ALONE = f"""
import resource, torch
from autodidact.model import memory
from autodidact.model.memory import keeping_memory

memory._room = lambda processes: True

def faults(size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = min(faults({LARGE}) for _ in range(3))
with keeping_memory() as keep:
    keep()
    kept = sorted(faults({LARGE}) for _ in range(9))
print(usual, kept[4], min(faults(k * {LARGE}) // k for k in (2, 3, 4)))
"""
"""Page faults of tensors that are made one after the other, in a process that has nothing else in its memory.

Those made afterwards are ever larger: where a small block came to lie above some that were kept, the C library has a
gap of their size, fetched anew once and then used for every tensor that fits in it. If memory were still kept, each
would cost the faults of what it is larger by alone.
"""


def test_a_tensor_in_memory_that_was_kept_costs_no_page_faults_and_the_next_ones_outside_do() -> None:
    told = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True).stdout
    usual, kept, after = map(int, told.split())
    assert kept < usual / 8
    assert after > usual / 2


def test_what_was_kept_is_given_back(room: None) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    with keeping_memory() as keep:
        keep()
        torch.ones(LARGE)
        inside = resident()
    assert inside - resident() > 3 * LARGE


def test_memory_is_kept_until_the_outermost_block_ends(room: None, monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[bool]()
    monkeypatch.setattr(memory, "_set", lambda bounds, trim=False: told.append(trim))
    with keeping_memory():
        for _ in range(2):
            with keeping_memory() as keep:
                keep()
                keep()
        assert told == [False, False]
    assert told == [False, False, True]


@pytest.mark.parametrize(
    ("processes", "limit", "free", "kept"),
    [(1, 300, 200, True), (1, 299, 1000, False), (1, 1000, 199, False), (2, 600, 400, True), (2, 599, 1000, False)],
)
def test_memory_is_kept_only_where_all_processes_can_grow(
    processes: int, limit: int, free: int, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[bool]()
    monkeypatch.setattr(memory, "_set", lambda bounds, trim=False: told.append(trim))
    monkeypatch.setattr(memory, "ROOM", 3)
    for name, value in (("_highest", 100), ("memory_limit", limit), ("memory_free", free)):
        monkeypatch.setattr(memory, name, lambda value=value: value)
    with keeping_memory(processes) as keep:
        keep()
    assert told == ([False, True] if kept else [])


def test_what_is_free_is_less_than_the_machine_has() -> None:
    assert 0 < memory.memory_free() < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_what_a_process_took_at_most_is_its_own_and_not_that_of_the_one_that_started_it() -> None:
    torch.ones(2**28)
    assert memory._highest() > 2**30
    program = "from autodidact.model import memory; print(memory._highest())"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert 2**20 < int(told) < 2**30


@pytest.mark.parametrize("name", memory.THEIRS)
def test_what_the_environment_says_of_the_c_library_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory._library.__wrapped__() is not None
    monkeypatch.setenv(name, "1")
    assert memory._library.__wrapped__() is None


def test_what_lies_free_is_given_back_now_and_then(room: None, monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[tuple[int, bool]]()
    monkeypatch.setattr(memory, "_set", lambda bounds, trim=False: told.append((len(bounds), trim)))
    with keeping_memory() as keep:
        for _ in range(2 * memory.EVERY):
            keep()
    assert told == [(2, False), (0, True), (0, True), (3, True)]


def test_a_failure_inside_gives_memory_back(room: None, monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[bool]()
    monkeypatch.setattr(memory, "_set", lambda bounds, trim=False: told.append(trim))
    with pytest.raises(KeyError), keeping_memory() as keep:
        keep()
        raise KeyError
    assert told == [False, True]


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_library", lambda: None)
    with keeping_memory() as keep:
        keep()


@pytest.mark.parametrize(
    ("told", "place"),
    [
        ("0::/", "memory.max"),
        ("0::/slurm/job_7/step_0", "slurm/job_7/memory.max"),
        ("3:cpu,cpuacct:/a\n5:memory:/docker/b", "memory/docker/b/memory.limit_in_bytes"),
        ("5:memory:/docker/b", "memory/memory.limit_in_bytes"),
    ],
)
@pytest.mark.parametrize(("said", "limit"), [("max", None), (str(2**62), None), (str(2**20), 2**20)])
def test_a_container_or_a_job_may_take_what_it_was_given(
    told: str, place: str, said: str, limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    machine = memory_limit()
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text(said + "\n")
    limits = memory._limits
    monkeypatch.setattr(memory, "_limits", lambda _: limits(told))
    assert memory_limit() == (limit or machine)


def test_embedding_keeps_memory_after_its_first_batch(room: None, monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[tuple[int, bool]]()
    seen = list[int]()
    monkeypatch.setattr(memory, "_set", lambda bounds, trim=False: told.append((len(seen), trim)))
    source = open_source(np.zeros((6, 8, 8, 3), dtype=np.uint8), progress=False)

    def featurise(batch: object) -> torch.Tensor:
        seen.append(1)
        return torch.zeros(2, 3)

    Embeddings(featurise, source, batch_size=2).at(np.arange(6))
    assert told == [(1, False), (3, True)]
