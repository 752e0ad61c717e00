"""Every method that learns by agreement goes through the verbs, on photographs of several sizes and on small grey ones.

The two folders stand for what people have: photographs of 20 to 60 pixels a side, as PNG and JPEG, brought to 16; and
grey pictures of 28: those of Fashion-MNIST where it is installed, else shades of that size. Trainings have one update:
that the way is open is what is tried here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autodidact.data import open_source
from autodidact.data.bundled import FASHION_FOLDERS

COUNT = 24
TRAINED = ("--steps", 1, "--batch-size", 8, "--quiet", "--accelerator", "cpu", "--no-cache")
NARROW = ("--encoder.width", 4, "--encoder.layers", 2)
METHODS: dict[str, dict[str, Any]] = {
    "simclrv2": {"finetune_steps": 1, "finetune_batch": 4},
    "ctrl": {"rate": 0.2},
    "sla": {},
    "look": {"neighbours": 3},
    "bss": {"method": "swav"},
    "simcore": {"count": 4, "clusters": 3},
    "mixed_barlow_twins": {"dimensions": 16},
    "direct_pred": {},
    "simsiam": {},
    "byol": {},
    "transitive": {"autoencoder_epochs": 1, "clusters": 2, "draws": 1},
    "scat_simclr": {},
    "multistage": {"further": 1, "clusters": 2},
    "moco": {"queue": 8},
    "vicreg": {"dimensions": 16},
    "swav": {"prototypes": 4},
}
"""By name, with options that suit few images."""
EXPORTED = {
    "mixed_barlow_twins": "photographs",
    "multistage": "grey",
    "sla": "grey",
    "simclrv2": "photographs",
    "simcore": "grey",
    "direct_pred": "photographs",
    "ctrl": "photographs",
    "bss": "photographs",
    "scat_simclr": "grey",
    "look": "photographs",
    "transitive": "grey",
    "simsiam": "grey",
    "byol": "photographs",
    "moco": "grey",
    "vicreg": "photographs",
    "swav": "grey",
}
"""The folder on which each is reported and exported, too. Among what they keep are an encoder, several, one with
classes, one from scratch and wavelets; of methods and of recipes."""


def picture(side: tuple[int, int], mode: str, rng: np.random.Generator) -> Image.Image:
    """Smooth shades."""
    shades = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(shades).resize(side, Image.Resampling.BICUBIC).convert(mode)


def garments() -> Iterator[Image.Image]:
    """Pictures of Fashion-MNIST, a shirt and a boot in turn."""
    source = open_source("fashion_mnist:test", progress=False)
    labels = np.asarray(source.column("label"))
    chosen = np.stack([np.flatnonzero(labels == kind)[:COUNT] for kind in (0, 9)], axis=1).ravel()
    for pixels in source.batch(chosen)["image"]:
        yield Image.fromarray(pixels[0].numpy())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs and grey pictures, in two class folders each, and a pool of further ones of either kind."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("folders")
    real = garments() if any(folder.is_dir() for folder in FASHION_FOLDERS) else None
    for name in ("photographs", "grey", "photographs-pool", "grey-pool"):
        for number in range(COUNT):
            grey = name.startswith("grey")
            side = (28, 28) if grey else (int(rng.integers(20, 61)), int(rng.integers(20, 61)))
            path = root / name / f"class {number % 2}" / f"{number}.{'png' if grey or number % 4 < 2 else 'jpg'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            made = next(real) if grey and real else picture(side, "L" if grey else "RGB", rng)
            made.save(path)
    return root


def pretrained(run: Any, folders: Path, kind: str, method: str, *more: object) -> None:
    """Trains into the folder "run"."""
    options = dict(METHODS[method])
    if method == "simcore":
        options["pool"] = folders / f"{kind}-pool"
    encoder = ("--encoder.width", 4, "--encoder.orientations", 2) if method == "scat_simclr" else NARROW
    size = ("--image-size", 16) if kind == "photographs" else ()
    words = [word for name, value in options.items() for word in (f"--method.{name}", value)]
    said = run("pretrain", method, "--data", folders / kind, "--out", "run", *TRAINED, *encoder, *size, *words, *more)
    warned = said.err.splitlines()
    # Folders of classes are no tracks, which is said, once, and nothing else is.
    expected = ["labels choose the pairs along a track"] if method == "transitive" else []
    assert said.code == 0
    assert len(warned) == len(expected)
    assert all(part in line for part, line in zip(expected, warned, strict=True))


@pytest.mark.parametrize("kind", ["photographs", "grey"])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_trained_measured_used_and_exported_on_a_folder(run, folders, kind, method):
    exported = EXPORTED[method] == kind
    pretrained(run, folders, kind, method, *(() if exported else ("--no-report",)))
    measured = ("evaluate", "run", "--data", folders / kind, "--protocol", "knn", "--seeds", 1, "--baselines", "none")
    said = run(*measured, "--quiet")
    assert said.code == 0, said.err
    assert "pretrained" in said.out
    assert run("embed", "run", "--data", folders / kind, "--out", "rows.npy", "--quiet").code == 0
    rows = np.load("rows.npy")
    assert len(rows) == COUNT
    assert np.isfinite(rows).all()
    assert len(np.unique(rows.round(6), axis=0)) == COUNT
    if exported:
        assert Path("run/report.html").stat().st_size > 10_000
        said = run("export", "run", "--format", "torch", "--out", "exported")
        assert (said.code, said.err) == (0, "")
        assert list(Path("exported").glob("*.pt2"))
