"""What a training will cost: bytes against those counted by hand, and lines through what was tried."""

from __future__ import annotations

import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from autodidact.cli.main import main
from autodidact.data import Source, open_source
from autodidact.data.cores import cores
from autodidact.encoders import build
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.masked.beit import BEiT
from autodidact.methods.masked.mae import MAE
from autodidact.methods.method import Progress
from autodidact.training import Settings, cost
from autodidact.training.cost import Forecast, Held, foresee

KNOWN = Forecast(
    samples=1000,
    epoch_steps=10,
    steps=100,
    devices=4,
    parts=2,
    share=64,
    sizes=(16, 32),
    seconds=(1.0, 1.5),
    peaks=(1_000, 1_800),
    sweep=3.0,
    sweep_every=40,
    weights=500,
    state=1_000,
    gradients=400,
    sent=(30.0, 50.0),
    messages=5,
    sample=2,
    memory=10_000,
    gpu=True,
)


def test_weights_in_parts_take_less_memory_and_more_sending() -> None:
    parts = replace(KNOWN, spread=0.5)
    assert parts.exchanged - KNOWN.exchanged == 0.5 * 3 / 4 * 400
    # Of what is spread, three quarters lie on the other three devices.
    assert KNOWN.memory_of(32) - parts.memory_of(32) == 0.5 * 0.75 * (500 + 1_000 + 400)


def test_short_updates_are_timed_more_often_and_long_ones_no_less(monkeypatch: pytest.MonkeyPatch) -> None:
    watches: list[cost._Watch] = []

    class Kept(cost._Watch):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            watches.append(self)

    monkeypatch.setattr(cost, "_Watch", Kept)
    method = SimCLR(build("small:convnet?width=4", schema=digits().schema))
    settings = Settings(steps=1, batch_size=32, accelerator="cpu")
    for clocked, timed in ((1e6, cost.MOST_TIMED), (0.0, cost.TIMED)):
        monkeypatch.setattr(cost, "CLOCKED", clocked)
        watches.clear()
        foresee(method, digits(), settings)
        assert [len(watch.times) for watch in watches] == [cost.TIMED, timed]


def test_of_a_spread_training_a_plan_knows_which_share_of_the_weights_is_in_parts() -> None:
    method = SimCLR(build("small:convnet?width=4", schema=digits().schema))
    settings = Settings(steps=1, batch_size=4, devices=2, accelerator="cpu", sharding="full")
    assert foresee(method, digits(), settings).spread == 1.0
    assert foresee(method, digits(), replace(settings, devices=1)).spread == 0.0


def digits(count: int = 256) -> Source:
    return open_source("digits", progress=False).at(np.arange(count))


def simclr(width: int = 8) -> SimCLR:
    torch.manual_seed(0)
    return SimCLR(build("small:convnet", width=width, image_size=8, channels=1), view="tiny")


def test_bytes_of_tensors_are_counted_while_they_live() -> None:
    before = torch.ones(1000)
    with Held() as held:
        first = before * 2
        assert held.now == 4000
        second = first[:500] + first.view(2, 500)[1]  # views take nothing
        assert held.now == 6000
        del first
        assert held.now == 2000
        second += 1
        assert (held.now, held.peak) == (2000, 6000)


def test_what_a_backward_pass_needs_is_counted_too() -> None:
    weight = torch.ones(100, 100, requires_grad=True)
    x = torch.ones(50, 100)
    with Held() as held:
        y = (x @ weight).exp()  # exp keeps its result; the product is dropped
        assert held.now == y.nbytes
        y.sum().backward()
    # the result, its gradient in exp's backward pass, and the weight's gradient.
    assert held.peak >= 2 * y.nbytes + weight.nbytes
    assert held.now == y.nbytes + weight.nbytes


def test_bytes_are_those_that_torch_allocates() -> None:
    method, source = simclr(), digits()
    images = source.batch(np.arange(64)).to("cpu")
    generator = torch.Generator().manual_seed(0)

    def update() -> None:
        progress = Progress(0, 10, 0, generator)
        method.loss(method.views(images, progress), progress).total.backward()
        for parameter in method.parameters():
            parameter.grad = None

    update()
    with Held() as held:
        update()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        update()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    assert held.peak == pytest.approx(np.cumsum(changes).max(), rel=0.02)


def test_a_forecast_adds_up() -> None:
    # On the line through 16 and 32: 0.5 s and 800 bytes for 16 samples more.
    # Gradients once, and in each of two parts 20 bytes more for 16 samples more.
    assert KNOWN.exchanged == pytest.approx(2 * 3 / 4 * 400 + 2 * 90)
    assert KNOWN.exchange(link=100, delay=0) == pytest.approx(6 + 1.8)
    assert KNOWN.exchange(link=100, delay=0.1) == pytest.approx(6 + 1.8 + 2 * 5 * 0.1)
    assert KNOWN.update(link=100, delay=0.1) == pytest.approx(2 * 2.5 + 8.8)
    assert KNOWN.memory_of(64) == 500 + 1000 + 64 * 2 + 1_800 + 2 * 800
    assert KNOWN.memory_of(16) == 500 + 1000 + 16 * 2 + 1_000
    assert not KNOWN.measured
    assert replace(KNOWN, share=32).measured
    # Sweeps before the updates 0, 40 and 80.
    assert KNOWN.seconds_of(100, link=100, delay=0.1) == pytest.approx(100 * 13.8 + 3 * 3)
    assert KNOWN.seconds_of(40, link=100, delay=0.1) == pytest.approx(40 * 13.8 + 3)
    assert replace(KNOWN, sweep_every=0).seconds_of(100, link=100, delay=0.1) == pytest.approx(1380 + 3)
    assert replace(KNOWN, devices=1).exchange() == 0


def test_the_most_samples_that_fit_fill_nine_tenths_of_the_memory() -> None:
    assert KNOWN.most() == 128
    assert KNOWN.memory_of(128) <= 9_000 < KNOWN.memory_of(256)
    assert KNOWN.most(1_600) == 0
    assert replace(KNOWN, gpu=False).most() == 32
    assert replace(KNOWN, sample=0, peaks=(0, 0)).most() == 1 << 30


def test_a_method_that_is_planned_stays_as_it_is() -> None:
    method, source = simclr(), digits()
    before = deepcopy(method.state_dict())
    found = foresee(method, source, Settings(epochs=3, batch_size=64))
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert (found.samples, found.epoch_steps, found.steps) == (256, 4, 12)
    assert found.sizes == (16, 32, 64)
    assert found.measured
    assert all(seconds > 0 for seconds in found.seconds)


def test_what_stays_between_updates_is_what_the_tensors_take() -> None:
    method = simclr()
    found = foresee(method, digits(), Settings(steps=1, batch_size=16, average=0.9))
    parameters = sum(p.nbytes for p in method.parameters())
    everything = sum(value.nbytes for value in method.state_dict().values())
    assert found.weights == everything
    assert found.gradients == parameters
    steps = 4 * len(list(method.parameters()))
    assert found.state == 2 * parameters + steps + everything


def test_memory_of_a_large_batch_follows_from_small_ones() -> None:
    method, source = simclr(width=32), digits()
    whole = foresee(method, source, Settings(steps=1, batch_size=128))
    line = foresee(method, source, Settings(steps=1, batch_size=128), largest=32)
    assert line.sizes == (16, 32)
    assert not line.measured
    assert line.memory_of(128) == pytest.approx(whole.memory_of(128), rel=0.05)


def test_devices_and_parts_share_a_batch() -> None:
    settings = Settings(steps=4, batch_size=128, accumulate=2, devices=2, nodes=2, accelerator="cpu")
    found = foresee(simclr(), digits(), settings)
    assert (found.devices, found.parts, found.share) == (4, 2, 16)
    with pytest.raises(ValueError, match="cannot be shared equally by 4 processes in 2 parts"):
        foresee(simclr(), digits(), replace(settings, batch_size=100))


def test_a_budget_in_tokens_is_one_in_updates() -> None:
    torch.manual_seed(0)
    method = MAE(build("small:vit", width=16, depth=2, heads=2, patch=2, image_size=8, channels=1), ratio=0.75)
    # 16 patches, of which a quarter is seen, and the class token.
    found = foresee(method, digits(), Settings(tokens=10 * 64 * 5, batch_size=64))
    assert found.steps == 10
    assert foresee(simclr(), digits(), Settings(tokens=10_000, batch_size=64)).steps == 0


def test_a_method_that_looks_at_all_data_does_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    method = BEiT(build("small:vit", width=16, depth=2, heads=2, patch=2, image_size=8, channels=1), codes=8)
    calls = list[float]()
    refresh = BEiT.refresh

    def slow(self: BEiT, *args: Any) -> None:
        calls.append(time.perf_counter())
        time.sleep(0.2)
        refresh(self, *args)

    monkeypatch.setattr(BEiT, "refresh", slow)
    found = foresee(method, digits(), Settings(steps=4, batch_size=64))
    assert len(calls) == 1
    assert found.sweep >= 0.2
    assert max(found.seconds) < 0.2


def test_the_command_says_what_it_would_cost_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "pretrain simclr --data digits --encoder small:convnet?width=4 --batch-size 64 --epochs 2 --devices 2"
    words += " --accumulate 2 --accelerator cpu --method.view tiny --out run --plan"
    assert main(words.split()) == 0
    said = capsys.readouterr().out
    assert "4 times 16 samples (measured)" in said
    assert "for exchanging" in said
    assert "28 updates, 1,797 samples" in said
    assert "for 2 epochs" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("together", "devices"), [(True, 2), (False, 1)])
def test_updates_are_tried_on_as_many_devices_as_are_asked_for(
    together: bool, devices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[tuple[int, int]]()

    def fit(learner: Any, settings: Settings, callbacks: list[Any], loggers: list[Any], strategy: Any) -> None:
        asked.append((settings.devices, settings.batch_size))
        assert (strategy is None) == together
        learner.meter["samples"] = settings.batch_size
        callbacks[0].seconds = 0.1

    monkeypatch.setattr(cost, "fit", fit)
    monkeypatch.setattr(cost, "cores", lambda: 2)
    settings = Settings(steps=1, batch_size=128, devices=2, accelerator="cpu")
    found = foresee(simclr(), digits(), settings, together=together)
    # Every device has 16 samples, 32 and 64, its share, and one alone is the first of two.
    assert asked == [(devices, 2 * size) for size in (16, 32, 64)]
    assert (found.together, found.sizes) == (together, (16, 32, 64))


@pytest.mark.skipif(cores() < 2, reason="two processes are tried together where each has a core")
def test_processes_that_one_machine_has_are_tried_together(tmp_path: Path) -> None:
    words = "pretrain simclr --data digits --encoder small:convnet?width=4 --batch-size 64 --steps 100 --devices 2"
    words += " --accelerator cpu --method.view tiny --out run --plan"
    command = [sys.executable, "-m", "autodidact", *words.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    # The second process says nothing.
    assert done.stdout.count("what it would cost") == 1
    assert "2 times 32 samples (measured, 2 devices together, what they exchange included)" in done.stdout
    assert "for exchanging" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_what_a_training_of_all_devices_would_not_be_like_is_not_tried_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "cores", lambda: 2)
    here = Settings(steps=1, batch_size=16, devices=2, accelerator="cpu")
    assert cost._all_here(here, gpu=False)
    for other in ({"devices": 4}, {"nodes": 2}, {"accumulate": 2}, {"sharding": "full"}):
        assert not cost._all_here(replace(here, **other), gpu=False)


def test_what_is_exchanged_is_not_counted_twice() -> None:
    together = replace(KNOWN, together=True)
    assert together.exchange(link=100) == 0
    assert together.update(link=100) == pytest.approx(2 * 2.5)


def test_a_recipe_is_not_planned(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "g_simclr", "--data", "digits", "--plan"]) == 2
    assert "several trainings in a row" in capsys.readouterr().err
