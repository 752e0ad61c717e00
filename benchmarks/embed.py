"""`embed` of packed images into a Parquet file, on a CPU: against a bare loop of the same encoder over tensors.

The bare loop has its images in memory, decoded, and keeps the embeddings there. Contestants take turns; figures are
medians of wall clock.

    python benchmarks/embed.py --json benchmarks/embed.json
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel
from autodidact.verbs.apply import embed
from common import arguments, tell_rows

GOAL = 1.1
"""Of the time of the bare loop."""
ENCODERS = (
    ("small:convnet?width=32", 28, 10_000, 256),
    ("timm:resnet18", 32, 1_000, 256),
    ("timm:vit_tiny_patch16_224", 64, 4_000, 256),
    ("timm:resnet18", 224, 512, 64),
)
"""Name, side of the images, number of images, batch."""


def bare(model: EncoderModel, images: torch.Tensor, batch: int) -> torch.Tensor:
    with torch.inference_mode():
        encoder = model.encoders["encoder"]
        rows = [encoder(encoder.prepare({"image": part})).pooled for part in images.split(batch)]
    return torch.cat(rows)


def measured(name: str, side: int, count: int, batch: int, rounds: int, folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 255, (count, side, side, 3), dtype=np.uint8)
    np.save(folder / "images.npy", pixels)
    source = open_source(folder / "images.npy", progress=False)
    model = EncoderModel({"encoder": build(name, schema=source.schema, image_size=side)}).eval()
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    seconds: dict[str, list[float]] = {"embed": [], "bare loop": []}
    for _ in range(rounds + 1):
        start = time.perf_counter()
        embed(model, source, out=folder / "embeddings.parquet", batch_size=batch, device="cpu", quiet=True)
        seconds["embed"].append(time.perf_counter() - start)
        start = time.perf_counter()
        bare(model, images, batch)
        seconds["bare loop"].append(time.perf_counter() - start)
    ratios = [own / other for own, other in list(zip(*seconds.values(), strict=True))[1:]]
    row = {
        "encoder": name,
        "side": side,
        "images": count,
        "batch": batch,
        "seconds": {name: statistics.median(took[1:]) for name, took in seconds.items()},
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }
    print(row, flush=True)
    return row


def main() -> None:
    options = arguments(__doc__, rounds=5).parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AUTODIDACT_CACHE"] = folder
        rows = [measured(*row, options.rounds, Path(folder)) for row in ENCODERS]
    what = "embed against a bare loop of the encoder, on a CPU"
    tell_rows(what, options, rows, ("torch", "timm"), goal=GOAL)


if __name__ == "__main__":
    main()
