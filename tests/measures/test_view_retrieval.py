"""How often a view finds another of the same sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.measures import view_retrieval


def naive(z: np.ndarray) -> float:
    n, q, _ = z.shape
    z = z - z.mean((0, 1))
    found = []
    for sample in range(n):
        for one in range(q):
            for other in range(q):
                if one != other:
                    own = z[sample, one]
                    cosines = [own @ z[j, other] / np.linalg.norm(own) / np.linalg.norm(z[j, other]) for j in range(n)]
                    found.append(int(np.argmax(cosines)) == sample)
    return float(np.mean(found))


def test_it_is_the_share_of_pairs_that_find_each_other():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(12, 1, 5)) + 0.8 * rng.normal(size=(12, 3, 5)) + 2.0
    assert 0.1 < naive(z) < 0.9
    assert view_retrieval(torch.from_numpy(z)) == pytest.approx(naive(z), abs=1e-6)


def test_views_that_do_not_vary_find_each_other_and_noise_or_a_collapse_does_by_chance():
    samples = torch.randn(400, 1, 16, generator=torch.Generator().manual_seed(0))
    assert view_retrieval(samples.expand(-1, 3, -1)) == 1.0
    assert view_retrieval(torch.randn(400, 3, 16, generator=torch.Generator().manual_seed(1))) < 0.02
    assert view_retrieval(torch.full((400, 3, 16), 0.7)) == pytest.approx(1 / 400)
    assert (
        view_retrieval(
            torch.full((400, 3, 16), 0.7)
            * (1 + 1e-7 * torch.randn(400, 3, 16, generator=torch.Generator().manual_seed(2)))
        )
        < 0.02
    )


def test_neither_a_shift_nor_a_scale_nor_the_order_of_samples_counts():
    torch.manual_seed(0)
    z = torch.randn(30, 1, 8) + torch.randn(30, 2, 8)
    plain = view_retrieval(z)
    assert view_retrieval(3.0 * z[torch.randperm(30)] + torch.randn(8)) == pytest.approx(plain, abs=1e-6)


@pytest.mark.parametrize("z", [torch.zeros(1, 2, 3), torch.zeros(3, 1, 3)])
def test_too_few_samples_or_views_are_refused(z):
    with pytest.raises(ValueError, match="n, q >= 2"):
        view_retrieval(z)


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="NaN or infinite"):
        view_retrieval(torch.full((3, 2, 2), torch.nan))
