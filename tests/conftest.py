"""Shapes in signatures are checked while the tests run; every test uses two threads and no network."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

from jaxtyping import install_import_hook

install_import_hook(
    [f"autodidact.{room}" for room in ("objectives", "measures", "views", "schedules", "selection")],
    "beartype.beartype",
)

import pytest
import torch


@pytest.fixture(autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
