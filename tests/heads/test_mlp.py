"""Projectors and linear heads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from autodidact.heads import LinearHead, predictor, projector


def naive_batch_norm(x: torch.Tensor) -> torch.Tensor:
    columns = [(c - c.sum() / len(c)) / torch.sqrt(((c - c.sum() / len(c)) ** 2).sum() / len(c) + 1e-5) for c in x.T]
    return torch.stack(columns, dim=1)


def test_projector_is_linear_norm_relu_linear() -> None:
    torch.manual_seed(0)
    head = projector(5, 7, 3).double()
    x = torch.randn(11, 5, dtype=torch.float64)
    hidden = naive_batch_norm(x @ head[0].weight.T).clamp(min=0)
    torch.testing.assert_close(head(x), hidden @ head[3].weight.T + head[3].bias, rtol=1e-12, atol=1e-12)


def test_barlow_twins_projector_has_no_bias_anywhere() -> None:
    head = projector(4, 8, 8, layers=3, bias_last=False)
    linears = [part for part in head if isinstance(part, nn.Linear)]
    assert [tuple(linear.weight.shape) for linear in linears] == [(8, 4), (8, 8), (8, 8)]
    assert all(linear.bias is None for linear in linears)


def test_a_linear_has_a_bias_exactly_where_no_norm_follows_it() -> None:
    def biased(head: nn.Sequential) -> list[bool]:
        return [part.bias is not None for part in head if isinstance(part, nn.Linear)]

    assert biased(projector(4, 8, 3, layers=3)) == [False, False, True]
    assert biased(projector(4, 8, 3, layers=3, norm=None)) == [True, True, True]
    assert biased(projector(4, 8, 3, layers=2, norm_last=True)) == [False, False]


def test_norm_last_standardises_the_projection() -> None:
    torch.manual_seed(0)
    out = projector(4, 8, 3, norm_last=True).double()(torch.randn(50, 4, dtype=torch.float64))
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(out.var(dim=0, correction=0), torch.ones(3, dtype=torch.float64), atol=1e-3, rtol=0)


def test_simclr_v2_ends_in_a_norm_with_a_scale_and_without_a_shift() -> None:
    torch.manual_seed(0)
    head = projector(4, 8, 3, layers=3, norm_last=True, scale_last=True).double()
    nn.init.uniform_(head[-1].weight, 0.5, 2.0)
    x = torch.randn(50, 4, dtype=torch.float64)
    torch.testing.assert_close(head(x), naive_batch_norm(head[:-1](x)) * head[-1].weight)
    assert [name for name, _ in head.named_parameters() if name.endswith("bias")] == ["1.bias", "4.bias"]


@pytest.mark.parametrize(("first", "parts", "size"), [(0, 0, 4), (1, 3, 8), (2, 6, 8), (3, 8, 3)])
def test_the_first_layers_of_a_projector_are_its_beginning(first: int, parts: int, size: int) -> None:
    arguments = {"layers": 3, "norm_last": True, "scale_last": True}
    head, beginning = projector(4, 8, 3, **arguments).eval(), projector(4, 8, 3, **arguments, first=first).eval()
    names = beginning.state_dict()
    beginning.load_state_dict({name: value for name, value in head.state_dict().items() if name in names})
    x = torch.randn(5, 4)
    assert len(beginning) == parts
    assert beginning(x).shape == (5, size)
    torch.testing.assert_close(beginning(x), head[:parts](x))


def test_more_layers_than_a_projector_has_cannot_be_kept() -> None:
    with pytest.raises(ValueError, match="of 3 layers of a projector the first 0 to 3 can be kept, got 4"):
        projector(4, 8, 3, layers=3, first=4)


def test_one_layer_projector_is_a_linear_map() -> None:
    head = projector(4, 999, 3, layers=1)
    assert len(head) == 1
    assert head[0].weight.shape == (3, 4)


def test_projector_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 layer"):
        projector(4, 8, 3, layers=0)


def test_predictor_returns_to_the_width_it_came_from() -> None:
    assert predictor(6, 9)[-1].weight.shape == (6, 9)


def test_linear_head_starts_undecided() -> None:
    assert LinearHead(5, 3)(torch.randn(4, 5)).abs().max() == 0


def test_linear_head_standardises_embeddings_of_any_scale() -> None:
    torch.manual_seed(0)
    head = LinearHead(3, 2, standardise=True).double()
    nn.init.normal_(head.out.weight)
    x = torch.randn(64, 3, dtype=torch.float64)
    torch.testing.assert_close(head(x), naive_batch_norm(x) @ head.out.weight.T, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(head(1000 * x + 7), head(x), rtol=1e-3, atol=1e-3)


def test_linear_head_with_a_hidden_layer_is_an_mlp() -> None:
    torch.manual_seed(0)
    head = LinearHead(3, 2, hidden=4).double()
    nn.init.normal_(head.out.weight)
    x = torch.randn(6, 3, dtype=torch.float64)
    inner = x @ head.hidden[0].weight.T + head.hidden[0].bias
    gelu = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    torch.testing.assert_close(head(x), gelu @ head.out.weight.T)
