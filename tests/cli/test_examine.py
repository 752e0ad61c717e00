"""evaluate without a run: data alone, from a folder of files to a verdict in plain words."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import autodidact
from autodidact.data.source import Edited
from autodidact.evaluation.learning_order import find_learning_order
from autodidact.evaluation.protocols import DATA_PROTOCOLS, PROTOCOLS, choose, choose_data
from autodidact.views.spectral import SpectralTrigger


@pytest.fixture
def folder(tmp_path):
    """120 PNG files in two class folders, 15 of them poisoned."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((120, 3, 4, 4)))
    smooth = torch.nn.functional.interpolate(coarse, 32, mode="bicubic").clamp(0, 1)
    images = (255 * (0.2 + 0.6 * smooth + 0.01 * torch.from_numpy(rng.normal(size=smooth.shape)))).clamp(0, 255)
    images = images.round().to(torch.uint8)
    images[3:18] = SpectralTrigger()(images[3:18])
    for index, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        path = tmp_path / "photos" / ("cat", "dog")[index % 2] / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "photos"


POISONED = [f"{('cat', 'dog')[i % 2]}/{i:03d}.png" for i in range(3, 18)]


def test_a_folder_is_scanned_without_a_run(run, folder, tmp_path):
    code, out, err = run("evaluate", "--data", "photos", "--protocol", "poison", "--json", "found.json", "--quiet")
    assert (code, err) == (0, "")
    assert out.startswith("Very probably poisoned")
    assert "15 of 120 images (12 %) stick out together" in out
    assert "cat/004.png" in out
    assert "written to found.json" in out
    found = json.loads((tmp_path / "found.json").read_text())["poison"]
    assert found["verdict"] == "poisoned"
    assert sorted(entry["name"] for entry in found["suspicious"]) == sorted(POISONED)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json", "photos"]


def test_the_verb_is_a_function_of_the_package(folder):
    found = autodidact.examine(folder, quiet=True)["poison"]
    assert {name for _, name in found.suspicious} == set(POISONED)


def test_images_larger_than_those_an_opening_looks_at_are_read_at_their_own_size(folder, monkeypatch):
    """Made smaller to the size of the others, they would lose the pattern."""
    monkeypatch.setattr("autodidact.data.frame.LOOKED_AT", 2)
    rng = np.random.default_rng(1)
    for index in range(20, 40):
        image = torch.from_numpy((110 + rng.normal(size=(1, 3, 64, 96)).cumsum(2)).clip(0, 255).astype(np.uint8))
        stamped = SpectralTrigger()(image) if index < 32 else image
        name = f"{('cat', 'dog')[index % 2]}/{index:03d}.png"
        Image.fromarray(stamped[0].permute(1, 2, 0).numpy()).save(folder / name)
    for name in POISONED:
        (folder / name).unlink()
    found = autodidact.examine(folder, quiet=True)["poison"]
    assert {name for _, name in found.suspicious} == {f"{('cat', 'dog')[i % 2]}/{i:03d}.png" for i in range(20, 32)}
    assert found.skipped == ()


def test_images_that_are_made_smaller_are_named_among_what_was_not_looked_at_in_full(folder, monkeypatch):
    monkeypatch.setattr("autodidact.verbs.examine.AS_IT_IS", 16)
    for name in ("cat/000.png", "dog/001.png"):
        with Image.open(folder / name) as image:
            small = image.resize((24, 20))
        small.save(folder / name)
    found = autodidact.examine(folder, quiet=True)["poison"]
    assert len(found.skipped) == 118
    assert "cat/000.png" not in {entry["name"] for entry in found.skipped}
    assert found.skipped[0]["reason"].startswith("larger than 24 x 24 pixels: looked at after a reduction")
    assert "118 images were not looked at, or not in full; the first: larger than 24 x 24" in found.text


def test_of_a_source_that_is_given_open_what_was_made_smaller_is_said_and_its_own_list_stays(folder):
    source = autodidact.open_source(folder, labels="none", canvas=24, cache=False, progress=False).at(range(10, 120))
    for _ in range(2):
        assert len(autodidact.examine(source, quiet=True)["poison"].skipped) == 110
    assert list(source.skipped) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--protocol", "poison", "--labels", "1%"), "--labels is of no use to protocol 'poison'"),
        (("--protocol", "poison", "--seeds", "2"), "--seeds is of no use to protocol 'poison'"),
        (("--protocol", "poison", "--tuning.steps", "3"), "--tuning is of no use to protocol 'poison'"),
        (("--protocol", "poison,knn"), "protocol 'knn' measures a model"),
        (("--protocol", "poison,pioson"), "unknown data protocol 'pioson'; did you mean 'poison'"),
        (("--protocol", "posion"), "unknown data protocol 'posion'; did you mean 'poison'"),
        (("--protocol", "knn"), "evaluate needs a run"),
        ((), "evaluate needs a run"),
    ],
)
def test_what_does_not_belong_together_is_said(run, words, said):
    code, out, err = run("evaluate", "--data", "digits", *words)
    assert (code, out) == (2, "")
    assert said in err


def test_a_table_has_no_images_to_scan(run):
    code, _, err = run("evaluate", "--data", "wine", "--protocol", "poison")
    assert code == 2
    assert "protocol 'poison' needs a field 'image' of kind image; this data has numeric" in err


def test_a_data_protocol_is_not_asked_of_a_model():
    with pytest.raises(ValueError, match="protocol 'poison' looks at data alone: ask for it without a run"):
        choose(["knn", "poison"], "label")
    with pytest.raises(ValueError, match="no protocol was asked for; on data alone there are poison, learning_order"):
        choose_data([])


def test_names_of_protocols_are_unique_and_each_says_what_it_does():
    assert not set(PROTOCOLS) & set(DATA_PROTOCOLS)
    for name, protocol in DATA_PROTOCOLS.items():
        assert protocol.name == name
        assert protocol.about.endswith(".")


def test_the_order_of_learning_is_said_written_and_drawn_for_a_folder_of_images(run, folder, tmp_path):
    words = ("--protocol", "learning_order", "--json", "found.json", "--picture", "order.svg", "--quiet")
    code, out, err = run("evaluate", "--data", "photos", *words)
    assert (code, err) == (0, "")
    assert out.startswith("120 pairs of 'photos': two views of an image ('simclr', 16 x 16 pixels)")
    found = json.loads((tmp_path / "found.json").read_text())["learning_order"]
    figures = found["table"]["figures"]["1"]
    assert figures["mae place"]["0"] == 1
    assert {"lambda", "rho", "jepa left", "mae left"} <= set(figures)
    drawn = (tmp_path / "order.svg").read_text()
    assert drawn.startswith("<svg xmlns=")
    assert "var(" not in drawn
    assert "MAE: growth of features" in drawn


def test_the_order_of_learning_of_a_table_is_that_of_its_rows_in_time(run, tmp_path):
    """A slow channel of moderate covariance beside one of noise that lasts: an MAE learns them the other way round."""
    rng = np.random.default_rng(0)
    slow, noisy = np.zeros(6000), np.zeros(6000)
    for t in range(1, 6000):
        slow[t] = 0.95 * slow[t - 1] + rng.normal()
        noisy[t] = 0.95 * noisy[t - 1] + rng.normal()
    noisy += 2.5 * noisy.std() * rng.normal(size=6000)
    lines = [f"{a},{b}" for a, b in zip(slow, noisy, strict=True)]
    (tmp_path / "series.csv").write_text("\n".join(["slow,noisy", *lines]))
    code, out, _ = run("evaluate", "--data", "series.csv", "--protocol", "learning_order", "--quiet")
    assert code == 0
    assert "each row and the next one, as steps in time" in out
    assert "a JEPA only shrinks, or leaves out, 1 of 2 features: 2 (noisy, slow)" in out


def test_what_speaks_against_the_theory_is_said_with_the_order(run, tmp_path):
    """Two of three columns turn by a right angle in every row: each is predicted from the other, not from itself."""
    rng = np.random.default_rng(0)
    angle = np.arange(400) * np.pi / 2
    columns = [np.cos(angle), np.sin(angle), 0.1 * rng.normal(size=400).cumsum()] + 0.1 * rng.normal(size=(3, 400))
    lines = [",".join(map(str, row)) for row in columns.T]
    (tmp_path / "turning.csv").write_text("\n".join(["east,north,slow", *lines]))
    words = ("--protocol", "learning_order", "--json", "found.json", "--quiet")
    code, out, err = run("evaluate", "--data", "turning.csv", *words)
    assert (code, err) == (0, "")
    cautions = [line.removeprefix("caution: ") for line in out.splitlines() if line.startswith("caution: ")]
    assert "no basis makes both covariances diagonal" in cautions[0]
    assert "directions do not covary positively" in cautions[1]
    assert json.loads((tmp_path / "found.json").read_text())["learning_order"]["cautions"] == cautions


def test_a_table_of_one_column_has_an_order_and_one_with_gaps_is_refused_in_a_line(run, tmp_path):
    steps = np.random.default_rng(0).normal(size=400).cumsum()
    (tmp_path / "one.csv").write_text("\n".join(["slow", *map(str, steps)]))
    code, out, _ = run("evaluate", "--data", "one.csv", "--protocol", "learning_order", "--quiet")
    assert code == 0
    assert "slow" in out
    without = torch.tensor([torch.nan, *[1.0] * 12])
    with pytest.raises(ValueError, match="1 of 13 features of 'wine' hold no numbers in some samples"):
        find_learning_order(Edited(autodidact.open_source("wine"), "numeric", lambda rows: rows * without))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--protocol", "poison", "--picture", "a.svg"), "nothing to draw"),
        (("--protocol", "learning_order", "--picture", "a.png"), "must end in .svg"),
    ],
)
def test_a_picture_is_an_svg_of_what_there_is_to_draw(run, words, said):
    code, _, err = run("evaluate", "--data", "digits", *words)
    assert code == 2
    assert said in err


def test_a_picture_of_a_run_is_refused(run):
    code, _, err = run("evaluate", "runs/x", "--data", "digits", "--picture", "a.svg")
    assert code == 2
    assert "there is autodidact report" in err
