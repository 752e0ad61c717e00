"""A training step with the encoder compiled, as ``--compile`` does it, against the same step without.

A step is forward, backward and AdamW's update, with the mean of the pooled squared as its loss. Contestants take turns;
figures are medians over rounds, in processor time on a CPU and in time on a GPU. What compiling takes is what the first
step takes. It needs a C++ compiler on a CPU.

    python benchmarks/compiled.py --json benchmarks/compiled.json
"""

from __future__ import annotations

import shutil
import statistics
import time
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.encoders import build
from common import arguments, clock, device_arguments, place, tell_rows, where

ENCODERS: tuple[tuple[str, int, int, int], ...] = (
    ("small:convnet", 28, 1, 128),
    ("small:vit", 28, 1, 64),
    ("timm:resnet18", 32, 3, 16),
    ("timm:vit_small_patch16_224", 112, 3, 16),
)
"""Name, side of the images, channels, batch."""
LARGE: tuple[tuple[str, int, int, int], ...] = (
    ("timm:resnet50", 224, 3, 128),
    ("timm:vit_small_patch16_224", 224, 3, 256),
)
"""The same for a GPU, in bf16."""
SMALL = (("small:convnet?width=8&layers=2", 8, 1, 8),)


class Contestant:
    """A network that takes steps, and how long each took."""

    def __init__(self, encoder: str, side: int, channels: int, device: str, *, bf16: bool, compiled: bool) -> None:
        torch.manual_seed(0)
        self.encoder = build(encoder, image_size=side, channels=channels).to(device)
        if compiled:
            self.encoder.compile()
        self.optimiser = torch.optim.AdamW(self.encoder.parameters(), lr=1e-4)
        self.device, self.bf16 = device, bf16
        self.seconds: list[float] = []

    def step(self, images: Float[Tensor, "n c h w"]) -> None:
        start = self.now()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            pooled = self.encoder(images).pooled
        pooled.float().square().mean().backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.seconds.append(self.now() - start)

    def now(self) -> float:
        return time.process_time() if self.device == "cpu" else clock(self.device)


def measured(
    encoder: str, side: int, channels: int, batch: int, rounds: int, device: str, *, bf16: bool
) -> dict[str, Any]:
    contestants = {
        name: Contestant(encoder, side, channels, device, bf16=bf16, compiled=name == "compiled")
        for name in ("eager", "compiled")
    }
    images = torch.rand(batch, channels, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    # The first step compiles, and the second makes what the optimiser keeps warm.
    for _ in range(rounds + 2):
        for contestant in contestants.values():
            contestant.step(images)
    seconds = {name: statistics.median(one.seconds[2:]) for name, one in contestants.items()}
    ratios = [b / a for a, b in zip(*(one.seconds[2:] for one in contestants.values()), strict=True)]
    print(encoder, side, seconds, flush=True)
    return {
        "encoder": encoder,
        "side": side,
        "batch": batch,
        "bf16": bf16,
        "seconds": seconds,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "first_step": contestants["compiled"].seconds[0],
    }


def main() -> None:
    parser = arguments(__doc__, rounds=9)
    device_arguments(parser)
    options = parser.parse_args()
    device = place(options)
    if device == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        raise SystemExit("there is no C++ compiler, without which nothing is compiled on a CPU: install g++")
    torch.set_num_threads(options.threads)
    rows = SMALL if options.small else ENCODERS if options.device == "cpu" else LARGE
    found = [measured(*row, options.rounds, device, bf16=options.device == "cuda") for row in rows]
    tell_rows("a training step compiled and not", options, found, ("torch", "timm"), **where(options))


if __name__ == "__main__":
    main()
