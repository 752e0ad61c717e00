"""Self-J rates its own answers with the good ones at hand, learns to do without, and answers where it is sure."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from tests.lm.loopback import Loopback
from transformers import AutoModelForCausalLM, GPT2Config

from autodidact.data import Store
from autodidact.data.batch import Batch
from autodidact.evaluation.selective import curve, pearson, selective
from autodidact.evaluation.table import Table
from autodidact.lm.adapters import add_adapter
from autodidact.lm.endpoint import EndpointLM
from autodidact.lm.judge import Judge, Selecting, rating_prompts
from autodidact.lm.judging import JudgeForm, expected_ratings
from autodidact.lm.lm import Completion, Prompt
from autodidact.lm.local import LocalLM
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.measures.similarity import ngram_cosines
from autodidact.methods.language.two_views import TwoViewJudge
from autodidact.model import load_model
from autodidact.recipes.improving import example_source
from autodidact.recipes.self_judge import Answers, SelfJudge, answers_of, picked, writer_of
from autodidact.recipes.stages import Run, Site
from autodidact.report.markup import number
from autodidact.selection.thresholds import risk_threshold
from autodidact.targets.ratings import recalibrated
from autodidact.training import Settings
from autodidact.verbs.apply import apply
from autodidact.verbs.improve import improve

FORM = JudgeForm(rating="{input}>{answer}:", referenced="{input}>{answer}={reference}:")
STYLE = Style(opening="", demonstration="{input}>{output};", question="{input}>", stop=(";",))
WORDS = [a + b for a in "abcd" for b in "abcd"]
TASK = Task(
    "Double.",
    examples=tuple(Demonstration(word, word + word) for word in WORDS[:12]),
    test=tuple(Demonstration(word, word + word) for word in WORDS[12:]),
    style=STYLE,
    judge=FORM,
    max_tokens=4,
)
NINE, ONE = ({**dict.fromkeys("0123456789", -9.0), digit: -0.01} for digit in "91")


def script(prompt: str):
    """Doubles words that begin with a or b and repeats the others; rates by the good answer where it sees one."""
    word, _, rest = prompt.partition(">")
    if not rest:
        return word + word if word[0] in "ab" else word
    answer, _, reference = rest.removesuffix(":").partition("=")
    return NINE if (answer == reference if reference else len(answer) > 2) else ONE


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return tiny_lm("abcd>;=:0123456789", width=16, depth=1, context=32).save_folder(tmp_path_factory.mktemp("s") / "lm")


QUICK = Settings(steps=100, batch_size=8, lr=2e-2, weight_decay=0.0)


def test_a_rating_is_expected_over_the_digits_and_tells_how_likely_a_digit_is_at_all():
    even = ScriptedLM(lambda _: dict.fromkeys("0123456789", np.log(0.05)))
    ratings, mass = expected_ratings(even, ["x"])
    assert (ratings.tolist(), mass.tolist()) == (pytest.approx([4.5]), pytest.approx([0.5]))
    for k in "0123456789":
        sure = ScriptedLM(lambda _, k=k: {digit: 0.0 if digit == k else -1e3 for digit in "0123456789"})
        assert expected_ratings(sure, ["x"])[0].tolist() == [int(k)]
    lm = tiny_lm("abc0123456789", width=16, depth=1, context=16)
    ratings, mass = expected_ratings(lm, ["ab", "c"])
    logprobs = np.array([[lm.score([p], [str(k)], end=False)[0].total for k in range(10)] for p in ("ab", "c")])
    assert mass == pytest.approx(np.exp(logprobs).sum(1), rel=1e-5)
    assert ratings == pytest.approx(np.exp(logprobs) @ np.arange(10) / np.exp(logprobs).sum(1), rel=1e-5)


def test_a_rating_knows_nothing_of_the_tokens_that_are_no_digits_but_for_how_likely_a_digit_is():
    lm = tiny_lm("abc0123456789", width=16, depth=1, context=16)
    (ratings, mass), digits = expected_ratings(lm, ["ab", "c"]), lm.wording.answer_ids(list("0123456789"))
    others = torch.ones(len(lm.module.lm_head.weight), dtype=torch.bool)
    others[torch.tensor(digits)[:, 0]] = False
    assert int(others.sum()) == 5
    with torch.no_grad():
        lm.module.lm_head.weight[others] *= -30
    same, changed = expected_ratings(lm, ["ab", "c"])
    assert same == pytest.approx(ratings, abs=1e-9)
    assert (abs(changed - mass) > 0.01).all()


def test_in_float64_a_rating_agrees_to_ten_digits_with_a_loop_over_the_digits():
    tokens = tiny_lm("abc0123456789").tokenizer
    config = GPT2Config(
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=16,
        vocab_size=len(tokens),
        eos_token_id=1,
        bos_token_id=None,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lm = LocalLM(AutoModelForCausalLM.from_config(config), tokens).eval().double()
    with torch.no_grad():
        lm.module.lm_head.weight.mul_(20)
    prompts = ["ab", "c", "9ab0c", "a" * 15]
    ratings, mass = expected_ratings(lm, prompts)
    for prompt, rating, digit in zip(prompts, ratings, mass, strict=True):
        with torch.no_grad():
            logits = lm.module(input_ids=torch.tensor([tokens(prompt)["input_ids"]])).logits[0, -1].tolist()
        weights = [math.exp(logit - max(logits)) for logit in logits]
        of_digits = [weights[tokens.convert_tokens_to_ids(str(k))] for k in range(10)]
        expected = math.fsum(k * weight for k, weight in enumerate(of_digits)) / math.fsum(of_digits)
        assert rating == pytest.approx(expected, abs=1e-10)
        assert digit == pytest.approx(math.fsum(of_digits) / math.fsum(weights), abs=1e-10)
    assert np.ptp(ratings) > 0.5
    assert np.ptp(mass) > 0.1


def test_digits_that_an_address_does_not_tell_count_as_nothing_and_what_is_left_is_reported():
    told = {"7": np.log(0.3), "well": np.log(0.7)}
    with Loopback(ScriptedLM(lambda _: told), first=("7", "well")) as server:
        ratings, mass = expected_ratings(EndpointLM("tiny", server.address), ["x"])
    assert (ratings.tolist(), mass.tolist()) == (pytest.approx([7.0]), pytest.approx([0.3]))


def test_a_judge_is_asked_without_anything_of_the_good_answer():
    prompts = [rating_prompts(TASK, ["ab"], ["abc"], given) for given in (None, ["abab"], ["dddd"])]
    assert prompts == [["ab>abc:"], ["ab>abc=abab:"], ["ab>abc=dddd:"]]
    with pytest.raises(ValueError, match=r"judge\.rating must name \{answer\} and \{input\} and nothing else"):
        JudgeForm(rating="{input}>{answer}={reference}:")
    with pytest.raises(ValueError, match=r"judge\.referenced must name"):
        JudgeForm(referenced="{input}>{answer}:")


def test_ratings_are_recalibrated_by_rank_or_by_value():
    own, alike = np.array([0.0, 9.0, 4.5, 9.0]), np.array([0.1, 0.9, 0.5, 0.2])
    ranks = np.array([[0.5, 3, 1.5, 3], [0.5, 3.5, 2.5, 1.5]]) / 4
    for weight in (0.0, 0.5, 1.0):
        naive = np.rint(9 * (weight * ranks[0] + (1 - weight) * ranks[1]))
        assert recalibrated(own, alike, weight=weight).tolist() == naive.tolist()
    assert recalibrated(own, -alike, weight=0.5, scale="values").tolist() == [0, 4, 2, 4]
    with pytest.raises(ValueError, match="leave out answers without one, such as empty ones"):
        recalibrated(own, ngram_cosines(["", "a", "b", "c"], ["a"] * 4))


def test_answers_are_alike_as_far_as_their_characters_are():
    found = ngram_cosines(["abc", "abd", "xyz", ""], ["abc", "abc", "abc", "abc"])
    assert found[0] == pytest.approx(1)
    assert found[0] > found[1] > found[2] == 0
    assert np.isnan(found[3])


def test_figures_of_a_ranking_follow_from_its_closed_forms():
    right = np.array([1.0, 1, 1, 0, 0])
    perfect = selective(np.arange(5, 0, -1.0), right)
    assert perfect["AURC"] == pytest.approx((1 / 4 + 2 / 5) / 5)
    assert (perfect["AUROC"], perfect["quality at 50 %"]) == (1, 1)
    constant = selective(np.ones(5), right)
    assert (constant["AURC"], constant["AUROC"], constant["correlation"]) == (pytest.approx(0.4), 0.5, 0)
    order = np.array([3.0, 1, 4, 1, 5])
    assert selective(order, right)["rank correlation"] == pytest.approx(spearmanr(order, right).statistic)
    assert constant["rank correlation"] == 0 == selective(np.ones(1), np.ones(1))["rank correlation"]
    assert pearson(np.arange(5.0), right) == pytest.approx(np.corrcoef(np.arange(5.0), right)[0, 1])


def test_the_curve_of_risk_against_coverage_is_thinned_and_keeps_its_ends():
    right = np.array([1.0, 0, 1, 0])
    assert curve(np.arange(4, 0, -1.0), right) == [(0.25, 0), (0.5, 0.5), (0.75, pytest.approx(1 / 3)), (1, 0.5)]
    many = np.random.default_rng(0).random(1234)
    found = curve(many, (many > 0.5).astype(float))
    assert len(found) == 100
    assert [x for x, _ in found] == sorted({x for x, _ in found})
    assert (found[0], found[-1]) == ((1 / 1234, 0), (1, pytest.approx((many <= 0.5).mean())))


def improved(out: Path, student: Path, lm=None, **options):
    asked = {"student": student, "settings": QUICK, "quiet": True, "report": False, **options}
    return improve("self_judge", lm or ScriptedLM(script), TASK, out=out, **asked)


@pytest.fixture(scope="module")
def run(tmp_path_factory, student) -> Path:
    out = tmp_path_factory.mktemp("runs") / "judge"
    improved(out, student, method_arguments={"per_input": 2, "risk": 0.3, "validation": 0.4}, report=True)
    return out


def test_a_run_leaves_a_judge_its_ratings_a_comparison_and_a_report(run):
    judge = load_model(run)
    assert isinstance(judge, Judge)
    # What wrote ran elsewhere.
    assert judge.abilities == ("score",)
    known = apply(run, _rows(run, ["ab", "ca"], ["abab", "ca"]), ability="score", quiet=True)
    assert known[0] > known[1] + 1
    rows = [json.loads(line) for line in (run / "examples.jsonl").read_text().splitlines()]
    store = Store(run / "stages" / "ratings" / "store")
    assert len(rows) == 2 * len(store)
    assert {row["prompt"].count("=") for row in rows} == {0, 1}
    table = Table.load(run / "evaluations" / "judge.json")
    assert table.arms == ["judge", "judge, with the good answer", "ratings before training", "likelihood"]
    test = answers_of(Store(run / "stages" / "answers" / "store"), "test")
    right = np.array([TASK.right(*one) for one in zip(test.texts, test.references, test.inputs, strict=True)], float)
    kept = table.about["risk against coverage"]
    assert list(kept) == table.arms
    expected = curve(judge.rate(test.inputs, test.texts), right)
    assert kept["judge"] == [[pytest.approx(x), pytest.approx(y)] for x, y in expected]
    assert not (run / "evaluations" / "task.json").exists()
    page = (run / "report.html").read_text()
    for words in ("test inputs, rated", "ratings that are learned", "Rate answers, one a line with its input"):
        assert words in page
    assert "Go on from here" not in page
    # One line an arm, told to those who cannot see it too.
    [drawn] = re.findall(r'<svg [^>]*aria-label="Risk and coverage\.([^"]*)".*?</svg>', page, re.DOTALL)
    ends = [
        f"{arm}: {number(100 * found[0][1])} % at first, {number(100 * found[-1][1])} % of all."
        for arm, found in kept.items()
    ]
    assert drawn.strip() == " ".join(ends)


def test_the_threshold_is_that_of_the_validation_answers_which_are_not_learned_from(run):
    recipe = SelfJudge(per_input=2, risk=0.3, validation=0.4)
    answers, ratings = (Store(run / "stages" / stage / "store") for stage in ("answers", "ratings"))
    parts = recipe.split(TASK, QUICK.seed)
    learned = {text.partition(">")[0] for text in [*ratings.column("prompt"), *ratings.column("referenced")]}
    assert learned == {one.input for one in parts["train"]}
    assert {*answers_of(answers, "validation").inputs} == {one.input for one in parts["validation"]}
    assert not learned & {one.input for one in (*parts["validation"], *parts["test"])}
    judge = load_model(run)
    assert judge.selecting.threshold == pytest.approx(
        recipe.threshold(*picked(judge, TASK, answers_of(answers, "validation")))[0], abs=1e-5
    )
    assert 0 < judge.selecting.threshold < 9
    wrong = recipe.threshold(*picked(judge, TASK, answers_of(answers, "test")))[0]
    assert abs(wrong - judge.selecting.threshold) > 1e-3


def test_the_judge_learns_with_the_weights_of_the_recipe(tmp_path):
    class Watching(Site):
        def train(self, stage, method, source, settings=None, **further):
            self.seen = method
            return method.kept()

    lm, store = tiny_lm("abcd>;=:0123456789", width=16, depth=1, context=32), Store(name="ratings")
    found = answers_of_texts(["ab", "cc", "dd"], ["abab", "cc", "d"])
    recipe = SelfJudge(alpha=0.7, alpha_kd=0.1, weight=0.25, scale="values")
    script_of = {"ab": 2.0, "cc": 8.0, "dd": 5.0}
    rater = ScriptedLM(lambda prompt: {**dict.fromkeys("0123456789", -99.0), str(int(script_of[prompt[:2]])): 0.0})
    recipe.label(rater, lm, replace(TASK, judge=FORM), found, store)
    own, alike = np.array([2.0, 8.0, 5.0]), ngram_cosines(found.texts, found.references)
    expected = {
        (weight, scale): [str(one) for one in recalibrated(own, alike, weight=weight, scale=scale)]
        for weight in (0.25, 0.5)
        for scale in ("values", "ranks")
    }
    assert list(store.column("completion")) == expected[0.25, "values"]
    assert [found for found in expected.values() if found == expected[0.25, "values"]] == [expected[0.25, "values"]]
    here = Watching(example_source("task", [("a", "b")]), lambda *_: None, QUICK, tmp_path, True)
    recipe.trained(here, lm, store)
    assert (here.seen.alpha, here.seen.alpha_kd, here.seen.lm) == (0.7, 0.1, lm)


def test_an_input_or_answer_that_is_longer_than_a_context_is_dropped_and_named(student, tmp_path):
    long, test = "abcd" * 4, "dcba" * 4
    task = replace(
        TASK,
        examples=(*TASK.examples, Demonstration(long, "a"), Demonstration("abc", "c" * 30)),
        test=(*TASK.test, Demonstration(test, "d")),
    )
    asked = {"student": student, "settings": replace(QUICK, steps=2), "quiet": True, "report": False}
    improve("self_judge", ScriptedLM(lambda p: script(p)), task, out=tmp_path / "run", **asked)
    said = (tmp_path / "run" / "stages" / "answers" / "notes.txt").read_text()
    named = said.partition("longer than the context, or with an answer that is: ")[2].strip()
    assert sorted(named.split(", ")) == sorted([f"'{long}'", f"'{test}'", "'abc'"])
    assert Counter(Store(tmp_path / "run" / "stages" / "answers" / "store").dropped.values()) == {
        "longer than the context": 3
    }
    # Where the student writes too, an input that leaves no room for an answer is asked of nobody.
    lm = LocalLM.load(student)
    store, recipe = Store(name="answers"), SelfJudge()
    recipe.draw(lm, TASK, "train", [Demonstration("a" * 28, "a"), Demonstration("a" * 27, "a")], store, 0)
    assert [*store.dropped.values()].count("longer than the context") == 1
    assert len(store) + len(store.dropped) == 2


def test_without_an_answer_to_set_a_threshold_on_or_to_measure_by_a_run_says_so(student, tmp_path):
    long = tuple(Demonstration(letter * 30, "a") for letter in "abcd")
    asked = {"student": student, "settings": replace(QUICK, steps=2), "quiet": True, "report": False}
    task = replace(TASK, test=long)
    improve("self_judge", ScriptedLM(script), task, out=tmp_path / "a", **asked)
    assert "nothing is measured" in (tmp_path / "a" / "stages" / "judge" / "notes.txt").read_text()
    assert not (tmp_path / "a" / "evaluations").exists()

    class Held(SelfJudge):
        def split(self, task, seed):
            return {"train": task.examples, "validation": long, "test": ()}

    here = Site(example_source("task", [("a", "b")]), lambda *_: None, QUICK, tmp_path / "b", True)
    here.lm, here.student, here.task = ScriptedLM(script), LocalLM.load(student), TASK
    with pytest.raises(ValueError, match=r"to set the threshold on: .*4 longer than the context"):
        Run(Held(risk=0.2).stages(here)[:1], tmp_path / "b").result()


def test_a_student_that_only_rates_needs_no_room_to_answer(tmp_path):
    judge = tiny_lm("abcd>;=:0123456789", width=16, depth=1, context=16)
    task = replace(TASK, max_tokens=20)
    improve(
        "self_judge", ScriptedLM(script), task, student=judge, out=tmp_path, settings=replace(QUICK, steps=2),
        quiet=True, report=False,
    )  # fmt: skip
    assert len(answers_of(Store(tmp_path / "stages" / "answers" / "store"), "test").texts) == 4


def _rows(run: Path, inputs, outputs, references=None) -> Path:
    rows = [{"input": i, "output": o} for i, o in zip(inputs, outputs, strict=True)]
    if references is not None:
        rows = [{**row, "reference": reference} for row, reference in zip(rows, references, strict=True)]
    path = run / f"rows{len(list(run.glob('rows*')))}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_judge_uses_a_good_answer_where_the_data_has_one(run):
    judge = load_model(run)
    given = apply(run, _rows(run, ["ca", "ca"], ["ca", "ca"], ["ca", "caca"]), ability="score", quiet=True)
    expected, _ = expected_ratings(judge.lm, ["ca>ca=ca:", "ca>ca=caca:"])
    assert given.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_run_that_was_cut_off_asks_for_nothing_twice(run, student, tmp_path):
    options = {"per_input": 2, "risk": 0.3, "validation": 0.4}
    asked = {"method_arguments": options, "settings": replace(QUICK, steps=2)}
    with pytest.raises(Exception, match="budget"):
        improved(tmp_path / "run", student, call_budget=12, **asked)
    second = ScriptedLM(script)
    improved(tmp_path / "run", student, second, **asked)
    calls = len((run / "transcript.jsonl").read_text().splitlines())
    assert len(second.asked) == calls - 12
    one, other = (Store(folder / "stages" / "ratings" / "store") for folder in (run, tmp_path / "run"))
    assert list(one.column("completion")) == list(other.column("completion"))


def test_empty_answers_and_ratings_that_are_hardly_digits_are_dropped_with_their_reasons():
    answers, ratings = Store(name="answers"), Store(name="ratings")
    lm = ScriptedLM(lambda prompt: {**dict.fromkeys("012345678", -9.0), "9": np.log(0.9 if "=ab" in prompt else 0.4)})
    said = ScriptedLM(lambda prompt: "" if prompt[0] == "d" else prompt.removesuffix(">"))
    recipe = SelfJudge()
    recipe.draw(said, TASK, "train", [Demonstration(w, w + w) for w in ("ab", "ca", "dd")], answers, 0)
    assert list(answers.dropped.values()) == ["empty"]
    recipe.label(lm, tiny_lm("a", width=4), TASK, answers_of(answers, "train"), ratings)
    assert list(ratings.column("prompt")) == ["ab>ab:"]
    assert list(ratings.dropped.values()) == ["its rating is hardly a digit"]


def test_a_judge_that_never_names_a_digit_has_rated_nothing_whatever_mass_suffices():
    ratings, found = Store(name="ratings"), Answers(["ab"], ["abab"], ["ab"], np.arange(1), np.zeros(1))
    mute = ScriptedLM(lambda _: dict.fromkeys("0123456789", -np.inf))
    SelfJudge(least_mass=0.0).label(mute, tiny_lm("abc", width=4), TASK, found, ratings)
    assert list(ratings.dropped.values()) == ["its rating is hardly a digit"]


@pytest.mark.parametrize("similarity", ["ngrams", "hidden"])
def test_an_answer_to_an_input_whose_good_answer_is_empty_is_dropped_with_its_reason(similarity):
    ratings = Store(name="ratings")
    found = Answers(["ab", "ca"], ["abab", ""], ["ab", "ca"], np.arange(2), np.zeros(2))
    SelfJudge(similarity=similarity).label(ScriptedLM(lambda _: NINE), tiny_lm("abc", width=4), TASK, found, ratings)
    assert list(ratings.column("prompt")) == ["ab>ab:"]
    assert list(ratings.dropped.values()) == ["it is like nothing"]


def test_the_likeness_of_hidden_states_takes_the_model_that_is_trained():
    lm = tiny_lm("abcd", width=16, depth=1)
    found = answers_of_texts(["ab", "cd"], ["ab", "dc"])
    same, other = SelfJudge(similarity="hidden").similarities(lm, found)
    assert same == pytest.approx(1)
    assert other < 1
    assert np.isnan(SelfJudge(similarity="hidden").similarities(lm, answers_of_texts(["", "a"], ["b", "b"]))[0])


def answers_of_texts(texts, references):
    return Answers(list(texts), list(references), list(texts), np.arange(len(texts)), np.zeros(len(texts)))


def test_thresholds_are_set_on_the_validation_answers_or_say_that_none_does():
    scores, right = np.array([8.0, 6.0, 4.0, 2.0]), np.array([1.0, 1.0, 0.0, 0.0])
    assert SelfJudge(coverage=0.5).threshold(scores, right)[0] == 6
    assert SelfJudge(risk=0.4).threshold(scores, right)[0] == 4
    assert SelfJudge().threshold(scores, right)[0] == 0
    many, wrong = np.arange(40.0) / 5, np.arange(40) < 20
    sure = SelfJudge(risk=0.3, confidence=0.9).threshold(many, 1.0 - wrong)[0]
    assert sure == risk_threshold(many, wrong, 0.3, confidence=0.9) > risk_threshold(many, wrong, 0.3)
    never, said = SelfJudge(risk=0.1).threshold(scores, 1 - right)
    assert never == float("inf")
    assert "nothing will be answered" in said[0]


def test_empty_answers_are_never_given_and_count_as_kept_back():
    scores, right = np.array([-1.0, 4.0, 6.0, 8.0]), np.array([0.0, 0.0, 1.0, 1.0])
    threshold, said = SelfJudge(coverage=1.0).threshold(scores, right)
    assert threshold == 0
    assert "75.0% of the 4 validation inputs, of which 33.3% are wrong" in said[0]
    assert "25.0% of the validation answers are empty" in said[0]
    assert said[1:] == ["a coverage of 100.0% cannot be met: only 75.0% can be answered"]
    assert len(SelfJudge(coverage=0.75).threshold(scores, right)[1]) == 1
    # An answer that is not given keeps no risk low.
    assert SelfJudge(risk=0.3).threshold(np.array([-1.0, -1.0, 2.0, 8.0]), np.array([1.0, 1.0, 0.0, 1.0]))[0] == 8
    nothing = np.full(2, -1.0)
    assert SelfJudge(risk=0.3).threshold(nothing, np.zeros(2))[0] == float("inf")
    found, said = SelfJudge(coverage=0.5).threshold(nothing, np.zeros(2))
    assert (found, "0.0% of the 2 validation inputs, which is none" in said[0]) == (0, True)
    assert "empty" in SelfJudge().threshold(scores, right)[1][0]


def test_the_best_rated_of_several_answers_is_given_where_its_rating_reaches_the_threshold(tmp_path):
    lm = tiny_lm("abcd>;=:0123456789", width=16, depth=1, context=32)
    judge = Judge(lm, TASK, lm.frozen(), Selecting(best_of=6, temperature=1.0))
    batch = Batch(torch.arange(2), {"input": ["ab", "cd"]})
    ratings = {text: judge.rate(["ab"], [text])[0] for text in ("a", "bb", "cc")}
    best = max(ratings, key=ratings.get)
    drawn = [[Completion(text, "stop") for text in ("", "a", "bb", "cc", "a")]]
    assert judge.best(["ab"], drawn) == [(best, pytest.approx(ratings[best]))]
    assert judge.best(["ab"], [[Completion("", "stop")]]) == [("", -1.0)]
    found = judge.generate(batch)
    assert found["answered"].all()
    low = float(found["rating"].min())
    strict = Judge(lm, TASK, lm.frozen(), replace(judge.selecting, threshold=low + 1e-6))
    kept = strict.generate(batch)
    assert kept["answered"].tolist() == [rating > low for rating in found["rating"].tolist()]
    assert [not text for text in kept["output"]] == [not given for given in kept["answered"].tolist()]
    back = load_model(strict.save(tmp_path))
    assert back.generate(batch)["output"] == kept["output"]


def test_an_adapters_base_writes_for_it_and_costs_no_second_copy(tmp_path):
    lm = tiny_lm("abcd>;=:0123456789", width=16, depth=1, context=32)
    plain = lm.frozen()
    add_adapter(lm, rank=2)
    assert writer_of(lm, lm) == "base"
    judge = Judge(lm, TASK, "base")
    torch.nn.init.normal_(next(p for n, p in lm.named_parameters() if "lora_B" in n))
    assert writer_of(lm, lm) != "base"
    assert judge.drawn(["ab"])[0][0].text == Judge(plain, TASK, plain).drawn(["ab"])[0][0].text
    judge.save(tmp_path)
    batch = Batch(torch.arange(1), {"input": ["ab"]})
    assert load_model(tmp_path).generate(batch)["output"] == judge.generate(batch)["output"]


def test_a_model_that_runs_here_answers_through_its_judge(student, tmp_path):
    options = {"least_mass": 0.0, "best_of": 2, "coverage": 0.5, "validation": 0.5, "similarity": "hidden"}
    asked = {"out": tmp_path / "run", "settings": replace(QUICK, steps=2), "method_arguments": options}
    improve("self_judge", student, TASK, quiet=True, report=False, **asked)
    judge = load_model(tmp_path / "run")
    assert judge.abilities == ("generate", "score")
    # It is the model as it was that writes.
    assert judge.writer.score(["ab>"], ["ab"])[0].total == pytest.approx(
        LocalLM.load(student).score(["ab>"], ["ab"])[0].total, abs=1e-5
    )
    (tmp_path / "in.txt").write_text("ab\ncd\nda\n")
    written = apply(tmp_path / "run", tmp_path / "in.txt", ability="generate", out=tmp_path / "said.jsonl", quiet=True)
    rows = [json.loads(line) for line in written.read_text().splitlines()]
    assert all(row["answered"] == (row["rating"] >= judge.selecting.threshold) for row in rows)
    assert all(bool(row["output"]) <= row["answered"] for row in rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"risk": 0.1, "coverage": 0.5}, "one target: either coverage or risk"),
        ({"confidence": 0.9}, "give the risk too"),
        ({"validation": 1.0}, r"validation lies in \(0, 1\)"),
        ({"per_input": 0}, "per_input must be at least 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"weight": 2.0}, r"weight lies in \[0, 1\]"),
        ({"alpha": -1.0}, "alpha must be 0 or more, got -1"),
        ({"alpha_kd": -0.5}, "alpha_kd must be 0 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        SelfJudge(**change)


def test_what_cannot_be_judged_is_said_before_anything_is_asked(student, tmp_path):
    mute = ScriptedLM(script, capabilities=("generate",))
    with pytest.raises(ValueError, match="SelfJudge needs a model that can choose"):
        improved(tmp_path / "a", student, mute)
    with pytest.raises(ValueError, match="scripted runs elsewhere"):
        improved(tmp_path / "b", None)
    long = tiny_lm("abcd>;=:01234567", width=16, depth=1)
    with pytest.raises(ValueError, match="holds what the tokenizer has no token for: '8'"):
        improved(tmp_path / "c", long)
    none = replace(TASK, examples=())
    with pytest.raises(ValueError, match="needs inputs with good answers"):
        improve("self_judge", ScriptedLM(script), none, student=student, out=tmp_path / "d", quiet=True)
    assert mute.calls == []


def test_a_digit_of_two_tokens_is_no_rating():
    from autodidact.recipes.self_judge import check_digits

    split = tiny_lm("0123456789", width=16, depth=1)
    split.wording.answer_ids = lambda texts: [[1, 2] if text == "7" else [1] for text in texts]  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="a judge says one token, and tiny writes 7 as several"):
        check_digits(split)


def test_the_method_learns_the_rating_of_both_views(student):
    lm = tiny_lm("abcd>;=:0123456789", width=16, depth=1, context=32)
    with torch.no_grad():
        # What is likely differs much from one view to the other.
        lm.module.lm_head.weight.mul_(100)
    method = TwoViewJudge(lm)
    rows = {"prompt": ["ab>a:", "a>b:"], "referenced": ["ab>a=b:", "a>b=b:"], "completion": ["1", "9"]}
    batch = Batch(torch.arange(2), rows)
    with torch.no_grad():
        found = method.loss(method.views(batch, None), None)
    logp = {
        name: torch.tensor([lm.score([p], [c], end=False)[0].total for p, c in zip(batch[name], "19", strict=True)])
        for name in ("referenced", "prompt")
    }
    assert float(found.terms["referenced"]) == pytest.approx(-float(logp["referenced"].mean()), abs=1e-5)
    assert float(found.terms["free"]) == pytest.approx(-float(logp["prompt"].mean()), abs=1e-5)
    with torch.no_grad():
        teacher, student = (
            [
                lm.module(input_ids=torch.tensor(lm.wording.prompt_ids([Prompt.of(prompt)]))).logits[0, -1].double()
                for prompt in rows[name]
            ]
            for name in ("referenced", "prompt")
        )
    apart = [
        float((t.softmax(0) * (t.log_softmax(0) - s.log_softmax(0))).sum())
        for t, s in zip(teacher, student, strict=True)
    ]
    # The paper's weights: 0.3 of the view without the good answer, 2 of the divergence.
    total = -float(logp["referenced"].mean()) - 0.3 * float(logp["prompt"].mean()) + 2 * np.mean(apart)
    assert min(apart) > 0.05
    assert float(found.terms["divergence"]) == pytest.approx(np.mean(apart), abs=1e-5)
    assert float(found.total) == pytest.approx(total, abs=1e-5)
    with pytest.raises(ValueError, match="alpha must be 0 or more"):
        TwoViewJudge(lm, alpha=-1.0)
