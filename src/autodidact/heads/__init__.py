"""Heads: what stands between an encoder and an objective, and is mostly thrown away afterwards."""

from autodidact.heads.jepa import JEPAPredictor
from autodidact.heads.mlp import LinearHead, predictor, projector
from autodidact.heads.pixels import MirroredDecoder, PixelHead, convolutional_decoder
from autodidact.heads.pretext import JigsawHead, pretext_head
from autodidact.heads.prototypes import PrototypeHead
from autodidact.heads.set_predictor import SetPredictor, copied_predictor, direct_predictor
from autodidact.heads.synced_norm import SyncedBatchNorm, synchronised
from autodidact.heads.task_weights import UncertaintyWeights
from autodidact.heads.token_decoder import TokenDecoder, decoder_width
from autodidact.heads.transformer import Tail, TransformerLayer, initialise, sinusoidal, sinusoidal_grid

__all__ = [
    "JEPAPredictor",
    "JigsawHead",
    "LinearHead",
    "MirroredDecoder",
    "PixelHead",
    "PrototypeHead",
    "SetPredictor",
    "SyncedBatchNorm",
    "Tail",
    "TokenDecoder",
    "TransformerLayer",
    "UncertaintyWeights",
    "convolutional_decoder",
    "copied_predictor",
    "decoder_width",
    "direct_predictor",
    "initialise",
    "predictor",
    "pretext_head",
    "projector",
    "sinusoidal",
    "sinusoidal_grid",
    "synchronised",
]
