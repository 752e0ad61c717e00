"""Networks here are so small that a second thread costs more than it brings."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autodidact.data import open_source
from autodidact.measures import knn_predict
from autodidact.methods.method import Method
from autodidact.model import Model
from autodidact.training import Settings, train
from autodidact.training.callbacks import Checkpoints


@pytest.fixture(autouse=True)
def _one_thread(_two_threads: None) -> None:
    torch.set_num_threads(1)


@pytest.fixture
def wavy() -> Callable[[nn.Module], nn.Module]:
    """Fills a module, in float64, by a formula that hangs on no random generator and on no name or order of its parts.

    Expected values are those of other implementations that were given the same weights.
    """

    def fill(module: nn.Module) -> nn.Module:
        module.double()
        with torch.no_grad():
            for part in module.modules():
                for name, parameter in part.named_parameters(recurse=False):
                    i = torch.arange(parameter.numel(), dtype=torch.float64)
                    wave = torch.sin(parameter.numel() + 0.7 * i + 0.01 * i * i).view(parameter.shape)
                    if parameter.ndim == 1:
                        parameter.copy_(0.2 * wave + float(isinstance(part, nn.LayerNorm) and name == "weight"))
                    else:
                        parameter.copy_(wave * parameter[0].numel() ** -0.5)
        return module

    return fill


@pytest.fixture
def taught() -> Callable[..., tuple[Model, float, float]]:
    """Trains a method on 1,200 digits: the model, and its kNN accuracy on the 597 others before and after."""
    digits = open_source("digits", progress=False)
    labels = torch.from_numpy(np.asarray(digits.column("label")))

    def accuracy(model: Model) -> float:
        with torch.no_grad():
            rows = model.eval().embed(digits.batch(np.arange(len(digits))))
        return float((knn_predict(rows[:1200], labels[:1200], rows[1200:]) == labels[1200:]).float().mean())

    def teach(method: Method, steps: int, **settings: object) -> tuple[Model, float, float]:
        before = accuracy(method.kept())
        asked = {"steps": steps, "batch_size": 64, "lr": 3e-3, **settings}
        model = train(method, digits.at(np.arange(1200)), Settings(**asked), quiet=True)
        return model, before, accuracy(model)

    return teach


@pytest.fixture
def cut_and_resumed(monkeypatch) -> Callable[..., Any]:
    """``cut_and_resumed(whole, folder, run, stages)``: what a run gives that was cut off in the first of some stages.

    The folder of a whole run is copied without these stages, and `run(folder)`, with a checkpoint after every update,
    ends at the first checkpoint of the first of them; then it runs again.
    """

    def resume(whole: Path, folder: Path, run: Callable[[Path], Any], stages: Sequence[str]) -> Any:
        shutil.copytree(whole, folder)
        for stage in stages:
            shutil.rmtree(folder / "stages" / stage)
        save = Checkpoints.save

        def saving(self: Checkpoints, learner: Any) -> None:
            save(self, learner)
            if self.folder.parent.name == stages[0]:
                raise InterruptedError

        with monkeypatch.context() as patched:
            patched.setattr(Checkpoints, "save", saving)
            with pytest.raises(InterruptedError):
                run(folder)
        assert not (folder / "stages" / stages[0] / "done.json").exists()
        return run(folder)

    return resume
