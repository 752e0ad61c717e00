"""The Step that methods see: backward, averaging over processes, clipping, the optimiser's step, and trials."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from autodidact.catalog import unknown
from autodidact.data.batch import Batch
from autodidact.methods.method import Loss, Progress
from autodidact.objectives.shards import is_spread
from autodidact.training.groups import moves
from autodidact.training.sharded import clip_each, clip_gradients
from autodidact.views.parcel import sent

if TYPE_CHECKING:
    from autodidact.training.learner import Learner


class Descent:
    """One update of a `Learner`: implements `autodidact.methods.Step`.

    Parameters
    ----------
    learner : whose method is trained.
    progress : where training is.
    last : whether this micro-batch completes the update; before that, gradients only add up.
    """

    def __init__(self, learner: Learner, progress: Progress, *, last: bool) -> None:
        self.learner, self.progress = learner, progress
        self._last = last
        self._trying = False
        self.gradient_norm: Tensor | None = None

    def descend(self, loss: Loss, only: str | None = None) -> Loss:
        """One descent on ``loss.total``; see `autodidact.methods.Step`."""
        self.learner.lookout.show(loss)
        chosen = self._parameters(only)
        parts = 1 if self._trying else self.learner.settings.accumulate
        if only is None:
            self.learner.manual_backward(loss.total / parts)
        elif self.learner.spread is None:
            self.learner.manual_backward(loss.total / parts, inputs=chosen)
        else:
            self._backward_beside(loss.total / parts, chosen)
        if self._trying or self._last:
            self._step(chosen)
        return loss

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Descents inside the block step at once, and are undone when it ends."""
        if self._trying:
            raise RuntimeError("a trial cannot be started inside a trial")
        method, optimiser = self.learner.method, self.learner.optimiser
        tensors = [*method.parameters(), *method.buffers()]
        before = [tensor.detach().clone() for tensor in tensors]
        gradients = [p.grad.clone() if p.grad is not None else None for p in method.parameters()]
        state = copy.deepcopy(optimiser.state_dict())
        for p in method.parameters():
            p.grad = None
        self._trying = True
        try:
            yield
        finally:
            self._trying = False
            with torch.no_grad():
                for tensor, value in zip(tensors, before, strict=True):
                    tensor.copy_(value)
            optimiser.load_state_dict(state)
            for p, gradient in zip(method.parameters(), gradients, strict=True):
                p.grad = gradient

    def draw(self) -> Batch:
        """One more batch of the same source, on the device."""
        return self.learner.draw()

    def _parameters(self, only: str | None) -> list[nn.Parameter]:
        groups = self.learner.optimiser.param_groups
        if only is not None and only not in (names := {group["group"] for group in groups}):
            raise unknown("parameter group", only, names)
        return [
            parameter
            for group in groups
            if only in (None, group["group"]) and moves(group, self.progress)
            for parameter in group["params"]
        ]

    def _backward_beside(self, total: Tensor, chosen: list[nn.Parameter]) -> None:
        """Backward for some parameters where networks are spread over devices: their gradients are reduced on the way,
        so all are computed, and those of the others are forgotten."""
        mine = {id(parameter) for parameter in chosen}
        others = [p for p in self.learner.method.parameters() if id(p) not in mine]
        before = [parameter.grad for parameter in others]
        for parameter in others:
            parameter.grad = None
        self.learner.manual_backward(total)
        for parameter, gradient in zip(others, before, strict=True):
            parameter.grad = gradient

    def _step(self, chosen: list[nn.Parameter]) -> None:
        learner, optimiser = self.learner, self.learner.optimiser
        mine = {id(parameter) for parameter in chosen}
        waiting: list[tuple[nn.Parameter, Tensor | None]] = []
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                if id(parameter) not in mine:
                    # The optimiser skips parameters without a gradient; what another descent has collected comes back.
                    keep = parameter.grad if moves(group, self.progress) else None
                    waiting.append((parameter, keep))
                    parameter.grad = None
        average_gradients([parameter for parameter in chosen if not is_spread(parameter)])
        if learner.settings.clip_each is not None:
            clip_each(chosen, learner.settings.clip_each)
        most = learner.settings.clip_norm or float("inf")
        if learner.settings.clip_norm or learner.wants_gradient_norm:
            clip = nn.utils.clip_grad_norm_ if learner.spread is None else clip_gradients
            self.gradient_norm = clip(chosen, most).detach()
        learner.set_rates()
        optimiser.step()
        # What mixed precision has cast of the old weights may not serve another forward pass of this update.
        torch.clear_autocast_cache()
        for parameter in chosen:
            parameter.grad = None
        for parameter, gradient in waiting:
            parameter.grad = gradient


def average_gradients(parameters: list[nn.Parameter], bucket_bytes: int = 32 << 20) -> None:
    """Replace every gradient by its mean over all processes, in buckets. Nothing happens in a single process.

    A parameter that no process has a gradient of keeps none, so that weight decay leaves it alone as in one process.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return
    world = distributed.get_world_size()
    missing = {id(parameter) for parameter in parameters if parameter.grad is None}
    bucket: list[nn.Parameter] = []
    size = 0
    pending: list[tuple[object, Tensor, list[nn.Parameter]]] = []

    def send() -> None:
        nonlocal bucket, size
        if bucket:
            # Behind the gradients, whether there is one.
            there = torch.tensor([float(id(parameter) not in missing) for parameter in bucket])
            gradients = [parameter.grad.reshape(-1) for parameter in bucket if parameter.grad is not None]
            flat = torch.cat([*gradients, sent(there.to(gradients[0].dtype), gradients[0].device)])
            pending.append((distributed.all_reduce(flat, async_op=True), flat, bucket))
        bucket, size = [], 0

    for parameter in parameters:
        if parameter.grad is None:
            # All processes must take part in the same reductions, whichever parameters their own batch reached.
            parameter.grad = torch.zeros_like(parameter)
        bucket.append(parameter)
        size += parameter.grad.nbytes
        if size >= bucket_bytes:
            send()
    send()
    for work, flat, reached in pending:
        work.wait()  # type: ignore[attr-defined]
        # Only a process that lacks some has to look: what is nowhere, it lacks too.
        lacks = any(id(parameter) in missing for parameter in reached)
        there = (flat[-len(reached) :] > 0).tolist() if lacks else [True] * len(reached)
        start = 0
        for parameter, somewhere in zip(reached, there, strict=True):
            gradient = parameter.grad
            assert gradient is not None
            if somewhere:
                gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient) / world)
            else:
                parameter.grad = None
            start += gradient.numel()
