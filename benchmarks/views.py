"""Two SimCLR views of a batch on a CPU: `autodidact.views` against lightly's SimCLRTransform with torchvision.

Both make the same recipe (crop, flip, colour jitter of strength 1, greyscale, blur, normalise) from the same decoded
photographs held in memory, and end with one float32 batch for each view. The peer works image by image, in one process
for each core, as a DataLoader's workers do. Pairs are interleaved; the figure is the median of the pairs' ratios.

    pip install lightly
    python benchmarks/views.py --json benchmarks/views.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from autodidact.views import Augment

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GOALS = {32: 15.0, 96: 6.0, 224: 4.0}
BATCH = {32: 256, 96: 128, 224: 64}


def photographs(count: int, side: int) -> np.ndarray:
    """Windows of the bundled photographs, (count, side, side, 3) uint8, the same at every call."""
    pictures = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    rng = np.random.default_rng(0)
    windows = []
    for i in range(count):
        picture = Image.fromarray(pictures[i % len(pictures)])
        edge = int(rng.integers(160, 300))
        left, top = int(rng.integers(0, picture.width - edge)), int(rng.integers(0, picture.height - edge))
        windows.append(np.asarray(picture.crop((left, top, left + edge, top + edge)).resize((side, side))))
    return np.stack(windows)


def peer_views(pictures: np.ndarray, size: int) -> list[torch.Tensor]:
    """The peer's way: two views of one decoded image at a time, stacked to two batches."""
    from lightly.transforms import SimCLRTransform

    transform = SimCLRTransform(input_size=size)
    views = [transform(Image.fromarray(picture)) for picture in pictures]
    return [torch.stack(list(view)) for view in zip(*views, strict=True)]


def peer(pictures: np.ndarray, size: int, threads: int) -> Callable[[], object]:
    """A function that makes both views of the batch, in as many worker processes as there are cores to use."""
    if threads == 1:
        return lambda: peer_views(pictures, size)
    pool = torch.multiprocessing.get_context("spawn").Pool(threads, initializer=torch.set_num_threads, initargs=(1,))
    shares = [(share, size) for share in np.array_split(pictures, threads)]
    return lambda: pool.starmap(peer_views, shares)


def ours(pictures: np.ndarray, size: int) -> Callable[[], None]:
    """A function that makes both views of the batch."""
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    augment = Augment.preset("simclr", size, mean=IMAGENET[0], std=IMAGENET[1])
    generator = torch.Generator().manual_seed(0)

    def run() -> None:
        augment(images, generator)
        augment(images, generator)

    return run


def seconds(run: Callable[[], object], times: int) -> tuple[float, float]:
    """Elapsed and processor seconds of one run."""
    start, used = time.perf_counter(), time.process_time()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times, (time.process_time() - used) / times


def compare(size: int, threads: int, pairs: int) -> dict[str, object]:
    """Views a second of both, and the ratio, from interleaved pairs."""
    torch.set_num_threads(threads)
    pictures = photographs(BATCH[size], size)
    mine, theirs = ours(pictures, size), peer(pictures, size, threads)
    for _ in range(3):
        mine()
    theirs()
    rates = []
    for _ in range(pairs):
        a, b = seconds(mine, max(1, 1024 // size)), seconds(theirs, 1)
        rates.append((2 * len(pictures) / a[0], 2 * len(pictures) / b[0], b[0] / a[0], b[1] / a[1]))
    row = {
        "size": size,
        "threads": threads,
        "batch": len(pictures),
        "views_per_second": round(statistics.median(rate[0] for rate in rates)),
        "peer_views_per_second": round(statistics.median(rate[1] for rate in rates)),
        "ratio": round(statistics.median(rate[2] for rate in rates), 2),
        "ratios": [round(rate[2], 2) for rate in rates],
        "goal": GOALS[size],
    }
    if threads == 1:
        # Where other programs share the machine, processor time is the fairer clock.
        row["ratio_of_processor_time"] = round(statistics.median(rate[3] for rate in rates), 2)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 96, 224])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for threads in options.threads:
        for size in options.sizes:
            rows.append(compare(size, threads, options.pairs))
            print(json.dumps(rows[-1]), flush=True)
    if options.json:
        found = {
            "what": "two SimCLR views of a batch, CPU, against lightly's SimCLRTransform",
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "processor": platform.processor() or platform.machine(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "versions": {name: version(name) for name in ("torch", "torchvision", "lightly", "pillow")},
            "rows": rows,
        }
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
