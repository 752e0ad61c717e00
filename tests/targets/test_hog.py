"""Histograms of oriented gradients, against those of scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.targets import hog, hog_cells, patch_hog


@pytest.mark.parametrize(
    ("size", "cell", "bins"), [((16, 24), (8, 8), 9), ((12, 12), (4, 6), 8), ((15, 10), (5, 5), 9)]
)
def test_histograms_are_those_of_scikit_image_channel_by_channel(
    size: tuple[int, int], cell: tuple[int, int], bins: int
) -> None:
    feature = pytest.importorskip("skimage.feature")
    images = torch.rand(3, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    images[2, 1, : size[0] // 2] = 0.5
    found = hog(images, cell, bins=bins)
    for n in range(3):
        for c in range(2):
            expected = feature.hog(
                images[n, c].numpy(),
                orientations=bins,
                pixels_per_cell=cell,
                cells_per_block=(1, 1),
                block_norm="L2",
                feature_vector=False,
            )[:, :, 0, 0]
            np.testing.assert_allclose(found[n, c].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_photograph_has_the_histograms_of_scikit_image() -> None:
    data, feature = pytest.importorskip("skimage.data"), pytest.importorskip("skimage.feature")
    picture = torch.from_numpy(data.camera()[:256, :256].astype(np.float64) / 255)
    found = hog(picture[None, None], (8, 8))[0, 0]
    expected = feature.hog(
        picture.numpy(), pixels_per_cell=(8, 8), cells_per_block=(1, 1), block_norm="L2", feature_vector=False
    )[:, :, 0, 0]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_ramp_has_all_its_weight_in_the_bin_of_its_direction() -> None:
    across = torch.arange(8.0).expand(1, 1, 8, 8)
    assert hog(across, (8, 8))[0, 0, 0, 0].argmax() == 0
    both = across + across.transpose(2, 3)
    found = hog(both, (8, 8))[0, 0, 0, 0]
    assert found.argmax() == 2  # 45 degrees, bins of 20
    assert torch.equal(hog(torch.full((1, 1, 8, 8), 0.3), (8, 8)), torch.zeros(1, 1, 1, 1, 9))


def test_features_of_a_patch_are_those_of_its_cells_in_every_channel() -> None:
    images = torch.rand(2, 3, 8, 12)
    cells, features = hog(images, (2, 2), bins=5), patch_hog(images, (4, 4), cells=2, bins=5)
    assert features.shape == (2, 6, 3 * 4 * 5)
    for row in range(2):
        for column in range(3):
            cut = cells[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(features[:, 3 * row + column], cut.flatten(1))


def test_cells_are_as_few_as_keep_each_within_eight_pixels() -> None:
    assert [hog_cells((side, side)) for side in (2, 4, 8, 12, 14, 16, 32)] == [1, 1, 1, 2, 2, 2, 4]
    assert hog_cells((8, 16)) == 2


def test_cells_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="images of 10x8 pixels are not made of cells of 4x4"):
        hog(torch.rand(1, 1, 10, 8), (4, 4))
    with pytest.raises(ValueError, match="patches of 4x4 pixels cannot be cut into 3 cells"):
        patch_hog(torch.rand(1, 1, 8, 8), (4, 4), cells=3)
