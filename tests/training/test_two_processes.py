"""Two processes that share a batch train exactly as one process does on the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from tests.training import shared_training
from tests.training.forked import together

from autodidact.catalog import cards, target
from autodidact.data import Batch
from autodidact.encoders import build
from autodidact.methods.image.bss import BSS
from autodidact.methods.method import Progress, Views
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


STYLED = {"simclr": {}, "swav": {"prototypes": 6, "local_count": 1, "local_size": 8}}


def standardised(base: str, **changes: object) -> BSS:
    """BSS in float64 and eval mode, where batch norms make no image depend on the others of a process."""
    torch.manual_seed(0)
    encoder = build("small:convnet", image_size=16, channels=3, width=4)
    still = {"crop_scale": None, "flip": 0.0, "blur_p": 0.5, "jitter_p": 1.0, **changes}
    inner = target(cards()[base])(encoder, view="simclr", view_changes=still, **STYLED[base])
    return BSS(encoder, method=inner, ratio=(0.0, 1.0)).double().eval()


def coloured(first: int, count: int) -> Batch:
    images = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    ids = torch.arange(first, first + count)
    return Batch(ids, {"image": images[ids]})


def progress(seed: int) -> Progress:
    return Progress(0, 10, 0, torch.Generator().manual_seed(seed))


def views_of_the_same_images(base: str) -> list[np.ndarray]:
    """The two views of whole images that a process with random numbers of its own makes of them."""
    dist.init_process_group("gloo")
    views = standardised(base).views(coloured(0, 8), progress(dist.get_rank()))
    return [views[name].numpy() for name in "ab"]


def loss_on_a_half(base: str) -> tuple[dict[str, np.ndarray], float]:
    """Of the images of a process: their views, and the loss."""
    dist.init_process_group("gloo")
    method, rank = standardised(base, crop_scale=(0.3, 0.6)), dist.get_rank()
    views = method.views(coloured(8 * rank, 8), progress(rank))
    views.named = {name: view.double() for name, view in views.named.items()}
    loss = float(method.loss(views, progress(rank)).total.detach())
    return {name: view.numpy() for name, view in views.named.items()}, loss


@pytest.mark.parametrize("base", STYLED)
def test_all_processes_give_their_images_one_style_a_slot(base: str) -> None:
    """Whatever each draws: reference, ratio and look come from the first, so equal images have equal views."""
    one, two = together(2, views_of_the_same_images, base)
    for mine, theirs in zip(one, two, strict=True):
        assert np.array_equal(mine, theirs)
    assert np.abs(one[0] - one[1]).max() > 0.05


@pytest.mark.parametrize("base", STYLED)
def test_standardised_views_on_two_processes_have_the_loss_of_one_process(base: str) -> None:
    """Negatives of the own slot and codes of it are of the whole batch."""
    (first, found), (second, same) = together(2, loss_on_a_half, base)
    both = {name: torch.from_numpy(np.concatenate([view, second[name]])) for name, view in first.items()}
    slot = {name: torch.full((16,), number) for number, name in enumerate(both)}
    whole = Views(both, torch.arange(16), slot=slot)
    expected = float(standardised(base).loss(whole, progress(0)).total.detach())
    assert found == pytest.approx(expected, rel=1e-9)
    assert same == pytest.approx(expected, rel=1e-9)
