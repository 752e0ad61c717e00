"""SLA and what it is compared with: what each descends on, what takes a gradient, and what it repairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from autodidact.data import ArraySource, Batch, Field, Schema, Source, open_source
from autodidact.encoders import build
from autodidact.methods.image.sla import SLA
from autodidact.methods.method import Progress
from autodidact.methods.supervised import Supervised
from autodidact.training import Settings, train

CLASSES = Field("label", classes=("a", "b", "c"))
IMAGES = Schema(image=Field("image", shape=(1, 8, 8)), label=CLASSES)
LABELS = [0, 2, 1, 1, 2, 0]


def encoder(channels: int = 1, side: Any = 8) -> Any:
    torch.manual_seed(0)
    return build("small:convnet", image_size=side, channels=channels, width=4)


def progress() -> Progress:
    return Progress(0, 10, 0, torch.Generator().manual_seed(0))


def batch(labels: list[int] = LABELS) -> Batch:
    pixels = torch.randint(
        0, 256, (len(labels), 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return Batch(torch.arange(len(labels)), {"image": pixels, "label": torch.tensor(labels)})


def sla(**options: Any) -> SLA:
    """With heads away from zero and batch norms that change nothing between calls, in float64."""
    method = SLA(encoder(), schema=IMAGES, **{"view": "none", **options})
    generator = torch.Generator().manual_seed(3)
    for name, weight in method.named_parameters():
        if name.endswith("out.weight"):
            torch.nn.init.normal_(weight, generator=generator)
    return method.double().eval()


def loss_of(method: Any, given: Batch | None = None) -> Any:
    views = method.views(given or batch(), progress())
    views.named["input"] = views["input"].double()
    return method.loss(views, progress())


def turned(method: SLA, given: Batch) -> list[Tensor]:
    """Embeddings of the four turns."""
    images = given["image"] / 255
    return [method.encoder(torch.rot90(images, j, (2, 3)).double()).pooled for j in range(4)]


def test_joint_loss_classifies_every_copy_by_class_and_turn() -> None:
    method = sla()
    labels = torch.tensor(LABELS)
    each = [cross_entropy(method.model.head(h), labels * 4 + j) for j, h in enumerate(turned(method, batch()))]
    torch.testing.assert_close(loss_of(method).total, sum(each) / 4, rtol=1e-6, atol=0)


def test_separate_loss_has_a_head_for_the_class_and_one_for_the_turn() -> None:
    method = sla(task="separate")
    labels, one = torch.tensor(LABELS), torch.ones(6, dtype=torch.long)
    each = [
        cross_entropy(method.model.head(h), labels) + cross_entropy(method.which(h), j * one)
        for j, h in enumerate(turned(method, batch()))
    ]
    torch.testing.assert_close(loss_of(method).total, sum(each) / 4, rtol=1e-6, atol=0)


def test_invariant_loss_gives_every_copy_the_label_of_its_image() -> None:
    method = sla(task="invariant")
    each = [cross_entropy(method.model.head(h), torch.tensor(LABELS)) for h in turned(method, batch())]
    torch.testing.assert_close(loss_of(method).total, sum(each) / 4, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "options", [{"task": "plain", "inference": "single"}, {"transformations": "identity"}, {"task": "plain"}]
)
def test_without_copies_it_is_supervised_training(options: dict[str, Any]) -> None:
    method = sla(**{"inference": "single", **options})
    baseline = Supervised(encoder(), schema=IMAGES, view="none").double().eval()
    baseline.predictor.head.load_state_dict(method.model.head.state_dict())
    ours, theirs = loss_of(method).total, loss_of(baseline).total
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-6, atol=0)
    ours.backward()
    theirs.backward()
    for mine, other in zip(method.encoder.parameters(), baseline.encoder.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-7)
    with torch.no_grad():
        inputs = batch()["image"].double() / 255
        torch.testing.assert_close(method.model(inputs), baseline.predictor(inputs))


@pytest.mark.parametrize(("over_copies", "times"), [("mean", 1), ("sum", 4)])
def test_distilled_loss_adds_the_labels_and_the_aggregated_copies_to_the_second_head(
    over_copies: Any, times: int
) -> None:
    """The authors' ``--with-large-loss`` multiplies the joint loss alone."""
    method = sla(inference="distilled", beta=0.7, temperature=2.0, over_copies=over_copies)
    labels, copies = torch.tensor(LABELS), turned(method, batch())
    joint = sum(cross_entropy(method.model.head(h), labels * 4 + j) for j, h in enumerate(copies)) / 4
    together = sum(method.model.head(h).view(6, 3, 4)[:, :, j] for j, h in enumerate(copies)) / 4
    said = method.model.second(copies[0])
    distance = -((together / 2).softmax(1) * (said / 2).log_softmax(1)).sum(1).mean()
    expected = times * joint + cross_entropy(said, labels) + 0.7 * 4 * distance
    torch.testing.assert_close(loss_of(method).total, expected, rtol=1e-6, atol=0)


def test_the_distillation_sends_no_gradient_into_the_joint_head() -> None:
    method = sla(inference="distilled")
    loss_of(method).terms["distillation"].backward()
    assert method.model.head.out.weight.grad is None
    assert method.model.second.out.weight.grad.abs().sum() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in method.encoder.parameters())


def test_the_sum_over_copies_is_m_times_their_mean() -> None:
    one, all_four = sla(), sla(over_copies="sum")
    torch.testing.assert_close(loss_of(all_four).total, 4 * loss_of(one).total)


@pytest.mark.parametrize("task", ["joint", "separate", "invariant"])
def test_samples_without_a_label_are_left_out_and_counted(task: Any) -> None:
    method = sla(task=task)
    some = batch([0, -1, 1, 1, -1, 0])
    known = some.select(torch.tensor([0, 2, 3, 5]))
    loss = loss_of(method, some)
    torch.testing.assert_close(loss.total, loss_of(method, known).total)
    assert float(loss.terms["labelled"]) == pytest.approx(4 / 6)


def test_copies_are_made_of_the_augmented_image() -> None:
    views = SLA(encoder(), schema=IMAGES, view="tiny").views(batch(), progress())["input"]
    again = SLA(encoder(), schema=IMAGES, view="tiny", task="plain", inference="single").views(batch(), progress())
    assert torch.equal(views[::4], again["input"])
    assert torch.equal(views[1::4], torch.rot90(again["input"], 1, (2, 3)))


@pytest.mark.usefixtures("wrong_types")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": "multitask"}, "unknown task 'multitask'"),
        ({"task": "plain"}, "inference must be 'single', got 'aggregated'"),
        ({"inference": "average"}, "unknown inference 'average'"),
        ({"transformations": "colour3"}, "'colour3' needs 3 channels, got 1"),
        ({"transformations": "rotations"}, "nearest: 'rotation'"),
        ({"beta": -1.0}, "beta must not be negative"),
        ({"temperature": 0.0}, "temperature positive"),
        ({"over_copies": "all"}, "over_copies is 'mean' or 'sum'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SLA(encoder(), schema=IMAGES, **options)


def test_data_that_it_cannot_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="needs square images, got 8 x 12 pixels"):
        SLA(encoder(side=(8, 12)), schema=IMAGES)
    target = Schema(image=IMAGES["image"], target=Field("target"))
    with pytest.raises(ValueError, match="share a class, not a value"):
        SLA(encoder(), schema=target)
    with pytest.raises(ValueError, match="labels must be 0 to 2, or -1 where unknown; got 3"):
        loss_of(sla(), batch([0, 1, 3]))
    table = Schema(numeric=Field("numeric", shape=(2,), columns=("p", "q")), label=CLASSES)
    method = SLA(build("small:mlp", schema=table), schema=table)
    rows = Batch(torch.arange(2), {"numeric": torch.zeros(2, 2), "label": torch.tensor([0, 1])})
    with pytest.raises(ValueError, match="input is one tensor"):
        method.views(rows, progress())


def few_digits() -> tuple[ArraySource | Source, Source]:
    digits = open_source("digits", progress=False)
    labels = np.asarray(digits.column("label"))
    order = np.random.default_rng(0).permutation(len(labels))
    chosen = np.concatenate([order[labels[order] == c][:10] for c in range(10)])
    return digits.at(chosen), digits.at(np.setdiff1d(order, chosen))


def accuracy(source: Source, test: Source, **options: Any) -> float:
    torch.manual_seed(0)
    network = build("small:convnet", schema=source.schema, width=4)
    method = SLA(network, schema=source.schema, view="none", **options)
    model = train(method, source, Settings(steps=100, batch_size=32, lr=1e-2, accelerator="cpu"), quiet=True)
    with torch.no_grad():
        said = model.predict(test.batch(np.arange(len(test))))  # type: ignore[operator]
    return float((said.argmax(1).numpy() == test.column("label")).mean())


def test_joint_labels_repair_what_invariance_to_rotation_breaks_in_digits() -> None:
    source, test = few_digits()
    invariant = accuracy(source, test, task="invariant")
    assert accuracy(source, test) > invariant + 0.05
