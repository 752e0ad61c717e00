"""Two SimCLR views of a batch: on a CPU against lightly's SimCLRTransform with torchvision, on a GPU against kornia.

Both make the same recipe (crop, flip, colour jitter of strength 1, greyscale, blur, normalise) from the same decoded
photographs held in memory, and end with one float32 batch for each view. The peer works image by image, in one process
for each core, as a DataLoader's workers do. Pairs are interleaved; the figure is the median of the pairs' ratios. What
threads lose by sharing each operation is told by as many processes of ours, side by side, with a thread each.
On a GPU, kornia works on the whole batch there, as ours does, with parameters of its own for each image; beside the
ratio stands what share of a ResNet-50's training step on these views (bf16, both views) making them takes.

    make bench BENCHES=views
    python benchmarks/views.py --json benchmarks/views.json
    python benchmarks/views.py --device cuda --json benchmarks/views_gpu.json
    python benchmarks/views.py --device cuda --small    # a few images, without a GPU and without kornia too
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage import data

from autodidact.views import Augment
from common import clock, device_arguments, peer_is_there, place, side_by_side, where

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GOALS = {32: 15.0, 96: 6.0, 224: 4.0}
BATCH = {32: 256, 96: 128, 224: 64}
GPU_GOAL = 5.0
GPU_BATCH = {32: 1024, 96: 512, 224: 256}
SMALL = 2
"""Images of a batch where a run is small."""


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


def rates(own: Sequence[float], other: Sequence[float], views: int) -> dict[str, Any]:
    """Views a second of both, and the ratio of each pair; without a peer what is the peer's is None."""
    ratios = [theirs / mine for mine, theirs in zip(own, other, strict=False)]
    return {
        "views_per_second": round(views / statistics.median(own)),
        "peer_views_per_second": round(views / statistics.median(other)) if other else None,
        "ratio": round(statistics.median(ratios), 2) if ratios else None,
        "ratios": [round(ratio, 2) for ratio in ratios],
    }


def compare(size: int, batch: int, threads: int, pairs: int, with_peer: bool) -> dict[str, Any]:
    """Views a second of both, and the ratio, from interleaved pairs."""
    torch.set_num_threads(threads)
    pictures = photographs(batch, size)
    mine = ours(pictures, size)
    theirs = peer(pictures, size, threads) if with_peer else None
    for _ in range(3):
        mine()
    if theirs is not None:
        theirs()
    own, other = [], []
    for _ in range(pairs):
        own.append(seconds(mine, max(1, 1024 // size)))
        if theirs is not None:
            other.append(seconds(theirs, 1))
    row = {
        "size": size,
        "threads": threads,
        "batch": batch,
        **rates([took for took, _ in own], [took for took, _ in other], 2 * batch),
        "goal": GOALS[size],
    }
    if threads == 1:
        # Where other programs share the machine, processor time is the fairer clock.
        row["ratio_of_processor_time"] = rates([used for _, used in own], [used for _, used in other], 1)["ratio"]
    else:
        # What the machine could make, if threads did not wait for each other.
        command = [sys.executable, __file__, "--child", str(size), "--pairs", str(pairs)]
        row["side_by_side"] = round(threads * side_by_side(command, threads, 1)["views_per_second"])
    return row


def alone(size: int, pairs: int) -> dict[str, float]:
    """Views a second of this process with a single thread, for as long as a few pairs would take."""
    torch.set_num_threads(1)
    mine = ours(photographs(BATCH[size], size), size)
    for _ in range(3):
        mine()
    took = [seconds(mine, max(1, 1024 // size))[0] for _ in range(4 * pairs)]
    return {"views_per_second": 2 * BATCH[size] / statistics.median(took)}


def kornias(size: int, taps: int, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The peer's way on a GPU: a view of each image of a batch."""
    from kornia import augmentation as k

    made = k.AugmentationSequential(
        k.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        k.RandomHorizontalFlip(),
        k.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        k.RandomGrayscale(p=0.2),
        k.RandomGaussianBlur((taps, taps), (0.1, 2.0), p=0.5),
        k.Normalize(torch.tensor(IMAGENET[0]), torch.tensor(IMAGENET[1])),
        same_on_batch=False,
    )
    return made.to(device)


def on_gpu(size: int, batch: int, pairs: int, times: int, device: str, with_peer: bool) -> dict[str, Any]:
    """Views a second of both on the GPU, the ratio, and what share of a ResNet-50 step making our views takes."""
    from torchvision.models import resnet50

    pictures = torch.from_numpy(photographs(batch, size)).permute(0, 3, 1, 2).contiguous().to(device)
    augment = Augment.preset("simclr", size, mean=IMAGENET[0], std=IMAGENET[1])
    generator = torch.Generator().manual_seed(0)
    theirs = kornias(size, augment.kernel, device) if with_peer else None

    def mine() -> list[torch.Tensor]:
        return [augment(pictures, generator) for _ in range(2)]

    network = resnet50().to(device, memory_format=torch.channels_last)
    both = torch.cat(mine()).to(memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16):
            loss = network(both).square().mean()
        loss.backward()
        network.zero_grad(set_to_none=True)

    runs: dict[str, Callable[[], object]] = {"mine": mine}
    if theirs is not None:

        def peers() -> list[torch.Tensor]:
            with torch.no_grad():
                return [theirs(pictures.float() / 255) for _ in range(2)]

        runs["peer"] = peers
    runs["step"] = step

    def timed(run: Callable[[], object], times: int) -> float:
        start = clock(device)
        for _ in range(times):
            run()
        return (clock(device) - start) / times

    for run in runs.values():
        timed(run, min(3, times))
    took: dict[str, list[float]] = {"mine": [], "peer": [], "step": []}
    for _ in range(pairs):
        for name, run in runs.items():
            took[name].append(timed(run, times))
    return {
        "size": size,
        "batch": batch,
        **rates(took["mine"], took["peer"], 2 * batch),
        "goal": GPU_GOAL,
        "share_of_a_resnet50_step": round(statistics.median(took["mine"]) / statistics.median(took["step"]), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 96, 224])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--child", type=int, help="for the processes that this one starts")
    device_arguments(parser)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(alone(options.child, options.pairs)))
        return
    gpu, device = options.device == "cuda", place(options)
    name = "kornia" if gpu else "lightly"
    with_peer = peer_is_there(name, "the comparison of views with it")
    if not (with_peer or options.small):
        return
    rows = []
    pairs, times = (1, 1) if options.small else (options.pairs, 10)
    for threads in options.threads[:1] if gpu or options.small else options.threads:
        for size in options.sizes:
            batch = SMALL if options.small else (GPU_BATCH if gpu else BATCH)[size]
            if gpu:
                rows.append(on_gpu(size, batch, pairs, times, device, with_peer))
            else:
                rows.append(compare(size, batch, threads, pairs, with_peer))
            print(json.dumps(rows[-1]), flush=True)
    packages = ("torch", "torchvision", *([name] if with_peer else []), *([] if gpu else ["pillow"]))
    versions = {package: version(package) for package in packages}
    found: dict[str, Any]
    if gpu:
        what = "two SimCLR views of a batch, on a GPU, against kornia"
        found = {"what": what, **where(options), "versions": versions, "rows": rows}
    else:
        found = {
            "what": "two SimCLR views of a batch, CPU, against lightly's SimCLRTransform",
            **({"small": True} if options.small else {}),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "processor": platform.processor() or platform.machine(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "versions": versions,
            "rows": rows,
        }
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
