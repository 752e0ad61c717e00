"""Rewards: what says how good a language model's answers are, whoever says it."""

from autodidact.rewards.names import named
from autodidact.rewards.reward import Answered, Learner, Lessons, Reward, Unrewarded, rewarded

__all__ = ["Answered", "Learner", "Lessons", "Reward", "Unrewarded", "named", "rewarded"]
