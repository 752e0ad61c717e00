"""Tiny language models from nothing: a real Llama with weights at random, and a token for each character."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import torch

from autodidact.catalog.extras import need
from autodidact.lm.local import LocalLM

PAD, END = "<pad>", "<end>"


def characters(texts: Iterable[str]) -> list[str]:
    """The characters that occur in texts, in order of their code points: the symbols of a tiny model of them."""
    return sorted(set().union(*texts))


def tiny_lm(
    symbols: Sequence[str],
    *,
    width: int = 64,
    depth: int = 2,
    heads: int = 2,
    context: int = 128,
    seed: int = 0,
) -> LocalLM:
    """A small model that shares every line with the large ones, and needs neither file nor network.

    Token 0 is padding, token 1 the end, the others are the symbols in their order. Text is cut into symbols from the
    left, the longest that fits first.

    Parameters
    ----------
    symbols : characters, and longer texts that are to be one token each; a text gives its characters.
    width : of the hidden states, a multiple of twice the heads; the MLP is four times as wide.
    depth : layers, from 1.
    context : tokens that prompt and completion may have together.
    seed : of the weights, which follow from it and the sizes alone.

    Raises
    ------
    ValueError : no symbols, an empty one or one of the two above, or sizes that do not go together.
    """
    transformers = need("transformers", "language", "a tiny language model")
    names = list(dict.fromkeys(symbols))
    if not names or "" in names or {PAD, END} & set(names):
        raise ValueError(f"symbols are one or more texts that are not empty, nor {PAD} or {END}; got {names}")
    if min(width, depth, heads, context) < 1 or width % (2 * heads):
        raise ValueError(
            f"width must be a multiple of twice the heads, and depth and context at least 1; got width {width}, "
            f"heads {heads}, depth {depth}, context {context}"
        )
    config = transformers.LlamaConfig(
        vocab_size=2 + len(names),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        max_position_embeddings=context,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = transformers.LlamaForCausalLM(config)
    return LocalLM(module, _tokenizer(names), label="tiny").eval()


def _tokenizer(symbols: Sequence[str]) -> object:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    longest_first = "|".join(re.escape(symbol) for symbol in sorted(symbols, key=len, reverse=True))
    # What has no token becomes padding, which no text holds, so that it is noticed; a token of its own would be one
    # more that the model can say.
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate([PAD, END, *symbols])}, unk_token=PAD))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(rf"{longest_first}|[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=PAD)
