"""Self-distillation (Caron et al., DINO, arXiv 2104.14294): a student says which prototypes a teacher sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autodidact.objectives.embeddings import check_finite, check_temperature, full_precision, full_precision_region
from autodidact.objectives.shards import mean_over_rows
from autodidact.objectives.swav import sinkhorn, swapped_prediction

ITERATIONS = 3
"""Of Sinkhorn-Knopp where it stands in for a centre."""


@torch.no_grad()
def teacher_assignments(
    scores: Float[Tensor, "n k"],
    centre: Float[Tensor, " k"] | None,
    temperature: float = 0.04,
    *,
    gather: bool = True,
) -> Float[Tensor, "n k"]:
    r"""What a teacher says of samples, kept from collapsing: rows that sum to 1. Without gradient.

    With scores t, centre c and temperature T it is :math:`\mathrm{softmax}((t - c) / T)` (equations 1 and 4): the
    centre keeps one prototype from winning everywhere, a low temperature keeps all of them from being alike.

    Parameters
    ----------
    scores : tensor of shape (N, K)
        The teacher's.
    centre : tensor of shape (K,), or None
        Slow mean of the scores. Without it samples are spread over the prototypes by Sinkhorn-Knopp, over all that are
        given, with the temperature as epsilon, as in DINOv2 (2304.07193, section 4).
    temperature : float
        T > 0. Paper: 0.04, rising to 0.07.
    gather : bool
        Under a process group, Sinkhorn-Knopp balances over the samples of all processes.

    Raises
    ------
    ValueError
        temperature <= 0, NaN or infinite scores.
    """
    check_temperature("teacher assignments", temperature)
    if centre is None:
        return sinkhorn(scores, temperature, ITERATIONS, gather=gather)
    if scores.device.type == "cpu":
        check_finite("teacher assignments: the scores", scores)
    return ((full_precision(scores) - full_precision(centre)) / temperature).softmax(1)


def dino_loss(
    student: Sequence[Float[Tensor, "n k"]],
    teacher: Sequence[Float[Tensor, "n k"]],
    centre: Float[Tensor, " k"] | None,
    *,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
    gather: bool = True,
) -> Float[Tensor, ""]:
    r"""Cross-entropy of the teacher's assignments of some views under the student's of all others (equation 3).

    With student scores s, teacher scores t, centre c::

        L = - mean over teacher views v, student views u != v, and samples
              sum_k softmax((t^(v) - c) / T_t)_k log softmax(s^(u) / T_s)_k

    Parameters
    ----------
    student : tensors of shape (N, K), one a view, at least two
    teacher : tensors of shape (N, K)
        Of the first views, as many as there are. They take no gradient.
    centre : tensor of shape (K,), or None
        See `teacher_assignments`.
    student_temperature, teacher_temperature : float
        > 0.
    gather : bool
        Under a process group, the mean is over the samples of all processes.

    Raises
    ------
    ValueError
        Fewer than two views of the student, no views of the teacher or more than of the student, a temperature <= 0,
        NaN or infinite scores of the teacher.
    """
    said = teacher_assignments(torch.cat(list(teacher)), centre, teacher_temperature, gather=gather)
    return swapped_prediction(student, said.chunk(len(teacher)), student_temperature, gather=gather)


def masked_distillation(
    student: Float[Tensor, "n t k"],
    assignments: Float[Tensor, "n t k"],
    masked: Bool[Tensor, "n t"],
    temperature: float = 0.1,
    *,
    gather: bool = True,
) -> Float[Tensor, ""]:
    r"""Cross-entropy of a teacher's assignments of patches under a student's that did not see them (iBOT, 2111.07832).

    With masks m (equation 2)::

        L = - mean over images  1 / max(1, sum_j m_j)  sum_j m_j  sum_k  q_jk log softmax(s_j / T)_k

    Parameters
    ----------
    student : tensor of shape (N, T, K)
        Scores of the patches.
    assignments : tensor of shape (N, T, K)
        See `teacher_assignments`. They take no gradient.
    masked : bool tensor of shape (N, T)
        Which patches the student did not see. An image without any counts in the mean, as 0.
    temperature : float
        T > 0. Paper: 0.1.
    gather : bool
        Under a process group, the mean is over the images of all processes.
    """
    check_temperature("masked distillation", temperature)
    with full_precision_region(student.device):
        rows, patches = masked.nonzero(as_tuple=True)
        log_p = (full_precision(student[rows, patches]) / temperature).log_softmax(1)
        each = -(assignments[rows, patches].detach().to(log_p.dtype) * log_p).sum(1)
        counts = masked.sum(1).clamp(min=1)
        return mean_over_rows(each.new_zeros(len(masked)).index_add(0, rows, each / counts[rows]), gather)
