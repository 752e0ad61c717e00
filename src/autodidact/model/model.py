"""Model: weights (safetensors) + settings (JSON) + declared abilities."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

import autodidact
from autodidact.catalog import model_kinds
from autodidact.data.batch import Batch

Ability = Literal["embed", "predict", "parse", "generate", "score", "choose", "search", "act"]

WEIGHTS, SETTINGS = "model.safetensors", "model.json"


class Model(nn.Module, ABC):
    """Something that can be used: saved, loaded, applied.

    A kind of model is a subclass that says how to build itself from its settings, and has a method for each ability
    that it declares. Every ability takes a `Batch` and returns a tensor, a list of text, or several of these by name,
    with a row a sample.

    Attributes
    ----------
    kind : name under which `load_model` finds the class.
    abilities : names of the methods that make sense.
    settings : JSON-ready; everything but the weights.
    """

    kind: ClassVar[str]
    abilities: tuple[Ability, ...] = ()
    settings: dict[str, Any]

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Model:
        """Build the model, weights at random, from what `settings` held when it was saved."""

    def can(self, ability: Ability) -> None:
        """Raise ValueError when the model lacks an ability."""
        if ability not in self.abilities:
            raise ValueError(
                f"this model ({self.kind}) cannot {ability}; it can {', '.join(self.abilities) or 'nothing'}"
            )

    def save(self, folder: str | Path) -> Path:
        """Write weights and settings; each file is written aside, synced and renamed."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        described = {
            "kind": self.kind,
            "abilities": list(self.abilities),
            "settings": self.settings,
            "autodidact": autodidact.__version__,
        }
        write_aside(folder / WEIGHTS, save(_own_storage(self.state_dict())))
        write_json(folder / SETTINGS, described)
        return folder


class Weightless(Model):
    """A model whose whole state is its settings: a tuned prompt, a procedure around another model."""

    def save(self, folder: str | Path) -> Path:
        if self.state_dict():
            raise ValueError("a weightless model must have no parameters")
        return super().save(folder)


def load_model(
    folder: str | Path, *, device: str | torch.device = "cpu", kinds: Mapping[str, type[Model]] | None = None
) -> Model:
    """Read a model that `Model.save` wrote. Nothing in the folder is executed.

    Parameters
    ----------
    folder : holds model.json and model.safetensors; a run folder is accepted too.
    device : where the weights go.
    kinds : further kinds of models, by name, beside those of the catalogue.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"no such run or model: {folder}")
    if not (folder / SETTINGS).exists() and (folder / "model" / SETTINGS).exists():
        folder = folder / "model"
    if not (folder / SETTINGS).exists():
        raise FileNotFoundError(f"{folder} holds no finished model ({SETTINGS} is missing)")
    try:
        described = json.loads((folder / SETTINGS).read_text())
    except ValueError as error:
        raise ValueError(f"{folder / SETTINGS} is damaged: {error}") from error
    known = {**(kinds or {})}
    cls = known.get(described["kind"]) or model_kinds.resolve(described["kind"])
    model = cls.from_settings(described["settings"])
    try:
        weights = load_file(folder / WEIGHTS, device="cpu")
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged: {error}") from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f"the weights of {folder} do not fit its settings: {reason}") from error
    model.abilities = tuple(described["abilities"])
    return model.eval().to(device)


def write_aside(path: Path, content: bytes) -> None:
    """Write a file so that it is never seen half-written: aside, fsync, rename. Where that fails, as on a full disk,
    nothing of it is left, and the OSError names the file."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: Path, content: Any) -> None:
    """Write plain data as JSON, aside first."""
    write_aside(path, json.dumps(content, indent=1).encode())


def _own_storage(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies where tensors share memory, which safetensors refuses."""
    seen: set[int] = set()
    owned = {}
    for name, tensor in state.items():
        pointer = tensor.untyped_storage().data_ptr()
        owned[name] = tensor.detach().clone().contiguous() if pointer in seen else tensor.detach().contiguous()
        seen.add(pointer)
    return owned


def embed(model: Model, batch: Batch) -> Tensor:
    """Embeddings of a batch, (n, d), without gradient."""
    model.can("embed")
    with torch.inference_mode():
        return model.embed(batch)  # type: ignore[operator]
