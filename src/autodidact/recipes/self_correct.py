"""SCoRe: a language model learns to correct its own answers, by rewards of both its attempts, in two stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from autodidact.catalog import Card
from autodidact.evaluation.table import Table
from autodidact.evaluation.two_turns import transitions
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Task
from autodidact.lm.turns import AGAIN, two_answers
from autodidact.methods.language.two_turns import InLoss, TwoTurns, check_turns
from autodidact.model import Model
from autodidact.objectives import Credit
from autodidact.recipes.improving import Improvement, question_source, write_examples, write_left_out
from autodidact.recipes.stages import Site, Stage, training

CARD = Card(
    name="self_correct",
    target="SelfCorrect",
    kind="recipe",
    number=64,
    verb="improve",
    title="SCoRe",
    paper="Kumar et al.: Training Language Models to Self-Correct via Reinforcement Learning (2409.12917, 2024)",
    summary="A language model learns to answer, look at its own answer, and correct it where it is wrong.",
    abilities=("generate", "score", "choose"),
    arguments=("alpha", "beta_first", "beta", "reward"),
    claim="self_correct",
    extra="language",
)


class SelfCorrect(Improvement):
    """SCoRe (arXiv 2409.12917, section 5).

    The model answers a question, is asked again, and answers once more; it is told nothing of whether the first answer
    was right. In the first stage only second answers are rewarded, while a high price holds first answers to what they
    were: the one way up is to change more from the first to the second. In the second stage both are rewarded, and
    second ones get a bonus for progress over the first. Without either, the second answer becomes a copy of the first.

    What is kept answers twice: `apply` gives the second answer, and the first one beside it. Where the task has test
    inputs, ``evaluations/self_correct.json`` has how many are right in either turn, were wrong and became right, were
    right and became wrong, and how much was changed, before and after. Both stages are as long as the settings say.

    Parameters
    ----------
    reward : of an answer: the names that "policy_gradient" has.
    seconds : that a function of one's own, or a program with the tests of "program:FILE.py", may take for one answer.
    request : asks for the second answer: a message of the user where the model tells turns apart, else what follows the
        first answer, text that ended it included.
    alpha : of the bonus for progress, 0 or more. Paper: 10.
    beta_first : price of a nat of divergence of first answers in the first stage. Paper: 0.1 (mathematics), 0.25
        (code), with a sampled estimate; by the exact one, tiny models take 1.
    beta : price of a nat otherwise. Paper: 0.01.
    credit : what first answers are weighed with in the second stage: "instant", their own reward, or "return", what
        followed too, which with alpha above 1 pays for failing first.
    mixed : share of the questions of the second stage, in [0, 1], to which what the model was before gives a first
        answer too, with second answers of the model after it: it goes on seeing the errors that it no longer makes. It
        costs as much as one more first answer to each of them. Paper: an option.
    kl : how the divergence is measured: "exact" over the vocabulary, or "k3" by the tokens drawn.
    firsts : first answers to a question, 2 or more.
    follow : second answers after each, 2 or more, which are compared with each other.
    temperature : of drawing, above 0. Paper: 1.
    missing_end : taken off the reward of an answer that was cut off.
    lr_scale : factor on the learning rate.

    Raises
    ------
    ValueError : an option out of its range.
    """

    def __init__(
        self,
        *,
        reward: str = "checker",
        seconds: float = 1.0,
        request: str = AGAIN,
        alpha: float = 10.0,
        beta_first: float = 0.25,
        beta: float = 0.01,
        credit: Credit = "instant",
        mixed: float = 0.0,
        kl: InLoss = "exact",
        firsts: int = 2,
        follow: int = 4,
        temperature: float = 1.0,
        missing_end: float = 0.0,
        lr_scale: float = 0.1,
    ) -> None:
        check_turns(alpha, credit, kl, (firsts, follow), (beta_first, beta, missing_end), lr_scale, mixed)
        self.alpha, self.credit, self.mixed, self.beta_first, self.beta = alpha, credit, mixed, beta_first, beta
        self.request = request
        self.shared: dict[str, Any] = {
            "reward": reward,
            "seconds": seconds,
            "request": request,
            "kl": kl,
            "firsts": firsts,
            "follow": follow,
            "temperature": temperature,
            "missing_end": missing_end,
            "lr_scale": lr_scale,
        }

    def stages(self, site: Site) -> list[Stage]:
        _, task = self.start(site, "generate")
        student = self.student(site)
        # Made now, so that the reference is what the model is before anything is learned.
        first = self.first(student, task)
        start = first.policy.start

        def before(_: Mapping[str, Any]) -> Table:
            return self.measured(Table(), "before", student, task)

        @training
        def one(_: Mapping[str, Any]) -> Model:
            return self._trained(site, "first", first)

        @training
        def two(results: Mapping[str, Any]) -> Model:
            method = self.second(results["first"].lm, task, "base" if start is None else start)
            kept = self._trained(site, "second", method)
            write_examples(site.folder, method.answers())
            if task.test:
                after = self.measured(results["before"], "after", method.lm, task)
                after.about |= told(after)
                after.save(site.folder / "evaluations" / "self_correct.json")
            return kept

        return [Stage("before", before), Stage("first", one), Stage("second", two, ("before", "first"))]

    def first(self, lm: LocalLM, task: Task, reference: LocalLM | Literal["now", "base"] = "now") -> TwoTurns:
        """What the first stage trains by: second answers are rewarded, first ones are held to the reference."""
        return TwoTurns(
            lm,
            task,
            rewarded_first=False,
            alpha=0.0,
            beta_first=self.beta_first,
            beta_second=self.beta,
            reference=reference,
            **self.shared,
        )

    def second(self, lm: LocalLM, task: Task, reference: LocalLM | Literal["now", "base"]) -> TwoTurns:
        """What the second stage trains by: both answers are rewarded, and progress earns a bonus."""
        return TwoTurns(
            lm,
            task,
            alpha=self.alpha,
            credit=self.credit,
            mixed=self.mixed,
            beta_first=self.beta,
            beta_second=self.beta,
            reference=reference,
            **self.shared,
        )

    def measured(self, table: Table, arm: str, lm: LocalLM, task: Task) -> Table:
        """The table with figures of both answers to the task's test inputs, where there are some."""
        if task.test:
            said = two_answers(lm, task, [one.input for one in task.test], self.request)
            for name, value in transitions(task, said).items():
                table.add(arm, name, 0, value)
        return table

    def _trained(self, site: Site, stage: str, method: TwoTurns) -> Model:
        source = question_source(stage, method.task, method.questions)
        batch = min(site.settings.batch_size, len(source))
        kept = site.train(stage, method, source, replace(site.settings, batch_size=batch))
        write_left_out(site.at(stage), method)
        dropped = "; ".join(f"{count} {why}" for why, count in method.dropped.most_common())
        site.note(stage, f"{len(source)} questions" + (f"; answers left out: {dropped}" if dropped else ""))
        return kept


def told(table: Table) -> dict[str, Any]:
    """What is said above a table of both answers before and after."""
    first, second, fixed, broken = (
        table.mean_interval("after", name).mean for name in ("first", "second", "fixed", "broken")
    )
    return {
        "title": "First and second answers to the task's test inputs",
        "sentence": f"{first:.1%} of the first answers are right now, and {second:.1%} of the second: {fixed:.1%} were "
        f"wrong and became right, {broken:.1%} were right and became wrong.",
    }
