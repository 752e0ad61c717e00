"""Single requests to a language model, and answers handed over as they arrive: what wrappers and endpoints work on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from json import dumps
from typing import Any, cast

import numpy as np
from jaxtyping import Float64

from autodidact.lm.lm import LM, Asked, Capability, Completion, Finish, Message, Prompt, Sampling, Score, check_options

REFUSED: Finish = "refused"
"""How a completion ends that the model or its filter withheld; its text is what was said instead, often nothing."""

Answer = Completion | Score | Float64[np.ndarray, " c"]


@dataclass(frozen=True)
class Draw:
    """One sample of a prompt.

    Attributes
    ----------
    prompt : what is asked.
    sampling : how it is drawn; its n counts as 1.
    sample : which of the prompt's samples it is, from 0.
    """

    prompt: Prompt
    sampling: Sampling
    sample: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "sampling", replace(self.sampling, n=1))

    def plain(self) -> dict[str, Any]:
        """JSON-ready; without n, so that whoever asks for more samples meets the first ones again."""
        sampling = self.sampling.plain()
        del sampling["n"]
        return {"call": "generate", "prompt": self.prompt.plain(), "sampling": sampling, "sample": self.sample}


@dataclass(frozen=True)
class Scoring:
    """A completion whose tokens are scored after a prompt; `end` as in `LM.score`."""

    prompt: Prompt
    completion: str
    end: bool = True

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"call": "score", "prompt": self.prompt.plain(), "completion": self.completion, "end": self.end}


@dataclass(frozen=True)
class Choosing:
    """A choice between options after a prompt; `divided` as in `LM.choose`."""

    prompt: Prompt
    options: tuple[str, ...]
    divided: bool = True

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""
        told = {} if self.divided else {"divided": False}
        return {"call": "choose", "prompt": self.prompt.plain(), "options": list(self.options), **told}


Request = Draw | Scoring | Choosing


def request_of(plain: dict[str, Any]) -> Request:
    """The request that `plain` was made from."""
    prompt = Prompt(tuple(Message(one["role"], one["content"]) for one in plain["prompt"]))
    if plain["call"] == "generate":
        return Draw(prompt, Sampling(**plain["sampling"]), plain["sample"])
    if plain["call"] == "score":
        return Scoring(prompt, plain["completion"], plain["end"])
    return Choosing(prompt, tuple(plain["options"]), plain.get("divided", True))


def plain_answer(answer: Answer) -> Any:
    """JSON-ready."""
    if isinstance(answer, Completion):
        return asdict(answer)
    return list(answer.logprobs) if isinstance(answer, Score) else answer.tolist()


def answer_of(request: Request, plain: Any) -> Answer:
    """The answer to a request that `plain_answer` was made from."""
    if isinstance(request, Scoring):
        return Score(tuple(plain))
    if isinstance(request, Choosing):
        return np.array(plain, dtype=np.float64)
    listed = {name: None if plain[name] is None else tuple(plain[name]) for name in ("tokens", "logprobs")}
    return Completion(**{**plain, **listed})


def key(model: str, request: Request) -> str:
    """The same for the same request to the model of the same name, and for no other."""
    return sha256(dumps([model, request.plain()], sort_keys=True).encode()).hexdigest()


class Unfinished(RuntimeError):
    """A call ended before all its requests were answered.

    Attributes
    ----------
    answered : the requests whose answers had arrived, in their order, each with its answer; they are paid for.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.answered: list[tuple[Request, Answer]] = []


class Answering(LM):
    """A model that answers single requests and hands each answer over as it arrives."""

    @abstractmethod
    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        """Answers in the order of their arrival, each with the position of its request.

        Where a request fails, the answers that are already under way are handed over before the error is raised.
        """

    def generate(self, prompts: Sequence[Asked], sampling: Sampling) -> list[list[Completion]]:
        asked = [Prompt.of(prompt) for prompt in prompts]
        found = self._all([Draw(prompt, sampling, sample) for prompt in asked for sample in range(sampling.n)])
        return [cast(list[Completion], found[i : i + sampling.n]) for i in range(0, len(found), sampling.n)]

    def score(self, prompts: Sequence[Asked], completions: Sequence[str], *, end: bool = True) -> list[Score]:
        if len(prompts) != len(completions):
            raise ValueError(f"{len(prompts)} prompts cannot be scored with {len(completions)} completions")
        if not end and "" in completions:
            raise ValueError("an empty completion has nothing to score but its end")
        self.need("scoring", "score")
        asked = [Scoring(Prompt.of(prompt), text, end) for prompt, text in zip(prompts, completions, strict=True)]
        return cast(list[Score], self._all(asked))

    def choose(
        self, prompts: Sequence[Asked], options: Sequence[str], *, divided: bool = True
    ) -> Float64[np.ndarray, "n c"]:
        check_options(options)
        self.need("choosing", "choose")
        rows = self._all([Choosing(Prompt.of(prompt), tuple(options), divided) for prompt in prompts])
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(options))

    def _all(self, requests: Sequence[Request]) -> list[Answer]:
        found: dict[int, Answer] = {}
        try:
            # What has arrived stays in `found` where the rest fails.
            found.update(self.answers(requests))
        except Unfinished as unfinished:
            unfinished.answered.extend((requests[position], found[position]) for position in sorted(found))
            raise
        return [found[position] for position in range(len(requests))]


class Wrapped(Answering):
    """A model around another one: it has its name and its context, and can do what the three calls need."""

    def __init__(self, lm: LM) -> None:
        self.lm = lm

    # Looked up each time: the name of a model that learns changes, and finding out what an endpoint can do costs calls.
    @property
    def name(self) -> str:  # type: ignore[override]
        return self.lm.name

    @property
    def capabilities(self) -> frozenset[Capability]:  # type: ignore[override]
        return self.lm.capabilities - {"latent", "train"}

    @property
    def context(self) -> int | None:  # type: ignore[override]
        return self.lm.context

    def room(self, prompt: Asked) -> int | None:
        return self.lm.room(prompt)

    def need(self, who: str, *capabilities: Capability) -> None:
        if {"latent", "train"} & set(capabilities):
            super().need(who, *capabilities)
        self.lm.need(who, *capabilities)


def innermost(lm: LM) -> LM:
    """The model itself, whatever keeps, counts or records its answers here."""
    while isinstance(lm, Wrapped):
        lm = lm.lm
    return lm


def answers(lm: LM, requests: Sequence[Request], *, together: int = 32) -> Iterator[tuple[int, Answer]]:
    """Answers of any model in the order of their arrival, each with the position of its request.

    A model that is not `Answering` is called with about so many requests at a time; the samples of a prompt stay
    together. It draws them from the first: those that nobody asked for are drawn and dropped.
    """
    if isinstance(lm, Answering):
        yield from lm.answers(requests)
        return
    for positions in _batches(requests, together):
        yield from zip(positions, _called(lm, [requests[position] for position in positions]), strict=True)


def _batches(requests: Sequence[Request], together: int) -> Iterator[list[int]]:
    """Positions of requests that one call can answer."""
    bundles: dict[Any, list[int]] = {}
    for position, request in enumerate(requests):
        bundles.setdefault((_called_with(request), request.prompt), []).append(position)
    batches: dict[Any, list[int]] = {}
    for (called_with, _), positions in bundles.items():
        samples = [request.sample for request in (requests[i] for i in positions) if isinstance(request, Draw)]
        batch = batches.setdefault((called_with, max(samples, default=0)), [])
        batch.extend(positions)
        if len(batch) >= together:
            yield batch.copy()
            batch.clear()
    yield from filter(None, batches.values())


def _called_with(request: Request) -> Any:
    """Equal for requests that one call can answer."""
    if isinstance(request, Draw):
        return request.sampling
    return request.end if isinstance(request, Scoring) else (request.options, request.divided)


def _called(lm: LM, requests: Sequence[Any]) -> Sequence[Answer]:
    first = requests[0]
    if isinstance(first, Scoring):
        return lm.score([one.prompt for one in requests], [one.completion for one in requests], end=first.end)
    if isinstance(first, Choosing):
        return list(lm.choose([one.prompt for one in requests], first.options, divided=first.divided))
    wanted = list(dict.fromkeys(one.prompt for one in requests))
    drawn = lm.generate(wanted, replace(first.sampling, n=1 + max(one.sample for one in requests)))
    samples = dict(zip(wanted, drawn, strict=True))
    return [samples[one.prompt][one.sample] for one in requests]
