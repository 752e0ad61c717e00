"""A server on 127.0.0.1 that speaks OpenAI's protocol for any model, fails as it is told to, and counts."""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any

from autodidact.lm.lm import LM, Incapable, Message, Prompt, Sampling

Failure = str | tuple[int, Mapping[str, Any]] | tuple[int, Mapping[str, Any], Mapping[str, str]]
"""How a request fails: "time-out", "dropped", "truncated", "malformed", "empty"; or a status, an error and headers."""


class Loopback:
    """Serves a model at `address` while its block is open.

    Parameters
    ----------
    lm : the model.
    failures : of the first requests in the order of their arrival, None where one succeeds; all after them succeed.
    key : that a request must have; None where none is asked for.
    names : of the models that are listed; the first one is served.
    first : texts that are told with the probability that they come first, or none are.
    pieces : tokens of a text, of a model whose prompts can be scored; None where ``echo`` does nothing.
    end : text of the end token.
    most_first : first tokens that may be asked for.
    usage : whether the tokens of an answer are told.
    edit : changes an answer before it is sent.
    sent : called with the status of each answer that was sent.

    Attributes
    ----------
    requests : all that were sent to generate, with route and body.
    headers : those of each of these requests.
    answered, prompt_tokens, completion_tokens : what was answered in full.
    paid : the bodies of the requests that were, as text.
    """

    def __init__(
        self,
        lm: LM,
        failures: Sequence[Failure | None] = (),
        *,
        key: str | None = None,
        names: Sequence[str] = ("tiny",),
        first: Sequence[str] = (),
        pieces: Callable[[str], list[str]] | None = None,
        end: str = "",
        most_first: int = 20,
        usage: bool = True,
        edit: Callable[[dict[str, Any]], dict[str, Any]] = lambda answer: answer,
        sent: Callable[[int], None] = lambda status: None,
    ) -> None:
        self.lm, self.key, self.names, self.first, self.pieces, self.end = lm, key, names, first, pieces, end
        self.most_first, self.usage, self.edit, self.sent = most_first, usage, edit, sent
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.paid: list[str] = []
        self.answered = self.prompt_tokens = self.completion_tokens = 0
        self._failures = list(failures)
        self._turn = Lock()
        self.closed = Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"loopback": self}))
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def prompts(self) -> list[str]:
        """Texts of the prompts of all requests, in order of their arrival."""
        return [
            body["prompt"] if "prompt" in body else "".join(one["content"] for one in body["messages"])
            for _, body in self.requests
        ]

    def __enter__(self) -> Loopback:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def arrived(self, route: str, body: dict[str, Any], headers: dict[str, str]) -> Failure | None:
        with self._turn:
            self.requests.append((route, body))
            self.headers.append(headers)
            failure = self._failures.pop(0) if self._failures else None
        if failure is None and self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            return 401, {"message": f"Incorrect API key provided: {headers.get('authorization')}", "code": "invalid"}
        if failure is None and body["model"] != self.names[0]:
            return 404, {"message": f"The model {body['model']} does not exist", "code": "model_not_found"}
        return failure

    def count(self, body: dict[str, Any], usage: dict[str, int]) -> None:
        with self._turn:
            self.paid.append(json.dumps(body, sort_keys=True))
            self.answered += 1
            self.prompt_tokens += usage["prompt_tokens"]
            self.completion_tokens += usage["completion_tokens"]

    def answer(self, route: str, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
        """The answer of the model, and what it costs."""
        if body.get("echo") and self.pieces is not None:
            return self._echoed(body["prompt"])
        chat = route.endswith("/chat/completions")
        prompt = Prompt.of([Message(m["role"], m["content"]) for m in body["messages"]] if chat else body["prompt"])
        sampling = Sampling(
            max_tokens=max(1, body["max_tokens"]),
            temperature=body["temperature"],
            top_p=body.get("top_p", 1.0),
            top_k=body.get("top_k", 0),
            stop=tuple(body.get("stop", ())),
            seed=body.get("seed", 0),
        )
        [[said]] = self.lm.generate([prompt], sampling)
        top = (body.get("top_logprobs") if chat else body.get("logprobs")) or 0
        if top > self.most_first:
            raise ValueError(f"no more than {self.most_first} log-probabilities are told")
        told = self._first(prompt)[:top] if top and self.first else None
        choice: dict[str, Any] = {"index": 0, "finish_reason": said.finish}
        if chat:
            choice["message"] = {"role": "assistant", "content": said.text}
            entries = [{"token": token, "logprob": logprob} for token, logprob in told or ()]
            choice["logprobs"] = told and {"content": [{**entries[0], "top_logprobs": entries}]}
        else:
            choice["text"] = said.text
            choice["logprobs"] = told and {"tokens": [told[0][0]], "top_logprobs": [dict(told)]}
        usage = {"prompt_tokens": said.prompt_tokens or 0, "completion_tokens": said.completion_tokens or 0}
        return {"choices": [choice]}, usage

    def _first(self, prompt: Prompt) -> list[tuple[str, float]]:
        [row] = self.lm.choose([prompt], self.first)
        pairs = [(text, math.log(share)) for text, share in zip(self.first, row, strict=True) if share > 0]
        return sorted(pairs, key=lambda pair: -pair[1])

    def _echoed(self, text: str) -> tuple[dict[str, Any], dict[str, int]]:
        assert self.pieces is not None
        ended = bool(self.end) and text.endswith(self.end)
        pieces = self.pieces(text.removesuffix(self.end) if ended else text)
        [score] = self.lm.score([pieces[0]], ["".join(pieces[1:])], end=ended)
        tokens = [*pieces, self.end] if ended else pieces
        assert len(score.logprobs) == len(tokens) - 1
        logprobs = {"tokens": tokens, "token_logprobs": [None, *score.logprobs]}
        choice = {"index": 0, "finish_reason": "length", "text": text, "logprobs": logprobs}
        return {"choices": [choice]}, {"prompt_tokens": len(tokens), "completion_tokens": 0}


class _Handler(BaseHTTPRequestHandler):
    loopback: Loopback

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._send(200, {"object": "list", "data": [{"id": name} for name in self.loopback.names]})
        else:
            self._send(404, {"error": {"message": f"no {self.path}"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        failure = self.loopback.arrived(self.path, body, headers)
        if isinstance(failure, tuple):
            self._send(failure[0], {"error": failure[1]}, failure[2] if len(failure) == 3 else {})
        elif failure == "time-out":
            self.loopback.closed.wait()
        elif failure == "dropped":
            # Lingering for no time makes closing reset the connection.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif failure == "empty":
            self._send(200, {"error": {"message": "upstream is busy"}})
        elif failure is not None:
            whole = json.dumps({"choices": [{"message": {"content": "half"}, "finish_reason": "stop"}]}).encode()
            self._begin(200, len(whole), {})
            self.wfile.write(whole[:20] if failure == "truncated" else b"<" * len(whole))
        else:
            self._answer(body)

    def _answer(self, body: dict[str, Any]) -> None:
        try:
            answer, usage = self.loopback.answer(self.path, body)
        except (Incapable, ValueError) as wrong:
            self._send(400, {"error": {"message": str(wrong), "code": "bad"}})
            return
        self.loopback.count(body, usage)
        self._send(200, self.loopback.edit({**answer, **({"usage": usage} if self.loopback.usage else {})}))

    def _send(self, status: int, answer: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        encoded = json.dumps(answer).encode()
        self._begin(status, len(encoded), headers or {})
        self.wfile.write(encoded)
        self.loopback.sent(status)

    def _begin(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
