"""A folder of images as a source: what is found, how it is labelled, what is skipped and why."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autodidact.data import describe, open_source
from autodidact.data.ids import sample_id
from autodidact.data.source import Source


def put(path: Path, value: int = 0, size: tuple[int, int] = (4, 4), mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(path)
    return path


def everything(source: Source) -> dict:
    return source.read(np.arange(len(source)))


def quiet(root: Path, **options) -> Source:
    return open_source(root, progress=False, **options)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    for i, name in enumerate(["cat/1.png", "cat/old/2.png", "dog/3.png", "dog/4.PNG"]):
        put(root / name, 10 * i)
    return root


def test_images_are_read_in_the_order_of_their_names(pets: Path):
    source = quiet(pets)
    assert list(source.names) == ["cat/1.png", "cat/old/2.png", "dog/3.png", "dog/4.PNG"]
    assert everything(source)["image"][:, 0, 0, 0].tolist() == [0, 10, 20, 30]
    assert everything(source)["image"].shape == (4, 1, 4, 4)


def test_reading_in_any_order_gives_the_samples_asked_for(pets: Path):
    batch = quiet(pets).batch(np.array([3, 0, 3]))
    assert batch["image"][:, 0, 0, 0].tolist() == [30, 0, 30]
    assert batch["label"].tolist() == [1, 0, 1]


def test_the_first_folder_level_is_the_label(pets: Path):
    source = quiet(pets)
    assert source.schema["label"].classes == ("cat", "dog")
    assert source.column("label").tolist() == [0, 0, 1, 1]


def test_the_innermost_folder_is_the_label_where_the_first_level_is_one_folder(tmp_path: Path):
    for name in ("all/x/cat/1.png", "all/y/dog/2.png"):
        put(tmp_path / "d" / name)
    source = quiet(tmp_path / "d")
    assert source.schema["label"].classes == ("cat", "dog")


def test_either_level_can_be_asked_for(pets: Path):
    assert quiet(pets, labels="parent").schema["label"].classes == ("cat", "dog", "old")
    assert quiet(pets, labels="first").schema["label"].classes == ("cat", "dog")


def test_classes_named_by_numbers_are_in_their_order(tmp_path: Path):
    for name in ("10", "9", "1"):
        put(tmp_path / "d" / name / "a.png")
    assert quiet(tmp_path / "d").schema["label"].classes == ("1", "9", "10")


def test_images_outside_any_folder_mean_no_labels(pets: Path):
    put(pets / "stray.png")
    assert "label" not in quiet(pets).schema
    with pytest.raises(ValueError, match=r"labels='first' needs every image .* 'stray\.png' is in none"):
        quiet(pets, labels="first")


def test_labels_can_be_left_aside(pets: Path):
    assert list(quiet(pets, labels="none").schema) == ["image"]


def test_labels_of_another_source_are_coded_alike(pets: Path, tmp_path: Path):
    for name in ("dog/1.png", "fox/2.png"):
        put(tmp_path / "new" / name)
    source = quiet(tmp_path / "new", like=quiet(pets).schema)
    assert source.schema["label"].classes == ("cat", "dog")
    assert source.column("label").tolist() == [1, -1]
    assert any("'fox'" in note for note in source.notes)


def test_ids_stay_when_the_folder_is_moved_and_when_files_are_added(pets: Path, tmp_path: Path):
    before = dict(zip(quiet(pets).names, quiet(pets).ids.tolist(), strict=True))
    moved = tmp_path / "elsewhere" / "pets"
    moved.parent.mkdir()
    pets.rename(moved)
    put(moved / "ant" / "0.png")
    after = quiet(moved)
    assert {name: i for name, i in zip(after.names, after.ids.tolist(), strict=True) if name in before} == before


def test_ids_are_kept_beside_packed_images_and_are_those_of_the_names_however_often_they_are_opened(pets: Path):
    expected = [sample_id("pets", name) for name in quiet(pets).names]
    assert quiet(pets).ids.tolist() == expected
    assert quiet(pets, cache=False).ids.tolist() == expected
    moved = pets.rename(pets.with_name("animals"))
    assert quiet(moved).ids.tolist() == [sample_id("animals", name) for name in quiet(moved).names]


def test_splits_by_folder_are_taken_one_at_a_time(tmp_path: Path):
    root = tmp_path / "d"
    for name in ("train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "test/dog/4.png"):
        put(root / name)
    assert list(quiet(root).names) == ["train/cat/1.png", "train/dog/2.png"]
    assert list(open_source(f"{root}:val", progress=False).names) == ["val/cat/3.png"]
    assert len(quiet(root, split="all")) == 4
    assert quiet(root, split="test").schema["label"].classes == ("cat", "dog")
    with pytest.raises(ValueError, match="did you mean 'test'"):
        quiet(root, split="tset")


def test_a_folder_without_splits_is_cut_by_hash(tmp_path: Path):
    root = tmp_path / "d"
    for i in range(60):
        put(root / f"{i}.png")
    parts = [set(open_source(f"{root}:{split}", progress=False).names) for split in ("train", "val", "test")]
    assert set.union(*parts) == set(quiet(root).names)
    assert sum(map(len, parts)) == 60


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    root = tmp_path / "flat"
    for i in range(4):
        put(root / f"im{i}.png", i)
    return root


@pytest.mark.parametrize(
    ("csv", "spec"),
    [
        ("file_name,label\nim0.png,a\nim1.png,b\nim2.png,a\n", "l.csv"),
        ("im,species,age\nim0,a,3\nim1,b,4\nim2,a,5\n", "l.csv:species"),
        ("age,path,species\n1,./im0.png,a\n0,x\\im1.png,b\n2,/data/old/im2.png,a\n", "l.csv:path:species"),
    ],
    ids=["guessed", "label column", "both columns"],
)
def test_labels_come_from_a_table_beside_the_images(flat: Path, csv: str, spec: str):
    (flat.parent / "l.csv").write_text(csv)
    source = quiet(flat, labels=str(flat.parent / spec))
    assert source.schema["label"].classes == ("a", "b")
    assert source.column("label").tolist() == [0, 1, 0, -1]
    assert any("1 files have no row" in note for note in source.notes)


def test_a_table_of_labels_is_found_inside_the_folder_and_may_be_parquet(flat: Path):
    import pandas as pd

    pd.DataFrame({"file": ["im3.png", "im0.png"], "y": [0.5, 2.25]}).to_parquet(flat / "y.parquet")
    source = quiet(flat, labels="y.parquet")
    assert source.schema["target"].kind == "target"
    np.testing.assert_array_equal(source.column("target"), [2.25, np.nan, np.nan, 0.5])


def test_a_folder_of_tables_is_one_table_of_labels(flat: Path):
    tables = flat.parent / "tables"
    tables.mkdir()
    (tables / "a.csv").write_text("file,label\nim0.png,a\nim1.png,b\n")
    (tables / "b.csv").write_text("file,label\nim2.png,b\nim3.png,a\n")
    assert quiet(flat, labels=str(tables)).column("label").tolist() == [0, 1, 1, 0]


def test_a_base_name_that_two_files_share_names_neither(tmp_path: Path):
    root = tmp_path / "d"
    for name in ("a/1.png", "b/1.png", "b/2.png"):
        put(root / name)
    (tmp_path / "l.csv").write_text("file,label\n1.png,x\n2.png,y\na/1.png,z\n")
    assert quiet(root, labels=str(tmp_path / "l.csv")).column("label").tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("csv", "spec", "message"),
    [
        ("file,label\nim0.png,a\nim0.png,b\n", "l.csv", "two labels .rows 1 and 2."),
        ("file,label\nzz.png,a\n", "l.csv", "no column of l.csv names the files"),
        ("file,label\nzz.png,a\n", "l.csv:file:label", "no row of l.csv names one of the files"),
        ("file,p,q\nim0.png,a,b\n", "l.csv", "which column of l.csv holds the labels"),
        ("file,label\nim0.png,a\n", "l.csv:lable", "did you mean 'label'"),
        ("file,label\nim0.png,\n", "l.csv", "every value is missing"),
    ],
)
def test_tables_of_labels_that_do_not_fit_are_errors(flat: Path, csv: str, spec: str, message: str):
    (flat.parent / "l.csv").write_text(csv)
    with pytest.raises(ValueError, match=message):
        quiet(flat, labels=str(flat.parent / spec))


def test_a_missing_table_of_labels_is_an_error(flat: Path):
    with pytest.raises(FileNotFoundError, match=r"'nope\.csv'"):
        quiet(flat, labels="nope.csv")
    with pytest.raises(ValueError, match="accepted are first, parent, none"):
        quiet(flat, labels="species")


def test_images_of_one_small_size_fill_the_canvas_as_they_are(flat: Path):
    source = quiet(flat)
    assert source.schema["image"].shape == (1, 4, 4)
    assert "box" not in source.schema


def test_images_of_several_sizes_keep_their_ratio_in_a_box(tmp_path: Path):
    put(tmp_path / "d" / "a.png", 100, size=(80, 40))
    put(tmp_path / "d" / "b.png", 200, size=(20, 30))
    source = quiet(tmp_path / "d", image_size=32)
    # The limit is 1.5 x 32 = 48: a is reduced to 48 x 24, b is kept, the canvas is their bounding box.
    assert source.schema["image"].shape == (1, 30, 48)
    fields = everything(source)
    assert fields["box"].tolist() == [[0, 0, 24, 48], [0, 0, 30, 20]]
    assert fields["box"].dtype == torch.float32
    for image, box, value in zip(fields["image"], fields["box"].long(), (100, 200), strict=True):
        inside = image[:, : box[2], : box[3]]
        assert (inside == value).all()
        assert image.sum() == inside.sum()


def test_a_fixed_canvas_bounds_every_image(tmp_path: Path):
    put(tmp_path / "d" / "a.png", 100, size=(80, 40))
    source = quiet(tmp_path / "d", canvas=(16, 20))
    assert source.schema["image"].shape == (1, 16, 20)
    assert everything(source)["box"].tolist() == [[0, 0, 10, 20]]


def test_channels_follow_the_files_unless_asked_for(tmp_path: Path):
    put(tmp_path / "d" / "a.png")
    assert quiet(tmp_path / "d").schema["image"].shape[0] == 1
    assert quiet(tmp_path / "d", channels=3).schema["image"].shape[0] == 3
    put(tmp_path / "d" / "b.png", mode="RGB")
    assert quiet(tmp_path / "d").schema["image"].shape[0] == 3
    assert quiet(tmp_path / "d", channels=1).schema["image"].shape[0] == 1
    with pytest.raises(ValueError, match="1 or 3 channels, not 2"):
        quiet(tmp_path / "d", channels=2)


def hostile(root: Path) -> tuple[set[str], set[str]]:
    """A folder of everything that goes wrong; names that are readable, and names that are not."""
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))
    good, bad = set(), set()

    def write(name: str, image: Image.Image | bytes, readable: bool = True, **options) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            image.save(path, **options)
        (good if readable else bad).add(name)

    write("plain.png", rough)
    write("plain.jpg", rough)
    write("sixteen.png", Image.fromarray(rng.integers(0, 65536, (9, 9), dtype=np.uint16)))
    write("cmyk.jpg", rough.convert("CMYK"))
    write("palette.png", rough.quantize(8), transparency=0)
    write("moving.gif", rough, save_all=True, append_images=[rough.rotate(90)])
    write("one.png", Image.new("RGB", (1, 1), (1, 2, 3)))
    write("long.png", Image.new("L", (20000, 10), 9))
    exif = Image.Exif()
    exif[0x0112] = 6
    write("turned.jpg", rough, exif=exif)
    write("ünï/コ\nnew line.png", rough)
    write("png in truth.jpg", (root / "plain.png").read_bytes())
    write("cut.png", (root / "plain.png").read_bytes()[:900], readable=False)
    write("cut.jpg", (root / "plain.jpg").read_bytes()[:500], readable=False)
    write("nothing.png", b"", readable=False)
    write("text.jpg", b"I am a poem", readable=False)
    write("notes.txt", b"not counted")
    write("._plain.png", b"what a Mac leaves behind")
    good -= {"notes.txt", "._plain.png"}
    (root / "gone.jpg").symlink_to(root / "no such file")
    os.mkfifo(root / "pipe.png")
    bad |= {"gone.jpg", "pipe.png"}
    (root / "loop").symlink_to(root)
    raw = os.fsencode(root) + b"/not \xff utf8.png"
    with open(raw, "wb") as file:  # noqa: PTH123 (the name is bytes)
        file.write((root / "plain.png").read_bytes())
    good.add(os.fsdecode(b"not \xff utf8.png"))
    return good, bad


@pytest.mark.parametrize("cached", [True, False], ids=["packed", "straight from files"])
def test_hostile_files_are_skipped_counted_and_named(tmp_path: Path, cached: bool):
    good, bad = hostile(tmp_path / "d")
    source = quiet(tmp_path / "d", cache=cached, skipped=tmp_path / "run" / "skipped.jsonl")
    assert set(source.names) == good
    assert len(source) == len(good) == len(set(source.ids.tolist()))
    lines = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert {line["name"] for line in lines} == bad
    assert len(lines) == len(bad)
    reasons = {line["name"]: line["reason"] for line in lines}
    assert "truncated" in reasons["cut.jpg"].lower()
    assert "empty" in reasons["nothing.png"]
    assert "not an image" in reasons["text.jpg"]
    assert "link" in reasons["gone.jpg"]
    assert "not a regular file" in reasons["pipe.png"]
    boxes = dict(zip(source.names, everything(source)["box"].tolist(), strict=True))
    assert boxes["turned.jpg"] == [0, 0, 30, 40]
    assert boxes["long.png"][2:] == [1, source.schema["image"].shape[2]]
    assert f"skipped: {len(bad)}" in describe(source)


def test_packed_and_direct_reading_give_the_same_values(tmp_path: Path):
    hostile(tmp_path / "d")
    packed, direct = quiet(tmp_path / "d"), quiet(tmp_path / "d", cache=False)
    assert packed.ids.tolist() == direct.ids.tolist()
    for name, value in everything(packed).items():
        assert torch.equal(value, everything(direct)[name])


def test_a_folder_where_nothing_is_readable_is_an_error(tmp_path: Path):
    (tmp_path / "d").mkdir()
    for i in range(3):
        (tmp_path / "d" / f"{i}.png").write_bytes(b"no")
    with pytest.raises(ValueError, match="none of the 3 images can be read; the last one: not an image"):
        quiet(tmp_path / "d")


def test_a_folder_of_headers_without_bodies_is_an_error(tmp_path: Path):
    whole = put(tmp_path / "whole.png", size=(64, 64)).read_bytes()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.png").write_bytes(whole[:50])
    for cached in (True, False):
        with pytest.raises(ValueError, match="none of the 1 images of d can be read; the first: "):
            quiet(tmp_path / "d", cache=cached)


def test_a_folder_without_images_is_an_error_that_says_what_there_is(tmp_path: Path):
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "sub" / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"no image below .* it holds 1 \.txt"):
        quiet(tmp_path / "d")


@pytest.mark.parametrize("cached", [True, False])
def test_image_sources_travel_to_worker_processes(pets: Path, cached: bool):
    source = quiet(pets, cache=cached)
    again = pickle.loads(pickle.dumps(source))
    assert torch.equal(everything(again)["image"], everything(source)["image"])
    # The pixels stay where they are.
    assert len(pickle.dumps(source)) < 20_000


def test_a_file_that_vanishes_after_opening_is_named(pets: Path):
    source = quiet(pets, cache=False)
    (pets / "dog" / "3.png").unlink()
    with pytest.raises(
        OSError, match=r"dog/3\.png could be read when the data was opened, now it cannot: no such file"
    ):
        source.read(np.array([2]))


@pytest.mark.parametrize(("image_size", "limit"), [(None, 336), (224, 336), (96, 144), (33, 56), (1, 8)])
def test_the_limit_of_the_canvas_is_half_as_much_again(tmp_path: Path, image_size: int | None, limit: int):
    put(tmp_path / "d" / "a.png", size=(400, 400))
    assert quiet(tmp_path / "d", image_size=image_size).schema["image"].shape == (1, limit, limit)
