"""SimCore as a recipe: retrieval on the target, selection from the pool, training on both from the first weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from autodidact.data import ArraySource, Source, Store, open_source
from autodidact.data.ids import row_ids
from autodidact.model import load_model
from autodidact.recipes.names import encoder_maker
from autodidact.recipes.simcore import CoresetRule, SimCore
from autodidact.recipes.stages import Run, Site
from autodidact.training import Settings


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False)


def part(source: Source, name: str, start: int, stop: int) -> Source:
    rows = source.at(np.arange(start, stop))
    fields = {"image": rows.batch(np.arange(len(rows)))["image"], "label": np.asarray(rows.column("label"))}
    return ArraySource(name, fields, source.schema, row_ids(name, "rows", len(rows)))


@pytest.fixture(scope="module")
def target(digits) -> Source:
    return part(digits, "target", 0, 48)


@pytest.fixture(scope="module")
def pool(digits) -> Source:
    """200 images, of which the first 10 are copies of target images."""
    others = part(digits, "others", 300, 490)
    images = torch.cat([part(digits, "x", 0, 10).batch(np.arange(10))["image"], others.batch(np.arange(190))["image"]])
    return ArraySource(
        "pool", {"image": images}, type(digits.schema)(image=digits.schema["image"]), row_ids("pool", "x", 200)
    )


def site(source, folder, **settings):
    maker = encoder_maker({"encoder": "small:convnet"}, source, 0, {"width": 4})
    return Site(source, maker, Settings(**{"steps": 4, "batch_size": 16, **settings}), folder, quiet=True)


def run(target, pool, folder, settings=None, **options):
    recipe = SimCore(**{"pool": pool, "clusters": 5, "count": 40, **options})
    return Run(recipe.stages(site(target, folder, **(settings or {}))), folder).result()


def coreset(folder):
    return Store(folder / "stages" / "coreset" / "store", name="coreset")


def test_the_selection_has_the_asked_size_without_copies_of_the_target_and_says_so(target, pool, tmp_path):
    run(target, pool, tmp_path)
    store = coreset(tmp_path)
    assert len(store) == 40
    assert not set(store.ids.tolist()) & set(pool.ids[:10].tolist())
    assert set(store.columns) == {"name", "round", "similarity"}
    notes = (tmp_path / "stages" / "coreset" / "notes.txt").read_text()
    assert "40 of 200 samples of the pool are selected" in notes
    assert "10 samples of the pool are left out as copies of target samples" in notes


def test_copies_are_selected_first_where_they_may_be(target, pool, tmp_path):
    run(target, pool, tmp_path, clusters=100, exclude_near_duplicates=0.0)
    assert set(pool.ids[:10].tolist()) <= set(coreset(tmp_path).ids.tolist())


def test_the_second_training_starts_where_the_first_did_and_sees_target_and_selection(target, pool, tmp_path):
    seen: list[tuple[str, set[int], torch.Tensor]] = []

    class Watching(Site):
        def train(self, stage, method, source, settings=None):
            seen.append((stage, set(source.ids.tolist()), method.encoder.stages[0][0].weight.detach().clone()))
            return super().train(stage, method, source, settings)

    place = site(target, tmp_path)
    watched = Watching(place.source, place.encoder, place.settings, place.folder, True)
    Run(SimCore(pool=pool, clusters=5, count=40).stages(watched), tmp_path).result()
    assert [stage for stage, *_ in seen] == ["retrieval", "train"]
    assert seen[0][1] == set(target.ids.tolist())
    assert seen[1][1] == set(target.ids.tolist()) | set(coreset(tmp_path).ids.tolist())
    assert torch.equal(seen[0][2], seen[1][2])


def test_a_larger_selection_gets_fewer_epochs_so_that_the_cost_stays_the_same(target, pool, tmp_path):
    epochs: list[int | None] = []

    class Counting(Site):
        def train(self, stage, method, source, settings=None):
            epochs.append((settings or self.settings).epochs)
            return super().train(stage, method, source, settings)

    place = site(target, tmp_path, steps=None, epochs=6)
    counting = Counting(place.source, place.encoder, place.settings, place.folder, True)
    options = {"clusters": 5, "patience": 2, "most": 1, "stop": 0.5, "retrieval_epochs": 1, "most_seen": 300}
    Run(SimCore(pool=pool, **options).stages(counting), tmp_path).result()
    assert epochs == [1, 300 // (48 + len(coreset(tmp_path)))]


def test_the_initial_network_can_retrieve_without_a_training(target, pool, tmp_path):
    run(target, pool, tmp_path, retrieval="initial")
    assert not (tmp_path / "stages" / "retrieval" / "checkpoints").exists()
    assert len(coreset(tmp_path)) == 40


def test_a_run_that_was_cut_off_selects_and_ends_alike(target, pool, tmp_path):
    model = run(target, pool, tmp_path / "whole")
    stages = SimCore(pool=pool, clusters=5, count=40).stages(site(target, tmp_path / "cut"))
    Run(stages[:3], tmp_path / "cut").result()
    again = Run(stages, tmp_path / "cut").result()
    assert np.array_equal(coreset(tmp_path / "whole").ids, coreset(tmp_path / "cut").ids)
    with torch.no_grad():
        assert torch.equal(model.embed(target.batch(np.arange(8))), again.embed(target.batch(np.arange(8))))


def test_where_the_target_has_no_more_samples_than_clusters_each_is_a_centroid():
    rows = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    centroids = CoresetRule(clusters=7).centroids(rows, torch.Generator())
    torch.testing.assert_close(centroids, torch.nn.functional.normalize(rows))
    fewer = CoresetRule(clusters=3).centroids(rows, torch.Generator().manual_seed(0))
    torch.testing.assert_close(fewer.norm(dim=1), torch.ones(3))


def test_centroids_are_the_directions_of_the_targets_clusters_whatever_the_length_of_its_rows():
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(4, 12, generator=generator))
    rows = directions.repeat(8, 1) + 0.02 * torch.randn(32, 12, generator=generator)
    found = CoresetRule(clusters=4).centroids(rows, torch.Generator().manual_seed(1))
    assert sorted((found @ directions.T).max(1).indices.tolist()) == [0, 1, 2, 3]
    assert float((found @ directions.T).max(1).values.min()) > 0.99
    lengths = torch.rand(32, 1, generator=generator) * 40 + 0.1
    scaled = CoresetRule(clusters=4).centroids(lengths * rows, torch.Generator().manual_seed(1))
    torch.testing.assert_close(scaled, found)


def test_the_selection_is_that_of_what_the_retrieval_model_embeds(target, pool, tmp_path):
    run(target, pool, tmp_path, stop=0.97, patience=2, most=3, count=0)
    model = load_model(tmp_path / "stages" / "retrieval" / "model").eval()
    with torch.no_grad():
        rows = [model.embed(source.batch(np.arange(len(source)))) for source in (target, pool)]
    rule = CoresetRule(clusters=5, stop=0.97, patience=2, most=3)
    found, _ = rule(*rows, torch.Generator().manual_seed(0))
    assert sorted(coreset(tmp_path).ids.tolist()) == sorted(pool.ids[found.positions.numpy()].tolist())
    pixels = [source.batch(np.arange(len(source)))["image"].flatten(1).float() for source in (target, pool)]
    other, _ = rule(*pixels, torch.Generator().manual_seed(0))
    assert set(other.positions.tolist()) != set(found.positions.tolist())


def test_a_run_killed_while_it_embeds_the_pool_ends_alike(digits, target, tmp_path, monkeypatch):
    rows = np.tile(np.arange(300, 900), 2)[:1_150]
    images = digits.batch(rows)["image"] // torch.arange(1, 1_151)[:, None, None, None].clamp(max=3).to(torch.uint8)
    schema = type(digits.schema)(image=digits.schema["image"])
    large = ArraySource("large", {"image": images}, schema, row_ids("large", "x", len(rows)))
    run(target, large, tmp_path / "whole", retrieval="initial")
    append, parts = Store.append, []

    def once(self, ids, **columns):
        if self.name == "pool" and parts:
            raise KeyboardInterrupt
        append(self, ids, **columns)
        parts.append(self.name == "pool") if self.name == "pool" else None

    with monkeypatch.context() as patched:
        patched.setattr(Store, "append", once)
        with pytest.raises(KeyboardInterrupt):
            run(target, large, tmp_path / "cut", retrieval="initial")
    assert len(Store(tmp_path / "cut" / "stages" / "pool" / "store")) == 512
    run(target, large, tmp_path / "cut", retrieval="initial")
    for column in ("name", "round", "similarity"):
        assert np.array_equal(coreset(tmp_path / "whole").column(column), coreset(tmp_path / "cut").column(column))
    assert np.array_equal(coreset(tmp_path / "whole").ids, coreset(tmp_path / "cut").ids)


def test_files_of_the_pool_that_cannot_be_read_are_counted_and_listed(digits, target, tmp_path, monkeypatch):
    monkeypatch.setenv("AUTODIDACT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "web").mkdir()
    for number, image in enumerate(digits.batch(np.arange(300, 340))["image"].numpy()):
        Image.fromarray(image[0]).save(tmp_path / "web" / f"{number}.png")
    (tmp_path / "web" / "broken.png").write_bytes(b"no picture")
    options = {"retrieval": "initial", "count": 20}
    for _ in range(2):
        run(target, str(tmp_path / "web"), tmp_path / "run", **options)
    (line,) = (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()
    assert json.loads(line)["name"] == "broken.png"
    assert json.loads(line)["data"] == "web"
    notes = (tmp_path / "run" / "stages" / "coreset" / "notes.txt").read_text()
    assert "1 files of the pool could not be read" in notes
    store = coreset(tmp_path / "run")
    opened = open_source(tmp_path / "web", progress=False)
    assert list(opened.only(store.ids).names) == list(store.column("name"))


def test_a_pool_that_is_named_is_opened_as_the_target_is(digits, target, tmp_path):
    np.save(tmp_path / "pool.npy", digits.batch(np.arange(300, 420))["image"].numpy())
    run(target, str(tmp_path / "pool.npy"), tmp_path / "run")
    assert len(coreset(tmp_path / "run")) == 40


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pool": None}, "a pool to select from is needed: --method.pool"),
        ({"pool": "nowhere"}, "there is no data 'nowhere'"),
        ({"clusters": 300, "pool": "small"}, "fewer than the 48 clusters"),
        ({"retrieval": "none"}, "retrieval"),
        ({"retrieval_epochs": -1}, "retrieval_epochs"),
        ({"method": "simcore"}, "is a recipe"),
        ({"share": 2.0, "count": 0}, "share"),
        ({"patience": 3, "stop": 0.5}, "count or share says how many are selected, so stop, patience would mean"),
    ],
)
def test_options_that_make_no_sense_are_refused(target, pool, tmp_path, options, said):
    if options.get("pool") == "small":
        options = {**options, "pool": pool.at(np.arange(10, 40))}
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        run(target, **{"pool": pool, "folder": tmp_path, **options})


def test_images_of_another_size_are_refused_before_anything_is_trained(target, tmp_path):
    other = open_source(np.zeros((60, 12, 12), dtype=np.uint8))
    with pytest.raises(ValueError, match="make them alike"):
        run(target, other, tmp_path)
    assert not (tmp_path / "stages").exists()


def test_an_empty_pool_is_refused(target, pool, tmp_path):
    with pytest.raises(ValueError, match="is empty"):
        run(target, pool.at([]), tmp_path)


def test_a_selection_that_nothing_stops_ends_at_a_multiple_of_the_target():
    generator = torch.Generator().manual_seed(0)
    target, pool = torch.randn(12, 6, generator=generator), torch.randn(90, 6, generator=generator)
    found, _ = CoresetRule(clusters=3, patience=1, stop=0.01, most=2)(target, pool, generator)
    assert (found.ended, len(found.positions.unique())) == ("budget", 24)


def test_target_samples_without_a_direction_are_an_error_even_where_clusters_would_hide_them():
    generator = torch.Generator().manual_seed(0)
    target, pool = torch.randn(12, 6, generator=generator), torch.randn(90, 6, generator=generator)
    target[3] = 0
    for clusters in (3, 12):
        with pytest.raises(ValueError, match="1 rows of the target are zero"):
            CoresetRule(clusters=clusters, exclude_near_duplicates=0)(target, pool, generator)


def test_a_negative_share_is_refused():
    with pytest.raises(ValueError, match="share lies in"):
        CoresetRule(share=-0.1)


def test_what_was_asked_for_and_is_not_there_is_told():
    rng = torch.Generator().manual_seed(0)
    target, pool = torch.randn(5, 4, generator=rng), torch.randn(9, 4, generator=rng)
    rule = CoresetRule(count=50, exclude_near_duplicates=0)
    chosen, copies = rule(target, pool, rng)
    assert "50 were asked for, and the pool has no more" in rule.told(chosen, len(copies), len(pool))
    enough = CoresetRule(count=6, exclude_near_duplicates=0)
    assert not any("asked for" in line for line in enough.told(enough(target, pool, rng)[0], 0, len(pool)))


def test_a_pool_that_points_away_from_the_target_is_said_not_to_resemble_it():
    target = torch.eye(4)[:2] + 0.1
    rule = CoresetRule(patience=1, exclude_near_duplicates=0)
    chosen, _ = rule(target, -target.repeat(5, 1), torch.Generator().manual_seed(0))
    assert any("does not resemble the target: after 1 rounds" in line for line in rule.told(chosen, 0, 10))
