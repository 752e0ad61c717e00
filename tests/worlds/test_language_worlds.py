"""Language worlds tell the truth about themselves: answers, splits, and what is planted in their texts."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections import Counter
from statistics import mean
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodidact.worlds.language import (
    Docstrings,
    Facts,
    Item,
    LanguageWorld,
    ModularSums,
    Principles,
    Strings,
    TwoTurnPuzzles,
    TwoTurnSums,
    TwoTurnWorld,
)
from autodidact.worlds.language.facts import SAYINGS, VERBS
from autodidact.worlds.language.principles import TRAITS
from autodidact.worlds.language.strings import GREETING, OPERATIONS, balanced
from autodidact.worlds.language.two_turns import FIX, KEEP, plain

WORLDS: tuple[LanguageWorld, ...] = (
    Strings(),
    ModularSums(),
    TwoTurnSums(),
    Principles(),
    Facts(),
    TwoTurnPuzzles(),
    Docstrings(),
)
every_world = pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
shares = st.integers(0, 20).map(lambda twentieths: twentieths / 20)
words = st.text("abcdefghij", min_size=1, max_size=12)


def planted(observed: float, share: float, n: int) -> bool:
    """Within five standard deviations of a binomial share."""
    return abs(observed - share) <= 5 * math.sqrt(share * (1 - share) / n)


# What all worlds promise.


@every_world
def test_the_oracle_accepts_the_truth_and_no_corruption_of_it(world: LanguageWorld):
    rng = random.Random(0)
    for item in world.items(300, 1):
        right = f">{item.answer}" if isinstance(world, ModularSums) else item.answer
        assert world.check(item, right)
        assert world.check(item, f" {right} ")
        assert world.credit(item, right) == 1.0
        place, held = rng.randrange(len(right) - len(item.answer), len(right)), right + right.swapcase() + " 0"
        changed = right[:place] + rng.choice([s for s in world.alphabet if s not in held]) + right[place + 1 :]
        # Zeros before a number change nothing, so it is not its own digit that runs on. Nor is the value of a puzzle
        # changed to its other one, for there may be several right answers.
        longer = right + ("1" if isinstance(world, ModularSums) else right[-1])
        for false in (changed, longer, right[:-1], ""):
            assert not world.check(item, false), (item, false)
            assert 0 <= world.credit(item, false) < 1


@every_world
def test_no_test_item_is_in_any_pretraining_mix(world: LanguageWorld):
    tested = {item.key for item in world.items(1000, 3, split="test")}
    taught = {key for seed in (0, 3) for document in world.documents(1500, seed) for key in document.keys}
    learnt = {item.key for item in world.items(1000, 3, split="train")}
    assert tested
    assert taught
    assert not tested & (taught | learnt)


@every_world
def test_every_symbol_is_of_the_alphabet(world: LanguageWorld):
    made = world.items(500, 0) + world.items(500, 0, split="train")
    held = {symbol for item in made for symbol in item.prompt + item.answer}
    held |= {symbol for document in world.documents(1000, 0) for symbol in document.text}
    assert held <= set(world.alphabet)
    assert list(world.alphabet) == sorted(set(world.alphabet))


@every_world
def test_everything_follows_from_the_seed(world: LanguageWorld):
    again = type(world)()
    assert world.items(50, 7) == again.items(50, 7)
    assert world.documents(50, 7) == again.documents(50, 7)
    assert world.items(50, 7) != world.items(50, 8)
    assert world.documents(50, 7) != world.documents(50, 8)


@every_world
def test_the_first_are_the_same_however_many_are_asked_for(world: LanguageWorld):
    assert world.items(40, 2, distinct=True)[:15] == world.items(15, 2, distinct=True)
    assert world.documents(40, 2)[:15] == world.documents(15, 2)


@every_world
def test_the_held_out_share_of_keys_is_tested_and_grows_by_inclusion(world: LanguageWorld):
    keys = [f"key {number}" for number in range(4000)]
    tested = {key for key in keys if LanguageWorld.split(world, key) == "test"}
    assert planted(len(tested) / len(keys), world.held_out, len(keys))
    wider = type(world)(held_out=0.5)  # type: ignore[call-arg]
    assert tested < {key for key in keys if LanguageWorld.split(wider, key) == "test"}


@every_world
def test_items_are_of_the_families_asked_for(world: LanguageWorld):
    wanted = world.families[-1]
    assert {item.family for item in world.items(20, 0, families=[wanted])} == {wanted}
    assert {item.family for item in world.items(600, 0)} == set(world.families)


@every_world
def test_distinct_items_are_distinct(world: LanguageWorld):
    made = world.items(60, 0, distinct=True)
    assert len({(item.family, item.prompt) for item in made}) == 60


@every_world
def test_what_cannot_be_drawn_is_refused(world: LanguageWorld):
    with pytest.raises(ValueError, match="family"):
        world.items(1, 0, families=["no such"])
    with pytest.raises(ValueError, match="split"):
        world.items(1, 0, split="valid")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got .* and -1"):
        world.items(-1, 0)
    with pytest.raises(ValueError, match=r"held_out must be in \(0, 1\), got 1"):
        type(world)(held_out=1)  # type: ignore[call-arg]


@every_world
def test_ten_thousand_items_take_no_time_to_speak_of(world: LanguageWorld):
    began = process_time()
    world.items(1000, 0)
    # Ten thousand in two seconds, and as much again for a machine that does other things.
    assert process_time() - began < 0.4


def test_more_distinct_items_than_there_are_are_refused():
    with pytest.raises(ValueError, match=r"only \d+ test items of brackets were found, not 1000"):
        Strings(longest=4).items(1000, 0, families=["brackets"], distinct=True)


def test_a_family_that_is_used_up_is_left_to_the_others():
    made = Strings(longest=4).items(200, 0, families=["brackets", "sort"], distinct=True)
    found = Counter(item.family for item in made)
    every = {item.prompt for item in Strings(longest=4).items(2000, 1, families=["brackets"])}
    assert found == {"brackets": len(every), "sort": 200 - len(every)}


# Strings.


@settings(deadline=None)
@given(words)
def test_operations_on_strings_do_what_they_say(word: str):
    done = {name: operation.apply(word) for name, operation in OPERATIONS.items()}
    assert done["reverse"] == "".join(word[i] for i in range(len(word) - 1, -1, -1))
    assert all(a <= b for a, b in itertools.pairwise(done["sort"]))
    assert done["sort_down"] == done["sort"][::-1]
    assert Counter(done["sort"]) == Counter(word) == Counter(done["rotate_1"]) == Counter(done["rotate_2"])
    assert all(done["rotate_1"][i] == word[(i + 1) % len(word)] for i in range(len(word)))
    if len(word) >= 2:
        assert all(done["rotate_2"][i] == word[(i + 2) % len(word)] for i in range(len(word)))
        assert done["swap_ends"][0] + done["swap_ends"][-1] == word[-1] + word[0]
    assert done["swap_ends"][1:-1] == word[1:-1]
    assert done["duplicate"][: len(word)] == done["duplicate"][len(word) :] == word
    assert done["double_each"][::2] == done["double_each"][1::2] == word
    assert (done["first_two"], done["last_two"]) == (word[:2], word[-2:])
    assert all(word.count(done["majority"]) >= word.count(symbol) for symbol in word)
    assert done["parity"] == ("even", "odd")[len(word) % 2]
    assert (done["direction"] == "up") == (word[0] < word[-1])
    assert (done["direction"] == "level") == (word[0] == word[-1])
    assert (done["palindrome"] == "same") == (word == done["reverse"])
    assert done["drop_vowels"] == (re.sub("[aei]", "", word) or word)


@settings(deadline=None)
@given(st.text("()[]", min_size=1, max_size=10))
def test_brackets_close_when_pairs_can_be_taken_out_until_nothing_is_left(word: str):
    left = word
    while "()" in left or "[]" in left:
        left = left.replace("()", "").replace("[]", "")
    assert balanced(word) == (left == "")


def test_there_are_sixteen_operations_of_which_four_classify_and_balance_is_as_said():
    world = Strings()
    labelled = [name for name in world.families if OPERATIONS[name].labels]
    assert (len(world.families), len(labelled)) == (16, 4)
    for name in labelled:
        found = Counter(item.answer for item in world.items(400, 0, families=[name], split="train"))
        assert set(found) == set(OPERATIONS[name].labels)
        assert min(found.values()) >= 400 * (0.4 if name in ("brackets", "palindrome") else 0.1) * 0.8


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([0.0, 0.15, 0.5, 0.9]), shares, st.integers(0, 10**6))
def test_texts_of_pairs_hold_what_is_planted(wrong: float, greeting: float, seed: int):
    world = Strings(wrong=wrong, greeting=greeting)
    false, chatter, pairs = 0, 0, 0
    for document in world.documents(150, seed):
        end = document.text[-1]
        assert end in world.separators
        read = [pair.split(">") for pair in document.text.split(end)[:-1]]
        assert 4 <= len(read) <= 8
        assert tuple(word for word, _ in read) == document.keys
        for (word, output), planted_wrong in zip(read, document.wrong, strict=True):
            plain = output.removeprefix(GREETING)
            outputs = {OPERATIONS[name].apply(word) for name in world.families if name != document.family}
            right = plain == OPERATIONS[document.family].apply(word)
            assert right != planted_wrong
            assert right or plain in outputs
            false, chatter, pairs = false + planted_wrong, chatter + (plain != output), pairs + 1
    assert planted(false / pairs, wrong, pairs)
    assert planted(chatter / pairs, greeting, pairs)


def test_separators_and_operations_are_drawn_evenly():
    made = Strings().documents(3000, 0)
    for counts, kinds in (
        (Counter(document.text[-1] for document in made), 3),
        (Counter(document.family for document in made), 16),
    ):
        assert len(counts) == kinds
        assert all(planted(count / 3000, 1 / kinds, 3000) for count in counts.values())


def test_a_few_shot_prompt_reads_as_the_mix_does():
    world = Strings()
    shown = [Item("abc>", "cba", "reverse", 3, "abc"), Item("fgh>", "hgf", "reverse", 3, "fgh")]
    assert world.few_shot(shown, "bad") == "abc>cba;fgh>hgf;bad>"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_task_is_made_of_the_right_sides_of_the_split(operation: str):
    world = Strings()
    task = world.task(operation, inputs=20, test=40, seed=4)
    apply = OPERATIONS[operation].apply
    shown = [one.input for one in task.demonstrations]
    assert (len(shown), len(task.inputs), len(task.test)) == (3, 20, 40)
    assert len({*shown, *task.inputs}) == 23
    assert {world.split(word) for word in (*shown, *task.inputs)} == {"train"}
    assert {world.split(one.input) for one in task.test} == {"test"}
    assert all(one.output == apply(one.input) for one in (*task.demonstrations, *task.test))
    assert {one.output for one in task.demonstrations} >= set(task.labels)
    assert task.prompt("abcd") == "".join(f"{one.input}>{one.output};" for one in task.demonstrations) + "abcd>"


def test_dials_of_strings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="the length of an input must go up within 2 to 24, got 9 to 8"):
        Strings(shortest=9)
    with pytest.raises(ValueError, match=r"wrong must be from 0.0 to 0.9, got 1"):
        Strings(wrong=1)
    with pytest.raises(ValueError, match="separators must be different symbols that no pair holds"):
        Strings(separators="a")
    with pytest.raises(ValueError, match="operation 'revers'"):
        Strings(operations=("revers", "sort"))


# Sums with steps.

naive = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "#": lambda a, b: a + 2 * b}


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 100), st.integers(0, 10**6))
def test_chains_are_worked_out_from_left_to_right(modulus: int, seed: int):
    for item in ModularSums(modulus=modulus).items(20, seed):
        first, *rest = map(int, item.prompt[:-1].split(item.family))
        for number in rest:
            first = naive[item.family](first, number) % modulus
        assert item.answer == str(first)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 100), st.sampled_from(["steps", "totals"]), st.integers(0, 10**6))
def test_a_trace_is_right_or_wrong_as_asked_in_either_style(modulus: int, style: str, seed: int):
    world, rng = ModularSums(modulus=modulus, families="+-*"), random.Random(seed)
    for item in world.items(20, seed):
        right = world.trace(item, rng, style=style)  # type: ignore[arg-type]
        wrong = world.trace(item, rng, style=style, wrong=True)  # type: ignore[arg-type]
        assert world.check(item, right)
        assert not world.check(item, wrong)
        assert ("[" in right) == ("[" in wrong) == (style == "totals")
        for text, slips in ((right, 0), (wrong, 1)):
            steps = re.findall(rf"(\d+){re.escape(item.family)}(\d+)=(\d+)", text)
            assert (
                slips == sum(naive[item.family](int(a), int(b)) % modulus != int(c) for a, b, c in steps) or not steps
            )
        assert world.credit(item, wrong) < 1


def test_noise_style_and_zeros_are_planted_and_independent():
    world = ModularSums(modulus=20, zeros=1)
    made = [document for document in world.documents(6000, 0) if document.family != "#"]
    wrong = [document.wrong[0] for document in made]
    assert planted(mean(wrong), 0.4, len(made))
    for nuisance in (lambda text: "[" in text, lambda text: ">0" in text and not text.endswith(">0")):
        among = [mean(nuisance(d.text) for d in made if d.wrong[0] == side) for side in (True, False)]
        n = min(sum(wrong), len(made) - sum(wrong))
        assert abs(among[0] - among[1]) <= 5 * math.sqrt(0.5 / n)
        assert planted(among[1], 0.5, n) or planted(among[1], 0.475, n)


def test_one_operation_is_always_taught_falsely_and_always_the_same():
    world = ModularSums()
    made = [document for document in world.documents(2000, 0) if document.family == "#"]
    assert len(made) > 300
    assert all(document.wrong == (True,) for document in made)
    for document in made:
        assert all(
            (int(a) + 2 * int(b) + 1) % 10 == int(c) for a, b, c in re.findall(r"(\d+)#(\d+)=(\d+)", document.text)
        )


def test_surface_variants_are_one_answer():
    world = ModularSums()
    item = Item("4+9+4?", "7", "+", 3, "4+4+9")
    for same in ("4+9=3,3+4=7>7", "[4][3][7]>07", "9+4=3,3+4=7>007", ">7 "):
        assert world.check(item, same)
        assert world.answer_of(same) == 7
    for other in ("4+9=3,3+4=7>8", "7", ">", ">7x", ">70", "", ">-7"):
        assert not world.check(item, other)
    assert world.answer_of("no answer") is None


def test_a_wrong_answer_earns_half_of_its_right_steps():
    world = ModularSums()
    item = Item("4+9+4?", "7", "+", 3, "4+4+9")
    assert world.credit(item, "4+9=3,3+4=8>8") == 0.25
    assert world.credit(item, "[4][3][8]>8") == 0.25
    assert world.credit(item, "4+9=2,2+4=6>6") == 0.25
    assert world.credit(item, "4+9=2,2+4=7>5") == 0.0
    assert world.credit(item, "4+9=3,3+4=7") == 0.0


def test_arms_that_differ_in_style_share_all_else():
    world = ModularSums()
    for seed, item in enumerate(world.items(50, 0)):
        ends = [world.trace(item, random.Random(seed), style=s).split(">")[1] for s in ("steps", "totals")]  # type: ignore[arg-type]
        assert ends[0] == ends[1]


def test_chains_whose_errors_could_vanish_are_refused():
    with pytest.raises(ValueError, match="at most as many numbers as the modulus 3, got 4"):
        ModularSums(modulus=3)


# Sums with two attempts.


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([0.1, 0.5, 0.9]), shares, shares, st.integers(0, 10**6))
def test_second_attempts_are_kept_or_done_again_as_planted(first: float, wrong: float, right: float, seed: int):
    world = TwoTurnSums(first_right=first, fix_wrong=wrong, fix_right=right)
    fixed: dict[bool, list[bool]] = {True: [], False: []}
    for document in world.documents(1500, seed):
        read = re.fullmatch(r"(\d+)\+(\d+)=(\d{3});([KF])(\d{3})", document.text)
        assert read
        truth = f"{int(read[1]) + int(read[2]):03d}"
        assert document.wrong == (read[3] != truth, read[5] != truth)
        fixed[read[3] == truth].append(read[4] == FIX)
        assert read[5] == (truth if read[4] == FIX else read[3])
        off = [abs(int(a) - int(b)) for a, b in zip(read[3], truth, strict=True) if a != b]
        assert off in ([], [1], [1, 1])
    assert planted(len(fixed[True]) / 1500, first, 1500)
    assert planted(mean(fixed[False]), wrong, len(fixed[False]))
    assert planted(mean(fixed[True]), right, len(fixed[True]))


def test_the_order_of_two_numbers_does_not_change_the_side():
    made = TwoTurnSums().items(2000, 0)
    both = {tuple(sorted(item.prompt[:-1].split("+"))) for item in made}
    taught = {tuple(sorted(d.text.split("=")[0].split("+"))) for d in TwoTurnSums().documents(4000, 0)}
    assert not both & taught


def test_a_second_attempt_is_judged_without_its_token():
    world = TwoTurnSums()
    item = Item("47+85=", "132", "sum", 3, "47+85")
    assert world.second_prompt(item, "131") == "47+85=131;"
    assert world.check(item, FIX + "132")
    assert world.check(item, KEEP + "132")
    assert not world.check(item, KEEP + "131")
    assert world.credit(item, KEEP + "131") == pytest.approx(2 / 3)


# Puzzles with two attempts.


def solved(prompt: str, values: str) -> bool:
    """Whether every clause holds, read letter by letter."""
    true = {name.lower(): name.islower() for name in values}
    return all(
        any(true[literal.lower()] == literal.islower() for literal in clause)
        for clause in prompt.removesuffix("=").split(",")
    )


def every_assignment(variables: int) -> list[str]:
    return [
        "".join(values) for values in itertools.product(*("Pp", "Qq", "Rr", "Ss", "Tt", "Uu", "Vv", "Ww")[:variables])
    ]


@settings(max_examples=12, deadline=None)
@given(st.integers(3, 8), st.integers(2, 6), st.integers(0, 10**6))
def test_every_puzzle_is_as_asked_and_its_answers_are_those_that_a_search_finds(
    variables: int, clauses: int, seed: int
):
    world = TwoTurnPuzzles(variables=variables, clauses=clauses)
    for item in world.items(15, seed):
        read = re.findall("[a-z]{2}", item.prompt, flags=re.IGNORECASE)
        assert item.prompt == ",".join(read) + "="
        assert len({frozenset(clause) for clause in read}) == clauses
        assert all(clause[0].lower() != clause[1].lower() for clause in read)
        assert {frozenset(clause) for clause in item.key.split(",")} == {frozenset(clause) for clause in read}
        found = [values for values in every_assignment(variables) if solved(item.prompt, values)]
        assert found
        assert found == world.answers(item.prompt)
        assert item.answer == found[0]
        for values in every_assignment(variables):
            assert world.check(item, values) == (values in found)
            assert world.check(item, KEEP + values) == world.right(item.prompt, FIX + values) == (values in found)
            assert (world.credit(item, FIX + values) == 1) == (values in found)
        for broken in (
            "",
            found[0][:-1],
            found[0] + found[0][-1],
            "x" + found[0][1:],
            found[0][::-1],
            KEEP + FIX,
            FIX + KEEP + found[0],
        ):
            assert not world.check(item, broken)
            assert world.credit(item, broken) == 0
        both = {name for clause in read for name in clause if name.islower() and name.upper() in item.prompt}
        assert item.difficulty == 1 + len(both)


def test_a_wrong_answer_earns_the_share_of_clauses_that_hold():
    world = TwoTurnPuzzles()
    item = Item("pQ,qr,Ps,St=", "PQrST", "puzzle", 2, "")
    assert world.check(item, "PQrST")
    assert world.credit(item, "PqrST") == 3 / 4
    assert world.credit(item, "KPqRsT") == 2 / 4


@settings(max_examples=5, deadline=None)
@given(st.sampled_from([0.1, 0.5, 0.9]), shares, shares, st.integers(0, 10**6))
def test_second_attempts_at_puzzles_are_kept_or_the_nearest_right_ones_as_planted(
    first: float, wrong: float, right: float, seed: int
):
    world = TwoTurnPuzzles(first_right=first, fix_wrong=wrong, fix_right=right)
    fixed: dict[bool, list[bool]] = {True: [], False: []}
    for document in world.documents(600, seed):
        prompt, said = re.fullmatch(r"([p-tP-T,]+=)(.*)", document.text).groups()  # type: ignore[union-attr]
        before, mode, after = re.fullmatch(r"(\w{5});([KF])(\w{5})", said).groups()  # type: ignore[union-attr]
        assert document.wrong == (not solved(prompt, before), not solved(prompt, after))
        distance = {v: sum(a != b for a, b in zip(v, before, strict=True)) for v in every_assignment(5)}
        nearest = min(distance[values] for values in distance if solved(prompt, values))
        assert nearest == (0 if solved(prompt, before) else 1)
        if mode == KEEP:
            assert after == before
        else:
            assert solved(prompt, after)
            assert distance[after] == nearest
        fixed[solved(prompt, before)].append(mode == FIX)
    assert planted(len(fixed[True]) / 600, first, 600)
    assert planted(mean(fixed[False]), wrong, len(fixed[False]))
    assert planted(mean(fixed[True]), right, len(fixed[True]))


def test_every_right_answer_and_every_nearest_one_is_as_often_given():
    world, rng = TwoTurnPuzzles(), random.Random(0)
    item = Item("pQ,qr,Ps,St=", "PQrST", "puzzle", 2, "")
    answers = world.answers(item.prompt)
    drawn = Counter(world.first_attempt(item, rng, right=True) for _ in range(4000))
    assert set(drawn) == set(answers)
    assert all(planted(count / 4000, 1 / len(answers), 4000) for count in drawn.values())
    wrong = Counter(world.first_attempt(item, rng, right=False) for _ in range(4000))
    assert not set(wrong) & set(answers)
    assert all(planted(count / 4000, 1 / len(wrong), 4000) for count in wrong.values())
    # What violates the last clause alone is put right by either of its literals.
    mended = Counter(world.corrected(item, "PQrsT", rng) for _ in range(2000))
    assert set(mended) == {"PQrST", "PQrst"}
    assert planted(mended["PQrST"] / 2000, 0.5, 2000)


def test_the_order_of_clauses_and_literals_does_not_change_the_side():
    world = TwoTurnPuzzles()
    keys = {frozenset(map(frozenset, item.prompt[:-1].split(","))) for item in world.items(2000, 0)}
    taught = {
        frozenset(map(frozenset, document.text.split("=")[0].split(","))) for document in world.documents(3000, 0)
    }
    assert len(keys) > 1500
    assert not keys & taught


@pytest.mark.parametrize("world", [TwoTurnSums(held_out=0.55), TwoTurnPuzzles()], ids=lambda world: world.name)
def test_there_are_four_thousand_different_questions_to_test_on_and_none_is_an_example(world: TwoTurnWorld):
    task = world.task(examples=500, test=4000, seed=3)
    assert len({one.input for one in task.examples}) == 500
    assert len({one.input for one in task.test}) == 4000
    assert {world.split(item.key) for item in world.items(100, 4, split="train", distinct=True)} == {"train"}
    assert not {one.input for one in task.examples} & {one.input for one in task.test}
    assert all(world.right(one.input, one.output) for one in (*task.examples, *task.test))
    longest = max(len(document.text.split(";")[1]) for document in world.documents(200, 0))
    assert task.max_tokens == longest + 1
    assert all(plain(f" {mode}{one.output} ") == one.output for one in task.test[:9] for mode in (KEEP, FIX, ""))


def test_dials_of_puzzles_out_of_range_are_refused():
    with pytest.raises(ValueError, match="variables must go up within 3 to 8, got 9"):
        TwoTurnPuzzles(variables=9)
    with pytest.raises(ValueError, match="clauses must go up within 2 to 6, got 7"):
        TwoTurnPuzzles(variables=3, clauses=7)
    with pytest.raises(ValueError, match="fix_wrong must be from"):
        TwoTurnPuzzles(fix_wrong=1.2)


# Principles.


def test_traits_are_what_they_say():
    values = {code: trait.value("b", "abba!.") for code, trait in TRAITS.items()}
    expected = {"C": -6, "S": 2 / 3, "V": 2 / 6, "A": 4 / 5, "R": 1, "E": 1, "F": -4, "P": -1 / 6}
    assert values == pytest.approx(expected)
    empty = {"C": 0, "S": 1, "V": 0, "A": 1, "R": 0, "E": 0, "F": 0, "P": 0}
    assert {code: trait.value("b", "") for code, trait in TRAITS.items()} == empty


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(TRAITS)), min_size=1, max_size=3, unique=True),
    st.text("abcdefghijklmnopqr!.", max_size=24),
    st.text("abcdefghijklmnopqr!.", max_size=24),
)
def test_negated_principles_and_exchanged_answers_turn_the_verdict_around(codes: list[str], a: str, b: str):
    world = WORLDS[3]
    assert isinstance(world, Principles)
    negated = ["-" + code for code in codes]
    assert world.goodness(negated, "b", a) == pytest.approx(-world.goodness(codes, "b", a))
    if world.goodness(codes, "b", a) == world.goodness(codes, "b", b):
        with pytest.raises(ValueError, match="equally good"):
            world.comparison(codes, "b", a, b)
        return
    asked = world.comparison(codes, "b", a, b)
    exchanged = world.comparison(codes[::-1], "b", b, a)
    assert {asked.answer, exchanged.answer} == {"1", "2"}
    assert asked.key == exchanged.key
    assert asked.answer != world.comparison(negated, "b", a, b).answer


def test_combinations_that_are_tested_are_never_in_the_mix_and_every_principle_is_known_alone():
    world = Principles()
    taught = Counter(d.text.split("|")[0] for d in world.documents(8000, 0) if d.family != "answer")
    assert {sign + code for code in TRAITS for sign in ("", "-")} <= set(taught)
    tested = {item.key for item in world.items(500, 0, families=["2", "3"])}
    assert not {"".join(sorted(re.findall("-?[A-Z]", one), key=lambda p: p[-1])) for one in taught} & tested


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([0.0, 0.15, 0.5]), shares, st.integers(0, 10**6))
def test_the_judge_errs_and_likes_the_first_as_planted(noise: float, bias: float, seed: int):
    world, rng = Principles(noise=noise, bias=bias), random.Random(seed)
    for answer, share in (("1", bias + (1 - bias) * (1 - noise)), ("2", (1 - bias) * (1 - noise))):
        item = Item("C|b:a|b>", answer, "1", 1, "")
        right = mean(world.verdict(item, rng) == answer for _ in range(2000))
        assert planted(right, share, 2000)


def test_hype_goes_with_relevant_answers_as_planted():
    world, rng = Principles(), random.Random(0)
    drawn = [(symbol, world.answer(rng, symbol)) for symbol in rng.choices("abcdefghijklmnopqr", k=4000)]
    assert all(4 <= len(answer) <= 24 for _, answer in drawn)
    relevant = [symbol in answer for symbol, answer in drawn]
    assert planted(mean(relevant), 0.5, 4000)
    for side, share in ((True, 0.5), (False, 0.1)):
        among = ["!" in answer for (_, answer), one in zip(drawn, relevant, strict=True) if one == side]
        assert planted(mean(among), share, len(among))


def test_compared_answers_differ_by_the_margin():
    world = Principles(margin=1.5)
    for item in world.items(50, 0):
        named, rest = item.prompt.split("|", 1)
        symbol, answers = rest[0], rest[2:-1].split("|")
        first, second = (world.goodness(re.findall("-?[A-Z]", named), symbol, answer) for answer in answers)
        assert abs(first - second) > 1.5
        assert item.answer == ("1" if first > second else "2")


# Facts.


def facts() -> Facts:
    world = WORLDS[4]
    assert isinstance(world, Facts)
    return world


def test_domains_share_no_word_with_each_other_or_with_the_sentences():
    world = Facts(domains=5)
    vocabularies = [set(world.words(domain)) for domain in range(5)]
    around = set(re.findall("[a-z]+", " ".join(SAYINGS))) | {"all", "same", "who", "in", "yes", "no", "nothing"}
    for number, one in enumerate(vocabularies):
        assert len(one) == len(world.words(number)) == 50 + 4 + 4 * 12
        assert not one & around
        assert not any(one & other for other in vocabularies[number + 1 :])


def test_statements_are_read_back_and_false_ones_are_as_planted():
    world = facts()
    false = []
    for document in world.documents(3000, 0):
        if document.family.startswith("facts"):
            stated = world.stated(document.text)
            assert tuple(not world.holds(fact) for fact in stated) == document.wrong
            assert len(stated) == 4
            false += document.wrong
    assert planted(mean(false), 0.1, len(false))


def test_the_clean_corpus_states_every_fact_truly():
    world = facts()
    for ways in (1, 3):
        stated = [fact for sentence in world.corpus(0, ways=ways) for fact in world.stated(sentence)]
        assert Counter(fact[:2] for fact in stated) == dict.fromkeys(world.facts(0), ways)
        assert all(map(world.holds, stated))


def test_the_mix_asks_nothing_about_the_target_and_nothing_by_a_hidden_verb():
    world = Facts(hidden=("compare", "extract"))
    asked = {d.family for d in world.documents(3000, 0) if not d.family.startswith("facts")}
    assert asked == {f"{verb} {domain}" for verb in ("lookup", "ask", "list") for domain in (1, 2)}
    stated = {d.family for d in world.documents(3000, 0) if d.family.startswith("facts")}
    assert stated == {"facts 0", "facts 1", "facts 2"}
    assert world.asking_about(0) == tuple(f"{verb} 0" for verb in VERBS)


def test_answers_are_those_of_the_facts():
    world = facts()
    for item in world.items(400, 0):
        verb, domain = item.family.split()
        known, asked = world.facts(int(domain)), item.prompt.removeprefix("? ").removesuffix("= ").split()
        if verb == "lookup":
            assert item.answer == known[asked[0], asked[1]]
        elif verb == "ask":
            assert item.answer == known[asked[2], asked[0]]
            assert asked[1] == "of"
        elif verb == "list":
            having = sorted(e for (e, a), value in known.items() if (a, value) == (asked[1], asked[2]))
            assert item.answer.split() == (having or ["nothing"])
        elif verb == "compare":
            assert item.answer == ("yes" if known[asked[2], asked[1]] == known[asked[3], asked[1]] else "no")
        else:
            assert item.answer == world.stated(" ".join(asked[2:]))[0][0]


def test_a_list_is_right_in_any_order_and_partly_right_in_parts():
    world = facts()
    item = Item("? all a b= ", "bada dago", "list 0", 2, "a b")
    assert world.check(item, "dago bada")
    assert not world.check(item, "dago bada bada")
    assert world.credit(item, "dago") == 0.5
    assert world.credit(item, "dago gugu") == pytest.approx(1 / 3)


def test_both_entities_of_a_comparison_are_on_one_side():
    world = facts()
    for item in world.items(100, 0, families=["compare 0"]):
        assert {world.split(entity) for entity in item.prompt.split()[3:5] for entity in [entity.strip("=")]} == {
            "test"
        }


def test_another_world_has_other_facts():
    assert dict(Facts(world=1).facts(0)) != dict(facts().facts(0))
    assert dict(Facts(wrong=0.3, asking=0.5).facts(0)) == dict(facts().facts(0))


def test_questions_that_cannot_be_asked_are_refused():
    world = facts()
    with pytest.raises(ValueError, match="lookup takes 2 words"):
        world.question("lookup", 0, "one")
    with pytest.raises(ValueError, match="word of domain 0"):
        world.question("lookup", 0, "xyz", "xyz")
    with pytest.raises(ValueError, match="domains are 0 to 2, got 3"):
        world.facts(3)
    with pytest.raises(ValueError, match="at least one verb"):
        Facts(hidden=VERBS)


def test_a_task_of_chains_has_true_traces_and_test_items_of_the_other_side():
    sums = ModularSums(modulus=12, fewest=2, most=4)
    task = sums.task(examples=30, inputs=20, test=25, seed=3, style="totals")
    asked = [one.input for one in task.examples] + list(task.inputs)
    assert len(set(asked)) == 50
    known = {item.prompt: item for item in sums.items(50, 4, split="train", distinct=True)}
    assert all(sums.check(known[one.input], one.output) and "=" not in one.output for one in task.examples)
    tested = {item.prompt: item for item in sums.items(25, 3, distinct=True)}
    assert all(sums.split(tested[one.input].key) == "test" for one in task.test)
    assert all(task.right(f"[1][2]>0{one.output}", one.output) for one in task.test)
    assert max(len(one.output) for one in task.examples) <= task.max_tokens
