"""Activations that are computed again: the same training, and less that is kept for it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.methods.image.simclr import SimCLR
from autodidact.training import Settings, train
from autodidact.training.recompute import Recomputed, recompute, restore


def encoder(name):
    torch.manual_seed(0)
    return build(name, image_size=8 if name.startswith("small") else 32, channels=1)


def trained(name, again):
    source = open_source("digits", progress=False).at(np.arange(64))
    torch.manual_seed(0)
    method = SimCLR(build(name, schema=source.schema))
    settings = Settings(steps=3, batch_size=16, optimizer="sgd", lr=0.1, recompute=again, accelerator="cpu", devices=1)
    return train(method, source, settings, quiet=True).state_dict()


@pytest.mark.parametrize("name", ["small:convnet?width=4", "small:vit?width=16&depth=3&heads=2&drop_path=0.2"])
def test_weights_and_batch_statistics_are_those_of_a_training_that_keeps_everything(name):
    plain, again = trained(name, False), trained(name, True)
    for key, value in plain.items():
        torch.testing.assert_close(again[key], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "name", ["small:resnet?width=0.125", "small:dependency_vit?width=16&depth=3&heads=2", "timm:test_vit"]
)
def test_less_is_kept_for_the_backward_pass_and_the_gradient_is_the_same(name):
    plain = encoder(name).train()
    again = copy.deepcopy(plain)
    assert len(recompute(again)) >= 2
    images = torch.rand(4, 1, *plain.spec["image_size"], generator=torch.Generator().manual_seed(1))
    kept = {}
    for called, network in (("plain", plain), ("again", again)):
        sizes = []

        def note(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with saved_tensors_hooks(note, lambda tensor: tensor):
            loss = network(images).pooled.square().sum()
        kept[called] = sum(sizes)
        loss.backward()
    assert kept["again"] < 0.7 * kept["plain"]
    for (label, one), two in zip(plain.named_parameters(), again.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(two.grad, one.grad, rtol=1e-5, atol=1e-7, msg=label)
    for one, two in zip(plain.buffers(), again.buffers(), strict=True):
        assert torch.equal(one, two)


def test_a_copy_computes_with_its_own_weights_and_the_parts_get_their_classes_back():
    network = encoder("small:convnet?width=4").train()
    classes = [type(part) for part in network.modules()]
    parts = recompute(network)
    assert all(isinstance(part, Recomputed) for part in parts)
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert not twin(torch.rand(2, 1, 8, 8)).pooled.any()
    restore(parts)
    assert [type(part) for part in network.modules()] == classes


def test_a_network_without_repeated_parts_is_refused():
    with pytest.raises(ValueError, match="Linear has no repeated parts"):
        recompute(nn.Linear(2, 2))
