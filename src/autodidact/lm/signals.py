"""Signals of internal consistency (2407.14507): how sure a model seems of its answers, without knowing the right one.

Every signal is a number for each answer, and more means surer: entropies and divergences are negated. What cannot be
told, such as the spread of a single sample, is None. What a signal needs of a model is declared and asked for by name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autodidact.catalog import unknown
from autodidact.lm.decoding import jensen_shannon
from autodidact.lm.latent import answer_exits, depth, heads, heads_scaled, settled_layers
from autodidact.lm.lm import LM, Capability, Completion, Incapable, Message, Prompt, Sampling
from autodidact.lm.local import LocalLM
from autodidact.lm.names import address_of
from autodidact.lm.task import Task
from autodidact.lm.tokenised import Tokenised
from autodidact.measures.uncertainty import eigen_score, equivalence_classes, semantic_entropy, token_confidence

Values = list[list[float | None]]
"""Of each question, one number for each of its answers."""

IS_TRUE = "\nIs this answer true or false? It is"
TRUTHS = (" true", " false")
HOW_SURE = "\nHow sure are you of this answer, from 0 to 100?"
FOLLOWS = "Text: {text}\nStatement: {statement}\nDoes the text say so? yes or no:"
YES_NO = (" yes", " no")
STATEMENTS = re.compile(r"[^.;,\n]+")
"""What counts as one statement of an answer."""
AT_ONCE = 128
"""Answers whose layers are looked at together."""
_UNTOLD = "the signal '{name}' needs the log-probabilities of answers; {lm} does not tell them"


@dataclass(frozen=True)
class Asked:
    """A question, and what a model said to it.

    Attributes
    ----------
    input : the question.
    prompt : as the model was asked.
    answers : one or several samples.
    """

    input: str
    prompt: str
    answers: Sequence[Completion]

    def meant(self, task: Task) -> list[str | None]:
        """What each answer comes to."""
        return [task.meant(one.text) for one in self.answers]


@dataclass(frozen=True)
class Signal:
    """One way to tell how sure a model is.

    Attributes
    ----------
    of : model, task and questions with answers -> a number for each answer.
    needs : of the model.
    logprobs : whether answers must come with the log-probabilities of their tokens.
    share : whether the numbers are shares in [0, 1], which can be held against how often answers are right.
    """

    of: Callable[[LM, Task, Sequence[Asked]], Values]
    needs: tuple[Capability, ...] = ()
    logprobs: bool = False
    share: bool = False


def signal_values(name: str, lm: LM, task: Task, asked: Sequence[Asked]) -> Values:
    """The numbers of one signal.

    Raises
    ------
    Incapable : the model lacks what the signal needs; the message names both.
    ValueError : no such signal, or logits that are no numbers.
    """
    if name not in SIGNALS:
        raise unknown("signal", name, SIGNALS)
    signal = SIGNALS[name]
    check_signal(name, lm)
    if signal.logprobs and any(one.logprobs is None for row in asked for one in row.answers):
        raise Incapable(_UNTOLD.format(name=name, lm=lm.name))
    return signal.of(lm, task, asked)


def check_signal(name: str, lm: LM) -> None:
    """Raise `Incapable` where a model lacks what a signal needs, ValueError where there is no such signal.

    Of a model behind an address no layers can be read, and it is not asked for the log-probabilities of its answers
    (see `autodidact.lm.endpoint.EndpointLM`): a signal of these is refused without a request.
    """
    if name not in SIGNALS:
        raise unknown("signal", name, SIGNALS)
    if SIGNALS[name].logprobs and address_of(lm) is not None:
        raise Incapable(_UNTOLD.format(name=name, lm=lm.name))
    check_model(f"the signal '{name}'", lm, SIGNALS[name].needs)


def check_model(who: str, lm: LM, needs: Sequence[Capability]) -> None:
    """Raise `Incapable`, naming who needs it, where a model lacks a capability; an address is not asked for layers."""
    if "latent" in needs and address_of(lm) is not None:
        raise Incapable(f"{who} reads the layers of a model, and {lm.name} is behind an address")
    lm.need(who, *needs)


def vote_shares(_: LM, task: Task, asked: Sequence[Asked]) -> Values:
    """S1: share of the samples that come to the same as this one; None for one that comes to nothing."""
    found = []
    for row in asked:
        meant = row.meant(task)
        counts = Counter(meant)
        found.append([None if one is None else counts[one] / len(meant) for one in meant])
    return found


def meaning_entropy(_: LM, task: Task, asked: Sequence[Asked]) -> Values:
    """S2: negated entropy of what the samples come to, by their numbers."""
    return _alike(asked, [_entropy(row, _meanings(row, task)) for row in asked])


def weighted_entropy(_: LM, task: Task, asked: Sequence[Asked]) -> Values:
    """S2: the same where samples weigh as their probabilities, brought to one length by a mean over tokens."""
    return _alike(asked, [_entropy(row, _meanings(row, task), weighted=True) for row in asked])


def entailed_entropy(lm: LM, task: Task, asked: Sequence[Asked]) -> Values:
    """S2: the same where the model says which samples mean the same: each must follow from the other."""

    def same(a: str, b: str) -> bool:
        return bool(lm.choose([FOLLOWS.format(text=a, statement=b)], YES_NO)[0, 0] > 0.5)

    classes = [equivalence_classes([one.text.strip() for one in row.answers], same) for row in asked]
    return _alike(asked, [_entropy(row, each) for row, each in zip(asked, classes, strict=True)])


def mean_logprob(_: LM, task: Task, asked: Sequence[Asked]) -> Values:
    """S3: log-probability of a token of the answer, on average."""
    return [[token_confidence(one.logprobs).mean if one.logprobs else None for one in row.answers] for row in asked]


def least_logprob(_: LM, task: Task, asked: Sequence[Asked]) -> Values:
    """S3: log-probability of the least likely token of the answer."""
    return [[token_confidence(one.logprobs).least if one.logprobs else None for one in row.answers] for row in asked]


def sample_entropy(_: LM, task: Task, asked: Sequence[Asked]) -> Values:
    """S3: negated entropy of whole answers, whatever they mean: the mean log-probability of the samples."""
    totals = [[sum(one.logprobs or ()) for one in row.answers] for row in asked]
    return _alike(asked, [float(np.mean(row)) if len(row) > 1 else None for row in totals])


def token_entropy(lm: LM, task: Task, asked: Sequence[Asked]) -> Values:
    """S3: negated entropy of the distribution before each token of the answer, on average."""

    def of(logits: dict[int, Tensor]) -> Tensor:
        logprobs = logits[max(logits)].log_softmax(dim=1)
        return (logprobs.exp() * logprobs).sum(dim=1)

    return _by_layers(lm, asked, lambda last: [last], of)


def p_true(lm: LM, task: Task, asked: Sequence[Asked]) -> Values:
    """S4: probability of "true" when the model is shown its answer and asked whether it is (2207.05221)."""
    flat = [_then(row.prompt, one, IS_TRUE) for row in asked for one in row.answers]
    return _rows(asked, lm.choose(flat, TRUTHS)[:, 0].tolist() if flat else [])


def verbal(lm: LM, task: Task, asked: Sequence[Asked]) -> Values:
    """S5: the number that the model says when it is asked how sure it is, from 0 to 100, divided by 100."""
    sampling = Sampling(max_tokens=8, temperature=0.0)
    flat = [_then(row.prompt, one, HOW_SURE) for row in asked for one in row.answers]
    said = [re.search(r"\d+(?:\.\d+)?", found[0].text) for found in lm.generate(flat, sampling)] if flat else []
    return _rows(asked, [None if one is None else min(100.0, float(one[0])) / 100 for one in said])


def support(lm: LM, task: Task, asked: Sequence[Asked]) -> Values:
    """S7: share of the other samples that bear out each statement of an answer, the mean over statements (2303.08896).

    The model says whether a sample does.
    """
    prompts, places = list[str](), list[tuple[int, int, int]]()
    for r, row in enumerate(asked):
        for k, one in enumerate(row.answers):
            statements = [text.strip() for text in STATEMENTS.findall(one.text) if text.strip()]
            for s, statement in enumerate(statements):
                others = [other.text.strip() for j, other in enumerate(row.answers) if j != k]
                prompts += [FOLLOWS.format(text=other, statement=statement) for other in others]
                places += [(r, k, s)] * len(others)
    yes = lm.choose(prompts, YES_NO)[:, 0] if prompts else np.empty(0)
    by_answer: dict[tuple[int, int], list[float]] = {}
    for (r, k, _), value in zip(places, yes.tolist(), strict=True):
        by_answer.setdefault((r, k), []).append(value)
    means = {place: float(np.mean(values)) for place, values in by_answer.items()}
    return [[means.get((r, k)) for k in range(len(row.answers))] for r, row in enumerate(asked)]


def early_exits(lm: LM, task: Task, asked: Sequence[Asked]) -> Values:
    """S8: negated Jensen-Shannon divergence of the middle layer to the last, a token of the answer."""

    def of(logits: dict[int, Tensor]) -> Tensor:
        early, last = (logits[layer].log_softmax(dim=1) for layer in (min(logits), max(logits)))
        return -jensen_shannon(early, last)

    return _by_layers(lm, asked, lambda last: [last // 2, last], of)


def settling(lm: LM, task: Task, asked: Sequence[Asked]) -> Values:
    """S8: negated share of the layers after which the likeliest token stays what it is, a token of the answer."""
    return _by_layers(
        lm, asked, lambda last: list(range(last + 1)), lambda logits: -settled_layers(logits) / max(logits)
    )


def spread_of_states(lm: LM, task: Task, asked: Sequence[Asked]) -> Values:
    """S8: negated eigen-score of the samples' last tokens in the middle layer (INSIDE, 2402.03744)."""
    local = _local(lm)
    found: list[float | None] = []
    for row in asked:
        tokenised = _tokens(local, [(row.prompt, one) for one in row.answers])
        with torch.no_grad(), local.evaluating():
            middle = depth(local) // 2
            states = local.hidden(tokenised, [middle])[middle]
        last = states[torch.arange(len(states)), tokenised.lengths.to(states.device) - 1].float()
        score = eigen_score(last.cpu().numpy())
        found.append(None if score is None else -score)
    return _alike(asked, found)


def head_agreement(lm: LM, task: Task, asked: Sequence[Asked]) -> Values:
    """S9: share of single heads of the middle layer that come to the same answer, with the others at half strength."""
    local = _local(lm)
    layer, count = depth(local) // 2, heads(local)
    sampling = Sampling(max_tokens=task.max_tokens, temperature=0.0, stop=task.style.stop)
    said: list[list[str | None]] = [[] for _ in asked]
    for head in range(count):
        kept = torch.full((count,), 0.5)
        kept[head] = 1.0
        with heads_scaled(local, {layer: kept}):
            for row, found in zip(said, local.generate([row.prompt for row in asked], sampling), strict=True):
                row.append(task.meant(found[0].text))
    return [
        [None if one is None else others.count(one) / count for one in row.meant(task)]
        for row, others in zip(asked, said, strict=True)
    ]


def _then(prompt: str, said: Completion, request: str) -> Prompt:
    return Prompt.of(prompt).then(Message("assistant", said.text), Message("user", request))


def _meanings(row: Asked, task: Task) -> np.ndarray:
    """Class of each answer; those that come to nothing are each of their own class."""
    meant = row.meant(task)
    numbers = {text: number for number, text in enumerate(dict.fromkeys(meant))}
    return np.array([len(meant) + k if one is None else numbers[one] for k, one in enumerate(meant)], dtype=np.int64)


def _entropy(row: Asked, classes: np.ndarray, *, weighted: bool = False) -> float | None:
    weights = None
    if weighted:
        weights = np.array([np.mean(one.logprobs) if one.logprobs else -np.inf for one in row.answers])
    found = semantic_entropy(classes, weights)
    return None if found is None else -found


def _alike(asked: Sequence[Asked], values: Sequence[float | None]) -> Values:
    """A number of a question, for each of its answers."""
    return [[value] * len(row.answers) for row, value in zip(asked, values, strict=True)]


def _rows(asked: Sequence[Asked], flat: Sequence[float | None]) -> Values:
    left = iter(flat)
    return [[next(left) for _ in row.answers] for row in asked]


def _local(lm: LM) -> LocalLM:
    if not isinstance(lm, LocalLM):
        raise Incapable(f"the layers of {lm.name} cannot be read here")
    return lm


def _tokens(lm: LocalLM, pairs: Sequence[tuple[str, Completion]]) -> Tokenised:
    return lm.encode(
        [prompt for prompt, _ in pairs], [one.text if one.tokens is None else one.tokens for _, one in pairs]
    )


def _by_layers(
    lm: LM,
    asked: Sequence[Asked],
    layers: Callable[[int], list[int]],
    of: Callable[[dict[int, Tensor]], Tensor],
) -> Values:
    """A number for each token of the answers from early exits, averaged over each answer."""
    local = _local(lm)
    flat = [(row.prompt, one) for row in asked for one in row.answers]
    found: list[float | None] = []
    for start in range(0, len(flat), AT_ONCE):
        tokenised = _tokens(local, flat[start : start + AT_ONCE])
        with torch.no_grad(), local.evaluating():
            exits = answer_exits(local, tokenised, layers(depth(local)))
        # Of the exits themselves: a divergence or the likeliest token of what is no number can be a number.
        if any(bool(logits.isnan().any()) for logits in exits.values()):
            raise ValueError(f"{local.label} gave logits that are no numbers; its weights may have diverged")
        each = of(exits)
        found += [float(one.mean()) for one in each.split(tokenised.answer.sum(dim=1).tolist())]
    return _rows(asked, found)


SIGNALS: dict[str, Signal] = {
    "vote_share": Signal(vote_shares, share=True),
    "semantic_entropy": Signal(meaning_entropy),
    "weighted_entropy": Signal(weighted_entropy, logprobs=True),
    "entailed_entropy": Signal(entailed_entropy, ("choose",)),
    "mean_logprob": Signal(mean_logprob, logprobs=True),
    "least_logprob": Signal(least_logprob, logprobs=True),
    "sample_entropy": Signal(sample_entropy, logprobs=True),
    "token_entropy": Signal(token_entropy, ("latent",)),
    "p_true": Signal(p_true, ("choose",), share=True),
    "verbal": Signal(verbal, share=True),
    "support": Signal(support, ("choose",), share=True),
    "early_exits": Signal(early_exits, ("latent",)),
    "settling": Signal(settling, ("latent",)),
    "spread_of_states": Signal(spread_of_states, ("latent",)),
    "head_agreement": Signal(head_agreement, ("latent",), share=True),
}
"""By name; S6, a critique in words, is no number: `autodidact.lm.updates` has it."""
