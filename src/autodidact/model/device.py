"""Where a model works."""

from __future__ import annotations

from typing import Literal

import torch


def pick_device(asked: str = "auto") -> Literal["cpu", "cuda"]:
    """What was asked: "auto" takes a GPU where there is one.

    Raises
    ------
    ValueError
        Neither "auto" nor "cpu" nor "gpu" ("cuda"), or a GPU where there is none.
    """
    if asked not in ("auto", "cpu", "gpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or gpu, got '{asked}'")
    if asked in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError("no GPU was found; use --device cpu")
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"
