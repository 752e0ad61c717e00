"""Sets of exact transformations: groups of distinct bijections, in an order that labels can count on."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from autodidact.views.transformations import TRANSFORMATIONS, transformation_set

SAMPLES = {
    "identity": (2, 5),
    "rotation": (2, 6, 6),
    "rotation2": (1, 5, 7),
    "mirror": (2, 7),
    "mirrors": (1, 4, 6),
    "mirrors3": (1, 3, 4, 5),
    "colour3": (3, 4, 5),
    "colour6": (3, 4, 5),
    "sign": (2, 7),
    "strand": (4, 6),
    "rotation2+colour3": (3, 4, 5),
    "rotation+colour3": (3, 5, 5),
    "rotation+colour6": (3, 5, 5),
    "mirror+sign": (2, 7),
}
SIZES = dict(zip(SAMPLES, (1, 4, 2, 2, 4, 8, 3, 6, 2, 2, 6, 12, 24, 4), strict=True))


def samples(name: str, n: int = 3) -> torch.Tensor:
    return torch.randn(n, *SAMPLES[name], generator=torch.Generator().manual_seed(0))


def test_every_set_of_the_registry_is_tried_here() -> None:
    assert set(TRANSFORMATIONS) <= set(SAMPLES)


@pytest.mark.parametrize(
    ("name", "orders"),
    [
        ("colour3", ["rgb", "gbr", "brg"]),
        ("colour6", ["rgb", "rbg", "grb", "gbr", "brg", "bgr"]),
    ],
)
def test_the_orders_of_the_channels_stand_in_the_order_of_the_authors(name: str, orders: list[str]) -> None:
    """That of augmentations.py in hankook/SLA, which was read beside it."""
    pixel = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    copies = [each.apply(pixel)[0, :, 0, 0].tolist() for each in transformation_set(name).members]
    assert copies == [[1.0 + "rgb".index(channel) for channel in order] for order in orders]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_set_begins_with_the_identity_and_its_members_are_distinct_bijections(name: str) -> None:
    chosen, x = transformation_set(name), samples(name)
    images = [member.apply(x) for member in chosen.members]
    assert len(chosen) == SIZES[name]
    assert torch.equal(images[0], x)
    assert all(torch.equal(member.undo(image), x) for member, image in zip(chosen.members, images, strict=True))
    assert all(not torch.equal(images[i], images[j]) for i in range(len(images)) for j in range(i))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_set_is_closed_one_transformation_after_another_is_a_third(name: str) -> None:
    chosen, x = transformation_set(name), samples(name)
    images = [member.apply(x) for member in chosen.members]
    for first, second in product(chosen.members, repeat=2):
        assert any(torch.equal(second.apply(first.apply(x)), image) for image in images)


@pytest.mark.parametrize("name", SAMPLES)
def test_row_b_times_m_plus_j_is_transformation_j_of_sample_b(name: str) -> None:
    chosen, x = transformation_set(name), samples(name)
    rows = chosen.copies(x)
    for b, (j, member) in product(range(len(x)), enumerate(chosen.members)):
        assert torch.equal(rows[b * len(chosen) + j], member.apply(x[b : b + 1])[0])


@pytest.mark.parametrize("name", SAMPLES)
def test_each_sample_is_brought_under_its_own_transformation_and_back(name: str) -> None:
    chosen, x = transformation_set(name), samples(name, 30)
    which = torch.arange(30) * 7 % len(chosen)
    moved = chosen.apply(x, which)
    assert torch.equal(moved[11], chosen.members[int(which[11])].apply(x[11:12])[0])
    assert torch.equal(chosen.undo(moved, which), x)


def test_a_quarter_turn_is_counter_clockwise_and_four_of_them_are_none() -> None:
    arrow = torch.tensor([[0, 1, 0], [1, 1, 1], [0, 1, 0], [0, 1, 0]])  # points up
    square = torch.zeros(1, 1, 4, 4, dtype=torch.long)
    square[..., :3] = arrow
    quarter = transformation_set("rotation").members[1]
    left = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]])
    assert torch.equal(quarter.apply(square)[0, 0], left)
    turned = square
    for _ in range(4):
        turned = quarter.apply(turned)
    assert torch.equal(turned, square)


def test_the_strand_reversal_of_a_one_hot_sequence_is_its_reverse_complement() -> None:
    def one_hot(bases: str) -> torch.Tensor:
        return torch.eye(4)[["ACGT".index(base) for base in bases]].T[None]

    assert torch.equal(transformation_set("strand").members[1].apply(one_hot("AACGT")), one_hot("ACGTT"))


def test_a_product_lets_the_second_set_count_fastest() -> None:
    x = samples("rotation+colour3")
    turns, colours = transformation_set("rotation"), transformation_set("colour3")
    member = transformation_set("rotation+colour3").members[2 * 3 + 1]
    assert torch.equal(member.apply(x), colours.members[1].apply(turns.members[2].apply(x)))


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("rotation", (1, 28, 20), "'rotation' needs square images, got 28 x 20 pixels"),
        ("colour6", (1, 8, 8), "'colour6' needs 3 channels, got 1"),
        ("rotation+colour3", (4, 8, 8), r"'rotation\+colour3' needs 3 channels, got 4"),
        ("rotation", (3, 50), r"transforms samples \(channels, height, width\), got shape \(3, 50\)"),
        ("mirrors3", (1, 8, 8), "depth, height, width"),
    ],
)
def test_samples_that_a_set_cannot_transform_are_refused(name: str, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        transformation_set(name).copies(torch.zeros(2, *shape))


def test_an_unknown_set_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="nearest: 'rotation'"):
        transformation_set("rotations+colour3")
