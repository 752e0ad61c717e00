"""Hugging Face datasets, saved and streaming; streams of any origin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autodidact.data import (
    Field,
    Schema,
    Store,
    channel_statistics,
    describe,
    fingerprint,
    open_source,
    table_statistics,
    together,
)
from autodidact.data.stream import Raw, StreamSource

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def pictures(count: int, broken: tuple[int, ...] = ()) -> list[dict]:
    import io

    cells = []
    for i in range(count):
        buffer = io.BytesIO()
        Image.new("L", (4, 4), i).save(buffer, "PNG")
        cells.append({"bytes": b"damaged" if i in broken else buffer.getvalue(), "path": None})
    return cells


def image_dataset(count: int = 12, broken: tuple[int, ...] = ()):
    features = datasets.Features(
        {
            "image": datasets.Image(decode=False),
            "label": datasets.ClassLabel(names=["dog", "cat"]),
            "who": datasets.Value("string"),
        }
    )
    rows = {"image": pictures(count, broken), "label": [i % 2 for i in range(count)], "who": ["me"] * count}
    return datasets.Dataset.from_dict(rows, features=features).cast_column("image", datasets.Image())


def flat(lists: Iterable[list]) -> list:
    return list(chain.from_iterable(lists))


def values(source) -> list[int]:
    return source.read(np.arange(len(source)))["image"][:, 0, 0, 0].tolist()


def test_a_saved_dataset_of_images_is_a_source_of_images(tmp_path: Path):
    image_dataset().save_to_disk(tmp_path / "pets")
    source = open_source(tmp_path / "pets", progress=False)
    assert values(source) == list(range(12))
    assert source.schema["label"].classes == ("dog", "cat")
    assert source.column("label").tolist() == [i % 2 for i in range(12)]
    assert "columns left aside: who" in source.notes
    assert open_source(f"hf:{tmp_path / 'pets'}", progress=False).ids.tolist() == source.ids.tolist()


def test_damaged_images_of_a_dataset_are_skipped_and_named(tmp_path: Path):
    image_dataset(broken=(3, 7)).save_to_disk(tmp_path / "pets")
    source = open_source(tmp_path / "pets", progress=False)
    assert values(source) == [i for i in range(12) if i not in (3, 7)]
    assert source.column("label").tolist() == [i % 2 for i in range(12) if i not in (3, 7)]
    assert [entry["name"] for entry in source.skipped] == ["pets:3", "pets:7"]


def test_splits_of_a_saved_dataset_are_its_own(tmp_path: Path):
    parts = {"train": image_dataset(8), "validation": image_dataset(4)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "pets")
    assert len(open_source(tmp_path / "pets", progress=False)) == 8
    assert len(open_source(f"{tmp_path / 'pets'}:validation", progress=False)) == 4
    assert len(open_source(f"hf:{tmp_path / 'pets'}:val", progress=False)) == 4
    assert len(open_source(tmp_path / "pets", split="all", progress=False)) == 12
    with pytest.raises(ValueError, match="did you mean 'validation'"):
        open_source(f"{tmp_path / 'pets'}:validatio", progress=False)


def test_a_saved_dataset_without_splits_is_cut_by_hash(tmp_path: Path):
    image_dataset(60).save_to_disk(tmp_path / "pets")
    parts = [values(open_source(tmp_path / "pets", split=name, progress=False)) for name in ("train", "val", "test")]
    assert sorted(flat(parts)) == list(range(60))


def table_dataset():
    features = datasets.Features(
        {
            "age": datasets.Value("float32"),
            "town": datasets.ClassLabel(names=["Ulm", "Bonn"]),
            "job": datasets.Value("string"),
            "y": datasets.ClassLabel(names=["no", "yes"]),
        }
    )
    rows = {"age": [1.5, None, 3.5], "town": [1, 0, None], "job": ["a", "b", None], "y": [1, 0, 1]}
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_saved_table_is_a_table(tmp_path: Path):
    table_dataset().save_to_disk(tmp_path / "people")
    source = open_source(tmp_path / "people", labels="y")
    rows = source.read(np.arange(3))
    np.testing.assert_array_equal(rows["numeric"][:, 0], [1.5, np.nan, 3.5])
    assert source.schema["categorical"].categories == (("Bonn", "Ulm"), ("a", "b"))
    assert rows["categorical"].tolist() == [[0, 0], [1, 1], [-1, -1]]
    assert source.schema["label"].classes == ("no", "yes")
    assert source.column("label").tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="unknown column of"):
        open_source(tmp_path / "people", labels="z")


def test_a_name_that_is_no_dataset_is_one_clear_error():
    with pytest.raises(FileNotFoundError, match="'no/such' is neither a folder that datasets reads nor"):
        open_source("hf:no/such")


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    for i in range(30):
        path = tmp_path / "imgs" / "ab"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), i).save(path)
    return tmp_path / "imgs"


def firsts(batches, count: int) -> list[list[int]]:
    return [batch["image"][:, 0, 0, 0].tolist() for batch in islice(batches, count)]


def test_a_streamed_folder_of_images_gives_every_image_once_an_epoch(image_folder: Path):
    source = open_source(f"hf-stream:{image_folder}", buffer=8)
    assert source.streaming
    assert source.schema["image"].shape == (1, 4, 4)
    assert source.schema["label"].classes == ("a", "b")
    epochs = firsts(source.batches(10, seed=0), 6)  # type: ignore[attr-defined]
    one, two = flat(epochs[:3]), flat(epochs[3:])
    assert sorted(one) == sorted(two) == list(range(30))
    assert one != two != sorted(two)


def test_labels_and_ids_of_a_stream_belong_to_their_images(image_folder: Path):
    source = open_source(f"hf-stream:{image_folder}", buffer=8)
    known = {}
    for batch in source.in_order(7):
        known |= dict(zip(batch.ids.tolist(), batch["image"][:, 0, 0, 0].tolist(), strict=True))
    assert sorted(known.values()) == list(range(30))
    for batch in islice(source.batches(5, seed=3), 12):  # type: ignore[attr-defined]
        shown = batch["image"][:, 0, 0, 0].tolist()
        assert [known[i] for i in batch.ids.tolist()] == shown
        assert batch["label"].tolist() == [value % 2 for value in shown]
        assert batch["box"].tolist() == [[0, 0, 4, 4]] * 5


def test_a_saved_dataset_can_be_streamed(tmp_path: Path):
    image_dataset().save_to_disk(tmp_path / "pets")
    source = open_source(f"hf-stream:{tmp_path / 'pets'}")
    (batch,) = source.in_order(100)
    assert batch["image"][:, 0, 0, 0].tolist() == list(range(12))
    assert source.schema["label"].classes == ("dog", "cat")


def test_a_streamed_table_has_the_columns_of_its_first_rows(tmp_path: Path):
    lines = ["age,town,y"] + [f"{i / 2},{'Ulm' if i % 3 else 'Bonn'},{'yes' if i % 2 else 'no'}" for i in range(40)]
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "people.csv").write_text("\n".join(lines))
    source = open_source(f"hf-stream:{tmp_path / 't'}", labels="y")
    batches = list(source.in_order(16))
    assert torch.cat([b["numeric"] for b in batches])[:, 0].tolist() == [i / 2 for i in range(40)]
    assert torch.cat([b["categorical"] for b in batches])[:, 0].tolist() == [1 if i % 3 else 0 for i in range(40)]
    assert torch.cat([b["label"] for b in batches]).tolist() == [i % 2 for i in range(40)]
    assert source.schema["label"].classes == ("no", "yes")


def test_a_stream_has_no_splits_of_ours(tmp_path: Path):
    image_dataset().save_to_disk(tmp_path / "pets")
    with pytest.raises(ValueError, match="a stream cannot be cut into 'test'"):
        open_source(f"hf-stream:{tmp_path / 'pets'}:test")


class Numbers(StreamSource):
    """0, 1, 2, ...; those in `broken` cannot be read. Counts what is decoded."""

    def __init__(self, count: int, buffer: int = 10, broken: tuple[int, ...] = ()) -> None:
        super().__init__("numbers", Schema(x=Field("target")), count, buffer)
        self.count, self.broken, self.decoded = count, broken, 0

    def samples(self) -> Iterator[Raw]:
        return ({"x": i} for i in range(self.count))

    def decode(self, raws: Sequence[Raw]):
        self.decoded += len(raws)
        bad = {place: "broken" for place, raw in enumerate(raws) if raw["x"] in self.broken}
        good = [float(raw["x"]) for raw in raws if raw["x"] not in self.broken]
        return {"x": torch.tensor(good)}, bad


def drawn(source: StreamSource, size: int, seed: int, skip: int, count: int) -> list[list[float]]:
    return [batch["x"].tolist() for batch in islice(source.batches(size, seed, skip), count)]


@pytest.mark.parametrize("skip", [0, 1, 7, 8, 30])
def test_a_resumed_stream_goes_on_exactly_and_decodes_nothing_twice(skip: int):
    whole = drawn(Numbers(50), 6, 4, 0, 40)
    again = Numbers(50)
    assert drawn(again, 6, 4, skip, 5) == whole[skip : skip + 5]
    assert again.decoded == 30


def test_every_seed_and_epoch_has_its_own_order():
    first, other = drawn(Numbers(60), 10, 0, 0, 12), drawn(Numbers(60), 10, 1, 0, 6)
    assert first[:6] != other
    assert first[:6] != first[6:]
    assert first == drawn(Numbers(60), 10, 0, 0, 12)


def test_the_incomplete_batch_of_an_epoch_is_left_out():
    epoch = drawn(Numbers(20), 6, 0, 0, 3)
    values_ = flat(epoch)
    assert len(set(values_)) == len(values_) == 18


def test_the_buffer_bounds_how_early_a_sample_comes():
    order = flat(drawn(Numbers(1000, buffer=50), 10, 0, 0, 100))
    assert all(value < place + 50 for place, value in enumerate(order))
    assert flat(drawn(Numbers(40, buffer=1), 10, 0, 0, 4)) == list(range(40))


def test_unreadable_samples_of_a_stream_make_a_smaller_batch_and_are_told_once():
    source = Numbers(20, broken=(3, 11))
    for _ in range(2):
        assert sorted(flat(drawn(source, 5, 0, 0, 4))) == [i for i in range(20) if i not in (3, 11)]
    assert sorted(entry["name"] for entry in source.skipped) == ["numbers:11", "numbers:3"]


def test_a_stretch_of_a_stream_that_nobody_can_read_is_an_error():
    with pytest.raises(ValueError, match="none of 5 samples in a row of 'numbers' can be read: broken"):
        list(Numbers(20, broken=tuple(range(20))).in_order(5))


def test_a_batch_larger_than_a_stream_is_an_error():
    with pytest.raises(ValueError, match="batch size 6 is larger than the data: stream 'numbers' has 5 samples"):
        next(Numbers(5).batches(6, 0))


def test_the_first_samples_of_a_stream_can_be_held():
    held = Numbers(20, broken=(1,)).take(4)
    assert held.column("x").tolist() == [0, 2, 3, 4]
    (batch,) = Numbers(4).in_order(9)
    assert batch.ids[0].item() == held.ids[0]
    assert len(Numbers(3).take(9)) == 3


def test_a_stream_is_not_read_by_position():
    for ask in (
        lambda s: s.read(np.array([0])),
        lambda s: s.column("x"),
        lambda s: s.at([0]),
        lambda s: s.only([0]),
        lambda s: s.joined(Store()),
    ):
        with pytest.raises(ValueError, match="is a stream and is read in sequence only"):
            ask(Numbers(3))
    with pytest.raises(ValueError, match="'a' is a stream"):
        together(a=Numbers(3))


def test_figures_of_a_stream_are_those_of_its_first_samples(image_folder: Path, tmp_path: Path):
    source = open_source(f"hf-stream:{image_folder}")
    found = channel_statistics(source)
    assert found["mean"][0] == pytest.approx(np.arange(30).mean() / 255)
    assert "a stream" in describe(source)
    assert fingerprint(source) == fingerprint(open_source(f"hf-stream:{image_folder}"))
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "t.csv").write_text("x\n1.5\n4.5\n")
    assert table_statistics(open_source(f"hf-stream:{tmp_path / 't'}"))["maximum"] == [4.5]
