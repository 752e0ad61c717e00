"""Roll-outs: answers that a language model draws while it learns, what they are worth, and how far it has moved.

The parts that every on-policy method of language models shares, in the order in which an update uses them:

1. `Policy` : the model that is trained with its frozen reference. ``policy.draw(prompts, ...)`` gives `Drawn`: k
   answers to each prompt, with exactly the tokens that were drawn.
2. `judged` : asks a `rewards.Reward` for a number an answer, NaN where there is none, with the reasons. Answers that
   were cut off pay for it. ``drawn.groups(...)`` lays values out by prompt.
3. `advantages` : of `objectives.rloo` and its like, group by group, answers without a reward left out.
4. ``policy.passed(tokens, ...)`` : log-probabilities with gradient, the divergence from the reference, entropy.
5. `paid` : rewards less the price of the divergence. The losses of `objectives.policy_gradient` take all these.
"""

from autodidact.rollouts.advantages import Baseline, advantages, of_siblings
from autodidact.rollouts.judging import Question, judged, paid
from autodidact.rollouts.policy import Divergence, Drawn, Passed, Policy

__all__ = [
    "Baseline",
    "Divergence",
    "Drawn",
    "Passed",
    "Policy",
    "Question",
    "advantages",
    "judged",
    "of_siblings",
    "paid",
]
