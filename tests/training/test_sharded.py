"""Networks that are spread over processes train as whole ones do, and go on from each other's checkpoints."""

from __future__ import annotations

import os
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tests.training.forked import together
from tests.training.shared_training import FixedDCL, made
from torch import nn

from autodidact.data import ArraySource, Batch, Field, Schema
from autodidact.encoders import build as encoder
from autodidact.methods.method import Group, Loss, Method, Progress, Step, Views
from autodidact.model import Encoder
from autodidact.objectives.shards import is_spread, mean_over_rows, own_part
from autodidact.training import Settings, train
from autodidact.training import checkpoint as checkpoints
from autodidact.training.journal import read_metrics

IMAGES = np.random.default_rng(0).random((64, 1, 12, 12)).astype(np.float32)
SOURCE = ArraySource("noise", {"image": IMAGES}, Schema(image=Field("image", (1, 12, 12))), np.arange(64))
STEPS, DIES_AT = 4, 2


class Contrastive(FixedDCL):
    """In float64 it is seen that processes compute the same: batch norms blow up what is rounded."""

    def views(self, batch: Batch, progress: Progress) -> Views:
        shown = super().views(batch, progress)
        return Views({name: view.double() for name, view in shown.named.items()}, shown.ids)


class Dying(Contrastive):
    """Its second process is killed in the middle of an update, the first time."""

    def after_update(self, progress: Progress) -> None:
        if progress.step == DIES_AT and os.environ.get("RANK") == "1" and "DIES" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)


class Doubtful(Method):
    """Takes a step on trial before each, and descends once more for its head alone."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.width, 3)

    def views(self, batch: Batch, progress: Progress) -> Views:
        return Views({"a": batch["image"]}, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        return Loss(mean_over_rows(self.head(self.encoder(views["a"]).pooled).square().mean(1)))

    def update(self, batch: Batch, step: Step) -> Loss:
        views = self.views(batch, step.progress)
        with step.trial():
            ahead = step.descend(self.loss(views, step.progress))
            ahead = self.loss(views, step.progress)
        step.descend(self.loss(views, step.progress), only="head")
        step.descend(Loss(ahead.total.detach() * self.loss(views, step.progress).total))
        return ahead

    def groups(self) -> list[Group]:
        return [Group("encoder", self.encoder.parameters()), Group("head", self.head.parameters())]


class Weighed(Doubtful):
    """Notes the bytes of its encoder that this process holds, and of what the optimiser keeps of it."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.held = 0

    def update(self, batch: Batch, step: Step) -> Loss:
        loss = step.descend(self.loss(self.views(batch, step.progress), step.progress))
        state = step.learner.optimiser.state  # type: ignore[attr-defined]
        tensors = [t for p in self.encoder.parameters() for t in (p, *state[p].values()) if t.ndim]
        self.held = sum(own_part(tensor).nbytes for tensor in tensors)
        return loss


def build(name: str) -> Method:
    torch.manual_seed(0)
    own = {"contrastive": Contrastive, "dying": Dying}
    if name in own:
        return own[name](made("dcl", SOURCE).encoder).double()
    if name == "transformer":
        return Doubtful(encoder("small:vit?width=16&depth=2&heads=2&patch=4", schema=SOURCE.schema, image_size=12))
    return Doubtful(made("dcl", SOURCE).encoder) if name == "doubtful" else made(name, SOURCE)


def trained(name: str, folder: Path, **settings: Any) -> dict[str, Any]:
    """What the method keeps after a training on fixed views."""
    method = build(name)
    asked = {"steps": STEPS, "batch_size": 32, "optimizer": "sgd", "lr": 0.05, "accelerator": "cpu", "devices": 1}
    model = train(method, SOURCE, Settings(**asked | {"checkpoint_steps": 1} | settings), out=folder, quiet=True)
    assert not any(type(module).__name__.startswith("FSDP") for module in method.modules())
    assert not any(map(is_spread, method.parameters()))
    return {key: value.numpy() for key, value in model.state_dict().items()}


def same(one: Path, other: Path, tolerance: float = 1e-6) -> None:
    """Checkpoints and losses of two trainings are alike."""
    first, second = (checkpoints.read(folder / "checkpoints") for folder in (one, other))
    assert first is not None
    assert second is not None
    assert first.tensors.keys() == second.tensors.keys()
    for name, value in first.tensors.items():
        torch.testing.assert_close(value.double(), second.tensors[name].double(), atol=tolerance, rtol=tolerance)
    losses = [
        {step: value for step, name, value in read_metrics(folder / "log" / "metrics.csv") if name == "loss"}
        for folder in (one, other)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=10 * tolerance)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("contrastive", {"clip_norm": 0.1, "average": 0.9}),
        ("sit", {"optimizer": "adamw", "lr": 1e-3, "clip_norm": 0.1, "clip_each": 0.02}),
        ("seer", {"optimizer": "lars", "recompute": True, "accumulate": 2}),
        ("doubtful", {}),
    ],
)
def test_networks_that_two_processes_hold_in_parts_train_as_one_that_holds_them_whole(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    alone = trained(name, tmp_path / "whole", **settings)
    kept = together(2, partial(trained, name, tmp_path / "parts", devices=2, sharding="full", **settings))
    same(tmp_path / "whole", tmp_path / "parts")
    for model in kept:
        assert model.keys() == alone.keys()
        for key, value in alone.items():
            np.testing.assert_allclose(model[key], value, atol=1e-6, rtol=1e-6, err_msg=key)


def test_in_bf16_they_train_as_two_processes_do_that_hold_them_whole(tmp_path: Path) -> None:
    for folder, sharding in (("whole", "none"), ("parts", "full")):
        asked = {"devices": 2, "sharding": sharding, "precision": "bf16"}
        together(2, partial(trained, "transformer", tmp_path / folder, **asked))
    same(tmp_path / "whole", tmp_path / "parts")


def weighed(processes: int) -> int:
    """Bytes of weights and of AdamW's moments in this process of so many."""
    torch.manual_seed(0)
    method = Weighed(encoder("small:vit?width=64&depth=2&heads=2&patch=4", schema=SOURCE.schema, image_size=12))
    settings = Settings(steps=1, batch_size=8, accelerator="cpu", devices=processes, sharding="full")
    train(method, SOURCE, settings, quiet=True)
    return method.held


def test_each_of_several_processes_holds_its_share_of_weights_and_of_the_optimisers_state() -> None:
    (whole,) = together(1, weighed, 1)
    for processes in (2, 4):
        held = together(processes, weighed, processes)
        assert sum(held) == whole
        # The first has what cannot be cut, such as the class token.
        assert max(held) < 1.1 * whole / processes


def test_a_training_that_was_killed_goes_on_with_any_number_of_processes_and_in_parts_or_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained("dying", tmp_path / "never killed")
    monkeypatch.setenv("DIES", "")
    with pytest.raises(RuntimeError, match="process 1 died \\(exit code -9\\)"):
        together(2, partial(trained, "dying", tmp_path / "killed", devices=2, sharding="full"))
    monkeypatch.delenv("DIES")
    saved = checkpoints.read(tmp_path / "killed" / "checkpoints")
    assert saved is not None
    assert saved.progress["updates"] == DIES_AT
    for processes, sharding in ((1, "none"), (2, "full"), (4, "full"), (2, "none")):
        again = tmp_path / f"{processes} {sharding}"
        shutil.copytree(tmp_path / "killed", again)
        together(processes, partial(trained, "dying", again, devices=processes, sharding=sharding))
        same(tmp_path / "never killed", again)


def test_four_processes_have_the_losses_and_weights_of_one(tmp_path: Path) -> None:
    trained("contrastive", tmp_path / "one")
    together(4, partial(trained, "contrastive", tmp_path / "four", devices=4))
    same(tmp_path / "one", tmp_path / "four")


class Bare(Method):
    """Without an encoder."""

    slots: ClassVar = ()

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def views(self, batch: Batch, progress: Progress) -> Views:
        raise AssertionError("it must not come so far")

    loss = views  # type: ignore[assignment]


def test_what_has_nothing_to_spread_is_refused_before_it_trains() -> None:
    with pytest.raises(ValueError, match="Bare has no encoder that could be spread over devices"):
        train(Bare(), SOURCE, Settings(steps=1, batch_size=4, accelerator="cpu", sharding="full"), quiet=True)
    with pytest.raises(ValueError, match="are not compiled"):
        Settings(sharding="full", compile=True)
