"""What a language model is asked, and how it is to answer: what makes no sense is said before any model is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autodidact.lm.lm import LM, Message, Prompt, Sampling
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.tiny import tiny_lm

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"n": -2}, "n must be at least 1, got -2"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"top_k": -1}, "top_k must be at least 0, got -1"),
        ({"temperature": -0.1}, "temperature must be 0 or more, got -0.1"),
        ({"temperature": float("inf")}, "temperature must be 0 or more, got inf"),
        ({"temperature": float("nan")}, "temperature must be 0 or more, got nan"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\], got 0.0"),
        ({"top_p": 1.1}, r"top_p must be in \(0, 1\], got 1.1"),
        ({"stop": ("a", "")}, "an empty text cannot end a completion"),
    ],
)
def test_sampling_that_makes_no_sense_is_refused_with_what_was_given(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sampling(**given)


def test_the_ends_of_what_sampling_may_be_are_taken() -> None:
    lowest = Sampling(n=1, max_tokens=1, top_k=0, temperature=0.0, top_p=1.0, stop="a")  # type: ignore[arg-type]
    assert (lowest.n, lowest.stop) == (1, ("a",))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (
            [{"type": "text", "text": "What is this?"}, PICTURE],
            r"list \[\{'text': 'What is this\?', 'type': 'text'\}, ",
        ),
        (PICTURE, r"dict \{'image_url': .*'type': 'image_url'\}$"),
        (b"\x89PNG", r"bytes b'\\x89PNG'$"),
        (np.zeros((64, 64, 3)), "ndarray "),
        (None, "NoneType None$"),
    ],
)
def test_a_message_that_is_no_text_is_refused_with_what_it_is(content: Any, named: str) -> None:
    with pytest.raises(ValueError, match=f"a message is a text, and nothing else can be read; got {named}") as raised:
        Message("user", content)
    assert len(str(raised.value)) < 300


def test_a_message_is_of_one_of_three_roles() -> None:
    with pytest.raises(ValueError, match="a message is of system, user, assistant, not of 'tool'"):
        Message("tool", "3")  # type: ignore[arg-type]


@pytest.fixture(params=["scripted", "local"])
def lm(request: pytest.FixtureRequest) -> LM:
    if request.param == "local":
        return tiny_lm("ab", width=4, depth=1, heads=1)
    return ScriptedLM(lambda _: {"a": -1.0, "b": -2.0})


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ([{"role": "user", "content": "a"}], "got dict {'content': 'a', 'role': 'user'} among them"),
        ([Message("user", "a"), PICTURE], "got dict {'image_url': "),
        (["a"], "got str 'a' among them"),
        (np.zeros((64, 64, 3)), "got ndarray "),
        (3, "got int 3"),
    ],
    ids=["a message as a dictionary", "a picture beside a message", "a list of texts", "a picture", "a number"],
)
def test_what_is_no_prompt_is_refused_by_every_call(lm: LM, prompt: Any, said: str) -> None:
    for call in (
        lambda: lm.generate([prompt], Sampling()),
        lambda: lm.score([prompt], ["a"]),
        lambda: lm.choose([prompt], ["a", "b"]),
    ):
        with pytest.raises(ValueError, match="a prompt is a text or messages, ") as raised:
            call()
        assert said in str(raised.value)


def test_a_prompt_is_a_text_or_messages_or_a_prompt() -> None:
    messages = [Message("system", "a"), Message("user", "b")]
    assert Prompt.of("b") == Prompt.of([Message("user", "b")]) == Prompt.of((Message("user", "b"),))
    assert Prompt.of(Prompt.of(messages)) == Prompt(tuple(messages))
