"""How well `choose` ranks without labels: searches over methods on 6,000 garments, no trial given up, against accuracy.

Labels of other 2,000 garments and of those are used only to say how well the rankings without labels agree with them.
Which figure is the default was decided on the first search; the second, of other methods, was run once that was done.

    python benchmarks/choose.py --json benchmarks/choose.json
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import autodidact
from autodidact.data import Source, open_source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["simclr,vicreg,barlow_twins", "dcl,moco,byol"])
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--images", type=int, default=6_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    order = np.random.default_rng(0).permutation(60_000)[: options.images + 2_000]
    garments = open_source("fashion_mnist", split="train", progress=False)
    data, test = (garments.at(np.sort(part)) for part in np.split(order, [options.images]))
    found = {
        "data": f"{options.images:,} images of Fashion-MNIST",
        "updates": options.steps,
        "machine": platform.machine(),
        "searches": [searched(methods, data, test, options.trials, options.steps) for methods in options.methods],
    }
    text = json.dumps(found, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


def searched(methods: str, data: Source, test: Source, trials: int, steps: int) -> dict[str, Any]:
    """One search: how its rankings agree with labels, and every trial."""
    with tempfile.TemporaryDirectory() as folder:
        table = autodidact.choose(
            data,
            methods,
            out=folder,
            trials=trials,
            early_stopping=False,
            encoder_arguments={"width": 16},
            settings=autodidact.Settings(steps=steps, batch_size=128),
            test=test,
            quiet=True,
        )
    return {
        "methods": methods.split(","),
        "trials": len(table.arms),
        "versions": table.about["versions"],
        "agreement": table.about["agreement"],
        "chosen": table.about["chosen"],
        "regret": table.about["regret"],
        "mean_regret_of_a_random_trial": {
            protocol: max(table.values(arm, protocol)[0] for arm in table.arms)
            - float(np.mean([table.values(arm, protocol)[0] for arm in table.arms]))
            for protocol in table.about["protocols"]
        },
        "rows": [
            {"trial": arm, **{name: table.values(arm, name)[0] for name in table.metrics if table.values(arm, name)}}
            for arm in table.arms
        ],
    }


if __name__ == "__main__":
    main()
