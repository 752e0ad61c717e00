"""The parts of the report: text, figures, looks, samples, neighbours, maps, and methods brought back."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from report_runs import CLASSES, image_source, table_source
from torch import Tensor

from autodidact.data import ArraySource, Batch, Field, Schema
from autodidact.data.stream import StreamSource
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel
from autodidact.model import Model, load_model
from autodidact.model.model import embed
from autodidact.report import cloud, geometry
from autodidact.report.attention import attention, looked_at
from autodidact.report.figures import Chart, Line, chart, scatter
from autodidact.report.geometry import in_own_span, maps, shape_of
from autodidact.report.looks import SIDE, columns, looks, thumbnail
from autodidact.report.markup import duration, number, text, visible
from autodidact.report.neighbours import queries, without_self
from autodidact.report.parts import parts, tree_picture
from autodidact.report.rehearsal import rehearsed, scene
from autodidact.report.run_folder import read_run
from autodidact.report.samples import Samples, embedded
from autodidact.training import checkpoint as checkpoints


class Identity(Model):
    """Embeds a vector as itself."""

    kind = "identity"
    abilities = ("embed",)

    @classmethod
    def from_settings(cls, settings: Any) -> Identity:
        return cls()

    def embed(self, batch: Batch) -> Tensor:
        return batch["vector"]


def vectors(rows: np.ndarray, labels: np.ndarray | None = None) -> ArraySource:
    schema = Schema(vector=Field("vector", rows.shape[1:]))
    fields: dict[str, Any] = {"vector": rows.astype(np.float32)}
    if labels is not None:
        schema["label"], fields["label"] = Field("label", classes=CLASSES), labels
    return ArraySource("vectors", fields, schema, np.arange(len(rows)))


@given(st.text(st.characters(codec=None), max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_is_shown_on_one_line_and_reads_back_the_same(given_text: str) -> None:
    shown = visible(given_text)
    assert len(shown) <= 80
    assert shown.encode("utf-8").decode() == shown
    assert "\n" not in shown
    assert html.unescape(text(given_text)) == shown
    assert not set(text(given_text)) & set("<>\"'")


def test_long_text_loses_its_middle() -> None:
    assert visible("a" * 50 + "b" * 50, 11) == "aaaaa…bbbbb"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.12345, "0.123"), (-3.14159, "-3.14"), (12345.6, "12,346"), (1e-7, "1.0e-07"), (2.5e9, "2.5e+09")],
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(4.23, "4.2 s"), (42, "42 s"), (60, "1 min"), (185, "3 min 5 s"), (7_800, "2 h 10 min"), (100_800, "1 day 4 h")],
)
def test_durations_are_given_in_the_two_largest_units(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_figure_takes_its_colours_from_the_page_and_names_nothing_outside() -> None:
    drawn = chart(Chart([Line([1, 2, 3], [3, 2, 1], "a"), Line([1, 3], [1, 2], "b")], "x", "y"), "key", "falls")
    assert "var(--accent)" in drawn
    assert "var(--second)" in drawn
    # No colour of the drawing's own is left, so nothing is black on black in the dark scheme.
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawn)) <= set()
    assert "http" not in drawn
    assert "<style" not in drawn
    assert all(name.startswith("key-") for name in re.findall(r' id="([^"]*)"', drawn))


def test_text_in_figures_is_text_and_never_a_formula() -> None:
    points = np.random.default_rng(0).normal(size=(20, 2))
    drawn = scatter(points, "k", "map", groups=np.zeros(20, dtype=np.int64), names=["$\\frac{<b>$"])
    assert "$\\frac{&lt;b&gt;$" in drawn


def test_small_exponents_on_a_logarithmic_axis_are_plain_text() -> None:
    drawn = chart(Chart([Line([1, 2, 3], [1, 0.1, 0.01])], "x", "y", log=True), "key", "falls")
    assert "mathdefault" not in drawn
    assert ">0.1</text>" in drawn


def test_a_picture_is_cut_to_its_box_and_keeps_its_shape() -> None:
    canvas = torch.zeros(1, 200, 200, dtype=torch.uint8)
    canvas[:, 10:110, 20:70] = 255
    shown = thumbnail(canvas, torch.tensor([10.0, 20.0, 100.0, 50.0]))
    assert shown.shape == (SIDE, SIDE // 2)
    assert (shown == 255).all()


def test_pictures_of_numbers_are_clipped_to_the_range_of_an_image() -> None:
    shown = thumbnail(torch.tensor([[[-1.0, 0.0, 0.5, 1.0, 7.0, float("nan")]]]))
    assert shown.tolist() == [[0, 0, 128, 255, 255, 0]]


@pytest.mark.parametrize(("channels", "shape"), [(1, (4, 4)), (2, (4, 4)), (3, (4, 4, 3)), (5, (4, 4, 3))])
def test_pictures_of_any_number_of_channels_are_shown(channels: int, shape: tuple[int, ...]) -> None:
    assert thumbnail(torch.zeros(channels, 4, 4, dtype=torch.uint8)).shape == shape


def test_cells_of_a_row_show_names_dates_and_gaps() -> None:
    schema = Schema(
        numeric=Field("numeric", (2,), columns=("price", "born"), units=("USD", "days")),
        categorical=Field("categorical", (1,), columns=("colour",), cardinalities=(2,), categories=(("red", "green"),)),
    )
    batch = Batch(
        torch.arange(2),
        {
            "numeric": torch.tensor([[1234.5, 0.0], [float("nan"), 366.0]]),
            "categorical": torch.tensor([[1], [-1]]),
        },
    )
    assert columns(schema) == ["price", "born", "colour"]
    assert [look.cells for look in looks(batch, schema)] == [("1,234", "1970-01-01", "green"), ("–", "1971-01-02", "–")]


def test_texts_are_shown_by_their_beginning() -> None:
    batch = Batch(torch.arange(2), {"text": ["short", "x" * 1000]})
    shown = looks(batch, Schema(text=Field("text")))
    assert shown[0].words == "short"
    assert shown[1].words == "x" * 160


def test_samples_are_embedded_in_a_fixed_random_order_with_their_labels() -> None:
    rows, labels = np.arange(600.0).reshape(300, 2), np.arange(300) % 3
    found = embedded(Identity(), vectors(rows, labels), most=200)
    order = (found.embeddings[:, 0] / 2).long().numpy()
    assert len(found) == 200
    assert found.of == 300
    assert len(set(order.tolist())) == 200
    assert not (np.diff(order) > 0).all()
    assert (found.labels == labels[order]).all()
    assert found.names == [str(i) for i in order]
    assert torch.equal(found.embeddings, embedded(Identity(), vectors(rows, labels), most=200).embeddings)


def test_embedding_stops_when_time_is_up() -> None:
    found = embedded(Identity(), vectors(np.ones((1_000, 2))), seconds=0.0)
    assert 0 < len(found) < 1_000


def test_labels_that_are_all_unknown_count_as_none() -> None:
    assert embedded(Identity(), vectors(np.ones((5, 2)), np.full(5, -1))).labels is None


def samples(rows: np.ndarray, labels: np.ndarray | None = None) -> Samples:
    return embedded(Identity(), vectors(rows, labels))


class Photos(StreamSource):
    """Grey images in sequence; the second cannot be read."""

    def __init__(self, count: int) -> None:
        super().__init__("photos", Schema(image=Field("image", (1, 8, 8))), buffer=4)
        self.count = count

    def samples(self) -> Iterator[Mapping[str, Any]]:
        return ({"tone": tone} for tone in range(self.count))

    def decode(self, raws: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[int, str]]:
        bad = {at: "damaged" for at, raw in enumerate(raws) if raw["tone"] == 1}
        tones = [raw["tone"] for at, raw in enumerate(raws) if at not in bad]
        return {"image": torch.tensor(tones, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)}, bad


@pytest.mark.parametrize("count", [5, 140])
def test_a_stream_is_looked_at_once_however_short_it_is(count: int) -> None:
    model = EncoderModel({"encoder": build("small:convnet", image_size=8, channels=1, width=4)}).eval()
    found = embedded(model, Photos(count))
    wanted = [f"photos:{tone}" for tone in range(count) if tone != 1]
    assert sorted(found.names) == sorted(wanted)
    assert list(found.names) != wanted or count == 5
    assert len(embedded(model, Photos(400), most=128)) in (127, 128)


def test_neighbours_are_the_nearest_others_by_cosine() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 5))
    rows[7] = rows[3]
    found = samples(rows)
    cosines, indices = without_self(found, 6)
    unit = found.embeddings.double().numpy()
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    naive = unit @ unit.T
    np.fill_diagonal(naive, -np.inf)
    assert np.allclose(cosines, -np.sort(-naive, axis=1)[:, :6], atol=1e-6)
    assert (indices != np.arange(40)[:, None]).all()
    assert np.allclose(np.take_along_axis(naive, indices, 1), cosines, atol=1e-6)


def test_all_samples_alike_still_have_other_samples_as_neighbours() -> None:
    _, indices = without_self(samples(np.ones((20, 3))), 6)
    assert (indices != np.arange(20)[:, None]).all()
    assert all(len(set(row)) == 6 for row in indices.tolist())


def test_queries_are_of_as_many_classes_as_there_are() -> None:
    labels = np.array([0] * 90 + [1] * 5 + [2] * 5)
    found = samples(np.random.default_rng(0).normal(size=(100, 2)), labels)
    chosen = queries(found, 8)
    assert len(set(chosen)) == 8
    assert found.labels is not None
    assert set(found.labels[chosen[:3]]) == {0, 1, 2}


def test_rows_in_their_own_span_keep_lengths_and_angles() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 50)))
    short = in_own_span(rows)
    assert short.shape == (6, 6)
    assert torch.allclose(short @ short.T, rows @ rows.T)


def test_figures_of_embeddings_agree_with_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 30)) + 2
    expected = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    for wide in (2_048, 10):
        monkeypatch.setattr(geometry, "WIDE", wide)
        found = shape_of(torch.from_numpy(rows))
        shares = expected / expected.sum() + 1e-7
        assert np.allclose(found.singular_values[:30], expected, atol=1e-6)
        assert found.centred_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-4)
        assert found.verdict is None


def test_embeddings_that_are_all_alike_have_rank_zero_and_a_verdict() -> None:
    found = shape_of(torch.zeros(20, 8))
    assert found.rankme == found.centred_rank == 0
    assert "collapsed" in (found.verdict or "")


def test_the_map_of_principal_components_agrees_with_numpy_up_to_sign() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 6)) * [5, 3, 1, 1, 1, 1]
    (found,) = maps(torch.from_numpy(rows).float())
    u, s, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    assert np.allclose(np.abs(found.points), np.abs(u[:, :2] * s[:2]), atol=1e-3)
    assert found.axes[0] == f"first component ({s[0] ** 2 / (s**2).sum():.0%} of the spread)"


@pytest.mark.parametrize("shape", [(1, 5), (3, 1), (5, 2)])
def test_a_map_of_next_to_nothing_is_drawn(shape: tuple[int, int]) -> None:
    (found,) = maps(torch.ones(shape))
    assert found.points.shape == (shape[0], 2)
    assert np.isfinite(found.points).all()


def test_the_second_map_of_few_samples_is_t_sne_and_keeps_groups_apart() -> None:
    labels = np.arange(300) % 3
    rows = np.eye(3)[labels] + 0.05 * np.random.default_rng(0).normal(size=(300, 3))
    found, _ = maps(torch.from_numpy(rows).float())
    assert found.title == "t-SNE"
    distances = np.linalg.norm(found.points[:, None] - found.points[None], axis=2) + 1e9 * np.eye(300)
    assert (labels[distances.argmin(1)] == labels).all()


@pytest.mark.parametrize("installed", [True, False])
def test_of_many_samples_umap_draws_all_and_t_sne_the_first(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    monkeypatch.setattr(geometry, "find_spec", lambda name: object() if installed else None)
    for name in ("_umap", "_tsne"):
        monkeypatch.setattr(geometry, name, lambda rows, name=name: (name, len(rows)))
    many = torch.randn(geometry.MOST_FOR_TSNE + 1, 3)
    assert next(maps(many)) == (("_umap", len(many)) if installed else ("_tsne", geometry.MOST_FOR_TSNE))
    assert next(maps(many[:-1])) == ("_tsne", geometry.MOST_FOR_TSNE)


def test_further_classes_and_unknown_labels_are_grey() -> None:
    labels = np.concatenate([np.repeat(np.arange(12), 3), [0, 1], np.full(4, -1)])
    found = samples(np.random.default_rng(0).normal(size=(len(labels), 2)), labels)
    object.__setattr__(found, "classes", [f"class {i}" for i in range(12)])
    groups, names, legend = cloud.colours(found)
    assert len(names) == 10
    assert found.labels is not None
    assert (groups[found.labels < 0] == -1).all()
    assert "2 further classes" in legend
    assert "class 0 <small>4</small>" in legend


def test_a_method_comes_back_with_the_weights_of_its_checkpoint(labelled_run: Path) -> None:
    source = image_source()
    (found,) = rehearsed(read_run(labelled_run), source)
    saved = checkpoints.read(labelled_run / "checkpoints")
    assert saved is not None
    state = checkpoints.by_prefix(saved.tensors, "method")
    assert state
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.method.state_dict().items())
    assert found.progress.step == found.progress.total == 9
    batch = source.batch(np.arange(5))
    assert torch.allclose(embed(found.method.kept(), batch), embed(load_model(labelled_run), batch), atol=1e-6)


def test_pictures_are_the_method_s_own_views_of_the_samples_shown(labelled_run: Path) -> None:
    source = image_source()
    (found,) = rehearsed(read_run(labelled_run), source)
    shown = scene(found, 8)
    found.progress.generator.manual_seed(0)
    again = found.method.views(source.only(shown.batch.ids.numpy()).batch(np.arange(8)), found.progress)
    assert list(shown.pictures) == ["a", "b"]
    assert all(torch.equal(shown.pictures[name], again[name]) for name in ("a", "b"))


def test_every_training_of_a_recipe_comes_back(recipe_run: Path) -> None:
    found = rehearsed(read_run(recipe_run), image_source())
    assert [of.stage for of in found] == ["autoencoder", "contrast"]
    assert "cluster" in found[1].source.schema
    assert list(scene(found[0], 4).pictures) == ["noisy", "reconstructed"]


def test_context_and_target_marks_are_those_of_the_views(table_run: Path) -> None:
    from autodidact.report.scenes import scenes

    (found,) = rehearsed(read_run(table_run), table_source())
    shown = scene(found, 8)
    found.progress.generator.manual_seed(0)
    marks = re.findall(r'<tr><th scope="row">.*?</tr>', scenes([found]))
    assert len(marks) == 7
    assert sum(row.count("●") for row in marks) == shown.views["context"].numel()
    numbers = re.findall(r'class="target" title="target">([\d ]+)<', "".join(marks))
    assert sum(len(sets.split()) for sets in numbers) == shown.views["targets"].numel()


def test_metrics_that_are_not_numbers_are_left_out_of_the_curves(
    labelled_run: Path, copy_of: Callable[[Path], Path]
) -> None:
    run = copy_of(labelled_run)
    with (run / "log" / "metrics.csv").open("a") as file:
        file.write("9,knn,nan\n9,loss,inf\n9,lo")
    curves = read_run(run).trainings[0].curves
    assert all(np.isfinite([value for _, value in points]).all() for points in curves.values())


def test_parts_are_shown_of_models_that_find_them():
    torch.manual_seed(0)
    name = "small:dependency_vit?width=12&depth=2&heads=3&patch=2"
    finder = EncoderModel({"encoder": build(name, image_size=8, channels=1)}).eval()
    shown = parts(finder, image_source())
    assert shown.count("<figcaption>saliency</figcaption>") == shown.count("<figcaption>parts</figcaption>") == 8
    other = EncoderModel({"encoder": build("small:convnet", image_size=8, channels=1, width=4)})
    assert parts(other, image_source()) == ""


def test_a_tree_is_drawn_with_a_white_root_and_lines_to_the_parents():
    drawn = tree_picture(torch.ones(1, 8, 8), (2, 2), torch.tensor([-1, 0, 0, 1]), torch.tensor([0, 1, 2, 1]))
    assert drawn.shape == (88, 88, 3)
    assert drawn[5, 5].tolist() == [255, 255, 255]
    assert drawn[5, 80].tolist() == drawn[80, 80].tolist() != drawn[80, 5].tolist()
    # From the middle of the second patch to that of the first, and down from it to the fourth.
    assert drawn[22, 44].tolist() == drawn[44, 66].tolist() == [20, 20, 20]
    assert drawn[66, 44].tolist() != [20, 20, 20]


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_attention_is_shown_of_plain_vision_transformers(positions):
    torch.manual_seed(0)
    name = f"small:vit?width=16&depth=2&heads=2&positions={positions}"
    shown = attention(EncoderModel({"encoder": build(name, schema=image_source().schema)}), image_source())
    for called in ("image", "all heads", "head 1", "head 2"):
        assert shown.count(f"<figcaption>{called}</figcaption>") == 8
    assert "the class token looks" in shown
    by_patches = build(f"{name}&pool=avg", schema=image_source().schema)
    assert "Which patches the others look at" in attention(EncoderModel({"encoder": by_patches}), image_source())
    of_tokens = EncoderModel({"encoder": build(name, schema=image_source().schema)}, tap="mean")
    assert "Which patches the others look at" in attention(of_tokens, image_source())
    convnet = build("small:convnet?width=4", schema=image_source().schema)
    assert attention(EncoderModel({"encoder": convnet}), image_source()) == ""


def test_what_is_looked_at_is_the_class_tokens_row_or_the_mean_of_the_patches():
    maps = torch.rand(2, 3, 7, 7)
    by_class = looked_at(maps, 2, class_token=True)
    torch.testing.assert_close(by_class, maps[:, :, 0, 2:] / maps[:, :, 0, 2:].amax(-1, keepdim=True))
    mean = maps[:, :, 2:, 2:].mean(2)
    torch.testing.assert_close(looked_at(maps, 2, class_token=False), mean / mean.amax(-1, keepdim=True))
