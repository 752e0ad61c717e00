"""T-JEPA's column subsets over many draws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autodidact.views import column_subsets

SHARES = {"context_share": (0.2, 0.4), "target_share": (0.2, 0.5)}


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(
    columns=st.integers(2, 40),
    context=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)),
    target=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)),
    seed=st.integers(0, 99),
)
def test_sets_are_disjoint_in_range_and_without_repeats_or_the_shares_are_refused(
    columns: int, context: tuple[float, float], target: tuple[float, float], seed: int
) -> None:
    context, target = (min(context), max(context)), (min(target), max(target))
    least = round(columns * context[0]), round(columns * target[0])
    if min(least) < 1 or sum(least) > columns:
        with pytest.raises(ValueError):
            column_subsets(2, columns, _generator(seed), context_share=context, target_share=target)
        return
    seen, wanted = column_subsets(3, columns, _generator(seed), context_share=context, target_share=target, targets=2)
    assert least[0] <= seen.shape[1] <= round(columns * context[1])
    assert least[1] <= wanted.shape[2] <= round(columns * target[1])
    assert wanted.shape[:2] == (3, 2)
    for row in range(3):
        for chosen in wanted[row]:
            together = seen[row].tolist() + chosen.tolist()
            assert len(set(together)) == len(together)
            assert set(together) <= set(range(columns))


def test_every_column_is_context_and_target_equally_often_and_target_sets_differ() -> None:
    columns, generator = 10, _generator()
    as_context, as_target, n_context, n_target = (torch.zeros(columns) for _ in range(4))
    for _ in range(200):
        seen, wanted = column_subsets(50, columns, generator, **SHARES)
        as_context += torch.bincount(seen.flatten(), minlength=columns)
        as_target += torch.bincount(wanted.flatten(), minlength=columns)
        n_context, n_target = n_context + seen.numel(), n_target + wanted.numel()
        sets = wanted.sort(dim=2).values
        assert not bool((sets[:, :1] == sets).all(dim=(1, 2)).all())
    # 10^4 rows: a column's share is 1/10 within five standard errors, the first and the last column included.
    assert float((as_context / n_context - 0.1).abs().max()) < 0.005
    assert float((as_target / n_target - 0.1).abs().max()) < 0.005


def test_target_sets_of_a_row_are_independent() -> None:
    wanted = column_subsets(
        20_000, 6, _generator(), context_share=(1 / 6, 1 / 6), target_share=(1 / 6, 1 / 6), targets=2
    ).targets
    same = float((wanted[:, 0] == wanted[:, 1]).float().mean())
    assert abs(same - 1 / 5) < 0.015


def test_sizes_follow_the_rounded_uniforms_given_that_they_fit() -> None:
    """So do those of MaskCollator in src/mask.py of jose-melo/t-jepa at commit 98dda99.

    Run once outside the suite, 3,000 batches for 10, 14 and 54 columns: the same smallest and largest sizes, and
    chi-squared p-values of the pairs of sizes of 0.70, 0.47 and 0.74.
    """
    columns, generator, drawn = 10, _generator(), torch.zeros(11, 11)
    for _ in range(6000):
        seen, wanted = column_subsets(1, columns, generator, context_share=(0.3, 0.6), target_share=(0.2, 0.6))
        drawn[seen.shape[1], wanted.shape[2]] += 1
    u = torch.rand(2, 400_000, generator=_generator(1))
    a, b = (3 + 3 * u[0]).round().long(), (2 + 4 * u[1]).round().long()
    fits = a + b <= columns
    expected = torch.bincount(a[fits] * 11 + b[fits], minlength=121).view(11, 11) / fits.sum()
    torch.testing.assert_close(drawn / drawn.sum(), expected, atol=0.02, rtol=0)
    assert not drawn[torch.arange(11)[:, None] + torch.arange(11) > columns].any()


def test_sizes_are_one_for_the_batch_and_change_between_batches() -> None:
    generator = _generator()
    sizes = {(seen.shape[1], wanted.shape[2]) for seen, wanted in (column_subsets(4, 30, generator) for _ in range(50))}
    assert len(sizes) > 10


def test_the_released_codes_masks_repeat_one_target_set() -> None:
    """As found in 9,000 batches of MaskCollator in src/mask.py of jose-melo/t-jepa at commit 98dda99.

    In each the four target sets of a row were equal and apart from the context; token 0 ([REG]) was drawn like any
    other and the last of the D + 1 tokens never. How often a token is in either role has chi-squared p-values of 0.35
    to 0.99 against `released` here, for 10, 14 and 54 columns (run once, outside the suite).
    """
    seen, wanted = column_subsets(40, 10, _generator(), released=True, **SHARES)
    assert bool((wanted == wanted[:, :1]).all())
    assert wanted.shape[1] == 4
    assert not (seen[:, :, None] == wanted[:, 0][:, None]).any()
    # Numbers address [REG, column 1, ...]: 0, the token, is drawn like a column.
    assert (seen == 0).any()
    assert (wanted == 0).any()


def test_the_same_seed_gives_the_same_sets() -> None:
    first, again = (column_subsets(5, 20, _generator(3)) for _ in range(2))
    assert torch.equal(first.context, again.context)
    assert torch.equal(first.targets, again.targets)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (3, {}, "context_share starts at 0.136 of 3 columns, which rounds to no column"),
        (2, {"context_share": (0.5, 1.0)}, "target_share starts at 0.156 of 2 columns"),
        (0, {}, "the table has no columns"),
        (10, {"context_share": (0.4, 0.2)}, "context_share must be 0 < low <= high <= 1"),
        (10, {"target_share": (0.0, 0.2)}, "target_share must be 0 < low <= high <= 1"),
        (10, {"context_share": (0.6, 0.7), "target_share": (0.5, 0.6)}, "no sizes fit.*6.*5.*11 columns.*has 10"),
        (10, {"targets": 0}, "targets must be at least 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_reason(columns: int, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        column_subsets(2, columns, _generator(), **options)
