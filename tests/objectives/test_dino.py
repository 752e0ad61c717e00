"""Self-distillation against loops in float64: assignments, the loss over views, the loss over masked patches."""

from __future__ import annotations

import math

import pytest
import torch

from autodidact.objectives import dino_loss, masked_distillation, sinkhorn, teacher_assignments


def scores(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def softmax(row):
    top = max(row)
    weights = [math.exp(x - top) for x in row]
    return [w / math.fsum(weights) for w in weights]


def cross_entropy(q, s, temperature):
    p = softmax([float(x) / temperature for x in s])
    return -math.fsum(a * math.log(b) for a, b in zip(q, p, strict=True))


def naive(student, teacher, centre, student_temperature, teacher_temperature):
    terms = []
    for v, t in enumerate(teacher):
        for u, s in enumerate(student):
            if u == v:
                continue
            rows = []
            for i in range(len(t)):
                q = softmax([float(x - c) / teacher_temperature for x, c in zip(t[i], centre, strict=True)])
                rows.append(cross_entropy(q, s[i], student_temperature))
            terms.append(math.fsum(rows) / len(rows))
    return math.fsum(terms) / len(terms)


@pytest.mark.parametrize("views", [2, 4])
def test_the_loss_is_its_definition(views):
    """DINOLoss of main_dino.py in facebookresearch/dino at 04c0ad9 gives the same, to 1e-15 in float64.

    lightly's DINOLoss was not at hand.
    """
    student, teacher = [scores(5, 7, seed=s) for s in range(views)], [scores(5, 7, seed=9 + s) for s in range(2)]
    centre = 0.3 * scores(7, seed=20)
    found = dino_loss(student, teacher, centre, student_temperature=0.2, teacher_temperature=0.07)
    assert float(found) == pytest.approx(naive(student, teacher, centre, 0.2, 0.07), rel=1e-12)


def test_the_order_of_the_batch_does_not_matter():
    student, teacher, centre = [scores(6, 4, seed=s) for s in (0, 1)], [scores(6, 4, seed=s) for s in (2, 3)], scores(4)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    moved = dino_loss([s[order] for s in student], [t[order] for t in teacher], centre)
    torch.testing.assert_close(moved, dino_loss(student, teacher, centre))


def test_the_teacher_takes_no_gradient_and_the_students_is_softmax_minus_assignment():
    student, teacher = [scores(3, 4, seed=s).requires_grad_() for s in (0, 1)], [scores(3, 4, seed=2).requires_grad_()]
    centre = scores(4, seed=5).requires_grad_()
    dino_loss(student, teacher, centre, student_temperature=0.5, teacher_temperature=0.1).backward()
    assert teacher[0].grad is None
    assert centre.grad is None
    # The only teacher view is the first, which the first student view has no part in.
    assert student[0].grad is None or not student[0].grad.any()
    said = teacher_assignments(teacher[0], centre.detach(), 0.1)
    torch.testing.assert_close(student[1].grad, ((student[1].detach() / 0.5).softmax(1) - said) / (0.5 * 3))


def test_a_centre_that_is_the_teachers_score_leaves_every_prototype_alike():
    teacher = scores(1, 8)
    uniform = torch.full((1, 8), 1 / 8, dtype=torch.float64)
    torch.testing.assert_close(teacher_assignments(teacher, teacher[0], 0.01), uniform)


def test_a_low_temperature_names_the_best_prototype_beside_the_centre():
    teacher, centre = torch.tensor([[0.9, 0.5, 0.1]]), torch.tensor([0.9, 0.2, 0.1])
    torch.testing.assert_close(teacher_assignments(teacher, centre, 0.005), torch.tensor([[0.0, 1.0, 0.0]]))


def test_without_a_centre_the_views_of_the_teacher_are_balanced_together():
    student, teacher = [scores(6, 4, seed=s) for s in (0, 1, 2)], [scores(6, 4, seed=s) for s in (3, 4)]
    codes = sinkhorn(torch.cat(teacher), 0.06, 3).chunk(2)
    terms = [
        sum(cross_entropy(code[i].tolist(), s[i], 0.1) for i in range(6)) / 6
        for v, code in enumerate(codes)
        for u, s in enumerate(student)
        if u != v
    ]
    found = dino_loss(student, teacher, None, teacher_temperature=0.06)
    assert float(found) == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def test_masked_patches_are_averaged_by_image():
    """iBOTLoss of main_ibot.py in bytedance/ibot at 564f363 gives the same patch term, to 1e-15 in float64."""
    student, said = scores(3, 5, 4), teacher_assignments(scores(15, 4, seed=1), scores(4, seed=2)).view(3, 5, 4)
    masked = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [1, 0, 1, 1, 0]], dtype=torch.bool)
    images = []
    for n in range(3):
        found = [cross_entropy(said[n, t].tolist(), student[n, t], 0.2) for t in range(5) if masked[n, t]]
        images.append(sum(found) / max(1, len(found)))
    assert float(masked_distillation(student, said, masked, 0.2)) == pytest.approx(sum(images) / 3, rel=1e-12)


def test_patches_that_were_seen_and_assignments_take_no_gradient():
    student, said = scores(2, 3, 4).requires_grad_(), scores(2, 3, 4, seed=1).softmax(2).requires_grad_()
    masked = torch.tensor([[True, False, False], [False, True, True]])
    masked_distillation(student, said, masked).backward()
    assert said.grad is None
    assert (student.grad.abs().sum(2) > 0).equal(masked)


def test_the_gradients_are_those_of_finite_differences():
    teacher, masked = [scores(3, 4, seed=s) for s in (5, 6)], torch.rand(3, 2) < 0.7
    student = [scores(3, 4, seed=s).requires_grad_() for s in range(3)]
    assert torch.autograd.gradcheck(lambda *s: dino_loss(s, teacher, scores(4), student_temperature=0.5), student)
    said = scores(3, 2, 4, seed=7).softmax(2)
    patches = scores(3, 2, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: masked_distillation(s, said, masked, 0.5), patches)


def test_values_out_of_range_are_refused():
    views = [scores(3, 4)] * 2
    with pytest.raises(ValueError, match="teacher assignments: temperature must be a positive number, got 0"):
        dino_loss(views, views, None, teacher_temperature=0.0)
    with pytest.raises(ValueError, match="temperature"):
        dino_loss(views, views, scores(4), student_temperature=-1.0)
    with pytest.raises(ValueError, match="got 1 views and 1 codes"):
        dino_loss(views[:1], views[:1], scores(4))
    with pytest.raises(ValueError, match="NaN or infinite"):
        teacher_assignments(torch.tensor([[0.0, float("inf")]]), torch.zeros(2))
    with pytest.raises(ValueError, match="masked distillation: temperature"):
        masked_distillation(scores(1, 2, 3), scores(1, 2, 3), torch.ones(1, 2, dtype=torch.bool), 0.0)
