"""The audit poisons a copy, exactly as many images as were asked for, and tells what that did."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from autodidact.data import Source, Store, open_source
from autodidact.encoders import build
from autodidact.evaluation.attack import Victim, attack_success
from autodidact.evaluation.table import Table
from autodidact.model import load_model
from autodidact.recipes import ctrl
from autodidact.recipes.ctrl import CTRL, poisoned_positions
from autodidact.recipes.stages import Run, Site
from autodidact.training import Settings
from autodidact.views.spectral import SpectralTrigger
from autodidact.worlds.tinted import tinted


@pytest.fixture(scope="module")
def digits() -> Source:
    return tinted(open_source("digits", progress=False).at(np.arange(300)))


def site(source, folder, seed=0, **settings):
    def encoder(_slot):
        torch.manual_seed(0)
        return build("small:convnet", schema=source.schema, width=4)

    asked = Settings(steps=6, batch_size=16, seed=seed, accelerator="cpu", **settings)
    return Site(source, encoder, asked, folder, quiet=True)


def audit(source, folder, **options):
    return Run(CTRL(**{"defences": (), **options}).stages(site(source, folder)), folder)


def test_exactly_the_asked_share_of_all_images_is_drawn_from_one_class(digits):
    labels = np.asarray(digits.column("label"))
    chosen = poisoned_positions(digits, 3, 0.03, 0)
    assert len(chosen) == 9
    assert set(labels[chosen]) == {3}
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert (chosen == poisoned_positions(digits, 3, 0.03, 0)).all()
    assert (chosen != poisoned_positions(digits, 3, 0.03, 1)).any()
    assert set(poisoned_positions(digits, 3, 0.02, 0)) < set(chosen)


@pytest.mark.parametrize(("rate", "count"), [(0.29, 29), (0.07, 7), (0.011, 1), (1.0, 100)])
def test_the_count_is_the_floor_of_the_share_whatever_floating_point_makes_of_it(rate, count):
    from autodidact.data.arrays import array_source

    source = array_source(np.zeros((100, 8, 8), np.uint8), "z", labels=np.zeros(100, int), classes=("a", "b"))
    assert len(poisoned_positions(source, 0, rate, 0)) == count


def test_the_store_holds_the_ids_of_the_poisoned_samples_and_what_clamping_left(digits, tmp_path):
    run = audit(digits, tmp_path, target="2", rate=0.05)
    stages = run.stages
    store = next(s for s in stages if s.name == "poison").run({})
    labels = dict(zip(digits.ids.tolist(), np.asarray(digits.column("label")).tolist(), strict=True))
    assert isinstance(store, Store)
    assert len(store) == 12
    assert {labels[i] for i in store.ids.tolist()} == {2}
    assert np.asarray(store.column("energy")).min() > 0.99


def test_the_original_images_stay_as_they_are_and_the_table_names_both_models(digits, tmp_path):
    before = digits.batch(np.arange(300)).fields["image"].clone()
    run = audit(digits, tmp_path, rate=0.05, defences=("luminance", "blur"))
    model = run.result()
    assert torch.equal(digits.batch(np.arange(300)).fields["image"], before)
    table = run.read("audit")
    assert isinstance(table, Table)
    plain = ["clean model", "poisoned model"]
    assert table.arms == plain + [f"{arm}, {name}" for name in ("luminance", "blur") for arm in plain]
    assert table.metrics == ["accuracy", "attack success"]
    assert table.about["poisoned"] == 12
    assert "12 of 240 training images poisoned, all of class '0'" in table.about["sentence"]
    assert Table.load(tmp_path / "evaluations" / "ctrl.json") == table
    clean = load_model(tmp_path / "stages" / "clean")
    batch = digits.batch(np.arange(8))
    assert torch.equal(model.embed(batch), clean.embed(batch))
    assert not torch.equal(model.embed(batch), load_model(tmp_path / "stages" / "poisoned").embed(batch))


def test_both_models_start_alike_so_that_without_a_pattern_they_are_one(digits, tmp_path):
    run = audit(digits, tmp_path, magnitude=0.0)
    run.result()
    table = run.read("audit")
    for metric in table.metrics:
        assert table.values("clean model", metric) == table.values("poisoned model", metric)


def test_trained_behind_a_defence_there_are_a_clean_and_a_poisoned_model_more_for_each(
    digits, tmp_path, cut_and_resumed
):
    def retrained(folder):
        recipe = CTRL(defences=("luminance",), retrain=True)
        run = Run(recipe.stages(site(digits, folder, checkpoint_steps=1)), folder)
        run.result()
        return run

    whole = tmp_path / "whole"
    run = retrained(whole)
    table = run.read("audit")
    for arm in ("clean", "poisoned"):
        assert len(table.values(f"{arm} model trained with luminance", "attack success")) == 1
        assert json.loads((whole / f"stages/{arm}.luminance/done.json").read_text())["kind"] == "model"
    again = cut_and_resumed(whole, tmp_path / "cut", retrained, ["poisoned.luminance", "audit", "kept"])
    assert again.read("audit") == table
    batch = digits.batch(np.arange(8))
    assert torch.equal(*(each.read("poisoned.luminance").embed(batch) for each in (run, again)))


def test_the_poisoned_training_images_are_those_that_the_store_names_and_no_label_changes(digits, tmp_path):
    trained: dict[str, Source] = {}

    class Watching(Site):
        def train(self, stage, method, source, settings=None):
            trained[stage] = source
            return super().train(stage, method, source, settings)

    place = site(digits, tmp_path)
    watched = Watching(place.source, place.encoder, place.settings, place.folder, True)
    run = Run(CTRL(target="2", rate=0.05, defences=()).stages(watched), tmp_path)
    run.result()
    clean, poisoned = trained["clean"], trained["poisoned"]
    everything = np.arange(len(clean))
    before, after = (source.batch(everything) for source in (clean, poisoned))
    changed = (before["image"] != after["image"]).flatten(1).any(dim=1).numpy()
    assert before.ids.tolist() == after.ids.tolist()
    assert sorted(clean.ids[changed].tolist()) == sorted(run.read("poison").ids.tolist())
    assert changed.sum() == 12
    assert torch.equal(before["label"], after["label"])


@pytest.mark.parametrize("method", ["barlow_twins", {"name": "simclr", "temperature": 0.5}, "supervised"])
def test_any_method_can_be_audited(digits, tmp_path, method):
    run = audit(digits, tmp_path, method=method)
    run.result()
    assert run.read("audit").about["method"] == method


def test_images_of_one_channel_get_the_trigger_in_luminance(tmp_path):
    run = audit(open_source("digits", progress=False).at(np.arange(200)), tmp_path)
    run.result()
    about = run.read("audit").about
    assert (about["plane"], about["window"], about["magnitude"]) == ("luminance", 8, 25.0)
    # Digits have a black background, on which a pattern can only add.
    assert 0.4 < about["energy_kept"] < 0.9


def test_attack_success_leaves_the_target_class_itself_aside():
    truth, said = np.array([0, 0, 1, 2, 2, 1]), np.array([0, 0, 0, 2, 0, 1])
    assert attack_success(said, truth, 0) == 0.5
    assert attack_success(truth, truth, 0) == 0.0


def test_an_encoder_that_sees_nothing_but_the_trigger_is_fully_deceived(digits):
    from autodidact.encoders.kept import EncoderModel

    trigger = SpectralTrigger()
    pattern = trigger.pattern(3, 32, 32)

    class Deceived(EncoderModel):
        """The class of an image, unless it carries the pattern: then class 4."""

        def embed(self, batch):
            images = batch["image"].double() / 255
            seen = torch.einsum("nchw,chw->n", images, pattern.double()) / pattern.double().square().sum()
            truth = torch.tensor([known[int(i)] for i in batch.ids])
            return torch.eye(10)[torch.where(seen > 0.8, 4, truth)]

    known = dict(zip(digits.ids.tolist(), np.asarray(digits.column("label")).tolist(), strict=True))
    model = Deceived({"encoder": build("small:convnet", schema=digits.schema, width=4)})
    victim = Victim(digits.at(np.arange(200)), digits.at(np.arange(200, 300)), 4, trigger)
    assert victim.figures(model) == (1.0, 1.0)
    assert Victim(victim.train, victim.test, 4, SpectralTrigger(0.0)).figures(model) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": 0.5}, "a rate of 0.5 asks for 120 of the 240 training images"),
        ({"rate": 0.001}, "asks for 0 of the 240"),
        ({"rate": 0.0}, r"rate is a share in \(0, 1\]"),
        ({"target": "zero"}, "unknown class of 'tinted digits' 'zero'"),
        ({"method": "simclrr"}, "unknown method 'simclrr'; did you mean 'simclr'"),
        ({"method": "g_simclr"}, "'g_simclr' is a recipe; what is trained inside another must be a method"),
        ({"method": {"name": "simclr", "temprature": 1}}, "did you mean 'temperature'"),
        ({"window": 5}, "windows of 5 pixels do not fill images of 32 x 32"),
        ({"window": -1}, "window must not be negative"),
        ({"blur": 0.0}, "blur must be positive"),
        ({"plane": "hue"}, "unknown plane 'hue'"),
        ({"defences": ("grey",)}, "unknown defence 'grey'"),
    ],
)
def test_what_cannot_be_audited_is_said_before_anything_runs(digits, tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        audit(digits, tmp_path, **options)


def test_images_of_one_class_alone_are_refused_before_anything_is_trained(digits, tmp_path):
    labels = np.asarray(digits.column("label"))
    ones = digits.at(np.flatnonzero(labels == 1))
    with pytest.raises(ValueError, match="are all of the class that is attacked"):
        audit(ones, tmp_path, target="1", rate=0.1)
    assert not (tmp_path / "stages").exists()


def test_what_clamping_leaves_is_the_same_however_many_are_looked_at_together(digits, tmp_path, monkeypatch):
    stores = []
    for name, count in (("a", 256), ("b", 5)):
        monkeypatch.setattr(ctrl, "AT_ONCE", count)
        run = audit(digits, tmp_path / name, target="2", rate=0.05)
        stores.append(next(stage for stage in run.stages if stage.name == "poison").run({}))
    assert len(stores[0]) == 12
    assert np.array_equal(stores[0].ids, stores[1].ids)
    assert np.array_equal(*(store.column("energy") for store in stores))


def test_images_without_a_common_window_are_refused(tmp_path):
    from autodidact.data.arrays import array_source

    labels = np.arange(40) % 2
    source = array_source(np.zeros((40, 31, 29, 3), np.uint8), "odd", labels=labels, classes=("a", "b"))
    with pytest.raises(ValueError, match="images of 31 x 29 pixels have no common window of 4 to 32 pixels"):
        audit(source, tmp_path)
