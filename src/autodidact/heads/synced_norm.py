"""Batch normalisation over the batches of all processes, on any device.

PyTorch's own synchronised norm refuses to run on a CPU. This one needs nothing but gathering and summing, so gloo
processes train exactly as one process with the whole batch does.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance of every channel over the batches of all processes, and the count of values that they are of.

    Parameters
    ----------
    x : tensor of shape (n, channels, ...)
        This process's batch; `n` may differ between processes, and be 0.
    """
    exact = x if x.dtype == torch.float64 else x.float()
    channels = x.shape[1]
    count = x.numel() // channels
    # One pass in torch's own kernel, the one that an ordinary batch norm runs.
    local = torch.batch_norm_update_stats(exact, None, None, 0.0) if count else exact.new_zeros(2, channels)
    own = torch.cat((*local, exact.new_full((1,), float(count))))
    # Gathered and not summed, which takes fewer messages one after the other.
    rows = exact.new_empty(dist.get_world_size() * len(own))
    dist.all_gather_into_tensor(rows, own)
    means, variances, counts = rows.view(-1, len(own)).split([channels, channels, 1], dim=1)
    total = counts.sum()
    mean = (means * counts).sum(dim=0) / total
    variance = (counts * (variances + (means - mean).square())).sum(dim=0) / total
    return mean, variance, total


class _Normalised(torch.autograd.Function):
    """``(x - mean) / sqrt(variance + eps) * weight + bias``, where mean and variance are those of all processes.

    Forward and backward run in the kernels of an ordinary batch norm that is given its statistics, and nothing but the
    input is kept between them. What is missing of the gradient of the input is the part through the statistics: with
    the sums S of the output's gradient and G of its product with the normalised input over all processes, it is
    ``-weight / sqrt(variance + eps) * (S + normalised * G) / total`` (Ioffe, Szegedy 2015, section 3).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        total: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, variance, total)
        ctx.eps = eps
        return torch.batch_norm(x, weight, bias, mean, variance, False, 0.0, eps, False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, total = ctx.saved_tensors
        if x.numel():
            direct, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
                gradient, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
            )
        else:
            direct, by_weight, by_bias = gradient.clone(), torch.zeros_like(mean), torch.zeros_like(mean)
        sums = torch.stack((by_bias, by_weight)).to(mean.dtype)
        dist.all_reduce(sums)
        scale = (variance + ctx.eps).rsqrt() / total * (1.0 if weight is None else weight)
        through = torch.batch_norm(x, scale * sums[1], scale * sums[0], mean, variance, False, 0.0, ctx.eps, False)
        _, learns_weight, learns_bias, *_ = ctx.needs_input_grad
        return (
            direct.sub_(through),
            by_weight if learns_weight else None,
            by_bias if learns_bias else None,
            *(None, None, None, None),
        )


class SyncedBatchNorm(_BatchNorm):
    """Batch norm whose mean and variance are those of the global batch; its state has the names of ``nn.BatchNorm``.

    Every process contributes count, mean and variance, which combine to the global ones without the cancellation of
    E[x²] - E[x]² (Chan, Golub, LeVeque 1979): M2 = Σ_r M2_r + n_r (m_r - m)². Gradients flow through the exchange, so
    after the mean over processes that data parallelism takes they are those of one big batch whose loss is the mean of
    the processes' losses; they have no gradients of their own. Batches may differ in size. In eval mode, and with one
    process, it is an ordinary batch norm.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch norm needs at least (n, channels), got shape {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        training = self.training or self.running_mean is None
        if training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self._check_input_dim(input)
            return self._finish(self._synchronised(input))
        return self._finish(super().forward(input))

    def _finish(self, x: Tensor) -> Tensor:
        return x

    def _synchronised(self, x: Tensor) -> Tensor:
        mean, variance, total = _statistics(x.detach())
        # A device is waited for only by a process that has not got two values itself.
        if x.numel() < 2 * x.shape[1] and total < 2:
            raise ValueError(f"batch norm needs more than one value a channel in training, got shape {tuple(x.shape)}")
        self._track(mean, variance * total / (total - 1))
        weight, bias = (None if given is None else given.to(mean.dtype) for given in (self.weight, self.bias))
        y: Tensor = _Normalised.apply(x, weight, bias, mean, variance, total, self.eps)
        return y

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if not self.training or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        for kept, newest in ((self.running_mean, mean), (self.running_var, variance)):
            share = self.momentum if self.momentum is not None else self.num_batches_tracked.to(kept.dtype).reciprocal()
            kept.lerp_(newest.to(kept.dtype), share)


class SyncedBatchNormAct(SyncedBatchNorm):
    """The same, followed by the dropout and activation that timm puts into its norm layers."""

    drop: nn.Module
    act: nn.Module

    def _finish(self, x: Tensor) -> Tensor:
        return self.act(self.drop(x))


_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def synchronised(module: nn.Module) -> nn.Module:
    """The module with every batch norm inside replaced by a synchronised one, which shares its parameters and buffers.

    The module is changed in place; a batch norm itself is returned replaced. A subclass of batch norm that does
    something else raises ValueError.
    """
    if isinstance(module, SyncedBatchNorm):
        return module
    if isinstance(module, _BatchNorm):
        return _replacement(module)
    for name, child in module.named_children():
        setattr(module, name, synchronised(child))
    return module


def _replacement(norm: _BatchNorm) -> SyncedBatchNorm:
    acts = isinstance(getattr(norm, "act", None), nn.Module) and isinstance(getattr(norm, "drop", None), nn.Module)
    if type(norm) not in _PLAIN and not acts:
        raise ValueError(f"cannot synchronise {type(norm).__module__}.{type(norm).__name__}: not a plain batch norm")
    kind = SyncedBatchNormAct if acts else SyncedBatchNorm
    synced = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    synced.weight, synced.bias = norm.weight, norm.bias
    synced.running_mean, synced.running_var = norm.running_mean, norm.running_var
    synced.num_batches_tracked = norm.num_batches_tracked
    if isinstance(synced, SyncedBatchNormAct):
        synced.drop, synced.act = norm.drop, norm.act  # type: ignore[assignment]
    return synced.train(norm.training)
