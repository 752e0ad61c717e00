"""Training: exact resume, descents, trials, groups, averaging, errors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import nn

from autodidact.data import ArraySource, Batch, Field, RandomBatching, Schema, WholeBatching, open_source
from autodidact.data.stream import StreamSource
from autodidact.encoders import build
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.method import Group, Loss, Method, Progress, Step, Views
from autodidact.model import Model
from autodidact.training import NonFinite, Settings, run, train
from autodidact.training import checkpoint as checkpoints
from autodidact.training.callbacks import Checkpoints
from autodidact.training.feed import Feed
from autodidact.training.groups import optimiser
from autodidact.training.journal import read_metrics
from autodidact.training.sharded import clip_each


class Weights(Model):
    """Keeps a linear map: something other than an embedding."""

    kind = "weights"
    abilities = ("predict",)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        self.settings = {"width": width}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Weights:
        return cls(int(settings["width"]))

    def predict(self, batch: Batch) -> torch.Tensor:
        return self.linear(batch["x"])


class Regression(Method):
    """A tiny method with dropout, batch norm and random views, so that every source of chance is in play."""

    needs: ClassVar = {"x": "vector"}
    slots = ()

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.model = Weights(width)
        self.hidden = nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 1))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def views(self, batch: Batch, progress: Progress) -> Views:
        noise = torch.randn(batch["x"].shape, generator=progress.generator)
        return Views({"x": batch["x"] + 0.1 * noise, "y": batch["y"]}, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        error = self.model.linear(views["x"]) + self.hidden(views["x"]) - views["y"][:, None]
        total = error.square().mean()
        return Loss(total, {"mse": total}, {"embedding": self.hidden[:2](views["x"])})

    def after_update(self, progress: Progress) -> None:
        self.seen += 1

    def kept(self) -> Model:
        return self.model


def toy(rows: int = 50, width: int = 4) -> ArraySource:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, width)).astype(np.float32)
    y = (x @ np.arange(1, width + 1)).astype(np.float32)
    schema = Schema(x=Field("vector", (width,)), y=Field("target"))
    return ArraySource("toy", {"x": x, "y": y}, schema, np.arange(rows))


def made(**changes: Any) -> Regression:
    torch.manual_seed(0)
    return Regression(**changes)


SHORT = Settings(epochs=3, batch_size=8, lr=1e-2, accelerator="cpu", checkpoint_steps=1)


class Interrupted(RuntimeError):
    pass


def interrupted_after(updates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the checkpoint writer fail right after a given update was saved."""
    save = Checkpoints.save

    def saving(self: Checkpoints, learner: Any) -> None:
        save(self, learner)
        if learner.updates == updates:
            raise Interrupted

    monkeypatch.setattr(Checkpoints, "save", saving)


@pytest.mark.parametrize("updates", [1, 5, 6, 13])
@pytest.mark.parametrize(
    "changes", [{}, {"average": 0.9}, {"accumulate": 2}, {"optimizer": "sgd"}, {"optimizer": "lars"}]
)
def test_a_resumed_training_ends_with_the_weights_of_one_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, updates: int, changes: dict[str, Any]
) -> None:
    settings = dataclasses.replace(SHORT, **changes)
    whole = train(made(), toy(), settings, quiet=True).state_dict()
    with monkeypatch.context() as patched:
        interrupted_after(updates, patched)
        with pytest.raises(Interrupted):
            train(made(), toy(), settings, out=tmp_path, quiet=True)
    resumed = train(made(), toy(), settings, out=tmp_path, quiet=True).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_finished_training_is_read_back_and_not_repeated(tmp_path: Path) -> None:
    first = train(made(), toy(), SHORT, out=tmp_path, quiet=True).state_dict()
    before = read_metrics(tmp_path / "log" / "metrics.csv")
    again = train(made(), toy(), SHORT, out=tmp_path, quiet=True).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert read_metrics(tmp_path / "log" / "metrics.csv") == before


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
def test_a_convolutional_encoder_resumes_exactly_with_its_weights_channels_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: Literal["adamw", "sgd", "lars"]
) -> None:
    digits = open_source("digits")

    def simclr() -> SimCLR:
        torch.manual_seed(0)
        encoder = build("small:convnet?width=8", schema=digits.schema)
        assert any(w.is_contiguous(memory_format=torch.channels_last) for w in encoder.parameters() if w.dim() == 4)
        return SimCLR(encoder)

    settings = Settings(steps=6, batch_size=32, optimizer=optimizer, accelerator="cpu", checkpoint_steps=1)
    whole = train(simclr(), digits, settings, quiet=True).state_dict()
    with monkeypatch.context() as patched:
        interrupted_after(3, patched)
        with pytest.raises(Interrupted):
            train(simclr(), digits, settings, out=tmp_path, quiet=True)
    resumed = train(simclr(), digits, settings, out=tmp_path, quiet=True).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_other_settings_are_refused_on_resume(tmp_path: Path) -> None:
    train(made(), toy(), SHORT, out=tmp_path, quiet=True)
    with pytest.raises(ValueError, match=r"lr was 0.01, is 0.5"):
        train(made(), toy(), dataclasses.replace(SHORT, lr=0.5), out=tmp_path, quiet=True)


def test_a_truncated_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    train(made(), toy(), SHORT, out=tmp_path, quiet=True)
    last = tmp_path / "checkpoints" / checkpoints.LAST
    last.write_bytes(last.read_bytes()[:100])
    saved = checkpoints.read(tmp_path / "checkpoints")
    assert saved is not None
    assert 0 < saved.progress["updates"] <= 18


def test_accumulated_parts_add_up_to_the_gradient_of_the_whole_batch() -> None:
    class Plain(Regression):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Sequential(nn.Identity(), nn.Identity(), nn.Linear(4, 1))

        def views(self, batch: Batch, progress: Progress) -> Views:
            return Views({"x": batch["x"], "y": batch["y"]})

    def trained(accumulate: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        settings = dataclasses.replace(SHORT, accumulate=accumulate, optimizer="sgd", clip_norm=1.0)
        return train(Plain(), toy(), settings, quiet=True).state_dict()

    whole, parts = trained(1), trained(4)
    assert all(torch.allclose(whole[name], parts[name], atol=1e-6) for name in whole)


def test_norms_and_biases_do_not_decay() -> None:
    groups = optimiser(made(), Settings(weight_decay=0.1)).param_groups
    for group in groups:
        assert all((p.ndim > 1) == (group["weight_decay"] == 0.1) for p in group["params"])
    assert {group["weight_decay"] for group in groups} == {0.0, 0.1}


def test_weight_decay_moves_along_a_cosine_to_its_end_and_norms_and_biases_stay_exempt() -> None:
    seen: list[list[float]] = []

    class Watched(Regression):
        def update(self, batch: Batch, step: Step) -> Loss:
            loss = super().update(batch, step)
            seen.append([group["weight_decay"] for group in step.learner.optimiser.param_groups])  # type: ignore[attr-defined]
            return loss

    settings = dataclasses.replace(SHORT, epochs=None, steps=8, weight_decay=0.04, weight_decay_end=0.4)
    train(Watched(), toy(), settings, quiet=True)
    expected = [0.4 - (0.4 - 0.04) * (math.cos(math.pi * k / 8) + 1) / 2 for k in range(8)]
    assert [max(row) for row in seen] == pytest.approx(expected)
    assert any(0.0 in row for row in seen)


def test_the_gradient_of_each_tensor_is_clipped_by_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(2))]
    given = [
        torch.randn(p.shape, generator=generator) * size for p, size in zip(parameters[:2], (10, 0.1), strict=True)
    ]
    for parameter, gradient in zip(parameters, given, strict=False):
        parameter.grad = gradient.clone()
    clip_each(parameters, 0.5)
    large, small, none = (parameter.grad for parameter in parameters)
    assert large is not None
    assert small is not None
    assert none is None
    assert float(large.norm()) == pytest.approx(0.5, rel=1e-4)
    torch.testing.assert_close(large / large.norm(), given[0] / given[0].norm())
    assert torch.equal(small, given[1])


def test_clipping_each_tensor_bounds_every_update_of_a_training() -> None:
    settings = dataclasses.replace(
        SHORT, epochs=None, steps=1, optimizer="sgd", lr=1.0, momentum=0.0, warmup=0.0, weight_decay=0.0, clip_each=1e-3
    )
    method = Regression()
    before = {name: value.detach().clone() for name, value in method.named_parameters()}
    train(method, toy(), settings, quiet=True)
    moved = [float((value.cpu() - before[name]).norm()) for name, value in method.named_parameters()]
    assert max(moved) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"weight_decay_end": -0.1}, "weight_decay_end must not be negative"), ({"clip_each": 0.0}, "must be positive")],
)
def test_an_end_of_weight_decay_or_a_clip_out_of_range_is_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(**options)  # type: ignore[arg-type]


def test_a_loss_that_is_not_finite_stops_at_once_names_its_term_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    class Breaks(Regression):
        def loss(self, views: Views, progress: Progress) -> Loss:
            loss = super().loss(views, progress)
            bad = loss.total * float("nan") if progress.step == 7 else loss.total
            return Loss(bad, {"mse": loss.total, "broken": bad})

    with pytest.raises(NonFinite, match="broken"):
        train(Breaks(), toy(), SHORT, out=tmp_path, quiet=True)
    saved = checkpoints.read(tmp_path / "checkpoints")
    assert saved is not None
    assert saved.progress["updates"] == 7
    assert checkpoints.finite(saved.tensors)


def test_a_batch_larger_than_the_data_is_one_clear_error() -> None:
    with pytest.raises(ValueError, match=r"batch size 64 is larger than the data: 'toy' has 50 samples"):
        train(made(), toy(), dataclasses.replace(SHORT, batch_size=64), quiet=True)


def test_the_average_follows_the_weights_with_its_decay() -> None:
    history: list[torch.Tensor] = []

    class Watched(Regression):
        def after_update(self, progress: Progress) -> None:
            history.append(self.model.linear.weight.detach().clone())

    torch.manual_seed(0)
    method = Watched()
    start = method.model.linear.weight.detach().clone()
    kept = train(method, toy(), dataclasses.replace(SHORT, average=0.8), quiet=True)
    expected = start.double()
    for weight in history:
        expected = 0.8 * expected + 0.2 * weight.double()
    assert torch.allclose(kept.linear.weight.double(), expected, atol=1e-6)  # type: ignore[union-attr]


class Two(Regression):
    """Two groups: `model` and `hidden`, optimised apart."""

    def groups(self) -> list[Group]:
        return [Group("model", self.model.parameters(), lr_scale=0.5), Group("hidden", self.hidden.parameters())]


def test_one_group_descends_and_the_other_stays() -> None:
    class OnlyHidden(Two):
        def update(self, batch: Batch, step: Step) -> Loss:
            return step.descend(self.loss(self.views(batch, step.progress), step.progress), only="hidden")

    torch.manual_seed(0)
    method = OnlyHidden()
    model = {k: v.clone() for k, v in method.model.state_dict().items()}
    hidden = {k: v.clone() for k, v in method.hidden.state_dict().items()}
    train(method, toy(), SHORT, quiet=True)
    assert all(torch.equal(v, model[k]) for k, v in method.model.state_dict().items())
    assert not torch.equal(method.hidden[0].weight, hidden["0.weight"])


def test_descending_group_by_group_equals_descending_together() -> None:
    class Apart(Two):
        def update(self, batch: Batch, step: Step) -> Loss:
            views = self.views(batch, step.progress)
            loss = self.loss(views, step.progress)
            grads = torch.autograd.grad(loss.total, list(self.model.parameters()), retain_graph=True)
            surrogate = sum((g * p).sum() for g, p in zip(grads, self.model.parameters(), strict=True))
            step.descend(loss, only="hidden")
            step.descend(Loss(surrogate), only="model")
            return loss

    def trained(cls: type[Method]) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        method = cls()
        train(method, toy(), SHORT, quiet=True)
        return method.state_dict()

    together, apart = trained(Two), trained(Apart)
    assert all(torch.allclose(together[name], apart[name], atol=1e-6) for name in together)


def test_an_unknown_group_is_named_with_the_nearest() -> None:
    class Wrong(Two):
        def update(self, batch: Batch, step: Step) -> Loss:
            return step.descend(self.loss(self.views(batch, step.progress), step.progress), only="hiden")

    with pytest.raises(ValueError, match="did you mean 'hidden'"):
        train(Wrong(), toy(), SHORT, quiet=True)


def test_a_frozen_group_moves_only_from_its_update_on() -> None:
    moved: list[bool] = []

    class Frozen(Two):
        def groups(self) -> list[Group]:
            return [Group("model", self.model.parameters(), frozen_until=4), Group("hidden", self.hidden.parameters())]

        def after_update(self, progress: Progress) -> None:
            moved.append(not torch.equal(self.model.linear.weight.detach(), first))

    torch.manual_seed(0)
    method = Frozen()
    first = method.model.linear.weight.detach().clone()
    train(method, toy(), SHORT, quiet=True)
    assert moved[:4] == [False] * 4
    assert all(moved[4:])


def test_trial_steps_are_undone_on_exit_and_leave_no_trace() -> None:
    class Tries(Regression):
        def update(self, batch: Batch, step: Step) -> Loss:
            before = {k: v.clone() for k, v in self.state_dict().items()}
            with step.trial():
                extra = step.draw()
                step.descend(self.loss(self.views(extra, step.progress), step.progress))
                step.descend(self.loss(self.views(batch, step.progress), step.progress))
                assert not torch.equal(before["model.linear.weight"], self.model.linear.weight)
            assert all(torch.equal(v, before[k]) for k, v in self.state_dict().items())
            return step.descend(self.calm(batch))

        def calm(self, batch: Batch) -> Loss:
            total = (self.model.linear(batch["x"]) - batch["y"][:, None]).square().mean()
            return Loss(total)

    class Plain(Tries):
        def update(self, batch: Batch, step: Step) -> Loss:
            return step.descend(self.calm(batch))

    def trained(cls: type[Method]) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        method = cls()
        train(method, toy(), SHORT, quiet=True)
        return method.state_dict()

    tried, plain = trained(Tries), trained(Plain)
    assert all(torch.equal(tried[name], plain[name]) for name in plain)


def test_extra_draws_survive_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Draws(Regression):
        def update(self, batch: Batch, step: Step) -> Loss:
            extra = step.draw()
            first = self.loss(self.views(batch, step.progress), step.progress)
            second = self.loss(self.views(extra, step.progress), step.progress)
            return step.descend(Loss(first.total + second.total))

    def fresh() -> Method:
        torch.manual_seed(0)
        return Draws()

    whole = train(fresh(), toy(), SHORT, quiet=True).state_dict()
    with monkeypatch.context() as patched:
        interrupted_after(7, patched)
        with pytest.raises(Interrupted):
            train(fresh(), toy(), SHORT, out=tmp_path, quiet=True)
    resumed = train(fresh(), toy(), SHORT, out=tmp_path, quiet=True).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_refresh_runs_before_the_first_step_and_on_its_period_over_the_whole_source_in_order() -> None:
    calls: list[tuple[int, list[int], bool]] = []
    inside: list[bool] = []

    class Refreshes(Regression):
        refresh_every = 6

        def refresh(self, sweep: Any, progress: Progress) -> None:
            def visit(batch: Any) -> dict[str, Any]:
                inside.append(self.hidden.training)
                return {"out": self.hidden(batch["x"])}

            swept = sweep(visit)
            calls.append((progress.step, swept["ids"].tolist(), self.hidden.training))
            assert len(swept["out"]) == 50

    method = Refreshes()
    train(method, toy(), SHORT, quiet=True)
    assert [step for step, _, _ in calls] == [0, 6, 12]
    assert all(ids == list(range(50)) for _, ids, _ in calls)
    # Evaluated inside the sweep, training again right after it.
    assert not any(inside)
    assert all(training for *_, training in calls)
    assert method.hidden.training


def test_the_log_has_the_loss_the_rate_and_the_figures_of_the_embedding(tmp_path: Path) -> None:
    train(made(), toy(), dataclasses.replace(SHORT, monitor_steps=6), out=tmp_path, quiet=True)
    names = {name for _, name, _ in read_metrics(tmp_path / "log" / "metrics.csv")}
    assert {"loss", "loss/mse", "lr", "rankme/embedding", "std/embedding", "gradient_norm"} <= names


def test_a_method_that_keeps_a_predictor_is_saved_and_loaded_with_its_ability(tmp_path: Path) -> None:
    from autodidact.model import load_model

    kept = train(made(), toy(), SHORT, quiet=True)
    kept.save(tmp_path)
    loaded = load_model(tmp_path, kinds={"weights": Weights})
    batch = toy().batch(np.arange(5))
    assert torch.equal(loaded.predict(batch), kept.predict(batch))  # type: ignore[operator]
    with pytest.raises(ValueError, match="cannot embed; it can predict"):
        loaded.can("embed")


def test_in_bf16_what_follows_a_descent_sees_the_new_weights() -> None:
    """Mixed precision casts weights once an update: what it has cast is out of date behind the first descent."""
    seen: list[float] = []

    class Twice(Regression):
        def update(self, batch: Batch, step: Step) -> Loss:
            for _ in range(2):
                loss = self.model.linear(batch["x"]).square().mean()
                seen.append(float(loss))
                step.descend(Loss(loss))
            return Loss(loss.detach())

    train(
        Twice(),
        toy(),
        Settings(steps=1, batch_size=16, lr=0.1, precision="bf16", warmup=0.0, accelerator="cpu"),
        quiet=True,
    )
    assert seen[0] != seen[1]


def test_bf16_keeps_float32_weights_and_learns() -> None:
    batch = toy().batch(np.arange(50))
    views = Views({"x": batch["x"], "y": batch["y"]})
    progress = Progress(0, 1, 0, torch.Generator())

    def error(method: Regression) -> float:
        return method.eval().loss(views, progress).total.item()

    method = made()
    first = error(method)
    train(method, toy(), dataclasses.replace(SHORT, precision="bf16", epochs=20), quiet=True)
    assert all(p.dtype == torch.float32 for p in method.parameters())
    assert error(method) < first / 2


def test_steps_may_be_asked_for_instead_of_epochs() -> None:
    method = made()
    train(method, toy(), dataclasses.replace(SHORT, epochs=None, steps=4), quiet=True)
    assert int(method.seen) == 4


def test_the_incomplete_last_batch_is_trained_on_when_the_method_wants_it() -> None:
    class All(Regression):
        batching = RandomBatching(drop_last=False)

    method = All()
    train(method, toy(), dataclasses.replace(SHORT, epochs=1), quiet=True)
    assert int(method.seen) == 7


class Endless(StreamSource):
    """A stream whose length nobody knows."""

    def __init__(self, length: int | None = None) -> None:
        super().__init__("endless", Schema(x=Field("vector", (4,)), y=Field("target")), length, buffer=8)

    def samples(self) -> Iterator[Mapping[str, Any]]:
        source = toy()
        return ({"place": np.array([place])} for place in range(len(source)))

    def decode(self, raws: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[int, str]]:
        return toy().read(np.concatenate([raw["place"] for raw in raws])), {}


def test_a_stream_is_trained_on_and_resumed_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = dataclasses.replace(SHORT, epochs=None, steps=15)
    whole = train(made(), Endless(), settings, quiet=True).state_dict()
    with monkeypatch.context() as patched:
        interrupted_after(8, patched)
        with pytest.raises(Interrupted):
            train(made(), Endless(), settings, out=tmp_path, quiet=True)
    resumed = train(made(), Endless(), settings, out=tmp_path, quiet=True).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


class Counted(Endless):
    """Counts what is decoded, and fails at one sample."""

    def __init__(self) -> None:
        super().__init__()
        self.decoded = 0

    def decode(self, raws: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[int, str]]:
        self.decoded += len(raws)
        bad = {at: "broken" for at, raw in enumerate(raws) if raw["place"][0] == 3}
        return super().decode([raw for at, raw in enumerate(raws) if at not in bad])[0], bad


def test_each_process_decodes_its_share_of_a_stream_and_gets_batches_of_one_size() -> None:
    sources = [Counted() for _ in range(2)]
    feeds = [
        Feed(source, RandomBatching(), 8, 0, accumulate=2, rank=rank, world=2) for rank, source in enumerate(sources)
    ]
    mine = [list(islice(feed.streamed(1, 0), 12)) for feed in feeds]
    assert [len(batch) for batches in mine for batch in batches] == [2] * 24
    assert [source.decoded for source in sources] == [24, 24]
    whole = list(islice(Endless().batches(8, 0, 1), 6))
    for number, batch in enumerate(whole):
        shares = torch.cat([batches[2 * number + micro].ids for micro in range(2) for batches in mine])
        # The sample that cannot be read is replaced by another one of its share.
        assert (shares != batch.ids).sum() <= 1
        assert {*shares.tolist()} <= {*batch.ids.tolist()}


class Apart(Endless):
    """Processes read samples of their own."""

    divided = True

    def draws(self, size: int, seed: int, skip: int = 0, part: int = 0, parts: int = 1) -> Iterator[Any]:
        return ([((part, number), {"place": np.array([parts])})] * size for number in count(skip))

    def _id(self, place: Any) -> int:
        return 10 * place[0] + place[1]


def test_a_divided_stream_is_asked_for_the_part_of_each_process() -> None:
    feed = Feed(Apart(), RandomBatching(), 8, 0, accumulate=2, rank=1, world=2)
    assert [batch.ids.tolist() for batch in islice(feed.streamed(3, 0), 3)] == [[13, 13], [13, 13], [14, 14]]
    alone = Feed(Apart(), RandomBatching(), 8, 0)
    assert [batch.ids.tolist() for batch in islice(alone.streamed(0, 0), 1)] == [[0] * 8]


def test_a_stream_of_unknown_length_needs_a_number_of_steps() -> None:
    with pytest.raises(ValueError, match="unknown length: say how long to train with --steps"):
        train(made(), Endless(), SHORT, quiet=True)


def test_batches_that_need_all_of_the_data_are_refused_on_a_stream() -> None:
    class Whole(Regression):
        batching = WholeBatching()

    with pytest.raises(ValueError, match="read in sequence"):
        train(Whole(), Endless(), dataclasses.replace(SHORT, epochs=None, steps=3), quiet=True)


def test_a_training_that_pauses_and_goes_on_ends_with_the_weights_of_one_that_did_not(tmp_path: Path) -> None:
    whole = train(made(), toy(), SHORT, quiet=True).state_dict()
    paused = train(made(), toy(), SHORT, out=tmp_path, until=0.5, quiet=True).state_dict()
    assert not all(torch.equal(paused[name], whole[name]) for name in whole)
    gone_on = train(made(), toy(), SHORT, out=tmp_path, quiet=True).state_dict()
    assert all(torch.equal(gone_on[name], whole[name]) for name in whole)


@pytest.mark.parametrize("until", [0.0, 1.5, -0.1])
def test_a_share_to_pause_after_lies_between_0_and_1(until: float) -> None:
    with pytest.raises(ValueError, match=r"share of the training in \(0, 1\]"):
        train(made(), toy(), SHORT, until=until, quiet=True)


def test_memory_is_kept_from_the_second_update_on_and_for_as_many_processes_as_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = list[Any]()

    @contextmanager
    def keeping(processes: int) -> Iterator[Callable[[], None]]:
        told.append(processes)
        yield lambda: told.append("kept")
        told.append("left")

    monkeypatch.setattr(run, "keeping_memory", keeping)
    train(made(), toy(), dataclasses.replace(SHORT, epochs=None, steps=3), quiet=True)
    assert told == [1, "kept", "kept", "kept", "left"]
