"""One command for a model that was kept, for a folder of transformers, for an address; and an address that fails."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.lm.loopback import Failure, Loopback

from autodidact.claims.bases import texts_lm
from autodidact.cli.main import main
from autodidact.lm.kept import LanguageModel
from autodidact.lm.local import LocalLM
from autodidact.lm.retrying import Retries
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.tiny import tiny_lm
from autodidact.methods.language.sft import SFT
from autodidact.recipes.improving import example_source
from autodidact.training import Settings, train

WORDS = [a + b for a in "abcd" for b in "abcd"]
TEXTS = [
    text
    for k, x in enumerate(WORDS)
    for j, y in enumerate(WORDS)
    for z in [WORDS[(k * 5 + j) % 16]]
    for text in (f"{x}>{x}{x};{y}>{y}{y};{z}>{z}{z};", f"?{x};{y};{z};{WORDS[(k + 3 * j) % 16]};")
]
"""Words written twice, and lists of words."""
SIZES: dict[str, dict[str, float]] = {
    "gpt2": {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 2,
        "n_positions": 64,
        "initializer_range": 0.2,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    },
    "qwen2": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
    },
}
"""Without dropout, and with weights that begin large, so that few steps teach so small a model."""
STYLE = {
    "opening": "^",
    "demonstration": "{input}>{output};",
    "question": "{input}>",
    "stop": [";"],
    "inputs_opening": "^?",
    "inputs_item": "{input};",
    "inputs_ask": "",
    "inputs_ask_labelled": "{label}<",
}
GREEDY = ["--method.top_k", 1, "--method.vote_top_k", 1]
FAILURES: dict[str, Failure] = {
    "429": (429, {"message": "slow down"}, {"Retry-After": "1"}),
    "500": (500, {"message": "oops"}),
    "503": (503, {"message": "busy"}),
    "time-out": "time-out",
    "malformed JSON": "malformed",
    "dropped connection": "dropped",
    "truncated body": "truncated",
}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, and no waiting between two attempts."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(Retries, "wait", lambda self, failures, asked=None: 0.0)


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that claims start from, which continues lists of words and mostly doubles words."""
    bases = tmp_path_factory.mktemp("bases")
    sizes = {"width": 32, "depth": 2, "context": 64}
    texts_lm(TEXTS, bases, start="^", symbols="abcd>;?", seed=0, sizes=sizes, steps=200, batch=32, lr=5e-3)
    [place] = [path for path in bases.iterdir() if path.is_dir()]
    return place


@pytest.fixture(scope="session")
def folder(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, written by transformers alone."""
    from autodidact.lm.names import open_lm

    lm = open_lm(kept, device="cpu")
    assert isinstance(lm, LocalLM)
    place = tmp_path_factory.mktemp("transformers") / "tiny"
    lm.module.save_pretrained(place)
    lm.tokenizer.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lm("abcd>;?^", width=16, depth=1, context=64).save_folder(tmp_path_factory.mktemp("student") / "tiny")


def written_task(folder: Path) -> Path:
    rows = [{"input": word, "output": word + word} for word in ("ab", "cd", "bd", "ca")]
    path = folder / "double.yaml"
    written = {
        "instruction": "Write it twice.",
        "demonstrations": rows[:2],
        "inputs": ["da", "bb"],
        "test": rows[2:],
        "style": STYLE,
        "max_tokens": 6,
        "max_input_tokens": 4,
    }
    path.write_text(yaml.safe_dump(written))
    return path


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return written_task(tmp_path)


@pytest.fixture(scope="module")
def expected(kept: Path, student: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command leaves with the model that was kept."""
    place = tmp_path_factory.mktemp("expected")
    assert improved(kept, student, written_task(place), place / "run", *GREEDY) == 0
    return left(place / "run")


def improved(model: Path | str, student: Path, task: Path, out: Path, *options: object) -> int:
    """The exit code of the command."""
    words = ["improve", "self_guide", "--model", model, "--student", student, "--task", task, "--out", out]
    rounds = ["--method.rounds", 3, "--method.per_round", 4, "--method.votes", 3, "--method.output_length", "false"]
    training = ["--steps", 3, "--batch-size", 4, "--device", "cpu", "--quiet", "--no-report"]
    return main([str(word) for word in [*words, *rounds, *training, *options]])


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def left(out: Path) -> dict[str, Any]:
    """What a run leaves: what was learned and paid for, the answers to the test inputs, and the weights."""
    spent = json.loads((out / "run.json").read_text())["spent"]
    return {
        "examples": rows(out / "examples.jsonl"),
        "spent": {name: value for name, value in spent.items() if name != "seconds"},
        "table": (out / "evaluations" / "task.json").read_text(),
        "weights": {name: weight.tolist() for name, weight in load_file(out / "hf" / "model.safetensors").items()},
    }


@pytest.mark.parametrize("kind", ["a model that claims start from", "a folder of transformers", "an address"])
def test_one_command_leaves_the_same_whatever_the_model_is_behind(
    kept: Path, folder: Path, student: Path, task: Path, expected: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "run"
    with Loopback(LocalLM.load(folder, device="cpu")) as server:
        model = {"an address": f"{server.address}#tiny", "a folder of transformers": folder}.get(kind, kept)
        # One request after the other: what is served here is one model, which knows nothing of threads.
        assert improved(model, student, task, out, *GREEDY, "--threads", 1) == 0
        found = left(out)
        assert server.answered == (found["spent"]["calls"] if kind == "an address" else 0)
    # The two inputs of the task, and some that the model wrote.
    assert len(found["examples"]) > 3
    assert found == expected


@pytest.fixture(scope="session")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of other architectures by name, trained to double words and saved by transformers alone; once each."""
    import transformers

    @lru_cache
    def made(architecture: str) -> Path:
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
        ids = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            config = transformers.AutoConfig.for_model(architecture, **SIZES[architecture], **ids)
            lm = LocalLM(transformers.AutoModelForCausalLM.from_config(config), tokenizer)
        settings = Settings(steps=150, batch_size=32, lr=5e-3, weight_decay=0.0, clip_norm=1.0)
        kept = train(SFT(lm), example_source("mix", [("^", text) for text in TEXTS]), settings, quiet=True)
        assert isinstance(kept, LanguageModel)
        place = tmp_path_factory.mktemp("trained") / architecture
        kept.lm.module.save_pretrained(place)
        tokenizer.save_pretrained(place)
        return place

    return made


@pytest.mark.parametrize("architecture", SIZES)
def test_a_trained_folder_of_another_architecture_is_improved(
    trained: Callable[[str], Path], task: Path, tmp_path: Path, architecture: str
) -> None:
    place, out = trained(architecture), tmp_path / "run"
    assert improved(place, place, task, out, *GREEDY) == 0
    learned = rows(out / "examples.jsonl")
    # Its training taught it both: to go on with inputs of its own, and to write a word twice.
    assert len(learned) > 2
    assert all(row["completion"] == f"{row['prompt'].split(';')[-1][:-1] * 2};" for row in learned)
    before, after = (LocalLM.load(found, device="cpu") for found in (place, out / "hf"))
    assert before.module.config.model_type == architecture
    assert type(after.module) is type(before.module)
    assert before.name != after.name


def answers_of_a_script() -> ScriptedLM:
    """Further inputs that follow from the request, and words written twice."""

    def answer(prompt: str) -> str:
        if prompt.startswith("^?"):
            return WORDS[sum(map(ord, prompt)) % 16]
        return prompt.rpartition(";")[2].removesuffix(">") * 2

    return ScriptedLM(answer)


@pytest.fixture(scope="module")
def undisturbed(student: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run leaves whose server never fails, and how many requests that server got."""
    place = tmp_path_factory.mktemp("undisturbed")
    with Loopback(answers_of_a_script()) as server:
        assert improved(f"{server.address}#tiny", student, written_task(place), place / "run") == 0
        assert len(server.requests) == server.answered
        return {**left(place / "run"), "answered": server.answered}


@pytest.mark.parametrize("kinds", [(kind,) for kind in FAILURES] + [tuple(FAILURES)], ids=" and ".join)
def test_an_address_that_fails_in_the_middle_changes_nothing_but_the_number_of_requests(
    student: Path, task: Path, tmp_path: Path, undisturbed: dict[str, Any], kinds: tuple[str, ...]
) -> None:
    patience = ("--timeout", 0.5) if "time-out" in kinds else ()
    # In each stage: the answers before, the rounds of inputs, the votes.
    failures: list[Failure | None] = [None, None]
    for number in range(max(4, len(kinds))):
        failures += [FAILURES[kinds[number % len(kinds)]], None, None]
    out = tmp_path / "run"
    with Loopback(answers_of_a_script(), failures) as server:
        assert improved(f"{server.address}#tiny", student, task, out, *patience) == 0
    assert {**left(out), "answered": server.answered} == undisturbed
    assert len(server.requests) == server.answered + max(4, len(kinds))
    assert len(rows(out / "transcript.jsonl")) == server.answered


def test_a_run_whose_address_went_away_goes_on_by_the_same_command_and_pays_for_nothing_again(
    student: Path, task: Path, tmp_path: Path, undisturbed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with Loopback(answers_of_a_script(), [None] * 9 + [FAILURES["503"]] * 99) as server:
        assert improved(f"{server.address}#tiny", student, task, out) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert "6 attempts failed: 503" in said
        assert said.endswith("What was answered is kept: the same command goes on")
        assert server.answered == 9
        server._failures.clear()
        assert improved(f"{server.address}#tiny", student, task, out) == 0
        assert server.answered == undisturbed["answered"]
    told = rows(out / "transcript.jsonl")
    assert sum("answer" in row for row in told) == undisturbed["answered"] == len(told) - 1
    found = left(out)
    assert [found[name] for name in ("examples", "table", "weights")] == [
        undisturbed[name] for name in ("examples", "table", "weights")
    ]


@dataclass(frozen=True)
class Served:
    """A method whose calls go to an address.

    Attributes
    ----------
    task : what it is asked to improve at, as a task file has it.
    script : what the served model says or how it chooses, by prompt.
    first : texts that the server tells the probability of, where the method lets it choose.
    judges : whether the address is the method's judge, and the student writes.
    options : of the method.
    """

    task: Mapping[str, Any]
    script: Callable[[str], str | dict[str, float]]
    first: tuple[str, ...] = ()
    judges: bool = False
    options: tuple[object, ...] = ()


def odds(first: str, second: str, gap: float) -> dict[str, float]:
    return {first: -math.log1p(math.exp(-gap)), second: -math.log1p(math.exp(gap))}


def specialist(prompt: str) -> str:
    """Writes tasks where none is begun, and answers by the letters of the task otherwise."""
    asked = prompt.rpartition(";")[2]
    return ("one" if "acb" in asked else "two") if asked.endswith(">") else "find the dose of:acb;name a drug;is acb;"


def rater(prompt: str) -> str | dict[str, float]:
    """Doubles words that begin with a or b and repeats the others; rates by the good answer where it sees one."""
    word, question, rest = prompt.partition(">")
    answer, _, reference = rest.removesuffix(":").partition("=")
    if question and not rest:
        return word + word if word[0] in "ab" else word
    likeliest = "9" if (answer == reference if reference else len(answer) > 2) else "1"
    return {**dict.fromkeys("0123456789", -9.0), likeliest: -0.01}


def by_length(prompt: str) -> dict[str, float]:
    """Prefers the longer answer, or the one with more "a"."""
    principle, _, rest = prompt.partition("|")
    first, _, second = rest.partition(":")[2].removesuffix(">").partition("|")
    more = len(first) - len(second) if principle == "L" else first.count("a") - second.count("a")
    return odds("1", "2", more + 0.5)


def by_truth(prompt: str) -> dict[str, float]:
    """Prefers the answer that has more places in common with the input written twice."""
    asked, _, rest = prompt.rpartition("|")[2].removesuffix("<").partition(">")
    right = [sum(map(str.__eq__, answer, asked * 2)) for answer in rest.split("?")]
    return odds("a", "b", 3 * (right[0] - right[-1]))


PLAIN = {"opening": "", "demonstration": "{input}>{output};", "question": "{input}>", "stop": [";"]}
DOUBLED = [{"input": word, "output": word + word} for word in WORDS]
SERVED = {
    "self_specialize": Served(
        {
            "seeds": [
                {"instruction": "find the dose of", "input": "abc", "output": "two"},
                {"instruction": "is it safe", "input": "abd", "output": "no"},
            ],
            "layout": {
                "posed": "{instruction}:{input}",
                "with_input": "{instruction}:{input}>{output};",
                "alone": "{instruction}>{output};",
            },
            "test": [{"input": "find the dose of:xyz", "output": "six"}],
            "style": PLAIN,
            "max_tokens": 6,
        },
        specialist,
        options=("--method.rounds", 2, "--method.per_round", 3, "--method.shortest", 2, "--method.shots", 2),
    ),
    "self_judge": Served(
        {
            "instruction": "Double.",
            "examples": DOUBLED[:10],
            "test": DOUBLED[12:],
            "judge": {"rating": "{input}>{answer}:", "referenced": "{input}>{answer}={reference}:"},
            "style": PLAIN,
            "max_tokens": 4,
        },
        rater,
        first=tuple("0123456789"),
    ),
    "salmon": Served(
        {
            "instruction": "Write.",
            "inputs": list("abcd"),
            "principles": {"long": {"text": "L", "negated": "-L"}, "a": {"text": "V", "negated": "-V"}},
            "judge": {
                "comparison": "{principle}|{input}:{first}|{second}>",
                "choices": ["1", "2"],
                "reward": "{answer}|{input}|{principles}>",
                "principle": "{principle}",
            },
            "style": {**PLAIN, "demonstration": "{input}:{output};", "question": "{input}:"},
            "max_tokens": 6,
        },
        by_length,
        first=("1", "2"),
        judges=True,
        options=("--method.shortest", 1, "--method.drawn", 1, "--method.temperature", 1, "--method.group", 2),
    ),
    "self_reinforce": Served(
        {
            "instruction": "Write it twice.",
            "examples": DOUBLED[:4],
            "inputs": WORDS[4:],
            "judge": {"comparison": "{principle}|{input}>{first}?{second}<"},
            "style": STYLE,
            "max_tokens": 8,
        },
        by_truth,
        first=("a", "b"),
        options=("--method.rounds", 1, "--method.temperature", 2),
    ),
}


@pytest.fixture(scope="module")
def students(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """What each method trains; the one that is compared with itself before can do something already."""
    place = tmp_path_factory.mktemp("students")
    letters = tiny_lm("abcdefghijklmnopqrstuvwxyz0123456789 :>;=?", width=16, depth=1, context=128)
    answers = tiny_lm("abcdLV-|:>12;", width=16, depth=1, context=48)
    folders = {"self_reinforce": kept, "salmon": answers.save_folder(place / "answers")}
    return {**dict.fromkeys(SERVED, letters.save_folder(place / "letters")), **folders}


def command(method: str, server: Loopback, student: Path, out: Path, *options: object) -> int:
    """The exit code of a method that is told where to ask."""
    served, where, task = SERVED[method], f"{server.address}#tiny", out.with_suffix(".yaml")
    task.write_text(yaml.safe_dump(dict(served.task)))
    models = ("--model", student, "--method.judge", where) if served.judges else ("--model", where)
    training = ["--steps", 3, "--batch-size", 4, "--device", "cpu", "--quiet", "--no-report"]
    words = ["improve", method, *models, "--student", student, "--task", task, "--out", out]
    return main([str(word) for word in [*words, *served.options, *training, *options]])


def learned(out: Path) -> dict[str, Any]:
    weights = {name: weight.tolist() for name, weight in load_file(out / "hf" / "model.safetensors").items()}
    return {**{file.name: rows(file) for file in out.glob("*.jsonl") if file.name != "transcript.jsonl"}, "w": weights}


@pytest.fixture(scope="module")
def never_failed(
    students: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[dict[str, Any], list[str]]]:
    """What a method leaves and has paid for where its address never fails; once each."""

    @lru_cache
    def run(method: str) -> tuple[dict[str, Any], list[str]]:
        out, served = tmp_path_factory.mktemp("whole") / method, SERVED[method]
        with Loopback(ScriptedLM(served.script), first=served.first) as server:
            assert command(method, server, students[method], out) == 0
            asked = list(server.paid)
        assert len(asked) > 6
        # What finds out what an address can do is counted, and no answer to anything that was asked.
        found_out = sum("Yes or no?" in body for body in asked)
        assert found_out <= 1
        assert len(set(asked)) == len(asked) <= len(rows(out / "transcript.jsonl")) + found_out
        return learned(out), asked

    return run


@pytest.mark.parametrize("method", SERVED)
def test_whatever_a_method_asks_an_address_for_is_paid_once_although_the_address_goes_away_in_the_middle(
    students: Mapping[str, Path], never_failed: Callable[[str], Any], tmp_path: Path, method: str
) -> None:
    (whole, asked), served = never_failed(method), SERVED[method]
    half = [None] * (len(asked) // 2)
    with Loopback(ScriptedLM(served.script), [*half, *[FAILURES["503"]] * 99], first=served.first) as server:
        assert command(method, server, students[method], tmp_path / "cut") == 1
        assert server.answered == len(half)
        server._failures.clear()
        assert command(method, server, students[method], tmp_path / "cut") == 0
        assert sorted(server.paid) == sorted(asked)
    assert learned(tmp_path / "cut") == whole


@pytest.mark.parametrize("method", SERVED)
def test_whatever_a_method_asks_an_address_for_is_got_although_it_fails_in_every_way(
    students: Mapping[str, Path], never_failed: Callable[[str], Any], tmp_path: Path, method: str
) -> None:
    (whole, asked), served, out = never_failed(method), SERVED[method], tmp_path / "run"
    failures = [found for failure in FAILURES.values() for found in (failure, None)]
    with Loopback(ScriptedLM(served.script), failures, first=served.first) as server:
        assert command(method, server, students[method], out, "--timeout", 0.5) == 0
        assert not server._failures
        assert len(server.requests) == server.answered + len(FAILURES)
        assert sorted(server.paid) == sorted(asked)
    assert learned(out) == whole
