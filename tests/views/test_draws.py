"""Randomness for a device comes from one generator at home."""

from __future__ import annotations

import pytest
import torch

from autodidact.views.draws import brought


def test_a_generator_that_is_there_already_is_used_as_it_is(generator):
    assert brought(generator, torch.device("cpu")) is generator


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_generator_for_an_accelerator_follows_from_the_one_at_home():
    first, again = (brought(torch.Generator().manual_seed(3), torch.device("cuda")) for _ in range(2))
    assert first.device.type == "cuda"
    assert first.initial_seed() == again.initial_seed()
