"""Losses that trl has too, against trl's own code on the same log-probabilities; skipped where trl is not installed.

Run with trl 1.16.0. Its trainers are not made: their loss is called on what it reads of them.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor

from autodidact.objectives import clipped_loss, dpo_loss, kl_k3, reinforce_loss, sequence_logprobs, sft_loss
from autodidact.objectives.likelihood import mean_over_tokens

trl = pytest.importorskip("trl", reason="trl is not installed, and nothing here needs it: pip install trl")

N, LONGEST, BETA = 8, 6, 0.1
BEHIND = SimpleNamespace(
    gather=lambda x: x, gather_for_metrics=lambda x: x, reduce=lambda x, reduction: x, num_processes=1, device="cpu"
)


def answers(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Log-probabilities (float32) and mask of answers of 1 to 6 tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([1, 2, 3, 4, 5, 6, 3, 2])
    mask = torch.arange(LONGEST) < lengths[:, None]
    return -3 * torch.rand(N, LONGEST, generator=generator).where(mask, 0.0), mask


def near(values: Tensor, size: float, seed: int) -> Tensor:
    return values + size * torch.randn(values.shape, generator=torch.Generator().manual_seed(seed))


def same(ours: Tensor, theirs: Tensor, leaf: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-7)
    mine, other = (torch.autograd.grad(loss, leaf, retain_graph=True)[0] for loss in (ours, theirs))
    assert float(mine.abs().max()) > 1e-4
    torch.testing.assert_close(mine, other, rtol=0, atol=5e-8)


def of_trl(trainer: Any, logprobs: Tensor, mask: Tensor, inputs: dict[str, Any], **settings: Any) -> Tensor:
    """What a trainer of policy gradients makes of given log-probabilities."""
    told = logprobs, torch.zeros_like(logprobs), None
    owner = MagicMock(**settings, accelerator=BEHIND, aux_loss_enabled=False, epsilon_low=0.2, epsilon_high=0.2)
    owner._get_per_token_logps_and_entropies = lambda *_, **__: told
    ids = torch.zeros(mask.shape, dtype=torch.long)
    given = {"prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1], "completion_ids": ids, "completion_mask": mask.long()}
    found: Tensor = trainer._compute_loss(owner, None, {**given, **inputs})
    return found


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_dpo_is_trls_sigmoid_and_with_the_likelihood_of_the_chosen_its_sft_besides(alpha: float) -> None:
    (chosen, mask), (rejected, other) = answers(0), answers(1)
    masks = torch.cat([mask, other.roll(3, 0)])
    leaf = torch.cat([chosen, rejected]).requires_grad_()
    both = leaf.where(masks, 0.0)
    references = near(both.detach().sum(1), 1.0, 2).chunk(2)
    nothing = torch.zeros_like(both)
    said = SimpleNamespace(log_probs=both, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool())
    owner = MagicMock(
        accelerator=BEHIND,
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=["sigmoid", "sft"] if alpha else ["sigmoid"],
        loss_weights=[1.0, alpha] if alpha else [1.0],
        beta=BETA,
        use_weighting=False,
        _total_train_tokens=0,
        _tp_size=1,
    )
    # The first token of all is predicted from nothing, and stands before the answers.
    padded = torch.cat([torch.zeros(2 * N, 1, dtype=torch.long), masks.long()], 1)
    inputs = {
        "input_ids": padded,
        "attention_mask": torch.ones_like(padded),
        "completion_mask": padded,
        "ref_chosen_logps": references[0],
        "ref_rejected_logps": references[1],
    }
    theirs = trl.DPOTrainer._compute_loss(owner, lambda **_: said, inputs, False)
    first, second = sequence_logprobs(both, masks).chunk(2)
    ours = dpo_loss(first, second, *references, BETA)
    if alpha:
        ours = ours + alpha * sft_loss(both[:N], masks[:N])
    same(ours, theirs, leaf)


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("loss", ["grpo", "bnpo", "dapo", "dr_grpo"])
def test_the_clipped_loss_is_that_of_trls_grpo_under_each_of_its_normalisers(loss: str, beta: float) -> None:
    logprobs, mask = answers()
    logprobs.requires_grad_()
    old, still = near(logprobs.detach(), 0.3, 1), near(logprobs.detach(), 0.5, 2)
    advantages = torch.randn(N, generator=torch.Generator().manual_seed(3))
    theirs = of_trl(
        trl.GRPOTrainer,
        logprobs,
        mask,
        {
            "advantages": advantages,
            "old_per_token_logps": old,
            "ref_per_token_logps": still,
            "num_items_in_batch": mask.sum(),
        },
        loss_type=loss,
        beta=beta,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        use_vllm=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=LONGEST,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        _entropy_bonus_enabled=False,
    )
    normaliser = {"grpo": "sequence", "dr_grpo": float(LONGEST)}.get(loss, "token")
    ours = clipped_loss(logprobs, old, mask, advantages, 0.2, normaliser)
    same(ours + beta * mean_over_tokens(kl_k3(logprobs, still, mask), mask, normaliser), theirs, logprobs)


@pytest.mark.parametrize("moved", [0.0, 0.3])
def test_the_clipped_loss_of_sums_is_that_of_trls_rloo_and_on_the_first_step_pushes_as_reinforce_does(
    moved: float,
) -> None:
    logprobs, mask = answers()
    logprobs.requires_grad_()
    sums = sequence_logprobs(logprobs, mask)
    old = near(sums.detach(), moved, 1)
    advantages = torch.randn(N, generator=torch.Generator().manual_seed(3))
    theirs = of_trl(trl.RLOOTrainer, logprobs, mask, {"advantages": advantages, "old_logps": old})
    whole = torch.ones(N, 1, dtype=torch.bool)
    same(clipped_loss(sums[:, None], old[:, None], whole, advantages, 0.2, "sequence"), theirs, logprobs)
    if not moved:
        first = torch.autograd.grad(reinforce_loss(logprobs, mask, advantages), logprobs, retain_graph=True)[0]
        torch.testing.assert_close(first, torch.autograd.grad(theirs, logprobs)[0], rtol=0, atol=5e-8)
