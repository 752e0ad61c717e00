"""improve: from a model and a task file to a better model, whatever the model is behind, and nothing is paid twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import Dataset, load_dataset
from tests.lm.loopback import Loopback

from autodidact.catalog import cards
from autodidact.cli.main import main
from autodidact.evaluation.answers import answer, judged
from autodidact.evaluation.table import Table
from autodidact.lm import Sampling
from autodidact.lm.kept import LanguageModel
from autodidact.lm.local import LocalLM
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.task_file import read_task
from autodidact.lm.tiny import tiny_lm
from autodidact.methods.language.sft import SFT
from autodidact.model import load_model
from autodidact.recipes.improving import example_source, write_examples
from autodidact.recipes.preferring import write_pairs
from autodidact.training import Settings, train
from autodidact.training.language import ADAPTER_LR, TRAINING
from autodidact.verbs.apply import apply
from autodidact.verbs.improve import improve, training

LETTERS = "abcd"
STYLE = {
    "opening": "",
    "demonstration": "{input}>{output};",
    "question": "{input}>",
    "stop": [";"],
    "inputs_opening": "?",
    "inputs_item": "{input};",
    "inputs_ask": "",
    "inputs_ask_labelled": "{label}<",
}


def pairs() -> list[tuple[str, str]]:
    """Texts of pairs x>xx; and lists of inputs, which a tiny model learns in seconds."""
    words = [a + b for a in LETTERS for b in LETTERS]
    texts = [
        f"{x}>{x + x if (k + j) % 5 else x};{y}>{y}{y};{z}>{z}{z};"
        for k, x in enumerate(words)
        for j, y in enumerate(words)
        for z in [words[(k + 3 * j) % 16]]
    ]
    lists = [f"?{x};{y};{words[(k * 5 + j) % 16]};" for k, x in enumerate(words) for j, y in enumerate(words)]
    return [(text[0], text[1:]) for text in texts + lists]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder of transformers with a model that mostly doubles words."""
    lm = tiny_lm("abcd>;?", width=32, depth=2, context=64)
    settings = Settings(steps=200, batch_size=32, lr=5e-3, weight_decay=0.0, clip_norm=1.0)
    model = train(SFT(lm), example_source("mix", pairs()), settings, quiet=True)
    return model.lm.save_folder(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def task(tmp_path: Path) -> Path:
    def rows(*words: str) -> list[dict[str, str]]:
        return [{"input": word, "output": word + word} for word in words]

    path = tmp_path / "double.yaml"
    written = {
        "instruction": "Write it twice.",
        "demonstrations": rows("ab", "cd"),
        "examples": rows("aa", "bb", "cc", "dd"),
        "test": rows("bd", "ca", "da"),
        "style": STYLE,
        "max_tokens": 6,
        "max_input_tokens": 4,
    }
    path.write_text(yaml.safe_dump(written))
    return path


OPTIONS = {"rounds": 3, "per_round": 4, "votes": 3}
QUICK = Settings(steps=4, batch_size=4, lr=1e-3)


def test_a_run_leaves_a_model_for_both_libraries_its_data_its_calls_a_table_and_a_report(base, task, tmp_path):
    out = tmp_path / "run"
    model = improve("self_guide", base, task, out=out, settings=QUICK, method_arguments=OPTIONS, quiet=True)
    assert isinstance(model, LanguageModel)
    back, other = load_model(out), LocalLM.load(out / "hf")
    prompts = ["ab>abab;cd>cdcd;bc>"]
    likeliest = Sampling(temperature=0.0, max_tokens=6)
    said = [lm.generate(prompts, likeliest)[0][0].text for lm in (model.lm, back.lm, other)]
    assert len(set(said)) == 1
    examples = [json.loads(line) for line in (out / "examples.jsonl").read_text().splitlines()]
    assert examples
    assert all(set(row) == {"prompt", "completion"} for row in examples)
    table = Table.load(out / "evaluations" / "task.json")
    assert table.arms == ["before", "after"]
    assert {"right", "empty", "copied", "different", "length"} == set(table.metrics)
    page = (out / "report.html").read_text()
    for words in ("What was made", "Read some rows of each kind", "why dropped", "of the 3 answers were right before"):
        assert words in page
    spent = json.loads((out / "run.json").read_text())["spent"]
    assert spent["calls"] == len((out / "transcript.jsonl").read_text().splitlines())


@pytest.mark.parametrize(("method", "options"), [("sft", {}), ("policy_gradient", {"group": 2})])
def test_a_task_with_fewer_rows_than_a_batch_is_learned_in_smaller_batches(base, task, tmp_path, method, options):
    out = tmp_path / "run"
    improve(method, base, task, out=out, method_arguments=options, quiet=True, report=False)
    # Four rows in one batch, three epochs.
    losses = [row for row in (out / "log" / "metrics.csv").read_text().splitlines() if ",loss," in row]
    assert [row.split(",")[0] for row in losses] == ["1", "2", "3"]
    assert (out / "hf" / "model.safetensors").is_file()


def test_what_was_improved_answers_files_and_can_be_improved_again(base, task, tmp_path):
    out = tmp_path / "run"
    improve("sft", base, task, out=out, settings=QUICK, quiet=True, report=False)
    (tmp_path / "in.txt").write_text("ab\ncc\n")
    written = apply(out, tmp_path / "in.txt", ability="generate", out=tmp_path / "said.jsonl", quiet=True)
    rows = [json.loads(line) for line in written.read_text().splitlines()]
    assert [row["input"] for row in rows] == ["ab", "cc"]
    assert all(isinstance(row["output"], str) for row in rows)
    (tmp_path / "pairs.jsonl").write_text('{"input": "ab", "output": "abab"}\n{"input": "ab", "output": "dddd"}\n')
    right, wrong = apply(out, tmp_path / "pairs.jsonl", ability="score", quiet=True)
    assert right > wrong
    (tmp_path / "choices.jsonl").write_text(
        '{"input": "ab", "options": ["dddd", "abab"]}\n{"input": "ab", "options": ["abab", "cc", "dddd"]}\n'
    )
    written = apply(out, tmp_path / "choices.jsonl", ability="choose", out=tmp_path / "chosen.jsonl", quiet=True)
    first, second = [json.loads(line) for line in written.read_text().splitlines()]
    assert first["choice"] == second["choice"] == "abab"
    assert sum(first["probabilities"]) == pytest.approx(1) == sum(second["probabilities"])
    assert np.argmax(first["probabilities"]) == 1
    with pytest.raises(ValueError, match="to choose, data needs a field 'options', a list of texts; it has input"):
        apply(out, tmp_path / "in.txt", ability="choose", quiet=True)
    again = improve("sft", out, task, out=tmp_path / "again", settings=QUICK, quiet=True, report=False)
    assert again.lm.name != load_model(out).lm.name


def test_what_was_improved_answers_scores_and_chooses_on_the_command_line(base, task, tmp_path, capsys):
    run = tmp_path / "run"
    improve("sft", base, task, out=run, settings=QUICK, quiet=True, report=False)
    lm, shown = LocalLM.load(run / "hf"), "ab>abab;cd>cdcd;"
    rows = {
        "generate": [{"input": "bc"}, {"input": "da"}],
        "score": [{"input": "bc", "output": "bcbc"}, {"input": "bc", "output": "dd"}],
        "choose": [
            {"input": "bc", "options": ["dd", "bcbc"]},
            {"input": "da", "options": ["dddd", "dada", "aaaa"]},
            # One begins the other: without what ends them the shorter would always be likelier.
            {"input": "bc", "options": ["bc", "bcbc"]},
        ],
    }

    def written(ability: str, ending: str) -> Path:
        data, out = tmp_path / f"{ability}_in.jsonl", tmp_path / f"{ability}{ending}"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows[ability]))
        words = ["apply", run, "--ability", ability, "--data", data, "--out", out, "--quiet"]
        assert main([str(word) for word in words]) == 0
        assert capsys.readouterr().out == f"written to {out}\n"
        return out

    def told(ability: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in written(ability, ".jsonl").read_text().splitlines()]

    likeliest = Sampling(max_tokens=6, temperature=0.0, stop=(";",))
    said = [lm.generate([f"{shown}{row['input']}>"], likeliest)[0][0].text for row in rows["generate"]]
    assert [(row["input"], row["output"]) for row in told("generate")] == [("bc", said[0]), ("da", said[1])]
    assert said[0] == "bcbc"
    # As it was taught to write them, a semicolon behind.
    scores = [lm.score([f"{shown}bc>"], [f"{row['output']};"])[0].total for row in rows["score"]]
    assert scores[0] > -1 > scores[1]
    assert [row["score"] for row in told("score")] == pytest.approx(scores, abs=1e-4)
    assert pq.read_table(written("score", ".parquet"))["score"].to_pylist() == pytest.approx(scores, abs=1e-4)
    chosen = told("choose")
    assert [row["choice"] for row in chosen] == ["bcbc", "dada", "bcbc"]
    for row, found, end in zip(rows["choose"], chosen, ("", "", ";"), strict=True):
        expected = lm.choose([f"{shown}{row['input']}>"], [option + end for option in row["options"]])[0]
        assert found["probabilities"] == pytest.approx(expected.tolist(), abs=1e-4)


AWKWARD = ['say "no"\n\n\tnever', "", " é\u2028 \U0001f600 ", "{'a': null}", "12", "null", "2020-01-01"]
"""Texts that a careless reader would take for something else, or for the end of a line."""
EXAMPLE, PAIR = ["prompt", "completion"], ["prompt", "chosen", "rejected"]
"""What SFTTrainer and DPOTrainer of trl read."""


def read_by_datasets(path: Path, cache: Path) -> Dataset:
    return load_dataset("json", data_files=str(path), split="train", cache_dir=str(cache))


@pytest.mark.parametrize(
    ("method", "options", "file"),
    [
        ("sft", {}, "examples.jsonl"),
        ("self_guide", OPTIONS, "examples.jsonl"),
        ("policy_gradient", {"group": 2}, "examples.jsonl"),
        ("dpo", {}, "pairs.jsonl"),
        ("self_reinforce", {"rounds": 1, "filter": "none", "temperature": 2.0}, "pairs.jsonl"),
    ],
)
def test_what_a_run_learned_is_read_by_datasets_with_the_columns_that_trl_reads(
    base, task, tmp_path, method, options, file
):
    answers = [{"input": "ab", "chosen": "abab", "rejected": "a"}, {"prompt": "cd>", "chosen": "cd", "rejected": ""}]
    changed = yaml.safe_load(task.read_text()) | {"pairs": answers, "inputs": ["ac", "ad", "ba", "db", "dc"]}
    task.write_text(yaml.safe_dump(changed))
    out = tmp_path / "run"
    improve(method, base, task, out=out, settings=QUICK, method_arguments=options, quiet=True, report=False)
    found = read_by_datasets(out / file, tmp_path / "cache")
    assert found.column_names == (PAIR if file == "pairs.jsonl" else EXAMPLE)
    assert {str(kind.dtype) for kind in found.features.values()} == {"string"}
    assert found.to_list() == [json.loads(line) for line in (out / file).read_text(encoding="utf-8").splitlines()]
    assert len(found) > 0
    if method == "sft":
        prompts = [f"ab>abab;cd>cdcd;{x}{x}>" for x in LETTERS]
        assert found["prompt"][:] == prompts
        assert found["completion"][:] == [f"{x * 4};" for x in LETTERS]
    if method == "dpo":
        assert found[1] == {"prompt": "cd>", "chosen": "cd", "rejected": ""}


def test_datasets_reads_awkward_texts_as_they_were(tmp_path):
    examples = list(zip(AWKWARD, reversed(AWKWARD), strict=True))
    write_examples(tmp_path, examples)
    pairs = [(prompt, text, other) for (prompt, text), other in zip(examples, AWKWARD[1:] + AWKWARD[:1], strict=True)]
    write_pairs(tmp_path, pairs)
    for file, columns, rows in (("examples.jsonl", EXAMPLE, examples), ("pairs.jsonl", PAIR, pairs)):
        found = read_by_datasets(tmp_path / file, tmp_path / file.partition(".")[0])
        assert found.column_names == columns
        assert [tuple(row.values()) for row in found.to_list()] == rows


def test_an_adapter_is_trained_alone_and_written_as_peft_reads_it(base, task, tmp_path):
    out = tmp_path / "run"
    improve("sft", base, task, out=out, adapter=2, settings=QUICK, quiet=True, report=False)
    assert (out / "hf" / "adapter_config.json").is_file()
    prompts, wanted = ["ab>abab;cd>cdcd;bc>"], ["bcbc"]
    kept, peft, plain = load_model(out).lm, LocalLM.load(out / "hf"), LocalLM.load(base)
    assert kept.score(prompts, wanted)[0].total == pytest.approx(peft.score(prompts, wanted)[0].total, abs=1e-5)
    assert kept.score(prompts, wanted)[0].total != plain.score(prompts, wanted)[0].total


def rate_of(out: Path, *words: object) -> float:
    """The learning rate that a training logs whose rate is constant."""
    constant = ["--schedule", "constant", "--warmup", 0, "--steps", 1, "--device", "cpu", "--quiet", "--no-report"]
    assert main([str(word) for word in ["improve", "sft", "--out", out, *constant, *words]]) == 0
    logged = [row.split(",") for row in (out / "log" / "metrics.csv").read_text().splitlines()]
    [rate] = {float(value) for _, name, value in logged if name == "lr"}
    assert yaml.safe_load((out / "config.yaml").read_text())["settings"]["lr"] == rate
    return rate


def test_an_adapter_learns_at_the_rate_of_adapters_whether_it_is_asked_for_comes_of_itself_or_was_there(
    base, task, tmp_path, monkeypatch
):
    of_all, of_adapters = TRAINING["lr"], ADAPTER_LR
    asked = ["--model", base, "--task", task]
    assert rate_of(tmp_path / "small", *asked) == of_all
    assert rate_of(tmp_path / "asked", *asked, "--adapter", 2) == of_adapters
    # A folder of peft, and a run of this verb.
    for number, there in enumerate((tmp_path / "asked" / "hf", tmp_path / "asked")):
        assert rate_of(tmp_path / f"there{number}", "--model", there, "--task", task) == of_adapters
    monkeypatch.setattr("autodidact.verbs.improve.LARGE", 1000)
    assert rate_of(tmp_path / "large", *asked) == of_adapters
    assert (tmp_path / "large" / "hf" / "adapter_config.json").is_file()
    assert rate_of(tmp_path / "whole", *asked, "--adapter", 0) == of_all
    assert rate_of(tmp_path / "given", *asked, "--lr", 1e-3) == 1e-3


def test_a_finished_run_of_a_large_model_is_returned_by_the_same_command(base, task, tmp_path, monkeypatch):
    monkeypatch.setattr("autodidact.verbs.improve.LARGE", 1000)
    out = tmp_path / "run"
    asked = {"out": out, "settings": {"steps": 2, "batch_size": 4}, "quiet": True, "report": False}
    first = improve("sft", base, task, **asked)
    assert improve("sft", base, task, **asked).lm.name == first.lm.name
    with pytest.raises(ValueError, match=r"is another run .lr was 0\.0002, is 0\.001"):
        improve("sft", base, task, **{**asked, "settings": {**asked["settings"], "lr": 1e-3}})


@pytest.mark.parametrize("method", [name for name, card in cards().items() if card.verb == "improve"])
def test_the_help_tells_the_defaults_that_training_takes(method, capsys):
    assert main(["improve", method, "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"--epochs N passes over the data; default {training().epochs}, unless --steps is given --steps" in said
    rates = f"default {training().lr:g}, and {training(adapter=True).lr:g} where an adapter learns"
    assert f"(it is not rescaled); {rates} --weight-decay" in said


def test_a_model_behind_an_address_writes_for_a_student_here_and_nothing_is_paid_for_twice(
    base, task, tmp_path, monkeypatch
):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    script = lambda prompt: "bc" if prompt.startswith("?") else prompt.rpartition(";")[2].removesuffix(">") * 2  # noqa: E731
    out = tmp_path / "run"
    asked = {"student": base, "settings": QUICK, "method_arguments": OPTIONS, "quiet": True, "report": False}
    with Loopback(ScriptedLM(script)) as server:
        where = f"{server.address}#tiny"
        # The budget ends it in the middle of the outputs; the same command with a larger one goes on.
        with pytest.raises(Exception, match="budget"):
            improve("self_guide", where, task, out=out, call_budget=13, **asked)
        assert server.answered == 13
        model = improve("self_guide", where, task, out=out, **asked)
        # Three rounds of four, three answers to the one input that is new; the test inputs are the student's.
        assert server.answered == 3 * 4 + 3
    assert isinstance(model, LanguageModel)
    assert [json.loads(line)["completion"] for line in (out / "examples.jsonl").read_text().splitlines()] == ["bcbc;"]


def test_before_and_after_are_the_students_answers_and_the_test_inputs_are_asked_of_no_one_else(base, task, tmp_path):
    writer, out = ScriptedLM(lambda _: "dddd"), tmp_path / "run"
    student = LocalLM.load(base)
    wanted = read_task(task)
    before = judged(wanted, answer(student, wanted, [one.input for one in wanted.test]))
    improve("sft", writer, task, out=out, student=student, settings=QUICK, quiet=True, report=False)
    table = Table.load(out / "evaluations" / "task.json")
    assert {name: table.values("before", name)[0] for name in table.metrics} == before
    assert before["different"] == 1
    assert writer.asked == []
    # One that writes and learns at once is asked through what keeps its answers.
    improve("sft", base, task, out=tmp_path / "one", settings=QUICK, quiet=True, report=False)
    assert len((tmp_path / "one" / "transcript.jsonl").read_text().splitlines()) == 3


def test_a_budget_that_is_reached_is_one_line_on_the_command_line(base, task, tmp_path, capsys):
    words = ["improve", "self_guide", "--model", base, "--task", task, "--out", tmp_path / "run", "--call-budget", 4]
    assert main([str(word) for word in words]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("autodidact: the budget of 4 calls does not suffice")
    assert said[-1].endswith("the same command goes on, with a larger budget if need be")


def test_a_finished_run_is_returned_and_another_task_in_its_folder_is_refused(base, task, tmp_path):
    out = tmp_path / "run"
    first = improve("sft", base, task, out=out, settings=QUICK, quiet=True, report=False)
    again = improve("sft", base, task, out=out, settings=QUICK, quiet=True, report=False)
    assert again.lm.name == first.lm.name
    changed = yaml.safe_load(task.read_text()) | {"instruction": "Another."}
    task.write_text(yaml.safe_dump(changed))
    with pytest.raises(ValueError, match="is another run"):
        improve("sft", base, task, out=out, settings=QUICK, quiet=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "simclr"}, "'simclr' does not improve language models; autodidact pretrain simclr"),
        ({"method": "self_guid"}, "did you mean 'self_guide'"),
        ({"method": "self_guide", "method_arguments": {"round": 3}}, "did you mean 'rounds'"),
        ({"model": "/none/such"}, "no such folder"),
        ({"adapter": -1}, "rank of an adapter is 0 or more"),
        ({"model": ScriptedLM(lambda _: "x"), "method": "self_guide"}, "scripted runs elsewhere"),
        ({"model": ScriptedLM(lambda _: "x")}, "this one runs elsewhere"),
        ({"student": ScriptedLM(lambda _: "x")}, "the student must run here"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_paid_for(base, task, tmp_path, change, said):
    asked = {"method": "sft", "model": base, "task": task, "out": tmp_path / "run", "quiet": True, **change}
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        improve(**asked)
    assert not (tmp_path / "run" / "transcript.jsonl").exists()


def test_examples_are_needed_to_learn_from_examples(base, task, tmp_path):
    without = {name: value for name, value in yaml.safe_load(task.read_text()).items() if name != "examples"}
    task.write_text(yaml.safe_dump(without))
    with pytest.raises(ValueError, match="SFT learns from the task's examples, and it has none"):
        improve("sft", base, task, out=tmp_path / "run", quiet=True)
