"""The packed cache: decoded once, told beforehand, resumed, shared, never half."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autodidact.data import decoding, open_source, packed
from autodidact.data.frame import Frame
from autodidact.data.packed import PackedPixels, _gaps
from autodidact.data.source import Source

COUNT = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    for i in range(COUNT):
        Image.new("L", (5, 3), i).save(root / f"{i:03d}.png")
    (root / "021.png").write_bytes(b"text")
    return root


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded from now on; small stretches, each journalled at once."""
    names: list[str] = []
    original = packed.decode

    def watched(origin, channels, limit):
        names.append(Path(str(origin)).name)
        return original(origin, channels, limit)

    monkeypatch.setattr(packed, "decode", watched)
    monkeypatch.setattr(decoding, "decode", watched)
    monkeypatch.setattr(packed, "CHUNK_IMAGES", 4)
    monkeypatch.setattr(packed, "FLUSH_BYTES", 1)
    return names


def values(source: Source) -> list[int]:
    return source.read(np.arange(len(source)))["image"][:, 0, 0, 0].tolist()  # type: ignore[index]


EXPECTED = [i for i in range(COUNT) if i != 21]


def test_the_second_opening_decodes_nothing(folder: Path, decoded: list[str]):
    open_source(folder, progress=False)
    assert len(decoded) == COUNT
    decoded.clear()
    source = open_source(folder, progress=False)
    assert decoded == []
    assert values(source) == EXPECTED
    assert source.skipped == [{"name": "021.png", "reason": "not an image of a known format"}]


def test_size_and_place_are_told_before_packing(folder: Path, cache: Path, capfd: pytest.CaptureFixture[str]):
    open_source(folder)
    told = capfd.readouterr().err
    assert f"packing {COUNT} images of photos as 1 x 3 x 5 bytes: 0.0 MB in {cache}" in told
    assert "packing: 100%" in told
    open_source(folder)
    assert capfd.readouterr().err == ""


def test_packing_can_be_silent(folder: Path, capfd: pytest.CaptureFixture[str]):
    open_source(folder, progress=False)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("change", ["rewritten", "added", "removed", "renamed"])
def test_a_changed_folder_is_packed_anew(folder: Path, decoded: list[str], change: str):
    open_source(folder, progress=False)
    decoded.clear()
    path = folder / "005.png"
    if change == "rewritten":
        Image.new("L", (5, 3), 255).save(path)
        os.utime(path, ns=(1, 1))
    elif change == "added":
        Image.new("L", (5, 3), 255).save(folder / "500.png")
    elif change == "removed":
        path.unlink()
    else:
        path.rename(folder / "zzz.png")
    source = open_source(folder, progress=False)
    assert len(decoded) == COUNT + {"added": 1, "removed": -1}.get(change, 0)
    assert (255 in values(source)) == (change in ("rewritten", "added"))


def test_other_settings_have_an_entry_of_their_own(folder: Path, decoded: list[str]):
    open_source(folder, progress=False)
    open_source(folder, progress=False, canvas=2)
    open_source(folder, progress=False, channels=3)
    decoded.clear()
    for options in ({}, {"canvas": 2}, {"channels": 3}):
        open_source(folder, progress=False, **options)
    assert decoded == []


def test_an_interrupted_packing_goes_on_where_it_was(folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch):
    original = decoding.decode

    def stops(origin, channels, limit):
        if len(decoded) == 23:
            raise KeyboardInterrupt
        return original(origin, channels, limit)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(decoding, "decode", stops)
        open_source(folder, progress=False)
    decoded.clear()
    source = open_source(folder, progress=False)
    # 23 were decoded, in stretches of 4: the first 20 are kept.
    assert sorted(decoded) == [f"{i:03d}.png" for i in range(20, COUNT)]
    assert values(source) == EXPECTED
    assert len(source.skipped) == 1


KILLED = """
import os, signal, sys
from autodidact.data import decoding, open_source, packed
original, seen = packed.decode, []
def decode(*arguments):
    seen.append(1)
    if len(seen) == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)
decoding.decode, packed.CHUNK_IMAGES, packed.FLUSH_BYTES = decode, 4, 1
open_source(sys.argv[1], progress=False)
"""


def test_a_killed_packing_goes_on_where_it_was(folder: Path, decoded: list[str]):
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False)
    assert done.returncode == -9
    source = open_source(folder, progress=False)
    assert sorted(decoded) == [f"{i:03d}.png" for i in range(28, COUNT)]
    assert values(source) == EXPECTED
    assert source.skipped == [{"name": "021.png", "reason": "not an image of a known format"}]


def test_a_torn_journal_line_costs_its_stretch(folder: Path, cache: Path, decoded: list[str]):
    open_source(folder, progress=False)
    (entry,) = (cache / "images").iterdir()
    (entry / "done.json").unlink()
    journal = entry / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:6]) + lines[6][:7])
    decoded.clear()
    assert values(open_source(folder, progress=False)) == EXPECTED
    assert sorted(decoded) == [f"{i:03d}.png" for i in range(24, COUNT)]
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_a_cut_pixel_file_is_noticed_and_packed_again(folder: Path, cache: Path):
    open_source(folder, progress=False)
    (entry,) = (cache / "images").iterdir()
    os.truncate(entry / "pixels.u8", 100)
    assert values(open_source(folder, progress=False)) == EXPECTED


def test_two_at_once_decode_every_image_once(folder: Path, decoded: list[str], capfd: pytest.CaptureFixture[str]):
    barrier = threading.Barrier(2)
    found: list[list[int]] = []

    def start() -> None:
        barrier.wait()
        found.append(values(open_source(folder)))

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [EXPECTED, EXPECTED]
    assert len(decoded) == COUNT


def test_one_waits_for_another_and_says_so(
    folder: Path, cache: Path, decoded: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    inside, go_on = threading.Event(), threading.Event()
    original = decoding.decode

    def slow(*arguments):
        inside.set()
        assert go_on.wait(20)
        return original(*arguments)

    monkeypatch.setattr(decoding, "decode", slow)
    first = threading.Thread(target=lambda: open_source(folder, progress=False))
    first.start()
    assert inside.wait(20)
    said = packed._say

    def say(progress: bool, text: str) -> None:
        said(progress, text)
        go_on.set()

    monkeypatch.setattr(packed, "_say", say)
    assert values(open_source(folder)) == EXPECTED
    first.join()
    assert "another process is packing photos; waiting for it" in capfd.readouterr().err
    assert len(decoded) == COUNT


def test_the_lock_of_a_dead_process_does_not_hold(folder: Path, cache: Path):
    open_source(folder, progress=False)
    (entry,) = (cache / "images").iterdir()
    (entry / "done.json").unlink()
    (entry / "lock").write_text("999999\n")
    assert values(open_source(folder, progress=False)) == EXPECTED


def test_too_small_a_disk_is_an_error_before_the_first_image(
    folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(packed.shutil, "disk_usage", lambda _: usage(100, 95, 5))
    with pytest.raises(OSError, match=r"packing 40 images takes 0\.0 MB, and .* has 0\.0 MB left; use a smaller"):
        open_source(folder, progress=False)
    assert decoded == []


def test_a_cache_that_cannot_be_written_is_an_error_that_names_the_option(folder: Path, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot be written .* --cache-dir or \$AUTODIDACT_CACHE"):
        open_source(folder, progress=False, cache_dir=tmp_path / "file")


def test_a_given_cache_folder_goes_before_the_environment(folder: Path, cache: Path, tmp_path: Path):
    open_source(folder, progress=False, cache_dir=tmp_path / "mine")
    assert (tmp_path / "mine" / "images").is_dir()
    assert not cache.exists()


def test_without_the_cache_no_pixels_are_kept_and_the_check_is_done_once(folder: Path, cache: Path, decoded: list[str]):
    source = open_source(folder, progress=False, cache=False)
    assert len(decoded) == COUNT
    assert not list(cache.rglob("pixels.u8"))
    decoded.clear()
    assert len(open_source(folder, progress=False, cache=False)) == COUNT - 1
    assert decoded == []
    assert values(source) == EXPECTED
    assert len(decoded) == COUNT - 1


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_same_bytes(folder: Path, tmp_path: Path, decoded: list[str], workers: int):
    source = open_source(folder, progress=False, workers=workers, cache_dir=tmp_path / str(workers))
    assert values(source) == EXPECTED


def test_gaps_are_what_the_stretches_leave_out():
    assert _gaps([], 5, 2) == [(0, 2), (2, 4), (4, 5)]
    assert _gaps([(2, 4)], 5, 2) == [(0, 2), (4, 5)]
    assert _gaps([(0, 2), (2, 5)], 5, 2) == []


def reading(count: int = 50) -> tuple[Frame, np.ndarray]:
    frame = Frame(3, 4, 5, 20.0, True)
    return frame, np.random.default_rng(0).integers(0, 256, (count, 3, 4, 5), dtype=np.uint8)


@pytest.mark.parametrize("waited", [[0] * 100, list(range(100))], ids=["warm", "cold"])
def test_any_positions_are_read_as_they_were_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waited: list[int]):
    frame, pixels = reading()
    pixels.tofile(tmp_path / "pixels.u8")
    monkeypatch.setattr(packed, "waits_for_disk", lambda: waited.pop(0))
    store = PackedPixels(tmp_path, frame, np.ones((len(pixels), 4), np.int32), {})
    for positions in (np.arange(50), np.array([7, 7, 0, 49, 3, -1]), np.array([], dtype=np.int64), np.array([5])):
        found = store.read(positions)
        assert found.dtype == torch.uint8
        assert np.array_equal(found.numpy(), pixels[positions])
        # What is read can be written to.
        found += 1
    assert np.array_equal(pickle.loads(pickle.dumps(store)).read(np.array([2, 1])).numpy(), pixels[[2, 1]])


def test_a_cold_disk_is_read_forward_and_a_warm_one_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    visited: list[list[int]] = []

    class Watched:
        shape = (50, 3, 4, 5)

        def take(self, positions: np.ndarray, axis: int) -> np.ndarray:
            visited.append(positions.tolist())
            return pixels.take(positions, axis=axis)

    frame, pixels = reading()
    store = PackedPixels(tmp_path, frame, np.ones((len(pixels), 4), np.int32), {})
    store._map = Watched()  # type: ignore[assignment]
    # The second reading waits for the disk, the others do not.
    waited = [0, 0, 0, 1, 1, 1, 1, 1]
    monkeypatch.setattr(packed, "waits_for_disk", lambda: waited.pop(0))
    positions = np.array([5, 2, 9])
    for _ in range(4):
        assert np.array_equal(store.read(positions).numpy(), pixels[positions])
    assert visited == [[2, 5, 9], [5, 2, 9], [2, 5, 9], [5, 2, 9]]
