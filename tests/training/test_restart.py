"""torchrun starts a training again whose process was killed, and nothing is lost."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from autodidact.training import checkpoint as checkpoints

SCRIPT = Path(__file__).parent / "shared_training.py"
METHOD, STEPS = "barlow_twins", 40
"""Each with a checkpoint: long enough to be killed on the way."""


def started(folder: Path) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "MASTER_PORT", "WORLD_SIZE")}
    return subprocess.Popen(
        [*launcher, str(SCRIPT), METHOD, "2", str(folder), str(STEPS)],
        # Without it torchrun keeps one store over all starts, and gloo finds the addresses of the dead in it.
        env={**environment, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def workers(launcher: int) -> list[int]:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return [int(child) for child in children]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
def test_a_training_goes_on_after_one_of_its_processes_was_killed(tmp_path: Path) -> None:
    killed = started(tmp_path / "killed")
    while killed.poll() is None and checkpoints.read(tmp_path / "killed" / "checkpoints") is None:
        time.sleep(0.01)
    os.kill(workers(killed.pid)[1], signal.SIGKILL)
    _, said = killed.communicate(timeout=200)
    assert killed.returncode == 0, said
    assert "exitcode: -9" in said, "it was killed after its end"
    runpy.run_path(str(SCRIPT))["main"](METHOD, 1, tmp_path / "whole", STEPS)
    found = []
    for name in ("whole", "killed"):
        saved = checkpoints.read(tmp_path / name / "checkpoints")
        assert saved is not None
        assert saved.progress["updates"] == STEPS
        found.append(checkpoints.by_prefix(saved.tensors, "method"))
    for name, value in found[0].items():
        assert torch.allclose(value.double(), found[1][name].double(), atol=1e-5), name
