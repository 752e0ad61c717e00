"""Self-Reinforcement: what a few solved examples change in a model becomes preferences, and is taken further."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from autodidact.catalog import Card
from autodidact.data import Store
from autodidact.data.ids import row_ids, sample_id
from autodidact.evaluation.table import Table
from autodidact.lm import LM, Completion, Sampling
from autodidact.lm.comparing import RIGHTNESS, comparison, preferred_in_both_orders
from autodidact.lm.fitting import LONG, lacking, named
from autodidact.lm.kept import LanguageModel
from autodidact.lm.local import LocalLM
from autodidact.lm.signals import Asked
from autodidact.lm.task import Task
from autodidact.lm.updates import elected
from autodidact.measures.uncertainty import vote_share
from autodidact.methods.language.dpo import check_dpo
from autodidact.model import Model
from autodidact.model.model import write_aside
from autodidact.recipes.improving import Improvement, fine_tuned, must_have, told
from autodidact.recipes.preferring import pairs_of, preferred, write_pairs
from autodidact.recipes.stages import Site, Stage, rounds, training

CARD = Card(
    name="self_reinforce",
    target="SelfReinforce",
    kind="recipe",
    number=43,
    verb="improve",
    title="Self-Reinforcement",
    paper="Tong et al.: Optimizing Language Model's Reasoning Abilities with Weak Supervision (2405.04086, 2024)",
    summary="From a few solved examples and many questions, a language model learns to prefer what it says after the "
    "examples to what it said before.",
    abilities=("generate", "score", "choose"),
    arguments=("rounds", "weak", "filter", "beta", "keep"),
    claim="self_reinforce",
    extra="language",
)

DROPPED = "dropped.jsonl"
"""Holds what the dropped pairs of a round were, beside its store."""
AT_ONCE = 64
"""Inputs that are decided on before what was found is written down."""


@dataclass(frozen=True)
class Candidates:
    """What is known of some questions when their pairs are filtered.

    Attributes
    ----------
    inputs : the questions.
    prompts : as the models are asked.
    strong, weak : samples of either model to each of them; the first ones are the pair.
    """

    inputs: Sequence[str]
    prompts: Sequence[str]
    strong: Sequence[Sequence[Completion]]
    weak: Sequence[Sequence[Completion]]
    pairs: list[tuple[Completion, Completion]] = field(init=False)

    def __post_init__(self) -> None:
        firsts = [(s[0], w[0]) for s, w in zip(self.strong, self.weak, strict=True)]
        object.__setattr__(self, "pairs", firsts)

    def only(self, places: Sequence[int]) -> Candidates:
        """Some of them."""
        inputs, prompts = [self.inputs[k] for k in places], [self.prompts[k] for k in places]
        return Candidates(inputs, prompts, [self.strong[k] for k in places], [self.weak[k] for k in places])


class SelfReinforce(Improvement):
    """Self-Reinforcement (arXiv 2405.04086, section 3).

    The model is trained on the task's examples (M1). To each of its inputs, which have no outputs, it then gives one
    answer (strong), and the model before that training gives another one (weak). After training on examples that are
    right it is right more often, so on the whole the difference of the two is a preference, although neither answer is
    known to be right. Which pairs to trust is asked of the model itself. It learns them by DPO, with itself as the
    reference (M2), and so on: the newest model is the strong one.

    It takes the direction of the examples further; it teaches nothing that both models lack, and where the examples
    changed the style alone, it is the style that is taken further. Of the inputs no output is read anywhere.

    Every pair that was dropped is listed with its reason, its input and both answers in the ``dropped.jsonl`` of the
    stages "pairs.1", "pairs.2", ... Inputs that leave no room for an answer are among those of the first round;
    examples that are longer than the context are left out of the first training, which says so.

    Parameters
    ----------
    rounds : of pairs and DPO, from 1.
    weak : "chain" has the model of the round before as the weak one, in the first round that before any training;
        "fixed" has that in every round.
    fresh : whether each round asks other inputs, an equal share of them; else every round asks all.
    filter : which pairs are kept. "judge": those whose strong answer the model prefers when it is shown either answer
        first; a model behind an address that was named beside a student judges instead. "votes": those whose strong
        answer is the one that `votes` strong samples agree on, and whose weak answer is not. "margin": those whose
        strong answer is likelier under the strong model, in nats a token, by more than `margin`. "none": all.
    principle : the one thing that counts for the judge, which is asked as the task's `judge` says.
    votes : samples of a vote, of the filter "votes" and of `keep`; from 2.
    min_share : share of the samples that must agree, in (0, 1].
    margin : of the filter "margin".
    temperature, top_p : of all answers.
    beta, nll_weight, label_smoothing, lr_scale : of DPO, see there.
    passes : over the pairs of a round. Those over the examples are the run's own epochs or steps.
    keep : "best" keeps the model that agrees with itself most, over answers to inputs that are held back; the outputs
        of tests are never read for it. "last" keeps the last one.
    held : inputs that are held back for `keep`, at most a fifth of them.

    Raises
    ------
    ValueError : an option out of its range.
    """

    def __init__(
        self,
        *,
        rounds: int = 2,
        weak: Literal["chain", "fixed"] = "chain",
        fresh: bool = True,
        filter: Literal["judge", "votes", "margin", "none"] = "judge",
        principle: str = RIGHTNESS,
        votes: int = 5,
        min_share: float = 0.5,
        margin: float = 0.0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        beta: float = 0.1,
        nll_weight: float = 0.0,
        label_smoothing: float = 0.0,
        lr_scale: float = 0.1,
        passes: int = 1,
        keep: Literal["best", "last"] = "best",
        held: int = 64,
    ) -> None:
        for name, value, least in (
            ("rounds", rounds, 1),
            ("votes", votes, 2),
            ("passes", passes, 1),
            ("held", held, 1),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not 0 < min_share <= 1:
            raise ValueError(f"min_share lies in (0, 1], got {min_share}")
        if not temperature > 0:
            raise ValueError(f"answers are drawn at a temperature above 0, got {temperature}")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p lies in (0, 1], got {top_p}")
        if not math.isfinite(margin):
            raise ValueError(f"margin is a number of nats a token, got {margin}")
        check_dpo(beta, nll_weight, label_smoothing, lr_scale)
        self.rounds, self.weak, self.fresh = rounds, weak, fresh
        self.filter, self.principle = filter, principle
        self.votes, self.min_share, self.margin = votes, min_share, margin
        self.temperature, self.top_p = temperature, top_p
        self.preference = {
            "beta": beta,
            "nll_weight": nll_weight,
            "label_smoothing": label_smoothing,
            "lr_scale": lr_scale,
        }
        self.passes, self.keep, self.held = passes, keep, held

    def stages(self, site: Site) -> list[Stage]:
        lm, task = self.start(site)
        student = self.student(site)
        judge = None if lm.name == student.name else lm
        if self.filter == "judge":
            (judge or student).need("SelfReinforce with the filter 'judge'", "choose")
        if not task.examples or not task.inputs:
            raise ValueError("self_reinforce needs examples (inputs with outputs) and inputs (without) in the task")
        refuse_overlap(task)
        seed, device = site.settings.seed, student.device
        shown = [(task.prompt(one.input), task.completion(one.output)) for one in task.examples]
        # Behind a completion stands the end.
        examples = [one for one in shown if not lacking(student, "".join(one), 1)]
        learned = {*examples}
        long = [text for text in dict.fromkeys(map(str.strip, task.inputs)) if too_long(student, task, text)]
        known, cut = {*long}, ["".join(one) for one in dict.fromkeys(shown) if one not in learned]
        fits = replace(task, inputs=tuple(text for text in task.inputs if text.strip() not in known))
        for what, left in (("example", examples), ("input", fits.inputs)):
            if not left:
                raise ValueError(
                    f"every {what} is longer than the context of {student.label}, {student.context} tokens"
                )
        asked, held = self.portions(fits, seed)
        # They are asked nothing, and listed with their reason.
        asked[0] = [*asked[0], *long]

        def here(results: Mapping[str, Any], stage: str) -> LocalLM:
            # What was trained, or read back, lies on the CPU.
            found: LocalLM = results[stage].lm.to(device) if stage in results else student
            return found

        @training
        def imitate(_: Mapping[str, Any]) -> Model:
            if cut:
                site.note("sft", f"{len(cut)} examples are left out, {LONG}: {named(cut)}")
            return fine_tuned(site, "sft", copy.deepcopy(student), examples)

        def of(number: int) -> list[Stage]:
            strong = _model(number - 1)
            weak = _model(number - 2) if self.weak == "chain" else ""

            def pair(results: Mapping[str, Any]) -> Store:
                store = site.store(f"pairs.{number}")
                best = here(results, strong)
                self.pair_up(best, here(results, weak), judge or best, task, asked[number - 1], store, seed + number)
                said = [f"{len(long)} inputs are {LONG}: {named(long)}"] if long and number == 1 else []
                site.note(f"pairs.{number}", *told("pair", store), *lengths(store), *said)
                if number == 1:
                    must_have("pair", store)
                return store

            @training
            def prefer(results: Mapping[str, Any]) -> Model:
                stage, store = _model(number), results[f"pairs.{number}"]
                if not len(store):
                    site.note(stage, "no pair is left, so this round changes nothing")
                    return LanguageModel(results[strong].lm, task)
                self.write_down(site, number)
                once = replace(site, settings=replace(site.settings, epochs=self.passes, steps=None))
                return preferred(once, stage, copy.deepcopy(results[strong].lm), store, self.preference)

            parents = tuple(filter(None, dict.fromkeys((strong, weak))))
            return [
                Stage(f"pairs.{number}", pair, parents),
                Stage(_model(number), prefer, (strong, f"pairs.{number}")),
            ]

        trained = [Stage("sft", imitate), *rounds(self.rounds, of)]
        if self.keep == "last":
            return trained
        models = tuple(_model(number) for number in range(self.rounds + 1))

        def agree(results: Mapping[str, Any]) -> Table:
            table = Table({"title": "How much a model agrees with itself on inputs that were held back"})
            for model in models:
                table.add(model, "agreement", 0, self.agreement(here(results, model), task, held, seed))
            return table

        def choose(results: Mapping[str, Any]) -> Model:
            shares = {model: results["agreement"].values(model, "agreement")[0] for model in models}
            best = max(models, key=lambda model: shares[model])
            listed = ", ".join(f"{model} {share:.1%}" for model, share in shares.items())
            site.note("kept", f"{best} is kept, which agrees with itself most ({listed})")
            return LanguageModel(results[best].lm, task)

        return [*trained, Stage("agreement", agree, models), Stage("kept", choose, ("agreement", *models))]

    def portions(self, task: Task, seed: int) -> tuple[list[list[str]], list[str]]:
        """The inputs of each round, and those that are held back.

        Raises
        ------
        ValueError : there are too few.
        """
        inputs = list(dict.fromkeys(text.strip() for text in task.inputs))
        order = [inputs[k] for k in np.random.default_rng(seed).permutation(len(inputs))]
        held = min(self.held, len(order) // 5) if self.keep == "best" else 0
        if self.keep == "best" and not held:
            raise ValueError(f"to keep the best model, 5 different inputs are needed, got {len(order)}")
        rest = order[held:]
        if not self.fresh:
            return [rest] * self.rounds, order[:held]
        if len(rest) < self.rounds:
            raise ValueError(f"{self.rounds} rounds need as many inputs that are not held back, got {len(rest)}")
        return [rest[number :: self.rounds] for number in range(self.rounds)], order[:held]

    def sampling(self, task: Task, n: int, seed: int) -> Sampling:
        """How answers are drawn."""
        return Sampling(
            n=n,
            max_tokens=task.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=task.style.stop,
            seed=seed,
        )

    def pair_up(
        self, strong: LM, weak: LM, judge: LM, task: Task, inputs: Sequence[str], store: Store, seed: int
    ) -> None:
        """Answer inputs by both models; keep the pairs that pass, with the strong model's log-probabilities of them.

        Inputs that the store has decided on already are not asked again.
        """
        ids = row_ids("inputs", "", len(inputs))
        todo = np.flatnonzero(~store.has(ids))
        long = {k for k in todo.tolist() if too_long(strong, task, inputs[k])}
        drop(store, {int(ids[k]): {"input": inputs[k], "reason": LONG} for k in sorted(long)})
        todo = todo[[k not in long for k in todo.tolist()]]
        votes = self.votes if self.filter == "votes" else 1
        for some in np.array_split(todo, -(-len(todo) // AT_ONCE)) if len(todo) else ():
            texts = [inputs[k] for k in some]
            prompts = [task.prompt(text) for text in texts]
            found = Candidates(
                texts,
                prompts,
                strong.generate(prompts, self.sampling(task, votes, 2 * seed)),
                weak.generate(prompts, self.sampling(task, 1, 2 * seed + 1)),
            )
            reasons = self.refused(found, strong, judge, task)
            kept = [k for k, reason in enumerate(reasons) if not reason]
            if kept:
                better, worse = [[task.ended(found.pairs[k][side].text) for k in kept] for side in (0, 1)]
                asked = [prompts[k] for k in kept]
                store.append(
                    ids[some][kept],
                    prompt=asked,
                    chosen=better,
                    rejected=worse,
                    ref_chosen=[score.total for score in strong.score(asked, better)],
                    ref_rejected=[score.total for score in strong.score(asked, worse)],
                )
            said = [{"strong": strong.text, "weak": weak.text} for strong, weak in found.pairs]
            left_out = {
                int(ids[some[k]]): {"input": texts[k], **said[k], "reason": reason}
                for k, reason in enumerate(reasons)
                if reason
            }
            drop(store, left_out)

    def refused(self, found: Candidates, strong: LM, judge: LM, task: Task) -> list[str]:
        """Why each pair is not kept; empty where it is."""
        reasons = [unusable(*pair) for pair in found.pairs]
        open_ = [k for k, reason in enumerate(reasons) if not reason]
        left = found.only(open_)
        filters: Mapping[str, Callable[[], Sequence[str]]] = {
            "judge": lambda: self.misjudged(left, judge, task),
            "votes": lambda: [self.outvoted(*row, task) for row in zip(left.strong, left.weak, strict=True)],
            "margin": lambda: self.unlikelier(left, strong, task),
            "none": lambda: [""] * len(open_),
        }
        for k, reason in zip(open_, filters[self.filter]() if open_ else (), strict=True):
            reasons[k] = reason
        return reasons

    def misjudged(self, found: Candidates, judge: LM, task: Task) -> list[str]:
        """Pairs whose strong answer the judge does not prefer in both orders."""
        said = ["the weak answer is preferred", "the order decides", ""]
        reasons = [
            LONG
            if lacking(judge, comparison(task, self.principle, text, one.text.strip(), other.text.strip()), 1)
            else ""
            for text, (one, other) in zip(found.inputs, found.pairs, strict=True)
        ]
        open_ = [k for k, reason in enumerate(reasons) if not reason]
        left = found.only(open_)
        better, worse = [[pair[side].text for pair in left.pairs] for side in (0, 1)]
        sure = preferred_in_both_orders(judge, task, left.inputs, better, worse, self.principle) > 0.5
        for k, count in zip(open_, sure.sum(axis=1), strict=True):
            reasons[k] = said[int(count)]
        return reasons

    def outvoted(self, strong: Sequence[Completion], weak: Sequence[Completion], task: Task) -> str:
        """Whether the strong answer is not what the strong samples agree on, or the weak one is too."""
        agreed, share = elected(Asked("", "", strong), task)
        if agreed is None or share is None:
            return "no final answer"
        if share < self.min_share:
            return "the answers do not agree"
        meant = task.meant(agreed.text)
        if task.meant(strong[0].text) != meant:
            return "the strong answer is outvoted"
        return "the weak answer agrees too" if task.meant(weak[0].text) == meant else ""

    def unlikelier(self, found: Candidates, strong: LM, task: Task) -> list[str]:
        """Pairs whose strong answer is not likelier a token by more than the margin, each as it would be learned."""
        better, worse = (
            strong.score(found.prompts, [task.ended(pair[side].text) for pair in found.pairs]) for side in (0, 1)
        )
        return [
            "" if one.mean - other.mean > self.margin else "not likelier by the margin"
            for one, other in zip(better, worse, strict=True)
        ]

    def agreement(self, lm: LM, task: Task, inputs: Sequence[str], seed: int) -> float:
        """Mean share of a model's samples that give the most frequent answer, in [0, 1]."""
        drawn = lm.generate([task.prompt(text) for text in inputs], self.sampling(task, self.votes, 2 * seed))
        return float(np.mean([vote_share([task.meant(one.text) for one in each]) or 0.0 for each in drawn]))

    def write_down(self, site: Site, number: int) -> None:
        """Write the pairs of all rounds so far into the run folder."""
        stores = [Store(site.at(f"pairs.{k}") / "store") for k in range(1, number + 1)]
        write_pairs(site.folder, [pair for store in stores if len(store) for pair in pairs_of(store)[0]])


def too_long(lm: LM, task: Task, text: str) -> bool:
    """Whether an input leaves no room for an answer, with what ends one behind it."""
    # What was drawn may fill all of its tokens, and is scored with the text that ends it and the end of a text.
    return lacking(lm, task.prompt(text) + task.ended(""), task.max_tokens) > 0


def drop(store: Store, rows: Mapping[int, Mapping[str, str]]) -> None:
    """Drop the pairs of these ids for their "reason"; a file beside the store's folder, if any, says what they were.

    It is written first, so that what the store takes for decided is there; what a killed run wrote twice is once in it.
    """
    if store.folder is not None and rows:
        path = store.folder.parent / DROPPED
        old = path.read_bytes().decode() if path.exists() else ""
        known = {json.loads(line)["id"] for line in old.split("\n") if line}
        new = [json.dumps({"id": id_, **row}, ensure_ascii=False) for id_, row in rows.items() if id_ not in known]
        write_aside(path, (old + "".join(f"{line}\n" for line in new)).encode())
    store.drop({id_: row["reason"] for id_, row in rows.items()})


def unusable(strong: Completion, weak: Completion) -> str:
    """Why two answers are no pair whatever a filter says; empty where they are."""
    if "length" in (strong.finish, weak.finish):
        return "cut off"
    if not strong.text.strip() or not weak.text.strip():
        return "empty"
    return "both answers are the same" if strong.text.strip() == weak.text.strip() else ""


def lengths(store: Store) -> list[str]:
    """How long the answers of pairs are; preferring what is longer is not preferring what is right."""
    if not len(store):
        return []
    chosen, rejected = (float(np.mean([len(text) for text in store.column(name)])) for name in ("chosen", "rejected"))
    return [f"chosen answers have {chosen:.1f} characters on average, rejected ones {rejected:.1f}"]


def refuse_overlap(task: Task) -> None:
    """Raise ValueError where inputs without outputs are examples with outputs at the same time, spaces aside."""
    solved = {_digest(one.input) for one in (*task.examples, *task.demonstrations)}
    both = [text for text in task.inputs if _digest(text) in solved]
    if both:
        raise ValueError(
            f"{len(both)} of the inputs are examples or demonstrations too, such as {both[0]!r}; leave them out of the "
            "inputs, for their outputs are known"
        )


def _digest(text: str) -> int:
    return sample_id("question", " ".join(text.split()))


def _model(number: int) -> str:
    """The stage of the model after a round; empty for the one before all training."""
    return "" if number < 0 else "sft" if number == 0 else f"dpo.{number}"
