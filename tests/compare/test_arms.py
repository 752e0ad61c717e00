from __future__ import annotations

import json

import pytest

from autodidact.compare import cell_path, run_arms


def counting(calls, name, offset=0.0):
    def work(seed):
        calls.append((name, seed))
        return {"accuracy": seed + offset}

    return work


def test_every_arm_gets_every_seed_and_the_figures_land_in_their_cells():
    table = run_arms({"a": lambda s: {"x": s}, "b": lambda s: {"x": 10 + s, "y": 0.5}}, [3, 4])
    assert table.values("a", "x") == [3.0, 4.0]
    assert table.values("b", "x") == [13.0, 14.0]
    assert table.values("b", "y") == [0.5, 0.5]
    assert table.arms == ["a", "b"]


def test_all_arms_of_one_seed_run_before_the_next_seed():
    calls = []
    run_arms({"b": counting(calls, "b"), "a": counting(calls, "a")}, [1, 0])
    assert calls == [("b", 1), ("a", 1), ("b", 0), ("a", 0)]


def test_a_cell_in_the_folder_is_not_computed_again(tmp_path):
    calls, said = [], []
    arms = {"a": counting(calls, "a"), "b": counting(calls, "b", 1.0)}
    first = run_arms(arms, [0, 1], folder=tmp_path)
    again = run_arms(arms, [0, 1, 2], folder=tmp_path, say=said.append)
    assert calls[4:] == [("a", 2), ("b", 2)]
    assert again.values("b", "accuracy") == [*first.values("b", "accuracy"), 3.0]
    assert again.values("b", "seconds")[:2] == first.values("b", "seconds")
    assert sum("done before" in line for line in said) == 4


def test_a_comparison_that_was_cut_off_goes_on_where_it_stopped(tmp_path):
    calls = []

    def breaks(seed):
        calls.append(("b", seed))
        if seed == 1 and len(calls) < 5:
            raise KeyboardInterrupt
        return {"accuracy": 0.0}

    arms = {"a": counting(calls, "a"), "b": breaks}
    with pytest.raises(KeyboardInterrupt):
        run_arms(arms, [0, 1], folder=tmp_path)
    run_arms(arms, [0, 1], folder=tmp_path)
    assert calls == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("b", 1)]


def test_a_change_of_the_key_computes_that_arm_anew_and_leaves_the_others(tmp_path):
    calls = []
    arms = {"a": counting(calls, "a"), "b": counting(calls, "b")}
    run_arms(arms, [0], folder=tmp_path, keys={"a": {"lr": 1}, "b": {"lr": 1}})
    run_arms(arms, [0], folder=tmp_path, keys={"a": {"lr": 2}, "b": {"lr": 1}})
    assert calls == [("a", 0), ("b", 0), ("a", 0)]


def test_the_order_of_the_entries_of_a_key_makes_no_difference(tmp_path):
    assert cell_path(tmp_path, "a", 0, {"x": 1, "y": 2}) == cell_path(tmp_path, "a", 0, {"y": 2, "x": 1})


def test_arms_whose_names_differ_only_in_odd_characters_do_not_share_cells(tmp_path):
    table = run_arms({"a b": lambda _: {"x": 1}, "a/b": lambda _: {"x": 2}}, [0], folder=tmp_path)
    assert (table.values("a b", "x"), table.values("a/b", "x")) == ([1.0], [2.0])


def test_a_figure_that_is_not_finite_is_an_error_and_is_not_kept(tmp_path):
    with pytest.raises(ValueError, match="a, seed 0: x is nan"):
        run_arms({"a": lambda _: {"x": float("nan")}}, [0], folder=tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_an_arm_that_measures_its_own_seconds_keeps_them(tmp_path):
    table = run_arms({"a": lambda _: {"seconds": 7}}, [0], folder=tmp_path)
    assert table.values("a", "seconds") == [7.0]
    (cell,) = tmp_path.rglob("*.json")
    assert json.loads(cell.read_text()) == {"arm": "a", "seed": 0, "figures": {"seconds": 7.0}}


@pytest.mark.parametrize(
    ("arms", "seeds", "keys", "said"),
    [
        ({}, [0], None, "needs arms and seeds"),
        ({"a": dict}, [], None, "needs arms and seeds"),
        ({"a": dict}, [1, 1], None, "each seed counts once"),
        ({"a": dict}, [1], {"c": 1}, "arms that do not exist: c"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_refused_before_any_work(arms, seeds, keys, said):
    with pytest.raises(ValueError, match=said):
        run_arms(arms, seeds, keys=keys)
