"""Asking the system for size and time of many files, by one process or several."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autodidact.data import asking
from autodidact.data.asking import GONE, OTHER, asked, asked_together
from autodidact.data.folder import list_images

NAMES = [f"{number}.png" for number in range(7)] + ["with\nline.png", "dangling.png", "pipe.png", "\udcff.png", "é.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        if name == "dangling.png":
            (tmp_path / name).symlink_to("nowhere")
        elif name == "pipe.png":
            os.mkfifo(tmp_path / name)
        else:
            (tmp_path / name).write_bytes(bytes(number))
            os.utime(tmp_path / name, ns=(0, 10**18 + number))
    return tmp_path


def wanted() -> list[int]:
    special = {"dangling.png": [GONE, 0], "pipe.png": [OTHER, 0]}
    return [n for i, name in enumerate(NAMES) for n in special.get(name, [i, 10**18 + i])]


@pytest.mark.parametrize("processes", [1, 2, 5, 100])
def test_any_number_of_processes_answers_alike(folder: Path, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "WORTH_A_PROCESS", 2)
    here: list[int] = []

    def counted(names: list[str], at: int | None = None) -> object:
        here.append(len(names))
        return asked(names, at)

    monkeypatch.setattr(asking, "asked", counted)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        assert list(asked_together(NAMES, str(folder), descriptor, processes)) == wanted()
    finally:
        os.close(descriptor)
    # This process asked for its own share alone: the others answered for theirs.
    assert here == [{1: 12, 2: 6, 5: 3, 100: 2}[processes]]


def test_what_another_process_does_not_answer_is_asked_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "WORTH_A_PROCESS", 2)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        for program in ("/nowhere", "/bin/true", "/bin/echo"):
            monkeypatch.setattr(asking.sys, "executable", program)
            assert list(asked_together(NAMES, str(folder), descriptor, 3)) == wanted()
    finally:
        os.close(descriptor)


def test_no_files_are_asked_for_nothing(tmp_path: Path) -> None:
    assert list(asked([])) == []
    assert list(asked_together([], str(tmp_path), -1, 4)) == []


def test_a_folder_is_listed_alike_by_several_processes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = list_images(folder)
    monkeypatch.setattr(asking, "WORTH_A_PROCESS", 1)
    monkeypatch.setattr("autodidact.data.folder.cores", lambda: 3)
    shared = list_images(folder)
    assert (shared.names, shared.digest, shared.skipped) == (alone.names, alone.digest, alone.skipped)
    assert [one["name"] for one in shared.skipped] == ["pipe.png"]
