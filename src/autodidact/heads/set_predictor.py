"""A linear predictor whose weights are not learned but set from the correlation of what it reads (DirectPred)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autodidact.objectives.embeddings import NotFinite, full_precision, full_precision_region
from autodidact.objectives.shards import summed

ROUNDING = 16
"""Inputs that lie apart by no more than so many roundings of their mean are alike."""


def direct_predictor(
    correlation: Float[Tensor, "d d"], *, exponent: float = 0.5, eps: float = 0.01, relative: bool = True
) -> Float[Tensor, "d d"]:
    r"""The predictor that shares the eigenvectors of a correlation matrix (DirectPred, 2102.06810, section 4).

    With :math:`F = U \mathrm{diag}(s) U^T` and negative rounding of s cut off, :math:`W_p = U \mathrm{diag}(p) U^T`::

        p_j = max( (s_j / max s)^exponent + eps, 1e-4 )      relative, as in the authors' code
        p_j = s_j^exponent + eps * max s                     otherwise, equation 19

    The loss ignores the scale of the prediction, so the two differ in the floor under the small eigenvalues alone:
    that of the paper depends on the scale of F. Exponents other than 1/2 are DirectSet (2110.04947). Computed in
    float64; no gradient passes, so equal eigenvalues do no harm.

    Parameters
    ----------
    correlation : symmetric matrix, positive semi-definite up to rounding.
    exponent : > 0; 1/2 lets small eigenvalues grow.
    eps : >= 0, keeps directions without variance alive.
    relative : whether eigenvalues are first divided by the largest.

    Raises
    ------
    NotFinite
        NaN or infinite values.
    ValueError
        A matrix whose eigenvalues do not add up to more than 0: no projection differs from 0.
    """
    exact = _checked(correlation)
    values, vectors = torch.linalg.eigh(exact)
    values = values.clamp(min=0)
    largest = values.max()
    if relative:
        powers = ((values / largest) ** exponent + eps).clamp(min=1e-4)
    else:
        powers = values**exponent + eps * largest
    return _symmetric((vectors * powers) @ vectors.T).to(correlation)


def copied_predictor(correlation: Float[Tensor, "d d"], *, eps: float = 0.01) -> Float[Tensor, "d d"]:
    r"""DirectCopy (2110.04947): :math:`W_p = F / \|F\| + \epsilon I`, which needs no eigenvectors.

    The norm is Frobenius'. Errors as in `direct_predictor`.
    """
    exact = _checked(correlation)
    unit = torch.eye(len(exact), dtype=exact.dtype, device=exact.device)
    return _symmetric(exact / exact.norm() + eps * unit).to(correlation)


def _checked(correlation: Tensor) -> Tensor:
    """In float64 and exactly symmetric; on the CPU where the device has no float64."""
    exact = (correlation.cpu() if correlation.device.type == "mps" else correlation).detach().double()
    if not torch.isfinite(exact).all():
        raise NotFinite("the correlation that the predictor is set from holds NaN or infinite values")
    if not exact.trace() > 0:
        raise ValueError("the predictor cannot be set: all projections are 0, the network has collapsed")
    return _symmetric(exact)


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.T) / 2


class SetPredictor(nn.Module):
    r"""A square linear map without bias, set from the correlation F of its inputs.

    In training it keeps count of what it reads. `follow`, called once after every update, takes the batch of all
    processes in, :math:`F \leftarrow \rho F + (1 - \rho) E[f f^T]` (the first batch is taken whole), and every `every`
    calls, starting with the first, sets the weights. Until then it is the identity.

    With `every` = 1 the weights are a buffer and never see a gradient. Otherwise they are a parameter that the
    optimiser moves in between.

    Parameters
    ----------
    width : size of the inputs and of the predictions.
    copied : DirectCopy instead of DirectPred.
    exponent, eps, relative : as in `direct_predictor`.
    rho : share of the old F that stays, in [0, 1).
    every : calls of `follow` between two settings.
    centred : take the mean of what an update read off it, so that F is made of covariances. The authors' code averages
        means over updates as it does F, and takes those off.

    Raises
    ------
    ValueError : from `follow`, where nothing can be set: inputs that are all 0, or with `centred` all alike.
    """

    weight: Tensor
    correlation: Tensor
    scatter: Tensor
    mean: Tensor
    rows: Tensor
    updates: Tensor

    def __init__(
        self,
        width: int,
        *,
        copied: bool = False,
        exponent: float = 0.5,
        eps: float = 0.01,
        relative: bool = True,
        rho: float = 0.3,
        every: int = 1,
        centred: bool = False,
    ) -> None:
        super().__init__()
        if exponent <= 0:
            raise ValueError(f"exponent must be positive, got {exponent}")
        if eps < 0:
            raise ValueError(f"eps must not be negative, got {eps}")
        if not 0 <= rho < 1:
            raise ValueError(f"rho is the share of the old correlation that stays, in [0, 1), got {rho}")
        if every < 1:
            raise ValueError(f"the predictor is set every 1 or more updates, got {every}")
        self.copied, self.exponent, self.eps, self.relative = copied, exponent, eps, relative
        self.rho, self.every, self.centred = rho, every, centred
        if every == 1:
            self.register_buffer("weight", torch.eye(width))
        else:
            self.weight = nn.Parameter(torch.eye(width))
        self.register_buffer("correlation", torch.zeros(width, width))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        # What was read since the last update: sum of outer products of differences from the mean, mean, and number.
        self.register_buffer("scatter", torch.zeros(width, width), persistent=False)
        self.register_buffer("mean", torch.zeros(width), persistent=False)
        self.register_buffer("rows", torch.zeros(()), persistent=False)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        if self.training:
            self._count(x.detach())
        return nn.functional.linear(x, self.weight)

    @torch.no_grad()
    def _count(self, x: Tensor) -> None:
        # Two parts have the scatter of both and of their means; squares minus squared means would cancel in float32.
        with full_precision_region(x.device):
            exact = full_precision(x)
            own = exact.mean(0)
            apart, rows = own - self.mean, self.rows + len(x)
            self.scatter += (exact - own).T @ (exact - own) + torch.outer(apart, apart) * (self.rows * len(x) / rows)
            self.mean += apart * (len(x) / rows)
            self.rows.copy_(rows)

    @torch.no_grad()
    def follow(self) -> None:
        """Take in what was read since the last call, and set the weights where it is time to."""
        rows = summed(self.rows)
        mean = summed(self.mean * self.rows) / rows
        apart = self.mean - mean
        seen = summed(self.scatter + torch.outer(apart, apart) * self.rows) / rows
        if not self.centred:
            seen += torch.outer(mean, mean)
        elif seen.trace() <= (ROUNDING * torch.finfo(mean.dtype).eps) ** 2 * mean.square().sum():
            raise ValueError("the predictor cannot be set: all projections are alike, the network has collapsed")
        first = int(self.updates) == 0
        self.correlation.copy_(seen if first else self.rho * self.correlation + (1 - self.rho) * seen)
        for part in (self.scatter, self.mean, self.rows):
            part.zero_()
        if int(self.updates) % self.every == 0:
            self.weight.copy_(self._wanted())
        self.updates += 1

    def _wanted(self) -> Tensor:
        if self.copied:
            return copied_predictor(self.correlation, eps=self.eps)
        return direct_predictor(self.correlation, exponent=self.exponent, eps=self.eps, relative=self.relative)
