"""A step of MAE on a CPU, with the encoder on the visible quarter of the patches, against the encoder on all of them.

Both are the same method with the same decoder, which is asked for the same patches: the peer encodes all tokens and
takes those at the visible places. A step is loss, backward and the optimiser's update, on views made beforehand.
Contestants take turns; figures are medians over rounds.

    python benchmarks/mae.py --json benchmarks/mae.json
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.encoders import build
from autodidact.methods.masked.mae import MAE
from autodidact.methods.method import Progress, Views
from autodidact.model import Encoded
from autodidact.views import gather_tokens
from common import arguments, surroundings, tell

GOAL = 0.45
"""Largest share of the peer's time."""


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
        self.method = cls(build(f"timm:{options.encoder}", image_size=options.size), ratio=options.ratio)
        self.optimiser = torch.optim.AdamW(self.method.parameters(), lr=1e-4)
        self.seconds: list[float] = []
        self.processor_seconds: list[float] = []

    def step(self, views: Views) -> float:
        start, start_of_work = time.perf_counter(), time.process_time()
        loss = self.method.loss(views, Progress(0, 1, 0, torch.Generator())).total
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.seconds.append(time.perf_counter() - start)
        self.processor_seconds.append(time.process_time() - start_of_work)
        return float(loss.detach())


def main() -> None:
    parser = arguments(__doc__, rounds=7)
    parser.add_argument("--encoder", default="vit_small_patch16_224")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--ratio", type=float, default=0.75)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    visible, whole = Contestant(MAE, options), Contestant(AllEncoded, options)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(options.batch, 3, options.size, options.size, generator=generator)
    for number in range(options.rounds + 1):
        views = Views({"images": images, **visible.method.hide(options.batch, generator)})
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
    result = {
        "what": "a step of MAE, float32, CPU: encoder on the visible patches against encoder on all",
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
