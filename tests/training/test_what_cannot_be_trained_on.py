"""What is refused before anything has learned from it: data of another shape, and batches too small to be normed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autodidact.catalog import cards, target
from autodidact.data import ArraySource, Batch, Field, Schema, Source, chained, open_source, together
from autodidact.encoders import build
from autodidact.methods.image.dino import DINO
from autodidact.methods.image.rotation import Rotation
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.method import Method, Progress, Views
from autodidact.methods.table.t_jepa import TJEPA
from autodidact.training import Settings, train

ONE = Settings(steps=1, batch_size=4, accelerator="cpu")


def pictures(channels: int, name: str = "pictures") -> Source:
    rows = np.random.default_rng(0).random((8, channels, 8, 8)).astype(np.float32)
    return ArraySource(name, {"image": rows}, Schema(image=Field("image", rows.shape[1:])), np.arange(8))


def numbers() -> Source:
    rows = np.zeros((8, 4), dtype=np.float32)
    return ArraySource("numbers", {"x": rows}, Schema(x=Field("vector", (4,))), np.arange(8, 16))


def made(name: str, channels: int = 1, **options: Any) -> Method:
    torch.manual_seed(0)
    encoder = build("small:vit?width=8&depth=1&heads=2&patch=4", image_size=8, channels=channels)
    return target(cards()[name])(encoder, dimensions=8, **options)


class OfAStream(SimCLR):
    """Reads the pictures of one of the streams."""

    def views(self, batch: Batch, progress: Progress) -> Views:
        return super().views(batch["pictures"], progress)


@pytest.mark.parametrize(("built", "given"), [(3, 1), (1, 3)])
@pytest.mark.parametrize("name", ["simclr", "byol"])
def test_images_of_other_channels_than_the_encoders_are_refused(name: str, built: int, given: int) -> None:
    with pytest.raises(ValueError, match=f"was built for images of {built} channels, these have {given}"):
        train(made(name, built), pictures(given), ONE, quiet=True)


def test_a_table_of_other_columns_than_the_encoders_is_refused() -> None:
    wine, cancer = (open_source(name, progress=False) for name in ("wine", "breast_cancer"))
    method = TJEPA(build("small:tabular?width=8&depth=1&heads=2&hidden=8", schema=wine.schema))
    with pytest.raises(ValueError, match="was built for other numeric columns; missing here: alcohol"):
        train(method, cancer, ONE, quiet=True)


def test_of_several_streams_those_are_looked_at_that_have_what_the_encoder_reads() -> None:
    encoder = build("small:convnet?width=2", image_size=8, channels=1)
    train(OfAStream(encoder), together(pictures=pictures(1), others=numbers()), ONE, quiet=True)
    with pytest.raises(ValueError, match="built for images of 1 channels, these have 3"):
        train(OfAStream(encoder), together(pictures=pictures(3), others=numbers()), ONE, quiet=True)
    with pytest.raises(ValueError, match="built for images of 1 channels, these have 3"):
        train(SimCLR(encoder), chained(grey=pictures(1), coloured=pictures(3, "more")), ONE, quiet=True)


@pytest.mark.parametrize("name", ["byol", "barlow_twins", "vicreg", "moco_v3"])
@pytest.mark.parametrize(
    ("batch", "parts", "said"),
    [
        (1, 1, r"here is 1 \(--batch-size 1\): use a larger --batch-size$"),
        (4, 4, r"\(--batch-size 4, --accumulate 4\): use a larger --batch-size or a smaller --accumulate$"),
    ],
)
def test_a_single_sample_is_refused_by_a_method_that_norms_over_samples(
    name: str, batch: int, parts: int, said: str
) -> None:
    method = made(name).train()
    before = {label: value.clone() for label, value in method.named_parameters()}
    settings = Settings(steps=2, batch_size=batch, accumulate=parts, accelerator="cpu")
    with pytest.raises(ValueError, match=f"^{type(method).__name__} has batch norms, which need .*{said}"):
        train(method, pictures(1), settings, quiet=True)
    assert all(torch.equal(value, before[label]) for label, value in method.named_parameters())


def test_a_single_sample_is_refused_where_a_budget_of_tokens_is_rehearsed() -> None:
    with pytest.raises(ValueError, match="VICReg has batch norms"):
        train(made("vicreg"), pictures(1), Settings(tokens=1_000, batch_size=1, accelerator="cpu"), quiet=True)


def test_a_single_sample_is_enough_where_a_norm_has_several_values_of_it() -> None:
    """Four turns of it, or the places of a map; and where there is no norm over samples."""
    settings = Settings(steps=1, batch_size=1, accelerator="cpu")
    train(Rotation(build("small:convnet?width=2", image_size=8, channels=1)), pictures(1), settings, quiet=True)
    vit = build("small:vit?width=8&depth=1&heads=2&patch=4", image_size=8, channels=1)
    train(DINO(vit, prototypes=8, hidden=8, bottleneck=4), pictures(1), settings, quiet=True)


def test_devices_that_cannot_share_a_batch_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch size 4 cannot be shared equally by 3 processes"):
        train(made("simclr"), pictures(1), replace(ONE, devices=3), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
