"""Trajectory balance: a language model learns to draw answers as often as they are worth it, not one alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autodidact.catalog import Card
from autodidact.data.batch import Batch
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Task
from autodidact.lm.tokenised import Tokenised
from autodidact.methods.method import Loss, Progress, Views
from autodidact.methods.on_task import ALONE, OnTask
from autodidact.objectives import trajectory_balance
from autodidact.rewards import Reward
from autodidact.rollouts import Policy, Question

CARD = Card(
    name="trajectory_balance",
    target="TrajectoryBalance",
    kind="method",
    verb="improve",
    title="Trajectory balance",
    paper="Malkin et al.: Trajectory balance: Improved credit assignment in GFlowNets (2201.13259, 2022), as in the "
    "survey 2308.14328",
    summary="A language model learns to give many good answers, each as often as it is worth, instead of one.",
    needs=(("input", "text"), ("prompt", "text")),
    abilities=("generate", "score", "choose"),
    arguments=("reward", "tau", "prior", "group"),
    extra="language",
)


@dataclass(frozen=True)
class Weighed:
    """Answers with what they should be drawn in proportion to.

    Attributes
    ----------
    tokens : of the answers.
    target : logarithm of it, but for a constant of each question.
    question : number of the question that each answers.
    figures : what the log shows.
    idle : whether there is nothing to learn, since no question has two answers with a reward.
    """

    tokens: Tokenised
    target: Float[Tensor, " n"]
    question: Int[Tensor, " n"]
    figures: dict[str, Tensor]
    idle: bool


class TrajectoryBalance(OnTask):
    r"""Trajectory balance of answers (arXiv 2201.13259, equation 14; GFlowNets in survey 2308.14328).

    ::

        L = mean ( log Z(x) + log pi(y | x) - log target(y | x) )^2,        target = ref(y | x) exp(R / tau)

    It is 0 where answers are drawn in proportion to the target, whichever policy the answers of an update were drawn
    from; a policy gradient without a price of divergence ends at a single answer instead. Text is written in one way
    only, so that there is no policy backwards. log Z of a question is the mean of what is missing over its answers
    (VarGrad, 2010.10436), without gradient: nothing has to be learned for it. Drawn from the policy itself, the
    gradient is then that of the reward less tau times the divergence, with the group's mean as the baseline.

    Parameters
    ----------
    lm, task, reward, seconds : see `PolicyGradient`.
    tau : temperature of the target in units of the reward, above 0. The smaller, the more only the best counts.
    prior : whether the model as it was before training is a factor of the target. Without, all texts that are worth the
        same are to be drawn as often.
    group : answers to each question, 2 or more.
    temperature : of drawing, above 0; above 1 it looks further, and the policy that is learned is that at 1 still.
    missing_end : taken off the reward of an answer that was cut off, 0 or more.
    lr_scale : factor on the learning rate, above 0.

    Raises
    ------
    ValueError : an option out of its range, no such reward, or a task without inputs that it can judge.
    """

    def __init__(
        self,
        lm: LocalLM,
        task: Task,
        *,
        reward: str | Reward = "checker",
        seconds: float = 1.0,
        tau: float = 0.1,
        prior: bool = True,
        group: int = 8,
        temperature: float = 1.0,
        missing_end: float = 1.0,
        lr_scale: float = 0.1,
    ) -> None:
        if not min(tau, temperature) > 0:
            raise ValueError(f"tau and temperature are above 0, got {tau} and {temperature}")
        if group < 2:
            raise ValueError(f"what answers are worth is compared within a question: group is 2 or more, got {group}")
        super().__init__(Policy(lm), task, reward=reward, seconds=seconds, missing_end=missing_end, lr_scale=lr_scale)
        self.tau, self.prior, self.group, self.temperature = tau, prior, group, temperature

    def views(self, batch: Batch, progress: Progress) -> Views:
        return Views({"questions": self.asked(batch), "seed": self.seed(progress)}, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        return self.loss_of(self.weighed(views["questions"], views["seed"]))

    @torch.no_grad()
    def weighed(self, questions: Sequence[Question], seed: int) -> Weighed:
        """Draw answers to questions and say what they should be drawn in proportion to.

        Raises
        ------
        ValueError : not one answer of the first update has a reward, with the reasons.
        """
        prompts = [one.asked for one in questions]
        drawn = self.draw(prompts, group=self.group, seed=seed, temperature=self.temperature)
        rewards = self.judge(drawn, questions)
        before = self.policy.reference(drawn.tokens).sum(dim=1)
        rewards = rewards.to(before)
        known = drawn.groups(rewards).isfinite()
        used = known & (known.sum(dim=1, keepdim=True) >= 2)
        self.leave_out(known & ~used, ALONE)
        rows = used.flatten().nonzero()[:, 0]
        idle = len(rows) == 0
        rows = torch.zeros(1, dtype=torch.long, device=before.device) if idle else rows
        target = rewards[rows].nan_to_num() / self.tau + (before[rows] if self.prior else 0.0)
        figures = {
            "reward": rewards.nanmean(),
            "length": drawn.tokens.answer.sum(dim=1).to(before).mean(),
            "cut_off": (~drawn.ended).to(before).mean(),
            "dropped": (~used).to(before).mean(),
        }
        return Weighed(drawn.tokens[rows], target, rows // self.group, figures, idle)

    def loss_of(self, weighed: Weighed) -> Loss:
        """The imbalance, in units of the reward, a token of the longest answer that is allowed."""
        forward = self.lm.logprobs(weighed.tokens).sum(dim=1)
        missing = (weighed.target - forward).detach()
        count = int(weighed.question.max()) + 1
        sums = missing.new_zeros(count).index_add(0, weighed.question, missing)
        log_z = (sums / weighed.question.bincount(minlength=count).clamp(min=1))[weighed.question]
        total = trajectory_balance(log_z, forward, torch.zeros_like(forward), weighed.target)
        total = total * (self.tau / 2 / self.task.max_tokens)
        return Loss(total * 0 if weighed.idle else total, dict(weighed.figures))
