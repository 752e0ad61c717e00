"""Small runs of every kind, trained once for all tests of the report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from report_runs import NARROW, SETTINGS, image_source, table_source

from autodidact.verbs.pretrain import pretrain


@pytest.fixture(scope="session")
def labelled_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "labelled"
    pretrain("simclr", image_source(), out=folder, encoder=NARROW, settings=SETTINGS, report=False, quiet=True)
    return folder


@pytest.fixture(scope="session")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "table"
    arguments = {"width": 8, "heads": 2, "depth": 1}
    pretrain(
        "t_jepa",
        table_source(),
        out=folder,
        encoder_arguments=arguments,
        method_arguments={"hidden": 8, "depth": 1, "heads": 2},
        settings=SETTINGS,
        report=False,
        quiet=True,
    )
    return folder


@pytest.fixture(scope="session")
def recipe_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "recipe"
    pretrain(
        "g_simclr",
        image_source(),
        out=folder,
        encoder=NARROW,
        method_arguments={"autoencoder_epochs": 1, "clusters": 32},
        settings=SETTINGS,
        report=False,
        quiet=True,
    )
    return folder


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a run that a test may change."""
    return lambda run: shutil.copytree(run, tmp_path / run.name)
