"""Prompts with their completions as tensors of token ids, and how many of them go through a model at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Tokenised:
    """Prompts with their completions, padded on the right.

    Attributes
    ----------
    ids : the tokens of prompt and completion.
    attention : where there is a token, not padding.
    answer : where the token belongs to the completion, its end token included; never in the first column, for a token
        needs one before it to be predicted from.
    """

    ids: Int[Tensor, "n t"]
    attention: Bool[Tensor, "n t"]
    answer: Bool[Tensor, "n t"]

    @classmethod
    def of(cls, rows: Sequence[tuple[Sequence[int], Sequence[int]]], pad: int = 0) -> Tokenised:
        """From the ids of each prompt and of its completion; `pad` fills the rest."""
        longest = max((len(prompt) + len(answer) for prompt, answer in rows), default=0)
        ids = torch.full((len(rows), longest), pad, dtype=torch.long)
        attention = torch.zeros(len(rows), longest, dtype=torch.bool)
        marked = torch.zeros(len(rows), longest, dtype=torch.bool)
        for row, (prompt, answer) in enumerate(rows):
            begin, end = len(prompt), len(prompt) + len(answer)
            ids[row, :end] = torch.tensor([*prompt, *answer], dtype=torch.long)
            attention[row, :end] = True
            marked[row, begin:end] = True
        return cls(ids, attention, marked)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Int[Tensor, " n"]:
        """Tokens of each row, padding left out."""
        return self.attention.sum(dim=1)

    def __getitem__(self, rows: Sequence[int] | Int[Tensor, " m"]) -> Tokenised:
        """Some of the rows, as wide as the longest of them."""
        chosen = torch.as_tensor(rows, dtype=torch.long, device=self.ids.device)
        attention = self.attention[chosen]
        width = int(attention.sum(dim=1).max()) if len(chosen) else 0
        return Tokenised(self.ids[chosen, :width], attention[:, :width], self.answer[chosen, :width])

    def to(self, device: torch.device | str) -> Tokenised:
        return Tokenised(self.ids.to(device), self.attention.to(device), self.answer.to(device))


def batches(lengths: Sequence[int], budget: int, *, most: int | None = None) -> list[list[int]]:
    """Indices of rows that go through a model together: the longest first, rows times longest within the budget.

    A row that is longer than the budget goes alone; `most` bounds the number of rows too. The longest come first, so
    that what does not fit into memory fails at once.
    """
    found: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        fits = bool(found) and (len(found[-1]) + 1) * lengths[found[-1][0]] <= budget
        if fits and (most is None or len(found[-1]) < most):
            found[-1].append(index)
        else:
            found.append([index])
    return found
