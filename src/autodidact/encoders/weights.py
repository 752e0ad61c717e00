"""Weights of a file into a network; nothing in the file is executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name of a safetensors file, a pth file, or a folder: that of a run, or one with model.safetensors."""
    if path.is_dir():
        inner = path / "model" / "model.safetensors"
        path = inner if inner.is_file() else path / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, LookupError, ValueError) as broken:
        raise ValueError(f"{path} holds no weights that can be read: {broken}") from broken
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not (isinstance(loaded, Mapping) and all(isinstance(value, Tensor) for value in loaded.values())):
        raise ValueError(f"{path} holds no tensors by name")
    return {name.removeprefix("module."): value for name, value in loaded.items()}


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the weights of a file, all of them, into a network of the same shape.

    The names may carry the prefix under which a saved model holds its encoder.
    """
    weights = read_weights(path)
    wanted = set(network.state_dict())
    probe = min(wanted)
    for prefix in sorted({name.removesuffix(probe) for name in weights if name.endswith(probe)}, key=len):
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        if wanted <= set(own):
            try:
                network.load_state_dict({name: own[name] for name in wanted})
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[-1].strip()
                raise ValueError(f"the weights of {path} do not fit this network: {reason}") from error
            return
    missing = sorted(wanted - set(weights))
    raise ValueError(f"{path} lacks {len(missing)} of {len(wanted)} weights, first '{missing[0]}'")
