"""Ensemble-Instruct: instructions with answers that several language models agree on, as data to be trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from autodidact.catalog import Card, unknown
from autodidact.data import Field, Store
from autodidact.data.ids import row_ids
from autodidact.lm import LM, Completion, Sampling
from autodidact.lm.fitting import NoRoom, lacking
from autodidact.lm.instructions import Instance, Kind, refused
from autodidact.lm.task import Task, spaced
from autodidact.model import Model
from autodidact.recipes.improving import Improvement, examples_of, fine_tuned, must_have, told
from autodidact.recipes.instructing import (
    Asking,
    Written,
    asked_with,
    beyond,
    check_least,
    check_texts,
    drawn_from,
    gather,
    instances_in,
)
from autodidact.recipes.stages import Site, Stage, training
from autodidact.selection.consensus import folded, medoid, rouge_l
from autodidact.selection.novelty import Novelty

CARD = Card(
    name="ensemble_instruct",
    target="EnsembleInstruct",
    kind="recipe",
    number=59,
    verb="improve",
    title="Ensemble-Instruct",
    paper="Lee et al.: Ensemble-Instruct: Generating Instruction-Tuning Data with a Heterogeneous Mixture of LMs "
    "(2310.13961, Findings of EMNLP 2023)",
    summary="From a few seeds, several language models write instructions with answers that they agree on, and one "
    "learns them.",
    abilities=("generate", "score", "choose"),
    arguments=("helpers", "rounds", "keep", "missing"),
    claim="ensemble_instruct",
    extra="language",
)

SLOTS = 8
"""Instructions of one list, and instances of one completion, that are looked at."""
ASKED_AT_ONCE = 64
"""Requests that are answered before what was found is written down."""
NOT_ASKED = "too long beside the seeds"
"""Why an instance was not asked for: after the shortest request there is no room in the model's context."""
Keep = Literal["consensus", "majority", "first", "random"]
Missing = Literal["stop", "skip", "rest"]


@dataclass(frozen=True)
class Pipeline:
    """Seeds of one kind, how many of them are shown in a list, and how many instances."""

    kind: Kind
    seeds: tuple[Instance, ...]
    listed: int
    shown: int


class EnsembleInstruct(Improvement):
    """Ensemble-Instruct (arXiv 2310.13961, section 2).

    Two pipelines: seeds that have an input, and seeds that have none. In each the model is shown a list of
    instructions, most of them seeds, and goes on with it; what passes the filters and is new joins the pool. For each
    instruction it writes instances, shown some seeds with their outputs. Then helpers answer the same instructions and
    inputs. Of all answers that is kept which is given twice, or else is most like the others (`medoid` of ROUGE-L,
    stemmed, in lower case and without punctuation); where two have nothing in common, the instance is dropped. The
    student learns what is left: instruction with input, then the answer.

    What was dropped is listed with the reason, in the store of each stage.

    Parameters
    ----------
    helpers : models that answer too, each as ``--model`` names one; the paper has two. Without any, the model itself
        answers twice more, whose errors are not independent.
    rounds : of asking each pipeline for instructions.
    per_round : lists that are gone on with in a round.
    listed, listed_alone : instructions in a list of those with an input, and without one. Paper: 24 and 10.
    listed_made : of these, at most so many the model's own; 0 for seeds alone. Paper: 4.
    novelty : an instruction is new whose ROUGE-L with every known one is at most this, in [0, 1]. Paper: 0.7.
    instances : that are asked for of each instruction. Paper: 1.
    shown, shown_alone : seeds that are shown for that, with an input and without one. Paper: 18 and 15.
    helper_shots : seeds that a helper is shown; None for none where it is one for conversations, and those of above
        otherwise, as in the paper.
    temperature : from 0; of instructions and instances, and of further answers of the model itself. Helpers give their
        likeliest answer.
    list_tokens, instance_tokens : at which a list, and a completion with an instance, are cut off. Paper: 256 and 512.
    run_on : let a completion go on after its instance, and keep the whole further ones in it. The paper does; here it
        is off unless asked for, which departs from it.
    shortest, longest : words of an instruction. Paper: 4 and 150.
    shortest_further : words of the instruction of a further instance. Paper: 6.
    banned : further words that no instruction may hold, beside those for what is not text.
    categorised : keep the two kinds apart; otherwise one list and one set of examples serves both.
    keep : which answer: "consensus" as above; "majority" one that is given twice; "first" the model's own; "random" any
        of them.
    tau : the two answers least like each other must be more alike than this, in [0, 1). Paper: 0.01.
    missing : where a helper cannot be reached: "stop", and the same command goes on; "skip" the instances that it did
        not answer; keep the "rest" of the answers, if there are two. Answers that are empty or cut off, or whose
        request would be too long, are left out with "stop" and "rest", and their instances are skipped with "skip".
    longest_prompt : characters of a request. Where it would be longer, or leave a model that runs here no room in its
        context for the tokens above, less is shown, but one seed at least; an instruction that is too long beside the
        shortest one is dropped.
    """

    def __init__(
        self,
        *,
        helpers: tuple[str, ...] = (),
        rounds: int = 50,
        per_round: int = 10,
        listed: int = 24,
        listed_alone: int = 10,
        listed_made: int = 4,
        novelty: float = 0.7,
        instances: int = 1,
        shown: int = 18,
        shown_alone: int = 15,
        helper_shots: int | None = None,
        temperature: float = 0.7,
        list_tokens: int = 256,
        instance_tokens: int = 512,
        run_on: bool = False,
        shortest: int = 4,
        longest: int = 150,
        shortest_further: int = 6,
        banned: tuple[str, ...] = (),
        categorised: bool = True,
        keep: Keep = "consensus",
        tau: float = 0.01,
        missing: Missing = "stop",
        longest_prompt: int = 20_000,
    ) -> None:
        ones = {"rounds": rounds, "per_round": per_round, "listed": listed, "listed_alone": listed_alone}
        ones |= {"instances": instances, "shown": shown, "shown_alone": shown_alone, "shortest": shortest}
        ones |= {"list_tokens": list_tokens, "instance_tokens": instance_tokens, "longest_prompt": longest_prompt}
        check_least({**ones, "shortest_further": shortest_further}, 1)
        check_least({"listed_made": listed_made, "temperature": temperature, "helper_shots": helper_shots or 0}, 0)
        if listed_made > (fewest := min(listed, listed_alone) if categorised else listed):
            raise ValueError(f"listed_made must be at most listed and listed_alone, got {listed_made} and {fewest}")
        if longest < shortest:
            raise ValueError(f"longest must be at least shortest, got {longest} and {shortest}")
        if not 0 <= novelty <= 1 or not 0 <= tau < 1:
            raise ValueError(f"novelty lies in [0, 1] and tau in [0, 1), got {novelty} and {tau}")
        if keep not in get_args(Keep):
            raise unknown("keep", keep, get_args(Keep))
        if missing not in get_args(Missing):
            raise unknown("missing", missing, get_args(Missing))
        check_texts("banned", banned)
        self.helpers = (helpers,) if isinstance(helpers, str) else tuple(helpers)
        self.rounds, self.per_round, self.novelty, self.instances = rounds, per_round, novelty, instances
        self.listed, self.listed_alone, self.listed_made = listed, listed_alone, listed_made
        self.shown, self.shown_alone, self.helper_shots = shown, shown_alone, helper_shots
        self.temperature, self.run_on, self.categorised = temperature, run_on, categorised
        self.list_tokens, self.instance_tokens = list_tokens, instance_tokens
        self.shortest, self.longest, self.shortest_further = shortest, longest, shortest_further
        self.banned, self.tau, self.longest_prompt = tuple(banned), tau, longest_prompt
        self.keep: Keep = keep
        self.missing: Missing = missing

    def stages(self, site: Site) -> list[Stage]:
        lm, task = self.start(site, "generate")
        student = self.student(site)
        pipelines, seed = self.pipelines(task), site.settings.seed
        models = self._models(site, lm)

        def instructions(_: Mapping[str, Any]) -> Store:
            store = site.store("instructions", instruction=Field("text"))
            self.instruct(lm, task, pipelines, store, seed)
            return _noted(site, "instruction", store)

        def instances(results: Mapping[str, Any]) -> Store:
            store = site.store("instances", output=Field("text"))
            asked = self.instantiate(lm, task, pipelines, results["instructions"], store, seed)
            begun = asked - self._refusals(results["instructions"], store)
            valid = f"{begun} of {asked} completions hold the instance that was asked for"
            return _noted(site, "instance", store, valid)

        def answers(number: int, results: Mapping[str, Any]) -> Store:
            store = site.store(f"answers.{number}", output=Field("text"))
            self.answer(models[number - 1], task, pipelines, results["instances"], store, seed + number)
            return _noted(site, "answer", store, needed=False)

        def examples(results: Mapping[str, Any]) -> Store:
            store = site.store("examples", prompt=Field("text"), completion=Field("text"))
            self.choose(task, results["instances"], [results[name] for name in others], store, seed)
            return _noted(site, "example", store)

        @training
        def tune(results: Mapping[str, Any]) -> Model:
            return fine_tuned(site, "train", student, examples_of(results["examples"]))

        others = [f"answers.{number}" for number in range(1, len(models) + 1)]
        return [
            Stage("instructions", instructions),
            Stage("instances", instances, ("instructions",)),
            *(Stage(name, partial(answers, k), ("instances",)) for k, name in enumerate(others, 1)),
            Stage("examples", examples, ("instances", *others)),
            Stage("train", tune, ("examples",)),
        ]

    def _models(self, site: Site, lm: LM) -> list[LM]:
        """What gives the further answers."""
        if not self.helpers:
            return [lm, lm]
        if site.open_lm is None:
            raise ValueError("helpers are opened by autodidact improve; this site opens none")
        models = [site.open_lm(name) for name in self.helpers]
        for model in models:
            model.need(type(self).__name__, "generate")
        return models

    def pipelines(self, task: Task) -> list[Pipeline]:
        """The task's seeds by their kind.

        Raises
        ------
        ValueError : the task has none.
        """
        if not task.seeds:
            raise ValueError("ensemble_instruct needs seeds in the task: seeds: FILE.jsonl with instruction and output")
        if not self.categorised:
            return [Pipeline("any", task.seeds, self.listed, self.shown)]
        having = tuple(one for one in task.seeds if one.input)
        alone = tuple(one for one in task.seeds if not one.input)
        both = (
            Pipeline("with input", having, self.listed, self.shown),
            Pipeline("alone", alone, self.listed_alone, self.shown_alone),
        )
        return [one for one in both if one.seeds]

    def instruct(self, lm: LM, task: Task, pipelines: Sequence[Pipeline], store: Store, seed: int) -> None:
        """Have instructions written, and keep the new ones.

        Raises
        ------
        NoRoom : after a list of the shortest seed alone a model that runs here has no room for `list_tokens`.
        """
        layout = task.layout
        known = Novelty(self.novelty, dict.fromkeys(one.instruction for one in task.seeds))
        plain = all(one.instruction.strip()[0].isascii() for one in task.seeds)

        def request(pipeline: Pipeline, made: Sequence[Instance], rng: np.random.Generator) -> str:
            seeds = [Instance(text) for text in dict.fromkeys(one.instruction for one in pipeline.seeds)]
            listed = drawn_from(seeds, made, rng, shown=pipeline.listed, most_made=self.listed_made)
            return asked_with(
                lm,
                [one.instruction for one in listed],
                [one.instruction for one in seeds],
                lambda some: layout.listed(pipeline.kind, some),
                tokens=self.list_tokens,
                longest=self.longest_prompt,
                cure="lower list_tokens, shorten the seeds, or take a model with a longer context",
            )

        def read(said: Completion) -> Written:
            found = [Instance(one) for one in layout.read_list(said.text, whole=said.finish == "stop")]
            lost = len(layout.read_list(said.text)) > len(found)
            return [*found, "cut off"] if lost else found

        for pipeline in pipelines:
            asking = Asking(
                pipeline.kind,
                self.rounds,
                self.per_round,
                SLOTS,
                Sampling(max_tokens=self.list_tokens, temperature=self.temperature),
                partial(request, pipeline),
                read,
                lambda one: self._refused(one, self.shortest, plain=plain),
            )
            gather(lm, asking, known, store, seed)

    def instantiate(
        self, lm: LM, task: Task, pipelines: Sequence[Pipeline], instructions: Store, store: Store, seed: int
    ) -> int:
        """Have instances of the instructions written, and keep the whole ones; how many were asked for.

        The columns of the store are "kind", "instruction", "input" and "output".
        """
        layout, of = task.layout, {one.kind: one for one in pipelines}
        columns = [instructions.column(name) for name in ("instruction", "pool")]
        todo = [(text, kind, int(id_)) for id_, text, kind in zip(instructions.ids, *columns, strict=True)]
        seen = {layout.question(one) for one in (*task.seeds, *instances_in(store))}
        tested = task.tested
        stop = () if self.run_on else (layout.end,)
        sampling = Sampling(
            n=self.instances, max_tokens=self.instance_tokens, temperature=self.temperature, stop=stop, seed=seed
        )
        for start in range(0, len(todo), ASKED_AT_ONCE):
            some = todo[start : start + ASKED_AT_ONCE]
            firsts = [id_ for _, _, own in some for id_ in _ids(own, self.instances)[:, 0]]
            if store.has(firsts).all():
                continue
            kept, reasons = dict[int, tuple[Kind, Instance]](), dict[int, str]()
            asked = list[tuple[Kind, int, str, str]]()
            for text, kind, own in some:
                begun = layout.opened(Instance(text), kind)
                try:
                    asked.append((kind, own, begun, self._shown(lm, task, of[kind], begun, self.instance_tokens)))
                except NoRoom:
                    reasons |= dict.fromkeys(_ids(own, self.instances)[:, 0].tolist(), NOT_ASKED)
            answers = lm.generate([prompt for _, _, _, prompt in asked], sampling) if asked else []
            for (kind, own, begun, _), drawn in zip(asked, answers, strict=True):
                for number, (ids, said) in enumerate(zip(_ids(own, self.instances), drawn, strict=True)):
                    found = layout.read(begun, said.text, kind, whole=said.finish == "stop")
                    reasons |= beyond("instances", f"{own} {number}", SLOTS, len(found))
                    for id_, place, one in zip(ids.tolist(), range(SLOTS), found, strict=False):
                        if store.has([id_])[0]:
                            continue
                        reason = one if isinstance(one, str) else self._unwanted(one, place, layout.question(one), seen)
                        if not isinstance(one, str) and spaced(layout.question(one)) in tested:
                            reason = "a test input"
                        if isinstance(one, str) or reason:
                            reasons[id_] = reason
                            continue
                        seen.add(layout.question(one))
                        kept[id_] = kind, one
            if kept:
                ones = [one for _, one in kept.values()]
                texts = {name: [getattr(one, name) for one in ones] for name in ("instruction", "input", "output")}
                store.append(list(kept), kind=[kind for kind, _ in kept.values()], **texts)
            store.drop(reasons)
        return len(todo) * self.instances

    def _refusals(self, instructions: Store, store: Store) -> int:
        """Completions that do not begin with the instance that was asked for; those that repeat one do."""
        begun = [id_ for own in instructions.ids.tolist() for id_ in _ids(own, self.instances)[:, 0].tolist()]
        known = (None, "known already", "a test input")
        return sum(store.dropped.get(id_) not in known for id_ in begun)

    def _unwanted(self, one: Instance, place: int, question: str, seen: set[str]) -> str:
        """Why an instance is not kept; the instruction of a further one was not looked at yet."""
        if question in seen:
            return "known already"
        return self._refused(one, self.shortest_further, plain=False) if place else ""

    def _refused(self, one: Instance, shortest: int, *, plain: bool) -> str:
        return refused(one.instruction, shortest=shortest, longest=self.longest, banned=self.banned, plain=plain)

    def answer(
        self, lm: LM, task: Task, pipelines: Sequence[Pipeline], instances: Store, store: Store, seed: int
    ) -> None:
        """Have a model answer the instances; those without an answer, or too long to be asked, are dropped.

        Raises
        ------
        ConnectionError : it cannot be reached, and ``missing`` is "stop".
        """
        layout, of = task.layout, {one.kind: one for one in pipelines}
        zero_shot = self.helper_shots == 0 or (
            self.helper_shots is None and bool(self.helpers) and "chat" in lm.capabilities
        )
        sampling = Sampling(
            max_tokens=task.max_tokens,
            temperature=0.0 if self.helpers else self.temperature,
            stop=() if zero_shot else (layout.end,),
            seed=seed,
        )

        def prompt(one: Instance, kind: Kind) -> str:
            if not zero_shot:
                opened = layout.opened(one, "with input" if one.input else "alone")
                return self._shown(lm, task, of[kind], opened, task.max_tokens, self.helper_shots)
            if lacking(lm, layout.question(one), task.max_tokens):
                raise NoRoom
            return layout.question(one)

        todo, unasked = list[tuple[int, str]](), dict[int, str]()
        for id_, one, kind in zip(
            instances.ids.tolist(), instances_in(instances), instances.column("kind"), strict=True
        ):
            if store.has([id_])[0]:
                continue
            try:
                todo.append((id_, prompt(one, kind)))
            except NoRoom:
                unasked[id_] = "too long" if zero_shot else NOT_ASKED
        store.drop(unasked)
        for start in range(0, len(todo), ASKED_AT_ONCE):
            some = todo[start : start + ASKED_AT_ONCE]
            answers, why = self._answers(lm, [prompt for _, prompt in some], sampling)
            kept, reasons = dict[int, str](), dict[int, str]()
            for (id_, _), said in zip(some, answers, strict=True):
                text = "" if said is None else said.text.strip()
                if said is not None and said.finish == "stop" and text:
                    kept[id_] = text
                else:
                    reasons[id_] = why if said is None else "empty" if not text else "cut off or refused"
            if kept:
                store.append(list(kept), output=list(kept.values()))
            store.drop(reasons)
            if why:
                store.drop({id_: why for id_, _ in todo[start + ASKED_AT_ONCE :]})
                return

    def _answers(self, lm: LM, prompts: Sequence[str], sampling: Sampling) -> tuple[list[Completion | None], str]:
        """An answer to each prompt, None where none arrived; and why, where the model cannot be reached."""
        try:
            return [found[0] for found in lm.generate(prompts, sampling)], ""
        except ConnectionError as down:
            if self.missing == "stop":
                raise
            arrived = {asked.prompt.text: said for asked, said in getattr(down, "answered", ())}
            return [arrived.get(prompt) for prompt in prompts], f"{lm.name} cannot be reached: {down}"

    def choose(self, task: Task, instances: Store, answers: Sequence[Store], store: Store, seed: int) -> None:
        """Keep the answer of each instance that is to be learned.

        The columns of the store are "prompt" and "completion", and "candidate": which answer it is, 0 for the model's
        own, from 1 for those of the helpers.
        """
        others = [dict(zip(one.ids.tolist(), one.column("output"), strict=True)) if len(one) else {} for one in answers]
        for number, other in enumerate(answers, 1):
            if absent := int((~other.has(instances.ids)).sum()):
                raise ValueError(f"{absent} instances have neither an answer of model {number} nor a reason why not")
        kept, reasons = dict[int, tuple[str, str, int]](), dict[int, str]()
        for id_, one in zip(instances.ids.tolist(), instances_in(instances), strict=True):
            if store.has([id_])[0]:
                continue
            candidates = {0: one.output} | {k: said[id_] for k, said in enumerate(others, 1) if id_ in said}
            found = None
            if self.missing == "skip" and len(candidates) <= len(others):
                reasons[id_] = "a model gave no answer"
            elif self.keep in ("consensus", "majority") and len(candidates) < 2:
                reasons[id_] = "fewer than two answers"
            elif (found := self.chosen(list(candidates.values()), np.random.default_rng((seed, id_)))) is None:
                reasons[id_] = "the answers do not agree"
            if found is not None:
                place = list(candidates)[found]
                prompt = task.prompt(task.layout.question(one))
                kept[id_] = prompt, task.completion(candidates[place]), place
        if kept:
            columns = zip(("prompt", "completion", "candidate"), zip(*kept.values(), strict=True), strict=True)
            store.append(list(kept), **{name: list(values) for name, values in columns})
        store.drop(reasons)

    def chosen(self, candidates: Sequence[str], rng: np.random.Generator) -> int | None:
        """Which of the answers is kept; None where they do not agree. Empty ones have been left out."""
        if self.keep == "first":
            return 0
        if self.keep == "random":
            return int(rng.integers(len(candidates)))
        # An answer that is all punctuation is compared as it is.
        forms = [folded(text) or text.strip() for text in candidates]
        if self.keep == "majority" and len(set(forms)) == len(forms):
            return None
        return medoid(forms, partial(rouge_l, stemmed=True), self.tau)

    def _shown(self, lm: LM, task: Task, pipeline: Pipeline, opened: str, tokens: int, shots: int | None = None) -> str:
        """Seeds of a pipeline with their outputs, as many as fit, and the beginning of a further instance.

        Raises
        ------
        NoRoom : so many tokens have no room after that, however few seeds are shown.
        """
        return asked_with(
            lm,
            pipeline.seeds[: pipeline.shown if shots is None else shots],
            pipeline.seeds,
            lambda some: task.layout.shown(some) + opened,
            tokens=tokens,
            longest=self.longest_prompt,
        )


def _ids(instruction: int, count: int) -> np.ndarray:
    """(count, SLOTS) ids of an instruction's instances: those asked for, each with what its completion runs on to."""
    return row_ids("instances", str(instruction), count * SLOTS).reshape(count, SLOTS)


def _noted(site: Site, what: str, store: Store, *further: str, needed: bool = True) -> Store:
    """The store, when what it kept is said."""
    site.note(store.name, *told(what, store), *further)
    if needed:
        must_have(what, store)
    return store
