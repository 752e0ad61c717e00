"""Inside a local language model: what its layers would say, and its heads with some of them scaled or shifted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from autodidact.lm.lm import Incapable
from autodidact.lm.local import LocalLM
from autodidact.lm.tokenised import Tokenised

NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm")
BLOCKS = ("layers", "h")
OUTPUTS = ("self_attn.o_proj", "attn.c_proj", "attention.dense", "self_attn.out_proj", "self_attn.dense")
"""Where the architectures of transformers keep the last norm, the layers, and the projection of a layer's heads."""


def depth(lm: LocalLM) -> int:
    """Number of layers."""
    return int(lm.causal.config.get_text_config().num_hidden_layers)


def exit_logits(lm: LocalLM, hidden: Float[Tensor, "*n d"], layer: int) -> Float[Tensor, "*n v"]:
    """What a layer would say if it were the last (early exit): the head after the last norm, of its states.

    Parameters
    ----------
    hidden : what `LocalLM.hidden` or transformers gives for the layer; the last one's have gone through the norm.
    """
    if layer < depth(lm):
        hidden = _part(lm, lm.causal.base_model, NORMS, "last norm")(hidden)
    return lm.causal.get_output_embeddings()(hidden).float()


def answer_exits(lm: LocalLM, tokenised: Tokenised, layers: Sequence[int]) -> dict[int, Float[Tensor, "m v"]]:
    """By layer, what it would say before each token of the completions, row after row."""
    tokenised = tokenised.to(lm.device)
    rows, columns = tokenised.answer.nonzero(as_tuple=True)
    states = lm.hidden(tokenised, layers)
    return {layer: exit_logits(lm, states[layer][rows, columns - 1], layer) for layer in layers}


def settled_layers(exits: Mapping[int, Float[Tensor, "m v"]]) -> Int[Tensor, " m"]:
    """The first layer from which on all layers hold the same token to be the likeliest, for each place."""
    layers = sorted(exits)
    likeliest = torch.stack([exits[layer].argmax(dim=1) for layer in layers])
    agrees = (likeliest == likeliest[-1]).flip(0).int().cumprod(dim=0).sum(dim=0)
    return torch.tensor(layers, device=agrees.device)[len(layers) - agrees]


def head_outputs(lm: LocalLM) -> list[nn.Module]:
    """The projection of each layer that its concatenated heads go through."""
    blocks = _part(lm, lm.causal.base_model, BLOCKS, "layers")
    return [_part(lm, block, OUTPUTS, "projection of heads") for block in blocks.children()]


def heads(lm: LocalLM) -> int:
    """Attention heads of a layer."""
    return int(lm.causal.config.get_text_config().num_attention_heads)


@contextmanager
def heads_scaled(lm: LocalLM, scales: Mapping[int, Float[Tensor, " h"]]) -> Iterator[None]:
    """Within it, heads of some layers are scaled before they are mixed: 1 leaves a head as it is, 0 takes it out.

    They are scaled where they lie side by side, before the output projection; behind it no channel belongs to a head.

    Parameters
    ----------
    scales : by layer from 0, one factor a head.
    """

    def scaled(layer: int, given: Tensor) -> Tensor:
        each = given.unflatten(-1, (heads(lm), -1))
        return (each * scales[layer].to(given)[:, None]).flatten(-2)

    with _changed(lm, scales, scaled):
        yield


@contextmanager
def heads_shifted(lm: LocalLM, shifts: Mapping[int, Float[Tensor, " d"]]) -> Iterator[None]:
    """Within it, something is added to the concatenated heads of some layers at every place (2306.03341)."""
    with _changed(lm, shifts, lambda layer, given: given + shifts[layer].to(given)):
        yield


def head_states(lm: LocalLM, tokenised: Tokenised) -> Float[Tensor, "n l d"]:
    """The concatenated heads of every layer at the last token of each row, without gradient."""
    found: dict[int, Tensor] = {}

    def noted(layer: int, given: Tensor) -> Tensor:
        found[layer] = given
        return given

    tokenised = tokenised.to(lm.device)
    with torch.no_grad(), lm.evaluating(), _changed(lm, range(depth(lm)), noted):
        lm.hidden(tokenised, [0])
    last = tokenised.lengths - 1
    rows = torch.arange(len(last), device=last.device)
    return torch.stack([found[layer][rows, last] for layer in range(depth(lm))], dim=1).float()


@contextmanager
def _changed(lm: LocalLM, layers: Mapping[int, Tensor] | range, change: object) -> Iterator[None]:
    outputs = head_outputs(lm)
    with ExitStack() as hooks:
        for layer in layers:
            if not 0 <= layer < len(outputs):
                raise ValueError(f"{lm.label} has heads in layers 0 to {len(outputs) - 1}, got {layer}")

            def hook(_: nn.Module, given: tuple[Tensor, ...], layer: int = layer) -> tuple[Tensor, ...]:
                return (change(layer, given[0]), *given[1:])  # type: ignore[operator]

            hooks.callback(outputs[layer].register_forward_pre_hook(hook).remove)
        yield


def _part(lm: LocalLM, module: nn.Module, names: Sequence[str], what: str) -> nn.Module:
    for name in names:
        try:
            return module.get_submodule(name)
        except AttributeError:
            continue
    raise Incapable(f"the {what} of {lm.label} was not found; known are {', '.join(names)}")
