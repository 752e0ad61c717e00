"""One command for a model that was kept, for a folder of transformers, for an address; and an address that fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.lm.loopback import Failure, Loopback

from autodidact.claims.bases import texts_lm
from autodidact.cli.main import main
from autodidact.lm.local import LocalLM
from autodidact.lm.retrying import Retries
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.tiny import tiny_lm

WORDS = [a + b for a in "abcd" for b in "abcd"]
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


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that claims start from, which continues lists of words and mostly doubles words."""
    texts = [
        text
        for k, x in enumerate(WORDS)
        for j, y in enumerate(WORDS)
        for z in [WORDS[(k * 5 + j) % 16]]
        for text in (f"{x}>{x}{x};{y}>{y}{y};{z}>{z}{z};", f"?{x};{y};{z};{WORDS[(k + 3 * j) % 16]};")
    ]
    bases = tmp_path_factory.mktemp("bases")
    sizes = {"width": 32, "depth": 2, "context": 64}
    texts_lm(texts, bases, start="^", symbols="abcd>;?", seed=0, sizes=sizes, steps=200, batch=32, lr=5e-3)
    [place] = [path for path in bases.iterdir() if path.is_dir()]
    return place


@pytest.fixture(scope="module")
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


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        ("gpt2", {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}),
        (
            "qwen2",
            {
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "max_position_embeddings": 64,
            },
        ),
    ],
)
def test_a_folder_of_another_architecture_with_weights_at_random_is_improved(
    folder: Path, task: Path, tmp_path: Path, architecture: str, sizes: dict[str, int]
) -> None:
    import transformers

    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    ids = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(architecture, **sizes, **ids)
        random = transformers.AutoModelForCausalLM.from_config(config)
    random.save_pretrained(tmp_path / "random")
    tokenizer.save_pretrained(tmp_path / "random")
    out = tmp_path / "run"
    # What such a model writes agrees with nothing; a single answer always does.
    lenient = ["--method.votes", 1, "--method.vote_temperature", 1, "--method.vote_top_k", 0]
    assert improved(tmp_path / "random", tmp_path / "random", task, out, *lenient) == 0
    assert rows(out / "examples.jsonl")
    before, after = (LocalLM.load(place, device="cpu") for place in (tmp_path / "random", out / "hf"))
    assert type(after.module) is type(before.module) is type(random)
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
