"""Between texts and tokens: how a prompt is put to a model, and what its tokens say after it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autodidact.lm.lm import Message, Prompt, Tokens

_MARK = "0a1b2c3d4e"
"""Stands for an answer where a template is looked at."""


class Wording:
    """A tokenizer of transformers, as a model is asked and answers through it.

    Prompts go through its chat template where it has one; else their texts follow one another, after the token that it
    begins texts with. Completions are tokens that follow the prompt's, whatever the tokenizer does to a text that
    stands alone.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._opening = _opening(tokenizer)
        # Texts whose tokens stay what they are when others follow, to tokenise what follows behind them.
        self._anchors = ("\n", "=", "a") if _joins_with_spaces(tokenizer) else ()

    def prompt_ids(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Tokens of prompts.

        Raises
        ------
        ValueError : a prompt that comes to no tokens, or holds what the tokenizer has no token for.
        """
        worded = [prompt for prompt in prompts if not isinstance(prompt, Tokens)]
        if self.tokenizer.chat_template:
            found = [self._rendered(prompt) for prompt in worded]
        else:
            found = [[*self._opening, *ids] for ids in self._ids([prompt.text for prompt in worded])]
        for prompt, ids in zip(worded, found, strict=True):
            if not ids:
                raise ValueError(f"the prompt {prompt.text!r} holds nothing that the tokenizer reads")
            self._must_be_known(prompt.text, ids)
        left = iter(found)
        return [list(prompt.ids) if isinstance(prompt, Tokens) else next(left) for prompt in prompts]

    def _rendered(self, prompt: Prompt) -> list[int]:
        goes_on = prompt.messages[-1].role == "assistant"
        ids = self.tokenizer.apply_chat_template(
            prompt.plain(), add_generation_prompt=not goes_on, continue_final_message=goes_on, return_dict=False
        )
        return list(ids)

    def continued(self, prompt: Prompt, answer: Sequence[int], text: str, request: str, ends: Sequence[int]) -> Tokens:
        """What is read for a further answer: a prompt, the very tokens of the answer to it, and a request.

        Parameters
        ----------
        answer : tokens as they were drawn. An end token at their end gives way to what the template closes an answer
            with, or without a template to nothing.
        text : what they say.
        request : a user's next message, or without a template what follows; may be empty without one.
        ends : the tokens that end an answer.

        Raises
        ------
        ValueError : the template does not show earlier answers as they were.
        """
        (before,) = self.prompt_ids([prompt])
        said = list(answer[:-1] if answer and answer[-1] in ends else answer)
        whole = prompt.then(Message("assistant", text), *((Message("user", request),) if request else ()))
        if not self.tokenizer.chat_template:
            return Tokens(whole.messages, (*before, *said, *self.answer_ids([request])[0]))
        shown = prompt.then(Message("assistant", _MARK), Message("user", request))
        rendered = self.tokenizer.apply_chat_template(shown.plain(), add_generation_prompt=True, tokenize=False)
        if rendered.count(_MARK) != 1:
            raise ValueError("the chat template does not show earlier answers as they were, so none can be corrected")
        return Tokens(whole.messages, (*before, *said, *self._ids([rendered.partition(_MARK)[2]])[0]))

    def answer_ids(self, texts: list[str]) -> list[list[int]]:
        """Tokens of texts that follow something else.

        Raises
        ------
        ValueError : a text that holds what the tokenizer has no token for.
        """
        found = self._ids(texts)
        due = list(range(len(texts)))
        for anchor in self._anchors:
            (before,) = self._ids([anchor])
            both = dict(zip(due, self._ids([anchor + texts[row] for row in due]), strict=True))
            due = [row for row in due if both[row][: len(before)] != before]
            for row in both.keys() - set(due):
                found[row] = both[row][len(before) :]
        for text, ids in zip(texts, found, strict=True):
            self._must_be_known(text, ids)
        return found

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []

    def _must_be_known(self, text: str, ids: list[int]) -> None:
        unknown = self.tokenizer.unk_token_id
        if unknown is not None and unknown in ids and self.tokenizer.unk_token not in text:
            strange = [letter for letter in dict.fromkeys(text) if unknown in self._ids([letter])[0]]
            raise ValueError(f"{text!r} holds what the tokenizer has no token for: {' '.join(map(repr, strange))}")

    def text(self, ids: Sequence[int]) -> str:
        """What tokens say that follow something else."""
        before: list[int] = self._ids([self._anchors[0]])[0] if self._anchors else []
        whole = self._decoded([*before, *ids])
        return whole[len(self._decoded(before)) :] if before else whole

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def closing(self, ends: Sequence[int]) -> int | None:
        """Which of several end tokens the template closes an answer with; without a template the first."""
        if self.tokenizer.chat_template:
            asked = Prompt.of("a").plain()
            before = self._rendered(Prompt.of("a"))
            whole = self.tokenizer.apply_chat_template(
                [*asked, {"role": "assistant", "content": "a"}], return_dict=False
            )
            if whole[: len(before)] == before:
                for token in whole[len(before) :]:
                    if token in ends:
                        return int(token)
        return ends[0] if ends else None


def _opening(tokenizer: Any) -> list[int]:
    """The tokens that a tokenizer begins texts with; what it may put at their end does not belong to a prompt."""
    framed, bare = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    places = [place for place in range(len(framed)) if bare and framed[place : place + len(bare)] == bare]
    return list(framed[: places[0]]) if places else []


def _joins_with_spaces(tokenizer: Any) -> bool:
    """Whether tokens of a text by itself say something else when they follow others, as with SentencePiece."""
    ids = tokenizer("a", add_special_tokens=False)["input_ids"]
    once = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return bool(
        tokenizer.decode([*ids, *ids], skip_special_tokens=True, clean_up_tokenization_spaces=False) != once * 2
    )


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a folder or of a name on the hub."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    described = Path(name) / "tokenizer_config.json"
    declared = json.loads(described.read_text()).get("tokenizer_class") if described.is_file() else None
    # AutoTokenizer prefers the class that it knows for some architectures (Qwen2) to what a folder says of itself, and
    # that class reads another tokenizer out of the same tokenizer.json.
    generic = declared in ("TokenizersBackend", "PreTrainedTokenizerFast")
    kind = PreTrainedTokenizerFast if generic else AutoTokenizer
    return kind.from_pretrained(name, trust_remote_code=False)
