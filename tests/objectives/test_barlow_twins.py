"""Barlow Twins against a double loop in float64, its invariances, its limits and the floor under it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from autodidact.objectives import barlow_twins, barlow_twins_floor, cross_correlation, standardised


def pair(n: int, d: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first = 3 * torch.randn(n, d, generator=generator, dtype=torch.float64) + 1
    second = first + torch.randn(n, d, generator=generator, dtype=torch.float64)
    return [z.to(dtype).requires_grad_() for z in (first, second)]


def naive(z1: Tensor, z2: Tensor, lambd: float) -> float:
    """The definition, entry by entry, in plain floats."""
    n, d = z1.shape

    def columns(z: Tensor) -> list[list[float]]:
        out = []
        for column in z.detach().double().T.tolist():
            mean = math.fsum(column) / n
            variance = math.fsum((v - mean) ** 2 for v in column) / n
            out.append([(v - mean) / math.sqrt(variance + 1e-5) for v in column])
        return out

    a, b = columns(z1), columns(z2)
    loss = 0.0
    for i in range(d):
        for j in range(d):
            c = math.fsum(x * y for x, y in zip(a[i], b[j], strict=True)) / n
            loss += (1 - c) ** 2 if i == j else lambd * c**2
    return loss


@pytest.mark.parametrize(("n", "d"), [(2, 2), (16, 5), (8, 16), (4, 9)])
def test_the_loss_is_its_definition(n: int, d: int) -> None:
    z1, z2 = pair(n, d)
    assert float(barlow_twins(z1, z2, 0.02).detach()) == pytest.approx(naive(z1, z2, 0.02), rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(6, 3), (3, 8)])
def test_gradients_match_finite_differences(n: int, d: int) -> None:
    assert torch.autograd.gradcheck(lambda a, b: barlow_twins(a, b, 0.3), pair(n, d))


def test_the_wide_form_equals_the_cross_correlation_form_in_float32() -> None:
    z1, z2 = pair(32, 200, dtype=torch.float32)
    found = barlow_twins(z1, z2)
    correlation = cross_correlation(standardised(z1), standardised(z2))
    off = correlation - torch.diag(correlation.diagonal())
    wanted = (1 - correlation.diagonal()).square().sum() + 0.005 * off.square().sum()
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(found, (z1, z2)), torch.autograd.grad(wanted, (z1, z2)), rtol=1e-4, atol=1e-6
    )


def test_whitened_identical_views_have_no_loss() -> None:
    raw = torch.randn(40, 8, dtype=torch.float64)
    white = torch.linalg.qr(raw - raw.mean(0)).Q * 1e4
    assert float(barlow_twins(white, white)) == pytest.approx(0.0, abs=1e-9)


def test_the_loss_ignores_sample_order_column_scale_and_shift_and_which_view_is_first() -> None:
    z1, z2 = (z.detach() * 1e3 for z in pair(20, 6))  # large variances, so that eps plays no part
    loss = barlow_twins(z1, z2)
    order = torch.randperm(20)
    torch.testing.assert_close(barlow_twins(z1[order], z2[order]), loss)
    torch.testing.assert_close(barlow_twins(z2, z1), loss)
    torch.testing.assert_close(barlow_twins(z1 * (torch.rand(6) + 0.5) + 9, z2), loss, rtol=1e-8, atol=1e-8)


def test_flipping_one_column_of_one_view_flips_its_row_of_the_correlation() -> None:
    a, b = (standardised(z) for z in pair(20, 4))
    flip = torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(cross_correlation(a * flip, b), cross_correlation(a, b) * flip[:, None])


def test_without_redundancy_weight_only_the_diagonal_counts() -> None:
    z1, z2 = pair(30, 4)
    diagonal = cross_correlation(standardised(z1), standardised(z2)).diagonal()
    torch.testing.assert_close(barlow_twins(z1, z2, 0.0), (1 - diagonal).square().sum())


@pytest.mark.parametrize(("n", "d"), [(10, 4), (4, 10)])
def test_constant_embeddings_cost_one_per_dimension_and_have_a_finite_gradient(n: int, d: int) -> None:
    z = torch.ones(n, d, requires_grad=True)
    loss = barlow_twins(z, z)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(d)
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("lambd", [0.005, 0.3, 1.0])
def test_two_free_views_descend_to_the_floor_and_not_below(lambd: float) -> None:
    z1, z2 = (z.detach().mul(100).requires_grad_() for z in pair(8, 16))
    lowest = descended([z1, z2], lambda: barlow_twins(z1, z2, lambd))
    floor = barlow_twins_floor(8, 16, lambd)
    assert floor * (1 - 1e-9) <= lowest <= floor * (1 + 1e-3)


def test_identical_free_views_descend_to_the_rank_bound_at_unit_diagonal() -> None:
    z = pair(8, 16)[0].detach().mul(100).requires_grad_()
    assert descended([z], lambda: barlow_twins(z, z, 0.3)) == pytest.approx(0.3 * (16**2 / 7 - 16), rel=1e-3)


def descended(free: list[Tensor], objective: Callable[[], Tensor]) -> float:
    descent = torch.optim.LBFGS(free, max_iter=300, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def closure() -> Tensor:
        descent.zero_grad()
        loss = objective()
        loss.backward()
        return loss

    descent.step(closure)
    return float(objective().detach())


def test_the_floor_of_the_published_setting_is_in_the_hundreds() -> None:
    # Batch 2048 in 8192 dimensions: D k / (1 + k) with k = lambd (D / (N - 1) - 1).
    k = 0.0051 * (8192 / 2047 - 1)
    assert barlow_twins_floor(2048, 8192, 0.0051) == pytest.approx(8192 * k / (1 + k)) == pytest.approx(123.5, abs=0.1)
    assert barlow_twins_floor(100, 99, 0.0051) == 0.0


def test_above_weight_one_the_floor_still_holds() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        z1, z2 = (torch.randn(3, 7, generator=generator) for _ in range(2))
        assert float(barlow_twins(z1, z2, 5.0)) >= barlow_twins_floor(3, 7, 5.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_input_is_computed_in_float32(dtype: torch.dtype) -> None:
    z1, z2 = (z.detach().to(dtype) for z in pair(16, 8))
    loss = barlow_twins(z1, z2)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, barlow_twins(z1.float(), z2.float()))


@pytest.mark.parametrize(("n", "d"), [(16, 8), (8, 24)])
def test_autocast_changes_nothing(n: int, d: int) -> None:
    z1, z2 = pair(n, d, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = barlow_twins(z1, z2)
    assert torch.equal(cast, barlow_twins(z1, z2))


@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_input_is_named() -> None:
    good = torch.randn(4, 3)
    bad = good.clone()
    bad[:, 1] = torch.nan
    for arguments, message in (
        ((good[:1], good[:1]), "at least 2 rows, got 1"),
        ((good, torch.randn(5, 3)), r"one shape .* got \(4, 3\) and \(5, 3\)"),
        ((good[:, :1], good[:, :1]), "at least 2 dimensions to decorrelate, got D = 1"),
        ((bad, good), r"first view holds NaN or infinite values in 4 of 4 rows, column\(s\) 1"),
        ((good, good, -1.0), "lambd must be >= 0, got -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            barlow_twins(*arguments)


@pytest.mark.parametrize(
    ("n", "d", "lambd", "expected"),
    [
        (6, 4, 0.0051, (0.309240989446, -0.651838156178, -1.226816209354)),
        (4, 12, 0.3, (12.756029736454, -2.232774979106, -3.825986362883)),
    ],
)
def test_value_and_gradient_are_those_of_the_authors_implementation(
    waves: Callable[[int, int], list[Tensor]], n: int, d: int, lambd: float, expected: tuple[float, ...]
) -> None:
    """A check made once outside this repository, and its figures kept.

    BarlowTwins.forward in main.py of facebookresearch/barlowtwins at commit 8e8d284 was run with identity encoder and
    projector in one gloo process, at (N, D, lambd) of (6, 4, 0.0051), (4, 12, 0.3), (32, 16, 0.0051),
    (256, 128, 0.0051), (64, 512, 0.005), (128, 64, 1.0). Both sum over the entries of C, so nothing was rescaled.
    Largest relative difference from barlow_twins: 8.2e-16 in the values and 1.2e-14 in the gradients with respect to
    both views in float64, 8.0e-7 and 6.3e-6 in float32. Here are their values and gradients at the first two, the
    gradients as slopes: the first view's along the second view, and the other way round.
    """
    z1, z2 = waves(n, d)
    loss = barlow_twins(z1, z2, lambd)
    g1, g2 = torch.autograd.grad(loss, (z1, z2))
    found = [float(x.detach()) for x in (loss, (g1 * z2).sum(), (g2 * z1).sum())]
    assert found == pytest.approx(expected, rel=1e-10)
