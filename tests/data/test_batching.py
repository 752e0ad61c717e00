"""Batching: what each strategy promises of the batches it makes."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodidact.data import (
    ArraySource,
    BucketBatching,
    DistinctBatching,
    EpisodeBatching,
    Field,
    RandomBatching,
    ReplayBatching,
    SameBatching,
    Schema,
    WholeBatching,
    collision_share,
)

STRATEGIES = [
    RandomBatching(),
    RandomBatching(drop_last=False),
    DistinctBatching("cluster", fill="drop"),
    DistinctBatching("cluster", fill="repeat"),
    DistinctBatching("cluster", order="paper"),
    DistinctBatching("cluster", order="paper", fill="drop"),
    SameBatching("cluster"),
    SameBatching("cluster", drop_last=False),
    BucketBatching("cluster"),
    BucketBatching("cluster", budget=40),
]


def source_of(values: list[int]) -> ArraySource:
    array = np.array(values, dtype=np.int64)
    return ArraySource("s", {"cluster": array}, Schema(cluster=Field("group")), np.arange(len(array)))


clusters = st.lists(st.integers(0, 9), min_size=4, max_size=80)


@settings(max_examples=60, deadline=None)
@given(values=clusters, size=st.integers(1, 4), seed=st.integers(0, 2**63 - 1), number=st.integers(0, 9))
def test_an_epoch_holds_every_sample_at_most_once(values, size, seed, number):
    try:
        plan = STRATEGIES[number].plan(source_of(values), size, seed)
    except ValueError:
        return
    drawn = np.concatenate(plan) if plan else np.empty(0, dtype=np.int64)
    assert len(np.unique(drawn)) == len(drawn)
    assert set(drawn) <= set(range(len(values)))


@pytest.mark.parametrize("strategy", [*STRATEGIES, EpisodeBatching("cluster", ways=2, episodes=5)])
def test_the_same_seed_gives_the_same_plan(strategy):
    source = source_of([i % 7 for i in range(100)])
    first, second = strategy.plan(source, 4, 3), strategy.plan(source, 4, 3)
    assert [b.tolist() for b in first] == [b.tolist() for b in second]


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if getattr(s, "order", "") != "paper"])
def test_another_seed_gives_another_order(strategy):
    source = source_of([i % 7 for i in range(100)])
    assert [b.tolist() for b in strategy.plan(source, 4, 0)] != [b.tolist() for b in strategy.plan(source, 4, 1)]


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if getattr(s, "budget", None) is None])
@pytest.mark.parametrize("size", [1, 3, 6])
def test_the_number_of_steps_is_that_of_every_plan(strategy, size):
    source = source_of([i**2 % 11 for i in range(90)])
    assert {len(strategy.plan(source, size, seed)) for seed in range(4)} == {strategy.steps(source, size)}


def test_random_batches_cover_everything_but_the_incomplete_batch():
    plan = RandomBatching().plan(source_of([0] * 10), 4, 0)
    assert [len(b) for b in plan] == [4, 4]
    plan = RandomBatching(drop_last=False).plan(source_of([0] * 10), 4, 0)
    assert sorted(np.concatenate(plan)) == list(range(10))


def most_strict_batches(counts: list[int], size: int) -> int:
    """By brute force: take one of each of the fullest clusters until too few are left; this greedy is optimal."""
    left = sorted(counts)
    batches = 0
    while sum(n > 0 for n in left) >= size:
        left.sort(reverse=True)
        left = [n - 1 for n in left[:size]] + left[size:]
        batches += 1
    return batches


@settings(max_examples=80, deadline=None)
@given(values=clusters, size=st.integers(1, 5), seed=st.integers(0, 1000))
def test_strict_batches_hold_no_cluster_twice_and_are_as_many_as_can_be(values, size, seed):
    counts = list(Counter(values).values())
    if len(counts) < size:
        return
    plan = DistinctBatching("cluster", fill="drop").plan(source_of(values), size, seed)
    assert all(len(set(np.array(values)[b])) == size for b in plan)
    assert len(plan) == most_strict_batches(counts, size)


@settings(max_examples=80, deadline=None)
@given(values=clusters, size=st.integers(1, 5), seed=st.integers(0, 1000))
def test_filled_batches_spread_a_cluster_as_evenly_as_can_be(values, size, seed):
    if len(values) < size:
        return
    plan = DistinctBatching("cluster").plan(source_of(values), size, seed)
    assert len(plan) == len(values) // size
    for value, count in Counter(values).items():
        assert max((np.array(values)[b] == value).sum() for b in plan) <= -(-count // len(plan))


def test_ranks_take_disjoint_shares_of_a_strict_batch():
    source = source_of([i % 8 for i in range(64)])
    for batch in DistinctBatching("cluster", fill="drop").plan(source, 8, 0):
        first, second = batch[:4], batch[4:]
        assert not set(first) & set(second)
        assert len(set(source.column("cluster")[batch])) == 8


def test_paper_order_is_rank_first_then_cluster():
    # Cluster 0: 0, 3, 5; cluster 1: 1, 4; cluster 2: 2.
    source = source_of([0, 1, 2, 0, 1, 0])
    plan = DistinctBatching("cluster", order="paper").plan(source, 3, 0)
    assert [b.tolist() for b in plan] == [[0, 1, 2], [3, 4, 5]]
    assert [b.tolist() for b in DistinctBatching("cluster", order="paper").plan(source, 3, 9)] == [
        b.tolist() for b in plan
    ]


def test_paper_order_drops_batches_that_repeat_a_cluster_when_strict():
    plan = DistinctBatching("cluster", fill="drop", order="paper").plan(source_of([0, 1, 2, 0, 1, 0]), 3, 0)
    assert [b.tolist() for b in plan] == [[0, 1, 2]]


@pytest.mark.parametrize("values", [[0] * 40, list(range(40))], ids=["one cluster", "all alone"])
def test_without_structure_distinct_batches_are_plain_shuffling(values):
    plans = [DistinctBatching("cluster").plan(source_of(values), 8, seed) for seed in range(400)]
    assert all(sorted(np.concatenate(plan)) == list(range(40)) for plan in plans)
    # Any two samples meet in a batch with probability 7 / 39; 400 epochs x 780 pairs have a mean within 0.03 of it.
    met = Counter(pair for plan in plans for b in plan for pair in combinations(sorted(b.tolist()), 2))
    shares = np.array([met[pair] / 400 for pair in combinations(range(40), 2)])
    assert shares.mean() == pytest.approx(7 / 39)
    assert abs(shares - 7 / 39).max() < 5 * np.sqrt(7 / 39 * 32 / 39 / 400)


def test_samples_of_unknown_cluster_count_as_all_different():
    plan = DistinctBatching("cluster", fill="drop").plan(source_of([-1] * 6 + [0, 0]), 4, 0)
    assert len(plan) == 2
    assert all((np.isin(b, [6, 7])).sum() == 1 for b in plan)


def test_more_distinct_values_than_there_are_is_an_error():
    with pytest.raises(ValueError, match=r"batches of 4 distinct values .* there are 2"):
        DistinctBatching("cluster", fill="drop").plan(source_of([0, 1] * 10), 4, 0)


def test_a_batch_larger_than_the_data_is_an_error_that_names_the_largest():
    for strategy in (RandomBatching(), DistinctBatching("cluster")):
        with pytest.raises(ValueError, match="use --batch-size 3"):
            strategy.plan(source_of([0, 1, 2]), 4, 0)
        with pytest.raises(ValueError, match="use --batch-size 3"):
            strategy.steps(source_of([0, 1, 2]), 4)


def test_a_field_that_is_not_one_integer_a_sample_is_an_error():
    source = ArraySource("s", {"cluster": np.zeros((4, 2))}, Schema(cluster=Field("vector")), np.arange(4))
    with pytest.raises(ValueError, match="one integer for each of 4 samples"):
        DistinctBatching("cluster").plan(source, 2, 0)


def test_an_unknown_fill_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'repeat'"):
        DistinctBatching("cluster", fill="repaet")  # type: ignore[arg-type]


def test_same_batches_hold_one_value_each_and_no_unknown_one():
    values = np.array([0, 1, -1] * 10)
    plan = SameBatching("cluster").plan(source_of(values.tolist()), 4, 0)
    assert [len(set(values[b])) for b in plan] == [1] * 4
    assert not any((values[b] == -1).any() for b in plan)


def test_same_batches_of_more_than_any_value_has_are_an_error():
    with pytest.raises(ValueError, match="no value of 'cluster' has 5 samples"):
        SameBatching("cluster").plan(source_of([0, 1, 0, 1]), 5, 0)


def test_the_whole_source_is_one_batch_that_is_not_shared_between_processes():
    plan = WholeBatching().plan(source_of([3, 1, 2]), 2, 0)
    assert [b.tolist() for b in plan] == [[0, 1, 2]]
    assert not WholeBatching.sharded


def test_buckets_pad_less_than_random_batches():
    lengths = np.random.default_rng(0).integers(1, 200, 2000)
    source = source_of(lengths.tolist())

    def padding(plan):
        return sum(lengths[b].max() * len(b) - lengths[b].sum() for b in plan) / lengths.sum()

    assert padding(BucketBatching("cluster").plan(source, 16, 0)) < 0.05
    assert padding(RandomBatching(drop_last=False).plan(source, 16, 0)) > 0.5


def test_a_budget_bounds_the_padded_size_except_for_longer_samples():
    lengths = np.array([5, 100, 7, 3, 30, 30, 1, 40])
    plan = BucketBatching("cluster", budget=60).plan(source_of(lengths.tolist()), 4, 0)
    assert sorted(np.concatenate(plan)) == list(range(8))
    assert all(lengths[b].max() * len(b) <= 60 or len(b) == 1 for b in plan)


def test_an_episode_has_its_ways_and_shots():
    values = np.array([i % 5 for i in range(50)] + [7, -1, -1, -1])
    plan = EpisodeBatching("cluster", ways=3, episodes=20).plan(source_of(values.tolist()), 12, 0)
    assert len(plan) == 20
    for batch in plan:
        assert sorted(Counter(values[batch].tolist()).values()) == [4, 4, 4]
        assert len(set(batch)) == 12
        assert not {7, -1} & set(values[batch])


def test_episodes_that_the_data_cannot_give_are_an_error():
    with pytest.raises(ValueError, match="episodes of 3 values x 4 samples"):
        EpisodeBatching("cluster", ways=3).plan(source_of([0] * 9 + [1] * 9), 12, 0)


def test_collision_share_counts_equal_pairs():
    values = np.array([0, 0, 1, 1, 1, -1, -1])
    plan = [np.array([0, 1, 2]), np.array([3, 4, 5, 6])]
    # 1 of 3 pairs, and 1 of 6: unknown values equal nothing.
    assert collision_share(plan, values) == pytest.approx(2 / 9)


def test_clusters_within_classes_leave_the_predicted_share_of_same_class_pairs():
    # Sheet 60: K / G clusters a class leave (K / G - 1) / (K - 1) instead of about 1 / G.
    clusters_ = np.arange(64).repeat(30)
    source = source_of(clusters_.tolist())
    classes = clusters_ % 8
    guided = collision_share(DistinctBatching("cluster", fill="drop").plan(source, 64, 0), classes)
    random = collision_share(RandomBatching().plan(source, 64, 0), classes)
    assert guided == pytest.approx((64 / 8 - 1) / 63)
    assert random == pytest.approx(1 / 8, abs=0.005)


def test_a_replaying_plan_has_every_new_sample_once_and_earlier_ones_at_their_share():
    source = source_of([0] * 50)
    rule = ReplayBatching(30, 0.3)
    plan = rule.plan(source, 10, seed=1)
    assert len(plan) == rule.steps(source, 10) == 4
    assert all((batch >= 30).sum() == 3 and len(batch) == 10 for batch in plan)
    new = np.concatenate([batch[batch < 30] for batch in plan])
    assert len(np.unique(new)) == len(new) == 28
    earlier = np.concatenate([batch[batch >= 30] for batch in plan])
    assert len(np.unique(earlier)) == 12
    assert all(np.array_equal(a, b) for a, b in zip(plan, rule.plan(source, 10, seed=1), strict=True))


def test_few_earlier_samples_come_again_in_turn():
    earlier = np.concatenate(
        [batch[batch >= 40] for batch in ReplayBatching(40, 0.5).plan(source_of([0] * 44), 8, seed=0)]
    )
    assert np.bincount(earlier)[40:].tolist() == [10] * 4


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ReplayBatching(0, 0.5), "new must be at least 1"),
        (lambda: ReplayBatching(5, 1.0), r"share lie in \(0, 1\)"),
        (lambda: ReplayBatching(10, 0.5).plan(source_of([0] * 10), 4, 0), "none beside the 10 new ones"),
        (lambda: ReplayBatching(5, 0.9).plan(source_of([0] * 10), 2, 0), "has no new one"),
        (lambda: ReplayBatching(5, 0.1).plan(source_of([0] * 10), 20, 0), "larger than the data"),
    ],
)
def test_a_replay_that_cannot_be_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
