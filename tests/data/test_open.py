"""Naming data: one clear line for every way to get it wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from autodidact.data import open_source
from autodidact.data.open import write_skipped
from autodidact.data.source import Source


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(FileNotFoundError, match="there is no data 'digitz', did you mean 'digits'"):
        open_source("digitz")


def test_an_unknown_path_names_what_lies_there(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(FileNotFoundError, match=r"did you mean '.*/photos'"):
        open_source(tmp_path / "fotos")


def test_an_unknown_split_names_the_nearest():
    with pytest.raises(ValueError, match="unknown split 'tset'; did you mean 'test'"):
        open_source("digits:tset")


def test_two_different_splits_are_an_error():
    with pytest.raises(ValueError, match="names the split test, and split=train is given too"):
        open_source("digits:test", split="train")


def test_an_empty_folder_is_an_error(tmp_path: Path):
    (tmp_path / "d").mkdir()
    with pytest.raises(ValueError, match="is empty; accepted are a folder of images"):
        open_source(tmp_path / "d")


def test_a_single_image_is_an_error_that_asks_for_its_folder(tmp_path: Path):
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="is a single image; give the folder"):
        open_source(tmp_path / "a.png")


def test_a_file_of_another_kind_names_the_kinds(tmp_path: Path):
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(ValueError, match=r"a\.docx is not data of a known kind; accepted are"):
        open_source(tmp_path / "a.docx")


def test_a_value_of_another_kind_names_the_kinds():
    with pytest.raises(ValueError, match="cannot open a dict as data"):
        open_source({"a": 1})


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("wine", {"canvas": 32}, "canvas=32 is for images; 'wine' holds numeric, label"),
        ("wine", {"channels": 3}, "channels=3 is for images"),
        ("digits", {"channels": 3}, "array of images with 1 channels, not 3"),
        ("digits", {"columns": "x=text"}, "columns= is for tables; 'digits' holds images"),
    ],
)
def test_options_that_mean_nothing_for_the_data_are_errors(data, options, message):
    with pytest.raises(ValueError, match=message):
        open_source(data, **options)


def test_columns_and_a_schema_exclude_each_other():
    frame = pd.DataFrame({"x": [1.5, 2.5]})
    with pytest.raises(ValueError, match="exclude each other"):
        open_source(frame, columns="x=text", like=open_source(frame).schema)


def test_a_source_stays_a_source():
    source = open_source("digits")
    assert open_source(source) is source
    assert len(open_source(source, split="test")) < len(source)


def test_a_path_with_a_colon_is_a_path(tmp_path: Path):
    np.save(tmp_path / "a:test.npy", np.zeros((3, 2)))
    assert len(open_source(str(tmp_path / "a:test.npy"))) == 3


def test_a_file_named_like_a_bundled_set_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "wine").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / "wine" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert "image" in open_source("wine", progress=False).schema


def test_the_package_loads_no_reader_before_it_is_used():
    code = (
        "import sys, autodidact.data; "
        "print([m for m in ('pandas', 'pyarrow', 'PIL', 'datasets', 'sklearn') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


class Damaged(Source):
    """A stream of which one sample could not be read."""

    streaming = True

    def __init__(self, name: str) -> None:
        self.skipped = [{"name": name, "reason": "damaged"}]

    def read(self, positions):
        raise NotImplementedError

    def column(self, field):
        raise NotImplementedError


def test_several_who_tell_what_they_could_not_read_lose_nothing_and_leave_no_lock(tmp_path: Path):
    names = [f"{number}.png" for number in range(80)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: write_skipped(Damaged(name), tmp_path / "skipped.jsonl"), names))
    lines = (tmp_path / "skipped.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["name"] for line in lines) == sorted(names)
    assert [path.name for path in tmp_path.iterdir()] == ["skipped.jsonl"]
