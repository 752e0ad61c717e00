"""Protocols that say what a model is worth, and the Table of their figures. Nothing heavy is imported before use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autodidact.evaluation.finetune import Tuning
    from autodidact.evaluation.measure import Measurement
    from autodidact.evaluation.protocols import PROTOCOLS
    from autodidact.evaluation.table import Table

__all__ = ["PROTOCOLS", "Measurement", "Table", "Tuning"]

_ROOMS = {"PROTOCOLS": "protocols", "Measurement": "measure", "Table": "table", "Tuning": "finetune"}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
