from __future__ import annotations

from collections.abc import Callable, Iterator

import jaxtyping
import pytest
import torch
from torch import Tensor


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Without the run-time check of signatures, as once installed: the errors of the function itself show."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def waves() -> Callable[[int, int], list[Tensor]]:
    """Two float64 views (n, d) by a formula: inputs of expected values that hang on no random generator."""

    def views(n: int, d: int) -> list[Tensor]:
        i, j = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(d, dtype=torch.float64)
        first = torch.sin(i * i + 2 * j + 0.3 * i * j)
        return [z.requires_grad_() for z in (first, first + 0.5 * torch.cos(3 * i + j * j))]

    return views
