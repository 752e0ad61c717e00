"""Distillation: a student's softmax against a teacher's (Hinton, Vinyals, Dean, 1503.02531, section 2)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.objectives.embeddings import check_finite, check_temperature, full_precision


def distillation(
    student: Float[Tensor, "n c"], teacher: Float[Tensor, "n c"], temperature: float = 1.0
) -> Float[Tensor, " n"]:
    r"""Cross-entropy of the softened predictions of two networks, one value a sample.

    With logits s of the student, t of the teacher and temperature T::

        L_i = -T^2 sum_c softmax(t_i / T)_c log softmax(s_i / T)_c

    SimCLR v2 (2006.10029, equation 2) writes it without :math:`T^2`; its released code multiplies by it, as the paper
    of 2015 does, so that the size of the gradient stays as T grows: it is T (softmax(s / T) - softmax(t / T)), which
    tends to ((s - mean s) - (t - mean t)) / c. At equal logits the gradient is 0 and the value :math:`T^2` times the
    teacher's entropy. No gradient reaches `teacher`.

    Parameters
    ----------
    student, teacher : logits of the same samples and classes.
    temperature : T > 0; above 1 shows more of what the teacher thinks of the other classes, below 1 less.

    Returns
    -------
    float32 (float64 for float64 input).

    Raises
    ------
    ValueError
        Another number of samples or classes, NaN or infinite logits (on the CPU; elsewhere they reach the loss),
        temperature <= 0.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"distillation: student and teacher must have logits of one shape (samples, classes), "
            f"got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    check_temperature("distillation", temperature)
    s, t = full_precision(student), full_precision(teacher.detach())
    if s.device.type == "cpu" and not torch.compiler.is_compiling():
        check_finite("distillation: the student's logits", s)
        check_finite("distillation: the teacher's logits", t)
    soft = torch.softmax(t / temperature, dim=1)
    return -(soft * torch.log_softmax(s / temperature, dim=1)).sum(dim=1) * temperature**2
