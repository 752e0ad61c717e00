"""A model that says what a script says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodidact.lm.answering import Choosing, Draw, Scoring
from autodidact.lm.lm import Completion, Message, Prompt, Sampling
from autodidact.lm.scripted import ScriptedLM, words

COIN = {"heads": math.log(0.8), "tails": math.log(0.2)}


def said(lm: ScriptedLM, sampling: Sampling, prompt: str = "toss") -> list[str]:
    return [one.text for one in lm.generate([prompt], sampling)[0]]


def test_it_says_its_line_to_a_prompt() -> None:
    lm = ScriptedLM({"hello": "good day to you"})
    assert lm.generate(["hello"], Sampling()) == [
        [Completion("good day to you", "stop", logprobs=(0.0,) * 5, prompt_tokens=1, completion_tokens=5)]
    ]


def test_turns_of_a_conversation_are_found_by_their_text() -> None:
    lm = ScriptedLM({"be brief. hello": "hi"})
    assert lm.generate([[Message("system", "be brief."), Message("user", " hello")]], Sampling())[0][0].text == "hi"


def test_a_function_may_write_the_lines() -> None:
    assert said(ScriptedLM(str.upper), Sampling(), "hello") == ["HELLO"]


def test_each_sample_has_its_own_of_several_texts() -> None:
    lm = ScriptedLM({"toss": ["a", "b", "c"]})
    assert said(lm, Sampling(n=3)) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="has 3 samples of 'toss', not 4"):
        lm.generate(["toss"], Sampling(n=4))


def test_a_prompt_that_is_not_in_the_script_is_told_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown prompt of actor 'helo'; did you mean 'hello'"):
        ScriptedLM({"hello": "hi"}, name="actor").generate(["helo"], Sampling())


def test_temperature_zero_says_the_likeliest_text() -> None:
    assert said(ScriptedLM({"toss": COIN}), Sampling(n=5, temperature=0)) == ["heads"] * 5


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_texts_are_drawn_as_often_as_their_probability_to_the_power_of_one_over_the_temperature(
    temperature: float,
) -> None:
    drawn = said(ScriptedLM({"toss": COIN}), Sampling(n=1000, temperature=temperature))
    share = 0.8 ** (1 / temperature) / (0.8 ** (1 / temperature) + 0.2 ** (1 / temperature))
    # Four standard deviations of a share of 1000 draws.
    assert drawn.count("heads") / 1000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 1000))


def test_a_sample_follows_from_seed_prompt_and_number_alone() -> None:
    lm = ScriptedLM(lambda _: COIN)
    alone = said(lm, Sampling(n=40, seed=3))
    among = lm.generate(["other", "toss"], Sampling(n=60, seed=3))[1]
    assert [one.text for one in among[:40]] == alone
    assert said(lm, Sampling(n=40, seed=4)) != alone


def test_scores_and_choices_are_the_stated_ones() -> None:
    lm = ScriptedLM({"toss": {"heads up": math.log(0.5), "tails": math.log(0.25), "edge": math.log(0.25)}})
    assert lm.score(["toss"], ["heads up"])[0].logprobs == (math.log(0.5), 0.0, 0.0)
    assert lm.score(["toss"], ["heads up"], end=False)[0].logprobs == (math.log(0.5), 0.0)
    assert lm.choose(["toss"], ["tails", "heads up"]) == pytest.approx(np.array([[1 / 3, 2 / 3]]), abs=1e-12)


def test_the_scores_of_all_texts_of_a_line_sum_to_one() -> None:
    total = sum(math.exp(score.total) for score in ScriptedLM({"toss": COIN}).score(["toss"] * 2, list(COIN)))
    assert total == pytest.approx(1.0, abs=1e-12)


def test_a_text_without_a_stated_probability_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="unknown text without a log-probability in the script, 'head'; did you mean"):
        ScriptedLM({"toss": COIN}).score(["toss"], ["head"])


def test_a_completion_is_cut_off_at_its_tokens_and_ended_by_its_texts() -> None:
    lm = ScriptedLM({"x": "one two three. four"})
    [[cut]] = lm.generate(["x"], Sampling(max_tokens=2))
    assert (cut.text, cut.finish, cut.completion_tokens) == ("one two", "length", 2)
    [[ended]] = lm.generate(["x"], Sampling(stop=(".", "four")))
    assert (ended.text, ended.finish, ended.completion_tokens) == ("one two three", "stop", 4)


def test_it_remembers_the_requests_of_each_call() -> None:
    lm = ScriptedLM(lambda _: COIN)
    sampling = Sampling(n=2)
    lm.generate(["a"], sampling)
    lm.score(["b"], ["heads"])
    lm.choose(["c"], ["heads", "tails"])
    a, b, c = (Prompt.of(text) for text in "abc")
    assert lm.calls == [
        (Draw(a, sampling, 0), Draw(a, sampling, 1)),
        (Scoring(b, "heads", True),),
        (Choosing(c, ("heads", "tails")),),
    ]
    assert lm.asked == ["a", "a", "b", "c"]


@given(st.text())
@settings(max_examples=60, deadline=None)
def test_words_lose_nothing_of_a_text(text: str) -> None:
    assert "".join(words(text)) == text
    assert len(words(text)) == max(len(text.split()), bool(text))
