"""Distillation: the loss by a loop, its gradient where it is known, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from autodidact.objectives import distillation


def logits(n: int = 5, classes: int = 4) -> tuple[Tensor, Tensor]:
    student, teacher = torch.randn(2, n, classes, dtype=torch.float64)
    return student.requires_grad_(), teacher.requires_grad_()


def gradient(student: Tensor, teacher: Tensor, t: float) -> Tensor:
    return torch.autograd.grad(distillation(student, teacher, t).sum(), student)[0]


@pytest.mark.parametrize("t", [0.1, 1.0, 4.0])
def test_it_is_the_cross_entropy_of_two_softened_softmaxes_times_the_squared_temperature(t: float) -> None:
    student, teacher = logits()
    for i, found in enumerate(distillation(student, teacher, t).tolist()):
        s, q = ((x[i].detach() / t).tolist() for x in (student, teacher))
        total = sum(math.exp(x) for x in q)
        log_total = math.log(sum(math.exp(x) for x in s))
        expected = -sum(math.exp(a) / total * (b - log_total) for a, b in zip(q, s, strict=True)) * t**2
        assert found == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("t", [0.1, 1.0, 10.0])
def test_at_equal_logits_the_gradient_is_zero_and_the_value_the_teachers_entropy(t: float) -> None:
    student, _ = logits()
    assert gradient(student, student.detach(), t).abs().max() < 1e-14
    p = torch.softmax(student.detach() / t, dim=1)
    torch.testing.assert_close(distillation(student, student, t).detach(), -(p * p.log()).sum(1) * t**2)


def test_a_shift_of_all_logits_of_a_sample_changes_nothing() -> None:
    student, teacher = logits()
    shifted = distillation(student + 3, teacher - torch.arange(5.0)[:, None], 2.0)
    torch.testing.assert_close(shifted, distillation(student, teacher, 2.0))


def test_the_gradient_matches_finite_differences() -> None:
    student, teacher = logits(3, 4)
    assert torch.autograd.gradcheck(lambda s: distillation(s, teacher, 0.7), (student,))


def test_in_the_limit_of_high_temperatures_it_matches_centred_logits() -> None:
    student, teacher = logits()
    s, q = (x.detach() - x.detach().mean(1, keepdim=True) for x in (student, teacher))
    torch.testing.assert_close(gradient(student, teacher, 1e5), (s - q) / 4, atol=1e-4, rtol=0)


def test_the_mean_and_its_gradient_are_those_of_the_authors_loss() -> None:
    """A check made once outside this repository, and its figures kept.

    add_kd_loss of colabs/distillation_self_training.ipynb in google-research/simclr at commit 383d414 was run on
    TensorFlow 2.15, which computes its mean in float32. On random logits of (samples, classes) = (5, 4), (64, 10) and
    (8, 1000) at temperatures of 0.1, 0.5, 1, 2 and 4 the largest difference is 1.0e-7 of the value, and 7.1e-9 in the
    gradients with respect to the student's logits; there is none with respect to the teacher's. Here are its values
    and gradients of one sample, of logits by a formula.
    """
    i, j = torch.meshgrid(torch.arange(3.0), torch.arange(4.0), indexing="ij")
    teacher = 2 * torch.cos(0.8 * i.double() - 1.1 * j + 0.21 * i * j * j)
    for t, value, slopes in (
        (2.0, 6.440195083618, (0.212518075107, -0.049253294284, -0.050344737521, -0.112920043302)),
        (0.5, 0.978407204151, (0.138974560655, -0.066646106292, -0.037319644573, -0.035008809790)),
    ):
        student = (2 * torch.sin(1.3 * i.double() + 0.9 * j * j + 0.37 * i * j + 0.5)).requires_grad_()
        mean = distillation(student, teacher, t).mean()
        assert float(mean.detach()) == pytest.approx(value, rel=2e-7)
        assert torch.autograd.grad(mean, student)[0][1].tolist() == pytest.approx(slopes, abs=1e-7)


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = logits()
    distillation(student, teacher).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_narrow_input_is_computed_in_float32() -> None:
    student, teacher = (x.detach().bfloat16() for x in logits())
    found = distillation(student, teacher)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, distillation(student.float(), teacher.float()))


@pytest.mark.usefixtures("unchecked_shapes")
def test_what_makes_no_sense_is_refused() -> None:
    student, teacher = logits()
    with pytest.raises(ValueError, match=r"one shape \(samples, classes\), got \(5, 4\) and \(5, 3\)"):
        distillation(student, teacher[:, :3])
    with pytest.raises(ValueError, match="temperature must be a positive number, got 0"):
        distillation(student, teacher, 0.0)
    with pytest.raises(ValueError, match="the teacher's logits holds NaN or infinite values in 1 of 5 rows"):
        distillation(student, teacher.detach().index_fill(0, torch.tensor([2]), math.nan))
