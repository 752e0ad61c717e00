"""Running the command line inside the test's own process."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

from autodidact.cli.main import main


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys, monkeypatch, tmp_path) -> Callable[..., Said]:
    """``run("pretrain", "dcl", ...)`` in an empty folder: exit code and what was printed."""
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> Said:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return Said(code, out, err)

    return command


@pytest.fixture(autouse=True)
def _one_thread(_two_threads: None) -> None:
    # Networks this small gain nothing from a second thread, and lose much where cores are shared.
    torch.set_num_threads(1)
