"""What each token of an answer is worth, by completions of the answer from there on (SeqGAN, 1609.05473)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from autodidact.lm import Sampling
from autodidact.lm.lm import Completion, Message, Prompt, Tokens
from autodidact.rewards import Reward
from autodidact.rollouts.judging import Question, judged
from autodidact.rollouts.policy import Drawn, Policy


def worth_of_tokens(
    policy: Policy,
    drawn: Drawn,
    questions: Sequence[Question],
    reward: Reward,
    rewards: Float64[Tensor, " n"],
    *,
    completions: int,
    max_tokens: int,
    stop: Sequence[str] = (),
    seed: int = 0,
    missing_end: float = 0.0,
) -> tuple[Float64[Tensor, "n t"], Counter[str]]:
    r"""The return that is expected once a token is written, for each token of drawn answers (SeqGAN, equation 4).

    ::

        Q(y_<t, y_t) = mean over N completions of R(x, y_<=t and the rest),        Q(y_<T, y_T) = R(x, y)

    The rest of each is drawn by the policy from there on, and judged as answers are. A completion without a reward is
    left out; a token none of whose completions has one is worth what the whole answer is.

    Parameters
    ----------
    drawn : answers, of which `rewards` are those.
    questions : what was asked, one a group of answers.
    completions : N, of each beginning of an answer, from 1.
    max_tokens, stop, missing_end : as when the answers were drawn and judged: a completion is cut off where the whole
        answer would be.
    seed : of the completions. They are no draws of the answers themselves, even under the same seed.

    Returns
    -------
    Of each token of the answers in its place in ``drawn.tokens``, 0 elsewhere, NaN where the answer has no reward and
    no completion has one; and how many completions have none, by reason.
    """
    asked = [question for question in questions for _ in range(drawn.group)]
    starts = policy.lm.wording.prompt_ids([Prompt.of(one.asked) for one in asked])
    written = [one.tokens or () for one in drawn.completions]
    worth = [[float(value)] * len(ids) for value, ids in zip(rewards.tolist(), written, strict=True)]
    reasons = Counter[str]()
    for length in range(1, max(map(len, written))):
        rows = [row for row, ids in enumerate(written) if len(ids) > length]
        begun = [_begun(policy, asked[row], starts[row], written[row][:length]) for row in rows]
        rest = policy.draw(begun, group=completions, max_tokens=max_tokens - length, seed=seed)
        whole = [
            _whole(policy, drawn.completions[row], length, one, max_tokens, stop)
            for row, some in zip(rows, _groups(rest), strict=True)
            for one in some
        ]
        found, why = judged(
            Drawn(tuple(whole), rest.tokens, completions),
            [asked[row] for row in rows],
            reward,
            missing_end=missing_end,
        )
        reasons += why
        for row, value in zip(rows, found.reshape(-1, completions).nanmean(dim=1).tolist(), strict=True):
            worth[row][length - 1] = value if value == value else worth[row][-1]
    flat = torch.tensor([value for values in worth for value in values], dtype=torch.float64)
    places = drawn.tokens.answer.cpu()
    return flat.new_zeros(places.shape).masked_scatter(places, flat), reasons


def _begun(policy: Policy, question: Question, start: Sequence[int], ids: Sequence[int]) -> Tokens:
    """A question with the beginning of an answer, to go on from."""
    messages = (*Prompt.of(question.asked).messages, Message("assistant", policy.lm.wording.text(ids)))
    return Tokens(messages, (*start, *ids))


def _groups(rest: Drawn) -> list[tuple[Completion, ...]]:
    return [rest.completions[at : at + rest.group] for at in range(0, len(rest), rest.group)]


def _whole(
    policy: Policy, answer: Completion, length: int, rest: Completion, max_tokens: int, stop: Sequence[str]
) -> Completion:
    """The first tokens of an answer with another rest, as one answer: a text that ends it may lie across both."""
    ids = [*(answer.tokens or ())[:length], *(rest.tokens or ())]
    logprobs = [*(answer.logprobs or ())[:length], *(rest.logprobs or ())]
    return policy.lm.completion(ids, logprobs, Sampling(1, max_tokens, stop=tuple(stop)))
