"""SALMON: written principles become a reward model that is told what to reward, and a policy trained against it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float64

from autodidact.catalog import Card
from autodidact.data import ArraySource, Field, Source, Store
from autodidact.data.ids import row_ids
from autodidact.evaluation.table import Table
from autodidact.lm import LM, Sampling
from autodidact.lm.comparing import comparison
from autodidact.lm.kept import LanguageModel
from autodidact.lm.lm import Completion
from autodidact.lm.local import LocalLM
from autodidact.lm.reward_model import NOT, RewardModel, principle_texts
from autodidact.lm.task import Principle, Task
from autodidact.methods.language.bradley_terry import BradleyTerry
from autodidact.methods.language.policy_gradient import PolicyGradient
from autodidact.model import Model
from autodidact.model.device import pick_device
from autodidact.recipes.improving import (
    Improvement,
    must_have,
    question_source,
    told,
    write_examples,
    write_left_out,
)
from autodidact.recipes.preferring import Pair, pair_source, read_preferences, write_pairs
from autodidact.recipes.stages import Site, Stage, training
from autodidact.rewards.principled import Principled
from autodidact.rollouts.valuing import check_value
from autodidact.selection.principles import debiased, dominant, principle_count, principle_scores

CARD = Card(
    name="salmon",
    target="Salmon",
    kind="recipe",
    number=22,
    verb="improve",
    title="SALMON",
    paper="Sun et al.: SALMON: Self-Alignment with Instructable Reward Models (2310.05910, ICLR 2024)",
    summary="From written principles, a reward model that judges under whichever of them it is told, and a policy that "
    "learns from it; what the policy becomes is changed by changing the text.",
    abilities=("generate", "score", "choose"),
    arguments=("always", "prevent", "drawn", "passes", "estimator", "beta"),
    claim="salmon",
    extra="language",
)


Example = tuple[str, str, str, list[str]]
"""A question, the better and the worse answer to it, and the principles in words under which they are so."""


class Salmon(Improvement):
    """SALMON (arXiv 2310.05910, section 3).

    The model answers the task's inputs twice. A judge is asked under each of the task's principles alone which answer
    is better, in both orders; where the orders disagree it prefers neither. From every pair several examples are made:
    a few principles are drawn, some of them turned into their opposites, and the one under which the judge is surest
    decides which answer is the better. A reward model learns these, with the principles in its text. It is then frozen,
    and the model is trained by its rewards, under principles that are drawn anew for every roll-out.

    Before that the reward model may learn `preferences` that somebody else collected, as texts without principles; its
    head and trunk then go on to the examples of the model's own.

    From the published code it differs in this: the price of divergence is the plain difference of log-probabilities
    (k1), not held at 0 from below; rewards are not multiplied by 10; the length bonus has no factor of its own for each
    data set; the weights by which principles are drawn are the same for every question, whatever its type; and `inner`
    is 1 by default, with which the clipping of "ppo" never binds, where the code makes 2 passes.

    The reward model is kept in ``stages/reward`` of the run: ``autodidact apply OUT/stages/reward --ability score``, or
    the reward of ``improve policy_gradient --method.reward OUT/stages/reward``.

    Parameters
    ----------
    judge : language model that compares, named as `model` is; default the model itself.
    temperature : of the answers that are compared and of roll-outs, above 0. Paper: 0.7.
    shortest : characters of an answer that is compared, from 1. Paper: 16.
    passes : examples made from each pair. Paper: 4.
    most : principles of an example at most. Paper: 8.
    stop_share : p of the geometric distribution of their number, in (0, 1). Paper: 0.2.
    noise : share of labels that are turned around, in [0, 0.5]. Paper: 0.1.
    rules : texts that no answer should hold; where one of the two answers holds one, it is the worse one whatever the
        principles say.
    rule_noise : share of these labels that are turned around, in [0, 0.5]. Paper: 0.25.
    held_out : share of the pairs by which the reward model is measured, in [0, 1).
    reward_epochs : passes of the reward model over its examples. Paper: 1.
    preferences : a ``.jsonl`` file of public preferences, lines of ``prompt`` (or ``input``), ``chosen`` and
        ``rejected``, which the reward model learns first; a line that says no preference is left out and counted.
        Paper: several hundred thousand of them; default none.
    preference_epochs : passes over these, from 1. Paper: 1.
    always : names of principles in force in every roll-out, "-" before one for its opposite: what the policy is steered
        to.
    prevent : further ones in words, against what the policy was seen to exploit; the reward model needs no training for
        them.
    drawn : how many others are drawn into each roll-out by their weights. Paper: 3 at most.
    length_bonus : added to the reward of an answer as long as is allowed, in proportion for shorter ones. Paper: 5; off
        by default, for it lengthens answers whatever they say.
    missing_end : taken off the reward of an answer that was cut off. Paper: 6.
    estimator : of the policy gradient, see `policy_gradient`. Paper: "ppo"; "rloo" needs no value function.
    value : what the value of "ppo" begins as, "fresh" or "reward", see `policy_gradient`. Paper: "reward".
    group : answers to each question in an update.
    inner : steps on the answers of one update, from 1; later ones are clipped. Paper's code: 2.
    beta : price of a nat of divergence from the model as it was. Paper: 0.01.
    lr_scale : factor on the learning rate in the roll-outs' training.
    """

    def __init__(
        self,
        *,
        judge: str = "",
        temperature: float = 0.7,
        shortest: int = 16,
        passes: int = 4,
        most: int = 8,
        stop_share: float = 0.2,
        noise: float = 0.1,
        rules: tuple[str, ...] = (),
        rule_noise: float = 0.25,
        held_out: float = 0.1,
        reward_epochs: int = 1,
        preferences: str = "",
        preference_epochs: int = 1,
        always: tuple[str, ...] = (),
        prevent: tuple[str, ...] = (),
        drawn: int = 3,
        length_bonus: float = 0.0,
        missing_end: float = 6.0,
        estimator: Literal["reinforce", "rloo", "grpo", "ppo"] = "rloo",
        value: Literal["fresh", "reward"] = "fresh",
        group: int = 4,
        inner: int = 1,
        beta: float = 0.01,
        lr_scale: float = 0.1,
    ) -> None:
        check_value(value, estimator)
        counts = {"shortest": shortest, "passes": passes, "most": most, "reward_epochs": reward_epochs, "inner": inner}
        for name, count in {**counts, "preference_epochs": preference_epochs}.items():
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        for name, share in (("noise", noise), ("rule_noise", rule_noise)):
            if not 0 <= share <= 0.5:
                raise ValueError(f"{name} lies in [0, 0.5], got {share}")
        if not 0 < stop_share < 1 or not 0 <= held_out < 1:
            raise ValueError(f"stop_share lies in (0, 1) and held_out in [0, 1), got {stop_share} and {held_out}")
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if drawn < 0 or len(always) + len(prevent) + drawn > most:
            raise ValueError(
                f"{len(always)} principles always, {len(prevent)} to prevent and {drawn} drawn are more than the "
                f"{most} (most) that the reward model learns to read at once"
            )
        self.judge, self.temperature, self.shortest = judge, temperature, shortest
        self.passes, self.most, self.stop_share, self.noise = passes, most, stop_share, noise
        self.rules, self.rule_noise, self.held_out, self.reward_epochs = rules, rule_noise, held_out, reward_epochs
        self.preferences, self.preference_epochs = preferences, preference_epochs
        self.always, self.prevent, self.drawn, self.length_bonus = always, prevent, drawn, length_bonus
        self.policy = {
            "estimator": estimator,
            "value": value,
            "group": group,
            "inner": inner,
            "beta": beta,
            "temperature": temperature,
            "missing_end": missing_end,
            "lr_scale": lr_scale,
            "lam": 1.0,
        }

    def stages(self, site: Site) -> list[Stage]:
        student = self.student(site)
        lm, task = self.start(site, *(() if self.judge else ("choose",)))
        inputs = list(dict.fromkeys([*task.inputs, *(one.input for one in task.examples)]))
        if len(task.principles) < 2 or not inputs:
            raise ValueError("salmon needs two or more principles and some inputs in the task")
        principle_texts(task, self.always)
        free = set(task.principles) - {name.removeprefix(NOT) for name in self.always}
        if self.drawn > len(free):
            raise ValueError(
                f"{self.drawn} principles cannot be drawn into a roll-out (drawn): of the task's "
                f"{len(task.principles)}, {len(free)} are left beside those that are always in force"
            )
        if not (self.drawn or self.always or self.prevent):
            raise ValueError("in a roll-out one principle or more must be in force: drawn, always or prevent")
        judge = lm
        if self.judge:
            if site.open_lm is None:
                raise ValueError("a further judge is opened by autodidact improve")
            judge = site.open_lm(self.judge)
            judge.need(type(self).__name__, "choose")
        seed = site.settings.seed
        # Read before anything is asked or learned, so that a file that is none costs nothing.
        public = read_preferences(self.preferences) if self.preferences else None

        def pairs(_: Mapping[str, Any]) -> Store:
            store = site.store("pairs", input=Field("text"), first=Field("text"), second=Field("text"))
            self.draw(lm if lm.name == student.name else student, task, inputs, store, seed)
            site.note("pairs", *told("pair", store))
            must_have("pair", store)
            return store

        def judged(results: Mapping[str, Any]) -> Store:
            count = len(task.principles)
            store = site.store("judged", one=Field("vector", (count,)), swapped=Field("vector", (count,)))
            self.compare(judge, task, results["pairs"], store)
            site.note("judged", *bias_of(task, store), *told("comparison", store))
            must_have("comparison", store)
            return store

        @training
        def preferred(_: Mapping[str, Any]) -> Model:
            assert public is not None
            return self.pretrained(site, student, task, *public)

        @training
        def reward(results: Mapping[str, Any]) -> Model:
            learned, tested, said = self.examples(task, results["pairs"], results["judged"], seed)
            if not learned:
                raise ValueError(f"the judge prefers no answer to another under any principle: {said[0]}")
            return self.rewarded(site, student, task, learned, tested, said, results.get("preferred"))

        @training
        def policy(results: Mapping[str, Any]) -> Model:
            return self.tuned(site, student, task, results["reward"])

        return [
            Stage("pairs", pairs),
            Stage("judged", judged, ("pairs",)),
            *([] if public is None else [Stage("preferred", preferred)]),
            Stage("reward", reward, ("pairs", "judged", *(() if public is None else ("preferred",)))),
            Stage("policy", policy, ("reward",)),
        ]

    def draw(self, lm: LM, task: Task, inputs: Sequence[str], store: Store, seed: int) -> None:
        """Two answers to each input, that differ and are no shorter than is asked for."""
        sampling = Sampling(
            n=2, max_tokens=task.max_tokens, temperature=self.temperature, stop=task.style.stop, seed=seed
        )
        ids = row_ids("pairs", "", len(inputs))
        for some in _chunks(np.flatnonzero(~store.has(ids))):
            kept, reasons = dict[int, tuple[str, str, str]](), dict[int, str]()
            found = lm.generate([task.prompt(inputs[k]) for k in some], sampling)
            for k, (one, two) in zip(some, found, strict=True):
                reason = self.refused(one, two)
                if reason:
                    reasons[int(ids[k])] = reason
                else:
                    kept[int(ids[k])] = inputs[k], one.text.strip(), two.text.strip()
            columns = zip(*kept.values(), strict=True) if kept else ((), (), ())
            asked, first, second = (list(column) for column in columns)
            store.append(list(kept), input=asked, first=first, second=second)
            store.drop(reasons)

    def refused(self, one: Completion, two: Completion) -> str:
        """Why two answers are not compared; empty where nothing speaks against it."""
        texts = [one.text.strip(), two.text.strip()]
        if not all(texts):
            return "an empty answer"
        if min(map(len, texts)) < self.shortest:
            return f"an answer of fewer than {self.shortest} characters"
        return "the same answer twice" if texts[0] == texts[1] else ""

    def compare(self, judge: LM, task: Task, pairs: Store, store: Store) -> None:
        """Ask under each principle which answer is better, in both orders; log-odds of the first."""
        rows = list(zip(*(list(pairs.column(name)) for name in ("input", "first", "second")), strict=True))
        texts = [one.text for one in task.principles.values()]
        for some in _chunks(np.flatnonzero(~store.has(pairs.ids))):
            asked = {
                k: [[comparison(task, text, *row) for text in texts] for row in (rows[k], rows[k][:1] + rows[k][:0:-1])]
                for k in some
            }
            fit = [k for k in some if fits(judge, max((p for order in asked[k] for p in order), key=len))]
            odds = []
            for order in (0, 1):
                prompts = [prompt for k in fit for prompt in asked[k][order]]
                found = log_odds(judge, prompts, task.judge.choices).reshape(len(fit), len(texts))
                odds.append(torch.from_numpy(-found if order else found))
            store.append(pairs.ids[fit], one=odds[0], swapped=odds[1])
            store.drop({int(pairs.ids[k]): "too long for the judge" for k in set(some) - set(fit)})

    def examples(
        self, task: Task, pairs: Store, judged: Store, seed: int
    ) -> tuple[list[Example], list[Example], list[str]]:
        """What the reward model learns and what it is measured by, and what was done; see `preferences`."""
        ids = [int(id_) for id_ in judged.ids]
        place = {int(id_): k for k, id_ in enumerate(pairs.ids)}
        columns = [list(pairs.column(name)) for name in ("input", "first", "second")]
        rows = [tuple(str(column[place[id_]]) for column in columns) for id_ in ids]
        one, swapped = (np.asarray(judged.column(name), dtype=np.float64) for name in ("one", "swapped"))
        scores = principle_scores(one, swapped)
        # Examples of one input are on one side.
        order = np.random.default_rng((seed, len(rows))).permutation(len(rows))
        held = set(order[: round(self.held_out * len(rows))].tolist())
        rng = np.random.default_rng(seed)
        sides: tuple[list[Example], list[Example]] = ([], [])
        skipped = Counter[str]()
        for k, (question, first, second) in enumerate(rows):
            for _ in range(self.passes):
                found = self.preference(task, scores[k], first, second, rng, measured=k in held)
                if isinstance(found, str):
                    skipped[found] += 1
                    continue
                texts, wins = found
                better, worse = (first, second) if wins else (second, first)
                sides[k in held].append((question, better, worse, texts))
        never = [name for name, one_ in task.principles.items() if not one_.negated]
        said = [f"{len(sides[0])} preferences are learned, {len(sides[1])} are held out"]
        said[0] += "".join(f"; {count} skipped: {why}" for why, count in skipped.most_common())
        if never:
            said.append(f"without words for their opposites, never turned around: {', '.join(never)}")
        return sides[0], sides[1], said

    def preference(
        self,
        task: Task,
        scores: Float64[np.ndarray, " k"],
        first: str,
        second: str,
        rng: np.random.Generator,
        *,
        measured: bool = False,
    ) -> tuple[list[str], bool] | str:
        """Principles in words, and whether the first answer is better under them; or why there is no example.

        Labels by which the reward model is measured are not turned around.
        """
        named = list(task.principles.values())
        chosen = rng.permutation(len(named))[: principle_count(rng, min(self.most, len(named)), self.stop_share)]
        turned = [bool(named[k].negated) and rng.random() < 0.5 for k in chosen]
        texts = [_worded(named[k], other) for k, other in zip(chosen, turned, strict=True)]
        signed = [-scores[k] if other else scores[k] for k, other in zip(chosen, turned, strict=True)]
        _, score = dominant(signed)
        holds = [any(rule in text for rule in self.rules) for text in (first, second)]
        ruled = holds[0] != holds[1]
        if score == 0 and not ruled:
            return "the judge prefers neither under the principles drawn"
        wins = holds[1] if ruled else score > 0
        flip = rng.random() < (self.rule_noise if ruled else self.noise)
        return texts, bool(wins != (flip and not measured))

    def pretrained(
        self, site: Site, student: LocalLM, task: Task, pairs: Sequence[Pair], bad: Mapping[str, int]
    ) -> RewardModel:
        """Train the reward model on public preferences, without principles; `bad` lines are told of."""
        made = self.untaught(student, task)
        order = np.random.default_rng((site.settings.seed, len(pairs))).permutation(len(pairs))
        rows: list[Example] = [(*pairs[k], []) for k in order]
        # One or more are learned, whatever share is held out.
        tested = rows[: min(round(self.held_out * len(rows)), len(rows) - 1)]
        learned = rows[len(tested) :]
        said = f"{len(learned)} public preferences are learned first, {len(tested)} are held out"
        said += "".join(f"; {count} left out: {why}" for why, count in Counter(bad).most_common())
        source = preference_source(made, learned)
        found, notes = self._preferring(site, "preferred", made, source, self.preference_epochs, [said])
        if tested:
            met = f"{accuracy(found, tested):.1%} of {len(tested)} public preferences that were held out are met"
            site.note("preferred", *notes, met)
        return found

    def _preferring(
        self, site: Site, stage: str, made: RewardModel, source: Source, epochs: int, said: Sequence[str]
    ) -> tuple[RewardModel, list[str]]:
        """Train a reward model on comparisons; and what was noted: `said`, and what was shortened."""
        cut = f"{made.shortened} of {2 * len(source)} texts were shortened to fit the reward model's context"
        notes = [*said, *([cut] if made.shortened else [])]
        site.note(stage, *notes)
        size = min(site.settings.batch_size, len(source))
        settings = replace(site.settings, epochs=epochs, steps=None, tokens=None, batch_size=size)
        found = site.train(stage, BradleyTerry(made), source, settings)
        assert isinstance(found, RewardModel)
        return found, notes

    def untaught(self, student: LocalLM, task: Task) -> RewardModel:
        """A reward model from a copy of the student that has learned no preference yet."""
        return RewardModel(copy.deepcopy(student), task, self.active(task), most=self.most)

    def active(self, task: Task) -> tuple[str, ...]:
        """The principles by which the reward model scores where no others are named."""
        return self.always or tuple(task.principles)[: self.most]

    def rewarded(
        self,
        site: Site,
        student: LocalLM,
        task: Task,
        learned: Sequence[Example],
        tested: Sequence[Example],
        said: Sequence[str] = (),
        start: RewardModel | None = None,
    ) -> RewardModel:
        """Train the reward model, from `start` where there is one, and measure it on what was held out; `said` is noted
        with what was shortened."""
        made = self.untaught(student, task) if start is None else copy.deepcopy(start)
        made.shortened = 0
        source = preference_source(made, learned)
        pairs = zip(repeat(""), source.column("chosen"), source.column("rejected"), strict=False)
        write_pairs(site.folder, list(pairs))
        found, _ = self._preferring(site, "reward", made, source, self.reward_epochs, said)
        if tested:
            right = accuracy(found, tested)
            table = Table(
                {
                    "title": "The reward model on preferences that were held out",
                    "sentence": f"{right:.1%} of {len(tested):,} held-out preferences of the judge are met.",
                }
            )
            table.add("reward model", "right", 0, right)
            table.save(site.folder / "evaluations" / "reward.json")
        return found

    def tuned(self, site: Site, student: LocalLM, task: Task, model: RewardModel) -> LanguageModel:
        """Train the policy against the frozen reward model."""
        model.to(pick_device(site.settings.accelerator))
        model.shortened = 0
        reward = Principled(
            model,
            always=self.always,
            prevent=self.prevent,
            drawn=self.drawn,
            length_bonus=self.length_bonus,
            seed=site.settings.seed,
        )
        made = PolicyGradient(student, task, reward=reward, **self.policy)  # type: ignore[arg-type]
        source = question_source("questions", task, made.questions)
        settings = replace(site.settings, batch_size=min(site.settings.batch_size, len(source)))
        kept = site.train("policy", made, source, settings)
        write_examples(site.folder, made.answers())
        write_left_out(site.at("policy"), made)
        notes = [f"answers left out: {'; '.join(f'{count} {why}' for why, count in made.dropped.most_common())}"]
        cut = f"{model.shortened} drawn answers were shortened to fit the reward model's context"
        # After a resume these are the answers since then.
        said = [*(notes if made.dropped else []), *([cut] if model.shortened else [])]
        if said:
            site.note("policy", *said)
        assert isinstance(kept, LanguageModel)
        return kept


ASKED_AT_ONCE = 64
"""Inputs or pairs that are worked on before what was found is written down."""


def _chunks(places: Sequence[int] | np.ndarray) -> list[list[int]]:
    found = [int(k) for k in places]
    return [found[k : k + ASKED_AT_ONCE] for k in range(0, len(found), ASKED_AT_ONCE)]


def fits(lm: LM, prompt: str) -> bool:
    """Whether a prompt and one more token fit into a model's context, where both can be known here."""
    room = lm.room(prompt)
    return room is None or room > 0


def log_odds(judge: LM, prompts: Sequence[str], choices: Sequence[str]) -> Float64[np.ndarray, " n"]:
    """Log-odds of the first choice against the second; one of probability 0 counts as the least number above it."""
    if not prompts:
        return np.empty(0)
    shares = np.log(np.maximum(judge.choose(prompts, choices), np.finfo(np.float64).tiny))
    return np.asarray(shares[:, 0] - shares[:, 1])


def bias_of(task: Task, judged: Store) -> list[str]:
    """How far the judge is swayed by the order, over all principles, and where it decides nothing."""
    if not len(judged):
        return []
    one, swapped = (np.asarray(judged.column(name), dtype=np.float64) for name in ("one", "swapped"))
    found = debiased(one, swapped)
    idle = [name for name, column in zip(task.principles, found.T, strict=True) if not column.any()]
    said = [
        f"in {(found == 0).mean():.1%} of {found.size:,} comparisons the two orders disagree, and neither answer is "
        f"preferred; the first place is worth {float((one - swapped).mean() / 2):+.2f} in log-odds"
    ]
    return said + ([f"no preference at all under {', '.join(idle)}"] if idle else [])


def preference_source(model: RewardModel, examples: Sequence[Example]) -> ArraySource:
    """Preferences as the texts that a reward model reads."""
    texts = [
        ("", *(model.text(question, answer, principles) for answer in (better, worse)))
        for question, better, worse, principles in examples
    ]
    return pair_source("reward", [(prompt, chosen, rejected) for prompt, chosen, rejected in texts])


def accuracy(model: RewardModel, examples: Sequence[Example]) -> float:
    """Share of preferences that a reward model meets; equal rewards count half."""
    inputs, better, worse, principles = (list(column) for column in zip(*examples, strict=True))
    gap = model.judge(inputs, better, principles) - model.judge(inputs, worse, principles)
    return float((gap > 0).double().mean() + (gap == 0).double().mean() / 2)


def _worded(principle: Principle, turned: bool) -> str:
    return principle.negated if turned else principle.text
