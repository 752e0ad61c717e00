"""VICReg's three terms against loops in plain floats, and what each of them asks for."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from autodidact.objectives import vicreg


def pair(n: int = 8, d: int = 4, *, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return [
        z.requires_grad_()
        for z in (first, 0.7 * first + torch.randn(n, d, generator=generator, dtype=torch.float64) / 2)
    ]


def test_the_terms_are_their_definitions() -> None:
    z1, z2 = pair()
    n, d = z1.shape
    invariance = math.fsum((a - b) ** 2 for a, b in zip(z1.flatten().tolist(), z2.flatten().tolist(), strict=True))
    variance, covariance = 0.0, 0.0
    for z in (z1, z2):
        columns = z.detach().T.tolist()
        means = [math.fsum(column) / n for column in columns]
        for i in range(d):
            for j in range(d):
                c = math.fsum((columns[i][k] - means[i]) * (columns[j][k] - means[j]) for k in range(n)) / (n - 1)
                if i == j:
                    variance += max(0.0, 1 - math.sqrt(c + 1e-4)) / (2 * d)
                else:
                    covariance += c * c / d
    found = vicreg(z1, z2)
    assert float(found.invariance.detach()) == pytest.approx(invariance / (n * d), rel=1e-12)
    assert float(found.variance.detach()) == pytest.approx(variance, rel=1e-12)
    assert float(found.covariance.detach()) == pytest.approx(covariance, rel=1e-12)


def test_gradients_match_finite_differences() -> None:
    def total(a: Tensor, b: Tensor) -> Tensor:
        found = vicreg(a, b)
        return 25 * found.invariance + 25 * found.variance + found.covariance

    assert torch.autograd.gradcheck(total, pair(5, 3))


def test_constant_embeddings_cost_all_of_the_variance_and_nothing_else() -> None:
    z = torch.ones(6, 3, requires_grad=True)
    found = vicreg(z, z)
    assert float(found.variance.detach()) == pytest.approx(1 - 1e-2)
    assert float(found.invariance.detach()) == float(found.covariance.detach()) == 0.0
    found.variance.backward()
    assert torch.isfinite(z.grad).all()


def test_equal_views_of_wide_uncorrelated_dimensions_cost_nothing() -> None:
    raw = torch.randn(30, 4, dtype=torch.float64)
    wide = torch.linalg.qr(raw - raw.mean(0)).Q * 30
    found = vicreg(wide, wide)
    assert [float(term) for term in vars(found).values()] == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)


@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_input_is_named() -> None:
    good = torch.randn(4, 3)
    for arguments, message in (
        ((good[:1], good[:1]), "at least 2 rows, got 1"),
        ((good, torch.randn(5, 3)), r"one shape .* got \(4, 3\) and \(5, 3\)"),
        ((good, good * torch.inf), "second view holds NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            vicreg(*arguments)


def test_value_and_gradient_are_those_of_the_authors_implementation(waves: Callable[[int, int], list[Tensor]]) -> None:
    """A check made once outside this repository, and its figures kept.

    VICReg.forward in main_vicreg.py of facebookresearch/vicreg at commit 4e12602 was run with identity backbone and
    projector in one process and weights 25, 25, 1, at (N, D) of (6, 4), (32, 16), (256, 128), (64, 512). Largest
    relative difference: 1.5e-16 in the values and 8.4e-16 in the gradients in float64, 0 and 4.6e-7 in float32. Here
    are their value at (6, 4) and their gradients as slopes: the first view's along the second view, and the other way
    round.
    """
    z1, z2 = waves(6, 4)
    found = vicreg(z1, z2)
    total = 25 * found.invariance + 25 * found.variance + found.covariance
    g1, g2 = torch.autograd.grad(total, (z1, z2))
    slopes = [float(x.detach()) for x in (total, (g1 * z2).sum(), (g2 * z1).sum())]
    assert slopes == pytest.approx([11.977802286234, -18.224740798686, -3.815584674294], rel=1e-10)
