"""Ensemble-Instruct: what it asks for, what it keeps and why, which answer wins, and a helper that is down."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from tests.lm.loopback import Loopback
from tests.lm.small import Small

from autodidact.data import Store
from autodidact.lm import Sampling
from autodidact.lm.answering import Unfinished
from autodidact.lm.fitting import NoRoom
from autodidact.lm.instructions import Instance, Layout
from autodidact.lm.kept import LanguageModel
from autodidact.lm.scripted import ScriptedLM
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.recipes.ensemble_instruct import SLOTS, EnsembleInstruct
from autodidact.recipes.improving import example_source
from autodidact.recipes.stages import Run, Site
from autodidact.training import Settings
from autodidact.verbs.apply import apply
from autodidact.verbs.improve import improve

LAYOUT = Layout(
    posed="{instruction}:{input}",
    with_input="{instruction}:{input}>{output};",
    alone="{instruction}>{output};",
    list_with_input="?",
    list_alone="!",
    list_any="%",
    item="{instruction};",
)
STYLE = Style(opening="", demonstration="{input}>{output};", question="{input}>", stop=(";",))
SEEDS = (
    Instance("sort a b", "ba", "ab"),
    Instance("turn a b", "ab", "ba"),
    Instance("name one e", "", "e"),
)
TASK = Task(seeds=SEEDS, test=(Demonstration("sort it f:fe", "ef"),), layout=LAYOUT, style=STYLE, max_tokens=6)
QUICK = {"rounds": 1, "per_round": 2, "shortest": 2, "shortest_further": 2}


def writer(prompt: str) -> str:
    """A model that writes two instructions with an input and one without, and instances of them."""
    if prompt[0] == "?":
        return "sort it f;turn it g;sort a b;;x;"
    if prompt[0] == "!":
        return "name two d;"
    asked = prompt.rpartition(";")[2]
    said = {"sort it f:": "dc>cd", "turn it g:": "de>ed", "name two d>": "d e", "sort a b:": "x"}
    return said.get(asked, "cd" if asked.startswith("sort") else "?")


def methods(**options) -> EnsembleInstruct:
    return EnsembleInstruct(**{**QUICK, **options})


def made(method: EnsembleInstruct, lm=None, task: Task = TASK) -> tuple[Store, Store, int]:
    lm = lm or ScriptedLM(writer)
    instructions, instances = Store(name="instructions"), Store(name="instances")
    pipelines = method.pipelines(task)
    method.instruct(lm, task, pipelines, instructions, 0)
    return instructions, instances, method.instantiate(lm, task, pipelines, instructions, instances, 0)


def test_lists_show_seeds_of_one_kind_and_at_most_so_many_of_its_own():
    seeds = tuple(Instance(f"seed number s{k}", "x" if k % 2 else "", "y") for k in range(40))
    own = iter(range(1000))
    lm = ScriptedLM(lambda prompt: "".join(f"own{next(own)} words w{next(own)};" for _ in range(3)))
    method = methods(rounds=4, per_round=5, listed=12, listed_alone=6, listed_made=4)
    method.instruct(lm, replace(TASK, seeds=seeds), method.pipelines(replace(TASK, seeds=seeds)), Store(name="i"), 0)
    counts = {"?": set(), "!": set()}
    for prompt in lm.asked:
        shown = prompt[1:].split(";")[:-1]
        assert len(shown) == len(set(shown)) == (12 if prompt[0] == "?" else 6)
        numbers = [int(text.rpartition("s")[2]) for text in shown if text.startswith("seed")]
        assert all(k % 2 == (prompt[0] == "?") for k in numbers)
        counts[prompt[0]].add(len(shown) - len(numbers))
    assert counts == {"?": {0, 4}, "!": {0, 4}}


def test_fewer_seeds_than_a_list_holds_are_all_shown():
    lm = ScriptedLM(writer)
    made(methods(), lm)
    lists = [prompt for prompt in lm.asked if prompt[0] in "?!"]
    assert {tuple(sorted(prompt[1:].split(";")[:-1])) for prompt in lists} == {
        ("sort a b", "turn a b"),
        ("name one e",),
    }


def test_instructions_that_are_new_are_kept_and_all_others_have_a_reason():
    instructions, _, _ = made(methods())
    kept = list(zip(instructions.column("pool"), instructions.column("instruction"), strict=True))
    assert kept == [("with input", "sort it f"), ("with input", "turn it g"), ("alone", "name two d")]
    # Two lists of four instructions, two of one; the second of each brings nothing new.
    assert Counter(instructions.dropped.values()) == {
        "too much like a known one": 5,
        "fewer than 2 words": 2,
        "not written": 2 * (SLOTS - 4) + 2 * (SLOTS - 1),
    }
    assert len(instructions) + len(instructions.dropped) == 4 * SLOTS


def test_instances_are_asked_for_with_seeds_of_their_kind_and_kept_when_whole():
    lm = ScriptedLM(writer)
    _, instances, asked = made(methods(instances=2), lm)
    assert asked == 6
    rows = [instances.column(name) for name in ("kind", "instruction", "input", "output")]
    assert list(zip(*rows, strict=True)) == [
        ("with input", "sort it f", "dc", "cd"),
        ("with input", "turn it g", "de", "ed"),
        ("alone", "name two d", "", "d e"),
    ]
    assert Counter(instances.dropped.values()) == {"known already": 3}
    prompts = [prompt for prompt in lm.asked if prompt[0] not in "?!"]
    assert set(prompts) == {
        "sort a b:ba>ab;turn a b:ab>ba;sort it f:",
        "sort a b:ba>ab;turn a b:ab>ba;turn it g:",
        "name one e>e;name two d>",
    }


def test_a_test_input_is_never_kept_nor_shown():
    # A test input is one whatever the spaces in it.
    lm = ScriptedLM(lambda prompt: writer(prompt).replace("dc>cd", "fe>ef").replace("de>ed", " f  e>ef"))
    task = replace(TASK, test=(*TASK.test, Demonstration("turn it g:f e", "ef")))
    _, instances, _ = made(methods(), lm, task)
    assert list(instances.dropped.values()).count("a test input") == 2
    assert not any("fe" in prompt for prompt in lm.asked)


def test_completions_that_run_on_give_further_instances_of_their_kind_alone():
    further = "dc>cd;turn it now:hg>gh;count me in>d;sort x:ij"
    lm = ScriptedLM(lambda prompt: further if prompt.endswith("sort it f:") else writer(prompt))
    method = methods(run_on=True, shortest_further=3)
    instructions, instances, asked = made(method, lm)
    assert list(instances.column("instruction")) == ["sort it f", "turn it now", "turn it g", "name two d"]
    # Of the four in the first completion two are dropped, and listed: an output without an input, and no output.
    assert list(instances.dropped.values()) == ["no input with an output"] * 2
    assert len(instances) + len(instances.dropped) == 4 + 1 + 1
    # They are not counted as completions that lack what was asked for.
    assert (asked, method._refusals(instructions, instances)) == (3, 0)
    _, stopped, _ = made(methods(), lm)
    assert list(stopped.column("instruction")) == ["sort it f", "turn it g", "name two d"]


def test_further_instances_that_are_known_too_short_tested_or_beyond_the_last_place_have_a_reason_too(tmp_path):
    further = "dc>cd;sort it f:dc>cd;turn it:hg>gh;sort it f:fe>ef;" + "".join(f"turn it {k}:d>e;" for k in "abcdefg")
    lm = ScriptedLM(lambda prompt: further if prompt.endswith("sort it f:") else writer(prompt))
    method, instructions = methods(run_on=True, shortest_further=3), Store(name="instructions")
    method.instruct(lm, TASK, method.pipelines(TASK), instructions, 0)
    for _ in range(2):
        instances = Store(tmp_path / "instances")
        method.instantiate(lm, TASK, method.pipelines(TASK), instructions, instances, 0)
        assert Counter(instances.dropped.values()) == {
            "known already": 1,
            "fewer than 3 words": 1,
            "a test input": 1,
            f"beyond the first {SLOTS} of its completion": 3,
        }
        # Eleven in the first completion, and one in each of the two others.
        assert len(instances) + len(instances.dropped) == 11 + 1 + 1
    assert len((tmp_path / "instances" / "dropped.jsonl").read_text().splitlines()) == 6


def test_what_a_list_holds_beyond_its_last_place_and_what_is_cut_off_is_listed_too():
    texts = [f"do{k} one{k} thing{k}" for k in range(SLOTS + 3)]
    task = replace(TASK, seeds=SEEDS[:1])
    whole, cut = Store(name="whole"), Store(name="cut")
    lm = ScriptedLM(lambda _: ";".join(texts) + ";")
    methods(per_round=1).instruct(lm, task, methods().pipelines(task), whole, 0)
    assert whole.column("instruction") == texts[:SLOTS]
    assert list(whole.dropped.values()) == [f"beyond the first {SLOTS} of its completion"] * 3
    # Nine words are three instructions without the end of the last one.
    short = ScriptedLM(lambda _: ";".join(texts[:4]).replace(";", "; "))
    methods(per_round=1, list_tokens=8).instruct(short, task, methods().pipelines(task), cut, 0)
    assert cut.column("instruction") == texts[:2]
    assert Counter(cut.dropped.values()) == {"cut off": 1, "not written": SLOTS - 3}


def test_lists_show_as_many_instructions_as_leave_room_in_the_context_of_the_model():
    # "?sort a b;turn a b;" are 19 characters, with one of them 10, and "!name one e;" 12.
    for context, most in ((39, 2), (38, 1), (32, 1)):
        lm, method, store = Small(writer, context), methods(list_tokens=20), Store(name="instructions")
        method.instruct(lm, TASK, method.pipelines(TASK), store, 0)
        assert max(prompt.count(";") for prompt in lm.asked) == most
        assert list(store.column("instruction")) == ["sort it f", "turn it g", "name two d"]
    with pytest.raises(NoRoom, match="1 tokens more than scripted has a context for: lower list_tokens"):
        method.instruct(Small(writer, 31), TASK, method.pipelines(TASK), Store(name="none"), 0)


def test_where_the_instruction_that_was_drawn_is_too_long_the_shortest_seed_is_shown():
    seeds = (Instance("sort " + "a " * 20, "ba", "ab"), Instance("turn a b", "ab", "ba"))
    task, lm = replace(TASK, seeds=seeds), Small(writer, 40)
    method = methods(list_tokens=20, listed=1, listed_alone=1, listed_made=0, per_round=8)
    method.instruct(lm, task, method.pipelines(task), Store(name="instructions"), 0)
    assert set(lm.asked) == {"?turn a b;"}


def test_instances_show_as_many_seeds_as_leave_room_and_what_is_too_long_beside_one_is_dropped():
    long = "turn it " + "h" * 30
    lm = Small(lambda prompt: f"sort it f;{long};" if prompt[0] == "?" else writer(prompt), 100)
    method, instructions = methods(instance_tokens=20, list_tokens=20, instances=2), Store(name="instructions")
    pipelines = method.pipelines(TASK)
    method.instruct(lm, TASK, pipelines, instructions, 0)
    # "sort a b:ba>ab;turn a b:ab>ba;sort it f:" are 40 tokens, with one seed 25, and beside the long one 54.
    for context, seeds in ((74, 2), (59, 1), (45, 1)):
        small, instances = Small(writer, context), Store(name="instances")
        asked = method.instantiate(small, TASK, pipelines, instructions, instances, 0)
        assert small.asked[0] == "".join(["sort a b:ba>ab;", "turn a b:ab>ba;"][:seeds]) + "sort it f:"
        # Of two completions for each instruction the second brings the same; "?" is the instance of the long one.
        assert Counter(instances.dropped.values()) == {
            **({"no input with an output": 2} if context == 74 else {"too long beside the seeds": 2}),
            "known already": 2,
        }
        assert len(instances) + len(instances.dropped) == asked == 6


def test_answers_show_as_many_seeds_as_leave_room_and_what_is_too_long_is_left_out():
    method, instances = methods(), Store(name="instances")
    ids, texts = (
        [1, 2],
        {"instruction": ["sort it f", "sort " + "it " * 9], "input": ["dc", "dc"], "output": ["cd"] * 2},
    )
    instances.append(ids, kind=["with input"] * 2, **texts)
    # Six tokens are the answer's. "sort a b:ba>ab;turn a b:ab>ba;sort it f:dc>" are 43, with one seed 28.
    for context, seeds in ((49, 2), (48, 1), (34, 1)):
        lm, found = Small(writer, context, capabilities=("generate",)), Store(name="one")
        method.answer(lm, TASK, method.pipelines(TASK), instances, found, 1)
        assert lm.asked == ["".join(["sort a b:ba>ab;", "turn a b:ab>ba;"][:seeds]) + "sort it f:dc>"]
        assert (found.ids.tolist(), found.dropped) == ([1], {2: "too long beside the seeds"})
    # Without seeds the question alone must leave room: "sort it f:dc" does, of 12.
    lm, found = Small(writer, 18), Store(name="two")
    methods(helper_shots=0).answer(lm, TASK, method.pipelines(TASK), instances, found, 1)
    assert (lm.asked, found.dropped) == (["sort it f:dc"], {2: "too long"})


def test_lists_and_instances_are_drawn_each_by_options_of_their_own():
    for options, lists, ones in (
        ({}, Sampling(max_tokens=256, temperature=0.7), Sampling(max_tokens=512, temperature=0.7, stop=(";",))),
        (
            {"temperature": 0.3, "list_tokens": 50, "instance_tokens": 60, "run_on": True},
            Sampling(max_tokens=50, temperature=0.3),
            Sampling(max_tokens=60, temperature=0.3),
        ),
    ):
        lm = ScriptedLM(writer)
        made(methods(**options), lm)
        of_lists, of_ones = set(), set()
        for request in (request for call in lm.calls for request in call):
            found = of_lists if request.prompt.text[0] in "?!" else of_ones
            found.add(replace(request.sampling, seed=0))
        assert (of_lists, of_ones) == ({lists}, {ones})


def test_so_many_seeds_of_each_kind_are_shown_for_an_instance_and_fewer_where_it_would_be_too_long():
    seeds = tuple(Instance(f"seed number s{k}", "x" if k % 2 else "", "y") for k in range(20))
    task = replace(TASK, seeds=seeds)
    for options, shown in (
        ({"shown": 3, "shown_alone": 5}, {"with input": 3, "alone": 5}),
        ({"shown": 18, "shown_alone": 18}, {"with input": 10, "alone": 10}),
        # "seed number s1:x>y;" are 19 characters, "seed number s0>y;" 17, and "sort it f:" and "name two d>" 10 and 11.
        ({"longest_prompt": 60}, {"with input": 2, "alone": 2}),
        ({"longest_prompt": 5}, {"with input": 1, "alone": 1}),
    ):
        lm = ScriptedLM(writer)
        made(methods(**options), lm, task)
        counts = {prompt.rpartition(";")[2]: prompt.count(";") for prompt in lm.asked if prompt[0] not in "?!"}
        assert {text: counts[text] for text in KINDS} == {text: shown[kind] for text, kind in KINDS.items()}
        longest = options.get("longest_prompt", 20_000)
        assert all(len(prompt) <= longest or prompt.count(";") == 1 for prompt in lm.asked)


KINDS = {"sort it f:": "with input", "turn it g:": "with input", "name two d>": "alone"}


def test_an_instruction_with_a_banned_word_is_dropped():
    instructions, _, _ = made(methods(banned=("TURN",)))
    assert list(instructions.column("instruction")) == ["sort it f", "name two d"]
    assert list(instructions.dropped.values()).count("names 'TURN'") == 2


def test_one_list_and_one_template_can_serve_both_kinds():
    def mixed(prompt: str) -> str:
        if prompt[0] == "%":
            return "sort it f;name two d;"
        return {"sort it f": ":dc>cd", "name two d": ">d e"}[prompt.rpartition(";")[2]]

    lm = ScriptedLM(mixed)
    _, instances, _ = made(methods(categorised=False), lm)
    assert list(zip(instances.column("kind"), instances.column("input"), strict=True)) == [("any", "dc"), ("any", "")]
    assert "sort a b:ba>ab;turn a b:ab>ba;name one e>e;sort it f" in lm.asked


def test_the_answer_that_is_kept_is_that_of_the_papers_rule():
    def naive(candidates: list[str]) -> int | None:
        forms = ["".join(c for c in text.lower() if c not in ".!,") for text in candidates]
        forms = [" ".join(text.split()) or candidates[k] for k, text in enumerate(forms)]
        if forms[0] in forms[1:]:
            return 0
        if forms[1] == forms[2]:
            return 1
        table = [[_naive_rouge(a, b) for b in forms] for a in forms]
        if min(table[0][1], table[0][2], table[1][2]) <= 0.01:
            return None
        sums = [sum(table[i][j] for j in range(3) if j != i) for i in range(3)]
        return sums.index(max(sums))

    texts = ["a b c", "A, b c!", "a b", "b c d", "x", "...", "!"]
    method, rng = methods(), np.random.default_rng(0)
    for candidates in product(texts, repeat=3):
        assert method.chosen(candidates, rng) == naive(list(candidates)), candidates
    for order in permutations(["a b c", "a b", "b c d"]):
        assert order[method.chosen(order, rng)] == "a b c"
    assert method.chosen(["same"] * 5, rng) == 0
    assert method.chosen(["a b", "b a"], rng) == 0
    assert method.chosen(["running dogs", "runs dog"], rng) == 0
    assert methods(tau=0.99).chosen(["walking dogs", "dog walking"], rng) is None


def _naive_rouge(a: str, b: str) -> float:
    from functools import cache

    x, y = a.split() if any(c.isalnum() for c in a) else [], b.split() if any(c.isalnum() for c in b) else []

    @cache
    def longest(i: int, j: int) -> int:
        if not i or not j:
            return 0
        return longest(i - 1, j - 1) + 1 if x[i - 1] == y[j - 1] else max(longest(i - 1, j), longest(i, j - 1))

    return 2 * longest(len(x), len(y)) / (len(x) + len(y)) if x and y else 0.0


def test_other_ways_to_keep_an_answer_differ_in_that_alone():
    rng = np.random.default_rng(0)
    three = ["a b", "b c", "a b c"]
    assert methods(keep="first").chosen(three, rng) == 0
    assert methods(keep="majority").chosen(three, rng) is None
    assert methods(keep="majority").chosen(["x", "a b", "A b."], rng) == 1
    assert {methods(keep="random").chosen(three, rng) for _ in range(40)} == {0, 1, 2}


def answered(*columns: dict[int, str], missing: str = "stop", keep: str = "consensus") -> Store:
    """What is chosen of three instances with these further answers."""
    instances, stores, kept = Store(name="instances"), [], Store(name="examples")
    texts = {"instruction": ["do this"] * 3, "input": ["x", "y", "z"], "output": ["a b", "c d", "e f"]}
    instances.append([1, 2, 3], kind=["with input"] * 3, **texts)
    for column in columns:
        store = Store(name="answers")
        if column:
            store.append(list(column), output=list(column.values()))
        store.drop({id_: "empty" for id_ in (1, 2, 3) if id_ not in column})
        stores.append(store)
    methods(missing=missing, keep=keep).choose(TASK, instances, stores, kept, 0)
    return kept


def test_answers_are_matched_by_id_and_not_by_their_order():
    kept = answered({3: "e f", 1: "a b", 2: "x"}, {2: "c d", 3: "q", 1: "p"})
    assert dict(zip(kept.ids.tolist(), kept.column("completion"), strict=True)) == {1: "a b;", 2: "c d;", 3: "e f;"}
    assert kept.column("prompt")[0] == "do this:x>"


def test_where_a_model_gave_no_answer_the_instance_is_skipped_or_the_rest_decides():
    some = ({1: "a b"}, {1: "q", 2: "c"})
    rest, skipped = answered(*some, missing="rest"), answered(*some, missing="skip")
    assert rest.ids.tolist() == [1, 2]
    assert rest.dropped == {3: "fewer than two answers"}
    assert skipped.ids.tolist() == [1]
    assert skipped.dropped == {2: "a model gave no answer", 3: "a model gave no answer"}
    assert answered({}, {}, missing="rest").dropped == dict.fromkeys((1, 2, 3), "fewer than two answers")


def test_instances_that_a_model_has_not_decided_on_are_an_error():
    instances, lacking = Store(name="instances"), Store(name="answers")
    instances.append([1], kind=["alone"], instruction=["do this"], input=[""], output=["a"])
    with pytest.raises(ValueError, match="1 instances have neither an answer of model 1 nor a reason"):
        methods().choose(TASK, instances, [lacking], Store(name="examples"), 0)


class Down(ScriptedLM):
    """A model that cannot be reached after so many answers."""

    def __init__(self, script, after: int) -> None:
        super().__init__(script, name="down")
        self.left = after

    def answers(self, requests):
        from autodidact.lm.connection import Unreachable

        for found in super().answers(requests):
            if not self.left:
                raise Unreachable("no route")
            self.left -= 1
            yield found


@pytest.mark.parametrize(("missing", "kept"), [("skip", 1), ("rest", 3)])
def test_a_helper_that_is_down_ends_its_answers_by_policy(missing, kept):
    method = methods(helpers=("a", "b"), missing=missing)
    _, instances, _ = made(method)
    first, second, examples = Store(name="one"), Store(name="two"), Store(name="examples")
    pipelines = method.pipelines(TASK)
    method.answer(Down(writer, after=1), TASK, pipelines, instances, first, 1)
    echo = ScriptedLM(lambda prompt: {"sort it f:dc": "cd", "turn it g:de": "ed"}.get(prompt, "d e"))
    method.answer(echo, TASK, pipelines, instances, second, 2)
    assert len(first) == 1
    assert set(first.dropped.values()) == {"down cannot be reached: no route"}
    method.choose(TASK, instances, [first, second], examples, 0)
    assert len(examples) == kept


def test_a_helper_that_is_down_stops_the_run_unless_it_is_said_otherwise():
    method = methods(helpers=("a", "b"))
    _, instances, _ = made(method)
    with pytest.raises(ConnectionError, match="no route"):
        method.answer(Down(writer, after=0), TASK, method.pipelines(TASK), instances, Store(name="one"), 1)


def test_models_for_conversations_answer_without_seeds_and_others_with_them():
    method = methods(helpers=("a",))
    _, instances, _ = made(method)
    pipelines = method.pipelines(TASK)
    tuned, plain = ScriptedLM(lambda _: "x"), ScriptedLM(lambda _: "x", capabilities=("generate",))
    method.answer(tuned, TASK, pipelines, instances, Store(name="one"), 1)
    method.answer(plain, TASK, pipelines, instances, Store(name="two"), 2)
    assert tuned.asked == ["sort it f:dc", "turn it g:de", "name two d"]
    assert plain.asked[0] == "sort a b:ba>ab;turn a b:ab>ba;sort it f:dc>"
    assert plain.asked[2] == "name one e>e;name two d>"
    assert all(request.sampling.temperature == 0 for call in plain.calls for request in call)


def test_answers_that_are_empty_or_cut_off_are_left_out_with_their_reason():
    method, found = methods(helpers=("a",), helper_shots=0), Store(name="one")
    _, instances, _ = made(method)
    said = {"sort it f:dc": "", "turn it g:de": "e " * 20, "name two d": "d e"}
    method.answer(ScriptedLM(said), TASK, method.pipelines(TASK), instances, found, 1)
    assert list(found.column("output")) == ["d e"]
    assert sorted(found.dropped.values()) == ["cut off or refused", "empty"]


@pytest.fixture(scope="module")
def student():
    return tiny_lm("abcdefghijklmnopqrstuvwxyz :>;?!", width=16, depth=1, context=128)


def site(folder: Path, student, lm=None, helpers=None, task: Task = TASK) -> Site:
    settings = Settings(steps=2, batch_size=8, lr=1e-2)
    found = Site(example_source("task", [("a>", "b")]), lambda *_: None, settings, folder, True)
    found.lm, found.student, found.task = lm or ScriptedLM(writer), student, task
    found.open_lm = helpers.__getitem__ if helpers else None
    return found


def helping(prompt: str) -> str:
    return {"sort it f:dc": "cd", "turn it g:de": "ed"}.get(prompt, "e d")


def test_what_is_agreed_on_is_learned_and_a_killed_run_pays_for_nothing_twice(tmp_path, student):
    first, second = ScriptedLM(helping, name="a"), Down(helping, after=1)
    method = methods(helpers=("a", "b"))
    with pytest.raises(ConnectionError):
        Run(method.stages(site(tmp_path, student, helpers={"a": first, "b": second})), tmp_path).result()
    again, writes = ScriptedLM(helping, name="b"), ScriptedLM(writer)
    found = Run(method.stages(site(tmp_path, student, writes, {"a": first, "b": again})), tmp_path).result()
    assert isinstance(found, LanguageModel)
    assert (writes.calls, len(first.asked), len(again.asked)) == ([], 3, 3)
    rows = [json.loads(line) for line in (tmp_path / "examples.jsonl").read_text().splitlines()]
    # Two helpers say the same of the last one, and it is not what the model says itself.
    assert rows == [
        {"prompt": "sort it f:dc>", "completion": "cd;"},
        {"prompt": "turn it g:de>", "completion": "ed;"},
        {"prompt": "name two d>", "completion": "e d;"},
    ]
    notes = (tmp_path / "stages" / "instances" / "notes.txt").read_text().splitlines()
    assert notes[1] == "3 of 3 completions hold the instance that was asked for"


def test_a_model_and_a_helper_at_addresses_make_data_for_a_student_here(tmp_path, student, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    options = {**QUICK, "missing": "rest", "helper_shots": 0}
    with Loopback(ScriptedLM(writer)) as own, Loopback(ScriptedLM(helping), names=("b",)) as other:
        asked = {"student": student, "settings": Settings(steps=1, batch_size=2), "quiet": True, "report": False}
        asked["method_arguments"] = {**options, "helpers": [f"{other.address}#b"]}
        where = f"{own.address}#tiny"
        # Both spend from one budget, which ends in the helper's answers.
        with pytest.raises(Unfinished, match="budget of 8 calls"):
            improve("ensemble_instruct", where, TASK, out=tmp_path, call_budget=8, **asked)
        assert (own.answered, other.answered) == (7, 1)
        model = improve("ensemble_instruct", where, TASK, out=tmp_path, **asked)
        assert (own.answered, other.answered) == (7, 3)
    assert isinstance(model, LanguageModel)
    # Of the last one the two say different things, of which the first is kept.
    assert [json.loads(line)["completion"] for line in (tmp_path / "examples.jsonl").read_text().splitlines()] == [
        "cd;",
        "ed;",
        "d e;",
    ]
    spent = json.loads((tmp_path / "run.json").read_text())["spent"]
    assert spent["calls"] == 2
    assert len((tmp_path / "transcript.jsonl").read_text().splitlines()) >= 10
    (tmp_path / "in.jsonl").write_text('{"instruction": "sort it f", "input": "dc"}\n')
    (row,) = apply(tmp_path, tmp_path / "in.jsonl", ability="generate", quiet=True)
    assert isinstance(row, str)


def test_without_helpers_the_model_answers_twice_more_with_other_draws(tmp_path, student):
    lm = ScriptedLM(writer, capabilities=("generate",))
    Run(methods().stages(site(tmp_path, student, lm)), tmp_path).result()
    asked = [request for call in lm.calls for request in call if request.prompt.text.endswith("sort it f:dc>")]
    assert [request.sampling.seed for request in asked] == [1, 2]
    assert all(request.sampling.temperature == 0.7 for request in asked)


def test_nothing_left_is_an_error_that_counts_the_reasons(tmp_path, student):
    lm = ScriptedLM(lambda prompt: "sort a b;" * 2)
    with pytest.raises(ValueError, match=r"0 instructions are kept, 32 are dropped .*too much like a known one"):
        Run(methods().stages(site(tmp_path, student, lm)), tmp_path).result()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": Task("Do.")}, "needs seeds in the task"),
        ({"student": None}, "trains a model, and scripted runs elsewhere"),
        ({"lm": ScriptedLM({}, capabilities=("score",))}, "needs a model that can generate"),
        ({"helpers": {"a": ScriptedLM({}, capabilities=("score",))}}, "needs a model that can generate"),
        ({"helpers": None}, "this site opens none"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_asked(tmp_path, student, change, said):
    given = {"student": student, "helpers": {"a": ScriptedLM(writer)}, **change}
    with pytest.raises(ValueError, match=said):
        methods(helpers=("a",)).stages(site(tmp_path, **given))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"longest": 3, "shortest": 4}, "longest must be at least shortest"),
        ({"novelty": 1.5}, r"novelty lies in \[0, 1\]"),
        ({"temperature": -0.1}, "temperature must be at least 0"),
        ({"list_tokens": 0}, "list_tokens must be at least 1"),
        ({"instance_tokens": 0}, "instance_tokens must be at least 1"),
        ({"shortest_further": 0}, "shortest_further must be at least 1"),
        ({"longest_prompt": 0}, "longest_prompt must be at least 1"),
        ({"helper_shots": -1}, "helper_shots must be at least 0"),
        ({"listed_made": -1}, "listed_made must be at least 0"),
        ({"listed_alone": 3}, "listed_made must be at most listed and listed_alone, got 4 and 3"),
        ({"keep": "consensu"}, "unknown keep 'consensu'; did you mean 'consensus'"),
        ({"missing": "skipp"}, "unknown missing 'skipp'; did you mean 'skip'"),
        ({"banned": ("",)}, "banned must have no empty text"),
        ({"tau": 1.0}, r"tau in \[0, 1\)"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        EnsembleInstruct(**options)


def test_a_list_that_is_cut_off_loses_its_last_instruction():
    lm = ScriptedLM(lambda prompt: "sort it f;turn it g" if prompt[0] == "?" else "name two d;")
    method, store = methods(list_tokens=4), Store(name="instructions")
    method.instruct(lm, TASK, method.pipelines(TASK), store, 0)
    assert list(store.column("instruction")) == ["sort it f", "name two d"]
