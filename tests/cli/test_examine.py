"""evaluate without a run: data alone, from a folder of files to a verdict in plain words."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import autodidact
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
    with pytest.raises(ValueError, match="no protocol was asked for; on data alone there are poison"):
        choose_data([])


def test_names_of_protocols_are_unique_and_each_says_what_it_does():
    assert not set(PROTOCOLS) & set(DATA_PROTOCOLS)
    for name, protocol in DATA_PROTOCOLS.items():
        assert protocol.name == name
        assert protocol.about.endswith(".")
