"""How a language model is trained unless it is said otherwise; plain data, which the command line shows."""

from __future__ import annotations

from typing import Any

TRAINING: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 16,
    "lr": 5e-5,
    "weight_decay": 0.0,
    "schedule": "linear",
    "clip_norm": 1.0,
}
ADAPTER_LR = 2e-4
"""The peak learning rate where an adapter is trained."""
