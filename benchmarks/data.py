"""Opening a folder of images and passing over it: the packed cache against datasets' imagefolder and a plain loop.

Two folders are written first: Fashion-MNIST as 60,000 PNGs in class folders (Debian's dataset-fashion-mnist), and 300
photographs of 1,000 x 1,000 JPEG pixels cut from those of scikit-image. For each contestant: opening the folder the
first time, opening it again, and a pass in random batches of 256 uint8 tensors (photographs reduced to 192 pixels).
Each measurement runs in a process of its own and leaves out the time of imports; contestants are interleaved; figures
are medians over rounds. datasets takes part where it is installed.

Two floors are measured in the same rounds. That of a first opening: Pillow decodes the same files to arrays and does
nothing else, on all cores, photographs at the reduced size that the codec itself can give. That of a pass: as many
bytes as the packed images have are copied in memory, a batch at a time and in order.

Beside them a million images of 8 x 8 pixels in ten folders, of autodidact alone: packed once, then opened again, and
passed over, with what the process holds after a tenth of the pass and at its end. They are names of forty files, since
what is in them does not matter here.

    python benchmarks/data.py --json benchmarks/data.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from common import peer_is_there, resident

BATCH = 256
SIDE = 192
MANY, MANY_FILES, MANY_FOLDERS, MANY_BATCH = 1_000_000, 40, 10, 1_000
AT_ONCE = 16
"""Files that a process of the floor decodes before it is given others."""
OPENING_GOAL = 5.0
"""Seconds in which so many are open once they are packed."""
MEMORY_GOAL = 0.01
"""Largest growth over a pass, as a share of what is held after a tenth of it."""
STEPS = ("first opening", "second opening", "pass")


def write_folders(root: Path, count: int, photographs: int) -> None:
    from PIL import Image
    from skimage import data

    from autodidact.data import open_source

    fashion = open_source("fashion_mnist")
    classes = fashion.column("label")
    for label in np.unique(classes):
        (root / "fashion" / str(label)).mkdir(parents=True)
    for batch in fashion.at(np.arange(count)).in_order(1000):
        for pixels, label, number in zip(batch["image"], batch["label"], batch.ids, strict=True):
            Image.fromarray(pixels[0].numpy()).save(root / "fashion" / str(int(label)) / f"{int(number):019d}.png")
    rng = np.random.default_rng(0)
    whole = [Image.fromarray(getattr(data, name)()) for name in ("astronaut", "coffee", "chelsea", "rocket", "retina")]
    (root / "photographs" / "all").mkdir(parents=True)
    for number in range(photographs):
        image = whole[number % len(whole)]
        side = min(image.size)
        left, top = (int(rng.integers(extent - side + 1)) for extent in image.size)
        cut = image.crop((left, top, left + side, top + side)).resize((1000, 1000), Image.Resampling.BICUBIC)
        cut.rotate(float(rng.uniform(-5, 5))).save(root / "photographs" / "all" / f"{number:04d}.jpg", quality=92)


def write_many(root: Path, count: int) -> None:
    """So many images, as links to a few: a file system may not take more links to a file, then it is written again."""
    from PIL import Image

    (root / "some").mkdir(parents=True)
    rng = np.random.default_rng(0)
    some = [root / "some" / f"{number}.png" for number in range(MANY_FILES)]
    for path in some:
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    contents = [path.read_bytes() for path in some]
    for number in range(count):
        folder = root / "many" / str(number % MANY_FOLDERS)
        if number < MANY_FOLDERS:
            folder.mkdir(parents=True)
        place = folder / f"{number:07d}.png"
        try:
            os.link(some[number % MANY_FILES], place)
        except OSError:
            place.write_bytes(contents[number % MANY_FILES])
            some[number % MANY_FILES] = place


def many(folder: Path, cache: Path) -> dict[str, float]:
    """Seconds of an opening, of its floor and of a pass, bytes that the process holds on the way."""
    import PIL.Image
    import tqdm  # noqa: F401 (imports are left out of the time)

    from autodidact.data import open_source

    PIL.Image.init()
    started, work = time.perf_counter(), time.process_time()
    source = open_source(folder, cache_dir=cache, progress=False)
    opened = {"seconds": time.perf_counter() - started, "processor_seconds": time.process_time() - work}
    started = time.perf_counter()
    asked_for(folder)
    bare = time.perf_counter() - started
    started = time.perf_counter()
    order = np.random.default_rng(1).permutation(len(source))
    held = []
    for start in range(0, len(order), MANY_BATCH):
        source.batch(order[start : start + MANY_BATCH])
        held.append(resident("VmRSS") - mapped())
    passed = time.perf_counter() - started
    return {
        **opened,
        "bare": bare,
        "pass": passed,
        "settled": held[len(held) // 10],
        "held": max(held[len(held) // 10 :]),
    }


def asked_for(folder: Path) -> None:
    """The floor of an opening: names of all files, and each one's size and time, asked for from inside its folder."""
    for inner in os.scandir(folder):
        opened = os.open(inner.path, os.O_RDONLY)
        with os.scandir(opened) as listing:
            for entry in listing:
                os.stat(entry.name, dir_fd=opened)
        os.close(opened)


def mapped() -> int:
    """Bytes of files that are mapped into memory and lie in it: the cache of packed images, which the system takes back
    when it needs them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile:"))


def measured_many(root: Path, count: int, rounds: int) -> dict[str, float]:
    """Medians over openings after the one that packs, each in a process of its own."""
    write_many(root, count)
    command = [sys.executable, __file__, "--measure", "many", "", str(root / "many"), str(root / "cache" / "many")]
    found: list[dict[str, float]] = []
    for _ in range(rounds + 1):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    medians = {what: statistics.median(one[what] for one in found[1:]) for what in found[0]}
    goals = {"goal": OPENING_GOAL, "memory_goal": MEMORY_GOAL}
    return {"count": count, "packing": found[0]["seconds"], **medians, **goals}


def orders(count: int) -> list[np.ndarray]:
    order = np.random.default_rng(1).permutation(count)
    return [order[start : start + BATCH] for start in range(0, count, BATCH)]


def ours(folder: Path, cache: Path, step: str) -> float:
    import PIL.Image
    import tqdm  # noqa: F401 (imports are left out of the time)

    from autodidact.data import open_source

    PIL.Image.init()
    started = time.perf_counter()
    source = open_source(folder, image_size=None if folder.name == "fashion" else SIDE * 2 // 3, cache_dir=cache)
    if step != "pass":
        return time.perf_counter() - started
    started = time.perf_counter()
    for positions in orders(len(source)):
        source.batch(positions)
    return time.perf_counter() - started


def imagefolder(folder: Path, cache: Path, step: str) -> float:
    import datasets
    import PIL.Image
    import torch

    PIL.Image.init()
    datasets.disable_progress_bars()
    started = time.perf_counter()
    held = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(cache))
    if step != "pass":
        return time.perf_counter() - started
    started = time.perf_counter()
    for positions in orders(len(held)):
        rows = held[positions]["image"]
        small = rows if folder.name == "fashion" else [image.resize((SIDE, SIDE)) for image in rows]
        torch.from_numpy(np.stack([np.asarray(image) for image in small]))
    return time.perf_counter() - started


def plain(folder: Path, cache: Path, step: str) -> float:
    import PIL.Image
    import torch

    PIL.Image.init()
    started = time.perf_counter()
    paths = sorted(folder.rglob("*.*"))
    if step != "pass":
        return time.perf_counter() - started
    started = time.perf_counter()
    for positions in orders(len(paths)):
        rows = [PIL.Image.open(paths[i]) for i in positions]
        small = rows if folder.name == "fashion" else [image.resize((SIDE, SIDE)) for image in rows]
        torch.from_numpy(np.stack([np.asarray(image) for image in small]))
    return time.perf_counter() - started


def decoding(folder: Path, cache: Path, step: str) -> float:
    """The floor of a first opening, by as many processes as there are cores."""
    import PIL.Image

    PIL.Image.init()
    paths = [str(path) for path in sorted(folder.rglob("*.*"))]
    processes = len(os.sched_getaffinity(0))
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        # Nobody waits for the start of a process.
        pool.map(decode_bare, [paths[:1]] * 8 * processes, chunksize=1)
        started = time.perf_counter()
        pool.map(decode_bare, [paths[first : first + AT_ONCE] for first in range(0, len(paths), AT_ONCE)], chunksize=1)
        return time.perf_counter() - started


def decode_bare(paths: list[str]) -> None:
    import PIL.Image

    for path in paths:
        with PIL.Image.open(path) as image:
            image.draft(None, (2 * SIDE, 2 * SIDE))
            np.asarray(image)


def copying(folder: Path, cache: Path, step: str) -> float:
    """The floor of a pass."""
    pixels = packed(cache)
    held = np.fromfile(pixels, np.uint8).reshape((pixels.parent / "boxes.i32").stat().st_size // 16, -1)
    started = time.perf_counter()
    for first in range(0, len(held), BATCH):
        held[first : first + BATCH].copy()
    return time.perf_counter() - started


def packed(cache: Path) -> Path:
    """Where autodidact has packed the images of a folder."""
    (pixels,) = cache.rglob("pixels.u8")
    return pixels


CONTESTANTS = {"autodidact": ours, "datasets": imagefolder, "plain loop": plain}
FLOORS = {"decode": decoding, "copy": copying}


def measured(contestant: str, folder: Path, cache: Path, step: str) -> float:
    command = [sys.executable, __file__, "--measure", contestant, step, str(folder), str(cache)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60_000, help="Fashion-MNIST images (default 60,000)")
    parser.add_argument("--photographs", type=int, default=300, help="photographs (default 300)")
    parser.add_argument("--many", type=int, default=MANY, help="very small images (default a million), 0 for none")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        contestant, step, folder, cache = given.measure
        if contestant == "many":
            print(json.dumps(many(Path(folder), Path(cache))))
            return
        print({**CONTESTANTS, **FLOORS}[contestant](Path(folder), Path(cache), step))
        return
    names = [name for name in CONTESTANTS if name != "datasets" or peer_is_there("datasets", "its imagefolder")]
    seconds: dict[str, dict[str, dict[str, list[float]]]] = {}
    bare: dict[str, dict[str, list[float]]] = {}
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write_folders(root, given.count, given.photographs)
        for _ in range(given.rounds):
            for name in names:
                for folder in ("fashion", "photographs"):
                    cache = root / "cache" / name / folder
                    shutil.rmtree(cache, ignore_errors=True)
                    for step in STEPS:
                        took = measured(name, root / folder, cache, step)
                        seconds.setdefault(folder, {}).setdefault(step, {}).setdefault(name, []).append(took)
            for folder in ("fashion", "photographs"):
                cache = root / "cache" / "autodidact" / folder
                sizes[folder] = packed(cache).stat().st_size
                for floor in FLOORS:
                    took = measured(floor, root / folder, cache, "")
                    bare.setdefault(folder, {}).setdefault(floor, []).append(took)
        very_many = measured_many(root, given.many, given.rounds) if given.many else None
    figures: dict[str, Any] = {
        folder: {step: {name: statistics.median(times) for name, times in by.items()} for step, by in steps.items()}
        for folder, steps in seconds.items()
    }
    for folder, steps in figures.items():
        for step, by in steps.items():
            print(f"{folder:12} {step:15}" + "".join(f"{name}: {took:8.3f} s   " for name, took in by.items()))
    floors: dict[str, Any] = {
        folder: {
            "bytes": sizes[folder],
            **{floor: statistics.median(times) for floor, times in by.items()},
            "spread": {floor: [min(times), max(times)] for floor, times in by.items()},
        }
        for folder, by in bare.items()
    }
    for folder, floor in floors.items():
        rates = {"pass": figures[folder]["pass"]["autodidact"], "copy": floor["copy"]}
        told = ", ".join(f"{name}: {floor['bytes'] / took / 1e9:.2f} GB/s" for name, took in rates.items())
        print(f"{folder:12} bare decoding: {floor['decode']:.3f} s; {told}")
    print(very_many)
    if given.json:
        record = {
            "seconds": figures,
            "spread": {
                folder: {step: {name: [min(t), max(t)] for name, t in by.items()} for step, by in steps.items()}
                for folder, steps in seconds.items()
            },
            "floors": floors,
            "many": very_many,
            "rounds": given.rounds,
            "fashion images": given.count,
            "photographs": given.photographs,
            "batch": BATCH,
            "cores": len(os.sched_getaffinity(0)),
            "machine": platform.machine(),
            "versions": {
                p: version(p) for p in ("torch", "numpy", "pillow", "datasets") if find_spec(p.replace("pillow", "PIL"))
            },
        }
        given.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
