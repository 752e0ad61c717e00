"""Distillation of what a teacher says of the student's own view."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from autodidact.data import Source, Store, open_source
from autodidact.data.schema import Field, Schema
from autodidact.encoders import build
from autodidact.encoders.kept import PredictorModel
from autodidact.methods.distilled import Distilled, SameViewDistilled
from autodidact.methods.method import Progress
from autodidact.objectives import distillation
from autodidact.training import Settings, train
from autodidact.views import eval_view


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False).at(np.arange(64))


def encoder(source: Source, width: int = 4, **more: Any) -> Any:
    torch.manual_seed(width)
    return build("small:convnet", schema=source.schema, width=width, **more)


def teacher(source: Source, **more: Any) -> PredictorModel:
    model = PredictorModel(encoder(source, 8, **more), classes=source.schema["label"].classes)
    torch.nn.init.normal_(model.head.out.weight, generator=torch.Generator().manual_seed(0))
    return model.train()


def progress(step: int = 0) -> Progress:
    return Progress(step, 10, 0, torch.Generator().manual_seed(step))


def test_both_see_one_crop_and_the_loss_compares_what_they_say_of_it(digits: Source) -> None:
    knows = teacher(digits)
    method = SameViewDistilled(encoder(digits), schema=digits.schema, teacher=knows, temperature=2.0)
    torch.nn.init.normal_(method.predictor.head.out.weight)
    batch = digits.batch(np.arange(16))
    views = method.views(batch, progress())
    assert torch.equal(views["shown"], views["input"])
    assert not torch.equal(views["input"], method.encoder.prepare(batch.fields))
    expected = distillation(method.predictor(views["input"]), knows.eval()(views["input"]), 2.0).mean()
    torch.testing.assert_close(method.loss(views, progress()).total, expected)


def test_a_teacher_of_larger_images_sees_the_same_crop_resized(digits: Source) -> None:
    method = SameViewDistilled(encoder(digits), schema=digits.schema, teacher=teacher(digits, image_size=16))
    views = method.views(digits.batch(np.arange(4)), progress())
    assert torch.equal(views["shown"], eval_view(views["input"], 16))
    assert views["input"].shape[2:] == (8, 8)


def test_training_moves_the_student_and_nothing_of_the_teacher(digits: Source) -> None:
    knows = teacher(digits)
    before = copy.deepcopy(knows.state_dict())
    method = SameViewDistilled(encoder(digits), schema=digits.schema, teacher=knows)
    student = copy.deepcopy(method.predictor.state_dict())
    settings = Settings(steps=3, batch_size=16, accelerator="cpu", devices=1)
    model = train(method, digits, settings, quiet=True)
    assert all(torch.equal(value, before[name]) for name, value in method.teacher.module.state_dict().items())
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    assert any(not torch.equal(value, student[name]) for name, value in model.state_dict().items())
    assert "teacher" not in "".join(model.state_dict())


def test_known_labels_may_be_mixed_in(digits: Source) -> None:
    alone, mixed = (
        SameViewDistilled(encoder(digits), schema=digits.schema, teacher=teacher(digits), label_share=share)
        for share in (0.0, 0.5)
    )
    batch = digits.batch(np.arange(10))
    batch.fields["label"][5:] = -1
    taught = alone.loss(alone.views(batch, progress()), progress()).total
    # A fresh student says 1/10 of every class, so a label costs log 10.
    views = mixed.views(batch, progress())
    each = distillation(torch.zeros(10, 10), mixed.teacher(views["shown"]))
    expected = (0.5 * each[:5].sum() + 5 * 0.5 * np.log(10) + each[5:].sum()) / 10
    torch.testing.assert_close(mixed.loss(views, progress()).total, expected)
    torch.testing.assert_close(taught, each.mean())


def test_teacher_and_student_must_know_the_same_classes(digits: Source) -> None:
    few = PredictorModel(encoder(digits, 8), classes=("0", "1"))
    with pytest.raises(ValueError, match=r"the same classes; the teacher knows 2 \(0, 1\), the student 10"):
        SameViewDistilled(encoder(digits), schema=digits.schema, teacher=few)
    value = PredictorModel(encoder(digits, 8))
    with pytest.raises(ValueError, match="the teacher knows none"):
        SameViewDistilled(encoder(digits), schema=digits.schema, teacher=value)


def test_a_store_of_another_number_of_classes_is_refused_before_training(digits: Source) -> None:
    store = Store(name="teacher", schema={"teacher": Field("vector", shape=(7,))})
    store.append(digits.ids, teacher=torch.zeros(64, 7))
    with pytest.raises(ValueError, match="says 7 values of a sample, the student knows 10 classes"):
        Distilled(encoder(digits), schema=digits.joined(store).schema)


def test_a_teacher_that_cannot_read_the_data_is_refused(digits: Source) -> None:
    colour = Schema({**digits.schema, "image": Field("image", (3, 8, 8))})
    student = build("small:convnet", schema=colour, width=4)
    with pytest.raises(ValueError, match="built for images of 1 channels, these have 3"):
        SameViewDistilled(student, schema=colour, teacher=teacher(digits))
