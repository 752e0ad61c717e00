"""Networks here are so small that a second thread costs more than it brings."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def _one_thread(_two_threads: None) -> None:
    torch.set_num_threads(1)


@pytest.fixture
def wavy() -> Callable[[nn.Module], nn.Module]:
    """Fills a module, in float64, by a formula that hangs on no random generator and on no name or order of its parts.

    Expected values are those of other implementations that were given the same weights.
    """

    def fill(module: nn.Module) -> nn.Module:
        module.double()
        with torch.no_grad():
            for part in module.modules():
                for name, parameter in part.named_parameters(recurse=False):
                    i = torch.arange(parameter.numel(), dtype=torch.float64)
                    wave = torch.sin(parameter.numel() + 0.7 * i + 0.01 * i * i).view(parameter.shape)
                    if parameter.ndim == 1:
                        parameter.copy_(0.2 * wave + float(isinstance(part, nn.LayerNorm) and name == "weight"))
                    else:
                        parameter.copy_(wave * parameter[0].numel() ** -0.5)
        return module

    return fill
