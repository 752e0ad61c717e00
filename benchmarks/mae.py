"""A step of MAE, with the encoder on the visible quarter of the patches, against the encoder on all of them.

Both are the same method with the same decoder, which is asked for the same patches: the peer encodes all tokens and
takes those at the visible places. A step is loss, backward and the optimiser's update, on views made beforehand.
Contestants take turns; figures are medians over rounds. On a GPU the step is in bf16, and the network and the batch are
larger.

    python benchmarks/mae.py --json benchmarks/mae.json
    python benchmarks/mae.py --device cuda --json benchmarks/mae_gpu.json
    python benchmarks/mae.py --device cuda --small    # a few images, without a GPU too
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.encoders import build
from autodidact.methods.masked.mae import MAE
from autodidact.methods.method import Progress, Views
from autodidact.model import Encoded
from autodidact.views import gather_tokens
from common import arguments, clock, device_arguments, place, surroundings, tell, where

GOAL = 0.45
"""Largest share of the peer's time."""
STEPS: dict[str, dict[str, Any]] = {
    "cpu": {"encoder": "vit_small_patch16_224", "size": 224, "batch": 4},
    "cuda": {"encoder": "vit_base_patch16_224", "size": 224, "batch": 128},
}
SMALL = {"encoder": "vit_tiny_patch16_224", "size": 32, "batch": 2, "rounds": 1}


class AllEncoded(MAE):
    """MAE whose encoder sees all patches, and whose decoder is given its outputs at the visible ones."""

    def said(self, views: Views) -> tuple[Encoded, Float[Tensor, "n m p"]]:
        encoded = self.encoder(views["images"])
        assert encoded.tokens is not None
        seen = replace(encoded, tokens=gather_tokens(encoded.tokens, views["keep"]))
        said = self.decoder(seen.tokens, views["keep"], views["masked"][:, None], prefix=seen.prefix)
        return seen, said[:, 0]


class Contestant:
    """A method that takes steps, and how long each took: by wall clock and by processor."""

    def __init__(self, cls: type[MAE], options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.device, self.half = place(options), options.device == "cuda"
        made = cls(build(f"timm:{options.encoder}", image_size=options.size), ratio=options.ratio)
        self.method = made.to(self.device)
        self.optimiser = torch.optim.AdamW(self.method.parameters(), lr=1e-4)
        self.seconds: list[float] = []
        self.processor_seconds: list[float] = []

    def step(self, views: Views) -> float:
        start, start_of_work = clock(self.device), time.process_time()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
            loss = self.method.loss(views, Progress(0, 1, 0, torch.Generator())).total
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.seconds.append(clock(self.device) - start)
        self.processor_seconds.append(time.process_time() - start_of_work)
        return float(loss.detach())


def main() -> None:
    parser = arguments(__doc__, rounds=7)
    for name, default in STEPS["cpu"].items():
        other = f"default {default}, on a GPU {STEPS['cuda'][name]}"
        parser.add_argument(f"--{name}", type=type(default), help=other)
    parser.add_argument("--ratio", type=float, default=0.75)
    device_arguments(parser)
    options = parser.parse_args()
    for name, default in STEPS[options.device].items():
        setattr(options, name, getattr(options, name) or default)
    if options.small:
        vars(options).update(SMALL)
    device = place(options)
    torch.set_num_threads(options.threads)
    visible, whole = Contestant(MAE, options), Contestant(AllEncoded, options)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(options.batch, 3, options.size, options.size, generator=generator)
    for number in range(options.rounds + 1):
        made = {"images": images, **visible.method.hide(options.batch, generator)}
        views = Views({name: view.to(device) for name, view in made.items()})
        for contestant in (visible, whole) if number % 2 else (whole, visible):
            contestant.step(views)
        print(f"{number} visible {visible.seconds[-1]:.2f} s, all {whole.seconds[-1]:.2f} s", flush=True)
    pairs = {
        name: [own / other for own, other in list(zip(*both, strict=True))[1:]]
        for name, both in {
            "time": (visible.seconds, whole.seconds),
            "processor_time": (visible.processor_seconds, whole.processor_seconds),
        }.items()
    }
    how = "float32, CPU" if options.device == "cpu" else "bf16, GPU"
    result = {
        "what": f"a step of MAE, {how}: encoder on the visible patches against encoder on all",
        **where(options),
        **{name: getattr(options, name) for name in ("encoder", "size", "batch", "ratio", "rounds", "threads")},
        "decoder": {
            "width": visible.method.decoder.positions.shape[1],
            "depth": len(visible.method.decoder.layers),
        },
        **surroundings("torch", "timm"),
        "seconds": {
            "visible": statistics.median(visible.seconds[1:]),
            "all": statistics.median(whole.seconds[1:]),
        },
        **{name: statistics.median(ratios) for name, ratios in pairs.items()},
        "times": pairs["time"],
        "goal": GOAL,
    }
    tell(result, options.json)


if __name__ == "__main__":
    main()
