"""One epoch of SimCLR and of MAE: autodidact against lightly with Lightning, and against stable-pretraining.

The same encoder (one of ours, which scales its input itself), head, loss, optimiser, images and recipe of the views
(crop, flip, colour jitter of strength 1, greyscale, blur). The peers read decoded images and make views image by image,
in one worker process for each core, as their guides advise. An epoch is half of what three epochs take longer than
one, so that nobody's start is counted. Contestants take turns; figures are medians. solo-learn is not among
them: it asks for a torch of 2021.

MAE has the same encoder and decoder, three quarters of the patches dropped, the same loss, and views cropped and
mirrored. Its peer is lightly with its views and its masks; stable-pretraining is left out of it.

On a GPU networks and images are larger and everybody trains in bf16. `--small` tries the same out on a few small
images; the rows of a GPU on a processor where there is none, in bf16 all the same.

    make bench BENCHES=epoch
    python benchmarks/epoch.py --device cuda --json benchmarks/epoch_gpu.json
    python benchmarks/epoch.py --device cuda --small    # without a GPU and without peers too
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.trainer.connectors import callback_connector
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from autodidact.data import Source, open_source
from autodidact.data.cores import cores
from autodidact.encoders import build
from autodidact.heads import projector
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.masked.mae import MAE
from autodidact.methods.method import Views
from autodidact.model import Encoder
from autodidact.targets import normalised_patches
from autodidact.training import Settings, train
from autodidact.views import gather_tokens
from common import arguments, clock, device_arguments, peer_is_there, place, tell_rows, where
from views import photographs

Row = tuple[str, str, int, int, int]
"""Method, encoder, side of the images, number of images, batch."""
GOALS = {"cpu": 0.6, "cuda": 0.8}
"""Of the peer's time."""
ROWS: dict[str, tuple[Row, ...]] = {
    "cpu": (
        ("simclr", "small:convnet?width=32", 32, 2_048, 256),
        ("simclr", "small:vit?width=128&depth=4&heads=4&patch=8", 64, 1_024, 128),
        ("mae", "small:vit?width=128&depth=4&heads=4&patch=8", 64, 1_024, 128),
    ),
    "cuda": (
        ("simclr", "timm:resnet18", 96, 16_384, 512),
        ("simclr", "timm:resnet50", 224, 4_096, 128),
        ("mae", "timm:vit_small_patch16_224", 224, 4_096, 256),
    ),
}
SMALL, SMALL_SIDE = 4, 32
"""Images, which are one batch, and their largest side where a run is small."""
SHORT, LONG = 1, 3
TEMPERATURE, RATE = 0.1, 1e-3
MAE_CROP = (0.4, 1.0)
ROUNDING = 1e-6
"""The peer rounds the number of tokens that it keeps down."""
HIDDEN, DIMENSIONS = 512, 128


@dataclass(frozen=True)
class Machine:
    """Where and how everybody trains."""

    device: str
    """"cpu" or "cuda"."""
    half: bool
    """In bf16."""
    threads: int
    """Of the processor, and workers that make the peers' views."""


class Pictures(Dataset[Any]):
    """Decoded images, as the peers read them."""

    def __init__(self, pictures: np.ndarray, transform: Callable[[Any], Any]) -> None:
        self.pictures, self.transform = pictures, transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, place: int) -> Any:
        return self.transform(Image.fromarray(self.pictures[place]))


class Backbone(nn.Module):
    """An encoder of ours as a plain module, from images to embeddings."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder(images).pooled


def made(name: str, source: Source, side: int) -> Encoder:
    torch.manual_seed(0)
    return build(name, schema=source.schema, image_size=side)


def head(width: int) -> nn.Module:
    """SimCLR's projector."""
    return projector(width, HIDDEN, DIMENSIONS, layers=2)


def transform(side: int) -> Callable[[Any], Any]:
    """The peers' views: lightly's, without the scaling that the encoder does."""
    from lightly.transforms import SimCLRTransform

    return SimCLRTransform(input_size=side, normalize=None)


def trainer(epochs: int, folder: Path, machine: Machine, **more: Any) -> Any:
    import lightning

    return lightning.Trainer(
        max_epochs=epochs,
        accelerator=machine.device,
        precision="bf16-mixed" if machine.half else "32-true",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **more,
    )


def loader(data: Dataset[Any], batch: int, threads: int) -> DataLoader[Any]:
    return DataLoader(
        data, batch_size=batch, shuffle=True, drop_last=True, num_workers=threads, persistent_workers=True
    )


def ours(method: str, encoder: Encoder, source: Source, batch: int, epochs: int, machine: Machine) -> None:
    settings = Settings(
        epochs=epochs,
        batch_size=batch,
        lr=RATE,
        monitor_steps=10**9,
        accelerator="cpu" if machine.device == "cpu" else "gpu",
        precision="bf16" if machine.half else "32",
        devices=1,
    )
    if method == "mae":
        train(MAE(encoder, view_changes={"crop_scale": MAE_CROP}), source, settings, quiet=True)
        return
    simclr = SimCLR(encoder, temperature=TEMPERATURE, hidden=HIDDEN, dimensions=DIMENSIONS, view="simclr")
    train(simclr, source, settings, quiet=True)


def lightly(encoder: Encoder, pictures: np.ndarray, batch: int, epochs: int, folder: Path, machine: Machine) -> None:
    import lightning
    from lightly.loss import NTXentLoss

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = Backbone(encoder), head(encoder.width)
            self.loss = NTXentLoss(temperature=TEMPERATURE)

        def training_step(self, views: Any, _: int) -> Tensor:
            first, second = (self.head(self.backbone(view)) for view in views)
            return self.loss(first, second)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=RATE)

    data = Pictures(pictures, transform(encoder.spec["image_size"][0]))
    trainer(epochs, folder, machine).fit(Module(), loader(data, batch, machine.threads))


def lightly_mae(
    encoder: Encoder, pictures: np.ndarray, batch: int, epochs: int, folder: Path, machine: Machine
) -> None:
    import lightning
    from lightly.models.utils import random_token_mask
    from lightly.transforms import MAETransform

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            # For its encoder and decoder; views, masks and the loop are the peer's.
            self.mae = MAE(encoder)

        def training_step(self, views: Any, _: int) -> Tensor:
            (images,) = views
            keep, masked = random_token_mask(
                (len(images), self.mae.tokens + 1), mask_ratio=1 - kept_share(self.mae) - ROUNDING, device=images.device
            )
            # The peer's numbers begin with the class token, which it never hides.
            shown = Views({"images": images, "keep": keep[:, 1:] - 1, "masked": masked - 1})
            said = self.mae.said(shown)[1]
            return nn.functional.mse_loss(said, normalised_patches(gather_tokens(self.mae.pixels(images), masked - 1)))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=RATE)

    side = encoder.spec["image_size"][0]
    data = Pictures(pictures, MAETransform(input_size=side, min_scale=MAE_CROP[0], normalize={}))
    trainer(epochs, folder, machine).fit(Module(), loader(data, batch, machine.threads))


def kept_share(method: MAE) -> float:
    """Share of all tokens, the class token among them, that the encoder sees."""
    return (method.tokens - method.count + 1) / (method.tokens + 1)


def stable_pretraining(
    encoder: Encoder, pictures: np.ndarray, batch: int, epochs: int, folder: Path, machine: Machine
) -> None:
    import stable_pretraining as spt
    from stable_pretraining.forward import simclr

    views_of = transform(encoder.spec["image_size"][0])
    data = Pictures(pictures, lambda picture: {"views": [{"image": view} for view in views_of(picture)]})
    module = spt.Module(
        forward=simclr,
        backbone=Backbone(encoder),
        projector=head(encoder.width),
        simclr_loss=spt.losses.NTXEntLoss(temperature=TEMPERATURE),
        optim={"optimizer": {"type": "AdamW", "lr": RATE}, "interval": "step"},
    )
    module_data = spt.data.DataModule(train=loader(data, batch, machine.threads))
    trainer(epochs, folder, machine, num_sanity_val_steps=0).fit(module, module_data)


PEERS: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
    "lightly": ("lightly", {"simclr": lightly, "mae": lightly_mae}),
    "stable-pretraining": ("stable_pretraining", {"simclr": stable_pretraining}),
}
"""Name -> its module, and what trains with it by method."""


def measured(row: Row, names: list[str], options: argparse.Namespace, folder: Path) -> Any:
    """Seconds of an epoch by every contestant, and ours as a share of each."""
    method, name, side, count, batch = row
    if options.small:
        side, count, batch = min(side, SMALL_SIDE), SMALL, SMALL
    machine = Machine(place(options), options.device == "cuda", options.threads)
    names = [peer for peer in names if method in PEERS[peer][1]]
    pictures = photographs(count, side)
    np.save(folder / "images.npy", pictures)
    source = open_source(folder / "images.npy", progress=False)
    contestants: dict[str, Callable[[int], None]] = {
        "autodidact": lambda epochs: ours(method, made(name, source, side), source, batch, epochs, machine)
    }

    def by(peer: str) -> Callable[[int], None]:
        fit = PEERS[peer][1][method]
        return lambda epochs: fit(made(name, source, side), pictures, batch, epochs, folder, machine)

    contestants |= {peer: by(peer) for peer in names}
    seconds: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    for fit in contestants.values():
        # Untimed: what is imported and packed once.
        fit(SHORT)
    for _ in range(options.rounds):
        for contestant, fit in contestants.items():
            took = []
            for epochs in (SHORT, LONG):
                start = clock(machine.device)
                fit(epochs)
                took.append(clock(machine.device) - start)
            seconds[contestant].append((took[1] - took[0]) / (LONG - SHORT))
    found = {
        "method": method,
        "encoder": name,
        "side": side,
        "images": count,
        "batch": batch,
        "seconds": {contestant: statistics.median(took) for contestant, took in seconds.items()},
        "all_seconds": {contestant: [round(one, 3) for one in took] for contestant, took in seconds.items()},
        "share": {
            peer: statistics.median(a / b for a, b in zip(seconds["autodidact"], seconds[peer], strict=True))
            for peer in names
        },
    }
    print(found, flush=True)
    return found


def main() -> None:
    parser = arguments(__doc__, rounds=5, threads=0)
    device_arguments(parser)
    options = parser.parse_args()
    options.rounds = 1 if options.small else options.rounds
    # On a processor as many as every machine has; beside a GPU all are there to make the peers' views.
    options.threads = options.threads or (min(2, cores()) if place(options) == "cpu" else cores())
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    for logger in ("lightning.pytorch", "stable_pretraining"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    # What a package adds to every Trainer of its environment (Lightning's entry points) would burden all contestants.
    callback_connector._load_external_callbacks = lambda group: []
    there = [peer for peer, (module, _) in PEERS.items() if peer_is_there(module, "its training")]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AUTODIDACT_CACHE"] = folder
        rows = [measured(row, there, options, Path(folder)) for row in ROWS[options.device]]
    more = {"goal": GOALS[options.device], **where(options)}
    tell_rows("one epoch of SimCLR and of MAE", options, rows, ("torch", "lightning", *there), **more)


if __name__ == "__main__":
    main()
