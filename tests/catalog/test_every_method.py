"""What every method owes the trainer, tried on each card: a new file is held to it at once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from autodidact.catalog import cards, target
from autodidact.data import Source, Store, open_source
from autodidact.data.schema import Field
from autodidact.methods.method import Method, Progress
from autodidact.model import Model, load_model
from autodidact.recipes.names import encoder_maker, encoder_names, make_method, statistics_of
from autodidact.recipes.stages import Run, Site
from autodidact.training import Settings, train
from autodidact.training.callbacks import Checkpoints

METHODS = [name for name, card in cards().items() if card.kind == "method" and card.verb == "pretrain"]
RECIPES = [name for name, card in cards().items() if card.kind == "recipe" and card.verb == "pretrain"]
ROWS, BATCH = 48, 16


def source_for(needs: Mapping[str, str]) -> Source:
    """A few real samples with the fields that are needed."""
    table = {"numeric", "categorical"} & set(needs.values())
    source = open_source("breast_cancer" if table else "digits", progress=False).at(np.arange(ROWS))
    others = {name: kind for name, kind in needs.items() if name not in source.schema and kind == "vector"}
    if not others:
        return source
    store = Store(name="others", schema={name: Field("vector", shape=(10,)) for name in others})
    rows = torch.rand(ROWS, 10, generator=torch.Generator().manual_seed(0))
    store.append(source.ids, **dict.fromkeys(others, rows))
    return source.joined(store)


def maker(name: str, source: Source):
    names = encoder_names(None, target(cards()[name]).slots, cards()[name].encoder)
    return encoder_maker(names, source, 0, {"statistics": statistics_of(source)})


def made(name: str) -> tuple[Method, Source]:
    cls = target(cards()[name])
    source = source_for(cls.needs)
    return make_method(cls, maker(name, source), {}, source, seed=0), source


def progress(seed: int) -> Progress:
    return Progress(0, 10, 0, torch.Generator().manual_seed(seed))


def tensors(of: object) -> list[Tensor]:
    """All tensors inside a view, in order."""
    if isinstance(of, Tensor):
        return [of]
    inside = (
        of.values()
        if isinstance(of, Mapping)
        else of
        if isinstance(of, list | tuple)
        else vars(of).values()
        if hasattr(of, "__dict__")
        else ()
    )
    return [tensor for part in inside for tensor in tensors(part)]


@pytest.mark.parametrize("name", METHODS)
def test_views_follow_from_the_batch_and_the_generator_alone(name):
    method, source = made(name)
    batch = source.batch(np.arange(BATCH))
    before = torch.random.get_rng_state()
    with torch.no_grad():
        first, again, other = (method.views(batch, progress(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    pairs = list(zip(tensors(first.named), tensors(again.named), strict=True))
    assert pairs
    assert all(torch.equal(a, b) for a, b in pairs)
    if source.schema.first("image"):
        assert any(not torch.equal(a, b) for a, b in zip(tensors(first.named), tensors(other.named), strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_views_leave_the_batch_as_it_was(name):
    method, source = made(name)
    batch, fresh = source.batch(np.arange(BATCH)), source.batch(np.arange(BATCH))
    with torch.no_grad():
        method.views(batch, progress(1))
    for field, value in fresh.fields.items():
        assert torch.equal(batch[field], value) if isinstance(value, Tensor) else batch[field] == value


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_is_finite_in_float32_and_reaches_nearly_all_that_is_trained(name):
    method, source = made(name)
    loss = method.loss(method.views(source.batch(np.arange(BATCH)), progress(1)), progress(1))
    loss.total.backward()
    trained = [parameter for group in method.groups() for parameter in group.parameters]
    reached = [parameter for parameter in trained if parameter.grad is not None]
    assert torch.isfinite(loss.total)
    assert loss.total.dtype == torch.float32
    assert all(torch.isfinite(parameter.grad).all() for parameter in reached)
    # A norm behind the last layer that a method does not read stays without gradient; whole layers must not.
    assert sum(p.numel() for p in reached) > 0.95 * sum(p.numel() for p in trained)


@pytest.mark.parametrize("name", METHODS)
def test_what_the_monitors_watch_has_whole_batches_of_finite_rows(name):
    method, source = made(name)
    watch = method.loss(method.views(source.batch(np.arange(BATCH)), progress(1)), progress(1)).watch
    assert all(len(rows) % BATCH == 0 and torch.isfinite(rows).all() for rows in watch.values())
    if "projection_b" in watch:
        assert watch["projection"].shape == watch["projection_b"].shape


@pytest.mark.parametrize("name", METHODS)
def test_training_changes_a_method_and_the_model_that_is_kept_survives_being_saved(name, tmp_path):
    method, source = made(name)
    before = {label: value.clone() for label, value in method.state_dict().items()}
    # The schedule without an end serves every method: one update cools down, one anneals.
    settings = Settings(
        steps=2,
        batch_size=BATCH,
        schedule="infinite",
        warmup=0.0,
        cooldown=0.5,
        anneal=0.5,
        accelerator="cpu",
        devices=1,
    )
    model = train(method, source, settings, quiet=True)
    after = method.state_dict()
    assert any(not torch.equal(value, after[label]) for label, value in before.items())
    loaded = load_model(model.save(tmp_path / "model"))
    batch = source.batch(np.arange(BATCH))
    for ability in cards()[name].abilities:
        loaded.can(ability)
        with torch.inference_mode():
            torch.testing.assert_close(getattr(loaded, ability)(batch), getattr(model, ability)(batch), rtol=0, atol=0)
    assert tuple(model.abilities) == cards()[name].abilities


@pytest.mark.parametrize("name", METHODS + RECIPES)
def test_networks_come_first_and_everything_else_is_a_keyword(name):
    cls = target(cards()[name])
    kinds = inspect.Parameter
    parameters = list(inspect.signature(cls).parameters.values())
    networks = cls.slots if issubclass(cls, Method) else ()
    assert tuple(p.name for p in parameters if p.kind is kinds.POSITIONAL_OR_KEYWORD) == networks
    assert all(p.annotation is not kinds.empty for p in parameters)
    assert all(
        p.default is not kinds.empty
        for p in parameters
        if p.kind is kinds.KEYWORD_ONLY and p.name not in ("schema", "samples")
    )


SMALL = {
    "rate": 0.1,
    "finetune_steps": 3,
    "finetune_batch": 8,
    "distill_steps": 3,
    "autoencoder_epochs": 1,
    "retrieval_epochs": 1,
}
"""What recipes call the shares that must be some of few rows, and the lengths of their trainings."""


def small(cls: type) -> dict[str, Any]:
    """Arguments for a recipe on few rows; sources where it wants further data of the same kind."""
    parameters = inspect.signature(cls).parameters
    wanted = [name for name, p in parameters.items() if "Source" in str(p.annotation)]
    more = open_source("digits", progress=False).at(np.arange(ROWS, ROWS + 200))
    return {**dict.fromkeys(wanted, more), **{name: value for name, value in SMALL.items() if name in parameters}}


def ran(name: str, folder: Path) -> Model:
    """The recipe of a name, with a checkpoint after every update, from where it stands in the folder."""
    cls = target(cards()[name])
    source = source_for(cls.needs)
    settings = Settings(steps=2, batch_size=8, accelerator="cpu", devices=1, checkpoint_steps=1)
    site = Site(source, maker(name, source), settings, folder, quiet=True)
    return Run(cls(**small(cls)).stages(site), folder).result()


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_heeds_which_pairs_may_repel_has_another_loss_where_fewer_may(name):
    method, source = made(name)
    if not method.heeds_allowed:
        return
    views = method.views(source.batch(np.arange(BATCH)), progress(1))
    with torch.no_grad():
        free = method.loss(views, progress(1)).total
        views.allowed = torch.rand(2 * BATCH, 2 * BATCH, generator=torch.Generator().manual_seed(0)) > 0.5
        assert method.loss(views, progress(1)).total < free


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_gives_what_its_card_says_and_the_same_when_cut_off_in_the_middle_of_any_training(
    name, tmp_path, monkeypatch
):
    whole = ran(name, tmp_path / "whole")
    assert tuple(whole.abilities) == cards()[name].abilities
    save = Checkpoints.save
    stages = [path.parent.name for path in sorted((tmp_path / "whole" / "stages").glob("*/checkpoints"))]
    assert stages
    for stage in stages:

        def saving(self: Checkpoints, learner: Any, stage: str = stage) -> None:
            save(self, learner)
            if learner.updates - learner.first == 1 and self.folder.parent.name == stage:
                raise InterruptedError

        folder = tmp_path / f"cut in {stage}"
        with monkeypatch.context() as patched:
            patched.setattr(Checkpoints, "save", saving)
            with pytest.raises(InterruptedError):
                ran(name, folder)
        assert not (folder / "stages" / stage / "done.json").exists()
        gone_on = ran(name, folder).state_dict()
        assert all(torch.equal(value, gone_on[key]) for key, value in whole.state_dict().items()), stage
