"""The example in CONTRIBUTING.md works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from autodidact.cli.main import main
from autodidact.data import open_source
from autodidact.recipes.names import find
from autodidact.training.journal import read_metrics

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()


@pytest.fixture
def example(tmp_path, monkeypatch) -> str:
    (code,) = re.findall(r"<!-- example -->\n```python\n(.*?)```\n<!-- /example -->", TEXT, re.DOTALL)
    (tmp_path / "byol.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    return "byol.py:BYOL"


def test_the_example_learns_from_the_command_line_and_its_options_are_explained(example, tmp_path, capsys):
    assert main(["pretrain", example, "--help"]) == 0
    assert "--method.momentum X" in capsys.readouterr().out
    images = open_source("digits").read(np.arange(256))["image"].numpy()
    np.save(tmp_path / "digits.npy", images.transpose(0, 2, 3, 1))
    words = ["--data", "digits.npy", "--out", "run", "--epochs", "6", "--batch-size", "32", "--method.momentum", "0.9"]
    words += ["--encoder", "small:convnet", "--encoder.width", "8", "--no-report", "--quiet", "--accelerator", "cpu"]
    assert main(["pretrain", example, *words]) == 0
    losses = [value for _, name, value in read_metrics(tmp_path / "run/log/metrics.csv") if name == "loss"]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert (tmp_path / "run/model/model.safetensors").exists()


def test_the_slow_copy_of_the_example_follows_the_network(example):
    from autodidact.encoders import build

    cls, _ = find(example)
    method = cls(build("small:convnet", schema=open_source("digits").schema, width=8), momentum=0.75)
    slow = {name: value.clone() for name, value in method.slow_head.module.state_dict().items()}
    with torch.no_grad():
        for parameter in method.head.parameters():
            parameter += 1.0
    method.after_update(None)
    for name, parameter in method.slow_head.module.named_parameters():
        torch.testing.assert_close(parameter, slow[name] + 0.25)


def test_files_and_commands_that_it_names_exist():
    root = Path(__file__).parents[2]
    for named in re.findall(r"`((?:src|tests|docs|recipes)/[\w/.]+)`", TEXT):
        path = root / named if not named.startswith("recipes") else root / "src/autodidact" / named
        assert path.exists() or "byol" in named, named
    targets = set(re.findall(r"^(\w+):", (root / "Makefile").read_text(), re.MULTILINE))
    assert {"test", "format", "lock", "clean", "readme", "claims"} <= targets
