"""Real data that needs no download: what scikit-learn carries, and Debian's Fashion-MNIST where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from autodidact.catalog.nearest import unknown
from autodidact.data.arrays import array_source
from autodidact.data.ids import row_ids
from autodidact.data.idx import idx_parts, read_idx
from autodidact.data.source import Source

FASHION_CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
FASHION_FOLDERS = (Path("/usr/share/datasets/fashion-mnist"), Path("/usr/share/dataset-fashion-mnist"))


def digits() -> Source:
    """1,797 handwritten digits, 8 x 8 grey pixels of 17 levels (here 0 to 255), 10 classes (UCI)."""
    from sklearn.datasets import load_digits

    held = load_digits()
    images = np.rint(held.images * (255 / 16)).astype(np.uint8)
    return array_source(images, "digits", labels=held.target, classes=tuple(str(c) for c in held.target_names))


def _sklearn_table(name: str) -> Source:
    from sklearn import datasets

    from autodidact.data.table import table_source

    held = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = held.frame.copy()
    if hasattr(held, "target_names"):
        frame["target"] = np.asarray(held.target_names)[held.target.to_numpy()]
    return table_source(frame, name, labels="target", task="classes" if hasattr(held, "target_names") else "number")


def breast_cancer() -> Source:
    """569 tumours, 30 numeric columns, malignant or benign (UCI Wisconsin Diagnostic)."""
    return _sklearn_table("breast_cancer")


def wine() -> Source:
    """178 wines, 13 numeric columns, 3 cultivars (UCI)."""
    return _sklearn_table("wine")


def diabetes() -> Source:
    """442 patients, 10 numeric columns, disease progression after a year as a number (Efron et al. 2004)."""
    return _sklearn_table("diabetes")


def fashion_mnist(split: str = "train") -> Source:
    """Zalando's 60,000 (train) and 10,000 (test) garments, 28 x 28 grey, 10 classes.

    Raises
    ------
    FileNotFoundError
        The files are not installed; the message says how to get them.
    """
    folder = next((folder for folder in FASHION_FOLDERS if folder.is_dir()), None)
    if folder is None:
        raise FileNotFoundError(
            f"fashion_mnist is not in {FASHION_FOLDERS[0]}; on Debian and Ubuntu: apt install dataset-fashion-mnist, "
            "elsewhere give the folder with its four IDX files"
        )
    return idx_source(folder, "fashion_mnist", split, FASHION_CLASSES)


def idx_source(folder: Path, name: str, split: str | None, classes: tuple[str, ...] = ()) -> Source:
    """The images of a folder of IDX files; `split` is train (the default where there is one), test, ... or all."""
    parts = idx_parts(folder)
    split = split or ("train" if "train" in parts else "all")
    if split != "all" and split not in parts:
        raise unknown(f"split of '{name}'", split, [*parts, "all"])
    chosen = {key: part for key, part in parts.items() if split in ("all", key)}
    images = [read_idx(path) for path, _ in chosen.values()]
    # By the plain name of the file, so that packed and unpacked files give the same ids.
    ids = [
        row_ids(name, path.name.removesuffix(".gz"), len(part))
        for (path, _), part in zip(chosen.values(), images, strict=True)
    ]
    labels = None
    if all(path is not None for _, path in chosen.values()):
        labels = np.concatenate([read_idx(path) for _, path in chosen.values() if path is not None])
    return array_source(
        np.concatenate(images), name, labels=labels, classes=classes, ids=np.concatenate(ids), task="classes"
    )


NAMED: dict[str, Callable[[], Source]] = {
    "digits": digits,
    "breast_cancer": breast_cancer,
    "wine": wine,
    "diabetes": diabetes,
}
