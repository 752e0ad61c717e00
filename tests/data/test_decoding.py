"""Small images decoded by other processes: the same pixels, boxes and reasons, whatever becomes of those."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from autodidact.data import decoding, open_source, packed
from autodidact.data.decoding import Decoding, Helper
from autodidact.data.images import Origin, UnreadableImage
from autodidact.data.source import Source

COUNT = 40


def png(number: int, side: int = 6) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side - number % 3), (number, 2 * number, 255 - number)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(COUNT):
        (root / f"{number:03d}\udcff.png").write_bytes(png(number))
    (root / "021.png").write_bytes(b"text")
    (root / "022.png").write_bytes(b"")
    (root / "023.png").write_bytes(png(23)[:45])
    (root / "024.png").symlink_to("nowhere")
    return root


def opened(folder: Path, kept: Path, **options: object) -> tuple[bytes, list, list]:
    source: Source = open_source(folder, cache_dir=kept, progress=False, **options)
    fields = source.read(np.arange(len(source)))
    return fields["image"].numpy().tobytes(), fields["box"].tolist(), source.skipped  # type: ignore[union-attr]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few images are many already."""
    monkeypatch.setattr(packed, "WORTH_A_PROCESS", 10)
    monkeypatch.setattr(packed, "CHUNK_IMAGES", 4)
    monkeypatch.setattr(packed, "cores", lambda: 2)


def refused(*_: object) -> None:
    raise AssertionError("decoded here")


def test_other_processes_give_the_same_pixels_boxes_and_reasons(
    folder: Path, tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch
):
    alone = opened(folder, tmp_path / "alone", workers=1)
    assert [one["name"] for one in alone[2]] == ["021.png", "022.png", "023.png", "024.png"]
    # Nothing is decoded in this process.
    monkeypatch.setattr(decoding, "decode", refused)
    assert opened(folder, tmp_path / "others") == alone


def test_where_no_pixels_are_kept_other_processes_check_alike(
    folder: Path, tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch
):
    alone = opened(folder, tmp_path / "alone", workers=1)
    monkeypatch.setattr(decoding, "decode", refused)
    assert opened(folder, tmp_path / "others", cache=False) == alone


@pytest.mark.parametrize("program", ["/nowhere", "/bin/true", "/bin/echo"])
def test_what_another_process_does_not_answer_is_decoded_here(
    folder: Path, tmp_path: Path, few: None, monkeypatch: pytest.MonkeyPatch, program: str
):
    alone = opened(folder, tmp_path / "alone", workers=1)
    monkeypatch.setattr(sys, "executable", program)
    assert opened(folder, tmp_path / "others") == alone


@pytest.mark.parametrize("length", [1, 40, 400, 4_000, 40_000])
def test_words_of_another_program_are_no_answer_however_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
):
    talker = tmp_path / "talker"
    talker.write_text(f"#!/bin/sh\nprintf 'x%.0s' $(seq {length})\nexec cat > /dev/null\n")
    talker.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(talker))
    monkeypatch.setattr(decoding.Decoding, "empty", refused)
    helper = Helper(Decoding(3, 6, 6))
    assert helper.process is not None
    with pytest.raises(AssertionError, match="decoded here"):
        helper.all([png(number) for number in range(10)].__getitem__, range(10))
    assert helper.process is None


def test_a_process_without_pytorch_leaves_large_images_to_this_one(monkeypatch: pytest.MonkeyPatch):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(buffer, "PNG")
    contents = [png(1), buffer.getvalue()]
    wanted = Decoding(3, 60, 60).all(contents.__getitem__, range(2))
    assert not wanted.reasons
    monkeypatch.setattr(decoding, "_PROGRAM", "import sys; sys.modules['torch'] = None\n" + decoding._PROGRAM)
    helper = Helper(Decoding(3, 60, 60))
    assert helper.process is not None
    found = helper.all(contents.__getitem__, range(2))
    assert helper.process is None
    assert not found.reasons
    assert np.array_equal(found.pixels, wanted.pixels)


def test_a_process_that_dies_half_way_loses_nothing():
    helper = Helper(Decoding(3, 6, 6))
    contents = [png(number) for number in range(10)]
    wanted = Decoding(3, 6, 6).all(contents.__getitem__, range(10))
    assert np.array_equal(helper.all(contents.__getitem__, range(10)).pixels, wanted.pixels)
    assert helper.process is not None
    helper.process.kill()
    assert np.array_equal(helper.all(contents.__getitem__, range(10)).pixels, wanted.pixels)
    assert helper.process is None


def test_contents_paths_and_images_that_cannot_be_had_are_told_apart(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png(7))

    def origin(place: int) -> Origin:
        if place == 2:
            raise UnreadableImage("it lies elsewhere")
        return [png(1), tmp_path / "a.png", b"", b"", str(tmp_path / "a.png")][place]

    helper = Helper(Decoding(1, 3, 4))
    try:
        found, wanted = helper.all(origin, range(5)), Decoding(1, 3, 4).all(origin, range(5))
        assert helper.process is not None
    finally:
        helper.close()
    assert found.reasons == wanted.reasons == {2: "it lies elsewhere", 3: "the file is empty (0 bytes)"}
    assert np.array_equal(found.pixels, wanted.pixels)
    assert np.array_equal(found.boxes, wanted.boxes)


def test_what_a_program_has_set_in_pillow_holds_in_other_processes(monkeypatch: pytest.MonkeyPatch):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)).save(buffer, "PNG")
    cut = buffer.getvalue()[:-700]
    for allowed in (False, True):
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", allowed)
        helper = Helper(Decoding(1, 40, 40))
        try:
            assert bool(helper.all(lambda _: cut, range(1)).reasons) is not allowed
            assert helper.process is not None
        finally:
            helper.close()
