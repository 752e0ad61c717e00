"""A language model that is trained by its own answers, beside the frozen model that it started from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from autodidact.catalog import unknown
from autodidact.lm.adapters import adapter_is_silent, adapter_off
from autodidact.lm.lm import Asked, Completion, Sampling
from autodidact.lm.local import LocalLM
from autodidact.lm.repeated import generate_each
from autodidact.lm.tokenised import Tokenised
from autodidact.objectives.kl import kl_categorical, kl_k1, kl_k2, kl_k3, token_entropy

Divergence = Literal["reward", "k2", "k3", "exact"]
"""How the divergence from the reference is paid for. "reward": k1, taken off the reward; the others stand in the loss.
See `objectives.kl`; "exact" sums over the vocabulary."""
SAMPLED: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = MappingProxyType(
    {"reward": kl_k1, "k2": kl_k2, "k3": kl_k3}
)


@dataclass(frozen=True)
class Drawn:
    """Answers that a policy drew, `group` to each prompt, one group after another.

    Attributes
    ----------
    completions : the answers, as the model gave them.
    tokens : prompts with exactly the tokens that were drawn; none is added, not even an end that was not reached.
    group : answers to each prompt.
    """

    completions: tuple[Completion, ...]
    tokens: Tokenised
    group: int

    def __len__(self) -> int:
        return len(self.completions)

    @property
    def texts(self) -> list[str]:
        """The answers without spaces around them."""
        return [one.text.strip() for one in self.completions]

    @property
    def ended(self) -> Bool[Tensor, " n"]:
        """Whether an answer came to its end, and was not cut off."""
        return torch.tensor([one.finish != "length" for one in self.completions])

    def groups(self, values: Shaped[Tensor, " n"]) -> Shaped[Tensor, "g k"]:
        """Values of the answers, a row a prompt."""
        return values.reshape(-1, self.group)


@dataclass(frozen=True)
class Passed:
    """What a forward pass over given answers says of each of their tokens; 0 for all other tokens.

    Attributes
    ----------
    logprobs : under the policy, with gradient.
    kl : divergence from the reference: k1 without gradient, or what stands in the loss, with it.
    entropy : of the next token, with gradient; None where it was not asked for.
    """

    logprobs: Float[Tensor, "n t"]
    kl: Float[Tensor, "n t"]
    entropy: Float[Tensor, "n t"] | None = None


class Policy(nn.Module):
    """A language model that draws, its log-probabilities, and its divergence from where it started.

    Dropout stays off: the policy that learns is the one that drew, so that on the first step the ratio of both is
    exactly 1. At another temperature than 1 the policy is the distribution at that temperature, in drawing and in all
    log-probabilities, those of the reference too.

    Parameters
    ----------
    lm : what is trained.
    temperature : above 0.
    start : the reference: a model; "base", for what the model is with its adapter switched off; or "now", for what it
        is now, of which no copy is made where that is the same.
    """

    def __init__(
        self, lm: LocalLM, *, temperature: float = 1.0, start: LocalLM | Literal["now", "base"] = "now"
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"a policy draws at a temperature above 0, got {temperature}")
        self.lm = lm
        self.temperature = temperature
        if start == "base" and not lm.has_adapter:
            raise ValueError(f"{lm.label} has no adapter to switch off, so that it needs a reference of its own")
        self.start = reference_of(lm) if start == "now" else None if isinstance(start, str) else start

    def train(self, mode: bool = True) -> Policy:
        super().train(mode)
        self.lm.eval()
        return self

    def draw(
        self,
        prompts: Sequence[Asked],
        *,
        group: int = 1,
        max_tokens: int,
        stop: Sequence[str] = (),
        seed: int = 0,
        temperature: float | None = None,
        from_start: bool = False,
    ) -> Drawn:
        """Draw answers to prompts, of which some may be alike; they follow from weights, prompts and seed alone.

        Parameters
        ----------
        group : answers to each prompt, from 1.
        max_tokens : at which an answer is cut off.
        stop : texts that end an answer. Their tokens were chosen by the policy and count as its tokens.
        temperature : instead of the policy's own; 0 for the likeliest answer.
        from_start : whether the reference draws, and not the policy.
        """
        heat = self.temperature if temperature is None else temperature
        sampling = Sampling(group, max_tokens, heat, stop=tuple(stop), seed=seed)
        with self._at_start() if from_start else nullcontext(self.lm) as lm:
            found = [one for answers in generate_each(lm, prompts, sampling) for one in answers]
        asked = [prompt for prompt in prompts for _ in range(group)]
        tokens = self.lm.encode(asked, [one.tokens or () for one in found])
        return Drawn(tuple(found), tokens.to(self.lm.device), group)

    def passed(
        self,
        tokens: Tokenised,
        divergence: Divergence = "reward",
        *,
        ref: Float[Tensor, "n t"] | None = None,
        entropy: bool = False,
    ) -> Passed:
        """Log-probabilities of answers, and how far the policy is from its reference there.

        Parameters
        ----------
        ref : log-probabilities under the reference, where they are known already; "exact" needs more than these.
        """
        check_divergence(divergence)
        tokens = tokens.to(self.lm.device)
        logits = self._logits(self.lm, tokens)
        logprobs = _chosen(logits, tokens)
        if divergence == "exact":
            with torch.no_grad(), self._at_start() as lm:
                theirs = self._logits(lm, tokens)
            kl = _placed(kl_categorical(logits[None], theirs[None])[0], tokens)
        else:
            kl = SAMPLED[divergence](logprobs, self.reference(tokens) if ref is None else ref, tokens.answer)
        return Passed(
            logprobs,
            kl.detach() if divergence == "reward" else kl,
            _placed(token_entropy(logits[None])[0], tokens) if entropy else None,
        )

    @torch.no_grad()
    def reference(self, tokens: Tokenised) -> Float[Tensor, "n t"]:
        """Log-probabilities of answers under the reference."""
        tokens = tokens.to(self.lm.device)
        with self._at_start() as lm:
            return _chosen(self._logits(lm, tokens), tokens)

    def _logits(self, lm: LocalLM, tokens: Tokenised) -> Float[Tensor, "m v"]:
        logits = lm.answer_logits(tokens)
        return logits / self.temperature if self.temperature != 1 else logits

    def _at_start(self) -> AbstractContextManager[LocalLM]:
        """The reference, ready to be asked."""
        return nullcontext(self.start) if self.start is not None else _switched_off(self.lm)


@contextmanager
def _switched_off(lm: LocalLM) -> Iterator[LocalLM]:
    with adapter_off(lm):
        yield lm


def reference_of(lm: LocalLM) -> LocalLM | None:
    """A frozen copy of a model; None where its adapter, switched off, leaves just what the model is now."""
    return None if adapter_is_silent(lm) else lm.frozen()


def check_divergence(divergence: str) -> None:
    """Raise ValueError for a name that is none."""
    if divergence not in get_args(Divergence):
        raise unknown("divergence", divergence, get_args(Divergence))


def _chosen(logits: Float[Tensor, "m v"], tokens: Tokenised) -> Float[Tensor, "n t"]:
    """Log-probabilities of the tokens of answers, in their places."""
    said = tokens.ids[tokens.answer]
    return _placed(logits.gather(1, said[:, None])[:, 0] - logits.logsumexp(dim=1), tokens)


def _placed(values: Float[Tensor, " m"], tokens: Tokenised) -> Float[Tensor, "n t"]:
    """Values of the tokens of answers in their places, 0 elsewhere."""
    return values.new_zeros(tokens.ids.shape).masked_scatter(tokens.answer, values)
