"""`embed` of packed images into a Parquet file: against a bare loop of the same encoder over tensors.

The bare loop has its images in memory, decoded, and keeps the embeddings there: in that of the GPU where it runs on
one, so that nothing but the encoder is in its time. Contestants take turns; figures are medians of wall clock.

    python benchmarks/embed.py --json benchmarks/embed.json
    python benchmarks/embed.py --device cuda --json benchmarks/embed_gpu.json
    python benchmarks/embed.py --device cuda --small    # a few images, without a GPU too
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel
from autodidact.verbs.apply import embed
from common import arguments, clock, device_arguments, place, tell_rows, where

GOAL = 1.1
"""Of the time of the bare loop."""
ENCODERS = {
    "cpu": (
        ("small:convnet?width=32", 28, 10_000, 256),
        ("timm:resnet18", 32, 1_000, 256),
        ("timm:vit_tiny_patch16_224", 64, 4_000, 256),
        ("timm:resnet18", 224, 512, 64),
    ),
    "cuda": (
        ("small:convnet?width=32", 32, 200_000, 2048),
        ("timm:resnet50", 224, 8_192, 256),
        ("timm:vit_base_patch16_224", 224, 8_192, 256),
    ),
}
"""Name, side of the images, number of images, batch."""
SMALL, SMALL_SIDE = 4, 32
"""Images of a batch, of which there are two, and their largest side where a run is small."""


def bare(model: EncoderModel, images: torch.Tensor, batch: int) -> torch.Tensor:
    with torch.inference_mode():
        encoder: Any = model.encoders["encoder"]
        rows = [encoder(encoder.prepare({"image": part})).pooled for part in images.split(batch)]
    return torch.cat(rows)


def measured(name: str, side: int, count: int, batch: int, rounds: int, device: str, folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 255, (count, side, side, 3), dtype=np.uint8)
    np.save(folder / "images.npy", pixels)
    source = open_source(folder / "images.npy", progress=False)
    model = EncoderModel({"encoder": build(name, schema=source.schema, image_size=side)}).eval()
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().to(device)
    seconds: dict[str, list[float]] = {"embed": [], "bare loop": []}
    for _ in range(rounds + 1):
        start = clock(device)
        embed(model, source, out=folder / "embeddings.parquet", batch_size=batch, device=device, quiet=True)
        seconds["embed"].append(clock(device) - start)
        start = clock(device)
        bare(model, images, batch)
        seconds["bare loop"].append(clock(device) - start)
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
    parser = arguments(__doc__, rounds=5)
    device_arguments(parser)
    options = parser.parse_args()
    device = place(options)
    torch.set_num_threads(options.threads)
    asked = ENCODERS[options.device]
    if options.small:
        options.rounds = 1
        asked = tuple((name, min(side, SMALL_SIDE), 2 * SMALL, SMALL) for name, side, _, _ in asked)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AUTODIDACT_CACHE"] = folder
        rows = [measured(*row, options.rounds, device, Path(folder)) for row in asked]
    what = f"embed against a bare loop of the encoder, on a {'CPU' if options.device == 'cpu' else 'GPU'}"
    tell_rows(what, options, rows, ("torch", "timm"), goal=GOAL, **where(options))


if __name__ == "__main__":
    main()
