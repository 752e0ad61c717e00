"""What the RankMe experiment makes of the figures of its runs, on figures made by hand: who is chosen, and the cost.

Every run has 50 points and rank 5 but for those listed; so each choice (the highest rank, the lowest loss, the slope
nearest to 1) and each wrong one (the lowest rank, the highest loss, a run outside the grid) costs another number.
"""

from __future__ import annotations

import pytest

from autodidact.claims.claim import Figures
from autodidact.claims.rankme import CLAIM, SETTLED, _after_loss, _cells, _correlation, _gained, _pick, regret

Changes = dict[tuple[float, float], dict[str, float]]

OPTIONS = {"simclr": "temperature", "vicreg": "covariance"}
SETTINGS = {"simclr": (0.05, 0.1, 0.2, 0.5, 1.0, 2.0), "vicreg": (0.0, 0.01, 0.1, 1.0, 4.0)}
LOSSES = {1e-4: 5.4, 3e-4: 5.2, 1e-3: 5.1, 3e-3: 5.0, 1e-2: 5.3}
"""Learning rate -> loss of a run with nothing particular: of one setting, 0.003 is the lowest in both grids."""
USUAL = {"linear": 50.0, "knn": 40.0, "far linear": 30.0, "rank": 5.0, "far rank": 5.0, "alpha": 3.0}
PARTICULAR: dict[str, Changes] = {
    "simclr": {
        (0.1, 1e-3): {"linear": 80, "loss": 6, "knn": 46},  # the best
        (0.5, 3e-4): {"linear": 71, "rank": 9, "knn": 37, "far linear": 33},  # of highest rank
        (0.05, 3e-4): {"linear": 44, "rank": 1},  # of lowest rank
        (2.0, 3e-3): {"linear": 62, "rank": 4, "loss": 1, "knn": 48},  # of lowest loss
        (1.0, 1e-3): {"linear": 53, "loss": 8},  # of highest loss
        (0.2, 3e-4): {"linear": 77, "rank": 7, "loss": 2},  # of highest rank among those of lowest loss
        (0.2, 1e-3): {"linear": 68, "alpha": 1.2},  # of a slope nearest to 1
        (1.0, 3e-3): {"linear": 66, "alpha": 0.7},  # of the lowest slope
        (1.0, 3e-4): {"far rank": 8, "far linear": 39},
        (0.1, 3e-3): {"far linear": 45},
        # Outside the grid.
        (1.0, 1e-2): {"linear": 85},
        (0.05, 1e-2): {"linear": 74, "rank": 10},
        (2.0, 1e-2): {"linear": 61, "loss": 0.5},
    },
    "vicreg": {
        (4.0, 3e-3): {"linear": 73, "loss": 3},
        (0.0, 1e-4): {"linear": 70, "rank": 9},
        (0.01, 1e-4): {"linear": 58, "loss": 1},
        (0.1, 1e-3): {"linear": 72, "rank": 8, "loss": 2},
        # Outside the grid.
        (1.0, 1e-2): {"linear": 99, "rank": 20, "loss": 0.1},
    },
}


def figures_of(particular: dict[str, Changes]) -> Figures:
    return {
        f"{family}, {OPTIONS[family]}={setting:g}, lr={rate:g}": {
            **USUAL,
            "loss": loss,
            **particular[family].get((setting, rate), {}),
        }
        for family in OPTIONS
        for setting in SETTINGS[family]
        for rate, loss in LOSSES.items()
    }


FIGURES = figures_of(PARTICULAR)
SAID = {statement.name: statement for statement in CLAIM.statements}


@pytest.mark.parametrize(
    ("family", "by", "lost"),
    [
        ("simclr", "rank", 80 - 71),
        ("simclr", "loss", 80 - 62),
        ("simclr", "alpha", 80 - 68),
        # 18 runs: 50 each, and what those that are listed differ by.
        ("simclr", "chance", 80 - (50 + (30 + 21 - 6 + 12 + 3 + 27 + 18 + 16) / 18)),
        ("vicreg", "rank", 73 - 70),
        ("vicreg", "loss", 73 - 58),
        ("vicreg", "chance", 73 - (50 + (23 + 20 + 8 + 22) / 20)),
    ],
)
def test_regret_is_what_the_chosen_run_of_the_methods_own_grid_stays_below_its_best(
    family: str, by: str, lost: float
) -> None:
    assert regret(FIGURES, family, by) == pytest.approx(lost)


@pytest.mark.parametrize(
    ("by", "what", "lost"),
    [
        ("rank", "knn", 48 - 37),
        ("chance", "knn", 48 - (40 + (6 - 3 + 8) / 18)),
        ("rank", "far linear", 45 - 33),
        ("far rank", "far linear", 45 - 39),
        ("chance", "far linear", 45 - (30 + (3 + 9 + 15) / 18)),
    ],
)
def test_regret_is_of_the_accuracy_that_is_asked_for(by: str, what: str, lost: float) -> None:
    assert regret(FIGURES, "simclr", by, what) == pytest.approx(lost)


@pytest.mark.parametrize(
    ("family", "by", "lost"),
    [
        ("simclr", "rank", 85 - 74),
        ("simclr", "loss", 85 - 61),
        ("simclr", "chance", 85 - (50 + (30 + 12 + 3 + 18 + 16 + 35 + 24 + 11) / 18)),
        ("vicreg", "rank", 0),
        ("vicreg", "chance", 99 - (50 + (23 + 22 + 49) / 15)),
    ],
)
def test_regret_at_given_learning_rates_is_among_their_runs_alone(family: str, by: str, lost: float) -> None:
    assert SETTLED == (1e-3, 3e-3, 1e-2)
    assert regret(FIGURES, family, by, rates=SETTLED) == pytest.approx(lost)


def test_the_run_of_highest_rank_lowest_loss_or_slope_nearest_to_one_is_chosen() -> None:
    cells = [
        {"rank": 2.0, "rank before": 9.0, "loss": 0.3, "alpha": 1.4},
        {"rank": 7.0, "rank before": 1.0, "loss": 0.2, "alpha": 2.0},
        {"rank": 3.0, "rank before": 4.0, "loss": -0.1, "alpha": 0.1},
        {"rank": 1.0, "rank before": 5.0, "loss": 0.9, "alpha": 0.7},
    ]
    assert [cells.index(_pick(cells, by)) for by in ("rank", "rank before", "loss", "alpha")] == [1, 0, 2, 3]


def test_a_grid_is_every_setting_at_the_learning_rates_of_its_method() -> None:
    assert [len(_cells(FIGURES, family)) for family in OPTIONS] == [6 * 3, 5 * 4]
    assert [sorted({cell["loss"] for cell in _cells(FIGURES, "vicreg", (1e-4,))})] == [[1, 5.4]]


def test_what_is_gained_is_a_third_of_the_regret_of_chance_minus_that_of_the_choice() -> None:
    chance = {"simclr": 30 - 121 / 18, "vicreg": 23 - 73 / 20}
    assert _gained(FIGURES, "simclr") == pytest.approx(chance["simclr"] / 3 - 9)
    assert _gained(FIGURES, "simclr", "loss") == pytest.approx(chance["simclr"] / 3 - 18)
    assert _gained(FIGURES, "simclr", "far rank", "far linear") == pytest.approx(13.5 / 3 - 6)
    assert _gained(FIGURES, "simclr", what="knn") == pytest.approx((8 - 11 / 18) / 3 - 11)
    assert _gained(FIGURES, "vicreg") == pytest.approx(6.45 - 3)
    assert _gained(FIGURES, "vicreg", rates=SETTLED) == pytest.approx((49 - 94 / 15) / 3)
    main = (chance["simclr"] / 3 - 9 + 6.45 - 3) / 2
    assert SAID["selection"].role == "main"
    assert SAID["selection"].value(FIGURES) == pytest.approx(main)


def test_after_the_loss_has_chosen_the_learning_rate_of_each_setting_rank_chooses_among_those_runs() -> None:
    # Temperature 0.5 has its lowest loss at 0.003: that its run at 0.0003 has the highest rank of all is past seeing.
    assert _after_loss(FIGURES, "simclr") == 80 - 77
    assert _after_loss(FIGURES, "vicreg") == 73 - 72


def test_correlation_is_spearmans_over_runs_by_hand() -> None:
    cells = [
        {"rank": 1.0, "rank before": 4.0, "linear": 10.0, "knn": 9.0},
        {"rank": 2.0, "rank before": 3.0, "linear": 30.0, "knn": 7.0},
        {"rank": 3.0, "rank before": 2.0, "linear": 20.0, "knn": 5.0},
        {"rank": 90.0, "rank before": 1.0, "linear": 40.0, "knn": 1.0},
    ]
    # Two neighbours in order changed places: 1 - 6 (1 + 1) / (4 (16 - 1)).
    assert _correlation(cells) == pytest.approx(0.8)
    assert _correlation(cells, "knn") == pytest.approx(-1)
    assert _correlation(cells, rank="rank before") == pytest.approx(-0.8)


def test_correlation_at_one_learning_rate_is_the_mean_over_the_rates_of_the_grid() -> None:
    # At 0.003 alone the order of accuracy is the reverse of that of rank, and outside the grid, too.
    ordered: Changes = {
        (setting, rate): {"rank": 10 * rate + place, "linear": -place if rate in (3e-3, 1e-2) else 50 * rate + place}
        for place, setting in enumerate(SETTINGS["vicreg"])
        for rate in LOSSES
    }
    found = SAID["correlation at one learning rate, vicreg"].value(figures_of({**PARTICULAR, "vicreg": ordered}))
    assert found == pytest.approx((1 + 1 + 1 - 1) / 4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("regret of rank, simclr", 9),
        ("regret of rank, vicreg", 3),
        ("regret of loss, settled, simclr", 24),
        ("against loss, simclr", 18 - 9),
        ("against loss, vicreg", 15 - 3),
        ("regret of loss, then rank, vicreg", 1),
        ("selection after loss, vicreg", 6.45 - 1),
        ("selection, settled, simclr", (35 - 149 / 18) / 3 - 11),
        ("selection, digits, simclr", 13.5 / 3 - 12),
        ("selection by digits, simclr", 13.5 / 3 - 6),
        ("room", 19.35),
    ],
)
def test_each_statement_is_of_the_method_and_choice_that_it_names(name: str, value: float) -> None:
    assert SAID[name].value(FIGURES) == pytest.approx(value)
