"""MCL: stages on groups that earlier stages cannot tell apart, as batches or as a mask, and their encoders joined."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from autodidact.data import RandomBatching, SameBatching, Source, Store, open_source
from autodidact.data.arrays import array_source
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel
from autodidact.methods.image.barlow_twins import BarlowTwins
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.method import Progress
from autodidact.methods.same_group import SameGroup
from autodidact.model import load_model
from autodidact.objectives import info_nce, same_slot
from autodidact.recipes.multistage import Multistage
from autodidact.recipes.names import demands, encoder_maker, find
from autodidact.recipes.stages import Run, Site
from autodidact.targets import kmeans
from autodidact.training import Settings, train
from autodidact.training.feed import seeded, share

BATCH = 16


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False).at(np.arange(320))


def site(source, folder, **settings):
    maker = encoder_maker({"encoder": "small:convnet"}, source, 0, {"width": 4})
    return Site(source, maker, Settings(**{"steps": 4, "batch_size": BATCH, **settings}), folder, quiet=True)


def run(source, folder, **options):
    return Run(Multistage(**{"clusters": 3, **options}).stages(site(source, folder)), folder).result()


SIMCLR, MOCO = "simclr", {"name": "moco", "queue": BATCH}


@pytest.fixture(scope="module")
def three_stages(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("three")
    return run(digits, folder, further=2), folder


@pytest.fixture(scope="module")
def three_stages_of_moco(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("moco")
    return run(digits, folder, further=2, method=MOCO), folder


both = pytest.mark.parametrize(
    ("stages", "method"), [("three_stages", SIMCLR), ("three_stages_of_moco", MOCO)], ids=["simclr", "moco"]
)


def store_of(folder, stage):
    return Store(folder / "stages" / stage / "store", name=stage)


# Batches of one group.


def test_every_batch_is_of_one_group_and_no_sample_comes_twice_in_an_epoch(digits, three_stages):
    source = digits.joined(store_of(three_stages[1], "clusters.1"), ["group"])
    groups = np.asarray(source.column("group"))
    plan = SameBatching("group").plan(source, BATCH, seed=3)
    drawn = np.concatenate(plan)
    assert all(len(set(groups[batch])) == 1 for batch in plan)
    assert len(np.unique(drawn)) == len(drawn)


def test_an_epoch_has_as_many_batches_of_each_group_as_the_authors_sampler_gives():
    """A check made once outside this repository, and its figures kept.

    MCL_batch_sampler_DDP of my_training/data.py in MajorDavidZhang/MCL at commit cab98c1 was run on 30 sets of random
    labels (200 to 640 samples, 1 to 10 groups, batches of 8 to 24) as one process and on 10 as two. In all of them it
    gives as many full batches of each group, leaves as many samples out, and its two processes share no sample and go
    through the groups in lock step. Only the order differs: its turns of the groups are fixed, these are drawn. Here is
    what it gives, as one process and as each of two, for labels by a formula.
    """
    labels = np.arange(400) ** 2 % 7
    data = array_source(np.zeros((400, 1, 1), np.uint8), "squares")
    for processes, theirs in ((1, [3, 7, 7, 0, 7]), (2, [1, 3, 3, 0, 3])):
        plan = SameBatching("group").plan(grouped(data, labels), processes * 16, seed=0)
        assert np.bincount([labels[share(batch, 0, processes)[0]] for batch in plan]).tolist() == theirs
        assert {len(share(batch, rank, processes)) for batch in plan for rank in range(processes)} == {16}


def test_what_an_epoch_leaves_out_is_counted_and_reported(digits, three_stages):
    source = digits.joined(store_of(three_stages[1], "clusters.0"), ["group"])
    plan = SameBatching("group").plan(source, BATCH, seed=0)
    lost = len(source) - sum(len(batch) for batch in plan)
    notes = (three_stages[1] / "stages" / "clusters.0" / "notes.txt").read_text()
    assert f"{lost} of 320 samples" in notes


def test_a_single_cluster_gives_the_batches_of_ordinary_training(digits):
    store = Store(name="one")
    store.append(digits.ids, group=np.zeros(len(digits), dtype=np.int64))
    one = SameBatching("group").plan(digits.joined(store), BATCH, seed=5)
    ordinary = RandomBatching().plan(digits, BATCH, seed=5)
    assert {tuple(batch) for batch in one} == {tuple(batch) for batch in ordinary}


def test_processes_share_a_batch_of_one_group_without_overlap(digits, three_stages):
    source = digits.joined(store_of(three_stages[1], "clusters.0"), ["group"])
    groups = np.asarray(source.column("group"))
    for batch in SameBatching("group").plan(source, BATCH, seed=0):
        mine, theirs = share(batch, 0, 2), share(batch, 1, 2)
        assert not set(mine) & set(theirs)
        assert len(set(groups[mine]) | set(groups[theirs])) == 1


def test_groups_below_two_batches_are_merged_and_the_clusters_of_each_stage_are_kept_as_they_were(three_stages):
    for number in range(2):
        store = store_of(three_stages[1], f"clusters.{number}")
        assert np.bincount(np.asarray(store.column("group"))).min() >= 2 * BATCH
        assert set(np.asarray(store.column("cluster"))) <= {0, 1, 2}


def test_the_second_grouping_refines_the_first_where_nothing_is_merged(digits, tmp_path):
    run(digits, tmp_path, further=2, smallest=0.0, form="mask")
    first, second = (store_of(tmp_path, f"clusters.{k}") for k in range(2))
    pairs = {tuple(row) for row in zip(first.column("cluster"), second.column("cluster"), strict=True)}
    assert len(set(np.asarray(second.column("group")))) == len(pairs)


class Watching(Site):
    """Remembers what every training is given."""

    def train(self, stage, method, source, settings=None, **more):
        self.seen = {**getattr(self, "seen", {}), stage: (method, source)}
        return super().train(stage, method, source, settings, **more)


@pytest.fixture(scope="module")
def watched(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    usual = site(digits, folder)
    place = Watching(usual.source, usual.encoder, usual.settings, folder, quiet=True)
    Run(Multistage(clusters=3, further=2).stages(place), folder).result()
    return place.seen, folder


def test_every_further_stage_trains_on_batches_of_one_of_its_groups_and_the_first_does_not(watched):
    seen, folder = watched
    assert isinstance(seen["train.0"][0].batching, RandomBatching)
    assert "group" not in seen["train.0"][1].schema
    for number in (1, 2):
        method, source = seen[f"train.{number}"]
        assert isinstance(method.batching, SameBatching)
        assert method.batching.field == "group"
        assert np.array_equal(source.column("group"), store_of(folder, f"clusters.{number - 1}").column("group"))


def test_each_stages_clusters_are_k_means_of_its_own_unit_features(watched):
    for number in (0, 1):
        rows = torch.from_numpy(np.array(store_of(watched[1], f"features.{number}").column("embedding")))
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))
        generator = torch.Generator().manual_seed(seeded(0, f"clusters.{number}"))
        wanted = kmeans(rows, 3, generator=generator).labels
        assert np.array_equal(store_of(watched[1], f"clusters.{number}").column("cluster"), wanted.numpy())


def test_a_method_that_cannot_be_joined_or_masked_is_refused_before_anything_is_trained(digits, tmp_path):
    with pytest.raises(ValueError, match="stages are joined by their encoders"):
        run(digits, tmp_path, further=1, method="sla")
    with pytest.raises(ValueError, match="does not say which pairs may repel"):
        run(digits, tmp_path, further=1, method="barlow_twins", form="mask")
    assert not (tmp_path / "stages").exists()


def test_groups_that_fill_no_batch_are_an_error_that_names_the_options(digits, tmp_path):
    few = digits.at(np.arange(40))
    with pytest.raises(ValueError, match="none of the 12 groups has the 16 samples of a batch: start again with fewer"):
        run(few, tmp_path, clusters=12, further=1, smallest=0.0)


# The mask.


def views_of(method, source, n=24):
    progress = Progress(0, 10, 0, torch.Generator().manual_seed(0))
    return method.views(source.batch(np.arange(n)), progress), progress


def grouped(source, groups):
    store = Store(name="groups")
    store.append(source.ids, group=np.asarray(groups, dtype=np.int64))
    return source.joined(store)


def simclr(source):
    torch.manual_seed(0)
    return SimCLR(build("small:convnet", schema=source.schema, width=4), temperature=0.3)


def test_the_mask_on_a_batch_of_one_group_is_the_method_itself(digits):
    source = grouped(digits, np.zeros(len(digits)))
    method = simclr(digits)
    masked, progress = views_of(SameGroup(method, "group"), source)
    plain, _ = views_of(method, source)
    assert float(method.loss(masked, progress).total.detach()) == pytest.approx(
        float(method.loss(plain, progress).total.detach()), rel=1e-6
    )


def test_on_a_batch_of_several_groups_only_those_of_one_group_repel_each_other(digits):
    groups = np.arange(len(digits)) % 3
    method, source = simclr(digits), grouped(digits, groups)
    wrapped = SameGroup(method, "group")
    views, progress = views_of(wrapped, source, 12)
    z = method.projector(method.encoder(torch.cat([views["a"], views["b"]])).pooled).chunk(2)
    own = torch.from_numpy(groups[:12])
    found = float(wrapped.loss(views, progress).total.detach())
    assert found == pytest.approx(float(info_nce(*z, 0.3, allowed=same_slot(own, own)).detach()), rel=1e-5)
    assert found < 0.9 * float(info_nce(*z, 0.3).detach())


def test_samples_without_another_of_their_group_are_counted_and_a_batch_of_such_teaches_nothing(digits, recwarn):
    method = SameGroup(simclr(digits), "group")
    some, progress = views_of(method, grouped(digits, [0, 0, 1, 2, *range(3, 319)]), 4)
    assert float(method.loss(some, progress).total.detach()) > 0
    none, _ = views_of(method, grouped(digits, np.arange(320)), 6)
    loss = method.loss(none, progress).total
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(p.grad is not None and not p.grad.any() for p in method.parameters())
    assert method.told() == (
        "8 of 10 samples shown had no other of their group in their batch and repelled none; 1 of 2 batches were all "
        "of such and taught nothing"
    )
    again = SameGroup(simclr(digits), "group")
    again.remember(method.memory())
    assert again.told() == method.told()
    assert not [w for w in recwarn if "anchors" in str(w.message)]


def test_small_batches_of_many_groups_train_to_the_end_in_the_masked_form(digits, tmp_path):
    place = site(digits, tmp_path, steps=30, batch_size=4)
    Run(Multistage(form="mask", clusters=10, further=1, smallest=0.0).stages(place), tmp_path).result()
    notes = (tmp_path / "stages" / "train.1" / "notes.txt").read_text()
    alone = int(notes.split(" of 120 samples shown had no other")[0])
    assert 0 < alone < 120
    assert "of 30 batches were all of such" in notes
    assert not notes.split("; ")[1].startswith("0 ")


def test_the_masked_loss_is_the_naive_one_in_float64():
    generator = torch.Generator().manual_seed(0)
    z1, z2 = torch.randn(2, 9, 5, dtype=torch.float64, generator=generator)
    groups = torch.tensor([0, 1, 0, 2, 1, 1, 0, 2, 2])
    z = torch.nn.functional.normalize(torch.cat([z1, z2])).tolist()
    total = 0.0
    for i in range(18):

        def similarity(j, i=i):
            return sum(a * b for a, b in zip(z[i], z[j], strict=True)) / 0.2

        partner = (i + 9) % 18
        others = [j for j in range(18) if j not in (i, partner) and groups[j % 9] == groups[i % 9]]
        below = math.exp(similarity(partner)) + sum(math.exp(similarity(j)) for j in others)
        total -= math.log(math.exp(similarity(partner)) / below)
    found = info_nce(z1, z2, 0.2, allowed=same_slot(groups, groups))
    assert float(found) == pytest.approx(total / 18, rel=1e-10)


def test_samples_alone_with_their_group_are_skipped_and_counted():
    z1, z2 = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="2 of 10 anchors"):
        # The two views of the last sample have each other, and nothing to repel.
        found = info_nce(z1, z2, 0.2, allowed=same_slot(*[torch.tensor([0, 0, 1, 1, 2])] * 2), reduction="none")
    assert found[[4, 9]].tolist() == [0.0, 0.0]
    assert (found[[0, 1, 2, 3]] > 0).all()


def test_a_sample_of_unknown_group_repels_nothing():
    groups = torch.tensor([-1, -1, 0])
    rows = torch.arange(6)
    allowed = same_slot(groups, groups)(rows, rows)
    assert not allowed[[0, 1, 3, 4]].any()
    assert not allowed[:, [0, 1, 3, 4]].any()
    assert allowed[2, 5]


def test_a_method_without_pairs_that_repel_cannot_be_masked(digits):
    method = BarlowTwins(build("small:convnet", schema=digits.schema, width=4), dimensions=16)
    with pytest.raises(ValueError, match="BarlowTwins does not say which pairs may repel"):
        SameGroup(method, "group")


def test_in_the_masked_form_the_trainer_descends_on_a_wrapped_method(digits, tmp_path):
    model = run(digits, tmp_path, further=1, form="mask", method={"name": "dcl", "temperature": 0.2})
    assert set(model.encoders) == {"train_0_encoder", "train_1_encoder"}


# What is kept.


@both
def test_the_similarity_of_the_kept_model_is_the_sum_of_the_stages_cosines(digits, stages, method, request):
    model, folder = request.getfixturevalue(stages)
    batch = digits.batch(np.arange(12))
    stages = [load_model(folder / "stages" / f"train.{k}" / "model") for k in range(3)]
    with torch.no_grad():
        rows = model.embed(batch).double()
        each = [torch.nn.functional.normalize(stage.embed(batch).double()) for stage in stages]
    torch.testing.assert_close(rows @ rows.T, sum(e @ e.T for e in each), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rows.norm(dim=1), torch.full((12,), 3**0.5, dtype=torch.float64))


def test_without_further_stages_it_is_the_method_itself(digits, tmp_path):
    model = run(digits, tmp_path / "recipe", further=0)
    maker = encoder_maker({"encoder": "small:convnet"}, digits, 0, {"width": 4})
    from autodidact.recipes.names import method_of

    base = train(method_of("simclr", maker, digits, 0), digits, Settings(steps=4, batch_size=BATCH), quiet=True)
    batch = digits.batch(np.arange(8))
    with torch.no_grad():
        assert torch.equal(model.embed(batch), base.embed(batch))


def test_every_stage_starts_from_weights_of_its_own_unless_it_goes_on_from_the_one_before(digits, tmp_path):
    def first_weights(start):
        recipe, place = Multistage(further=1, clusters=3, start=start), site(digits, tmp_path / start)
        before = EncoderModel({"encoder": place.encoder("encoder")})
        return before["encoder"].stages[0][0].weight, recipe._encoder(place, 1, before)("encoder").stages[0][0].weight

    assert torch.equal(*first_weights("previous"))
    assert not torch.equal(*first_weights("fresh"))


@both
def test_the_same_seed_gives_the_same_model_and_a_run_that_was_cut_off_ends_alike(
    digits, stages, method, request, tmp_path
):
    model, _ = request.getfixturevalue(stages)
    whole = Multistage(clusters=3, further=2, method=method).stages(site(digits, tmp_path))
    Run(whole[:4], tmp_path).result()
    again = Run(whole, tmp_path).result()
    batch = digits.batch(np.arange(8))
    with torch.no_grad():
        assert torch.equal(model.embed(batch), again.embed(batch))


# The method as an option.


def test_a_recipe_asks_for_what_the_method_that_it_trains_asks_for():
    cls, card = find("multistage")
    asked = demands(cls, card, {"method": "t_jepa"})
    known, own = find("t_jepa")
    assert (asked.needs, asked.encoder) == (known.needs, own.encoder)
    assert demands(cls, card, {}).needs == {"image": "image"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "dlc"}, "did you mean 'dcl'"),
        ({"method": {"name": "dcl", "temperatur": 1}}, "did you mean 'temperature'"),
        ({"method": "g_simclr"}, "is a recipe"),
        ({"further": -1}, "further"),
        ({"clusters": 0}, "clusters"),
        ({"form": "batch"}, "form"),
        ({"start": "old"}, "start"),
        ({"clusters": 500}, "500 clusters .* 320"),
        ({"method": "barlow_twins", "form": "mask"}, "does not say which pairs"),
    ],
)
def test_options_that_make_no_sense_are_refused(digits, tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        run(digits, tmp_path, **{"further": 1, **options})


def test_features_that_are_not_finite_are_refused_by_name(digits, tmp_path):
    place = site(digits, tmp_path)
    model = EncoderModel({"encoder": place.encoder("encoder")})
    torch.nn.init.constant_(model["encoder"].stages[0][0].weight, float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        place.embedded("features.0", model, digits)


def test_features_of_other_samples_than_the_source_has_are_refused(digits, tmp_path):
    place = site(digits, tmp_path)
    store = Store(name="features.0")
    store.append(digits.ids[:300], embedding=torch.randn(300, 4))
    with pytest.raises(ValueError, match="knows 300 samples, 'digits' has 320"):
        Multistage(clusters=3)._clusters(place, 0, {"features.0": store})


def test_clusters_that_are_all_one_are_said_to_change_nothing(digits, tmp_path):
    run(digits, tmp_path, further=1, clusters=1)
    assert "a single group" in (tmp_path / "stages" / "clusters.0" / "notes.txt").read_text()


@pytest.mark.filterwarnings("ignore:.*clusters are empty")
def test_features_that_are_all_alike_make_a_single_group_which_is_said(digits, tmp_path, monkeypatch):
    alike = torch.ones(len(digits), 4)
    monkeypatch.setattr("autodidact.recipes.multistage._column", lambda *_: alike)
    run(digits, tmp_path, further=1, clusters=3)
    assert "a single group" in (tmp_path / "stages" / "clusters.0" / "notes.txt").read_text()
