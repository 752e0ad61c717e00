"""Two SimCLR views of a batch: on a CPU against lightly's SimCLRTransform with torchvision, on a GPU against kornia.

Both make the same recipe (crop, flip, colour jitter of strength 1, greyscale, blur, normalise) from the same decoded
photographs held in memory, and end with one float32 batch for each view. The peer works image by image, in one process
for each core, as a DataLoader's workers do. Pairs are interleaved; the figure is the median of the pairs' ratios.
On a GPU, kornia works on the whole batch there, as ours does, with parameters of its own for each image; beside the
ratio stands what share of a ResNet-50's training step on these views (bf16, both views) making them takes.

    pip install lightly kornia
    python benchmarks/views.py --json benchmarks/views.json
    python benchmarks/views.py --device cuda --json benchmarks/views_gpu.json
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
GPU_GOAL = 5.0
GPU_BATCH = {32: 1024, 96: 512, 224: 256}


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


def on_gpu(size: int, pairs: int) -> dict[str, object]:
    """Views a second of both on the GPU, the ratio, and what share of a ResNet-50 step making our views takes."""
    from kornia import augmentation as k
    from torchvision.models import resnet50

    device = torch.device("cuda")
    pictures = torch.from_numpy(photographs(GPU_BATCH[size], size)).permute(0, 3, 1, 2).contiguous().to(device)
    augment = Augment.preset("simclr", size, mean=IMAGENET[0], std=IMAGENET[1])
    generator = torch.Generator().manual_seed(0)
    taps = augment.kernel
    theirs = k.AugmentationSequential(
        k.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        k.RandomHorizontalFlip(),
        k.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        k.RandomGrayscale(p=0.2),
        k.RandomGaussianBlur((taps, taps), (0.1, 2.0), p=0.5),
        k.Normalize(torch.tensor(IMAGENET[0]), torch.tensor(IMAGENET[1])),
        same_on_batch=False,
    ).to(device)

    def mine() -> list[torch.Tensor]:
        return [augment(pictures, generator) for _ in range(2)]

    def peer() -> list[torch.Tensor]:
        with torch.no_grad():
            return [theirs(pictures.float() / 255) for _ in range(2)]

    network = resnet50().to(device, memory_format=torch.channels_last)
    batch = torch.cat(mine()).to(memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = network(batch).square().mean()
        loss.backward()
        network.zero_grad(set_to_none=True)

    def timed(run: Callable[[], object], times: int = 10) -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(times):
            run()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / times

    for run in (mine, peer, step):
        timed(run, 3)
    rates = [(timed(mine), timed(peer), timed(step)) for _ in range(pairs)]
    own, other, training = (statistics.median(rate[i] for rate in rates) for i in range(3))
    return {
        "size": size,
        "batch": len(pictures),
        "views_per_second": round(2 * len(pictures) / own),
        "peer_views_per_second": round(2 * len(pictures) / other),
        "ratio": round(statistics.median(rate[1] / rate[0] for rate in rates), 2),
        "ratios": [round(rate[1] / rate[0], 2) for rate in rates],
        "goal": GPU_GOAL,
        "share_of_a_resnet50_step": round(own / training, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 96, 224])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    gpu = options.device == "cuda"
    for threads in [1] if gpu else options.threads:
        for size in options.sizes:
            rows.append(on_gpu(size, options.pairs) if gpu else compare(size, threads, options.pairs))
            print(json.dumps(rows[-1]), flush=True)
    if options.json and gpu:
        found = {
            "what": "two SimCLR views of a batch, on a GPU, against kornia",
            "device": torch.cuda.get_device_name(),
            "versions": {name: version(name) for name in ("torch", "torchvision", "kornia")},
            "rows": rows,
        }
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    elif options.json:
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
