"""Training with compiled networks: what is learned is the same."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
import torch
from torch import nn
from torch._dynamo.utils import counters
from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.methods.image.simclr import SimCLR
from autodidact.training import Settings, train

compiled, backend = nn.Module.compile, sys.argv[1]
nn.Module.compile = lambda network: compiled(network, backend=backend)

def trained(encoder, compile):
    torch.manual_seed(0)
    method, losses = SimCLR(build(encoder, schema=digits.schema)), []
    original = method.loss
    def noted(*given):
        loss = original(*given)
        losses.append(float(loss.total.detach()))
        return loss
    method.loss = noted
    settings = Settings(steps=3, batch_size=32, lr=1e-3, accelerator="cpu", compile=compile)
    return losses, train(method, digits, settings, quiet=True).state_dict()

digits, found = open_source("digits", progress=False), {}
for encoder in sys.argv[2:]:
    eager, weights = trained(encoder, False)
    before = counters["stats"]["unique_graphs"]
    losses, same = trained(encoder, True)
    found[encoder] = {
        "eager": eager,
        "compiled": losses,
        "graphs": counters["stats"]["unique_graphs"] - before,
        "names": list(same) == list(weights),
        "apart": max(float((same[name].double() - weights[name].double()).abs().max()) for name in weights),
    }
print(json.dumps(found))
"""
ENCODERS = ("small:convnet?width=8&layers=2", "small:vit?width=16&depth=1&heads=2&patch=2")


def test_compiled_networks_learn_the_same() -> None:
    # In a process of its own: the checks of shapes that tests run with cannot be compiled. "aot_eager" does all but the
    # last stage, the making of machine code, which needs a compiler and most of a minute.
    command = [sys.executable, "-c", PROGRAM, "aot_eager", *ENCODERS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for found in json.loads(done.stdout.splitlines()[-1]).values():
        assert found["graphs"] > 0
        assert len(found["compiled"]) == 3
        assert found["compiled"] == pytest.approx(found["eager"], abs=1e-4)
        assert found["compiled"][0] != found["compiled"][-1]
        assert found["names"]
        assert found["apart"] < 1e-4
