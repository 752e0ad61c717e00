"""Monitors: how often they look, which must not show in what they see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.methods.image.simclr import SimCLR
from autodidact.training import Settings, callbacks, train
from autodidact.training.callbacks import APART, FEWEST, look_every
from autodidact.training.journal import read_metrics


@pytest.mark.parametrize("own", [100, 1_000, 10_000, 1_000_000])
@pytest.mark.parametrize("share", [1, 16, 256, 100_000])
@pytest.mark.parametrize("epoch_steps", [0, 7, 1_000])
def test_a_process_sees_many_samples_between_looks_unless_that_left_too_few_of_them(
    own: int, share: int, epoch_steps: int
) -> None:
    every = look_every(own, epoch_steps, share)
    assert every >= 10
    assert every >= epoch_steps // 4
    assert own // every <= 50
    assert every * share > APART - share or own // every <= FEWEST + 1


def test_a_training_is_looked_at_as_often_as_before_where_its_batches_are_large() -> None:
    assert look_every(500, 40, APART) == 25
    assert look_every(20_000, 4_000, APART) == 1_000


def test_a_rarer_look_sees_what_a_frequent_one_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 8, 8, 3), dtype=np.uint8)

    def looked(name: str, steps: int = 40) -> dict[int, dict[str, float]]:
        torch.manual_seed(0)
        method = SimCLR(build("small:convnet?width=2", schema=open_source(pixels, progress=False).schema))
        settings = Settings(steps=steps, batch_size=4, accelerator="cpu", devices=1)
        train(method, open_source(pixels, progress=False), settings, out=tmp_path / name, quiet=True)
        found: dict[int, dict[str, float]] = {}
        for step, figure, value in read_metrics(tmp_path / name / "log" / "metrics.csv"):
            if not figure.startswith(("loss", "lr")):
                found.setdefault(step, {})[figure] = value
        return found

    often = looked("often")
    monkeypatch.setattr(callbacks, "FEWEST", 2)
    seldom = looked("seldom")
    assert list(often) == [10, 20, 30, 40]
    assert list(seldom) == [20, 40]
    assert seldom == {step: often[step] for step in seldom}
    assert {"rankme/embedding", "uniformity", "gradient_norm"} <= seldom[40].keys()
    monkeypatch.undo()
    last = looked("once more at the end", steps=25)
    assert list(last) == [10, 20, 25]
    assert last[25].keys() == last[20].keys()
