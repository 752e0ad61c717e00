"""Alignment, uniformity, collapse and nearest neighbours against loops and known cases."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torch import nn

import autodidact.measures.neighbours as neighbours
import autodidact.measures.sphere as sphere
from autodidact.measures import (
    Spectrum,
    alignment,
    collapse_verdict,
    knn_predict,
    nearest,
    per_dimension_std,
    uniformity,
)


def unit(row: list[float]) -> list[float]:
    length = math.sqrt(sum(v * v for v in row))
    return [v / length for v in row]


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_alignment_is_the_mean_distance_of_pairs(alpha: float) -> None:
    z1, z2 = torch.randn(7, 3), torch.randn(7, 3)
    distances = [math.dist(unit(a), unit(b)) ** alpha for a, b in zip(z1.tolist(), z2.tolist(), strict=True)]
    assert alignment(z1, z2, alpha=alpha) == pytest.approx(sum(distances) / 7, rel=1e-5)
    assert alignment(z1, 3 * z1) == pytest.approx(0.0, abs=1e-10)
    assert alignment(z1, -z1) == pytest.approx(4.0, rel=1e-5)


@pytest.mark.parametrize("block", [1, 4, 100])
def test_uniformity_is_the_log_mean_potential_in_any_block_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sphere, "_BLOCK", block)
    rows = [unit(row) for row in torch.randn(11, 3).tolist()]
    potentials = [math.exp(-2 * math.dist(rows[i], rows[j]) ** 2) for i in range(11) for j in range(i + 1, 11)]
    assert uniformity(torch.tensor(rows)) == pytest.approx(math.log(sum(potentials) / len(potentials)), rel=1e-5)


def test_uniformity_runs_from_zero_when_constant_to_minus_two_t_when_spread() -> None:
    assert uniformity(torch.ones(50, 8)) == pytest.approx(0.0, abs=1e-5)
    assert uniformity(torch.randn(3000, 512)) == pytest.approx(-4.0, abs=0.05)


def test_normalised_spread_of_a_healthy_encoder_is_one_over_the_root_of_its_width() -> None:
    z = torch.randn(5000, 64) * 7
    assert float(per_dimension_std(z, normalize=True).mean()) == pytest.approx(1 / 8, rel=0.01)
    torch.testing.assert_close(per_dimension_std(z), z.double().std(0, unbiased=False))


def test_a_constant_encoder_is_called_collapsed_at_any_scale() -> None:
    encoder = nn.Linear(4, 16)
    nn.init.zeros_(encoder.weight)
    nn.init.normal_(encoder.bias)
    rows = encoder(torch.randn(100, 4)) + 1e-4 * torch.randn(100, 16)
    for scale in (1e-3, 1.0, 1e3):
        verdict = collapse_verdict(scale * rows)
        assert verdict is not None
        assert "nearly the same for every sample" in verdict


def test_embeddings_on_a_line_are_called_collapsing() -> None:
    verdict = collapse_verdict(torch.randn(200, 1) * torch.randn(16) + 1e-3 * torch.randn(200, 16))
    assert verdict is not None
    assert "collapsing onto a line" in verdict


def test_healthy_embeddings_raise_no_alarm() -> None:
    encoder = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16))
    rows = encoder(torch.randn(300, 8))
    for healthy in (torch.randn(300, 16), rows, 1e-4 * rows, rows + 3.0, torch.relu(rows)):
        assert collapse_verdict(healthy) is None
    assert collapse_verdict(Spectrum().update(rows)) is None
    assert collapse_verdict(torch.randn(50, 1)) is None  # one dimension is not a collapse onto one


def test_an_all_zero_embedding_is_collapsed_and_a_single_sample_undecidable() -> None:
    assert collapse_verdict(torch.zeros(10, 4)) is not None
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        collapse_verdict(torch.randn(1, 4))


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 40), m=st.integers(0, 12), share=st.floats(0, 1), queries=st.integers(1, 7), bank=st.integers(1, 9)
)
def test_neighbours_in_any_blocks_are_those_of_a_full_sort(
    n: int, m: int, share: float, queries: int, bank: int
) -> None:
    k = max(1, round(share * n))
    generator = torch.Generator().manual_seed(n)
    z, q = torch.randn(n, 3, generator=generator), torch.randn(m, 3, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_QUERIES", queries)
        patch.setattr(neighbours, "_BANK", bank)
        similarities, indices = nearest(q, z, k)
    cosines = torch.nn.functional.normalize(q) @ torch.nn.functional.normalize(z).T
    expected = cosines.sort(dim=1, descending=True)
    torch.testing.assert_close(similarities, expected.values[:, :k])
    assert torch.equal(indices, expected.indices[:, :k])


def test_neighbours_are_those_of_the_reference() -> None:
    bank, queries = torch.randn(500, 16), torch.randn(30, 16)
    reference = NearestNeighbors(n_neighbors=7, metric="cosine").fit(bank.numpy()).kneighbors(queries.numpy())[1]
    assert nearest(queries, bank, 7)[1].tolist() == reference.tolist()


def test_uniform_votes_are_those_of_the_reference_classifier() -> None:
    train, labels, test = torch.randn(300, 5), torch.randint(4, (300,)), torch.randn(60, 5)
    reference = KNeighborsClassifier(15, metric="cosine").fit(train.numpy(), labels.numpy()).predict(test.numpy())
    assert knn_predict(train, labels, test, 15, weighting="uniform").tolist() == reference.tolist()


def test_similar_neighbours_outvote_more_distant_ones() -> None:
    train = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.05, 1.0]])
    labels = torch.tensor([3, 1, 1])
    test = torch.tensor([[1.0, 0.1]])
    assert knn_predict(train, labels, test, 3).tolist() == [3]
    assert knn_predict(train, labels, test, 3, weighting="uniform").tolist() == [1]
    assert knn_predict(train, labels, test, 3, temperature=100.0).tolist() == [1]


def test_the_votes_are_weighted_by_exp_of_similarity_over_temperature() -> None:
    train, labels, test = torch.randn(40, 3), torch.randint(3, (40,)), torch.randn(20, 3)
    expected = []
    for query in test.tolist():
        scored = sorted(
            (
                (sum(a * b for a, b in zip(unit(query), unit(row), strict=True)), int(y))
                for row, y in zip(train.tolist(), labels, strict=True)
            ),
            reverse=True,
        )[:9]
        tally = [sum(math.exp(s / 0.2) for s, y in scored if y == c) for c in range(3)]
        expected.append(tally.index(max(tally)))
    assert knn_predict(train, labels, test, 9, 0.2).tolist() == expected


def test_with_fewer_rows_than_voters_all_vote_and_no_temperature_overflows() -> None:
    train, labels = torch.eye(3), torch.tensor([0, 1, 2])
    assert knn_predict(train, labels, torch.eye(3), 20).tolist() == [0, 1, 2]
    assert knn_predict(train, labels, torch.eye(3).to(torch.bfloat16), 20, temperature=1e-6).tolist() == [0, 1, 2]


@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_input_is_named() -> None:
    z, y = torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 1])
    for call, message in (
        (lambda: nearest(z, z, 6), "between 1 and the 5 rows searched, got 6"),
        (lambda: nearest(z, z[:, :2], 1), r"one width, got \(5, 3\), \(5, 2\)"),
        (lambda: nearest(z * torch.nan, z, 1), "NaN or infinite"),
        (lambda: knn_predict(z, y[:4], z), r"one label per training row is needed, got \(4,\) for 5 rows"),
        (lambda: knn_predict(z, y - 1, z), "labels must be >= 0"),
        (lambda: knn_predict(z, y, z, 0), "k >= 1 and temperature > 0, got k=0"),
        (lambda: knn_predict(z, y, z, temperature=0.0), "temperature=0.0"),
        (lambda: knn_predict(z, y, z, weighting="distance"), "'similarity' or 'uniform', got 'distance'"),
        (lambda: alignment(z, z[:4]), r"got \(5, 3\) and \(4, 3\)"),
        (lambda: uniformity(z[:1]), "at least 2 rows, got 1"),
        (lambda: uniformity(z, t=0.0), "t must be positive, got 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
