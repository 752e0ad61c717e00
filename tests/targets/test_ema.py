"""The teacher follows by the closed form, takes no gradient, and survives a checkpoint."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from autodidact.targets import EMATeacher


def student() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def test_after_n_steps_the_weights_are_the_closed_form() -> None:
    module = nn.Linear(3, 2, bias=False).double()
    teacher = EMATeacher(module)
    start = module.weight.detach().clone()
    seen, momenta = [], [0.5, 0.9, 0.99, 0.7]
    for momentum in momenta:
        nn.init.normal_(module.weight)
        seen.append(module.weight.detach().clone())
        teacher.update(module, momentum)
    expected = start * torch.tensor(momenta, dtype=torch.float64).prod()
    for step, weight in enumerate(seen):
        later = torch.tensor(momenta[step + 1 :], dtype=torch.float64).prod()
        expected += (1 - momenta[step]) * later * weight
    torch.testing.assert_close(teacher.module.weight, expected)


def test_momentum_one_freezes_and_zero_copies() -> None:
    module = nn.Linear(3, 2)
    teacher = EMATeacher(module)
    before = teacher.module.weight.clone()
    nn.init.normal_(module.weight)
    teacher.update(module, 1.0)
    assert torch.equal(teacher.module.weight, before)
    teacher.update(module, 0.0)
    assert torch.equal(teacher.module.weight, module.weight)


def test_the_momentum_of_construction_is_the_default() -> None:
    module = nn.Linear(2, 2, bias=False)
    teacher, other = EMATeacher(module, 0.75), EMATeacher(module, 0.1)
    nn.init.normal_(module.weight)
    teacher.update(module)
    other.update(module, 0.75)
    assert torch.equal(teacher.module.weight, other.module.weight)


def test_buffers_are_copied_not_averaged() -> None:
    module = student()
    teacher = EMATeacher(module, 0.9)
    module(torch.randn(16, 3) + 5)
    teacher.update(module)
    assert torch.equal(teacher.module[1].running_mean, module[1].running_mean)
    assert torch.equal(teacher.module[1].num_batches_tracked, module[1].num_batches_tracked)


def test_running_statistics_are_averaged_where_that_is_asked_for_and_counts_are_copied() -> None:
    module = student()
    teacher = EMATeacher(module, 0.9, average_buffers=True)
    before = teacher.module[1].running_mean.clone()
    module(torch.randn(16, 3) + 5)
    teacher.update(module)
    torch.testing.assert_close(teacher.module[1].running_mean, 0.9 * before + 0.1 * module[1].running_mean)
    assert torch.equal(teacher.module[1].num_batches_tracked, module[1].num_batches_tracked)


def test_no_gradient_enters_the_teacher() -> None:
    module = student()
    teacher = EMATeacher(module)
    inputs = torch.randn(4, 3, requires_grad=True)
    assert not teacher(inputs).requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    (module(inputs).sum() + teacher(inputs).sum()).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_student_is_left_as_it_was() -> None:
    module = student().train()
    weights = copy.deepcopy(module.state_dict())
    teacher = EMATeacher(module)
    teacher.update(module, 0.3)
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(torch.equal(weights[name], value) for name, value in module.state_dict().items())


def test_training_the_method_around_it_leaves_the_teacher_in_evaluation_mode() -> None:
    method = nn.ModuleDict({"encoder": student()})
    method["teacher"] = EMATeacher(method["encoder"])
    method.train()
    assert method["encoder"].training
    assert not method["teacher"].module.training
    inputs = torch.randn(4, 3)
    assert torch.equal(method["teacher"](inputs), method["teacher"](inputs))  # no dropout


def test_a_restored_teacher_goes_on_exactly() -> None:
    module = student()
    teacher = EMATeacher(module, 0.9)
    nn.init.normal_(module[0].weight)
    teacher.update(module)
    restored = EMATeacher(student(), 0.9)
    restored.load_state_dict(teacher.state_dict())
    for one in (teacher, restored):
        one.update(module)
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), restored.parameters(), strict=True))


def test_tied_weights_stay_tied_and_move_once() -> None:
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    module[1].weight = module[0].weight
    teacher = EMATeacher(module, 0.5)
    start = module[0].weight.detach().clone()
    nn.init.normal_(module[0].weight)
    teacher.update(module)
    assert teacher.module[0].weight is teacher.module[1].weight
    torch.testing.assert_close(teacher.module[0].weight, (start + module[0].weight.detach()) / 2)


def test_a_foreign_student_and_an_impossible_momentum_are_named() -> None:
    with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\], got 1.2"):
        EMATeacher(nn.Linear(2, 2), 1.2)
    teacher = EMATeacher(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\], got -0.1"):
        teacher.update(nn.Linear(2, 2), -0.1)
    with pytest.raises(ValueError, match="parameters differ from the teacher's: bias, weight"):
        teacher.update(nn.Linear(2, 3))


def test_a_copy_of_the_teacher_can_be_trained_and_leaves_the_teacher_alone() -> None:
    teacher = EMATeacher(nn.Linear(3, 2))
    copied = teacher.copied()
    assert all(parameter.requires_grad for parameter in copied.parameters())
    assert not any(parameter.requires_grad for parameter in teacher.module.parameters())
    with torch.no_grad():
        copied.weight.add_(1.0)
    torch.testing.assert_close(copied.weight, teacher.module.weight + 1)
