"""Token masks: exact counts whatever is asked, every token alike, groups and blocks whole."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import label

from autodidact.views import (
    block_mask,
    gather_tokens,
    group_mask,
    keep_indices,
    masked_indices,
    pixel_mask,
    random_mask,
    rectangle_sides,
    scatter_tokens,
)

GRIDS = st.lists(st.integers(1, 9), min_size=1, max_size=3).filter(lambda grid: math.prod(grid) <= 200)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(n=st.integers(0, 4), grid=GRIDS, share=st.floats(0, 1), seed=st.integers(0, 99))
def test_every_row_of_every_mask_has_exactly_the_asked_count(n: int, grid: list[int], share: float, seed: int) -> None:
    tokens = math.prod(grid)
    count = round(share * tokens)
    for mask in (
        random_mask(n, tokens, count, _generator(seed)),
        group_mask(n, grid, count, _generator(seed), group=2),
        block_mask(n, grid, count, _generator(seed)),
    ):
        assert mask.shape == (n, tokens)
        assert mask.dtype == torch.bool
        assert mask.sum(1).tolist() == [count] * n


@given(
    grid=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    low=st.floats(0.01, 1),
    high=st.floats(0.01, 1),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_blocks_of_any_size_end_at_the_exact_count(
    grid: tuple[int, int], low: float, high: float, share: float, seed: int
) -> None:
    count = round(share * grid[0] * grid[1])
    mask = block_mask(2, grid, count, _generator(seed), block=(min(low, high), max(low, high)))
    assert mask.sum(1).tolist() == [count] * 2


@given(
    grid=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    low=st.floats(0.01, 1),
    high=st.floats(0.01, 1),
    aspect=st.floats(0.1, 1),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_blocks_of_any_area_and_aspect_end_at_the_exact_count(
    grid: tuple[int, int], low: float, high: float, aspect: float, share: float, seed: int
) -> None:
    count = round(share * grid[0] * grid[1])
    block, ratio = (min(low, high), max(low, high)), (aspect, 1 / aspect)
    mask = block_mask(2, grid, count, _generator(seed), block=block, aspect=ratio)
    assert mask.sum(1).tolist() == [count] * 2


def test_rectangles_have_the_area_and_the_aspect_that_are_asked_for() -> None:
    rows, columns = rectangle_sides(5_000, (64, 64), _generator(0), area=(0.1, 0.3), aspect=(0.5, 2.0)).double().T
    area, aspect = rows * columns / 64**2, (rows / columns).log()
    assert float(area.min()) == pytest.approx(0.1, abs=0.01)
    assert float(area.max()) == pytest.approx(0.3, abs=0.01)
    assert float(area.mean()) == pytest.approx(0.2, abs=0.005)
    assert float(aspect.min()) == pytest.approx(math.log(0.5), abs=0.05)
    assert float(aspect.mean()) == pytest.approx(0.0, abs=0.02)


def test_rectangles_are_cut_to_the_grid() -> None:
    sides = rectangle_sides(200, (3, 20), _generator(0), area=(0.5, 1.0), aspect=(1.0, 1.0))
    assert set(sides[:, 0].tolist()) == {3}
    assert int(sides[:, 1].max()) < 20


@pytest.mark.parametrize("make", ["random", "group", "block"])
def test_the_same_seed_gives_the_same_mask_and_rows_differ(make: str) -> None:
    def draw(seed: int) -> torch.Tensor:
        g = _generator(seed)
        return {
            "random": lambda: random_mask(6, 64, 20, g),
            "group": lambda: group_mask(6, (8, 8), 20, g),
            "block": lambda: block_mask(6, (8, 8), 20, g),
        }[make]()

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert len(draw(1).unique(dim=0)) == 6


def test_a_random_mask_takes_every_token_and_every_pair_equally_often() -> None:
    mask = random_mask(20_000, 8, 3, _generator(0)).double()
    together = mask.T @ mask / len(mask)
    expected = torch.full((8, 8), 3 * 2 / (8 * 7), dtype=torch.float64)
    expected.fill_diagonal_(3 / 8)
    torch.testing.assert_close(together, expected, atol=0.015, rtol=0)


def test_a_group_mask_masks_whole_aligned_tiles() -> None:
    tiles = group_mask(50, (6, 8), 20, _generator(0), group=(2, 2)).view(50, 3, 2, 4, 2).sum(dim=(2, 4))
    assert set(tiles.unique().tolist()) == {0, 4}
    assert bool((tiles.sum(dim=(1, 2)) == 20).all())
    partial = group_mask(50, (6, 8), 22, _generator(0), group=(2, 2)).view(50, 3, 2, 4, 2).sum(dim=(2, 4))
    assert (partial == 2).flatten(1).sum(1).tolist() == [1] * 50


def test_a_tube_hides_the_same_places_in_every_frame() -> None:
    mask = group_mask(20, (4, 3, 3), 4 * 5, _generator(0), group=(4, 1, 1)).view(20, 4, 9)
    assert bool((mask == mask[:, :1]).all())
    assert mask[:, 0].sum(1).tolist() == [5] * 20


def test_block_masks_are_connected_where_random_ones_are_not() -> None:
    def pieces(masks: torch.Tensor) -> float:
        return sum(label(mask.view(14, 14).numpy())[1] for mask in masks) / len(masks)

    blocks = pieces(block_mask(100, (14, 14), 80, _generator(0)))
    assert blocks < 6
    assert pieces(random_mask(100, 196, 80, _generator(0))) > 4 * blocks


def test_one_small_block_is_a_connected_piece_of_a_rectangle() -> None:
    for mask in block_mask(100, (10, 10), 4, _generator(0), block=(0.3, 0.5)):
        assert label(mask.view(10, 10).numpy())[1] == 1


def test_tokens_gathered_and_scattered_come_back(generator: torch.Generator) -> None:
    mask = random_mask(3, 10, 6, generator)
    keep, gone = keep_indices(mask), masked_indices(mask)
    assert keep.shape == (3, 4)
    x = torch.rand(3, 10, 5, generator=generator)
    seen = gather_tokens(x, keep)
    assert torch.equal(seen[1, 2], x[1, keep[1, 2]])
    empty = torch.zeros(3, 10, 5)
    together = scatter_tokens(gather_tokens(x, gone), gone, scatter_tokens(seen, keep, empty))
    assert torch.equal(together, x)
    assert torch.equal(gather_tokens(mask, keep), torch.zeros(3, 4, dtype=torch.bool))
    assert not empty.any()


def test_gradient_passes_through_gather_and_scatter() -> None:
    x, fill = (torch.rand(2, 4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    index = torch.tensor([[2, 0], [1, 3]])
    assert torch.autograd.gradcheck(lambda a, b: scatter_tokens(gather_tokens(a, index), index, b), (x, fill))


def test_rows_of_different_counts_cannot_be_gathered() -> None:
    with pytest.raises(ValueError, match="same number of tokens to be gathered, got 1 to 2 of 3"):
        keep_indices(torch.tensor([[True, False, False], [True, True, False]]))


def test_a_token_mask_spreads_over_its_patches(generator: torch.Generator) -> None:
    mask = random_mask(2, 6, 2, generator)
    pixels = pixel_mask(mask, (2, 3), (8, 9))
    for row in range(8):
        for column in range(9):
            assert torch.equal(pixels[:, 0, row, column], mask[:, (row // 4) * 3 + column // 3])
    with pytest.raises(ValueError, match="does not tile 8 x 10 pixels"):
        pixel_mask(mask, (2, 3), (8, 10))


@pytest.mark.parametrize("count", [-1, 5])
def test_a_count_out_of_range_is_refused(count: int, generator: torch.Generator) -> None:
    for make in (
        lambda: random_mask(1, 4, count, generator),
        lambda: group_mask(1, (2, 2), count, generator),
        lambda: block_mask(1, (2, 2), count, generator),
    ):
        with pytest.raises(ValueError, match=f"count must be between 0 and the 4 tokens of a row, got {count}"):
            make()


def test_grids_groups_and_blocks_that_make_no_sense_are_refused(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="grid must name at least one axis"):
        block_mask(1, (3, 0), 0, generator)
    with pytest.raises(ValueError, match="group must be a size >= 1 for each of the 2 axes"):
        group_mask(1, (3, 3), 1, generator, group=(1, 1, 1))
    with pytest.raises(ValueError, match="block must be shares"):
        block_mask(1, (3, 3), 1, generator, block=(0.5, 0.2))
    with pytest.raises(ValueError, match=r"aspect must be \(low, high\)"):
        block_mask(1, (3, 3), 1, generator, aspect=(2.0, 1.0))
    with pytest.raises(ValueError, match="this grid has 3 axes"):
        block_mask(1, (3, 3, 3), 1, generator, aspect=(0.5, 2.0))
    with pytest.raises(ValueError, match="area must be"):
        rectangle_sides(1, (3, 3), generator, area=(0.0, 0.5), aspect=(1.0, 1.0))
