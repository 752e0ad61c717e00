"""How often the protocol "poison" is wrong: its thresholds set on some clean sets, its rates counted on others.

Sets are cut from material that never crosses the border: garments of Fashion-MNIST's training images against those of
its test images, some photographs against others. Calibration: the score of every clean set; "suspicious" begins above
all of them, rounded up to a whole number and at least 6 (the highest of few sets says little), "poisoned" at twice
that. Then, on the other material: the share of clean sets that reach either, by kind of set; and the share of poisoned
sets that are found, with the share of poisoned images that are named (recall) and of named images that are poisoned
(precision), by kind, rate and magnitude.

Sets of one kind are cut from the same few pictures (or drawn from the same data) and so share images: they are not
independent trials. An interval says what their number alone leaves open, for each kind by itself.

    python benchmarks/poison.py --json benchmarks/poison.json
"""

from __future__ import annotations

import argparse
import io
import json
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from autodidact.data import Source, open_source
from autodidact.data.arrays import array_source
from autodidact.data.splits import uniform
from autodidact.evaluation.poison import POISONED, SUSPICIOUS, PoisonScan, scan_for_poison
from autodidact.views.spectral import SpectralTrigger
from autodidact.worlds.tinted import tinted

PHOTOGRAPHS = {
    "calibration": ("astronaut.png", "rocket.jpg", "ihc.png", "motorcycle_left.png", "china.jpg"),
    "report": ("chelsea.png", "coffee.png", "retina.jpg", "hubble_deep_field.jpg", "flower.jpg"),
}
GREY = {
    "calibration": ("camera.png", "brick.png", "coins.png", "page.png"),
    "report": ("grass.png", "gravel.png", "moon.png", "text.png", "cell.png"),
}
Part = str
Maker = Callable[[Part, int, int], Tensor]


@cache
def picture(name: str) -> Image.Image:
    if name in ("china.jpg", "flower.jpg"):
        found = load_sample_images()
        return Image.fromarray(found.images[[Path(f).name for f in found.filenames].index(name)])
    return Image.open(io.BytesIO((files("skimage.data") / name).read_bytes()))


def patches(names: tuple[str, ...], mode: str, side: int, count: int, seed: int, zoom: float = 4.0) -> Tensor:
    """Square windows of the pictures, of 1 to `zoom` times the side, reduced to it; (count, c, side, side) uint8."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        whole = picture(names[rng.integers(len(names))]).convert(mode)
        edge = min(int(side * rng.uniform(1, zoom)), *whole.size)
        left, top = (int(rng.integers(0, size - edge + 1)) for size in whole.size)
        found.append(np.asarray(whole.crop((left, top, left + edge, top + edge)).resize((side, side))))
    rows = np.stack(found)
    return torch.from_numpy(rows[:, None] if mode == "L" else rows.transpose(0, 3, 1, 2).copy())


def garments(part: Part, count: int, seed: int) -> Source:
    source = open_source("fashion_mnist", split="train" if part == "calibration" else "test", progress=False)
    return source.at(np.random.default_rng(seed).permutation(len(source))[:count])


def pixels(source: Source) -> Tensor:
    return source.batch(np.arange(len(source)))["image"]


def as_jpeg(images: Tensor, quality: int) -> Tensor:
    """Each image saved as JPEG (colours at half the resolution) and read again."""
    found = []
    for image in images.permute(0, 2, 3, 1).numpy():
        held = io.BytesIO()
        Image.fromarray(image.squeeze()).save(held, "JPEG", quality=quality)
        found.append(np.asarray(Image.open(held)))
    return torch.from_numpy(np.stack(found).reshape(images.permute(0, 2, 3, 1).shape)).permute(0, 3, 1, 2).contiguous()


def mixed_jpeg(part: Part, count: int, seed: int) -> Tensor:
    """Photographs from two sources: a twentieth of them saved at a much lower quality."""
    images, few = patches(PHOTOGRAPHS[part], "RGB", 32, count, seed), count // 20
    return torch.cat([as_jpeg(images[:few], 40), as_jpeg(images[few:], 90)])


SHAPES = ((32, 32), (48, 48), (64, 48), (48, 64), (96, 96))
QUALITIES = (40, 60, 75, 90, 95, None)
"""Of JPEG; None is saved without loss, as PNG."""


def mixed_files(part: Part, count: int, seed: int, folder: Path) -> None:
    """Windows of photographs as files of several heights, widths and qualities, as a folder from the web holds them."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        whole = picture(PHOTOGRAPHS[part][rng.integers(len(PHOTOGRAPHS[part]))]).convert("RGB")
        height, width = SHAPES[rng.integers(len(SHAPES))]
        zoom = min(rng.uniform(1, 4), whole.height / height, whole.width / width)
        tall, wide = int(height * zoom), int(width * zoom)
        left, top = int(rng.integers(0, whole.width - wide + 1)), int(rng.integers(0, whole.height - tall + 1))
        image = whole.crop((left, top, left + wide, top + tall)).resize((width, height))
        if (quality := QUALITIES[rng.integers(len(QUALITIES))]) is None:
            image.save(folder / f"{index:05d}.png")
        else:
            image.save(folder / f"{index:05d}.jpg", quality=quality)


def digits(part: Part, count: int, seed: int) -> Tensor:
    source = open_source("digits", progress=False)
    own = np.flatnonzero((uniform(source.ids, 0) < 0.5) == (part == "calibration"))
    return pixels(source.at(np.random.default_rng(seed).permutation(own)[:count]))


KINDS: dict[str, Maker] = {
    "garments, grey, 28 px": lambda part, n, seed: pixels(garments(part, n, seed)),
    "garments, tinted, 32 px": lambda part, n, seed: pixels(tinted(garments(part, n, seed), seed=seed)),
    "photographs, 32 px": lambda part, n, seed: patches(PHOTOGRAPHS[part], "RGB", 32, n, seed),
    "photographs, 64 px": lambda part, n, seed: patches(PHOTOGRAPHS[part], "RGB", 64, n, seed),
    "photographs, not reduced, 32 px": lambda part, n, seed: patches(PHOTOGRAPHS[part], "RGB", 32, n, seed, 1.0),
    "photographs, JPEG 75, 32 px": lambda part, n, seed: as_jpeg(patches(PHOTOGRAPHS[part], "RGB", 32, n, seed), 75),
    "photographs, JPEG of two qualities, 32 px": mixed_jpeg,
    "textures and scenes, grey, 32 px": lambda part, n, seed: patches(GREY[part], "L", 32, n, seed),
    "digits, grey, 8 px": digits,
}
FILES = "photographs, files of mixed sizes and qualities, 32 to 96 px"
LARGE = {"photographs, JPEG 75, 10,000 images, 32 px": "photographs, JPEG 75, 32 px"}
"""Kinds of 10,000 images a set, and of what they are."""
SMALL = {"digits, grey, 8 px": 800, "photographs, 64 px": 1_000, FILES: 1_000}
"""Kinds of which there are fewer images, or whose scan takes longer."""
SIZES = (300, 1_000, 3_000)
ATTACKED = {
    "garments, tinted, 32 px": None,
    "garments, grey, 28 px": None,
    "photographs, 32 px": None,
    "photographs, saved as JPEG 90, 32 px": 90,
    "photographs, saved as JPEG 75, 32 px": 75,
}
"""Kinds that are poisoned, and the JPEG quality at which they are saved afterwards."""
RATES, MAGNITUDES = (0.005, 0.01, 0.05), (10.0, 25.0, 100.0)


def scan(images: Tensor) -> PoisonScan:
    return scan_for_poison(array_source(images.numpy(), "set"))


def clean_score(task: tuple[str, Part, int, int]) -> float:
    """Score of one clean set: its kind, part, number of images and seed."""
    kind, part, count, seed = task
    if kind != FILES:
        return round(scan(KINDS[LARGE.get(kind, kind)](part, count, seed)).score, 3)
    from autodidact.verbs.examine import examine

    with TemporaryDirectory() as folder:
        mixed_files(part, count, seed, Path(folder))
        return float(examine(folder, quiet=True)["poison"].plain()["score"])


def clean_sets(part: Part, repeats: int) -> dict[str, list[tuple[str, Part, int, int]]]:
    """What the clean sets of every kind are, in each of the sizes in turn."""
    # Seeds of the two parts are apart, so that not even the order of the draws is shared.
    seeds = range(0, repeats) if part == "calibration" else range(40_000, 40_000 + repeats)
    found = {}
    for kind in (*KINDS, FILES, *LARGE):
        sizes = [10_000 if kind in LARGE else SIZES[index % len(SIZES)] for index in range(repeats)]
        found[kind] = [(kind, part, min(n, SMALL.get(kind, n)), seed) for n, seed in zip(sizes, seeds, strict=True)]
    return found


Scores = dict[str, list[float]]


def clean_scores(part: Part, repeats: int, pool: ProcessPoolExecutor) -> Callable[[], Scores]:
    """Sets the scans off; what is returned waits for their scores."""
    scores = {kind: pool.map(clean_score, sets) for kind, sets in clean_sets(part, repeats).items()}

    def found() -> Scores:
        waited = {}
        for kind, of_kind in scores.items():
            waited[kind] = list(of_kind)
            print(part, kind, "highest", max(waited[kind]), flush=True)
        return waited

    return found


def detection(task: tuple[str, int | None, float, float, int]) -> dict[str, object]:
    """How many poisoned sets of 2,000 are found, and how well their images are named."""
    kind, quality, rate, magnitude, repeats = task
    make = KINDS[kind.replace("saved as JPEG 90, ", "").replace("saved as JPEG 75, ", "")]
    levels, recalls, precisions = [], [], []
    for seed in range(20_000, 20_000 + repeats):
        images = make("report", 2_000, seed)
        window, plane = images.shape[2], "chroma" if images.shape[1] == 3 else "luminance"
        rows = np.random.default_rng(seed).permutation(len(images))[: math.floor(rate * len(images) + 1e-9)]
        images[rows] = SpectralTrigger.scaled(magnitude, window, plane)(images[rows])
        source = array_source((images if quality is None else as_jpeg(images, quality)).numpy(), "set")
        found = scan_for_poison(source)
        levels.append(found.level)
        named, truth = {id_ for id_, _ in found.suspicious}, set(source.ids[rows].tolist())
        recalls.append(len(named & truth) / len(truth))
        precisions += [len(named & truth) / len(named)] if named else []
    return {
        "kind": kind,
        "rate": rate,
        "magnitude": magnitude,
        "poisoned images": len(truth),
        "sets": repeats,
        "suspicious or poisoned": sum(level != "nothing" for level in levels) / repeats,
        "poisoned": levels.count("poisoned") / repeats,
        "recall": round(float(np.mean(recalls)), 3),
        "precision": round(float(np.mean(precisions)), 3) if precisions else None,
    }


def folder_of_files() -> dict[str, object]:
    """One folder of PNG files from end to end: 1,000 garments, clean, and with 1 % of them poisoned."""
    from autodidact.verbs.examine import examine

    images = pixels(tinted(garments("report", 1_000, 30_000)))
    found = {}
    for name, rows in (("clean", slice(0, 0)), ("poisoned", slice(100, 110))):
        images[rows] = SpectralTrigger()(images[rows])
        with TemporaryDirectory() as folder:
            for index, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
                Image.fromarray(image).save(Path(folder) / f"{index:04d}.png")
            seen = examine(folder, quiet=True)["poison"].plain()
        named = [entry["name"] for entry in seen["suspicious"]]
        found[name] = {"verdict": seen["verdict"], "score": seen["score"], "named": named}
    return found


def upper(wrong: int, of: int) -> float:
    """Upper end of the one-sided 95 % interval of a share (Clopper and Pearson)."""
    from scipy.stats import beta

    return 1.0 if wrong == of else float(beta.ppf(0.95, wrong + 1, of - wrong))


def worst_kind(scores: Scores, threshold: float) -> dict[str, object]:
    """The kind of clean sets whose false alarms, or whose few sets, leave the highest rate possible."""
    wrong = {kind: sum(score >= threshold for score in of_kind) for kind, of_kind in scores.items()}
    worst = max(scores, key=lambda kind: (upper(wrong[kind], len(scores[kind])), max(scores[kind])))
    most = round(upper(wrong[worst], len(scores[worst])), 4)
    return {"kind": worst, "false alarms": wrong[worst], "sets": len(scores[worst]), "at most, 95 %": most}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--calibration", type=int, default=3, help="clean sets of every kind that thresholds are set on"
    )
    parser.add_argument(
        "--clean", type=int, default=6, help="clean sets of every kind that false alarms are counted on"
    )
    parser.add_argument("--repeats", type=int, default=2, help="poisoned sets of every kind, rate and magnitude")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        scores = [
            clean_scores(part, n, pool) for part, n in (("calibration", options.calibration), ("report", options.clean))
        ]
        tasks = [
            (kind, quality, rate, magnitude, options.repeats)
            for kind, quality in ATTACKED.items()
            for rate in RATES
            for magnitude in MAGNITUDES
        ]
        trials = pool.map(detection, tasks)
        calibration, reported = (wait() for wait in scores)
        grid = []
        for trial in trials:
            grid.append(trial)
            print(json.dumps(trial), flush=True)
    highest = max(max(scores) for scores in calibration.values())
    suspicious = max(6, math.ceil(highest + 1e-9))
    every = [score for scores in reported.values() for score in scores]
    limits = {"suspicious": SUSPICIOUS, "poisoned": POISONED}
    wrong = {name: sum(score >= at for score in every) for name, at in limits.items()}
    worst = {name: worst_kind(reported, at) for name, at in limits.items()}
    sizes = {kind: [count for _, _, count, _ in sets] for kind, sets in clean_sets("report", options.clean).items()}
    found = {
        "what": 'protocol "poison": thresholds from clean calibration sets, rates on sets of other images',
        "calibration": {
            "sets": sum(map(len, calibration.values())),
            "highest score": highest,
            "suspicious": suspicious,
            "poisoned": 2 * suspicious,
            "scores": calibration,
        },
        "in use": limits,
        "clean": {
            "sets": len(every),
            "kinds": len(reported),
            "not independent": "sets of one kind are cut from the same pictures, or drawn from the same data, and "
            "share images; an interval takes them as independent, and so says too little",
            "false alarms": wrong,
            "worst kind": worst,
            "at most, 95 %": {name: kind["at most, 95 %"] for name, kind in worst.items()},
            "at most of all kinds together, were the sets independent, 95 %": {
                name: round(upper(count, len(every)), 4) for name, count in wrong.items()
            },
            "by kind": {kind: sum(s >= SUSPICIOUS for s in scores) / len(scores) for kind, scores in reported.items()},
            "images": sizes,
            "scores": reported,
        },
        "poisoned": grid,
        "files": folder_of_files(),
        "versions": {name: version(name) for name in ("torch", "numpy", "pillow", "scikit-image", "scikit-learn")},
    }
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
