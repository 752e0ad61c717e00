"""A disk that is full when a checkpoint is written: the checkpoint before stays, and the training goes on from it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from tests.training.shared_training import FixedDCL
from tests.training.test_sharded import SOURCE, build

from autodidact.cli.main import _complaint
from autodidact.methods.method import Progress
from autodidact.training import Settings, train
from autodidact.training import checkpoint as checkpoints

FULL = Path("/dev/full")
"""Takes nothing, for want of space."""
WRITTEN = 2


class FillsTheDisk(FixedDCL):
    """After its third update there is no room for what is to become the next checkpoint."""

    folder: Path | None = None

    def after_update(self, progress: Progress) -> None:
        if self.folder is not None and progress.step == WRITTEN:
            (self.folder / f".{checkpoints.NEXT}.{os.getpid()}").symlink_to(FULL)


def trained(folder: Path, out_of: Path | None = None) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    method = FillsTheDisk(build("contrastive").encoder.float())
    method.folder = out_of
    settings = Settings(steps=4, batch_size=32, lr=0.01, accelerator="cpu", devices=1, checkpoint_steps=1)
    train(method, SOURCE, settings, out=folder, quiet=True)
    return method.state_dict()


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_full_disk_ends_a_training_in_one_line_and_it_goes_on_from_the_checkpoint_before(tmp_path: Path) -> None:
    folder = tmp_path / "cut off" / "checkpoints"
    with pytest.raises(OSError, match="No space left on device") as raised:
        trained(tmp_path / "cut off", folder)
    assert raised.value.errno == errno.ENOSPC
    told, code = _complaint(raised.value)
    assert told.startswith(f"error: no space left on device: {folder / checkpoints.NEXT}; ")
    assert code == 1
    assert sorted(path.name for path in folder.iterdir()) == sorted([checkpoints.LAST, checkpoints.PREVIOUS])
    saved = checkpoints.read(folder)
    assert saved is not None
    assert saved.progress["updates"] == WRITTEN
    never, again = trained(tmp_path / "never full"), trained(tmp_path / "cut off")
    for name, value in never.items():
        assert torch.equal(value, again[name]), name
