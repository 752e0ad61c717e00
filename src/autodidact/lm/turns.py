"""A second turn: a model reads its own first answer and is asked again."""

from __future__ import annotations

from collections.abc import Sequence

from autodidact.lm.lm import LM, Asked, Completion, Message, Prompt, Sampling
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Task

AGAIN = "\nThere may be a mistake in the answer above. Look at it again, and write the right answer.\nOutput:"
"""Asks for a second answer, and does not say whether the first was right (SCoRe, 2409.12917, section 3)."""


def asked_again(lm: LM, prompt: Asked, first: Completion, request: str = AGAIN) -> Prompt:
    """The prompt for a second answer.

    A model that runs here reads the very tokens that it drew, the text that ended them among these. Any other reads the
    text of the first answer.

    Parameters
    ----------
    request : a further message of the user, for models that tell turns apart; else what follows the first answer. Empty
        where nothing does.
    """
    begun = Prompt.of(prompt)
    if isinstance(lm, LocalLM) and first.tokens is not None:
        return lm.wording.continued(begun, first.tokens, first.text, request, lm.ends)
    said = Message("assistant", first.text)
    return begun.then(said, Message("user", request)) if request else begun.then(said)


def two_answers(
    lm: LM, task: Task, inputs: Sequence[str], request: str = AGAIN, sampling: Sampling | None = None
) -> list[tuple[str, str]]:
    """A first answer to each input, and a second one after it, without spaces around them.

    Parameters
    ----------
    sampling : how both are drawn, one of each; default the likeliest ones, cut off and ended as the task has it.
    """
    sampling = sampling or Sampling(max_tokens=task.max_tokens, temperature=0.0, stop=task.style.stop)
    prompts = [task.prompt(text) for text in inputs]
    first = [found[0] for found in lm.generate(prompts, sampling)]
    again = [asked_again(lm, prompt, one, request) for prompt, one in zip(prompts, first, strict=True)]
    second = [found[0] for found in lm.generate(again, sampling)]
    return [(a.text.strip(), b.text.strip()) for a, b in zip(first, second, strict=True)]
