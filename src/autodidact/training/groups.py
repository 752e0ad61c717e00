"""From a method's groups to one optimiser: decay exemptions, learning-rate scales, freezing."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from autodidact.methods.method import Group, Method, Progress
from autodidact.objectives.shards import is_spread
from autodidact.training.lars import LARS
from autodidact.training.settings import Settings


def optimiser(method: Method, settings: Settings) -> Optimizer:
    """One optimiser over all groups of a method.

    Each group becomes up to two parameter groups: one that decays and one of norms, biases and other vectors that does
    not (nor is adapted by LARS). Every parameter group carries ``group``, ``decays`` and ``lr_scale``, and for `moves`
    ``frozen_until`` and ``frozen_share``.
    """
    entries: list[dict[str, Any]] = []
    taken: set[int] = set()
    for group in method.groups():
        decaying, exempt = _divide(group, taken)
        for parameters, decays in ((decaying, group.decay), (exempt, False)):
            # What is spread over devices cannot be moved in one call with what is not; runs keep the order.
            for _, alike in groupby(parameters, is_spread):
                entries.append(
                    {
                        "params": list(alike),
                        "weight_decay": settings.weight_decay if decays else 0.0,
                        "group": group.name,
                        "decays": decays,
                        "lr_scale": group.lr_scale,
                        "frozen_until": group.frozen_until,
                        "frozen_share": group.frozen_share,
                    }
                )
                if settings.optimizer == "lars":
                    entries[-1]["adapt"] = decays
    if not entries:
        raise ValueError(f"{type(method).__name__} has nothing to train")
    if settings.optimizer == "adamw":
        return AdamW(entries, lr=settings.lr, fused=True)
    if settings.optimizer == "sgd":
        # torch has no fused step of SGD for tensors that are spread over devices.
        how = {"foreach" if any(is_spread(p) for entry in entries for p in entry["params"]) else "fused": True}
        return SGD(entries, lr=settings.lr, momentum=settings.momentum, **how)
    return LARS(entries, lr=settings.lr, momentum=settings.momentum)


def moves(group: Mapping[str, Any], progress: Progress) -> bool:
    """Whether a parameter group is no longer frozen."""
    return progress.step >= max(group["frozen_until"], round(group["frozen_share"] * progress.total))


def _divide(group: Group, taken: set[int]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    decaying: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for parameter in group.parameters:
        if not parameter.requires_grad:
            continue
        if id(parameter) in taken:
            raise ValueError(f"group '{group.name}' repeats a parameter of an earlier group")
        taken.add(id(parameter))
        (exempt if parameter.ndim <= 1 else decaying).append(parameter)
    return decaying, exempt
