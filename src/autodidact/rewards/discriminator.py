"""A network that learns to tell a model's answers from the wanted ones, while the model learns from what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import torch
import yaml
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, dropout

from autodidact.catalog import unknown
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Task
from autodidact.lm.tokenised import Tokenised
from autodidact.rewards.reward import Answered, Learner, Lessons

NAME = "discriminator"
ROWS = 256
"""Answers that are judged at once."""


class Discriminator(Learner):
    r"""How likely an answer is to be a wanted one, and not the model's, in (0, 1) (SeqGAN, Yu et al., 1609.05473).

    A small network D reads the tokens of the input and of the answer. As often as its lessons say, it descends

    .. math:: - \mathrm{mean}_{y \sim task} \log D(x, y) - \mathrm{mean}_{y \sim \pi} \log (1 - D(x, y))

    (halved), with fresh answers of the model to some questions, and for each of them one of the outputs that the task
    has for the same input, drawn at random. An input may stand among the examples many times, with another output each
    time: where there is but one input, the outputs are texts that the model is to write the like of. The paper's
    network is a convolution over the whole sequence; here it is a GRU, which also reads an input before the answer.

    Where D gives all answers the same, no answer is better than another, and the model learns nothing.

    Parameters
    ----------
    lm : whose tokens are read; it is not kept.
    task : with examples.
    width : of the network, from 1.
    most : tokens of an input that are read, its last ones, from 0; 0 judges answers whatever was asked.
    drop : share of the features that are dropped while it learns, in [0, 1).
    lessons : how it learns. Paper: ``Lessons(every=1, rounds=5, passes=3)``, after a training of its own.

    Raises
    ------
    ValueError : a task without examples, or a number out of its range.
    """

    needs_wanted: ClassVar = True

    def __init__(
        self,
        lm: LocalLM,
        task: Task,
        *,
        width: int = 64,
        most: int = 64,
        drop: float = 0.25,
        lessons: Lessons | None = None,
    ) -> None:
        super().__init__()
        if not task.examples:
            raise ValueError(
                f"the reward '{NAME}' learns what wanted outputs look like, and the task has none: examples: FILE.jsonl"
            )
        if width < 1 or most < 0 or not 0 <= drop < 1:
            raise ValueError(
                f"of the reward '{NAME}' width is at least 1, most is 0 or more and drop lies in [0, 1); got {width}, "
                f"{most} and {drop}"
            )
        self.lessons = lessons or Lessons()
        self.most, self.drop = most, drop
        self.wording = lm.wording
        self.wanted: dict[str, list[str]] = {}
        for one in task.examples:
            self.wanted.setdefault(one.input, []).append(one.output.strip())
        symbols = int(lm.causal.config.get_text_config().vocab_size)
        self.turn, self.end = symbols, symbols + 1
        self.network = Reader(symbols + 2, width)

    @torch.no_grad()
    def judge(self, answers: Sequence[Answered]) -> list[float]:
        texts = [(one.input, one.answer) for one in answers]
        parts = [self._logits(texts[start : start + ROWS]) for start in range(0, len(texts), ROWS)]
        return torch.cat(parts).sigmoid().tolist() if parts else []

    def learning(self, answers: Sequence[Answered], generator: torch.Generator) -> Float[Tensor, ""]:
        chosen = torch.rand(len(answers), generator=generator, dtype=torch.float64).tolist()
        real = []
        for one, share in zip(answers, chosen, strict=True):
            outputs = self.wanted[one.input]
            real.append((one.input, outputs[int(share * len(outputs))]))
        drawn = [(one.input, one.answer) for one in answers]
        logits = self._logits([*real, *drawn], self.drop)
        # As many of either, so that the mean is half of both means.
        is_real = torch.arange(len(logits), device=logits.device) < len(real)
        return binary_cross_entropy_with_logits(logits, is_real.to(logits))

    def _logits(self, texts: Sequence[tuple[str, str]], drop: float = 0.0) -> Float[Tensor, " n"]:
        inputs, answers = [list(column) for column in zip(*texts, strict=True)]
        shown = dict(zip(dict.fromkeys(inputs), self.wording.answer_ids([*dict.fromkeys(inputs)]), strict=True))
        rows = [
            ([*shown[given][max(0, len(shown[given]) - self.most) :], self.turn], [*ids, self.end])
            for given, ids in zip(inputs, self.wording.answer_ids(answers), strict=True)
        ]
        tokens = Tokenised.of(rows).to(next(self.parameters()).device)
        found: Tensor = self.network(tokens.ids, tokens.answer, drop)
        return found


class Reader(nn.Module):
    """A number for each text, from the tokens of one part of it after those that come before.

    Parameters
    ----------
    symbols : different tokens.
    width : of embeddings and states.
    """

    def __init__(self, symbols: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        self.states = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(2 * width, 1)

    def forward(self, ids: Int[Tensor, "n t"], read: Bool[Tensor, "n t"], drop: float = 0.0) -> Float[Tensor, " n"]:
        """Of the largest of each feature over the tokens that are `read`, and of the last state there.

        Parameters
        ----------
        read : the last tokens of each text, one or more; what stands after them is padding.
        drop : share of features that are dropped, by torch's own generator.
        """
        states, _ = self.states(dropout(self.embedding(ids), drop, training=drop > 0))
        # In float32 the numbers of reads are exact; the last True of a row is where their count is reached first.
        last = read.float().cumsum(dim=1).argmax(dim=1)
        largest = states.masked_fill(~read[..., None], -torch.inf).amax(dim=1)
        features = torch.cat([largest, states[torch.arange(len(ids), device=ids.device), last]], dim=1)
        found: Tensor = self.out(dropout(features, drop, training=drop > 0))[:, 0].float()
        return found


def discriminator(query: str, lm: LocalLM, task: Task) -> Discriminator:
    """From what is written after its name: ``width=32&every=2``, or nothing.

    Raises
    ------
    ValueError : no such argument, or one that is no number.
    """
    given = _numbers(query)
    timing = {field.name for field in fields(Lessons)}
    known = timing | {"width", "most", "drop"}
    for name in given:
        if name not in known:
            raise unknown(f"argument of the reward '{NAME}'", name, known)
    lessons = Lessons(**{name: value for name, value in given.items() if name in timing})
    return Discriminator(lm, task, lessons=lessons, **{n: value for n, value in given.items() if n not in timing})


def _numbers(query: str) -> Mapping[str, Any]:
    found = {}
    for part in query.split("&") if query else ():
        name, mark, value = part.partition("=")
        number = yaml.safe_load(value)
        kinds = (int, float) if name in ("rate", "drop") else (int,)
        if not (name and mark and isinstance(number, kinds)) or isinstance(number, bool):
            raise ValueError(
                f"arguments of the reward '{NAME}' are written {NAME}?name=number&name=number, whole but for rate and "
                f"drop; got '{part}'"
            )
        found[name] = number
    return found
