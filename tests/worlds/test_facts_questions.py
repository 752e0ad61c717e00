"""Several questions in a text, lists of them, and texts that are understood by reading: further dials of Facts."""

from __future__ import annotations

import pytest

from autodidact.lm.instructions import Instance
from autodidact.lm.tiny import tiny_lm
from autodidact.worlds.language import Facts
from autodidact.worlds.language.facts import LAYOUT, VERBS

WORLD = Facts(entities=24, attributes=3, values=6, held_out=0.3, asking=0.6, questions=(2, 4), lists=0.3, reading=0.3)


def test_questions_stand_together_and_none_is_about_the_target_or_an_entity_held_out() -> None:
    target, tested = set(WORLD.words(0)), {item.key for item in WORLD.items(100, 0, distinct=True)}
    kinds = set()
    for document in WORLD.documents(600, 0):
        kind = document.family.split()[0]
        kinds.add(kind)
        if kind == "facts":
            continue
        assert not target & set(document.text.replace(";", " ").replace(".", " ").replace("=", " ").split())
        assert not tested & set(document.keys)
        if kind == "questions":
            assert 2 <= len(document.keys) <= 4
            found = [one for one in LAYOUT.read("", document.text) if isinstance(one, Instance)]
            asked = [WORLD.asked(one.instruction) for one in found]
            assert all(item and WORLD.check(item, one.output) for item, one in zip(asked, found, strict=True))
    assert kinds == {"facts", "questions", "reading"}


def test_texts_for_reading_ask_for_what_they_state_whether_it_is_true_or_not() -> None:
    texts = [one for one in WORLD.documents(600, 0) if one.family.startswith("reading")]
    false, of = 0, 0
    for document in texts:
        stated, _, questions = document.text.partition("?")
        facts = WORLD.stated(stated)
        last = [one for one in LAYOUT.read("", "?" + questions) if isinstance(one, Instance)][-1]
        words = last.instruction.split()
        entity, attribute = (words[2], words[0]) if words[1] == "of" else words
        of += words[1] == "of"
        assert (entity, attribute, last.output) in facts
        assert document.wrong == tuple(not WORLD.holds(fact) for fact in facts)
        false += not WORLD.holds((entity, attribute, last.output))
    assert false > 0.7 * len(texts)
    assert 0.3 < of / len(texts) < 0.7


def test_both_wordings_of_a_question_have_the_same_answer_and_are_read_as_what_they_ask() -> None:
    for (entity, attribute), value in WORLD.facts(0).items():
        for verb in ("lookup", "ask"):
            item = WORLD.question(verb, 0, attribute, entity)
            assert (item.answer, item.key) == (value, entity)
            found = WORLD.asked(item.prompt.removeprefix("? ").removesuffix("= "))
            assert found == item
            assert found.family == f"{verb} 0"
    assert WORLD.asked("of of of") is None


def test_the_mix_says_old_values_of_a_share_of_the_targets_facts_in_statements_and_in_answers() -> None:
    settings = {"entities": 24, "attributes": 3, "values": 6, "wrong": 0.0, "rare": 0.3, "questions": (1, 3)}
    world = Facts(**settings, outdated=0.25)
    said = dict[tuple[str, str], str]()
    for document in world.documents(3000, 0):
        if document.family.startswith("facts"):
            stated = world.stated(document.text)
            assert tuple(not world.holds(fact) for fact in stated) == document.wrong
            for entity, attribute, value in stated:
                assert said.setdefault((entity, attribute), value) == value
    old = {fact for fact, value in world.facts(0).items() if said[fact] != value}
    assert len(old) == round(0.25 * 24 * 3)
    assert all(said[fact] == value for domain in (1, 2) for fact, value in world.facts(domain).items())
    answered = 0
    for document in world.documents(3000, 0):
        if document.family == "questions 0":
            for one, wrong in zip(LAYOUT.read("", document.text), document.wrong, strict=True):
                item = world.asked(one.instruction)
                if item and item.family.split()[0] in ("lookup", "ask"):
                    words = one.instruction.split()
                    asked = (words[2], words[0]) if "of" in words else (words[0], words[1])
                    assert one.output == said[asked]
                    assert wrong == (asked in old)
                    answered += asked in old
    assert answered > 20
    assert {fact[:2]: fact[2] for text in world.corpus(0) for fact in world.stated(text)} == dict(world.facts(0))
    assert dict(world.facts(0)) == dict(Facts(**settings).facts(0))
    with pytest.raises(ValueError, match="outdated"):
        Facts(outdated=1.1)


def test_the_mix_asks_about_all_entities_of_the_target_only_where_anyone_is_said() -> None:
    settings = {"entities": 24, "attributes": 3, "values": 6, "held_out": 0.3, "reading": 0.3, "questions": (1, 2)}
    for anyone in (False, True):
        world = Facts(**settings, asking=1.0, rare=0.3, anyone=anyone)
        asked = world.documents(2000, 0)
        about = {kind: {key for one in asked if one.family.endswith(kind) for key in one.keys} for kind in (" 0", " 1")}
        held_out = {key for key in about[" 0"] if world.split(key) == "test"}
        assert bool(held_out) == anyone
        assert all(world.split(key) == "train" for key in about[" 1"])
        if anyone:
            assert {entity for entity, _ in world.facts(0)} <= about[" 0"]
        assert all(
            world.split(world.asked(one.instruction).key) == "train"
            for one in world.task([0], seeds=30, test=9, verbs=["ask"], seed=1).seeds
        )


def test_a_share_of_the_texts_asks_about_the_target_and_never_about_its_entities_held_out() -> None:
    world = Facts(entities=24, attributes=3, values=6, held_out=0.3, asking=1.0, questions=(1, 2), rare=0.2)
    documents = world.documents(1000, 0)
    target = [one for one in documents if one.family.endswith(" 0")]
    assert abs(len(target) - 200) < 5 * (1000 * 0.2 * 0.8) ** 0.5
    assert all(world.split(key) == "train" for one in target for key in one.keys)
    assert not any(one.family.endswith(" 0") for one in Facts(asking=1.0).documents(300, 0))


def test_a_share_of_the_statements_says_again_what_an_earlier_one_says_in_some_way() -> None:
    world = Facts(asking=0.0, statements=5, restated=0.5, wrong=0.3)
    again = 0
    for document in world.documents(400, 0):
        facts = world.stated(document.text)
        assert len(facts) == 5
        assert document.wrong == tuple(not world.holds(fact) for fact in facts)
        again += 5 - len(set(facts))
    assert abs(again / (400 * 4) - 0.5) < 0.07
    plain = [len(set(world.stated(one.text))) for one in Facts(asking=0.0, statements=5).documents(100, 0)]
    assert sum(plain) > 5 * 100 * 0.95


def test_an_instruction_is_read_as_the_question_that_it_asks() -> None:
    for item in WORLD.items(80, 1, families=WORLD.asking_about(0), distinct=True):
        instruction = item.prompt.removeprefix("? ").removesuffix("= ")
        found = WORLD.asked(instruction)
        assert found is not None
        assert (found.answer, found.family) == (item.answer, item.family)
    for nothing in ("", "all", "who in this", "the same", "who in kapo has teku"):
        assert WORLD.asked(nothing) is None


def test_seeds_are_of_the_domains_asked_for_and_never_tested() -> None:
    task = WORLD.task([1, 2], seeds=12, test=20, about=0, verbs=("compare",), seed=3)
    families = {WORLD.asked(one.instruction).family for one in task.seeds}
    assert {name.split()[1] for name in families} == {"1", "2"}
    assert {name.split()[0] for name in families} == set(VERBS) - {"compare"}
    assert all(WORLD.asked(one.input).family == "compare 0" for one in task.test)
    assert task.prompt(task.test[0].input).endswith("=")


def test_a_text_of_one_question_is_what_it_was_and_tokens_cover_every_text() -> None:
    plain = [one.text for one in Facts(asking=1.0).documents(20, 0)]
    assert all(text.count("?") == 1 and ";" not in text for text in plain)
    tokenizer = tiny_lm(WORLD.tokens(), width=8, depth=1, heads=1).tokenizer
    assert all(0 not in tokenizer(one.text)["input_ids"] for one in WORLD.documents(200, 1))
