"""Models that claims start from: trained once for what they follow from, and found again by whoever asks next."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from autodidact.claims import bases
from autodidact.claims.bases import base_lm, kept_base, learning_lm
from autodidact.cli.main import main
from autodidact.lm.kept import LanguageModel
from autodidact.lm.local import LocalLM
from autodidact.lm.tiny import tiny_lm
from autodidact.methods.method import Method
from autodidact.worlds.language import ModularSums

DIALS = {"modulus": 4, "fewest": 2, "most": 2}
WORLD = ModularSums(**DIALS)
SIZES = {"width": 8, "depth": 1, "heads": 2, "context": 32}
FIXED = {"documents": 40, "batch": 8, "lr": 1e-2, "seed": 0, "dials": DIALS, **SIZES}
BASE = {"steps": 2, **FIXED}
LEARNING = {"enough": 0.4, "most": 6, "every": 2, **FIXED}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The settings of every training that was begun, by which all still happens."""
    begun, train = [], bases.train

    def counted(method: Method, source: Any, settings: Any, **given: Any) -> Any:
        begun.append({"steps": settings.steps, **given})
        return train(method, source, settings, **given)

    monkeypatch.setattr(bases, "train", counted)
    return begun


def same(one: LocalLM, other: LocalLM) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


def test_a_base_is_trained_once_and_found_again_with_the_same_weights(tmp_path, trained):
    first = base_lm(WORLD, tmp_path, **BASE)
    assert [one["steps"] for one in trained] == [2]
    assert not same(first, tiny_lm(WORLD.alphabet, seed=0, **SIZES))
    assert same(base_lm(ModularSums(**DIALS), tmp_path, **BASE), first)
    assert len(trained) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 3},
        {"documents": 41},
        {"batch": 9},
        {"lr": 2e-2},
        {"seed": 1},
        {"width": 16},
        {"depth": 2},
        {"heads": 1},
        {"context": 33},
        {"dials": {**DIALS, "zeros": 1}},
        {"symbols": [*WORLD.alphabet, "!"]},
    ],
)
def test_a_base_that_follows_from_something_else_is_another_one(tmp_path, trained, change):
    first = base_lm(WORLD, tmp_path, **BASE)
    other = base_lm(WORLD, tmp_path, **{**BASE, **change})
    assert len(trained) == 2
    assert len(made(tmp_path)) == 2
    assert same(base_lm(WORLD, tmp_path, **BASE), first)
    assert same(base_lm(WORLD, tmp_path, **{**BASE, **change}), other)
    assert len(trained) == 2


def test_a_world_that_writes_other_texts_under_the_same_dials_makes_another_base(tmp_path, trained):
    base_lm(WORLD, tmp_path, **BASE)
    base_lm(ModularSums(**DIALS, wrong=0.0), tmp_path, **BASE)
    assert len(trained) == 2


def test_a_base_that_is_deleted_or_was_not_finished_is_trained_again(tmp_path, trained):
    first = base_lm(WORLD, tmp_path, **BASE)
    (place,) = made(tmp_path)
    (place / "model.json").unlink()
    assert same(base_lm(WORLD, tmp_path, **BASE), first)
    shutil.rmtree(tmp_path)
    assert same(base_lm(WORLD, tmp_path, **BASE), first)
    assert len(trained) == 3


def made(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


def rising(shares: list[float]) -> Callable[[LocalLM], float]:
    """A look at a model that finds the first of these shares, then the second, and so on."""
    left = list(shares)
    return lambda lm: left.pop(0)


@pytest.mark.parametrize(
    ("shares", "least", "looks"), [([0.1, 0.5], 0, 2), ([0.5], 0, 1), ([0.5], 4, 2), ([0.1, 0.1, 0.1], 0, 3)]
)
@pytest.mark.parametrize("goes_on", [False, True])
def test_a_base_that_is_still_learning_is_trained_until_it_is_right_enough_and_then_found(
    tmp_path, trained, shares, least, looks, goes_on
):
    asked = {**LEARNING, "least": least, "goes_on": goes_on}
    first = learning_lm(WORLD, tmp_path, right=rising(shares), **asked)
    assert len(trained) == looks
    if goes_on:
        assert [one["until"] for one in trained] == pytest.approx([1 / 3, 2 / 3, 1][:looks])
    # It is not looked at again.
    assert same(learning_lm(WORLD, tmp_path, right=rising([]), **asked), first)
    assert len(trained) == looks


@pytest.mark.parametrize(
    "change", [{"enough": 0.3}, {"least": 1}, {"most": 8}, {"every": 3}, {"goes_on": True}, {"lr": 2e-2}, {"seed": 1}]
)
def test_a_base_that_learns_to_another_point_is_another_one(tmp_path, trained, change):
    learning_lm(WORLD, tmp_path, right=rising([0.5]), **LEARNING)
    learning_lm(WORLD, tmp_path, right=rising([0.5]), **{**LEARNING, **change})
    assert len(made(tmp_path)) == len(trained) == 2


def test_what_a_base_is_kept_by_has_no_order_and_holds_the_version(tmp_path, monkeypatch):
    count = []

    def make() -> LanguageModel:
        count.append(1)
        return LanguageModel(tiny_lm("ab", seed=len(count), **SIZES))

    first = kept_base(tmp_path, {"a": 1, "b": [2]}, make)
    assert same(kept_base(tmp_path, {"b": [2], "a": 1}, make), first)
    assert len(count) == 1
    for key in ({"a": 1, "b": [3]}, {"a": 1}, {"a": "1", "b": [2]}):
        assert not same(kept_base(tmp_path, key, make), first)
    monkeypatch.setattr(bases, "VERSION", bases.VERSION + 1)
    assert not same(kept_base(tmp_path, {"a": 1, "b": [2]}, make), first)
    assert len(count) == 5


def test_processes_that_ask_for_the_same_base_at_once_train_it_once(tmp_path, monkeypatch):
    log, context = tmp_path / "trained.txt", get_context("fork")
    ready, train = context.Barrier(2), bases.train

    def written(*given: Any, **named: Any) -> Any:
        with log.open("a") as lines:
            lines.write("trained\n")
        return train(*given, **named)

    monkeypatch.setattr(bases, "train", written)

    def ask(name: str) -> None:
        ready.wait(60)
        found = base_lm(WORLD, tmp_path / "bases", **{**BASE, "steps": 20})
        found.save_folder(tmp_path / name)

    asking = [context.Process(target=ask, args=(name,)) for name in ("one", "two")]
    for process in asking:
        process.start()
    for process in asking:
        process.join(120)
    assert [process.exitcode for process in asking] == [0, 0]
    assert log.read_text().splitlines() == ["trained"]
    assert same(LocalLM.load(tmp_path / "one"), LocalLM.load(tmp_path / "two"))


def test_the_command_of_a_claim_trains_the_bases_again_that_were_deleted(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTODIDACT_CACHE", str(tmp_path))
    bases_at = tmp_path / "bases"

    def told(name: str) -> tuple[dict[str, Any], dict[str, bytes]]:
        words = ["claim", "self_reinforce", "--scale", "tiny", "--seeds", 1, "--jobs", 1, "--cache", tmp_path / name]
        assert main([str(word) for word in [*words, "--json", tmp_path / f"{name}.json", "--quiet"]]) == 0
        weights = {str(path.relative_to(bases_at)): path.read_bytes() for path in bases_at.rglob("*.safetensors")}
        return json.loads((tmp_path / f"{name}.json").read_text())["figures"], weights

    figures, weights = told("first")
    assert weights
    shutil.rmtree(bases_at)
    assert told("second") == (figures, weights)
