"""Self-Reinforcement: which pairs it makes and keeps, what it learns of them, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from autodidact.data import Store
from autodidact.evaluation.table import Table
from autodidact.lm import Completion, Sampling, Score
from autodidact.lm.comparing import preferred_in_both_orders
from autodidact.lm.kept import LanguageModel
from autodidact.lm.local import LocalLM
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.recipes.improving import example_source
from autodidact.recipes.self_reinforce import SelfReinforce, unusable
from autodidact.recipes.stages import Run, Site
from autodidact.training import Settings

STYLE = Style(opening="", demonstration="{input}>{output}", question="{input}>", stop=())
SUMS = Task(
    "Add.",
    examples=(Demonstration("1+1", "2"), Demonstration("2+1", "3")),
    inputs=tuple(f"{a}+{b}" for a in "345" for b in "12"),
    style=STYLE,
    max_tokens=6,
)
MORE = replace(SUMS, inputs=tuple(f"{a}+{b}" for a in range(3, 10) for b in range(7)))


def paired(method: SelfReinforce, strong, weak, task=SUMS, judge=None, inputs=None) -> Store:
    store = Store(name="pairs")
    method.pair_up(strong, weak, judge or strong, task, list(inputs or task.inputs), store, 0)
    return store


class Certain(ScriptedLM):
    """Says the last of what it is asked, holds every text likely by its number, and chooses as it is told."""

    def __init__(self, answers, likelier=None, choice=None) -> None:
        super().__init__(self._line)
        self.said, self.likelier, self.choice = answers, likelier or {}, choice

    def _line(self, prompt: str):
        return self.said[prompt.removesuffix(">")]

    def score(self, prompts, completions, *, end=True):
        return [Score((float(self.likelier.get(text, -2.0)),)) for text in completions]

    def choose(self, prompts, options):
        self.asked_to_choose = list(prompts)
        return np.array([self.choice(prompt) for prompt in prompts])


def test_pairs_are_of_what_the_strong_and_the_weak_model_say_with_the_strong_ones_log_probabilities():
    strong = Certain({"3+1": "4", "3+2": "5"}, {"4": -1.0, "9": -7.0})
    weak = Certain({"3+1": "9", "3+2": "5"})
    store = paired(SelfReinforce(filter="none"), strong, weak, inputs=["3+1", "3+2"])
    assert [store.column(name) for name in ("prompt", "chosen", "rejected")] == [["3+1>"], ["4"], ["9"]]
    assert (store.column("ref_chosen")[0], store.column("ref_rejected")[0]) == (-1.0, -7.0)
    assert list(store.dropped.values()) == ["both answers are the same"]


def test_answers_of_pairs_end_as_demonstrations_do():
    style = Style(opening="", demonstration="{input}>{output};", question="{input}>", stop=(";",))
    strong, weak = Certain({"3+1": "4"}, {"4;": -1.0, "9;": -7.0}), Certain({"3+1": "9"})
    store = paired(SelfReinforce(filter="none"), strong, weak, task=replace(SUMS, style=style), inputs=["3+1"])
    assert [store.column(name) for name in ("chosen", "rejected")] == [["4;"], ["9;"]]
    assert (store.column("ref_chosen")[0], store.column("ref_rejected")[0]) == (-1.0, -7.0)


def test_answers_that_were_cut_off_or_are_empty_are_no_pair():
    done, cut, empty = Completion("a", "stop"), Completion("b", "length"), Completion(" ", "stop")
    assert unusable(done, cut) == unusable(cut, done) == "cut off"
    assert unusable(done, empty) == "empty"
    assert unusable(done, Completion("a ", "stop")) == "both answers are the same"
    assert unusable(done, Completion("c", "stop")) == ""


def test_a_judge_must_prefer_the_strong_answer_wherever_it_stands():
    inputs = ["3+1", "3+2", "4+1"]
    strong, weak = Certain(dict(zip(inputs, "452", strict=True))), Certain(dict(zip(inputs, "999", strict=True)))

    def choice(prompt: str) -> list[float]:
        if "3+2" in prompt:
            return [0.9, 0.1]  # Whatever stands first.
        good = prompt.index("(a): 9") if "(a): 9" in prompt else -1
        likes_weak = "4+1" in prompt
        return [0.8, 0.2] if (good >= 0) == likes_weak else [0.3, 0.7]

    judge = Certain({}, choice=choice)
    store = paired(SelfReinforce(filter="judge"), strong, weak, judge=judge, inputs=inputs)
    assert store.column("chosen") == ["4"]
    assert Counter(store.dropped.values()) == {"the order decides": 1, "the weak answer is preferred": 1}
    assert len(judge.asked_to_choose) == 6
    found = preferred_in_both_orders(judge, SUMS, ["3+2"], ["5"], ["9"])
    np.testing.assert_allclose(found, [[0.9, 0.1]])


def test_votes_keep_what_most_samples_come_to_and_the_weak_answer_does_not():
    task = replace(SUMS, checker="number", final="=")
    samples = {
        "3+1": ["x=4", "=04", "=4", "=5"],  # Three of four mean 4.
        "3+2": ["=6", "=5", "=5", "=5"],
        "4+1": ["=1", "=2", "=3", "=4"],
        "4+2": ["=6", "=6", "=6", "=6"],
        "5+1": ["6", "6", "6", "6"],
    }
    weak = dict.fromkeys(samples, "=9") | {"4+2": "y=6"}
    store = paired(SelfReinforce(filter="votes", votes=4), Certain(samples), Certain(weak), task, inputs=list(samples))
    assert store.column("chosen") == ["x=4"]
    assert list(store.dropped.values()) == [
        "the strong answer is outvoted",
        "the answers do not agree",
        "the weak answer agrees too",
        "no final answer",
    ]


def test_a_margin_is_in_nats_a_token_under_the_strong_model():
    inputs = ["3+1", "3+2"]
    strong = Certain(dict(zip(inputs, "45", strict=True)), {"4": -1.0, "5": -1.6, "9": -2.0})
    weak = Certain(dict.fromkeys(inputs, "9"))
    store = paired(SelfReinforce(filter="margin", margin=0.5), strong, weak, inputs=inputs)
    assert store.column("chosen") == ["4"]
    assert list(store.dropped.values()) == ["not likelier by the margin"]


def test_a_margin_is_that_of_the_answers_as_they_are_learned_with_the_line_break_that_ends_them():
    style = Style(opening="", demonstration="{input}>{output}\n", question="{input}>")
    assert style.stop == ("\n",)
    # By the bare texts it would be the other way round.
    strong = Certain({"3+1": "4"}, {"4\n": -1.0, "9\n": -2.0, "4": -5.0, "9": -1.0})
    task = replace(SUMS, style=style)
    store = paired(SelfReinforce(filter="margin", margin=0.5), strong, Certain({"3+1": "9"}), task, inputs=["3+1"])
    assert store.column("chosen") == ["4\n"]


def test_a_dropped_pair_is_written_down_with_its_input_and_both_answers_once(tmp_path):
    class Killed(Store):
        def drop(self, reasons):
            raise KeyboardInterrupt

    strong, weak = Certain({"3+1": "4", "3+2": "\u2028x", "4+1": "5"}), Certain({"3+1": "4", "3+2": "", "4+1": "6"})
    method, inputs = SelfReinforce(filter="none"), ["3+1", "3+2", "4+1"]
    with pytest.raises(KeyboardInterrupt):
        method.pair_up(strong, weak, strong, SUMS, inputs, Killed(tmp_path / "store"), 0)
    store = Store(tmp_path / "store")
    method.pair_up(strong, weak, strong, SUMS, inputs, store, 0)
    rows = [json.loads(line) for line in (tmp_path / "dropped.jsonl").read_bytes().split(b"\n") if line]
    assert [{name: row[name] for name in ("input", "strong", "weak", "reason")} for row in rows] == [
        {"input": "3+1", "strong": "4", "weak": "4", "reason": "both answers are the same"},
        {"input": "3+2", "strong": "\u2028x", "weak": "", "reason": "empty"},
    ]
    assert {row["id"]: row["reason"] for row in rows} == store.dropped
    assert store.column("chosen") == ["5"]


def test_inputs_and_pairs_that_are_longer_than_the_context_are_dropped_and_not_asked():
    class Short(Certain):
        def room(self, prompt):
            return 20 - len(prompt)

    style = Style(opening="", demonstration="{input}>{output};;", question="{input}>", stop=(";;",))
    # One token for each letter: 12 of the input and its ">", 6 of the answer and 2 of what ends it.
    fits, long = "1+1+1+1+1+1", "1+1+1+1+1+11"
    strong, weak = Short({fits: "6", "3+1": "4"}), Short({fits: "9", "3+1": "9"})
    store = paired(SelfReinforce(filter="none"), strong, weak, replace(SUMS, style=style), inputs=[fits, long, "3+1"])
    assert store.column("prompt") == [f"{fits}>", "3+1>"]
    assert list(store.dropped.values()) == ["longer than the context"]
    assert f"{long}>" not in [*strong.asked, *weak.asked]
    # A comparison is longer than this judge's context.
    judge = Short({}, choice=lambda _: pytest.fail("it was asked"))
    store = paired(SelfReinforce(filter="judge"), strong, weak, judge=judge, inputs=["3+1"])
    assert list(store.dropped.values()) == ["longer than the context"]


def test_answers_are_drawn_and_agreement_is_measured_as_the_options_say():
    said = {text: ["4", "4", "4"] for text in ("3+1", "3+2")}
    method, strong, weak = (
        SelfReinforce(filter="votes", votes=3, temperature=0.7, top_p=0.9),
        Certain(said),
        Certain(said),
    )
    paired(method, strong, weak, inputs=["3+1"])
    method.agreement(strong, SUMS, ["3+2"], 5)
    drawn = [[request.sampling for call in lm.calls for request in call] for lm in (strong, weak)]
    assert {(one.temperature, one.top_p, one.max_tokens) for some in drawn for one in some} == {(0.7, 0.9, 6)}
    assert [one.seed for one in drawn[0]] == [0] * 3 + [10] * 3
    assert [one.seed for one in drawn[1]] == [1]


def test_inputs_that_were_decided_on_are_not_asked_again():
    strong, weak = Certain(dict.fromkeys(SUMS.inputs, "4")), Certain(dict.fromkeys(SUMS.inputs, "9"))
    method, store = SelfReinforce(filter="none"), Store(name="pairs")
    method.pair_up(strong, weak, strong, SUMS, list(SUMS.inputs[:2]), store, 0)
    asked = len(strong.asked)
    method.pair_up(strong, weak, strong, SUMS, list(SUMS.inputs[:2]), store, 0)
    assert len(strong.asked) == asked


def test_rounds_share_the_inputs_or_take_all_of_them_and_some_are_held_back_to_choose_by():
    parts, held = SelfReinforce(rounds=2, held=1).portions(SUMS, 0)
    assert sorted([*parts[0], *parts[1], *held]) == sorted(SUMS.inputs)
    assert len(held) == 1
    same, _ = SelfReinforce(rounds=2, fresh=False, keep="last").portions(SUMS, 0)
    assert sorted(same[0]) == sorted(same[1]) == sorted(SUMS.inputs)
    with pytest.raises(ValueError, match="5 different inputs are needed, got 4"):
        SelfReinforce().portions(replace(SUMS, inputs=SUMS.inputs[:4]), 0)
    with pytest.raises(ValueError, match="9 rounds need as many inputs"):
        SelfReinforce(rounds=9, keep="last").portions(SUMS, 0)


def site(folder: Path, task: Task, student: LocalLM | None, lm=None) -> Site:
    quick = Settings(steps=40, batch_size=4, lr=2e-2)
    made = Site(example_source("task", [("a", "b")]), lambda *_: None, quick, folder, True)
    made.lm, made.student, made.task = lm or student, student, task
    return made


def fresh_student() -> LocalLM:
    return tiny_lm("0123456789+>", width=16, depth=1, context=16, seed=1)


OPTIONS = {"filter": "none", "votes": 2, "lr_scale": 0.5, "held": 1}


def run(folder: Path, stages=None, **options) -> LanguageModel:
    folder.mkdir(exist_ok=True)
    made = SelfReinforce(**{**OPTIONS, **options}).stages(site(folder, MORE, fresh_student()))
    return Run(made[:stages], folder).result()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, LanguageModel]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder)


def test_a_run_leaves_pairs_a_table_of_agreement_and_the_model_that_agrees_most(whole):
    folder, kept = whole
    assert isinstance(kept, LanguageModel)
    assert kept.task == MORE
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    assert rows
    assert all(set(row) == {"prompt", "chosen", "rejected"} for row in rows)
    assert len((folder / "examples.jsonl").read_text().splitlines()) == 2
    said = (folder / "stages" / "kept" / "notes.txt").read_text()
    assert "is kept, which agrees with itself most" in said
    shares = _agreement(folder)
    best = max(shares, key=shares.get)
    assert said.startswith(best)
    logged = next((folder / "stages" / "dpo.1").rglob("metrics.csv")).read_text()
    assert all(f"loss/{term}," in logged for term in ("chosen", "rejected", "margin"))


def _agreement(folder: Path) -> dict[str, float]:
    table = Table.load(folder / "stages" / "agreement" / "table.json")
    return {arm: table.values(arm, "agreement")[0] for arm in table.arms}


def chosen_again(whole: Path, folder: Path, method: SelfReinforce, task: Task = MORE) -> LanguageModel:
    """What is kept of a finished run where its models are compared again."""
    shutil.copytree(whole, folder)
    for stage in ("agreement", "kept"):
        shutil.rmtree(folder / "stages" / stage)
    return Run(method.stages(site(folder, task, fresh_student())), folder).result()


MODELS = ("sft", "dpo.1", "dpo.2")


@pytest.mark.parametrize("best", range(3))
def test_the_model_that_agrees_with_itself_most_is_kept_whichever_round_it_is_of(whole, tmp_path, best):
    class Scripted(SelfReinforce):
        def agreement(self, lm, task, inputs, seed):
            self.seen = [*getattr(self, "seen", []), lm.name]
            # The last round is the worst one, where it is not the best one.
            return 0.9 if len(self.seen) == best + 1 else 0.5 / len(self.seen)

    method = Scripted(**OPTIONS)
    kept = chosen_again(whole[0], tmp_path / "run", method)
    models = [Run([], tmp_path / "run").read(stage).lm for stage in MODELS]
    assert method.seen == [lm.name for lm in models]
    assert len(set(method.seen)) == 3
    assert kept.lm.name == models[best].name
    for (name, weight), (_, other) in zip(kept.lm.state_dict().items(), models[best].state_dict().items(), strict=True):
        assert torch.equal(weight, other), name
    assert kept.lm.score(["3+1>"], ["4"]) == models[best].score(["3+1>"], ["4"])
    assert (tmp_path / "run" / "stages" / "kept" / "notes.txt").read_text().startswith(f"{MODELS[best]} is kept")


def test_the_outputs_of_tests_have_no_part_in_which_model_is_kept(whole, tmp_path):
    folder, stranger = tmp_path / "run", fresh_student()
    shutil.copytree(whole[0], folder)
    with torch.no_grad():
        # A last model that says something else each time, and always the same in tests.
        stranger.module.lm_head.weight.mul_(3)
    LanguageModel(stranger, MORE).save(folder / "stages" / "dpo.2" / "model")
    prompts, likeliest = ["0+7>", "0+8>", "0+9>"], Sampling(max_tokens=6, temperature=0.0)
    models = [Run([], folder).read(stage).lm for stage in MODELS]
    wanted, *rest = ([found[0].text for found in lm.generate(prompts, likeliest)] for lm in reversed(models))
    assert not set(wanted) & {text for found in rest for text in found}
    method, kept = SelfReinforce(**{**OPTIONS, "votes": 8, "held": 8}), list[tuple[str, str, dict[str, float]]]()
    for name, outputs in (("by these the last is right", wanted), ("by these none is", ["7"] * 3)):
        questions = zip([prompt.removesuffix(">") for prompt in prompts], outputs, strict=True)
        task = replace(MORE, test=tuple(Demonstration(*one) for one in questions))
        found = chosen_again(folder, tmp_path / name, method, task)
        said = (tmp_path / name / "stages" / "kept" / "notes.txt").read_text()
        kept.append((found.lm.name, said, _agreement(tmp_path / name)))
    assert kept[0] == kept[1]
    assert kept[0][0] != stranger.name


@pytest.mark.parametrize(("weak", "second"), [("chain", "sft"), ("fixed", "")])
def test_the_weak_model_is_that_of_the_round_before_or_always_the_one_before_all_training(tmp_path, weak, second):
    class Noting(SelfReinforce):
        def pair_up(self, strong, weak, judge, task, inputs, store, seed):
            self.pairs = [*getattr(self, "pairs", []), (strong.name, weak.name)]
            super().pair_up(strong, weak, judge, task, inputs, store, seed)

    student, method = fresh_student(), Noting(**OPTIONS, weak=weak, keep="last")
    stages = method.stages(site(tmp_path, MORE, student))
    made = Run(stages[:4], tmp_path)
    made.result()
    names = {"": student.name} | {stage: made.read(stage).lm.name for stage in ("sft", "dpo.1")}
    assert len(set(names.values())) == 3
    assert method.pairs == [(names["sft"], names[""]), (names["dpo.1"], names[second])]


def test_a_run_that_was_cut_off_between_stages_ends_alike(whole, tmp_path):
    _, kept = whole
    # Up to the pairs of the second round, then anew with a model that was not trained yet.
    run(tmp_path, stages=4)
    resumed = run(tmp_path)
    assert resumed.lm.score(["3+1>"], ["4"])[0].total == kept.lm.score(["3+1>"], ["4"])[0].total


def test_nothing_left_in_the_first_round_ends_it_and_in_a_later_one_changes_nothing(tmp_path):
    with pytest.raises(ValueError, match="nothing is left: 0 pairs are kept"):
        run(tmp_path / "none", filter="margin", margin=99.0, keep="last")

    class Late(SelfReinforce):
        def refused(self, found, strong, judge, task):
            self.calls = getattr(self, "calls", 0) + 1
            return super().refused(found, strong, judge, task) if self.calls == 1 else ["no"] * len(found.inputs)

    folder = tmp_path / "late"
    folder.mkdir()
    Run(Late(**OPTIONS, keep="last").stages(site(folder, MORE, fresh_student())), folder).result()
    assert "so this round changes nothing" in (folder / "stages" / "dpo.2" / "notes.txt").read_text()


def watched(folder: Path, task: Task = MORE, lm=None) -> Site:
    """A site that notes in `seen` what every stage trains, and how."""

    class Watching(Site):
        seen: ClassVar[list] = []

        def train(self, stage, method, source, settings=None, **further):
            self.seen.append((stage, method, settings or self.settings))
            return super().train(stage, method, source, settings, **further)

    return Watching(**vars(site(folder, task, fresh_student(), lm)))


def test_dpo_has_the_options_and_passes_of_the_recipe_and_each_round_its_own_inputs(tmp_path):
    class Noting(SelfReinforce):
        def pair_up(self, strong, weak, judge, task, inputs, store, seed):
            self.asked = [*getattr(self, "asked", []), list(inputs)]
            super().pair_up(strong, weak, judge, task, inputs, store, seed)

    options = {"beta": 0.3, "nll_weight": 0.2, "label_smoothing": 0.1, "lr_scale": 0.05}
    here, method = watched(tmp_path), Noting(**{**OPTIONS, **options}, passes=3)
    Run(method.stages(here), tmp_path).result()
    assert [stage for stage, *_ in here.seen] == ["sft", "dpo.1", "dpo.2"]
    for _, made, settings in here.seen[1:]:
        assert {name: getattr(made, name) for name in options} == options
        assert made.reference == "recorded"
        assert (settings.epochs, settings.steps) == (3, None)
    assert here.seen[0][2].steps == 40
    asked, held = method.portions(MORE, 0)
    assert method.asked == asked
    assert not {*asked[0]} & {*asked[1]}
    assert not {*held} & {*asked[0], *asked[1]}


def test_a_judge_that_was_named_beside_a_student_judges_in_its_place(tmp_path):
    elsewhere = Certain({}, choice=lambda _: [0.9, 0.1])
    method = SelfReinforce(**{**OPTIONS, "filter": "judge"})
    with pytest.raises(ValueError, match=r"nothing is left: .* the order decides"):
        Run(method.stages(watched(tmp_path, lm=elsewhere))[:2], tmp_path).result()
    assert elsewhere.asked_to_choose
    assert elsewhere.asked == []


def test_examples_and_inputs_that_are_longer_than_the_context_are_left_out_and_named(tmp_path):
    question, example = "+".join("1" * 8), Demonstration("+".join("2" * 7), "14")
    task = replace(MORE, inputs=(*MORE.inputs, f" {question} "), examples=(*MORE.examples, example))
    student = fresh_student()
    with pytest.raises(ValueError, match="context of 16"):
        student.generate([task.prompt(question)], Sampling(max_tokens=6))
    with pytest.raises(ValueError, match="context of 16"):
        student.score([task.prompt(example.input)], [task.completion(example.output)])
    here = watched(tmp_path, task)
    Run(SelfReinforce(**OPTIONS).stages(here), tmp_path).result()
    at = tmp_path / "stages"
    assert (
        f"1 examples are left out, longer than the context: '{example.input}>14'"
        in (at / "sft" / "notes.txt").read_text()
    )
    assert f"1 inputs are longer than the context: '{question}'" in (at / "pairs.1" / "notes.txt").read_text()
    assert "longer than" not in (at / "pairs.2" / "notes.txt").read_text()
    rows = [json.loads(line) for line in (at / "pairs.1" / "dropped.jsonl").read_text().splitlines()]
    assert [row["input"] for row in rows if row["reason"] == "longer than the context"] == [question]
    assert len((tmp_path / "examples.jsonl").read_text().splitlines()) == 2
    with pytest.raises(ValueError, match="every input is longer than the context of tiny, 16 tokens"):
        SelfReinforce().stages(watched(tmp_path, replace(task, inputs=(question,))))
    with pytest.raises(ValueError, match="every example is longer than the context of tiny, 16 tokens"):
        SelfReinforce().stages(watched(tmp_path, replace(task, examples=(example,))))


def test_what_cannot_work_is_said_before_anything_is_asked(tmp_path):
    method, student = SelfReinforce(), fresh_student()
    with pytest.raises(ValueError, match=r"needs examples .* and inputs"):
        method.stages(site(tmp_path, replace(SUMS, examples=()), student))
    both = replace(SUMS, inputs=(*SUMS.inputs, " 2+1 "))
    with pytest.raises(ValueError, match=r"1 of the inputs are examples or demonstrations too, such as ' 2\+1 '"):
        method.stages(site(tmp_path, both, student))
    with pytest.raises(ValueError, match="SelfReinforce trains a model, and scripted runs elsewhere"):
        method.stages(site(tmp_path, SUMS, None, ScriptedLM(lambda _: "x")))
    mute = ScriptedLM(lambda _: "x", name="mute", capabilities=("generate",))
    with pytest.raises(ValueError, match="the filter 'judge' needs a model that can choose; mute can generate"):
        method.stages(site(tmp_path, SUMS, student, mute))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"votes": 1}, "votes must be at least 2"),
        ({"min_share": 0.0}, r"min_share lies in \(0, 1\]"),
        ({"temperature": 0.0}, "a temperature above 0"),
        ({"top_p": 0.0}, r"top_p lies in \(0, 1\]"),
        ({"margin": float("nan")}, "margin is a number"),
        ({"beta": -1.0}, "beta must be above 0, got -1"),
        ({"lr_scale": 0.0}, "lr_scale must be above 0"),
        ({"nll_weight": -0.1}, "nll_weight must be 0 or more"),
        ({"label_smoothing": 0.5}, r"label_smoothing lies in \[0, 0.5\)"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        SelfReinforce(**options)
