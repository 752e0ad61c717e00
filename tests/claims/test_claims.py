"""Every claim of the catalogue runs from end to end at the scale that only tries out the machinery."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from shutil import copy

import pytest

from autodidact.catalog import cards
from autodidact.claims import NAMES, claim_named, run_claim, run_claims
from autodidact.claims.engine import _tuning_key

PAIR = ("jepa_dynamics", "dcl")
TINY = {"seeds": 1, "scale": "tiny", "quiet": True}


def test_every_claim_that_a_card_names_exists_with_the_cards_number():
    named = {name: card.number for card in cards().values() for name in card.claims}
    assert {name: claim_named(name).number for name in NAMES} == {name: named.get(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_claim_runs_and_is_marked_as_meaning_nothing_at_the_tiny_scale(name, tmp_path, monkeypatch):
    # Probes that stop early are as good for trying out the machinery, and most of the time goes into them otherwise.
    monkeypatch.setattr("autodidact.evaluation.linear.ROUNDS", 2)
    result = run_claim(name, seeds=1, scale="tiny", cache=tmp_path, jobs=1, quiet=True)
    assert result["meaningful"] is False
    assert set(result["arms"]) == set(claim_named(name).arms)
    assert all(entry["values"][0] is not None for entry in result["statements"])


FROZEN_NAMES = sorted(Path(entry.name).stem for entry in (files("autodidact.claims") / "frozen").iterdir())


@pytest.mark.parametrize("name", FROZEN_NAMES)
def test_the_settings_that_come_with_a_claim_are_those_of_this_very_experiment(name):
    frozen = json.loads((files("autodidact.claims") / "frozen" / f"{name}.json").read_text())
    assert frozen["laptop"]["experiment"] == _tuning_key(claim_named(name), "laptop")


@pytest.mark.parametrize("name", NAMES)
def test_code_that_is_said_to_be_the_same_as_before_is_the_code_that_stands_there(name):
    made = claim_named(name)
    assert made.same_as is None or made.same_as[0] == made.digest()


@pytest.mark.parametrize("name", NAMES)
def test_a_result_that_comes_with_the_checkout_says_what_its_claim_says(name):
    path = Path(__file__).parents[2] / "results" / f"{name}.json"
    if not path.exists():
        pytest.skip("there is no result of it")
    result, made = json.loads(path.read_text()), claim_named(name)
    again = f"autodidact claim {name} --known results/{name}.json --json results/{name}.json"
    assert (result["statement"], result["notes"]) == (made.statement, list(made.notes)), again
    keys = ("name", "text", "margin", "direction", "role")
    told = [tuple(entry[key] for key in keys) for entry in result["statements"]]
    assert told == [tuple(getattr(statement, key) for key in keys) for statement in made.statements], again


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A folder with the results of two claims, each of which one process ran."""
    folder = tmp_path_factory.mktemp("alone")
    for name in PAIR:
        run_claim(name, json=folder / f"{name}.json", cache=folder / "cache", jobs=1, **TINY)
    return folder


def figures(folder, name):
    return json.loads((folder / f"{name}.json").read_text())["figures"]


def test_claims_that_share_processes_give_what_each_gives_alone(alone, tmp_path):
    results = run_claims(PAIR, json=tmp_path / "out", cache=tmp_path / "two", jobs=2, **TINY)
    assert tuple(results) == PAIR
    for name, result in results.items():
        assert result["figures"] == figures(alone, name) == figures(tmp_path / "out", name)


def test_several_claims_take_what_is_known_from_a_folder(alone, tmp_path):
    copy(alone / "jepa_dynamics.json", tmp_path)
    both = run_claims(PAIR, known=tmp_path, cache=tmp_path / "cache", jobs=1, **TINY)
    assert both["jepa_dynamics"]["figures"] == figures(alone, "jepa_dynamics")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["dcl"]
    with pytest.raises(ValueError, match="is no folder: several claims"):
        run_claims(PAIR, known=tmp_path / "jepa_dynamics.json", cache=tmp_path, jobs=1, **TINY)


def test_a_claim_that_fails_does_not_take_the_others_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("autodidact.claims.engine._tune", _tune_but_not("dcl"))
    with pytest.raises(RuntimeError, match="dcl: no luck"):
        run_claims(PAIR, json=tmp_path, cache=tmp_path, jobs=2, **TINY)
    assert [path.name for path in tmp_path.glob("*.json")] == ["jepa_dynamics.json"]


def _tune_but_not(name):
    from autodidact.claims.engine import _tune

    def tune(work_force):
        if work_force.claim.name == name:
            raise ValueError("no luck")
        return _tune(work_force)

    return tune


@pytest.mark.parametrize(("names", "said"), [([], "no claim is named"), (["dcl", "dlc"], "did you mean 'dcl'")])
def test_no_claim_or_an_unknown_one_among_several_is_an_error(names, said):
    with pytest.raises(ValueError, match=said):
        run_claims(names, scale="tiny")
