"""Joint labels of class and transformation: coding, loss, aggregation and distillation against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from autodidact.objectives import (
    aggregated_logits,
    distillation,
    joint_cross_entropy,
    joint_labels,
    label_cross_entropy,
)

CLASSES, M = 5, 4
LABELS = torch.tensor([3, 0, 4, 4, 1, 2])


def logits(n: int = len(LABELS), columns: int = CLASSES * M, m: int = M) -> Tensor:
    return torch.randn(n * m, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def naive_log_softmax(row: list[float], at: int) -> float:
    return row[at] - math.log(sum(math.exp(value) for value in row))


def test_the_class_of_a_joint_label_is_its_quotient_and_the_transformation_its_remainder() -> None:
    joint = joint_labels(LABELS, M)
    assert torch.equal(joint // M, LABELS.repeat_interleave(M))
    assert torch.equal(joint % M, torch.arange(M).repeat(len(LABELS)))
    assert joint_labels(torch.tensor([-1, 0]), 3).tolist() == [-1, -1, -1, 0, 1, 2]


def test_the_loss_is_the_double_loop_over_samples_and_copies() -> None:
    z = logits()
    expected = 0.0
    for b, label in enumerate(LABELS.tolist()):
        for j in range(M):
            expected -= naive_log_softmax(z[b * M + j].tolist(), label * M + j) / M / len(LABELS)
    assert float(joint_cross_entropy(z, LABELS)) == pytest.approx(expected, rel=1e-12)


def test_loss_aggregation_and_distillation_equal_the_authors_code() -> None:
    """The updates of ``create_sla_trainer`` and ``create_sla_sd_trainer`` (hankook/SLA, trainers.py), run on the CPU
    with a network that returns these logits: their losses 4.1075325 and 6.9568725, and their aggregated logits, the
    first row of which stands below. Ours differed from them by 0 in float32.
    """
    i, j = torch.arange(24.0)[:, None], torch.arange(20.0)
    z = 2 * torch.sin(i * i + 2 * j + 0.3 * i * j)
    together, said = aggregated_logits(z, M), z[::M, :CLASSES]
    loss = joint_cross_entropy(z, LABELS)
    assert float(loss) == pytest.approx(4.1075325, abs=1e-5)
    assert together[0].tolist() == pytest.approx([-0.4237189, 0.3749704, -0.5240726, -0.0923195, 1.3451054], abs=1e-5)
    divergence = (distillation(said, together) - distillation(together, together)).mean()
    total = loss + label_cross_entropy(said, LABELS) + divergence
    assert float(total) == pytest.approx(6.9568725, abs=1e-5)


def test_samples_without_a_label_do_not_count() -> None:
    z, some = logits(), LABELS.clone()
    some[[0, 3]] = -1
    known = torch.tensor([1, 2, 4, 5])
    kept = z.unflatten(0, (-1, M))[known].flatten(0, 1)
    torch.testing.assert_close(joint_cross_entropy(z, some), joint_cross_entropy(kept, LABELS[known]))


def test_without_any_label_the_loss_is_zero_and_so_is_its_gradient() -> None:
    z = logits().requires_grad_()
    loss = joint_cross_entropy(z, torch.full((6,), -1))
    loss.backward()
    assert loss == 0
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_with_one_transformation_it_is_the_cross_entropy_of_the_labels() -> None:
    z = logits(columns=CLASSES, m=1).requires_grad_()
    torch.testing.assert_close(joint_cross_entropy(z, LABELS), cross_entropy(z, LABELS), rtol=1e-12, atol=0)
    ours, theirs = (torch.autograd.grad(f(z, LABELS), z)[0] for f in (joint_cross_entropy, cross_entropy))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)
    assert torch.equal(aggregated_logits(z, 1), z)


def test_logits_that_are_sums_of_a_class_and_a_transformation_give_the_two_losses_of_multi_task() -> None:
    v, w = logits(columns=CLASSES), logits(columns=M).flip(0)
    joint = (v[:, :, None] + w[:, None, :]).flatten(1)
    number = torch.arange(M).repeat(len(LABELS))
    expected = cross_entropy(v, LABELS.repeat_interleave(M)) + cross_entropy(w, number)
    torch.testing.assert_close(joint_cross_entropy(joint, LABELS), expected, rtol=1e-12, atol=0)


def test_logits_that_do_not_depend_on_the_transformation_give_the_loss_of_augmentation_and_log_m() -> None:
    v = logits(columns=CLASSES)
    expected = cross_entropy(v, LABELS.repeat_interleave(M)) + math.log(M)
    torch.testing.assert_close(joint_cross_entropy(v.repeat_interleave(M, 1), LABELS), expected, rtol=1e-12, atol=0)


def test_aggregation_is_the_loop_over_copies_that_reads_each_ones_own_entries() -> None:
    z = logits()
    expected = torch.zeros(len(LABELS), CLASSES, dtype=torch.float64)
    for b in range(len(LABELS)):
        for i in range(CLASSES):
            expected[b, i] = sum(z[b * M + j, i * M + j] for j in range(M)) / M
    torch.testing.assert_close(aggregated_logits(z, M), expected, rtol=1e-12, atol=1e-14)


def test_aggregation_of_class_logits_is_the_mean_over_copies() -> None:
    z = logits(columns=CLASSES)
    torch.testing.assert_close(aggregated_logits(z, M, joint=False)[2], z[8:12].mean(0))


def test_of_tied_logits_on_features_that_copies_share_all_inferences_are_one() -> None:
    single = logits(columns=CLASSES, m=1)
    tied = single.repeat_interleave(M, dim=0).repeat_interleave(M, dim=1)
    torch.testing.assert_close(aggregated_logits(tied, M), tied[::M, ::M])


def test_gradients_are_those_of_finite_differences() -> None:
    z = logits(2, 6, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: joint_cross_entropy(z, torch.tensor([1, -1])), (z,))


def test_half_precision_is_computed_in_float32() -> None:
    z = logits().bfloat16()
    assert joint_cross_entropy(z, LABELS).dtype == torch.float32
    torch.testing.assert_close(joint_cross_entropy(z, LABELS), joint_cross_entropy(z.float(), LABELS))


@pytest.mark.parametrize(
    ("columns", "labels", "said"),
    [
        (20, [0, 1, 2, 3, 4, 5], "labels must be 0 to 4, or -1 where unknown; got 5"),
        (20, [0, 1, 2, 3, 4, -2], "got -2"),
        (20, [0, 1, 2, 3, 4], "24 rows of logits are no whole number of copies of 5 samples"),
        (21, [0, 1, 2, 3, 4, 0], "21 outputs are no joint classes of 4 transformations; a head of N x 4"),
    ],
)
def test_labels_and_heads_that_do_not_fit_are_refused(columns: int, labels: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        joint_cross_entropy(logits(columns=columns), torch.tensor(labels))


def test_other_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="24 rows of logits are no whole number of samples with 5 copies each"):
        aggregated_logits(logits(), 5)
    with pytest.raises(ValueError, match="labels must be 0 to 4"):
        label_cross_entropy(logits(columns=5, m=1), torch.tensor([0, 1, 2, 3, 4, 7]))
