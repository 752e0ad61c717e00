"""select: from a model, a pool and a target to a list of files that training takes as its data."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel
from autodidact.verbs.select import select

BRIGHT, DARK = 220, 30


def put(path: Path, value: int, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.clip(value + rng.integers(-12, 12, (8, 8)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A target of bright images, and a pool of 12 bright and 24 dark ones and a copy of one of the target."""
    monkeypatch.setenv("AUTODIDACT_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for i in range(6):
        put(tmp_path / "target" / f"{i}.png", BRIGHT, rng)
    for i in range(36):
        put(tmp_path / "pool" / ("bright" if i % 3 == 0 else "dark") / f"{i}.png", BRIGHT if i % 3 == 0 else DARK, rng)
    (tmp_path / "pool" / "bright" / "copy.png").write_bytes((tmp_path / "target" / "3.png").read_bytes())
    return tmp_path


@pytest.fixture
def model() -> EncoderModel:
    torch.manual_seed(0)
    return EncoderModel({"encoder": build("small:convnet", image_size=8, channels=1, width=8)}).eval()


def chosen(model, place, out="chosen.txt", **options):
    given = {"clusters": 3, "count": 8, "quiet": True, "device": "cpu", **options}
    return select(model, place / "pool", place / "target", out=place / out, **given)


def test_the_list_names_what_resembles_the_target_and_training_takes_it_as_data(model, place):
    lines = chosen(model, place).read_text().splitlines()
    assert len(lines) == len(set(lines)) == 8
    assert all("/bright/" in line and Path(line).is_file() for line in lines)
    source = open_source(place / "chosen.txt", progress=False)
    assert sorted(source.names) == sorted(Path(line).name for line in lines)


def test_copies_of_target_images_are_left_out_counted_and_said(model, place, capsys):
    assert "copy.png" not in chosen(model, place, count=12, quiet=False).read_text()
    assert "1 samples of the pool are left out as copies" in capsys.readouterr().err
    kept = chosen(model, place, count=12, exclude_near_duplicates=0.0)
    assert "copy.png" in kept.read_text()


def test_the_target_may_stand_before_the_selection(model, place):
    lines = chosen(model, place, with_target=True).read_text().splitlines()
    assert [Path(line).parent.name for line in lines[:6]] == ["target"] * 6
    assert len(open_source(place / "chosen.txt", progress=False)) == 14


def test_a_list_may_itself_be_the_pool(model, place):
    first = chosen(model, place, count=10)
    again = select(
        model, first, place / "target", out=place / "fewer.txt", clusters=3, count=4, quiet=True, device="cpu"
    )
    assert set(again.read_text().splitlines()) < set(first.read_text().splitlines())


def test_a_table_of_the_selection_has_ids_rounds_and_similarities(model, place):
    rows = list(csv.DictReader(chosen(model, place, "chosen.csv").open()))
    pool = open_source(place / "pool", progress=False)
    assert list(pool.only([int(row["id"]) for row in rows]).names) == [row["name"] for row in rows]
    assert [int(row["round"]) for row in rows] == sorted(int(row["round"]) for row in rows)
    assert all(0 < float(row["similarity"]) <= 1 for row in rows)


def test_a_share_of_the_pool_is_selected_exactly(model, place):
    assert len(chosen(model, place, count=0, share=0.25).read_text().splitlines()) == int(0.25 * 37)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"out": "chosen.parquet"}, "must be one of .txt, .csv, .tar"),
        ({"share": 1.5, "count": 0}, "share lies in"),
        ({"share": 0.5}, "excludes count"),
        ({"clusters": 0}, "at least 1"),
        ({"most": 3}, "count or share says how many are selected, so most would mean nothing"),
        ({"stop": 0.0}, "stop lies in"),
        ({"exclude_near_duplicates": 2.0}, "cosine"),
        ({"out": "chosen.csv", "with_target": True}, "list of files"),
    ],
)
def test_options_that_make_no_sense_are_refused(model, place, options, said):
    with pytest.raises(ValueError, match=said):
        chosen(model, place, **options)


def test_what_cannot_be_read_of_pool_and_target_is_counted_and_listed_beside_the_list(model, place, capsys):
    (place / "pool" / "dark" / "broken.png").write_bytes(b"no picture")
    (place / "target" / "empty.png").write_bytes(b"")
    chosen(model, place, quiet=False)
    said = capsys.readouterr().err
    listed = place / "chosen.skipped.jsonl"
    assert f"select: 1 files of the pool could not be read, see {listed}" in said
    assert f"select: 1 files of the target could not be read, see {listed}" in said
    rows = [json.loads(line) for line in listed.read_text().splitlines()]
    assert [(row["name"], row["data"]) for row in rows] == [("dark/broken.png", "pool"), ("empty.png", "target")]
    (place / "pool" / "dark" / "broken.png").unlink()
    (place / "target" / "empty.png").unlink()
    chosen(model, place)
    assert not listed.exists()


def test_a_place_that_is_not_there_is_said_to_be_missing(model, place):
    with pytest.raises(ValueError, match=r"there is no folder or list of them at '.*nope'; mend the path"):
        select(model, place / "nope", place / "target", out=place / "l.txt", quiet=True, device="cpu")


def test_a_list_of_files_cannot_be_made_of_an_array(model, place):
    np.save(place / "pool.npy", np.zeros((9, 8, 8), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"no folder of images; write a \.tar or a \.csv"):
        select(model, place / "pool.npy", place / "target", out=place / "l.txt", quiet=True, device="cpu")
