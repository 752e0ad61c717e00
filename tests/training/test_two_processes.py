"""Two processes that share a batch train exactly as one process does on the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.training import shared_training

from autodidact.training import checkpoint as checkpoints
from autodidact.training.journal import read_metrics

SCRIPT = Path(shared_training.__file__)


def in_two_processes(method: str, folder: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "MASTER_PORT", "WORLD_SIZE")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), method, "2", str(folder)],
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def left_in(folder: Path) -> tuple[dict[str, torch.Tensor], dict[int, float]]:
    """Weights and losses of a training."""
    saved = checkpoints.read(folder / "checkpoints")
    assert saved is not None
    losses = {step: value for step, name, value in read_metrics(folder / "log" / "metrics.csv") if name == "loss"}
    return checkpoints.by_prefix(saved.tensors, "method"), losses


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dcl", "barlow_twins", "sit", "seer"])
def test_weights_statistics_and_losses_of_two_processes_equal_those_of_one(method: str, tmp_path: Path) -> None:
    """Four SGD updates with batch norm in encoder or projector: the weights hold every gradient on the way."""
    shared_training.main(method, 1, tmp_path / "one")
    in_two_processes(method, tmp_path / "two")
    (one, first), (two, second) = (left_in(tmp_path / name) for name in ("one", "two"))
    assert set(one) == set(two)
    for name, value in one.items():
        assert torch.allclose(value.double(), two[name].double(), atol=1e-6, rtol=1e-6), name
    assert first == pytest.approx(second, rel=1e-5)
