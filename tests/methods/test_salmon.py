"""SALMON: a judge in two orders, a reward model that reads principles, and a policy steered by them."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from autodidact.data import Store
from autodidact.data.batch import Batch
from autodidact.lm.adapters import adapter_is_silent
from autodidact.lm.comparing import comparison
from autodidact.lm.judging import JudgeForm
from autodidact.lm.kept import LanguageModel
from autodidact.lm.lm import Completion
from autodidact.lm.local import LocalLM
from autodidact.lm.reward_model import RewardModel, principle_texts
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.task import Principle, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.lm.tokenised import Tokenised
from autodidact.methods.language.bradley_terry import BradleyTerry
from autodidact.methods.language.policy_gradient import PolicyGradient
from autodidact.model import load_model
from autodidact.recipes.improving import question_source
from autodidact.recipes.preferring import read_preferences
from autodidact.recipes.salmon import Salmon, accuracy, log_odds
from autodidact.recipes.stages import Site
from autodidact.rewards import Answered, named
from autodidact.rewards.principled import Principled
from autodidact.training import Settings, train
from autodidact.verbs.apply import apply
from autodidact.verbs.improve import improve

SYMBOLS = "abcdLVWX-|:>12;"
FORM = JudgeForm(
    rating="{input}{answer}>",
    referenced="{reference}{input}{answer}>",
    comparison="{principle}|{input}:{first}|{second}>",
    choices=("1", "2"),
    reward="{answer}|{input}|{principles}>",
    principle="{principle}",
)
TASK = Task(
    "Write.",
    inputs=tuple("abcd"),
    principles={"long": Principle("L", "-L"), "a": Principle("V", "-V", 3.0), "b": Principle("W")},
    style=Style(opening="", demonstration="{input}:{output};", question="{input}:", stop=(";",)),
    judge=FORM,
    max_tokens=6,
)


def judge(prompt: str, *, bias: float = 0.7):
    """Compares by length and by the share of a letter, and likes what stands first."""
    principle, _, rest = prompt.partition("|")
    first, _, second = rest.partition(":")[2].removesuffix(">").partition("|")
    gap = {
        "L": len(first) - len(second),
        "V": 3 * (first.count("a") - second.count("a")),
        "W": 3 * (first.count("b") - second.count("b")),
    }[principle]
    odds = gap + bias
    return {"1": -math.log1p(math.exp(-odds)), "2": -math.log1p(math.exp(odds))}


def said(text: str) -> Completion:
    return Completion(text, "stop")


@pytest.fixture(scope="module")
def lm():
    return tiny_lm(SYMBOLS, width=16, depth=1, context=48)


def test_a_reward_is_read_at_the_last_token_whatever_the_padding(lm):
    model = RewardModel(lm, TASK)
    torch.nn.init.normal_(model.head.weight)
    texts = ["abc|a|L>", "a|b|L-V>"]
    rows = lm.wording.answer_ids(texts)
    alone = [float(model.read(Tokenised.of([(ids, [])]))) for ids in rows]
    with torch.no_grad():
        together = model.rewards(texts).tolist()
    assert together == pytest.approx(alone, abs=1e-5)
    for width in (1, 5, 20):
        ids = torch.tensor([[0] * width + rows[0]])
        attention = torch.tensor([[False] * width + [True] * len(rows[0])])
        padded = float(model.read(Tokenised(ids, attention, torch.zeros_like(attention))))
        assert padded == pytest.approx(alone[0], abs=1e-5)


def test_the_loss_is_that_of_bradley_and_terry_and_swapping_the_answers_turns_the_margin_around(lm):
    model = RewardModel(lm, TASK)
    torch.nn.init.normal_(model.head.weight)
    method = BradleyTerry(model)
    better, worse = ["abc|a|L>", "a|b|V>"], ["b|a|L>", "cd|b|V>"]

    def loss(chosen, rejected):
        views = method.views(Batch(torch.arange(2), {"chosen": chosen, "rejected": rejected}), None)
        with torch.no_grad():
            return float(method.loss(views, None).total)

    with torch.no_grad():
        margins = (model.rewards(better) - model.rewards(worse)).double().tolist()
    assert loss(better, worse) == pytest.approx(np.mean([math.log1p(math.exp(-m)) for m in margins]), abs=1e-6)
    assert loss(worse, better) == pytest.approx(np.mean([math.log1p(math.exp(m)) for m in margins]), abs=1e-6)


def test_two_orders_take_the_judges_liking_for_a_place_away():
    first_always = ScriptedLM(lambda prompt: {"1": math.log(0.9), "2": math.log(0.1)})
    pairs = Store(name="pairs")
    pairs.append([1, 2], input=["a", "b"], first=["aab", "c"], second=["b", "dd"])
    biased, store = Store(name="biased"), Store(name="judged")
    Salmon(shortest=1).compare(first_always, TASK, pairs, biased)
    learned, _, told = Salmon(shortest=1).examples(TASK, pairs, biased, 0)
    assert learned == []
    assert "the judge prefers neither" in told[0]
    Salmon(shortest=1).compare(ScriptedLM(judge), TASK, pairs, store)
    one, swapped = (np.asarray(store.column(name)) for name in ("one", "swapped"))
    # Length: two symbols more, and one fewer; the liking of 0.7 comes on top in one order and off in the other.
    assert one[:, 0].tolist() == pytest.approx([2.7, -0.3])
    assert swapped[:, 0].tolist() == pytest.approx([1.3, -1.7])


def test_with_one_principle_and_no_noise_labels_are_the_judges():
    alone = replace(TASK, principles={"long": Principle("L", "-L")})
    recipe = Salmon(noise=0.0, shortest=1, drawn=0, always=("long",))
    rng = np.random.default_rng(0)
    turned = Counter()
    for score in (2.0, -1.0):
        for _ in range(20):
            (text,), wins = recipe.preference(alone, np.array([score]), "x", "y", rng)
            turned[text] += 1
            assert wins == ((score > 0) != (text == "-L"))
    assert min(turned.values()) > 5
    assert recipe.preference(alone, np.array([0.0]), "x", "y", rng) == (
        "the judge prefers neither under the principles drawn"
    )


def test_what_is_learned_of_pairs_under_one_principle_is_what_the_judge_says_in_both_orders():
    alone = replace(TASK, principles={"long": Principle("L", "-L")})
    rng = np.random.default_rng(5)
    rows = [(f"{'abcd'[k % 4]}{k}", *("abcd"[m] * rng.integers(1, 6) for m in (k % 3, 3))) for k in range(24)]
    pairs, judged = Store(name="pairs"), Store(name="judged")
    columns = dict(zip(("input", "first", "second"), map(list, zip(*rows, strict=True)), strict=True))
    pairs.append(range(len(rows)), **columns)

    def swayed(prompt: str):
        # Likes the first place more than one symbol more or less.
        return judge(prompt, bias=1.5)

    recipe = Salmon(noise=0.0, shortest=1, drawn=0, always=("long",), held_out=0.0, passes=8)
    recipe.compare(ScriptedLM(swayed), alone, pairs, judged)
    learned, _, _ = recipe.examples(alone, pairs, judged, 0)

    def odds(question: str, first: str, second: str) -> float:
        shares = swayed(f"L|{question}:{first}|{second}>")
        return shares["1"] - shares["2"]

    expected, undecided = {}, set()
    for question, first, second in rows:
        one, other = odds(question, first, second), -odds(question, second, first)
        if one * other <= 0:
            undecided.add(question)
            continue
        expected[question] = (first, second) if (one + other) / 2 > 0 else (second, first)
    assert min(len(undecided), len(expected)) > 5
    assert Counter(question for question, *_ in learned) == dict.fromkeys(expected, 8)
    for question, better, worse, texts in learned:
        assert (better, worse) == (expected[question] if texts == ["L"] else expected[question][::-1])
    assert {text for *_, (text,) in learned} == {"L", "-L"}


def test_of_principles_on_other_scales_the_one_decides_whose_preference_is_great_for_its_own_variance():
    pairs, judged = Store(name="pairs"), Store(name="judged")
    pairs.append(range(8), input=list("abcdefgh"), first=["x"] * 8, second=["y"] * 8)
    # The judge is far surer of length than of the letter, which prefers the other answer.
    sign = np.array([1.0, -1.0] * 4)
    odds = np.stack([8 * sign, -0.5 * sign], axis=1)
    judged.append(range(8), one=odds, swapped=odds)
    task = replace(TASK, principles={"long": Principle("L"), "a": Principle("V")})
    learned, _, _ = Salmon(noise=0.0, shortest=1, held_out=0.0, drawn=1).examples(task, pairs, judged, 0)
    both = [one for one in learned if len(one[3]) == 2]
    assert len(both) > 8
    for question, better, _, texts in learned:
        first = ("abcdefgh".index(question) % 2 == 0) != ("V" in texts)
        assert better == ("x" if first else "y")


@pytest.mark.parametrize(("most", "stop"), [(1, 0.2), (2, 0.2), (3, 0.2), (3, 0.7), (8, 0.7)])
def test_as_many_principles_are_drawn_as_a_geometric_distribution_says_and_never_more_than_most(most, stop):
    recipe = Salmon(most=most, stop_share=stop, shortest=1, drawn=1)
    rng = np.random.default_rng(4)
    counts = Counter(len(recipe.preference(TASK, np.ones(3), "x", "y", rng)[0]) for _ in range(1500))
    weights = [stop * (1 - stop) ** k for k in range(min(most, 3))]
    for k, weight in enumerate(weights):
        assert counts[k + 1] / 1500 == pytest.approx(weight / sum(weights), abs=0.05)
    assert max(counts) == len(weights)


def test_principles_are_drawn_into_roll_outs_by_their_weights(lm):
    seen = Counter()
    model = RewardModel(lm, TASK)
    model.judge = lambda inputs, answers, principles: seen.update(map(tuple, principles)) or torch.zeros(len(inputs))  # type: ignore[method-assign]
    reward = Principled(model, drawn=1)
    for _ in range(300):
        reward.judge([Answered(text, "", "c") for text in "abcd"])
    shares = {principles[0]: count / 1200 for principles, count in seen.items()}
    assert shares == {name: pytest.approx(w / 5, abs=0.06) for name, w in (("L", 1), ("V", 3), ("W", 1))}


class Told(Exception):
    """What a part of the recipe was made with."""


def test_the_policy_is_trained_by_the_reward_and_with_the_prices_that_were_asked_for(lm, tmp_path, monkeypatch):
    def noted(student, task, *, reward, **options):
        raise Told(reward, options)

    monkeypatch.setattr("autodidact.recipes.salmon.PolicyGradient", noted)
    policy = {"estimator": "ppo", "value": "reward", "group": 5, "inner": 2, "beta": 0.03, "temperature": 0.6}
    policy |= {"missing_end": 2.5, "lr_scale": 0.4}
    reward = {"always": ("-a",), "prevent": ("X",), "drawn": 1, "length_bonus": 1.5}
    with pytest.raises(Told) as told:
        Salmon(**policy, **reward).tuned(site_of(tmp_path), lm, TASK, RewardModel(lm, TASK))
    made, options = told.value.args
    # GAE with lambda 1, as in the paper.
    assert options == {**policy, "lam": 1.0}
    assert made.fixed == ["-V", "X"]
    assert (made.drawn, made.length_bonus, made.seed) == (1, 1.5, QUICK.seed)


def test_both_trainings_of_the_reward_model_make_as_many_passes_as_asked(lm, tmp_path, monkeypatch):
    made = []

    def noted(self, stage, method, source, settings):
        made.append((stage, settings.epochs, settings.steps))
        return method.kept()

    monkeypatch.setattr(Site, "train", noted)
    recipe, site = Salmon(reward_epochs=3, preference_epochs=5, held_out=0.0), site_of(tmp_path)
    first = recipe.pretrained(site, lm, TASK, [("a", "b", "c"), ("a", "c", "d")], {})
    recipe.rewarded(site, lm, TASK, [("a", "b", "c", ["L"])], [], start=first)
    assert made == [("preferred", 5, None), ("reward", 3, None)]


def test_answers_that_are_compared_are_drawn_at_the_temperature_that_was_asked_for():
    seen = []

    class Noting(ScriptedLM):
        def generate(self, prompts, sampling):
            seen.append((sampling.temperature, sampling.n))
            return super().generate(prompts, sampling)

    Salmon(temperature=0.35, shortest=1).draw(Noting(lambda _: "ab"), TASK, ["a"], Store(name="pairs"), 0)
    assert seen == [(0.35, 2)]


def test_a_judge_that_says_the_opposite_turns_every_label_around_and_nothing_else():
    recipe = Salmon(noise=0.0, shortest=1)
    for seed in range(200):
        scores = np.random.default_rng((seed, 1)).normal(size=3)
        one, other = (recipe.preference(TASK, sign * scores, "x", "y", np.random.default_rng(seed)) for sign in (1, -1))
        assert one == (other[0], not other[1])


def test_noise_and_rules_turn_labels_as_often_as_they_say_and_never_those_that_are_measured_by():
    recipe = Salmon(noise=0.1, rules=("as an AI",), rule_noise=0.25, shortest=1)
    rng = np.random.default_rng(1)
    scores = np.array([9.0, 0.1, 0.1])

    def kept(first: str, second: str, measured: bool = False) -> float:
        rows = [recipe.preference(TASK, scores, first, second, rng, measured=measured) for _ in range(800)]
        decided = [(texts, wins) for texts, wins in rows if "L" in texts or "-L" in texts]
        return np.mean([wins == ("L" in texts) for texts, wins in decided])

    assert kept("x", "y") == pytest.approx(0.9, abs=0.05)
    assert kept("x", "y", measured=True) == 1
    ruled = [recipe.preference(TASK, scores, "as an AI", "y", rng)[1] for _ in range(800)]
    assert np.mean(ruled) == pytest.approx(0.25, abs=0.06)


def test_a_principle_without_words_for_its_opposite_is_never_turned_around_and_the_run_says_so():
    rng = np.random.default_rng(2)
    recipe = Salmon(shortest=1)
    texts = [text for _ in range(300) for text in recipe.preference(TASK, np.ones(3), "x", "y", rng)[0]]
    assert {"L", "-L", "V", "-V", "W"} == set(texts)
    pairs, judged = Store(name="pairs"), Store(name="judged")
    pairs.append([1], input=["a"], first=["aab"], second=["b"])
    recipe.compare(ScriptedLM(judge), TASK, pairs, judged)
    assert recipe.examples(TASK, pairs, judged, 0)[2][1] == "without words for their opposites, never turned around: b"
    with pytest.raises(ValueError, match="principle 'b' has no words for its opposite"):
        principle_texts(TASK, ["-b"])


def test_what_is_not_compared_is_dropped_with_its_reason(lm):
    recipe = Salmon(shortest=3)
    assert recipe.refused(said(""), said("abc")) == "an empty answer"
    assert recipe.refused(said("ab"), said("abc")) == "an answer of fewer than 3 characters"
    assert recipe.refused(said("abc"), said("abc")) == "the same answer twice"
    pairs, judged = Store(name="pairs"), Store(name="judged")
    pairs.append([1, 2], input=["a", "b"], first=["a" * 30, "a"], second=["b" * 30, "b"])
    recipe.compare(lm, TASK, pairs, judged)
    assert judged.ids.tolist() == [2]
    assert judged.dropped == {1: "too long for the judge"}


def test_a_text_beyond_the_context_loses_the_left_of_the_question_then_the_right_of_the_answer(lm):
    model = RewardModel(lm, TASK)
    short = model.text("a" * 20 + "b" * 30, "cd", ["L"])
    assert short == "cd|" + "a" * 12 + "b" * 30 + "|L>"
    both = model.text("ab", "c" * 30 + "d" * 40, ["L", "V"])
    assert both == "c" * 30 + "d" * 13 + "||LV>"
    assert model.shortened == 2
    with pytest.raises(ValueError, match="principles alone exceed the context"):
        model.text("a", "b", ["L" * 60])


def test_a_reward_model_is_saved_and_judges_by_the_principles_that_it_is_told(lm, tmp_path):
    model = RewardModel(lm, TASK, ("long", "-a"))
    torch.nn.init.normal_(model.head.weight)
    model.save(tmp_path / "rm")
    rows = [{"input": "a", "output": "abc", "principles": text} for text in ("long, -a", "b")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = apply(tmp_path / "rm", tmp_path / "rows.jsonl", ability="score", quiet=True)
    expected = [model.judge(["a"], ["abc"], [words]).item() for words in (["L", "-V"], ["W"])]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    # Without the field those that are in force judge, as for any reward that a policy learns from.
    learned = named(str(tmp_path / "rm"), TASK)
    assert learned.judge([Answered("a", "a:", "abc")]) == pytest.approx(expected[:1], abs=1e-6)
    with pytest.raises(ValueError, match="did you mean 'long'"):
        RewardModel(lm, TASK, ("lon",))


def test_no_more_principles_are_asked_for_than_the_reward_model_learned_to_read_at_once(lm, tmp_path):
    RewardModel(lm, TASK, ("long", "-a"), most=2).save(tmp_path / "rm")
    model = load_model(tmp_path / "rm")
    assert isinstance(model, RewardModel)

    def scored(asked: RewardModel, *named: str) -> list[float]:
        count = len(named)
        rows = {"input": ["a"] * count, "output": ["abc"] * count, "principles": list(named)}
        return asked.score(Batch(torch.arange(count), rows)).tolist()

    assert scored(model, "long, -a", "b") == [0, 0]
    said = r"3 principles at once are more than this reward model learned to read, 2 \(most\)"
    with pytest.raises(ValueError, match=said):
        scored(model, "b", "long, -a, b")
    Principled(model, always=("long",), drawn=1)
    for options in ({"drawn": 3}, {"always": ("long",), "drawn": 2}, {"prevent": ("X",), "drawn": 2}):
        with pytest.raises(ValueError, match=said):
            Principled(model, **options)
    with pytest.raises(ValueError, match=said):
        RewardModel(lm, TASK, most=2)
    # One that was saved before the number was kept is asked for as many as one likes.
    described = tmp_path / "rm" / "model.json"
    plain = json.loads(described.read_text())
    del plain["settings"]["most"]
    described.write_text(json.dumps(plain))
    old = load_model(tmp_path / "rm")
    assert isinstance(old, RewardModel)
    assert scored(old, "long, -a, b") == [0]
    assert Principled(old, drawn=3).judge([Answered("a", "", "c")]) == [0]


def test_answers_to_one_question_share_their_principles_and_the_next_roll_out_draws_others(lm):
    seen = []
    model = RewardModel(lm, TASK)
    model.judge = lambda inputs, answers, principles: seen.append(principles) or torch.zeros(len(inputs))  # type: ignore[method-assign]
    reward = Principled(model, always=("-a",), prevent=("X",), drawn=1, seed=3)
    asked = [Answered(text, "", "c") for text in "aabb"]
    for _ in range(20):
        reward.judge(asked)
    assert all(sets[0] == sets[1] and sets[2] == sets[3] for sets in seen)
    assert {tuple(one) for sets in seen for one in sets} == {("L", "-V", "X"), ("W", "-V", "X")}
    again = Principled(model, always=("-a",), prevent=("X",), drawn=1, seed=3)
    again.load_state_dict({"calls": torch.tensor(7)})
    again.judge(asked)
    assert seen[-1] == seen[7]


def test_the_length_bonus_is_off_unless_asked_for_and_favours_length_alone(lm):
    model = RewardModel(lm, TASK)
    asked = [Answered("a", "", text) for text in ("", "abc", "abcabc")]
    assert Principled(model).judge(asked) == [0, 0, 0]
    assert Principled(model, length_bonus=5.0).judge(asked) == pytest.approx([0, 2.5, 4.0])
    assert Salmon().length_bonus == 0


def test_a_length_bonus_alone_makes_answers_longer(lm):
    task = replace(TASK, max_tokens=24)

    def lengths(bonus: float) -> tuple[float, float]:
        student = LocalLM.from_plain(lm.plain())
        student.load_state_dict(lm.state_dict())
        reward = Principled(RewardModel(lm, task), length_bonus=bonus)
        made = PolicyGradient(student, task, reward=reward, group=8, beta=0.0, missing_end=0.0, lr_scale=1.0)

        def mean() -> float:
            asked = [task.prompt(text) for text in task.inputs]
            return float(np.mean([len(text) for text in made.draw(asked, group=32, seed=7).texts]))

        before = mean()
        source = question_source("questions", task, made.questions)
        train(made, source, Settings(steps=16, batch_size=4, lr=1e-2, weight_decay=0.0), quiet=True)
        return before, mean()

    before, after = lengths(5.0)
    assert after > before + 4
    # The head is zero, so that without the bonus there is nothing to learn.
    assert lengths(0.0) == (before, before)


QUICK = Settings(steps=3, batch_size=4, lr=1e-2, weight_decay=0.0)
OPTIONS = {"shortest": 1, "always": ("long",), "drawn": 1, "passes": 6, "temperature": 1.0, "held_out": 0.25}


@pytest.fixture(scope="module")
def run(tmp_path_factory, lm) -> Path:
    out = tmp_path_factory.mktemp("salmon") / "run"
    student = lm.save_folder(out.parent / "lm")
    options = {**OPTIONS, "judge": "somewhere"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autodidact.verbs.improve.open_lm", _opened(student))
        improve("salmon", student, TASK, out=out, settings=QUICK, method_arguments=options, quiet=True)
    return out


def site_of(folder: Path) -> Site:
    """Where a part of the recipe runs alone."""
    return Site(question_source("none", TASK, "abcd"), lambda *_: None, QUICK, folder, quiet=True)  # type: ignore[arg-type,return-value]


def _opened(student, other=None):
    from autodidact.lm.names import open_lm

    other = other or ScriptedLM(judge, name="judge")
    return lambda name, **rest: other if name == "somewhere" else open_lm(name, **rest)


def test_a_run_leaves_a_policy_and_a_reward_model_and_tells_what_it_did(run):
    assert isinstance(load_model(run), LanguageModel)
    model = load_model(run / "stages" / "reward")
    assert isinstance(model, RewardModel)
    assert model.active == ("long",)
    assert model.most == Salmon().most
    rows = [json.loads(line) for line in (run / "pairs.jsonl").read_text().splitlines()]
    assert all(set(row) == {"prompt", "chosen", "rejected"} and row["chosen"] != row["rejected"] for row in rows)
    assert "preferences are learned" in (run / "stages" / "reward" / "notes.txt").read_text()
    assert "the first place is worth" in (run / "stages" / "judged" / "notes.txt").read_text()
    page = (run / "report.html").read_text()
    assert "held-out preferences of the judge are met" in page


def test_a_run_says_how_many_texts_were_shortened_to_fit_a_small_context(tmp_path):
    context, task = 12, replace(TASK, inputs=("a", "b", "c", "d", "ab", "ba", "bc", "cb"), max_tokens=9)
    student, out = tiny_lm(SYMBOLS, width=16, depth=1, context=context).save_folder(tmp_path / "lm"), tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autodidact.verbs.improve.open_lm", _opened(student))
        options = {**OPTIONS, "judge": "somewhere"}
        improve("salmon", student, task, out=out, settings=QUICK, method_arguments=options, quiet=True)
    stores = (Store(out / "stages" / name / "store") for name in ("pairs", "judged"))
    learned, _, _ = Salmon(**OPTIONS).examples(task, *stores, QUICK.seed)
    # A token a character.
    whole = [f"{said}|{asked}|{''.join(texts)}>" for asked, *both, texts in learned for said in both]
    cut = sum(len(text) > context for text in whole)
    assert 0 < cut < len(whole)
    told = (out / "stages" / "reward" / "notes.txt").read_text().splitlines()
    assert f"{cut} of {len(whole)} texts were shortened to fit the reward model's context" in told


def test_a_finished_stage_is_not_worked_on_again(run, lm, tmp_path):
    import shutil

    again = tmp_path / "run"
    shutil.copytree(run, again)
    for part in ("model", "stages/policy"):
        shutil.rmtree(again / part)
    before = (again / "transcript.jsonl").read_text()
    student = run.parent / "lm"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autodidact.verbs.improve.open_lm", _opened(student))
        options = {**OPTIONS, "judge": "somewhere"}
        model = improve("salmon", student, TASK, out=again, settings=QUICK, method_arguments=options, quiet=True)
    assert (again / "transcript.jsonl").read_text() == before
    old, new = load_model(run).state_dict(), model.state_dict()
    assert all(torch.allclose(old[name], new[name], atol=1e-4) for name in old)


@pytest.mark.parametrize(
    ("change", "said_"),
    [
        ({"noise": 0.7}, r"noise lies in \[0, 0.5\]"),
        ({"most": 2}, r"0 principles always, 0 to prevent and 3 drawn are more than the 2 \(most\)"),
        ({"passes": 0}, "passes must be at least 1"),
        ({"inner": 0}, "inner must be at least 1"),
        ({"stop_share": 1.0}, r"stop_share lies in \(0, 1\)"),
        ({"preference_epochs": 0}, "preference_epochs must be at least 1"),
        ({"value": "reward"}, "'rloo' learns no value that could start from the reward model"),
    ],
)
def test_options_that_make_no_sense_are_refused(change, said_):
    with pytest.raises(ValueError, match=said_):
        Salmon(**change)


def test_what_cannot_be_steered_is_said_before_anything_is_asked(lm, tmp_path):
    student = lm.save_folder(tmp_path / "lm")
    asked = {"model": student, "quiet": True, "out": tmp_path / "run"}
    with pytest.raises(ValueError, match="unknown principle 'lon'; did you mean 'long'"):
        improve("salmon", task=TASK, method_arguments={"always": ("lon",)}, **asked)
    with pytest.raises(ValueError, match="needs two or more principles and some inputs"):
        improve("salmon", task=replace(TASK, principles={}), **{**asked, "out": tmp_path / "two"})
    with pytest.raises(ValueError, match="cannot be drawn from 2 beside 1"):
        Principled(RewardModel(lm, TASK), always=("long",), drawn=3)


def test_a_draw_of_more_principles_than_are_left_is_refused_before_anything_is_asked(lm, tmp_path):
    student, asked = lm.save_folder(tmp_path / "lm"), ScriptedLM(judge, name="judge")
    for number, (options, said_) in enumerate(
        (
            ({"always": ("-long",)}, r"3 principles cannot be drawn into a roll-out \(drawn\): of the task's 3, 2 are"),
            ({"drawn": 0}, "one principle or more must be in force"),
        )
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("autodidact.verbs.improve.open_lm", _opened(student, asked))
            with pytest.raises(ValueError, match=said_):
                arguments = {"judge": "somewhere", "shortest": 1, **options}
                improve("salmon", student, TASK, out=tmp_path / str(number), method_arguments=arguments, quiet=True)
        assert not (tmp_path / str(number) / "stages").exists()
    assert asked.calls == []


def test_what_roll_outs_left_out_or_shortened_is_told_of_the_policy_stage(lm, tmp_path):
    class Fickle(RewardModel):
        """Has no reward for every third answer."""

        def judge(self, inputs, answers, principles):
            found = super().judge(inputs, answers, principles)
            return torch.tensor([math.nan if k % 3 == 0 else float(value) for k, value in enumerate(found)])

    student = LocalLM.from_plain(lm.plain())
    site = site_of(tmp_path)
    model = Fickle(tiny_lm(SYMBOLS, width=16, depth=1, context=6), TASK)
    model.shortened = 1000
    Salmon(drawn=1).tuned(site, student, TASK, model)
    left = json.loads((tmp_path / "stages" / "policy" / "left_out.json").read_text())
    # Four groups of four in each of three updates.
    assert sum(left.values()) == 3 * 6
    notes = (tmp_path / "stages" / "policy" / "notes.txt").read_text().splitlines()
    assert notes[0].startswith("answers left out: 18 ")
    assert notes[1] == f"{model.shortened} drawn answers were shortened to fit the reward model's context"
    assert 0 < model.shortened <= 48


def test_a_comparison_names_one_principle_and_odds_survive_certainty():
    assert comparison(TASK, "-V", "a", "x", "y") == "-V|a:x|y>"
    sure = ScriptedLM(lambda _: {"1": 0.0, "2": -1e6})
    assert np.isfinite(log_odds(sure, ["x"], ("1", "2"))).all()


def test_equal_rewards_meet_half_of_the_preferences(lm):
    assert accuracy(RewardModel(lm, TASK), [("a", "b", "c", ["L"])]) == 0.5


def preferences(path: Path) -> Path:
    """Nine good lines, of which the answer with more "a" is preferred, and seven that say nothing."""
    rows = [{"prompt": p, "chosen": "aa" + x, "rejected": "b" + x} for p in "abc" for x in ("", "c", "d")]
    rows[4] = {"input": rows[4].pop("prompt"), **rows[4], "source": "somebody"}
    bad = ['{"prompt": "a"', "[1]", '{"prompt": "a", "chosen": "b"}', '{"prompt": 1, "chosen": "b", "rejected": "c"}']
    bad += [json.dumps({"prompt": "a", "chosen": one, "rejected": "b"}) for one in ("", " b ", ["c"])]
    path.write_text("\n".join([bad[0], "", *map(json.dumps, rows), *bad[1:]]) + "\n")
    return path


def test_of_public_preferences_bad_lines_are_left_out_and_counted_by_reason(tmp_path):
    kept, bad = read_preferences(preferences(tmp_path / "public.jsonl"))
    assert [pair[0] for pair in kept] == list("aaabbbccc")
    assert kept[4] == ("b", "aac", "bc")
    assert bad == {
        "not JSON": 1,
        "not an object": 1,
        "without a text 'prompt'": 1,
        "without a text 'chosen'": 1,
        "without a text 'rejected'": 1,
        "with an empty answer": 1,
        "with the same answer twice": 1,
    }


def test_a_file_without_a_preference_is_refused_before_anything_is_asked(lm, tmp_path):
    options = {**OPTIONS, "preferences": str(tmp_path / "none.jsonl")}
    asked = {"model": lm.save_folder(tmp_path / "lm"), "task": TASK, "quiet": True, "method_arguments": options}
    with pytest.raises(FileNotFoundError, match="no such file of preferences"):
        improve("salmon", out=tmp_path / "run", **asked)
    (tmp_path / "none.jsonl").write_text('{"prompt": "a"}\nno\n')
    with pytest.raises(ValueError, match=r"no preference is left of .*1 without a text 'chosen'; 1 not JSON"):
        improve("salmon", out=tmp_path / "run", **asked)
    assert not (tmp_path / "run" / "stages").exists()
    (tmp_path / "latin.jsonl").write_bytes("ä".encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_preferences(tmp_path / "latin.jsonl")
    with pytest.raises(ValueError, match=r"read from \.jsonl, not from 'config.json'"):
        read_preferences(tmp_path / "lm" / "config.json")


def test_public_preferences_are_learned_first_and_the_reward_model_goes_on_from_there(lm, tmp_path):
    public = preferences(tmp_path / "public.jsonl")
    student = lm.save_folder(tmp_path / "lm")
    out = tmp_path / "run"
    options = {**OPTIONS, "judge": "somewhere", "preferences": str(public), "preference_epochs": 12}
    options |= {"estimator": "ppo", "value": "reward"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autodidact.verbs.improve.open_lm", _opened(student))
        improve("salmon", student, TASK, out=out, settings=QUICK, method_arguments=options, quiet=True)
    first, then = (load_model(out / "stages" / stage) for stage in ("preferred", "reward"))
    rows = [(p, "aa" + x, "b" + x, list[str]()) for p in "abc" for x in ("", "c", "d")]
    assert accuracy(first, rows) == 1
    told = (out / "stages" / "preferred" / "notes.txt").read_text()
    assert "7 public preferences are learned first, 2 are held out" in told
    assert "1 left out: not JSON" in told
    assert "of 2 public preferences that were held out are met" in told
    # The second training starts where the first one ended: what is not at all like it would be as far from either.
    start = RewardModel(lm, TASK)

    def distance(one: RewardModel, other: RewardModel) -> float:
        pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        return sum(float((a - b).square().sum()) for a, b in pairs) ** 0.5

    assert 0 < distance(first, then) < distance(start, then)
    assert isinstance(load_model(out), LanguageModel)


def state(lm: LocalLM) -> list[tuple[str, torch.Tensor]]:
    return list(lm.module.state_dict().items())


def test_with_an_adapter_judge_and_policy_leave_the_base_alone(lm, tmp_path):
    student, out = lm.save_folder(tmp_path / "lm"), tmp_path / "run"
    options = {**OPTIONS, "judge": "somewhere", "preferences": str(preferences(tmp_path / "public.jsonl"))}
    options |= {"estimator": "ppo", "value": "reward", "preference_epochs": 12}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autodidact.verbs.improve.open_lm", _opened(student))
        asked = {"settings": QUICK, "method_arguments": options, "adapter": 2, "quiet": True}
        improve("salmon", student, TASK, out=out, **asked)
    policy, judge = load_model(out), load_model(out / "stages" / "reward")
    assert isinstance(policy, LanguageModel)
    assert isinstance(judge, RewardModel)
    for learned in (policy.lm, judge.lm):
        assert learned.has_adapter
        assert not adapter_is_silent(learned)
        base = {name.replace("base_model.model.", "").replace(".base_layer", ""): w for name, w in state(learned)}
        assert {name: w for name, w in base.items() if "lora_" not in name}.keys() == dict(state(lm)).keys()
        assert all(torch.equal(base[name], w) for name, w in state(lm))
    assert (out / "hf" / "adapter_config.json").is_file()
