"""The synthetic table: its label follows from hidden factors, which several columns show and noise columns do not."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor

from autodidact.worlds.latent_factors import COPIES, FACTORS, NOISE, latent_factors


@pytest.fixture(scope="module")
def columns() -> np.ndarray:
    source = latent_factors(1500)
    return source.batch(np.arange(1500)).fields["numeric"].numpy()


def test_a_table_is_the_same_whenever_it_is_drawn():
    once, again = (latent_factors(50).batch(np.arange(50)).fields for _ in range(2))
    assert all((once[name] == again[name]).all() for name in ("numeric", "categorical", "label"))


def test_the_other_columns_tell_of_a_factors_column_and_nothing_of_a_noise_column(columns):
    explained = []
    for j in range(columns.shape[1]):
        rest = np.delete(columns, j, axis=1)
        forest = RandomForestRegressor(20, min_samples_leaf=5, random_state=0).fit(rest[:1000], columns[:1000, j])
        explained.append(forest.score(rest[1000:], columns[1000:, j]))
    ordered = np.sort(explained)
    assert ordered[:NOISE].max() < 0.1
    assert ordered[NOISE:].min() > 0.15
    assert len(ordered) == NOISE + FACTORS * COPIES


def test_every_class_has_rows():
    assert np.bincount(np.asarray(latent_factors(1500).column("label")), minlength=4).min() > 50
