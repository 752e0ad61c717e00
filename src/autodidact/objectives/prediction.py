"""BYOL's objective (Grill et al., arXiv 2006.07733, section 3.1): say, up to scale, what the other network says."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from autodidact.objectives.embeddings import check_views, full_precision, full_precision_region, unit_rows
from autodidact.objectives.shards import mean_over_rows


def cosine_prediction(
    prediction: Float[Tensor, "n d"],
    target: Float[Tensor, "n d"],
    *,
    stop_gradient: bool = True,
    gather: bool = True,
) -> Float[Tensor, ""]:
    r"""Mean over the rows of :math:`\|p / \|p\| - t / \|t\|\|^2 = 2 - 2 \cos(p, t)` (equation 2), in [0, 4].

    SimSiam (2011.10566, equation 1) minimises :math:`-\cos(p, t)`, which is this value halved, minus 1. A row of zeros
    has no direction: it costs 2 and takes no gradient.

    Parameters
    ----------
    prediction, target : tensors of shape (N, D)
        Row i of both from sample i; L2-normalised here.
    stop_gradient : bool
        Whether the target is a constant. Without it, constant outputs are easiest (SimSiam, section 4.1).
    gather : bool
        Under a process group, the mean over the rows of all processes.

    Raises
    ------
    ValueError
        Shapes that differ, NaN or infinite values.
    """
    check_views("cosine_prediction", prediction, target)
    with full_precision_region(prediction.device):
        target = target.detach() if stop_gradient else target
        each = 2 - 2 * (unit_rows(full_precision(prediction)) * unit_rows(full_precision(target))).sum(1)
        return mean_over_rows(each, gather)
