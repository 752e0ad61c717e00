"""The updates of SCoRe: a language model answers twice, and learns from what both answers are worth."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.catalog import unknown
from autodidact.data.batch import Batch
from autodidact.lm.kept import LanguageModel
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Task
from autodidact.lm.tokenised import Tokenised
from autodidact.lm.turns import AGAIN, asked_again, two_answers
from autodidact.methods.method import Loss, Progress, Views
from autodidact.methods.on_task import OnTask
from autodidact.model import Model
from autodidact.objectives import Credit, credited, mean_over_tokens, reinforce_loss, rloo, shaped
from autodidact.rewards import Answered, Reward
from autodidact.rollouts import Drawn, Policy, Question, advantages
from autodidact.rollouts.judging import answered

InLoss = Literal["exact", "k3"]


def mixed_in(questions: Sequence[Question], share: float, seed: int) -> list[Question]:
    """Those of some questions to which the reference answers too: each with the probability `share`, from the seed
    alone; those of a smaller share are among those of a larger one."""
    drawn = torch.rand(len(questions), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return [question for question, one in zip(questions, drawn.tolist(), strict=True) if one < share]


@dataclass(frozen=True)
class Attempts:
    """Two turns of an update.

    Attributes
    ----------
    first, second : tokens of the policy's first answers, and of the second ones: those which follow from them, and
        after these the ones which follow from first answers of the reference.
    first_advantages, second_advantages : of each answer, 0 where it does not count.
    figures : what the log shows.
    """

    first: Tokenised
    second: Tokenised
    first_advantages: Float[Tensor, " n"]
    second_advantages: Float[Tensor, " m"]
    figures: dict[str, Tensor]


class _Drawn(NamedTuple):
    """First answers of the policy, those of what it was before where some are mixed in, the question that each of both
    is to, and the second answers after each."""

    first: Drawn
    theirs: Drawn | None
    asked: list[Question]
    second: Drawn


class TwoTurns(OnTask):
    r"""Multi-turn policy gradients with a frozen reference (SCoRe, arXiv 2409.12917, equations 3 and 4).

    To each question several first answers are drawn, and several second ones after each of them: what the model reads
    then are the very tokens of the first answer and a request that does not say whether it was right. The baseline of a
    second answer is the mean of the others after the same first one; that of a first answer the mean of the other first
    ones. The divergence from the reference stands in the loss, with a price for each turn.

    The policy's own first answers become better and more alike while it learns. So that it goes on seeing others, first
    answers of the reference may be mixed in: one beside a question's own, with second answers of the policy after it.
    Its own tokens, which the policy did not draw, are no part of the loss; those second answers count like any other.

    Parameters
    ----------
    lm, task, reward, seconds : see `PolicyGradient`.
    request : asks for the second answer.
    rewarded_first : whether first answers are rewarded. Without, as in the first stage, their tokens have no part in
        the policy gradient.
    alpha : of the bonus for progress, 0 or more.
    credit : see `credited`.
    mixed : share of the questions, in [0, 1], each drawn for itself, to which the reference gives a first answer too.
    beta_first, beta_second : price of a nat of divergence in either turn, 0 or more.
    kl : how it is measured: "exact" over the vocabulary, or "k3".
    firsts : first answers to a question; 2 or more where they are rewarded.
    follow : second answers after each, 2 or more.
    temperature : of drawing, above 0.
    missing_end : taken off the reward of an answer that was cut off.
    lr_scale : factor on the learning rate.
    reference : what the divergence is from, see `Policy`.

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
        request: str = AGAIN,
        rewarded_first: bool = True,
        alpha: float = 10.0,
        credit: Credit = "instant",
        mixed: float = 0.0,
        beta_first: float = 0.01,
        beta_second: float = 0.01,
        kl: InLoss = "exact",
        firsts: int = 2,
        follow: int = 4,
        temperature: float = 1.0,
        missing_end: float = 0.0,
        lr_scale: float = 0.1,
        reference: LocalLM | Literal["now", "base"] = "now",
    ) -> None:
        check_turns(
            alpha,
            credit,
            kl,
            (firsts if rewarded_first else 2, follow),
            (beta_first, beta_second, missing_end),
            lr_scale,
            mixed,
        )
        if firsts < 1:
            raise ValueError(f"firsts is at least 1, got {firsts}")
        policy = Policy(lm, temperature=temperature, start=reference)
        super().__init__(policy, task, reward=reward, seconds=seconds, missing_end=missing_end, lr_scale=lr_scale)
        self.request, self.rewarded_first, self.alpha, self.credit = request, rewarded_first, alpha, credit
        self.mixed, self.beta_first, self.beta_second, self.kl = mixed, beta_first, beta_second, kl
        self.firsts, self.follow = firsts, follow

    def views(self, batch: Batch, progress: Progress) -> Views:
        return Views({"questions": self.asked(batch), "seed": self.seed(progress)}, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        return self.loss_of(self.attempted(views["questions"], views["seed"]))

    @torch.no_grad()
    def attempted(self, questions: Sequence[Question], seed: int) -> Attempts:
        """Draw both turns and judge them.

        Raises
        ------
        ValueError : not one second answer of the first update has a reward, with the reasons.
        """
        drawn = self._drawn(questions, seed)
        first, asked, second = drawn.first, drawn.asked, drawn.second
        r1 = self.judge(first, questions)
        if drawn.theirs is not None:
            r1 = torch.cat([r1, self.judge(drawn.theirs, asked[len(first) :])])
        r2 = second.groups(self.judge(second, asked))
        a2, _ = advantages(shaped(r1[None], r2[None], self.alpha)[0], rloo)
        # From here on of the policy's own first answers alone, which is what the log tells of.
        own = len(first)
        r1, r2 = first.groups(r1[:own]), r2[:own].reshape(-1, self.firsts, self.follow)
        worth = shaped(r1, r2, self.alpha)
        a1 = torch.zeros_like(r1)
        if self.rewarded_first:
            a1, _ = advantages(credited(r1, worth, self.credit), rloo)
        change = r2 - r1[..., None]
        texts = [text for text in first.texts for _ in range(self.follow)]
        edited = [a != b for a, b in zip(texts, second.texts[: len(texts)], strict=True)]
        figures = {
            "first": r1.nanmean(),
            "second": r2.nanmean(),
            "better": (change > 0).double().mean(),
            "worse": (change < 0).double().mean(),
            "edited": torch.tensor(edited).double().mean(),
            "cut_off": (~first.ended).double().mean(),
            "dropped": (~worth.isfinite()).double().mean(),
            "mixed": torch.tensor(1 - own / len(asked)),
        }
        return Attempts(
            first.tokens,
            second.tokens,
            a1.flatten().to(self.lm.device, torch.float32),
            a2.flatten().to(self.lm.device, torch.float32),
            {name: value.to(self.lm.device, torch.float32).nan_to_num() for name, value in figures.items()},
        )

    def said(self, questions: Sequence[Question], seed: int) -> list[Answered]:
        drawn = self._drawn(questions, seed)
        return [*answered(drawn.first, questions), *answered(drawn.second, drawn.asked)]

    def _drawn(self, questions: Sequence[Question], seed: int) -> _Drawn:
        first = self.draw([one.prompt for one in questions], group=self.firsts, seed=seed)
        asked = [question for question in questions for _ in range(self.firsts)]
        said, theirs = [*first.completions], None
        if among := mixed_in(questions, self.mixed, seed):
            theirs = self.draw([one.prompt for one in among], seed=seed + 2, from_start=True)
            asked, said = [*asked, *among], [*said, *theirs.completions]
        again = [
            asked_again(self.lm, one.prompt, before, self.request) for one, before in zip(asked, said, strict=True)
        ]
        return _Drawn(first, theirs, asked, self.draw(again, group=self.follow, seed=seed + 1))

    def loss_of(self, attempts: Attempts) -> Loss:
        """What the policy descends on drawn attempts; its value means nothing but its gradient.

        Both turns are passed through the model apart, for what the second one reads of the first is a prompt there.
        """
        total, terms = torch.zeros((), device=self.lm.device), dict(attempts.figures)
        for name, tokens, weights, price in (
            ("first", attempts.first, attempts.first_advantages, self.beta_first),
            ("second", attempts.second, attempts.second_advantages, self.beta_second),
        ):
            passed = self.policy.passed(tokens, self.kl)
            norm = float(self.task.max_tokens)
            kl = mean_over_tokens(passed.kl, tokens.answer, norm)
            total = total + price * kl
            if name == "second" or self.rewarded_first:
                total = total + reinforce_loss(passed.logprobs, tokens.answer, weights, norm)
            terms[f"kl_{name}"] = kl.detach() * norm
        return Loss(total, terms)

    def kept(self) -> Model:
        return LanguageModel(self.lm, self.task, again=self.request)

    def answers(self, most: int = 200) -> list[tuple[str, str]]:
        asked = self.questions[:most]
        said = two_answers(self.lm, self.task, asked, self.request)
        return [
            (self.task.prompt(one), self.task.completion(second)) for one, (_, second) in zip(asked, said, strict=True)
        ]


def check_turns(
    alpha: float,
    credit: str,
    kl: str,
    answers: tuple[int, int],
    prices: tuple[float, ...],
    lr_scale: float,
    mixed: float = 0.0,
) -> None:
    """Raise ValueError for options that make no sense.

    Parameters
    ----------
    answers : first ones that are compared with each other, and second ones after each.
    prices : of divergence in either turn, and of an answer that was cut off.
    """
    if not alpha >= 0:
        raise ValueError(f"alpha, the bonus for progress, is 0 or more, got {alpha}")
    if credit not in get_args(Credit):
        raise unknown("credit", credit, get_args(Credit))
    if kl not in get_args(InLoss):
        raise unknown("divergence in the loss", kl, get_args(InLoss))
    if not 0 <= mixed <= 1:
        raise ValueError(
            f"mixed, the share of questions with a first answer of the reference, is in [0, 1], got {mixed}"
        )
    if min(answers) < 2:
        raise ValueError(
            "a baseline needs 2 or more first answers to a question (firsts) and 2 or more second answers after each "
            f"(follow), got {answers[0]} and {answers[1]}"
        )
    if not min(prices) >= 0 or not lr_scale > 0:
        raise ValueError(
            f"prices of divergence and of a missing end are 0 or more, and lr_scale is above 0; got {prices} and "
            f"{lr_scale}"
        )
    if credit == "return" and alpha > 1:
        warnings.warn(
            f'with credit "return" a right first answer is weighed with 1 - alpha = {1 - alpha:g}: the policy is paid '
            'for failing first; "instant" is not',
            stacklevel=3,
        )
