"""The head of self-distillation: cosines of a bottleneck with prototypes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from autodidact.heads import PrototypeHead, projector


def test_scores_are_cosines_of_the_bottleneck_with_the_prototypes():
    torch.manual_seed(0)
    head = PrototypeHead(6, 10, hidden=8, bottleneck=4)
    x = torch.randn(5, 6)
    inner = head.mlp(x).detach()
    expected = [[float(normalize(a, dim=0) @ normalize(b, dim=0)) for b in head.prototypes.detach()] for a in inner]
    torch.testing.assert_close(head(x), torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_tokens_pass_as_embeddings_do_and_the_length_of_a_prototype_does_not_count():
    torch.manual_seed(0)
    head = PrototypeHead(6, 10, hidden=8, bottleneck=4)
    x = torch.randn(2, 3, 6)
    first = head(x)
    torch.testing.assert_close(first, head(x.flatten(0, 1)).view(2, 3, 10))
    with torch.no_grad():
        head.prototypes.mul_(torch.arange(1.0, 11.0)[:, None])
    torch.testing.assert_close(head(x), first)


def test_activations_are_one_for_all_places_or_one_for_each():
    kinds = [type(part) for part in projector(4, 4, 2, layers=3, norm=None, activations=[nn.ReLU, nn.GELU])]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear, nn.GELU, nn.Linear]
    assert sum(isinstance(part, nn.GELU) for part in PrototypeHead(4, 3, hidden=4).mlp) == 2
    with pytest.raises(ValueError, match="between 3 layers of a projector stand 2 activations, got 1"):
        projector(4, 4, 2, layers=3, activations=[nn.ReLU])
