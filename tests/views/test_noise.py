"""Noise by seed and position."""

from __future__ import annotations

import torch
from scipy.stats import kstest

from autodidact.views import noise


def test_the_numbers_are_standard_normal_and_uncorrelated() -> None:
    z = noise.standard_noise(torch.arange(50) * 7919, (3, 20, 21)).flatten(1).double()
    assert kstest(z.flatten().numpy(), "norm").pvalue > 1e-3
    assert abs(float((z**4).mean()) - 3) < 0.15
    between = torch.corrcoef(z)
    assert float((between - torch.eye(50)).abs().max()) < 6 / z.shape[1] ** 0.5
    along = (z[:, 1:] * z[:, :-1]).mean()
    assert abs(float(along)) < 5 / z.numel() ** 0.5


def test_a_samples_noise_depends_on_its_seed_alone() -> None:
    seeds = torch.tensor([5, 2**31 - 1, 5, 0])
    z = noise.standard_noise(seeds, (2, 3, 5))
    assert torch.equal(z[0], z[2])
    assert not torch.equal(z[0], z[1])
    assert torch.equal(noise.standard_noise(seeds[1:2], (2, 3, 5))[0], z[1])


def test_noise_is_added_in_proportion_and_clamped(generator: torch.Generator) -> None:
    x = torch.rand(2, 1, 8, 8, generator=generator)
    z = noise.standard_noise(torch.tensor([1, 2]), (1, 8, 8))
    noisy = noise.add_noise(x, torch.tensor([0.0, 0.5]), z)
    assert torch.equal(noisy[0], x[0])
    torch.testing.assert_close(noisy[1], (x[1] + 0.5 * z[1]).clamp(0, 1))
