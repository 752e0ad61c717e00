"""Checkpoints: one safetensors file, whole or absent, from which training goes on exactly. Nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from autodidact.model.model import write_aside
from autodidact.objectives.shards import is_spread

LAST, NEXT, PREVIOUS = "last.safetensors", "next.safetensors", "previous.safetensors"


@dataclass
class Checkpoint:
    """State of a training between two updates.

    Attributes
    ----------
    tensors : "method.*", "average.*" and "optimiser.<parameter index>.<key>".
    progress : JSON-ready: updates done, extra draws, meters, settings that must not change.
    """

    tensors: dict[str, Tensor]
    progress: dict[str, Any]


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Write aside, sync, rename; the checkpoint before stays as the previous one."""
    folder.mkdir(parents=True, exist_ok=True)
    content = save(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in checkpoint.tensors.items()},
        metadata={"progress": json.dumps(checkpoint.progress)},
    )
    last = folder / LAST
    aside = folder / NEXT
    write_aside(aside, content)
    if last.exists():
        last.replace(folder / PREVIOUS)
    aside.replace(last)


def read(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint in a folder, None where there is none."""
    for name in (LAST, NEXT, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, RuntimeError):
            # Torn, or just renamed by the run that writes it.
            continue
        return Checkpoint(tensors, json.loads(metadata["progress"]))
    return None


def optimiser_tensors(optimiser: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as tensors by name, and what of it is not a tensor."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for index, entry in optimiser.state_dict()["state"].items():
        for key, value in entry.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{index}.{key}"] = value
            elif value is not None:
                scalars[f"{index}.{key}"] = value
    return tensors, scalars


def restore_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
    """Put back what `optimiser_tensors` took out; learning rates stay those of the optimiser.

    State of a parameter's shape gets its layout in memory too (channels last, for convolutions): fused updates walk
    through parameter, gradient and state side by side and would take a file's plain order for another.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        _, index, key = name.split(".", 2)
        like = parameters[int(index)]
        state.setdefault(int(index), {})[key] = laid_out_like(like, tensor) if tensor.shape == like.shape else tensor
    for name, value in scalars.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def laid_out_like(like: Tensor, whole: Tensor) -> Tensor:
    """Values in the memory layout of another tensor, on its device, and spread over devices as it is."""
    if not is_spread(like):
        return torch.empty_like(like, dtype=whole.dtype).copy_(whole)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]


def by_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix.``, without it."""
    start = prefix + "."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def finite(state: Mapping[str, Tensor]) -> bool:
    """Whether every floating tensor is finite."""
    return all(bool(torch.isfinite(t).all()) for t in state.values() if t.is_floating_point())
