"""Policy gradients: a language model draws answers, is told what each is worth, and makes the better ones likelier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from autodidact.catalog import Card
from autodidact.data.batch import Batch
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Task
from autodidact.lm.tokenised import Tokenised
from autodidact.methods.method import Group, Loss, Progress, Step, Views
from autodidact.methods.on_task import ALONE, OnTask
from autodidact.objectives import (
    adapted_beta,
    clipped_loss,
    gae,
    mean_over_tokens,
    reinforce_loss,
    reward_with_kl,
    value_loss,
    whitened,
)
from autodidact.objectives.likelihood import Normaliser
from autodidact.objectives.shards import mean_over_processes
from autodidact.rewards import Reward
from autodidact.rollouts import Divergence, Drawn, Policy, Question, judged, paid
from autodidact.rollouts.completing import worth_of_tokens
from autodidact.rollouts.estimating import Estimated, Estimator, check_estimator, estimated
from autodidact.rollouts.mixing import Begun, begun
from autodidact.rollouts.policy import check_divergence
from autodidact.rollouts.valuing import HeadValues, Values, check_value, reward_values

CARD = Card(
    name="policy_gradient",
    target="PolicyGradient",
    kind="method",
    number=61,
    verb="improve",
    title="Policy gradients",
    paper="Cao et al.: Reinforcement Learning for Generative AI: A Survey (2308.14328, 2023)",
    summary="A language model is trained by rewards of the answers that it draws itself: REINFORCE, RLOO, GRPO, PPO.",
    needs=(("input", "text"), ("prompt", "text")),
    abilities=("generate", "score", "choose"),
    arguments=("reward", "estimator", "group", "completions", "beta", "kl"),
    claim="policy_gradient",
    further=("seqgan", "modes", "ddpo"),
    extra="language",
)

NO_GREEDY = "greedy answer had no reward"
"""Why the answers to a question are left out whose likeliest answer, the baseline, has none."""


@dataclass(frozen=True)
class Rolled:
    """The answers of an update that count.

    Attributes
    ----------
    tokens : of the answers.
    old, ref : their log-probabilities under the policy that drew them, and under the reference.
    advantages : of each answer, or of each of its tokens.
    rewards : of each answer.
    figures : what the log shows of them.
    valued : of a learned value: what it follows from, the value before each token, and the return that came.
    idle : whether there is nothing to learn, since no answer has a reward; one answer stands in, and weighs nothing.
    given : beginnings of wanted answers that are learned by likelihood beside; None for none.
    """

    tokens: Tokenised
    old: Float[Tensor, "n t"]
    ref: Float[Tensor, "n t"]
    advantages: Float[Tensor, " n"] | Float[Tensor, "n t"]
    rewards: Float[Tensor, " n"]
    figures: dict[str, Tensor]
    valued: tuple[Tensor | Tokenised, Float[Tensor, "n t"], Float[Tensor, "n t"]] | None = None
    idle: bool = False
    given: Tokenised | None = None


class PolicyGradient(OnTask):
    r"""On-policy training by rewards (survey 2308.14328, sections 3 and 4).

    In every update the model draws a group of answers to each question of the batch, and a reward says what each is
    worth. From these the gradient of

    .. math:: E[R(x, y)] - \beta KL(\pi(\cdot | x) || \pi_{ref}(\cdot | x))

    is estimated. The reference is the model as it was before training: its adapter switched off, or a frozen copy.
    Questions are the task's examples, and with a reward that needs no outputs its inputs too. An answer without a
    reward (a program failed, was too slow, or gave None) is left out and counted, never taken for 0; so is one that
    then has nothing to be compared with, as the only one of its group, or beside a likeliest answer without a reward.

    Of the survey's rewards BLEU and CIDEr are not among those with a name (a function of one's own can be either), and
    several rewards are added up with fixed weights: no Lagrangian holds one of them to a bound.

    The estimators differ in what is taken off the reward: "reinforce" a running mean, "self_critical" the reward of the
    likeliest answer, "rloo" the mean of the other answers of the group, "grpo" the group's mean, all divided by its
    spread, "ppo" a learned value of what has been written so far (GAE). "raml" is likelihood of the answers with
    weights proportional to exp(R / tau), with tau 0 of the best answers alone.

    All tokens of an answer are credited with its reward. With `completions` each is credited with what answers that
    begin up to it are worth (SeqGAN, 1609.05473), less what the estimator takes off: the first tokens no longer pay for
    what the last ones did. With the reward "discriminator" that is SeqGAN.

    Parameters
    ----------
    lm : with weights that can be changed; where it has an adapter, only that is trained.
    task : what it is to become better at.
    reward : "checker" (the task's checker against outputs of examples), "rouge", "label", "length:N", "matches:REGEX",
        "json", "novelty", "different", "program:FILE.py" (it is a program that passes the tests in a file; see
        docs/language.md), "discriminator" (a network that learns to tell its answers from the wanted outputs),
        ``file.py:function`` (of input, answer, and wanted output or None), or the folder of a run whose model can
        score; or a sum such as "checker + 0.2*length:40".
    seconds : that a function of one's own, or a program with the tests of "program:FILE.py", may take for one answer.
    estimator : "reinforce", "self_critical", "rloo", "grpo", "ppo" or "raml", as above.
    group : answers to each question, from 1; 2 or more for "rloo" and "grpo".
    temperature : of drawing, above 0. Other than 1, the distribution at it is what is trained.
    completions : answers that are drawn from each token on to see what it is worth, for "reinforce", "self_critical"
        and "rloo"; 0 credits every token with the whole answer's reward. SeqGAN: 16. An answer of T tokens then costs
        about completions T / 2 further ones.
    beta : price of a nat of divergence from the reference, 0 or more.
    kl : how it is paid: "reward" takes it off the reward; "k2", "k3" and "exact" stand in the loss.
    kl_target : divergence in nats an answer that beta, then above 0, is adapted towards; 0 leaves beta as it is.
    missing_end : taken off the reward of an answer that was cut off, 0 or more.
    inner : steps on the answers of one update, from 1. Later ones are off the policy that drew, and clipped.
    clip : bound on how far the ratio of the policy to the one that drew may leave 1, above 0.
    normaliser : what sums over tokens are divided by: "constant" the longest answer that is allowed, which favours no
        length; "token" all tokens; "sequence" each answer's own.
    std : whether "grpo" divides by the spread.
    momentum : of the running mean of "reinforce", in [0, 1).
    tau : of "raml", in units of the reward, 0 or more.
    gamma, lam : discount, and decay of GAE, of "ppo", in [0, 1].
    value_clip : how far a value may move in an update of "ppo", in units of the reward.
    value : what the value of "ppo" begins as: "fresh", a small network on the model's own last layer; "reward", a copy
        of the reward model, trunk and head, which learns at the model's own rate (SALMON, 2310.05910, section 3.4). The
        latter needs the run of a reward model as reward, made from a model with the same tokens.
    entropy : added to what is climbed for each nat of the next token's entropy, against narrowing; 0 or more.
    mixed : share of the training, in [0, 1], in which the beginnings of wanted outputs are still learned by likelihood,
        and only what follows them is drawn; the beginnings shrink from the whole output to nothing (MIXER, 1511.06732).
    lr_scale : factor on the learning rate, above 0: rewards are learned at a tenth of the rate of answers. Large models
        take 1e-6 for all weights and 1e-5 for an adapter, tiny ones 1e-4 to 5e-4.

    Raises
    ------
    ValueError : an option out of its range, no such reward, or a task without inputs that it can judge.
    """

    beta: Tensor
    baseline: Tensor

    def __init__(
        self,
        lm: LocalLM,
        task: Task,
        *,
        reward: str | Reward = "checker",
        seconds: float = 1.0,
        estimator: Estimator = "rloo",
        group: int = 4,
        temperature: float = 1.0,
        completions: int = 0,
        beta: float = 0.05,
        kl: Divergence = "reward",
        kl_target: float = 0.0,
        missing_end: float = 1.0,
        inner: int = 1,
        clip: float = 0.2,
        normaliser: Literal["constant", "token", "sequence"] = "constant",
        std: bool = True,
        momentum: float = 0.9,
        tau: float = 0.1,
        gamma: float = 1.0,
        lam: float = 0.95,
        value_clip: float = 0.2,
        value: Literal["fresh", "reward"] = "fresh",
        entropy: float = 0.0,
        mixed: float = 0.0,
        lr_scale: float = 0.1,
    ) -> None:
        check_estimator(estimator, group, completions)
        check_divergence(kl)
        check_value(value, estimator)
        for name, number in (("beta", beta), ("kl_target", kl_target), ("tau", tau), ("entropy", entropy)):
            if not number >= 0:
                raise ValueError(f"{name} is 0 or more, got {number}")
        if kl_target and not beta:
            raise ValueError(
                f"kl_target {kl_target} adapts beta by factors, and a beta of 0 stays 0: give a beta above 0, or no "
                "kl_target"
            )
        if inner < 1 or not min(clip, value_clip) > 0:
            raise ValueError(
                f"inner is at least 1, and clip and value_clip are above 0; got {inner}, {clip} and {value_clip}"
            )
        if not (0 <= momentum < 1 and max(gamma, lam, mixed) <= 1 and min(gamma, lam, mixed) >= 0):
            raise ValueError(
                f"momentum lies in [0, 1), and gamma, lam and mixed in [0, 1]; got {momentum}, {gamma}, {lam} and "
                f"{mixed}"
            )
        policy = Policy(lm, temperature=temperature)
        super().__init__(policy, task, reward=reward, seconds=seconds, missing_end=missing_end, lr_scale=lr_scale)
        self.estimator, self.group, self.inner, self.completions = estimator, group, inner, completions
        self.kl, self.kl_target = kl, kl_target
        self.clip, self.value_clip, self.entropy, self.mixed = clip, value_clip, entropy, mixed
        self.normaliser: Normaliser = float(task.max_tokens) if normaliser == "constant" else normaliser
        self.std, self.momentum, self.tau, self.gamma, self.lam = std, momentum, tau, gamma, lam
        self.value: Values | None = None
        if estimator == "ppo":
            self.value = reward_values(self.reward, lm) if value == "reward" else HeadValues(lm)
        self.register_buffer("beta", torch.tensor(beta, dtype=torch.float64))
        self.register_buffer("baseline", torch.zeros((), dtype=torch.float64))

    def views(self, batch: Batch, progress: Progress) -> Views:
        left = 1 - progress.fraction / self.mixed if self.mixed else 0.0
        questions = [begun(self.lm, self.task, one, left) for one in self.asked(batch)]
        return Views({"questions": questions, "seed": self.seed(progress)}, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        return self.loss_of(self.rolled(views["questions"], views["seed"]))

    def improved(self, batch: Batch, step: Step) -> Loss:
        views = self.views(batch, step.progress)
        rolled = self.rolled(views["questions"], views["seed"])
        for _ in range(self.inner):
            if self.value is not None:
                step.descend(self.value_loss_of(rolled), only="value")
            loss = step.descend(self.loss_of(rolled), only="policy")
        if self.kl_target and not rolled.idle:
            self.beta.fill_(adapted_beta(float(self.beta), float(rolled.figures["kl"]), self.kl_target))
        return loss

    @torch.no_grad()
    def rolled(self, questions: Sequence[Question], seed: int) -> Rolled:
        """Draw answers to questions and judge them.

        Raises
        ------
        ValueError : not one answer of the first update has a reward, with the reasons.
        """
        drawn = self.draw([one.asked for one in questions], group=self.group, seed=seed)
        rewards = self.judge(drawn, questions)
        further = self._further(drawn, questions, rewards, seed) if self.completions else None
        tokens = drawn.tokens
        passed = self.policy.passed(tokens, "reward")
        old, ref = passed.logprobs, passed.logprobs - passed.kl
        rewards = rewards.to(old)
        worth = paid(rewards, passed.kl, tokens.answer, self._price)
        found, used, _ = self._estimated(drawn.groups(worth), questions)
        known = drawn.groups(rewards).isfinite()
        # Where an estimator leaves out an answer that has a reward, another one is missing that it compares with.
        self.leave_out(known & ~used, NO_GREEDY if self.estimator == "self_critical" else ALONE)
        rows = used.flatten().nonzero()[:, 0]
        idle = len(rows) == 0
        rows = rows if not idle else torch.zeros(1, dtype=torch.long, device=old.device)
        kept = tokens[rows]
        old, ref = old[rows, : kept.ids.shape[1]], ref[rows, : kept.ids.shape[1]]
        known = known.flatten()
        figures = {
            "reward": mean_over_processes(rewards[known].mean() if known.any() else rewards.new_zeros(())),
            "kl": mean_over_processes(passed.kl.sum(dim=1).mean()),
            "length": tokens.answer.sum(dim=1).to(old).mean(),
            "cut_off": (~drawn.ended).to(old).mean(),
            "dropped": (~used).to(old).mean(),
            "beta": self.beta.to(old),
        }
        ahead, rewards, valued = found.flatten()[rows], rewards[rows].nan_to_num(), None
        if further is not None:
            ahead = ahead[:, None] + further[rows, : kept.ids.shape[1]].to(ahead)
        if self.value is not None:
            seen = self.value.seen(self.lm, kept)
            values = self.value(seen)
            by_token = reward_with_kl(rewards, old, ref, kept.answer, self._price)
            ahead = gae(by_token, values, kept.answer, self.gamma, self.lam)
            valued = (seen, values, ahead + values)
            ahead = whitened(ahead, kept.answer)
        return Rolled(kept, old, ref, ahead, rewards, figures, valued, idle, self._given(questions))

    def loss_of(self, rolled: Rolled) -> Loss:
        """What the policy descends on drawn answers; its value means nothing but its gradient."""
        tokens, mask = rolled.tokens, rolled.tokens.answer
        passed = self.policy.passed(tokens, self.kl, ref=rolled.ref, entropy=self.entropy > 0)
        if self.estimator == "raml":
            total = reinforce_loss(passed.logprobs, mask, rolled.advantages, self.normaliser)
        else:
            total = clipped_loss(passed.logprobs, rolled.old, mask, rolled.advantages, self.clip, self.normaliser)
        if self.kl != "reward":
            total = total + float(self.beta) * mean_over_tokens(passed.kl, mask, self.normaliser)
        figures = dict(rolled.figures)
        if passed.entropy is not None:
            spread = mean_over_tokens(passed.entropy, mask, self.normaliser)
            total = total - self.entropy * spread
            figures["entropy"] = mean_over_tokens(passed.entropy.detach(), mask)
        total = total * 0 if rolled.idle else total
        if rolled.given is not None:
            told = self.lm.logprobs(rolled.given)
            total = total - mean_over_tokens(told, rolled.given.answer, self.normaliser)
        return Loss(total, figures)

    def value_loss_of(self, rolled: Rolled) -> Loss:
        """What the value descends; no gradient of it reaches the model."""
        assert self.value is not None
        assert rolled.valued is not None
        seen, old, returns = rolled.valued
        total = value_loss(self.value(seen), old, returns, rolled.tokens.answer, self.value_clip)
        return Loss(total * 0 if rolled.idle else total)

    def groups(self) -> list[Group]:
        found = super().groups()
        if self.value is not None:
            learned = [weight for weight in self.value.parameters() if weight.requires_grad]
            found.append(Group("value", learned, lr_scale=self.lr_scale * self.value.rate))
        return found

    def _further(
        self, drawn: Drawn, questions: Sequence[Question], rewards: Float64[Tensor, " n"], seed: int
    ) -> Float64[Tensor, "n t"]:
        """By how much more each token is worth than the answer it stands in; 0 outside of answers that count."""
        worth, reasons = worth_of_tokens(
            self.policy,
            drawn,
            questions,
            self.reward,
            rewards,
            completions=self.completions,
            max_tokens=self.task.max_tokens,
            stop=self.task.style.stop,
            seed=seed,
            missing_end=self.missing_end,
        )
        self.dropped = self.dropped + reasons
        return (worth - rewards[:, None]).where(drawn.tokens.answer.cpu(), 0.0).nan_to_num()

    @property
    def _price(self) -> float:
        """What a nat costs in the reward."""
        return float(self.beta) if self.kl == "reward" else 0.0

    def _given(self, questions: Sequence[Question]) -> Tokenised | None:
        """The beginnings of answers after which the policy went on."""
        rows = [(one.prompt, one.given) for one in questions if isinstance(one, Begun) and one.given]
        if not rows:
            return None
        prompts, given = zip(*rows, strict=True)
        return self.lm.encode(prompts, given).to(self.lm.device)

    def _estimated(self, worth: Float[Tensor, "g k"], questions: Sequence[Question]) -> Estimated:
        """Advantages of the answers to some questions; the running mean goes on."""
        greedy = None
        if self.estimator == "self_critical":
            likeliest = self.draw([one.asked for one in questions], temperature=0.0)
            greedy, _ = judged(likeliest, questions, self.reward, missing_end=self.missing_end)
        found = estimated(
            worth,
            self.estimator,
            greedy=greedy,
            baseline=float(self.baseline),
            momentum=self.momentum,
            std=self.std,
            tau=self.tau,
        )
        if self.estimator == "reinforce":
            self.baseline.copy_(mean_over_processes(self.baseline.new_tensor(found.baseline)))
        return found
