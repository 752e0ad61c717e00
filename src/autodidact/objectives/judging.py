"""Learning to judge: a judge that sees the reference teaches itself to do without it."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from autodidact.objectives.embeddings import full_precision
from autodidact.objectives.shards import mean_over_rows


def two_view_loss(
    teacher: Float[Tensor, "n v"],
    student: Float[Tensor, "m v"],
    targets: Int[Tensor, " k"],
    *,
    alpha: float = 0.3,
    alpha_kd: float = 2.0,
    gather: bool = True,
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    r"""A judge that sees the reference, T, teaches itself without it, S (Self-J, 2409.00935, section 3).

    ::

        L = CE_T + alpha CE_S + alpha_kd KL( sg[p_T] || p_S )

    over the whole vocabulary at the token of the rating, mean over the batch. No gradient reaches the view with the
    reference through the divergence. With views that are alike the divergence is 0.

    Parameters
    ----------
    teacher, student : logits of the token of the rating, with the reference and without it.
    targets : that token.
    alpha, alpha_kd : 0 or more.
    gather : under a process group, the mean is over the batch of all processes.

    Returns
    -------
    The loss, and its three parts by name before they are weighted.

    Raises
    ------
    ValueError
        Numbers of rated tokens that differ between the views, none at all, weights below 0.
    """
    if teacher.shape != student.shape or targets.shape != teacher.shape[:1] or len(targets) == 0:
        raise ValueError(
            f"two_view_loss: both views need the same rated tokens, one or more; got {tuple(teacher.shape)}, "
            f"{tuple(student.shape)} and {tuple(targets.shape)}"
        )
    if not (alpha >= 0 and alpha_kd >= 0):
        raise ValueError(f"alpha and alpha_kd must be 0 or more, got {alpha} and {alpha_kd}")
    t, s = full_precision(teacher), full_precision(student)
    soft = t.detach().log_softmax(1)
    terms = {
        "referenced": mean_over_rows(cross_entropy(t, targets, reduction="none"), gather),
        "free": mean_over_rows(cross_entropy(s, targets, reduction="none"), gather),
        "divergence": mean_over_rows(kl_div(s.log_softmax(1), soft, reduction="none", log_target=True).sum(1), gather),
    }
    return terms["referenced"] + alpha * terms["free"] + alpha_kd * terms["divergence"], terms
