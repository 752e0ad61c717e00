"""Methods of language models that ask questions of a task themselves, and learn from what their answers are worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from autodidact.data.batch import Batch
from autodidact.lm import Asked
from autodidact.lm.kept import LanguageModel
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Task
from autodidact.methods.method import Group, Loss, Method, Progress, Step
from autodidact.model import Model
from autodidact.rewards import Answered, Learner, Reward, named
from autodidact.rollouts import Drawn, Policy, Question, judged
from autodidact.rollouts.judging import answered, counted, learned_from

ALONE = "no other answer to compare with"
"""Why an answer is left out that is the only one of its group with a reward."""


class OnTask(Method):
    """A method that is made of a language model and the task that it is to become better at.

    A constructor of these takes both by position and keyword arguments after them; only the latter are options of the
    command line. It is trained on the fields "input" and "prompt" of `questions`. What it draws follows from the
    weights and the seed of the step alone. A reward that learns does so here, before the policy's update, from answers
    that are drawn for it; what else happens in an update is `improved`.

    Parameters
    ----------
    policy : the model with its reference.
    task : what it is to become better at.
    reward : or the name of one, see `autodidact.rewards.named`.
    seconds : that a function of the user's, or a program with the tests of the user's, may take for one answer.
    missing_end : taken off the reward of an answer that was cut off, 0 or more.
    lr_scale : factor on the learning rate, above 0.

    Attributes
    ----------
    group : answers to each question of an update.
    dropped : answers that were left out so far, by reason.

    Raises
    ------
    ValueError : a number out of its range, no such reward, or a task without inputs that it can judge.
    """

    needs: ClassVar = {"input": "text", "prompt": "text"}
    slots = ("lm",)
    group = 1

    def __init__(
        self, policy: Policy, task: Task, *, reward: str | Reward, seconds: float, missing_end: float, lr_scale: float
    ) -> None:
        super().__init__()
        if not missing_end >= 0 or not lr_scale > 0:
            raise ValueError(f"missing_end is 0 or more and lr_scale above 0, got {missing_end} and {lr_scale}")
        self.policy, self.task = policy, task
        self.reward = named(reward, task, seconds=seconds, lm=policy.lm) if isinstance(reward, str) else reward
        self.missing_end, self.lr_scale = missing_end, lr_scale
        self._questions = {one.input: one for one in Question.of(task, learned_from(task, self.reward))}
        self.dropped = Counter[str]()

    @property
    def lm(self) -> LocalLM:
        return self.policy.lm

    @property
    def questions(self) -> list[str]:
        """The task's inputs that it is trained on, each once."""
        return list(self._questions)

    def asked(self, batch: Batch) -> list[Question]:
        """The questions of a batch."""
        return [self._questions[text] for text in batch["input"]]

    def seed(self, progress: Progress) -> int:
        """What the draws of a step follow from."""
        return int(torch.randint(2**62, (), generator=progress.generator))

    def draw(
        self,
        prompts: Sequence[Asked],
        *,
        group: int = 1,
        seed: int = 0,
        temperature: float | None = None,
        from_start: bool = False,
    ) -> Drawn:
        """Answers of the policy, or of its reference, cut off and ended as the task has it."""
        return self.policy.draw(
            prompts,
            group=group,
            seed=seed,
            temperature=temperature,
            from_start=from_start,
            max_tokens=self.task.max_tokens,
            stop=self.task.style.stop,
        )

    def judge(self, drawn: Drawn, questions: Sequence[Question]) -> Float64[Tensor, " n"]:
        """The reward of each answer, NaN where there is none; these are counted.

        Raises
        ------
        ValueError : not one answer of the first ones has a reward, with the reasons.
        """
        rewards, reasons = judged(drawn, questions, self.reward, missing_end=self.missing_end)
        self.dropped = counted(self.dropped, reasons, rewards)
        return rewards

    def leave_out(self, lost: Bool[Tensor, "g k"], reason: str) -> None:
        """Count answers that have a reward, and that nothing is learned from all the same."""
        self.dropped = self.dropped + Counter({reason: int(lost.sum())})

    def memory(self) -> dict[str, Any]:
        return {"dropped": dict(self.dropped.most_common())}

    def remember(self, memory: Mapping[str, Any]) -> None:
        self.dropped = Counter(memory.get("dropped", {}))

    def update(self, batch: Batch, step: Step) -> Loss:
        taught = self.taught(self.asked(batch), step)
        if taught is not None and step.progress.step < self._alone:
            return taught
        loss = self.improved(batch, step)
        return loss if taught is None else Loss(loss.total, {**loss.terms, **taught.terms})

    def improved(self, batch: Batch, step: Step) -> Loss:
        """The policy's part of an update."""
        with torch.no_grad(), torch.autocast(batch.ids.device.type, enabled=False):
            views = self.views(batch, step.progress)
        return step.descend(self.loss(views, step.progress), only="policy")

    def taught(self, questions: Sequence[Question], step: Step) -> Loss | None:
        """Let those rewards learn that are due; None where none is. Of several the log shows the last one's loss."""
        found = None
        for name, pupil in self._pupils:
            for _ in range(pupil.lessons.rounds if pupil.lessons.due(step.progress.step) else 0):
                answers = self.said(questions, self.seed(step.progress))
                for _ in range(pupil.lessons.passes):
                    total = pupil.learning(answers, step.progress.generator)
                    found = step.descend(Loss(total, {"reward_loss": total.detach()}), only=name)
        return found

    def said(self, questions: Sequence[Question], seed: int) -> list[Answered]:
        """Answers of the policy that a reward learns from: such as it judges in an update."""
        drawn = self.draw([one.asked for one in questions], group=self.group, seed=seed)
        return answered(drawn, questions)

    @property
    def _pupils(self) -> list[tuple[str, Learner]]:
        """The rewards that learn, by the name of their parameter group."""
        return [(f"reward {number}", one) for number, one in enumerate(self.reward.learners)]

    @property
    def _alone(self) -> int:
        """Updates in which nothing but the rewards learns."""
        return max((one.lessons.alone for _, one in self._pupils), default=0)

    def groups(self) -> list[Group]:
        learned = [p for p in self.lm.parameters() if p.requires_grad]
        found = [Group("policy", learned, lr_scale=self.lr_scale)]
        for name, pupil in self._pupils:
            found.append(Group(name, pupil.parameters(), lr_scale=pupil.lessons.rate))
        return found

    def kept(self) -> Model:
        return LanguageModel(self.lm, self.task)

    def answers(self, most: int = 200) -> list[tuple[str, str]]:
        """Prompts of some questions with the likeliest answers, for people to read."""
        some = list(self._questions.values())[:most]
        drawn = self.draw([one.prompt for one in some], temperature=0.0)
        return [(one.prompt, said.text) for one, said in zip(some, drawn.completions, strict=True)]
