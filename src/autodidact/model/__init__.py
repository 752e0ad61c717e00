"""Models: what an encoder gives, and how a result is saved and loaded."""

from autodidact.model.encoder import Encoded, Encoder, Masked, Parsed
from autodidact.model.model import Ability, Model, Weightless, load_model

__all__ = ["Ability", "Encoded", "Encoder", "Masked", "Model", "Parsed", "Weightless", "load_model"]
