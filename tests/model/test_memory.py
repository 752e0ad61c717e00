"""Memory that is kept for the next tensor: fewer page faults, given back at the end, and never where it is scarce."""

from __future__ import annotations

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


ALONE = f"""
import resource, torch
from autodidact.model.memory import keeping_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones({LARGE})
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = min(faults() for _ in range(3))
with keeping_memory() as keep:
    keep()
    kept = sorted(faults() for _ in range(9))
print(usual, kept[4], min(faults() for _ in range(3)))
"""
"""Page faults of tensors that are made one after the other, in a process that has nothing else in its memory."""


def test_a_tensor_in_memory_that_was_kept_costs_no_page_faults_and_the_next_ones_outside_do() -> None:
    told = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True).stdout
    usual, kept, after = map(int, told.split())
    assert kept < usual / 8
    assert after > usual / 2


def test_what_was_kept_is_given_back() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    with keeping_memory() as keep:
        keep()
        torch.ones(LARGE)
        inside = resident()
    assert inside - resident() > 3 * LARGE


def test_memory_is_kept_until_the_outermost_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[bool]()
    monkeypatch.setattr(memory, "_set", lambda bounds, trim=False: told.append(trim))
    with keeping_memory():
        for _ in range(2):
            with keeping_memory() as keep:
                keep()
                keep()
        assert told == [False, False]
    assert told == [False, False, True]


@pytest.mark.parametrize(("processes", "kept"), [(1, True), (2, False)])
def test_nothing_is_kept_where_the_processes_could_not_grow(
    processes: int, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[bool]()
    monkeypatch.setattr(memory, "_set", lambda bounds, trim=False: told.append(trim))
    monkeypatch.setattr(memory, "_highest", lambda: 100)
    monkeypatch.setattr(memory, "memory_limit", lambda: 100 * memory.ROOM)
    with keeping_memory(processes) as keep:
        keep()
    assert told == ([False, True] if kept else [])


def test_what_lies_free_is_given_back_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[tuple[int, bool]]()
    monkeypatch.setattr(memory, "_set", lambda bounds, trim=False: told.append((len(bounds), trim)))
    with keeping_memory() as keep:
        for _ in range(2 * memory.EVERY):
            keep()
    assert told == [(2, False), (0, True), (0, True), (3, True)]


def test_a_failure_inside_gives_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize(("said", "limit"), [("max", None), (str(2**62), None), (str(2**20), 2**20)])
def test_a_container_may_take_what_it_was_given(
    said: str, limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "LIMITS", ())
    machine = memory_limit()
    place = tmp_path / "memory.max"
    place.write_text(said + "\n")
    monkeypatch.setattr(memory, "LIMITS", (place,))
    assert memory_limit() == (limit or machine)


def test_embedding_keeps_memory_after_its_first_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[tuple[int, bool]]()
    seen = list[int]()
    monkeypatch.setattr(memory, "_set", lambda bounds, trim=False: told.append((len(seen), trim)))
    source = open_source(np.zeros((6, 8, 8, 3), dtype=np.uint8), progress=False)

    def featurise(batch: object) -> torch.Tensor:
        seen.append(1)
        return torch.zeros(2, 3)

    Embeddings(featurise, source, batch_size=2).at(np.arange(6))
    assert told == [(1, False), (3, True)]
