"""Where the class of each kind of saved model lives."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from autodidact.catalog.nearest import unknown

KINDS = {
    "diffusion": "autodidact.encoders.diffusion:DiffusionModel",
    "encoder": "autodidact.encoders.kept:EncoderModel",
    "judge": "autodidact.lm.judge:Judge",
    "language_model": "autodidact.lm.kept:LanguageModel",
    "predictor": "autodidact.encoders.kept:PredictorModel",
    "reward_model": "autodidact.lm.reward_model:RewardModel",
    "projected": "autodidact.encoders.kept:ProjectedModel",
    "self_feedback": "autodidact.lm.feedback:FeedbackModel",
    "transformed_predictor": "autodidact.encoders.transformed:TransformedPredictor",
}


def resolve(kind: str) -> Any:
    """The class of a kind of model; an unknown kind raises ValueError."""
    if kind not in KINDS:
        raise unknown("kind of model", kind, KINDS)
    module, _, name = KINDS[kind].partition(":")
    return getattr(import_module(module), name)
