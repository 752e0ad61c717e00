"""Data is called after the folder that it lies in, however that folder is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autodidact.data.places import place_name
from autodidact.report.run_folder import read_run
from autodidact.training import Settings
from autodidact.verbs.pretrain import pretrain, run_folder


@pytest.mark.parametrize("place", [".", "./", "shards:.", "sub/..", "../photos", "photos/../."])
def test_a_place_without_a_name_of_its_own_is_called_after_its_folder(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "photos")
    assert place_name(place) == "photos"
    assert run_folder("mae", place) == Path("runs/mae-photos")
    monkeypatch.chdir("sub")
    assert place_name("..") == "photos"


@pytest.mark.parametrize(
    ("place", "name"),
    [("a/b.npy", "b.npy"), ("hf:org/words", "words"), ("digits", "digits"), ("s3://b/t-{0..1}.tar", "t-{0..1}.tar")],
)
def test_a_place_with_a_name_keeps_it(place: str, name: str) -> None:
    assert place_name(place) == name


def test_a_run_on_a_folder_said_by_a_dot_names_it_wherever_its_report_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    folder = tmp_path / "garments"
    folder.mkdir()
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    monkeypatch.chdir(folder)
    settings = Settings(steps=1, batch_size=8, accelerator="cpu")
    pretrain(
        *("simclr", "."),
        out=tmp_path / "run",
        encoder="small:convnet?width=4",
        settings=settings,
        cache=False,
        report=False,
        quiet=True,
    )
    monkeypatch.chdir(tmp_path)
    assert read_run(tmp_path / "run").data == "garments"
