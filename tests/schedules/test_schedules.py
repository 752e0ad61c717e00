"""Schedules at their ends, half way, and where they are asked for the impossible."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodidact.schedules import COURSES, Schedule, cosine_ramp, linear_ramp, schedule


def test_the_warm_up_rises_evenly_from_above_zero_to_one() -> None:
    course = schedule("cosine", warmup_steps=4)
    assert [course(step, 100) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_after_the_warm_up_is_half_a_wave(final: float) -> None:
    """So is WarmupCosineSchedule in src/utils/scheduler.py of jose-melo/t-jepa at commit 98dda99, bit for bit.

    Run once outside the suite with 20 of 100 steps of warm-up. There step s of w has s / w, not (s + 1) / (w + 1), and
    the very first step, taken before the schedule is asked, the optimiser's own rate of 1e-3 and decay of 0.01.
    """
    course = schedule("cosine", warmup_steps=10, final=final)
    for step in range(10, 111):
        wave = (1 + math.cos(math.pi * (step - 10) / 100)) / 2
        assert course(step, 110) == pytest.approx(final + (1 - final) * wave)


def test_linear_falls_evenly_to_its_final_share() -> None:
    course = schedule("linear", warmup_steps=0, final=0.2)
    assert [course(step, 4) for step in range(5)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def test_constant_stays_at_one_after_the_warm_up() -> None:
    course = schedule("constant", warmup_steps=2)
    assert [course(step, 5) for step in range(6)] == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1])


@given(
    name=st.sampled_from(COURSES),
    total=st.integers(1, 300),
    share=st.floats(0, 1),
    final=st.floats(0, 1),
    step=st.integers(0, 400),
)
def test_every_multiplier_lies_between_zero_and_one(
    name: str, total: int, share: float, final: float, step: int
) -> None:
    course = schedule(name, int(share * total), 0.0 if name == "constant" else final)
    assert 0.0 <= course(step, total) <= 1.0


@given(name=st.sampled_from(["cosine", "linear"]), total=st.integers(2, 200), share=st.floats(0, 1))
def test_a_course_rises_to_its_peak_and_then_only_falls(name: str, total: int, share: float) -> None:
    warmup = int(share * (total - 1))
    course = schedule(name, warmup, 0.05)
    values = [course(step, total) for step in range(total + 1)]
    assert values[: warmup + 1] == sorted(values[: warmup + 1])
    assert values[warmup:] == sorted(values[warmup:], reverse=True)
    assert values[warmup] == 1.0
    assert values[-1] == pytest.approx(0.05)


def test_after_the_end_the_final_share_holds() -> None:
    assert schedule("cosine", 3, 0.1)(25, 20) == pytest.approx(0.1)
    assert schedule("cosine", 20, 0.1)(20, 20) == pytest.approx(0.1)


@pytest.mark.parametrize(("ramp", "quarter"), [(linear_ramp, 0.25), (cosine_ramp, (1 - math.cos(math.pi / 4)) / 2)])
def test_ramps_run_from_start_to_end_in_either_direction(ramp: object, quarter: float) -> None:
    assert callable(ramp)
    assert ramp(0, 8, 0.996, 1.0) == pytest.approx(0.996)
    assert ramp(2, 8, 0.0, 10.0) == pytest.approx(10 * quarter)
    assert ramp(4, 8, 0.0, 10.0) == pytest.approx(5.0)
    assert ramp(8, 8, 0.996, 1.0) == 1.0
    assert ramp(9, 8, 1.0, 0.0) == pytest.approx(0.0)


def test_impossible_schedules_are_named() -> None:
    for arguments, message in (
        (("cosin",), "unknown schedule 'cosin'; did you mean 'cosine'"),
        (("cosine", -1), "warmup_steps must be >= 0, got -1"),
        (("linear", 0, 1.5), r"must lie in \[0, 1\], got 1.5"),
        (("constant", 0, 0.5), "stays at the base rate"),
    ):
        with pytest.raises(ValueError, match=message):
            schedule(*arguments)
    with pytest.raises(ValueError, match="warm-up of 11 steps is longer than the run of 10"):
        Schedule("cosine", 11)(0, 10)
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        linear_ramp(0, 0, 0.0, 1.0)
    with pytest.raises(ValueError, match="counts steps from 0, got -1"):
        Schedule()(-1, 10)
