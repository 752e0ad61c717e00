"""k-means finds what is there, repeats itself, repairs emptied clusters, and balances on request."""

from __future__ import annotations

import pytest
import torch
from sklearn.cluster import KMeans as ReferenceKMeans
from torch import Tensor

from autodidact.targets import kmeans
from autodidact.targets.clusters import _lloyd, _matching


def blobs(per_cluster: list[int], *, spread: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(len(per_cluster)).repeat_interleave(torch.tensor(per_cluster))
    centres = 10 * torch.randn(len(per_cluster), 6, generator=generator)
    rows = centres[truth] + spread * torch.randn(len(truth), 6, generator=generator)
    order = torch.randperm(len(truth), generator=generator)
    return rows[order], truth[order]


def test_separate_blobs_are_found(generator: torch.Generator) -> None:
    rows, truth = blobs([30, 50, 20, 40])
    found = kmeans(rows, 4, generator=generator, n_init=3)
    for cluster in range(4):
        members = found.labels == cluster
        assert truth[members].unique().numel() == 1
        torch.testing.assert_close(found.centroids[cluster], rows[members].mean(0), rtol=1e-4, atol=1e-4)


def test_inertia_labels_and_assignment_follow_the_definition(generator: torch.Generator) -> None:
    rows = torch.randn(300, 5) + 100  # far from the origin, where expanded squares lose digits
    found = kmeans(rows, 7, generator=generator)
    distances = torch.cdist(rows.double(), found.centroids.double()).square()
    assert found.inertia == pytest.approx(float(distances.min(1).values.sum()), rel=1e-4)
    assert torch.equal(found.labels, distances.argmin(1))
    # Labels of the fit come from rows centred first; assignment works on rows as given.
    assert (found.assign(rows) == found.labels).float().mean() > 0.98


def test_a_start_is_as_good_as_one_of_the_reference_on_average(generator: torch.Generator) -> None:
    rows = torch.randn(1000, 8)
    own = [kmeans(rows, 16, generator=generator).inertia for _ in range(12)]
    reference = [ReferenceKMeans(16, n_init=1, random_state=seed).fit(rows.numpy()).inertia_ for seed in range(12)]
    assert sum(own) == pytest.approx(sum(reference), rel=0.01)


def test_equal_seeds_give_equal_clusterings_and_other_seeds_others() -> None:
    rows = torch.randn(500, 4)
    first, again, other = (kmeans(rows, 20, generator=torch.Generator().manual_seed(seed)).labels for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_more_starts_are_never_worse() -> None:
    rows = torch.randn(400, 4)
    one = kmeans(rows, 25, generator=torch.Generator().manual_seed(0), n_init=1)
    several = kmeans(rows, 25, generator=torch.Generator().manual_seed(0), n_init=5)
    assert several.inertia <= one.inertia


def test_an_emptied_cluster_moves_to_the_farthest_row() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.2, 0.0], [9.0, 0.0], [10.0, 0.0]])
    # The third centroid is nearest to no row.
    found = _lloyd(rows, torch.tensor([[0.0, 0.0], [9.0, 0.0], [-50.0, 0.0]]), 10)
    assert found.labels.unique().numel() == 3
    assert found.inertia == pytest.approx(0.02)


def test_one_cluster_is_the_mean_and_as_many_as_rows_are_the_rows(generator: torch.Generator) -> None:
    rows = torch.randn(9, 3)
    torch.testing.assert_close(kmeans(rows, 1, generator=generator).centroids[0], rows.mean(0))
    each = kmeans(rows, 9, generator=generator)
    assert each.labels.unique().numel() == 9
    assert each.inertia == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("n", "k"), [(60, 6), (61, 6), (5, 4), (200, 33)])
def test_balanced_clusters_differ_by_one_row_at_most(n: int, k: int, generator: torch.Generator) -> None:
    rows = torch.randn(n, 3).exp()  # skewed, so that plain clusters are uneven
    found = kmeans(rows, k, generator=generator, balanced=True)
    sizes = torch.bincount(found.labels, minlength=k).sort().values.tolist()
    assert sizes == sorted(n // k + (cluster < n % k) for cluster in range(k))
    for cluster in range(k):
        torch.testing.assert_close(found.centroids[cluster], rows[found.labels == cluster].mean(0))


def test_in_a_matching_no_row_and_cluster_would_rather_have_each_other() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, centroids = torch.randn(80, 2, generator=generator), torch.randn(8, 2, generator=generator)
    room = torch.tensor([17, 3, 10, 10, 5, 15, 12, 8])
    labels = _matching(rows, centroids, room)
    assert torch.equal(torch.bincount(labels, minlength=8), room)
    distance = torch.cdist(rows.double(), centroids.double())
    own = distance[torch.arange(80), labels]
    for cluster in range(8):
        worst_kept = own[labels == cluster].max()
        wanting = (distance[:, cluster] < own - 1e-6) & (labels != cluster)
        assert (distance[wanting, cluster] >= worst_kept - 1e-6).all()


def test_balanced_blobs_of_equal_size_are_the_blobs(generator: torch.Generator) -> None:
    rows, truth = blobs([25] * 4)
    found = kmeans(rows, 4, generator=generator, balanced=True, n_init=3)
    assert all(truth[found.labels == cluster].unique().numel() == 1 for cluster in range(4))


def test_repeated_rows_leave_clusters_empty_with_a_warning(generator: torch.Generator) -> None:
    rows = torch.tensor([[0.0], [1.0]]).repeat(5, 1)
    with pytest.warns(UserWarning, match="1 of 3 clusters are empty"):
        found = kmeans(rows, 3, generator=generator)
    assert found.inertia == pytest.approx(0.0)


@pytest.mark.usefixtures("wrong_types")
def test_bad_input_is_named(generator: torch.Generator) -> None:
    rows = torch.randn(4, 2)
    for arguments, message in (
        ((rows, 5), "5 clusters need at least 5 rows, got 4"),
        ((rows, 0), "k must be >= 1, got 0"),
        ((rows * torch.nan, 2), "NaN or infinite"),
        ((rows[0], 1), r"matrix \(n, d\), got shape \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            kmeans(*arguments, generator=generator)
    with pytest.raises(ValueError, match="iterations and n_init must be >= 1, got 0 and 1"):
        kmeans(rows, 2, generator=generator, iterations=0)
    with pytest.raises(ValueError, match=r"rows of width 2, got shape \(3, 5\)"):
        kmeans(rows, 2, generator=generator).assign(torch.ones(3, 5))
