"""Whole comparisons on a few real digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autodidact.catalog import card, cards
from autodidact.compare import cell_path
from autodidact.data import open_source
from autodidact.evaluation.table import Table
from autodidact.training import NonFinite, Settings
from autodidact.training import checkpoint as checkpoints
from autodidact.verbs import arms
from autodidact.verbs.compare import compare, differences

SETTINGS = Settings(steps=2, batch_size=16, accelerator="cpu", devices=1, lr=1e-2)


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> str:
    source = open_source("digits", progress=False).at(np.arange(120))
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    images = source.read(np.arange(120))["image"].numpy().transpose(0, 2, 3, 1)
    np.savez(path, image=images, label=source.column("label"))
    return str(path)


def comparison(data, folder, methods=("simclr", "dcl"), **changes):
    asked = {"seeds": 2, "labels": "2-per-class", "protocols": "knn", "settings": SETTINGS, "quiet": True}
    return compare(data, methods, out=folder, encoder_arguments={"width": 8}, **{**asked, **changes})


def test_all_arms_are_measured_alike_beside_what_needs_no_training(digits, tmp_path):
    table = comparison(digits, tmp_path, json=tmp_path / "table.json")
    assert table.arms == ["simclr", "dcl", "raw", "random"]
    for arm in table.arms:
        assert table.seeds(arm, "knn") == [0, 1]
        assert all(0 <= value <= 1 for value in table.values(arm, "knn"))
    assert set(table.metrics) == {"knn", "retrieval", "lidar", "rankme", "rankme_projection", "loss", "seconds"}
    assert table.about["budget"] == "2 updates"
    assert (table.about["encoder_arguments"], table.about["image_size"]) == ({"width": 8}, None)
    assert Table.load(tmp_path / "table.json") == table


def test_losses_and_ranks_are_compared_within_a_method_only(digits, tmp_path):
    table = comparison(digits, tmp_path, methods="simclr,dcl", grid={"method.temperature": [0.1, 0.5]}, seeds=1)
    found = table.about["differences"]
    assert {"knn", "loss", "rankme", "rankme_projection"} <= set(found["simclr temperature=0.5"])
    assert set(found["dcl temperature=0.1"]) == {"knn", "retrieval", "lidar", "seconds"}


def test_a_suite_stands_for_its_methods_and_its_network_under_one_budget_of_tokens(digits, tmp_path, monkeypatch):
    from autodidact.compare import vit_suite

    few = ("simclr", "mae")
    made = replace(card("vit_suite"), members=few, encoder="small:vit?width=8&depth=1&heads=2&registers=1")
    monkeypatch.setitem(cards(), "vit_suite", made)
    # Two views of 18 tokens each are 576 of a batch; a quarter of the patches beside class and register 96.
    settings = Settings(tokens=1_200, batch_size=16, accelerator="cpu", devices=1)
    table = compare(digits, "mae,vit_suite,dcl", out=tmp_path, seeds=1, protocols="none", settings=settings, quiet=True)
    assert table.arms == ["mae", "simclr", "dcl"]
    assert table.about["budget"] == "1200 tokens"
    assert {arm["encoder"]["encoder"] for arm in table.about["arms"].values()} == {made.encoder}
    updates = {"mae": 12, "simclr": 2, "dcl": 2}
    for arm, count in updates.items():
        saved = checkpoints.read(next(tmp_path.glob(f"{arm}-*/seed-0")) / "checkpoints")
        assert saved is not None
        assert (saved.progress["updates"], saved.progress["meter"]["tokens"]) == (count, 1152)
    assert sorted(sum(vit_suite.FAMILIES.values(), ())) == sorted(vit_suite.CARD.members)
    assert all(cards()[name].kind == "method" for name in vit_suite.CARD.members)


def test_arms_differ_in_their_method_only_and_so_start_from_the_same_network(digits, tmp_path):
    table = comparison(digits, tmp_path, methods="simclr,dcl", settings=Settings(**{**vars(SETTINGS), "lr": 1e-12}))
    assert table.values("simclr", "knn") == table.values("dcl", "knn")
    assert table.values("simclr", "loss") != table.values("dcl", "loss")


def test_a_comparison_goes_on_and_trains_nothing_twice(digits, tmp_path, monkeypatch):
    trained = []
    real = arms.pretrain

    def noted(method, *given, settings, **named):
        trained.append((method, settings.seed))
        return real(method, *given, settings=settings, **named)

    monkeypatch.setattr(arms, "pretrain", noted)
    first = comparison(digits, tmp_path, seeds=1)
    again = comparison(digits, tmp_path, methods=["simclr", "dcl", "barlow_twins"], seeds=2)
    assert trained == [("simclr", 0), ("dcl", 0), ("barlow_twins", 0), ("simclr", 1), ("dcl", 1), ("barlow_twins", 1)]
    assert again.values("dcl", "knn")[:1] == first.values("dcl", "knn")


def test_another_budget_is_another_comparison(digits, tmp_path, monkeypatch):
    comparison(digits, tmp_path, methods="simclr", seeds=1)
    longer = Settings(**{**vars(SETTINGS), "steps": 3})
    table = comparison(digits, tmp_path, methods="simclr", seeds=1, settings=longer)
    assert table.about["budget"] == "3 updates"
    assert len([path for path in tmp_path.iterdir() if path.name.startswith("simclr")]) == 2


def test_settings_of_the_grid_reach_the_training_of_their_arm(digits, tmp_path):
    table = comparison(digits, tmp_path, methods="dcl", seeds=1, grid={"method.temperature": [0.1, 1.0], "lr": [1e-3]})
    assert table.arms[:2] == ["dcl temperature=0.1", "dcl temperature=1.0"]
    assert table.about["arms"]["dcl temperature=1.0"]["options"] == {"temperature": 1.0}
    configs = [path.read_text() for path in sorted(tmp_path.glob("dcl*/seed-0/config.yaml"))]
    assert sorted(line.strip() for text in configs for line in text.splitlines() if "temperature" in line) == [
        "temperature: 0.1",
        "temperature: 1.0",
    ]
    assert all("lr: 0.001" in text for text in configs)


def test_data_without_labels_is_compared_by_what_needs_none(digits, tmp_path):
    images = tmp_path / "images.npy"
    np.save(images, np.load(digits)["image"])
    table = comparison(str(images), tmp_path / "out", protocols=None, seeds=1)
    assert table.arms == ["simclr", "dcl"]
    assert set(table.metrics) == {"retrieval", "lidar", "rankme", "rankme_projection", "loss", "seconds"}


def test_a_mean_over_draws_of_labels_is_one_figure(digits, tmp_path):
    several = comparison(digits, tmp_path / "a", methods="simclr", seeds=1, draws=3)
    single = [
        comparison(digits, tmp_path / "b", methods="simclr", seeds=1, draws=1, first_seed=seed).values("raw", "knn")[0]
        for seed in (0, 1, 2)
    ]
    assert several.values("raw", "knn")[0] == pytest.approx(np.mean(single), abs=1e-12)


def test_methods_with_encoders_of_their_own_are_noted_as_such(digits, tmp_path):
    noted = comparison(
        digits, tmp_path, methods="simclr,denoising_autoencoder", seeds=1, protocols="none", encoder=None
    )
    assert "different encoders" in noted.about["notes"][0]


def test_a_loss_that_is_not_finite_names_the_arm(digits, tmp_path, monkeypatch):
    def fails(*given, **named):
        raise NonFinite("the loss became NaN")

    monkeypatch.setattr(arms, "pretrain", fails)
    with pytest.raises(NonFinite, match="simclr, seed 0: the loss became NaN"):
        comparison(digits, tmp_path)


def test_what_does_not_fit_is_refused_before_anything_is_trained(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(arms, "pretrain", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match="method 't_jepa' needs"):
        comparison(digits, tmp_path, methods="simclr,t_jepa")
    with pytest.raises(ValueError, match="protocol 'regress' does not fit"):
        comparison(digits, tmp_path, protocols="regress")
    with pytest.raises(ValueError, match="protocol 'groups' needs groups, which only evaluate takes"):
        comparison(digits, tmp_path, protocols="knn,groups")
    with pytest.raises(ValueError, match="at least one seed"):
        comparison(digits, tmp_path, seeds=0)


def test_differences_are_paired_by_seed_against_the_first_arm():
    table = Table()
    for seed, (a, b) in enumerate([(0.1, 0.2), (0.5, 0.8)]):
        table.add("a", "x", seed, a)
        table.add("b", "x", seed, b)
    table.add("c", "x", 0, 0.4)
    found = differences(table, "a")
    assert found["b"]["x"]["mean"] == pytest.approx(0.2)
    # Half of the interval: the t quantile 12.706 of one degree of freedom, times 0.1414 / sqrt(2).
    assert found["b"]["x"]["high"] - found["b"]["x"]["mean"] == pytest.approx(1.2706, abs=1e-4)
    assert found["c"]["x"] == {"mean": pytest.approx(0.3), "low": None, "high": None}


def test_the_folder_of_an_arm_lies_beside_its_figures(digits, tmp_path):
    comparison(digits, tmp_path, methods="simclr", seeds=1)
    (cell,) = tmp_path.glob("simclr-*/seed-0.json")
    assert (cell.with_suffix("") / "model/model.safetensors").exists()
    assert cell.name == cell_path(tmp_path, "simclr", 0).name
