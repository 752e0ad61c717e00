"""Supervised training and distillation: their losses by hand, their start and end, and that they learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autodidact.data import ArraySource, Batch, Field, Schema, Store
from autodidact.data.ids import row_ids
from autodidact.encoders import build
from autodidact.encoders.kept import PredictorModel
from autodidact.methods.distilled import Distilled
from autodidact.methods.method import Progress
from autodidact.methods.supervised import Supervised
from autodidact.model import Model, load_model
from autodidact.training import Settings, train

CLASSES = Field("label", classes=("a", "b", "c"))
IMAGES = Schema(image=Field("image", shape=(1, 8, 8)), label=CLASSES)
QUICK = Settings(steps=60, batch_size=32, lr=3e-3, accelerator="cpu", devices=1)


def progress(seed: int = 0) -> Progress:
    return Progress(0, 10, 0, torch.Generator().manual_seed(seed))


def batch(labels: list[int], **more: Any) -> Batch:
    torch.manual_seed(0)
    pixels = torch.randint(0, 255, (len(labels), 1, 8, 8), dtype=torch.uint8)
    fields: dict[str, Any] = {"image": pixels, "label": torch.tensor(labels), **more}
    return Batch(torch.arange(len(labels)), fields)


def encoder() -> Any:
    torch.manual_seed(0)
    return build("small:convnet", image_size=8, channels=1, width=4)


def loss_of(method: Any, given: Batch) -> float:
    with torch.no_grad():
        return float(method.eval().loss(method.views(given, progress()), progress()).total)


def logits_of(method: Any, given: Batch) -> np.ndarray:
    with torch.no_grad():
        return method.predictor(method.encoder.prepare(given.fields)).double().numpy()


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def with_random_head(method: Any) -> Any:
    torch.nn.init.normal_(method.predictor.head.out.weight, generator=torch.Generator().manual_seed(3))
    return method.eval()


def test_cross_entropy_counts_known_labels_only() -> None:
    given = batch([0, -1, 2, 1, -1])
    method = with_random_head(Supervised(encoder(), schema=IMAGES, view="none"))
    log_p = log_softmax(logits_of(method, given))
    assert loss_of(method, given) == pytest.approx(-(log_p[0, 0] + log_p[2, 2] + log_p[3, 1]) / 3, rel=1e-5)


def test_label_smoothing_spreads_its_share_over_all_classes() -> None:
    given = batch([0, 2, 1])
    method = with_random_head(Supervised(encoder(), schema=IMAGES, view="none", label_smoothing=0.3))
    log_p = log_softmax(logits_of(method, given))
    wanted = 0.7 * np.eye(3)[[0, 2, 1]] + 0.1
    assert loss_of(method, given) == pytest.approx(-(wanted * log_p).sum(1).mean(), rel=1e-5)


def test_a_batch_without_any_label_moves_nothing() -> None:
    method = with_random_head(Supervised(encoder(), schema=IMAGES, view="none"))
    assert loss_of(method, batch([-1, -1, -1])) == 0.0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_is_hintons_cross_entropy(temperature: float) -> None:
    teacher = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])
    given = batch([0, -1], teacher=teacher)
    schema = Schema({**IMAGES, "teacher": Field("vector", shape=(3,))})
    method = with_random_head(Distilled(encoder(), schema=schema, view="none", temperature=temperature))
    log_s = log_softmax(logits_of(method, given) / temperature)
    soft = np.exp(log_softmax(teacher.double().numpy() / temperature))
    assert loss_of(method, given) == pytest.approx(-(soft * log_s).sum(1).mean() * temperature**2, rel=1e-5)


def test_label_share_mixes_in_the_known_labels() -> None:
    teacher = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])
    given = batch([2, -1], teacher=teacher)
    schema = Schema({**IMAGES, "teacher": Field("vector", shape=(3,))})
    method = with_random_head(Distilled(encoder(), schema=schema, view="none", label_share=0.25))
    log_s = log_softmax(logits_of(method, given))
    each = -(np.exp(log_softmax(teacher.double().numpy())) * log_s).sum(1)
    expected = (0.75 * each[0] - 0.25 * log_s[0, 2] + each[1]) / 2
    assert loss_of(method, given) == pytest.approx(expected, rel=1e-5)


def test_without_a_label_share_a_student_does_not_even_read_labels() -> None:
    given = batch([0, 1], teacher=torch.randn(2, 3))
    del given.fields["label"]
    schema = Schema({**IMAGES, "teacher": Field("vector", shape=(3,))})
    assert loss_of(Distilled(encoder(), schema=schema), given) > 0


def stripes(n: int = 192, seed: int = 0) -> ArraySource:
    """Images of horizontal (0), vertical (1) or no stripes (2), in noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    pattern = np.zeros((3, 8, 8))
    pattern[0, ::2] = pattern[1, :, ::2] = 1
    pixels = np.clip(110 + 60 * pattern[labels] + rng.normal(0, 25, (n, 8, 8)), 0, 255).astype(np.uint8)
    fields = {"image": pixels[:, None], "label": labels.astype(np.int64)}
    return ArraySource("stripes", fields, IMAGES, row_ids("stripes", "", n))


def accuracy(model: Model, source: ArraySource) -> float:
    with torch.no_grad():
        said = model.predict(source.batch(np.arange(len(source))))  # type: ignore[operator]
    return float((said.argmax(1).numpy() == source.column("label")).mean())


def test_supervised_training_learns_and_keeps_a_predictor_that_names_the_classes() -> None:
    model = train(Supervised(encoder(), schema=IMAGES, view="none"), stripes(), QUICK, quiet=True)
    assert isinstance(model, PredictorModel)
    assert model.classes == ("a", "b", "c")
    assert accuracy(model, stripes(seed=1)) > 0.9


def test_a_student_learns_its_teachers_predictions_without_labels() -> None:
    source = stripes()
    teacher = torch.from_numpy(6.0 * np.eye(3, dtype=np.float32)[source.column("label")])
    store = Store(name="teacher", schema={"teacher": Field("vector", shape=(3,)), "label": CLASSES})
    store.append(source.ids, teacher=teacher, label=np.full(len(source), -1))
    joined = source.joined(store)
    model = train(Distilled(encoder(), schema=joined.schema, view="none"), joined, QUICK, quiet=True)
    assert accuracy(model, stripes(seed=1)) > 0.9


def table(n: int = 256, missing: int = 0) -> ArraySource:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    y = (1000 + 50 * x[:, 0] - 30 * x[:, 1]).astype(np.float32)
    y[:missing] = np.nan
    schema = Schema(numeric=Field("numeric", shape=(3,), columns=("p", "q", "r")), target=Field("target"))
    return ArraySource("t", {"numeric": x, "target": y}, schema, row_ids("t", "", n))


def test_a_target_is_learned_in_its_own_unit_and_rows_without_one_do_not_count() -> None:
    source = table(missing=40)
    torch.manual_seed(0)
    net = build("small:mlp", schema=source.schema, width=32)
    method = Supervised(net, schema=source.schema)
    model = train(method, source, Settings(steps=150, batch_size=64, lr=3e-3, accelerator="cpu"), quiet=True)
    truth = source.column("target")[40:]
    assert float(model.mean) == pytest.approx(truth.mean(), rel=1e-4)  # type: ignore[arg-type]
    assert float(model.std) == pytest.approx(truth.std(), rel=1e-3)  # type: ignore[arg-type]
    with torch.no_grad():
        said = model.predict(source.batch(np.arange(40, 256))).numpy()  # type: ignore[operator]
    assert np.sqrt(((said - truth) ** 2).mean()) < 0.3 * truth.std()


def test_a_student_of_a_regression_learns_the_teachers_values() -> None:
    source = table()
    store = Store(name="teacher", schema={"teacher": Field("vector", shape=(1,)), "target": Field("target")})
    store.append(source.ids, teacher=2 * source.column("target")[:, None], target=np.full(256, np.nan, np.float32))
    joined = source.joined(store)
    torch.manual_seed(0)
    net = build("small:mlp", schema=source.schema, width=32)
    settings = Settings(steps=150, batch_size=64, lr=3e-3, accelerator="cpu")
    model = train(Distilled(net, schema=joined.schema), joined, settings, quiet=True)
    with torch.no_grad():
        said = model.predict(source.batch(np.arange(256))).numpy()  # type: ignore[operator]
    wanted = 2 * source.column("target")
    assert np.sqrt(((said - wanted) ** 2).mean()) < 0.3 * wanted.std()


def test_the_encoder_rests_while_only_the_head_learns() -> None:
    method = Supervised(encoder(), schema=IMAGES, view="none", head_first=1000)
    before = {name: value.clone() for name, value in method.encoder.named_parameters()}
    train(method, stripes(64), Settings(steps=3, batch_size=32, accelerator="cpu"), quiet=True)
    assert all(torch.equal(value, before[name]) for name, value in method.encoder.named_parameters())
    assert method.predictor.head.out.weight.abs().sum() > 0


@pytest.mark.parametrize(("read_out", "width"), [("pooled", 32), ("mean", 32), ("flat", 3 * 32), ("pooled+mean", 64)])
def test_a_head_reads_what_is_asked_and_says_the_same_when_loaded(read_out: Any, width: int, tmp_path: Path) -> None:
    source = table(64)
    torch.manual_seed(0)
    net = build("small:tabular", schema=source.schema, pool="reg")
    method = with_random_head(Supervised(net, schema=source.schema, read_out=read_out))
    model = method.kept()
    given = source.batch(np.arange(8))
    with torch.no_grad():
        encoded, embedding = net(net.prepare(given.fields)), model.embed(given)
        pooled, tokens = encoded.pooled, encoded.tokens
        sides = torch.cat([pooled, tokens.mean(1)], dim=1)
        named = {"pooled": pooled, "mean": tokens.mean(1), "flat": tokens.flatten(1), "pooled+mean": sides}
        expected = named[read_out]
        assert embedding.shape == (8, width)
        torch.testing.assert_close(embedding, expected)
        again = load_model(model.save(tmp_path))
        torch.testing.assert_close(again.predict(given), model.predict(given))  # type: ignore[operator]


def test_an_unknown_read_out_is_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'flat'"):
        Supervised(encoder(), schema=IMAGES, read_out="flatt")  # type: ignore[arg-type]


def test_the_head_can_start_from_a_probe() -> None:
    method = Supervised(encoder(), schema=IMAGES)
    weight, bias = torch.randn(3, method.encoder.width), torch.randn(3)
    method.start_head(weight, bias)
    embedding = torch.randn(5, method.encoder.width)
    torch.testing.assert_close(method.predictor.head.eval()(embedding), embedding @ weight.T + bias)


def test_auto_views_of_colour_images_are_mild_and_those_of_tables_absent() -> None:
    colour = build("small:convnet", image_size=16, channels=3, width=4)
    schema = Schema(image=Field("image", shape=(3, 16, 16)), label=CLASSES)
    augment = Supervised(colour, schema=schema).augment
    assert augment is not None
    assert (augment.jitter, augment.grey_p, augment.crop_scale) == ((0.0, 0.0, 0.0, 0.0), 0.0, (0.2, 1.0))
    source = table()
    assert Supervised(build("small:mlp", schema=source.schema), schema=source.schema).augment is None


@pytest.mark.parametrize(
    ("schema", "options", "message"),
    [
        (Schema(image=IMAGES["image"]), {}, "needs a label or a target"),
        (Schema(image=IMAGES["image"], label=Field("label", classes=("a",))), {}, "at least two"),
        (IMAGES, {"label_smoothing": 1.0}, r"label_smoothing is a share in \[0, 1\)"),
        (IMAGES, {"dropout": -0.1}, "dropout is a probability"),
        (IMAGES, {"view": "wek"}, "nearest: 'weak'|did you mean 'weak'"),
    ],
)
def test_what_cannot_be_learned_is_said(schema: Schema, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Supervised(encoder(), schema=schema, **options)


def test_a_student_without_a_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match="distillation needs a field 'teacher'"):
        Distilled(encoder(), schema=IMAGES)
