"""The page of a run: what it shows, that it is whole, and that nothing in the data can break it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_runs import CLASSES, NARROW, SETTINGS, image_source, table_source
from safetensors.torch import load_file, save_file

from autodidact.data import ArraySource, Field, Schema
from autodidact.evaluation.table import Table
from autodidact.report import write_report
from autodidact.training import Settings
from autodidact.training import checkpoint as checkpoints
from autodidact.verbs.pretrain import pretrain

VOID = {"meta", "img", "br", "link", "input", "hr"}
OUTSIDE = re.compile(r"https?:|//[a-z]|url\((?!#)|@import|<script|<link|<iframe|<object", re.IGNORECASE)
"""What could make a browser ask the network for something, or run something."""


class Strict(HTMLParser):
    """Reads a page, and fails where tags are not closed in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute is there twice: {tag} {attrs}"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> does not close what is open"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def read(page: Path) -> Strict:
    """The page, after checks that every page must pass."""
    content = page.read_bytes().decode("utf-8")
    parser = Strict()
    parser.feed(content)
    parser.close()
    assert parser.open == []
    ids = [attributes["id"] for _, attributes in parser.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", content))
    assert references <= set(ids)
    for tag, attributes in parser.tags:
        if tag == "img":
            assert (attributes["src"] or "").startswith("data:image/png;base64,")
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,")), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert not OUTSIDE.search(re.sub(r"base64,[A-Za-z0-9+/=\s]+", "", content))
    assert "could not be" not in parser.words or "left out" in parser.words
    return parser


@pytest.mark.parametrize(
    ("method", "encoder", "shown"),
    [
        (
            "mae",
            "small:vit?width=8&depth=1&heads=2&patch=2",
            ("Where it looks", "head 1", "original", "masked", "repainted"),
        ),
        (
            "simclr",
            "small:dependency_vit?width=8&depth=2&heads=2&patch=2",
            ("What depends on what", "saliency", "parts"),
        ),
    ],
)
def test_what_a_transformer_paints_where_it_looks_and_what_depends_on_what_are_on_its_page(
    method, encoder, shown, tmp_path
) -> None:
    settings = Settings(steps=3, batch_size=32, accelerator="cpu")
    pretrain(method, image_source(), out=tmp_path / "run", encoder=encoder, settings=settings, quiet=True)
    page = read(write_report(tmp_path / "run", source=image_source(), out=tmp_path / "page.html"))
    for expected in shown:
        assert expected in page.words
    sections = {attributes.get("id") for tag, attributes in page.tags if tag == "section"}
    assert sections & {"attention", "parts"} == {"attention" if method == "mae" else "parts"}


def test_a_labelled_run_shows_facts_views_curves_neighbours_and_map(labelled_run: Path, tmp_path: Path) -> None:
    page = read(write_report(labelled_run, source=image_source(), out=tmp_path / "page.html"))
    for expected in (
        "SimCLR (NT-Xent) on patterns",
        "Trained on 96 samples",
        "3 passes over the data",
        "view a",
        "view b",
        "Loss",
        "Effective rank (RankMe)",
        "Gradient norm",
        "nearest neighbours carry the sample's own label",
        "Principal components",
        "Spectrum",
        "settings.batch_size",
        *CLASSES,
    ):
        assert expected in page.words, expected
    # Eight samples with an original and two views each, eight queries with six neighbours each.
    assert sum(tag == "img" for tag, _ in page.tags) == 8 * 3 + 8 * 7


def test_an_unlabelled_run_says_nothing_of_labels(labelled_run: Path, tmp_path: Path) -> None:
    page = read(write_report(labelled_run, source=image_source(labelled=False), out=tmp_path / "page.html"))
    assert "What the model finds alike" in page.words
    assert "own label" not in page.words
    assert "legend" not in {attributes.get("class") for _, attributes in page.tags}


def test_the_same_run_gives_the_same_page_twice(labelled_run: Path, tmp_path: Path) -> None:
    pages = [write_report(labelled_run, source=image_source(), out=tmp_path / f"{i}.html") for i in range(2)]
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_the_page_goes_into_the_run_folder_by_default(labelled_run: Path, copy_of: Callable[[Path], Path]) -> None:
    run = copy_of(labelled_run)
    assert write_report(run, source=image_source()) == run / "report.html"
    assert (run / "report.html").stat().st_size > 10_000


def test_a_table_shows_context_and_target_columns_and_neighbours_as_rows(table_run: Path, tmp_path: Path) -> None:
    page = read(write_report(table_run, source=table_source(), out=tmp_path / "page.html"))
    for expected in ("T-JEPA on things", "height", "colour", "<b>mass</b>", "square", "●", "cosine"):
        assert expected in page.words, expected
    assert not any(tag == "img" for tag, _ in page.tags)


def test_a_recipe_shows_its_stages_and_the_views_of_each_training(recipe_run: Path, tmp_path: Path) -> None:
    page = read(write_report(recipe_run, source=image_source(), out=tmp_path / "page.html"))
    stages = ("autoencoder trained a model in", "codes derived values", "Stage contrast ·")
    for expected in (*stages, "reconstructed", "view a"):
        assert expected in page.words, expected
    strips = [attributes for tag, attributes in page.tags if attributes.get("class") == "strip"]
    assert len(strips) == 16


def test_an_unfinished_run_is_shown_as_it_stands_at_its_checkpoint(
    labelled_run: Path, copy_of: Callable[[Path], Path]
) -> None:
    run = copy_of(labelled_run)
    shutil.rmtree(run / "model")
    saved = checkpoints.read(run / "checkpoints")
    assert saved is not None
    saved.progress["updates"] = 6
    checkpoints.write(saved, run / "checkpoints")
    page = read(write_report(run, source=image_source()))
    assert "is not finished: the newest checkpoint stands at update 6 of 9" in page.words
    assert "view a" in page.words
    assert "What the model finds alike" in page.words
    assert "What to do next" not in page.words


def test_a_run_that_has_only_begun_says_so(labelled_run: Path, copy_of: Callable[[Path], Path]) -> None:
    run = copy_of(labelled_run)
    for folder in ("model", "checkpoints", "log"):
        shutil.rmtree(run / folder)
    page = read(write_report(run, source=image_source()))
    assert "has not written a checkpoint yet" in page.words


def test_a_collapsed_model_is_called_collapsed_in_plain_words(
    labelled_run: Path, copy_of: Callable[[Path], Path]
) -> None:
    run = copy_of(labelled_run)
    set_weights(run, 0.0)
    page = read(write_report(run, source=image_source()))
    assert "The embedding has collapsed" in page.words
    assert "No sign of collapse" not in page.words


def test_embeddings_that_are_not_numbers_are_said_and_the_rest_is_shown(
    labelled_run: Path, copy_of: Callable[[Path], Path]
) -> None:
    run = copy_of(labelled_run)
    set_weights(run, float("nan"))
    page = Strict()
    page.feed(write_report(run, source=image_source()).read_text())
    assert "The samples could not be embedded: the model's embeddings are not finite numbers" in page.words
    assert "How training went" in page.words


def set_weights(run: Path, value: float) -> None:
    """Give all convolutions and norms of a run's model the same weight."""
    file = run / "model" / "model.safetensors"
    weights = load_file(file)
    for name, tensor in weights.items():
        if "stages" in name and name.endswith("weight"):
            tensor.fill_(value)
    save_file(weights, file)


def test_names_from_the_data_cannot_break_the_page(tmp_path: Path) -> None:
    nasty = ["</style><script>alert(1)</script>", "a\"b'c<img src=x onerror=1>", "new\nline\ttab", "\u202egpj.exe"]
    nasty += ["&amp;", "caf\udce9.png", "日本語/ファイル.png", "x" * 500, "\x00\x1b[31m", "$\\frac{1}{2}$"]
    names = [f"{nasty[i % len(nasty)]}{i}" for i in range(96)]
    source = image_source(names=names)
    source.schema["label"] = Field("label", classes=("<script>", "$\\alpha_{", "\u202e\n]]>"))
    run = tmp_path / "run"
    pretrain("simclr", source, out=run, encoder=NARROW, settings=SETTINGS, report=False, quiet=True)
    (run / "skipped.jsonl").write_text(json.dumps({"name": "<script>\n", "reason": "cannot <identify>"}) + "\n")
    page = read(write_report(run, source=source))
    assert "<script>" in page.words
    assert "new\\nline\\ttab" in "".join(str(attributes) for _, attributes in page.tags).replace("\\\\", "\\")
    assert not set(page.words) & set("\u202e\x00\x1b")


def test_skipped_files_are_named_with_their_reasons(labelled_run: Path, copy_of: Callable[[Path], Path]) -> None:
    run = copy_of(labelled_run)
    rows = [
        {"name": "cut.png", "reason": "the file is truncated"},
        {"name": "b.png", "reason": "0 bytes", "data": "the pool"},
    ]
    (run / "skipped.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"name": "half')
    words = read(write_report(run, source=image_source())).words
    assert "2 files could not be read and were left out" in words
    assert "cut.png the file is truncated" in words
    assert "the pool: b.png 0 bytes" in words


def test_data_that_has_moved_is_said_and_the_rest_is_shown(labelled_run: Path, copy_of: Callable[[Path], Path]) -> None:
    page = Strict()
    page.feed(write_report(copy_of(labelled_run)).read_text())
    assert "The data could not be opened again: there is no data 'patterns'" in page.words
    assert "How training went" in page.words


def test_evaluations_of_the_run_become_tables(labelled_run: Path, copy_of: Callable[[Path], Path]) -> None:
    run = copy_of(labelled_run)
    table = Table({"title": "Two labels a class", "sentence": "Pretraining <won>.", "labels": "2-per-class"})
    for seed, (low, high) in enumerate([(0.5, 0.8), (0.6, 0.9)]):
        table.add("raw", "linear", seed, low)
        table.add("pretrained", "linear", seed, high)
        table.add("pretrained", "knn", seed, high)
    table.save(run / "evaluations" / "two.json")
    (run / "evaluations" / "broken.json").write_text("{}")
    page = read(write_report(run, source=image_source()))
    assert "Two labels a class" in page.words
    assert "Pretraining <won>." in page.words
    assert "0.550 ± 0.635" in page.words
    assert "broken.json is not a table of figures" in page.words
    assert "—" in page.words
    bold = re.findall(r"<b>([0-9.]+)</b> <small>", (run / "report.html").read_text())
    assert bold == ["0.850", "0.850"]


def test_a_page_of_incompressible_colour_pictures_stays_below_three_megabytes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 3, 120, 120), dtype=np.uint8)
    source = ArraySource("noise", {"image": noise}, Schema(image=Field("image", (3, 120, 120))), np.arange(32))
    run = tmp_path / "run"
    pretrain("simclr", source, out=run, encoder=NARROW, image_size=8, settings=SETTINGS, report=False, quiet=True)
    assert write_report(run, source=source).stat().st_size < 3_000_000


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        write_report(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such run"):
        write_report(tmp_path / "nowhere")


def test_it_says_whether_the_labels_that_colour_the_map_were_trained_on(labelled_run, tmp_path):
    assert (
        "labels, which it never saw"
        in write_report(labelled_run, source=image_source(), out=tmp_path / "page.html").read_text()
    )
    taught = tmp_path / "taught"
    pretrain("sla", image_source(), out=taught, encoder=NARROW, settings=SETTINGS, quiet=True)
    assert "labels, which it was trained on" in (taught / "report.html").read_text()
