"""Batch normalisation over the batches of all processes, on any device.

PyTorch's own synchronised norm refuses to run on a CPU. This one needs nothing but an all-reduce, so two gloo processes
train exactly as one process with the whole batch does.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn import functional as collective
from torch.nn.modules.batchnorm import _BatchNorm


class SyncedBatchNorm(_BatchNorm):
    """Batch norm whose mean and variance are those of the global batch; its state has the names of ``nn.BatchNorm``.

    Every process contributes count, mean and summed squared deviations, which combine to the global ones without the
    cancellation of E[x²] - E[x]² (Chan, Golub, LeVeque 1979): M2 = Σ_r M2_r + n_r (m_r - m)². Gradients flow through
    the exchange, so after the mean over processes that data parallelism takes they are those of one big batch whose
    loss is the mean of the processes' losses. Batches may differ in size. In eval mode, and with one process, it is
    an ordinary batch norm.
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
        exact = x if x.dtype == torch.float64 else x.float()
        axes = [0, *range(2, x.ndim)]
        shape = (1, -1, *(1 for _ in axes[1:]))
        count = x.numel() // x.shape[1]
        mean = exact.mean(dim=axes) if count else exact.new_zeros(x.shape[1])
        squares = (exact - mean.view(shape)).square().sum(dim=axes)
        # Each process fills its own row, so that one sum hands every row to all.
        slots = exact.new_zeros(dist.get_world_size(), 2 * x.shape[1] + 1)
        own = torch.cat((mean, squares, mean.new_tensor([float(count)])))
        slots = slots.index_put((torch.tensor([dist.get_rank()], device=x.device),), own[None])
        rows: Tensor = collective.all_reduce(slots)
        means, deviations, counts = rows.split([x.shape[1], x.shape[1], 1], dim=1)
        total = counts.sum()
        if total < 2:
            raise ValueError(f"batch norm needs more than one value a channel in training, got shape {tuple(x.shape)}")
        mean = (means * counts).sum(dim=0) / total
        variance = (deviations + counts * (means - mean).square()).sum(dim=0) / total
        self._track(mean.detach(), (variance * total / (total - 1)).detach())
        scale = (variance + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight.to(scale.dtype)
        y = (exact - mean.view(shape)) * scale.view(shape)
        y = y if self.bias is None else y + self.bias.to(y.dtype).view(shape)
        return y.to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if not self.training or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


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
