"""A source that changes some samples as they are read: exactly those, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.data import ArraySource, Field, Schema, Source
from autodidact.data.source import Edited


@pytest.fixture
def base() -> Source:
    fields = {"image": torch.arange(40, dtype=torch.uint8).view(10, 1, 2, 2), "label": np.arange(10)}
    schema = Schema(image=Field("image", (1, 2, 2)), label=Field("label"))
    return ArraySource("base", fields, schema, 100 + np.arange(10))


def black(images: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(images)


def test_the_chosen_samples_are_changed_wherever_they_stand_in_a_batch(base):
    edited = Edited(base, "image", black, np.array([2, 7]))
    positions = np.array([7, 3, 2, 9])
    found, plain = edited.batch(positions), base.batch(positions)
    assert found["image"].flatten(1).sum(1).tolist() == [
        0,
        int(plain["image"][1].sum()),
        0,
        int(plain["image"][3].sum()),
    ]
    assert torch.equal(found["label"], plain["label"])
    assert torch.equal(found.ids, plain.ids)


def test_the_base_stays_as_it_is_though_the_function_works_in_place(base):
    before = base.batch(np.arange(10))["image"].clone()
    edited = Edited(base, "image", lambda images: images.zero_(), np.array([2]))
    assert int(edited.batch(np.arange(10))["image"][2].sum()) == 0
    assert torch.equal(base.batch(np.arange(10))["image"], before)


def test_without_positions_every_sample_is_changed(base):
    assert int(Edited(base, "image", black).batch(np.arange(10))["image"].sum()) == 0


def test_a_function_is_not_called_where_no_sample_is_due(base):
    def never(images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("called")

    edited = Edited(base, "image", never, np.array([0]))
    edited.batch(np.arange(1, 10))


def test_parts_and_columns_are_those_of_the_base(base):
    edited = Edited(base, "image", black, np.array([2, 7]))
    part = edited.only([107, 103])
    assert part.batch(np.arange(2))["image"].flatten(1).sum(1).tolist()[0] == 0
    assert (edited.column("label") == base.column("label")).all()
    assert list(edited.names) == list(base.names)


def test_an_unknown_field_is_refused(base):
    with pytest.raises(ValueError, match="'base' has no field 'picture'"):
        Edited(base, "picture", black)
