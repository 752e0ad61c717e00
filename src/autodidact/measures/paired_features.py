"""From paired vectors to their features, and to which of them a JEPA and an MAE would learn first."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from autodidact.catalog import Card
from autodidact.measures.jepa_dynamics import OBJECTIVES, FeatureDynamics, Objective

CARD = Card(
    name="jepa_dynamics",
    target="learning_order",
    kind="meter",
    number=13,
    title="JEPA dynamics",
    paper="Littwin, Saremi, Advani, Thilak, Nakkiran, Huang, Susskind: How JEPA Avoids Noisy Features "
    "(2407.03475, 2024)",
    summary="From pairs of views: which features a JEPA and an MAE would learn first, and how strongly, in the linear "
    "theory.",
    abilities=(),
    arguments=("depth", "start"),
    claim="jepa_dynamics",
)

APART = 0.2
"""Share of a covariance off the diagonal from which the theory's premise is doubtful."""
FEW = 10
"""Pairs a dimension below which covariances are uncertain."""
_SINGULAR = 1e-9


@dataclass(frozen=True)
class PairedFeatures:
    """Directions in which two views of a sample covary, most first.

    Attributes
    ----------
    directions : unit columns, in the coordinates of x.
    lambdas : covariance of the two views along each of them.
    rhos : slope of y's regression on x along it; for views of equal variance their correlation.
    off_diagonal : how far the covariances "xx" and "yx" are from diagonal in the orthonormal basis next to the
        directions: norm of what is off the diagonal over that of the diagonal. 0 where the theory holds.
    warnings : why the theory may not apply, in plain sentences.
    """

    directions: Float64[Tensor, "d m"]
    lambdas: Float64[Tensor, " m"]
    rhos: Float64[Tensor, " m"]
    off_diagonal: dict[str, float]
    warnings: tuple[str, ...] = ()

    @property
    def learnable(self) -> Tensor:
        """Which features covary positively, as the theory assumes."""
        return (self.lambdas > 0) & (self.rhos > 0)


def paired_features(x: Float[Tensor, "n d"], y: Float[Tensor, "m k"], *, components: int = 0) -> PairedFeatures:
    r"""Features of paired vectors: the generalised eigenproblem sym(Syx) u = rho Sxx u of their centred covariances.

    lambda = u^T Syx u for unit u. Directions with the same rho are told apart by their variance. In u itself Sxx is
    diagonal whatever the data; whether an orthonormal basis makes both covariances diagonal, as the theory assumes, is
    measured in the orthonormal basis next to u (`off_diagonal`).

    Parameters
    ----------
    x, y : two views of the same samples, row by row.
    components : look in so many principal components of x and y only; 0 for the space as it is.

    Raises
    ------
    ValueError
        No matrices of the same shape, NaN or infinite values, fewer than 2 pairs, or a singular Sxx: some direction
        does not vary, or there are fewer pairs than dimensions. Fewer `components` help.
    """
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"x and y must be matrices of one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    if len(x) < 2:
        raise ValueError(f"covariances need at least 2 pairs, got {len(x)}")
    x, y = (view.detach().cpu().double() for view in (x, y))
    if not (x.isfinite().all() and y.isfinite().all()):
        raise ValueError("the views hold NaN or infinite values")
    x, y = x - x.mean(0), y - y.mean(0)
    into = torch.eye(x.shape[1], dtype=torch.float64)
    if components:
        if not 1 <= components <= x.shape[1]:
            raise ValueError(f"components lies in 1 to {x.shape[1]}, the dimensions, got {components}")
        into = torch.linalg.eigh(x.T @ x + y.T @ y)[1].flip(1)[:, :components]
    x, y = x @ into, y @ into
    sxx, syx = x.T @ x / len(x), y.T @ x / len(x)
    values = torch.linalg.eigvalsh(sxx)
    if dead := int((values <= _SINGULAR * values[-1]).sum()):
        left = len(sxx) - dead
        raise ValueError(
            f"Sxx is singular: {dead} of {len(sxx)} directions do not vary over {len(x)} pairs; "
            + (f"look in fewer components, at most {left}" if left else "nothing is left to look at")
        )
    rhos, directions = _generalised(sxx, (syx + syx.T) / 2)
    lambdas = ((syx @ directions) * directions).sum(0)
    order = lambdas.argsort(descending=True)
    directions, lambdas, rhos = directions[:, order], lambdas[order], rhos[order]
    left, _, right = torch.linalg.svd(directions)
    nearest = left @ right
    apart = {name: _off_diagonal(nearest.T @ of @ nearest) for name, of in (("xx", sxx), ("yx", syx))}
    return PairedFeatures(into @ directions, lambdas, rhos, apart, _doubts(apart, lambdas, x))


def _generalised(a: Tensor, b: Tensor) -> tuple[Float64[Tensor, " d"], Float64[Tensor, "d d"]]:
    """rho and unit u of b u = rho a u, ascending; within one rho, u are principal directions of a."""
    factor = torch.linalg.cholesky(a)
    half = torch.linalg.solve_triangular(factor, b, upper=False)
    whitened = torch.linalg.solve_triangular(factor, half.T, upper=False)
    rhos, found = torch.linalg.eigh((whitened + whitened.T) / 2)
    directions = torch.linalg.solve_triangular(factor.T, found, upper=True)
    begin, tolerance = 0, 1e-8 * float(rhos.abs().max())
    for end in range(1, len(rhos) + 1):
        if end == len(rhos) or rhos[end] - rhos[end - 1] > tolerance:
            if end - begin > 1:
                span = torch.linalg.qr(directions[:, begin:end])[0]
                directions[:, begin:end] = span @ torch.linalg.eigh(span.T @ a @ span)[1]
            begin = end
    return rhos, directions / directions.norm(dim=0)


def _off_diagonal(matrix: Tensor) -> float:
    diagonal = matrix.diagonal()
    return float((matrix - diagonal.diag()).norm() / diagonal.norm()) if diagonal.norm() > 0 else math.inf


def _doubts(apart: dict[str, float], lambdas: Tensor, x: Tensor) -> tuple[str, ...]:
    said = []
    if max(apart.values()) > APART:
        said.append(
            f"no basis makes both covariances diagonal, as the theory assumes (off the diagonal: {apart['xx']:.2g} of "
            f"Sxx, {apart['yx']:.2g} of Syx): features will mix, and times are rough"
        )
    if none := int((lambdas <= 0).sum()):
        said.append(f"{none} of {len(lambdas)} directions do not covary positively; the theory does not speak of them")
    if len(x) < FEW * x.shape[1]:
        said.append(f"{len(x)} pairs of {x.shape[1]} dimensions: take {FEW * x.shape[1]} or more for sound covariances")
    return tuple(said)


@dataclass(frozen=True)
class LearningOrder:
    """When a JEPA and an MAE learn which feature, and how much of it is left in the encoder at the end.

    Attributes
    ----------
    features : the features.
    depth, start, fraction : as asked for.
    times : objective -> time of every feature, in units of gradient flow; infinite where it only shrinks, or does not
        covary positively.
    encoded : objective -> amplitude in the trained encoder; 0 where a feature does not covary positively.
    """

    features: PairedFeatures
    depth: int
    start: float
    fraction: float
    times: dict[Objective, Float64[Tensor, " m"]]
    encoded: dict[Objective, Float64[Tensor, " m"]]

    def ranks(self, objective: Objective) -> list[int | None]:
        """Place of every feature in the order of learning, from 1; None where it is never learned."""
        times = self.times[objective]
        places: list[int | None] = [None] * len(times)
        for place, feature in enumerate(times.argsort(stable=True).tolist()):
            if times[feature] < math.inf:
                places[feature] = place + 1
        return places

    @property
    def turned(self) -> list[tuple[int, int]]:
        """Pairs of features of which the MAE learns the first before the second, and the JEPA the other way round."""
        mae, jepa = self.times["mae"], self.times["jepa"]
        before, after = mae[:, None] < mae[None], jepa[:, None] > jepa[None]
        return [(int(i), int(j)) for i, j in (before & after).nonzero()]


def learning_order(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m k"],
    *,
    depth: int = 3,
    start: float = 0.2,
    fraction: float = 0.5,
    components: int = 0,
) -> LearningOrder:
    r"""Which features of paired vectors a JEPA and an MAE would learn first (Littwin et al., arXiv 2407.03475).

    The theory is of a deep linear encoder. Both objectives learn features of large covariance lambda first, but only
    the JEPA waits for those that one view hardly predicts from the other (small regression coefficient rho), and leaves
    rho^depth of them in its encoder, where an MAE leaves rho^(depth / (depth + 1)). So a JEPA passes over features that
    are strong and noisy. ``autodidact evaluate --data DATA --protocol learning_order`` does it for images and tables.

    What a network with nonlinearities, normalisation, a slow teacher, momentum or weight decay does is another matter:
    take the order for a hint. The times hold for a start that is balanced among the layers; the smaller the start, the
    more lambda alone decides, for a JEPA too.

    Parameters
    ----------
    x, y : two views of the same samples, row by row: augmentations, time steps, halves.
    depth : layers of the encoder, >= 1.
    start : amplitude of every layer at the beginning, > 0. Paper and others: 0.1 to 0.3.
    fraction : of its final amplitude at which a feature counts as learned, in (0, 1).
    components : look in so many principal components of the views only; 0 for the space as it is.

    Raises
    ------
    ValueError
        As `paired_features`; a depth, start or fraction out of range; no feature that covaries positively.
    """
    features = paired_features(x, y, components=components)
    there = features.learnable
    if not there.any():
        raise ValueError("no direction covaries positively between the two views: there is nothing to predict")
    times, encoded = dict[Objective, Tensor](), dict[Objective, Tensor]()
    for objective in OBJECTIVES:
        dynamics = FeatureDynamics(objective, depth)
        lam, rho = features.lambdas[there], features.rhos[there]
        times[objective] = torch.full_like(features.lambdas, math.inf)
        times[objective][there] = dynamics.learning_time(lam, rho, start, fraction)
        encoded[objective] = torch.zeros_like(features.lambdas)
        encoded[objective][there] = dynamics.encoded(rho)
    return LearningOrder(features, depth, start, fraction, times, encoded)
