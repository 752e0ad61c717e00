"""Texts of a random recurrent network: it knows how likely each text is, and nobody else does (SeqGAN, 1609.05473)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int
from torch import Tensor, nn

from autodidact.lm.task import Demonstration, Style, Task

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
START = ">"
"""What every text is written after."""


class Oracle:
    """An LSTM whose weights are drawn from a normal distribution, over texts of one length (SeqGAN, section 4.1).

    Its symbols are hard to foresee but by what stands before them, and there is nothing to know of them but that. What
    a model writes can be judged exactly, by the likelihood under the oracle. A model that writes little but what the
    oracle holds likeliest is judged well too, so variety has to be looked at beside it.

    Parameters
    ----------
    symbols : how many there are, from 2 to 62.
    length : of the texts, in symbols, from 1.
    width : of embeddings and states. Paper: 32.
    spread : standard deviation of the weights, above 0; the smaller, the nearer texts are to pure chance. Paper: 1.
    seed : of the weights.

    Attributes
    ----------
    alphabet : the symbols.
    """

    def __init__(
        self, *, symbols: int = 50, length: int = 12, width: int = 32, spread: float = 1.0, seed: int = 0
    ) -> None:
        if not 2 <= symbols <= len(LETTERS) or length < 1 or width < 1 or not spread > 0:
            raise ValueError(
                f"an oracle has 2 to {len(LETTERS)} symbols, a length and a width of 1 or more and a spread above 0; "
                f"got {symbols}, {length}, {width} and {spread}"
            )
        self.alphabet, self.length = LETTERS[:symbols], length
        generator = torch.Generator().manual_seed(seed)
        # One embedding more, for the start.
        self._embedding = nn.Embedding(symbols + 1, width, dtype=torch.float64)
        self._cell = nn.LSTMCell(width, width, dtype=torch.float64)
        self._out = nn.Linear(width, symbols, dtype=torch.float64)
        with torch.no_grad():
            for part in (self._embedding, self._cell, self._out):
                for weights in part.parameters():
                    drawn = torch.randn(weights.shape, generator=generator, dtype=torch.float64)
                    weights.copy_(spread * drawn)

    def texts(self, n: int, seed: int) -> list[str]:
        """Texts that it draws."""
        drawn, _ = self._passed(n, torch.Generator().manual_seed(seed), None)
        return ["".join(self.alphabet[place] for place in row) for row in drawn.tolist()]

    def nats(self, texts: Sequence[str]) -> Float64[Tensor, " n"]:
        """What each text has cost it to foresee, in nats a symbol.

        Raises
        ------
        ValueError : a text of another length, or with another symbol.
        """
        for text in texts:
            if len(text) != self.length or not set(text) <= set(self.alphabet):
                raise ValueError(f"texts have {self.length} symbols of {self.alphabet}, got {text!r}")
        places = {symbol: place for place, symbol in enumerate(self.alphabet)}
        given = torch.tensor([[places[symbol] for symbol in text] for text in texts], dtype=torch.long)
        _, logprobs = self._passed(len(texts), None, given.reshape(len(texts), self.length))
        return -logprobs.mean(dim=1)

    def task(self, texts: Sequence[str]) -> Task:
        """To write texts like some that are given."""
        style = Style(opening="", demonstration="{input}{output}", question="{input}", stop=())
        return Task(
            "Write a text like these.",
            examples=tuple(Demonstration(START, text) for text in texts),
            style=style,
            max_tokens=self.length + 1,
        )

    @torch.no_grad()
    def _passed(
        self, n: int, generator: torch.Generator | None, given: Int[Tensor, "n t"] | None
    ) -> tuple[Int[Tensor, "n t"], Float64[Tensor, "n t"]]:
        """Symbols that were given, or are drawn where there is a generator, with their log-probabilities."""
        last = torch.full((n,), len(self.alphabet))
        state = None
        symbols, logprobs = [], []
        for place in range(self.length):
            state = self._cell(self._embedding(last), state)
            each = self._out(state[0]).log_softmax(dim=1)
            last = given[:, place] if given is not None else torch.multinomial(each.exp(), 1, generator=generator)[:, 0]
            symbols.append(last)
            logprobs.append(each.gather(1, last[:, None])[:, 0])
        return torch.stack(symbols, dim=1), torch.stack(logprobs, dim=1)
