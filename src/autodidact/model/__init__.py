"""Models: what an encoder gives, and how a result is saved and loaded."""

from autodidact.model.encoder import Encoded, Encoder, Masked
from autodidact.model.model import Ability, Model, Weightless, load_model

__all__ = ["Ability", "Encoded", "Encoder", "Masked", "Model", "Weightless", "load_model"]
