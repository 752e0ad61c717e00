"""Worlds whose distribution is known whole: a random network's texts, and texts with planted modes."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from autodidact.claims.modes import CLAIM as MODES
from autodidact.claims.modes import _figures, _shuffled
from autodidact.claims.seqgan import CLAIM as SEQGAN
from autodidact.claims.seqgan import COLDER, _at_the_same_entropy
from autodidact.worlds.language import Oracle, PlantedModes


def test_what_a_text_costs_is_what_an_lstm_written_out_says():
    oracle = Oracle(symbols=5, length=4, width=3, seed=2)
    embedding = oracle._embedding.weight.detach().numpy()
    cell, out = oracle._cell, oracle._out
    w, u = cell.weight_ih.detach().numpy(), cell.weight_hh.detach().numpy()
    b = (cell.bias_ih + cell.bias_hh).detach().numpy()

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    h, c, last, total = np.zeros(3), np.zeros(3), 5, 0.0
    for symbol in "cabe":
        i, f, g, o = np.split(w @ embedding[last] + u @ h + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        logits = out.weight.detach().numpy() @ h + out.bias.detach().numpy()
        last = "abcde".index(symbol)
        total -= logits[last] - np.log(np.exp(logits).sum())
    assert float(oracle.nats(["cabe"])[0]) == pytest.approx(total / 4, abs=1e-10)


def test_an_oracle_draws_each_text_as_often_as_it_holds_it_likely():
    oracle = Oracle(symbols=3, length=3, width=4, spread=0.7, seed=1)
    every = ["".join(row) for row in itertools.product("abc", repeat=3)]
    shares = (-3 * oracle.nats(every)).exp()
    assert float(shares.sum()) == pytest.approx(1, abs=1e-12)
    seen = Counter(oracle.texts(4000, seed=5))
    for text, share in zip(every, shares.tolist(), strict=True):
        assert seen[text] / 4000 == pytest.approx(share, abs=4.5 * (share / 4000) ** 0.5)
    assert oracle.texts(5, seed=5) == Oracle(symbols=3, length=3, width=4, spread=0.7, seed=1).texts(5, seed=5)
    assert oracle.task(["abc"]).max_tokens == 4


@pytest.mark.parametrize("wrong", ["abcd", "ab", "abd"])
def test_a_text_that_is_none_of_its_own_is_an_error(wrong):
    with pytest.raises(ValueError, match="texts have 3 symbols of abc"):
        Oracle(symbols=3, length=3).nats([wrong])


def test_modes_lie_apart_and_worth_falls_with_the_distance_from_the_nearest():
    planted = PlantedModes(letters=3, length=5, modes=4, reach=1, decoys=6, seed=3)
    worth = dict(zip(planted.texts, planted.worth.tolist(), strict=True))
    assert len(worth) == 3**5

    def distance(a: str, b: str) -> int:
        return sum(x != y for x, y in zip(a, b, strict=True))

    for a, b in itertools.combinations(planted.modes, 2):
        assert distance(a, b) > 1
    decoys = 0
    for text, value in worth.items():
        nearest = min(distance(text, mode) for mode in planted.modes)
        if nearest > 1 and value:
            decoys += value == 0.5
            continue
        assert value == pytest.approx({0: 1.0, 1: 0.5}.get(nearest, 0.0))
        assert planted.reward(">", text, None) == value
    assert decoys == 6
    assert planted.reward(">", "aaaa", None) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"letters": 1}, "2 to 10 letters"),
        ({"letters": 2, "length": 3, "modes": 5, "reach": 2}, "do not fit among 8 texts"),
        ({"letters": 2, "length": 2, "modes": 1, "reach": 0, "decoys": 4}, "do not fit among 4 texts"),
    ],
)
def test_modes_that_do_not_fit_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        PlantedModes(**options)


def test_an_oracle_without_symbols_is_refused():
    with pytest.raises(ValueError, match="2 to 62 symbols"):
        Oracle(symbols=63)


def test_the_figures_of_the_claim_are_sums_over_all_texts():
    planted = PlantedModes(letters=2, length=4, modes=2, reach=1, decoys=0)
    target = (planted.worth / 0.1).log_softmax(0)
    same = _figures(target, target, planted)
    assert (same["modes"], same["missed"], same["strayed"]) == (2, 0, 0)
    # One mode alone, beside a text of another length.
    first = planted.texts.index(planted.modes[0])
    found = torch.full((16,), -30.0, dtype=torch.float64)
    found[first] = np.log(0.9)
    alone = _figures(found, target, planted)
    assert alone["modes"] == 1
    assert alone["reward"] == pytest.approx(0.9, abs=1e-6)
    assert alone["wrong"] == pytest.approx(10, abs=1e-6)
    assert alone["strayed"] == pytest.approx(-float(target[first]), abs=1e-6)
    rest = [k for k in range(16) if k != first]
    naive = sum(float(target[k].exp()) * (float(target[k]) + 30) for k in rest)
    naive += float(target[first].exp()) * (float(target[first]) - np.log(0.9))
    assert alone["missed"] == pytest.approx(naive, abs=1e-9)
    assert set(MODES.arms) == {"base", "reinforce", "+ entropy", "+ divergence", "balance", "shuffled worths"}


def test_shuffled_worths_are_the_same_worths_of_other_texts():
    planted = PlantedModes(letters=3, length=4, modes=3, reach=1, decoys=2)
    dealt = [_shuffled(planted, 0).function("", text, None) for text in planted.texts]
    assert sorted(dealt) == sorted(planted.worth.tolist())
    assert dealt != planted.worth.tolist()
    assert _shuffled(planted, 0).function("", "abc", None) == 0.0


def test_at_the_same_variety_is_between_two_temperatures():
    points = {f"entropy at {t:g}": 2 * t for t in COLDER} | {f"nats at {t:g}": 3 * t for t in COLDER}
    assert _at_the_same_entropy({"longer": points, "adversarial": {"entropy": 1.7}}) == pytest.approx(2.55)
    assert {one.name for one in SEQGAN.statements if one.role == "premise"} == {"room"}
