"""Self-feedback as a recipe: what it learns from agreement, how the model it keeps answers, and what it measures."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from tests.lm.loopback import Loopback

from autodidact.data import Store
from autodidact.evaluation.table import Table
from autodidact.lm import Incapable
from autodidact.lm.endpoint import EndpointLM
from autodidact.lm.feedback import FeedbackModel
from autodidact.lm.kept import LanguageModel
from autodidact.lm.local import LocalLM
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.lm.updates import Feedback, answered
from autodidact.methods.language.sft import SFT
from autodidact.model import load_model
from autodidact.recipes.improving import example_source
from autodidact.recipes.self_feedback import SelfFeedback
from autodidact.training import Settings, train
from autodidact.verbs.apply import apply
from autodidact.verbs.improve import improve

STYLE = Style(opening="", demonstration="{input}?{output}", question="{input}?", stop=())
INPUTS = tuple(f"{a}+{b}" for a in "0123" for b in "0123")
SUMS = Task(
    "Add.",
    inputs=INPUTS[:12],
    test=tuple(Demonstration(text, str(int(text[0]) + int(text[2]))) for text in INPUTS[12:]),
    checker="number",
    final=">",
    style=STYLE,
    max_tokens=5,
)
QUICK = Settings(steps=4, batch_size=4, lr=1e-3)
OPTIONS = {"draws": 4, "temperature": 1.0}


@pytest.fixture(scope="module")
def lm() -> LocalLM:
    """Adds, and is wrong in a third of its answers."""
    right = [(f"{a}+{b}?", f"{w}>{a + b}") for a in range(4) for b in range(4) for w in "xy"]
    wrong = [(f"{a}+{b}?", f"x>{(a + 2 * b) % 7}") for a in range(4) for b in range(4)]
    made = tiny_lm("0123456789+?>xy", width=16, depth=2, context=24)
    settings = Settings(steps=150, batch_size=48, lr=2e-2, weight_decay=0.0, clip_norm=1.0)
    return train(SFT(made), example_source("sums", right + wrong), settings, quiet=True).lm


def fresh(lm: LocalLM) -> LocalLM:
    copied = LocalLM.from_plain(lm.plain())
    copied.load_state_dict(lm.state_dict())
    return copied


def run(lm: LocalLM, out: Path, task: Task = SUMS, **options) -> LanguageModel:
    return improve(
        "self_feedback",
        fresh(lm),
        task,
        out=out,
        settings=QUICK,
        method_arguments={**OPTIONS, **options},
        quiet=True,
        report=False,
    )


def test_what_most_samples_come_to_is_learned_where_they_agree_enough(lm, tmp_path):
    model = run(lm, tmp_path / "run", update="self_train")
    assert model.lm.name != lm.name
    rows = [json.loads(line) for line in (tmp_path / "run" / "examples.jsonl").read_text().splitlines()]
    answers = Store(tmp_path / "run" / "stages" / "answers" / "store")
    sure = [k for k, value in enumerate(answers.column("value")) if value >= 0.6]
    assert 0 < len(sure) <= len(answers)
    assert [row["completion"] for row in rows] == [answers.column("completion")[k] for k in sure]
    chosen = Store(tmp_path / "run" / "stages" / "chosen" / "store")
    assert Counter(chosen.dropped.values())["not sure enough"] == len(answers) - len(sure)
    assert (
        "of the 4 answers were right before"
        in Table.load(tmp_path / "run" / "evaluations" / "task.json").about["sentence"]
    )


def test_preferences_are_of_the_majority_over_a_minority_by_another_signal(lm, tmp_path):
    run(lm, tmp_path / "run", update="prefer", signal="semantic_entropy")
    rows = [json.loads(line) for line in (tmp_path / "run" / "pairs.jsonl").read_text().splitlines()]
    assert rows
    for row in rows:
        assert SUMS.meant(row["chosen"]) != SUMS.meant(row["rejected"])


def test_signals_are_held_against_the_test_answers(lm, tmp_path):
    wanted = ("vote_share", "semantic_entropy", "mean_logprob", "early_exits")
    run(lm, tmp_path / "run", signals=wanted)
    table = Table.load(tmp_path / "run" / "evaluations" / "signals.json")
    assert table.arms == list(wanted)
    assert {"told", "AURC", "quality"} <= set(table.metrics)
    assert 0 <= table.values("vote_share", "ECE")[0] <= 1
    assert table.values("mean_logprob", "told")[0] > 0
    assert not table.has("mean_logprob", "ECE", 0)


@pytest.mark.parametrize("update", ["vote", "abstain", "dola", "intervene"])
def test_the_model_that_is_kept_answers_in_the_way_that_was_asked_for(lm, tmp_path, update):
    model = run(lm, tmp_path / "run", update=update, heads=0.3, threshold=0.5)
    assert isinstance(model, FeedbackModel)
    asked = [one.input for one in SUMS.test]
    back = load_model(tmp_path / "run")
    expected = [one.text for one in model.answers(asked)]
    assert [one.text for one in back.answers(asked)] == expected
    (tmp_path / "in.txt").write_text("\n".join(asked))
    written = apply(tmp_path / "run", tmp_path / "in.txt", ability="generate", out=tmp_path / "out.jsonl", quiet=True)
    rows = [json.loads(line) for line in written.read_text().splitlines()]
    assert [row["output"] for row in rows] == expected
    assert all(row["answered"] == bool(row["output"]) for row in rows)
    table = Table.load(tmp_path / "run" / "evaluations" / "task.json")
    assert table.values("after", "tokens")[0] > 0


def test_without_a_threshold_abstaining_answers_what_is_as_sure_as_the_surer_half_of_the_inputs(lm, tmp_path):
    model = run(lm, tmp_path / "run", update="abstain", signal="mean_logprob")
    values = sorted(Store(tmp_path / "run" / "stages" / "answers" / "store").column("value"))
    middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
    assert values[0] < middle < 0
    assert isinstance(model, FeedbackModel)
    assert model.how.threshold == pytest.approx(middle)
    found = model.answers(INPUTS)
    sure = [one.confidence is not None and one.confidence >= middle for one in found]
    assert [bool(one.text) for one in found] == sure
    assert 0 < sum(sure) < len(found)
    assert load_model(tmp_path / "run").how.threshold == model.how.threshold
    told = (tmp_path / "run" / "stages" / "kept" / "notes.txt").read_text()
    assert f"'mean_logprob' is {middle:.6g} or more, which the surer half of the inputs reaches" in told


def test_what_is_learned_by_a_signal_that_is_no_share_is_what_the_surer_half_of_the_inputs_reaches():
    drawn, chosen = Store(name="answers"), Store(name="chosen")
    columns = {name: ["x"] * 5 for name in ("prompt", "completion", "other")}
    drawn.append(range(5), value=[-9.0, -1.0, -2.0, -3.0, -2.5], **columns)
    SelfFeedback(update="self_train", signal="mean_logprob").chosen(drawn, chosen)
    assert chosen.ids.tolist() == [1, 2, 4]
    assert chosen.dropped == dict.fromkeys((0, 3), "not sure enough")


def test_a_model_behind_an_address_is_kept_by_its_address_and_the_name_of_its_key(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_OWN_KEY", "not to be kept")
    there = EndpointLM("small", "http://localhost:1/v1", key="MY_OWN_KEY")
    folder = FeedbackModel(there, SUMS, Feedback("vote")).save(tmp_path / "model")
    assert not any(b"not to be kept" in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    back = load_model(folder)
    assert isinstance(back.lm, EndpointLM)
    assert (back.lm.where, back.lm.key) == (there.where, "MY_OWN_KEY")


def test_contrastive_decoding_keeps_its_weaker_model(lm, tmp_path):
    weak = tiny_lm("0123456789+?>xy", width=16, depth=1, context=24, seed=5).save_folder(tmp_path / "weak")
    model = run(lm, tmp_path / "run", update="contrastive", amateur=str(weak))
    how = Feedback("contrastive")
    assert load_model(tmp_path / "run").answers(INPUTS[:3]) == model.answers(INPUTS[:3])
    with pytest.raises(ValueError, match="needs a weaker model to decode against"):
        answered(lm, SUMS, INPUTS[:1], how)


def test_a_run_that_was_cut_off_ends_alike(lm, tmp_path, monkeypatch):
    whole = run(lm, tmp_path / "whole", update="self_train")

    def cut(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SelfFeedback, "chosen", cut)
        with pytest.raises(KeyboardInterrupt):
            run(lm, tmp_path / "cut", update="self_train")
    with monkeypatch.context() as patch:
        patch.setattr(SelfFeedback, "draw", cut)
        resumed = run(lm, tmp_path / "cut", update="self_train")
    assert resumed.lm.score(["1+2?"], ["x>3"]) == whole.lm.score(["1+2?"], ["x>3"])


def test_a_model_behind_an_address_answers_for_a_student_that_runs_here(lm, tmp_path):
    speaker = ScriptedLM(lambda prompt: [f"+>{prompt[0]}"] * 3 + ["?>9"])
    arguments = {"update": "self_train", **OPTIONS}
    asked = {"settings": QUICK, "method_arguments": arguments, "quiet": True, "report": False, "student": fresh(lm)}
    # What is learned ends as demonstrations do.
    ended = replace(STYLE, demonstration="{input}?{output}x", stop=("x", "y"))
    improve("self_feedback", speaker, replace(SUMS, test=(), style=ended), out=tmp_path / "run", **asked)
    rows = [json.loads(line) for line in (tmp_path / "run" / "examples.jsonl").read_text().splitlines()]
    assert [row["completion"] for row in rows] == [f"+>{text[0]}x" for text in SUMS.inputs]


def test_a_model_behind_an_address_answers_by_its_own_votes_and_is_kept_by_its_address(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    speaker = ScriptedLM(lambda prompt: {f"x>{prompt[0]}": -0.2, "y>9": -1.7})
    asked = {"settings": QUICK, "method_arguments": {**OPTIONS, "draws": 3}, "quiet": True, "report": False}
    with Loopback(speaker) as server:
        improve("self_feedback", f"{server.address}#tiny", SUMS, out=tmp_path / "run", **asked)
        assert not (tmp_path / "run" / "hf").exists()
        (tmp_path / "in.txt").write_text("1+2\n")
        said = apply(tmp_path / "run", tmp_path / "in.txt", ability="generate", quiet=True)
    assert said == ["x>1"]
    table = Table.load(tmp_path / "run" / "evaluations" / "task.json")
    assert table.values("after", "tokens")[0] > 0


def test_what_refining_fixes_and_what_it_breaks_are_counted_apart(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    # Of the test inputs two are fixed, one is broken and one stays right.
    first, second = {"3+0": "2", "3+1": "4", "3+2": "6", "3+3": "6"}, {"3+0": "3", "3+1": "5", "3+2": "5", "3+3": "6"}

    def speaks(prompt: str) -> str:
        question = prompt.partition("?")[0]
        if prompt.endswith("why?"):
            return "x"
        return f"x>{(second if prompt.endswith('again?') else first)[question]}"

    arguments = {"update": "refine", "rounds": 1, "critique": "why?", "revise": "again?"}
    asked = {"settings": QUICK, "method_arguments": arguments, "quiet": True, "report": False}
    with Loopback(ScriptedLM(speaks)) as server:
        improve("self_feedback", f"{server.address}#tiny", SUMS, out=tmp_path / "run", **asked)
    table = Table.load(tmp_path / "run" / "evaluations" / "task.json")
    assert table.about["sentence"] == (
        "50.0% of the 4 answers were right before, 75.0% are now: 2 became right and 1 wrong."
    )
    assert [table.values(arm, "right") for arm in ("before", "after")] == [[0.5], [0.75]]


@pytest.mark.parametrize("said", ["x", ""])
def test_samples_that_come_to_nothing_are_an_error_with_the_reason(lm, tmp_path, said):
    speaker = ScriptedLM(lambda _: said)
    asked = {"settings": QUICK, "method_arguments": {"update": "self_train"}, "quiet": True, "student": fresh(lm)}
    reason = "no final answer" if said else "all answers are empty"
    with pytest.raises(ValueError, match=rf"0 answers are kept, 12 are dropped \(12 {reason}\)"):
        improve("self_feedback", speaker, replace(SUMS, test=()), out=tmp_path / "run", **asked)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"update": "self_trian"}, "did you mean 'self_train'"),
        ({"signal": "vote_shares"}, "did you mean 'vote_share'"),
        ({"signals": ("verbl",)}, "did you mean 'verbal'"),
        ({"heads": 0.0}, r"heads is a share in \(0, 1\]"),
        ({"draws": 1}, "draws must be at least 2"),
        ({"pick": "{answers} {foo}"}, "pick must name {answers} and nothing else"),
        ({"debate": "{others} {input}"}, "debate must name {others} and nothing else"),
        ({"debate": "{others"}, "debate is no template"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        SelfFeedback(**options)


def test_what_cannot_work_is_said_before_anything_is_asked(lm, tmp_path):
    for number, (options, task, said) in enumerate(
        (
            ({"update": "self_train"}, replace(SUMS, inputs=()), "needs inputs in the task"),
            ({"update": "contrastive"}, SUMS, "needs a weaker model: --method.amateur"),
            ({"update": "tree"}, replace(SUMS, final="", test=()), "must know what stands before a final answer"),
            (
                {"update": "abstain", "signal": "mean_logprob"},
                replace(SUMS, inputs=()),
                "without a threshold 'abstain' reads one off the signal 'mean_logprob' of the task's inputs",
            ),
        )
    ):
        with pytest.raises(ValueError, match=said):
            run(lm, tmp_path / str(number), task, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"signal": "mean_logprob"}, "the signal 'mean_logprob' needs the log-probabilities of answers; tiny@http"),
        ({"signals": ("early_exits",)}, "the signal 'early_exits' reads the layers of a model, and tiny@http"),
        ({"update": "dola"}, "the update 'dola' reads the layers of a model, and tiny@http"),
    ],
)
def test_what_an_address_never_tells_is_refused_without_a_request(tmp_path, monkeypatch, options, said):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    asked = {"settings": QUICK, "method_arguments": {**OPTIONS, **options}, "quiet": True, "report": False}
    with Loopback(ScriptedLM(lambda _: "x>1")) as server:
        with pytest.raises(Incapable, match=said):
            improve("self_feedback", f"{server.address}#tiny", SUMS, out=tmp_path / "run", **asked)
        assert server.requests == []
