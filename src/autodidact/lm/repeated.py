"""Prompts of which some are alike: each of them gets draws of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from autodidact.lm.lm import LM, Asked, Completion, Prompt, Sampling


def generate_each(lm: LM, prompts: Sequence[Asked], sampling: Sampling) -> list[list[Completion]]:
    """What `LM.generate` gives, but that prompts which are alike get different draws, as one prompt's samples do."""
    asked = [Prompt.of(prompt) for prompt in prompts]
    times = Counter(asked)
    left: dict[Prompt, Iterator[Completion]] = {}
    for count in sorted(set(times.values())):
        alike = [prompt for prompt, many in times.items() if many == count]
        drawn = lm.generate(alike, replace(sampling, n=count * sampling.n))
        left |= {prompt: iter(found) for prompt, found in zip(alike, drawn, strict=True)}
    return [[next(left[prompt]) for _ in range(sampling.n)] for prompt in asked]
