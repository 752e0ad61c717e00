"""Counts what would make a host wait for an accelerator, on a CPU."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class Waits(TorchDispatchMode):
    """Counts the values of tensors that are asked for inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.name().startswith(("aten::_local_scalar_dense", "aten::nonzero", "aten::equal"))
        return func(*args, **(kwargs or {}))
