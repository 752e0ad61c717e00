"""Randomness on a device, from randomness at home."""

from __future__ import annotations

import torch


def brought(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """A generator on the device: the given one where it is there already, else one that is seeded by it."""
    if generator.device.type == device.type:
        return generator
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    return torch.Generator(device).manual_seed(seed)
