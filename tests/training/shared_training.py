"""Trains DCL, Barlow Twins, SiT or SEER on fixed views with any number of processes; run by test_two_processes.py and
test_restart.py.

Usage: python shared_training.py METHOD PROCESSES FOLDER [STEPS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from autodidact.data import ArraySource, Batch, Field, Schema
from autodidact.encoders import build
from autodidact.methods.image.barlow_twins import BarlowTwins
from autodidact.methods.image.dcl import DCL
from autodidact.methods.image.seer import SEER
from autodidact.methods.masked.sit import SiT
from autodidact.methods.method import Method, Progress, Views
from autodidact.training import Settings, train


class FixedDCL(DCL):
    def views(self, batch: Batch, progress: Progress) -> Views:
        return Views({"a": batch["image"], "b": batch["image"].flip(-1)}, batch.ids)


class FixedBarlowTwins(BarlowTwins):
    def views(self, batch: Batch, progress: Progress) -> Views:
        return Views({"a": batch["image"], "b": batch["image"].flip(-1)}, batch.ids)


class FixedSiT(SiT):
    """More is corrupted of bright images, so processes differ in how much they repaint."""

    def views(self, batch: Batch, progress: Progress) -> Views:
        both = torch.cat([batch["image"], batch["image"].flip(-1)]).double()
        mask = (both.mean(dim=(2, 3), keepdim=True) > 0.5) | (torch.arange(12) < 4)
        return Views({"clean": both, "seen": both.where(~mask, 0.0), "mask": mask.expand_as(both)}, batch.ids)


class FixedSEER(SEER):
    def views(self, batch: Batch, progress: Progress) -> Views:
        image = batch["image"].double()
        return Views({"a": image, "b": image.flip(-1), "c": image[..., 2:10, 2:10]}, batch.ids)


def made(name: str, source: ArraySource) -> Method:
    if name == "sit":
        vit = build("small:vit?width=8&depth=1&heads=2&patch=4", schema=source.schema, image_size=12)
        # In float64: class tokens that are nearly alike make batch norm blow up what is rounded.
        return FixedSiT(vit, hidden=16, dimensions=8, momentum=0.9).double()
    encoder = build("small:convnet", schema=source.schema, image_size=12, width=8)
    if name == "seer":
        # Its queue is longer than the training: what the processes push into it balances all later codes.
        # In float64, as batch norm in the projector blows up what is rounded.
        return FixedSEER(
            encoder, prototypes=12, dimensions=8, frozen=1, queue=256, marginal=0.5, local_count=1, local_size=8
        ).double()
    return FixedDCL(encoder) if name == "dcl" else FixedBarlowTwins(encoder, dimensions=16)


def main(name: str, processes: int, folder: Path, steps: int = 4) -> None:
    torch.set_num_threads(1)
    images = np.random.default_rng(0).random((64, 1, 12, 12)).astype(np.float32)
    source = ArraySource("noise", {"image": images}, Schema(image=Field("image", (1, 12, 12))), np.arange(64))
    torch.manual_seed(0)
    method = made(name, source)
    # Barlow Twins' loss is a sum, so its gradients are large: a rate at which rounding is not blown up step by step.
    rate = 1e-4 if name == "barlow_twins" else 0.05
    settings = Settings(
        steps=steps, batch_size=32, optimizer="sgd", lr=rate, accelerator="cpu", devices=processes, checkpoint_steps=1
    )
    train(method, source, settings, out=folder, quiet=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), *(int(steps) for steps in sys.argv[4:]))
