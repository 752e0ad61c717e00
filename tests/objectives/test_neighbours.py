"""The leave-one-out nearest-neighbour loss against naive loops, its limits, and who gets a gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from autodidact.objectives import leave_one_out
from autodidact.objectives.neighbours import NeighbourLoss

N, M, D = 12, 40, 5


def drawn(seed: int = 0, classes: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, their labels, a bank, its labels; float64."""
    g = torch.Generator().manual_seed(seed)
    queries, bank = (torch.randn(rows, D, dtype=torch.float64, generator=g) for rows in (N, M))
    labels, bank_labels = (torch.randint(classes, (rows,), generator=g) for rows in (N, M))
    return queries, labels, bank, bank_labels


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def naive(
    queries: Tensor, labels: Tensor, bank: Tensor, bank_labels: Tensor, k: int, t: float, positives: str, fallback: str
) -> float:
    """One query after the other, with lists."""
    losses = []
    for z, y in zip(queries, labels.tolist(), strict=True):
        if y < 0:
            continue
        ranked = sorted(
            ((cosine(z, row), label == y) for row, label in zip(bank, bank_labels.tolist(), strict=True) if label >= 0),
            reverse=True,
        )
        near = ranked[:k]
        if not any(same for _, same in near):
            rest = [pair for pair in ranked[k:] if pair[1]]
            if not rest or fallback == "skip":
                continue
            near = ranked if fallback == "full" else [*near, rest[0]]
        whole = sum(math.exp(s / t) for s, _ in near)
        held = [s for s, same in near if same]
        if positives == "inside":
            losses.append(-math.log(sum(math.exp(s / t) for s in held) / whole))
        else:
            losses.append(-sum(math.log(math.exp(s / t) / whole) for s in held) / len(held))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("positives", ["inside", "outside"])
@pytest.mark.parametrize("fallback", ["nearest_positive", "full", "skip"])
@pytest.mark.parametrize("k", [1, 4, 17, 40])
def test_the_loss_is_that_of_a_naive_loop(positives: str, fallback: str, k: int) -> None:
    queries, labels, bank, bank_labels = drawn(classes=6)
    labels[3], bank_labels[5] = -1, -1
    found = leave_one_out(
        queries, labels, bank, bank_labels, k=k, temperature=0.2, positives=positives, fallback=fallback
    )
    expected = naive(queries, labels, bank, bank_labels, k, 0.2, positives, fallback)
    assert float(found.total) == pytest.approx(expected, rel=1e-10)


def test_all_rows_as_neighbours_give_neighbourhood_component_analysis() -> None:
    queries, labels, bank, bank_labels = drawn()
    share = torch.softmax(torch.nn.functional.normalize(queries) @ torch.nn.functional.normalize(bank).T / 0.1, dim=1)
    nca = -(share * (labels[:, None] == bank_labels)).sum(1).log().mean()
    for k in (None, M, M + 7):
        found = leave_one_out(queries, labels, bank, bank_labels, k=k, temperature=0.1)
        torch.testing.assert_close(found.total, nca, rtol=1e-12, atol=0)


def test_with_the_sum_outside_and_all_rows_it_is_supcon() -> None:
    queries, labels, bank, bank_labels = drawn()
    logs = torch.log_softmax(torch.nn.functional.normalize(queries) @ torch.nn.functional.normalize(bank).T / 0.1, 1)
    same = (labels[:, None] == bank_labels).double()
    supcon = -((logs * same).sum(1) / same.sum(1)).mean()
    found = leave_one_out(queries, labels, bank, bank_labels, k=None, temperature=0.1, positives="outside")
    torch.testing.assert_close(found.total, supcon, rtol=1e-12, atol=0)


def test_with_one_class_in_the_bank_nothing_is_left_to_lose() -> None:
    queries, _, bank, _ = drawn()
    one = torch.zeros(M, dtype=torch.long)
    for k in (1, 9, None):
        assert float(leave_one_out(queries, one[:N], bank, one, k=k).total) == pytest.approx(0, abs=1e-14)


def test_own_rows_are_no_neighbours() -> None:
    queries, labels, bank, bank_labels = drawn()
    full, full_labels = torch.cat([bank, queries]), torch.cat([bank_labels, labels])
    own = torch.cat([torch.zeros(N, M, dtype=torch.bool), torch.eye(N, dtype=torch.bool)], dim=1)
    for k in (1, 5):
        apart = []
        for i in range(N):
            rows, answers = (torch.cat([x[: M + i], x[M + i + 1 :]]) for x in (full, full_labels))
            apart.append(leave_one_out(queries[i : i + 1], labels[i : i + 1], rows, answers, k=k).total)
        together = leave_one_out(queries, labels, full, full_labels, k=k, own=own)
        torch.testing.assert_close(together.total, torch.stack(apart).mean(), rtol=1e-12, atol=0)
    # Left in, the nearest neighbour of every query is itself, and the loss of one neighbour is 0.
    assert float(leave_one_out(queries, labels, full, full_labels, k=1).total) == pytest.approx(0, abs=1e-12)


def test_rows_that_are_no_neighbours_get_exactly_no_gradient() -> None:
    queries, labels, bank, bank_labels = drawn()
    bank.requires_grad_()
    leave_one_out(queries[:1], labels[:1], bank, bank_labels, k=6, fallback="skip").total.backward()
    near = (torch.nn.functional.normalize(queries[:1]) @ torch.nn.functional.normalize(bank).T)[0].topk(6).indices
    reached = (bank.grad != 0).any(1)
    assert set(reached.nonzero().flatten().tolist()) == set(near.tolist())


def test_the_gradient_of_the_similarities_is_the_papers() -> None:
    queries, labels, bank, bank_labels = drawn()
    unit = torch.nn.functional.normalize(bank)
    z = torch.nn.functional.normalize(queries[:1]).requires_grad_()
    k, t = 9, 0.3
    leave_one_out(z, labels[:1], unit, bank_labels, k=k, temperature=t).total.backward()
    s = (z.detach() @ unit.T)[0]
    near = s.topk(k).indices
    a = torch.softmax(s[near] / t, 0)
    same = (bank_labels[near] == labels[0]).double()
    by_similarity = (a - a * same / (a * same).sum()) / t
    direct = (by_similarity[:, None] * unit[near]).sum(0)
    # Through the normalisation of the query only the part across it is left.
    across = direct - (direct @ z.detach()[0]) * z.detach()[0]
    torch.testing.assert_close(z.grad[0], across, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("positives", ["inside", "outside"])
def test_gradients_agree_with_finite_differences(positives: str) -> None:
    queries, labels, bank, bank_labels = drawn()
    labels[0] = -1

    def total(q: Tensor, b: Tensor) -> Tensor:
        return leave_one_out(q, labels, b, bank_labels, k=7, temperature=0.5, positives=positives).total

    assert torch.autograd.gradcheck(total, (queries.requires_grad_(), bank.requires_grad_()))


def test_order_of_queries_and_rows_and_a_rotation_change_nothing() -> None:
    queries, labels, bank, bank_labels = drawn()
    g = torch.Generator().manual_seed(5)
    some, rows = torch.randperm(N, generator=g), torch.randperm(M, generator=g)
    rotation = torch.linalg.qr(torch.randn(D, D, dtype=torch.float64, generator=g)).Q
    first = leave_one_out(queries, labels, bank, bank_labels, k=6).total
    moved = leave_one_out(3 * queries[some] @ rotation, labels[some], bank[rows] @ rotation, bank_labels[rows], k=6)
    torch.testing.assert_close(moved.total, first, rtol=1e-12, atol=0)


def shares(found: NeighbourLoss) -> tuple[float, float]:
    return float(found.empty), float(found.left_out)


def test_it_is_counted_how_often_no_neighbour_is_of_the_class_and_what_does_not_count() -> None:
    axes = torch.eye(3, dtype=torch.float64)
    queries = torch.stack([axes[0], axes[0], axes[1], axes[2]])
    # Query 1 is nearest to class 0 but of class 1; query 2 is of a class nobody else has; query 3 is unlabelled.
    labels = torch.tensor([0, 1, 7, -1])
    bank, bank_labels = axes[:2], torch.tensor([0, 1])
    assert shares(leave_one_out(queries, labels, bank, bank_labels, k=1)) == pytest.approx((2 / 3, 1 / 3))
    assert shares(leave_one_out(queries, labels, bank, bank_labels, k=1, fallback="skip")) == pytest.approx(
        (2 / 3, 2 / 3)
    )
    # With its nearest positive, query 1 chooses between cosine 1 and cosine 0; query 0 loses nothing.
    total = leave_one_out(queries, labels, bank, bank_labels, k=1, temperature=1.0).total
    assert float(total) == pytest.approx(math.log(1 + math.e) / 2)


def test_a_batch_without_any_label_loses_nothing_and_has_a_gradient_of_zero() -> None:
    queries, labels, bank, bank_labels = drawn()
    queries.requires_grad_()
    found = leave_one_out(queries, torch.full_like(labels, -1), bank, bank_labels, k=3)
    found.total.backward()
    assert (float(found.total.detach()), *shares(found)) == (0.0, 0.0, 1.0)
    assert torch.equal(queries.grad, torch.zeros_like(queries))


def test_rows_without_a_label_are_nobodys_neighbours() -> None:
    queries, labels, bank, bank_labels = drawn()
    unknown = torch.cat([bank, queries])
    more = torch.cat([bank_labels, torch.full((N,), -1)])
    first, second = (
        leave_one_out(queries, labels, rows, answers, k=5).total
        for rows, answers in ((bank, bank_labels), (unknown, more))
    )
    torch.testing.assert_close(first, second, rtol=1e-12, atol=0)


def test_a_cold_temperature_does_not_overflow_in_float32() -> None:
    queries, labels, bank, bank_labels = drawn()
    cold = leave_one_out(queries.float(), labels, bank.float(), bank_labels, k=9, temperature=0.001)
    exact = leave_one_out(queries, labels, bank, bank_labels, k=9, temperature=0.001)
    assert float(cold.total) == pytest.approx(float(exact.total), rel=1e-3)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"temperature": 0.0}, "temperature"),
        ({"positives": "between"}, "inside, outside"),
        ({"fallback": "none"}, "nearest_positive, full, skip"),
        ({"labels": torch.zeros(3, dtype=torch.long)}, "one label per query"),
        ({"bank": torch.zeros(0, D), "bank_labels": torch.zeros(0, dtype=torch.long)}, "the bank is empty"),
        ({"bank": torch.zeros(M, D + 1)}, "one width"),
        ({"queries": torch.full((N, D), torch.nan)}, "queries holds NaN"),
        ({"bank": torch.full((M, D), torch.inf)}, "bank holds"),
        ({"own": torch.zeros(N, 2, dtype=torch.bool)}, r"own must be a matrix \(12, 40\)"),
    ],
)
def test_bad_input_is_refused_with_what_was_given(changes: dict, said: str) -> None:
    names = ("queries", "labels", "bank", "bank_labels")
    arguments = {**dict(zip(names, drawn(), strict=True)), "k": 5, **changes}
    with pytest.raises(ValueError, match=said):
        leave_one_out(**arguments)
