"""A teacher that follows its student: an exponential moving average of weights."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from autodidact.objectives.shards import own_part


class EMATeacher(nn.Module):
    r"""A frozen copy of a module, pulled towards it: :math:`\xi \leftarrow m \xi + (1 - m) \theta`.

    Parameters
    ----------
    module : nn.Module
        The student, deep-copied here. Tied weights stay tied.
    momentum : float
        Default m of `update`, in [0, 1]. 1 freezes the teacher, 0 copies the student.
    average_buffers : bool
        Whether buffers of floating point (running statistics) are averaged like the weights, so that they fit the
        teacher's weights rather than the student's (EMAN, Cai et al., 2101.08482). By default they are copied.

    Notes
    -----
    Parameters take no gradient and calling the teacher builds no graph. Buffers (running statistics) are copied from
    the student unless they are to be averaged. The teacher runs in evaluation mode from the start, and `train()` does
    not change that: call ``teacher.module.train()`` where a method wants batch statistics in its teacher. Weights and
    buffers are in ``state_dict()``.
    """

    def __init__(self, module: nn.Module, momentum: float = 0.996, *, average_buffers: bool = False) -> None:
        super().__init__()
        _check_momentum(momentum)
        self.momentum, self.average_buffers = momentum, average_buffers
        self.module = copy.deepcopy(module).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> EMATeacher:
        """Keep the wrapped module in the mode it has, whatever mode the surrounding method goes to."""
        self.training = mode
        return self

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def copied(self) -> Any:
        """The teacher's module as it is now, to be trained again: a copy that takes gradient."""
        return copy.deepcopy(self.module).requires_grad_(True)

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float | None = None) -> None:
        """One step towards `student`.

        Parameters
        ----------
        student : nn.Module
            A module with the parameter and buffer names of the one given at construction.
        momentum : float, optional
            m of this step, for schedules such as `autodidact.schedules.cosine_ramp`.

        Raises
        ------
        ValueError
            momentum outside [0, 1], or a student whose parameters or buffers differ in name or shape.
        """
        m = self.momentum if momentum is None else momentum
        _check_momentum(m)
        kept, followed = _matched(dict(self.module.named_parameters()), dict(student.named_parameters()), "parameters")
        if kept:
            # Both are spread over processes in the same way, if at all.
            kept, followed = [own_part(k) for k in kept], [own_part(p) for p in followed]
            torch._foreach_lerp_(kept, [p.to(k) for k, p in zip(kept, followed, strict=True)], 1.0 - m)
        for k, b in zip(
            *_matched(dict(self.module.named_buffers()), dict(student.named_buffers()), "buffers"), strict=True
        ):
            if self.average_buffers and k.is_floating_point():
                k.lerp_(b.to(k), 1.0 - m)
            else:
                k.copy_(b)


def slow_copy(module: nn.Module, momentum: float) -> EMATeacher:
    """A teacher whose batch norms use batch statistics, as those of its student do; it drops nothing at random."""
    teacher = EMATeacher(module, momentum)
    for part in teacher.module.modules():
        if isinstance(part, _BatchNorm):
            part.train()
    return teacher


def _matched(own: dict[str, Tensor], theirs: dict[str, Tensor], what: str) -> tuple[list[Tensor], list[Tensor]]:
    shapes, others = ({name: tuple(t.shape) for name, t in side.items()} for side in (own, theirs))
    if shapes != others:
        differing = sorted(n for n in shapes.keys() | others.keys() if shapes.get(n) != others.get(n))
        raise ValueError(f"the student's {what} differ from the teacher's: {', '.join(differing[:5])}")
    return list(own.values()), [theirs[name] for name in own]


def _check_momentum(momentum: float) -> None:
    if not 0.0 <= momentum <= 1.0:
        raise ValueError(f"momentum must lie in [0, 1], got {momentum}")
