"""G-SimCLR: autoencoder, clusters, contrast on batches of distinct clusters, as stages that resume."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from autodidact.data import DistinctBatching, Source, open_source
from autodidact.encoders import build
from autodidact.recipes.g_simclr import GSimCLR
from autodidact.recipes.stages import Run, Site
from autodidact.training import Settings


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False).at(np.arange(400))


def site(source, folder, **settings):
    def encoder(_slot):
        torch.manual_seed(0)
        return build("small:convnet", schema=source.schema, width=4)

    return Site(source, encoder, Settings(**{"steps": 12, "batch_size": 16, **settings}), folder, quiet=True)


def run(source, folder, recipe=None, **settings):
    recipe = recipe or GSimCLR(autoencoder_epochs=1)
    return Run(recipe.stages(site(source, folder, **settings)), folder).result()


def clusters(source, folder):
    from autodidact.data import Store

    store = Store(folder / "stages" / "clusters" / "store", name="clusters")
    return source.joined(store)


def test_all_stages_run_once_and_the_encoder_embeds(digits, tmp_path):
    model = run(digits, tmp_path)
    done = {path.parent.name: json.loads(path.read_text())["kind"] for path in tmp_path.glob("stages/*/done.json")}
    assert done == {"autoencoder": "model", "codes": "store", "clusters": "store", "contrast": "model"}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("stages/*/done.json")}
    again = run(digits, tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("stages/*/done.json")}
    batch = digits.batch(np.arange(8))
    assert torch.equal(model.embed(batch), again.embed(batch))


def test_there_are_as_many_clusters_as_the_batch_is_large_unless_asked_otherwise(digits, tmp_path):
    run(digits, tmp_path / "paper")
    run(digits, tmp_path / "more", GSimCLR(clusters=40, autoencoder_epochs=1))
    assert len(np.unique(clusters(digits, tmp_path / "paper").column("cluster"))) == 16
    assert len(np.unique(clusters(digits, tmp_path / "more").column("cluster"))) == 40


def test_contrast_trains_on_batches_that_hold_no_two_samples_of_a_cluster(digits, tmp_path):
    run(digits, tmp_path, GSimCLR(clusters=40, autoencoder_epochs=1))
    joined = clusters(digits, tmp_path)
    labels = np.asarray(joined.column("cluster"))
    plan = DistinctBatching("cluster", "drop").plan(joined, 16, 0)
    assert plan
    assert all(len(set(labels[batch])) == 16 for batch in plan)


def test_clusters_of_balanced_size_differ_by_one_at_most(digits, tmp_path):
    run(digits, tmp_path, GSimCLR(clusters=30, balanced=True, autoencoder_epochs=1))
    sizes = np.bincount(np.asarray(clusters(digits, tmp_path).column("cluster")))
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize(("options", "said"), [({"clusters": -1}, "clusters"), ({"clusters": 500}, "400")])
def test_numbers_of_clusters_that_make_no_sense_are_refused(digits, tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        run(digits, tmp_path, GSimCLR(**options))
