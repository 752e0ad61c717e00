"""The interface of a language model: generate, score, choose. It knows nothing of where the model runs or learns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import MutableMapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from json import dumps
from reprlib import repr as shortened
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64

Role = Literal["system", "user", "assistant"]
Capability = Literal["generate", "score", "choose", "chat", "latent", "train", "seeded"]
"""generate, score, choose: the three calls. chat: it tells turns of a conversation apart. latent: its inner layers can
be read. train: its weights can be changed. seeded: what it samples follows from the seed."""
Finish = Literal["stop", "length", "refused"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    text: str

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise ValueError(f"a message is of {', '.join(get_args(Role))}, not of '{self.role}'")
        if not isinstance(self.text, str):
            raise ValueError(f"a message is a text, and nothing else can be read; got {_named(self.text)}")


def _named(given: object) -> str:
    """Of what type something is, and how it begins."""
    return f"{type(given).__name__} {shortened(given)}"


@dataclass(frozen=True)
class Prompt:
    """What a model is asked: one or several messages.

    A model that knows no turns (a base model without a chat template) reads the texts one after another, with nothing
    between them.
    """

    messages: tuple[Message, ...]

    def __post_init__(self) -> None:
        for message in self.messages:
            if not isinstance(message, Message):
                raise ValueError(f"a prompt is a text or messages, got {_named(message)} among them")
        if not any(message.text for message in self.messages):
            raise ValueError("a prompt must not be empty")

    @classmethod
    def of(cls, given: str | Prompt | Sequence[Message]) -> Prompt:
        """A prompt from a text, which is one message of the user, from messages, or from a prompt."""
        if isinstance(given, Prompt):
            return given
        if not isinstance(given, Sequence):
            raise ValueError(f"a prompt is a text or messages, got {_named(given)}")
        return cls((Message("user", given),) if isinstance(given, str) else tuple(given))

    def then(self, *further: Message) -> Prompt:
        """The conversation with further messages."""
        return Prompt((*self.messages, *further))

    @property
    def text(self) -> str:
        """The texts one after another."""
        return "".join(message.text for message in self.messages)

    def plain(self) -> list[dict[str, str]]:
        """JSON-ready: the messages as dictionaries of role and content, as endpoints and chat templates take them."""
        return [{"role": message.role, "content": message.text} for message in self.messages]

    @property
    def digest(self) -> str:
        """The same for the same prompt, and for no other."""
        return sha256(dumps(self.plain()).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Tokens(Prompt):
    """A prompt that a model reads as given tokens: those of an earlier answer stay what they were when it was drawn.

    Attributes
    ----------
    ids : the tokens, for the model whose tokenizer they are of.
    """

    ids: tuple[int, ...] = ()

    @property
    def digest(self) -> str:
        return sha256(dumps([self.plain(), self.ids]).encode()).hexdigest()[:24]


Asked = str | Prompt | Sequence[Message]
"""What every call takes as a prompt."""


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes
    ----------
    n : completions of each prompt, from 1.
    max_tokens : at which a completion is cut off, from 1.
    temperature : 0 takes the likeliest token each time; 1 draws from the model's own distribution.
    top_p : draw from the likeliest tokens that hold this share of the probability, in (0, 1].
    top_k : draw from so many likeliest tokens; 0 from all.
    stop : texts that end a completion; they are not part of it.
    seed : of the draws. Sample k of a prompt follows from the seed, the prompt and k alone, whatever else is asked in
        the same call, where the model is "seeded".
    """

    n: int = 1
    max_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        for name, least in (("n", 1), ("max_tokens", 1), ("top_k", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be 0 or more, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if "" in self.stop:
            raise ValueError("an empty text cannot end a completion")

    def plain(self) -> dict[str, Any]:
        """JSON-ready, for keys of caches and for transcripts."""
        return {**asdict(self), "stop": list(self.stop)}


@dataclass(frozen=True)
class Completion:
    """One answer.

    Attributes
    ----------
    text : without the text or token that ended it.
    finish : "stop" where the model ended it, or a stop text did; "length" where it was cut off; "refused" where a
        filter, or the model by a refusal, withheld it.
    tokens : ids of the tokens, the end token among them where there is one; None where the model does not tell.
    logprobs : log-probability (nats) of each of these tokens under the model itself, whatever the temperature; None
        where the model does not tell.
    prompt_tokens, completion_tokens : what it cost; None where the model does not tell.
    sample : which of the prompt's samples it is, from 0.
    """

    text: str
    finish: Finish
    tokens: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    sample: int = 0


@dataclass(frozen=True)
class Score:
    """How likely a model holds a given completion to be.

    Attributes
    ----------
    logprobs : log-probability (nats) of each token of the completion after the prompt and the tokens before it; the
        last is that of the end token, where the end was scored.
    """

    logprobs: tuple[float, ...]
    total: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", float(np.sum(np.asarray(self.logprobs, dtype=np.float64))))

    @property
    def mean(self) -> float:
        """Log-probability a token."""
        return self.total / len(self.logprobs)


class Incapable(ValueError):
    """A model was asked for what it cannot do."""


class LM(ABC):
    """A language model, wherever it runs.

    Nothing of a prompt is ever cut. With what is to follow it, it must fit into the context: a model that runs here
    refuses what does not, with the numbers; an address is sent all of it, and its server refuses it or not.

    Attributes
    ----------
    name : tells it apart from every other model, in caches and transcripts too: what is generated must not change while
        the name stays.
    capabilities : what it can do.
    context : tokens that prompt and completion may have together; None where that is not known.
    known : what it found out of itself by calls that cost something, by name, so that a cache of its answers can keep
        that too; None where it is known for nothing.
    """

    name: str
    capabilities: frozenset[Capability]
    context: int | None = None
    known: MutableMapping[str, Any] | None = None

    def need(self, who: str, *capabilities: Capability) -> None:
        """Raise `Incapable`, naming who needs it, for the first capability that the model lacks."""
        for capability in capabilities:
            if capability not in self.capabilities:
                has = ", ".join(sorted(self.capabilities)) or "nothing"
                raise Incapable(f"{who} needs a model that can {capability}; {self.name} can {has}")

    def room(self, prompt: Asked) -> int | None:
        """Tokens that may follow a prompt, below 0 where it is too long itself; None where that is not known here."""
        return None

    @abstractmethod
    def generate(self, prompts: Sequence[Asked], sampling: Sampling) -> list[list[Completion]]:
        """Completions of each prompt, in the order of the prompts, `sampling.n` each.

        Raises
        ------
        ValueError : an empty prompt, or one that with `max_tokens` exceeds the context.
        """

    def score(self, prompts: Sequence[Asked], completions: Sequence[str], *, end: bool = True) -> list[Score]:
        """Log-probabilities of given completions, one a prompt; tokens of the prompt do not count.

        Parameters
        ----------
        end : whether the end of the text is scored too, as one more token. `generate` ends so, so with it the scores of
            all possible completions sum to 1.

        Raises
        ------
        Incapable : the model cannot score.
        ValueError : numbers that differ, an empty completion whose end is not scored, or too long a text.
        """
        raise Incapable(f"{self.name} cannot score texts that it did not write")

    def choose(
        self, prompts: Sequence[Asked], options: Sequence[str], *, divided: bool = True
    ) -> Float64[np.ndarray, "n c"]:
        """Probabilities of a closed set of answers, which sum to 1 in each row.

        They are those of the options' tokens after the prompt, divided by their sum. One pass suffices where every
        option is one token; otherwise the options are scored in full, without their end.

        Parameters
        ----------
        divided : False leaves them as they are among all that the model could say: a row then sums to how likely it is
            to say one of the options at all. Where a model tells only what is likeliest, the rest counts as 0.

        Raises
        ------
        Incapable : the model cannot choose.
        ValueError : fewer than two options, an empty one, or the same one twice.
        """
        check_options(options)
        self.need("choosing", "score")
        scores = self.score([p for p in prompts for _ in options], [o for _ in prompts for o in options], end=False)
        totals = np.array([score.total for score in scores]).reshape(len(prompts), len(options))
        return shares_of(totals, divided)


def shares_of(logprobs: Float64[np.ndarray, "*n c"], divided: bool) -> Float64[np.ndarray, "*n c"]:
    """Probabilities of options from their log-probabilities, divided by their sum or not."""
    if not divided:
        return np.exp(logprobs)
    weights = np.exp(logprobs - logprobs.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def check_options(options: Sequence[str]) -> None:
    """Raise ValueError for options that are no choice."""
    if len(options) < 2 or len(set(options)) < len(options) or "" in options:
        raise ValueError(f"a choice needs two or more different options that are not empty, got {list(options)}")
