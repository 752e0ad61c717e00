"""What DependencyViT's forward pass costs on a CPU beside a plain vision transformer's, and what dropping leaves saves.

Of one size: a plain transformer of timm, whose attention is fused; DependencyViT, whose attention cannot be, since who
receives is normalised over receivers; and its Lite form, which drops 16 % of the patches at each of four blocks.
Contestants take turns; figures are medians over rounds. Operations are counted, not measured.

    python benchmarks/lite.py --json benchmarks/lite.json
"""

from __future__ import annotations

import statistics
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from autodidact.encoders import build
from common import arguments, tell_rows

LITE = "prune=[2,5,8,11]"


def main() -> None:
    parser = arguments(__doc__, rounds=9)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    own = "small:dependency_vit?width=384&depth=12&heads=12&patch=16"
    names = {
        "plain": "timm:vit_small_patch16_224?num_heads=12&class_token=false&global_pool=avg",
        "dependency": own,
        "lite": f"{own}&{LITE}",
    }
    torch.manual_seed(0)
    encoders = {
        what: build(name, image_size=options.size, channels=3).eval().requires_grad_(False)
        for what, name in names.items()
    }
    images = torch.rand(options.batch, 3, options.size, options.size)
    took: dict[str, list[float]] = {what: [] for what in names}
    worked: dict[str, list[float]] = {what: [] for what in names}
    for number in range(options.rounds + 1):
        for what in list(names)[:: 1 if number % 2 else -1]:
            start, start_of_work = time.perf_counter(), time.process_time()
            encoders[what](images)
            took[what].append(time.perf_counter() - start)
            worked[what].append(time.process_time() - start_of_work)
        print(number, {what: round(seconds[-1], 3) for what, seconds in took.items()}, flush=True)
    rows = []
    for what, encoder in encoders.items():
        # Fused attention is not counted on a CPU; without it the same products are.
        with (
            FlopCounterMode(display=False) as counted,
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        ):
            encoder(images[:1])
        against = [mine / other for mine, other in list(zip(took[what], took["dependency"], strict=True))[1:]]
        rows.append(
            {
                "what": what,
                "encoder": names[what],
                "operations": counted.get_total_flops(),
                "seconds": statistics.median(took[what][1:]),
                "processor_seconds": statistics.median(worked[what][1:]),
                "against": statistics.median(against),
                "spread": [min(against), max(against)],
            }
        )
    tell_rows(
        "a forward pass without gradient, float32, CPU",
        options,
        rows,
        ("torch", "timm"),
        size=options.size,
        batch=options.batch,
    )


if __name__ == "__main__":
    main()
