"""Shards: what is in them, their order, stops and processes."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.data.tars import numbered, png, tar_of

from autodidact.data import channel_statistics, open_source, shard_files
from autodidact.data import shards as module
from autodidact.data.shard_files import CutOff, LostTouch, Shard, list_shards
from autodidact.data.shards import OPEN, ShardStream


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTODIDACT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty shards of 3 to 7 images, 100 in all; the brightness of each is its number."""
    place = tmp_path / "photos"
    place.mkdir()
    first = 0
    for number in range(20):
        count = 3 + number % 5
        (place / f"{number:03d}.tar").write_bytes(tar_of(numbered(first, count)))
        first += count
    return place


def opened(place: object, **options: object) -> ShardStream:
    source = open_source(str(place), progress=False, **options)  # type: ignore[arg-type]
    assert isinstance(source, ShardStream)
    return source


def flat(lists: Iterable[list]) -> list:
    return list(chain.from_iterable(lists))


def values(drawn) -> list[int]:
    return [int(np.asarray(Image.open(io.BytesIO(raw["image"]["bytes"])))[0, 0]) for _, raw in drawn]


def order(source: ShardStream, size: int, count: int, **options: int) -> list[list[int]]:
    return [values(drawn) for drawn in islice(source.draws(size, 5, **options), count)]


def test_a_folder_of_tar_files_is_a_stream_of_its_images_and_classes(folder: Path):
    source = opened(folder, buffer=7)
    assert (len(source), source.schema["image"].shape, source.schema["label"].classes) == (
        100,
        (1, 4, 4),
        ("0", "1", "2"),
    )
    assert source.notes[-1] == "100 samples in 20 shards, read in sequence"
    batches = list(source.in_order(30))
    shown = [value for batch in batches for value in batch["image"][:, 0, 0, 0].tolist()]
    assert shown == list(range(100))
    assert [label for batch in batches for label in batch["label"].tolist()] == [value % 3 for value in shown]
    ids = [i for batch in batches for i in batch.ids.tolist()]
    assert len({*ids}) == 100
    again = next(iter(opened(folder / "00*.tar").in_order(100)))
    assert len(again) == 10 * 5
    assert channel_statistics(source)["mean"][0] == pytest.approx(np.arange(100).mean() / 255)


def test_an_epoch_shows_every_sample_once_in_an_order_of_its_own(folder: Path):
    source = opened(folder, buffer=7)
    epochs = order(source, 10, 20)
    first, second = flat(epochs[:10]), flat(epochs[10:])
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second
    assert first != flat([values(drawn) for drawn in islice(source.draws(10, 6), 10)])
    # Neighbours in a shard are apart, since several shards are read side by side.
    assert np.mean(np.abs(np.diff(first)) == 1) < 0.15


@pytest.mark.parametrize("skip", [1, 3, 8, 13, 14, 15, 29, 100])
@pytest.mark.parametrize("parts", [1, 3, 30])
def test_a_stream_that_goes_on_shows_what_it_would_have_shown(folder: Path, skip: int, parts: int):
    part = parts // 2
    size = {1: 7, 3: 5, 30: 2}[parts]
    options = {"part": part, "parts": parts}
    whole = order(opened(folder, buffer=6), size, skip + 4, **options)
    assert order(opened(folder, buffer=6), size, 4, skip=skip, **options) == whole[skip:]


def test_going_on_reads_no_more_shards_again_than_are_open(folder: Path, monkeypatch: pytest.MonkeyPatch):
    source = opened(folder, buffer=1)
    read: list[str] = []
    plain = Shard.rows

    def counted(shard: Shard, columns=None):
        read.append(shard.name)
        return plain(shard, columns)

    monkeypatch.setattr(Shard, "rows", counted)
    next(source.draws(10, 0, skip=9))
    assert len(read) <= OPEN


def test_processes_read_different_samples_and_together_all(folder: Path):
    parts = [flat(order(opened(folder), 1, len(range(part, 20, 3)) * 3, part=part, parts=3)) for part in range(3)]
    assert sum(len({*part}) for part in parts) == len({*flat(parts)})
    # More processes than shards: samples are dealt out.
    few = opened(folder / "01?.tar")
    dealt = [flat(order(few, 1, len(range(part, 50, 12)), part=part, parts=12)) for part in range(12)]
    assert sorted(flat(dealt)) == list(range(50, 100))


def test_a_shard_that_breaks_off_is_read_as_far_as_it_goes_and_named(folder: Path):
    whole = (folder / "004.tar").read_bytes()
    (folder / "004.tar").write_bytes(whole[: 2 * 2048 + 700])
    (folder / "005.tar").write_bytes(b"this is no archive")
    source = opened(folder)
    shown = flat(batch["image"][:, 0, 0, 0].tolist() for batch in source.in_order(50))
    # Five of the seven of one, and the three of the other.
    assert len(shown) == 100 - 5 - 3
    names = [entry["name"] for entry in source.skipped]
    assert names == ["004.tar", "005.tar"]
    assert source.skipped[1]["reason"].startswith("breaks off after 0 samples")
    # Told once, and lengths are known from then on.
    epoch = order(source, 5, 19)
    assert {*flat(epoch)} <= {*shown}
    assert len(source.skipped) == 2
    assert sum(source.lengths.known.values()) == len(shown)


def test_an_unreadable_image_is_skipped_by_the_name_of_its_shard(tmp_path: Path):
    samples = numbered(0, 6)
    samples[2]["png"] = b"damaged"
    samples[4] = {"cls": b"1"}
    (tmp_path / "a.tar").write_bytes(tar_of(samples))
    source = opened(tmp_path / "a.tar")
    (batch,) = source.in_order(10)
    assert batch["image"][:, 0, 0, 0].tolist() == [0, 1, 3, 5]
    assert batch["label"].tolist() == [0, 1, 0, 2]
    assert [entry["name"] for entry in source.skipped] == ["a.tar/a/0002.png", "a.tar:4"]
    # Where processes exchange embeddings, each batch has its full size.
    drawn = next(source.draws(6, 0))
    assert len(source.batch_of(drawn, whole=True)) == 6


def test_labels_from_the_json_of_a_sample_and_compressed_shards(tmp_path: Path):
    samples = [{"png": png(i), "json": json.dumps({"kind": "ab"[i % 2], "more": [1]}).encode()} for i in range(8)]
    (tmp_path / "x.tar.gz").write_bytes(tar_of(samples, "w:gz"))
    source = opened(tmp_path, labels="kind")
    assert source.schema["label"].classes == ("a", "b")
    # A compressed file's length is known once it has been read.
    assert len(source) == 0
    assert flat(order(source, 4, 2)) != []
    next(source.draws(4, 5, skip=2))
    assert len(opened(tmp_path, labels="kind")) == 8
    with pytest.raises(ValueError, match=r"unknown column of .*'kid'; did you mean 'kind'"):
        opened(tmp_path, labels="kid")
    assert "label" not in opened(tmp_path, labels="none").schema


def test_lengths_are_asked_for_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    opened(folder)
    monkeypatch.setattr(Shard, "count", lambda shard: pytest.fail("asked again"))
    assert len(opened(folder)) == 100
    kept = next((folder.parent / "cache" / "shards").glob("*.jsonl"))
    kept.write_text(kept.read_text()[:-2])
    monkeypatch.setattr(Shard, "count", lambda shard: 7)
    assert len(opened(folder)) == 100


def parquet(path: Path, first: int, count: int, raw: bool = False) -> None:
    cells = [png(value) if raw else {"bytes": png(value), "path": None} for value in range(first, first + count)]
    features = {"pet": {"names": ["dog", "cat"], "_type": "ClassLabel"}, "photo": {"_type": "Image"}}
    table = pa.table(
        {"who": ["me"] * count, "photo": cells, "pet": [value % 2 for value in range(first, first + count)]}
    )
    if not raw:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)


@pytest.mark.parametrize("raw", [False, True])
def test_parquet_shards_of_images_bring_their_classes(tmp_path: Path, raw: bool):
    for number in range(3):
        parquet(tmp_path / f"train-{number}.parquet", 10 * number, 10, raw)
    parquet(tmp_path / "test-0.parquet", 30, 4, raw)
    source = opened(f"shards:{tmp_path}", labels="pet" if raw else None)
    assert len(source) == 30
    assert source.schema["label"].classes == (("0", "1") if raw else ("dog", "cat"))
    assert sorted(flat(order_of_photos(source))) == list(range(30))
    assert len(opened(f"shards:{tmp_path}:test", labels="none")) == 4
    assert len(opened(f"shards:{tmp_path}", split="all", labels="none")) == 34
    with pytest.raises(ValueError, match="of the split 'val'; there are test, train"):
        opened(f"shards:{tmp_path}:val")


def order_of_photos(source: ShardStream) -> list[list[int]]:
    return [batch["image"][:, 0, 0, 0].tolist() for batch in islice(source.batches(10, 0), 3)]


def test_parquet_shards_of_numbers_are_a_table(tmp_path: Path):
    for number in range(2):
        pq.write_table(pa.table({"age": [float(10 * number + i) for i in range(10)]}), tmp_path / f"{number}.parquet")
    source = opened(f"shards:{tmp_path}")
    assert sorted(next(iter(source.batches(20, 0)))["numeric"][:, 0].tolist()) == [float(i) for i in range(20)]


def test_shards_at_an_address(folder: Path):
    import fsspec

    files = fsspec.filesystem("memory")
    for path in folder.iterdir():
        files.pipe(f"/bucket/photos/{path.name}", path.read_bytes())
    try:
        source = opened("memory://bucket/photos/0{00..19}.tar", buffer=7)
        assert len(source) == 0, "tar files far away are not read to find out their length"
        assert len(source.shards) == 20
        assert order(source, 10, 10) == order(opened(folder, buffer=7), 10, 10)
        list(source.in_order(50))
        # All lengths are known now, so the next start knows how long an epoch is.
        assert len(opened("memory://bucket/photos/0{00..19}.tar")) == 100
        assert len(list_shards("memory://bucket")) == len(list_shards("memory://bucket/photos/*.tar")) == 20
    finally:
        files.rm("/bucket", recursive=True)


def test_a_line_that_breaks_is_taken_up_again(folder: Path, monkeypatch: pytest.MonkeyPatch):
    import fsspec

    files = fsspec.filesystem("memory")
    for path in folder.iterdir():
        files.pipe(f"/line/{path.name}", path.read_bytes())
    try:
        source = opened("memory://line", buffer=7)
        plain, broken, pauses = Shard.rows, [0], []

        def breaking(shard: Shard, columns=None):
            for index, row in enumerate(plain(shard, columns)):
                if shard.name == "003.tar" and index == 2 and broken[0]:
                    broken[0] -= 1
                    raise LostTouch("connection reset")
                yield row

        monkeypatch.setattr(Shard, "rows", breaking)
        monkeypatch.setattr(module.time, "sleep", pauses.append)
        whole = order(source, 10, 10)
        broken[0] = 2
        assert order(source, 10, 10) == whole
        assert pauses == [1.0, 5.0]
        broken[0] = 4
        with pytest.raises(OSError, match=r"003\.tar cannot be read after 4 tries: connection reset"):
            order(source, 10, 10)
        assert source.skipped == []
    finally:
        files.rm("/line", recursive=True)


def test_what_goes_wrong_far_away_may_pass_and_on_a_disk_it_does_not():
    for near, error, kind in (
        (False, ConnectionResetError("reset"), LostTouch),
        (False, FileNotFoundError("none"), CutOff),
        (False, tarfile.ReadError("torn"), CutOff),
        (True, OSError("bad sector"), CutOff),
    ):
        with pytest.raises(kind), shard_files._reasons(near):
            raise error


def test_shards_called_alike_in_several_folders_are_told_apart(tmp_path: Path):
    for number in range(2):
        (tmp_path / f"part{number}").mkdir()
        (tmp_path / f"part{number}" / "x.tar").write_bytes(tar_of(numbered(10 * number, 5)))
    source = opened(f"{tmp_path}/part{{0..1}}/x.tar")
    assert [shard.name for shard in source.shards] == ["part0/x.tar", "part1/x.tar"]
    (batch,) = source.in_order(10)
    assert len({*batch.ids.tolist()}) == 10
    # The same ids as those of the folder.
    (whole,) = opened(f"shards:{tmp_path}").in_order(10)
    assert whole.ids.tolist() == batch.ids.tolist()


def test_what_is_no_shard_is_one_clear_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"there is no shard at .*a shard ends in \.tar"):
        opened(f"shards:{tmp_path}")
    (tmp_path / "1.tar").write_bytes(tar_of(numbered(0, 4)))
    with pytest.raises(FileNotFoundError, match=r"there is no file .*2\.tar"):
        opened(tmp_path / "{1..2}.tar")
    (tmp_path / "1.tar").unlink()
    with pytest.raises(FileNotFoundError, match="there is no shard at 'memory://nowhere'"):
        opened("memory://nowhere")
    with pytest.raises(ValueError, match=r"\{9\.\.1\} counts down; write \{1\.\.9\}"):
        opened("memory://x/{9..1}.tar")
    with pytest.raises(ValueError, match=r"Protocol not known|needs a package"):
        opened("nonsense://x/1.tar")
    (tmp_path / "a.tar").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"none of the 1 shards at .* has a sample that can be read"):
        opened(tmp_path)
    parquet(tmp_path / "b.parquet", 0, 3)
    with pytest.raises(ValueError, match="holds tar and Parquet files"):
        opened(tmp_path)
    (tmp_path / "a.tar").write_bytes(tar_of(numbered(0, 4)))
    with pytest.raises(ValueError, match=f"larger than the data: stream '{tmp_path.name}' has 4 samples"):
        next(opened(tmp_path / "a.tar").draws(9, 0))
    with pytest.raises(ValueError, match="batch size 9 is larger than the data"):
        next(opened(tmp_path / "a.tar").draws(9, 0, skip=3))
    with pytest.raises(ValueError, match="not named after splits, so there is no part 'test'"):
        opened(f"{tmp_path / 'a.tar'}", split="test")


def test_a_shard_that_cannot_be_counted_counts_as_empty_until_it_is_read(folder: Path):
    (folder / "000.tar").write_bytes(b"")
    source = opened(folder)
    assert module._asked(source.shards[0]) == 0
    assert len(source) == 97
