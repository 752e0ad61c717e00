"""Self-Specialization: a language model writes tasks of one domain, answers them, and is tuned to that domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from autodidact.catalog import Card
from autodidact.data import Field, Store
from autodidact.data.texts import read_passages
from autodidact.lm import LM, Completion, Sampling
from autodidact.lm.instructions import Instance, refused
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Task
from autodidact.measures.copying import copied_share
from autodidact.model import Model
from autodidact.recipes.improving import Example, Improvement, examples_of, fine_tuned, must_have, told
from autodidact.recipes.instructing import Asking, Written, drawn_from, gather, pooled
from autodidact.recipes.stages import Site, Stage, training
from autodidact.selection.bm25 import BM25
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
    arguments=("corpus", "passages", "rounds", "again"),
    claim="self_specialize",
    extra="language",
)

SLOTS = 4
"""Tasks of one completion that are looked at."""
ASKED_AT_ONCE = 64
"""Requests that are answered before what was found is written down."""


@dataclass(frozen=True)
class Library:
    """The passages of a corpus with the index that finds them; no index where there is no corpus."""

    passages: Sequence[str]
    index: BM25 | None

    def found(self, query: str, k: int) -> list[str]:
        """The k passages that have most to do with a query, the best first."""
        return [] if self.index is None else [self.passages[place] for place in self.index.top(query, k)]


class SelfSpecialize(Improvement):
    """Self-Specialization (arXiv 2310.00160, section 2).

    The model is shown some seeds of the domain, each an instruction with an input where it has one, and some tasks that
    it wrote before, and writes further ones, instruction and input together. Those that pass the filters and are new
    are answered: the model is shown the passages of the corpus that have most to do with them (`BM25`), then seeds with
    their outputs. The student learns task and answer without the passages, so that what they say goes into its weights;
    the seeds are learned too. With ``again`` the tuned model answers the same tasks once more, and the model is tuned
    anew, from its beginning, on these answers.

    Where the student has an adapter (``--adapter``), only that is trained; several of them can share one trunk, see
    `autodidact.lm.adapters.Specialists`.

    What was dropped is listed with the reason, in the stores of the stages "tasks" and "responses".

    Parameters
    ----------
    corpus : file or folder of texts of the domain, see `autodidact.data.texts.read_passages`; none for answers from
        what the model knows alone.
    passages : that are shown for an answer. Paper: 5, as far as is known.
    passage_words : of a passage, at most.
    k1, b : of `BM25`.
    rounds : of asking for tasks.
    per_round : requests in a round.
    shown : seeds and own tasks that a request shows.
    shown_made : of these, at most so many own ones.
    novelty : a task is new whose ROUGE-L with every known one, instruction and input together, is at most this, in
        [0, 1]. Paper: 0.7.
    shots : seeds that are shown for an answer.
    temperature, top_p : of tasks.
    response_temperature : of answers; 0 for the likeliest.
    task_tokens : at which a completion with tasks is cut off.
    shortest, longest : words of an instruction.
    banned : further words that no instruction may hold, beside those for what is not text.
    seeds_too : learn the seeds beside what was made.
    again : let the tuned model answer once more, and tune from the beginning on that.
    longest_prompt : characters of a request for an answer. Where it would be longer, passages are cut, the last first;
        seeds are not.
    """

    def __init__(
        self,
        *,
        corpus: str = "",
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
        least = {"rounds": rounds, "per_round": per_round, "shown": shown, "shortest": shortest, "passages": passages}
        for name, value in least.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if longest < shortest or not 0 <= novelty <= 1 or shots < 0:
            raise ValueError(
                "longest must be at least shortest, novelty lie in [0, 1] and shots be 0 or more, got "
                f"{longest}, {shortest}, {novelty} and {shots}"
            )
        self.corpus, self.passages, self.passage_words, self.k1, self.b = corpus, passages, passage_words, k1, b
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
        library = self.library()
        # Training changes the student, and the second one begins where the first did.
        beginning = deepcopy(student) if self.again else student

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
            self.respond(speaker, task, results["tasks"], store, library, seed)
            site.note(name, *told("response", store), *_copied(store))
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

        first = [
            Stage("tasks", tasks),
            Stage("responses", lambda results: responses("responses", lm, results), ("tasks",)),
            Stage("train", train, ("responses",)),
        ]
        second = [
            Stage(
                "responses.2",
                lambda results: responses("responses.2", results["train"].lm, results),
                ("tasks", "train"),
            ),
            Stage("train.2", train_again, ("responses.2",)),
        ]
        return [*first, *(second if self.again else ())]

    def library(self) -> Library:
        """The corpus, indexed.

        Raises
        ------
        FileNotFoundError, ValueError : it is not there, or holds no text.
        """
        if not self.corpus:
            return Library((), None)
        passages = read_passages(self.corpus, words=self.passage_words)
        return Library(passages, BM25(passages, k1=self.k1, b=self.b))

    def invent(self, lm: LM, task: Task, store: Store, seed: int) -> None:
        """Have tasks written, instruction and input together, and keep the new ones."""
        layout = task.layout
        known = Novelty(self.novelty, map(pooled, task.seeds))
        tested = {one.input for one in task.test}
        plain = all(one.instruction.strip()[0].isascii() for one in task.seeds)

        def request(made: Sequence[Instance], rng: np.random.Generator) -> str:
            shown = drawn_from(task.seeds, made, rng, shown=self.shown, most_made=self.shown_made)
            return layout.unanswered(shown) + layout.opened()

        def read(said: Completion) -> Written:
            return layout.read_unanswered(layout.opened(), said.text, whole=said.finish == "stop")

        def unwanted(one: Instance) -> str:
            if layout.question(one) in tested:
                return "a test input"
            return refused(
                one.instruction, shortest=self.shortest, longest=self.longest, banned=self.banned, plain=plain
            )

        sampling = Sampling(max_tokens=self.task_tokens, temperature=self.temperature, top_p=self.top_p)
        asking = Asking("tasks", self.rounds, self.per_round, SLOTS, sampling, request, read, unwanted)
        gather(lm, asking, known, store, seed)

    def respond(self, lm: LM, task: Task, tasks: Store, store: Store, library: Library, seed: int) -> None:
        """Answer the tasks, with passages where there is a corpus; those without an answer are dropped.

        The columns of the store are "prompt" and "completion", which are learned, and "passages", which were shown.
        """
        layout = task.layout
        columns = [tasks.column(name) for name in ("instruction", "input")]
        rows = [(int(id_), Instance(*texts)) for id_, *texts in zip(tasks.ids, *columns, strict=True)]
        todo = [(id_, one) for id_, one in rows if not store.has([id_])[0]]
        sampling = Sampling(
            max_tokens=task.max_tokens, temperature=self.response_temperature, stop=(layout.end,), seed=seed
        )
        for start in range(0, len(todo), ASKED_AT_ONCE):
            some = todo[start : start + ASKED_AT_ONCE]
            asked = [self.request(task, one, library) for _, one in some]
            kept, reasons = dict[int, dict[str, str]](), dict[int, str]()
            answers = lm.generate([prompt for prompt, _ in asked], sampling)
            for (id_, one), (_, shown), (said,) in zip(some, asked, answers, strict=True):
                text = said.text.strip()
                if said.finish != "stop" or not text:
                    reasons[id_] = "empty" if not text else "cut off or refused"
                    continue
                prompt = task.prompt(layout.question(one))
                kept[id_] = {"prompt": prompt, "completion": task.answer(text), "passages": "\n".join(shown)}
            if kept:
                texts = {name: [row[name] for row in kept.values()] for name in ("prompt", "completion", "passages")}
                store.append(list(kept), **texts)
            store.drop(reasons)

    def request(self, task: Task, one: Instance, library: Library) -> tuple[str, list[str]]:
        """What is asked for an answer: passages, seeds, the task; and the passages that are in it.

        Raises
        ------
        ValueError : seeds and task alone are too long.
        """
        layout = task.layout
        # Seeds in the order of the task file, those of the task's own kind first.
        alike = sorted(task.seeds, key=lambda seed: bool(seed.input) != bool(one.input))
        rest = layout.shown(alike[: self.shots]) + layout.opened(one, "with input" if one.input else "alone")
        room = self.longest_prompt - len(rest)
        if room < 0:
            raise ValueError(
                f"seeds and task make {len(rest)} characters, and longest_prompt is {self.longest_prompt}: show fewer "
                "seeds (shots), or raise it"
            )
        shown, frame = list[str](), len(layout.passage.format(passage=""))
        for text in library.found(pooled(one), self.passages):
            if frame + len(text) > room:
                # What is cut off ends with a whole word.
                text = text[: max(0, room - frame + 1)].rpartition(" ")[0]
            if text:
                shown.append(text)
                room -= frame + len(text)
        return "".join(layout.passage.format(passage=text) for text in shown) + rest, shown

    def seed_examples(self, task: Task) -> list[Example]:
        """The seeds as the student learns them; none where they are left out."""
        seeds = task.seeds if self.seeds_too else ()
        return [(task.prompt(task.layout.question(one)), task.answer(one.output)) for one in seeds if one.output]


def _warned(task: Task) -> list[str]:
    """What a reader should know of the seeds."""
    if len(task.seeds) == 1:
        return ["there is a single seed: all tasks will be like it, and the student an expert for one task"]
    return []


def _copied(store: Store) -> list[str]:
    """How much of the responses stands in the passages that were shown for them."""
    if not len(store):
        return []
    rows = zip(store.column("completion"), store.column("passages"), strict=True)
    shares = [copied_share(text, shown.split("\n")) for text, shown in rows if shown]
    told_ = [share for share in shares if share is not None]
    return [f"{np.mean(told_):.1%} of their runs of four words stand in the passages"] if told_ else []
