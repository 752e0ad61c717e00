"""The next token, drawn by inverse CDF from numbers settled beforehand so that rows stay independent; and the stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from autodidact.lm.lm import Prompt, Sampling


def uniforms(prompt: Prompt, sample: int, sampling: Sampling) -> Float64[np.ndarray, " t"]:
    """The numbers in [0, 1) that sample `sample` of a prompt is drawn with, one a token.

    They follow from the seed, the prompt and the sample alone; a longer completion begins with the same ones.
    """
    origin = f"{sampling.seed} {prompt.digest} {sample}".encode()
    generator = np.random.default_rng(int.from_bytes(sha256(origin).digest()[:16], "big"))
    return generator.random(sampling.max_tokens)


def pick(
    logits: Float[Tensor, "n v"], sampling: Sampling, uniform: Float64[Tensor, " n"] | None = None
) -> Int[Tensor, "n 1"]:
    """The next token of each row.

    Logits are divided by the temperature; the `top_k` likeliest tokens stay; of these the fewest likeliest ones that
    hold at least `top_p` of what is left; tokens as likely as the last that stays do too. Of those, in the order of
    their ids, it is the first whose cumulative share exceeds the row's uniform number. At temperature 0 it is the
    likeliest, and of equals the first.

    Parameters
    ----------
    uniform : in [0, 1); not needed at temperature 0.
    """
    if sampling.temperature == 0:
        return logits.argmax(dim=1, keepdim=True)
    assert uniform is not None
    # The largest comes to 0 first, for a tiny temperature must not make infinities.
    scaled = (logits - logits.amax(dim=1, keepdim=True)) / sampling.temperature
    if 0 < sampling.top_k < logits.shape[1]:
        least = scaled.topk(sampling.top_k, dim=1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    weights = scaled.exp()
    if sampling.top_p < 1:
        ordered = weights.sort(dim=1, descending=True).values
        cumulative = ordered.cumsum(dim=1, dtype=torch.float64)
        stays = cumulative - ordered < sampling.top_p * cumulative[:, -1:]
        least = ordered.masked_fill(~stays, torch.inf).amin(dim=1, keepdim=True)
        weights = weights.masked_fill(weights < least, 0)
    cumulative = weights.cumsum(dim=1, dtype=torch.float64)
    total = cumulative[:, -1:]
    # Rounding must not carry a number just below 1 past the last token.
    bound = torch.minimum(uniform[:, None] * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulative, bound, right=True)


class Drawing:
    """As a logits processor: leaves the drawn token alone possible, and notes how likely the model held it to be.

    Parameters
    ----------
    uniform : the number of each row at each step; None at temperature 0.

    Attributes
    ----------
    logprobs : of each step so far, log-probability of each row's token under the model itself: temperature, top-k and
        top-p do not enter. NaN where the model's logits are no numbers.
    """

    def __init__(self, sampling: Sampling, uniform: Float64[Tensor, "n t"] | None) -> None:
        self.sampling = sampling
        self.uniform = uniform
        self.logprobs: list[Float[Tensor, " n"]] = []

    def __call__(self, input_ids: Int[Tensor, "n t"], scores: Float[Tensor, "n v"]) -> Float[Tensor, "n v"]:
        step = len(self.logprobs)
        chosen = pick(scores, self.sampling, None if self.uniform is None else self.uniform[:, step])
        # NaN logits find no place in a cumulative sum; the NaN that is noted here tells of them.
        chosen = chosen.clamp(max=scores.shape[1] - 1)
        self.logprobs.append(scores.gather(1, chosen)[:, 0] - scores.logsumexp(dim=1))
        return scores.fill_(-torch.inf).scatter_(1, chosen, 0.0)


class Stopping:
    """As a stopping criterion: which rows have written a text that ends them, seen from their last tokens.

    Parameters
    ----------
    stop : these texts.
    prompt : tokens of each row that belong to the prompt.
    text : what tokens say.
    """

    def __init__(self, stop: Sequence[str], prompt: int, text: Callable[[Sequence[int]], str]) -> None:
        self.text = text
        self.stop = stop
        self.prompt = prompt
        # A token is a byte at least, so no more tokens than bytes can hold the text.
        self.tail = max(len(text.encode()) for text in stop)
        self.last = {text[-1] for text in stop} | {"\ufffd"}
        self.closes: dict[int, bool] = {}
        self.done: list[bool] = []

    def __call__(self, input_ids: Int[Tensor, "n t"], scores: Any) -> Bool[Tensor, " n"]:
        self.done = self.done or [False] * len(input_ids)
        for row, ids in enumerate(input_ids[:, self.prompt :][:, -self.tail :].tolist()):
            if not self.done[row] and self._may_close(ids[-1]):
                text = self.text(ids)
                self.done[row] = any(stop in text for stop in self.stop)
        return torch.tensor(self.done, device=input_ids.device)

    def _may_close(self, token: int) -> bool:
        """Whether a text that ends the completion can end within the token: most cannot, and need no closer look."""
        if token not in self.closes:
            self.closes[token] = not self.last.isdisjoint(self.text([token]))
        return self.closes[token]
