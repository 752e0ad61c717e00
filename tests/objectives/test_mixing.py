"""Mixed Barlow Twins' regulariser against a loop in plain floats, and where it vanishes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from autodidact.objectives import barlow_twins, mixing_gap, standardised


def projections(n: int = 9, d: int = 4, *, seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """Of mixed images, first and second views (odd n), and the permutation."""
    generator = torch.Generator().manual_seed(seed)
    z1 = 2 * torch.randn(n, d, generator=generator, dtype=torch.float64) + 1
    z2 = z1 + torch.randn(n, d, generator=generator, dtype=torch.float64)
    mixed = z1 + 0.5 * torch.randn(n, d, generator=generator, dtype=torch.float64)
    return [z.requires_grad_() for z in (mixed, z1, z2)], torch.randperm(n, generator=generator)


def naive(mixed: Tensor, z1: Tensor, z2: Tensor, order: Tensor, share: float, unbiased: bool = False) -> float:
    """The paper's four matrices, entry by entry, in plain floats."""
    n, d = z1.shape

    def columns(z: Tensor) -> list[list[float]]:
        out = []
        for column in z.detach().T.tolist():
            mean = math.fsum(column) / n
            variance = math.fsum((v - mean) ** 2 for v in column) / (n - 1 if unbiased else n)
            out.append([(v - mean) / math.sqrt(variance + 1e-5) for v in column])
        return out

    m, a, b = (columns(z) for z in (mixed, z1, z2))
    permuted = [[column[k] for k in order.tolist()] for column in b]

    def entry(x: list[float], y: list[float]) -> float:
        return math.fsum(u * v for u, v in zip(x, y, strict=True)) / n

    total = 0.0
    for i in range(d):
        for j in range(d):
            first = share * entry(a[i], a[j]) + (1 - share) * entry(permuted[i], a[j])
            second = share * entry(a[i], b[j]) + (1 - share) * entry(permuted[i], b[j])
            total += (entry(m[i], a[j]) - first) ** 2 + (entry(m[i], b[j]) - second) ** 2
    return total


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("unbiased", [False, True])
def test_the_gap_is_its_definition(share: float, unbiased: bool) -> None:
    (mixed, z1, z2), order = projections()
    found = mixing_gap(mixed, z1, z2, order, share, unbiased=unbiased)
    assert float(found.detach()) == pytest.approx(naive(mixed, z1, z2, order, share, unbiased), rel=1e-12)


def test_images_that_are_not_mixed_have_no_gap_at_all() -> None:
    (_, z1, z2), order = projections()
    assert float(mixing_gap(z1, z1, z2, order, 1.0).detach()) == 0.0


def test_images_that_are_all_of_the_other_view_have_none_but_rounding() -> None:
    # The columns are standardised in another order of the rows.
    (_, z1, z2), order = projections()
    assert float(mixing_gap(z2[order], z1, z2, order, 0.0).detach()) < 1e-28


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_a_linear_encoder_has_no_gap_where_nothing_is_standardised(share: float) -> None:
    images = [torch.randn(11, 6, dtype=torch.float64) for _ in range(2)]
    order, encode = torch.randperm(11), torch.randn(6, 4, dtype=torch.float64)
    mixed = (share * images[0] + (1 - share) * images[1][order]) @ encode
    gap = mixing_gap(mixed, images[0] @ encode, images[1] @ encode, order, share, standardise=False)
    assert float(gap) < 1e-26


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_standardising_leaves_a_linear_encoder_the_gap_of_the_closed_form(share: float) -> None:
    """(1 / s_k - 1) times the target in row k, s_k the spread of the mixture of standardised columns, as y_A = y_B."""
    images = torch.randn(40, 6, dtype=torch.float64) * 1e3  # large variances, so that eps plays no part
    order, encode = torch.randperm(40), torch.randn(6, 4, dtype=torch.float64)
    z = images @ encode
    mixed = (share * images + (1 - share) * images[order]) @ encode
    unit = standardised(z)
    blend = share * unit + (1 - share) * unit[order]
    target = blend.T @ unit / 40
    rest = (1 / blend.std(0, unbiased=False) - 1)[:, None] * target
    gap = mixing_gap(mixed, z, z, order, share)
    assert float(gap) == pytest.approx(2 * float(rest.square().sum()), rel=1e-6)
    assert float(mixing_gap(mixed, z, z, order, share, restandardise=True)) < 1e-8 * float(gap)


def test_gradients_match_finite_differences_through_the_targets_too() -> None:
    inputs, order = projections(5, 3)
    assert torch.autograd.gradcheck(lambda m, a, b: mixing_gap(m, a, b, order, 0.3), inputs)
    assert torch.autograd.gradcheck(lambda m, a, b: mixing_gap(m, a, b, order, 0.3, restandardise=True), inputs)


def test_the_switch_stops_the_gradient_of_the_targets_alone() -> None:
    (mixed, z1, z2), order = projections()
    whole = torch.autograd.grad(mixing_gap(mixed, z1, z2, order, 0.3), (mixed, z1, z2))
    stopped = torch.autograd.grad(mixing_gap(mixed, z1, z2, order, 0.3, stop_target=True), (mixed, z1, z2))
    torch.testing.assert_close(stopped[0], whole[0])
    unit = [standardised(z) for z in (mixed, z1, z2)]
    constant = (0.3 * unit[1] + 0.7 * unit[2][order]).detach()
    wanted = sum((unit[0].T @ z / 9 - constant.T @ z.detach() / 9).square().sum() for z in unit[1:])
    for found, expected in zip(stopped[1:], torch.autograd.grad(wanted, (z1, z2)), strict=True):
        torch.testing.assert_close(found, expected)
    assert not torch.allclose(stopped[1], whole[1])


def test_a_constant_column_has_a_finite_gap_and_gradient() -> None:
    (mixed, z1, z2), order = projections()
    with torch.no_grad():
        for z in (mixed, z1, z2):
            z[:, 1] = 3.0
    gap = mixing_gap(mixed, z1, z2, order, 0.4)
    gradients = torch.autograd.grad(gap, (mixed, z1, z2))
    assert torch.isfinite(gap)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_an_unbiased_variance_leaves_n_minus_1_over_n_on_the_diagonal_of_equal_views() -> None:
    z = torch.randn(8, 3, dtype=torch.float64) * 1e4
    expected = barlow_twins(z, z, 0.0, unbiased=True)
    assert float(expected) == pytest.approx(3 * (1 / 8) ** 2, rel=1e-6)
    assert float(barlow_twins(z, z, 0.0)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_input_is_named() -> None:
    (mixed, z1, z2), order = projections()
    for arguments, message in (
        ((mixed[:1], z1[:1], z2[:1], order[:1] * 0, 0.5), "at least 2 rows, got 1"),
        ((mixed[:4], z1, z2, order, 0.5), r"one shape .* got \(4, 4\) and \(9, 4\)"),
        ((mixed, z1, z2, order, 1.5), r"lies in \[0, 1\], got 1\.5"),
        ((mixed, z1, z2, order, torch.tensor(-0.5)), r"lies in \[0, 1\], got -0\.5"),
        ((mixed * torch.nan, z1, z2, order, 0.5), "the mixed view holds NaN"),
        ((mixed, z1 * torch.nan, z2, order, 0.5), "the first view holds NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            mixing_gap(*arguments)


def test_value_and_gradient_are_those_of_the_authors_implementation(waves: Callable[[int, int], list[Tensor]]) -> None:
    """A check made once outside this repository, and its figures kept.

    The lines of train() in main.py of wgcban/mix-bt at commit e2c6af0 that compute the loss from the projections were
    run behind one linear layer with tanh and L2 norm, at (N, D) of (6, 4), (33, 16), (256, 128) with lambda 1/128 and
    (64, 512) with 1/1024, weight 4 of the mixing term, each with its own random share and permutation. Against
    barlow_twins + 4 lambda mixing_gap, both unbiased, on projections scaled up so that eps plays no part, the largest
    relative difference was 4.7e-11 in the value and 3.0e-11 in the gradient in float64, 4.7e-7 and 6.4e-7 in float32.
    Here are their value without the L2 norm at (6, 4), share 0.3, and its gradients as slopes along the other view.
    """
    z1, z2 = waves(6, 4)
    order = torch.tensor([2, 0, 1, 5, 3, 4])
    mixed = torch.tanh(0.3 * z1 + 0.7 * z2[order])
    scaled = [1e4 * z for z in (mixed, z1, z2)]
    loss = barlow_twins(*scaled[1:], 1 / 128, unbiased=True)
    loss = loss + 4 / 128 * mixing_gap(*scaled, order, 0.3, unbiased=True)
    g1, g2 = torch.autograd.grad(loss, (z1, z2))
    found = [float(x.detach()) for x in (loss, (g1 * z2).sum(), (g2 * z1).sum())]
    assert found == pytest.approx([0.549537414682, -0.781108105788, -1.245598353828], rel=1e-7)
