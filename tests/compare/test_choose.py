"""Searches over methods and settings on a few real digits, ranked without their labels."""

from __future__ import annotations

import json
import multiprocessing
import os
import time

import numpy as np
import pytest
import torch
from PIL import Image

from autodidact.compare import crew
from autodidact.compare.space import Range, check_space, domain, searched, space_of
from autodidact.data import open_source
from autodidact.encoders.kept import EncoderModel
from autodidact.evaluation.several_views import VIEWS, embedded_views
from autodidact.evaluation.table import Table
from autodidact.measures import lidar
from autodidact.training import NonFinite, Settings
from autodidact.verbs import arms
from autodidact.verbs import choose as verb
from autodidact.verbs.choose import agreement, choose
from autodidact.verbs.compare import compare

SETTINGS = Settings(steps=8, batch_size=16, accelerator="cpu", devices=1, lr=1e-3)


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> str:
    source = open_source("digits", progress=False).at(np.arange(120))
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    images = source.read(np.arange(120))["image"].numpy().transpose(0, 2, 3, 1)
    np.savez(path, image=images, label=source.column("label"))
    return str(path)


def search(data, folder, methods="simclr,vicreg", **changes):
    asked = {"trials": 3, "labels": "5-per-class", "protocols": "knn", "settings": SETTINGS, "quiet": True}
    return choose(data, methods, out=folder, encoder_arguments={"width": 8}, **{**asked, **changes})


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory) -> Table:
    """A search in which nothing was given up."""
    folder = tmp_path_factory.mktemp("whole")
    table = search(digits, folder, early_stopping=False, json=folder / "table.json")
    assert Table.load(folder / "table.json") == table
    return table


@pytest.fixture
def trained(monkeypatch):
    """Notes every share of a training that is asked for."""
    seen = []
    real = arms.pretrain

    def noted(method, *given, until, settings, **named):
        seen.append((method, until, settings.lr))
        return real(method, *given, until=until, settings=settings, **named)

    monkeypatch.setattr(arms, "pretrain", noted)
    return seen


# What is varied.


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("0.05:1:log", "float", Range(0.05, 1.0, log=True)),
        ("1:8", "int", Range(1.0, 8.0, whole=True)),
        ("0.9,0.99", "float", (0.9, 0.99)),
        ("grey", "str", ("grey",)),
        ("true,false", "bool", (True, False)),
        ("small:convnet,timm:resnet18", "str", ("small:convnet", "timm:resnet18")),
        ("timm:resnet18", "str", ("timm:resnet18",)),
    ],
)
def test_a_domain_is_a_range_or_values(text, kind, found):
    assert domain(text, kind) == found


@pytest.mark.parametrize("text", ["1:0.1", "0:1:log", "a:b", "1:2:linear", " , ", "1:2:3:log"])
def test_a_domain_that_cannot_be_drawn_from_is_refused(text):
    with pytest.raises(ValueError, match=r"range|nothing"):
        domain(text)


def test_what_the_user_names_stands_in_for_what_the_card_names():
    space = space_of("simclr", {"method.temperature": "0.1,0.2", "method.covariance": "1:2"}, Settings(steps=1))
    assert space == {"lr": Range(0.00025, 0.004, log=True), "method.temperature": (0.1, 0.2)}


def test_the_domains_on_all_cards_can_be_read_and_hold_what_the_method_takes_by_default():
    assert {"simclr", "vicreg", "barlow_twins", "byol"} <= set(searched())
    for name in searched():
        space = space_of(name, {}, Settings(steps=1))
        assert set(verb._defaults(name, space, Settings(steps=1))) == set(space), name


def test_the_budget_cannot_be_searched_and_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="same budget"):
        check_space({"steps": "1:2"}, ["simclr"], SETTINGS)
    with pytest.raises(ValueError, match="temperature"):
        check_space({"method.temprature": "1:2"}, ["simclr"], SETTINGS)


# A search.


def test_every_method_gets_its_trials_the_first_with_its_defaults(whole):
    about = whole.about
    methods = [trial["method"] for trial in about["trials"].values()]
    assert (methods.count("simclr"), methods.count("vicreg")) == (3, 3)
    assert {"simclr lr=0.001, temperature=0.1", "vicreg lr=0.001, covariance=1.0"} <= set(whole.arms)
    assert {"retrieval", "rankme", "rankme_projection", "lidar", "loss", "knn", "seconds"} <= set(whole.metrics)


def test_trials_of_a_method_are_ranked_by_one_figure_and_methods_by_another(whole):
    table = whole
    ranking, trials = table.about["ranking"], table.about["trials"]
    for method, best in ((trials[name]["method"], name) for name in ranking):
        own = [name for name in table.arms if trials[name]["method"] == method]
        assert max(own, key=lambda name: table.values(name, "retrieval")) == best
    found = [table.values(name, "retrieval")[0] for name in ranking]
    assert found == sorted(found, reverse=True)
    assert table.about["chosen"] == ranking[0]


def test_labels_choose_nothing(digits, tmp_path, whole):
    """Labels that are others choose the same, by the same figures; without any there is nothing to agree with."""
    labelled = np.load(digits)
    other = np.random.default_rng(0).permutation(labelled["label"])
    for name, fields in (("others", {"label": other}), ("none", {})):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "digits.npz", image=labelled["image"], **fields)
        table = search(
            str(tmp_path / name / "digits.npz"), tmp_path / name / "out", early_stopping=False, protocols=None
        )
        assert table.about["ranking"] == whole.about["ranking"]
        for trial in whole.arms:
            for figure in ("retrieval", "rankme", "rankme_projection", "lidar", "loss"):
                assert table.values(trial, figure) == whole.values(trial, figure), (name, trial, figure)
        assert set(table.about["regret"]) == ({"knn", "linear"} if fields else set())
        assert bool(table.about["agreement"]) == bool(fields)
    assert "knn" not in table.metrics


def test_the_regret_is_what_the_choice_costs(whole):
    accuracies = {name: whole.values(name, "knn")[0] for name in whole.arms}
    assert whole.about["regret"]["knn"] == pytest.approx(max(accuracies.values()) - accuracies[whole.about["chosen"]])


def test_trials_that_are_behind_are_given_up_at_a_quarter_or_at_half_of_the_budget(digits, tmp_path, trained):
    table = search(digits, tmp_path, methods="simclr", trials=6)
    given_up = table.about["given_up"]
    assert given_up
    assert not set(given_up) & set(table.arms)
    shares = {}
    for _, until, lr in trained:
        shares.setdefault(lr, []).append(until)
    for trial, setting in table.about["trials"].items():
        reached = shares[setting["training"]["lr"]]
        assert reached == [0.25, 0.5, 1.0][: len(reached)]
        assert (reached[-1] < 1) == (trial in given_up)


def told_by_their_rate(setting):
    """Figures that follow from the learning rate alone."""
    rate = setting.training["lr"]
    return {"retrieval": rate, "lidar": -rate, "rankme": 1.0, "rankme_projection": 1.0, "seconds": 0.0}


def test_it_is_the_worse_trials_that_are_given_up(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(arms.Arms, "label_free", lambda self, setting, *_: told_by_their_rate(setting))
    table = search(digits, tmp_path, methods="simclr", trials=6, protocols="none")
    rates = {name: setting["training"]["lr"] for name, setting in table.about["trials"].items()}
    given_up = table.about["given_up"]
    assert given_up
    assert max(rates[name] for name in given_up) < max(rates[name] for name in table.arms)
    assert table.about["chosen"] == max(rates, key=lambda name: rates[name])


def test_one_figure_ranks_the_trials_of_a_method_and_another_the_methods(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(arms.Arms, "label_free", lambda self, setting, *_: told_by_their_rate(setting))
    table = search(digits, tmp_path, early_stopping=False, protocols="none", by="retrieval", between="lidar")
    rates = {name: setting["training"]["lr"] for name, setting in table.about["trials"].items()}
    best = [max((n for n in rates if n.startswith(method)), key=lambda n: rates[n]) for method in ("simclr", "vicreg")]
    assert table.about["ranking"] == sorted(best, key=lambda name: rates[name])


def test_batches_of_several_sizes_are_searched_only_where_all_trials_see_as_many_samples(digits, tmp_path):
    told = {"batch_size": "8,16", "lr": "0.001", "method.temperature": "0.1"}
    with pytest.raises(ValueError, match="batch_size"):
        search(digits, tmp_path / "steps", methods="simclr", search=told)
    epochs = Settings(epochs=1, batch_size=16, accelerator="cpu", devices=1)
    table = search(digits, tmp_path / "epochs", methods="simclr", search=told, settings=epochs, protocols="none")
    assert {setting["training"]["batch_size"] for setting in table.about["trials"].values()} <= {8, 16}


def test_a_search_that_goes_on_trains_nothing_twice(digits, tmp_path, trained):
    search(digits, tmp_path, methods="simclr", trials=2)
    before = len(trained)
    search(digits, tmp_path, methods="simclr", trials=2)
    assert len(trained) == before
    search(digits, tmp_path, methods="simclr", trials=3)
    assert len(trained) > before


def test_a_search_that_was_cut_off_ends_like_one_that_was_not(digits, tmp_path, monkeypatch):
    never_cut = search(digits, tmp_path / "whole", methods="simclr", trials=4)
    real, calls = arms.pretrain, []

    def cut(*given, **named):
        calls.append(named["until"])
        if len(calls) in (2, 6):
            raise KeyboardInterrupt
        return real(*given, **named)

    monkeypatch.setattr(arms, "pretrain", cut)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            search(digits, tmp_path / "cut", methods="simclr", trials=4)
    gone_on = search(digits, tmp_path / "cut", methods="simclr", trials=4)
    assert gone_on.about["trials"] == never_cut.about["trials"]
    assert gone_on.about["given_up"] == never_cut.about["given_up"]
    for name in never_cut.arms:
        for metric in set(never_cut.metrics) - {"seconds"}:
            assert gone_on.values(name, metric) == never_cut.values(name, metric), (name, metric)


def test_two_processes_share_the_trials(digits, tmp_path):
    """Forked, so that nothing is imported anew; each notes what it trained."""
    folder, context = tmp_path / "shared", multiprocessing.get_context("fork")

    def work(number):
        torch.set_num_threads(1)
        real, mine = arms.pretrain, []

        def noted(method, *given, until, settings, **named):
            mine.append([method, until, settings.lr])
            time.sleep(0.3)
            return real(method, *given, until=until, settings=settings, **named)

        arms.pretrain = noted
        table = search(digits, folder, early_stopping=False, json=tmp_path / f"{number}.json")
        (tmp_path / f"trained {number}").write_text(json.dumps(mine))
        assert len(table.arms) == 6

    processes = [context.Process(target=work, args=(number,)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    done = [json.loads((tmp_path / f"trained {number}").read_text()) for number in range(2)]
    assert min(map(len, done)) >= 3, "one of them did nearly everything"
    assert len({tuple(each) for each in [*done[0], *done[1]]}) == len(done[0]) + len(done[1]), "trained twice"
    tables = [Table.load(tmp_path / f"{number}.json") for number in range(2)]
    assert tables[0].about == tables[1].about
    assert not list((folder / "workers").iterdir())


def test_who_is_at_work_is_told_by_signs_of_life(tmp_path, monkeypatch):
    with crew.Crew(tmp_path) as here:
        assert not here.lives(None)
        assert not here.lives(here.name), "it has nothing else to do"
        host = here.name.split(":")[0]
        assert not here.lives(f"{host}:{os.getppid()}"), "it runs, but it is not at work here"
        here._sign(f"{host}:{os.getppid()}").touch()
        assert here.lives(f"{host}:{os.getppid()}")
        here._sign(f"{host}:4194304").touch()
        assert not here.lives(f"{host}:4194304"), "no such process"
        elsewhere = here._sign("elsewhere:7")
        elsewhere.touch()
        assert here.lives("elsewhere:7")
        long_ago = time.time() - crew.SILENT - 5
        os.utime(elsewhere, (long_ago, long_ago))
        assert not here.lives("elsewhere:7")
        monkeypatch.setattr(crew, "BEAT", 0.01)
        with crew.Crew(tmp_path / "other") as other:
            os.utime(other._sign(other.name), (long_ago, long_ago))
            time.sleep(0.2)
            assert other._sign(other.name).stat().st_mtime > long_ago + 5
    assert not here._sign(here.name).exists()


def test_a_trial_that_diverges_costs_itself_only(digits, tmp_path, monkeypatch):
    real = arms.pretrain

    def diverges(*given, settings, **named):
        if settings.lr != SETTINGS.lr:
            raise NonFinite("the loss became NaN")
        return real(*given, settings=settings, **named)

    monkeypatch.setattr(arms, "pretrain", diverges)
    table = search(digits, tmp_path, methods="simclr", trials=3)
    assert len(table.about["diverged"]) == 2
    assert table.arms == ["simclr lr=0.001, temperature=0.1"]


def test_a_trial_that_collapses_is_the_last_one_and_ends_no_search(digits, tmp_path, monkeypatch):
    real = arms.pretrain

    def collapses(*given, settings, **named):
        model = real(*given, settings=settings, **named)
        if settings.lr != SETTINGS.lr:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.zero_()
        return model

    monkeypatch.setattr(arms, "pretrain", collapses)
    table = search(digits, tmp_path, methods="simclr", trials=3, early_stopping=False, protocols="none")
    collapsed = [name for name in table.arms if "lr=0.001," not in name]
    assert len(collapsed) == 2
    for name in collapsed:
        assert table.values(name, "lidar") == table.values(name, "rankme") == [0.0]
    assert table.about["chosen"] == "simclr lr=0.001, temperature=0.1"


def test_trials_that_drew_the_same_and_images_of_several_sizes_are_noted(digits, tmp_path):
    told = {"lr": "0.001", "method.temperature": "0.1,0.5", "image_size": "8,12"}
    table = search(digits, tmp_path, methods="simclr", trials=6, search=told, protocols="none", early_stopping=False)
    assert len(table.arms) < 6
    assert f"{6 - len(table.arms)} of 6 trials drew what another one had" in table.about["notes"]
    assert any("figures of views differ" in note for note in table.about["notes"])


@pytest.mark.parametrize("verb_", [choose, compare])
def test_a_stream_is_refused_before_anything_is_trained(verb_, tmp_path, monkeypatch):
    for k in range(4):
        (tmp_path / "images" / "a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), k, dtype=np.uint8)).save(tmp_path / "images" / "a" / f"{k}.png")
    monkeypatch.setattr(arms, "pretrain", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match="is a stream"):
        verb_(f"hf-stream:{tmp_path / 'images'}", "simclr", out=tmp_path / "out", settings=SETTINGS, quiet=True)


def test_when_all_trials_diverge_there_is_nothing_to_choose(digits, tmp_path, monkeypatch):
    def diverges(*given, **named):
        raise NonFinite("the loss became NaN")

    monkeypatch.setattr(arms, "pretrain", diverges)
    with pytest.raises(ValueError, match="every trial diverged"):
        search(digits, tmp_path, methods="simclr", trials=2)


def test_when_the_hours_are_over_every_method_has_the_same_number_of_trials(digits, tmp_path):
    table = search(digits, tmp_path, hours=1e-9, early_stopping=False)
    assert sorted(trial["method"] for trial in table.about["trials"].values()) == ["simclr", "vicreg"]
    assert "hours were over" in table.about["notes"][0]


def test_without_names_the_methods_are_those_that_fit_the_data(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(arms, "pretrain", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match="no method that says what to vary fits"):
        choose("wine", out=tmp_path, settings=SETTINGS, quiet=True)
    assert verb._fitting_methods(open_source(digits, progress=False)) == searched()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trials": 0}, "at least one trial"),
        ({"by": "accuracy"}, "figure to rank by"),
        ({"methods": "simclr,simclr"}, "once"),
        ({"methods": "simclr,t_jepa"}, "method 't_jepa' needs"),
        ({"search": {"epochs": "1:2"}}, "same budget"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(digits, tmp_path, monkeypatch, changes, said):
    monkeypatch.setattr(arms, "pretrain", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match=said):
        search(digits, tmp_path, **changes)


# What it judges by.


def test_agreement_is_the_rank_correlation_of_all_trials_and_the_mean_of_the_methods():
    finished = {
        "a1": ("a", {"rankme": 1.0, "knn": 0.1}),
        "a2": ("a", {"rankme": 2.0, "knn": 0.2}),
        "a3": ("a", {"rankme": 3.0, "knn": 0.3}),
        "b1": ("b", {"rankme": 9.0, "knn": 0.05}),
        "b2": ("b", {"rankme": 8.0, "knn": 0.06}),
        "b3": ("b", {"rankme": 7.0, "knn": 0.07}),
    }
    found = agreement(finished, ["knn"])
    assert found["rankme"]["knn"]["within"] == pytest.approx((1 - 1) / 2)
    # By rank: 1 2 3 6 5 4 against 4 5 6 1 2 3; the squares of the differences are 9 9 9 25 9 1.
    assert found["rankme"]["knn"]["all"] == pytest.approx(1 - 6 * 62 / (6 * 35))
    assert "lidar" not in found


def test_every_model_is_shown_the_same_views(digits):
    source = open_source(digits, progress=False)
    found = [embedded_views(EncoderModel({"encoder": verb_encoder(source, seed)}), source) for seed in (0, 0, 1)]
    assert found[0].shape == (120, VIEWS, found[0].shape[2])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert (found[0][:, 0] - found[0][:, 1]).abs().max() > 0


def verb_encoder(source, seed):
    from autodidact.encoders import build

    torch.manual_seed(seed)
    return build("small:convnet?width=4", schema=source.schema)


def test_lidar_of_views_that_do_not_vary_is_the_rank_of_what_samples_differ_in():
    means = torch.eye(3).repeat(4, 1)[:, None].expand(-1, 5, -1)
    assert lidar(means) == pytest.approx(2.0, abs=1e-3)
