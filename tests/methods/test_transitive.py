"""Transitive Invariance: its stages, the pairs that they find, and what it trains on."""

from __future__ import annotations

import copy
import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from autodidact.data import ArraySource, Source, Store, open_source
from autodidact.data.pairs import stored_pairs
from autodidact.data.schema import Field, Schema
from autodidact.encoders import build
from autodidact.evaluation.table import Table
from autodidact.methods.image.paired import PairTriplets, check_negatives
from autodidact.methods.method import Progress
from autodidact.objectives import pair_triplets
from autodidact.recipes.stages import Run, Site
from autodidact.recipes.transitive import Transitive, centred, pair_kinds, tracks_of
from autodidact.selection import mutual_neighbours
from autodidact.training import Settings
from autodidact.worlds.tracks import tracks


@pytest.fixture(scope="module")
def filmed() -> Source:
    digits = open_source("digits", progress=False).at(np.arange(40))
    return tracks(digits, 4, size=12, seed=3)


def site(source, folder, **settings):
    def encoder(_slot):
        torch.manual_seed(0)
        return build("small:convnet", schema=source.schema, width=4)

    return Site(source, encoder, Settings(**{"steps": 4, "batch_size": 20, **settings}), folder, quiet=True)


def run(source, folder, **options):
    recipe = Transitive(**{"tracks": "track", "clusters": 3, "autoencoder_epochs": 1, "view": "none", **options})
    return Run(recipe.stages(site(source, folder)), folder).result()


@pytest.fixture(scope="module")
def done(filmed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("transitive")
    run(filmed, folder)
    return folder


def pairs_of(source, folder, kind):
    return stored_pairs(source, Store(folder / "stages" / "pairs" / "store"), kind).pairs


def test_all_stages_run_and_the_graph_is_described(done):
    kinds = {path.parent.name: json.loads(path.read_text())["kind"] for path in done.glob("stages/*/done.json")}
    assert kinds == {
        "autoencoder": "model",
        "codes": "store",
        "clusters": "store",
        "pairs": "store",
        "graph": "table",
        "triplets": "model",
    }


def test_the_described_graph_is_that_of_the_pairs(filmed, done):
    table = Table.load(done / "stages" / "graph" / "table.json")
    labels = np.asarray(filmed.column("label"))
    for kind in ("inter", "intra", "transitive"):
        pairs = pairs_of(filmed, done, kind)
        assert table.values(kind, "pairs") == [len(pairs)]
        assert table.values(kind, "purity")[0] == pytest.approx((labels[pairs[:, 0]] == labels[pairs[:, 1]]).mean())
    assert table.values("intra", "purity") == [1.0]
    assert table.values("inter", "samples without") == [len(filmed) - len(np.unique(pairs_of(filmed, done, "inter")))]


def test_what_the_graph_holds_is_said(filmed, done):
    table = Table.load(done / "stages" / "graph" / "table.json")
    said = (done / "stages" / "graph" / "notes.txt").read_text().splitlines()
    inter = next(line for line in said if " inter pairs" in line)
    (count,), (without,), (purity,) = (table.values("inter", name) for name in ("pairs", "samples without", "purity"))
    assert inter == f"{count:.0f} inter pairs, {without:.0f} samples without any, {100 * purity:.0f} % of one class"
    (count,) = table.values("transitive", "pairs")
    assert any(line.startswith(f"{count:,.0f} transitive pairs, ") for line in said)


class Watching(Site):
    """Remembers what the last training is given."""

    def train(self, stage, method, source, settings=None, **more):
        self.seen = {**getattr(self, "seen", {}), stage: method}
        return super().train(stage, method, source, settings, **more)


def test_the_last_training_has_the_options_that_are_asked_for(filmed, tmp_path):
    options = {"margin": 0.3, "hardest": 2, "mine_from": 0.6, "semi_hard": True, "hidden": 9, "dimensions": 7}
    usual = site(filmed, tmp_path)
    place = Watching(usual.source, usual.encoder, usual.settings, tmp_path, quiet=True)
    recipe = Transitive(tracks="track", clusters=3, autoencoder_epochs=1, view="none", **options)
    Run(recipe.stages(place), tmp_path).result()
    method = place.seen["triplets"]
    assert method.marks == ("cluster", "track")
    assert {name: getattr(method, name) for name in ("margin", "hardest", "mine_from", "semi_hard")} == {
        name: options[name] for name in ("margin", "hardest", "mine_from", "semi_hard")
    }
    assert [tuple(p.weight.shape) for p in method.projector if isinstance(p, torch.nn.Linear)] == [(9, 16), (7, 9)]


@pytest.mark.parametrize(("neighbours", "least"), [(1, 0.0), (3, 0.5)])
def test_edges_are_mutual_neighbours_as_many_and_as_near_as_asked_for(filmed, neighbours, least):
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(len(filmed), 5, generator=generator)
    track = torch.from_numpy(tracks_of(filmed, "track"))
    cluster = torch.zeros(len(filmed), dtype=torch.long)
    found = Transitive(neighbours=neighbours, least=least).edges(filmed, codes, track, cluster)
    wanted = mutual_neighbours(centred(codes), track, cluster, k=neighbours, least=least)
    assert torch.equal(found, wanted)
    assert len(found) != len(Transitive().edges(filmed, codes, track, cluster))


def test_the_tracks_are_drawn_as_often_as_asked_for(filmed, done, tmp_path):
    run(filmed, tmp_path, draws=1)
    assert len(pairs_of(filmed, tmp_path, "intra")) < len(pairs_of(filmed, done, "intra"))


@pytest.mark.parametrize(
    ("options", "said"), [({"view": "nonsense"}, "nonsense"), ({"hidden": -2}, "width"), ({"dimensions": 0}, "width")]
)
def test_what_the_last_training_refuses_is_refused_before_the_first(filmed, tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        run(filmed, tmp_path, **options)
    assert not (tmp_path / "stages").exists()


def photographs(folder, things, each):
    rng = np.random.default_rng(0)
    for thing in range(things):
        (folder / f"cup {thing}").mkdir(parents=True)
        for number in range(each):
            picture = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8))
            picture.save(folder / f"cup {thing}" / f"{number}.png")
    return open_source(folder, cache=False, progress=False)


def test_a_folder_for_each_thing_is_no_class_and_says_nothing_of_purity(tmp_path):
    source = photographs(tmp_path / "things", 12, 3)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        run(source, tmp_path / "run", tracks="folder", clusters=2)
    assert not any("labels choose" in str(one.message) for one in warned)
    table = Table.load(tmp_path / "run" / "stages" / "graph" / "table.json")
    assert table.values("intra", "pairs")
    assert "purity" not in table.metrics


def test_tracks_may_be_a_column_of_a_file(tmp_path):
    source = photographs(tmp_path / "things", 2, 6)
    rows = [f"{name},{'left' if name.endswith(('0.png', '1.png')) else 'right'}" for name in source.names]
    (tmp_path / "tracks.csv").write_text("\n".join(["file,side", *rows]) + "\n")
    found = tracks_of(source, f"{tmp_path / 'tracks.csv'}:side")
    left = np.array([name.endswith(("0.png", "1.png")) for name in source.names])
    assert len(set(found[left])) == len(set(found[~left])) == 1
    assert found[left][0] != found[~left][0]
    with pytest.raises(ValueError, match="FILE:COLUMN"):
        tracks_of(source, "video")


def test_a_run_that_was_killed_after_its_pairs_goes_on_with_them(filmed, done, tmp_path, monkeypatch):
    append = Store.append

    def killed(store, ids, **columns):
        append(store, ids, **columns)
        if "kind" in columns:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Store, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            run(filmed, tmp_path)
    run(filmed, tmp_path)
    for kind in ("intra", "inter", "transitive"):
        assert np.array_equal(pairs_of(filmed, done, kind), pairs_of(filmed, tmp_path, kind))


def test_pairs_inside_a_track_are_intra_and_all_others_join_two_tracks(filmed, done):
    track = np.asarray(filmed.column("track"))
    for kind, inside in (("intra", True), ("inter", False), ("transitive", False)):
        pairs = pairs_of(filmed, done, kind)
        assert ((track[pairs[:, 0]] == track[pairs[:, 1]]) == inside).all()
    # Every sample has a view of its own track, with or without an edge.
    assert len(np.unique(pairs_of(filmed, done, "intra"))) == len(filmed)


def test_inter_edges_stay_inside_a_cluster(filmed, done):
    joined = filmed.joined(Store(done / "stages" / "clusters" / "store"))
    cluster = np.asarray(joined.column("cluster"))
    pairs = pairs_of(filmed, done, "inter")
    assert (cluster[pairs[:, 0]] == cluster[pairs[:, 1]]).all()


def test_what_follows_differs_more_in_viewpoint_than_the_edges_it_follows_from():
    # The look-alikes of a perfect first feature: nearest in class and angle.
    digits = open_source("digits", progress=False).at(np.arange(200))
    source = tracks(digits, 4, size=8, seed=0)
    angle, label, track = (np.asarray(source.column(name)) for name in ("truth_angle", "label", "track"))
    gap = np.abs(angle[:, None] - angle) + 1e3 * (label[:, None] != label) + 1e6 * (track[:, None] == track)
    edges = torch.from_numpy(np.stack([np.arange(len(gap)), gap.argmin(1)], axis=1))
    kinds = pair_kinds(edges, torch.from_numpy(track), 1, torch.Generator().manual_seed(0))
    apart = {kind: np.abs(angle[pairs[:, 0]] - angle[pairs[:, 1]]).mean() for kind, pairs in kinds.items()}
    assert apart["inter"] < 3
    assert apart["transitive"] > 10 * apart["inter"]


def test_more_draws_find_more_pairs():
    track = torch.arange(40) // 8
    edges = torch.tensor([[0, 8], [9, 20]])
    few, many = (pair_kinds(edges, track, draws, torch.Generator().manual_seed(0)) for draws in (1, 6))
    assert len(many["intra"]) > len(few["intra"])
    assert len(few["transitive"]) == 6 < len(many["transitive"])


def test_tracks_are_folders_or_a_field(filmed, tmp_path):
    for name in ("cup/1.png", "cup/2.png", "shoe/red/1.png", "shoe/red/2.png", "alone.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), len(name)).save(path)
    folder = open_source(tmp_path, cache=False, progress=False)
    by_name = dict(zip(folder.names, tracks_of(folder, "folder").tolist(), strict=True))
    assert by_name["cup/1.png"] == by_name["cup/2.png"]
    assert by_name["shoe/red/1.png"] == by_name["shoe/red/2.png"]
    assert len(set(by_name.values())) == 3
    assert np.array_equal(tracks_of(filmed, "track"), filmed.column("track"))


def test_samples_of_an_unknown_track_are_each_alone():
    schema = Schema(track=Field("group"))
    source = ArraySource("four", {"track": np.array([2, -1, 2, -1])}, schema, np.arange(4))
    assert len(set(tracks_of(source, "track").tolist())) == 3


def test_the_kinds_of_pairs_share_every_batch(filmed, tmp_path):
    recipe = Transitive(tracks="track", clusters=3)
    store = Store(name="pairs")
    track = torch.from_numpy(tracks_of(filmed, "track"))
    kinds = pair_kinds(torch.tensor([[0, 8], [4, 12]]), track, 2, torch.Generator().manual_seed(0))
    for kind, pairs in kinds.items():
        first, second = filmed.ids[pairs.numpy()].T
        store.append(first * 7 + second, first=first, second=second, kind=[kind] * len(pairs))
    shown = recipe._shown(filmed, store)
    assert shown.shares == pytest.approx({"transitive": 0.6, "intra": 0.2, "inter": 0.2})
    recipe.pairs = "union"
    assert recipe._shown(filmed, store).shares == {"intra": 0.5, "inter": 0.5}
    recipe.pairs = "without_inter"
    assert recipe._shown(filmed, store).shares == pytest.approx({"transitive": 0.75, "intra": 0.25})


def test_the_whole_graph_follows_from_the_seed(filmed, done, tmp_path):
    run(filmed, tmp_path)
    for kind in ("intra", "inter", "transitive"):
        assert np.array_equal(pairs_of(filmed, done, kind), pairs_of(filmed, tmp_path, kind))
    edges, track = torch.tensor([[0, 8], [9, 20]]), torch.arange(40) // 8
    one, other = (pair_kinds(edges, track, 2, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert not torch.equal(one["intra"], other["intra"])


def test_all_pairs_are_written_at_once_so_that_a_kill_leaves_none_or_all(filmed, tmp_path, monkeypatch):
    written, append = [], Store.append

    def killed(store, ids, **columns):
        append(store, ids, **columns)
        if "kind" in columns:
            written.append(sorted(set(columns["kind"])))
            raise KeyboardInterrupt

    monkeypatch.setattr(Store, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        run(filmed, tmp_path)
    assert written == [["inter", "intra", "transitive"]]


def test_a_single_track_is_an_error_before_anything_is_trained(tmp_path):
    digits = open_source("digits", progress=False).at(np.arange(40))
    alone = Store(name="tracks", schema={"place": Field("group")})
    alone.append(digits.ids, place=np.zeros(40, dtype=np.int64))
    with pytest.raises(ValueError, match=r"all samples of .* are of one track"):
        run(digits.joined(alone), tmp_path, tracks="place")
    assert not (tmp_path / "stages").exists()


def test_tracks_that_are_the_classes_are_warned_of(filmed, tmp_path):
    classes = Store(name="classes", schema={"kind": Field("group")})
    classes.append(filmed.ids, kind=np.asarray(filmed.column("label")))
    with pytest.warns(UserWarning, match="labels choose the pairs along a track") as told:
        run(filmed.joined(classes), tmp_path / "classes", tracks="kind")
    assert sum("labels choose" in str(one.message) for one in told) == 1
    with warnings.catch_warnings(record=True) as other:
        warnings.simplefilter("always")
        run(filmed, tmp_path / "tracks")
    assert not any("labels choose" in str(one.message) for one in other)


def test_a_stream_is_refused_before_anything_is_trained(filmed, tmp_path):
    there = site(filmed, tmp_path)
    there.source = copy.copy(filmed)
    there.source.streaming = True
    with pytest.raises(ValueError, match="is a stream"):
        Transitive(tracks="track").stages(there)


@pytest.mark.filterwarnings("ignore:.*clusters are empty")
def test_images_that_are_all_alike_are_an_error(tmp_path):
    image = torch.randint(0, 256, (1, 1, 12, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    digits = open_source("digits", progress=False).at(np.arange(40))
    fields = {"image": image.expand(40, -1, -1, -1).contiguous(), "track": np.arange(40) // 4}
    schema = Schema(image=Field("image", (1, 12, 12)), track=Field("group"))
    with pytest.raises(ValueError, match="lie in one cluster"):
        run(ArraySource("alike", fields, schema, digits.ids), tmp_path)


def test_codes_that_differ_by_rounding_alone_point_nowhere():
    alike = torch.full((160, 5), 0.1)
    alike[3] += 1e-9
    assert not centred(alike).any()
    some = torch.cat([alike, torch.rand(4, 5)])
    torch.testing.assert_close(centred(some), some - some.mean(0))


def test_without_tracks_only_look_alikes_are_left_which_is_said(tmp_path):
    digits = open_source("digits", progress=False).at(np.arange(60))
    with pytest.warns(UserWarning, match="no intra and no transitive pair"):
        run(digits, tmp_path / "a", tracks="folder")
    with pytest.raises(ValueError, match="no track has two samples"):
        run(digits, tmp_path / "b", tracks="folder", pairs="intra")


@pytest.mark.parametrize("options", [{}, {"semi_hard": True}, {"margin": 0.1}])
def test_negatives_are_mined_after_the_beginning_among_samples_that_share_no_mark(filmed, done, options):
    joined = filmed.joined(Store(done / "stages" / "clusters" / "store"))
    pairs = stored_pairs(joined, Store(done / "stages" / "pairs" / "store"), "inter")
    torch.manual_seed(0)
    method = PairTriplets(
        build("small:convnet", schema=filmed.schema, width=4),
        marks=("cluster", "track"),
        hardest=2,
        view="none",
        **options,
    )
    for step, hardest in ((0, None), (50, 2)):
        progress = Progress(step, 100, 0, torch.Generator().manual_seed(0))
        views = method.views(pairs.batch(np.arange(len(pairs))), progress)
        loss = method.loss(views, progress)
        expected = pair_triplets(
            *(loss.watch[name] for name in ("projection", "projection_b")),
            *(views[name] for name in ("marks_a", "marks_b")),
            hardest=hardest,
            margin=options.get("margin", 0.5),
            semi_hard=options.get("semi_hard", False) and hardest is not None,
        )
        assert torch.equal(loss.total, expected.total)
    assert torch.equal(views["marks_b"][:, 1], torch.from_numpy(np.asarray(pairs.column("other_track"))))


@pytest.mark.parametrize("settings", [{"batch_size": 1}, {"batch_size": 4, "accumulate": 4}])
def test_one_pair_at_a_time_is_refused_before_anything_is_trained(filmed, tmp_path, settings):
    with pytest.raises(ValueError, match=r"at least 2 pairs must be seen at once; got batch size [14]"):
        Transitive(tracks="track", pairs="intra").stages(site(filmed, tmp_path, **settings))


def test_images_without_a_negative_are_counted_and_a_batch_of_such_teaches_nothing(filmed, done):
    method = PairTriplets(build("small:convnet", schema=filmed.schema, width=4), marks=("cluster", "track"))
    joined = filmed.joined(Store(done / "stages" / "clusters" / "store"))
    pairs = stored_pairs(joined, Store(done / "stages" / "pairs" / "store"), "inter")
    first = np.asarray(pairs.column("cluster"))
    assert len(np.unique(first)) > 1

    def loss(positions):
        progress = Progress(0, 10, 0, torch.Generator().manual_seed(0))
        return method.loss(method.views(pairs.batch(positions), progress), progress)

    one = np.flatnonzero(first == first[0])[:3]
    alike = loss(one)
    alike.total.backward()
    assert float(alike.total.detach()) == 0
    assert all(p.grad is not None and not p.grad.any() for p in method.parameters())
    assert loss(np.array([one[0], np.flatnonzero(first != first[0])[0]])).total > 0
    method.eval()
    loss(one)
    assert method.told() == (
        f"{2 * len(one)} of {2 * len(one) + 4} images shown found no negative in their batch and were left out; 1 of 2 "
        "batches held none for any image and taught nothing"
    )
    again = PairTriplets(build("small:convnet", schema=filmed.schema, width=4), marks=("cluster", "track"))
    again.remember(method.memory())
    assert again.told() == method.told()


def test_what_was_left_out_of_the_last_training_is_said(done):
    (said,) = (done / "stages" / "triplets" / "notes.txt").read_text().splitlines()
    assert " of 160 images shown found no negative in their batch" in said
    assert " of 4 batches held none" in said


def test_pairs_none_of_which_can_have_a_negative_are_refused():
    marks = torch.tensor([[0, 0], [1, 0], [1, 1], [2, 2]])
    # The third pair spans both clusters that there are, the others both tracks.
    first, second = marks[[0, 0, 1]], marks[[1, 2, 2]]
    with pytest.raises(ValueError, match="none differs in cluster and track from both images of any pair"):
        check_negatives(first, second, ("cluster", "track"))
    check_negatives(torch.cat([first, marks[[3]]]), torch.cat([second, marks[[3]]]), ("cluster", "track"))


@pytest.mark.filterwarnings("ignore:.*labels choose the pairs")
def test_a_graph_without_negatives_is_an_error_before_the_last_training(filmed, tmp_path, monkeypatch):
    # Two tracks, and edges between them alone.
    two = filmed.at(np.flatnonzero(tracks_of(filmed, "track") < 2))
    monkeypatch.setattr(Transitive, "edges", lambda *_: torch.tensor([[0, len(two) - 1]]))
    with pytest.raises(ValueError, match="no pair can have a negative"):
        recipe = Transitive(tracks="track", clusters=2, autoencoder_epochs=1, view="none", pairs="inter")
        Run(recipe.stages(site(two, tmp_path, batch_size=4)), tmp_path).result()
    assert not (tmp_path / "stages" / "triplets").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pairs": "both"}, "kind of pairs"),
        ({"neighbours": 0}, "at least 1"),
        ({"draws": 0}, "at least 1"),
        ({"clusters": 1}, "at least 2"),
        ({"least": 1.5}, "cosine"),
        ({"clusters": 500}, "160"),
        ({"margin": 0.0}, "margin"),
        ({"mine_from": 2.0}, "mine_from"),
        ({"tracks": "video"}, "video"),
    ],
)
def test_options_out_of_range_are_refused(filmed, tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        run(filmed, tmp_path, **options)
