"""Self-feedback: a language model measures how sure it is of its answers, and answers or learns by that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from autodidact.catalog import Card, unknown
from autodidact.data import Field, Store
from autodidact.data.ids import row_ids
from autodidact.evaluation.answers import answer, compared
from autodidact.evaluation.selective import selective
from autodidact.evaluation.table import Table
from autodidact.lm import LM, Completion
from autodidact.lm.answering import innermost
from autodidact.lm.feedback import FeedbackModel
from autodidact.lm.intervening import intervention
from autodidact.lm.local import LocalLM
from autodidact.lm.names import open_lm
from autodidact.lm.signals import SIGNALS, Asked, check_signal, signal_values
from autodidact.lm.task import Task
from autodidact.lm.updates import (
    CRITIQUE,
    DEBATE,
    PICK,
    REVISE,
    Feedback,
    Tools,
    Update,
    check_update,
    elected,
    sampled,
)
from autodidact.measures.uncertainty import calibration_error
from autodidact.model import Model
from autodidact.recipes.improving import Improvement, examples_of, fine_tuned, must_have, told
from autodidact.recipes.preferring import pairs_of, preferred, write_pairs
from autodidact.recipes.stages import Site, Stage, training

CARD = Card(
    name="self_feedback",
    target="SelfFeedback",
    kind="recipe",
    number=25,
    verb="improve",
    title="Self-feedback toolkit",
    paper="Liang et al.: Internal Consistency and Self-Feedback in Large Language Models: A Survey (2407.14507, 2024)",
    summary="Measures how sure a language model is of its answers by fifteen signals, and lets it answer by them in "
    "twelve ways or learn from them in two.",
    abilities=("generate", "score", "choose"),
    arguments=("signal", "update", "draws", "threshold"),
    claim="self_feedback",
    extra="language",
)

LEARNING = ("self_train", "prefer")
AT_ONCE = 64
"""Inputs that are answered before what was found is written down."""
SIGNAL_TABLE, TASK_TABLE = "signals.json", "task.json"


class SelfFeedback(Improvement):
    """The framework of internal consistency and self-feedback (arXiv 2407.14507, section 3): signals times updates.

    A signal says how sure the model is of an answer, without the right one. An update uses it: to answer (the model
    that is kept then answers so), or to train. Of a task with test inputs the run tells how well signals tell right
    answers from wrong ones (``evaluations/signals.json``: AUROC, area under risk and coverage, calibration), and what
    the update changed (``evaluations/task.json``).

    Parameters
    ----------
    signal : one of `autodidact.lm.signals.SIGNALS`.
    update : one that answers, see `autodidact.lm.updates.Feedback`. Or "self_train": the task's inputs are answered
        `draws` times, and the model is trained on what most samples come to where the signal is sure enough. Or
        "prefer": it learns by DPO to prefer that to what fewer samples come to.
    signals : that are measured on the test inputs; none for those that cost nothing beside the samples.
    draws : answers to each input, from 2; "universal" takes 9 at most, whose numbers are one digit each.
    temperature, top_p : of these.
    threshold : of the signal, from which on an answer is learned, or given by "abstain"; None for 0.6 of a share, and
        of any other signal for what the surer half of the task's inputs reaches ("abstain" draws answers to them
        for that).
    rounds : of "refine" and "debate". "refine" stops earlier only where an answer stays as it was; it does not stop
        at a score.
    agents : of "debate".
    breadth, depth, step : of "tree".
    alpha : of "contrastive" and "dola", in [0, 1].
    amateur : the weaker model of "contrastive", named as models are.
    heads, strength : share of the heads that "intervene" pushes, and how far; what is right is told by the votes.
    critique, revise, pick, debate, mark, between : how the model is asked, see `autodidact.lm.updates.Feedback`.
    beta, nll_weight, lr_scale : of DPO.
    """

    def __init__(
        self,
        *,
        signal: str = "vote_share",
        update: Update | Literal["self_train", "prefer"] = "vote",
        signals: tuple[str, ...] = (),
        draws: int = 10,
        temperature: float = 0.7,
        top_p: float = 1.0,
        threshold: float | None = None,
        rounds: int = 2,
        agents: int = 3,
        breadth: int = 3,
        depth: int = 4,
        step: str = "\n",
        alpha: float = 0.1,
        amateur: str = "",
        heads: float = 0.05,
        strength: float = 10.0,
        critique: str = CRITIQUE,
        revise: str = REVISE,
        pick: str = PICK,
        debate: str = DEBATE,
        mark: str = ": ",
        between: str = "\n",
        beta: float = 0.1,
        nll_weight: float = 0.0,
        lr_scale: float = 0.1,
    ) -> None:
        known = (*get_args(Update), *LEARNING)
        if update not in known:
            raise unknown("update", update, known)
        for name in (signal, *signals):
            if name not in SIGNALS:
                raise unknown("signal", name, SIGNALS)
        if not 0 < heads <= 1:
            raise ValueError(f"heads is a share in (0, 1], got {heads}")
        self.signal, self.update, self.signals, self.threshold = signal, update, tuple(signals), threshold
        self.amateur, self.heads, self.strength = amateur, heads, strength
        self.preference = {"beta": beta, "nll_weight": nll_weight, "lr_scale": lr_scale}
        self.how = Feedback(
            update="vote" if update in LEARNING else update,  # type: ignore[arg-type]
            signal=signal,
            draws=draws,
            temperature=temperature,
            top_p=top_p,
            rounds=rounds,
            agents=agents,
            breadth=breadth,
            depth=depth,
            step=step,
            alpha=alpha,
            threshold=0.6 if threshold is None else threshold,
            critique=critique,
            revise=revise,
            pick=pick,
            debate=debate,
            mark=mark,
            between=between,
        )

    def stages(self, site: Site) -> list[Stage]:
        lm, task = self.start(site, "generate")
        learns = self.update in LEARNING or self.update == "intervene"
        student = self.student(site) if learns else site.student
        # Its layers can be read where it runs here, which nothing that is wrapped around it lets through.
        reader: LM = student if student is not None and lm.name == student.name else lm
        how = replace(self.how, seed=site.settings.seed)
        for name in dict.fromkeys((self.signal, *self.signals)):
            check_signal(name, reader)
        # A threshold of what is no share can only be read off the signal's own values.
        read_off = self.update == "abstain" and self.threshold is None and not SIGNALS[self.signal].share
        if learns and not task.inputs:
            raise ValueError(f"self_feedback with the update '{self.update}' needs inputs in the task")
        if read_off and not task.inputs:
            raise ValueError(
                f"without a threshold 'abstain' reads one off the signal '{self.signal}' of the task's inputs, and the "
                "task has none: inputs in the task, or --method.threshold"
            )
        if self.update not in LEARNING:
            check_update(how, student or lm, task)
        amateur = self._amateur() if self.update == "contrastive" else None
        parts = [Stage("signals", lambda _: self.measure(site, reader, task, how))] if task.test else []

        def draw(_: Mapping[str, Any]) -> Store:
            store = site.store("answers", prompt=Field("text"), completion=Field("text"), other=Field("text"))
            self.draw(lm, reader, task, store, how)
            site.note("answers", *told("answer", store))
            must_have("answer", store)
            return store

        if self.update in LEARNING and student is not None:
            return [*parts, Stage("answers", draw), *self._learned(site, student, task)]

        def keep(results: Mapping[str, Any]) -> Model:
            shift, way = None, how
            if read_off:
                way = replace(how, threshold=surer_half(results["answers"]))
                site.note(
                    "kept",
                    f"an answer is given where '{self.signal}' is {way.threshold:.6g} or more, which the surer half of "
                    "the inputs reaches",
                )
            elif "answers" in results and student is not None:
                store = results["answers"]
                prompts, right, wrong = (list(store.column(name)) for name in ("prompt", "completion", "other"))
                rows = [(p, a, True) for p, a in zip(prompts, right, strict=True)]
                rows += [(p, a, False) for p, a in zip(prompts, wrong, strict=True) if a]
                asked, said, truth = (list(column) for column in zip(*rows, strict=True))
                shift = intervention(student, asked, said, truth, share=self.heads, strength=self.strength)
            model = FeedbackModel(student or lm, task, way, Tools(amateur, shift))
            if task.test:
                self.compare(site, model, task)
            # What keeps its answers is closed at the end of the run.
            return FeedbackModel(student or innermost(lm), task, way, Tools(amateur, shift))

        if self.update == "intervene" or read_off:
            return [*parts, Stage("answers", draw), Stage("kept", keep, ("answers",))]
        return [*parts, Stage("kept", keep)]

    def draw(self, lm: LM, reader: LM, task: Task, store: Store, how: Feedback) -> None:
        """What most samples of each input come to, what another one comes to, and how sure the signal is of the first.

        Inputs that the store has decided on already are not asked again.
        """
        inputs = list(dict.fromkeys(text.strip() for text in task.inputs))
        ids = row_ids("inputs", "", len(inputs))
        todo = np.flatnonzero(~store.has(ids))
        for some in np.array_split(todo, -(-len(todo) // AT_ONCE)) if len(todo) else ():
            rows = sampled(lm, task, [inputs[k] for k in some], how)
            kept, reasons = dict[int, dict[str, Any]](), dict[int, str]()
            for k, row, values in zip(some, rows, signal_values(self.signal, reader, task, rows), strict=True):
                found = _decided(row, values, task)
                if isinstance(found, str):
                    reasons[int(ids[k])] = found
                else:
                    kept[int(ids[k])] = {"prompt": row.prompt, **found}
            if kept:
                columns = {name: [entry[name] for entry in kept.values()] for name in next(iter(kept.values()))}
                store.append(list(kept), **columns)
            store.drop(reasons)

    def chosen(self, drawn: Store, store: Store) -> None:
        """Those answers of which the signal is sure enough; of "prefer" those beside which there is another one."""
        values = np.asarray(drawn.column("value"), dtype=np.float64)
        least = self.threshold
        if least is None:
            least = 0.6 if SIGNALS[self.signal].share else surer_half(drawn)
        columns = {name: list(drawn.column(name)) for name in ("prompt", "completion", "other")}
        ids, reasons = drawn.ids.tolist(), dict[int, str]()
        for k, id_ in enumerate(ids):
            if not values[k] >= least:
                reasons[id_] = "not sure enough"
            elif self.update == "prefer" and not columns["other"][k]:
                reasons[id_] = "all answers come to the same"
        left = [k for k, id_ in enumerate(ids) if id_ not in reasons and not store.has([id_])[0]]
        if left:
            names = {"prompt": "prompt", "completion": "chosen" if self.update == "prefer" else "completion"}
            if self.update == "prefer":
                names["other"] = "rejected"
            picked = {new: [columns[old][k] for k in left] for old, new in names.items()}
            store.append([ids[k] for k in left], **picked)
        store.drop({id_: reason for id_, reason in reasons.items() if not store.has([id_])[0]})

    def measure(self, site: Site, reader: LM, task: Task, how: Feedback) -> Table:
        """How well signals tell right answers from wrong ones, over what most samples of a test input come to."""
        names = self.signals or tuple(dict.fromkeys((self.signal, "vote_share", "semantic_entropy")))
        rows = sampled(reader, task, [one.input for one in task.test], how)
        table = Table({"title": "How well signals tell right answers from wrong ones, on the test inputs"})
        for name in names:
            for metric, value in told_by(name, reader, task, rows).items():
                table.add(name, metric, 0, value)
        table.save(site.folder / "evaluations" / SIGNAL_TABLE)
        return table

    def compare(self, site: Site, model: FeedbackModel, task: Task) -> None:
        """What the update changed on the test inputs."""
        asked = [one.input for one in task.test]
        given = model.answers(asked)
        table = compared(task, answer(model.lm, task, asked), [one.text for one in given])
        table.add("after", "tokens", 0, float(np.mean([one.tokens for one in given])))
        table.save(site.folder / "evaluations" / TASK_TABLE)

    def _learned(self, site: Site, student: LocalLM, task: Task) -> list[Stage]:
        def choose(results: Mapping[str, Any]) -> Store:
            store = site.store("chosen")
            self.chosen(results["answers"], store)
            site.note("chosen", *told("answer", store))
            must_have("answer", store)
            return store

        def refer(results: Mapping[str, Any]) -> Store:
            store, chosen = site.store("references"), results["chosen"]
            pairs = {name: list(chosen.column(name)) for name in ("prompt", "chosen", "rejected")}
            scores = {
                f"ref_{side}": [one.total for one in student.score(pairs["prompt"], pairs[side])]
                for side in ("chosen", "rejected")
            }
            if not store.has(chosen.ids).all():
                store.append(chosen.ids, **pairs, **scores)
            return store

        @training
        def imitate(results: Mapping[str, Any]) -> Model:
            return fine_tuned(site, "train", student, examples_of(results["chosen"]))

        @training
        def prefer(results: Mapping[str, Any]) -> Model:
            write_pairs(site.folder, pairs_of(results["references"])[0])
            return preferred(site, "train", student, results["references"], self.preference)

        stages = [Stage("chosen", choose, ("answers",))]
        if self.update == "self_train":
            return [*stages, Stage("train", imitate, ("chosen",))]
        return [*stages, Stage("references", refer, ("chosen",)), Stage("train", prefer, ("references",))]

    def _amateur(self) -> LocalLM:
        if not self.amateur:
            raise ValueError("contrastive decoding needs a weaker model: --method.amateur NAME")
        found = open_lm(self.amateur)
        if not isinstance(found, LocalLM):
            raise ValueError(f"the weaker model must run here, '{found.name}' does not")
        return found


def surer_half(drawn: Store) -> float:
    """The signal that half of the answers that were drawn reach: the median of its values."""
    return float(np.median(np.asarray(drawn.column("value"), dtype=np.float64)))


def told_by(name: str, lm: LM, task: Task, rows: Sequence[Asked]) -> dict[str, float]:
    """Figures of one signal over what most samples of each test input come to; a question it is silent of is left out.

    Returns
    -------
    dict
        ``told``: share of the questions that it says something of; those of `evaluation.selective`, and of a share
        ``ECE``, the expected calibration error.
    """
    values, right = list[float](), list[bool]()
    for row, each, wanted in zip(rows, signal_values(name, lm, task, rows), task.test, strict=True):
        one, _ = elected(row, task)
        value = None if one is None else each[list(row.answers).index(one)]
        if one is not None and value is not None:
            values.append(value)
            right.append(task.right(one.text, wanted.output, wanted.input))
    figures = {"told": len(values) / len(rows)}
    if values:
        scores, quality = np.asarray(values), np.asarray(right, dtype=np.float64)
        figures |= selective(scores, quality)
        if SIGNALS[name].share:
            figures["ECE"] = calibration_error(scores, np.asarray(right))
    return figures


def _decided(row: Asked, values: Sequence[float | None], task: Task) -> dict[str, Any] | str:
    """What most samples come to, another answer and the signal of the first; or why there is nothing."""
    one, share = elected(row, task)
    if one is None:
        return "no final answer" if any(found.text.strip() for found in row.answers) else "all answers are empty"
    if one.finish == "length":
        return "cut off"
    value = values[list(row.answers).index(one)]
    if value is None:
        return "the signal says nothing of it"
    most = task.meant(one.text)
    other = next((found for found in row.answers if _usable(found) and task.meant(found.text) != most), None)
    return {
        "completion": task.ended(one.text),
        "other": "" if other is None else task.ended(other.text),
        "value": float(value),
        "share": float(share or 0.0),
    }


def _usable(found: Completion) -> bool:
    return bool(found.text.strip()) and found.finish != "length"
