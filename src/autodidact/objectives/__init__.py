"""Objectives: pure functions of tensors, exact in float32, over the batch of all processes."""

from autodidact.measures import rankme
from autodidact.objectives.barlow_twins import barlow_twins, barlow_twins_floor, cross_correlation, standardised
from autodidact.objectives.contrastive import info_nce
from autodidact.objectives.dcl import coupling, dcl, dclw, dclw_weights
from autodidact.objectives.nt_xent import nt_xent
from autodidact.objectives.reconstruction import latent_mse, masked_reconstruction

__all__ = [
    "barlow_twins",
    "barlow_twins_floor",
    "coupling",
    "cross_correlation",
    "dcl",
    "dclw",
    "dclw_weights",
    "info_nce",
    "latent_mse",
    "masked_reconstruction",
    "nt_xent",
    "rankme",
    "standardised",
]
