"""A language model behind an address that speaks OpenAI's protocol. It knows nothing of budgets or caches."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from functools import cached_property
from hashlib import sha256
from threading import Event
from typing import Any

import numpy as np

from autodidact.lm.answering import REFUSED, Answer, Answering, Choosing, Draw, Request, Scoring
from autodidact.lm.connection import Connection, Rejected, Route
from autodidact.lm.ledger import Meter, Spent, most
from autodidact.lm.lm import Capability, Completion, Finish, Incapable, Prompt, Sampling, Score, shares_of
from autodidact.lm.retrying import Retries

_TOP = (20, 5)
"""Likeliest first tokens that are asked for: as many as most servers tell, or as few as the others do."""
_FINISHES: dict[str | None, Finish] = {
    **dict.fromkeys((None, "stop", "eos", "eos_token", "stop_sequence"), "stop"),
    **dict.fromkeys(("length", "max_tokens"), "length"),
}
"""Reasons by which servers say that a completion ended. With any other, such as a filter, it is not what was asked."""
_UNBENT = {"top_k": 0, "top_p": 1}
"""Entries of a request that not every server takes, and the value of the sampling where they are not sent."""
_WRONGLY_ASKED = (400, 404, 405, 415, 422, 501)
"""Status of an answer to what a server does not offer."""


class EndpointLM(Answering):
    """A model behind any address that speaks OpenAI's protocol: OpenAI, vLLM, SGLang, llama.cpp, Ollama, a proxy.

    Every sample is a request of its own, for many servers know no ``n``; the first is asked for with the seed of the
    sampling, the others with seeds that follow from it. Whether a server heeds a seed cannot be seen, so the model does
    not count as "seeded". Temperature and top_p are applied by the server; top_k is sent where it is not 0, and top_p
    where it is not 1, which not every server takes: the error then says how to ask without it, and nothing is changed
    silently. Texts that end a completion are cut off here too.

    What the server can do is found out by asking it, once, when `capabilities` is first looked at:

    - choose, where it tells the likeliest first tokens. An option must then be one token as the server writes it, and
      among the likeliest; otherwise the choice is refused, unless the texts can be scored.
    - score, where it tells the log-probabilities of the prompt (``echo``) of a model that is not spoken to in turns.
      The end of a text can be scored only where the text of the end token is given.

    A request that no attempt brings an answer to raises `Unreachable`, one that the server calls wrong `Rejected`; both
    carry what had been answered before, and what was under way is waited for first, since it is paid for.

    A completion that the model or the server's filter withheld ends in "refused". Log-probabilities of what it wrote
    are not asked for, because servers differ in whether they are those before or after the temperature.

    Parameters
    ----------
    model : its name on the server.
    address : the base URL, most often ending in ``/v1``.
    chat : speak in turns, through ``/chat/completions``. False continues the text of the prompt, through
        ``/completions``: for base models.
    key : environment variable with the key. Without it none is sent; servers of one's own need none.
    threads : requests that are under way together.
    timeout : seconds after which an attempt has failed.
    retries : how often and when a request is tried again: after 408, 409, 425, 429 and 5xx (as late as Retry-After
        asks), time-outs, refused or dropped connections, and answers that are not whole or not JSON.
    end : text of the end token, which the tokenizer of the server reads as one token.
    extra : further entries of each request; None leaves out one that would be sent.

    Attributes
    ----------
    meter : what the server has told that its answers cost; all of them, also those that found out what it can do.

    Raises
    ------
    ValueError : the address is none, or has a user, a password or a query, which may be secret.
    """

    def __init__(
        self,
        model: str,
        address: str = "https://api.openai.com/v1",
        *,
        chat: bool = True,
        key: str = "OPENAI_API_KEY",
        threads: int = 8,
        timeout: float = 600.0,
        retries: Retries | None = None,
        end: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self.model = model
        self.key = key
        self.chat = chat
        self.meter = Meter()
        self.known = {}
        self._connection = Connection(address, key=key, timeout=timeout, retries=retries or Retries())
        self._threads = threads
        self._end = end
        self._extra = dict(extra or {})
        told = f" {sha256(json.dumps(self._extra, sort_keys=True).encode()).hexdigest()[:8]}" if self._extra else ""
        self.name = f"{model}@{self._connection.address}{'' if chat else ' without turns'}{told}"

    @property
    def where(self) -> str:
        """What a person types for it, see `autodidact.lm.names.open_lm`."""
        return f"{self._connection.address}#{self.model}"

    @cached_property
    def capabilities(self) -> frozenset[Capability]:  # type: ignore[override]
        able: set[Capability] = {"generate"}
        if self.chat:
            able.add("chat")
        if self._echoes:
            able.update(("score", "choose"))
        if self._top:
            able.add("choose")
        return frozenset(able)

    def need(self, who: str, *capabilities: Capability) -> None:
        # What it can do beside generating is found out by requests, which are paid for.
        if set(capabilities) - {"generate"}:
            super().need(who, *capabilities)

    def answers(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        if not requests:
            return
        stop = Event()
        failed: BaseException | None = None
        with ThreadPoolExecutor(min(self._threads, len(requests)), thread_name_prefix="endpoint") as pool:
            try:
                positions: dict[Future[Answer | None], int] = {
                    pool.submit(self._unless, stop, request): position for position, request in enumerate(requests)
                }
                for future in as_completed(positions):
                    error = future.exception()
                    if error is None and (answer := future.result()) is not None:
                        yield positions.pop(future), answer
                    failed = failed or error
            finally:
                stop.set()
        if failed is not None:
            raise failed

    def _unless(self, stop: Event, request: Request) -> Answer | None:
        """The answer; None where another request has failed before this one began."""
        if stop.is_set():
            return None
        try:
            if isinstance(request, Draw):
                return self._draw(request, stop)
            if isinstance(request, Scoring):
                return self._score(request, stop)
            return self._choose(request, stop)
        except Exception:
            # What is under way is paid for and still handed over; nothing new is begun.
            stop.set()
            raise

    def _draw(self, request: Draw, stop: Event) -> Completion:
        try:
            answer = self._ask(self._body(request), request, stop)
        except Rejected as rejected:
            if rejected.filtered:
                return Completion("", REFUSED, sample=request.sample)
            if cure := _cure(str(rejected), request.sampling):
                raise Rejected(f"{rejected}; {cure}", rejected.status) from None
            raise
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        said = choice["message"] if self.chat else {"content": choice["text"]}
        text, finish = said.get("content") or "", _FINISHES.get(choice.get("finish_reason"), REFUSED)
        if said.get("refusal"):
            text, finish = text or said["refusal"], REFUSED
        for ending in request.sampling.stop:
            if ending in text:
                text, finish = text.partition(ending)[0], finish if finish == REFUSED else "stop"
        return Completion(
            text,
            finish,
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            sample=request.sample,
        )

    def _score(self, request: Scoring, stop: Event) -> Score:
        if request.end and self._end is None:
            raise Incapable(
                f"{self.name} cannot score the end of a text unless the text of the end token is given (end='</s>', "
                f"say); without it, score with end=False"
            )
        text = request.completion + (self._end or "" if request.end else "")
        body = {"prompt": request.prompt.text + text, "echo": True, "logprobs": 1, "max_tokens": 0}
        told = self._ask({**self._plainly, **body}, request, stop)["choices"][0]["logprobs"]
        return Score(_logprobs_of_end(text, told["tokens"], told["token_logprobs"], self.name))

    def _choose(self, request: Choosing, stop: Event) -> np.ndarray:
        likeliest = self._first_token(request.prompt, self._top, request, stop) if self._top else {}
        missing = [option for option in request.options if option not in likeliest]
        if missing and not self._echoes and (request.divided or not likeliest):
            raise Incapable(
                f"{self.name} tells no probability of {missing[0]!r}: an option must be one token, as the model writes "
                f"it, and among the {self._top} likeliest, which are {', '.join(map(repr, likeliest))}"
            )
        if missing and self._echoes:
            scores = [self._score(Scoring(request.prompt, option, False), stop) for option in request.options]
            logprobs = np.array([score.total for score in scores])
        else:
            logprobs = np.array([likeliest.get(option, -np.inf) for option in request.options])
        return shares_of(logprobs, request.divided)

    @property
    def _top(self) -> int:
        """How many of the likeliest first tokens the server tells; 0 where it tells none."""
        return int(self._found("top", self._most_told))

    def _most_told(self) -> int:
        probe = Choosing(Prompt.of("Yes or no?"), ("Yes", "No"))
        for number in _TOP:
            try:
                if self._first_token(probe.prompt, number, probe, Event()):
                    return number
            except Rejected as rejected:
                if rejected.status not in _WRONGLY_ASKED:
                    raise
        return 0

    @property
    def _echoes(self) -> bool:
        """Whether the server tells the log-probabilities of a prompt."""
        return not self.chat and bool(self._found("echoes", self._scores))

    def _found(self, name: str, find: Callable[[], int]) -> int:
        """What is known by this name, or is found out now."""
        assert self.known is not None
        if name not in self.known:
            self.known[name] = find()
        return self.known[name]

    def _scores(self) -> bool:
        try:
            self._score(Scoring(Prompt.of("Yes or"), " no", False), Event())
        except Rejected as rejected:
            if rejected.status not in _WRONGLY_ASKED:
                raise
            return False
        except (KeyError, TypeError, ValueError):
            return False
        return True

    @property
    def _plainly(self) -> dict[str, Any]:
        """A request without turns in which nothing bends the probabilities."""
        return {"model": self.model, "temperature": 1.0, "top_p": 1.0}

    def _first_token(self, prompt: Prompt, number: int, request: Request, stop: Event) -> dict[str, float]:
        """Log-probabilities of the likeliest first tokens; empty where the server tells none."""
        asked = {"logprobs": True, "top_logprobs": number} if self.chat else {"logprobs": number}
        body = {**self._plainly, self._length: 1, **self._asked(prompt), **asked}
        told = self._ask(body, request, stop)["choices"][0].get("logprobs") or {}
        # llama.cpp answers without turns in the format of those with turns.
        if told.get("content"):
            pairs = [(one["token"], one["logprob"]) for one in told["content"][0].get("top_logprobs") or ()]
        else:
            pairs = list(((told.get("top_logprobs") or [{}])[0] or {}).items())
        summed: dict[str, float] = {}
        for token, logprob in pairs:
            summed[token] = float(np.logaddexp(summed.get(token, -np.inf), logprob))
        return summed

    @property
    def _length(self) -> str:
        # OpenAI's own newer models refuse the old name, and other servers do not know the new one.
        theirs = self._connection.host.endswith(("api.openai.com", "openai.azure.com"))
        return "max_completion_tokens" if self.chat and theirs else "max_tokens"

    def _asked(self, prompt: Prompt) -> dict[str, Any]:
        return {"messages": prompt.plain()} if self.chat else {"prompt": prompt.text}

    def _body(self, request: Draw) -> dict[str, Any]:
        sampling = request.sampling
        body = {
            "model": self.model,
            **self._asked(request.prompt),
            self._length: sampling.max_tokens,
            "temperature": sampling.temperature,
            "seed": _seed(sampling, request.sample),
        }
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        return body

    def _ask(self, body: dict[str, Any], request: Request, stop: Event) -> dict[str, Any]:
        """The server's answer to a body, which asks for (a part of) the answer to a request."""
        sent = {name: value for name, value in {**body, **self._extra}.items() if value is not None}
        route: Route = "/chat/completions" if self.chat else "/completions"
        answer = self._connection.post(route, sent, given_up=stop.is_set)
        usage, bound = answer.get("usage") or {}, most(request)
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if prompt is None or completion is None:
            self.meter.add(Spent(1, bound.prompt_tokens, bound.completion_tokens, untold=1))
        else:
            self.meter.add(Spent(1, prompt, completion))
        return answer


def _cure(said: str, sampling: Sampling) -> str:
    """How to ask without what a server says that it does not take; empty where it says something else."""
    for name, unbent in _UNBENT.items():
        sent = getattr(sampling, name)
        if sent != unbent and re.search(rf"\b{name}\b", said):
            return (
                f"the request asks for {name} {sent:g}, and {unbent} leaves it out: --method.{name} {unbent}, and the "
                f"same for further options of the method that end in {name}, such as --method.vote_{name}"
            )
    return ""


def _seed(sampling: Sampling, sample: int) -> int:
    """Of a sample: that of the first is the sampling's, and no two samples of neighbouring seeds have the same."""
    if sample == 0:
        return sampling.seed
    return int.from_bytes(sha256(f"{sampling.seed} {sample}".encode()).digest()[:4]) >> 1


def _logprobs_of_end(
    text: str, tokens: Sequence[str], logprobs: Sequence[float | None], name: str
) -> tuple[float, ...]:
    """Log-probabilities of the last tokens, those whose texts together are `text`."""
    start, left = len(tokens), len(text)
    while start > 0 and left > 0:
        start -= 1
        left -= len(tokens[start])
    told = tuple(logprob for logprob in logprobs[start:] if logprob is not None)
    # A token without a text is the beginning of a character: nobody can tell on which side of the boundary it is.
    unclear = start == 0 or left < 0 or tokens[start - 1] == ""
    if unclear or "".join(tokens[start:]) != text or len(told) < len(tokens) - start:
        raise ValueError(
            f"{name} reads no token boundary between a prompt and its completion {text!r}: the last tokens are "
            f"{', '.join(map(repr, tokens[start:]))}; move the boundary, such as a space, to the other side"
        )
    return told
