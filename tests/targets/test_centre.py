"""A slow mean of rows."""

from __future__ import annotations

import pytest
import torch

from autodidact.targets import Centre


def test_the_centre_moves_from_zero_towards_the_mean_row_by_its_momentum():
    rows = [torch.randn(n, 4, generator=torch.Generator().manual_seed(n)) for n in (5, 3)]
    centre = Centre(4, momentum=0.7)
    expected = torch.zeros(4, dtype=torch.float64)
    for part in rows:
        centre.update(part)
        expected = 0.7 * expected + 0.3 * part.double().mean(0)
    torch.testing.assert_close(centre.value.double(), expected, rtol=1e-6, atol=1e-7)


def test_it_is_saved_and_takes_no_gradient():
    centre = Centre(2)
    centre.update(torch.ones(3, 2, requires_grad=True))
    assert not centre.value.requires_grad
    assert list(centre.state_dict()) == ["value"]
    assert not list(centre.parameters())


def test_a_momentum_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got 1.5"):
        Centre(2, 1.5)
