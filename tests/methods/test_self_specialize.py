"""Self-Specialization: what is shown for tasks and for answers, what is kept, and what the student learns."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.lm.small import Small

from autodidact.data import Store
from autodidact.lm import Incapable, Sampling
from autodidact.lm.adapters import add_adapter
from autodidact.lm.cached import Cached
from autodidact.lm.fitting import NoRoom
from autodidact.lm.instructions import Instance, Layout
from autodidact.lm.kept import LanguageModel
from autodidact.lm.scripted import ScriptedLM, words
from autodidact.lm.task import Demonstration, Style, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.recipes.improving import example_source
from autodidact.recipes.self_specialize import SLOTS, SelfSpecialize
from autodidact.recipes.stages import Run, Site
from autodidact.selection import BM25, Dense, Fused
from autodidact.training import Settings

LAYOUT = Layout(
    posed="{instruction}:{input}",
    with_input="{instruction}:{input}>{output};",
    alone="{instruction}>{output};",
    passage="({passage})",
)
STYLE = Style(opening="", demonstration="{input}>{output};", question="{input}>", stop=(";",))
SEEDS = (
    Instance("find the dose of", "abc", "two"),
    Instance("name one drug", "", "abc"),
    Instance("is it safe", "abd", "no"),
)
TASK = Task(seeds=SEEDS, test=(Demonstration("find the dose of:xyz", "six"),), layout=LAYOUT, style=STYLE, max_tokens=6)
CORPUS = "the dose of acb is one\nthe dose of xyz is six\nacb is safe\nwater is wet\n"
QUICK = {"rounds": 1, "per_round": 2, "shortest": 2, "shots": 2, "passages": 2, "novelty": 0.9}


def methods(**options) -> SelfSpecialize:
    return SelfSpecialize(**{**QUICK, **options})


def writer(prompt: str) -> str:
    """A model that writes tasks where none is begun, and answers by the last letters of the task otherwise."""
    asked = prompt.rpartition(";")[2]
    if not asked.endswith(">"):
        return "find the dose of:acb;find the dose of:xyz;name one drug;is acb;"
    return "one" if "acb" in asked else "two"


@pytest.fixture
def corpus(tmp_path: Path) -> str:
    (tmp_path / "corpus.txt").write_text(CORPUS)
    return str(tmp_path / "corpus.txt")


def invented(method: SelfSpecialize, lm=None, task: Task = TASK) -> Store:
    store = Store(name="tasks")
    method.invent(lm or ScriptedLM(writer), task, store, 0)
    return store


def responded(method: SelfSpecialize, lm, tasks: Store, task: Task = TASK) -> Store:
    store = Store(name="responses")
    method.respond(lm, task, tasks, store, method.library(), 0)
    return store


def test_requests_show_so_many_seeds_and_own_tasks_without_outputs_and_never_a_test_item():
    seeds = tuple(Instance(f"seed number s{k}", f"in{k}", f"out{k}") for k in range(30))
    own = iter(range(1000))
    lm = ScriptedLM(lambda _: f"own{next(own)} words w{next(own)}:x{next(own)};find the dose of:xyz;")
    task = replace(TASK, seeds=seeds)
    store = invented(methods(rounds=3, per_round=4, shown=5, shown_made=2), lm, task)
    tested = {hash(one.input) for one in task.test}
    counts = Counter()
    for prompt in lm.asked:
        shown = prompt.split(";")[:-1]
        assert len(shown) == len(set(shown)) == 5
        assert not tested & set(map(hash, shown))
        assert "out" not in prompt
        counts[sum(text.startswith("own") for text in shown)] += 1
    assert counts == {0: 4, 2: 8}
    assert Counter(store.dropped.values())["a test input"] == 12


def test_tasks_that_are_new_are_kept_with_their_inputs_and_all_others_have_a_reason():
    store = invented(methods())
    assert list(zip(store.column("instruction"), store.column("input"), strict=True)) == [
        ("find the dose of", "acb"),
        ("is acb", ""),
    ]
    assert Counter(store.dropped.values()) == {"a test input": 2, "too much like a known one": 4}
    assert len(store) + len(store.dropped) == 2 * SLOTS


def test_what_a_completion_holds_beyond_the_tasks_that_are_looked_at_is_listed_too(tmp_path):
    written = [f"task{k} new{k} word{k}" for k in range(8)]
    for _ in range(2):
        store, lm = Store(tmp_path / "tasks"), ScriptedLM(lambda _: ";".join(written) + ";")
        methods(rounds=2, per_round=1).invent(lm, TASK, store, 0)
        # Of the second request, which is answered alike, the four that are looked at are known.
        assert store.column("instruction") == written[:SLOTS]
        assert Counter(store.dropped.values()) == {
            f"beyond the first {SLOTS} of its completion": 8,
            "too much like a known one": 4,
        }
        assert len(store) + len(store.dropped) == 2 * len(written)
    # Nothing is listed twice, nor asked for again.
    assert lm.calls == []
    assert len((tmp_path / "tasks" / "dropped.jsonl").read_text().splitlines()) == 12


@pytest.mark.parametrize(
    ("said", "kept", "lost"), [("find this:a;is i", 1, 1), ("find this:a; find", 1, 0), ("find this", 0, 1)]
)
def test_a_task_that_is_cut_off_is_listed_beside_the_whole_ones_before_it(said, kept, lost):
    # A scripted model counts words: all but the last one.
    method = methods(rounds=1, per_round=1, task_tokens=len(words(said)) - 1)
    store = invented(method, ScriptedLM(lambda _: said))
    assert len(store) == kept
    assert Counter(store.dropped.values()) == Counter({"cut off": lost, "not written": SLOTS - kept - lost})


def test_a_request_for_tasks_shows_as_many_as_leave_room_in_the_context_of_the_model():
    # "find the dose of:abc;name one drug;is it safe:abd;" are 21, 14 and 15 characters.
    for context, most in ((70, 3), (69, 2), (36, 1), (34, 1)):
        lm = Small(writer, context)
        store = invented(methods(rounds=3, per_round=4, task_tokens=20, shown_made=0), lm)
        shown = [prompt.split(";")[:-1] for prompt in lm.asked]
        assert max(map(len, shown)) == most
        assert len(store) > 0
        assert min(map(len, shown)) >= 1
    # The shortest seed stands in where the one that was drawn is too long, and where it is too long too it is said.
    lm = Small(writer, 34)
    invented(methods(rounds=3, per_round=4, task_tokens=20, shown=1, shown_made=0), lm)
    assert set(lm.asked) == {"name one drug;"}
    with pytest.raises(NoRoom, match=r"1 tokens more than scripted has a context for: lower task_tokens"):
        invented(methods(task_tokens=20), Small(writer, 33))


def test_own_tasks_of_any_length_do_not_stop_a_run_with_a_small_context():
    own = iter(range(1000))
    lm = Small(lambda _: f"own{(k := next(own))} words w{k}:{'x' * 20};is it{k} now;", 60)
    store = invented(methods(rounds=6, per_round=2, task_tokens=20), lm)
    assert len(store) == 24


def test_tasks_and_answers_are_drawn_each_by_options_of_their_own():
    for options, drawn, said in (
        ({}, Sampling(max_tokens=512, temperature=0.7, top_p=0.98), 0.0),
        (
            {"temperature": 0.3, "top_p": 0.5, "task_tokens": 50, "response_temperature": 0.4},
            Sampling(max_tokens=50, temperature=0.3, top_p=0.5),
            0.4,
        ),
    ):
        lm, method = ScriptedLM(writer), methods(**options)
        tasks = invented(method, lm)
        assert {replace(one.sampling, seed=0) for call in lm.calls for one in call} == {drawn}
        speaker = ScriptedLM(writer)
        responded(method, speaker, tasks)
        wanted = Sampling(max_tokens=TASK.max_tokens, temperature=said, stop=(";",))
        assert {one.sampling for call in speaker.calls for one in call} == {wanted}


def test_passages_are_of_so_many_words_and_found_by_the_constants_that_were_given(corpus, tmp_path):
    long = tmp_path / "long.txt"
    long.write_text(" ".join(f"word{k}" for k in range(25)))
    assert [len(text.split()) for text in methods(corpus=str(long), passage_words=10).library().passages] == [10, 10, 5]
    texts = CORPUS.strip().split("\n")
    query, found = "the dose of acb is safe", []
    for options in ({}, {"k1": 0.1}, {"b": 0.0}):
        index = methods(corpus=corpus, **options).library().index
        assert isinstance(index, BM25)
        wanted = BM25(texts, **{"k1": 1.5, "b": 0.75, **options}).scores(query)
        assert index.scores(query).tolist() == wanted.tolist()
        found.append(tuple(wanted))
    assert len(set(found)) == 3


def test_answers_are_asked_for_with_passages_then_seeds_and_learned_without_the_passages(corpus):
    lm = ScriptedLM(writer)
    store = responded(methods(corpus=corpus), lm, invented(methods()))
    assert lm.asked == [
        "(the dose of acb is one)(the dose of xyz is six)"
        "find the dose of:abc>two;is it safe:abd>no;find the dose of:acb>",
        "(acb is safe)(the dose of acb is one)name one drug>abc;find the dose of:abc>two;is acb>",
    ]
    assert list(zip(store.column("prompt"), store.column("completion"), strict=True)) == [
        ("find the dose of:acb>", "one;"),
        ("is acb>", "one;"),
    ]
    assert list(store.column("passages"))[1] == "acb is safe\nthe dose of acb is one"
    assert all(request.sampling.temperature == 0 for call in lm.calls for request in call)


def test_requests_for_answers_never_hold_a_test_item_either(corpus):
    seeds = tuple(Instance(f"seed number s{k}", f"in{k}", f"out{k}") for k in range(9))
    own = iter(range(1000))
    lm = ScriptedLM(lambda _: f"own{next(own)} words:x{next(own)};find the dose of:xyz;find  the dose of: xyz;")
    # A test input is one whatever the spaces in it.
    task = replace(TASK, seeds=seeds, test=(*TASK.test, Demonstration("is  it:abd", "no")))
    tasks = invented(methods(rounds=3, per_round=4), lm, task)
    # Tasks may also come from somewhere else.
    tasks.append([-1, -2], pool=["", ""], instruction=["find the dose of", "is it"], input=["xyz", "abd"])
    speaker = ScriptedLM(lambda _: "two")
    store = responded(methods(corpus=corpus, shots=3), speaker, tasks, task)
    tested = {hash(one.input) for one in task.test} | {hash("is it:abd")}
    assert len(speaker.asked) == len(store) == 12
    for prompt in speaker.asked:
        *shown, asked = prompt.rpartition(")")[2].removesuffix(">").split(";")
        assert len(shown) == 3
        assert not tested & {hash(text.partition(">")[0]) for text in (*shown, asked)}
    assert not tested & {hash(text.removesuffix(">")) for text in store.column("prompt")}
    assert Counter(tasks.dropped.values())["a test input"] == 24
    assert store.dropped == {-1: "a test input", -2: "a test input"}


def test_a_seed_that_is_a_test_input_is_refused_with_its_task():
    with pytest.raises(ValueError, match="'find the dose of:xyz' is shown with its output and tested too"):
        replace(TASK, seeds=(*SEEDS, Instance("find the dose of", "xyz", "six")))


@pytest.mark.parametrize("retrieval", ["bm25", "none"])
def test_without_a_corpus_or_retrieval_seeds_alone_are_shown(retrieval, corpus):
    lm = ScriptedLM(writer)
    method = methods(retrieval=retrieval, corpus=corpus if retrieval == "none" else "")
    responded(method, lm, invented(methods()))
    assert lm.asked[0].startswith("find the dose of:abc>two;")


def test_where_a_request_is_too_long_passages_are_cut_at_a_word_and_seeds_never(corpus):
    one, whole = Instance("find the dose of", "acb"), methods(corpus=corpus)
    (found,) = whole.library().found(["find the dose of acb"], 2)
    prompt, shown = whole.request(TASK, one, found)
    assert shown == ["the dose of acb is one", "the dose of xyz is six"]
    for less in range(1, len(prompt)):
        method = methods(corpus=corpus, longest_prompt=len(prompt) - less)
        if less > len("".join(f"({text})" for text in shown)):
            with pytest.raises(ValueError, match=r"show fewer seeds \(shots\)"):
                method.request(TASK, one, found)
            break
        shorter, left = method.request(TASK, one, found)
        assert len(shorter) <= len(prompt) - less
        assert shorter.endswith("find the dose of:abc>two;is it safe:abd>no;find the dose of:acb>")
        for text, full in zip(left, shown, strict=False):
            assert full.startswith(text)
            assert full[len(text) :][:1] in ("", " ")


@pytest.mark.parametrize("wrapped", [False, True])
def test_passages_are_cut_to_what_the_context_of_a_model_that_runs_here_leaves(tmp_path, letters, corpus, wrapped):
    lm = tiny_lm(letters, width=16, depth=1, context=64)
    speaker, tasks = Cached(lm, tmp_path / "kept") if wrapped else lm, invented(methods())
    method = methods(corpus=corpus, shots=1)
    (found,) = method.library().found(["find the dose of acb"], 2)
    one, rest = Instance("find the dose of", "acb"), "find the dose of:abc>two;find the dose of:acb>"
    # A token a character: of 64 six are the answer's, and 46 what is never cut; a word more would make 59 of 58.
    assert method.request(TASK, one, found, speaker) == (f"(the dose){rest}", ["the dose"])
    assert len(f"(the dose of){rest}") + TASK.max_tokens == 65
    # What fits to the last token is whole.
    roomy = tiny_lm(letters, width=16, depth=1, context=len(f"(the dose of acb is one){rest}") + TASK.max_tokens)
    assert method.request(TASK, one, found[:1], roomy)[1] == found[:1]
    store = responded(method, speaker, tasks)
    assert len(store) + len(store.dropped) == len(tasks) == 2
    with pytest.raises(ValueError, match=r"6 tokens more than tiny@.* has room for beside an answer: show fewer"):
        methods(corpus=corpus, shots=2).request(TASK, one, found, speaker)
    # A task that is longer than any other one is dropped, and those beside it are answered.
    tasks.append([-1], pool=[""], instruction=["is " + " and".join(["it"] * 9)], input=[""])
    store = responded(method, speaker, tasks)
    assert store.dropped[-1] == "too long beside the seeds"
    assert len(store) + len(store.dropped) == 3
    # Nothing is known of the tokens of a model elsewhere.
    assert method.request(TASK, one, found, ScriptedLM(writer))[1] == found


def test_embeddings_of_the_model_find_passages_as_a_naive_search_does(letters, corpus):
    lm = tiny_lm(letters, width=16, depth=2, context=128)
    method = methods(corpus=corpus, retrieval="dense")
    texts, query = CORPUS.strip().split("\n"), "find the dose of acb"

    def naive(text: str) -> np.ndarray:
        with torch.no_grad():
            ids = torch.tensor([lm.tokenizer(text)["input_ids"]])
            states = lm.module(input_ids=ids, output_hidden_states=True).hidden_states[-1][0].double()
        mean = states.sum(0) / len(states)
        return (mean / mean.square().sum().sqrt()).numpy()

    scores = [float(naive(text) @ naive(query)) for text in texts]
    index = method.library(embed=lm.pooled).index
    assert isinstance(index, Dense)
    # The model computes in float32, and rows of a batch are padded.
    assert np.allclose(index.scores(query), scores, rtol=0, atol=1e-5)
    order = sorted(range(len(texts)), key=lambda place: -scores[place])
    assert method.library(embed=lm.pooled).found([query, ""], 2) == [[texts[place] for place in order[:2]], []]
    both = methods(corpus=corpus, retrieval="both").library(embed=lm.pooled)
    assert isinstance(both.index, Fused)
    assert len(both.found([query], 2)[0]) == 2


def test_a_text_longer_than_the_context_counts_with_its_beginning_and_an_empty_one_with_zeros(letters):
    lm = tiny_lm(letters, width=16, depth=1, context=8)
    found = lm.pooled(["abcdefgh" * 3, "abcdefgh", ""])
    assert np.allclose(found[0], found[1], atol=1e-6)
    assert not found[2].any()
    assert np.allclose(np.linalg.norm(found[:2], axis=1), 1)
    assert lm.pooled([]).shape == (0, 16)


@pytest.mark.parametrize("again", [False, True])
def test_a_run_embeds_each_passage_once_with_the_model_that_it_began_with(tmp_path, letters, corpus, again):
    student = tiny_lm(letters, width=16, depth=1, context=128)
    before = student.pooled(CORPUS.strip().split("\n"))
    method, out = methods(corpus=corpus, retrieval="dense", again=again, shots=0, longest_prompt=100), tmp_path / "run"
    # The scripted model writes the tasks, and the student's states find the passages.
    method.embedder = lambda _: student
    found = Run(method.stages(site(out, student, steps=2)), out).result()
    assert isinstance(found, LanguageModel)
    store = Store(out / "stages" / "passages" / "store")
    assert np.allclose(store.column("embedding"), before, atol=1e-6)
    shown = Store(out / "stages" / f"responses{'.2' if again else ''}" / "store").column("passages")
    wanted = Dense(CORPUS.strip().split("\n"), tiny_lm(letters, width=16, depth=1, context=128).pooled)
    texts = CORPUS.strip().split("\n")
    tops = wanted.tops(["find the dose of acb", "is acb"], 2)
    assert {"\n".join(texts[place] for place in places) for places in tops} >= set(shown)


def test_a_model_behind_an_address_gives_no_states_to_retrieve_by(tmp_path, letters, corpus):
    student = tiny_lm(letters, width=16, depth=1, context=128)
    for retrieval in ("dense", "both"):
        where = site(tmp_path, student, ScriptedLM(writer))
        with pytest.raises(Incapable, match=f"retrieval '{retrieval}' compares hidden states, and .* gives none"):
            methods(corpus=corpus, retrieval=retrieval).stages(where)
        assert where.lm.calls == []


def test_answers_that_are_empty_or_cut_off_are_dropped_with_their_reason():
    said = iter(["", "a b c d e f g h"])
    store = responded(methods(), ScriptedLM(lambda _: next(said)), invented(methods()))
    assert list(store.dropped.values()) == ["empty", "cut off or refused"]
    assert len(store) == 0


@pytest.fixture(scope="module")
def letters() -> str:
    return "abcdefghijklmnopqrstuvwxyz :>;()"


def site(folder: Path, student, lm=None, task: Task = TASK, steps: int = 2) -> Site:
    settings = Settings(steps=steps, batch_size=8, lr=3e-2)
    found = Site(example_source("task", [("a>", "b")]), lambda *_: None, settings, folder, True)
    found.lm, found.student, found.task = lm or ScriptedLM(writer), student, task
    return found


def test_tasks_and_seeds_are_learned_by_the_adapter_alone_and_a_rerun_asks_for_nothing(tmp_path, letters, corpus):
    student = tiny_lm(letters, width=16, depth=1, context=128)
    trunk = {name: weight.clone() for name, weight in student.module.named_parameters()}
    add_adapter(student, rank=2)
    method, out = methods(corpus=corpus), tmp_path / "run"
    found = Run(method.stages(site(out, student, steps=6)), out).result()
    assert isinstance(found, LanguageModel)
    rows = [json.loads(line) for line in (out / "examples.jsonl").read_text().splitlines()]
    assert rows[:2] == [
        {"prompt": "find the dose of:acb>", "completion": "one;"},
        {"prompt": "is acb>", "completion": "one;"},
    ]
    assert [row["completion"] for row in rows[2:]] == ["two;", "abc;", "no;"]
    kept = {name: w for name, w in found.lm.module.named_parameters() if "lora_" not in name}
    assert all((kept[f"base_model.model.{_named(name, kept)}"] == weight).all() for name, weight in trunk.items())
    notes = (out / "stages" / "tasks" / "notes.txt").read_text().splitlines()
    assert notes[1] == "2 tasks of 2 completions, 1.00 each"
    again = ScriptedLM(writer)
    Run(method.stages(site(out, student, again)), out).result()
    assert again.calls == []


def _named(name: str, kept) -> str:
    stem, _, kind = name.rpartition(".")
    return next(
        found.removeprefix("base_model.model.")
        for found in kept
        if found in (f"base_model.model.{name}", f"base_model.model.{stem}.base_layer.{kind}")
    )


def test_the_tuned_model_answers_once_more_and_a_copy_of_the_first_model_learns_that(tmp_path, letters):
    student = tiny_lm(letters, width=16, depth=1, context=128)
    # Sixty steps are enough to know five answers by heart, so that the second answers are the first ones.
    found = Run(methods(again=True, shots=0).stages(site(tmp_path, student, steps=60)), tmp_path).result()
    assert isinstance(found, LanguageModel)
    assert found.lm is not student
    first, second = (Store(tmp_path / "stages" / name / "store") for name in ("responses", "responses.2"))
    assert set(second.ids.tolist()) <= set(first.ids.tolist())
    assert set(second.column("prompt")) <= set(first.column("prompt"))
    said = found.lm.generate(["find the dose of:acb>"], Sampling(max_tokens=6, temperature=0.0, stop=STYLE.stop))
    assert said[0][0].text == "one"


@pytest.mark.parametrize("again", [False, True])
def test_with_again_the_last_training_is_on_what_the_tuned_model_answered(tmp_path, letters, again):
    student = tiny_lm(letters, width=16, depth=1, context=128)
    method, second = methods(again=again, shots=0), ScriptedLM(lambda _: "second", name="second")
    respond, speakers = method.respond, []

    def answered(lm, *rest):
        # What the tuned model says is scripted.
        speakers.append(lm)
        respond(lm if lm.name == "scripted" else second, *rest)

    method.respond = answered
    found = Run(method.stages(site(tmp_path, student)), tmp_path).result()
    rows = [json.loads(line)["completion"] for line in (tmp_path / "examples.jsonl").read_text().splitlines()]
    assert rows == [*(["second;"] * 2 if again else ["one;"] * 2), "two;", "abc;", "no;"]
    # The tuned model is another one than that which is tuned on its answers.
    assert [lm.name == "scripted" for lm in speakers] == [True, *([False] if again else [])]
    assert isinstance(found, LanguageModel)
    assert found.lm not in speakers


def test_seeds_are_learned_beside_what_was_made_unless_it_is_said_otherwise(tmp_path, letters):
    student = tiny_lm(letters, width=16, depth=1, context=128)
    Run(methods(seeds_too=False).stages(site(tmp_path, student)), tmp_path).result()
    rows = [json.loads(line) for line in (tmp_path / "examples.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == ["find the dose of:acb>", "is acb>"]
    whole = methods().seed_examples(TASK)
    assert whole == [("find the dose of:abc>", "two;"), ("name one drug>", "abc;"), ("is it safe:abd>", "no;")]


def test_a_run_says_how_much_of_its_answers_stands_in_the_passages(tmp_path, letters, corpus):
    student = tiny_lm(letters, width=16, depth=1, context=128)

    def copying(prompt: str) -> str:
        # Of runs of four words "the dose of acb is one" has three, "the dose of acb" one of its two.
        asked = prompt.rpartition(";")[2]
        if not asked.endswith(">"):
            return writer(prompt)
        return "the dose of acb is one" if asked.startswith("find") else "the dose of acb now"

    for where, said in ((corpus, ["75.0% of their runs of four words stand in the passages"]), ("", [])):
        out = tmp_path / f"run{len(where)}"
        Run(methods(corpus=where).stages(site(out, student, ScriptedLM(copying))), out).result()
        assert (out / "stages" / "responses" / "notes.txt").read_text().splitlines()[1:] == said


def test_a_single_seed_works_and_is_warned_of(tmp_path, letters):
    student = tiny_lm(letters, width=16, depth=1, context=128)
    Run(methods().stages(site(tmp_path, student, task=replace(TASK, seeds=SEEDS[:1]))), tmp_path).result()
    assert "there is a single seed" in (tmp_path / "stages" / "tasks" / "notes.txt").read_text()


def test_no_valid_task_is_an_error_that_counts_the_reasons(tmp_path, letters):
    student = tiny_lm(letters, width=16, depth=1, context=128)
    with pytest.raises(ValueError, match=r"0 tasks are kept, 8 are dropped .*no instruction"):
        Run(methods().stages(site(tmp_path, student, ScriptedLM(lambda _: ":;:;:;:;"))), tmp_path).result()


def test_what_cannot_work_is_said_before_anything_is_asked(tmp_path, letters):
    student = tiny_lm(letters, width=16, depth=1, context=128)
    (tmp_path / "empty").mkdir()
    for method, where, said in (
        (methods(), site(tmp_path, student, task=Task("Do.")), "needs seeds in the task"),
        (methods(), site(tmp_path, None), "runs elsewhere"),
        (methods(corpus=str(tmp_path / "empty")), site(tmp_path, student), "holds no text"),
        (methods(corpus=str(tmp_path / "none")), site(tmp_path, student), "no such corpus"),
        (methods(), site(tmp_path, student, ScriptedLM({}, capabilities=("score",))), "a model that can generate"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=said):
            method.stages(where)
        assert where.lm is None or where.lm.calls == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"passages": 0}, "passages must be at least 1"),
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"response_temperature": -0.5}, "response_temperature must be at least 0, got -0.5"),
        ({"top_p": 0.0}, r"top_p lies in \(0, 1\]"),
        ({"top_p": 1.1}, r"top_p lies in \(0, 1\]"),
        ({"b": 1.5}, r"b in \[0, 1\]"),
        ({"b": -0.1}, r"b in \[0, 1\]"),
        ({"k1": -1.0}, "k1 must be at least 0"),
        ({"task_tokens": 0}, "task_tokens must be at least 1"),
        ({"passage_words": 0}, "passage_words must be at least 1"),
        ({"longest_prompt": 0}, "longest_prompt must be at least 1"),
        ({"shown_made": -1}, "shown_made must be at least 0"),
        ({"shown": 2, "shown_made": 3}, "shown_made must be at most shown, got 3 and 2"),
        ({"banned": ("",)}, "banned must have no empty text"),
        ({"novelty": 2.0}, r"novelty lie in \[0, 1\]"),
        ({"shots": -1}, "shots be 0 or more"),
        ({"retrieval": "dens"}, "did you mean 'dense'"),
        ({"retrieval": "dense"}, "needs texts to embed: name a corpus"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        SelfSpecialize(**options)


def test_the_loss_counts_the_response_alone(letters):
    lm = tiny_lm(letters, width=16, depth=1, context=64)
    pair = lm.encode(["find the dose of:acb>"], ["one"])
    counted = np.array(pair.ids[0])[np.array(pair.answer[0])]
    assert lm.wording.text(counted[:-1].tolist()) == "one"
    assert int(pair.answer.sum()) == 4
