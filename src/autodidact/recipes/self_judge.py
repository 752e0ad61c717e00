"""Self-J: a language model learns to rate its answers without knowing the right ones, and answers where it is sure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float64

from autodidact.catalog import Card
from autodidact.data import ArraySource, Field, Store
from autodidact.data.ids import row_ids
from autodidact.data.schema import Schema
from autodidact.evaluation.selective import curve, selective
from autodidact.evaluation.table import Table
from autodidact.lm import LM
from autodidact.lm.adapters import adapter_is_silent
from autodidact.lm.answering import innermost
from autodidact.lm.fitting import LONG, lacking, named
from autodidact.lm.judge import Judge, Selecting, Writer, rating_prompts, with_threshold
from autodidact.lm.judging import DIGITS, expected_ratings
from autodidact.lm.kept import LanguageModel
from autodidact.lm.lm import Completion
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Demonstration, Task
from autodidact.measures.similarity import ngram_cosines
from autodidact.methods.language.two_views import TwoViewJudge
from autodidact.model import Model
from autodidact.recipes.improving import Improvement, must_have, told, write_examples
from autodidact.recipes.stages import Site, Stage, training
from autodidact.selection.thresholds import coverage_threshold, risk_threshold
from autodidact.targets.ratings import Scale, recalibrated

CARD = Card(
    name="self_judge",
    target="SelfJudge",
    kind="recipe",
    number=44,
    verb="improve",
    title="Self-J",
    paper="Ye et al.: Self-Judge: Selective Instruction Following with Alignment Self-Evaluation (2409.00935, 2024)",
    summary="From inputs with good answers, a language model learns to rate its own answers without these, and to keep "
    "back those that it rates low.",
    abilities=("generate", "score"),
    arguments=("per_input", "weight", "alpha_kd", "risk", "coverage", "best_of"),
    claim="self_judge",
    extra="language",
)

Similarity = Literal["ngrams", "hidden"]
Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Answers:
    """Answers to inputs whose good answers are known, row by row.

    Attributes
    ----------
    inputs, references, texts : of each answer.
    question : number of the input that it is an answer to.
    logprobs : mean log-probability a token; NaN where the model does not tell.
    """

    inputs: list[str]
    references: list[str]
    texts: list[str]
    question: np.ndarray
    logprobs: Float64[np.ndarray, " n"]


class SelfJudge(Improvement):
    """Self-J (arXiv 2409.00935, section 3).

    The task's examples are inputs with good answers. The model answers their inputs; it rates its answers from 0 to 9
    with the good one before it, by the expected digit; the ratings are recalibrated by how similar an answer is to the
    good one. A copy (or an adapter) then learns to give these ratings, on two views at once, with the good answer and
    without, of which the first teaches the second. What is kept rates any answer without a good one (ability "score"),
    and where the model that writes runs here, answers (ability "generate"): with the best rated of several answers, and
    only where its rating reaches a threshold that is set on examples kept out of training. An empty answer is never
    given.

    An input that leaves no room for an answer, or an answer that leaves the judge none for its rating, is dropped with
    the reason "longer than the context".

    Parameters
    ----------
    per_input : answers to each input that are rated and learned from. Paper: 1.
    temperature : of these, above 0.
    rater : who rates them with the good answer at hand: the model that wrote them, as in the paper, or the one that is
        trained, before it is.
    least_mass : least probability that a rating is a digit at all, in [0, 1]; answers with less are dropped.
    similarity : of an answer to the good one: "ngrams" is the cosine of TF-IDF vectors of characters, "hidden" that of
        the mean hidden states of the model that is trained. The paper takes an encoder of sentences.
    weight : of the model's own rating against the similarity, in [0, 1]. The paper does not say it.
    scale : how both are made comparable, see `recalibrated`.
    alpha : weight of the view without the good answer. Paper: 0.3.
    alpha_kd : weight of its divergence from the other view. Paper: 2.
    validation : share of the examples that the threshold is set on, in (0, 1).
    coverage : share of the inputs that are to be answered, in (0, 1]; 0 for no such target.
    risk : share of the given answers that may be wrong by the task's checker, in (0, 1); 0 for no such target.
    confidence : that the risk is met, in (0, 1), by a bound instead of the share on the validation inputs; 0 for none.
    best_of : answers among which the best rated is given; 1 for the likeliest answer.

    Raises
    ------
    ValueError : an option out of its range, or several targets of the threshold.
    """

    # What is kept rates; how it answers is measured with its threshold, by the recipe itself.
    answers_itself: ClassVar[bool] = False

    def __init__(
        self,
        *,
        per_input: int = 1,
        temperature: float = 1.0,
        rater: Literal["writer", "student"] = "writer",
        least_mass: float = 0.5,
        similarity: Similarity = "ngrams",
        weight: float = 0.5,
        scale: Scale = "ranks",
        alpha: float = 0.3,
        alpha_kd: float = 2.0,
        validation: float = 0.2,
        coverage: float = 0.0,
        risk: float = 0.0,
        confidence: float = 0.0,
        best_of: int = 1,
    ) -> None:
        for name, count in (("per_input", per_input), ("best_of", best_of)):
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        for name, share in (("least_mass", least_mass), ("weight", weight), ("coverage", coverage)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} lies in [0, 1], got {share}")
        for name, share in (("risk", risk), ("confidence", confidence)):
            if not 0 <= share < 1:
                raise ValueError(f"{name} lies in [0, 1), got {share}")
        for name, factor in (("alpha", alpha), ("alpha_kd", alpha_kd)):
            if not 0 <= factor < np.inf:
                raise ValueError(f"{name} must be 0 or more, got {factor}")
        if not 0 < validation < 1:
            raise ValueError(f"validation lies in (0, 1), got {validation}")
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if coverage and risk:
            raise ValueError("a threshold meets one target: either coverage or risk")
        if confidence and not risk:
            raise ValueError("a confidence is that a risk is met: give the risk too")
        self.per_input, self.temperature, self.rater, self.least_mass = per_input, temperature, rater, least_mass
        self.similarity, self.weight, self.scale = similarity, weight, scale
        self.alpha, self.alpha_kd = alpha, alpha_kd
        self.validation, self.coverage, self.risk, self.confidence = validation, coverage, risk, confidence
        self.selecting = Selecting(best_of, temperature)

    def stages(self, site: Site) -> list[Stage]:
        student = self.student(site)
        # An address is asked what it can do only where that is needed.
        lm, task = self.start(site, "generate", *(("choose",) if self.rater == "writer" else ()))
        check_digits(student)
        if len(task.examples) < 2:
            raise ValueError("self_judge needs inputs with good answers, two or more: examples: FILE.jsonl")
        parts = self.split(task, site.settings.seed)
        rater: LM = lm if self.rater == "writer" else student
        # Training changes the student in place; what writes must stay what it was.
        writer = writer_of(site.lm, student)

        def answers(_: Mapping[str, Any]) -> Store:
            store = _answer_store(site)
            for part in PARTS:
                self.draw(lm, task, part, parts[part], store, site.settings.seed, (student, rater))
            site.note("answers", *told("answer", store), *self.too_long(store, parts))
            must_have("answer", store)
            if (self.coverage or self.risk) and not answers_of(store, "validation").texts:
                raise ValueError(f"no answer is left to set the threshold on: {told('answer', store)[0]}")
            return store

        def ratings(results: Mapping[str, Any]) -> Store:
            store = site.store("ratings", prompt=Field("text"), referenced=Field("text"), completion=Field("text"))
            found = answers_of(results["answers"], "train")
            if not len(store) and found.texts:
                self.label(rater, student, task, found, store)
            site.note("ratings", *told("rating", store), *spread(store))
            must_have("rating", store)
            return store

        def before(results: Mapping[str, Any]) -> Store:
            """What the rater says of the test answers before anything is learned, for the comparison."""
            store = site.store("before", own=Field("target"))
            found = answers_of(results["answers"], "test")
            if not len(store):
                own, _ = expected_ratings(rater, rating_prompts(task, found.inputs, found.texts))
                store.append(row_ids("before", "", len(own)), own=np.nan_to_num(own, nan=-1.0))
            return store

        @training
        def judge(results: Mapping[str, Any]) -> Model:
            learned = results["ratings"]
            kept = self.trained(site, student, learned)
            found = Judge(kept.lm, task, writer, self.selecting)
            return self.finished(site, found, results["answers"], results.get("before"))

        made = [Stage("answers", answers), Stage("ratings", ratings, ("answers",))]
        asked: tuple[str, ...] = ("answers", "ratings")
        if task.test:
            made.append(Stage("before", before, ("answers",)))
            asked = (*asked, "before")
        return [*made, Stage("judge", judge, asked)]

    def split(self, task: Task, seed: int) -> dict[Part, tuple[Demonstration, ...]]:
        """The examples that are learned from and those that the threshold is set on, an input on one side; the test."""
        inputs = list(dict.fromkeys(one.input for one in task.examples))
        count = min(max(1, round(self.validation * len(inputs))), len(inputs) - 1)
        if count < 1:
            raise ValueError("self_judge needs examples with two different inputs or more")
        held = {inputs[k] for k in np.random.default_rng(seed).permutation(len(inputs))[:count]}
        return {
            "train": tuple(one for one in task.examples if one.input not in held),
            "validation": tuple(one for one in task.examples if one.input in held),
            "test": task.test,
        }

    def draw(
        self,
        lm: LM,
        task: Task,
        part: Part,
        examples: Sequence[Demonstration],
        store: Store,
        seed: int,
        judges: Sequence[LM] = (),
    ) -> None:
        """Answers to inputs: of the part that is learned from as they come, of the others as they will be given.

        Parameters
        ----------
        judges : who is to rate the answers, for which these must be short enough.
        """
        drawn = self.selecting.sampling(task)
        if part == "train":
            drawn = replace(drawn, n=self.per_input, temperature=self.temperature)
        # The likeliest answer follows from no seed, and may have been asked for already.
        sampling = replace(drawn, seed=seed if drawn.temperature else 0)
        keys = [row_ids(part, str(number), sampling.n) for number in range(len(examples))]
        todo = [number for number, ids in enumerate(keys) if not store.has(ids).all()]
        long = {number for number in todo if lacking(lm, task.prompt(examples[number].input), sampling.max_tokens)}
        store.drop({id_: LONG for k in sorted(long) for id_ in keys[k].tolist() if not store.has([id_])[0]})
        todo = [number for number in todo if number not in long]
        for some in np.array_split(todo, max(1, len(todo) // ASKED_AT_ONCE)) if todo else ():
            found = lm.generate([task.prompt(examples[k].input) for k in some], sampling)
            rows, reasons = list[tuple[int, int, Demonstration, Completion]](), dict[int, str]()
            for k, completions in zip(some.tolist(), found, strict=True):
                for id_, one in zip(keys[k].tolist(), completions, strict=True):
                    if not store.has([id_])[0]:
                        reason = _refused(one) if part == "train" else ""
                        reason = reason or _unrated(task, examples[k], one, judges)
                        reasons.update({id_: reason} if reason else {})
                        rows += [] if reason else [(id_, k, examples[k], one)]
            store.append(
                [id_ for id_, *_ in rows],
                part=[part] * len(rows),
                question=[k for _, k, *_ in rows],
                input=[one.input for _, _, one, _ in rows],
                reference=[one.output for _, _, one, _ in rows],
                answer=[said.text.strip() for *_, said in rows],
                logprob=torch.tensor([_mean_logprob(said) for *_, said in rows], dtype=torch.float64),
            )
            store.drop(reasons)

    def too_long(self, store: Store, parts: Mapping[Part, Sequence[Demonstration]]) -> list[str]:
        """Which inputs were dropped for their length, or that of an answer to them; long ones by how they begin."""
        dropped = {id_ for id_, reason in store.dropped.items() if reason == LONG}
        samples = max(self.per_input, self.selecting.best_of)
        found = [
            one.input
            for part in PARTS
            for number, one in enumerate(parts[part])
            if dropped and dropped & {*row_ids(part, str(number), samples).tolist()}
        ]
        return [f"{LONG}, or with an answer that is: {named(found)}"] if found else []

    def label(self, rater: LM, student: LocalLM, task: Task, found: Answers, store: Store) -> None:
        """Rate answers with the good ones at hand, recalibrate, and keep both views of each with its rating."""
        free = rating_prompts(task, found.inputs, found.texts)
        referenced = rating_prompts(task, found.inputs, found.texts, found.references)
        own, mass = expected_ratings(rater, referenced)
        alike = self.similarities(student, found)
        ids = row_ids("ratings", "", len(free))
        rated = (mass >= self.least_mass) & np.isfinite(own)
        reasons = {
            int(ids[k]): "it is like nothing" if rated[k] else "its rating is hardly a digit"
            for k in np.flatnonzero(~rated | ~np.isfinite(alike))
        }
        kept = np.array([k for k in range(len(free)) if int(ids[k]) not in reasons], dtype=np.int64)
        if len(kept):
            labels = recalibrated(own[kept], alike[kept], weight=self.weight, scale=self.scale)
            store.append(
                ids[kept],
                prompt=[free[k] for k in kept],
                referenced=[referenced[k] for k in kept],
                completion=[DIGITS[label] for label in labels],
                own=torch.from_numpy(own[kept]),
                similarity=torch.from_numpy(alike[kept]),
                mass=torch.from_numpy(mass[kept]),
            )
        store.drop(reasons)

    def similarities(self, student: LocalLM, found: Answers) -> Float64[np.ndarray, " n"]:
        """How similar each answer is to the good one, a cosine; NaN where one of them is empty."""
        if self.similarity == "ngrams":
            return ngram_cosines(found.texts, found.references)
        texts = list(dict.fromkeys(text for text in (*found.texts, *found.references) if text))
        known = dict(zip(texts, student.pooled(texts), strict=True))
        pairs = zip(found.texts, found.references, strict=True)
        return np.array([float(known[a] @ known[b]) if a and b else np.nan for a, b in pairs])

    def trained(self, site: Site, student: LocalLM, ratings: Store) -> LanguageModel:
        """Train the judge on both views of the rated answers."""
        source = view_source(ratings)
        digits = list(ratings.column("completion"))
        seen = [*ratings.column("referenced"), *ratings.column("prompt")]
        write_examples(site.folder, list(zip(seen, [*digits, *digits], strict=True)))
        settings = replace(site.settings, batch_size=min(site.settings.batch_size, len(source)))
        kept = site.train("judge", TwoViewJudge(student, alpha=self.alpha, alpha_kd=self.alpha_kd), source, settings)
        assert isinstance(kept, LanguageModel)
        return kept

    def finished(self, site: Site, judge: Judge, answers: Store, before: Store | None) -> Judge:
        """Set the judge's threshold on the validation answers, and measure it on the test answers."""
        task = judge.task
        assert task is not None
        scores, right = picked(judge, task, answers_of(answers, "validation"))
        threshold, said = self.threshold(scores, right)
        found = with_threshold(judge, threshold)
        test = answers_of(answers, "test")
        if before is not None and not test.texts:
            said = [*said, "nothing is measured: every test input, or the answer to it, is longer than the context"]
        site.note("judge", *said)
        if before is not None and test.texts:
            table = compared(found, task, test, np.asarray(before.column("own"), dtype=np.float64))
            table.save(site.folder / "evaluations" / "judge.json")
        return found

    def threshold(self, scores: Float64[np.ndarray, " n"], right: Float64[np.ndarray, " n"]) -> tuple[float, list[str]]:
        """The rating from which on an answer is given, and what it does on the validation inputs.

        Parameters
        ----------
        scores : in [0, 9]; -1 of an empty answer, which is never given.
        right : 1 for an answer that is right, else 0.
        """
        rated = scores >= 0
        empty = ""
        if not rated.all():
            empty = f"; {1 - rated.mean():.1%} of the validation answers are empty or not rated, and never given"
        if not self.coverage and not self.risk:
            return 0.0, [f"every input is answered: no target of coverage or risk was given{empty}"]
        if self.coverage:
            found = max(0.0, coverage_threshold(scores, self.coverage))
        elif rated.any():
            found = risk_threshold(scores[rated], 1 - right[rated], self.risk, confidence=self.confidence)
        else:
            found = float("inf")
        if not np.isfinite(found):
            return found, [
                f"no threshold meets a risk of {self.risk:.1%} on the {len(scores)} validation inputs, of which "
                f"{1 - right.mean():.1%} are answered wrong: nothing will be answered"
            ]
        given = scores >= found
        wrong = f"of which {1 - right[given].mean():.1%} are wrong" if given.any() else "which is none"
        said = [
            f"answers are given from a rating of {found:.2f} on: {given.mean():.1%} of the {len(scores)} "
            f"validation inputs, {wrong}, of all {1 - right.mean():.1%}{empty}"
        ]
        if self.coverage and given.mean() < self.coverage:
            said.append(f"a coverage of {self.coverage:.1%} cannot be met: only {rated.mean():.1%} can be answered")
        return found, said


ASKED_AT_ONCE = 64
"""Inputs that are answered before what was found is written down."""


def check_digits(lm: LocalLM) -> None:
    """Raise ValueError where a tokenizer has no token for each digit: a judge learns one token an answer."""
    long = [digit for digit, ids in zip(DIGITS, lm.wording.answer_ids(list(DIGITS)), strict=True) if len(ids) != 1]
    if long:
        raise ValueError(f"a judge says one token, and {lm.label} writes {', '.join(long)} as several")


def writer_of(lm: LM | None, student: LocalLM) -> Writer:
    """What writes when the judge answers: a model that runs here as it is before training; None for one elsewhere."""
    lm = None if lm is None else innermost(lm)
    if not isinstance(lm, LocalLM):
        return None
    # An adapter that says nothing yet leaves its base as the model that wrote, which then need not be kept twice.
    return "base" if lm is student and adapter_is_silent(student) else lm.frozen()


def _answer_store(site: Site) -> Store:
    texts = dict.fromkeys(("part", "input", "reference", "answer"), Field("text"))
    return site.store("answers", **texts, question=Field("group"), logprob=Field("target"))


def _refused(one: Completion) -> str:
    """Why an answer is not learned from; empty where nothing speaks against it."""
    if one.finish == "refused":
        return "refused"
    return "" if one.text.strip() else "empty"


def _unrated(task: Task, example: Demonstration, one: Completion, judges: Sequence[LM]) -> str:
    """Why an answer cannot be rated, with the good one beside it or without; empty where it can."""
    said = one.text.strip()
    views = [task.judge.rated(task.instruction, example.input, said, known) for known in (None, example.output)]
    return LONG if any(lacking(judge, view, 1) for judge in judges for view in views) else ""


def _mean_logprob(one: Completion) -> float:
    return float(np.mean(one.logprobs)) if one.logprobs else float("nan")


def answers_of(store: Store, part: Part) -> Answers:
    """The answers of a part, in the order of its inputs."""
    rows = [k for k, its in enumerate(store.column("part")) if its == part] if len(store) else []
    if not rows:
        return Answers([], [], [], np.empty(0, dtype=np.int64), np.empty(0))
    question = np.asarray(store.column("question"))[rows]
    order = [rows[k] for k in np.argsort(question, kind="stable")]
    texts = {name: list(store.column(name)) for name in ("input", "reference", "answer")}
    chosen = {name: [str(column[k]) for k in order] for name, column in texts.items()}
    logprobs = np.asarray(store.column("logprob"), dtype=np.float64)[order]
    return Answers(chosen["input"], chosen["reference"], chosen["answer"], np.sort(question), logprobs)


def view_source(ratings: Store, digits: Sequence[str] | None = None) -> ArraySource:
    """Both views of rated answers with the ratings, or with others, as data to train on."""
    columns = {name: list(ratings.column(name)) for name in ("prompt", "referenced", "completion")}
    columns = columns if digits is None else {**columns, "completion": list(digits)}
    return ArraySource("ratings", columns, Schema(dict.fromkeys(columns, Field("text"))), ratings.ids)


def spread(store: Store) -> list[str]:
    """How often each rating is learned."""
    if not len(store):
        return []
    counts = Counter(store.column("completion"))
    return ["ratings that are learned: " + ", ".join(f"{digit} {counts[digit]}" for digit in DIGITS)]


def picked(judge: Judge, task: Task, answers: Answers) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """The rating of the answer that a judge would give to each input, and whether it is right."""
    groups = [np.flatnonzero(answers.question == number) for number in np.unique(answers.question)]
    drawn = [[Completion(answers.texts[k], "stop") for k in group] for group in groups]
    firsts = [int(group[0]) for group in groups]
    picks = judge.best([answers.inputs[k] for k in firsts], drawn)
    given = zip(firsts, picks, strict=True)
    right = [task.right(text, answers.references[k], answers.inputs[k]) for k, (text, _) in given]
    return np.array([rating for _, rating in picks]), np.array(right, dtype=np.float64)


def compared(judge: Judge, task: Task, test: Answers, before: Float64[np.ndarray, " n"]) -> Table:
    """How well the judge tells right answers to the test inputs from wrong ones, beside what costs no training."""
    told = zip(test.texts, test.references, test.inputs, strict=True)
    right = np.array([task.right(*one) for one in told], dtype=np.float64)
    arms = {
        "judge": judge.rate(test.inputs, test.texts),
        "judge, with the good answer": judge.rate(test.inputs, test.texts, test.references),
        "ratings before training": before,
    }
    if np.isfinite(test.logprobs).all():
        arms["likelihood"] = test.logprobs
    scores, best = picked(judge, task, test)
    given = scores >= judge.selecting.threshold
    wrong = f"{1 - best[given].mean():.1%} of these are wrong" if given.any() else "nothing is"
    table = Table(
        {
            "title": "Answers to the task's test inputs, rated",
            "sentence": f"{given.mean():.1%} of the {len(given):,} test inputs are answered, {wrong}; of answers to "
            f"all of them {1 - best.mean():.1%} would be, of those that it chose from {1 - right.mean():.1%}.",
            "checker": task.checked_by,
        }
    )
    for arm, values in arms.items():
        known = np.nan_to_num(values, nan=-1.0)
        for metric, value in selective(known, right).items():
            table.add(arm, metric, 0, value)
        table.about.setdefault("risk against coverage", {})[arm] = curve(known, right)
    return table
