"""evaluate and select on shards: what they find is what they find in the same images in a folder."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel
from autodidact.verbs.evaluate import evaluate
from autodidact.verbs.examine import examine
from autodidact.verbs.select import select

CLASSES = ("across", "down", "none")


def image(kind: int, rng: np.random.Generator) -> bytes:
    """Horizontal, vertical or no stripes, in noise."""
    pattern = np.zeros((3, 8, 8))
    pattern[0, ::2] = pattern[1, :, ::2] = 1
    pixels = np.clip(110 + 60 * pattern[kind] + rng.normal(0, 40, (8, 8)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def put(place: Path, part: str, contents: list[tuple[int, bytes]]) -> None:
    """The same images as a folder, as three tar files and as two Parquet files, in the same order."""
    for number, (kind, content) in enumerate(contents):
        file = place / "folder" / part / CLASSES[kind] / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    for form in ("tar", "parquet"):
        (place / form).mkdir(exist_ok=True)
    size = len(contents) // 3
    for shard in range(3):
        with tarfile.open(place / "tar" / f"{part}-{shard}.tar", "w") as archive:
            for number in range(shard * size, (shard + 1) * size):
                kind, content = contents[number]
                for ending, held in (("png", content), ("cls", CLASSES[kind].encode())):
                    about = tarfile.TarInfo(f"{number:03d}.{ending}")
                    about.size = len(held)
                    archive.addfile(about, io.BytesIO(held))
    half = len(contents) // 2
    for shard in range(2):
        some = contents[shard * half : (shard + 1) * half]
        table = pa.table({"photo": [content for _, content in some], "kind": [CLASSES[kind] for kind, _ in some]})
        pq.write_table(table, place / "parquet" / f"{part}-{shard}.parquet", row_group_size=10)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 10)):
        put(folder, part, [(kind, image(kind, rng)) for kind in range(3) for _ in range(count)])
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTODIDACT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model() -> EncoderModel:
    torch.manual_seed(0)
    return EncoderModel({"encoder": build("small:convnet", image_size=8, channels=1, width=4)}).eval()


def figures(table: Any) -> dict[tuple[str, str], list[float]]:
    return {(arm, metric): table.values(arm, metric) for arm in table.arms for metric in table.metrics}


def test_evaluation_on_shards_has_the_figures_of_the_folder_in_every_cell(place: Path, model):
    options: dict[str, Any] = {"seeds": 1, "baselines": "raw", "device": "cpu", "quiet": True}
    found = {
        form: evaluate(model, f"{start}{place / form}:train", test=f"{start}{place / form}:test", **options, **own)
        for form, start, own in (
            ("folder", "", {}),
            ("tar", "", {}),
            ("parquet", "shards:", {"label_from": "kind", "cache": False}),
        )
    }
    expected = figures(found["folder"])
    assert len(expected) == 2 * 2
    assert len({tuple(values) for values in expected.values()}) > 1
    assert figures(found["tar"]) == figures(found["parquet"]) == expected
    assert found["tar"].about["answers"] == list(CLASSES)


def test_a_fifth_of_the_shards_is_held_out_the_same_each_time(place: Path, model):
    options: dict[str, Any] = {"labels": "2-per-class", "seeds": 2, "protocols": "knn", "device": "cpu", "quiet": True}
    first, second = (evaluate(model, f"{place}/tar/train-*.tar", baselines="none", **options) for _ in range(2))
    assert (first.about["train"], first.about["tested"]) == (48, 12)
    assert figures(first) == figures(second)


def test_what_needs_no_model_looks_at_shards_too(place: Path):
    found, whole = (
        examine(data, protocols="learning_order", quiet=True)["learning_order"].plain()
        for data in (f"{place}/tar/train-*.tar", place / "folder" / "train")
    )
    same = found.keys() - {"data", "table"}
    assert len(same) > 4
    assert {name: found[name] for name in same} == {name: whole[name] for name in same}


def rows(file: Path) -> list[tuple[str, str, str]]:
    return [(Path(row["name"]).name, row["round"], row["similarity"]) for row in csv.DictReader(file.open())]


def test_selection_from_shards_is_that_from_the_folder(place: Path, model, tmp_path: Path):
    options: dict[str, Any] = {"clusters": 3, "count": 12, "device": "cpu", "quiet": True, "exclude_near_duplicates": 0}
    lists = [
        rows(select(model, f"{place / form}:train", f"{place / form}:test", out=tmp_path / f"{form}.csv", **options))
        for form in ("folder", "tar")
    ]
    assert len(lists[0]) == 12
    assert lists[0] == lists[1]


@pytest.mark.parametrize("form", ["folder", "tar", "parquet"])
def test_what_is_selected_becomes_a_shard_that_training_takes(place: Path, model, tmp_path: Path, form: str):
    start = "shards:" if form == "parquet" else ""
    pool, target = (f"{start}{place / form}:{part}" for part in ("train", "test"))
    options: dict[str, Any] = {"clusters": 3, "count": 12, "device": "cpu", "quiet": True, "exclude_near_duplicates": 0}
    source = open_source(pool, by_position=True, progress=False)
    names = {
        row["name"] for row in csv.DictReader(select(model, pool, target, out=tmp_path / "c.csv", **options).open())
    }
    file = select(model, pool, target, out=tmp_path / "chosen.tar", **options)
    wanted = [position for position, name in enumerate(source.names) if name in names]
    chosen = open_source(file, labels={"folder": "none", "tar": "cls", "parquet": "kind"}[form], progress=False)
    assert chosen.streaming
    (batch,) = chosen.in_order(100)
    got = [image.numpy().tobytes() for image in batch["image"]]
    expected = [image.numpy().tobytes() for image in source.batch(np.array(wanted))["image"]]
    assert sorted(got) == sorted(expected)
    assert got != expected, "they lie in random order"
    with tarfile.open(file) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    images = {name: content for name, content in members.items() if name.endswith(".png")}
    assert {*images.values()} == {source.undecoded(position)["png"] for position in wanted}, "undecoded"
    if form != "folder":
        assert {chosen.schema["label"].classes[label] for label in batch["label"].tolist()} <= {*CLASSES}
    # Nothing is left beside it, and the same command writes the same bytes.
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["c.csv", "chosen.tar"]
    before = file.read_bytes()
    assert select(model, pool, target, out=file, **options).read_bytes() == before


def test_the_target_is_copied_too_and_no_name_is_given_twice(model, tmp_path: Path):
    rng = np.random.default_rng(1)
    for folder in ("pool", "target"):
        for number in range(6):
            for name in (f"{number}.png", f"x.{number}.png"):
                (tmp_path / folder).mkdir(exist_ok=True)
                (tmp_path / folder / name).write_bytes(image(number % 3, rng))
    file = select(
        model, tmp_path / "pool", tmp_path / "target", out=tmp_path / "c.tar", clusters=3, count=5, with_target=True,
        device="cpu", quiet=True,
    )  # fmt: skip
    (batch,) = open_source(file, labels="none", progress=False).in_order(100)
    assert len(batch) == 12 + 5
    contents = {path.read_bytes() for path in (tmp_path / "target").iterdir()}
    with tarfile.open(file) as archive:
        assert contents <= {archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def test_samples_that_are_no_files_are_not_copied(model, tmp_path: Path):
    np.save(tmp_path / "pool.npy", np.zeros((9, 8, 8), dtype=np.uint8))
    with pytest.raises(ValueError, match="'pool' are no files of images that can be copied"):
        select(model, tmp_path / "pool.npy", tmp_path / "pool.npy", out=tmp_path / "c.tar", quiet=True, device="cpu")
