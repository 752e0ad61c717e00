"""The same network with random weights: what the architecture gives without any training."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from autodidact.data.source import Positions, Source
from autodidact.encoders import build_from_spec
from autodidact.encoders.kept import EncoderModel, PredictorModel
from autodidact.model import Encoder, Model

CALIBRATION = 2_048


def random_encoder(encoder: Encoder, seed: int) -> Encoder:
    """A network of the same settings, with random weights that follow from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_from_spec(encoder.spec)


def random_model(model: EncoderModel | PredictorModel, seed: int, source: Source, positions: Positions) -> Model:
    """A model of the same settings with random weights, read out in the same way.

    Its batch norms, if any, get the statistics of (up to 2,048 of) the training samples at `positions`: without them a
    deep random network's embedding degenerates, and the baseline would be weaker than it needs to be.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = type(model).from_settings(model.settings)
    norms = [module for module in made.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return made.eval()
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(positions)[:CALIBRATION]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        # None averages over all batches alike.
        norm.momentum = None
    made.eval()
    for norm in norms:
        norm.train()
    parts = [part for part in np.array_split(chosen, -(-len(chosen) // 256)) if len(part) > 1]
    with torch.no_grad():
        for part in parts:
            made.embed(source.batch(np.sort(part)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        if not parts:
            norm.reset_running_stats()
    return made.eval()
