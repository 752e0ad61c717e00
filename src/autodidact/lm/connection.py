"""JSON over HTTP to an address that speaks OpenAI's protocol, tried again where that may help. It knows no prompts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from autodidact.catalog import unknown
from autodidact.lm.answering import Unfinished
from autodidact.lm.retrying import Exhausted, Passing, Retries

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI
    from openai._types import RequestOptions

_PASSING = (408, 409, 425, 429)
_FILTERED = ("content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation")
"""Codes of an error that says: the filter of the server did not let the prompt pass."""

Route = Literal["/chat/completions", "/completions"]


class Unreachable(Unfinished, ConnectionError):
    """No attempt at a request brought an answer; a later run may bring one."""


class Rejected(Unfinished, ValueError):
    """The server says that a request is wrong; it would say so again.

    Attributes
    ----------
    status : the HTTP status code.
    filtered : whether it is its content filter that says so.
    """

    def __init__(self, why: str, status: int, filtered: bool = False) -> None:
        super().__init__(why)
        self.status = status
        self.filtered = filtered


class Connection:
    """An address with its key.

    The key is read from the environment when it is needed and kept by the client alone; no error repeats it.

    Parameters
    ----------
    address : the base URL.
    key : environment variable with the key; without it none is sent.
    timeout : seconds after which an attempt has failed.
    retries : how often and when an attempt is repeated.

    Raises
    ------
    ValueError : the address is none, or has a user, a password or a query, which may be secret.
    """

    def __init__(self, address: str, *, key: str, timeout: float, retries: Retries) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"an address begins with http:// or https:// and a host, got '{address}'")
        if parts.username or parts.password or parts.query:
            # The address is not repeated, for these parts may be the secret.
            raise ValueError(
                f"the address of {parts.hostname} must have no user, password or query; the key is given by the name "
                f"of an environment variable"
            )
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, got {timeout}")
        self.host = parts.hostname
        self.address = address.rstrip("/")
        self._key = key
        self._timeout = timeout
        self._retries = retries

    def post(
        self, route: Route, body: dict[str, Any], *, given_up: Callable[[], bool] = lambda: False
    ) -> dict[str, Any]:
        """The answer to a body: an object with a first choice that has what the route promises.

        Parameters
        ----------
        given_up : asked before each further attempt; true ends the attempts.

        Raises
        ------
        Unreachable : no attempt brought an answer.
        Rejected : the server says that the request is wrong.
        """
        try:
            return self._retries.run(lambda: self._attempt(route, body), given_up=given_up)
        except Exhausted as exhausted:
            why = f"no answer of '{body['model']}' from {self.address}{route}: {exhausted}"
        raise Unreachable(why)

    def _attempt(self, route: Route, body: dict[str, Any]) -> dict[str, Any]:
        client = self.client
        import httpx2
        import openai

        failure: Exception
        try:
            response = client.post(route, cast_to=httpx2.Response, body=body, options=self._options)
            answer = json.loads(response.content)
        except openai.APITimeoutError:
            failure = Passing(f"time-out after {self._timeout:g} s")
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            failure = Passing(self._without_key(f"{type(cause).__name__} ({cause})"))
        except openai.APIStatusError as error:
            failure = self._failure(error, route, body["model"])
        except ValueError:
            failure = Passing("malformed JSON")
        else:
            if _whole(answer, route):
                return answer
            failure = Passing(self._without_key(f"JSON without an answer ({json.dumps(answer)[:200]})"))
        # Raised out here, it does not carry the error of the client along, which knows the header with the key.
        raise failure

    def _failure(self, error: APIStatusError, route: Route, model: str) -> Exception:
        status, headers = error.status_code, error.response.headers
        told = error.body if isinstance(error.body, dict) else {}
        code = str(told.get("code") or told.get("type") or "")
        said = self._without_key(str(told.get("message") or error.response.text or error.response.reason_phrase)[:500])
        if code == "insufficient_quota":
            return Rejected(f"the quota of the key in {self._key} is used up: {said}", status)
        if status in _PASSING or status >= 500:
            return Passing(f"{status} {error.response.reason_phrase}".strip(), _asked_wait(headers))
        if status in (401, 403):
            has = "does not accept the key in" if self._read_key() else "asks for a key; set the environment variable"
            return Rejected(f"{self.address} {has} {self._key} ({status}): {said}", status)
        if status == 404:
            return Rejected(f"{self._not_found(route, model)} (404): {said}", status)
        why = f"{self.address}{route} does not take a request to '{model}' ({status}): {said}"
        return Rejected(why, status, filtered=code in _FILTERED)

    def models(self) -> list[str]:
        """Names of the models that the server lists.

        Raises
        ------
        ValueError : it lists none.
        """
        client = self.client
        import httpx2
        import openai

        try:
            listed = json.loads(client.get("/models", cast_to=httpx2.Response, options=self._options).content)
            return [str(one["id"]) for one in listed["data"]]
        except (openai.OpenAIError, ValueError, KeyError, TypeError) as error:
            why = self._without_key(" ".join(str(error).split())[:200])
        raise ValueError(f"{self.address} lists no models ({why}); most addresses end in /v1")

    def _not_found(self, route: Route, model: str) -> str:
        try:
            names = self.models()
        except ValueError:
            return f"{self.address}{route} is not there; most addresses end in /v1"
        if model in names:
            other = f"chat={route == '/completions'} asks at the other one"
            return f"{self.address} has '{model}', but not at {route}; {other}"
        return str(unknown(f"model at {self.address}", model, names))

    def _read_key(self) -> str:
        key = os.environ.get(self._key, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ValueError(f"the key in {self._key} has characters that no key has")
        return key

    def _without_key(self, text: str) -> str:
        key = self._read_key()
        return text.replace(key, f"[{self._key}]") if key else text

    @cached_property
    def client(self) -> OpenAI:
        try:
            import openai
        except ImportError as missing:
            raise ValueError(
                "a model behind an address needs openai, which is not installed: pip install 'autodidact[language]'"
            ) from missing
        key = self._read_key() or "none"
        return openai.OpenAI(api_key=key, base_url=self.address, timeout=self._timeout, max_retries=0)

    @property
    def _options(self) -> RequestOptions:
        from openai import Omit

        # Without a key of its own the client would look for others in the environment, and send them anywhere.
        return {} if self._read_key() else {"headers": {"Authorization": Omit()}}


def _whole(answer: Any, route: Route) -> bool:
    """Whether an answer has what is looked for in it."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return False
    if route == "/completions":
        return isinstance(choices[0].get("text"), str)
    message = choices[0].get("message")
    return isinstance(message, dict) and isinstance(message.get("content") or "", str)


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: Retry-After in seconds or as a date, or in milliseconds."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        asked = headers.get(name, "")
        try:
            return max(0.0, float(asked) * unit)
        except ValueError:
            pass
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except ValueError:
        return None
