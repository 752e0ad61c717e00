"""How well `choose` ranks without labels: trials of three methods on 6,000 garments, none given up, against accuracy.

Labels of other 2,000 garments and of those are used only to say how well the rankings without labels agree with them.

    python benchmarks/choose.py --json benchmarks/choose.json
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path

import numpy as np

import autodidact
from autodidact.data import open_source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="simclr,vicreg,barlow_twins")
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--images", type=int, default=6_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    order = np.random.default_rng(0).permutation(60_000)[: options.images + 2_000]
    garments = open_source("fashion_mnist", split="train", progress=False)
    data, test = (garments.at(np.sort(part)) for part in np.split(order, [options.images]))
    with tempfile.TemporaryDirectory() as folder:
        table = autodidact.choose(
            data,
            options.methods,
            out=folder,
            trials=options.trials,
            early_stopping=False,
            encoder_arguments={"width": 16},
            settings=autodidact.Settings(steps=options.steps, batch_size=128),
            test=test,
            quiet=True,
        )
    found = {
        "data": f"{options.images:,} images of Fashion-MNIST",
        "trials": len(table.arms),
        "methods": options.methods.split(","),
        "updates": options.steps,
        "machine": platform.machine(),
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
    text = json.dumps(found, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
