"""Every card keeps what it says."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time

import pytest

import autodidact
from autodidact.catalog import Card, card, cards, options, target, trained
from autodidact.catalog.cards import ROOT, literals
from autodidact.claims import NAMES
from autodidact.data.schema import Kind
from autodidact.encoders.build import SMALL
from autodidact.methods.method import Method
from autodidact.model.model import Ability
from autodidact.recipes.stages import Recipe

TRAINED = [name for name, each in cards().items() if each.kind in ("method", "recipe")]
PRETRAINED = [name for name in TRAINED if cards()[name].verb == "pretrain"]


@pytest.mark.parametrize("name", cards())
def test_the_target_of_a_card_is_what_its_kind_says(name):
    found = target(cards()[name])
    base = {"method": Method, "recipe": Recipe}.get(cards()[name].kind)
    assert callable(found)
    assert base is None or issubclass(found, base)


@pytest.mark.parametrize("name", cards())
def test_every_option_of_a_card_is_documented(name):
    assert [option.name for option in options(cards()[name]).values() if not option.doc] == []


@pytest.mark.parametrize("name", cards())
def test_the_arguments_that_a_card_calls_important_exist(name):
    assert set(cards()[name].arguments) <= set(options(cards()[name]))


@pytest.mark.parametrize("name", TRAINED)
def test_a_card_needs_what_its_class_needs_and_never_the_truth_of_a_world(name):
    found = cards()[name]
    assert dict(found.needs) == dict(target(found).needs)
    assert not any(field.startswith("truth_") for field, _ in found.needs)
    assert {kind for _, kind in found.needs} <= set(Kind.__args__)


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_card_has_a_default_encoder_that_is_an_encoders_name(name):
    family, _, rest = cards()[name].encoder.partition(":")
    assert family in ("timm", "hf", "small")
    assert rest


def test_the_abilities_of_a_card_are_abilities_of_models():
    assert {ability for each in cards().values() for ability in each.abilities} <= set(Ability.__args__)


def test_every_claim_of_a_card_can_be_run_and_every_claim_has_its_card():
    named = [name for each in cards().values() for name in each.claims]
    assert sorted(named) == sorted(NAMES)
    assert len(named) == len(set(named))
    assert all(each.claim for each in cards().values() if each.further)


def test_papers_have_one_card_each_under_their_number():
    numbers = [each.number for each in cards().values() if each.number]
    assert len(numbers) == len(set(numbers))
    assert {18, 28, 32, 37, 50, 60} <= set(numbers)
    assert [each.number for each in cards().values()] == sorted(each.number for each in cards().values())


def test_every_card_in_a_file_is_listed_though_it_is_read_as_text():
    written = [
        keyword.value.value
        for path in ROOT.rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "Card"
        for keyword in node.value.keywords
        if keyword.arg == "name"
    ]
    assert sorted(written) == sorted(cards())


def test_a_card_is_the_same_read_as_text_and_imported():
    imported = sys.modules[target(card("dcl")).__module__].CARD
    assert {**card("dcl").plain(), "module": ""} == imported.plain()


def test_cards_survive_json():
    plain = {name: each.plain() for name, each in cards().items()}
    assert json.loads(json.dumps(plain)) == plain


def test_several_cards_may_stand_in_one_file():
    text = 'CARD = Card(\n    name="a",\n)\n\nCARD_B = Card(\n    name="b",\n    needs=(("x", "image"),),\n)\n'
    assert literals(text) == [{"name": "a"}, {"name": "b", "needs": (("x", "image"),)}]


def test_an_unknown_method_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="unknown method 'barlow_twin'; did you mean 'barlow_twins'"):
        card("barlow_twin")


def test_a_missing_extra_is_named_with_the_command_that_adds_it(tmp_path, monkeypatch):
    (tmp_path / "needy.py").write_text("import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    needy = Card("needy", "X", "method", "", "", "", extra="graph", module="needy")
    with pytest.raises(ValueError, match=r"needs nothing_of_this_name.*pip install 'autodidact\[graph\]'"):
        target(needy)


def test_all_cards_are_read_in_milliseconds_and_without_torch():
    code = "import sys; from autodidact.catalog import cards; cards(); print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "False"

    def seconds() -> float:
        cards.cache_clear()
        started = time.process_time()
        cards()
        return time.process_time() - started

    # The least of a few: what a machine with nothing else to do takes.
    assert min(seconds() for _ in range(5)) < 0.1


def test_public_verbs_are_functions_and_importing_the_package_imports_no_torch():
    code = "import sys, autodidact; print('torch' in sys.modules); autodidact.cards()"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "False"
    for name in autodidact.__all__:
        assert callable(getattr(autodidact, name)) or name == "__version__"


def test_a_verb_is_reached_after_the_room_of_the_same_name_was_imported():
    import autodidact.compare
    import autodidact.report

    assert callable(autodidact.compare)
    assert callable(autodidact.report)


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'pretrian'"):
        autodidact.pretrian  # noqa: B018


def test_an_encoder_among_the_cards_is_built_by_its_name_and_what_trains_it_is_said():
    encoders = [each for each in cards().values() if each.kind == "encoder"]
    assert [each.name for each in encoders] == ["dependency_vit"]
    for each in encoders:
        assert f"small:{each.name}" in SMALL
        assert {"width", "depth", "prune"} <= set(options(each))
        with pytest.raises(ValueError, match=f"of kind encoder.*any method trains it: --encoder small:{each.name}"):
            trained(each.name)


def test_a_recipe_and_a_method_can_be_trained_and_a_meter_says_only_what_it_is():
    assert (trained("simclr").name, trained("simcore").kind) == ("simclr", "recipe")
    with pytest.raises(ValueError, match=r"'rankme' is of kind meter, not something to pretrain with$"):
        trained("rankme")
