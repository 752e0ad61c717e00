"""Codes of vectors: the nearest centroid, and a uniform sample of a stream to find centroids in."""

from __future__ import annotations

import pytest
import torch

from autodidact.targets import Codebook, Reservoir


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_code_is_the_nearest_centroid() -> None:
    torch.manual_seed(0)
    book, x = Codebook(7, 3), torch.randn(4, 5, 3)
    expected = torch.stack([(row[:, None] - book.centroids).square().sum(2).argmin(1) for row in x])
    assert torch.equal(book(x), expected)
    assert torch.equal(book(book.decode(expected)), expected)


def test_fitting_finds_the_clusters_and_centroids_are_state_and_not_trained() -> None:
    centres = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    rows = (centres[:, None] + 0.1 * torch.randn(3, 50, 2, generator=_generator())).flatten(0, 1)
    book = Codebook(3, 2)
    book.fit(rows, _generator())
    found = book(rows).view(3, 50)
    assert bool((found == found[:, :1]).all())
    assert len(found[:, 0].unique()) == 3
    assert list(book.state_dict()) == ["centroids"]
    assert not list(book.parameters())


def test_too_few_rows_or_codes_are_refused() -> None:
    with pytest.raises(ValueError, match="8 codes need at least as many patches, this data has 5"):
        Codebook(8, 2).fit(torch.randn(5, 2), _generator())
    with pytest.raises(ValueError, match="codes >= 2"):
        Codebook(1, 2)


def test_a_reservoir_holds_every_row_equally_often_whatever_the_batches() -> None:
    counts = torch.zeros(30)
    for seed in range(2_000):
        reservoir = Reservoir(5, _generator(seed))
        for batch in torch.arange(30.0)[:, None].split((7, 1, 20, 2)):
            reservoir.show(batch)
        assert len(reservoir.rows.unique()) == 5
        counts[reservoir.rows.flatten().long()] += 1
    assert float((counts / 2_000 - 5 / 30).abs().max()) < 0.03


def test_a_reservoir_larger_than_the_stream_holds_all_of_it() -> None:
    reservoir = Reservoir(50, _generator())
    for batch in torch.arange(30.0)[:, None].split(8):
        reservoir.show(batch)
    assert reservoir.rows.flatten().sort().values.tolist() == list(range(30))
    with pytest.raises(ValueError, match="at least 1 row"):
        Reservoir(0, _generator())
