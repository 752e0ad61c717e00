"""SimCLR v2: pretraining, fine-tuning from inside the head, distillation; alone and in a row."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autodidact.data import Source, Store, open_source
from autodidact.data.schema import Field, Schema
from autodidact.encoders import build
from autodidact.encoders.kept import PredictorModel, ProjectedModel
from autodidact.methods.method import Progress
from autodidact.methods.supervised import Supervised
from autodidact.methods.two_views import augment_for
from autodidact.objectives.embeddings import NotFinite
from autodidact.recipes.simclrv2 import Pretraining, SimCLRv2, first_layers
from autodidact.recipes.stages import Run, Site
from autodidact.training import Settings

SHORT: dict[str, Any] = {"labels": "2-per-class", "finetune_steps": 4, "finetune_batch": 16}


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False).at(np.arange(200))


def site(source: Source, folder: Any, widths: tuple[int, int] = (4, 2), **settings: Any) -> Site:
    def encoder(slot: str) -> Any:
        torch.manual_seed(len(slot))
        return build("small:convnet", schema=source.schema, width=widths[slot == "student"])

    asked = {"steps": 4, "batch_size": 32, "accelerator": "cpu", "devices": 1, **settings}
    return Site(source, encoder, Settings(**asked), folder, quiet=True)


def run(source: Source, folder: Any, options: dict[str, Any], **settings: Any) -> Any:
    return Run(SimCLRv2(**options).stages(site(source, folder, **settings)), folder).result()


def same(a: nn.Module, b: nn.Module) -> bool:
    theirs = b.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in a.state_dict().items())


def test_it_ends_with_the_student_that_predicts_the_classes(digits, tmp_path):
    student = run(digits, tmp_path, SHORT)
    kinds = {path.parent.name: json.loads(path.read_text())["kind"] for path in tmp_path.glob("stages/*/done.json")}
    assert kinds == {"labels": "store", "pretrain": "model", "finetune": "model", "distill": "model"}
    assert isinstance(student, PredictorModel)
    assert student.encoder.width == 8
    said = student.predict(digits.batch(np.arange(5)))
    torch.testing.assert_close(said.sum(1), torch.ones(5))
    assert same(run(digits, tmp_path, SHORT), student)


def test_each_training_run_alone_gives_what_the_three_in_a_row_give(digits, tmp_path):
    whole = run(digits, tmp_path / "whole", SHORT)
    pretrained = run(digits, tmp_path / "a", {**SHORT, "until": "pretrain"}).save(tmp_path / "pretrained")
    tuned = run(digits, tmp_path / "b", {**SHORT, "until": "finetune", "pretrained": str(pretrained)})
    student = run(digits, tmp_path / "c", {**SHORT, "teacher": str(tuned.save(tmp_path / "tuned"))})
    assert same(student, whole)


def test_hidden_labels_are_never_read(digits, tmp_path):
    shown = run(digits, tmp_path / "shown", SHORT)
    store = Store(tmp_path / "shown" / "stages" / "labels" / "store")
    assert np.bincount(store.column("label") + 1).tolist() == [180] + [2] * 10
    assert store.schema["label"].classes == digits.schema["label"].classes
    unlabelled = run(digits.joined(store), tmp_path / "hidden", {**SHORT, "labels": "100%"})
    assert same(unlabelled, shown)


def test_a_larger_budget_holds_the_labels_of_a_smaller_one(digits, tmp_path):
    few, many = (
        Store(tmp_path / labels / "stages" / "labels" / "store")
        for labels in ("2-per-class", "5-per-class")
        if run(digits, tmp_path / labels, {**SHORT, "labels": labels, "until": "finetune"})
    )
    used = few.column("label") >= 0
    assert (few.column("label") == many.column("label"))[used].all()


def test_the_network_can_be_distilled_into_its_own_size_before_it_is_into_the_student(
    digits, tmp_path, cut_and_resumed
):
    def distilled(folder):
        return run(digits, folder, {**SHORT, "self_distilled": True}, checkpoint_steps=1)

    student = distilled(tmp_path / "whole")
    engine = Run(SimCLRv2(**SHORT).stages(site(digits, tmp_path / "whole")), tmp_path / "whole")
    assert engine.read("self-distill").encoder.width == 16
    assert student.encoder.width == 8
    assert len(engine.read("self-distill").neck) == 0
    assert same(cut_and_resumed(tmp_path / "whole", tmp_path / "cut", distilled, ["self-distill", "distill"]), student)


def pretrained(source: Source) -> ProjectedModel:
    torch.manual_seed(0)
    return Pretraining(build("small:convnet", schema=source.schema, width=4), layers=3, norm_last=True).kept()


@pytest.mark.parametrize(("layers", "width", "kept"), [(0, 16, 0), (1, 16, 3), (2, 16, 6), (3, 128, 8)])
def test_fine_tuning_keeps_the_head_up_to_a_layer_trains_all_and_starts_undecided(digits, layers, width, kept):
    model = pretrained(digits)
    method = Supervised(model.encoder, schema=digits.schema)
    method.keep_neck(*first_layers(model, layers))
    assert method.predictor.head.out.in_features == width
    assert len(method.predictor.neck) == kept
    assert all(same(a, b) for a, b in zip(method.predictor.neck, model.projector, strict=False))
    progress = Progress(0, 10, 0, torch.Generator().manual_seed(0))
    loss = method.loss(method.views(digits.batch(np.arange(20)), progress), progress).total.detach()
    assert float(loss) == pytest.approx(math.log(10), rel=1e-6)
    trained = {id(p) for group in method.groups() for p in group.parameters}
    expected = [*model.encoder.parameters(), *method.predictor.neck.parameters(), *method.predictor.head.parameters()]
    assert trained == {id(p) for p in expected}
    nn.init.normal_(method.predictor.head.out.weight)
    method.loss(method.views(digits.batch(np.arange(20)), progress), progress).total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in expected)


def test_the_projection_head_has_three_layers_the_last_with_a_norm_that_does_not_shift(digits):
    model = pretrained(digits)
    shapes = [tuple(p.weight.shape) for p in model.projector if isinstance(p, nn.Linear)]
    assert shapes == [(16, 16), (16, 16), (128, 16)]
    assert all(p.bias is None for p in model.projector if isinstance(p, nn.Linear))
    norms = [p for p in model.projector if isinstance(p, nn.BatchNorm1d)]
    assert [norm.bias is not None for norm in norms] == [True, True, False]
    assert all(norm.weight is not None for norm in norms)


def test_nan_images_and_a_single_pair_stop_pretraining(digits):
    method = Pretraining(build("small:convnet", schema=digits.schema, width=4), layers=3, norm_last=True)
    progress = Progress(0, 10, 0, torch.Generator().manual_seed(0))
    views = method.views(digits.batch(np.arange(8)), progress)
    views.named["a"][0] = math.nan
    with pytest.raises(NotFinite, match="NaN"):
        method.loss(views, progress)
    single = method.views(digits.batch(np.arange(1)), progress)
    with pytest.raises(ValueError, match="at least 2 pairs"):
        method.loss(single, progress)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"head_layers": 4}, "head_layers is a number of the 3 layers of the projector, got 4"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"distill_temperature": -1.0}, "distill_temperature must be positive"),
        ({"labels": "ten"}, "labels 'ten' are not understood"),
        ({"until": "finetuning"}, "did you mean 'finetune'"),
        ({"teacher": "x", "until": "finetune"}, "a teacher is there to be distilled"),
        ({"pretrained": "x", "until": "pretrain"}, "nothing left to do"),
        ({"finetune_steps": -1}, "must not be negative"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        SimCLRv2(**options)


def test_a_class_without_a_label_is_said_before_anything_is_trained(digits, tmp_path):
    store = Store(name="few", schema={"label": digits.schema["label"]})
    labels = np.asarray(digits.column("label"))
    store.append(digits.ids, label=np.where(labels == 3, -1, labels))
    with pytest.raises(ValueError, match="known to be '3': label at least one of every class"):
        run(digits.joined(store), tmp_path, SHORT)
    assert not (tmp_path / "stages" / "pretrain").exists()


def test_data_without_classes_can_only_be_pretrained_on(digits, tmp_path):
    bare = digits.without("label")
    with pytest.raises(ValueError, match="needs a label or a target"):
        run(bare, tmp_path / "a", SHORT)
    assert isinstance(run(bare, tmp_path / "b", {"until": "pretrain"}), ProjectedModel)
    store = Store(name="numbers", schema={"target": Field("target")})
    store.append(digits.ids, target=np.zeros(200, np.float32))
    with pytest.raises(ValueError, match="SimCLR v2 learns classes; 'target' of"):
        run(bare.joined(store), tmp_path / "c", SHORT)


def test_how_many_labels_are_used_is_said(digits, tmp_path):
    store = Store(name="some", schema={"label": digits.schema["label"]})
    store.append(digits.ids, label=np.where(np.arange(200) < 30, -1, np.asarray(digits.column("label"))))
    run(digits.joined(store), tmp_path, {**SHORT, "until": "finetune"})
    notes = (tmp_path / "stages" / "labels" / "notes.txt").read_text()
    said = "20 of 170 known labels are used, 2 to 2 of a class; 30 of 200 images have no label\n"
    assert notes == said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"finetune_view": "nonsense"}, "nonsense"),
        ({"finetune_lr": -1.0}, "lr"),
        ({"finetune_batch": 1}, "finetune_batch must be at least 2"),
        ({"label_share": 2.0}, "label_share lies in"),
        ({"dimensions": 0}, "a width of at least 1, got 16 inside and 0 at the end"),
    ],
)
def test_what_a_later_training_refuses_is_refused_before_the_first(digits, tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        run(digits, tmp_path, {**SHORT, **options})
    assert not list(tmp_path.glob("stages/*/checkpoints"))


def test_a_student_that_cannot_be_built_is_refused_before_the_first_training(digits, tmp_path):
    usual = site(digits, tmp_path)

    def encoder(slot):
        if slot == "student":
            raise ValueError("no such encoder")
        return usual.encoder(slot)

    place = Site(usual.source, encoder, usual.settings, tmp_path, quiet=True)
    with pytest.raises(ValueError, match="no such encoder"):
        SimCLRv2(**SHORT).stages(place)


class Watching(Site):
    """Remembers what every training is given, as it is before it."""

    def train(self, stage, method, source, settings=None, **more):
        self.seen = {**getattr(self, "seen", {}), stage: (copy.deepcopy(method), settings or self.settings)}
        return super().train(stage, method, source, settings, **more)


def test_each_training_gets_the_networks_and_options_that_are_asked_for(digits, tmp_path):
    options = {
        "labels": "2-per-class",
        "head_layers": 2,
        "temperature": 0.3,
        "dimensions": 24,
        "view": "weak",
        "finetune_steps": 7,
        "finetune_batch": 12,
        "finetune_lr": 0.02,
        "finetune_view": "tiny",
        "distill_steps": 5,
        "distill_temperature": 3.0,
        "label_share": 0.25,
    }
    usual = site(digits, tmp_path)
    place = Watching(usual.source, usual.encoder, usual.settings, tmp_path, quiet=True)
    engine = Run(SimCLRv2(**options).stages(place), tmp_path)
    engine.result()
    first, tuning, distilling = (place.seen[stage] for stage in ("pretrain", "finetune", "distill"))
    assert first[0].temperature == 0.3
    shapes = [tuple(p.weight.shape) for p in first[0].projector if isinstance(p, nn.Linear)]
    assert shapes == [(16, 16), (16, 16), (24, 16)]
    norms = [p for p in first[0].projector if isinstance(p, nn.BatchNorm1d)]
    assert [norm.bias is not None for norm in norms] == [True, True, False]
    assert engine.read("pretrain").head_args == {**first[0].head_args, "layers": 3}

    pretrained = engine.read("pretrain")
    assert same(tuning[0].predictor.encoder, pretrained.encoder)
    assert not same(tuning[0].predictor.encoder, place.encoder("encoder"))
    assert len(tuning[0].predictor.neck) == 6
    assert all(same(a, b) for a, b in zip(tuning[0].predictor.neck, pretrained.projector, strict=False))
    assert (tuning[1].steps, tuning[1].batch_size, tuning[1].lr) == (7, 12, 0.02)
    assert (tuning[1].optimizer, tuning[1].weight_decay, tuning[1].warmup) == ("adamw", 0.0, 0.0)

    assert same(distilling[0].teacher.module, engine.read("finetune"))
    assert (distilling[0].temperature, distilling[0].label_share, distilling[1].steps) == (3.0, 0.25, 5)
    weak, tiny = (augment_for(place.encoder("encoder"), view) for view in ("weak", "tiny"))
    assert first[0].augments == (weak, weak)
    assert tuning[0].augment == distilling[0].augment == tiny != weak


def test_the_encoder_of_a_classifier_may_stand_for_pretraining_without_a_head(digits, tmp_path):
    bare = Supervised(build("small:convnet", schema=digits.schema, width=4), schema=digits.schema).kept()
    folder = str(bare.save(tmp_path / "predictor"))
    tuned = {**SHORT, "pretrained": folder, "head_layers": 0, "until": "finetune"}
    assert isinstance(run(digits, tmp_path / "run", tuned), PredictorModel)


def test_models_from_elsewhere_must_bring_what_the_next_training_needs(digits, tmp_path):
    bare = str(
        Supervised(build("small:convnet", schema=digits.schema, width=4), schema=digits.schema)
        .kept()
        .save(tmp_path / "predictor")
    )
    whole = str(pretrained(digits).save(tmp_path / "pretrained"))
    with pytest.raises(ValueError, match="holds no projection head"):
        run(digits, tmp_path / "a", {**SHORT, "pretrained": bare})
    with pytest.raises(ValueError, match="has 3 layers, not 4"):
        run(digits, tmp_path / "b", {**SHORT, "pretrained": whole, "projector_layers": 5, "head_layers": 4})
    with pytest.raises(ValueError, match="a teacher must predict classes; the projected"):
        run(digits, tmp_path / "c", {**SHORT, "teacher": whole})
    colour = Schema({**digits.schema, "image": Field("image", (3, 8, 8))})
    other = Supervised(build("small:convnet", schema=colour, width=4), schema=colour).kept().save(tmp_path / "colour")
    with pytest.raises(ValueError, match="built for images of 3 channels"):
        run(digits, tmp_path / "d", {**SHORT, "teacher": str(other)})


def test_from_five_labels_a_class_the_student_learns_to_tell_digits_apart(tmp_path):
    source = open_source("digits", progress=False)
    train, test = source.at(np.arange(1200)), source.at(np.arange(1200, 1797))
    options = {"labels": "5-per-class", "finetune_steps": 60, "finetune_lr": 3e-3, "distill_steps": 200}
    student = run(train, tmp_path, options, widths=(8, 8), steps=100, batch_size=64, lr=5e-3)
    with torch.no_grad():
        said = student.predict(test.batch(np.arange(len(test)))).argmax(1).numpy()
    assert (said == np.asarray(test.column("label"))).mean() > 0.5
