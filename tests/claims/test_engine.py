"""The engine tunes apart from what it reports, does no work twice, and says what the interval says."""

from __future__ import annotations

import dataclasses
import json
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from autodidact.claims import Claim, Statement, claim_named, engine, run_claim
from autodidact.claims.engine import verdict_of
from autodidact.compare.arms import digest
from autodidact.evaluation.curves import Curves

CALLS: list[tuple[str, float, int]] = []


def run(*, arm: str, rate: float, seed: int, gain: float, noise: float) -> dict[str, float]:
    """An arm whose score is best at rate 2, better by `gain` for the method, and noisy."""
    CALLS.append((arm, rate, seed))
    luck = np.random.default_rng(seed).normal()
    own = np.random.default_rng([seed, len(arm)]).normal() * noise
    score = luck + own - (rate - 2) ** 2 + (gain if arm == "method" else 0.0)
    return {"score": score, "validation": score}


def claim(gain=1.0, noise=0.1, statements=(), **changes) -> Claim:
    main = Statement(
        "gain", "method minus baseline", lambda f: f["method"]["score"] - f["baseline"]["score"], role="main"
    )
    return dataclasses.replace(
        Claim(
            name="toy",
            number=0,
            statement="The method is better.",
            run=run,
            arms={"method": {"arm": "method"}, "baseline": {"arm": "baseline"}},
            scales={"laptop": {"gain": gain, "noise": noise}},
            metric="score",
            budget="a gain of {gain}",
            statements=(main, *statements),
            grid={"rate": [1, 2, 3]},
        ),
        **changes,
    )


def judged(made: Claim, folder, **options):
    CALLS.clear()
    return run_claim(made, cache=folder, quiet=True, jobs=1, **options)


def test_a_clear_gain_is_held_with_the_paired_interval_of_the_differences(tmp_path):
    result = judged(claim(), tmp_path)
    differences = np.array(result["arms"]["method"]) - np.array(result["arms"]["baseline"])
    half = 2.7764451 * differences.std(ddof=1) / np.sqrt(5)
    assert result["verdict"] == "held"
    assert result["difference"]["mean"] == pytest.approx(differences.mean(), abs=1e-4)
    assert result["difference"]["low"] == pytest.approx(differences.mean() - half, abs=1e-4)
    assert result["difference"]["high"] == pytest.approx(differences.mean() + half, abs=1e-4)


@pytest.mark.parametrize(
    ("gain", "noise", "verdict"), [(1.0, 0.1, "held"), (-1.0, 0.1, "refuted"), (0.01, 0.5, "open")]
)
def test_the_verdict_follows_from_where_the_interval_lies(tmp_path, gain, noise, verdict):
    assert judged(claim(gain, noise), tmp_path)["verdict"] == verdict


def test_a_statement_below_a_margin_is_held_where_the_whole_interval_is_below():
    below = Statement("s", "", lambda f: 0.0, margin=1.0, direction="below")
    assert verdict_of(below, [0.1, 0.2, 0.15])[1] == "held"
    assert verdict_of(below, [3.1, 3.2, 3.15])[1] == "refuted"
    assert verdict_of(below, [0.1, 2.2, 1.15])[1] == "open"


def test_without_its_premise_a_claim_has_no_verdict(tmp_path):
    premise = Statement("room", "the baseline has room", lambda f: -1.0 + 1e-3 * f["baseline"]["score"], role="premise")
    result = judged(claim(statements=(premise,)), tmp_path)
    assert result["verdict"] == "no premise"
    assert "the baseline has room" in result["why"]


@pytest.mark.parametrize(("role", "verdict"), [("guard", "refuted"), ("control", "open")])
def test_a_win_by_degenerate_means_does_not_count(tmp_path, role, verdict):
    broken = Statement("silence", "the method says something", lambda f: -1.0 - 1e-3 * f["method"]["score"], role=role)
    assert judged(claim(statements=(broken,)), tmp_path)["verdict"] == verdict
    assert judged(claim(-1.0, statements=(broken,)), tmp_path)["verdict"] == "refuted"


def test_a_guard_that_nobody_can_tell_leaves_the_claim_open(tmp_path):
    lead = Statement("lead", "", lambda f: f["method"]["score"] - f["baseline"]["score"], margin=3.0, role="guard")
    result = judged(claim(gain=3.0, noise=0.5, statements=(lead,)), tmp_path)
    assert [entry["verdict"] for entry in result["statements"]] == ["held", "open"]
    assert result["verdict"] == "open"


def test_a_refuted_guard_refutes_a_claim_whose_gain_nobody_can_tell(tmp_path):
    broken = Statement("silence", "it says something", lambda f: -1.0 - 1e-3 * f["method"]["score"], role="guard")
    result = judged(claim(gain=0.0, noise=0.5, statements=(broken,)), tmp_path)
    assert [entry["verdict"] for entry in result["statements"]] == ["open", "refuted"]
    assert result["verdict"] == "refuted"
    assert "the main statement is open" in result["why"]


def test_one_seed_has_no_interval_and_leaves_the_verdict_open(tmp_path):
    result = judged(claim(), tmp_path, seeds=1)
    assert (result["verdict"], result["difference"]["low"]) == ("open", None)


def test_all_arms_are_tuned_alike_on_seeds_that_are_not_reported(tmp_path):
    result = judged(claim(), tmp_path)
    tuning = [(arm, rate, seed) for arm, rate, seed in CALLS if seed >= 1000]
    assert sorted(tuning) == sorted((a, r, s) for a in ("method", "baseline") for r in (1, 2, 3) for s in (1000, 1001))
    assert {rate for _, rate, seed in CALLS if seed < 1000} == {2}
    frozen = result["settings"]["frozen"]
    assert frozen["settings"] == {"method": {"rate": 2}, "baseline": {"rate": 2}}
    assert frozen["hash"] == digest({"experiment": frozen["experiment"], "settings": frozen["settings"]})
    assert result["tuning_seeds"] == [1000, 1001]


def test_an_arm_that_names_another_takes_its_settings(tmp_path):
    made = claim(tunes={"baseline": "method"})
    result = judged(made, tmp_path)
    assert not [call for call in CALLS if call[0] == "baseline" and call[2] >= 1000]
    assert result["settings"]["frozen"]["settings"]["baseline"] == {"rate": 2}


def test_finished_work_is_not_done_again_and_more_seeds_cost_only_the_new_ones(tmp_path):
    first = judged(claim(), tmp_path, seeds=3)
    again = judged(claim(), tmp_path, seeds=5)
    assert {seed for _, _, seed in CALLS} == {3, 4}
    assert again["arms"]["method"][:3] == first["arms"]["method"]


def test_other_settings_or_another_version_are_other_work(tmp_path):
    judged(claim(), tmp_path)
    judged(claim(gain=2.0), tmp_path)
    assert len(CALLS) == 2 * 3 * 2 + 2 * 5
    judged(claim(version=2), tmp_path)
    assert len(CALLS) == 2 * 3 * 2 + 2 * 5


def test_reported_seeds_must_not_be_tuning_seeds(tmp_path):
    with pytest.raises(ValueError, match=r"1000.*tuning"):
        judged(claim(), tmp_path, first_seed=999)


def test_the_json_file_holds_what_is_promised(tmp_path):
    result = judged(claim(), tmp_path / "cache", json=tmp_path / "toy.json")
    written = json.loads((tmp_path / "toy.json").read_text())
    assert written == result
    promised = "number name statement metric arms difference margin verdict seeds tuning_seeds seconds versions"
    assert set(promised.split()) <= set(written)
    assert written["budget"] == "a gain of 1.0"


def test_a_result_names_the_versions_of_what_builds_networks_where_it_is_installed(tmp_path, monkeypatch):
    there = dict(zip(engine.PACKAGES[:-1], "12345", strict=True))

    def version(package):
        if package not in there:
            raise PackageNotFoundError(package)
        return there[package]

    monkeypatch.setattr(engine, "version", version)
    found = judged(claim(), tmp_path, seeds=1)["versions"]
    assert (found["torch"], found["timm"]) == ("1", "5")
    assert found.keys() == {"autodidact", "python", *there}


@pytest.mark.parametrize(
    ("options", "said"), [({"scale": "labtop"}, "did you mean 'laptop'"), ({"seeds": 0}, "at least 1 seed")]
)
def test_options_that_make_no_sense_are_refused(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        judged(claim(), tmp_path, **options)


def test_an_unknown_claim_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'dcl'"):
        claim_named("dlc")


def test_a_claim_needs_exactly_one_main_statement():
    with pytest.raises(ValueError, match="exactly one main"):
        claim(statements=(Statement("second", "", lambda f: 0.0, role="main"),))


def test_an_arm_of_few_seeds_is_run_and_judged_on_the_first_ones_alone(tmp_path):
    third = Statement("third", "", lambda f: f["method"]["score"] - f["third"]["score"])
    arms = {**claim().arms, "third": {"arm": "third one"}}
    result = judged(claim(statements=(third,), arms=arms, few={"third": 2}), tmp_path)
    assert [seed for arm, _, seed in CALLS if arm == "third one" and seed < 1000] == [0, 1]
    assert len(result["arms"]["third"]) == len(result["figures"]["score"]["third"]) == 2
    assert len(result["statements"][0]["values"]) == 5
    assert len(result["statements"][1]["values"]) == 2


def test_the_main_statement_may_not_rest_on_few_seeds(tmp_path):
    with pytest.raises(ValueError, match="main statement run on few seeds"):
        judged(claim(few={"baseline": 2}), tmp_path)


def test_a_statement_about_all_arms_is_judged_where_all_have_run(tmp_path):
    best = Statement("best", "", lambda f: max(arm["score"] for arm in f.values()))
    arms = {**claim().arms, "third": {"arm": "third one"}}
    result = judged(claim(statements=(best,), arms=arms, few={"third": 2}), tmp_path)
    assert len(result["statements"][1]["values"]) == 2


@pytest.mark.parametrize(("few", "said"), [({"baselin": 2}, "baselin"), ({"baseline": 0}, "at least 1 seed")])
def test_few_seeds_of_an_unknown_arm_or_none_at_all_are_an_error(few, said):
    with pytest.raises(ValueError, match=said):
        claim(few=few)


def test_a_claim_that_draws_writes_its_picture_beside_its_result(tmp_path):
    def draws(by_seed):
        points = [(seed + 1, figures["method"]["score"]) for seed, figures in enumerate(by_seed)]
        return [Curves("Scores", "seed", "score", {"method": points}, log_x=True)]

    result = judged(claim(draws=draws), tmp_path, json=tmp_path / "toy.json", seeds=2)
    (panel,) = result["curves"]
    assert panel["lines"]["method"][1] == [2, pytest.approx(result["arms"]["method"][1])]
    assert (tmp_path / "toy.svg").read_text().count("Scores") == 2
    assert judged(claim(), tmp_path, json=tmp_path / "plain.json")["curves"] == []
    assert not (tmp_path / "plain.svg").exists()


def test_a_known_result_is_extended_by_the_seeds_that_it_lacks(tmp_path):
    judged(claim(), tmp_path / "there", seeds=3, json=tmp_path / "three.json")
    five = judged(claim(), tmp_path / "here", known=tmp_path / "three.json")
    assert {seed for _, _, seed in CALLS} == {3, 4}  # nothing is tuned anew either
    anew = judged(claim(), tmp_path / "whole")
    assert five["known"]["seeds"] == [0, 1, 2]
    assert five["known"]["versions"] == anew["versions"]
    assert "known" not in anew
    assert five["seeds"] == anew["seeds"]
    assert five["settings"] == anew["settings"]
    assert five["difference"]["low"] == pytest.approx(anew["difference"]["low"], abs=1e-5)
    assert five["figures"]["score"]["method"] == pytest.approx(anew["figures"]["score"]["method"], abs=1e-5)


def test_known_figures_go_before_those_that_are_kept_here(tmp_path):
    there = judged(claim(), tmp_path / "there", seeds=2, json=tmp_path / "two.json")
    judged(claim(), tmp_path / "here", seeds=2)
    for cell in (tmp_path / "here").rglob("seed-[01].json"):
        held = json.loads(cell.read_text())
        held["figures"]["score"] += 7
        cell.write_text(json.dumps(held))
    here = judged(claim(), tmp_path / "here", seeds=2, known=tmp_path / "two.json")
    assert CALLS == []
    assert here["arms"] == there["arms"]


def test_a_result_names_as_known_only_the_seeds_that_it_reports(tmp_path):
    judged(claim(), tmp_path, seeds=3, json=tmp_path / "three.json")
    some = judged(claim(), tmp_path, first_seed=2, seeds=2, known=tmp_path / "three.json")
    none = judged(claim(), tmp_path, first_seed=3, seeds=2, known=tmp_path / "three.json")
    assert some["known"]["seeds"] == [2]
    assert "known" not in none


def test_a_result_of_which_all_is_known_stays_one_of_where_it_was_made(tmp_path):
    three = judged(claim(), tmp_path / "there", seeds=3)
    elsewhere = three | {"machine": "abacus", "accelerator": "sliding beads", "versions": {"beads": "10"}}
    elsewhere["wall_seconds"] = 3000.0
    (tmp_path / "three.json").write_text(json.dumps(elsewhere))
    again = judged(claim(), tmp_path / "here", seeds=3, known=tmp_path / "three.json")
    for name in ("seeds", "machine", "accelerator", "versions", "wall_seconds"):
        assert again[name] == elsewhere[name]
    assert "known" not in again
    more = judged(claim(), tmp_path / "here", seeds=4, known=tmp_path / "three.json")
    assert more["known"]["machine"] == "abacus" != more["machine"]


def test_the_seconds_of_a_known_result_are_counted_once(tmp_path):
    three = judged(claim(), tmp_path / "there", seeds=3, json=tmp_path / "three.json")
    again = judged(claim(), tmp_path / "here", seeds=3, known=tmp_path / "three.json")
    assert CALLS == []
    assert again["seconds"] == pytest.approx(three["seconds"], abs=0.1)


def test_a_known_result_with_arms_of_few_seeds_is_extended_where_they_are_missing(tmp_path):
    once = claim(few={"broken": 1}, arms={**claim().arms, "broken": {"arm": "broken"}}, tunes={"broken": "method"})
    judged(once, tmp_path / "there", seeds=2, json=tmp_path / "two.json")
    judged(dataclasses.replace(once, few={"broken": 2}), tmp_path / "here", seeds=3, known=tmp_path / "two.json")
    assert {(arm, seed) for arm, _, seed in CALLS} == {("broken", 1), ("method", 2), ("baseline", 2)}


def test_a_known_result_costs_only_the_arms_that_the_claim_has_got_since(tmp_path):
    there = judged(claim(), tmp_path / "there", json=tmp_path / "result.json")
    further = {"random": {"arm": "random"}, "broken": {"arm": "broken"}}
    made = claim(arms={**claim().arms, **further}, tunes={"broken": "method"})
    more = judged(made, tmp_path / "here", known=tmp_path / "result.json")
    assert {arm for arm, _, _ in CALLS} == {"random", "broken"}
    # One of them is tuned, as the first two were; the other takes what it names.
    assert {arm for arm, _, seed in CALLS if seed >= 1000} == {"random"}
    assert more["arms"]["method"] == pytest.approx(there["arms"]["method"], abs=1e-5)
    frozen, anew = more["settings"]["frozen"], judged(made, tmp_path / "whole")["settings"]["frozen"]
    assert {name: frozen[name] for name in ("experiment", "hash", "settings")} == {
        name: anew[name] for name in ("experiment", "hash", "settings")
    }
    assert set(frozen["tried"]) == {"method", "baseline", "random"}


def test_frozen_settings_are_completed_for_further_arms(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "FROZEN", tmp_path / "frozen")
    monkeypatch.setattr(engine, "claim_named", lambda name: made)
    made = claim()
    engine.freeze("toy", cache=tmp_path / "cache", jobs=1)
    made = claim(arms={**claim().arms, "random": {"arm": "random"}})
    CALLS.clear()
    engine.freeze("toy", cache=tmp_path / "elsewhere", jobs=1)
    assert {arm for arm, _, _ in CALLS} == {"random"}
    judged(made, tmp_path / "third")
    assert not [call for call in CALLS if call[2] >= 1000]
    made = claim(arms={**claim().arms, "other": {"arm": "other"}})
    judged(made, tmp_path / "third")
    assert {arm for arm, _, seed in CALLS if seed >= 1000} == {"method", "baseline", "other"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": {"method": {"arm": "other"}, "baseline": {"arm": "baseline"}}}, "another experiment"),
        ({"version": 2}, "another experiment"),
        ({"grid": {"rate": [2]}}, "another experiment"),
        ({"name": "other"}, "of claim 'toy'"),
    ],
)
def test_a_known_result_of_another_experiment_is_refused(tmp_path, changes, said):
    judged(claim(), tmp_path, seeds=2, json=tmp_path / "two.json")
    with pytest.raises(ValueError, match=said):
        judged(claim(**changes), tmp_path, known=tmp_path / "two.json")


def test_what_was_worked_out_before_a_change_of_the_code_stands_where_it_is_said_to_be_the_same(tmp_path):
    held = dataclasses.replace(claim(), same_as=(claim().digest(), "earlier"))
    assert held.code() == "earlier" != claim().code() == claim().digest()
    assert dataclasses.replace(claim(), same_as=("another", "earlier")).code() == claim().digest()
    there = judged(held, tmp_path / "there", seeds=2, json=tmp_path / "two.json")
    judged(claim(), tmp_path / "there", seeds=2)
    assert CALLS  # its cells are those of the code before
    assert judged(held, tmp_path / "here", seeds=2, known=tmp_path / "two.json")["arms"] == there["arms"]
    assert CALLS == []
    with pytest.raises(ValueError, match="another experiment"):
        judged(claim(), tmp_path, known=tmp_path / "two.json")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": "toy"}', '{"settings": {"frozen": {}}}'])
def test_a_file_that_is_no_result_is_refused(tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ValueError, match="no result of a claim"):
        judged(claim(), tmp_path, known=tmp_path / "bad.json")
    with pytest.raises(ValueError, match="no result of a claim"):
        judged(claim(), tmp_path, known=tmp_path / "missing.json")
