"""Saving and loading: exact, without executing anything, and clear about what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from torch import Tensor, nn

from autodidact.data import Batch
from autodidact.model import Model, Weightless, load_model
from autodidact.model.model import embed


class Scale(Model):
    """Multiplies; two names for one weight, and one weight that is a slice of another's memory."""

    kind: ClassVar[str] = "scale"

    def __init__(self, size: int) -> None:
        super().__init__()
        self.settings = {"size": size}
        self.abilities = ("embed",)
        whole = torch.arange(2.0 * size)
        self.first = nn.Parameter(whole[:size])
        self.register_buffer("rest", whole[size:])
        self.twin = self.first

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        return cls(settings["size"])

    def embed(self, batch: Batch) -> Tensor:
        return batch["x"] * self.first + self.rest


class Prompt(Weightless):
    """A text."""

    kind: ClassVar[str] = "prompt"

    def __init__(self, text: str) -> None:
        super().__init__()
        self.settings = {"text": text}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        return cls(settings["text"])


KINDS = {"scale": Scale, "prompt": Prompt}


def test_shared_weights_come_back_exactly(tmp_path: Path) -> None:
    model = Scale(3)
    with torch.no_grad():
        model.first.mul_(0.1)
    again = load_model(model.save(tmp_path), kinds=KINDS)
    batch = Batch(torch.arange(2), {"x": torch.rand(2, 3)})
    assert torch.equal(embed(again, batch), embed(model, batch))
    assert not again.training


def test_a_model_without_weights_is_its_settings(tmp_path: Path) -> None:
    again = load_model(Prompt("Think twice.").save(tmp_path), kinds=KINDS)
    assert again.settings == {"text": "Think twice."}
    with pytest.raises(ValueError, match=r"\(prompt\) cannot embed; it can nothing"):
        again.can("embed")


def test_a_run_folder_stands_for_its_model(tmp_path: Path) -> None:
    Scale(2).save(tmp_path / "model")
    assert isinstance(load_model(tmp_path, kinds=KINDS), Scale)


def test_saving_again_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    Scale(2).save(tmp_path)
    Scale(5).save(tmp_path)
    assert load_model(tmp_path, kinds=KINDS).settings == {"size": 5}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_what_cannot_be_loaded_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such run or model"):
        load_model(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="holds no finished model"):
        load_model(tmp_path)
    Scale(2).save(tmp_path)
    with pytest.raises(ValueError, match="unknown kind of model 'scale'"):
        load_model(tmp_path)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    Scale(2).save(tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    described["settings"]["size"] = 3
    (tmp_path / "model.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=r"weights of .* do not fit its settings"):
        load_model(tmp_path, kinds=KINDS)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    Scale(2).save(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load_model(tmp_path, kinds=KINDS)
    (tmp_path / "model.json").write_text('{"kind": "sca')
    with pytest.raises(ValueError, match=r"model\.json is damaged"):
        load_model(tmp_path, kinds=KINDS)
