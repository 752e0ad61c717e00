"""Language models: one small interface over those that run here, those behind an address, and scripted ones."""

from autodidact.lm.lm import LM, Asked, Capability, Completion, Incapable, Message, Prompt, Sampling, Score

__all__ = ["LM", "Asked", "Capability", "Completion", "Incapable", "Message", "Prompt", "Sampling", "Score"]
