"""Caches, budgets and transcripts around a model."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from autodidact.lm.answering import (
    Answer,
    Choosing,
    Draw,
    Request,
    Scoring,
    answer_of,
    answers,
    key,
    plain_answer,
    request_of,
)
from autodidact.lm.cached import Cached
from autodidact.lm.ledger import Budgeted, BudgetExceeded, Spent, most
from autodidact.lm.lm import LM, Completion, Incapable, Prompt, Sampling, Score
from autodidact.lm.recorded import Recorded, read_transcript, replay
from autodidact.lm.scripted import ScriptedLM

COIN = {"heads": math.log(0.8), "tails": math.log(0.2)}


def coin(**given: Any) -> ScriptedLM:
    return ScriptedLM(lambda _: COIN, **given)


def paid(lm: ScriptedLM) -> list[Request]:
    return [request for call in lm.calls for request in call]


class Plain(LM):
    """A model that answers whole calls only, and counts them."""

    name = "plain"
    capabilities = frozenset({"generate", "score", "choose"})

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], int]] = []

    def generate(self, prompts: Sequence[Any], sampling: Sampling) -> list[list[Completion]]:
        texts = [Prompt.of(prompt).text for prompt in prompts]
        self.calls.append((texts, sampling.n))
        return [[Completion(f"{text}{k}", "stop", sample=k) for k in range(sampling.n)] for text in texts]

    def score(self, prompts: Sequence[Any], completions: Sequence[str], *, end: bool = True) -> list[Score]:
        self.calls.append(([Prompt.of(prompt).text for prompt in prompts], 0))
        return [Score((-float(len(text)), *[-0.5] * end)) for text in completions]


class Clock:
    """Time that passes by one second each time it is looked at."""

    def __init__(self) -> None:
        self.now = -1.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


SAMPLINGS = st.builds(
    Sampling,
    n=st.integers(1, 4),
    max_tokens=st.integers(1, 9),
    temperature=st.sampled_from([0.0, 0.7, 1.0]),
    top_p=st.sampled_from([0.5, 0.9, 1.0]),
    top_k=st.integers(0, 2),
    stop=st.sampled_from([(), ("\n",), ("\n", ".")]),
    seed=st.integers(0, 3),
)


@given(SAMPLINGS, SAMPLINGS)
@settings(max_examples=20, deadline=None)
def test_an_answer_is_found_again_exactly_where_all_of_the_sampling_but_n_is_the_same(
    first: Sampling, second: Sampling
) -> None:
    with TemporaryDirectory() as folder:
        lm = coin()
        cached = Cached(lm, folder)
        cached.generate(["x"], first)
        before = len(paid(lm))
        found = cached.generate(["x"], second)
        same = replace(first, n=second.n) == second
        assert len(paid(lm)) - before == (max(0, second.n - first.n) if same else second.n)
        assert found == coin().generate(["x"], second)
        cached.close()


@given(SAMPLINGS, st.sampled_from([f.name for f in fields(Sampling) if f.name != "n"]), st.data())
@settings(max_examples=40, deadline=None)
def test_changing_any_one_argument_of_the_sampling_misses(sampling: Sampling, name: str, data: st.DataObject) -> None:
    value = data.draw(SAMPLINGS.map(lambda other: getattr(other, name)))
    assume(value != getattr(sampling, name))
    prompt = Prompt.of("x")
    other = replace(sampling, **{name: value})
    assert key("m", Draw(prompt, sampling)) != key("m", Draw(prompt, other))


def test_changing_model_prompt_sample_or_what_is_asked_misses() -> None:
    x, y, sampling = Prompt.of("x"), Prompt.of("y"), Sampling()
    keys = [
        key("m", Draw(x, sampling)),
        key("n", Draw(x, sampling)),
        key("m", Draw(y, sampling)),
        key("m", Draw(x, sampling, 1)),
        key("m", Scoring(x, "a")),
        key("m", Scoring(x, "b")),
        key("m", Scoring(x, "a", False)),
        key("m", Choosing(x, ("a", "b"))),
        key("m", Choosing(x, ("b", "a"))),
    ]
    assert len(set(keys)) == len(keys)


def test_a_hit_costs_no_call_and_is_the_same_answer(tmp_path: Path) -> None:
    first, second = coin(), coin()
    prompts = ["a", "b"]

    def everything(lm: LM) -> tuple[Any, ...]:
        return (
            lm.generate(prompts, Sampling(n=3)),
            lm.score(prompts, ["heads", "tails"]),
            lm.choose(prompts, ["heads", "tails"]).tolist(),
        )

    told = everything(Cached(first, tmp_path))
    again = Cached(second, tmp_path)
    assert everything(again) == told == everything(coin())
    assert (len(paid(first)), len(paid(second))) == (10, 0)
    assert (again.hits, again.misses) == (10, 0)


def test_more_samples_begin_with_those_that_are_there(tmp_path: Path) -> None:
    lm = coin()
    cached = Cached(lm, tmp_path)
    [few] = cached.generate(["x"], Sampling(n=2))
    [many] = cached.generate(["x"], Sampling(n=5))
    assert many[:2] == few
    assert [request.sample for request in paid(lm) if isinstance(request, Draw)] == [0, 1, 2, 3, 4]


def test_what_a_call_asks_twice_is_paid_once(tmp_path: Path) -> None:
    lm = coin()
    [one, other] = Cached(lm, tmp_path).generate(["x", "x"], Sampling(n=2))
    assert one == other
    assert len(paid(lm)) == 2


def test_a_failure_keeps_what_was_answered_before_it_and_is_not_kept_itself(tmp_path: Path) -> None:
    broken = True

    def script(prompt: str) -> str:
        if broken and prompt == "c":
            raise ConnectionError("gone")
        return prompt.upper()

    lm = ScriptedLM(script)
    prompts = ["a", "b", "c", "d"]
    with pytest.raises(ConnectionError):
        Cached(lm, tmp_path).generate(prompts, Sampling())
    broken = False
    said = Cached(lm, tmp_path).generate(prompts, Sampling())
    assert [one.text for [one] in said] == ["A", "B", "C", "D"]
    assert [[request.prompt.text for request in call] for call in lm.calls] == [["a", "b", "c", "d"], ["c", "d"]]


def test_threads_share_a_cache_and_are_all_given_the_answer_that_is_kept(tmp_path: Path) -> None:
    counted = iter(range(1000))
    lm = ScriptedLM(lambda _: str(next(counted)))
    cached = Cached(lm, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda i: cached.generate([f"p{i % 5}"], Sampling())[0][0].text, range(80)))
    kept = [one.text for [one] in cached.generate([f"p{i}" for i in range(5)], Sampling())]
    assert said == [kept[i % 5] for i in range(80)]


def test_two_caches_of_one_folder_know_each_others_answers(tmp_path: Path) -> None:
    first, second = coin(), coin()
    one, other = Cached(first, tmp_path), Cached(second, tmp_path)
    one.generate(["x"], Sampling())
    other.generate(["x"], Sampling())
    assert not paid(second)


def test_what_is_no_cache_is_told_and_left(tmp_path: Path) -> None:
    (tmp_path / "answers.sqlite").write_bytes(b"something else " * 100)
    with pytest.raises(ValueError, match="is not a cache of answers"):
        Cached(coin(), tmp_path)
    assert (tmp_path / "answers.sqlite").read_bytes() == b"something else " * 100


KILLED = """
import os, sys
from autodidact.lm.cached import Cached
from autodidact.lm.lm import Sampling
from autodidact.lm.recorded import Recorded
from autodidact.lm.scripted import ScriptedLM

def script(prompt):
    if prompt == "7":
        # Half a line of a transcript, as a crash leaves it; then this process waits for its end.
        with open(sys.argv[1] + "/transcript.jsonl", "a") as file:
            file.write('{"model": "scri')
        print("waiting", flush=True)
        sys.stdin.read()
    return "answer " + prompt

lm = Cached(Recorded(ScriptedLM(script), sys.argv[1] + "/transcript.jsonl"), sys.argv[1])
lm.generate([str(i) for i in range(20)], Sampling())
"""


def test_a_run_that_is_killed_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "waiting\n"
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
    lm = ScriptedLM(lambda prompt: f"answer {prompt}")
    resumed = Cached(Recorded(lm, tmp_path / "transcript.jsonl"), tmp_path)
    said = resumed.generate([str(i) for i in range(20)], Sampling())
    assert [one.text for [one] in said] == [f"answer {i}" for i in range(20)]
    assert lm.asked == [str(i) for i in range(7, 20)]
    lines = read_transcript(tmp_path / "transcript.jsonl")
    assert [line["request"]["prompt"][0]["content"] for line in lines] == [str(i) for i in range(20)]


def test_calls_stop_before_the_budget_is_exceeded_and_keep_what_was_answered() -> None:
    lm = coin()
    budgeted = Budgeted(lm, calls=5)
    with pytest.raises(BudgetExceeded, match="the budget of 5 calls does not suffice: 5 calls") as raised:
        budgeted.generate(["a", "b", "c"], Sampling(n=2))
    assert len(paid(lm)) == budgeted.spent.calls == raised.value.spent.calls == 5
    assert [(r.prompt.text, r.sample) for r, _ in raised.value.answered if isinstance(r, Draw)] == [
        ("a", 0),
        ("a", 1),
        ("b", 0),
        ("b", 1),
        ("c", 0),
    ]


def test_scores_and_choices_are_calls_too() -> None:
    budgeted = Budgeted(coin(), calls=4)
    budgeted.generate(["a"], Sampling())
    budgeted.score(["a", "b"], ["heads", "tails"])
    budgeted.choose(["a"], ["heads", "tails"])
    with pytest.raises(BudgetExceeded):
        budgeted.choose(["a"], ["heads", "tails"])
    assert budgeted.spent.calls == 4


@given(budget=st.integers(1, 400), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_tokens_never_exceed_the_budget_and_less_than_the_next_request_is_left(budget: int, sizes: list[int]) -> None:
    lm = ScriptedLM(lambda prompt: " ".join(prompt.split()))
    prompts = [" ".join(["w"] * size) for size in sizes]
    sampling = Sampling(n=2, max_tokens=20)
    budgeted = Budgeted(lm, tokens=budget)
    full = sum(2 * (2 * size + 1) for size in sizes)
    try:
        budgeted.generate(prompts, sampling)
    except BudgetExceeded as exceeded:
        answered = exceeded.answered
        following = Draw(Prompt.of(prompts[len(answered) // 2]), sampling, len(answered) % 2)
        assert budgeted.spent.tokens + most(following).tokens > budget
        costs = [one.prompt_tokens + one.completion_tokens for _, one in answered]  # type: ignore[union-attr, operator]
        assert sum(costs) == budgeted.spent.tokens
    else:
        assert budgeted.spent.tokens == full
    assert budgeted.spent.tokens <= budget


def test_a_prompt_whose_tokens_are_known_is_counted_with_them() -> None:
    prompt = " ".join(["word"] * 50)
    lm = ScriptedLM(lambda _: "yes")
    first = most(Draw(Prompt.of(prompt), Sampling(max_tokens=10))).tokens
    budgeted = Budgeted(lm, tokens=first + 52)
    budgeted.generate([prompt], Sampling(max_tokens=10))
    # 50 tokens of the prompt are known now, where its bytes would not fit.
    budgeted.generate([prompt], Sampling(max_tokens=10, seed=1))
    assert budgeted.spent == replace(budgeted.spent, prompt_tokens=100, completion_tokens=4)


def test_tokens_that_are_not_told_count_with_their_bound() -> None:
    budgeted = Budgeted(Plain(), tokens=10_000)
    budgeted.generate(["abc"], Sampling(max_tokens=7))
    assert budgeted.spent == replace(budgeted.spent, calls=1, prompt_tokens=3 + 64, completion_tokens=7, untold=1)


def test_time_is_looked_at_before_each_group_of_requests() -> None:
    lm = coin()
    # Each group takes one second of this clock.
    budgeted = Budgeted(lm, seconds=3, together=2, clock=Clock())
    with pytest.raises(BudgetExceeded, match="the budget of 3 seconds"):
        budgeted.generate(["x"], Sampling(n=20))
    assert budgeted.spent.seconds == 3
    assert [len(call) for call in lm.calls] == [2, 2, 2]


def test_a_request_that_fails_leaves_the_budget_as_it_was() -> None:
    failing = True

    def script(_: str) -> str:
        if failing:
            raise ConnectionError("gone")
        return "yes"

    budgeted = Budgeted(ScriptedLM(script), calls=1)
    with pytest.raises(ConnectionError):
        budgeted.generate(["x"], Sampling())
    failing = False
    assert budgeted.generate(["x"], Sampling())[0][0].text == "yes"


def test_threads_do_not_exceed_a_budget_together() -> None:
    lm = coin()
    budgeted = Budgeted(lm, calls=50)

    def ask(i: int) -> bool:
        try:
            budgeted.generate([str(i)], Sampling())
        except BudgetExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(ask, range(200)))
    assert sum(done) == len(paid(lm)) == budgeted.spent.calls == 50


def test_models_that_share_a_budget_spend_it_together() -> None:
    first = Budgeted(coin(), calls=5)
    second = first.beside(coin(name="second"))
    sampling = Sampling(n=3, max_tokens=2)
    first.generate(["a"], sampling)
    with pytest.raises(BudgetExceeded) as ended:
        second.generate(["b"], sampling)
    assert len(ended.value.answered) == 2
    assert first.spent.calls == second.spent.calls == 5
    assert first.spent == ended.value.spent


def test_a_cache_around_a_budget_goes_on_where_the_budget_ended(tmp_path: Path) -> None:
    lm = coin()
    prompts = [str(i) for i in range(10)]
    for _ in range(3):
        with pytest.raises(BudgetExceeded):
            Cached(Budgeted(lm, calls=3), tmp_path).generate(prompts, Sampling())
    last = Budgeted(lm, calls=3)
    said = Cached(last, tmp_path).generate(prompts, Sampling())
    assert said == coin().generate(prompts, Sampling())
    assert (len(paid(lm)), last.spent.calls) == (10, 1)


@pytest.mark.parametrize("wrong", [{"calls": 0}, {"tokens": -1}, {"seconds": 0.0}])
def test_a_budget_of_nothing_is_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"a budget of {next(iter(wrong))} must be above 0"):
        Budgeted(coin(), **wrong)


def test_what_was_spent_adds_up() -> None:
    one, other = Spent(1, 2, 3, 4, 5.0), Spent(10, 20, 30, 40, 50.0)
    assert one + other == Spent(11, 22, 33, 44, 55.0)
    assert (one + other) - other == one
    assert one.tokens == 5


def test_a_transcript_has_every_request_with_answer_seconds_and_cost(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    recorded = Recorded(ScriptedLM({"a b": "yes"}), path, clock=Clock())
    recorded.generate(["a b"], Sampling(n=2, seed=7))
    recorded.score(["a b"], ["yes"], end=False)
    lines = read_transcript(path)
    assert [(line["model"], line["call"], line["seconds"]) for line in lines] == [
        ("scripted", 0, 1.0),
        ("scripted", 0, 2.0),
        ("scripted", 1, 1.0),
    ]
    assert lines[1]["request"] == {
        "call": "generate",
        "prompt": [{"role": "user", "content": "a b"}],
        "sampling": {
            "max_tokens": 128,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 0,
            "stop": [],
            "seed": 7,
        },
        "sample": 1,
    }
    assert (lines[1]["answer"]["text"], lines[1]["answer"]["sample"]) == ("yes", 1)
    assert (lines[1]["answer"]["prompt_tokens"], lines[1]["answer"]["completion_tokens"]) == (2, 2)
    assert lines[2]["answer"] == [0.0]


def test_a_call_that_fails_leaves_its_error_in_the_transcript(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    with pytest.raises(ValueError, match="unknown prompt"):
        Recorded(ScriptedLM({"a": "b"}), path).generate(["a", "c"], Sampling())
    answered, failed = read_transcript(path)
    assert answered["answer"]["text"] == "b"
    assert failed["error"].startswith("ValueError: unknown prompt of scripted 'c'")


def test_a_transcript_is_replayed(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    lm = Recorded(coin(name="actor"), path)
    prompts, sampling = ["a", "b"], Sampling(n=3)
    told = (lm.generate(prompts, sampling), lm.score(["a"], ["heads"]), lm.choose(["b"], ["heads", "tails"]))
    again = replay(path)
    assert again.name == "actor"
    assert again.generate(prompts, sampling) == told[0]
    assert again.score(["a"], ["heads"]) == told[1]
    assert np.array_equal(again.choose(["b"], ["heads", "tails"]), told[2])


def test_a_request_that_is_not_in_the_transcript_is_told(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    Recorded(coin(), path).generate(["a"], Sampling())
    with pytest.raises(ValueError, match="the transcript of scripted has no such request: a sample of 'a'"):
        replay(path).generate(["a"], Sampling(seed=1))


def test_a_request_that_was_answered_differently_is_replayed_in_that_order(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    counted = iter(range(9))
    lm = Recorded(ScriptedLM(lambda _: str(next(counted))), path)
    for _ in range(2):
        lm.generate(["a"], Sampling())
    again = replay(path)
    assert [again.generate(["a"], Sampling())[0][0].text for _ in range(3)] == ["0", "1", "1"]


def test_what_is_no_transcript_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such transcript"):
        replay(tmp_path / "missing.jsonl")
    (tmp_path / "broken.jsonl").write_text('{"model": "a"}\n{"mod\n{"model": "a"}\n')
    with pytest.raises(ValueError, match=r"line 2 of .* is not JSON"):
        read_transcript(tmp_path / "broken.jsonl")
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(ValueError, match=r"line 1 of .* is not one of a transcript"):
        read_transcript(tmp_path / "other.jsonl")
    (tmp_path / "two.jsonl").write_text('{"model": "a", "answer": 1}\n{"model": "b", "answer": 1}\n')
    with pytest.raises(ValueError, match="must have the answers of one model, it has those of a, b"):
        replay(tmp_path / "two.jsonl")


TEXTS = st.text(max_size=5)
PROMPTS = st.text(min_size=1, max_size=5).map(Prompt.of)
NATS = st.lists(st.floats(-1e300, 0), max_size=3).map(tuple)
PAIRS = st.one_of(
    st.tuples(
        st.builds(Draw, PROMPTS, SAMPLINGS, st.integers(0, 9)),
        st.builds(
            Completion,
            TEXTS,
            st.sampled_from(["stop", "length", "refused"]),
            st.none() | st.lists(st.integers(0, 9), max_size=3).map(tuple),
            st.none() | NATS,
            st.none() | st.integers(0, 9),
            st.none() | st.integers(0, 9),
            st.integers(0, 9),
        ),
    ),
    st.tuples(st.builds(Scoring, PROMPTS, TEXTS, st.booleans()), st.builds(Score, NATS)),
)


@given(PAIRS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_requests_and_answers_come_back_from_json_as_they_were(pair: tuple[Request, Answer]) -> None:
    request, answer = pair
    again = request_of(json.loads(json.dumps(request.plain())))
    assert again == request
    assert answer_of(again, json.loads(json.dumps(plain_answer(answer)))) == answer


@given(st.lists(st.floats(0, 1), min_size=2, max_size=4))
@settings(max_examples=30, deadline=None)
def test_choices_come_back_from_json_as_they_were(row: list[float]) -> None:
    request = Choosing(Prompt.of("x"), ("a", "b"))
    again = answer_of(request_of(json.loads(json.dumps(request.plain()))), json.loads(json.dumps(row)))
    assert isinstance(again, np.ndarray)
    assert np.array_equal(again, np.array(row))


def test_a_model_that_answers_whole_calls_is_called_with_whole_prompts_that_go_together() -> None:
    lm = Plain()
    requests = [Draw(Prompt.of(text), Sampling(), k) for text in "abc" for k in range(3)]
    found = dict(answers(lm, requests, together=4))
    assert lm.calls == [(["a", "b"], 3), (["c"], 3)]
    assert [found[i].text for i in range(9)] == ["a0", "a1", "a2", "b0", "b1", "b2", "c0", "c1", "c2"]  # type: ignore[union-attr]


def test_samples_that_nobody_asked_for_are_dropped() -> None:
    found = list(answers(Plain(), [Draw(Prompt.of("a"), Sampling(), 2)]))
    assert found == [(0, Completion("a2", "stop", sample=2))]


def test_wrappers_pass_scores_and_choices_of_any_model_on(tmp_path: Path) -> None:
    lm = Recorded(Cached(Budgeted(Plain(), calls=100), tmp_path), tmp_path / "t.jsonl")
    assert lm.score(["a", "b"], ["cc", "d"]) == [Score((-2.0, -0.5)), Score((-1.0, -0.5))]
    e = math.exp(-1.0)
    assert lm.choose(["a"], ["x", "yy"]) == pytest.approx(np.array([[1 / (1 + e), e / (1 + e)]]), abs=1e-12)


@pytest.mark.parametrize("wrap", [lambda lm, at: Cached(lm, at), lambda lm, at: Recorded(lm, at / "t"), Budgeted])
def test_wrappers_have_the_name_the_context_and_the_abilities_of_the_model(wrap: Any, tmp_path: Path) -> None:
    lm = coin(name="first", capabilities=("generate", "train", "latent"))
    lm.context = 99
    wrapped = Budgeted(lm) if wrap is Budgeted else wrap(lm, tmp_path)
    assert (wrapped.name, wrapped.context, wrapped.capabilities) == ("first", 99, {"generate"})
    # The name of a model that learns changes, and with it what a cache knows.
    lm.name = "second"
    assert wrapped.name == "second"
    with pytest.raises(Incapable, match="scoring needs a model that can score; second can generate"):
        wrapped.score(["a"], ["b"])


def test_empty_calls_have_empty_answers(tmp_path: Path) -> None:
    lm = Recorded(Cached(Budgeted(coin(), calls=1), tmp_path), tmp_path / "t.jsonl")
    assert lm.generate([], Sampling()) == []
    assert lm.score([], []) == []
    assert lm.choose([], ["a", "b"]).shape == (0, 2)


@pytest.mark.parametrize(
    ("prompts", "completions", "end", "told"),
    [
        (["a"], ["b", "c"], True, "1 prompts cannot be scored with 2 completions"),
        (["a"], [""], False, "nothing to score but its end"),
        ([""], ["b"], True, "must not be empty"),
    ],
)
def test_what_cannot_be_scored_is_told(prompts: list[str], completions: list[str], end: bool, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        coin().score(prompts, completions, end=end)
