"""Low-rank adapters (LoRA; Hu et al., arXiv 2106.09685): the base stays, a small product is learned beside it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from autodidact.encoders.extras import need
from autodidact.lm.local import LocalLM


def add_adapter(
    lm: LocalLM,
    *,
    rank: int = 16,
    alpha: float | None = None,
    dropout: float = 0.0,
    targets: Sequence[str] | None = None,
    seed: int = 0,
) -> None:
    r"""Put an adapter into a model, in place; from then on only the adapter learns.

    Each projection computes :math:`W x + (\alpha / r) B A x` (section 4.1), with A at random and B = 0, so that the
    model says what it said until it is trained. Parameters of a projection from :math:`d_{in}` to :math:`d_{out}`:
    :math:`r (d_{in} + d_{out})`.

    Parameters
    ----------
    rank : r, from 1.
    alpha : above 0; default 2 r, so that a learning rate does for every rank.
    dropout : share of x that is left out in training, in [0, 1).
    targets : ends of the names of the projections; default all projections of attention and MLP, where the paper
        adapts those of queries and values alone.
    seed : of A.

    Raises
    ------
    ValueError : the model has an adapter already, a rank below 1, or targets that the model does not have.
    """
    peft = need("peft", "language", "an adapter")
    alpha = 2 * rank if alpha is None else alpha
    if lm.has_adapter:
        raise ValueError(f"{lm.label} has an adapter already; merge it first")
    if rank < 1 or not alpha > 0 or not 0 <= dropout < 1:
        raise ValueError(
            f"an adapter needs rank >= 1, alpha > 0 and dropout in [0, 1), got {rank}, {alpha} and {dropout}"
        )
    settings = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear" if targets is None else list(targets),
        task_type="CAUSAL_LM",
    )
    training = lm.module.training
    with torch.random.fork_rng(devices=[lm.device] if lm.device.type == "cuda" else []), warnings.catch_warnings():
        # GPT-2 keeps its weights transposed; peft finds out by itself and says so.
        warnings.filterwarnings("ignore", message="fan_in_fan_out")
        torch.manual_seed(seed)
        lm.module = peft.get_peft_model(lm.module, settings)
    lm.train(training)


@contextmanager
def adapter_off(lm: LocalLM) -> Iterator[None]:
    """Within it the model is the base that the adapter was put into: a reference that costs no memory.

    Raises
    ------
    ValueError : the model has no adapter.
    """
    if not lm.has_adapter:
        raise ValueError(f"{lm.label} has no adapter to switch off")
    with lm.module.disable_adapter():
        yield


def merge_adapter(lm: LocalLM) -> None:
    """Add the adapter to the weights, in place, and take it out; from then on all weights learn.

    Raises
    ------
    ValueError : the model has no adapter.
    """
    if not lm.has_adapter:
        raise ValueError(f"{lm.label} has no adapter to merge")
    training = lm.module.training
    lm.module = lm.module.merge_and_unload()
    lm.module.requires_grad_(True)
    lm.train(training)
