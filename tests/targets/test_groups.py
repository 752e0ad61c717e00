"""Groups that agree in several clusterings: the code tells them apart, small ones join their nearest."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from autodidact.targets import combined_code, left_over, merged_groups


def test_the_code_of_three_clusterings_is_another_for_every_tuple_and_equal_for_equal_ones() -> None:
    """The released code combines the last clustering with itself, which leaves K codes of K^3.

    cluster.py of MajorDavidZhang/MCL at commit cab98c1 was run for three stages of 600 random rows and 4 clusters: its
    pseudo-labels of stage s are this code of the clustering of stage s taken s + 1 times, number for number.
    """
    tuples = torch.tensor(list(product(range(4), repeat=3)))
    code = combined_code(list(tuples.T), 4)
    assert len(code.unique()) == 4**3
    assert torch.equal(combined_code(list(tuples.T), 4), code)
    assert torch.equal(code // 16, tuples[:, 0])
    assert torch.equal(code // 4 % 4, tuples[:, 1])
    assert torch.equal(code % 4, tuples[:, 2])


def test_the_code_of_one_clustering_is_that_clustering() -> None:
    labels = torch.tensor([2, 0, 1, 1])
    assert torch.equal(combined_code([labels], 3), labels)


def test_groups_keep_all_samples_and_none_stays_below_the_least_size() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 40, (300,), generator=generator) ** 2
    group = merged_groups(codes, torch.randn(300, 3, generator=generator), 25)
    sizes = torch.bincount(group)
    assert int(sizes.sum()) == 300
    assert int(sizes.min()) >= 25
    # Samples of one code stay together.
    assert all(len(group[codes == code].unique()) == 1 for code in codes.unique())


def test_a_small_group_joins_the_group_whose_mean_is_nearest() -> None:
    rows = torch.tensor([[0.0], [0.0], [10.0], [10.0], [7.0]])
    assert merged_groups(torch.tensor([5, 5, 9, 9, 1]), rows, 2).tolist() == [0, 0, 1, 1, 1]


def test_the_mean_of_a_joined_group_counts_all_of_its_samples() -> None:
    # 2.5 joins 4; their mean is 3.25, which is nearer to 0 than to 7, though 4 alone is not.
    rows = torch.tensor([[0.0], [0.0], [0.0], [0.0], [2.5], [4.0], [7.0], [7.0], [7.0], [7.0]])
    codes = torch.tensor([0, 0, 0, 0, 1, 2, 3, 3, 3, 3])
    assert merged_groups(codes, rows, 3).tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_without_a_least_size_no_group_is_merged_and_too_small_a_set_is_one_group() -> None:
    codes, rows = torch.tensor([7, 3, 7, 1]), torch.randn(4, 2)
    assert merged_groups(codes, rows, 0).tolist() == [2, 1, 2, 0]
    assert merged_groups(codes, rows, 100).tolist() == [0, 0, 0, 0]


def test_what_fills_no_batch_of_its_group_is_counted() -> None:
    assert left_over(torch.tensor([0] * 7 + [1] * 2 + [2] * 6), 3) == 1 + 2 + 0


@pytest.mark.usefixtures("wrong_types")
def test_bad_input_is_named() -> None:
    three, two = torch.tensor([0, 1, 2]), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"lengths \[3, 2\]"):
        combined_code([three, two], 3)
    with pytest.raises(ValueError, match=r"0\.\.1, got 0\.\.2"):
        combined_code([three], 2)
    with pytest.raises(ValueError, match="at least one"):
        combined_code([], 3)
    with pytest.raises(ValueError, match="62 bits"):
        combined_code([two] * 63, 2)
    with pytest.raises(ValueError, match="3 codes is needed, got 2"):
        merged_groups(three, torch.randn(2, 2), 1)
