"""Second moments of a batch that is spread over processes: centring, standardising, cross-correlation.

Everything here is exact over the whole batch, with gradient through the statistics.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from autodidact.objectives.embeddings import full_precision, full_precision_region
from autodidact.objectives.shards import rows_of_all, summed, world_size


def centred(z: Float[Tensor, "n d"], *, gather: bool = True) -> Float[Tensor, "n d"]:
    """Columns with mean 0 over the batch of all processes."""
    with full_precision_region(z.device):
        z = full_precision(z)
        if len(z) * world_size(gather) < 2:
            raise ValueError(f"statistics of columns need at least 2 rows, got {len(z)}")
        return z - summed(z.sum(0), gather) / rows_of_all(z, gather)


def standardised(
    z: Float[Tensor, "n d"], *, eps: float = 1e-5, unbiased: bool = False, gather: bool = True
) -> Float[Tensor, "n d"]:
    """Columns with mean 0, divided by the square root of v + eps, over the batch of all processes.

    v is the biased variance, or with `unbiased` the one divided by N - 1. Gradient flows through both statistics. A
    constant column becomes 0 rather than NaN.
    """
    with full_precision_region(z.device):
        middle = centred(z, gather=gather)
        count = rows_of_all(middle, gather)
        variance = summed(middle.square().sum(0), gather) / (count - 1 if unbiased else count)
        return middle * (variance + eps).rsqrt()


def cross_correlation(a: Float[Tensor, "n d"], b: Float[Tensor, "n e"], *, gather: bool = True) -> Float[Tensor, "d e"]:
    """a^T b / N over the batch of all processes, for standardised columns: entries in [-1, 1]."""
    with full_precision_region(a.device):
        a, b = full_precision(a), full_precision(b)
        return summed(a.T @ b, gather) / rows_of_all(a, gather)
