"""What estimators take off the worth of answers, against sums over single answers in float64."""

import math

import pytest
import torch

from autodidact.rollouts.estimating import check_estimator, estimated

NAN = math.nan
WORTH = torch.tensor([[1.0, 0.0, 3.0], [2.0, NAN, 2.5], [NAN, 1.0, NAN], [NAN, NAN, NAN]], dtype=torch.float64)


def known(row: list[float]) -> list[int]:
    return [place for place, value in enumerate(row) if not math.isnan(value)]


def test_siblings_are_compared_with_each_other_and_one_alone_does_not_count() -> None:
    leave_one_out, used, baseline = estimated(WORTH, "rloo", baseline=0.5)
    plain, _, _ = estimated(WORTH, "grpo", std=False)
    for row, worth in enumerate(WORTH.tolist()):
        there = known(worth)
        for place in range(3):
            counts = place in there and len(there) > 1
            assert bool(used[row, place]) == counts
            others = [worth[other] for other in there if other != place]
            mean = sum(worth[other] for other in there) / max(len(there), 1)
            assert leave_one_out[row, place] == pytest.approx(worth[place] - sum(others) / len(others) if counts else 0)
            assert plain[row, place] == pytest.approx(worth[place] - mean if counts else 0)
    assert baseline == 0.5


def test_a_running_mean_is_taken_off_and_goes_on() -> None:
    found, used, baseline = estimated(WORTH, "reinforce", baseline=0.5, momentum=0.75)
    values = [value for row in WORTH.tolist() for value in row if not math.isnan(value)]
    assert found[used].tolist() == pytest.approx([value - 0.5 for value in values])
    assert found[~used].tolist() == [0.0] * int((~used).sum())
    assert baseline == pytest.approx(0.75 * 0.5 + 0.25 * sum(values) / len(values))


def test_a_running_mean_stays_where_nothing_has_a_worth() -> None:
    found, used, baseline = estimated(WORTH[3:], "reinforce", baseline=0.5)
    assert not used.any()
    assert not found.any()
    assert baseline == 0.5


def test_answers_do_not_count_whose_likeliest_answer_is_worth_nothing() -> None:
    greedy = torch.tensor([1.0, NAN, 4.0, 0.0], dtype=torch.float64)
    found, used, _ = estimated(WORTH, "self_critical", greedy=greedy)
    assert used.tolist() == [[True] * 3, [False] * 3, [False, True, False], [False] * 3]
    assert found.tolist() == [[0.0, -1.0, 2.0], [0.0] * 3, [0.0, -3.0, 0.0], [0.0] * 3]


def test_likeliest_answers_are_needed_by_one_estimator_and_leave_the_others_alone() -> None:
    with pytest.raises(ValueError, match="greedy"):
        estimated(WORTH, "self_critical")
    greedy = torch.ones(len(WORTH), dtype=torch.float64)
    for estimator in ("reinforce", "rloo", "raml", "ppo"):
        with_it, without = estimated(WORTH, estimator, greedy=greedy), estimated(WORTH, estimator)
        assert torch.equal(with_it.advantages, without.advantages)


def test_a_learned_value_takes_its_part_later() -> None:
    found, used, _ = estimated(WORTH, "ppo")
    assert torch.equal(found, WORTH.nan_to_num())
    assert torch.equal(used, WORTH.isfinite())


@pytest.mark.parametrize("tau", [0.0, 0.5])
def test_weights_have_mean_1_in_a_group_and_follow_the_worth(tau: float) -> None:
    found, used, _ = estimated(WORTH, "raml", tau=tau)
    assert torch.equal(used, WORTH.isfinite())
    for row, worth in enumerate(WORTH.tolist()):
        there = known(worth)
        best = max((worth[place] for place in there), default=0.0)
        weights = {p: math.exp((worth[p] - best) / tau) if tau else float(worth[p] == best) for p in there}
        for place in range(3):
            expected = len(there) * weights[place] / sum(weights.values()) if place in there else 0.0
            assert found[row, place] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("estimator", "group", "completions", "told"),
    [
        ("rlo", 4, 0, "rloo"),
        ("grpo", 1, 0, "2 or more answers"),
        ("raml", 0, 0, "1 or more answers"),
        ("ppo", 4, 2, "above 0 for reinforce"),
        ("rloo", 4, -1, "0 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(estimator: str, group: int, completions: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_estimator(estimator, group, completions)
