"""Reconstruction and latent prediction against loops, and where no gradient may flow."""

from __future__ import annotations

import pytest
import torch

from autodidact.objectives import latent_mse, latent_smooth_l1, masked_reconstruction


@pytest.mark.parametrize(("norm", "power"), [("l1", 1), ("l2", 2)])
def test_the_error_is_averaged_over_corrupted_pixels_of_all_channels(norm: str, power: int) -> None:
    prediction, target = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    mask = torch.rand(2, 1, 4, 5) < 0.4
    errors = [
        abs(float(prediction[n, c, h, w]) - float(target[n, c, h, w])) ** power
        for n in range(2)
        for c in range(3)
        for h in range(4)
        for w in range(5)
        if mask[n, 0, h, w]
    ]
    assert float(masked_reconstruction(prediction, target, mask, norm=norm)) == pytest.approx(
        sum(errors) / len(errors), rel=1e-5
    )


def test_over_all_pixels_the_mask_is_no_restriction() -> None:
    prediction, target = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    loss = masked_reconstruction(prediction, target, torch.zeros(2, 1, 4, dtype=torch.bool), region="all")
    torch.testing.assert_close(loss, (prediction - target).abs().mean())


def test_no_gradient_reaches_pixels_outside_the_mask() -> None:
    prediction = torch.randn(3, 2, 6, requires_grad=True)
    mask = torch.rand(3, 1, 6) < 0.5
    masked_reconstruction(prediction, torch.randn(3, 2, 6), mask).backward()
    outside = ~mask.expand_as(prediction)
    assert (prediction.grad[outside] == 0).all()
    assert (prediction.grad[~outside] != 0).all()


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_gradients_match_finite_differences(norm: str) -> None:
    prediction = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    target, mask = torch.randn(2, 5, dtype=torch.float64), torch.tensor([True, False, True, True, False])
    assert torch.autograd.gradcheck(lambda p: masked_reconstruction(p, target, mask, norm=norm), prediction)


def test_nothing_masked_gives_zero_and_a_zero_gradient() -> None:
    prediction = torch.randn(2, 3, requires_grad=True)
    loss = masked_reconstruction(prediction, torch.randn(2, 3), torch.zeros(2, 3))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert (prediction.grad == 0).all()


def test_a_number_mask_is_the_boolean_one() -> None:
    prediction, target, mask = torch.randn(4, 5), torch.randn(4, 5), torch.rand(4, 5) < 0.5
    assert torch.equal(
        masked_reconstruction(prediction, target, mask), masked_reconstruction(prediction, target, mask.float())
    )


def test_not_a_number_outside_the_mask_stays_outside() -> None:
    target = torch.tensor([1.0, torch.nan])
    prediction = torch.zeros(2, requires_grad=True)
    loss = masked_reconstruction(prediction, target, torch.tensor([True, False]))
    loss.backward()
    assert float(loss.detach()) == 1.0
    assert prediction.grad.tolist() == [-1.0, 0.0]


def test_integer_images_and_narrow_predictions_are_compared_in_float32() -> None:
    prediction = torch.full((2, 3), 0.5, dtype=torch.bfloat16)
    loss = masked_reconstruction(prediction, torch.ones(2, 3, dtype=torch.uint8), torch.ones(2, 3, dtype=torch.bool))
    assert loss.dtype == torch.float32
    assert float(loss) == 0.5


def test_latent_error_is_the_mean_square_and_leaves_the_teacher_alone() -> None:
    prediction = torch.randn(2, 4, 3, 5, requires_grad=True)
    target = torch.randn(2, 4, 3, 5, requires_grad=True)
    loss = latent_mse(prediction, target)
    flat = zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True)
    assert float(loss.detach()) == pytest.approx(sum((p - t) ** 2 for p, t in flat) / 120, rel=1e-5)
    loss.backward()
    assert target.grad is None
    torch.testing.assert_close(prediction.grad, 2 * (prediction - target).detach() / 120)


def test_smooth_l1_is_squared_within_beta_and_absolute_beyond_and_stops_at_the_target() -> None:
    said, wanted = (torch.randn(4, 7, dtype=torch.float64).mul(3).requires_grad_() for _ in range(2))
    found = latent_smooth_l1(said, wanted, 1.5)
    each = [d * d / 3 if abs(d) <= 1.5 else abs(d) - 0.75 for d in (said - wanted).detach().flatten().tolist()]
    assert float(found.detach()) == pytest.approx(sum(each) / 28)
    assert 0 < sum(abs(d) <= 1.5 for d in (said - wanted).detach().flatten().tolist()) < 28
    found.backward()
    assert wanted.grad is None
    torch.testing.assert_close(said.grad, ((said - wanted).detach() / 1.5).clamp(-1, 1) / 28)


def test_without_a_mask_every_entry_counts() -> None:
    a, b = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    for norm in ("l1", "l2"):
        whole = masked_reconstruction(a, b, torch.ones(2, 3, dtype=torch.bool), norm=norm)
        torch.testing.assert_close(masked_reconstruction(a, b, norm=norm), whole)


@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_input_is_named() -> None:
    a = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"latent_smooth_l1: .*one shape, got \(2, 3\) and \(3, 2\)"):
        latent_smooth_l1(a, torch.ones(3, 2))
    with pytest.raises(ValueError, match="beta must be positive, got 0"):
        latent_smooth_l1(a, a, 0.0)
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3\) and \(3, 2\)"):
        masked_reconstruction(a, a.T, a)
    with pytest.raises(ValueError, match=r"mask of shape \(2,\) does not broadcast to \(2, 3\)"):
        masked_reconstruction(a, a, torch.ones(2))
    with pytest.raises(ValueError, match="'l1' or 'l2', got 'l3'"):
        masked_reconstruction(a, a, a, norm="l3")
    with pytest.raises(ValueError, match="'masked' or 'all', got 'half'"):
        masked_reconstruction(a, a, a, region="half")
    with pytest.raises(ValueError, match=r"latent_mse: .* got \(2, 3\) and \(2,\)"):
        latent_mse(a, a[:, 0])
