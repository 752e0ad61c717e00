"""Inference-time intervention (2306.03341): heads that tell right answers from wrong ones are pushed to one side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.lm.latent import head_states, heads
from autodidact.lm.local import LocalLM

AT_ONCE = 128
FOLDS = 2


def intervention(
    lm: LocalLM,
    prompts: Sequence[str],
    answers: Sequence[str],
    right: Sequence[bool],
    *,
    share: float = 0.05,
    strength: float = 10.0,
) -> Float[Tensor, "l d"]:
    r"""What to add to the concatenated heads of each layer: :math:`\alpha \sigma \theta` for some heads, 0 for others.

    A linear probe a head tells right from wrong answers by its state at the last token; of all heads the share whose
    probes do so best on answers that they were not fitted to is kept. theta is the unit vector from the mean of wrong
    to that of right answers, sigma the standard deviation of the states along it (section 3.2, "mass mean shift").

    Parameters
    ----------
    right : of each answer; both kinds must occur.
    share : of the heads, in (0, 1]; one at least. Paper: 48 of 1,024.
    strength : alpha; 0 changes nothing. Paper: 15.

    Raises
    ------
    ValueError : fewer than two right or two wrong answers, a share outside (0, 1].
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    if not 0 < share <= 1:
        raise ValueError(f"the share of heads lies in (0, 1], got {share}")
    truth = np.asarray(right, dtype=bool)
    if min(truth.sum(), (~truth).sum()) < FOLDS:
        raise ValueError(f"probes need {FOLDS} right and {FOLDS} wrong answers, got {truth.sum()} and {(~truth).sum()}")
    parts = []
    for start in range(0, len(prompts), AT_ONCE):
        pairs = lm.encode(prompts[start : start + AT_ONCE], answers[start : start + AT_ONCE], end=False)
        parts.append(head_states(lm, pairs).cpu())
    states = torch.cat(parts)
    each = states.unflatten(-1, (heads(lm), -1)).double().numpy()
    layers, count = each.shape[1:3]
    probe = LogisticRegression(max_iter=200)
    scores = np.array(
        [
            [cross_val_score(probe, each[:, layer, head], truth, cv=FOLDS).mean() for head in range(count)]
            for layer in range(layers)
        ]
    )
    best = np.argsort(-scores.reshape(-1), kind="stable")[: max(1, round(share * layers * count))]
    shift = np.zeros(each.shape[1:])
    for place in best:
        layer, head = divmod(int(place), count)
        mine = each[:, layer, head]
        theta = mine[truth].mean(axis=0) - mine[~truth].mean(axis=0)
        theta = theta / max(float(np.linalg.norm(theta)), 1e-12)
        shift[layer, head] = strength * (mine @ theta).std() * theta
    return torch.from_numpy(shift.reshape(layers, -1)).float()
