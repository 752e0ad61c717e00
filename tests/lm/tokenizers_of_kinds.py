"""Tokenizers of the kinds that real models have, with a few tokens, and models at random for them."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedTokenizerFast

from autodidact.lm.local import LocalLM


def with_tokenizer(tokenizer: Any) -> LocalLM:
    """A model whose norms compute in float64 too, where it is asked to."""
    config = GPT2Config(
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=64,
        vocab_size=len(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return LocalLM(AutoModelForCausalLM.from_config(config), tokenizer).eval()


def pieces_tokenizer() -> PreTrainedTokenizerFast:
    """One of SentencePiece's kind: a space is put before a text, and texts begin with <s>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    vocabulary = {
        name: i for i, name in enumerate(["</s>", "<s>", "▁", "a", "b", "c", "\n", "▁a", "▁b", "ab", "=", "▁="])
    }
    merges = [("▁", "a"), ("▁", "b"), ("a", "b"), ("▁", "=")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def bytewise_tokenizer() -> PreTrainedTokenizerFast:
    """One of GPT-2's kind, whose merges cross the seam of "c=" and "ab"."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = ["<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = [("a", "b"), ("=", "ab"), ("Ġ", "a")]
    names = [*letters, *("".join(merge) for merge in merges)]
    tokenizer = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
