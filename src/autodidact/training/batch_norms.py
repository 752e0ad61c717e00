"""A batch norm that gets one value a channel, said in the words of the method and of its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from autodidact.data.batch import Batch
from autodidact.methods.method import Method
from autodidact.training.settings import Settings


@contextmanager
def batch_norms_fed(method: Method, batch: Batch, settings: Settings) -> Iterator[None]:
    """Inside the block a batch norm in training mode that gets a single value a channel is a ValueError with advice.

    That can only be where one sample is trained on. Not every norm minds: of several views, or of a map of several
    places, there are values enough. So they are watched as they are called, and only then, since hooks slow them down.
    """
    handles = []
    if min((len(stream) for stream in batch.streams.values()), default=len(batch)) == 1:
        norms = [module for module in method.modules() if isinstance(module, _BatchNorm)]
        refuse = _refusing(type(method).__name__, settings)
        handles = [norm.register_forward_pre_hook(refuse) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _refusing(name: str, settings: Settings) -> Callable[[_BatchNorm, tuple[Tensor, ...]], None]:
    asked, advice = f"--batch-size {settings.batch_size}", "another --batch-size"
    if settings.batch_size == settings.accumulate:
        advice = "a larger --batch-size"
    if settings.accumulate > 1:
        asked, advice = f"{asked}, --accumulate {settings.accumulate}", f"{advice} or a smaller --accumulate"

    def refuse(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].numel() // inputs[0].shape[1]
        if values < 2 and (norm.training or norm.running_mean is None):
            raise ValueError(
                f"{name} has batch norms, which need at least 2 samples at a time; here is 1 ({asked}): use {advice}"
            )

    return refuse
