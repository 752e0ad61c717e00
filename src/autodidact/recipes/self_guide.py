"""SELF-GUIDE: a language model writes inputs and outputs for its own task, keeps what it agrees on, and learns it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from autodidact.catalog import Card
from autodidact.data import Field, Store
from autodidact.data.ids import row_ids
from autodidact.lm import LM, Completion, Sampling
from autodidact.lm.fitting import fitting, lacking
from autodidact.lm.task import Task, spaced
from autodidact.model import Model
from autodidact.recipes.improving import Improvement, examples_of, fine_tuned, must_have, one_each, told
from autodidact.recipes.instructing import check_least, check_texts
from autodidact.recipes.stages import Site, Stage, training
from autodidact.selection.consensus import vote
from autodidact.selection.lengths import LengthWindow, length_window

CARD = Card(
    name="self_guide",
    target="SelfGuide",
    kind="recipe",
    number=54,
    verb="improve",
    title="SELF-GUIDE",
    paper="Zhao et al.: SELF-GUIDE: Better Task-Specific Instruction Following via Self-Synthetic Finetuning "
    "(2407.12874, 2024)",
    summary="From an instruction and a few demonstrations, a language model makes its own training data and learns it.",
    abilities=("generate", "score", "choose"),
    arguments=("rounds", "temperature", "votes", "min_share"),
    claim="self_guide",
    extra="language",
)

NOISE = (
    "sure,",
    "i'd be happy",
    "here is",
    "here are",
    "as an ai",
    "input:",
    "output:",
    "[input]",
    "[output]",
    "therefore",
    "\n\n",
)
"""What an answer says that speaks of itself, in lower case; each counts where it stands as whole words."""
SHOWN_INPUTS = 10


class SelfGuide(Improvement):
    """SELF-GUIDE (arXiv 2407.12874, section 3).

    Inputs that the task brings come first. In rounds the model is asked for further ones, with the demonstrations'
    inputs and some of those it wrote before; of a classification each time for an input of a label drawn at random.
    What passes the filters joins the pool. Then it answers every input several times, with the demonstrations; the
    answer on which it agrees with itself most is kept, if enough of them agree. Of a classification, answers become the
    label that they name, and classes are cut to the size of the rarest. The model is trained on the prompts with the
    demonstrations, and these answers.

    Every input and output that was dropped is listed with the reason, in the stores of the stages "inputs" and
    "outputs". An input that is a test input, whatever its spaces, is dropped, whether the task brought it or the model
    wrote it.

    Parameters
    ----------
    rounds : of asking for inputs; 0 for none, where the task brings some. Paper: 10 to 200.
    per_round : inputs that are asked for in a round. Paper: 10.
    temperature : of inputs, from 0; 0 for 0.7 in a classification and 0.9 otherwise, as in the paper.
    top_k : tokens from which inputs are drawn; 0 for all, as some servers need it. Paper: 40.
    votes : answers to each input. Paper: 10.
    vote_temperature : of these, from 0. Paper: 0.2.
    vote_top_k : tokens from which these are drawn; 0 for all, as above. Paper: 10.
    min_share : share of the answers that must agree, in (0, 1]. Paper: 0.3.
    input_length : whether inputs must be about as long as those of the demonstrations (mean and two standard
        deviations, in characters); None for whether it is a classification, as in the paper.
    output_length : the same of outputs; None for whether it is none.
    filter_noise : drop what speaks of itself ("Sure, here is ...") or names the form's own fields.
    noise : further texts that no input or output may hold, whatever their case, as whole words: "there is" does not
        hold "here is".
    longest_prompt : characters of a request for an input. Where it would be longer, or leave a model that runs here no
        room in its context for the longest input, fewer known inputs are shown; an input with which a question leaves
        no room for the longest answer is dropped.
    """

    def __init__(
        self,
        *,
        rounds: int = 40,
        per_round: int = 10,
        temperature: float = 0.0,
        top_k: int = 40,
        votes: int = 10,
        vote_temperature: float = 0.2,
        vote_top_k: int = 10,
        min_share: float = 0.3,
        input_length: bool | None = None,
        output_length: bool | None = None,
        filter_noise: bool = True,
        noise: tuple[str, ...] = (),
        longest_prompt: int = 10_000,
    ) -> None:
        zeros: dict[str, float] = {"rounds": rounds, "temperature": temperature, "top_k": top_k}
        check_least({**zeros, "vote_temperature": vote_temperature, "vote_top_k": vote_top_k}, 0)
        check_least({"per_round": per_round, "votes": votes, "longest_prompt": longest_prompt}, 1)
        check_texts("noise", noise)
        if not 0 < min_share <= 1:
            raise ValueError(f"min_share lies in (0, 1], got {min_share}")
        self.rounds, self.per_round = rounds, per_round
        self.temperature, self.top_k = temperature, top_k
        self.votes, self.vote_temperature, self.vote_top_k = votes, vote_temperature, vote_top_k
        self.min_share = min_share
        self.input_length, self.output_length = input_length, output_length
        self.noise = tuple(text.lower() for text in (*(NOISE if filter_noise else ()), *noise))
        self.longest_prompt = longest_prompt

    def stages(self, site: Site) -> list[Stage]:
        lm, task = self.start(site, "generate")
        student = self.student(site)
        if not task.demonstrations:
            raise ValueError("self_guide needs demonstrations in the task: two to four inputs with their outputs")
        if not self.rounds and not task.inputs:
            raise ValueError("self_guide without rounds needs inputs in the task")

        def inputs(_: Mapping[str, Any]) -> Store:
            store = site.store("inputs", input=Field("text"))
            self.synthesise(lm, task, store, site.settings.seed)
            site.note("inputs", *told("input", store))
            must_have("input", store)
            return store

        def outputs(results: Mapping[str, Any]) -> Store:
            store = site.store("outputs", prompt=Field("text"), completion=Field("text"))
            self.annotate(lm, task, results["inputs"], store, site.settings.seed)
            site.note("outputs", *told("output", store))
            must_have("output", store)
            return store

        @training
        def tune(results: Mapping[str, Any]) -> Model:
            found = examples_of(results["outputs"])
            if task.labels:
                found, said = balanced(found, task, site.settings.seed)
                site.note("train", *said)
            return fine_tuned(site, "train", student, found)

        return [
            Stage("inputs", inputs),
            Stage("outputs", outputs, ("inputs",)),
            Stage("train", tune, ("outputs",)),
        ]

    def synthesise(self, lm: LM, task: Task, store: Store, seed: int) -> None:
        """Ask for inputs round by round; those that a store has decided on already are not asked for again.

        Raises
        ------
        NoRoom : after the demonstrations alone a model that runs here has no room for an input.
        """
        demonstrated, tested = [one.input for one in task.demonstrations], task.tested
        window = _window(self.input_length, bool(task.labels), demonstrated)
        sampling = Sampling(
            max_tokens=task.max_input_tokens,
            temperature=self.temperature or (0.7 if task.labels else 0.9),
            top_k=self.top_k,
            stop=task.style.stop,
        )
        known = dict(zip(store.ids.tolist(), store.column("input"), strict=True)) if len(store) else {}
        pool = _given(task, store)
        for number in range(self.rounds):
            ids = row_ids("inputs", str(number), self.per_round)
            rng = np.random.default_rng((seed, number))
            if not store.has(ids).all():
                requests = [self.request(task, pool, rng, lm) for _ in ids]
                answers = one_each(lm, requests, replace(sampling, seed=1000 * seed + number))
            found, reasons = dict[int, str](), dict[int, str]()
            for place, id_ in enumerate(ids.tolist()):
                if id_ in known:
                    pool.append(known[id_])
                elif not store.has([id_])[0]:
                    text = answers[place].text.strip()
                    reason = _unfinished(answers[place]) or self.refused(text, window)
                    reason = reason or _known(text, tested, demonstrated, pool)
                    if reason:
                        reasons[id_] = reason
                    else:
                        found[id_] = text
                        pool.append(text)
            if found:
                store.append(list(found), input=list(found.values()))
            store.drop(reasons)

    def request(self, task: Task, pool: Sequence[str], rng: np.random.Generator, lm: LM | None = None) -> str:
        """One request for an input: some of the pool, then the demonstrations in random order.

        Parameters
        ----------
        pool : inputs that are known.
        lm : that is asked; where it runs here its context bounds the request.

        Raises
        ------
        NoRoom : the demonstrations alone are too long.
        """
        demonstrated = [task.demonstrations[k].input for k in rng.permutation(len(task.demonstrations))]
        label = task.labels[rng.integers(len(task.labels))] if task.labels else ""
        count = int(rng.integers(1, min(SHOWN_INPUTS, len(pool)) + 1)) if pool else 0
        return fitting(
            lm,
            [pool[k] for k in rng.permutation(len(pool))[:count]],
            lambda shown: task.style.request(task.instruction, [*shown, *demonstrated], label),
            tokens=task.max_input_tokens,
            longest=self.longest_prompt,
            least=0,
            cure="lower max_input_tokens in the task, demonstrate less, or take a model with a longer context",
        )

    def annotate(self, lm: LM, task: Task, inputs: Store, store: Store, seed: int) -> None:
        """Answer every input several times and keep what the answers agree on."""
        window = _window(self.output_length, not task.labels, [one.output for one in task.demonstrations])
        sampling = Sampling(
            n=self.votes,
            max_tokens=task.max_tokens,
            temperature=self.vote_temperature,
            top_k=self.vote_top_k,
            stop=task.style.stop,
            seed=seed,
        )
        texts = list(inputs.column("input"))
        todo = np.flatnonzero(~store.has(inputs.ids))
        for some in np.array_split(todo, max(1, len(todo) // ASKED_AT_ONCE)) if len(todo) else ():
            kept, reasons = dict[int, tuple[str, str]](), dict[int, str]()
            asked = list[tuple[int, str]]()
            for k in some:
                id_, prompt = int(inputs.ids[k]), task.prompt(texts[k])
                if lacking(lm, prompt, task.max_tokens):
                    reasons[id_] = "too long beside the demonstrations"
                else:
                    asked.append((id_, prompt))
            drawn = lm.generate([prompt for _, prompt in asked], sampling) if asked else []
            for (id_, prompt), answers in zip(asked, drawn, strict=True):
                said, reason = self.agreed(answers, task, window)
                if said is None:
                    reasons[id_] = reason
                else:
                    kept[id_] = prompt, task.completion(said)
            if kept:
                found = kept.values()
                store.append(list(kept), prompt=[p for p, _ in found], completion=[c for _, c in found])
            store.drop(reasons)

    def agreed(self, answers: Sequence[Completion], task: Task, window: LengthWindow | None) -> tuple[str | None, str]:
        """The answer on which a model agrees with itself; or None, and why there is none."""
        texts, refused = list[str](), Counter[str]()
        for answer in answers:
            text = answer.text.strip()
            reason = _unfinished(answer) or self.refused(text, window)
            if reason:
                refused[reason] += 1
            else:
                texts.append(text)
        if not texts:
            return None, f"no answer passed: {refused.most_common(1)[0][0]}"
        found = vote(texts, self.min_share)
        if found is None:
            return None, "its answers do not agree"
        if not task.labels:
            return found, ""
        label = first_label(found, task.labels)
        return label, "" if label is not None else "names no label"

    def refused(self, text: str, window: LengthWindow | None) -> str:
        """Why a text is not kept; empty where nothing speaks against it."""
        if not text:
            return "empty"
        if window is not None and not window.holds(text):
            return "unusual length"
        return next((f"holds {noise!r}" for noise in self.noise if any(whole_words(noise, text))), "")


ASKED_AT_ONCE = 64
"""Inputs that are answered before what was found is written down."""


def _given(task: Task, store: Store) -> list[str]:
    """The inputs that the task brings, put into a store that has not decided on them yet."""
    demonstrated, tested = {one.input for one in task.demonstrations}, task.tested
    kept, reasons = dict[str, int](), dict[int, str]()
    for id_, given in zip(row_ids("given", "", len(task.inputs)).tolist(), task.inputs, strict=True):
        text = given.strip()
        if reason := _known(text, tested, demonstrated, kept) if text else "empty":
            reasons[id_] = reason
        else:
            kept[text] = id_
    new = {id_: text for text, id_ in kept.items() if not store.has([id_])[0]}
    if new:
        store.append(list(new), input=list(new.values()))
    store.drop({id_: reason for id_, reason in reasons.items() if not store.has([id_])[0]})
    return list(kept)


def _window(asked: bool | None, default: bool, examples: Sequence[str]) -> LengthWindow | None:
    return length_window(examples) if (default if asked is None else asked) else None


def _unfinished(said: Completion) -> str:
    """Why a completion is not what was asked for; empty where it came to an end."""
    return {"stop": "", "length": "cut off"}.get(said.finish, "refused")


def _known(text: str, tested: Container[str], demonstrated: Container[str], pool: Container[str]) -> str:
    """Why an input is not new; empty where it is."""
    if spaced(text) in tested:
        return "a test input"
    return "a demonstration's input" if text in demonstrated else "known already" if text in pool else ""


def whole_words(wanted: str, text: str) -> Iterator[re.Match[str]]:
    """Where one text stands in another, whatever its case, with no further letter or digit before or behind it.

    Letters that have no upper case do not count as further ones, for several scripts write no spaces between words.
    """
    for found in re.finditer(re.escape(wanted), text, re.IGNORECASE):
        ends = (text[max(0, end - 1) : end + 1] for end in found.span())
        if not any(len(pair) == 2 and all(map(_joins, pair)) for pair in ends):
            yield found


def _joins(letter: str) -> bool:
    return letter.isdigit() or letter == "_" or letter.lower() != letter.upper()


def first_label(text: str, labels: Sequence[str]) -> str | None:
    """The label that stands first in a text, as `whole_words`; None where there is none.

    The reference implementation looks for the letters of a label, so that "I do not know" says "no". A text that is a
    label as a whole is that one. Elsewhere case does not matter; of several labels that begin at one place, the longest
    counts, then the one that is written as it stands there.

    Parameters
    ----------
    labels : none of them empty.
    """
    if text in labels:
        return text
    found = [
        (place.start(), -len(label), place.group() != label, label)
        for label in labels
        for place in whole_words(label, text)
    ]
    return min(found)[-1] if found else None


def balanced(examples: Sequence[tuple[str, str]], task: Task, seed: int) -> tuple[list[tuple[str, str]], list[str]]:
    """As many examples of each class as there are of the rarest, drawn at random, in their order; and what was done.

    Raises
    ------
    ValueError : a label has no example at all.
    """
    by_label = {
        label: [k for k, (_, said) in enumerate(examples) if said == task.completion(label)] for label in task.labels
    }
    counts = ", ".join(f"{label} {len(rows)}" for label, rows in by_label.items())
    fewest = min(map(len, by_label.values()))
    if fewest == 0:
        raise ValueError(f"the model wrote no example of some label ({counts}); ask for more rounds, or reword it")
    rng = np.random.default_rng(seed)
    kept = sorted(int(k) for rows in by_label.values() for k in rng.permutation(rows)[:fewest])
    return [examples[k] for k in kept], [f"{fewest} of each class, of {counts}"]
