"""Memory of a training over 50 epochs: what the process holds at the end of each, with checkpoints, logs and monitors.

SimCLR with a small convolutional encoder, and MAE with a small transformer, on 1,024 images in the packed form, each in
a process of its own. The first epochs fill what is filled once: memory is flat when the highest of the later epochs is
no more than a hundredth above the tenth.

    python benchmarks/memory.py --json benchmarks/memory.json
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autodidact.catalog import cards, target
from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.methods.method import Method, Progress
from autodidact.training import Settings, train
from common import arguments, resident, tell_rows

GOAL = 0.01
"""Largest growth after the settled epoch, as a share of what is held then."""
EPOCHS, SETTLED = 50, 10
ROWS: tuple[tuple[str, str, int], ...] = (
    ("simclr", "small:convnet?width=16", 32),
    ("mae", "small:vit?width=64&depth=2&heads=4&patch=4", 32),
)
"""Method, encoder, side of the images."""
IMAGES, BATCH = 1_024, 128


def held(row: int, epochs: int, folder: Path) -> list[int]:
    """Bytes of the process at the end of every epoch."""
    name, encoder, side = ROWS[row]
    pixels = np.random.default_rng(0).integers(0, 255, (IMAGES, side, side, 3), dtype=np.uint8)
    np.save(folder / "images.npy", pixels)
    source = open_source(folder / "images.npy", progress=False)
    found: list[int] = []

    class Watched(target(cards()[name])):  # type: ignore[misc]
        def after_update(self, progress: Progress) -> None:
            super().after_update(progress)
            if (progress.step + 1) % (IMAGES // BATCH) == 0:
                gc.collect()
                found.append(resident("VmRSS"))

    torch.manual_seed(0)
    method: Method = Watched(build(encoder, schema=source.schema, image_size=side))
    settings = Settings(epochs=epochs, batch_size=BATCH, checkpoint_steps=IMAGES // BATCH, accelerator="cpu")
    train(method, source, settings, out=folder / "run", quiet=True)
    return found


def measured(row: int, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--row", str(row), "--epochs", str(options.epochs)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stderr[-2000:])
    found = json.loads(ended.stdout.splitlines()[-1])
    name, encoder, side = ROWS[row]
    settled = found[min(SETTLED, len(found)) - 1]
    growth = max(found[SETTLED:], default=settled) / settled - 1
    told = {"method": name, "encoder": encoder, "side": side, "images": IMAGES, "batch": BATCH}
    print({**told, "growth": growth}, flush=True)
    return {**told, "first": found[0], "settled": settled, "last": found[-1], "growth": growth, "every_epoch": found}


def main() -> None:
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--row", type=int, help="for the processes that this one starts")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.row is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(held(options.row, options.epochs, Path(folder))))
        return
    rows = [measured(row, options) for row in range(len(ROWS))]
    more = {"goal": GOAL, "epochs": options.epochs, "settled_epoch": SETTLED}
    tell_rows("memory of a training over many epochs", options, rows, ("torch", "lightning"), **more)


if __name__ == "__main__":
    main()
