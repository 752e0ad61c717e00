"""Self-Specialization: a language model writes tasks of one domain, answers them, and is tuned to that domain."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64

from autodidact.catalog import Card, unknown
from autodidact.data import ArraySource, Field, Store, derive
from autodidact.data.ids import Ids, row_ids
from autodidact.data.schema import Schema
from autodidact.data.texts import read_passages
from autodidact.lm import LM, Completion, Incapable, Sampling
from autodidact.lm.answering import innermost
from autodidact.lm.fitting import NoRoom, lacking
from autodidact.lm.instructions import Instance, refused
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Task, spaced
from autodidact.measures.copying import copied_share
from autodidact.model import Model
from autodidact.recipes.improving import Example, Improvement, examples_of, fine_tuned, must_have, told
from autodidact.recipes.instructing import (
    Asking,
    Written,
    asked_with,
    check_least,
    check_texts,
    drawn_from,
    gather,
    pooled,
)
from autodidact.recipes.stages import Site, Stage, training
from autodidact.selection.bm25 import BM25
from autodidact.selection.dense import Dense, Embed, Fused, Index
from autodidact.selection.novelty import Novelty

CARD = Card(
    name="self_specialize",
    target="SelfSpecialize",
    kind="recipe",
    number=31,
    verb="improve",
    title="Self-Specialization",
    paper="Kang et al.: Self-Specialization: Uncovering Latent Expertise within Large Language Models (2310.00160, "
    "Findings of ACL 2024)",
    summary="From a few seeds of a domain and its texts, a language model makes itself an expert of it.",
    abilities=("generate", "score", "choose"),
    arguments=("corpus", "retrieval", "passages", "rounds", "again"),
    claim="self_specialize",
    extra="language",
)

EMBEDS = ("dense", "both")
"""Ways of retrieval that need a model's embeddings."""
SLOTS = 4
"""Tasks of one completion that are looked at."""
ASKED_AT_ONCE = 64
"""Requests that are answered before what was found is written down."""


Retrieval = Literal["bm25", "dense", "both", "none"]
"""By which passages are found: words, embeddings, both together (`Fused`); or none is shown."""


@dataclass(frozen=True)
class Library:
    """The passages of a corpus with the index that finds them; no index where none are shown."""

    passages: Sequence[str]
    index: Index | None

    def found(self, queries: Sequence[str], k: int) -> list[list[str]]:
        """For each query the k passages that have most to do with it, the best first."""
        if self.index is None:
            return [[] for _ in queries]
        return [[self.passages[place] for place in places] for places in self.index.tops(queries, k)]


class SelfSpecialize(Improvement):
    """Self-Specialization (arXiv 2310.00160, section 2).

    The model is shown some seeds of the domain, each an instruction with an input where it has one, and some tasks that
    it wrote before, and writes further ones, instruction and input together. Those that pass the filters and are new
    are answered: the model is shown the passages of the corpus that have most to do with them, then seeds with their
    outputs. The student learns task and answer without the passages, so that what they say goes into its weights;
    the seeds are learned too. With ``again`` the tuned model answers the same tasks once more, and the model is tuned
    anew, from its beginning, on these answers.

    Where the student has an adapter (``--adapter``), only that is trained; several of them can share one trunk, see
    `autodidact.lm.adapters.Specialists`.

    What was dropped is listed with the reason, in the stores of the stages "tasks" and "responses". A task that is a
    test input, whatever its spaces, is dropped and counted before it is answered; a task file with a seed that is one
    is refused.

    Parameters
    ----------
    corpus : file or folder of texts of the domain, see `autodidact.data.texts.read_passages`; none for answers from
        what the model knows alone.
    retrieval : how passages are found. "bm25": by their words (`BM25`). "dense": by the cosine of the model's own
        embeddings, the mean of its last hidden states over the tokens (`Dense`), before it is tuned; for a model that
        runs here. Each passage is embedded once, and kept. "both": by the ranks of the two together (`Fused`). "none":
        no passage is shown, whatever the corpus.
    passages : that are shown for an answer. Paper: 5, as far as is known.
    passage_words : of a passage, at most.
    k1, b : of `BM25`; k1 from 0, b in [0, 1].
    rounds : of asking for tasks.
    per_round : requests in a round.
    shown : seeds and own tasks that a request shows; fewer where a model that runs here has no room for them.
    shown_made : of these, at most so many own ones; 0 for seeds alone.
    novelty : a task is new whose ROUGE-L with every known one, instruction and input together, is at most this, in
        [0, 1]. Paper: 0.7.
    shots : seeds that are shown for an answer.
    temperature, top_p : of tasks; a temperature from 0, and top_p in (0, 1].
    response_temperature : of answers, from 0; 0 for the likeliest.
    task_tokens : at which a completion with tasks is cut off.
    shortest, longest : words of an instruction.
    banned : further words that no instruction may hold, beside those for what is not text.
    seeds_too : learn the seeds beside what was made.
    again : let the tuned model answer once more, and tune from the beginning on that.
    longest_prompt : characters of a request for an answer. Where it would be longer, or leave a model that runs here
        no room in its context for the longest answer, passages are cut, the last first; seeds are not.
    """

    def __init__(
        self,
        *,
        corpus: str = "",
        retrieval: Retrieval = "bm25",
        passages: int = 5,
        passage_words: int = 100,
        k1: float = 1.5,
        b: float = 0.75,
        rounds: int = 50,
        per_round: int = 10,
        shown: int = 5,
        shown_made: int = 2,
        novelty: float = 0.7,
        shots: int = 3,
        temperature: float = 0.7,
        top_p: float = 0.98,
        response_temperature: float = 0.0,
        task_tokens: int = 512,
        shortest: int = 4,
        longest: int = 150,
        banned: tuple[str, ...] = (),
        seeds_too: bool = True,
        again: bool = False,
        longest_prompt: int = 12_000,
    ) -> None:
        ones = {"rounds": rounds, "per_round": per_round, "shown": shown, "shortest": shortest, "passages": passages}
        ones |= {"passage_words": passage_words, "task_tokens": task_tokens, "longest_prompt": longest_prompt}
        zeros = {"temperature": temperature, "response_temperature": response_temperature, "k1": k1}
        check_least(ones, 1)
        check_least({**zeros, "shown_made": shown_made}, 0)
        if shown_made > shown:
            raise ValueError(f"shown_made must be at most shown, got {shown_made} and {shown}")
        if not 0 < top_p <= 1 or not 0 <= b <= 1:
            raise ValueError(f"top_p lies in (0, 1] and b in [0, 1], got {top_p} and {b}")
        check_texts("banned", banned)
        if longest < shortest or not 0 <= novelty <= 1 or shots < 0:
            raise ValueError(
                "longest must be at least shortest, novelty lie in [0, 1] and shots be 0 or more, got "
                f"{longest}, {shortest}, {novelty} and {shots}"
            )
        if retrieval not in get_args(Retrieval):
            raise unknown("retrieval", retrieval, get_args(Retrieval))
        if retrieval in EMBEDS and not corpus:
            raise ValueError(f"retrieval '{retrieval}' needs texts to embed: name a corpus, or take 'bm25' or 'none'")
        self.corpus, self.retrieval, self.passages, self.passage_words = corpus, retrieval, passages, passage_words
        self.k1, self.b = k1, b
        self.rounds, self.per_round, self.shown, self.shown_made = rounds, per_round, shown, shown_made
        self.novelty, self.shots, self.temperature, self.top_p = novelty, shots, temperature, top_p
        self.response_temperature, self.task_tokens = response_temperature, task_tokens
        self.shortest, self.longest, self.banned = shortest, longest, tuple(banned)
        self.seeds_too, self.again, self.longest_prompt = seeds_too, again, longest_prompt

    def stages(self, site: Site) -> list[Stage]:
        lm, task = self.start(site, "generate")
        student, seed = self.student(site), site.settings.seed
        if not task.seeds:
            raise ValueError("self_specialize needs seeds in the task: seeds: FILE.jsonl with instruction and output")
        texts = self.texts()
        embedder = self.embedder(lm) if self.retrieval in EMBEDS else None
        # Training changes the student, and the second one begins where the first did.
        beginning = deepcopy(student) if self.again else student
        if embedder is student:
            # What passages and questions are compared by stays the same when the tuned model answers.
            embedder = beginning

        def passages(_: Mapping[str, Any]) -> Store:
            assert embedder is not None
            return embedded_passages(site.store("passages"), texts, embedder)

        def tasks(_: Mapping[str, Any]) -> Store:
            store = site.store("tasks", instruction=Field("text"))
            self.invent(lm, task, store, seed)
            asked = self.rounds * self.per_round
            said = f"{len(store)} tasks of {asked} completions, {len(store) / asked:.2f} each"
            site.note("tasks", *told("task", store), said, *_warned(task))
            must_have("task", store)
            return store

        def responses(name: str, speaker: LM, results: Mapping[str, Any]) -> Store:
            store = site.store(name, prompt=Field("text"), completion=Field("text"))
            library = self.library(texts, embedder.pooled if embedder else None, results.get("passages"))
            self.respond(speaker, task, results["tasks"], store, library, seed)
            site.note(name, *told("response", store), *_copied(store, task))
            must_have("response", store)
            return store

        def tuned(name: str, start: LocalLM, store: Store) -> Model:
            return fine_tuned(site, name, start, [*examples_of(store), *self.seed_examples(task)])

        @training
        def train(results: Mapping[str, Any]) -> Model:
            return tuned("train", student, results["responses"])

        @training
        def train_again(results: Mapping[str, Any]) -> Model:
            return tuned("train.2", beginning, results["responses.2"])

        found = ("passages",) if embedder else ()
        first = [
            Stage("tasks", tasks),
            *([Stage("passages", passages)] if embedder else ()),
            Stage("responses", lambda results: responses("responses", lm, results), ("tasks", *found)),
            Stage("train", train, ("responses",)),
        ]
        second = [
            Stage(
                "responses.2",
                lambda results: responses("responses.2", results["train"].lm, results),
                ("tasks", *found, "train"),
            ),
            Stage("train.2", train_again, ("responses.2",)),
        ]
        return [*first, *(second if self.again else ())]

    def texts(self) -> list[str]:
        """The passages of the corpus; none where there is no corpus, or none is shown.

        Raises
        ------
        FileNotFoundError, ValueError : the corpus is not there, or holds no text.
        """
        if not self.corpus or self.retrieval == "none":
            return []
        return read_passages(self.corpus, words=self.passage_words)

    def embedder(self, lm: LM) -> LocalLM:
        """The model whose hidden states passages are found by: the one that answers.

        Raises
        ------
        Incapable : it runs elsewhere, and gives no hidden states.
        """
        local = innermost(lm)
        if not isinstance(local, LocalLM):
            raise Incapable(
                f"retrieval '{self.retrieval}' compares hidden states, and {lm.name} gives none; take 'bm25', or a "
                "model that runs here"
            )
        return local

    def library(
        self, texts: Sequence[str] | None = None, embed: Embed | None = None, embedded: Store | None = None
    ) -> Library:
        """The corpus, indexed.

        Parameters
        ----------
        texts : its passages, where they are read already.
        embed : texts -> embeddings, where `retrieval` needs them.
        embedded : what `embedded_passages` made of the passages; default they are embedded now.

        Raises
        ------
        FileNotFoundError, ValueError : it is not there, or holds no text; or embeddings are needed and not given.
        """
        texts = self.texts() if texts is None else texts
        if not texts:
            return Library((), None)
        indices: list[Index] = []
        if self.retrieval != "dense":
            indices.append(BM25(texts, k1=self.k1, b=self.b))
        if self.retrieval in EMBEDS:
            if embed is None:
                raise ValueError(f"retrieval '{self.retrieval}' needs what embeds the passages")
            rows = None if embedded is None else _rows_of(embedded, texts)
            indices.append(Dense(texts, embed, embeddings=rows))
        return Library(texts, indices[0] if len(indices) == 1 else Fused(indices))

    def invent(self, lm: LM, task: Task, store: Store, seed: int) -> None:
        """Have tasks written, instruction and input together, and keep the new ones.

        Raises
        ------
        NoRoom : after the shortest seed alone a model that runs here has no room for `task_tokens`.
        """
        layout = task.layout
        known = Novelty(self.novelty, map(pooled, task.seeds))
        tested = task.tested
        plain = all(one.instruction.strip()[0].isascii() for one in task.seeds)

        def request(made: Sequence[Instance], rng: np.random.Generator) -> str:
            shown = drawn_from(task.seeds, made, rng, shown=self.shown, most_made=self.shown_made)
            return asked_with(
                lm,
                shown,
                task.seeds,
                lambda some: layout.unanswered(some) + layout.opened(),
                tokens=self.task_tokens,
                cure="lower task_tokens, shorten the seeds, or take a model with a longer context",
            )

        def read(said: Completion) -> Written:
            found = layout.read_unanswered(layout.opened(), said.text, whole=said.finish == "stop")
            # One that was cut off behind whole ones.
            lost = len(layout.read_unanswered(layout.opened(), said.text)) > len(found)
            return [*found, "cut off"] if lost else found

        def unwanted(one: Instance) -> str:
            if spaced(layout.question(one)) in tested:
                return "a test input"
            return refused(
                one.instruction, shortest=self.shortest, longest=self.longest, banned=self.banned, plain=plain
            )

        sampling = Sampling(max_tokens=self.task_tokens, temperature=self.temperature, top_p=self.top_p)
        asking = Asking("tasks", self.rounds, self.per_round, SLOTS, sampling, request, read, unwanted)
        gather(lm, asking, known, store, seed)

    def respond(self, lm: LM, task: Task, tasks: Store, store: Store, library: Library, seed: int) -> None:
        """Answer the tasks, with passages where there is a corpus; test inputs and those without an answer are dropped.

        The columns of the store are "prompt" and "completion", which are learned, and "passages", which were shown.
        """
        layout, tested = task.layout, task.tested
        columns = [tasks.column(name) for name in ("instruction", "input")]
        rows = [(int(id_), Instance(*texts)) for id_, *texts in zip(tasks.ids, *columns, strict=True)]
        todo = [(id_, one) for id_, one in rows if not store.has([id_])[0]]
        # Of tasks that this recipe did not write.
        store.drop({id_: "a test input" for id_, one in todo if spaced(layout.question(one)) in tested})
        todo = [(id_, one) for id_, one in todo if not store.has([id_])[0]]
        sampling = Sampling(
            max_tokens=task.max_tokens, temperature=self.response_temperature, stop=(layout.end,), seed=seed
        )
        for start in range(0, len(todo), ASKED_AT_ONCE):
            some = todo[start : start + ASKED_AT_ONCE]
            found = library.found([pooled(one) for _, one in some], self.passages)
            kept, reasons = dict[int, dict[str, str]](), dict[int, str]()
            asked = list[tuple[int, Instance, str, list[str]]]()
            for (id_, one), texts in zip(some, found, strict=True):
                try:
                    asked.append((id_, one, *self.request(task, one, texts, lm)))
                except NoRoom:
                    reasons[id_] = "too long beside the seeds"
            answers = lm.generate([prompt for _, _, prompt, _ in asked], sampling) if asked else []
            for (id_, one, _, shown), (said,) in zip(asked, answers, strict=True):
                text = said.text.strip()
                if said.finish != "stop" or not text:
                    reasons[id_] = "empty" if not text else "cut off or refused"
                    continue
                prompt = task.prompt(layout.question(one))
                kept[id_] = {"prompt": prompt, "completion": task.completion(text), "passages": "\n".join(shown)}
            if kept:
                written = {name: [row[name] for row in kept.values()] for name in ("prompt", "completion", "passages")}
                store.append(list(kept), **written)
            store.drop(reasons)

    def request(
        self, task: Task, one: Instance, passages: Sequence[str], lm: LM | None = None
    ) -> tuple[str, list[str]]:
        """What is asked for an answer: passages, seeds, the task; and the passages that are in it.

        Parameters
        ----------
        passages : that were found for the task, the best first.
        lm : that is asked; where it runs here its context bounds the request.

        Raises
        ------
        NoRoom : seeds and task alone are too long.
        """
        layout = task.layout
        # Seeds in the order of the task file, those of the task's own kind first.
        alike = sorted(task.seeds, key=lambda seed: bool(seed.input) != bool(one.input))
        rest = layout.shown(alike[: self.shots]) + layout.opened(one, "with input" if one.input else "alone")

        def written(shown: Sequence[str]) -> str:
            return "".join(layout.passage.format(passage=text) for text in shown) + rest

        def too_long(prompt: str) -> str:
            if len(prompt) > self.longest_prompt:
                return f"{len(prompt)} characters, and longest_prompt is {self.longest_prompt}"
            if lm is None or not (lack := lacking(lm, prompt, task.max_tokens)):
                return ""
            return f"{lack} tokens more than {lm.name} has room for beside an answer"

        if why := too_long(rest):
            raise NoRoom(f"seeds and task make {why}: show fewer seeds (shots), or make room")
        shown = _beginning(passages, lambda some: not too_long(written(some)))
        return written(shown), shown

    def seed_examples(self, task: Task) -> list[Example]:
        """The seeds as the student learns them; none where they are left out."""
        seeds = task.seeds if self.seeds_too else ()
        return [(task.prompt(task.layout.question(one)), task.completion(one.output)) for one in seeds if one.output]


def _beginning(texts: Sequence[str], fits: Callable[[list[str]], bool]) -> list[str]:
    """The most of some texts that fits, from the first on; the last one may be cut, behind a whole word."""
    if fits(list(texts)):
        return list(texts)
    ends = [
        (k, place)
        for k, text in enumerate(texts)
        for place in [*(i for i, letter in enumerate(text) if letter == " "), len(text)]
        if text[:place].strip()
    ]

    def until(count: int) -> list[str]:
        k, place = ends[count]
        return [*texts[:k], texts[k][:place]]

    count = bisect_left(range(len(ends)), True, key=lambda count: not fits(until(count)))
    return until(count - 1) if count else []


def embedded_passages(store: Store, texts: Sequence[str], embedder: LocalLM) -> Store:
    """The store with the "embedding" of every passage, continued where it was cut off."""
    schema = Schema(text=Field("text"))
    source = ArraySource("passages", {"text": list(texts)}, schema, _ids_of(texts))
    return derive(lambda batch: {"embedding": np.float32(embedder.pooled(batch["text"]))}, source, store)


def _ids_of(texts: Sequence[str]) -> Ids:
    """Ids of passages: those of another corpus in the same place are others."""
    return row_ids("passages", blake2b("\0".join(texts).encode(), digest_size=8).hexdigest(), len(texts))


def _rows_of(embedded: Store, texts: Sequence[str]) -> Float64[np.ndarray, "n d"]:
    """The embeddings of passages, in their order."""
    found = dict(zip(embedded.ids.tolist(), np.asarray(embedded.column("embedding")), strict=True))
    return np.stack([found[id_] for id_ in _ids_of(texts).tolist()]).astype(np.float64)


def _warned(task: Task) -> list[str]:
    """What a reader should know of the seeds."""
    if len(task.seeds) == 1:
        return ["there is a single seed: all tasks will be like it, and the student an expert for one task"]
    return []


def _copied(store: Store, task: Task) -> list[str]:
    """How much of the responses stands in the passages that were shown for them."""
    if not len(store):
        return []
    rows = zip(store.column("completion"), store.column("passages"), strict=True)
    shares = [copied_share(task.style.output(text), shown.split("\n")) for text, shown in rows if shown]
    told_ = [share for share in shares if share is not None]
    return [f"{np.mean(told_):.1%} of their runs of four words stand in the passages"] if told_ else []
