"""apply and embed: every row with its name, in order, whole or not at all."""

from __future__ import annotations

import csv
import json
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from autodidact.data import ArraySource, Field, Schema, open_source
from autodidact.data.ids import row_ids
from autodidact.data.shards import ShardStream
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel, PredictorModel
from autodidact.model import Model, load_model
from autodidact.verbs.apply import apply, embed
from autodidact.verbs.opened import open_data
from autodidact.verbs.parts import Parts, table_of

NAMES = ["Größe 1.png", "b/日本.png", 'a b,c"d.png', "b/10.png", "b/9.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in NAMES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (9, 12), dtype=np.uint8)).save(path)
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    return tmp_path / "photos"


@pytest.fixture
def model() -> EncoderModel:
    torch.manual_seed(0)
    return EncoderModel({"encoder": build("small:convnet", image_size=8, channels=1, width=4)}).eval()


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("AUTODIDACT_CACHE", str(tmp_path / "cache"))
    return {"quiet": True, "device": "cpu"}


def one_by_one(model: Model, source: Any) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate([model.embed(source.batch(np.array([i]))).numpy() for i in range(len(source))])  # type: ignore[operator]


def test_parquet_holds_every_file_name_beside_its_own_embedding(
    folder: Path, model: EncoderModel, tmp_path: Path, options: dict[str, Any]
) -> None:
    written = embed(model, folder, out=tmp_path / "out" / "e.parquet", batch_size=2, **options)
    table = pq.read_table(written)
    source = open_data(model, folder, quiet=True)
    assert table.column_names == ["id", "name", "embedding"]
    assert sorted(table["name"].to_pylist()) == sorted(NAMES)
    assert table["name"].to_pylist() == list(source.names)
    assert table["id"].to_pylist() == source.ids.tolist()
    found = np.stack(table["embedding"].to_numpy())
    np.testing.assert_allclose(found, one_by_one(model, source), atol=1e-5)


def test_npy_has_the_names_in_a_file_beside_it(
    folder: Path, model: EncoderModel, tmp_path: Path, options: dict[str, Any]
) -> None:
    written = embed(model, folder, out=tmp_path / "e.npy", **options)
    source = open_data(model, folder, quiet=True)
    np.testing.assert_allclose(np.load(written), one_by_one(model, source), atol=1e-5)
    with (tmp_path / "e.names.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(source.names)
    assert [int(row["id"]) for row in rows] == source.ids.tolist()


def test_without_a_file_the_values_are_returned(folder: Path, model: EncoderModel, options: dict[str, Any]) -> None:
    source = open_data(model, folder, quiet=True)
    np.testing.assert_allclose(embed(model, folder, **options), one_by_one(model, source), atol=1e-5)


def test_a_run_that_was_cut_off_does_not_embed_again_what_was_done(
    model: EncoderModel, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autodidact.verbs.apply.PART_SECONDS", 0.0)
    pixels = torch.randint(0, 255, (10, 1, 8, 8), dtype=torch.uint8)
    source = ArraySource("a", {"image": pixels}, Schema(image=Field("image", (1, 8, 8))), row_ids("a", "", 10))
    seen: list[int] = []
    whole = EncoderModel.embed

    def failing(self: EncoderModel, batch: Any) -> torch.Tensor:
        if len(seen) == 6 and not resumed:
            raise KeyboardInterrupt
        seen.extend(batch.ids.tolist())
        return whole(self, batch)

    monkeypatch.setattr(EncoderModel, "embed", failing)
    resumed = False
    target = tmp_path / "e.parquet"
    with pytest.raises(KeyboardInterrupt):
        embed(model, source, out=target, batch_size=2, **options)
    assert not target.exists()
    resumed = True
    embed(model, source, out=target, batch_size=2, **options)
    assert seen == source.ids.tolist()
    monkeypatch.undo()
    np.testing.assert_allclose(
        np.stack(pq.read_table(target)["embedding"].to_numpy()), one_by_one(model, source), atol=1e-5
    )
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".e")] == []


SHARDS, SAMPLES = 3, 4


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three tar files of four images each; the second of the second is damaged."""
    place = tmp_path / "shards"
    place.mkdir()
    for shard in range(SHARDS):
        with tarfile.open(place / f"s-{shard}.tar", "w") as archive:
            for sample in range(SAMPLES):
                content = BytesIO()
                Image.new("L", (8, 8), 20 * (SAMPLES * shard + sample)).save(content, "png")
                data = b"damaged" if (shard, sample) == (1, 1) else content.getvalue()
                member = tarfile.TarInfo(f"{sample:03d}.png")
                member.size = len(data)
                archive.addfile(member, BytesIO(data))
    return place


WHOLE = [(shard, sample) for shard in range(SHARDS) for sample in range(SAMPLES) if (shard, sample) != (1, 1)]


@pytest.mark.parametrize("ending", ["parquet", "npy"])
def test_a_stream_is_embedded_in_its_order_without_what_cannot_be_read(
    shards: Path, model: EncoderModel, tmp_path: Path, options: dict[str, Any], ending: str
) -> None:
    written = embed(model, shards, out=tmp_path / f"e.{ending}", batch_size=5, **options)
    tones = torch.tensor([20 * (SAMPLES * shard + sample) for shard, sample in WHOLE], dtype=torch.uint8)
    wanted = apply(model, tones[:, None, None, None].expand(-1, 8, 8, 1).numpy(), **options)
    names = [f"s-{shard}.tar/{sample:03d}.png" for shard, sample in WHOLE]
    if ending == "parquet":
        table = pq.read_table(written)
        found, called = np.stack(table["embedding"].to_numpy()), table["name"].to_pylist()
        (stream,) = open_data(model, shards, quiet=True).in_order(SHARDS * SAMPLES)
        assert table["id"].to_pylist() == stream.ids.tolist()
    else:
        with (tmp_path / "e.names.csv").open(newline="", encoding="utf-8") as file:
            called = [row["name"] for row in csv.DictReader(file)]
        found = np.load(written)
    assert called == names
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    (line,) = (tmp_path / "e.skipped.jsonl").read_text().splitlines()
    assert json.loads(line)["name"] == "s-1.tar/001.png"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".e")] == []


def test_a_stream_goes_on_where_it_was_cut_off_and_reads_no_earlier_shard(
    shards: Path, model: EncoderModel, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autodidact.verbs.apply.PART_SECONDS", 0.0)
    whole = embed(model, shards, out=tmp_path / "whole.parquet", batch_size=3, **options)
    seen, read, embedding = list[int](), list[str](), EncoderModel.embed
    monkeypatch.setattr(ShardStream, "_read", _spied(ShardStream._read, read))

    def failing(self: EncoderModel, batch: Any) -> torch.Tensor:
        if len(seen) >= 8 and not resumed:
            raise KeyboardInterrupt
        seen.extend(batch.ids.tolist())
        return embedding(self, batch)

    monkeypatch.setattr(EncoderModel, "embed", failing)
    resumed = False
    with pytest.raises(KeyboardInterrupt):
        embed(model, shards, out=tmp_path / "e.parquet", batch_size=3, **options)
    resumed = True
    read.clear()
    again = embed(model, shards, out=tmp_path / "e.parquet", batch_size=3, **options)
    assert read == ["s-2.tar"]
    assert pq.read_table(again).equals(pq.read_table(whole))
    assert len(seen) == len(set(seen)) == len(WHOLE)
    for name in ("e", "whole"):
        assert len((tmp_path / f"{name}.skipped.jsonl").read_text().splitlines()) == 1


def _spied(read: Any, seen: list[str]) -> Any:
    def spied(self: ShardStream, number: int) -> Any:
        seen.append(self.shards[number].name)
        return read(self, number)

    return spied


def test_a_stream_needs_a_file_and_a_sample_that_can_be_read(
    shards: Path, model: EncoderModel, tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="is a stream, whose values need not fit into memory: name a file to write"):
        embed(model, shards, **options)
    stream = open_data(model, shards, quiet=True)
    assert isinstance(stream, ShardStream)
    stream.decode = lambda raws: ({}, dict.fromkeys(range(len(raws)), "damaged"))  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"no row to write to e\.parquet: none of the samples could be read"):
        embed(model, stream, out=tmp_path / "e.parquet", batch_size=5, **options)
    assert len((tmp_path / "e.skipped.jsonl").read_text().splitlines()) == SHARDS * SAMPLES


def test_parts_behind_a_gap_are_made_again(tmp_path: Path) -> None:
    def rows(start: int, end: int) -> Any:
        return table_of(np.arange(start, end), [f"{i}" for i in range(start, end)], {"v": torch.arange(start, end)})

    parts = Parts(tmp_path / "e.parquet", "key")
    for start, end in ((0, 2), (2, 5), (5, 6)):
        parts.add(rows(start, end), end)
    assert Parts(tmp_path / "e.parquet", "key").samples == 6
    sorted(parts.folder.rglob("*.parquet"))[1].write_bytes(b"damaged")
    parts = Parts(tmp_path / "e.parquet", "key")
    assert parts.samples == 2
    parts.add(rows(2, 6), 6)
    assert pq.read_table(parts.finish(lambda names: names[0]))["v"].to_pylist() == list(range(6))
    assert not parts.folder.exists()


@pytest.mark.parametrize("ends", [[6], [2, 6]])
def test_rows_of_one_part_or_of_several_are_the_same_file_to_a_reader(tmp_path: Path, ends: list[int]) -> None:
    parts, start = Parts(tmp_path / "e.parquet", "key"), 0
    for end in ends:
        names = [f"{i % 2}.png" for i in range(start, end)]
        parts.add(table_of(np.arange(start, end), names, {"v": torch.arange(start, end).float()[:, None]}), end)
        start = end
    written = pq.ParquetFile(parts.finish(lambda names: names[0]))
    assert written.read()["v"].to_pylist() == [[float(i)] for i in range(6)]
    assert json.loads(written.schema_arrow.field("v").metadata[b"shape"]) == [1]
    columns = [written.metadata.row_group(0).column(i) for i in range(3)]
    # Text is written small, and numbers fast.
    assert [column.compression for column in columns] == ["UNCOMPRESSED", "SNAPPY", "UNCOMPRESSED"]
    assert ["RLE_DICTIONARY" in column.encodings for column in columns] == [False, True, False]
    assert [file.name for file in tmp_path.iterdir()] == ["e.parquet"]


def test_text_is_not_written_as_an_array(tmp_path: Path, model: EncoderModel, options: dict[str, Any]) -> None:
    class Speaker(EncoderModel):
        def generate(self, batch: Any) -> list[str]:
            return [f"sample {i}" for i in batch.ids.tolist()]

    speaker = Speaker(dict(model.encoders)).eval()
    speaker.abilities = ("generate",)
    pixels = np.zeros((4, 8, 8, 1), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"only numbers are written as \.npy; use \.parquet"):
        apply(speaker, pixels, ability="generate", out=tmp_path / "e.npy", **options)
    said = apply(speaker, pixels, ability="generate", **options)
    table = pq.read_table(apply(speaker, pixels, ability="generate", out=tmp_path / "e.parquet", **options))
    assert table["generate"].to_pylist() == said == [f"sample {i}" for i in table["id"].to_pylist()]


def test_parts_of_another_model_are_not_taken_over(
    model: EncoderModel, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autodidact.verbs.apply.PART_SECONDS", 0.0)
    pixels = torch.randint(0, 255, (6, 1, 8, 8), dtype=torch.uint8)
    source = ArraySource("a", {"image": pixels}, Schema(image=Field("image", (1, 8, 8))), row_ids("a", "", 6))
    other = EncoderModel({"encoder": build("small:convnet", image_size=8, channels=1, width=4)}).eval()
    calls = 0
    whole = EncoderModel.embed

    def failing(self: EncoderModel, batch: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return whole(self, batch)

    monkeypatch.setattr(EncoderModel, "embed", failing)
    with pytest.raises(KeyboardInterrupt):
        embed(other, source, out=tmp_path / "e.npy", batch_size=2, **options)
    embed(model, source, out=tmp_path / "e.npy", batch_size=2, **options)
    monkeypatch.undo()
    np.testing.assert_allclose(np.load(tmp_path / "e.npy"), one_by_one(model, source), atol=1e-5)


def test_a_classifier_writes_class_names_and_probabilities(
    folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    torch.manual_seed(1)
    classifier = PredictorModel(
        build("small:convnet", image_size=8, channels=1, width=4), classes=("cat", "dög", "eel")
    )
    torch.nn.init.normal_(classifier.head.out.weight)
    table = pq.read_table(apply(classifier, folder, ability="predict", out=tmp_path / "p.parquet", **options))
    shares = np.stack(table["probabilities"].to_numpy())
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
    assert table["class"].to_pylist() == [classifier.classes[i] for i in shares.argmax(1)]
    assert len(set(table["class"].to_pylist())) > 1


def test_a_table_gets_a_value_a_row_in_the_columns_order_of_the_model(tmp_path: Path, options: dict[str, Any]) -> None:
    rows = "a,b,kind\n1,2,x\n3,,y\n5,6,x\n"
    (tmp_path / "t.csv").write_text(rows)
    source = open_source(tmp_path / "t.csv", progress=False)
    torch.manual_seed(0)
    regressor = PredictorModel(build("small:tabular", schema=source.schema), mean=10.0, std=2.0).eval()
    torch.nn.init.normal_(regressor.head.out.weight)
    expected = apply(regressor, tmp_path / "t.csv", ability="predict", **options)
    (tmp_path / "u.csv").write_text("extra,kind,b,a\nq,x,2,1\nq,y,,3\nq,x,6,5\n")
    turned = apply(regressor, tmp_path / "u.csv", ability="predict", **options)
    np.testing.assert_allclose(turned, expected, atol=1e-6)
    assert np.std(expected) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out": "e.csv"}, "its ending must be one of .parquet, .npy"),
        ({"ability": "predict"}, "cannot predict; it can embed"),
        ({"ability": "embedd"}, "did you mean 'embed'"),
        ({"device": "tpu"}, "device must be auto, cpu or gpu"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    folder: Path, model: EncoderModel, options: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        apply(model, folder, **{**options, **change})


def test_images_of_other_channels_are_refused(model: EncoderModel, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="built for images of 1 channels, these have 3"):
        embed(model, np.zeros((4, 8, 8, 3), dtype=np.uint8), **options)


@pytest.fixture
def finder() -> EncoderModel:
    torch.manual_seed(0)
    name = "small:dependency_vit?width=12&depth=2&heads=3&patch=2"
    return EncoderModel({"encoder": build(name, image_size=8, channels=1)}).eval()


def test_parsed_images_have_saliency_parent_and_part_of_every_patch(
    folder: Path, finder: EncoderModel, tmp_path: Path, options: dict[str, Any]
) -> None:
    written = apply(finder, folder, ability="parse", out=tmp_path / "p.parquet", batch_size=2, **options)
    table = pq.read_table(written)
    assert table.column_names == ["id", "name", "saliency", "parent", "part"]
    assert sorted(table.column("name").to_pylist()) == sorted(NAMES)
    source = open_data(finder, folder, quiet=True)
    with torch.no_grad():
        wanted = finder.parse(source.batch(np.arange(len(source))))
    for name, values in wanted.items():
        np.testing.assert_allclose(np.array(table.column(name).to_pylist()), values.numpy(), rtol=1e-5)
    assert {tuple(sorted(row)).count(-1) for row in table.column("parent").to_pylist()} == {1}
    array = apply(finder, folder, ability="parse", out=tmp_path / "p.npy", **options)
    np.testing.assert_allclose(np.load(array), wanted["saliency"].numpy(), rtol=1e-5)


def test_a_model_keeps_parsing_when_it_is_saved_and_with_a_head(finder: EncoderModel, tmp_path: Path) -> None:
    batch = open_source("digits", progress=False).batch(np.arange(4))
    predictor = PredictorModel(finder.encoder, classes=("a", "b")).eval()
    assert finder.abilities == ("embed", "parse")
    assert predictor.abilities == ("embed", "predict", "parse")
    for name, model in (("encoder", finder), ("predictor", predictor)):
        again = load_model(model.save(tmp_path / name))
        for column, values in again.parse(batch).items():  # type: ignore[operator]
            assert torch.equal(values, finder.parse(batch)[column])


def test_other_models_do_not_parse(model: EncoderModel, folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot parse; it can embed"):
        apply(model, folder, ability="parse", **options)
