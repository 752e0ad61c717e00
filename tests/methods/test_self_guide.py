"""SELF-GUIDE writes its own examples: what it asks for, what it drops and why, and what it learns."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from tests.lm.small import Small

from autodidact.data import Store
from autodidact.lm import Completion, Sampling
from autodidact.lm.fitting import NoRoom
from autodidact.lm.kept import LanguageModel
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.recipes.improving import example_source
from autodidact.recipes.self_guide import SHOWN_INPUTS, SelfGuide, balanced, first_label
from autodidact.recipes.stages import Run, Site
from autodidact.training import Settings

STYLE = Style(
    opening="",
    demonstration="{input}>{output};",
    question="{input}>",
    stop=(";",),
    inputs_opening="?",
    inputs_item="{input};",
    inputs_ask="",
    inputs_ask_labelled="{label}<",
)
WORDS = Task("Double.", (Demonstration("ab", "abab"), Demonstration("cde", "cdecde")), style=STYLE)
SIGNS = Task("Sign.", (Demonstration("1", "plus"), Demonstration("-1", "minus")), labels=("plus", "minus"), style=STYLE)


def said(*texts: str) -> list[Completion]:
    return [Completion(text, "stop") for text in texts]


def test_a_request_shows_all_demonstrated_inputs_and_at_most_ten_of_the_pool_and_no_output():
    lm = ScriptedLM(lambda prompt: f"x{len(prompt)}{sum(map(ord, prompt)) % 97}", name="inputs")
    store = Store(name="inputs")
    SelfGuide(rounds=6, per_round=8, input_length=False).synthesise(lm, WORDS, store, seed=0)
    pool = set(store.column("input"))
    sizes = set()
    for prompt in lm.asked:
        shown = prompt.removeprefix("?").split(";")[:-1]
        assert {"ab", "cde"} <= set(shown)
        assert set(shown[:-2]) <= pool
        assert set(shown[-2:]) == {"ab", "cde"}
        sizes.add(len(shown) - 2)
    assert 0 in sizes
    assert max(sizes) <= SHOWN_INPUTS
    assert len(sizes) > 3
    assert not any("abab" in prompt for prompt in lm.asked)


def test_a_classification_asks_for_an_input_of_each_label_about_as_often():
    lm = ScriptedLM(lambda prompt: "7")
    SelfGuide(rounds=20, per_round=10).synthesise(lm, SIGNS, Store(name="inputs"), seed=0)
    asked = Counter(prompt.rpartition(";")[2] for prompt in lm.asked)
    assert set(asked) == {"plus<", "minus<"}
    assert abs(asked["plus<"] - 100) < 30


@pytest.mark.parametrize("labelled", [False, True])
def test_a_request_is_what_the_rng_of_its_round_makes_of_pool_demonstrations_and_labels(labelled):
    brought = [f"{k}7" for k in range(12)]
    task = replace(SIGNS if labelled else WORDS, inputs=tuple(brought))
    lm = ScriptedLM(lambda prompt: f"9{len(prompt) % 10}{sum(map(ord, prompt)) % 10}")
    store = Store(name="inputs")
    SelfGuide(rounds=3, per_round=1, input_length=False).synthesise(lm, task, store, seed=5)
    written = [text for text in store.column("input") if text not in brought]
    # As if by hand: the demonstrations' order, the label, how many of the pool, which of them.
    rng, pool = np.random.default_rng((5, 2)), [*brought, *written[:2]]
    demonstrated = [task.demonstrations[k].input for k in rng.permutation(2)]
    label = task.labels[rng.integers(2)] + "<" if labelled else ""
    count = rng.integers(1, 11)
    shown = [pool[k] for k in rng.permutation(14)[:count]]
    assert len(written) == 3
    assert lm.asked[2] == "?" + "".join(f"{text};" for text in [*shown, *demonstrated]) + label


def test_a_request_that_would_be_too_long_shows_fewer_of_the_pool_and_still_all_demonstrations():
    pool = [f"pool{k}" for k in range(20)]

    def shown(longest: int) -> list[str]:
        made = SelfGuide(longest_prompt=longest).request(WORDS, pool, np.random.default_rng(4))
        assert len(made) <= longest or made.count(";") == 2
        return made.removeprefix("?").split(";")[:-1]

    whole = shown(10_000)
    length = len("?" + "".join(f"{text};" for text in whole))
    assert len(whole) == SHOWN_INPUTS + 2
    assert shown(length) == whole
    # The last of the pool go first, and no more of them than must.
    assert shown(length - 1) == [*whole[:-3], *whole[-2:]]
    assert shown(length - 1 - len(whole[-3])) == [*whole[:-3], *whole[-2:]]
    assert shown(length - 2 - len(whole[-3])) == [*whole[:-4], *whole[-2:]]
    assert shown(1) == whole[-2:]


def test_a_label_is_in_a_request_only_where_it_asks_for_an_input_of_it_and_in_no_question_at_all():
    lm = ScriptedLM(lambda prompt: f"{sum(map(ord, prompt)) % 50}")
    inputs = Store(name="inputs")
    method = SelfGuide(rounds=8, per_round=4, input_length=False, votes=2)
    method.synthesise(lm, SIGNS, inputs, seed=0)
    assert len(lm.asked) == 32
    for prompt in lm.asked:
        known, _, asked = prompt.rpartition(";")
        assert asked in ("plus<", "minus<")
        assert not any(label in known for label in SIGNS.labels)
        assert set(known.removeprefix("?").split(";")) <= {"1", "-1", *inputs.column("input")}
    assert not any(label in text for text in inputs.column("input") for label in SIGNS.labels)
    judge = ScriptedLM(lambda _: "plus")
    outputs = Store(name="outputs")
    method.annotate(judge, SIGNS, inputs, outputs, seed=0)
    # Labels are in a question only as the outputs of demonstrations.
    questions = [f"1>plus;-1>minus;{text}>" for text in inputs.column("input")]
    assert questions == [SIGNS.prompt(text) for text in inputs.column("input")] == outputs.column("prompt")
    assert judge.asked == [question for question in questions for _ in range(2)]


def test_inputs_that_the_task_brings_come_first_and_may_be_all_there_are():
    brought = replace(WORDS, inputs=("fg", " hij", "fg", "ab"))
    store, alone = Store(name="inputs"), Store(name="alone")
    SelfGuide(rounds=1, per_round=2, input_length=False).synthesise(ScriptedLM(lambda _: "fg"), brought, store, seed=0)
    assert store.column("input") == ["fg", "hij"]
    # One of the task's inputs, and what was written twice.
    assert Counter(store.dropped.values()) == {"known already": 3, "a demonstration's input": 1}
    lm = ScriptedLM(lambda _: "x")
    SelfGuide(rounds=0).synthesise(lm, brought, alone, seed=0)
    assert (alone.column("input"), lm.calls) == (["fg", "hij"], [])


def test_every_input_that_was_asked_for_is_kept_once_or_dropped_with_its_reason():
    answers = iter(["ab", "fg", "fg", "", "Sure, here is one", "much longer than any of these", "hij"] + ["kl"] * 3)
    lm = ScriptedLM(lambda _: next(answers))
    store = Store(name="inputs")
    method = SelfGuide(rounds=1, per_round=10, input_length=True)
    method.synthesise(lm, WORDS, store, seed=0)
    # Lengths 2 and 3: mean 2.5, deviation 0.5, so from 1.5 and below 3.5.
    assert sorted(store.column("input")) == ["fg", "hij", "kl"]
    assert Counter(store.dropped.values()) == {
        "a demonstration's input": 1,
        "known already": 3,
        "empty": 1,
        "unusual length": 2,
    }
    assert len(store) + len(store.dropped) == 10


def test_noise_lists_of_two_methods_do_not_interact():
    first, second = SelfGuide(noise=("zzz",)), SelfGuide(noise=("yyy",), filter_noise=False)
    assert first.refused("a zzz", None) == "holds 'zzz'"
    assert first.refused("a yyy", None) == ""
    assert second.refused("a YYY", None) == "holds 'yyy'"
    assert second.refused("Sure, a zzz", None) == ""


@pytest.mark.parametrize(
    ("text", "noise"),
    [
        ("where is it", ""),
        ("There is one, and there are more", ""),
        ("at leisure, and all inputs", ""),
        ("as an aim", ""),
        ("Here is it", "here is"),
        ("well, HERE ARE two", "here are"),
        ("(therefore)", "therefore"),
        ("the input: x", "input:"),
        ("a [Input]x", "[input]"),
        ("a\n\nb", "\n\n"),
    ],
)
def test_noise_is_held_where_it_stands_as_whole_words(text, noise):
    assert SelfGuide().refused(text, None) == (f"holds {noise!r}" if noise else "")


def test_of_the_inputs_that_the_task_brings_each_is_kept_or_dropped_with_its_reason(tmp_path):
    given = ("fg", "fg ", "", "  ", "ab", "t  u", "hij", " hij")
    task = replace(WORDS, inputs=given, test=(Demonstration("t u", "tutu"),))
    store = Store(tmp_path / "inputs")
    for _ in range(2):
        SelfGuide(rounds=0).synthesise(ScriptedLM({}), task, store, seed=0)
        assert store.column("input") == ["fg", "hij"]
        assert Counter(store.dropped.values()) == {
            "known already": 2,
            "empty": 2,
            "a demonstration's input": 1,
            "a test input": 1,
        }
        assert len(store) + len(store.dropped) == len(given)
        # The same again, as after a kill.
        store = Store(tmp_path / "inputs")
    assert len((tmp_path / "inputs" / "dropped.jsonl").read_text().splitlines()) == 6


def test_an_input_that_the_model_writes_and_that_is_tested_is_dropped_whatever_its_spaces():
    task = replace(WORDS, test=(Demonstration("t u", "tutu"),))
    answers, store = iter(["t u", "t   u", "tu", "fg"]), Store(name="inputs")
    method = SelfGuide(rounds=1, per_round=4, input_length=False)
    method.synthesise(ScriptedLM(lambda _: next(answers)), task, store, seed=0)
    assert store.column("input") == ["tu", "fg"]
    assert list(store.dropped.values()) == ["a test input"] * 2


class Finishing(ScriptedLM):
    """A model whose answers end in turn as it is told to."""

    def __init__(self, script, *finishes) -> None:
        super().__init__(script)
        self.finishes = cycle(finishes)

    def answers(self, requests):
        for position, found in super().answers(requests):
            yield position, replace(found, finish=next(self.finishes))


def test_inputs_and_answers_that_did_not_come_to_an_end_are_dropped_with_how_they_ended():
    texts, store, outputs = iter(["fg", "hij", "kl"]), Store(name="inputs"), Store(name="outputs")
    method = SelfGuide(rounds=1, per_round=3, input_length=False, output_length=False, votes=3)
    lm = Finishing(lambda _: next(texts), "length", "refused", "stop")
    method.synthesise(lm, WORDS, store, seed=0)
    assert store.column("input") == ["kl"]
    assert sorted(store.dropped.values()) == ["cut off", "refused"]
    # Two that were withheld say the same, and are no voters.
    said_ = {WORDS.prompt("kl"): ["no", "no", "klkl"]}
    method.annotate(Finishing(said_, "refused", "refused", "stop"), WORDS, store, outputs, seed=0)
    assert outputs.column("completion") == ["klkl;"]
    none = method.agreed([Completion("no", "refused")] * 2 + [Completion("n", "length")], WORDS, None)
    assert none == (None, "no answer passed: refused")


def test_a_request_shows_so_many_inputs_as_leave_room_for_one_in_the_context_of_the_model():
    task, pool = replace(WORDS, max_input_tokens=4), [f"pool{k}" for k in range(10, 30)]

    def shown(context: int) -> list[str]:
        made = SelfGuide().request(task, pool, np.random.default_rng(4), Small({}, context))
        assert len(made) + 4 <= context
        return made.removeprefix("?").split(";")[:-1]

    whole = shown(1000)
    length = len("?" + "".join(f"{text};" for text in whole)) + 4
    assert len(whole) == SHOWN_INPUTS + 2
    assert shown(length) == whole
    assert shown(length - 1) == shown(length - 7) == [*whole[:-3], *whole[-2:]]
    assert shown(length - 8) == [*whole[:-4], *whole[-2:]]
    # "?ab;cde;" and four further tokens.
    assert shown(12) == whole[-2:]
    with pytest.raises(NoRoom, match=r"are 1 tokens more than scripted has a context for: lower max_input_tokens"):
        shown(11)


def test_a_long_pool_and_long_inputs_do_not_stop_a_run_whose_model_has_a_small_context(student):
    long = "f" * 30
    task = replace(WORDS, inputs=(long, "fg"), max_input_tokens=30, max_tokens=8)
    texts = iter([*("g" * k for k in range(20, 26)), "hij", "kl"])
    lm = Small(lambda prompt: next(texts) if prompt[0] == "?" else "abab", 40)
    method = SelfGuide(rounds=4, per_round=2, input_length=False, output_length=False, votes=2)
    inputs, outputs = Store(name="inputs"), Store(name="outputs")
    method.synthesise(lm, task, inputs, seed=0)
    assert len(inputs) == 2 + 8
    method.annotate(lm, task, inputs, outputs, seed=0)
    # "ab>abab;cde>cdecde;" and ">" are 20 tokens, the answer has 8, so that 11 are left.
    assert outputs.column("prompt") == [task.prompt(text) for text in ("fg", "hij", "kl")]
    assert list(outputs.dropped.values()) == ["too long beside the demonstrations"] * 7
    assert len(outputs) + len(outputs.dropped) == len(inputs)
    # The same of a real model: what is too long is dropped, and the others are answered.
    method, found = SelfGuide(rounds=1, per_round=3, votes=2), Store(name="real")
    real, asked = replace(task, inputs=(long * 4, "fg")), Store(name="asked")
    method.synthesise(student, real, asked, seed=0)
    method.annotate(student, real, asked, found, seed=0)
    assert found.dropped[int(asked.ids[0])] == "too long beside the demonstrations"
    assert len(found) + len(found.dropped) == len(asked)


def sampled(lm: ScriptedLM) -> set[Sampling]:
    """How the answers of a model were drawn, but for the seeds."""
    return {replace(request.sampling, seed=0) for call in lm.calls for request in call}


@pytest.mark.parametrize(
    ("task", "options", "temperature", "top_k"),
    [
        (WORDS, {}, 0.9, 40),
        (SIGNS, {}, 0.7, 40),
        (WORDS, {"temperature": 0.4, "top_k": 7}, 0.4, 7),
        (SIGNS, {"temperature": 1.3, "top_k": 0}, 1.3, 0),
    ],
)
def test_inputs_are_drawn_by_temperature_and_top_k_and_end_as_the_style_says(task, options, temperature, top_k):
    lm = ScriptedLM(lambda _: "7")
    SelfGuide(rounds=2, per_round=2, **options).synthesise(
        lm, replace(task, max_input_tokens=9), Store(name="inputs"), seed=3
    )
    assert sampled(lm) == {Sampling(max_tokens=9, temperature=temperature, top_k=top_k, stop=(";",))}
    assert {request.sampling.seed for call in lm.calls for request in call} == {3000, 3001}


@pytest.mark.parametrize(
    ("options", "temperature", "top_k"),
    [({}, 0.2, 10), ({"vote_temperature": 0.6, "vote_top_k": 3}, 0.6, 3), ({"vote_top_k": 0}, 0.2, 0)],
)
def test_answers_are_drawn_by_temperature_and_top_k_of_their_own_and_end_as_the_style_says(options, temperature, top_k):
    inputs, lm = Store(name="inputs"), ScriptedLM(lambda _: "abab;and so on")
    inputs.append([1, 2], input=["fg", "hij"])
    outputs = Store(name="outputs")
    SelfGuide(votes=3, **options).annotate(lm, replace(WORDS, max_tokens=8), inputs, outputs, seed=3)
    assert sampled(lm) == {Sampling(max_tokens=8, temperature=temperature, top_k=top_k, stop=(";",))}
    assert {request.sampling.seed for call in lm.calls for request in call} == {3}
    assert outputs.column("completion") == ["abab;"] * 2
    assert len(lm.asked) == 6


def test_three_of_ten_answers_must_agree_unless_it_is_said_otherwise():
    assert SelfGuide().agreed(said(*"aaabcdefgh"), WORDS, None) == ("a", "")
    assert SelfGuide().agreed(said(*"aabcdefghi"), WORDS, None) == (None, "its answers do not agree")
    assert SelfGuide(min_share=0.2).agreed(said(*"aabcdefghi"), WORDS, None) == ("a", "")


def test_asking_goes_on_after_a_kill_where_it_was(tmp_path: Path):
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    script = lambda prompt: f"w{len(prompt) % 13}{sum(map(ord, prompt)) % 11}"  # noqa: E731
    method = SelfGuide(rounds=4, per_round=6, input_length=False)
    method.synthesise(ScriptedLM(script), WORDS, whole, seed=3)
    with pytest.raises(KeyboardInterrupt):
        method.synthesise(_Failing(script, after=2 * 6), WORDS, cut, seed=3)
    again = ScriptedLM(script)
    method.synthesise(again, WORDS, Store(tmp_path / "cut"), seed=3)
    back = Store(tmp_path / "cut")
    assert back.column("input") == whole.column("input")
    assert back.dropped == whole.dropped
    assert len(again.asked) == 2 * 6


class _Failing(ScriptedLM):
    def __init__(self, script, after: int) -> None:
        super().__init__(script)
        self.after = after

    def answers(self, requests):
        if len(self.asked) >= self.after:
            raise KeyboardInterrupt
        return super().answers(requests)


def test_the_answer_that_most_agree_on_is_kept_where_their_share_reaches_the_limit():
    method = SelfGuide(min_share=0.3, output_length=False)
    assert method.agreed(said("a", "b", "a", "c"), WORDS, None) == ("a", "")
    assert method.agreed(said(*"abcdefghij"), WORDS, None) == (None, "its answers do not agree")
    # 3 of 10 are exactly 0.3.
    assert method.agreed(said(*"aaabcdefgh"), WORDS, None) == ("a", "")
    assert method.agreed([Completion("a", "length")], WORDS, None) == (None, "no answer passed: cut off")


def annotated(method: SelfGuide, answers, task: Task = WORDS) -> Store:
    """What the recipe makes of answers to inputs, by input."""
    inputs, outputs = Store(name="inputs"), Store(name="outputs")
    inputs.append(list(range(len(answers))), input=list(answers))
    lm = ScriptedLM(lambda prompt: answers[prompt.rpartition(";")[2].removesuffix(">")])
    method.annotate(lm, task, inputs, outputs, seed=0)
    return outputs


def test_an_input_without_an_answer_that_passes_is_dropped_with_what_most_of_them_are():
    answers = {
        "empty": ["", " ", ""],
        "said": ["saidsaid"] * 3,
        "part": ["", "", "partpart"],
        "noise": ["Sure, x", "sure, y", ""],
        "apart": ["a", "b", "c"],
    }
    found = annotated(SelfGuide(votes=3, min_share=0.5, output_length=False), answers)
    # Answers that are refused are not voters: the one that is left agrees with itself.
    assert found.column("prompt") == [WORDS.prompt("said"), WORDS.prompt("part")]
    assert found.column("completion") == ["saidsaid;", "partpart;"]
    assert found.dropped == {
        0: "no answer passed: empty",
        3: "no answer passed: holds 'sure,'",
        4: "its answers do not agree",
    }


def test_outputs_must_be_about_as_long_as_those_of_the_demonstrations_unless_it_is_a_classification():
    # Lengths 4 and 6: mean 5, deviation 1, so from 3 and below 7.
    answers = {"a": ["aa", "aaa"], "b": ["bb"] * 2, "c": ["cccccc"] * 2, "d": ["ddddddd"] * 2}
    found = annotated(SelfGuide(votes=2), answers)
    assert found.column("completion") == ["aaa;", "cccccc;"]
    assert set(found.dropped.values()) == {"no answer passed: unusual length"}
    free = annotated(SelfGuide(votes=2, output_length=False, min_share=0.5), answers)
    assert free.column("completion") == ["aa;", "bb;", "cccccc;", "ddddddd;"]
    long = {"3": ["it is plainly minus"]}
    assert annotated(SelfGuide(votes=1), long, SIGNS).column("completion") == ["minus;"]
    strict = annotated(SelfGuide(votes=1, output_length=True), long, SIGNS)
    assert list(strict.dropped.values()) == ["no answer passed: unusual length"]


def test_a_classification_keeps_the_label_that_an_answer_names_first():
    method = SelfGuide()
    assert method.agreed(said(" minus, not plus"), SIGNS, None)[0] == "minus"
    assert method.agreed(said("neither"), SIGNS, None) == (None, "names no label")


@pytest.mark.parametrize(
    ("text", "labels", "label"),
    [
        ("I do not know", ("yes", "no"), None),
        ("surplus", ("plus", "minus"), None),
        ("plus_1", ("plus", "minus"), None),
        ("positively", ("pos", "positive"), None),
        ("positive", ("pos", "positive"), "positive"),
        ("very positive", ("pos", "very", "very positive"), "very positive"),
        ("No, not yes", ("yes", "no"), "no"),
        ("it is MINUS.", ("plus", "minus"), "minus"),
        ("May", ("may", "May"), "May"),
        ("so: May", ("may", "May"), "May"),
        ("not good", ("good", "not good"), "not good"),
        ("(b)", ("(a)", "(b)"), "(b)"),
        ("x++", ("+", "++"), "++"),
        ("答案是正面", ("正面", "负面"), "正面"),
        ("答案是yes", ("yes", "no"), "yes"),
        ("", ("yes", "no"), None),
    ],
)
def test_a_label_is_found_as_whole_words_whatever_its_case(text, labels, label):
    assert first_label(text, labels) == label


def test_classes_are_cut_to_the_size_of_the_rarest_in_their_order():
    examples = [(f"{k}>", SIGNS.completion("plus" if k % 3 else "minus")) for k in range(12)]
    kept, told = balanced(examples, SIGNS, seed=0)
    assert Counter(output for _, output in kept) == {SIGNS.completion("plus"): 4, SIGNS.completion("minus"): 4}
    assert kept == [example for example in examples if example in kept]
    assert told == ["4 of each class, of plus 8, minus 4"]
    with pytest.raises(ValueError, match=r"no example of some label \(plus 12, minus 0\)"):
        balanced([("1>", SIGNS.completion("plus"))] * 12, SIGNS, seed=0)


def test_one_demonstration_has_no_spread_of_lengths_and_the_window_is_widened_with_a_warning():
    one = Task("Double.", (Demonstration("abcd", "abcdabcd"),), style=STYLE)
    store = Store(name="inputs")
    with pytest.warns(UserWarning, match="have one length, 4 characters"):
        SelfGuide(rounds=1, per_round=2, input_length=True).synthesise(
            ScriptedLM(lambda _: "xyzuv"), one, store, seed=0
        )
    assert store.column("input") == ["xyzuv"]


def site(folder: Path, task: Task, lm=None, student=None) -> Site:
    made = Site(
        example_source("task", [("a>", "b")]), lambda *_: None, Settings(steps=30, batch_size=8, lr=3e-2), folder, True
    )
    made.lm, made.student, made.task = lm or student, student, task
    return made


@pytest.fixture(scope="module")
def student():
    return tiny_lm("abcdefghij>;?<-1234567lpusmin", width=16, depth=1, context=128)


def test_what_was_kept_is_learned_and_the_model_knows_its_task(tmp_path, student):
    lm = ScriptedLM(lambda prompt: "fgh" if prompt.startswith("?") else "fghfgh")
    made = site(tmp_path, WORDS, lm, student)
    found = Run(SelfGuide(rounds=1, votes=2).stages(made), tmp_path).result()
    assert isinstance(found, LanguageModel)
    assert found.task.instruction == "Double."
    assert (tmp_path / "examples.jsonl").read_text() == (
        '{"prompt": "ab>abab;cde>cdecde;fgh>", "completion": "fghfgh;"}\n'
    )
    # One example thirty times: it is known by heart.
    assert found.lm.score(["ab>abab;cde>cdecde;fgh>"], ["fghfgh;"])[0].mean > -1.0
    assert (tmp_path / "stages" / "inputs" / "notes.txt").read_text() == (
        "1 inputs are kept, 9 are dropped (9 known already)\n"
    )


def test_a_classification_learns_as_many_examples_of_each_class(tmp_path, student):
    numbers = iter(["2", "3", "4", "-5", "6", "-7"])

    def script(prompt: str) -> str:
        if prompt.startswith("?"):
            return next(numbers)
        return "minus" if prompt.rpartition(";")[2].startswith("-") else "plus"

    method = SelfGuide(rounds=1, per_round=6, votes=2, input_length=False)
    Run(method.stages(site(tmp_path, SIGNS, ScriptedLM(script), student)), tmp_path).result()
    rows = [json.loads(line) for line in (tmp_path / "examples.jsonl").read_text().splitlines()]
    assert Counter(row["completion"] for row in rows) == {"plus;": 2, "minus;": 2}
    assert len(Store(tmp_path / "stages" / "outputs" / "store")) == 6
    assert (tmp_path / "stages" / "train" / "notes.txt").read_text() == "2 of each class, of plus 4, minus 2\n"


def test_nothing_left_is_an_error_that_counts_the_reasons(tmp_path, student):
    lm = ScriptedLM(lambda _: "ab")
    with pytest.raises(ValueError, match=r"0 inputs are kept, 20 are dropped \(20 a demonstration's input\)"):
        Run(SelfGuide(rounds=2).stages(site(tmp_path, WORDS, lm, student)), tmp_path).result()


def test_a_model_that_runs_elsewhere_needs_a_student_and_a_task_needs_demonstrations(tmp_path, student):
    with pytest.raises(ValueError, match="SelfGuide trains a model, and scripted runs elsewhere"):
        SelfGuide().stages(site(tmp_path, WORDS, ScriptedLM(lambda _: "x")))
    with pytest.raises(ValueError, match="needs demonstrations"):
        SelfGuide().stages(site(tmp_path, Task("Double."), student=student))
    with pytest.raises(ValueError, match="without rounds needs inputs"):
        SelfGuide(rounds=0).stages(site(tmp_path, WORDS, student=student))


@pytest.mark.parametrize(
    ("options", "said_"),
    [
        ({"rounds": -1}, "rounds must be at least 0"),
        ({"per_round": 0}, "per_round must be at least 1"),
        ({"votes": 0}, "votes must be at least 1"),
        ({"min_share": 0}, r"min_share lies in \(0, 1\]"),
        ({"temperature": -0.1}, "temperature must be at least 0"),
        ({"vote_temperature": -1.0}, "vote_temperature must be at least 0, got -1.0"),
        ({"vote_temperature": float("nan")}, "vote_temperature must be at least 0"),
        ({"top_k": -1}, "top_k must be at least 0"),
        ({"vote_top_k": -1}, "vote_top_k must be at least 0"),
        ({"longest_prompt": 0}, "longest_prompt must be at least 1"),
        ({"noise": ("",)}, "noise must have no empty text"),
        ({"noise": ("x", " ")}, "noise must have no empty text"),
    ],
)
def test_options_out_of_range_are_refused(options, said_):
    with pytest.raises(ValueError, match=said_):
        SelfGuide(**options)
