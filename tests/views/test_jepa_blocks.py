"""Blocks of I-JEPA: rectangles of one size, a context that shares nothing with them, the same counts in every row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autodidact.views import JEPABlocks, jepa_blocks


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _bounds(index: torch.Tensor, columns: int) -> tuple[int, int]:
    """Rows and columns between the first and the last token of a set."""
    row, column = index // columns, index % columns
    return int(row.max() - row.min()) + 1, int(column.max() - column.min()) + 1


@given(
    n=st.integers(0, 6),
    grid=st.tuples(st.integers(5, 14), st.integers(5, 14)),
    targets=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_contexts_and_targets_are_disjoint_and_in_the_grid(
    n: int, grid: tuple[int, int], targets: int, seed: int
) -> None:
    context, asked = jepa_blocks(n, grid, _generator(seed), targets=targets)
    for row in range(n):
        seen, wanted = set(context[row].tolist()), {set_.item() for set_ in asked[row].flatten()}
        assert len(seen) == context.shape[1] >= 1
        assert not seen & wanted
        assert seen | wanted <= set(range(grid[0] * grid[1]))


def test_every_target_of_a_batch_is_a_whole_rectangle_of_the_same_sides() -> None:
    for seed in range(10):
        _, asked = jepa_blocks(8, (14, 14), _generator(seed))
        sides = {_bounds(block, 14) for row in asked for block in row}
        assert len(sides) == 1
        height, width = sides.pop()
        assert height * width == asked.shape[2]
        assert 0.12 < height * width / 196 < 0.23


def test_targets_lie_everywhere_and_those_of_an_image_differ() -> None:
    asked = torch.cat([jepa_blocks(64, (8, 8), _generator(seed)).targets.flatten() for seed in range(10)])
    assert len(asked.unique()) == 64
    blocks = jepa_blocks(64, (8, 8), _generator(0)).targets
    assert sum(len(row.unique(dim=0)) > 1 for row in blocks) == 64


def test_the_context_is_all_of_its_block_that_is_no_target_in_the_smallest_of_the_batch() -> None:
    context, asked = jepa_blocks(16, (14, 14), _generator(3), context_area=(1.0, 1.0))
    left = [196 - len(row.unique()) for row in asked]
    assert context.shape[1] == min(left)


def test_no_context_is_smaller_than_the_least_even_where_targets_nearly_fill_the_grid() -> None:
    for seed in range(30):
        context, asked = jepa_blocks(8, (4, 4), _generator(seed), target_area=(0.4, 0.5), least=6)
        assert context.shape[1] >= 6
        assert not (context[:, :, None] == asked.flatten(1)[:, None]).any()


def test_the_same_seed_gives_the_same_blocks() -> None:
    def draw(seed: int) -> JEPABlocks:
        return jepa_blocks(4, (7, 7), _generator(seed))

    assert all(torch.equal(a, b) for a, b in zip(draw(1), draw(1), strict=True))
    assert not torch.equal(draw(1).targets[:, 0, :4], draw(2).targets[:, 0, :4])


def test_a_grid_too_small_for_a_context_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a grid of 2 x 2 tokens .* fewer than 3 for the context"):
        jepa_blocks(1, (2, 2), _generator(0), target_area=(0.4, 0.5), least=3)
    with pytest.raises(ValueError, match="targets and least must be at least 1, got 0 and 1"):
        jepa_blocks(1, (8, 8), _generator(0), targets=0)
    with pytest.raises(ValueError, match="area must be"):
        jepa_blocks(1, (8, 8), _generator(0), target_area=(0.5, 0.2))
