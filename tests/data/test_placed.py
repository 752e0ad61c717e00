"""Shards read by position: the samples of the stream, found by an index."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import time_ns

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.data.tars import numbered, png, tar_of

from autodidact.data import Source, StreamSource, open_source, placed, shards
from autodidact.data.pictures import ImageSource
from autodidact.data.recent import Recent
from autodidact.data.shard_files import CutOff, LostTouch, Shard, list_shards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four shards of 5 to 8 images, 26 in all; the brightness of each is its number. One is damaged, one is absent."""
    place = tmp_path / "photos"
    place.mkdir()
    samples = numbered(0, 26)
    samples[7]["png"] = b"damaged"
    samples[12] = {"cls": b"0", "mp3": b"no image"}
    first = 0
    for number in range(4):
        (place / f"{number}.tar").write_bytes(tar_of(samples[first : first + 5 + number]))
        first += 5 + number
    return place


def parquet(path: Path, first: int, count: int, *, raw: bool = False, **options: int) -> None:
    values = range(first, first + count)
    cells = [png(v) if raw else {"bytes": png(v), "path": f"{v}.png" if v % 2 else None} for v in values]
    features = {"pet": {"names": ["dog", "cat"], "_type": "ClassLabel"}, "photo": {"_type": "Image"}}
    table = pa.table({"who": ["me"] * count, "photo": cells, "pet": [value % 2 for value in values]})
    if not raw:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, **options)


def by_position(place: object, **options: object) -> Source:
    source = open_source(str(place), progress=False, by_position=True, **options)  # type: ignore[arg-type]
    assert not source.streaming
    return source


def streamed(place: object, **options: object) -> StreamSource:
    source = open_source(str(place), progress=False, **options)  # type: ignore[arg-type]
    assert isinstance(source, StreamSource)
    return source


def same_as_the_stream(place: object, **options: object) -> Source:
    """The source, once all of it was found equal to the stream: ids, names, fields, what is skipped."""
    stream, source = streamed(place, **options), by_position(place, **options)
    (stretch,) = stream.stretches(1000)
    assert stretch.batch is not None
    assert source.name == stream.name
    # A stream does not know yet whether all images fill its canvas.
    assert source.schema.keys() | {"box"} == stream.schema.keys() | {"box"}
    assert all(stream.schema[name] == field for name, field in source.schema.items())
    assert source.ids.tolist() == stretch.batch.ids.tolist()
    assert list(source.names) == list(stretch.names)
    fields = source.read(np.arange(len(source)))
    for name, values in fields.items():
        torch.testing.assert_close(values, stretch.batch[name], rtol=0, atol=0, equal_nan=True)
    assert sorted(map(str, source.skipped)) == sorted(map(str, stream.skipped))
    return source


def test_images_in_tar_files_are_those_of_the_stream(folder: Path):
    source = same_as_the_stream(folder)
    assert len(source) == 24
    assert [entry["name"] for entry in source.skipped] == ["1.tar/a/0002.png", "2.tar:1"]
    assert source.notes[0] == "26 samples in 4 shards, read by position"
    assert source.batch(np.array([20, 3]))["image"][:, 0, 0, 0].tolist() == [22, 3]
    assert source.names[-1] == "3.tar/a/0007.png"
    assert source.column("label").tolist() == [v % 3 for v in range(26) if v not in (7, 12)]


def test_without_the_cache_images_are_read_from_where_they_lie(folder: Path):
    source = pickle.loads(pickle.dumps(by_position(folder, cache=False)))
    assert source.batch(np.array([20, 3, 20]))["image"][:, 0, 0, 0].tolist() == [22, 3, 22]
    assert not any(file.suffix == ".u8" and file.stat().st_size for file in folder.parent.rglob("*"))


@pytest.mark.parametrize("depth", [1, 30])
def test_a_tar_file_cut_anywhere_has_the_samples_of_the_stream(tmp_path: Path, depth: int):
    # Long names have headers of their own; files of a sample may come in any order.
    samples = [{"json": b'{"kind": 1}', "png": png(0)}, *numbered(1, 2), {"txt": b"x" * 700, "b.png": png(3)}]
    whole = tar_of(samples, folder="./" + "long/" * depth)
    path = tmp_path / "a.tar"
    for length in [*range(0, len(whole), 128), len(whole)]:
        path.write_bytes(whole[:length])
        (shard,) = list_shards(str(path))
        found, told = [], []
        for rows in (shard.rows, shard.places):
            kept: list = []
            try:
                kept.extend(rows())
                told.append(None)
            except CutOff as error:
                told.append(str(error))
            found.append(kept)
        read = [
            {**s.told, **({"image": {"bytes": shard.read(s.image), "path": s.path}} if s.image else {})}
            for s in found[1]
        ]
        assert read == found[0], length
        assert (told[0] is None) == (told[1] is None), length
    assert len(read) == 4


def test_a_shard_that_breaks_off_is_named_each_time(folder: Path):
    whole = (folder / "3.tar").read_bytes()
    (folder / "3.tar").write_bytes(whole[: 2 * 2048 + 700])
    (folder / "2.tar").write_bytes(b"this is no archive")
    for _ in range(2):
        source = by_position(folder)
        assert len(source) == 5 + 5 + 2
        assert [entry["name"] for entry in source.skipped] == ["2.tar", "3.tar", "1.tar/a/0002.png"]
        assert source.skipped[1]["reason"].startswith("breaks off after 2 samples")
    assert list(source.ids) == [int(i) for batch in streamed(folder).in_order(50) for i in batch.ids]


def test_the_index_is_made_once_and_anew_for_a_file_that_was_written_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    first = by_position(folder)
    plain = Shard.places
    monkeypatch.setattr(Shard, "places", lambda shard: pytest.fail("read again"))
    assert by_position(folder).ids.tolist() == first.ids.tolist()
    # What is told beside an image is kept too, whatever is asked for.
    assert "label" not in by_position(folder, labels="none").schema
    monkeypatch.setattr(Shard, "places", plain)
    kept = next((folder.parent / "cache" / "shards").glob("*.index"))
    kept.write_bytes(kept.read_bytes()[:-50])
    assert by_position(folder).ids.tolist() == first.ids.tolist()
    # Of the same size, a moment later.
    content = tar_of(numbered(100, 5))
    assert len(content) == (folder / "0.tar").stat().st_size
    (folder / "0.tar").write_bytes(content)
    later = time_ns() + 2_000_000_000
    os.utime(folder / "0.tar", ns=(later, later))
    assert by_position(folder).batch(np.arange(2))["image"][:, 0, 0, 0].tolist() == [100, 101]


def test_labels_from_the_json_of_a_sample(tmp_path: Path):
    about = [{"kind": "ab"[i % 2], "image": "x.png", "more": [1]} for i in range(8)]
    samples = [{"png": png(i), "json": json.dumps(told).encode()} for i, told in enumerate(about)]
    samples[2]["json"] = b"no json"
    samples[3]["json"] = b"[1]"
    (tmp_path / "x.tar").write_bytes(tar_of(samples))
    source = same_as_the_stream(tmp_path / "x.tar", labels="kind")
    assert source.column("label").tolist() == [0, 1, -1, -1, 0, 1, 0, 1]
    with pytest.raises(ValueError, match=r"unknown column of .*'kid'; did you mean 'kind'"):
        by_position(tmp_path / "x.tar", labels="kid")


@pytest.mark.parametrize("raw", [False, True])
def test_images_in_parquet_files_are_those_of_the_stream(tmp_path: Path, raw: bool):
    for number in range(2):
        parquet(tmp_path / f"train-{number}.parquet", 10 * number, 10, raw=raw, row_group_size=4)
    parquet(tmp_path / "test-0.parquet", 30, 4, raw=raw)
    source = same_as_the_stream(f"shards:{tmp_path}", labels="pet" if raw else None)
    assert source.schema["label"].classes == (("0", "1") if raw else ("dog", "cat"))
    assert source.batch(np.array([13, 2]))["image"][:, 0, 0, 0].tolist() == [13, 2]
    direct = pickle.loads(pickle.dumps(by_position(f"shards:{tmp_path}:test", labels="none", cache=False)))
    assert direct.batch(np.array([3, 0]))["image"][:, 0, 0, 0].tolist() == [33, 30]


def test_a_damaged_row_group_loses_its_own_images_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    parquet(tmp_path / "a.parquet", 0, 12, row_group_size=4)
    plain = Shard.group

    def damaged(shard: Shard, number: int, *args: object, **options: object) -> pa.Table:
        if number == 1:
            raise CutOff("page is corrupt")
        return plain(shard, number, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Shard, "group", damaged)
    source = by_position(f"shards:{tmp_path}")
    assert source.read(np.arange(8))["image"][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert [entry["reason"] for entry in source.skipped] == ["page is corrupt"] * 4


def test_numbers_in_parquet_files_are_those_of_the_stream(tmp_path: Path):
    place = tmp_path / "people"
    place.mkdir()
    for number in range(3):
        ages = [float(10 * number + i) if i else None for i in range(10)]
        pq.write_table(pa.table({"age": ages, "pet": ["dog", "cat"] * 5}), place / f"{number}.parquet")
    source = same_as_the_stream(f"shards:{place}", labels="pet")
    assert source.schema["label"].classes == ("cat", "dog")
    assert source.names[12] == "1.parquet:2"
    (place / "0.parquet").write_bytes(b"broken")
    broken = by_position(f"shards:{place}")
    assert broken.ids.tolist() == source.ids[10:].tolist()
    assert [entry["name"] for entry in broken.skipped] == ["0.parquet"]
    pq.write_table(pa.table({"age": [1.0]}), place / "4.parquet")
    with pytest.raises(ValueError, match=r"4\.parquet has other columns than the first shard \(pet\)"):
        by_position(f"shards:{place}")


def test_numbers_in_tar_files_are_those_of_the_stream(tmp_path: Path):
    rows = [{"json": json.dumps({"age": i * 1.5, "pet": "dc"[i % 2]}).encode()} for i in range(9)]
    (tmp_path / "x.tar").write_bytes(tar_of(rows))
    assert len(same_as_the_stream(tmp_path / "x.tar", labels="pet")) == 9


def test_a_parquet_file_that_lacks_a_column_is_named(tmp_path: Path):
    parquet(tmp_path / "a.parquet", 0, 4)
    pq.write_table(pq.read_table(tmp_path / "a.parquet").drop_columns(["photo"]), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet has no column 'photo'; it has who, pet"):
        by_position(f"shards:{tmp_path}")
    pq.write_table(pq.read_table(tmp_path / "a.parquet").drop_columns(["pet"]), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet has no column 'pet'"):
        by_position(f"shards:{tmp_path}")
    assert len(by_position(f"shards:{tmp_path}", labels="none")) == 8


def test_what_cannot_be_read_by_position_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "x.tar.gz").write_bytes(tar_of(numbered(0, 4), "w:gz"))
    with pytest.raises(ValueError, match=r"'x\.tar\.gz' is compressed as a whole, .* unpack it to \.tar"):
        by_position(tmp_path)
    # Compressed, and called as if it were not: a stream of it can be read.
    (tmp_path / "x.tar.gz").rename(tmp_path / "x.tar")
    with pytest.raises(ValueError, match=r"no sample of the 1 shards of .* can be read by position"):
        by_position(tmp_path)
    (tmp_path / "x.tar").unlink()
    parquet(tmp_path / "a.parquet", 0, 4)
    monkeypatch.setattr(placed, "LARGEST_GROUP", 100)
    with pytest.raises(ValueError, match=r"a row group of .* is read whole; write row groups of up to"):
        by_position(f"shards:{tmp_path}")
    monkeypatch.setenv("AUTODIDACT_CACHE", "/dev/null/cache")
    with pytest.raises(OSError, match=r"cannot be written .* name another folder with --cache-dir"):
        by_position(f"shards:{tmp_path}")


@pytest.fixture
def far(folder: Path) -> Iterator[str]:
    """The same shards at an address, and two Parquet files."""
    files = fsspec.filesystem("memory")
    for path in folder.iterdir():
        files.pipe(f"/bucket/photos/{path.name}", path.read_bytes())
    for number in range(2):
        parquet(folder.parent / "p.parquet", 6 * number, 6, row_group_size=2)
        files.pipe(f"/bucket/rows/{number}.parquet", (folder.parent / "p.parquet").read_bytes())
    yield "memory://bucket"
    files.rm("/bucket", recursive=True)


@pytest.mark.parametrize("piece", [700, 4 << 20])
def test_shards_at_an_address(far: str, folder: Path, piece: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(placed, "PIECE", piece)
    source = same_as_the_stream(f"{far}/photos")
    assert source.ids.tolist() == by_position(folder).ids.tolist()
    assert by_position(f"{far}/photos", cache=False).batch(np.array([20, 3]))["image"][:, 0, 0, 0].tolist() == [22, 3]
    rows = same_as_the_stream(f"{far}/rows/{{0..1}}.parquet")
    assert rows.column("label").tolist() == [0, 1] * 6


def test_a_line_that_breaks_is_taken_up_again(far: str, monkeypatch: pytest.MonkeyPatch):
    files, pauses, broken = fsspec.filesystem("memory"), list[float](), [2]
    plain = type(files).cat_file

    def breaking(self: object, path: str, *args: int, **options: int) -> bytes:
        if path.endswith("2.tar") and broken[0]:
            broken[0] -= 1
            raise ConnectionResetError("reset")
        return plain(self, path, *args, **options)

    monkeypatch.setattr(type(files), "cat_file", breaking)
    monkeypatch.setattr(shards.time, "sleep", pauses.append)
    source = by_position(f"{far}/photos")
    assert (len(source), pauses) == (24, [1.0, 5.0])
    broken[0] = 4
    with pytest.raises(OSError, match=r"2\.tar cannot be read after 4 tries: reset"):
        by_position(f"{far}/photos", canvas=5)
    # Nothing of it is taken for damaged.
    assert len(by_position(f"{far}/photos", canvas=5)) == 24


def test_an_index_is_taken_up_again_where_the_line_broke(far: str, monkeypatch: pytest.MonkeyPatch):
    plain, broken = Shard.places, [1]

    def breaking(shard: Shard) -> Iterator:
        for index, sample in enumerate(plain(shard)):
            if index == 3 and broken[0]:
                broken[0] -= 1
                raise LostTouch("reset")
            yield sample

    monkeypatch.setattr(Shard, "places", breaking)
    monkeypatch.setattr(shards.time, "sleep", lambda seconds: None)
    assert len(by_position(f"{far}/photos")) == 24


def test_the_files_of_a_sample_are_as_they_were(folder: Path, tmp_path: Path):
    source = by_position(folder)
    assert source.undecoded(3) == {"png": png(3), "cls": b"0"}
    assert source.at([5, 20]).undecoded(1) == {"png": png(22), "cls": b"1"}
    (tmp_path / "p").mkdir()
    parquet(tmp_path / "p" / "a.parquet", 0, 6, row_group_size=4)
    told = by_position(f"shards:{tmp_path / 'p'}").undecoded(5)
    assert told.keys() == {"png", "json"}
    assert (told["png"], json.loads(told["json"])) == (png(5), {"who": "me", "pet": "cat"})
    (folder / "0.tar").unlink()
    with pytest.raises(OSError, match=r"0\.tar/a/0003\.png could be read when the data was opened, now it cannot"):
        source.undecoded(3)
    (folder / "plain").mkdir()
    (folder / "plain" / "x.png").write_bytes(png(9))
    files = open_source(folder / "plain", progress=False)
    assert isinstance(files, ImageSource)
    assert files.undecoded(0) == {"png": png(9)}
    with pytest.raises(ValueError, match="'table' are no files of images"):
        open_source(pd.DataFrame({"a": [1.0, 2.5]})).undecoded(0)


def test_a_piece_is_read_once_for_all_who_ask_at_the_same_time():
    read: list[int] = []

    def slow(key: int) -> int:
        read.append(key)
        return key * key

    recent = Recent(slow, 2)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(recent, [3] * 50)) == [9] * 50
    assert read == [3]
    assert [recent(key) for key in (1, 2, 3)] == [1, 4, 9]
    assert read == [3, 1, 2, 3]


def test_a_piece_that_could_not_be_read_is_asked_for_again():
    answers: list[object] = [ConnectionError("no"), 5]

    def read(key: str) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    recent = Recent(read, 2)
    with pytest.raises(ConnectionError):
        recent("a")
    assert recent("a") == 5
