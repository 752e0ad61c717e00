"""evaluate: which labels are read, which arms are measured, how it goes on, and what it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autodidact.data import ArraySource, Field, Schema, Source, label_fraction, split
from autodidact.data.ids import row_ids
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel
from autodidact.evaluation.arms import Bench, baselines, pretrained
from autodidact.evaluation.finetune import Tuning, choose_rate, finetune, outputs
from autodidact.evaluation.hidden import Hidden
from autodidact.evaluation.measure import Measurement
from autodidact.evaluation.protocols import PROTOCOLS, choose
from autodidact.evaluation.random_encoder import random_model
from autodidact.evaluation.raw import raw_features
from autodidact.evaluation.table import Table
from autodidact.verbs.evaluate import evaluate

NETWORKS = Tuning(lr=3e-3, steps=12, batch_size=16, view="none", distill_steps=8, distill_batch=16, accelerator="cpu")


def stripes(n: int, seed: int, labels: np.ndarray | None = None, contrast: float = 60) -> ArraySource:
    """Images of horizontal (0), vertical (1) or no stripes (2), in noise; the labels may be replaced afterwards."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 3
    pattern = np.zeros((3, 8, 8))
    pattern[0, ::2] = pattern[1, :, ::2] = 1
    pixels = np.clip(110 + contrast * pattern[truth] + rng.normal(0, 40, (n, 8, 8)), 0, 255).astype(np.uint8)
    schema = Schema(image=Field("image", shape=(1, 8, 8)), label=Field("label", classes=("h", "v", "n")))
    fields = {"image": pixels[:, None], "label": (truth if labels is None else labels).astype(np.int64)}
    return ArraySource(f"stripes{seed}", fields, schema, row_ids("stripes", str(seed), n))


def model(width: int = 4) -> EncoderModel:
    torch.manual_seed(0)
    return EncoderModel({"encoder": build("small:convnet", image_size=8, channels=1, width=width)}).eval()


class Spy(Measurement):
    """Keeps every prediction, and draws from a source whose labels were not touched."""

    def __init__(self, train: Source, test: Source, honest: Source, labels: str = "3-per-class") -> None:
        super().__init__(Bench(train, test), "label", labels, NETWORKS)
        self.honest = honest
        self.predictions: list[list[int]] = []

    def draw(self, seed: int) -> Any:
        return label_fraction(self.honest, self.labels, seed)

    def score(self, predicted: np.ndarray) -> list[float]:
        self.predictions.append(predicted.tolist())
        return super().score(predicted)

    def everything(self) -> list[list[int]]:
        held = model()
        arms = {"pretrained": pretrained(held, self.bench), **baselines(("raw", "random", "scratch"), held, self.bench)}
        names = ("knn", "linear", "propagate", "finetune", "finetune+distill")
        self.run(arms, choose(names, "label"), [0], Table())
        return self.predictions


@pytest.fixture(scope="module")
def honest() -> list[list[int]]:
    return Spy(stripes(60, 0), stripes(30, 1), stripes(60, 0)).everything()


def test_every_arm_is_measured_by_every_protocol_that_fits_it(honest: list[list[int]]) -> None:
    # Two networks (pretrained, scratch) by two protocols, three sets of embeddings by three.
    assert len(honest) == 2 * 2 + 3 * 3
    assert all(len(set(predicted)) > 1 for predicted in honest[:3])


def test_no_prediction_depends_on_a_test_label(honest: list[list[int]]) -> None:
    shuffled = np.random.default_rng(3).permutation(np.arange(30) % 3)
    assert Spy(stripes(60, 0), stripes(30, 1, shuffled), stripes(60, 0)).everything() == honest


def test_no_prediction_depends_on_the_label_of_an_unlabelled_row(honest: list[list[int]]) -> None:
    truth = np.arange(60) % 3
    known = label_fraction(stripes(60, 0), "3-per-class", 0)
    rest = np.setdiff1d(np.arange(60), known)
    false = truth.copy()
    false[rest] = np.random.default_rng(3).permutation(truth[rest])
    assert (false != truth).sum() > 20
    assert Spy(stripes(60, 0, false), stripes(30, 1), stripes(60, 0)).everything() == honest


def test_predictions_do_depend_on_the_labels_of_the_budget(honest: list[list[int]]) -> None:
    turned = (np.arange(60) + 1) % 3
    assert Spy(stripes(60, 0, turned), stripes(30, 1), stripes(60, 0)).everything() != honest


def test_a_hidden_source_shows_no_answer() -> None:
    hidden = Hidden(stripes(6, 0))
    assert list(hidden.read(np.arange(2))) == ["image"]
    assert list(hidden.schema) == ["image"]
    with pytest.raises(ValueError, match="'label' is hidden here"):
        hidden.column("label")


def test_evaluation_goes_on_where_it_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = model()
    held.save(tmp_path / "run" / "model")
    options: dict[str, Any] = {
        "labels": "2-per-class", "protocols": "knn,linear", "baselines": "raw", "device": "cpu", "quiet": True
    }  # fmt: skip
    scored: list[str] = []
    whole = Measurement.score

    def failing(self: Measurement, predicted: np.ndarray) -> list[float]:
        if len(scored) == limit:
            raise KeyboardInterrupt
        scored.append("cell")
        return whole(self, predicted)

    monkeypatch.setattr(Measurement, "score", failing)
    limit = 3
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "run", stripes(90, 0), seeds=2, **options)
    limit = 1000
    table = evaluate(tmp_path / "run", stripes(90, 0), seeds=2, json=tmp_path / "t.json", **options)
    assert len(scored) == len(table) == 2 * 2 * 2
    again = evaluate(tmp_path / "run", stripes(90, 0), seeds=3, **options)
    assert len(scored) == len(again) == 2 * 2 * 3
    [file] = (tmp_path / "run" / "evaluations").iterdir()
    assert Table.load(file).values("raw", "knn")[:2] == Table.load(tmp_path / "t.json").values("raw", "knn")
    evaluate(tmp_path / "run", stripes(90, 0), seeds=1, fresh=True, **options)
    assert len(scored) == 2 * 2 * 4


def test_other_weights_are_another_evaluation(tmp_path: Path) -> None:
    held = model()
    options: dict[str, Any] = {"protocols": "knn", "baselines": "none", "seeds": 1, "device": "cpu", "quiet": True}
    for _ in range(2):
        held.save(tmp_path / "run" / "model")
        evaluate(tmp_path / "run", stripes(60, 0), **options)
        with torch.no_grad():
            next(held.parameters()).add_(1)
    assert len(list((tmp_path / "run" / "evaluations").iterdir())) == 2


def test_all_labels_give_the_same_figure_for_every_draw_of_a_protocol_without_chance() -> None:
    table = evaluate(model(), stripes(90, 0), protocols="knn", baselines="none", seeds=3, device="cpu", quiet=True)
    assert len(set(table.values("pretrained", "knn"))) == 1


def test_from_scratch_has_a_figure_even_where_no_network_protocol_was_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = evaluate(
        model(),
        stripes(60, 0),
        protocols="knn",
        baselines="scratch",
        seeds=1,
        tuning=NETWORKS,
        device="cpu",
    )
    assert len(table.values("scratch", "finetune")) == 1
    assert table.values("pretrained", "finetune") == []
    assert f"scratch, draw 0: training a network on 48 labels, {NETWORKS.steps} updates" in capsys.readouterr().err


def test_fine_tuning_learns_and_leaves_the_encoder_that_it_started_from_alone() -> None:
    held = model(8)
    before = {name: value.clone() for name, value in held.state_dict().items()}
    train, test = stripes(90, 0), stripes(60, 1)
    tuning = dataclasses.replace(NETWORKS, steps=80)
    made = finetune(held.encoder, train, pretrained=True, tuning=tuning, lr=3e-3, seed=0)
    assert (outputs(made, test, accelerator="cpu").argmax(1) == test.column("label")).mean() > 0.9
    assert all(torch.equal(value, before[name]) for name, value in held.state_dict().items())


def test_fine_tuning_starts_at_the_linear_probe() -> None:
    held, train = model(8), stripes(30, 0)
    tuning = dataclasses.replace(NETWORKS, steps=1)
    made = finetune(held.encoder, train, pretrained=True, tuning=tuning, lr=1e-12, seed=0)
    fresh = finetune(held.encoder, train, pretrained=False, tuning=tuning, lr=1e-12, seed=0)
    assert (outputs(made, train, accelerator="cpu").argmax(1) == train.column("label")).mean() > 0.7
    assert np.ptp(outputs(fresh, train, accelerator="cpu")) < 1e-6


def test_networks_are_read_out_as_the_model_embeds() -> None:
    source = regression()
    torch.manual_seed(0)
    held = EncoderModel({"encoder": build("small:tabular", schema=source.schema, width=8)}, tap="flat").eval()
    bench = Bench(source, source)
    assert pretrained(held, bench).read_out == "flat"
    assert baselines(("scratch",), held, bench)["scratch"].read_out == "flat"
    made = finetune(
        held.encoder, source.at(np.arange(20, 60)), pretrained=True, tuning=NETWORKS, lr=1e-3, seed=0, read_out="flat"
    )
    assert made.width == 4 * 8


def test_the_learning_rate_is_chosen_on_held_out_labels_where_there_are_enough() -> None:
    held = model()
    tuning = dataclasses.replace(NETWORKS, lr=None)
    few, why = choose_rate(lambda _: held.encoder, stripes(12, 0), pretrained=True, tuning=tuning, seed=0)
    assert (few, why.startswith("usual")) == (3e-4, True)
    said: list[str] = []
    _, why = choose_rate(
        lambda _: held.encoder, stripes(45, 0), pretrained=True, tuning=tuning, seed=0, say=said.append
    )
    assert why.endswith("on 45 held-out labels")
    assert said[0] == f"3 learning rates on held-out labels, 9 networks, {NETWORKS.steps} updates each"
    assert [line.split(" trained")[0] for line in said[1:]] == [f"network {k} of 9" for k in range(1, 10)]


def test_a_random_encoder_gets_batch_norm_statistics_of_the_training_rows() -> None:
    source = stripes(60, 0)
    made = random_model(model(), 7, source, np.arange(60))
    norm = next(module for module in made.modules() if isinstance(module, torch.nn.BatchNorm2d))
    first = next(module for module in made.modules() if isinstance(module, torch.nn.Conv2d))
    with torch.no_grad():
        images = made.encoder.normalise(made.encoder.prepare(source.batch(np.arange(60)).fields))  # type: ignore[union-attr,operator]
        seen = first(images)
    torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    assert not made.training


def test_raw_images_are_pixels_and_large_ones_are_reduced() -> None:
    source = stripes(6, 0)
    found = raw_features(source, np.arange(6))(source.batch(np.arange(6)))
    np.testing.assert_allclose(found, source.read(np.arange(6))["image"].flatten(1) / 255, atol=1e-6)  # type: ignore[union-attr]
    large = ArraySource(
        "l",
        {"image": torch.full((2, 1, 128, 64), 51, dtype=torch.uint8)},
        Schema(image=Field("image", shape=(1, 128, 64))),
        row_ids("l", "", 2),
    )
    found = raw_features(large, np.arange(2))(large.batch(np.arange(2)))
    assert found.shape == (2, 32 * 16)
    np.testing.assert_allclose(found, 0.2, atol=1e-5)


def mixed_table() -> ArraySource:
    numeric = np.array([[1, 5], [2, np.nan], [3, 5], [100, 5]], dtype=np.float32)
    categorical = np.array([[0], [2], [-1], [1]], dtype=np.int64)
    schema = Schema(
        numeric=Field("numeric", shape=(2,), columns=("a", "b")),
        categorical=Field("categorical", shape=(1,), columns=("c",), cardinalities=(3,)),
    )
    return ArraySource("t", {"numeric": numeric, "categorical": categorical}, schema, row_ids("t", "", 4))


def test_raw_tables_are_standardised_by_training_rows_with_gaps_marked_and_categories_one_hot() -> None:
    source = mixed_table()
    found = raw_features(source, np.arange(3))(source.batch(np.arange(4))).numpy()
    spread = np.sqrt(2 / 3)
    expected = [
        [-1 / spread, 0, 0, 1, 0, 0],
        [0, 0, 1, 0, 0, 1],
        [1 / spread, 0, 0, 0, 0, 0],
        [98 / spread, 0, 0, 0, 1, 0],
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def regression(n: int = 200) -> ArraySource:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    y = (500 + 40 * x[:, 0] + 10 * rng.normal(size=n)).astype(np.float32)
    y[:20] = np.nan
    schema = Schema(numeric=Field("numeric", shape=(4,), columns=tuple("abcd")), target=Field("target", unit="USD"))
    return ArraySource("r", {"numeric": x, "target": y}, schema, row_ids("r", "", n))


def test_a_number_is_regressed_and_scored_in_its_unit() -> None:
    source = regression()
    torch.manual_seed(0)
    held = EncoderModel({"encoder": build("small:mlp", schema=source.schema, width=16)}).eval()
    table = evaluate(
        held, source, labels="50%", seeds=2, baselines="raw,random", device="cpu", quiet=True, tuning=NETWORKS
    )
    assert table.metrics == ["regress r2", "regress rmse"]
    assert min(table.values("raw", "regress r2")) > 0.85
    assert 8 < table.mean_interval("raw", "regress rmse").mean < 14
    assert abs(table.about["labelled"] - 0.5 * 0.8 * 180) < 12


def test_data_without_a_label_for_the_test_rows_scores_only_those_that_have_one() -> None:
    labels = np.where(np.arange(30) < 10, -1, np.arange(30) % 3)
    table = evaluate(
        model(), stripes(60, 0), test=stripes(30, 1, labels), protocols="knn", baselines="none", seeds=1, quiet=True
    )
    assert table.about["tested"] == 20


def test_shifted_rows_stand_beside_the_test_rows_and_are_judged_as_if_they_were_test_data(tmp_path: Path) -> None:
    held, data, pale = model(), stripes(90, 0), stripes(30, 1, contrast=10)
    held.save(tmp_path / "run" / "model")
    options: dict[str, Any] = {
        "labels": "3-per-class", "protocols": "knn,linear", "baselines": "raw", "seeds": 2, "quiet": True
    }  # fmt: skip
    both = evaluate(tmp_path / "run", data, shift=pale, json=tmp_path / "t.json", **options)
    assert both.metrics == ["knn", "knn shift", "linear", "linear shift"]
    alone = evaluate(tmp_path / "run", data, **options)
    assert alone.metrics == ["knn", "linear"]
    train = split(data, {"train": 0.8, "test": 0.2}, by="label")["train"]
    elsewhere = evaluate(tmp_path / "run", train, test=pale, **options)
    for arm in ("raw", "pretrained"):
        for metric in ("knn", "linear"):
            assert both.values(arm, metric) == alone.values(arm, metric)
            assert both.values(arm, f"{metric} shift") == elsewhere.values(arm, metric)
    assert both.values("raw", "linear shift") != both.values("raw", "linear")
    assert (both.about["tested"], both.about["shifted"]) == (len(data) - len(train), 30)
    assert Table.load(tmp_path / "t.json") == both
    with pytest.raises(ValueError, match="60 of the 60 test samples are in the training data too"):
        evaluate(held, stripes(60, 0), test=stripes(30, 1), shift=stripes(60, 0), **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocols": "knn,linaer"}, "unknown protocol 'linaer'; did you mean 'linear'"),
        ({"protocols": "regress"}, "protocol 'regress' does not fit: the answers are classes"),
        ({"baselines": "scrach"}, "unknown baseline 'scrach'; did you mean 'scratch'"),
        ({"labels": "30-per-class"}, "asks for 30 samples of each class"),
        ({"labels": "lots"}, "labels 'lots' are not understood"),
        ({"seeds": 0}, "at least one draw"),
        ({"test": stripes(60, 0)}, "60 of the 60 test samples are in the training data too"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(model(), stripes(60, 0), **{"protocols": "knn", "quiet": True, **change})


def test_labels_of_one_class_and_no_labels_are_refused() -> None:
    one = stripes(30, 0, np.zeros(30))
    with pytest.raises(ValueError, match="all labels of 'stripes0' are 'h'"):
        evaluate(model(), one, protocols="knn", quiet=True)
    with pytest.raises(ValueError, match="needs a label or a target; this data has image"):
        evaluate(model(), Hidden(stripes(30, 0)), protocols="knn", quiet=True)


def test_a_stream_and_a_model_that_does_not_embed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = stripes(30, 0)
    monkeypatch.setattr(ArraySource, "streaming", True)
    with pytest.raises(ValueError, match="is a stream"):
        evaluate(model(), stream, protocols="knn", quiet=True)
    mute = model()
    mute.abilities = ()
    with pytest.raises(ValueError, match="cannot embed"):
        evaluate(mute, stream, protocols="knn", quiet=True)


def test_a_classification_protocol_on_a_number_names_the_fitting_ones() -> None:
    with pytest.raises(ValueError, match=r"'knn' does not fit: the answers are a number.*use regress"):
        choose(["knn"], "target")


def test_every_protocol_says_how_its_settings_come_about() -> None:
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert protocol.about.endswith(".")
