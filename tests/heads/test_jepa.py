"""The predictor of T-JEPA."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from autodidact.heads import JEPAPredictor, sinusoidal


@pytest.fixture
def predictor() -> JEPAPredictor:
    torch.manual_seed(0)
    predictor = JEPAPredictor(6, 9, hidden=8, depth=2, heads=2)
    for parameter in predictor.parameters():
        nn.init.normal_(parameter, std=0.5)
    return predictor.double()


def indices() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    context_index = torch.tensor([[0, 4, 8], [2, 3, 1]])
    target_index = torch.tensor([[[1, 2], [5, 7], [7, 6]], [[0, 8], [4, 5], [6, 0]]])
    return torch.randn(2, 3, 6, dtype=torch.float64), context_index, target_index


def test_each_prediction_equals_a_naive_pass_over_one_row_and_one_set(predictor: JEPAPredictor) -> None:
    context, context_index, target_index = indices()
    out = predictor(context, context_index, target_index)
    positions = sinusoidal(torch.arange(9), 8).double()
    for row in range(2):
        for which in range(3):
            seen = context[row] @ predictor.embed.weight.T + predictor.embed.bias
            x = torch.cat((seen + positions[context_index[row]], predictor.mask + positions[target_index[row, which]]))
            for layer in predictor.layers:
                x = layer(x[None])[0]
            x = predictor.norm(predictor.tail(x))
            expected = x[3:] @ predictor.out.weight.T + predictor.out.bias
            torch.testing.assert_close(out[row, which], expected, rtol=1e-5, atol=1e-6)


def test_order_of_the_context_does_not_matter(predictor: JEPAPredictor) -> None:
    context, context_index, target_index = indices()
    order = torch.tensor([2, 0, 1])
    shuffled = predictor(context[:, order], context_index[:, order], target_index)
    torch.testing.assert_close(shuffled, predictor(context, context_index, target_index))


def test_predictions_depend_on_which_columns_are_asked_for(predictor: JEPAPredictor) -> None:
    context, context_index, target_index = indices()
    other = target_index.clone()
    other[:, 0] = 3
    out, changed = (predictor(context, context_index, asked) for asked in (target_index, other))
    assert (out[:, 0] - changed[:, 0]).abs().max() > 1e-3
    torch.testing.assert_close(out[:, 1:], changed[:, 1:])
