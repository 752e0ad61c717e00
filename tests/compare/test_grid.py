"""Arms from methods and a grid."""

from __future__ import annotations

import pytest

from autodidact.compare.grid import BUDGET, settings_of
from autodidact.training import Settings


def test_without_a_grid_every_method_is_one_arm():
    assert [(arm.name, arm.method) for arm in settings_of(["dcl", "simclr"], {})] == [
        ("dcl", "dcl"),
        ("simclr", "simclr"),
    ]


def test_every_combination_of_the_grid_is_an_arm_named_by_what_it_varies():
    arms = settings_of(["simclr"], {"method.temperature": [0.1, 0.2], "lr": [1.0, 2.0], "image_size": [32]})
    assert [arm.name for arm in arms] == [
        "simclr temperature=0.1, lr=1.0",
        "simclr temperature=0.1, lr=2.0",
        "simclr temperature=0.2, lr=1.0",
        "simclr temperature=0.2, lr=2.0",
    ]
    assert (arms[1].options, arms[1].training, arms[1].network) == (
        {"temperature": 0.1},
        {"lr": 2.0},
        {"image_size": 32},
    )


def test_an_option_multiplies_only_the_methods_that_have_it():
    arms = settings_of(["simclr", "dcl"], {"method.sigma": [0.5, 1.0]})
    assert [arm.name for arm in arms] == ["simclr", "dcl sigma=0.5", "dcl sigma=1.0"]


@pytest.mark.parametrize("name", BUDGET)
def test_the_budget_and_the_machine_cannot_be_in_the_grid(name):
    assert name in Settings.__dataclass_fields__
    with pytest.raises(ValueError, match="same budget"):
        settings_of(["simclr"], {name: [1]})


@pytest.mark.parametrize(
    ("methods", "grid", "said"),
    [
        ([], {}, "at least one method"),
        (["dcl", "dcl"], {}, "dcl more than once"),
        (["dlc"], {}, "did you mean 'dcl'"),
        (["rankme"], {}, "meter"),
        (["dcl"], {"method.sigm": [1]}, "did you mean 'method.sigma'"),
        (["dcl"], {"warm_up": [1]}, "did you mean 'warmup'"),
        (["dcl"], {"lr": []}, "no values for lr"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(methods, grid, said):
    with pytest.raises(ValueError, match=said):
        settings_of(methods, grid)
