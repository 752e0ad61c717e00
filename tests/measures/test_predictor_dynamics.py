"""The theory of DirectPred: a flow down the loss, what it conserves, where it rests, when it collapses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from autodidact.measures import PredictorDynamics, flow, misalignment


def start(d: int = 4, k: int = 5, *, seed: int = 0, size: float = 0.6) -> tuple[Tensor, Tensor]:
    """W_p, symmetric, and W."""
    generator = torch.Generator().manual_seed(seed)
    predictor = torch.randn(d, d, generator=generator, dtype=torch.float64)
    network = torch.randn(d, k, generator=generator, dtype=torch.float64)
    return size * (predictor + predictor.T) / 4, size * network / 2


def covariances(k: int = 5, *, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    roots = [torch.randn(k, k, generator=generator, dtype=torch.float64) for _ in range(2)]
    return roots[0] @ roots[0].T / k, 0.2 * roots[1] @ roots[1].T / k


def error(predictor: Tensor, network: Tensor, target: Tensor, means: Tensor, spread: Tensor) -> Tensor:
    """E |W_p W x1 - W_t x2|^2 / 2 over samples and their two views."""
    through = predictor @ network
    return (
        (through @ (means + spread) @ through.T).trace()
        - 2 * (through @ means @ target.T).trace()
        + (target @ (means + spread) @ target.T).trace()
    ) / 2


def test_the_flow_is_the_descent_of_the_squared_error_with_a_constant_target() -> None:
    (predictor, network), (means, spread) = start(), covariances()
    slow = 0.7 * network
    dynamics = PredictorDynamics(rate=3.0, decay=0.05)
    w_p, w = predictor.clone().requires_grad_(), network.clone().requires_grad_()
    for target, given in ((slow, slow), (network, None)):
        gradients = torch.autograd.grad(error(w_p, w, target, means, spread), (w_p, w))
        found = dynamics.velocity(predictor, network, means, spread, given)
        torch.testing.assert_close(found[0], -3.0 * gradients[0] - 0.05 * predictor)
        torch.testing.assert_close(found[1], -gradients[1] - 0.05 * network)


def test_without_the_stop_it_is_the_descent_through_both_sides() -> None:
    (predictor, network), (means, spread) = start(), covariances()
    w = network.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(error(predictor, w, w, means, spread), w)
    found = PredictorDynamics(decay=0.05).velocity_without_stop(predictor, network, means, spread)
    torch.testing.assert_close(found, -gradient - 0.05 * network)


def test_stochastic_descent_follows_the_flow() -> None:
    """Batches of noisy samples and automatic differentiation, against the closed form: no formula is shared."""
    predictor, network = start(3, 3)
    dynamics, rate, steps = PredictorDynamics(decay=0.02), 5e-3, 400
    generator = torch.Generator().manual_seed(0)
    w_p, w = predictor.clone().requires_grad_(), network.clone().requires_grad_()
    for _ in range(steps):
        x = torch.randn(256, 3, generator=generator, dtype=torch.float64)
        views = [x + 0.5 * torch.randn(256, 3, generator=generator, dtype=torch.float64) for _ in range(2)]
        loss = ((views[0] @ w.T @ w_p.T - (views[1] @ w.T).detach()) ** 2).sum(1).mean() / 2
        gradients = torch.autograd.grad(loss, (w_p, w))
        with torch.no_grad():
            for part, gradient in zip((w_p, w), gradients, strict=True):
                part -= rate * (gradient + 0.02 * part)
    unit = torch.eye(3, dtype=torch.float64)
    wanted = flow(
        lambda p, n: dynamics.velocity(p, n, unit, 0.25 * unit), (predictor, network), time=rate * steps, steps=100
    )
    for part, there, before in zip((w_p, w), wanted, (predictor, network), strict=True):
        assert float((part.detach() - there).norm()) < 0.03 * float((there - before).norm())


def test_the_integrator_agrees_with_scipys() -> None:
    (predictor, network), (means, spread) = start(), covariances()
    dynamics = PredictorDynamics(decay=0.03)

    def flat(_time: float, state: np.ndarray) -> np.ndarray:
        whole = torch.from_numpy(state)
        found = dynamics.velocity(whole[:16].view(4, 4), whole[16:].view(4, 5), means, spread)
        return torch.cat([part.flatten() for part in found]).numpy()

    initial = torch.cat([predictor.flatten(), network.flatten()]).numpy()
    wanted = solve_ivp(flat, (0, 5), initial, rtol=1e-10, atol=1e-12).y[:, -1]
    found = flow(lambda p, n: dynamics.velocity(p, n, means, spread), (predictor, network), time=5.0, steps=800)
    assert np.abs(torch.cat([part.flatten() for part in found]).numpy() - wanted).max() < 1e-7


@pytest.mark.parametrize("rate", [0.5, 1.0, 4.0])
def test_predictor_and_network_become_balanced_at_the_rate_of_the_weight_decay_on_any_data(rate: float) -> None:
    (predictor, network), (means, spread) = start(), covariances()
    dynamics = PredictorDynamics(rate=rate, decay=0.1)
    before = dynamics.imbalance(predictor, network)
    state = flow(lambda p, n: dynamics.velocity(p, n, means, spread), (predictor, network), time=6.0, steps=600)
    wanted = before * math.exp(-2 * 0.1 * 6.0)
    assert float((dynamics.imbalance(*state) - wanted).norm()) < 1e-6 * float(before.norm())


def test_without_weight_decay_the_imbalance_is_conserved() -> None:
    (predictor, network), (means, spread) = start(), covariances()
    dynamics = PredictorDynamics(rate=2.0)
    state = flow(lambda p, n: dynamics.velocity(p, n, means, spread), (predictor, network), time=6.0, steps=600)
    torch.testing.assert_close(dynamics.imbalance(*state), dynamics.imbalance(predictor, network), rtol=0, atol=1e-6)


def test_predictor_and_correlation_come_to_share_their_eigenvectors() -> None:
    predictor, network = start(5, 5, size=1.2)
    predictor = predictor + torch.eye(5, dtype=torch.float64) / 2
    unit = torch.eye(5, dtype=torch.float64)
    dynamics = PredictorDynamics(decay=0.05)
    before = misalignment(predictor, network @ network.T)
    after, grown = flow(
        lambda p, n: dynamics.velocity(p, n, unit, 0.1 * unit), (predictor, network), time=60.0, steps=600
    )
    assert float(grown.norm()) > 0.5
    assert misalignment(after, grown @ grown.T) < before / 10


def test_aligned_matrices_move_as_their_modes_do() -> None:
    q = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
    p, s = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64), torch.tensor([0.3, 0.1, 0.6], dtype=torch.float64)
    unit, dynamics = torch.eye(3, dtype=torch.float64), PredictorDynamics(rate=2.0, decay=0.03, noise=0.4, target=0.9)
    predictor, network = (q * p) @ q.T, (q * s.sqrt()) @ q.T
    change, moved = dynamics.velocity(predictor, network, unit, 0.4 * unit, 0.9 * network)
    correlation = moved @ network.T + network @ moved.T
    for k in range(3):
        found = [float(q[:, k] @ matrix @ q[:, k]) for matrix in (change, correlation)]
        assert found == pytest.approx(dynamics.mode_velocity(float(p[k]), float(s[k])), rel=1e-9)


def test_a_balanced_mode_stays_balanced_and_moves_by_its_own_equation() -> None:
    dynamics = PredictorDynamics(rate=2.0, decay=0.03, noise=0.4)
    for p in (0.1, 0.4, 0.9):
        s = p * p / dynamics.rate
        dp, ds = dynamics.mode_velocity(p, s)
        assert dp == pytest.approx(dynamics.balanced_velocity(p))
        assert ds == pytest.approx(2 * p * dp / dynamics.rate)


def test_an_unbalanced_mode_ends_where_a_balanced_one_does() -> None:
    dynamics = PredictorDynamics(decay=0.05, noise=0.3)
    ends = solve_ivp(lambda _t, y: dynamics.mode_velocity(*y), (0, 300), [0.9, 0.2], rtol=1e-9, atol=1e-12).y[:, -1]
    highest = dynamics.fixed_points()[-1]
    assert ends == pytest.approx([highest, highest**2], rel=1e-6)


def test_modes_rest_at_the_fixed_points_and_the_middle_one_is_the_edge_of_collapse() -> None:
    dynamics = PredictorDynamics(decay=0.08, noise=0.5)
    zero, edge, high = dynamics.fixed_points()
    for p in (zero, edge, high):
        assert dynamics.balanced_velocity(p) == pytest.approx(0.0, abs=1e-15)
    ends = [
        float(
            flow(
                lambda p: (torch.tensor(dynamics.balanced_velocity(float(p)), dtype=torch.float64),),
                (torch.tensor(p, dtype=torch.float64),),
                time=400.0,
                steps=400,
            )[0]
        )
        for p in (0.98 * edge, 1.02 * edge)
    ]
    assert ends == pytest.approx([0.0, high], abs=1e-6)


def test_above_the_critical_weight_decay_every_mode_collapses() -> None:
    critical = PredictorDynamics(noise=0.5).critical_decay
    below, above = (PredictorDynamics(noise=0.5, decay=critical * factor) for factor in (0.999, 1.001))
    assert len(below.fixed_points()) == 3
    assert above.fixed_points() == (0.0,)
    assert all(above.balanced_velocity(p / 50) < 0 for p in range(1, 100))


def test_a_target_that_lags_behind_lowers_the_critical_weight_decay() -> None:
    assert PredictorDynamics(target=0.5).critical_decay == pytest.approx(PredictorDynamics().critical_decay / 4)


def test_a_network_without_predictor_or_without_stop_decays_while_one_with_both_grows() -> None:
    (_, network), (means, spread) = start(size=0.6), covariances()
    predictor = 0.9 * torch.eye(4, dtype=torch.float64)
    dynamics = PredictorDynamics(decay=0.1)
    options = {"time": 75.0, "steps": 500}
    (alone,) = flow(lambda n: (dynamics.velocity_without_predictor(n, means, spread),), (network,), **options)
    _, unstopped = flow(
        lambda p, n: (
            dynamics.velocity(p, n, means, spread)[0],
            dynamics.velocity_without_stop(p, n, means, spread),
        ),
        (predictor, network),
        **options,
    )
    _, both = flow(lambda p, n: dynamics.velocity(p, n, means, spread), (predictor, network), **options)
    assert float(alone.norm()) < 1e-3 * float(network.norm())
    assert float(unstopped.norm()) < 1e-3 * float(network.norm())
    assert float(both.norm()) > 0.5


def test_misalignment_is_0_for_shared_eigenvectors_and_undefined_for_zeros() -> None:
    matrix = start()[0]
    assert misalignment(matrix, matrix @ matrix) < 1e-15
    assert misalignment(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.diag(torch.tensor([1.0, -1.0]))) == pytest.approx(
        2**0.5
    )
    with pytest.raises(ValueError, match="zeros"):
        misalignment(matrix, torch.zeros_like(matrix))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": 0.0}, "rate must be positive"),
        ({"decay": -1.0}, "must not be negative"),
        ({"noise": -1.0}, "must not be negative"),
        ({"target": 0.0}, r"in \(0, 1\], got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(options, said) -> None:
    with pytest.raises(ValueError, match=said):
        PredictorDynamics(**options)
    with pytest.raises(ValueError, match="at least 1 step"):
        flow(lambda x: (x,), (torch.zeros(1),), time=1.0, steps=0)
