"""How well `choose` ranks without labels: searches over methods on 6,000 garments, against accuracy.

Labels of other 2,000 garments and of those are used only to say how well the rankings without labels agree with them.
Which figure is the default was decided on the first search; the second, of other methods, was run once that was done.
No trial is given up in these two, so that the rankings are over all. In the third, run last, every seed searches as
a person would: a folder of PNG files, the methods of the first search, trials that fall behind given up.

    python benchmarks/choose.py --json benchmarks/choose.json
    python benchmarks/choose.py --parts folder --json benchmarks/choose.json    # the rest of the file stays
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import autodidact
from autodidact.data import Source, open_source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["simclr,vicreg,barlow_twins", "dcl,moco,byol"])
    parser.add_argument("--parts", nargs="+", choices=("searches", "folder"), default=["searches", "folder"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the searches of a folder")
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--images", type=int, default=6_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    order = np.random.default_rng(0).permutation(60_000)[: options.images + 2_000]
    garments = open_source("fashion_mnist", split="train", progress=False)
    data, test = (garments.at(np.sort(part)) for part in np.split(order, [options.images]))
    found = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    found |= {
        "data": f"{options.images:,} images of Fashion-MNIST",
        "updates": options.steps,
        "machine": platform.machine(),
    }

    def search(methods: str, train: Source | Path, held: Source | Path, **more: Any) -> dict[str, Any]:
        settings = autodidact.Settings(steps=options.steps, batch_size=128, seed=more.pop("seed", 0))
        return searched(methods, train, held, options.trials, settings, **more)

    if "searches" in options.parts:
        found["searches"] = [search(methods, data, test) for methods in options.methods]
    if "folder" in options.parts:
        with tempfile.TemporaryDirectory() as folder:
            train, held = (written(part, Path(folder) / name) for part, name in ((data, "train"), (test, "test")))
            found["folder"] = [
                {"seed": seed, **search(options.methods[0], train, held, early_stopping=True, seed=seed)}
                for seed in options.seeds
            ]
    text = json.dumps(found, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


def written(source: Source, folder: Path) -> Path:
    """The folder, with a PNG file of every image in a folder of its class."""
    classes = source.schema["label"].classes
    images, labels = source.batch(np.arange(len(source)))["image"].numpy(), source.column("label")
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / classes[int(label)].replace("/", " or ") / f"{number:05}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(place)
    return folder


def searched(
    methods: str,
    data: Source | Path,
    test: Source | Path,
    trials: int,
    settings: autodidact.Settings,
    early_stopping: bool = False,
) -> dict[str, Any]:
    """One search: how its rankings agree with labels, and every trial that was finished."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        table = autodidact.choose(
            data,
            methods,
            out=folder,
            trials=trials,
            early_stopping=early_stopping,
            encoder_arguments={"width": 16},
            settings=settings,
            test=test,
            quiet=True,
        )
    return {
        "methods": methods.split(","),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "trials": len(table.arms),
        "given_up": table.about["given_up"],
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
