"""Arrays, IDX files and bundled sets."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from autodidact.data import open_source
from autodidact.data.bundled import FASHION_CLASSES, FASHION_FOLDERS
from autodidact.data.idx import read_idx
from autodidact.data.source import Source

RNG = np.random.default_rng(0)


def images_of(source: Source) -> torch.Tensor:
    found = source.read(np.arange(len(source)))["image"]
    assert isinstance(found, torch.Tensor)
    return found


@pytest.mark.parametrize(
    ("shape", "to_channels_first"),
    [
        ((5, 6, 7), lambda x: x[:, None]),
        ((5, 6, 7, 3), lambda x: x.transpose(0, 3, 1, 2)),
        ((5, 3, 6, 7), lambda x: x),
        ((5, 6, 7, 1), lambda x: x.transpose(0, 3, 1, 2)),
        ((5, 13, 20, 21), lambda x: x),
    ],
    ids=["grey", "channels last", "channels first", "one channel", "thirteen bands"],
)
def test_the_channel_axis_is_found(tmp_path: Path, shape, to_channels_first):
    values = RNG.integers(0, 256, shape, dtype=np.uint8)
    np.save(tmp_path / "x.npy", values)
    source = open_source(tmp_path / "x.npy")
    np.testing.assert_array_equal(images_of(source), to_channels_first(values))
    assert images_of(source).dtype == torch.uint8
    assert source.schema["image"].shape == to_channels_first(values).shape[1:]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.linspace(0, 1, 8, dtype=np.float64), np.linspace(0, 1, 8)),
        (np.linspace(0, 255, 8, dtype=np.float32), np.linspace(0, 1, 8)),
        (np.linspace(0, 65535, 8).astype(np.uint16), np.linspace(0, 1, 8)),
        (np.array([0, 51, 102, 153, 204, 255, 0, 255]), np.array([0, 0.2, 0.4, 0.6, 0.8, 1, 0, 1])),
        (np.array([True, False] * 4), np.array([1.0, 0.0] * 4)),
    ],
    ids=["unit floats", "byte floats", "sixteen bits", "whole numbers", "truth values"],
)
def test_other_numbers_become_floats_in_the_unit_interval(values, expected):
    found = images_of(open_source(values.reshape(2, 2, 2)))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.flatten(), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((2, 3, 3), -1.0), "pixels from -1 to -1; accepted are uint8"),
        (np.full((2, 3, 3), 300.0), "pixels from 300"),
        (np.full((2, 3, 3), np.nan), "from nan"),
        (np.zeros(5), r"shape \(5,\); accepted are"),
        (np.zeros((2, 3, 4, 5, 6)), "accepted are"),
        (np.zeros((0, 3)), "accepted are"),
        (np.zeros((2, 3), dtype=complex), "holds complex128"),
        (np.array([["a"]]), "holds <U1"),
    ],
)
def test_arrays_that_are_no_samples_are_errors(values, message):
    with pytest.raises(ValueError, match=message):
        open_source(values)


def test_vectors_are_a_numeric_table():
    source = open_source(np.array([[1, 2], [3, np.nan]]))
    assert source.schema["numeric"].columns == ("x0", "x1")
    np.testing.assert_array_equal(source.read(np.arange(2))["numeric"], [[1, 2], [3, np.nan]])


def test_a_saved_array_is_mapped_and_travels_as_its_name(tmp_path: Path):
    np.save(tmp_path / "x.npy", RNG.integers(0, 256, (50, 64, 64), dtype=np.uint8))
    source = open_source(tmp_path / "x.npy")
    assert isinstance(source.values, np.memmap)  # type: ignore[attr-defined]
    carried = pickle.dumps(source)
    assert len(carried) < 5_000
    assert torch.equal(images_of(pickle.loads(carried)), images_of(source))


def test_positions_are_read_in_the_order_asked_for(tmp_path: Path):
    values = np.arange(10, dtype=np.uint8).repeat(4).reshape(10, 2, 2)
    np.save(tmp_path / "x.npy", values)
    found = open_source(tmp_path / "x.npy").read(np.array([7, 1, 7, 0]))["image"]
    assert found[:, 0, 0, 0].tolist() == [7, 1, 7, 0]  # type: ignore[index]


def test_labels_of_an_array_lie_in_a_file_beside_it(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.zeros((4, 2, 2), dtype=np.uint8))
    np.save(tmp_path / "y.npy", np.array([3, 1, 3, 1]))
    source = open_source(tmp_path / "x.npy", labels="y.npy")
    assert source.column("label").tolist() == [1, 0, 1, 0]
    assert source.schema["label"].classes == ("1", "3")
    np.save(tmp_path / "y.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"4 rows and labels of shape \(3,\)"):
        open_source(tmp_path / "x.npy", labels="y.npy")
    with pytest.raises(FileNotFoundError, match="there is no 'z'"):
        open_source(tmp_path / "x.npy", labels="z")


@pytest.mark.parametrize("keys", [("images", "labels"), ("X", "Y"), ("arr_0", "arr_1"), ("x_train", "y_train")])
def test_an_archive_is_read_by_its_usual_keys(tmp_path: Path, keys: tuple[str, str]):
    values, labels = RNG.integers(0, 256, (3, 4, 4), dtype=np.uint8), np.array([0, 1, 0])
    np.savez(tmp_path / "d.npz", **{keys[0]: values, keys[1]: labels, "more": np.zeros(2)})
    source = open_source(tmp_path / "d.npz")
    np.testing.assert_array_equal(images_of(source)[:, 0], values)
    assert source.column("label").tolist() == [0, 1, 0]
    assert "left aside: more" in source.notes
    assert "label" not in open_source(tmp_path / "d.npz", labels="none").schema


def test_an_archive_gives_the_labels_asked_for(tmp_path: Path):
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 2)), y=np.array([0, 1, 0]), age=np.array([1.5, 2.5, 9.5]))
    assert open_source(tmp_path / "d.npz", labels="age").column("target").tolist() == [1.5, 2.5, 9.5]
    with pytest.raises(FileNotFoundError, match="there is no 'agee'"):
        open_source(tmp_path / "d.npz", labels="agee")


def test_an_archive_of_other_keys_names_them(tmp_path: Path):
    np.savez(tmp_path / "d.npz", pixels=np.zeros((3, 2)))
    with pytest.raises(ValueError, match="holds pixels; one of images, image, x"):
        open_source(tmp_path / "d.npz")


def test_python_objects_are_never_loaded(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.array([{"run": "me"}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="never loaded"):
        open_source(tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", x=np.array([{"run": "me"}], dtype=object))
    with pytest.raises(ValueError, match="never loaded"):
        open_source(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
@pytest.mark.parametrize("content", [b"", b"nonsense", None], ids=["empty", "nonsense", "cut"])
def test_damaged_numpy_files_are_errors(tmp_path: Path, name: str, content: bytes | None):
    path = tmp_path / name
    if content is None:
        (np.save if name == "x.npy" else np.savez)(path, np.zeros((50, 50)))
        content = path.read_bytes()[:300]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=name):
        open_source(path)


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    header = struct.pack(">BBBB", 0, 0, kind, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "kin"
    folder.mkdir()
    for part, count, packed in (("train", 6, True), ("t10k", 4, False)):
        for name, values in (
            ("images-idx3", np.arange(count * 4, dtype=np.uint8).reshape(count, 2, 2)),
            ("labels-idx1", np.arange(count, dtype=np.uint8) % 2),
        ):
            data = idx(values)
            if packed:
                (folder / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(data))
            else:
                (folder / f"{part}-{name}-ubyte").write_bytes(data)
    return folder


def test_a_folder_of_idx_files_gives_its_training_part_and_others_when_asked(idx_folder: Path):
    train = open_source(idx_folder)
    assert images_of(train)[:, 0].flatten().tolist() == list(range(24))
    assert train.column("label").tolist() == [0, 1] * 3
    assert len(open_source(f"{idx_folder}:test")) == 4
    assert len(open_source(idx_folder, split="all")) == 10
    with pytest.raises(ValueError, match="valid: all, test, train"):
        open_source(idx_folder, split="dev")


def test_a_single_idx_file_finds_its_labels(idx_folder: Path):
    source = open_source(idx_folder / "train-images-idx3-ubyte.gz")
    assert source.column("label").tolist() == [0, 1] * 3
    assert source.ids.tolist() == open_source(idx_folder).ids.tolist()
    assert "label" not in open_source(idx_folder / "train-images-idx3-ubyte.gz", labels="none").schema


@pytest.mark.parametrize(
    ("kind", "dtype"), [(8, "u1"), (9, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")]
)
def test_every_type_of_idx_is_read(tmp_path: Path, kind: int, dtype: str):
    values = np.array([[1, 2, 3], [4, 5, 6]], dtype=dtype)
    (tmp_path / "x").write_bytes(idx(values, kind))
    found = read_idx(tmp_path / "x")
    np.testing.assert_array_equal(found, values)
    assert found.dtype == np.dtype(dtype)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a", b"PNG!", "not an IDX file"),
        ("a", b"", "begins with nothing"),
        ("a", idx(np.zeros((3, 2, 2), np.uint8))[:-1], "cut short or too long: 11 bytes for shape .3, 2, 2."),
        ("a", idx(np.zeros((3, 2, 2), np.uint8))[:9], "cut short"),
        ("a.gz", b"no gzip", "cannot be unpacked"),
        ("a.gz", gzip.compress(idx(np.zeros((30, 2, 2), np.uint8)), mtime=0)[:-9], "cannot be unpacked"),
    ],
    ids=["magic", "empty", "short", "header", "no gzip", "cut gzip"],
)
def test_damaged_idx_files_are_errors(tmp_path: Path, name: str, data: bytes, message: str):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / name)


def test_digits_are_bytes_of_the_full_range():
    from sklearn.datasets import load_digits

    source = open_source("digits")
    held = load_digits()
    np.testing.assert_allclose(images_of(source)[:, 0], held.images * 255 / 16, atol=0.5)
    assert source.column("label").tolist() == held.target.tolist()
    assert source.schema["image"].shape == (1, 8, 8)


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "diabetes"])
def test_bundled_tables_are_those_of_scikit_learn(name: str):
    from sklearn import datasets

    held = getattr(datasets, f"load_{name}")()
    source = open_source(name)
    np.testing.assert_allclose(source.read(np.arange(len(source)))["numeric"], held.data.astype(np.float32))
    assert source.schema["numeric"].columns == tuple(held.feature_names)
    if name == "diabetes":
        np.testing.assert_array_equal(source.column("target"), held.target.astype(np.float32))
    else:
        classes = source.schema["label"].classes
        assert [classes[k] for k in source.column("label")] == [str(held.target_names[k]) for k in held.target]


def test_splits_of_a_bundled_set_are_parts_of_it():
    parts = [open_source(f"digits:{part}") for part in ("train", "val", "test")]
    assert sorted(np.concatenate([part.ids for part in parts])) == sorted(open_source("digits").ids)


def test_labels_of_a_bundled_set_may_be_left_aside_but_not_chosen():
    assert list(open_source("digits", labels="none").schema) == ["image"]
    with pytest.raises(ValueError, match="'digits' brings its own labels"):
        open_source("digits", labels="colour")


def test_fashion_mnist_says_how_to_get_it_where_it_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("autodidact.data.bundled.FASHION_FOLDERS", (tmp_path / "nowhere",))
    with pytest.raises(FileNotFoundError, match="apt install dataset-fashion-mnist"):
        open_source("fashion_mnist")


@pytest.mark.skipif(not FASHION_FOLDERS[0].is_dir(), reason="dataset-fashion-mnist is not installed")
def test_fashion_mnist_is_what_its_authors_say():
    test = open_source("fashion_mnist:test")
    assert np.bincount(test.column("label")).tolist() == [1000] * 10
    assert test.schema["label"].classes == FASHION_CLASSES
    assert images_of(test).double().mean() / 255 == pytest.approx(0.2868, abs=1e-4)
