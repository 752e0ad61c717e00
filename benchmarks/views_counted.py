"""What a random view of a batch costs an accelerator, counted without one: operations, bytes, and launches.

Views are rendered from tensors without content (torch's "meta" device), by the way that accelerators go, under
counters of operations (of matrix products) and of bytes (what every operation reads and writes). The floor is the
longer of both at the rates that NVIDIA publishes for the H100 SXM (data sheet: 67 TFLOP/s in float32, 3.35 TB/s). That
such a rendering ends at all shows that no step of it waits for a value of the device. Drawing the parameters is timed
on the processor here. Blurring by shifted additions is what a CPU does, and what an accelerator did when it was timed:
beside it stands what a view took then, from `views_gpu.json`.

    python benchmarks/views_counted.py --json benchmarks/views_counted.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from autodidact.views import Augment, blur
from common import arguments, tell_rows
from step_profile import Bytes
from views import GPU_BATCH, IMAGENET

RATES = {"operations": 67e12, "bytes": 3.35e12}
"""Of the H100 SXM, a second."""
WAYS = ("shifted additions", "matrix products")
TIMED = Path(__file__).with_name("views_gpu.json")


class Calls(Bytes):
    """Also how many operations there are on the device that read or write; only those are counted at all."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self.moved
        made = super().__torch_dispatch__(func, types, args, kwargs)
        there = any(leaf.device.type == "meta" for leaf in tree_leaves((args, made)) if isinstance(leaf, Tensor))
        if not there or "empty" in func._schema.name:
            self.moved = before
        self.calls += self.moved > before
        return made


def counted(size: int, way: str, options: argparse.Namespace) -> dict[str, Any]:
    """One view of each image of a batch."""
    batch = GPU_BATCH[size]
    augment = Augment.preset("simclr", size, mean=IMAGENET[0], std=IMAGENET[1])
    generator = torch.Generator().manual_seed(0)
    drawing = []
    for _ in range(options.rounds):
        started = time.process_time()
        parameters = augment.draw(batch, size, size, generator)
        drawing.append(time.process_time() - started)
    images = torch.empty(batch, 3, size, size, dtype=torch.uint8, device="meta")
    with patch.object(blur, "by_products_", blur.by_products_ if way == WAYS[1] else blur.by_additions_):
        augment.render(images, parameters)
        with FlopCounterMode(display=False) as operations, Calls() as moved:
            augment.render(images, parameters)
    counts = {"operations": float(operations.get_total_flops()), "bytes": float(moved.moved)}
    timed = next(row for row in json.loads(TIMED.read_text())["rows"] if row["size"] == size)
    return {
        "size": size,
        "batch": batch,
        "blur": way,
        "launches": moved.calls,
        **counts,
        "floors": {name: counts[name] / RATES[name] for name in counts},
        "drawing_seconds": statistics.median(drawing),
        **({"seconds": batch / timed["views_per_second"]} if way == WAYS[0] else {}),
    }


def main() -> None:
    options = arguments(__doc__, rounds=25).parse_args()
    torch.set_num_threads(options.threads)
    rows = [counted(size, way, options) for size in GPU_BATCH for way in WAYS]
    device = json.loads(TIMED.read_text())["device"]
    tell_rows("a random view on an accelerator, counted", options, rows, ("torch",), rates=RATES, device=device)


if __name__ == "__main__":
    main()
