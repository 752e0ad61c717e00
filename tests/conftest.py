"""Shapes in signatures are checked while the tests run; no test uses the network, or more threads than it is given."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

from jaxtyping import config, install_import_hook

install_import_hook(
    [
        f"autodidact.{room}"
        for room in (
            "encoders",
            "heads",
            "measures",
            "model",
            "objectives",
            "schedules",
            "selection",
            "targets",
            "views",
        )
    ],
    "beartype.beartype",
)

import pytest
import torch


@pytest.fixture(autouse=True)
def _two_threads() -> None:
    # More threads than cores, as with several test processes, wait for each other instead of working.
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture
def wrong_types() -> Iterator[None]:
    """For tests that hand over what a signature forbids, to see what a user is told."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
