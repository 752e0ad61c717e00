"""Networks spread over the devices: each keeps a part of every weight, of its gradient and of the optimiser's state,
and the weights of a block are gathered while it computes (fully sharded data parallelism; Zhao et al., arXiv
2304.11277)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from autodidact.methods.method import Method
from autodidact.model import Encoder
from autodidact.objectives.shards import is_spread, own_part
from autodidact.targets import EMATeacher
from autodidact.training.recompute import repeated

OLDEST = (2, 12)
"""torch that was tested: it finds the tensors in what an encoder gives, which is a dataclass."""


@dataclass
class _Before:
    """What spreading changes of a module beside its parameters."""

    module: nn.Module
    cls: type[nn.Module]
    names: set[str]
    hooks: dict[str, Any]
    strides: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        hooks = {name: value.copy() for name, value in vars(module).items() if "_hooks" in name}
        strides = {name: p.stride() for name, p in module.named_parameters(recurse=False)}
        return cls(module, type(module), set(vars(module)), hooks, strides)


class Spread:
    """The networks of a method, spread over the devices from now on.

    These are encoders, their slow copies, and heads that are made of parts. Each is gathered block by block where it
    has blocks, and else whole. Single layers, mask tokens and whatever else a method itself looks at stay whole on
    every device, as do buffers.

    Parameters
    ----------
    method : the same in all processes, on their devices.

    Raises
    ------
    ValueError : the method has no encoder.
    """

    def __init__(self, method: Method) -> None:
        from torch.distributed.fsdp import fully_shard

        self.method = method
        self._before = [_Before.of(module) for module in method.modules()]
        for network in spreadable(method):
            for part in (*repeated(network), network):
                # A number cannot be spread.
                numbers = {parameter for parameter in part.parameters() if parameter.ndim == 0}
                for parameter in part.parameters():
                    if not is_spread(parameter):
                        # Channels may be last in memory, which torch does not spread.
                        parameter.data = parameter.data.contiguous()
                fully_shard(part, reshard_after_forward=True, ignored_params=numbers)

    def gather(self) -> None:
        """Put the networks back as they were, with the weights that they have by now, whole and in the memory of the
        host. All processes must call this."""
        whole = dict[nn.Parameter, nn.Parameter]()
        for before in self._before:
            for name, parameter in before.module._parameters.items():
                if parameter is None or not is_spread(parameter):
                    continue
                if parameter not in whole:
                    (values,) = gathered({name: parameter}).values()
                    laid_out = torch.empty_strided(values.shape, before.strides[name], dtype=values.dtype).copy_(values)
                    whole[parameter] = nn.Parameter(laid_out, requires_grad=parameter.requires_grad)
                before.module._parameters[name] = whole[parameter]
            before.module.__class__ = before.cls
            for added in vars(before.module).keys() - before.names:
                del before.module.__dict__[added]
            vars(before.module).update(before.hooks)


def spreadable(method: Method) -> list[nn.Module]:
    """The networks of a method that are spread, each once; none lies in another.

    Raises
    ------
    ValueError : it has no encoder, or torch is too old.
    """
    if torch.__version__ < OLDEST:  # type: ignore[operator]
        raise ValueError(f"--sharding full needs torch {'.'.join(map(str, OLDEST))}, here is {torch.__version__}")
    if not any(isinstance(module, Encoder) for module in method.modules()):
        raise ValueError(
            f"{type(method).__name__} has no encoder that could be spread over devices: use --sharding none"
        )
    found = dict[int, nn.Module]()

    def walk(module: nn.Module) -> None:
        parts = [part for part in module.children() if next(part.parameters(), None) is not None]
        inside = any(isinstance(deep, Encoder) for part in parts for deep in part.modules())
        # Of some the insides are called, not they themselves.
        shell = isinstance(module, EMATeacher) or type(module).forward is nn.Module.forward
        if isinstance(module, Encoder) or (parts and not inside and not shell):
            found[id(module)] = module
            return
        for part in parts:
            walk(part)

    walk(method)
    return list(found.values())


def gathered(tensors: Mapping[str, Tensor], *, kept: bool = True) -> dict[str, Tensor]:
    """Whole tensors in the memory of the host, or none in a process that does not keep them. All must call this."""
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = tensor.detach().full_tensor() if is_spread(tensor) else tensor.detach()  # type: ignore[attr-defined]
        if kept:
            whole[name] = full.cpu()
    return whole


def casts_not_kept(device: str) -> torch.autocast:
    """Inside the block mixed precision casts weights whenever they are used, and keeps none of what it casts: it would
    hold all of a network together that is meant to be in parts."""
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=False)


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Scale gradients, spread ones and whole ones, such that the norm of all together is at most `most`; returns what
    it was. torch's `clip_grad_norm_` takes no mixture of them."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    squares = {True: own_part(gradients[0]).new_zeros(()), False: own_part(gradients[0]).new_zeros(())}
    for gradient in gradients:
        squares[is_spread(gradient)] += torch.linalg.vector_norm(own_part(gradient)).square()
    torch.distributed.all_reduce(squares[True])
    norm = (squares[True] + squares[False]).sqrt()
    scale = (most / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        own_part(gradient).mul_(scale)
    return norm


def clip_each(parameters: Iterable[nn.Parameter], most: float) -> None:
    """Scale the gradient of every parameter, spread or whole, such that its own norm is at most `most` (DINO)."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    squares = torch.stack([torch.linalg.vector_norm(own_part(gradient)).square() for gradient in gradients])
    spread = [is_spread(gradient) for gradient in gradients]
    if any(spread):
        summed = squares.clone()
        torch.distributed.all_reduce(summed)
        squares = torch.stack([(summed if parted else squares)[i] for i, parted in enumerate(spread)])
    scales = (most / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for gradient, scale in zip(gradients, scales, strict=True):
        own_part(gradient).mul_(scale)
