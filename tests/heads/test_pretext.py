"""Heads of pretext tasks."""

from __future__ import annotations

import torch
from torch import nn

from autodidact.heads import JigsawHead, pretext_head


def test_a_pretext_head_is_linear_relu_dropout_per_hidden_width_and_a_linear() -> None:
    torch.manual_seed(0)
    head = pretext_head(6, 4, hidden=(5, 3)).double()
    assert [part.p for part in head if isinstance(part, nn.Dropout)] == [0.5, 0.5]
    first, second, last = (part for part in head.eval() if isinstance(part, nn.Linear))
    x = torch.randn(7, 6, dtype=torch.float64)
    hidden = (x @ first.weight.T + first.bias).clamp(min=0) @ second.weight.T + second.bias
    torch.testing.assert_close(head(x), hidden.clamp(min=0) @ last.weight.T + last.bias)
    assert len(pretext_head(6, 4, hidden=())) == 1


def test_every_tile_passes_the_same_layer_and_its_place_matters_afterwards() -> None:
    torch.manual_seed(0)
    head = JigsawHead(6, 4, 5, each=3, together=8).double().eval()
    x = torch.randn(2, 4, 6, dtype=torch.float64)
    each = head.each[0]
    side_by_side = torch.cat([(x[:, k] @ each.weight.T + each.bias).clamp(min=0) for k in range(4)], dim=1)
    torch.testing.assert_close(head(x), head.together(side_by_side))
    assert not torch.allclose(head(x), head(x.flip(1)))


def test_the_papers_jigsaw_head_reads_4608_values() -> None:
    head = JigsawHead(16, 9, 35)
    assert [tuple(part.weight.shape) for part in head.modules() if isinstance(part, nn.Linear)] == [
        (512, 16),
        (4096, 4608),
        (35, 4096),
    ]
