"""Adapters: nothing changes until they are trained, the base stays, and what they add can be merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config

from autodidact.lm import Sampling
from autodidact.lm.adapters import Specialists, adapter_off, add_adapter, merge_adapter
from autodidact.lm.local import LocalLM
from autodidact.lm.tiny import tiny_lm

LETTERS = "abcdefgh"
PROMPTS, COMPLETIONS = ["abc", "h"], ["de", "fgab"]


def llama(seed: int = 0) -> LocalLM:
    return tiny_lm(LETTERS, width=16, depth=2, context=32, seed=seed)


def gpt2() -> LocalLM:
    config = GPT2Config(
        n_embd=16, n_layer=1, n_head=2, n_positions=32, vocab_size=10, eos_token_id=1, bos_token_id=None, pad_token_id=0
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LocalLM(AutoModelForCausalLM.from_config(config), llama().tokenizer, label="gpt2").eval()


MODELS = {"llama": llama, "gpt2": gpt2}


def logits(lm: LocalLM) -> Tensor:
    with torch.no_grad():
        return lm.module(input_ids=torch.tensor([[2, 3, 4, 5, 9]])).logits


def scored(lm: LocalLM) -> list[float]:
    return [value for one in lm.score(PROMPTS, COMPLETIONS) for value in one.logprobs]


def learn(lm: LocalLM, steps: int = 3) -> None:
    optimizer = torch.optim.AdamW([weight for weight in lm.parameters() if weight.requires_grad], lr=0.05)
    pairs = lm.encode(PROMPTS, COMPLETIONS)
    for _ in range(steps):
        optimizer.zero_grad()
        (-lm.logprobs(pairs).sum()).backward()
        optimizer.step()


@pytest.mark.parametrize("name", MODELS)
def test_a_new_adapter_leaves_logits_as_they_are_to_the_bit(name: str) -> None:
    lm = MODELS[name]()
    before = logits(lm)
    add_adapter(lm, rank=4)
    assert torch.equal(logits(lm), before)


@pytest.mark.parametrize("name", MODELS)
def test_switched_off_the_base_speaks_after_training_too(name: str) -> None:
    lm = MODELS[name]()
    before = logits(lm)
    add_adapter(lm, rank=4)
    learn(lm)
    trained = logits(lm)
    assert (trained - before).abs().max() > 1e-3
    with adapter_off(lm):
        assert torch.equal(logits(lm), before)
        with adapter_off(lm):
            pass
        assert torch.equal(logits(lm), before)
    assert torch.equal(logits(lm), trained)


def test_every_call_is_the_bases_while_the_adapter_is_off() -> None:
    lm, base = llama(), llama()
    add_adapter(lm, rank=4)
    learn(lm)
    sampling = Sampling(n=3, max_tokens=6)
    with adapter_off(lm):
        for mine, its in zip(lm.generate(PROMPTS, sampling), base.generate(PROMPTS, sampling), strict=True):
            assert [one.tokens for one in mine] == [one.tokens for one in its]
            # To the last digit but one: a product rounds by where its factors lie in memory, on some processors.
            for one, other in zip(mine, its, strict=True):
                assert one.logprobs == pytest.approx(other.logprobs, abs=1e-6)
        assert scored(lm) == pytest.approx(scored(base), abs=1e-5)
    assert scored(lm) != pytest.approx(scored(base), abs=1e-3)


@pytest.mark.parametrize("rank", [1, 4])
def test_what_learns_is_rank_times_the_widths_of_each_projection(rank: int) -> None:
    lm = llama()
    add_adapter(lm, rank=rank)
    width, inner = 16, 64
    projections = 4 * [(width, width)] + 2 * [(width, inner)] + [(inner, width)]
    expected = 2 * sum(rank * (d_in + d_out) for d_in, d_out in projections)
    assert sum(weight.numel() for weight in lm.parameters() if weight.requires_grad) == expected


def test_named_projections_alone_get_an_adapter() -> None:
    lm = llama()
    add_adapter(lm, rank=2, targets=["q_proj", "v_proj"])
    names = {name.split(".lora_")[0].rsplit(".", 1)[1] for name, w in lm.named_parameters() if w.requires_grad}
    assert names == {"q_proj", "v_proj"}


def test_only_the_adapter_moves() -> None:
    lm = llama()
    add_adapter(lm, rank=4)
    before = {name: weight.detach().clone() for name, weight in lm.named_parameters()}
    learn(lm)
    moved = {name for name, weight in lm.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if ".lora_" in name}


def test_an_adapter_adds_alpha_over_rank_times_its_product() -> None:
    lm = llama()
    add_adapter(lm, rank=4, alpha=6.0)
    learn(lm)
    layer = lm.causal.model.layers[1].mlp.up_proj
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    a, b = (getattr(layer, f"lora_{part}")["default"].weight.double() for part in "AB")
    expected = x.double() @ (layer.base_layer.weight.double() + 6 / 4 * b @ a).T
    assert torch.allclose(layer(x).double(), expected, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_merged_adapter_says_the_same(name: str) -> None:
    lm = MODELS[name]()
    kind = type(lm.module)
    add_adapter(lm, rank=4)
    learn(lm)
    before = logits(lm)
    merge_adapter(lm)
    assert type(lm.module) is kind
    assert torch.allclose(logits(lm), before, atol=1e-5)
    assert all(weight.requires_grad for weight in lm.parameters())


def test_an_adapter_follows_from_its_seed_alone() -> None:
    first, second, other = llama(), llama(), llama()
    state = torch.random.get_rng_state()
    add_adapter(first, rank=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(9)
    add_adapter(second, rank=4)
    add_adapter(other, rank=4, seed=1)
    assert first.name == second.name != other.name


def test_a_model_is_called_otherwise_while_its_adapter_is_off() -> None:
    lm = llama()
    add_adapter(lm, rank=4)
    name = lm.name
    with adapter_off(lm):
        assert lm.name != name
    assert lm.name == name


def test_training_the_adapter_changes_the_name() -> None:
    lm = llama()
    add_adapter(lm, rank=4)
    name = lm.name
    learn(lm, steps=1)
    assert lm.name != name


def test_a_mode_survives_the_adapter() -> None:
    for training in (True, False):
        lm = llama().train(training)
        add_adapter(lm, rank=2)
        assert lm.module.training == training
        merge_adapter(lm)
        assert lm.module.training == training


def test_a_saved_adapter_is_loaded_with_the_base_it_was_loaded_with(tmp_path: Path) -> None:
    llama().save_folder(tmp_path / "base")
    lm = LocalLM.load(tmp_path / "base", device="cpu")
    add_adapter(lm, rank=4)
    learn(lm)
    lm.save_folder(tmp_path / "adapter")
    written = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert "adapter_model.safetensors" in written
    assert not written & {"model.safetensors", "base"}
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        tmp_path / "base"
    )
    again = LocalLM.load(tmp_path / "adapter", device="cpu")
    assert torch.equal(logits(again), logits(lm))
    learning = {name for name, weight in again.named_parameters() if weight.requires_grad}
    assert learning == {name for name, weight in lm.named_parameters() if weight.requires_grad}


def test_a_base_that_was_never_loaded_is_saved_with_its_adapter(tmp_path: Path) -> None:
    lm = llama(seed=3)
    add_adapter(lm, rank=4)
    learn(lm)
    before = logits(lm)
    lm.save_folder(tmp_path / "first")
    assert torch.equal(logits(lm), before)
    (tmp_path / "first").rename(tmp_path / "moved")
    assert torch.equal(logits(LocalLM.load(tmp_path / "moved", device="cpu")), before)


def test_a_base_that_has_changed_since_it_was_loaded_is_saved_with_its_adapter(tmp_path: Path) -> None:
    llama().save_folder(tmp_path / "base")
    lm = LocalLM.load(tmp_path / "base", device="cpu")
    learn(lm)
    add_adapter(lm, rank=4)
    lm.save_folder(tmp_path / "adapter")
    assert torch.equal(logits(LocalLM.load(tmp_path / "adapter", device="cpu")), logits(lm))


def test_peft_loads_a_saved_adapter(tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    lm = llama()
    add_adapter(lm, rank=4)
    learn(lm)
    lm.save_folder(tmp_path)
    theirs = AutoPeftModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(theirs(input_ids=torch.tensor([[2, 3, 4, 5, 9]])).logits, logits(lm))


def test_plain_settings_and_weights_make_the_same_model_with_its_adapter() -> None:
    lm = llama()
    add_adapter(lm, rank=4, alpha=6.0)
    learn(lm)
    again = LocalLM.from_plain(json.loads(json.dumps(lm.plain())))
    again.load_state_dict(lm.state_dict())
    assert torch.equal(logits(again), logits(lm))
    with adapter_off(again), adapter_off(lm):
        assert torch.equal(logits(again), logits(lm))


def test_an_adapter_in_another_format_is_refused(tmp_path: Path) -> None:
    lm = llama()
    add_adapter(lm, rank=4)
    lm.save_folder(tmp_path)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"no adapter_model\.safetensors"):
        LocalLM.load(tmp_path, device="cpu")


def test_a_second_adapter_is_refused() -> None:
    lm = llama()
    add_adapter(lm, rank=2)
    with pytest.raises(ValueError, match="has an adapter already"):
        add_adapter(lm)


def test_a_model_without_an_adapter_has_none_to_switch_off_or_merge() -> None:
    with pytest.raises(ValueError, match="no adapter to switch off"), adapter_off(llama()):
        pass
    with pytest.raises(ValueError, match="no adapter to merge"):
        merge_adapter(llama())


@pytest.mark.parametrize("settings", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}, {"targets": ["nothing"]}])
def test_settings_that_make_no_adapter_are_refused(settings: dict[str, Any]) -> None:
    lm = llama()
    with pytest.raises(ValueError, match=r"adapter needs|nothing"):
        add_adapter(lm, **settings)
    assert not lm.has_adapter


def test_adapters_of_one_base_answer_the_prompts_that_name_them(tmp_path: Path) -> None:
    llama().save_folder(tmp_path / "base")
    alone, sampling = {}, Sampling(n=2, max_tokens=6, seed=1)
    prompts = ["abc", "h", "abc", "fg"]
    for name, completions in (("first", ["de", "fgab"]), ("second", ["aaaa", "bbbb"])):
        lm = LocalLM.load(tmp_path / "base", device="cpu")
        add_adapter(lm, rank=4)
        optimizer = torch.optim.AdamW([weight for weight in lm.parameters() if weight.requires_grad], lr=0.3)
        for _ in range(10):
            optimizer.zero_grad()
            (-lm.logprobs(lm.encode(PROMPTS, completions)).sum()).backward()
            optimizer.step()
        lm.save_folder(tmp_path / name)
        alone[name] = lm.generate(prompts, sampling)
    both = Specialists({name: tmp_path / name for name in alone}, device="cpu")
    names = ["second", "first", "first", "second"]
    found = both.generate(prompts, names, sampling)
    assert [[one.text for one in row] for row in found] == [
        [one.text for one in alone[name][row]] for row, name in enumerate(names)
    ]
    assert any(a[0].text != b[0].text for a, b in zip(*alone.values(), strict=True))


def expert(seed: int, completions: list[str], rank: int = 4) -> LocalLM:
    lm = llama()
    add_adapter(lm, rank=rank, seed=seed)
    optimizer = torch.optim.AdamW([weight for weight in lm.parameters() if weight.requires_grad], lr=0.3)
    for _ in range(10):
        optimizer.zero_grad()
        (-lm.logprobs(lm.encode(PROMPTS, completions)).sum()).backward()
        optimizer.step()
    return lm.eval()


def test_a_mixed_batch_is_each_adapter_alone() -> None:
    alone = {"law": expert(1, ["de", "fgab"]), "finance": expert(2, ["aaaa", "bbbb"], rank=2)}
    both = Specialists(alone)
    prompts, names = ["abc", "h", "abc", "fg"], ["finance", "law", "law", "finance"]
    texts = ["de", "aa", "de", "fg"]
    pairs = both.lm.encode(prompts, texts)
    with torch.no_grad():
        mixed = both.lm.logprobs(pairs, adapters=[both._called[name] for name in names])
        for row, name in enumerate(names):
            assert torch.allclose(mixed[row], alone[name].logprobs(pairs)[row], rtol=0, atol=1e-5)
        assert (alone["law"].logprobs(pairs) - alone["finance"].logprobs(pairs)).abs().max() > 0.1
    scores = both.score(prompts, texts, names)
    for row, name in enumerate(names):
        (wanted,) = alone[name].score(prompts[row : row + 1], texts[row : row + 1])
        assert scores[row].logprobs == pytest.approx(wanted.logprobs, abs=1e-5)
    sampling = Sampling(n=2, max_tokens=6, seed=1)
    said = both.generate(prompts, names, sampling)
    for row, name in enumerate(names):
        (wanted,) = alone[name].generate(prompts[row : row + 1], sampling)
        assert [one.text for one in said[row]] == [one.text for one in wanted]


def test_rows_of_different_adapters_go_through_the_trunk_together() -> None:
    both = Specialists({"law": expert(1, ["de", "fgab"]), "finance": expert(2, ["aaaa", "bbbb"])})
    seen: list[int] = []
    both.lm.causal.model.layers[0].register_forward_hook(lambda _, given, out: seen.append(len(given[0])))
    both.score(["abc", "hab", "abc"], ["de", "aa", "de"], ["law", "finance", "law"])
    assert seen == [3]


def test_models_that_are_put_together_stay_as_they_are_and_the_first_speaks_by_itself() -> None:
    law, finance = expert(1, ["de", "fgab"]), expert(2, ["aaaa", "bbbb"])
    names, before = (law.name, finance.name), logits(law)
    both = Specialists({"law": law, "finance": finance})
    assert (law.name, finance.name) == names
    assert torch.equal(logits(both.lm), before)


def test_models_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    law, other = expert(1, ["de", "fgab"]), llama(seed=1)
    add_adapter(other, rank=2)
    with pytest.raises(ValueError, match="'other' and 'law' are not"):
        Specialists({"law": law, "other": other})
    with pytest.raises(ValueError, match="'plain' is a model without an adapter"):
        Specialists({"law": law, "plain": llama()})
    with pytest.raises(ValueError, match="all folders or all models"):
        Specialists({"law": law, "folder": tmp_path})
    for adapters, said in ((["default"], "2 rows were given with 1 names"), (["default", "defalt"], "did you mean")):
        with pytest.raises(ValueError, match=said):
            law.generate(PROMPTS, Sampling(max_tokens=2), adapters=adapters)
    with pytest.raises(ValueError, match="has no adapter, and its rows name law"):
        llama().score(["a"], ["b"], adapters=["law"])


def test_adapters_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    for name in ("first", "second"):
        lm = llama()
        add_adapter(lm, rank=2)
        lm.save_folder(tmp_path / name)
    with pytest.raises(ValueError, match="must be of one base, got"):
        Specialists({name: tmp_path / name for name in ("first", "second")})
    with pytest.raises(FileNotFoundError, match="holds no adapter"):
        Specialists({"base": tmp_path / "first" / "base"})
    one = Specialists({"law": tmp_path / "first"}, device="cpu")
    with pytest.raises(ValueError, match="did you mean 'law'"):
        one.generate(["a"], ["lwa"], Sampling(max_tokens=2))
    with pytest.raises(ValueError, match="1 prompts were given with 2 names"):
        one.generate(["a"], ["law", "law"], Sampling(max_tokens=2))
