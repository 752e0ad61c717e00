"""When a deep linear encoder learns which feature, if it predicts embeddings (JEPA) or inputs (MAE): closed forms.

Littwin and others (arXiv 2407.03475). x and y are two views; their covariances Sxx and Syx are diagonal in one basis.
A feature has its covariance lambda = (Syx)_ii and its regression coefficient rho = lambda / (Sxx)_ii. The encoder is a
product of L matrices that begin balanced and aligned with the features, each with amplitude w; so does the linear head,
a predictor of embeddings or a decoder of inputs. Every feature then moves on its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from autodidact.catalog.nearest import unknown

Objective = Literal["jepa", "mae"]
OBJECTIVES: tuple[Objective, ...] = ("jepa", "mae")
Numbers = float | Sequence[float] | Tensor
_NODES = 400


@dataclass(frozen=True)
class FeatureDynamics:
    r"""Gradient flow of one feature's amplitude, at unit rate.

    Attributes
    ----------
    objective : "jepa", :math:`\frac12 E \|V \bar W x - sg(\bar W y)\|^2`, or "mae", :math:`\frac12 E \|V \bar W x -
        y\|^2`. The stopped target is the network itself, without a slow copy.
    depth : L, layers of the encoder, >= 1.
    """

    objective: Objective = "jepa"
    depth: int = 3

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise unknown("objective", str(self.objective), OBJECTIVES)
        if self.depth < 1:
            raise ValueError(f"depth is a number of layers, at least 1, got {self.depth}")

    def velocity(self, amplitude: Numbers, lambdas: Numbers, rhos: Numbers) -> Float64[Tensor, " m"]:
        r"""Time derivative of the amplitude w of one layer::

        jepa:  dw/dt = lambda w^(2L) - (lambda / rho) w^(2L+1)
        mae:   dw/dt = lambda w^L    - (lambda / rho) w^(2L+1)

        Raises
        ------
        ValueError : a lambda or rho that is not positive and finite, an amplitude that is not finite, other numbers of
            them than one or that of the features.
        """
        w, (lam, rho) = _numbers(amplitude), _features(lambdas, rhos)
        if not w.isfinite().all():
            raise ValueError(f"amplitudes are finite numbers, got {w[~w.isfinite()][0]:g}")
        if len(w) != len(lam) and 1 not in (len(w), len(lam)):
            raise ValueError(f"as many amplitudes as features are needed, got {len(w)} and {len(lam)}")
        return lam * (w**self._gain - w ** (2 * self.depth + 1) / rho)

    def fixed_point(self, rhos: Numbers) -> Float64[Tensor, " m"]:
        """Amplitude of one layer at the end: rho (jepa), rho^(1 / (L+1)) (mae)."""
        rho = _positive("rho", rhos)
        return rho if self.objective == "jepa" else rho ** (1 / (self.depth + 1))

    def encoded(self, rhos: Numbers) -> Float64[Tensor, " m"]:
        """Amplitude of the whole encoder at the end: rho^L (jepa), rho^(L / (L+1)) (mae)."""
        return self.fixed_point(rhos) ** self.depth

    def learning_time(
        self, lambdas: Numbers, rhos: Numbers, start: float, fraction: float = 0.5
    ) -> Float64[Tensor, " m"]:
        """Time until the encoder's amplitude has grown to a fraction of its fixed point.

        The integral of dw / velocity for any start, by quadrature.

        Parameters
        ----------
        lambdas, rhos : of the features, > 0.
        start : amplitude of every layer at time 0, > 0.
        fraction : of the encoder's fixed point, in (0, 1).

        Returns
        -------
        tensor
            0 for a feature that starts between that fraction and its fixed point; infinite for one that starts at its
            fixed point or above it: it only shrinks.
        """
        lam, rho = _features(lambdas, rhos)
        _check_start(start)
        if not 0 < fraction < 1:
            raise ValueError(f"fraction lies in (0, 1), got {fraction}")
        last = self.fixed_point(rho)
        end = last * fraction ** (1 / self.depth)
        grows = end > start
        # In log w, in which the integrand is an exponential.
        nodes, weights = (torch.from_numpy(values) for values in np.polynomial.legendre.leggauss(_NODES))
        half = (end / start).log().where(grows, 0.0) / 2
        w = (math.log(start) + half[:, None] * (1 + nodes)).exp()
        rest = 1 - w ** (2 * self.depth + 1 - self._gain) / rho[:, None]
        time = (weights * half[:, None] * w ** (1 - self._gain) / rest).sum(1) / lam
        return time.where(grows, torch.where(last > start, 0.0, math.inf).to(time))

    def critical_time(self, lambdas: Numbers, rhos: Numbers, start: float) -> Float64[Tensor, " m"]:
        r"""The paper's expansion of the learning time for small starts.

        ::

            jepa:  t* = (1 / lambda) sum_{n=1}^{2L-1} 1 / (n rho^(2L-1-n) start^n)  + O(log start)
            mae:   t* = 1 / ((L-1) lambda start^(L-1)) + O(1)  for L > 1,  -log(start) / lambda + O(1)  for L = 1

        In that of JEPA, but for its leading term, weakly predictable features take longer; in that of MAE rho is not.
        The error of that of JEPA depends on rho / start alone: for L >= 3 it is 0.5 % or less from 4 on, but for L = 3
        2.3 % late at 3 and 18 % at 2; for L = 2, 4.3 % at 4. From a start of 0.1, at rho 0.4, that of MAE is 18 % late
        for L = 2, 1.4 % for L = 3 (2.0 % at rho 0.2, 0.9 % at 1), and 0.1 % or less beyond.
        """
        lam, rho = _features(lambdas, rhos)
        _check_start(start)
        depth = self.depth
        if self.objective == "jepa":
            last = 2 * depth - 1
            terms = [1 / (n * rho ** (last - n) * start**n) for n in range(1, last + 1)]
            return torch.stack(terms).sum(0) / lam
        leading = -math.log(start) if depth == 1 else 1 / ((depth - 1) * start ** (depth - 1))
        return leading / lam

    def flow(self, lambdas: Numbers, rhos: Numbers, start: float, times: Sequence[float]) -> Float64[Tensor, "m t"]:
        """Amplitude of the whole encoder at these times (ascending, from 0 on), by a stiff integrator in log w.

        Raises
        ------
        ValueError : times that are not finite and ascending from 0 on, a feature or start as in `learning_time`, an
            integration that fails.
        """
        from scipy.integrate import solve_ivp

        lam, rho = _features(lambdas, rhos)
        _check_start(start)
        asked = np.asarray(times, dtype=np.float64)
        if not len(asked) or not np.isfinite(asked).all() or asked[0] < 0 or (np.diff(asked) < 0).any():
            raise ValueError("times are at least one, finite, ascending, from 0 on")
        rows = []
        for one, influence in zip(lam.tolist(), rho.tolist(), strict=True):

            def slope(_: float, u: np.ndarray, one: float = one, influence: float = influence) -> np.ndarray:
                return one * (np.exp((self._gain - 1) * u) - np.exp(2 * self.depth * u) / influence)

            span = (0, max(asked[-1], 1e-12))
            with np.errstate(over="ignore", invalid="ignore"):
                found = solve_ivp(slope, span, [math.log(start)], "LSODA", asked, rtol=1e-9, atol=1e-10)
            if not found.success or not np.isfinite(found.y).all():
                raise ValueError(f"the flow from {start:g} to time {asked[-1]:g} cannot be integrated")
            rows.append(np.exp(self.depth * found.y[0]))
        return torch.from_numpy(np.stack(rows))

    @property
    def _gain(self) -> int:
        """Exponent of the growing term."""
        return 2 * self.depth if self.objective == "jepa" else self.depth


def _numbers(values: Numbers) -> Float64[Tensor, " m"]:
    return torch.atleast_1d(torch.as_tensor(values, dtype=torch.float64))


def _positive(name: str, values: Numbers) -> Float64[Tensor, " m"]:
    found = _numbers(values)
    bad = found[~((found > 0) & found.isfinite())]
    if len(bad):
        raise ValueError(
            f"{name} must be positive and finite, got {bad[0]:g}: the theory is of features that y shares with x"
        )
    return found


def _features(lambdas: Numbers, rhos: Numbers) -> tuple[Float64[Tensor, " m"], Float64[Tensor, " m"]]:
    lam, rho = _positive("lambda", lambdas), _positive("rho", rhos)
    if lam.shape != rho.shape and 1 not in (len(lam), len(rho)):
        raise ValueError(f"as many rhos as lambdas are needed, got {len(rho)} and {len(lam)}")
    return torch.broadcast_tensors(lam, rho)


def _check_start(start: float) -> None:
    if not 0 < start < math.inf:
        raise ValueError(f"start is the amplitude of a layer and must be positive and finite, got {start}")
