"""A model that says what a script says, and remembers what it was asked: for tests, and to replay transcripts."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from threading import Lock

import numpy as np

from autodidact.catalog import unknown
from autodidact.lm.answering import Answer, Answering, Choosing, Draw, Request, Scoring
from autodidact.lm.lm import Capability, Completion, Score, shares_of

Line = str | Sequence[str] | Mapping[str, float]
"""What is said to a prompt: one text; a text for each sample; or texts with their log-probabilities in nats."""

WORD = re.compile(r"\s*\S+\s*$|\s*\S+|\s+$")


def words(text: str) -> list[str]:
    """What counts as a token of a scripted model: a word with the spaces before it, and those at the end."""
    return WORD.findall(text)


class ScriptedLM(Answering):
    """A model with a script.

    A line with log-probabilities is a distribution: temperature 0 takes its likeliest text, any other draws from the
    probabilities to the power of 1 / temperature, by seed, prompt and sample; top_p and top_k do not matter. Its texts
    can be scored and chosen between, where a text that is said anyway has probability 1. The log-probability of a text
    lies on its first word; the words after it and the end are certain.

    Parameters
    ----------
    script : line by prompt text, or what gives the line for a prompt text.
    name : its name.
    capabilities : what it admits to; default all that it can do.

    Attributes
    ----------
    calls : the requests of each call, in order.
    """

    def __init__(
        self,
        script: Mapping[str, Line] | Callable[[str], Line],
        *,
        name: str = "scripted",
        capabilities: Iterable[Capability] = ("generate", "score", "choose", "chat", "seeded"),
    ) -> None:
        self.name = name
        self.capabilities = frozenset(capabilities)
        self.calls: list[tuple[Request, ...]] = []
        self._script = script

    @property
    def asked(self) -> list[str]:
        """Texts of the prompts of all requests, in order."""
        return [request.prompt.text for call in self.calls for request in call]

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        self.calls.append(tuple(requests))
        for position, request in enumerate(requests):
            yield position, self._answer(request)

    def _answer(self, request: Request) -> Answer:
        line = self._line(request.prompt.text)
        if isinstance(request, Draw):
            return self._draw(line, request)
        if isinstance(request, Scoring):
            text = words(request.completion)
            return Score(_spread(_stated(line, request.completion), len(text) + request.end))
        logprobs = np.array([_stated(line, option) for option in request.options])
        return shares_of(logprobs, request.divided)

    def _line(self, prompt: str) -> Line:
        if callable(self._script):
            return self._script(prompt)
        if prompt not in self._script:
            raise unknown(f"prompt of {self.name}", prompt, self._script)
        return self._script[prompt]

    def _draw(self, line: Line, request: Draw) -> Completion:
        sampling = request.sampling
        text = _said(line, request)
        logprob = _stated(line, text) if isinstance(line, Mapping) else 0.0
        for stop in sampling.stop:
            text = text.partition(stop)[0]
        said = words(text)
        cut = len(said) > sampling.max_tokens
        said = said[: sampling.max_tokens]
        return Completion(
            "".join(said),
            "length" if cut else "stop",
            logprobs=_spread(logprob, len(said) + (not cut)),
            prompt_tokens=len(words(request.prompt.text)),
            completion_tokens=len(said) + (not cut),
            sample=request.sample,
        )


def _said(line: Line, request: Draw) -> str:
    if isinstance(line, str):
        return line
    if not isinstance(line, Mapping):
        if request.sample >= len(line):
            raise ValueError(f"the script has {len(line)} samples of {request.prompt.text!r}, not {request.sample + 1}")
        return line[request.sample]
    texts, logprobs = list(line), np.array(list(line.values()), dtype=np.float64)
    if request.sampling.temperature == 0:
        return texts[int(logprobs.argmax())]
    weights = np.exp((logprobs - logprobs.max()) / request.sampling.temperature)
    origin = f"{request.sampling.seed} {request.sample} {request.prompt.digest}"
    generator = np.random.default_rng(int(sha256(origin.encode()).hexdigest(), 16))
    return texts[int(generator.choice(len(texts), p=weights / weights.sum()))]


def _stated(line: Line, text: str) -> float:
    """Log-probability of a text, in nats."""
    if isinstance(line, str):
        stated: Mapping[str, float] = {line: 0.0}
    else:
        stated = line if isinstance(line, Mapping) else {}
    if text not in stated:
        raise unknown("text without a log-probability in the script,", text, stated)
    return stated[text]


def _spread(logprob: float, tokens: int) -> tuple[float, ...]:
    return (logprob, *[0.0] * (tokens - 1)) if tokens else ()


class Replayed(ScriptedLM):
    """A model that gives known answers to known requests, and to no other.

    Parameters
    ----------
    answers : pairs of request and answer. A request that occurs several times is answered in their order; the last
        answer stays.
    name : of the model that gave them.
    """

    def __init__(self, answers: Iterable[tuple[Request, Answer]], name: str) -> None:
        super().__init__({}, name=name)
        self._left: dict[Request, deque[Answer]] = {}
        self._turn = Lock()
        for request, answer in answers:
            self._left.setdefault(request, deque()).append(answer)

    def _answer(self, request: Request) -> Answer:
        with self._turn:
            left = self._left.get(request)
            if left is None:
                told = {Draw: "a sample of", Scoring: "a score after", Choosing: "a choice after"}[type(request)]
                raise ValueError(f"the transcript of {self.name} has no such request: {told} {request.prompt.text!r}")
            return left.popleft() if len(left) > 1 else left[0]
