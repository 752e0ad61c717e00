"""One of several processes speaks and writes for all, whoever started them."""

from __future__ import annotations

import pytest

from autodidact.training.processes import first_process

NAMES = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")


@pytest.mark.parametrize(
    ("set_", "first"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "3", "LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        # srun starts every task by itself.
        ({"SLURM_PROCID": "0"}, True),
        ({"SLURM_PROCID": "2"}, False),
        # torchrun inside the second task of srun: its own ranks count.
        ({"SLURM_PROCID": "1", "RANK": "0", "LOCAL_RANK": "0"}, True),
    ],
)
def test_the_first_process_is_known_by_what_its_launcher_sets(monkeypatch, set_, first):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in set_.items():
        monkeypatch.setenv(name, value)
    assert first_process() is first
