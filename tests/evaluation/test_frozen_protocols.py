"""Protocols on frozen embeddings, against independent versions in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.datasets import make_blobs, make_regression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_info, threadpool_limits

from autodidact.evaluation import linear as linear_room
from autodidact.evaluation import propagate as propagate_room
from autodidact.evaluation.frozen import Frozen, Scaler
from autodidact.evaluation.knn import knn
from autodidact.evaluation.linear import fit_probe, linear
from autodidact.evaluation.propagate import propagate
from autodidact.evaluation.regress import ALPHAS, regress


def blobs(labelled: int = 30, unlabelled: int = 60, test: int = 40, d: int = 6, classes: int = 3) -> Frozen:
    total = labelled + unlabelled + test
    x, y = make_blobs(total, d, centers=classes, cluster_std=3.0, random_state=1)
    x = (x * np.geomspace(0.5, 2, d) + 3).astype(np.float32)
    return Frozen(x[:labelled], y[:labelled], x[labelled:-test], x[-test:], classes, 0)


def scaled(frozen: Frozen) -> tuple[np.ndarray, np.ndarray]:
    """Labelled and test rows by the definition, in float64."""
    rows = np.concatenate([frozen.labelled, frozen.unlabelled]).astype(np.float64)
    mean, variance = rows.mean(0), rows.var(0)
    scale = ((variance + variance.mean()) / 2) ** -0.5
    return (frozen.labelled - mean) * scale, (frozen.test - mean) * scale


def test_knn_is_the_weighted_vote_of_the_nearest_by_cosine() -> None:
    frozen = blobs()
    mean = np.concatenate([frozen.labelled, frozen.unlabelled]).astype(np.float64).mean(0)
    a, b = frozen.labelled - mean, frozen.test - mean
    cosine = (b / np.linalg.norm(b, axis=1)[:, None]) @ (a / np.linalg.norm(a, axis=1)[:, None]).T
    expected = []
    for row in cosine:
        near = np.argsort(-row)[:20]
        votes = np.zeros(3)
        for i in near:
            votes[frozen.answers[i]] += np.exp(row[i] / 0.07)
        expected.append(votes.argmax())
    assert knn(frozen).tolist() == expected


def test_knn_is_scikit_learns_with_votes_weighted_by_cosine() -> None:
    frozen = blobs(labelled=90, test=200)
    mean = np.concatenate([frozen.labelled, frozen.unlabelled]).astype(np.float64).mean(0)
    theirs = KNeighborsClassifier(20, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
    expected = theirs.fit(frozen.labelled - mean, frozen.answers).predict(frozen.test - mean)
    assert 0.5 < (expected == knn(frozen, neighbours=1)).mean() < 1
    assert knn(frozen).tolist() == expected.tolist()


def test_knn_votes_with_all_labels_where_there_are_fewer_than_twenty() -> None:
    frozen = blobs()
    few = Frozen(frozen.labelled[:5], frozen.answers[:5], frozen.unlabelled, frozen.test, 3)
    assert set(knn(few)) <= set(few.answers.tolist())


def test_knn_is_not_blinded_by_a_large_constant_part() -> None:
    frozen = blobs()
    far = Frozen(
        frozen.labelled + 1000, frozen.answers, frozen.unlabelled + 1000, frozen.test + 1000, frozen.classes
    )  # fmt: skip
    assert (knn(far) == knn(frozen)).mean() > 0.95


def test_scaler_centres_and_shrinks_every_variance_half_way_to_their_mean() -> None:
    frozen = blobs()
    np.testing.assert_allclose(Scaler.of(frozen)(frozen.test), scaled(frozen)[1], atol=1e-5)


def test_scaler_silences_a_constant_dimension() -> None:
    frozen = blobs()
    constant = np.full((len(frozen.labelled), 1), 1e4, dtype=np.float32)
    wide = Frozen(
        np.hstack([frozen.labelled, constant]),
        frozen.answers,
        np.hstack([frozen.unlabelled, np.full((60, 1), 1e4, np.float32)]),
        np.hstack([frozen.test, np.full((40, 1), 1e4 + 0.01, np.float32)]),
        3,
    )
    assert Scaler.of(wide)(wide.test)[:, -1].tolist() == [0.0] * 40


@pytest.mark.parametrize(("rows", "d", "classes"), [(30, 6, 3), (12, 40, 3), (30, 6, 2)])
def test_linear_probe_minimises_the_stated_objective(rows: int, d: int, classes: int) -> None:
    frozen = blobs(labelled=rows, d=d, classes=classes)
    decay = 0.05
    x, test = scaled(frozen)

    def objective(flat: np.ndarray) -> float:
        weight, bias = flat[: classes * d].reshape(classes, d), flat[classes * d :]
        logits = x @ weight.T + bias
        peak = logits.max(1)
        log_sum = peak + np.log(np.exp(logits - peak[:, None]).sum(1))
        picked = logits[np.arange(rows), frozen.answers]
        if classes == 2:
            # scikit-learn's problem for two classes decays the difference of the two weights.
            return (log_sum - picked).mean() + decay / 2 * ((weight[1] - weight[0]) ** 2).sum()
        return (log_sum - picked).mean() + decay / 2 * (weight**2).sum()

    best = minimize(objective, np.zeros(classes * d + classes), method="L-BFGS-B", options={"maxiter": 3000}).x
    weight, bias = best[: classes * d].reshape(classes, d), best[classes * d :]
    probe = fit_probe(frozen, decays=(decay,))
    expected = test @ weight.T + bias
    found = frozen.test @ probe.weight.T + probe.bias
    difference = (found - found[:, :1]) - (expected - expected[:, :1])
    np.testing.assert_allclose(difference, 0, atol=0.03 * np.abs(expected).max())
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.97


@pytest.mark.parametrize(("rows", "d"), [(60, 6), (20, 40)])
@pytest.mark.parametrize("decay", [1.0, 0.01])
def test_linear_probe_is_scikit_learns_logistic_regression_on_scaled_rows(rows: int, d: int, decay: float) -> None:
    frozen = blobs(labelled=rows, d=d)
    x, test = scaled(frozen)
    theirs = LogisticRegression(C=1 / (decay * rows), max_iter=10_000, tol=1e-8).fit(x, frozen.answers)
    probe = fit_probe(frozen, decays=(decay,))
    expected, found = theirs.decision_function(test), frozen.test @ probe.weight.T + probe.bias
    np.testing.assert_allclose(found - found[:, :1], expected - expected[:, :1], atol=0.01 * np.abs(expected).max())
    assert probe.predict(frozen.test).tolist() == theirs.predict(test).tolist()


def test_linear_probe_chooses_its_decay_without_looking_at_test_rows() -> None:
    frozen = blobs()
    far = Frozen(frozen.labelled, frozen.answers, frozen.unlabelled, frozen.test * 0 + 7, 3)
    assert fit_probe(frozen).decay == fit_probe(far).decay


def test_linear_probe_chooses_a_strong_decay_for_noise_and_a_weak_one_for_signal() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(60, 20)).astype(np.float32)
    answers = rng.integers(0, 2, 60)
    signal = noise + 4 * np.eye(20, dtype=np.float32)[answers]
    empty = noise[:0]
    assert fit_probe(Frozen(noise, answers, empty, empty, 2)).decay >= 1
    assert fit_probe(Frozen(signal, answers, empty, empty, 2)).decay <= 0.1


def test_linear_probe_never_predicts_a_class_without_a_label() -> None:
    frozen = blobs()
    two = frozen.answers != 1
    probe = fit_probe(Frozen(frozen.labelled[two], frozen.answers[two], frozen.unlabelled, frozen.test, 3))
    assert probe.present.tolist() == [0, 2]
    assert set(probe.predict(frozen.test)) <= {0, 2}


def test_linear_probe_with_one_label_a_class_uses_the_unchosen_decay() -> None:
    frozen = blobs()
    first = [int(np.flatnonzero(frozen.answers == c)[0]) for c in range(3)]
    one = Frozen(frozen.labelled[first], frozen.answers[first], frozen.unlabelled, frozen.test, 3)
    assert fit_probe(one).decay == linear_room.UNCHOSEN


@pytest.mark.parametrize(("small", "expected"), [(10**8, 1), (1, 2)])
def test_threads_do_not_wait_for_each_other_over_small_products(
    monkeypatch: pytest.MonkeyPatch, small: int, expected: int
) -> None:
    found: list[int] = []

    class Watched(LogisticRegression):
        def fit(self, *args: Any, **kwargs: Any) -> Any:
            found.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
            return super().fit(*args, **kwargs)

    monkeypatch.setattr(linear_room, "LogisticRegression", Watched)
    monkeypatch.setattr(linear_room, "SMALL", small)
    with threadpool_limits(2, user_api="blas"):
        fit_probe(blobs())
        after = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    assert set(found) == {expected}
    assert after == {2}


def test_linear_probe_needs_two_classes() -> None:
    frozen = blobs()
    one = frozen.answers == 0
    with pytest.raises(ValueError, match="labels of two classes"):
        linear(Frozen(frozen.labelled[one], frozen.answers[one], frozen.unlabelled, frozen.test, 3))


def spread(frozen: Frozen, k: int, alpha: float) -> np.ndarray:
    """Zhou et al.'s closed form F = (1 - alpha) (I - alpha S)^-1 Y on the graph of mutual or one-sided neighbours."""
    nodes = np.concatenate([frozen.labelled, frozen.unlabelled]).astype(np.float64)
    unit = nodes / np.linalg.norm(nodes, axis=1)[:, None]
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    adjacency = np.zeros_like(cosine)
    for i, row in enumerate(cosine):
        adjacency[i, np.argsort(-row)[:k]] = 1
    adjacency = np.maximum(adjacency, adjacency.T)
    degree = adjacency.sum(1) ** -0.5
    y = np.zeros((len(nodes), frozen.classes))
    y[np.arange(len(frozen.answers)), frozen.answers] = 1
    scores = (1 - alpha) * np.linalg.solve(np.eye(len(nodes)) - alpha * degree[:, None] * adjacency * degree, y)
    scores /= scores.sum(1, keepdims=True)
    test = frozen.test / np.linalg.norm(frozen.test, axis=1)[:, None]
    return np.stack([scores[np.argsort(-(unit @ row))[:k]].sum(0) for row in test])


@pytest.mark.parametrize(("k", "alpha"), [(5, 0.9), (7, 0.99)])
def test_propagation_is_label_spreading_in_closed_form(k: int, alpha: float) -> None:
    frozen = blobs(labelled=12, unlabelled=150)
    scores = spread(frozen, k, alpha)
    ordered = np.sort(scores, axis=1)
    sure = ordered[:, -1] - ordered[:, -2] > 0.02 * ordered[:, -1]
    assert sure.sum() > 30
    assert propagate(frozen, neighbours=k, alpha=alpha)[sure].tolist() == scores.argmax(1)[sure].tolist()


def test_propagation_follows_the_shape_of_the_data_where_distance_misleads() -> None:
    angle = np.linspace(0, np.pi, 100)
    left = np.stack([np.cos(angle), np.sin(angle), np.full(100, 4.0)], axis=1)
    right = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle), np.full(100, 4.0)], axis=1)
    rows = np.concatenate([left, right]).astype(np.float32)
    truth = np.repeat([0, 1], 100)
    # One label at the start of each moon.
    known = np.array([0, 100])
    rest = np.setdiff1d(np.arange(200), known)
    frozen = Frozen(rows[known], truth[known], rows[rest], rows, 2)
    assert (propagate(frozen) == truth).mean() == 1.0
    assert (linear(frozen) == truth).mean() < 0.9


def test_rows_that_no_label_reaches_take_the_class_of_the_nearest_label() -> None:
    rng = np.random.default_rng(0)
    first = np.array([1, 0, 0]) + 0.01 * rng.normal(size=(20, 3))
    second = np.array([0, 1, 0]) + 0.01 * rng.normal(size=(20, 3))
    island = np.array([0.2, 0.9, 0.9]) + 0.01 * rng.normal(size=(20, 3))
    labelled = np.concatenate([first[:1], second[:1]]).astype(np.float32)
    unlabelled = np.concatenate([first[1:], second[1:], island[:10]]).astype(np.float32)
    frozen = Frozen(labelled, np.array([0, 1]), unlabelled, island[10:].astype(np.float32), 2)
    assert propagate(frozen, neighbours=3).tolist() == [1] * 10


def watched(frozen: Frozen, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """(alpha, labels shown, labels found) of every spreading that one propagation does."""
    seen = []
    whole = propagate_room._spread

    def watching(graph: Any, known: np.ndarray, alpha: float) -> Any:
        spreading = whole(graph, known, alpha)
        seen.append((alpha, known, spreading.transduction_))
        return spreading

    with monkeypatch.context() as patch:
        patch.setattr(propagate_room, "_spread", watching)
        propagate(frozen)
    return seen


def test_how_far_labels_spread_is_what_finds_held_out_labels_best(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = blobs(labelled=60, unlabelled=100, d=2)
    *trials, (chosen, shown, _) = watched(frozen, monkeypatch)
    right: dict[float, int] = {}
    for alpha, known, found in trials:
        held = known[:60] < 0
        assert held.sum() == 20
        right[alpha] = right.get(alpha, 0) + int((found[:60] == frozen.answers)[held].sum())
    assert sorted(right) == [0.5, 0.8, 0.95, 0.99]
    assert len(set(right.values())) > 1
    assert chosen == max(right, key=lambda alpha: (right[alpha], alpha))
    assert (shown[:60] == frozen.answers).all()
    assert (shown[60:] == -1).all()


def test_with_few_labels_nothing_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [alpha for alpha, *_ in watched(blobs(labelled=20), monkeypatch)] == [0.99]


def test_propagation_survives_duplicates() -> None:
    frozen = blobs()
    copies = np.repeat(frozen.unlabelled[:3], 20, axis=0)
    assert set(propagate(Frozen(frozen.labelled, frozen.answers, copies, frozen.test, 3))) <= {0, 1, 2}


def test_propagation_uses_no_more_rows_than_allowed_and_all_labels() -> None:
    frozen = blobs(labelled=30, unlabelled=400)
    assert (propagate(frozen, rows=100) == propagate(frozen)).mean() > 0.8
    assert propagate(frozen, rows=10).tolist() == propagate(frozen, rows=30).tolist()


def test_ridge_has_the_least_leave_one_out_error() -> None:
    x, y = make_regression(60, 8, noise=20.0, random_state=0)
    x, y = x.astype(np.float32), y.astype(np.float32)
    frozen = Frozen(x[:40], y[:40], x[:0], x[40:])
    rows, test = scaled(frozen)
    errors = []
    for alpha in ALPHAS:
        misses = []
        for i in range(40):
            keep = np.arange(40) != i
            misses.append((Ridge(alpha).fit(rows[keep], y[:40][keep]).predict(rows[i : i + 1])[0] - y[i]) ** 2)
        errors.append(np.mean(misses))
    best = ALPHAS[int(np.argmin(errors))]
    np.testing.assert_allclose(regress(frozen), Ridge(best).fit(rows, y[:40]).predict(test), rtol=1e-3)
