"""tracks: from videos to folders of crops that Transitive trains on; an interruption costs one video at most."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from autodidact.cli.main import main
from autodidact.data import open_source
from autodidact.recipes.transitive import tracks_of
from autodidact.selection.moving import Box
from autodidact.verbs import tracks as module
from autodidact.verbs.tracks import crop, tracks
from autodidact.worlds.clips import clip


def film(path, seed, **how):
    made = clip(30, seed=seed, **how)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (240, 180))
    for frame in made.frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return made


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two clips with a thing that moves, one in a folder of its own, and one in which only the camera does."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "deep").mkdir()
    clips = {"one": film(folder / "one.avi", 6), "deep__two": film(folder / "deep" / "two.avi", 9)}
    film(folder / "still.avi", 2, size=0)
    return folder, clips


@pytest.fixture(scope="module")
def crops(videos, tmp_path_factory):
    return tracks(videos[0], out=tmp_path_factory.mktemp("out") / "crops", quiet=True)


def rows(crops, video):
    with (crops / video / "tracks.csv").open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_every_thing_that_moves_becomes_a_folder_of_crops_of_it(videos, crops):
    for video, made in videos[1].items():
        table = rows(crops, video)
        assert {row["track"] for row in table} == {"00000"}
        boxes = [Box(*(float(row[side]) for side in ("left", "top", "width", "height"))) for row in table]
        overlaps = [box.overlap(Box(*made.boxes[int(row["frame"])])) for row, box in zip(table, boxes, strict=True)]
        assert np.mean(overlaps) > 0.5
        shown = [row for row in table if row["crop"]]
        assert len(shown) == len(list((crops / video).rglob("*.png"))) == 6
        assert [shown[0], shown[-1]] == [table[0], table[-1]]
        frame, box = made.frames[int(shown[2]["frame"])], boxes[table.index(shown[2])]
        with Image.open(crops / video / shown[2]["crop"]) as image:
            pixels = np.asarray(image)
        assert pixels.shape[0] == pixels.shape[1] == round(1.2 * max(box.w, box.h))
        # As in the clip but for what the video's compression loses, and the last digit of the box.
        assert np.abs(pixels.astype(int) - crop(frame, box, 1.2)).mean() < 8
    assert rows(crops, "still") == []


def test_the_crops_are_data_whose_folders_are_tracks(crops, monkeypatch, tmp_path):
    monkeypatch.setenv("AUTODIDACT_CACHE", str(tmp_path))
    source = open_source(crops, labels="none", progress=False)
    assert len(source) == 12
    assert np.bincount(tracks_of(source, "folder")).tolist() == [6, 6]


def test_what_is_there_is_not_mined_again_and_what_an_interruption_left_half_done_is(videos, tmp_path, monkeypatch):
    real, mined = module._write, []

    def counted(video, place, mining):
        mined.append(video.name)
        return real(video, place, mining)

    def cut_off(video, place, mining):
        place.with_name(f".{place.name}.mining").mkdir()
        (place.with_name(f".{place.name}.mining") / "00000").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_write", lambda *given: (counted if given[0].name == "deep/two" else cut_off)(*given))
    with pytest.raises(KeyboardInterrupt):
        tracks(videos[0], out=tmp_path / "crops", jobs=1, quiet=True)
    assert mined == ["deep/two"]
    monkeypatch.setattr(module, "_write", counted)
    tracks(videos[0], out=tmp_path / "crops", jobs=1, quiet=True)
    assert mined == ["deep/two", "one", "still"]
    assert sorted(path.name for path in (tmp_path / "crops").iterdir() if path.is_dir()) == [
        "deep__two",
        "one",
        "still",
    ]
    again = tracks(videos[0], out=tmp_path / "crops", jobs=1, quiet=True)
    assert len(mined) == 3
    assert len(list(again.rglob("*.png"))) == 12


def test_a_video_that_cannot_be_read_is_skipped_and_named_and_none_at_all_is_an_error(videos, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"none can be read, such as .*bad\.mp4: no frame"):
        tracks(tmp_path / "in", out=tmp_path / "none", quiet=True)
    (tmp_path / "in" / "good.avi").write_bytes((videos[0] / "one.avi").read_bytes())
    tracks(tmp_path / "in", out=tmp_path / "crops")
    (row,) = map(json.loads, (tmp_path / "crops" / "skipped.jsonl").read_text().splitlines())
    assert row["name"].endswith("bad.mp4")
    assert not any(path.name.startswith(".") for path in (tmp_path / "crops").iterdir())
    assert "1 of 2 videos read; 1 kept" in capsys.readouterr().err


def test_where_nothing_moves_that_is_said(videos, tmp_path):
    with pytest.raises(
        ValueError, match="no track was found in any of 1 videos: 0 kept; stretches in which nothing moved: 1"
    ):
        tracks(videos[0] / "still.avi", out=tmp_path / "crops", quiet=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gap": 0}, "gap must be at least 1"),
        ({"length": 8}, "three times as many"),
        ({"views": 1}, "views 2"),
        ({"regions": 0}, "regions must be at least 1"),
        ({"most": 0.0}, "share in"),
        ({"margin": 0.9}, "margin at least 1"),
        ({"jobs": -1}, "jobs must not be negative"),
        ({"tracker": "kfc"}, "did you mean 'kcf'"),
    ],
)
def test_options_out_of_range_are_refused(videos, tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        tracks(videos[0], out=tmp_path / "crops", quiet=True, **options)
    assert not (tmp_path / "crops").exists()


def test_a_folder_of_other_crops_or_of_something_else_is_not_written_into(videos, crops, tmp_path):
    with pytest.raises(ValueError, match="mined with other options"):
        tracks(videos[0], out=crops, views=3, quiet=True)
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(ValueError, match="holds something else"):
        tracks(videos[0], out=tmp_path, quiet=True)


def test_a_track_whose_thing_vanishes_is_dropped_for_having_slipped_to_the_ground(tmp_path):
    still = {"noise": 0.0, "camera": 0.0, "seed": 6}
    there, gone = clip(30, **still).frames, clip(30, size=0.0, **still).frames
    for name, shown in (("stays", there), ("vanishes", np.concatenate([there[:10], gone[10:]]))):
        (tmp_path / "in" / name).mkdir(parents=True)
        for k, frame in enumerate(shown):
            Image.fromarray(frame).save(tmp_path / "in" / name / f"{k}.png")
    out = tracks(tmp_path / "in", out=tmp_path / "crops", quiet=True)
    assert rows(out, "stays")
    assert rows(out, "vanishes") == []
    with pytest.raises(ValueError, match="0 kept, 1 slipped to the ground"):
        tracks(tmp_path / "in" / "vanishes", out=tmp_path / "none", quiet=True)


@pytest.mark.parametrize(("box", "corner"), [(Box(-5, 2, 10, 4), (0, 0)), (Box(35, 25, 10, 4), (28, 18))])
def test_a_crop_is_square_and_lies_in_the_frame(box, corner):
    frame = np.arange(40 * 30, dtype=np.int64).reshape(30, 40, 1).repeat(3, 2).astype(np.uint8)
    cut = crop(frame, box, 1.2)
    assert cut.shape == (12, 12, 3)
    left, top = corner
    assert np.array_equal(cut, frame[top : top + 12, left : left + 12])
    assert crop(frame, Box(0, 0, 40, 30), 2.0).shape == (30, 30, 3)


def test_the_command_says_what_comes_next(videos, tmp_path, capsys):
    assert main(["tracks", str(videos[0] / "one.avi"), "--out", str(tmp_path / "crops"), "--views", "3"]) == 0
    assert f"next: autodidact pretrain transitive --data {tmp_path / 'crops'}" in capsys.readouterr().out
    assert main(["tracks", str(videos[0])]) == 2
    assert "tracks VIDEOS --out CROPS" in capsys.readouterr().err
