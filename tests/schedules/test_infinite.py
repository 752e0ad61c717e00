"""The infinite schedule, its baselines, and plans in shares: values, limits, continuity, and what is refused."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autodidact.schedules import SCHEDULES, Infinite, Plan, RepeatedCosine, schedule
from autodidact.training import Settings

WHOLE = Infinite(10, 40, 0.25, 0.01, anneal_from=80, anneal_steps=20)


def test_the_phases_begin_and_end_at_their_values():
    assert WHOLE(0) == 0.0
    assert WHOLE(5) == 0.5
    assert WHOLE(10) == 1.0
    assert WHOLE(30) == pytest.approx((1 + 0.25) / 2)
    assert WHOLE(50) == WHOLE(80) == 0.25
    assert WHOLE(90) == pytest.approx(math.sqrt(0.25 * 0.01))
    assert WHOLE(100) == WHOLE(1000) == 0.01


def test_the_inverse_square_root_cools_down_faster_at_first_and_ends_alike():
    course = Infinite(10, 40, 0.25, shape="inverse_sqrt", alpha=10.0)
    h = [1 / math.sqrt(1 + 10 * s) - 1 for s in (0.5, 1.0)]
    assert course(30) == pytest.approx(1 + (0.25 - 1) * h[0] / h[1])
    assert course(30) < WHOLE(30)
    assert course(10) == 1.0
    assert course(50) == 0.25


@settings(deadline=None)
@example(warmup=0, cooldown=1, ratio=0.25, shape="cosine", wait=0, anneal=1)
@example(warmup=1, cooldown=1, ratio=0.05, shape="inverse_sqrt", wait=0, anneal=1)
@example(warmup=1, cooldown=40, ratio=0.25, shape="cosine", wait=5, anneal=2)
@example(warmup=0, cooldown=40, ratio=1.0, shape="inverse_sqrt", wait=5, anneal=1)
@given(
    warmup=st.integers(0, 30),
    cooldown=st.integers(1, 50),
    ratio=st.floats(0.05, 1.0),
    shape=st.sampled_from(["cosine", "inverse_sqrt"]),
    wait=st.integers(0, 20),
    anneal=st.integers(1, 40),
)
def test_no_step_jumps_by_more_than_the_slope_of_its_phase(warmup, cooldown, ratio, shape, wait, anneal):
    course = Infinite(warmup, cooldown, ratio, 0.05, shape, anneal_from=warmup + cooldown + wait, anneal_steps=anneal)
    # Steepest: a line, the middle of a cosine, the beginning of an inverse square root, the beginning of a decay.
    cooling = math.pi / 2 if shape == "cosine" else 5 / (1 - 1 / math.sqrt(11))
    phases = [
        (warmup, 1 / max(1, warmup), 1.0),
        (cooldown, -cooling * (1 - ratio) / cooldown, ratio),
        (wait, 0.0, ratio),
        (anneal, -ratio * math.log(ratio / 0.05) / anneal, 0.05),
        (3, 0.0, 0.05),
    ]
    step = 0
    for length, slope, end in phases:
        values = [course(step + done) for done in range(length + 1)]
        changes = [after - before for before, after in pairwise(values)]
        assert all(min(0.0, slope) - 1e-12 <= change <= max(0.0, slope) + 1e-12 for change in changes)
        if length:
            assert values[-1] == pytest.approx(end)
        step += length


def test_a_constant_rate_at_the_peak_is_warm_up_stable_decay():
    course = Plan("wsd", warmup=0.1, anneal=0.2, final=0.05).course(100)
    assert [course(step) for step in (0, 5, 10, 50, 80)] == [0, 0.5, 1, 1, 1]
    assert course(90) == pytest.approx(math.sqrt(0.05))
    assert course(100) == 0.05
    infinite = Plan("infinite", warmup=0.1, anneal=0.2, final=0.05, const_ratio=1.0, cooldown=0.3).course(100)
    assert [infinite(step) for step in range(101)] == pytest.approx([course(step) for step in range(101)])


def test_without_cool_down_and_annealing_there_is_a_warm_up_and_a_constant():
    course = Infinite(4)
    assert [course(step) for step in (0, 1, 2, 3, 4, 5, 10**9)] == [0, 0.25, 0.5, 0.75, 1, 1, 1]


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_a_repeated_cosine_of_one_cycle_is_the_plain_cosine_of_torch(final):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 50, eta_min=final)
    course = Plan("repeated_cosine", warmup=0.0, final=final).course(50)
    for step in range(50):
        assert course(step) == pytest.approx(torchs.get_last_lr()[0])
        optimiser.step()
        torchs.step()


def test_a_repeated_cosine_warms_up_in_every_cycle():
    course = Plan("repeated_cosine", warmup=0.2, final=0.1).trunk([10, 20])
    own = schedule("cosine", 2, 0.1)
    assert [course(step) for step in range(10)] == pytest.approx([own(step, 10) for step in range(10)])
    assert [course(step) for step in range(10, 14)] == pytest.approx([0.1 + 0.9 * k / 5 for k in range(1, 5)])
    assert course(14) == 1.0
    assert course(30) == 0.1
    assert RepeatedCosine((15, 15), (3, 3))(18) == 1.0
    assert Plan("repeated_cosine", cycles=2, warmup=0.2).course(30) == RepeatedCosine((15, 15), (3, 3))


def test_the_rate_of_an_infinite_plan_does_not_change_where_data_change():
    plan = Plan("infinite", warmup=0.1, cooldown=0.4, anneal=0.2)
    budgets = [50, 30, 70]
    assert plan.steps(budgets) == [40, 24, 56]
    course = plan.trunk(budgets)
    assert [course(step) for step in range(25, 120)] == [0.25] * 95
    # Later budgets do not matter to it.
    assert course == plan.trunk([50, 1000])


def test_a_branch_follows_the_trunk_to_the_end_of_its_data_and_anneals_there():
    plan, budgets = Plan("infinite", warmup=0.1, cooldown=0.4, anneal=0.2, final=0.01), [50, 30]
    trunk = plan.trunk(budgets)
    for number, (start, length) in enumerate(((40, 10), (64, 6))):
        branch = plan.annealed(budgets, number)
        assert [branch(step) for step in range(start + 1)] == [trunk(step) for step in range(start + 1)]
        assert branch(start + length // 2) == pytest.approx(0.25 * 0.04**0.5)
        assert branch(start + length) == 0.01
    with pytest.raises(ValueError, match="cosine has no annealed branches"):
        Plan("cosine").annealed(budgets, 0)


def test_one_cosine_over_a_stream_ends_with_the_stream():
    course = Plan("cosine", warmup=0.0).trunk([30, 70])
    assert course(50) == pytest.approx(0.5)
    assert course(100) == 0.0


@given(name=st.sampled_from(SCHEDULES), total=st.integers(1, 300), step=st.integers(0, 400))
def test_every_plan_gives_a_multiplier_in_zero_to_one_for_any_budget(name, total, step):
    assert 0.0 <= Plan(name).course(total)(step) <= 1.0


@settings(deadline=None)
@given(
    name=st.sampled_from(["wsd", "infinite"]),
    parts=st.tuples(*[st.integers(0, 19)] * 3).filter(any),
    total=st.integers(1, 2000),
)
def test_shares_that_fill_the_budget_are_accepted_for_any_number_of_updates(name, parts, total):
    warmup, cooldown, anneal = (part / sum(parts) for part in parts)
    shares = {"warmup": warmup, "anneal": anneal} | ({"cooldown": cooldown} if name == "infinite" else {})
    if max(shares.values()) >= 1 or sum(shares.values()) > 1 or (name == "infinite" and not cooldown):
        return
    plan = Plan(name, **shares)
    course = plan.course(total)
    assert all(0.0 <= course(step) <= 1.0 for step in range(total))
    # What anneals gives way by rounding alone.
    assert total - plan.steps([total])[0] >= anneal * total - 2


@pytest.mark.parametrize(
    ("shares", "total"),
    [
        ({"warmup": 0.05, "cooldown": 0.7, "anneal": 0.25}, 1011),
        ({"warmup": 0.4, "cooldown": 0.45, "anneal": 0.15}, 17),
    ],
)
def test_three_shares_that_are_rounded_up_together_still_fit(shares, total):
    course = Plan("infinite", **shares).course(total)
    assert course(total - 1) < 0.25
    assert Plan("wsd", warmup=0.5, anneal=0.5).course(11)(10) < 1


def test_an_annealing_of_no_steps_leaves_the_rate_as_it_is():
    course = Infinite(10, 40, 0.25, 0.01, anneal_from=80)
    assert course(79) == course(80) == course(200) == 0.25


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Infinite(10, 40, 0.25, anneal_from=49), "anneal_from must not lie before.*step 50, got 49"),
        (lambda: Infinite(0, 1, 1.5), "const_ratio is a share"),
        (lambda: Infinite(0, 1, 0.2, 0.3), "final is a share of the peak rate in"),
        (lambda: Infinite(0, 1, 0.2, 0.0), "final is a share.*never reaches 0"),
        (lambda: Infinite(0, 1, 0.2, -0.1), "final is a share"),
        (lambda: Infinite(-1), "warmup_steps must not be negative, got -1"),
        (lambda: Infinite(0, -2), "cooldown_steps must not be negative"),
        (lambda: Infinite(anneal_steps=-3), "anneal_steps must not be negative"),
        (lambda: Infinite(0, 0, 0.5), "cooldown_steps of 0 would let the rate jump"),
        (lambda: Infinite(alpha=0.0), "alpha must be positive"),
        (lambda: Infinite()(-1), "counts steps from 0, got -1"),
        (lambda: RepeatedCosine((), ()), "lengths of cycles"),
        (lambda: RepeatedCosine((3,), (3,)), "warmups are shorter"),
        (lambda: RepeatedCosine((3,), (1, 1)), "warmups must be as many as the 1 cycles"),
        (lambda: Plan("infinit"), "did you mean 'infinite'"),
        (lambda: Plan("cosine", const_ratio=0.5), "const_ratio belongs to the schedule infinite, not to cosine"),
        (lambda: Plan("constant", final=0.5), "final belongs to the schedule"),
        (lambda: Plan("infinite", cooldown=0.6, anneal=0.5), "anneal must not begin before"),
        (lambda: Plan("infinite", final=0.5), "final is a share of the peak rate in"),
        (lambda: Plan("infinite", final=0.0), "final is a share.*got 0.0 with const_ratio 0.25.*never reaches 0"),
        (lambda: Plan("wsd", final=0.0), "final is a share.*never reaches 0"),
        (lambda: Settings(schedule="infinite", final=0.0), "final is a share.*never reaches 0"),
        (lambda: Plan("wsd", anneal=1.0), "anneal is a share of the updates"),
        (lambda: Plan("repeated_cosine", cycles=0), "cycles must be at least 1"),
        (lambda: Plan("repeated_cosine", cycles=9).course(5), "9 cycles need as many updates"),
        (lambda: Plan().trunk([3, 0]), "every budget is at least 1 step"),
        (lambda: Settings(schedule="wsd", const_ratio=0.3), "const_ratio belongs to the schedule infinite"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(call, said):
    with pytest.raises(ValueError, match=said):
        call()
