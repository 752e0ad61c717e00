"""A second turn reads the very tokens of the first, through every template; prompts that are alike draw differently."""

from __future__ import annotations

import pytest

from autodidact.lm import Sampling
from autodidact.lm.lm import Message, Prompt, Tokens
from autodidact.lm.local import LocalLM
from autodidact.lm.repeated import generate_each
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.tiny import tiny_lm
from autodidact.lm.turns import asked_again

TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'][0] + '>' + m['content'] + '$' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<a>' }}{% endif %}"
)
FORGETS = "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<u>' + m['content'] }}{% endif %}{% endfor %}<a>"


@pytest.fixture
def plain():
    # Pairs of letters are tokens too, so that a text has several ways to be cut, and what was drawn may be any of them.
    return tiny_lm(["a", "b", "ab", "ba", ">", ";", "?", "<", "u", "s", "$", "!"], width=16, depth=1, context=48)


def chat(lm: LocalLM, template: str = TEMPLATE) -> LocalLM:
    lm.tokenizer.chat_template = template
    made = LocalLM(lm.module, lm.tokenizer, label="chat")
    made.ends = (*made.ends, lm.wording.answer_ids(["$"])[0][0])
    return made


@pytest.mark.parametrize("talks", [False, True])
def test_the_corrector_reads_the_tokens_that_were_drawn_and_not_those_of_the_text_read_again(plain, talks):
    lm = chat(plain) if talks else plain
    drawn = lm.generate(["a>", "ba>"], Sampling(12, 5, stop=(";",), seed=3))
    (begun,) = lm.wording.prompt_ids([Prompt.of("a>")])
    again = 0
    for one in drawn[0]:
        found = asked_again(lm, "a>", one, "?")
        said = one.tokens[:-1] if one.tokens[-1] in lm.ends else one.tokens
        (ids,) = lm.wording.prompt_ids([found])
        assert ids[: len(begun) + len(said)] == [*begun, *said]
        after = lm.wording.text(ids[len(begun) + len(said) :])
        assert after == ("$<u>?$<a>" if talks else "?")
        again += lm.wording.answer_ids([one.text])[0] != list(said)
        seen = lm.encode([found], [[2]])
        assert seen.ids[0, :-1].tolist() == ids
    assert again, "no text had several ways to be cut"


def test_an_empty_request_adds_nothing_and_a_model_elsewhere_reads_the_text(plain):
    one = plain.generate(["a>"], Sampling(1, 4, seed=1))[0][0]
    found = asked_again(plain, "a>", one, "")
    said = one.tokens[:-1] if one.tokens[-1] in plain.ends else one.tokens
    assert found.ids == (*plain.wording.prompt_ids([Prompt.of("a>")])[0], *said)
    elsewhere = ScriptedLM(lambda _: "b")
    answer = elsewhere.generate(["a>"], Sampling())[0][0]
    expected = Prompt((Message("user", "a>"), Message("assistant", "b"), Message("user", "?")))
    assert asked_again(elsewhere, "a>", answer, "?") == expected


def test_a_template_that_hides_earlier_answers_is_refused(plain):
    lm = chat(plain, FORGETS)
    one = lm.generate(["a>"], Sampling(1, 4, seed=1))[0][0]
    with pytest.raises(ValueError, match="does not show earlier answers as they were"):
        asked_again(lm, "a>", one, "?")


def test_the_same_text_in_other_tokens_is_another_prompt():
    messages = (Message("user", "ab"),)
    first, second = Tokens(messages, (2, 3)), Tokens(messages, (4,))
    assert len({first.digest, second.digest, Prompt(messages).digest}) == 3
    assert first.text == second.text


def test_prompts_that_are_alike_get_draws_of_their_own_as_samples_of_one_prompt_do(plain):
    sampling = Sampling(2, 6, seed=4)
    found = generate_each(plain, ["a>", "b>", "a>"], sampling)
    four = plain.generate(["a>"], Sampling(4, 6, seed=4))[0]
    assert [one.tokens for one in (*found[0], *found[2])] == [one.tokens for one in four]
    assert [one.tokens for one in found[1]] == [one.tokens for one in plain.generate(["b>"], sampling)[0]]
