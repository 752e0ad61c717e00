"""The spectrum of a set of embeddings and the ranks read off it: RankMe and its companions."""

from __future__ import annotations

import warnings

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor

from autodidact.catalog import Card

CARD = Card(
    name="rankme",
    target="rankme",
    kind="meter",
    number=32,
    title="RankMe",
    paper="Garrido, Balestriero, Najman, LeCun: Assessing Pretrained Representations by Their Rank (2210.02885, 2022)",
    summary="Effective rank of the embeddings: ranks encoders of one method without labels; every run logs it.",
    abilities=(),
    arguments=("center", "normalize"),
    claim="rankme",
)


def rankme(
    embeddings: Shaped[Tensor, "n k"], *, center: bool = False, normalize: bool = False, eps: float = 1e-7
) -> float:
    r"""Effective rank of embeddings (RankMe, Garrido et al., arXiv 2210.02885, equation 1).

    With the singular values :math:`\sigma_k` of the matrix, :math:`p_k = \sigma_k / \sum_j \sigma_j + \epsilon` over
    k = 1..min(N, K)::

        RankMe(Z) = exp( - sum_k p_k log p_k )

    It lies between 1 and min(N, K). Compare it within one method only, and among runs that are equally far: in a short
    training it falls while accuracy rises, so that it prefers learning rates that are too low. Computed in float64.

    Parameters
    ----------
    embeddings : tensor of shape (N, K), any real dtype
        The paper takes the projector's output on 25,600 training samples; N should be 10 K or more.
    center : bool
        Take the column means off first. The paper does not; a large common mean acts as one huge singular value and
        hides the diversity of activations that are all positive.
    normalize : bool
        Divide rows by their length first. The paper does not.
    eps : float
        As in the paper.

    Raises
    ------
    ValueError
        Not a matrix, N < 2, NaN or infinite values, a matrix that is zero (after centring).

    Warns
    -----
    UserWarning
        N < K: the value is then bounded by N.
    """
    z = _checked(embeddings)
    if len(z) < 2:
        raise ValueError(f"rankme needs at least 2 embeddings, got {len(z)}")
    if normalize:
        z = torch.nn.functional.normalize(z, dim=1)
    if center:
        z = z - z.mean(0)
    _warn_if_few(*z.shape)
    return effective_rank(torch.linalg.svdvals(z), eps)


def effective_rank(weights: Float[Tensor, " m"], eps: float = 1e-7) -> float:
    """exp of the entropy of non-negative weights: p = weights / sum + eps, exp(-sum p log p).

    Raises
    ------
    ValueError
        Weights that sum to zero.
    """
    total = weights.sum()
    if not total > 0:
        raise ValueError("the rank of embeddings that are all equal to zero (after centring, if asked) is not defined")
    p = weights.double() / total.double() + eps
    return float((-(p * p.log()).sum()).exp())


class Spectrum:
    """Second moments of embeddings seen in batches, from which every rank measure follows without keeping the rows.

    Keeps count, mean and the scatter around the mean (K x K, float64, Chan's update), so neither the centred nor the
    uncentred spectrum is a difference of large numbers. Singular values come from a Gram matrix: those under about
    1e-8 of the largest are noise. RankMe agrees with the one of `rankme` to about 1e-4.

    Parameters
    ----------
    normalize : bool
        Divide rows by their length before they are counted.
    """

    def __init__(self, *, normalize: bool = False) -> None:
        self.normalize = normalize
        self.count = 0
        self.mean: Tensor | None = None
        self.scatter: Tensor | None = None

    def update(self, batch: Shaped[Tensor, "n k"]) -> Spectrum:
        """Count a batch of any size and real dtype. Returns itself.

        Raises
        ------
        ValueError
            Not a matrix, NaN or infinite values, another width than before.
        """
        z = _checked(batch)
        if len(z) == 0:
            return self
        if self.normalize:
            z = torch.nn.functional.normalize(z, dim=1)
        mean = z.mean(0)
        centred = z - mean
        self._absorb(len(z), mean, centred.T @ centred)
        return self

    def merge(self, other: Spectrum) -> Spectrum:
        """Count what another spectrum has seen. Returns itself."""
        if other.mean is not None and other.scatter is not None:
            self._absorb(other.count, other.mean, other.scatter)
        return self

    def all_reduce(self) -> Spectrum:
        """Merge the spectra of all processes, on each of them; nothing to do without a process group.

        Every process must call it, with rows or without. Returns itself.

        Raises
        ------
        ValueError
            Spectra of different dimensions; on every process, so that none waits for another.
        """
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return self
        # A process without rows knows neither the dimensions nor the kind of device that the sums travel on.
        held: list[tuple[int, str] | None] = [None] * dist.get_world_size()
        dist.all_gather_object(held, None if self.mean is None else (len(self.mean), self.mean.device.type))
        seen = [each for each in held if each is not None]
        if not seen:
            return self
        widths = sorted({width for width, _ in seen})
        if len(widths) > 1:
            raise ValueError(f"spectra of one dimension are summed, the processes have {', '.join(map(str, widths))}")
        if self.mean is None or self.scatter is None:
            (width, device), *_ = seen
            own_mean = torch.zeros(width, dtype=torch.float64, device=device)
            scatter = torch.zeros(width, width, dtype=torch.float64, device=device)
        else:
            own_mean, scatter = self.mean, self.scatter
        count = own_mean.new_tensor(float(self.count))
        mean = own_mean * count
        dist.all_reduce(count)
        dist.all_reduce(mean)
        mean /= count
        off = own_mean - mean
        scatter = scatter + self.count * torch.outer(off, off)
        dist.all_reduce(scatter)
        self.count, self.mean, self.scatter = int(count), mean, scatter
        return self

    def eigenvalues(self, *, center: bool = False) -> Float[Tensor, " m"]:
        """The min(N, K) leading eigenvalues of Z^T Z (of the scatter around the mean if `center`), descending."""
        mean, gram = self._seen()
        if not center:
            gram = gram + self.count * torch.outer(mean, mean)
        return torch.linalg.eigvalsh(gram).flip(0)[: min(self.count, len(mean))].clamp(min=0)

    def singular_values(self, *, center: bool = False) -> Float[Tensor, " m"]:
        """The min(N, K) singular values of the (centred) embeddings, descending."""
        return self.eigenvalues(center=center).sqrt()

    def rankme(self, *, center: bool = False, eps: float = 1e-7) -> float:
        """RankMe of all rows seen; see `rankme`."""
        if self.count < 2:
            raise ValueError(f"rankme needs at least 2 embeddings, got {self.count}")
        _warn_if_few(self.count, len(self._seen()[0]))
        return effective_rank(self.singular_values(center=center), eps)

    def alpha_req(self, *, center: bool = True, first: int = 1, last: int | None = None) -> float:
        r"""Decay exponent of the covariance spectrum (alpha-ReQ, Agrawal et al., NeurIPS 2022).

        The alpha of :math:`\lambda_i \propto i^{-\alpha}`, by least squares of log eigenvalue on log index i over
        first..last (1-based; by default all that are positive beyond rounding). Values near 1 went with the best
        transfer; 0 is a flat spectrum.
        """
        eigenvalues = self.eigenvalues(center=center)
        positive = int((eigenvalues > eigenvalues[0] * len(eigenvalues) * torch.finfo(torch.float64).eps).sum())
        last = positive if last is None else min(last, positive)
        if not 1 <= first < last:
            raise ValueError(f"alpha_req needs at least 2 positive eigenvalues from index {first} on, found {positive}")
        x = torch.arange(first, last + 1, dtype=torch.float64, device=eigenvalues.device).log()
        y = eigenvalues[first - 1 : last].log()
        x, y = x - x.mean(), y - y.mean()
        return -float((x * y).sum() / x.square().sum())

    def stable_rank(self, *, center: bool = False) -> float:
        r""":math:`\|Z\|_F^2 / \sigma_1^2` (also NESum), in [1, min(N, K)]."""
        eigenvalues = self._nonzero(center)
        return float(eigenvalues.sum() / eigenvalues[0])

    def participation_ratio(self, *, center: bool = True) -> float:
        r""":math:`(\sum \lambda)^2 / \sum \lambda^2` of the covariance's eigenvalues, in [1, min(N, K)]."""
        eigenvalues = self._nonzero(center)
        return float(eigenvalues.sum().square() / eigenvalues.square().sum())

    def numerical_rank(self, tol: float = 1e-6, *, center: bool = False) -> int:
        """Number of singular values above `tol` times the largest; tol below 1e-7 counts rounding noise as rank."""
        singular_values = self._nonzero(center).sqrt()
        return int((singular_values > tol * singular_values[0]).sum())

    def per_dimension_std(self) -> Float[Tensor, " k"]:
        """Standard deviation of each column (biased)."""
        return (self._seen()[1].diagonal() / self.count).sqrt()

    def variation(self) -> float:
        """Share of the mean squared length that varies across rows, in [0, 1]; 0 for a constant encoder."""
        mean, scatter = self._seen()
        varying = float(scatter.diagonal().sum() / self.count)
        whole = varying + float(mean.square().sum())
        return varying / whole if whole > 0 else 0.0

    def _seen(self) -> tuple[Tensor, Tensor]:
        if self.mean is None or self.scatter is None:
            raise ValueError("this spectrum has seen no embeddings yet")
        return self.mean, self.scatter

    def _nonzero(self, center: bool) -> Tensor:
        eigenvalues = self.eigenvalues(center=center)
        if not eigenvalues[0] > 0:
            raise ValueError("the rank of embeddings that are all zero (after centring, if asked) is not defined")
        return eigenvalues

    def _absorb(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        if self.mean is None or self.scatter is None:
            self.count, self.mean, self.scatter = count, mean.clone(), scatter.clone()
            return
        if mean.shape != self.mean.shape:
            raise ValueError(f"this spectrum is of {len(self.mean)} dimensions, got embeddings of {len(mean)}")
        mean, scatter = mean.to(self.mean), scatter.to(self.scatter)
        total = self.count + count
        off = mean - self.mean
        self.scatter = self.scatter + scatter + torch.outer(off, off) * (self.count * count / total)
        self.mean = self.mean + off * (count / total)
        self.count = total


def _checked(embeddings: Tensor) -> Tensor:
    """A detached float64 matrix; where the device has no float64, on the CPU."""
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings must be a matrix (N, K), got shape {tuple(embeddings.shape)}")
    if embeddings.is_complex():
        raise ValueError(f"embeddings must be real, got {embeddings.dtype}")
    z = embeddings.detach()
    z = (z.cpu() if z.device.type == "mps" else z).double()
    if not torch.isfinite(z).all():
        raise ValueError("embeddings hold NaN or infinite values")
    return z


def _warn_if_few(rows: int, dimensions: int) -> None:
    if rows < dimensions:
        warnings.warn(
            f"{rows} embeddings of {dimensions} dimensions: their effective rank is bounded by {rows}; "
            f"take {10 * dimensions} or more for a sound value",
            stacklevel=3,
        )
