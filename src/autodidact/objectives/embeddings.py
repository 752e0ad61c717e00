"""The edge of every two-view objective: what it accepts, and in which precision it computes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """float32 for every narrower or integer dtype; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()


def full_precision_region(device: torch.device) -> torch.autocast:
    """A context in which autocast is off, so that matrix products stay in the dtype they are given."""
    return torch.autocast(device.type, enabled=False)


def check_views(name: str, z1: Tensor, z2: Tensor, called: tuple[str, str] = ("first", "second")) -> None:
    """Refuse what is not a pair of equally shaped (N, D) floating-point matrices on one device.

    Finiteness is checked on the CPU only: elsewhere it would make every step wait for the device, and there a NaN
    reaches the loss, where the trainer stops and names the term.
    """
    for position, z in zip(called, (z1, z2), strict=True):
        if z.ndim != 2:
            raise ValueError(f"{name}: the {position} view must be a matrix (N, D), got shape {tuple(z.shape)}")
        if not z.is_floating_point():
            raise ValueError(f"{name}: the {position} view must be floating point, got {z.dtype}")
    if z1.shape != z2.shape:
        raise ValueError(
            f"{name}: the two views must have one shape (N, D) with row i of both from sample i, "
            f"got {tuple(z1.shape)} and {tuple(z2.shape)}"
        )
    if z1.device != z2.device:
        raise ValueError(f"{name}: the two views lie on different devices, {z1.device} and {z2.device}")
    if z1.device.type == "cpu" and not torch.compiler.is_compiling():
        for position, z in zip(called, (z1, z2), strict=True):
            check_finite(f"{name}: the {position} view", z)


class NotFinite(ValueError):
    """NaN or infinity where numbers were expected; in a training, the sign that it has diverged."""


def check_finite(what: str, z: Tensor) -> None:
    """`NotFinite` naming the columns and the number of rows that hold NaN or infinity."""
    finite = torch.isfinite(z.detach())
    if finite.all():
        return
    columns = (~finite).any(dim=0).nonzero().flatten().tolist()
    shown = ", ".join(map(str, columns[:5])) + (", ..." if len(columns) > 5 else "")
    rows = int((~finite).any(dim=1).sum())
    raise NotFinite(f"{what} holds NaN or infinite values in {rows} of {z.shape[0]} rows, column(s) {shown}")


def check_temperature(name: str, value: float, parameter: str = "temperature") -> None:
    if not value > 0:
        raise ValueError(f"{name}: {parameter} must be a positive number, got {value}")


def unit_rows(z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows divided by their length. An all-zero row has no direction: it stays zero and takes no gradient."""
    length = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    return z / length.masked_fill(length == 0, torch.inf)
