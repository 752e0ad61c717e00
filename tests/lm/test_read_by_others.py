"""axolotl and trl learn from a run's files the very tokens that the training here learned."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.lm.tokenizers_of_kinds import bytewise_tokenizer, with_tokenizer

from autodidact.data.batch import Batch
from autodidact.lm.local import LocalLM
from autodidact.lm.tiny import tiny_lm
from autodidact.methods.language.dpo import DPO
from autodidact.methods.language.sft import SFT
from autodidact.methods.method import Progress
from autodidact.recipes.improving import write_examples
from autodidact.recipes.preferring import write_pairs

LETTERS = "abcinput =;{}\n"
EXAMPLES = [("ab=", "cab;"), ("{b}c =", " a"), ("a\n\nb", "{input}"), ("c", "c"), ("ba ", "b\n")]
PAIRS = [("ab=", "cab;", "b"), ("{b}c =", " a", "c {a}"), ("a\n", "b", "bb")]
IGNORED = -100
AT_ONCE = Progress(0, 1, 0, torch.Generator())
NAMES = ("prompt", "chosen", "rejected")


def documented(writes: Callable[..., object]) -> dict[str, Any]:
    """The configuration of axolotl that the docstring of what writes a file shows."""
    lines = inspect.getdoc(writes).partition("configuration::\n")[2].split("\n\n")
    return yaml.safe_load(textwrap.dedent(next(part for part in lines if part.strip("\n"))))


def bytewise() -> LocalLM:
    return with_tokenizer(bytewise_tokenizer())


def opened() -> LocalLM:
    """Texts begin with a token of their own."""
    from tokenizers.processors import TemplateProcessing

    lm = tiny_lm(LETTERS + "^", width=16, depth=1, context=64)
    lm.tokenizer.bos_token = "^"
    start = ("^", lm.tokenizer.bos_token_id)
    lm.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="^ $A", special_tokens=[start])
    return LocalLM(lm.module, lm.tokenizer)


def plain() -> LocalLM:
    return tiny_lm(LETTERS, width=16, depth=1, context=64)


MODELS = {"letters": plain, "a token that texts begin with": opened, "bytes with merges": bytewise}


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def learned(lm: LocalLM, prompt: str, completion: str) -> tuple[list[int], list[int]]:
    """The tokens of a row that SFT is shown, and its labels: the tokens that it learns, and -100 for the others."""
    pair = SFT(lm).views(Batch(torch.arange(1), {"prompt": [prompt], "completion": [completion]}), AT_ONCE)["pair"]
    return pair.ids[0].tolist(), pair.ids[0].where(pair.answer[0], IGNORED).tolist()


def axolotls_instruction(
    row: Mapping[str, str], kind: Mapping[str, str], tokenizer: Any, train_on_inputs: bool
) -> tuple[list[int], list[int]]:
    """The tokens and labels of a row under a data set's ``type``, as axolotl 0.18 makes them.

    The instruction is formatted, with the input where the row has one, and tokenised; the output is tokenised by
    itself, loses the token that texts begin with and gets the end token. A field that the type does not name has
    axolotl's own name.
    """
    names = {name: kind.get(f"field_{name}", name) for name in ("system", "instruction", "input", "output")}
    given = {name: row.get(field, "") for name, field in names.items()}
    layout = kind["format"] if given["input"] else kind["no_input_format"]
    system = kind.get("system_format", "{system}").format(system=given["system"]) if given["system"] else ""
    prompt = tokenizer(system + layout.format(instruction=given["instruction"], input=given["input"]))["input_ids"]
    answer = [*tokenizer(given["output"])["input_ids"], tokenizer.eos_token_id]
    answer = answer[1:] if answer[0] == tokenizer.bos_token_id else answer
    return prompt + answer, (prompt if train_on_inputs else [IGNORED] * len(prompt)) + answer


@pytest.mark.parametrize("kind", MODELS)
def test_by_the_documented_configuration_axolotl_learns_the_tokens_that_sft_learned(kind: str, tmp_path: Path) -> None:
    """Once, outside the tests, the rows went through axolotl's own code instead (0.18.0: `user_defined.load` with
    `tokenize_prompt`, and `dpo.user_defined.default`), with the same tokens, labels and texts."""
    write_examples(tmp_path, EXAMPLES)
    config, lm = documented(write_examples), MODELS[kind]()
    [entry] = config["datasets"]
    assert (tmp_path / entry["path"]).is_file()
    for row, (prompt, completion) in zip(rows(tmp_path / entry["path"]), EXAMPLES, strict=True):
        found = axolotls_instruction(row, entry["type"], lm.tokenizer, config["train_on_inputs"])
        assert found == learned(lm, prompt, completion)


def test_by_the_documented_configuration_axolotl_hands_the_pairs_on_as_they_are(tmp_path: Path) -> None:
    write_pairs(tmp_path, PAIRS)
    config = documented(write_pairs)
    [entry] = config["datasets"]
    assert config["rl"] == "dpo"
    # A type of another kind than entries is refused by axolotl.
    kind = entry["type"]
    assert {*kind} == {f"field_{name}" for name in NAMES} | {f"{name}_format" for name in NAMES}
    for row, pair in zip(rows(tmp_path / entry["path"]), PAIRS, strict=True):
        given = {name: kind[f"{name}_format"].format(**{name: row[kind[f"field_{name}"]]}) for name in NAMES}
        assert tuple(given.values()) == pair


@pytest.fixture
def trl(monkeypatch: pytest.MonkeyPatch) -> Any:
    """trl, whose trainers report to nobody."""
    found = pytest.importorskip("trl", reason="trl is not installed, and nothing here needs it: pip install trl")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return found


def of_trl(trainer: Any, settings: Any, lm: LocalLM, path: Path, **options: Any) -> Any:
    from datasets import load_dataset

    data = load_dataset("json", data_files=str(path), split="train", cache_dir=str(path.parent / "cache"))
    asked = settings(
        output_dir=str(path.parent / "trl"),
        max_steps=1,
        per_device_train_batch_size=len(data),
        report_to=[],
        use_cpu=True,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        gradient_checkpointing=False,
        bf16=False,
        **options,
    )
    return trainer(model=lm.module, args=asked, train_dataset=data, processing_class=lm.tokenizer)


def changed(lm: LocalLM, step: Callable[[], object]) -> bool:
    before = [weight.detach().clone() for weight in lm.parameters()]
    step()
    return any(not torch.equal(old, new) for old, new in zip(before, lm.parameters(), strict=True))


def test_trls_sft_trainer_takes_a_step_on_the_examples_with_the_loss_of_sft(trl: Any, tmp_path: Path) -> None:
    """Run with trl 1.16.0, transformers 5.23.0 and datasets 5.2.0."""
    write_examples(tmp_path, EXAMPLES)
    lm = plain()
    trainer = of_trl(trl.SFTTrainer, trl.SFTConfig, lm, tmp_path / "examples.jsonl")
    batch = trainer.data_collator(list(trainer.train_dataset))
    for ids, labels, (prompt, completion) in zip(batch["input_ids"], batch["labels"], EXAMPLES, strict=True):
        tokens, marked = learned(lm, prompt, completion)
        assert (ids.tolist()[: len(tokens)], labels.tolist()[: len(tokens)]) == (tokens, marked)
    fields = dict(zip(("prompt", "completion"), map(list, zip(*EXAMPLES, strict=True)), strict=True))
    views = SFT(lm).views(Batch(torch.arange(len(EXAMPLES)), fields), AT_ONCE)
    with torch.no_grad():
        ours = SFT(lm).loss(views, AT_ONCE).total
        theirs = trainer.compute_loss(lm.module, trainer._prepare_inputs(batch))
    assert float(ours) == pytest.approx(float(theirs), abs=1e-5)
    assert changed(lm, trainer.train)


def test_trls_dpo_trainer_takes_a_step_on_the_pairs_with_the_loss_of_dpo(trl: Any, tmp_path: Path) -> None:
    """Run with trl 1.16.0, transformers 5.23.0 and datasets 5.2.0."""
    write_pairs(tmp_path, PAIRS)
    # trl reads its reference from where the model came from.
    place = plain().save_folder(tmp_path / "lm")
    lm, method = LocalLM.load(place, device="cpu"), DPO(LocalLM.load(place, device="cpu"), beta=0.1)
    trainer = of_trl(trl.DPOTrainer, trl.DPOConfig, lm, tmp_path / "pairs.jsonl", beta=0.1)
    batch = trainer.data_collator(list(trainer.train_dataset))
    # Of a policy that is not its reference any more.
    with torch.no_grad():
        for one in (lm, method.lm):
            one.module.lm_head.weight.mul_(8)
    fields = dict(zip(NAMES, map(list, zip(*PAIRS, strict=True)), strict=True))
    views = method.views(Batch(torch.arange(len(PAIRS)), fields), AT_ONCE)
    with torch.no_grad():
        ours = method.loss(views, AT_ONCE).total
        theirs = trainer.compute_loss(lm.module, trainer._prepare_inputs(batch))
    assert float(ours) == pytest.approx(float(theirs), abs=1e-5)
    assert float(ours) != pytest.approx(0.6931, abs=1e-3)
    assert changed(lm, trainer.train)
