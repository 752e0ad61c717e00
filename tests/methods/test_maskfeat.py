"""MaskFeat says the histograms of oriented gradients of the masked patches."""

from __future__ import annotations

import pytest
import torch

from autodidact.encoders import build
from autodidact.methods.masked.maskfeat import MaskFeat
from autodidact.methods.method import Progress, Views
from autodidact.targets import hog


def maskfeat(patch: int = 4, **options: object) -> MaskFeat:
    torch.manual_seed(0)
    return MaskFeat(build(f"small:vit?width=16&depth=1&heads=2&patch={patch}", image_size=16, channels=2), **options)


def test_the_loss_is_the_mean_squared_error_of_the_histograms_of_masked_patches() -> None:
    method = maskfeat(cells=2, bins=5).double()
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, 2, 16, 16, generator=generator, dtype=torch.float64)
    shown = Views({"images": images, **method.hide(3, generator)}, torch.arange(3))
    tokens, cells = method.seen(shown).detach(), hog(images, (2, 2), bins=5)
    errors = []
    for row, patch in shown["mask"].nonzero().tolist():
        top, left = 2 * (patch // 4), 2 * (patch % 4)
        wanted = torch.cat([cells[row, c, top + y, left + x] for c in (0, 1) for y in (0, 1) for x in (0, 1)])
        said = tokens[row, patch] @ method.head.weight.T + method.head.bias
        errors.append(float((said - wanted).square().mean().detach()))
    found = method.loss(shown, Progress(0, 10, 0, generator)).total
    assert float(found.detach()) == pytest.approx(sum(errors) / len(errors), rel=1e-6)


def test_a_patch_has_as_few_cells_as_keep_each_within_eight_pixels() -> None:
    assert maskfeat(4).head.out_features == 2 * 9
    torch.manual_seed(0)
    encoder = build("small:vit?width=16&depth=1&heads=2&patch=16", image_size=32, channels=3)
    assert MaskFeat(encoder).head.out_features == 3 * 4 * 9  # the paper's 108


@pytest.mark.parametrize("options", [{"bins": 1}, {"cells": 3}, {"cells": -1}])
def test_bins_and_cells_that_make_no_sense_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="bins must be at least 2 and cells a divisor of the sides of a patch of 4x4"):
        maskfeat(**options)
