"""A text file that names images, as data; and several sources as one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autodidact.data import ArraySource, Field, Schema, open_source, united
from autodidact.data.ids import row_ids


def put(path: Path, value: int, size: tuple[int, int] = (4, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTODIDACT_CACHE", str(tmp_path / "cache"))
    for i, name in enumerate(["a/1.png", "a/2.png", "b/3.png", "b/c/4 ü.png"]):
        put(tmp_path / "pool" / name, 10 * i)
    return tmp_path / "pool"


def listed(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def values(source) -> list[int]:
    return source.read(np.arange(len(source)))["image"][:, 0, 0, 0].tolist()


def test_the_images_of_a_list_are_those_that_it_names(pool: Path, tmp_path: Path):
    path = listed(tmp_path / "chosen.txt", "pool/b/c/4 ü.png", "", str(pool / "a/2.png"), "pool/a/2.png")
    source = open_source(path, progress=False)
    assert (source.name, list(source.names)) == ("chosen", ["a/2.png", "b/c/4 ü.png"])
    assert values(source) == [10, 30]


def test_files_of_several_folders_are_named_from_the_folder_around_them(pool: Path, tmp_path: Path):
    put(tmp_path / "target" / "x.png", 99)
    path = listed(tmp_path / "both.txt", "target/x.png", "pool/a/1.png")
    source = open_source(path, progress=False)
    assert dict(zip(source.names, values(source), strict=True)) == {"target/x.png": 99, "pool/a/1.png": 0}


def test_a_file_that_is_gone_is_skipped_and_named(pool: Path, tmp_path: Path):
    source = open_source(listed(tmp_path / "l.txt", "pool/a/1.png", "pool/a/9.png"), progress=False)
    assert len(source) == 1
    assert [(entry["name"], "no such file" in entry["reason"]) for entry in source.skipped] == [("9.png", True)]


def test_folders_that_are_called_like_splits_are_splits_in_a_list_too(tmp_path: Path):
    for i, name in enumerate(["train/1.png", "train/2.png", "val/3.png"]):
        put(tmp_path / name, i)
    path = listed(tmp_path / "l.txt", "train/1.png", "train/2.png", "val/3.png")
    assert values(open_source(path, cache=False, progress=False)) == [0, 1]
    assert values(open_source(f"{path}:val", cache=False, progress=False)) == [2]


@pytest.mark.parametrize(
    ("lines", "said"),
    [((), "is empty"), (("pool/notes.md",), "no image"), (("gone/1.png", "gone/2.png"), "none is there")],
)
def test_a_list_of_no_use_is_refused(pool: Path, tmp_path: Path, lines, said):
    with pytest.raises(ValueError, match=said):
        open_source(listed(tmp_path / "l.txt", *lines), progress=False)


def test_a_name_that_is_no_text_survives(pool: Path, tmp_path: Path):
    strange = os.fsencode(pool) + b"/a/\xff.png"
    try:
        put(pool / "a" / "plain.png", 77).rename(os.fsdecode(strange))
    except OSError:
        pytest.skip("this file system wants UTF-8")
    (tmp_path / "l.txt").write_bytes(strange + b"\n")
    assert values(open_source(tmp_path / "l.txt", progress=False)) == [77]


# Several sources as one.


def images(name: str, rows: int, first: int, **more) -> ArraySource:
    pixels = (first + torch.arange(rows, dtype=torch.uint8))[:, None, None, None].expand(-1, 1, 4, 6)
    schema = Schema(image=Field("image", (1, 4, 6)), **{k: Field("group") for k in more})
    return ArraySource(name, {"image": pixels, **more}, schema, row_ids(name, "x", rows))


def test_united_sources_are_read_as_one_in_any_order():
    both = united(a=images("a", 3, 0), b=images("b", 4, 100))
    assert len(both) == 7
    assert both.read(np.array([6, 0, 3, 2]))["image"][:, 0, 0, 0].tolist() == [103, 0, 100, 2]
    assert both.names[3] == "b/0"
    assert len(np.unique(both.ids)) == 7


def test_only_fields_that_all_have_remain():
    both = united(a=images("a", 2, 0, group=np.arange(2), other=np.arange(2)), b=images("b", 2, 9, group=np.arange(2)))
    assert set(both.schema) == {"image", "group"}
    assert both.column("group").tolist() == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="no field 'other'"):
        both.column("other")


def test_images_of_a_source_without_boxes_fill_their_canvas():
    boxed = images("a", 1, 0)
    boxed.schema["box"] = Field("box", (4,), unit="px")
    boxed._fields = {**boxed._fields, "box": torch.tensor([[0.0, 1.0, 2.0, 3.0]])}
    both = united(a=boxed, b=images("b", 1, 5))
    assert both.read(np.array([1, 0]))["box"].tolist() == [[0, 0, 4, 6], [0, 1, 2, 3]]


def test_ids_that_two_sources_share_are_made_anew_for_the_later_one():
    first, second = images("same", 3, 0), images("same", 3, 50)
    both = united(a=first, b=second)
    assert np.array_equal(both.ids[:3], first.ids)
    assert len(np.unique(both.ids)) == 6
    assert np.array_equal(both.ids, united(a=first, b=second).ids)


def test_sources_whose_fields_differ_in_kind_or_size_are_refused():
    other = ArraySource(
        "b", {"image": torch.zeros(1, 1, 8, 8, dtype=torch.uint8)}, Schema(image=Field("image", (1, 8, 8))), [1]
    )
    with pytest.raises(ValueError, match="field 'image' of 'b'"):
        united(a=images("a", 1, 0), b=other)
