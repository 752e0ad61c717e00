"""A training step of vision transformers on a CPU: in float32, in bf16, and in bf16 with torch's own attention.

A step is forward, backward and AdamW's update, with the mean of the last tokens squared as its loss. Contestants take
turns; figures are medians over rounds.

    python benchmarks/bf16.py --json benchmarks/bf16.json
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.encoders import build
from autodidact.training.attention import ShortAttentionInFloat
from common import arguments, tell_rows

ENCODERS: tuple[tuple[str, int, int, int], ...] = (
    ("small:vit?width=64&depth=4&heads=4&patch=7", 28, 1, 128),
    ("small:vit?width=192&depth=6&heads=6&patch=4", 28, 1, 64),
    ("timm:vit_small_patch16_224", 112, 3, 16),
    ("timm:vit_small_patch16_224", 224, 3, 8),
)
"""Name, side of the images, channels, batch."""
CONTESTANTS = {"float32": (False, False), "bf16, torch's attention": (True, False), "bf16": (True, True)}
"""Whether in bf16, and whether short attention is computed in float32, as a training does."""


class Contestant:
    """A network that takes steps, and how much processor time each took."""

    def __init__(self, encoder: str, side: int, channels: int, *, bf16: bool, short: bool) -> None:
        torch.manual_seed(0)
        self.encoder = build(encoder, image_size=side, channels=channels)
        self.optimiser = torch.optim.AdamW(self.encoder.parameters(), lr=1e-4)
        self.bf16, self.short = bf16, short
        self.seconds: list[float] = []

    def step(self, images: Float[Tensor, "n c h w"]) -> None:
        start = time.process_time()
        with ExitStack() as around:
            if self.short:
                around.enter_context(ShortAttentionInFloat())
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                pooled = self.encoder(images).pooled
            pooled.float().square().mean().backward()
            self.optimiser.step()
            self.optimiser.zero_grad()
        self.seconds.append(time.process_time() - start)


def measured(encoder: str, side: int, channels: int, batch: int, rounds: int) -> dict[str, Any]:
    contestants = {
        name: Contestant(encoder, side, channels, bf16=bf16, short=short) for name, (bf16, short) in CONTESTANTS.items()
    }
    images = torch.rand(batch, channels, side, side, generator=torch.Generator().manual_seed(0))
    for _ in range(rounds + 1):
        for contestant in contestants.values():
            contestant.step(images)
    seconds = {name: statistics.median(one.seconds[1:]) for name, one in contestants.items()}
    spread = {name: [min(one.seconds[1:]), max(one.seconds[1:])] for name, one in contestants.items()}
    print(encoder, side, seconds, flush=True)
    return {"encoder": encoder, "side": side, "batch": batch, "seconds": seconds, "spread": spread}


def main() -> None:
    options = arguments(__doc__, rounds=9).parse_args()
    torch.set_num_threads(options.threads)
    rows = [measured(*row, options.rounds) for row in ENCODERS]
    amx = torch.cpu._is_amx_tile_supported()
    tell_rows("processor time of a training step on a CPU", options, rows, ("torch", "timm"), amx=amx)


if __name__ == "__main__":
    main()
