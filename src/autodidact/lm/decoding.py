"""Decoding by a rule: the next token is the likeliest of what a rule makes of a model's logits and layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autodidact.lm.latent import depth, exit_logits
from autodidact.lm.lm import Asked, Completion, Incapable, Prompt, Sampling
from autodidact.lm.local import LocalLM
from autodidact.lm.tokenised import batches


@dataclass(frozen=True)
class Next:
    """What is known before a token is taken.

    Attributes
    ----------
    ids, attention : all tokens so far, with padding on the left.
    logits : of the model.
    hidden : states of every layer at the last place, the embeddings first; the last layer's have gone through the norm.
    """

    ids: Int[Tensor, "n t"]
    attention: Int[Tensor, "n t"]
    logits: Float[Tensor, "n v"]
    hidden: tuple[Float[Tensor, "n d"], ...]


AT_ONCE = 64
"""Prompts whose first tokens are looked at together."""
Rule = Callable[[Next], Float[Tensor, "n v"]]
"""Scores of the next token."""


def decode(
    lm: LocalLM, prompts: Sequence[Asked], sampling: Sampling, rule: Rule, *, begun: Sequence[Sequence[int]] = ()
) -> list[Completion]:
    """The completion of each prompt whose every token has the highest score.

    Parameters
    ----------
    sampling : of which the length and the texts that end a completion count.
    begun : tokens that each completion begins with.

    Raises
    ------
    ValueError : logits that are no numbers, or too long a prompt.
    """
    starts = lm.wording.prompt_ids([Prompt.of(prompt) for prompt in prompts])
    first = [list(tokens) for tokens in begun] or [[] for _ in starts]
    for ids in starts:
        if lm.context is not None and len(ids) + sampling.max_tokens > lm.context:
            raise ValueError(
                f"a prompt of {len(ids)} tokens and max_tokens of {sampling.max_tokens} exceed {lm.label}'s context of "
                f"{lm.context}"
            )
    found: dict[int, Completion] = {}
    with torch.no_grad(), lm.evaluating():
        for rows in batches([len(ids) + sampling.max_tokens for ids in starts], lm.budget):
            tokens, logprobs = _taken(lm, [starts[k] + first[k] for k in rows], sampling, rule)
            for k, ids, each in zip(rows, tokens, logprobs, strict=True):
                # Those that were given are not scored; that they were taken is not the model's doing.
                found[k] = lm.completion([*first[k], *ids], [0.0] * len(first[k]) + each, sampling)
    return [found[k] for k in range(len(starts))]


def _taken(
    lm: LocalLM, starts: list[list[int]], sampling: Sampling, rule: Rule
) -> tuple[list[list[int]], list[list[float]]]:
    """The tokens that follow each start, and their log-probabilities under the model; none ends early."""
    width = max(map(len, starts))
    # What is attended to nowhere may be any token.
    ids = torch.tensor([[0] * (width - len(start)) + start for start in starts], device=lm.device)
    attention = torch.tensor([[0] * (width - len(start)) + [1] * len(start) for start in starts], device=lm.device)
    cache, new, done = None, ids, torch.zeros(len(starts), dtype=torch.bool, device=lm.device)
    logprobs: list[Tensor] = []
    for _ in range(sampling.max_tokens):
        out = lm.causal(
            input_ids=new,
            attention_mask=attention,
            position_ids=(attention.cumsum(dim=1) - 1).clamp(min=0)[:, -new.shape[1] :],
            past_key_values=cache,
            use_cache=True,
            output_hidden_states=True,
        )
        cache = out.past_key_values
        logits = out.logits[:, -1].float()
        if not logits.isfinite().all():
            raise ValueError(f"{lm.label} gave logits that are no numbers; its weights may have diverged")
        scores = rule(Next(ids, attention, logits, tuple(states[:, -1] for states in out.hidden_states)))
        new = scores.argmax(dim=1, keepdim=True)
        logprobs.append(logits.gather(1, new)[:, 0] - logits.logsumexp(dim=1))
        ids = torch.cat([ids, new], dim=1)
        attention = torch.cat([attention, attention.new_ones(len(ids), 1)], dim=1)
        done |= torch.isin(new[:, 0], torch.tensor(lm.ends, device=lm.device))
        if sampling.stop:
            texts = [lm.wording.text(row) for row in ids[:, width:].tolist()]
            done |= torch.tensor([any(stop in text for stop in sampling.stop) for text in texts], device=lm.device)
        if done.all():
            break
    return ids[:, width:].tolist(), torch.stack(logprobs, dim=1).tolist()


def plausible(logits: Float[Tensor, "n v"], alpha: float) -> Float[Tensor, "n v"]:
    r"""Log-probabilities of the tokens with :math:`p \ge \alpha \max p`; minus infinity for all others (2210.15097).

    alpha = 1 leaves the likeliest alone, 0 all.
    """
    logprobs = logits.log_softmax(dim=1)
    floor = logprobs.amax(dim=1, keepdim=True) + torch.tensor(alpha).log()
    return logprobs.masked_fill(logprobs < floor, -torch.inf)


def likeliest(known: Next) -> Float[Tensor, "n v"]:
    """Greedy decoding."""
    return known.logits


def against(amateur: LocalLM, alpha: float = 0.1) -> Rule:
    r"""Contrastive decoding (2210.15097, section 3): :math:`\log p_{expert} - \log p_{amateur}` of plausible tokens.

    Parameters
    ----------
    amateur : with the same tokens; it reads the whole text anew for each token.
    alpha : in [0, 1], see `plausible`.
    """

    def rule(known: Next) -> Float[Tensor, "n v"]:
        places = (known.attention.cumsum(dim=1) - 1).clamp(min=0)
        with amateur.evaluating():
            weak = amateur.causal(
                input_ids=known.ids, attention_mask=known.attention, position_ids=places, use_cache=False
            ).logits[:, -1]
        if weak.shape != known.logits.shape:
            raise Incapable(f"{amateur.label} has other tokens than the model that it is to be contrasted with")
        return plausible(known.logits, alpha) - weak.float().log_softmax(dim=1)

    return rule


def across_layers(lm: LocalLM, layers: Sequence[int], alpha: float = 0.1) -> Rule:
    r"""DoLa (2309.03883, section 2): the last layer against that early one which differs most from it.

    Of the layers it is the one whose early exit has the largest Jensen-Shannon divergence to the last, token by token.

    Parameters
    ----------
    layers : from 0, the embeddings, up to the last but one.
    """
    if not layers or not all(0 <= layer < depth(lm) for layer in layers):
        raise ValueError(f"early layers lie from 0 to {depth(lm) - 1}, got {list(layers)}")

    def rule(known: Next) -> Float[Tensor, "n v"]:
        early = torch.stack([exit_logits(lm, known.hidden[layer], layer).log_softmax(dim=1) for layer in layers])
        last = known.logits.log_softmax(dim=1)
        premature = jensen_shannon(early, last[None]).argmax(dim=0)
        weak = early[premature, torch.arange(len(last), device=last.device)]
        return plausible(known.logits, alpha) - weak

    return rule


def jensen_shannon(p: Float[Tensor, "*n v"], q: Float[Tensor, "*n v"]) -> Float[Tensor, "*n"]:
    """Jensen-Shannon divergence of distributions given as log-probabilities, in nats, in [0, log 2]."""
    middle = torch.logaddexp(p, q) - torch.tensor(2.0).log()
    half = [(one.exp() * (one - middle)).where(one > -torch.inf, 0.0).sum(dim=-1) for one in (p, q)]
    return (half[0] + half[1]) / 2


def first_tokens(lm: LocalLM, prompts: Sequence[Asked], count: int) -> Int[Tensor, "n k"]:
    """The likeliest first tokens of a completion of each prompt, the likeliest first."""
    found = []
    with torch.no_grad(), lm.evaluating():
        for start in range(0, len(prompts), AT_ONCE):
            some = prompts[start : start + AT_ONCE]
            # The token that stands in for the first one is not looked at.
            logits = lm.answer_logits(lm.encode(some, [[0]] * len(some)))
            found.append(logits.topk(min(count, logits.shape[1]), dim=1).indices)
    return torch.cat(found)
