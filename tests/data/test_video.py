"""Videos are found and named, and give their frames in order, or a reason."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from autodidact.data.video import UnreadableVideo, Video, frames, list_videos


def put(path, values, size=(32, 24)):
    """A video, or a folder of frames, of plain grey frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, size)
        for value in values:
            writer.write(np.full((size[1], size[0], 3), value, np.uint8))
        writer.release()
        return
    path.mkdir()
    for k, value in enumerate(values):
        Image.new("L", size, value).save(path / f"frame{k + 1}.png")


def test_files_and_folders_of_frames_are_found_at_any_depth_under_names_of_their_own(tmp_path):
    put(tmp_path / "b" / "one.avi", [0, 9])
    put(tmp_path / "a.avi", [0, 9])
    put(tmp_path / "a.mkv", [0, 9])
    put(tmp_path / "b" / "frames", [0, 9])
    put(tmp_path / "b" / "lone", [0])
    put(tmp_path / ".hidden" / "two.avi", [0])
    (tmp_path / "b" / "notes.txt").write_text("")
    assert [video.name for video in list_videos(tmp_path)] == ["a.avi", "a.mkv", "b/frames", "b/one"]
    assert [video.name for video in list_videos(tmp_path / "b" / "frames")] == ["frames"]
    assert [video.name for video in list_videos(tmp_path / "a.avi")] == ["a"]


def test_frames_come_in_order_and_those_of_a_folder_by_number(tmp_path):
    grey = [20 * k for k in range(12)]
    put(tmp_path / "folder", grey)
    put(tmp_path / "file.avi", grey)
    for name in ("folder", "file.avi"):
        shown = list(frames(Video(name, tmp_path / name)))
        assert {frame.shape for frame in shown} == {(24, 32, 3)}
        assert [int(frame[5, 5, 0]) for frame in shown] == pytest.approx(grey, abs=3)


def test_colours_are_red_green_blue(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "red.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (32, 24))
    writer.write(np.full((24, 32, 3), (0, 0, 255), np.uint8))  # OpenCV's order is blue first
    writer.release()
    (frame,) = frames(Video("red", tmp_path / "red.avi"))
    assert frame[5, 5, 0] > 200 > 60 > frame[5, 5, 2]


def test_what_cannot_be_read_says_why(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_bytes(b"no video at all")
    put(tmp_path / "odd", [1, 2])
    Image.new("L", (9, 9)).save(tmp_path / "odd" / "frame3.png")
    put(tmp_path / "broken", [1, 2])
    (tmp_path / "broken" / "frame2.png").write_bytes(b"")
    reasons = {}
    for name in ("empty.mp4", "text.mp4", "odd", "broken"):
        with pytest.raises(UnreadableVideo) as told:
            list(frames(Video(name, tmp_path / name)))
        reasons[name] = str(told.value)
    assert "empty" in reasons["empty.mp4"]
    assert "no frame" in reasons["text.mp4"]
    assert "32x24 and 9x9" in reasons["odd"]
    assert "frame2.png: the file is empty" in reasons["broken"]


def test_a_file_that_breaks_off_gives_the_frames_before(tmp_path):
    put(tmp_path / "whole.avi", [20 * k for k in range(10)], size=(320, 240))
    content = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "half.avi").write_bytes(content[: len(content) // 2])
    assert 0 < len(list(frames(Video("half", tmp_path / "half.avi")))) < 10


def test_a_place_without_videos_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no video below"):
        list_videos(tmp_path)
    with pytest.raises(ValueError, match="neither a folder nor a video"):
        list_videos(tmp_path / "missing")
    put(tmp_path / "a.avi", [0])
    put(tmp_path / "a", [0, 1])
    with pytest.raises(ValueError, match="both a video and a folder"):
        list_videos(tmp_path)


def test_without_opencv_the_extra_is_named(tmp_path, monkeypatch):
    put(tmp_path / "a.avi", [0])
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ValueError, match=r"autodidact\[video\]"):
        list(frames(Video("a", tmp_path / "a.avi")))
