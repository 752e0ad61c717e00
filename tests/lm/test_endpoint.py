"""A model behind an address: against a server on this machine that answers, fails and counts."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import numpy as np
import pytest
import torch
from tests.lm.loopback import Failure, Loopback

from autodidact.lm.answering import REFUSED, Draw
from autodidact.lm.cached import Cached
from autodidact.lm.connection import Rejected, Unreachable
from autodidact.lm.endpoint import EndpointLM
from autodidact.lm.ledger import Budgeted
from autodidact.lm.lm import LM, Completion, Incapable, Message, Prompt, Sampling, Score
from autodidact.lm.local import LocalLM
from autodidact.lm.names import open_lm
from autodidact.lm.recorded import Recorded
from autodidact.lm.retrying import Retries
from autodidact.lm.scripted import ScriptedLM, words
from autodidact.lm.tiny import tiny_lm

KEY = "sk-very-secret-0123456789"
ONCE = Sampling(max_tokens=8)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def echo() -> ScriptedLM:
    return ScriptedLM(lambda prompt: f"answer to {prompt}")


def endpoint(server: Loopback, slept: list[float] | None = None, **given: Any) -> EndpointLM:
    """A model at the server, which waits without waiting."""
    waits: list[float] = [] if slept is None else slept
    retries = given.pop("retries", None) or Retries(
        given.pop("attempts", 4), generator=np.random.default_rng(0), sleep=waits.append
    )
    return EndpointLM(given.pop("model", "tiny"), server.address, retries=retries, **given)


def texts(completions: list[list[Completion]]) -> list[list[str]]:
    return [[one.text for one in of_prompt] for of_prompt in completions]


class Letters(LM):
    """Each letter has its probability, whatever comes before it, and the text ends with probability 1/4."""

    name = "letters"
    capabilities = frozenset({"generate", "score", "choose"})
    shares: Mapping[str, float] = {letter: 0.75 * 2.0**-rank for rank, letter in enumerate("abc deno,.Yrs", 1)}

    def generate(self, prompts: Sequence[Any], sampling: Sampling) -> list[list[Completion]]:
        return [[Completion("a", "length", prompt_tokens=1, completion_tokens=1)] for _ in prompts]

    def score(self, prompts: Sequence[Any], completions: Sequence[str], *, end: bool = True) -> list[Score]:
        ended = (math.log(0.25),) if end else ()
        return [Score((*(math.log(self.shares[letter]) for letter in text), *ended)) for text in completions]


@pytest.fixture
def letters() -> Any:
    with Loopback(Letters(), pieces=list, end="</s>") as server:
        yield server


def test_answers_keep_the_order_of_the_prompts_where_they_arrive_in_another() -> None:
    later = [Event() for _ in range(4)]

    def script(prompt: str) -> str:
        # Each answer waits for that of the next prompt, so they arrive from the last to the first.
        number = int(prompt)
        assert number == 3 or later[number + 1].wait(20)
        later[number].set()
        return f"answer {number}"

    with Loopback(ScriptedLM(script)) as server:
        lm = endpoint(server, threads=4)
        assert texts(lm.generate(["0", "1", "2", "3"], ONCE)) == [
            ["answer 0"],
            ["answer 1"],
            ["answer 2"],
            ["answer 3"],
        ]


def test_as_many_requests_are_under_way_together_as_there_are_threads() -> None:
    together = Barrier(3, timeout=20)

    def script(prompt: str) -> str:
        together.wait()
        return prompt

    with Loopback(ScriptedLM(script)) as server:
        endpoint(server, threads=3).generate([str(i) for i in range(9)], ONCE)
        assert server.answered == 9


def test_a_request_says_all_of_the_sampling_and_of_the_conversation() -> None:
    sampling = Sampling(max_tokens=5, temperature=0.5, top_p=0.9, top_k=7, stop=("x", "y"), seed=3)
    turns = [Message("system", "be brief"), Message("user", "hello")]
    with Loopback(echo()) as server:
        endpoint(server).generate([turns], sampling)
    assert server.requests == [
        (
            "/v1/chat/completions",
            {
                "model": "tiny",
                "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}],
                "max_tokens": 5,
                "temperature": 0.5,
                "top_p": 0.9,
                "top_k": 7,
                "stop": ["x", "y"],
                "seed": 3,
            },
        )
    ]


def test_a_base_model_continues_the_text_of_the_prompt() -> None:
    with Loopback(echo()) as server:
        assert texts(endpoint(server, chat=False).generate(["hello"], ONCE)) == [["answer to hello"]]
    [(route, body)] = server.requests
    assert (route, body["prompt"]) == ("/v1/completions", "hello")


def test_each_sample_has_a_seed_of_its_own_that_no_neighbouring_seed_uses() -> None:
    with Loopback(echo()) as server:
        for seed in range(4):
            endpoint(server).generate(["hello"], Sampling(n=4, seed=seed))
    seeds = [body["seed"] for _, body in server.requests]
    assert len(set(seeds)) == 16
    assert set(range(4)) <= set(seeds)


def test_the_end_of_a_completion_and_its_cost_are_those_of_the_server() -> None:
    with Loopback(ScriptedLM({"a b": "one two three"})) as server:
        lm = endpoint(server)
        assert lm.generate(["a b"], Sampling(max_tokens=2)) == [
            [Completion("one two", "length", prompt_tokens=2, completion_tokens=2)]
        ]
        assert lm.generate(["a b"], Sampling(n=2))[0][1] == Completion(
            "one two three", "stop", prompt_tokens=2, completion_tokens=4, sample=1
        )


def test_a_text_that_ends_a_completion_is_cut_off_where_the_server_leaves_it() -> None:
    def left(answer: dict[str, Any]) -> dict[str, Any]:
        answer["choices"][0]["message"]["content"] = "one\ntwo"
        return answer

    with Loopback(echo(), edit=left) as server:
        assert texts(endpoint(server).generate(["x"], Sampling(stop=("\n",)))) == [["one"]]


@pytest.mark.parametrize(
    ("message", "reason", "text", "finish"),
    [
        ({"content": None, "refusal": "I will not."}, "stop", "I will not.", REFUSED),
        ({"content": None}, "content_filter", "", REFUSED),
        ({"content": "half of"}, "content_filter", "half of", REFUSED),
        ({"content": None, "tool_calls": []}, "tool_calls", "", REFUSED),
        ({"content": None}, "length", "", "length"),
        ({"content": ""}, "stop", "", "stop"),
    ],
)
def test_what_was_withheld_is_told_from_an_answer(message: dict[str, Any], reason: str, text: str, finish: str) -> None:
    def withheld(answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "choices": [{"message": message, "finish_reason": reason}]}

    with Loopback(echo(), edit=withheld) as server:
        [[said]] = endpoint(server).generate(["x"], ONCE)
    assert (said.text, said.finish) == (text, finish)
    assert len(server.requests) == 1


def test_a_prompt_that_the_filter_stops_is_refused_alone() -> None:
    with Loopback(echo(), [None, (400, {"message": "filtered", "code": "content_filter"})]) as server:
        said = endpoint(server, threads=1).generate(["a", "b", "c"], ONCE)
    assert [one.finish for [one] in said] == ["stop", REFUSED, "stop"]
    assert said[1][0].text == ""


PASSING: dict[str, Failure] = {
    "429": (429, {"message": "slow down"}),
    "500": (500, {"message": "oops"}),
    "503": (503, {"message": "busy"}),
    "time-out": "time-out",
    "dropped connection": "dropped",
    "truncated body": "truncated",
    "malformed JSON": "malformed",
    "JSON without an answer": "empty",
}


@pytest.mark.parametrize("kind", PASSING)
def test_a_failure_that_passes_is_survived_with_one_more_request(kind: str) -> None:
    slept: list[float] = []
    with Loopback(echo(), [PASSING[kind]]) as server:
        lm = endpoint(server, slept, timeout=1.0 if kind == "time-out" else 20)
        assert texts(lm.generate(["x"], ONCE)) == [["answer to x"]]
    assert (len(server.requests), server.answered, len(slept)) == (2, 1, 1)


def test_an_address_is_waited_for_as_long_as_is_said() -> None:
    with Loopback(echo(), ["time-out"]) as server:
        began = time.monotonic()
        assert texts(open_lm(server.address, timeout=0.5).generate(["x"], ONCE)) == [["answer to x"]]
    assert (len(server.requests), server.answered) == (2, 1)
    assert time.monotonic() - began < 20


def test_all_kinds_of_failure_in_a_row_cost_one_request_each() -> None:
    failures = [failure for failure in PASSING.values() if failure != "time-out"]
    slept: list[float] = []
    with Loopback(echo(), failures) as server:
        lm = endpoint(server, slept, attempts=len(failures) + 1, threads=1)
        assert len(lm.generate(["a", "b"], ONCE)) == 2
    assert (len(server.requests), len(slept)) == (len(failures) + 2, len(failures))


def test_a_connection_that_is_refused_is_tried_again_and_then_told() -> None:
    with Loopback(echo()) as server:
        address = server.address
    slept: list[float] = []
    lm = EndpointLM("tiny", address, retries=Retries(3, sleep=slept.append))
    with pytest.raises(Unreachable, match=r"no answer of 'tiny' from .*/chat/completions: 3 attempts failed: Connect"):
        lm.generate(["x"], ONCE)
    assert len(slept) == 2


def test_after_the_last_attempt_the_error_says_what_was_tried() -> None:
    with (
        Loopback(echo(), [PASSING["429"], PASSING["429"], PASSING["malformed JSON"]]) as server,
        pytest.raises(Unreachable) as raised,
    ):
        endpoint(server, attempts=3).generate(["x"], ONCE)
    said = str(raised.value)
    assert server.address in said
    assert "3 attempts failed: 429 Too Many Requests (2 times), malformed JSON; " in said
    assert len(server.requests) == 3


def test_waits_double_and_are_shortened_by_less_than_half() -> None:
    slept: list[float] = []
    with Loopback(echo(), [PASSING["500"]] * 4) as server:
        lm = endpoint(server, retries=Retries(5, generator=np.random.default_rng(3), sleep=slept.append))
        lm.generate(["x"], ONCE)
    drawn = np.random.default_rng(3).uniform(0.5, 1.0, size=4)
    assert slept == pytest.approx([1 * drawn[0], 2 * drawn[1], 4 * drawn[2], 8 * drawn[3]])


@pytest.mark.parametrize(
    ("headers", "least"), [({"Retry-After": "7"}, 7.0), ({"retry-after-ms": "9500"}, 9.5), ({"Retry-After": "?"}, 0.5)]
)
def test_a_server_that_asks_to_wait_is_not_asked_earlier(headers: dict[str, str], least: float) -> None:
    slept: list[float] = []
    with Loopback(echo(), [(429, {"message": "slow down"}, headers)]) as server:
        endpoint(server, slept).generate(["x"], ONCE)
    assert len(slept) == 1
    assert least <= slept[0] <= max(least, 1.0)


def test_retry_after_as_a_date_is_understood() -> None:
    slept: list[float] = []
    with Loopback(echo(), [(503, {}, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})]) as server:
        endpoint(server, slept).generate(["x"], ONCE)
    assert 0.5 <= slept[0] <= 1.0


def test_a_server_that_asks_to_wait_too_long_is_given_up() -> None:
    with (
        Loopback(echo(), [(429, {"message": "tomorrow"}, {"Retry-After": "86400"})]) as server,
        pytest.raises(Unreachable, match="asks to wait 86400 s, more than 120 s"),
    ):
        endpoint(server).generate(["x"], ONCE)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        ((400, {"message": "prompt is too long"}), r"does not take a request to 'tiny' \(400\): prompt is too long"),
        ((401, {"message": "no"}), r"asks for a key; set the environment variable OPENAI_API_KEY \(401\): no"),
        ((429, {"message": "pay", "code": "insufficient_quota"}), "the quota of the key in OPENAI_API_KEY is used up"),
        ((404, {"message": "no route"}), r"has 'tiny', but not at /chat/completions; chat=False asks at the other"),
    ],
)
def test_what_would_fail_again_is_not_tried_again(failure: Failure, told: str) -> None:
    with Loopback(echo(), [failure]) as server, pytest.raises(Rejected, match=told):
        endpoint(server).generate(["x"], ONCE)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("sampling", "told"),
    [
        (
            Sampling(top_k=40),
            r"argument: top_k; the request asks for top_k 40, and 0 leaves it out: --method\.top_k 0, .*",
        ),
        (Sampling(top_p=0.98), r"argument: top_p; the request asks for top_p 0\.98, and 1 leaves it out: .*"),
        # Of what was not sent nothing can be left out.
        (Sampling(), "argument: top_k, top_p$"),
    ],
)
def test_where_a_server_does_not_take_top_k_or_top_p_the_error_says_which_option_leaves_it_out(
    sampling: Sampling, told: str
) -> None:
    name = "top_k" if sampling.top_k else "top_p" if sampling.top_p < 1 else "top_k, top_p"
    failure = (400, {"message": f"Unrecognized request argument: {name}"})
    with Loopback(echo(), [failure]) as server:
        with pytest.raises(Rejected, match=told) as raised:
            endpoint(server).generate(["x"], sampling)
        assert raised.value.status == 400
        # It was asked for once, with what it was told to ask with.
        (body,) = [body for _, body in server.requests]
        assert (body.get("top_k", 0), body.get("top_p", 1)) == (sampling.top_k, sampling.top_p)
    with Loopback(echo(), [(400, {"message": "prompt is too long"})]) as server:
        with pytest.raises(Rejected) as raised:
            endpoint(server).generate(["x"], Sampling(top_k=40))
        assert "top_k" not in str(raised.value)


def test_an_unknown_model_is_told_with_the_nearest_one() -> None:
    with (
        Loopback(echo(), names=("tiny", "tiny-chat")) as server,
        pytest.raises(ValueError, match=r"unknown model at .* 'tiny-chatt'; did you mean 'tiny-chat'"),
    ):
        endpoint(server, model="tiny-chatt").generate(["x"], ONCE)
    assert len(server.requests) == 1


@pytest.mark.parametrize("address", ["127.0.0.1:8000/v1", "ftp://host/v1", "http://", ""])
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(ValueError, match="an address begins with"):
        EndpointLM("tiny", address)


@pytest.mark.parametrize("address", [f"http://me:{KEY}@host/v1", f"http://host/v1?key={KEY}"])
def test_an_address_with_a_secret_is_not_taken_and_not_repeated(address: str) -> None:
    with pytest.raises(ValueError, match="must have no user, password or query") as raised:
        EndpointLM("tiny", address)
    assert KEY not in str(raised.value)


def test_what_was_answered_before_a_failure_comes_with_the_error() -> None:
    with Loopback(echo(), [None, None, (400, {"message": "no"})]) as server, pytest.raises(Rejected) as raised:
        endpoint(server, threads=1).generate(["a", "b", "c", "d", "e"], ONCE)
    assert [(request.prompt.text, said.text) for request, said in raised.value.answered] == [  # type: ignore[union-attr]
        ("a", "answer to a"),
        ("b", "answer to b"),
    ]
    assert len(server.requests) == 3


def test_what_is_under_way_when_another_request_fails_is_still_handed_over() -> None:
    begun, failed = Event(), Event()

    def script(prompt: str) -> str:
        if prompt == "bad":
            assert begun.wait(20)
            raise ValueError("bad prompt")
        begun.set()
        assert failed.wait(20)
        return prompt

    with Loopback(ScriptedLM(script), sent=lambda status: failed.set() if status == 400 else None) as server:
        arriving = endpoint(server, threads=2).answers([Draw(Prompt.of(text), ONCE) for text in ("slow", "bad")])
        position, answer = next(arriving)
        assert isinstance(answer, Completion)
        assert (position, answer.text) == (0, "slow")
        with pytest.raises(Rejected, match="bad prompt"):
            next(arriving)


def test_nothing_is_paid_twice_when_a_run_is_repeated_after_a_failure_in_its_middle(tmp_path: Path) -> None:
    prompts = [f"prompt {i}" for i in range(12)]
    sampling = Sampling(n=2)
    with Loopback(echo(), [None] * 9 + [(400, {"message": "no"})]) as server:
        lm = Cached(endpoint(server, threads=4), tmp_path)
        with pytest.raises(Rejected):
            lm.generate(prompts, sampling)
        before = server.answered
        assert before >= 9
        assert Cached(endpoint(server), tmp_path).generate(prompts, sampling)
    assert server.answered == 24
    assert len(server.requests) == 25


def test_the_ledger_is_the_servers_own_count_after_failures_retries_scores_and_choices(letters: Loopback) -> None:
    letters._failures = [None, PASSING["500"], None, PASSING["dropped connection"], PASSING["429"]]
    lm = Budgeted(endpoint(letters, chat=False, end="</s>"), tokens=100_000)
    lm.generate(["a", "b", "c"], Sampling(n=3))
    lm.score(["ab", "abc"], ["c", "de"])
    lm.choose(["ab"], ["a", "de"])
    assert lm.spent.tokens == letters.tokens
    assert (lm.spent.prompt_tokens, lm.spent.completion_tokens) == (letters.prompt_tokens, letters.completion_tokens)
    assert (lm.spent.untold, lm.spent.calls) == (0, 12)
    assert isinstance(lm.lm, EndpointLM)
    assert lm.lm.meter.spent.calls == letters.answered


def test_tokens_that_the_server_does_not_tell_are_counted_with_their_bound() -> None:
    with Loopback(echo(), usage=False) as server:
        lm = endpoint(server)
        [[said]] = lm.generate(["four"], Sampling(max_tokens=10))
    assert said.prompt_tokens is None
    assert lm.meter.spent.untold == 1
    assert lm.meter.spent.tokens == 4 + 64 + 10
    assert lm.meter.spent.tokens >= server.tokens


def test_no_key_is_sent_where_there_is_none_whatever_else_the_environment_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", KEY)
    with Loopback(echo()) as server:
        endpoint(server, key="MY_OWN_KEY").generate(["x"], ONCE)
    assert all("authorization" not in headers for headers in server.headers)
    assert KEY not in str(server.headers)


def test_the_key_of_the_named_variable_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_OWN_KEY", KEY + "\n")
    with Loopback(echo(), key=KEY) as server:
        assert texts(endpoint(server, key="MY_OWN_KEY").generate(["x"], ONCE)) == [["answer to x"]]


@pytest.mark.parametrize("failure", [None, (400, {"message": f"bad {KEY}"}), (500, {"message": KEY}), "wrong key"])
def test_the_key_is_nowhere_but_in_the_request(
    failure: Failure | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    wrong = failure == "wrong key"
    said = ""
    with Loopback(echo(), [] if wrong else [failure] * 2, key="another" if wrong else KEY) as server:
        lm = endpoint(server, attempts=2)
        wrapped = Recorded(Cached(Budgeted(lm, calls=9), tmp_path / "cache"), tmp_path / "transcript.jsonl")
        try:
            wrapped.generate(["x"], ONCE)
        except (Rejected, Unreachable) as error:
            said = f"{error!r} {error.__context__!r} {error.__cause__!r} {vars(error)}"
    assert any(KEY in str(headers) for headers in server.headers)
    assert bool(said) == (failure is not None)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert written
    for text in (said, repr(lm), lm.name, str(vars(lm)), str(vars(lm._connection)), wrapped.name, repr(wrapped)):
        assert KEY not in text
    assert KEY.encode() not in written
    assert KEY not in caplog.text


@pytest.mark.parametrize("key", ["sk-\u00e9", "sk-a\nb"])
def test_a_key_that_cannot_be_sent_is_told_without_it(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with Loopback(echo()) as server, pytest.raises(ValueError, match="the key in OPENAI_API_KEY has char") as raised:
        endpoint(server).generate(["x"], ONCE)
    assert key not in str(raised.value)
    assert not server.requests


def test_without_log_probabilities_it_can_only_generate() -> None:
    with Loopback(echo()) as server:
        assert endpoint(server).capabilities == {"generate", "chat"}
        lm = endpoint(server, chat=False)
        assert lm.capabilities == {"generate"}
        with pytest.raises(Incapable, match="needs a model that can choose"):
            lm.choose(["x"], ["a", "b"])
        with pytest.raises(Incapable, match="needs a model that can score"):
            lm.score(["x"], ["a"])


def test_what_it_can_do_is_asked_once() -> None:
    with Loopback(ScriptedLM(lambda _: {"Yes": math.log(0.6), "No": math.log(0.4)}), first=("Yes", "No")) as server:
        lm = endpoint(server)
        assert not server.requests
        assert lm.capabilities == lm.capabilities == {"generate", "chat", "choose"}
    assert len(server.requests) == 1


@pytest.mark.parametrize("before", [True, False], ids=["known before the cache", "found out behind it"])
@pytest.mark.parametrize("chat", [True, False])
def test_what_it_can_do_is_kept_with_its_answers_for_each_model(chat: bool, before: bool, tmp_path: Path) -> None:
    script = ScriptedLM(lambda _: {"Yes": math.log(0.6), "No": math.log(0.4)})
    with Loopback(script, names=("a", "b"), first=("Yes", "No")) as server:

        def able(model: str) -> frozenset[str]:
            lm = endpoint(server, chat=chat, model=model)
            if before:
                assert lm.capabilities
            kept = Cached(lm, tmp_path)
            found = kept.capabilities
            kept.close()
            return found

        first = able("a")
        assert "choose" in first
        asked = len(server.requests)
        if not before:
            assert able("a") == first
            assert len(server.requests) == asked
        server.names = ("b",)
        assert able("b") == first
        assert len(server.requests) == 2 * asked
        again = Cached(endpoint(server, chat=chat, model="a"), tmp_path)
        assert again.capabilities == first
        assert len(server.requests) == 2 * asked


@pytest.mark.parametrize("most_first", [20, 5])
@pytest.mark.parametrize("chat", [True, False])
def test_a_choice_is_between_the_options_among_the_likeliest_first_tokens(chat: bool, most_first: int) -> None:
    shares = {"Yes": 0.5, "No": 0.1, "Maybe": 0.3, "Never": 0.1}
    script = ScriptedLM(lambda _: {text: math.log(share) for text, share in shares.items()})
    with Loopback(script, first=tuple(shares), most_first=most_first) as server:
        chosen = endpoint(server, chat=chat).choose(["x", "y"], ["No", "Yes"])
    assert chosen == pytest.approx(np.array([[1 / 6, 5 / 6]] * 2), abs=1e-12)


def test_an_option_that_is_not_among_them_is_refused_with_those_that_are() -> None:
    shares = {"Yes": math.log(0.7), "No": math.log(0.3)}
    with Loopback(ScriptedLM(lambda _: shares), first=tuple(shares)) as server:
        lm = endpoint(server)
        with pytest.raises(Incapable, match=r"tells no probability of 'no': .* which are 'Yes', 'No'"):
            lm.choose(["x"], ["Yes", "no"])


def test_scores_are_those_of_the_model_with_and_without_the_end(letters: Loopback) -> None:
    lm = endpoint(letters, chat=False, end="</s>")
    assert lm.capabilities == {"generate", "score", "choose"}
    for end in (True, False):
        mine = Letters().score(["ab", "c"], ["de", "cab,"], end=end)
        assert lm.score(["ab", "c"], ["de", "cab,"], end=end) == mine


@pytest.fixture(scope="module")
def local() -> LocalLM:
    """A model that runs here; its letters are those that an address is probed with too."""
    lm = tiny_lm("abcdYesornN? ", width=16, depth=2, context=32)
    with torch.no_grad():
        for weight in lm.module.parameters():
            if weight.ndim > 1:
                weight.mul_(6)
    return lm


@pytest.mark.parametrize("chat", [True, False])
def test_a_model_that_runs_here_says_the_same_behind_an_address(local: LocalLM, chat: bool) -> None:
    prompts = ["ab", "c d", "abcda", "d"]
    free = local.generate(prompts, Sampling(max_tokens=12, temperature=0.0))
    sampling = Sampling(max_tokens=12, temperature=0.0, stop=(free[1][0].text[6:8],))
    with Loopback(local) as server:
        # One after the other: the model knows nothing of threads.
        served = endpoint(server, chat=chat, threads=1).generate(prompts, sampling)
    here = local.generate(prompts, sampling)
    assert texts(served) == texts(here)
    assert len(set(map(str, texts(here)))) == len(prompts)
    assert texts(here) != texts(free)
    for [one], [other] in zip(served, here, strict=True):
        assert (one.finish, one.prompt_tokens, one.completion_tokens) == (
            other.finish,
            other.prompt_tokens,
            other.completion_tokens,
        )


@pytest.mark.parametrize("end", [True, False])
def test_a_model_that_runs_here_scores_and_chooses_the_same_behind_an_address(local: LocalLM, end: bool) -> None:
    prompts, completions = ["ab", "c d", "abcda"], ["cab", " d", "b"]
    with Loopback(local, pieces=list, end="<end>") as server:
        lm = endpoint(server, chat=False, end="<end>", threads=1)
        assert lm.capabilities == {"generate", "score", "choose"}
        served, chosen = lm.score(prompts, completions, end=end), lm.choose(prompts, ["ab", "c", "d "])
    for one, other in zip(served, local.score(prompts, completions, end=end), strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    assert chosen == pytest.approx(local.choose(prompts, ["ab", "c", "d "]), abs=1e-5)


def test_an_end_without_its_text_cannot_be_scored(letters: Loopback) -> None:
    lm = endpoint(letters, chat=False)
    with pytest.raises(Incapable, match="cannot score the end of a text unless"):
        lm.score(["ab"], ["c"])
    assert lm.score(["ab"], ["c"], end=False)[0].total == pytest.approx(math.log(0.75 / 8), abs=1e-12)


def test_options_of_several_tokens_are_chosen_by_their_scores(letters: Loopback) -> None:
    chosen = endpoint(letters, chat=False).choose(["ab"], ["ab", "c"])
    weights = [0.75**2 / (2 * 4), 0.75 / 8]
    assert chosen == pytest.approx(np.array([[weight / sum(weights) for weight in weights]]), abs=1e-12)


@pytest.mark.parametrize(
    "pieces", [lambda text: [text[:1], text[1:]], lambda text: [*text[:-2], "", *text[-2:]]], ids=["joined", "untold"]
)
def test_a_score_is_refused_where_the_boundary_lies_within_a_token(
    pieces: Callable[[str], list[str]],
) -> None:
    def rewritten(answer: dict[str, Any]) -> dict[str, Any]:
        told = answer["choices"][0].get("logprobs")
        if told and "".join(told["tokens"]) == "abcde":
            tokens = pieces("abcde")
            answer["choices"][0]["logprobs"] = {"tokens": tokens, "token_logprobs": [None, *[-1.0] * (len(tokens) - 1)]}
        return answer

    with Loopback(Letters(), pieces=list, edit=rewritten) as server:
        lm = endpoint(server, chat=False)
        with pytest.raises(ValueError, match="reads no token boundary between a prompt and its completion 'de'"):
            lm.score(["abc"], ["de"], end=False)


def test_models_that_differ_have_different_names() -> None:
    address = "http://127.0.0.1:1/v1"
    lms = [
        EndpointLM("a", address),
        EndpointLM("b", address),
        EndpointLM("a", "http://127.0.0.1:2/v1"),
        EndpointLM("a", address, chat=False),
        EndpointLM("a", address, extra={"min_p": 0.1}),
    ]
    assert len({lm.name for lm in lms}) == 5
    assert EndpointLM("a", address + "/", threads=2, timeout=3).name == lms[0].name


def test_further_entries_are_sent_and_none_leaves_one_out() -> None:
    with Loopback(echo()) as server:
        endpoint(server, extra={"min_p": 0.1, "seed": None}).generate(["x"], ONCE)
    [(_, body)] = server.requests
    assert body["min_p"] == 0.1
    assert "seed" not in body


def test_the_scripted_words_are_what_the_server_counts() -> None:
    with Loopback(ScriptedLM({"how are you": "very well"})) as server:
        endpoint(server).generate(["how are you"], Sampling(n=3))
    assert (server.prompt_tokens, server.completion_tokens) == (3 * len(words("how are you")), 3 * 3)


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, autodidact.lm.endpoint, autodidact.lm.cached, autodidact.lm.recorded, autodidact.lm.ledger;"
        "autodidact.lm.endpoint.EndpointLM('a', 'http://127.0.0.1:1/v1');"
        "print([name for name in ('openai', 'httpx2', 'torch', 'transformers') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
