"""Protocols with several figures: by group, of neighbours, of corrupted images, of copies, with few labels."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from autodidact.data import ArraySource, Batch, Field, Schema, split
from autodidact.data.grouping import groups_of
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel
from autodidact.evaluation.arms import Bench, pretrained
from autodidact.evaluation.audit import (
    Groups,
    Sight,
    Truth,
    look_at_classes,
    look_at_names,
    look_for_copies,
    look_for_neighbours,
    look_through_corruption,
    look_with_few_labels,
    score_associations,
    score_corruption,
    score_groups,
    score_neighbours,
)
from autodidact.evaluation.frozen import Frozen
from autodidact.evaluation.linear import fit_probe
from autodidact.evaluation.table import Table
from autodidact.verbs.evaluate import evaluate

TWO = Groups(np.array([0, 0, 0, 1, 1, 1]), ("lit", "dark"), least=1)


def frozen(classes=2, per_class=10, test=60, spread=0.3, seed=0):
    rng = np.random.default_rng(seed)
    centres = 3 * np.eye(classes, max(4, classes))
    answers, truth = np.repeat(np.arange(classes), per_class), rng.integers(classes, size=test)
    rows, held = (
        (centres[of] + rng.normal(0, spread, (len(of), centres.shape[1]))).astype(np.float32) for of in (answers, truth)
    )
    nobody = np.empty((0, rows.shape[1]), dtype=np.float32)
    return Frozen(rows, answers, nobody, held, classes, seed), truth


def test_accuracy_by_group_of_predictions_made_by_hand():
    ranked = np.array([[0], [1], [1], [0], [0], [1]])
    found = score_groups(ranked, Truth(np.array([0, 1, 0, 1, 1, 1]), TWO))
    assert found == {
        "accuracy worst": 1 / 3,
        "accuracy gap": 2 / 3 - 1 / 3,
        "accuracy lit": 2 / 3,
        "accuracy dark": 1 / 3,
    }


def test_hits_are_counted_where_more_classes_exist_than_are_named():
    ranked = np.array([[0, 1, 2, 3, 4], [5, 4, 3, 2, 1], [1, 0, 2, 3, 4]])
    groups = Groups(np.array([0, 0, 1]), ("a", "b"), least=1)
    found = score_groups(ranked, Truth(np.array([4, 0, 1]), groups))
    assert (found["hit@5 a"], found["hit@5 b"], found["hit@5 gap"]) == (0.5, 1.0, 0.5)
    assert (found["accuracy a"], found["accuracy worst"]) == (0.0, 0.0)
    few, many = (look_at_classes(Sight(frozen(classes)[0], lambda change: None)) for classes in (5, 6))
    assert (few.shape[1], many.shape[1]) == (1, 5)


def test_a_group_with_too_few_members_is_named_with_their_number():
    groups = Groups(np.array([0, 0, 0, 0, 0, 1]), ("common", "rare"), least=2)
    found = score_groups(np.zeros((6, 1), dtype=np.int64), Truth(np.array([0, 0, 1, 1, 1, 1]), groups))
    assert found["accuracy rare (1 only)"] == 0.0
    assert (found["accuracy worst"], found["accuracy gap"]) == (2 / 5, 0.0)
    without = replace(groups, names=("common", "rare", "absent"))
    again = score_groups(np.zeros((6, 1), dtype=np.int64), Truth(np.array([0, 0, 1, 1, 1, 1]), without))
    assert again == found


def test_harmful_names_are_counted_where_they_are_wrong_and_confident_enough_by_hand():
    ranked = np.array([[2, 0], [0, 2], [2, 1], [1, 0], [0, 1], [1, 2]])
    confident = np.array([[0.95, 0.05], [0.6, 0.4], [0.7, 0.3], [0.9, 0.1], [1.0, 0.0], [0.5, 0.05]])
    truth = Truth(np.array([0, 0, 2, 1, 0, 1]), TWO, harmful=np.array([2]))
    found = score_associations((ranked, confident), truth)
    # Row 0 is taken for class 2 with 0.95, row 1 with 0.4, row 5 with too little; row 2 is of class 2.
    assert (found["rate@0.1"], found["rate@0.5"], found["rate@0.9"]) == (2 / 6, 1 / 6, 1 / 6)
    assert (found["rate@0.3 lit"], found["rate@0.3 dark"]) == (2 / 3, 0.0)
    assert (found["rate@0.3 worst"], found["rate@0.3 gap"]) == (2 / 3, 2 / 3)
    several = score_associations((ranked, confident), Truth(truth.answers, TWO, harmful=np.array([1, 2])))
    assert several["rate@0.3"] == found["rate@0.3"] + 1 / 6  # row 2 names class 1 beside its own


def test_how_likely_names_are_is_the_probes_softmax_over_the_classes_that_had_labels():
    draw, _ = frozen(classes=7)
    ranked, confident = look_at_names(Sight(draw, lambda change: None))
    assert ranked.shape == confident.shape == (60, 5)
    probe = fit_probe(draw)
    logits = draw.test @ probe.weight.T + probe.bias
    odds = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(confident, np.take_along_axis(odds, ranked, axis=1), rtol=1e-9)
    assert (np.diff(confident, axis=1) <= 0).all()
    assert np.array_equal(ranked[:, 0], probe.predict(draw.test))


def test_neighbours_of_rows_on_a_circle_by_hand():
    angles = np.deg2rad([0, 10, 25, 180, 190, 207])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    seen = Frozen(np.array([[1.0, 0], [-1, 0]], dtype=np.float32), np.array([0, 1]), rows[:0], rows, 2)
    near = look_for_neighbours(Sight(seen, lambda change: None))
    assert near[:, :2].tolist() == [[1, 2], [0, 2], [1, 0], [4, 5], [3, 5], [4, 3]]
    found = score_neighbours(near, Truth(np.array([0, 0, 1, 1, 1, 1]), TWO))
    assert found["P@1"] == pytest.approx(5 / 6)
    assert (found["P@1 lit"], found["P@1 dark"]) == (pytest.approx(2 / 3), 1.0)
    # All five others: one of two for the first two rows; three of four share the label of each other row.
    assert found["P@5"] == pytest.approx((2 * 1 / 5 + 4 * 3 / 5) / 6)
    assert "P@10" not in found


def test_precision_at_10_and_50_of_blobs_on_a_circle_by_hand():
    # Each side of the circle has a blob of 11 rows and, 5 degrees on, one of 40. So the 10 nearest of a row of a blob
    # of 11 are the rest of that blob, and the 50 nearest of any row the rest of its side.
    blobs = [(0, 11), (5, 40), (180, 11), (185, 40)]
    angles = np.deg2rad(np.concatenate([start + np.linspace(0, 1, size) for start, size in blobs]))
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    # Lit: 4 rows of class 0 and 7 of class 1, then 40 of class 0. Dark: 11 rows of class 2, then 40 of class 1.
    answers = np.repeat([0, 1, 0, 2, 1], [4, 7, 40, 11, 40])
    sides = Groups(np.repeat([0, 1], 51), ("lit", "dark"), least=1)
    seen = Frozen(np.array([[1.0, 0], [-1, 0]], dtype=np.float32), np.array([0, 1]), rows[:0], rows, 3)
    found = score_neighbours(look_for_neighbours(Sight(seen, lambda change: None)), Truth(answers, sides))
    at_10, at_50 = (4 * 3 / 10 + 7 * 6 / 10 + 40) / 51, (44 * 43 / 50 + 7 * 6 / 50) / 51
    assert (found["P@10 lit"], found["P@10 dark"]) == (pytest.approx(at_10), 1.0)
    assert (found["P@10 worst"], found["P@10 gap"]) == (pytest.approx(at_10), pytest.approx(1 - at_10))
    dark = (11 * 10 / 50 + 40 * 39 / 50) / 51
    assert (found["P@50 lit"], found["P@50 dark"]) == (pytest.approx(at_50), pytest.approx(dark))
    assert found["P@10"] == pytest.approx((1.2 + 4.2 + 40 + 51) / 102)
    assert found["P@50"] == pytest.approx((37.84 + 0.84 + 2.2 + 31.2) / 102)


def test_rows_that_are_all_alike_are_not_their_own_neighbours():
    same = np.ones((4, 3), dtype=np.float32)
    near = look_for_neighbours(Sight(Frozen(np.eye(3, dtype=np.float32), np.arange(3), same[:0], same, 3), None))
    assert all(row not in found for row, found in enumerate(near))


def test_corrupted_rows_are_told_apart_by_a_probe_of_clean_ones():
    seen, truth = frozen()
    asked = []

    def changed(change):
        asked.append(change)
        return seen.test if len(asked) <= 3 else -seen.test

    found = score_corruption(look_through_corruption(Sight(seen, changed)), Truth(truth))
    assert len(asked) == 12
    assert found["clean linear"] == found["noise 3 linear"] == found["noise 1 knn"] == 1.0
    assert found["blur 1 knn"] < 0.2
    of = [found[f"{kind} {s} knn"] for kind in ("noise", "blur", "contrast", "invert") for s in (1, 2, 3)]
    assert found["mean knn"] == pytest.approx(np.mean(of))


def test_copies_that_embed_as_their_originals_are_all_found_and_random_ones_are_not():
    rows = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
    seen = Frozen(rows[:50], np.arange(50) % 2, rows[50:120], rows[120:], 2)
    perfect = look_for_copies(Sight(seen, lambda change: seen.test))
    assert perfect == {"crop": 1.0, "noise": 1.0, "blur": 1.0, "contrast": 1.0, "mAP": 1.0}
    other = np.random.default_rng(1).normal(size=seen.test.shape).astype(np.float32)
    assert look_for_copies(Sight(seen, lambda change: other))["mAP"] < 0.15


def test_few_labels_go_as_far_as_the_rarest_class_and_larger_numbers_hold_the_smaller():
    seen, truth = frozen(3, per_class=11)
    said = look_with_few_labels(Sight(seen, lambda change: None))
    assert list(said) == ["1 a class", "2 a class", "5 a class", "10 a class"]
    assert all((classes == truth).mean() > 0.9 for classes in said.values())
    again = look_with_few_labels(Sight(seen, lambda change: None))
    assert all(np.array_equal(said[name], again[name]) for name in said)


# Through the verb.


@pytest.fixture(scope="module")
def source() -> ArraySource:
    rng = np.random.default_rng(0)
    labels, place = np.arange(240) % 3, np.where(np.arange(240) < 8, 2, np.arange(240) // 3 % 2)
    images = rng.integers(0, 80, (240, 1, 8, 8)).astype(np.uint8)
    for row, label in enumerate(labels):
        images[row, 0, 2 * label : 2 * label + 2] += 150 if place[row] != 1 else 60
    schema = Schema(
        image=Field("image", (1, 8, 8)), label=Field("label", classes=("top", "middle", "low")), place=Field("group")
    )
    names = [f"{i:03d}.png" for i in range(240)]
    fields = {"image": torch.from_numpy(images), "label": labels, "place": place}
    return ArraySource("bars", fields, schema, np.arange(240) + 1, names)


@pytest.fixture(scope="module")
def model() -> EncoderModel:
    torch.manual_seed(0)
    return EncoderModel({"encoder": build("small:convnet?width=4", image_size=8, channels=1)}).eval()


ALL = "groups,retrieval,corruption,copies,fewshot"


def test_every_protocol_serves_any_encoder_and_goes_on_where_a_table_was_left(model, source, tmp_path):
    run = model.save(tmp_path / "model")
    options = {"protocols": ALL, "seeds": 1, "group": "place", "group_min": 5, "baselines": "raw", "quiet": True}
    table = evaluate(run, source, **options)
    assert table.arms == ["raw", "pretrained"]
    for metric in (
        "groups accuracy worst",
        "groups accuracy 0",
        "retrieval P@10 gap",
        "corruption noise 3 linear",
        "copies mAP",
        "fewshot 20 a class",
    ):
        assert len(table.values("pretrained", metric)) == 1
    assert all(0 <= value <= 1 for *_, value in table.rows())
    # The hash holds 4 of the 8 rows of place 2 out.
    assert table.about["groups"] == {"0": 24, "1": 20, "2": 4}
    assert (table.about["groups_too_small"], table.about["without_group"]) == (["2"], 0)
    assert len(json.loads(json.dumps(table.plain()))["about"]["protocols"]) == 5
    kept = next((run / "evaluations").glob("*.json"))
    before = Table.load(kept)
    assert evaluate(run, source, **options) == before
    evaluate(run, source, **{**options, "protocols": "groups", "group_min": 4})
    assert len(list((run / "evaluations").glob("*.json"))) == 2


def test_facts_count_small_groups_empty_ones_and_rows_without_a_group(model, source):
    schema = Schema(source.schema | {"place": Field("group", classes=("lit", "dark", "dim", "moonless"))})
    rows, places = np.arange(222, 240), np.array([0] * 6 + [1] * 5 + [2] * 4 + [-1] * 3)
    held = ArraySource("held", source.batch(rows).fields | {"place": places}, schema, rows + 1)
    options = {"group": "place", "group_min": 5, "baselines": "none", "seeds": 1, "quiet": True}
    table = evaluate(model, source.at(np.arange(222)), test=held, protocols="groups", **options)
    about = json.loads(json.dumps(table.plain()))["about"]
    assert about["groups"] == {"lit": 6, "dark": 5, "dim": 4, "moonless": 0}
    assert about["groups_too_small"] == ["dim", "moonless"]
    assert (about["group_min"], about["without_group"], about["tested"]) == (5, 3, 18)
    shown = ("worst", "gap", "lit", "dark", "dim (4 only)")
    assert list(table.metrics) == [f"groups accuracy {name}" for name in shown]


def test_a_group_of_which_no_row_was_held_out_is_told(model, source, tmp_path):
    _, held = split(source, {"train": 0.8, "test": 0.2}, by="label").values()
    tested = {source.names[row] for row in np.flatnonzero(np.isin(source.ids, held.ids))}
    north = sorted(set(source.names) - tested)[:9]
    regions = dict.fromkeys(source.names, "south") | dict.fromkeys(north, "north")
    (tmp_path / "r.csv").write_text("\n".join(["file,region", *(f"{name},{of}" for name, of in regions.items())]))
    options = {"group": str(tmp_path / "r.csv"), "baselines": "none", "seeds": 1, "quiet": True}
    table = evaluate(model, source, protocols="groups", **options)
    assert table.about["groups"] == {"south": len(tested), "north": 0}
    assert table.about["groups_too_small"] == ["north"]


def test_harmful_classes_are_named_and_what_depends_on_them_is_kept_apart(model, source, tmp_path):
    run = model.save(tmp_path / "model")
    options = {"protocols": "associations", "seeds": 1, "group": "place", "group_min": 4, "baselines": "none"}
    table = evaluate(run, source, harmful="low", quiet=True, **options)
    assert table.about["harmful"] == ["low"]
    rates = [table.values("pretrained", f"associations rate@{t:g}")[0] for t in (0.1, 0.3, 0.5, 0.9)]
    assert rates == sorted(rates, reverse=True)
    worst, gap = (table.values("pretrained", f"associations rate@0.1 {what}")[0] for what in ("worst", "gap"))
    assert worst >= max(rates[0], gap)
    evaluate(run, source, harmful=["low", "top"], quiet=True, **options)
    assert len(list((run / "evaluations").glob("*.json"))) == 2
    for given, said in (
        ({"harmful": None}, "needs to know which classes are harmful: --harmful"),
        ({"harmful": "lwo"}, "unknown class 'lwo'; did you mean 'low'"),
        ({"harmful": "low", "protocols": "groups"}, "are for the protocol 'associations'"),
        ({"harmful": "low", "group": None}, "needs to know the groups"),
    ):
        with pytest.raises(ValueError, match=said):
            evaluate(run, source, quiet=True, **{**options, **given})


def test_changed_images_are_embedded_as_the_arm_embeds(model, source):
    sides = pretrained(model, Bench(source.at(np.arange(100)), source.at(np.arange(100, 140)))).frozen(0)
    rows = sides.test.at(np.arange(40))
    np.testing.assert_allclose(sides.changed(lambda images: images), rows, rtol=1e-5)
    inverted = model.embed(Batch(torch.arange(40), {"image": 255 - source.batch(np.arange(100, 140))["image"]}))
    np.testing.assert_allclose(sides.changed(lambda images: 255 - images), inverted.detach().numpy(), rtol=1e-4)


def test_groups_come_from_a_field_a_table_or_a_file(source, tmp_path):
    codes, names = groups_of(source, "place")
    assert names == ("0", "1", "2")
    assert codes[:12].tolist() == [2] * 8 + [0, 1, 1, 1]
    codes, names = groups_of(source, "label")
    assert names == ("top", "middle", "low")
    lines = ["file,region", *(f"{name},{'n' if i % 2 else 's'}" for i, name in enumerate(source.names) if i)]
    (tmp_path / "regions.csv").write_text("\n".join(lines))
    codes, names = groups_of(source, "regions.csv:region", tmp_path)
    assert (names, codes[:3].tolist()) == (("n", "s"), [-1, 0, 1])
    table = ArraySource(
        "t",
        {"categorical": np.array([[0], [1], [-1]])},
        Schema(categorical=Field("categorical", (1,), columns=("sex",), cardinalities=(2,), categories=(("f", "m"),))),
        np.arange(3),
    )
    codes, names = groups_of(table, "sex")
    assert (names, codes.tolist()) == (("f", "m"), [0, 1, -1])


def test_what_makes_no_sense_is_said(model, source, tmp_path):
    with pytest.raises(ValueError, match="protocol 'groups' needs to know the groups: --group"):
        evaluate(model, source, protocols="groups", quiet=True)
    with pytest.raises(ValueError, match="unknown group 'plac'; did you mean 'place'"):
        evaluate(model, source, protocols="groups", group="plac", quiet=True)
    with pytest.raises(FileNotFoundError, match=r"regions\.csv"):
        evaluate(model, source, protocols="groups", group="regions.csv:region", quiet=True)
    with pytest.raises(ValueError, match="got group_min=0"):
        evaluate(model, source, protocols="groups", group="place", group_min=0, quiet=True)
    with pytest.raises(ValueError, match="no group has 1000 members"):
        evaluate(model, source, protocols="groups", group="place", group_min=1000, baselines="none", quiet=True)


def test_images_of_several_sizes_are_changed_at_the_size_of_their_canvas():
    from autodidact.evaluation.embeddings import of_changed

    canvas = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    canvas[:, :, :4, :4] = 255
    batch = Batch(torch.tensor([1]), {"image": canvas, "box": torch.tensor([[0.0, 0.0, 4.0, 4.0]])})
    seen = []
    of_changed(lambda b: b["image"].flatten(1), lambda images: seen.append(images) or images, "image")(batch)
    torch.testing.assert_close(seen[0], torch.ones(1, 1, 8, 8))
