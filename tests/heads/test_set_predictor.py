"""The predictor that is set: its eigenvectors and eigenvalues, the correlation it follows, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autodidact.heads import SetPredictor, copied_predictor, direct_predictor
from autodidact.objectives import cosine_prediction


def correlation(d: int = 6, rank: int | None = None, *, scale: float = 1.0) -> Tensor:
    rows = torch.randn(rank or 40, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return scale * rows.T @ rows / len(rows)


def spectrum(matrix: Tensor) -> tuple[Tensor, Tensor]:
    return torch.linalg.eigh(matrix)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("exponent", [0.5, 1.0, 0.25])
def test_it_is_symmetric_has_the_correlations_eigenvectors_and_the_formulas_eigenvalues(
    relative: bool, exponent: float
) -> None:
    f = correlation(scale=3.0)
    w = direct_predictor(f, exponent=exponent, eps=0.05, relative=relative)
    assert torch.equal(w, w.T)
    assert float((w @ f - f @ w).norm()) < 1e-12
    s = torch.linalg.eigvalsh(f)
    wanted = (s / s.max()) ** exponent + 0.05 if relative else s**exponent + 0.05 * s.max()
    torch.testing.assert_close(torch.linalg.eigvalsh(w), wanted)


def test_in_float32_it_commutes_with_the_correlation_to_rounding() -> None:
    f = correlation(64).float()
    w = direct_predictor(f)
    assert w.dtype == torch.float32
    assert float((w @ f - f @ w).norm() / (w.norm() * f.norm())) < 1e-6


def test_the_authors_form_differs_from_the_papers_in_the_floor_alone() -> None:
    f = correlation(scale=7.0)
    largest = float(torch.linalg.eigvalsh(f).max())
    theirs = direct_predictor(f, eps=0.01)
    papers = direct_predictor(f, eps=0.01 / largest**0.5, relative=False)
    torch.testing.assert_close(theirs * largest**0.5, papers)


def test_a_correlation_without_direction_gives_a_multiple_of_the_identity() -> None:
    unit = torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(direct_predictor(4 * unit, eps=0.1), 1.1 * unit)
    torch.testing.assert_close(copied_predictor(4 * unit, eps=0.1), (5**-0.5 + 0.1) * unit)


def test_fewer_rows_than_dimensions_leave_a_floor_under_the_directions_without_variance() -> None:
    w = direct_predictor(correlation(8, rank=3), eps=0.01)
    values = torch.linalg.eigvalsh(w)
    torch.testing.assert_close(values[:5], torch.full((5,), 0.01, dtype=torch.float64), atol=1e-6, rtol=0)
    assert torch.linalg.eigvalsh(direct_predictor(correlation(8, rank=3), eps=0.0)).min() > 0.9e-4


def test_negative_rounding_in_the_spectrum_is_cut_off() -> None:
    f = correlation(5, rank=2) - 1e-9 * torch.eye(5, dtype=torch.float64)
    assert torch.isfinite(direct_predictor(f)).all()


def test_directcopy_is_the_correlation_on_its_own_scale() -> None:
    f = correlation()
    w = copied_predictor(f, eps=0.3)
    torch.testing.assert_close(w, f / f.norm() + 0.3 * torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(copied_predictor(5 * f, eps=0.3), w)


def test_the_loss_does_not_see_the_scale_of_the_predictor() -> None:
    rows, target = torch.randn(9, 6, dtype=torch.float64), torch.randn(9, 6, dtype=torch.float64)
    w = direct_predictor(correlation())
    torch.testing.assert_close(cosine_prediction(rows @ w, target), cosine_prediction(rows @ (2.5 * w), target))


@pytest.mark.parametrize("made", [direct_predictor, copied_predictor])
def test_what_no_predictor_can_be_set_from_is_named(made) -> None:
    with pytest.raises(ValueError, match="all projections are 0, the network has collapsed"):
        made(torch.zeros(3, 3))
    with pytest.raises(ValueError, match="NaN or infinite"):
        made(torch.full((3, 3), torch.nan))


def test_the_correlation_is_the_weighted_sum_of_those_of_all_updates() -> None:
    rho, predictor = 0.3, SetPredictor(4, rho=0.3).double()
    seen = []
    for _ in range(4):
        first, second = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
        predictor(first)
        predictor(second)
        predictor.follow()
        both = torch.cat([first, second])
        seen.append(both.T @ both / 10)
    wanted = rho**3 * seen[0] + sum((1 - rho) * rho ** (3 - k) * seen[k] for k in (1, 2, 3))
    torch.testing.assert_close(predictor.correlation, wanted)
    torch.testing.assert_close(predictor.weight, direct_predictor(wanted))


def test_centring_takes_the_batch_mean_off() -> None:
    predictor, rows = SetPredictor(3, centred=True).double(), torch.randn(8, 3, dtype=torch.float64) + 5
    predictor(rows)
    predictor.follow()
    torch.testing.assert_close(predictor.correlation, torch.cov(rows.T, correction=0))


def test_centring_keeps_its_figures_where_the_spread_is_small_beside_the_mean() -> None:
    rows = 30 + 0.01 * torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    predictor = SetPredictor(5, centred=True)
    for part in rows.split(16):
        predictor(part)
    predictor.follow()
    wanted = torch.cov(rows.double().T, correction=0).float()
    torch.testing.assert_close(predictor.correlation, wanted, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_centred_rows_that_are_all_alike_are_a_collapse(seed: int) -> None:
    predictor = SetPredictor(6, centred=True)
    row = torch.randn(1, 6, generator=torch.Generator().manual_seed(seed)) * 3
    for count in (7, 30):
        predictor(row.repeat(count, 1))
    with pytest.raises(ValueError, match="all projections are alike, the network has collapsed"):
        predictor.follow()


@pytest.mark.parametrize("made", [direct_predictor, copied_predictor])
def test_a_correlation_of_nothing_but_rounding_below_zero_is_a_collapse(made) -> None:
    with pytest.raises(ValueError, match="the network has collapsed"):
        made(-1e-9 * torch.eye(3))


@pytest.mark.parametrize("centred", [False, True])
def test_parts_of_an_update_count_as_one_batch(centred: bool) -> None:
    rows = torch.randn(10, 3)
    whole, parts = SetPredictor(3, centred=centred), SetPredictor(3, centred=centred)
    whole(rows)
    parts(rows[:4])
    parts(rows[4:])
    whole.follow()
    parts.follow()
    torch.testing.assert_close(whole.correlation, parts.correlation)


def test_set_in_every_update_it_is_no_parameter_and_is_the_identity_at_first() -> None:
    predictor, rows = SetPredictor(3), torch.randn(6, 3, requires_grad=True)
    assert list(predictor.parameters()) == []
    assert torch.equal(predictor(rows), rows)
    predictor(rows).sum().backward()
    assert predictor.weight.grad is None
    assert predictor.correlation.grad is None


def test_set_now_and_then_it_is_trained_in_between_and_overwritten_on_time() -> None:
    predictor = SetPredictor(3, every=3)
    (weight,) = predictor.parameters()
    descent = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    for update in range(7):
        before = weight.detach().clone()
        rows = torch.randn(8, 3)
        cosine_prediction(predictor(rows), torch.randn(8, 3)).backward()
        descent.step()
        descent.zero_grad()
        moved = weight.detach().clone()
        assert not torch.equal(moved, before)
        predictor.follow()
        was_set = torch.allclose(weight, direct_predictor(predictor.correlation), atol=1e-6)
        assert was_set == (update % 3 == 0)
        assert was_set != torch.equal(weight, moved)


def test_nothing_is_counted_outside_training() -> None:
    predictor = SetPredictor(3).eval()
    predictor(torch.randn(4, 3))
    assert float(predictor.rows) == 0
    assert not predictor.scatter.any()


def test_a_restored_predictor_goes_on_exactly() -> None:
    one = SetPredictor(3)
    one(torch.randn(6, 3))
    one.follow()
    two = SetPredictor(3)
    two.load_state_dict(one.state_dict())
    rows = torch.randn(6, 3)
    for predictor in (one, two):
        predictor(rows)
        predictor.follow()
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.correlation, two.correlation)


def test_equal_eigenvalues_send_no_nan_into_the_gradient() -> None:
    predictor = SetPredictor(4)
    predictor(torch.eye(4).repeat(3, 1))
    predictor.follow()
    layer = nn.Linear(4, 4)
    cosine_prediction(predictor(layer(torch.randn(5, 4))), torch.randn(5, 4)).backward()
    assert torch.isfinite(layer.weight.grad).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"exponent": 0.0}, "exponent must be positive, got 0.0"),
        ({"eps": -0.1}, "eps must not be negative, got -0.1"),
        ({"rho": 1.0}, r"in \[0, 1\), got 1.0"),
        ({"every": 0}, "every 1 or more updates, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(options, said) -> None:
    with pytest.raises(ValueError, match=said):
        SetPredictor(3, **options)


def test_weights_are_those_of_the_authors_implementation() -> None:
    """A check made once outside this repository, and its figures kept.

    Accumulator, BYOLTrainer.compute_w_corr (balance_type "boost_scale", rho 0.3, eps 0.01) and regression_loss of
    ssl/real-dataset/byol_trainer.py in facebookresearch/luckmatters at commit 625b5f7 were run over five batches of
    (N, D) = (16, 6), (128, 128) and (64, 128), with torch.linalg.eigh in place of torch.eig, which PyTorch no longer
    has. Largest difference of the weights relative to their largest entry: 1.5e-14 in float64, 8.2e-6 in float32 (they
    decompose in float32, this does in float64). Their loss plus 4 is that of the two `cosine_prediction`s to 1.2e-16
    and 1.2e-7. Here are their weights after two batches, in float64.
    """
    predictor = SetPredictor(3).double()
    i, j = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(3, dtype=torch.float64)
    for shift in (0.0, 1.0):
        predictor(torch.sin(i * i + 2 * j + shift))
        predictor(torch.cos(3 * i + j * j + shift))
        predictor.follow()
    wanted = [0.753797982557, -0.018210044136, -0.300541135695]
    wanted += [-0.018210044136, 0.574555570377, -0.225267812873]
    wanted += [-0.300541135695, -0.225267812873, 0.561678088092]
    assert predictor.weight.flatten().tolist() == pytest.approx(wanted, abs=1e-11)
