"""The example in CONTRIBUTING.md works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from autodidact.cli.main import main
from autodidact.data import open_source
from autodidact.measures import alignment, uniformity
from autodidact.methods.method import Progress
from autodidact.recipes.names import find
from autodidact.training.journal import read_metrics

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()


@pytest.fixture
def example(tmp_path, monkeypatch) -> str:
    (code,) = re.findall(r"<!-- example -->\n```python\n(.*?)```\n<!-- /example -->", TEXT, re.DOTALL)
    (tmp_path / "align_uniform.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    return "align_uniform.py:AlignUniform"


def test_the_example_learns_from_the_command_line_and_its_options_are_explained(example, tmp_path, capsys):
    assert main(["pretrain", example, "--help"]) == 0
    assert "--method.weight X" in capsys.readouterr().out
    images = open_source("digits").read(np.arange(256))["image"].numpy()
    np.save(tmp_path / "digits.npy", images.transpose(0, 2, 3, 1))
    words = ["--data", "digits.npy", "--out", "run", "--epochs", "6", "--batch-size", "32", "--method.weight", "0.5"]
    words += ["--encoder", "small:convnet", "--encoder.width", "8", "--no-report", "--quiet", "--accelerator", "cpu"]
    assert main(["pretrain", example, *words]) == 0
    losses = [value for _, name, value in read_metrics(tmp_path / "run/log/metrics.csv") if name == "loss"]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert (tmp_path / "run/model/model.safetensors").exists()


def test_the_loss_of_the_example_is_made_of_the_two_measures_of_its_paper(example):
    from autodidact.encoders import build

    cls, _ = find(example)
    digits = open_source("digits")
    method = cls(build("small:convnet", schema=digits.schema, width=8), weight=0.5, t=3.0)
    progress = Progress(0, 1, 0, torch.Generator().manual_seed(0))
    loss = method.loss(method.views(digits.batch(np.arange(32)), progress), progress)
    one, two = loss.watch["projection"].detach().chunk(2)
    assert float(loss.terms["align"]) == pytest.approx(alignment(one, two), rel=1e-4)
    spread = (uniformity(one, t=3.0) + uniformity(two, t=3.0)) / 2
    assert float(loss.terms["uniform"]) == pytest.approx(spread, rel=1e-4)
    assert float(loss.total) == pytest.approx(alignment(one, two) + 0.5 * spread, rel=1e-4)


def test_files_and_commands_that_it_names_exist():
    root = Path(__file__).parents[2]
    for named in re.findall(r"`((?:src|tests|docs|recipes)/[\w/.]+)`", TEXT):
        path = root / named if not named.startswith("recipes") else root / "src/autodidact" / named
        assert path.exists() or "align_uniform" in named, named
    targets = set(re.findall(r"^(\w+):", (root / "Makefile").read_text(), re.MULTILINE))
    assert {"test", "format", "lock", "clean", "readme", "claims"} <= targets
