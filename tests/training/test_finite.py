"""A loss that is not finite stops a training; where an accelerator would be waited for, an update later.

There is no accelerator here: the CPU is treated as one, whose values the host does not know yet.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tests.training.test_training import SHORT, Regression, made, toy
from tests.training.waits import Waits

from autodidact.data import Batch
from autodidact.methods.method import Loss, Progress, Step, Views
from autodidact.training import NonFinite, callbacks, checkpoint, finite, train
from autodidact.training.finite import Lookout
from autodidact.training.journal import read_metrics

BROKEN = 7


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finite, "behind", lambda device: True)


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is logged, for which a loss would be read earlier."""
    for rule in ("log_every", "look_every"):
        monkeypatch.setattr(callbacks, rule, lambda *_: 1_000)


class Breaks(Regression):
    """Infinite at one update, with gradients that are not: no weight shows it."""

    last: int = -1

    def loss(self, views: Views, progress: Progress) -> Loss:
        loss = super().loss(views, progress)
        self.last = progress.step
        bad = loss.total + float("inf") if progress.step == BROKEN else loss.total
        return Loss(bad, {"mse": loss.total, "broken": bad}, loss.watch)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("every", [1, 2, 3])
def test_the_term_is_named_and_no_checkpoint_is_of_weights_that_the_loss_has_changed(
    tmp_path: Path, every: int
) -> None:
    with pytest.raises(NonFinite, match=r"the loss is inf \(term broken\)"):
        train(Breaks(), toy(), dataclasses.replace(SHORT, checkpoint_steps=every), out=tmp_path, quiet=True)
    saved = checkpoint.read(tmp_path / "checkpoints")
    assert saved is not None
    assert saved.progress["updates"] == BROKEN // every * every


@pytest.mark.usefixtures("late")
def test_nothing_is_logged_of_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    settings = dataclasses.replace(SHORT, epochs=None, steps=20, monitor_steps=1)
    with pytest.raises(NonFinite, match="broken"):
        train(Breaks(), toy(), settings, out=tmp_path, quiet=True)
    rows = read_metrics(tmp_path / "log" / "metrics.csv")
    assert {step for step, _, _ in rows} == set(range(1, BROKEN + 1))
    assert all(math.isfinite(value) for _, name, value in rows if name.startswith("loss"))


@pytest.mark.usefixtures("late", "untold")
def test_the_loss_before_is_read_when_the_next_is_there() -> None:
    method = Breaks()
    with pytest.raises(NonFinite):
        train(method, toy(), SHORT, quiet=True)
    assert method.last == BROKEN + 1


@pytest.mark.usefixtures("late")
def test_a_training_whose_last_loss_is_not_finite_gives_no_model(tmp_path: Path) -> None:
    settings = dataclasses.replace(SHORT, epochs=None, steps=BROKEN + 1)
    with pytest.raises(NonFinite, match="broken"):
        train(Breaks(), toy(), settings, quiet=True)
    with pytest.raises(NonFinite, match="broken"):
        train(Breaks(), toy(), dataclasses.replace(settings, checkpoint_steps=0), out=tmp_path, quiet=True)
    assert checkpoint.read(tmp_path / "checkpoints") is None


@pytest.mark.usefixtures("late", "untold")
def test_what_fails_after_a_loss_that_is_not_finite_is_told_as_that() -> None:
    class Fails(Breaks):
        def loss(self, views: Views, progress: Progress) -> Loss:
            if progress.step == BROKEN + 1:
                raise RuntimeError("the decomposition did not converge")
            return super().loss(views, progress)

    with pytest.raises(NonFinite, match="broken") as stopped:
        train(Fails(), toy(), SHORT, quiet=True)
    assert "did not converge" in str(stopped.value.__context__)


def test_on_a_cpu_the_loss_is_looked_at_before_anything_is_made_of_it() -> None:
    weights: list[torch.Tensor] = []

    class Remembers(Breaks):
        def update(self, batch: Batch, step: Step) -> Loss:
            weights.append(self.model.linear.weight.detach().clone())
            return super().update(batch, step)

    method = Remembers()
    with pytest.raises(NonFinite, match=r"the loss is inf \(term broken\)"):
        train(method, toy(), SHORT, quiet=True)
    assert method.last == BROKEN
    assert torch.equal(method.model.linear.weight, weights[-1])


@pytest.mark.parametrize("changes", [{}, {"clip_norm": 1.0}, {"clip_each": 1.0}, {"accumulate": 2}], ids=str)
@pytest.mark.parametrize("waits", [False, True])
def test_an_update_waits_for_nothing(changes: dict, waits: bool, request: pytest.FixtureRequest) -> None:
    if not waits:
        request.getfixturevalue("late")
    counts: list[int] = []

    class Counted(Regression):
        def update(self, batch: Batch, step: Step) -> Loss:
            with Waits() as waited:
                loss = super().update(batch, step)
            counts.append(waited.count)
            return loss

    settings = dataclasses.replace(SHORT, optimizer="sgd", momentum=0.9, weight_decay=0.0, monitor_steps=1, **changes)
    train(Counted(), toy(), settings, quiet=True)
    assert set(counts) == {0} or waits
    assert min(counts) >= 1 or not waits


@pytest.mark.usefixtures("late")
def test_the_same_weights_are_learnt_late_or_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    late = train(made(), toy(), SHORT, quiet=True)
    monkeypatch.undo()
    at_once = train(made(), toy(), SHORT, quiet=True)
    for name, value in at_once.state_dict().items():
        assert torch.equal(value, late.state_dict()[name])


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ([float("nan"), 1.0], "term first"),
        ([float("nan"), float("-inf")], "terms first, second"),
        ([0.0, 1.0], "total"),
    ],
)
def test_every_bad_term_is_named(terms: Sequence[float], said: str) -> None:
    lookout, (first, second) = Lookout(), map(torch.tensor, terms)
    lookout.show(Loss(torch.tensor(float("nan")), {"first": first, "second": torch.stack([torch.tensor(1.0), second])}))
    with pytest.raises(NonFinite, match=rf"the loss is nan \({said}\)"):
        lookout.settle()
    lookout.settle()


@pytest.mark.usefixtures("late")
def test_all_processes_stop_where_one_has_a_loss_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finite, "world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.add_(float("nan")))
    lookout = Lookout()
    lookout.show(Loss(torch.tensor(1.0), {"mse": torch.tensor(1.0)}))
    with pytest.raises(NonFinite, match="the loss of another process is not finite"):
        lookout.settle()
