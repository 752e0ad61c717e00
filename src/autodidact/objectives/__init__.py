"""Objectives: pure functions of tensors, exact in float32, over the batch of all processes."""

from autodidact.measures import rankme
from autodidact.objectives.advantages import gae, group_normalised, rloo, running_baseline, self_critical, whitened
from autodidact.objectives.barlow_twins import barlow_twins, barlow_twins_floor
from autodidact.objectives.contrastive import info_nce, same_slot
from autodidact.objectives.correlation import centred, cross_correlation, standardised
from autodidact.objectives.dcl import coupling, dcl, dclw, dclw_weights
from autodidact.objectives.diffusion import (
    ancestral_step,
    denoising_loss,
    kept_signal,
    noise_schedule,
    noised,
    step_divergence,
    step_log_density,
)
from autodidact.objectives.dino import dino_loss, masked_distillation, teacher_assignments
from autodidact.objectives.distillation import distillation
from autodidact.objectives.joint_labels import (
    aggregated_logits,
    joint_cross_entropy,
    joint_labels,
    label_cross_entropy,
)
from autodidact.objectives.kl import (
    adapted_beta,
    kl_categorical,
    kl_k1,
    kl_k2,
    kl_k3,
    reward_with_kl,
    token_entropy,
)
from autodidact.objectives.likelihood import mean_over_tokens, sequence_logprobs, sft_loss
from autodidact.objectives.mixing import mixing_gap
from autodidact.objectives.moco import cross_view_contrast, momentum_contrast
from autodidact.objectives.neighbours import leave_one_out
from autodidact.objectives.nt_xent import nt_xent
from autodidact.objectives.policy_gradient import (
    clipped_loss,
    raml_weights,
    reinforce_loss,
    trajectory_balance,
    value_loss,
)
from autodidact.objectives.prediction import cosine_prediction
from autodidact.objectives.preference import bradley_terry_loss, dpo_loss, implicit_rewards, preference_margins
from autodidact.objectives.reconstruction import latent_mse, latent_smooth_l1, masked_reconstruction
from autodidact.objectives.swav import power_law, sinkhorn, swapped_prediction
from autodidact.objectives.triplet import pair_triplets
from autodidact.objectives.turns import Credit, credited, shaped
from autodidact.objectives.vicreg import VICRegTerms, vicreg

__all__ = [
    "Credit",
    "VICRegTerms",
    "adapted_beta",
    "aggregated_logits",
    "ancestral_step",
    "barlow_twins",
    "barlow_twins_floor",
    "bradley_terry_loss",
    "centred",
    "clipped_loss",
    "cosine_prediction",
    "coupling",
    "credited",
    "cross_correlation",
    "cross_view_contrast",
    "dcl",
    "dclw",
    "dclw_weights",
    "denoising_loss",
    "dino_loss",
    "distillation",
    "dpo_loss",
    "gae",
    "group_normalised",
    "implicit_rewards",
    "info_nce",
    "joint_cross_entropy",
    "joint_labels",
    "kept_signal",
    "kl_categorical",
    "kl_k1",
    "kl_k2",
    "kl_k3",
    "label_cross_entropy",
    "latent_mse",
    "latent_smooth_l1",
    "leave_one_out",
    "masked_distillation",
    "masked_reconstruction",
    "mean_over_tokens",
    "mixing_gap",
    "momentum_contrast",
    "noise_schedule",
    "noised",
    "nt_xent",
    "pair_triplets",
    "power_law",
    "preference_margins",
    "raml_weights",
    "rankme",
    "reinforce_loss",
    "reward_with_kl",
    "rloo",
    "running_baseline",
    "same_slot",
    "self_critical",
    "sequence_logprobs",
    "sft_loss",
    "shaped",
    "sinkhorn",
    "standardised",
    "step_divergence",
    "step_log_density",
    "swapped_prediction",
    "teacher_assignments",
    "token_entropy",
    "trajectory_balance",
    "value_loss",
    "vicreg",
    "whitened",
]
