"""The audit poisons a copy, exactly as many images as were asked for, and tells what that did."""

from __future__ import annotations

import json
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from autodidact.data import ArraySource, Field, Schema, Source, Store, open_source
from autodidact.data.arrays import array_source
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel
from autodidact.evaluation.attack import AtSize, Victim, at_size, attack_success
from autodidact.evaluation.table import Table
from autodidact.model import load_model
from autodidact.recipes import ctrl
from autodidact.recipes.ctrl import CTRL, poisoned_positions
from autodidact.recipes.stages import Run, Site
from autodidact.training import Settings
from autodidact.views.defence import defended
from autodidact.views.spectral import SpectralTrigger
from autodidact.worlds.tinted import tinted


@pytest.fixture(scope="module")
def digits() -> Source:
    return tinted(open_source("digits", progress=False).at(np.arange(300)))


def site(source, folder, seed=0, image_size=None, **settings):
    def encoder(_slot):
        torch.manual_seed(0)
        return build("small:convnet", schema=source.schema, image_size=image_size, width=4)

    asked = Settings(steps=6, batch_size=16, seed=seed, accelerator="cpu", **settings)
    return Site(source, encoder, asked, folder, quiet=True)


def audit(source, folder, image_size=None, **options):
    return Run(CTRL(**{"defences": (), **options}).stages(site(source, folder, image_size=image_size)), folder)


class Watched(Site):
    """Keeps what every stage was trained on, and the model that it gave."""

    def __init__(self, place: Site) -> None:
        super().__init__(place.source, place.encoder, place.settings, place.folder, True)
        object.__setattr__(self, "seen", {})

    def train(self, stage, method, source, settings=None, **more):
        model = super().train(stage, method, source, settings, **more)
        self.seen[stage] = (source, model)
        return model


def images_of(source):
    return source.batch(np.arange(len(source)))["image"]


class Deceived(EncoderModel):
    """The class of an image, unless it carries the pattern: then class 4."""

    def __init__(self, source: Source, pattern: torch.Tensor) -> None:
        super().__init__({"encoder": build("small:convnet", schema=source.schema, width=4)})
        self.known = dict(zip(source.ids.tolist(), np.asarray(source.column("label")).tolist(), strict=True))
        self.pattern = pattern.double()

    def embed(self, batch):
        images = batch["image"].double() / 255
        seen = torch.einsum("nchw,chw->n", images, self.pattern) / self.pattern.square().sum()
        truth = torch.tensor([self.known[int(i)] for i in batch.ids])
        return torch.eye(10)[torch.where(seen > 0.8, 4, truth)]


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
    watched = Watched(site(digits, tmp_path))
    run = Run(CTRL(target="2", rate=0.05, defences=()).stages(watched), tmp_path)
    run.result()
    (clean, _), (poisoned, _) = watched.seen["clean"], watched.seen["poisoned"]
    everything = np.arange(len(clean))
    before, after = (source.batch(everything) for source in (clean, poisoned))
    changed = (before["image"] != after["image"]).flatten(1).any(dim=1).numpy()
    assert before.ids.tolist() == after.ids.tolist()
    assert sorted(clean.ids[changed].tolist()) == sorted(run.read("poison").ids.tolist())
    assert changed.sum() == 12
    assert torch.equal(before["label"], after["label"])


@pytest.fixture
def asked(monkeypatch):
    """Victims whose figures only tell what was asked: the stage's place in the alphabet, and whether defended."""

    class Asked(Victim):
        made: ClassVar[list[Victim]] = []
        stages: ClassVar[dict[str, tuple[Source, object]]] = {}

        def __init__(self, *given):
            super().__init__(*given)
            self.made.append(self)

        def figures(self, model, defence=None):
            name = next(name for name, (_, known) in self.stages.items() if known is model)
            return float(sorted(self.stages).index(name)), float(defence is not None)

    monkeypatch.setattr(ctrl, "Victim", Asked)
    return Asked


def test_each_arm_is_the_model_of_its_stage_and_the_neighbours_are_clean_and_only_tests_are_triggered(
    digits, tmp_path, asked
):
    watched = Watched(site(digits, tmp_path))
    asked.stages = watched.seen
    recipe = CTRL(target="2", rate=0.05, plane="luminance", defences=("luminance",), retrain=True)
    run = Run(recipe.stages(watched), tmp_path)
    run.result()
    seen = {stage: images_of(source) for stage, (source, _) in watched.seen.items()}
    # What a defence does is done to the poisoned copy too, and in luminance the trigger stays.
    changed = (seen["clean"] != seen["poisoned"]).flatten(1).any(dim=1)
    assert int(changed.sum()) == 12
    for arm in ("clean", "poisoned"):
        assert torch.equal(seen[f"{arm}.luminance"], defended(seen[arm], "luminance"))
    differs = (seen["clean.luminance"] != seen["poisoned.luminance"]).flatten(1).any(dim=1)
    assert torch.equal(differs, changed)
    (victim,) = asked.made
    assert torch.equal(images_of(victim.train), seen["clean"])
    assert set(victim.train.ids.tolist()) | set(victim.test.ids.tolist()) == set(digits.ids.tolist())
    assert torch.equal(images_of(victim.test), images_of(digits.only(victim.test.ids)))
    trigger = SpectralTrigger(plane="luminance")
    assert torch.equal(images_of(victim.triggered), trigger(images_of(victim.test)))
    table = run.read("audit")
    said = {arm: tuple(table.values(arm, metric)[0] for metric in table.metrics) for arm in table.arms}
    # In the alphabet: clean, clean.luminance, poisoned, poisoned.luminance.
    assert said == {
        "clean model": (0, 0),
        "poisoned model": (2, 0),
        "clean model, luminance": (0, 1),
        "poisoned model, luminance": (2, 1),
        "clean model trained with luminance": (1, 1),
        "poisoned model trained with luminance": (3, 1),
    }


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
    trigger = SpectralTrigger()
    model = Deceived(digits, trigger.pattern(3, 32, 32))
    victim = Victim(digits.at(np.arange(200)), digits.at(np.arange(200, 300)), 4, trigger)
    assert victim.figures(model) == (1.0, 1.0)
    assert victim.figures(model, partial(defended, defence="luminance")) == (1.0, 0.0)
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


def mild(rng, n, *shape):
    """Images that leave room for a pattern, in halves of two classes."""
    return rng.integers(90, 160, (n, *shape), dtype=np.uint8), np.arange(n) % 2


def test_images_that_no_window_fills_get_windows_that_are_cut_at_the_edges(tmp_path):
    images, labels = mild(np.random.default_rng(0), 40, 31, 29, 3)
    source = array_source(images, "odd", labels=labels, classes=("a", "b"))
    watched = Watched(site(source, tmp_path))
    run = Run(CTRL(rate=0.1, defences=()).stages(watched), tmp_path)
    run.result()
    about = run.read("audit").about
    assert (about["image_size"], about["window"], about["energy_kept"]) == ("31 x 29", 29, pytest.approx(1.0, abs=0.03))
    (clean, _), (poisoned, _) = watched.seen["clean"], watched.seen["poisoned"]
    added = images_of(poisoned).double() - images_of(clean).double()
    pattern = SpectralTrigger.scaled(100.0, 29, "chroma").pattern(3, 58, 29)[:, :31]
    assert torch.equal(added[added.flatten(1).any(dim=1)][0], (255 * pattern).round().double())


def test_a_folder_of_photographs_of_mixed_sizes_is_audited_whatever_its_canvas(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number, (height, width) in enumerate([(119, 116), (80, 116), (119, 60), (50, 50)] * 4):
            picture = Image.fromarray(rng.integers(90, 160, (height, width, 3), dtype=np.uint8))
            picture.save(tmp_path / "data" / label / f"{number}.png")
    source = open_source(tmp_path / "data", progress=False)
    assert source.schema["image"].shape == (3, 119, 116)
    assert "box" in source.schema
    run = audit(source, tmp_path / "run", rate=0.1)
    run.result()
    assert run.read("audit").about["image_size"] == "119 x 116"
    assert run.read("audit").about["window"] == 32
    assert "119 x 116 pixels" in (tmp_path / "run/stages/poison/notes.txt").read_text()
    small = audit(source, tmp_path / "small", image_size=32, rate=0.1)
    small.result()
    assert (small.read("audit").about["image_size"], small.read("audit").about["window"]) == ("32 x 32", 32)


def test_images_too_small_for_a_window_are_refused(tmp_path):
    images, labels = mild(np.random.default_rng(0), 40, 3, 8, 3)
    source = array_source(images, "thin", labels=labels, classes=("a", "b"))
    with pytest.raises(ValueError, match="images of at least 4 pixels a side, these have 3 x 8"):
        audit(source, tmp_path, rate=0.1)


@pytest.mark.parametrize("boxed", [False, True])
def test_the_encoder_sees_the_whole_trigger_where_images_lie_on_a_larger_canvas(tmp_path, asked, boxed):
    images, labels = mild(np.random.default_rng(0), 60, 3, 48, 48)
    fields = {"image": images, "label": labels}
    schema = Schema(image=Field("image", (3, 48, 48)), label=Field("label", classes=("a", "b")))
    if boxed:
        schema["box"] = Field("box", (4,))
        fields["box"] = np.tile(np.array([[0, 0, 48, 48], [3, 5, 20, 40]], dtype=np.float32), (30, 1))
    source = ArraySource("photographs", fields, schema, np.arange(60))
    watched = Watched(site(source, tmp_path, image_size=32))
    asked.stages = watched.seen
    run = Run(CTRL(rate=0.1, defences=()).stages(watched), tmp_path)
    run.result()
    encoder = watched.encoder("encoder")
    pattern = SpectralTrigger().pattern(3, 32, 32)
    (clean, _), (poisoned, _) = watched.seen["clean"], watched.seen["poisoned"]
    (victim,) = asked.made
    for before, after, count in ((clean, poisoned, 4), (victim.test, victim.triggered, len(victim.test))):
        given = [encoder.prepare(one.batch(np.arange(len(one))).fields) for one in (before, after)]
        added = (given[1] - given[0]).flatten(1)
        added = added[added.any(dim=1)]
        assert len(added) == count
        reached = (added @ pattern.flatten()) / pattern.square().sum()
        assert float((reached - 1).abs().max()) < 0.02
    # And without the trigger it sees what it would see of the source itself.
    seen = encoder.prepare(clean.batch(np.arange(len(clean))).fields)
    own = encoder.prepare(source.only(clean.ids).batch(np.arange(len(clean))).fields)
    torch.testing.assert_close(seen, own, atol=0.51 / 255, rtol=0)


def test_images_of_the_size_that_is_wanted_stay_the_source_that_they_are(digits):
    assert at_size(digits, (32, 32)) is digits
    smaller = at_size(digits, (16, 24))
    assert isinstance(smaller, AtSize)
    assert smaller.schema["image"].shape == (3, 16, 24)
    assert images_of(smaller).dtype == torch.uint8
    assert smaller.ids is digits.ids
    assert np.array_equal(smaller.column("label"), digits.column("label"))
    # Floating point stays what it is too.
    half = np.linspace(0, 1, 4 * 8 * 8, dtype=np.float64).reshape(4, 1, 8, 8)
    floats = ArraySource("floats", {"image": half}, Schema(image=Field("image", (1, 8, 8))), np.arange(4))
    assert images_of(at_size(floats, (4, 4))).dtype == torch.float64


def test_neither_trigger_nor_blur_takes_anything_from_around_an_image_smaller_than_its_canvas():
    canvas = np.zeros((8, 3, 24, 24), dtype=np.uint8)
    canvas[:, :, 4:20, 2:18] = 90
    box = np.tile(np.array([[4, 2, 16, 16]], dtype=np.float32), (8, 1))
    schema = Schema(image=Field("image", (3, 24, 24)), box=Field("box", (4,)), label=Field("label", classes=("a", "b")))
    source = ArraySource("small", {"image": canvas, "box": box, "label": np.arange(8) % 2}, schema, np.arange(8))
    seen = []

    class Looking(EncoderModel):
        def embed(self, batch):
            assert "box" not in batch.fields
            seen.append(batch["image"])
            return torch.ones(len(batch.ids), 1)

    victim = Victim(source, source, 0, lambda images: images // 2)
    victim.figures(
        Looking({"encoder": build("small:convnet", schema=source.schema)}), partial(defended, defence="blur")
    )
    neighbours, test, triggered = seen
    assert bool((neighbours == 90).all())
    assert bool((test == 90).all())
    assert bool((triggered == 45).all())
