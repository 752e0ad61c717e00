"""Cards and method pages; networks here are tiny."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread(_two_threads: None) -> None:
    # Networks this small gain nothing from a second thread, and lose much where cores are shared.
    torch.set_num_threads(1)
