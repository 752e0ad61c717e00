"""Heads: what stands between an encoder and an objective, and is mostly thrown away afterwards."""

from autodidact.heads.mlp import LinearHead, predictor, projector
from autodidact.heads.transformer import Tail, TransformerLayer, initialise, sinusoidal

__all__ = ["LinearHead", "Tail", "TransformerLayer", "initialise", "predictor", "projector", "sinusoidal"]
