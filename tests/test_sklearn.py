"""The scikit-learn estimator: its conventions, and every kind of X that people have."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from autodidact.sklearn import SelfSupervisedTransformer

QUICK: dict[str, Any] = {"steps": 3, "batch_size": 16, "random_state": 0, "accelerator": "cpu"}
# Shares that tables of two and three columns can meet, too.
SHARES = {"context_share": (0.34, 0.34), "target_share": (0.34, 0.34)}


@pytest.fixture(autouse=True)
def _one_thread(_two_threads: None) -> None:
    torch.set_num_threads(1)


def people(n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    age = rng.normal(50, 10, n).round(1)
    age[3] = np.nan
    city = rng.choice(["Köln", "Rome", "Oslo"], n).astype(object)
    city[5] = None
    since = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D")
    return pd.DataFrame(
        {"age": age, "city": city, "since": since, "member": rng.random(n) > 0.5, "w": rng.normal(size=n)}
    )


EXPECTED_FAILURES = {
    "check_no_attributes_set_in_init": "the method's options are parameters, too, though no signature lists them",
    "check_fit2d_1feature": "one column cannot be cut into context and target; the method says so in its own words",
}


def test_it_follows_the_conventions_of_estimators() -> None:
    estimator = SelfSupervisedTransformer(**QUICK, **SHARES)
    results = check_estimator(estimator, expected_failed_checks=EXPECTED_FAILURES, on_skip=None, on_fail=None)
    failed = {r["check_name"]: str(r["exception"])[:200] for r in results if r["status"] == "failed"}
    assert failed == {}
    assert sum(r["status"] == "passed" for r in results) > 35


def test_a_clone_has_the_methods_options_and_no_fit() -> None:
    fitted = SelfSupervisedTransformer(**QUICK, momentum=0.9, context_share=(0.3, 0.4)).fit(people())
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert copy.get_params()["momentum"] == 0.9
    with pytest.raises(NotFittedError):
        copy.transform(people())


def test_the_same_seed_gives_the_same_embeddings_and_another_seed_others() -> None:
    first, second, third = (
        SelfSupervisedTransformer(**{**QUICK, "random_state": seed}).fit_transform(people()) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - third).max() > 1e-3


def test_a_mixed_data_frame_is_embedded_by_the_coding_it_was_fitted_with() -> None:
    frame = people()
    fitted = SelfSupervisedTransformer(**QUICK).fit(frame)
    whole = fitted.transform(frame)
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    # A part that holds one city only gets the same codes.
    oslo = frame["city"] == "Oslo"
    np.testing.assert_allclose(fitted.transform(frame[oslo]), whole[oslo], atol=1e-5)
    strange = frame.assign(city="Atlantis")
    missing = frame.assign(city=None)
    np.testing.assert_allclose(fitted.transform(strange), fitted.transform(missing), atol=1e-5)
    with pytest.raises(ValueError, match="feature names"):
        fitted.transform(frame.rename(columns={"age": "years"}))


def test_a_data_frame_and_its_columns_out_of_order_are_not_confused() -> None:
    frame = people()
    fitted = SelfSupervisedTransformer(**QUICK).fit(frame)
    with pytest.raises(ValueError, match="same order"):
        fitted.transform(frame[frame.columns[::-1]])


def test_arrays_of_numbers_with_gaps_and_of_objects_are_tables() -> None:
    X = np.random.default_rng(0).normal(size=(30, 8))
    X[2, 1] = np.nan
    fitted = SelfSupervisedTransformer(**QUICK).fit(X)
    assert np.isfinite(fitted.transform(X)).all()
    mixed = np.array([[i % 7 + 0.5, "ab"[i % 2], "xyz"[i % 3], i**0.5] for i in range(30)], dtype=object)
    embedded = SelfSupervisedTransformer(**QUICK, **SHARES).fit_transform(mixed)
    assert embedded.shape[0] == 30
    assert np.abs(embedded[0] - embedded[1]).max() > 1e-4


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3)])
def test_images_are_pretrained_with_an_image_method(shape: tuple[int, ...]) -> None:
    X = np.random.default_rng(0).integers(0, 255, (24, *shape), dtype=np.uint8)
    fitted = SelfSupervisedTransformer("simclr", encoder="small:convnet?width=4", **QUICK, temperature=0.2).fit(X)
    assert fitted.transform(X[:5]).shape == (5, 16)
    assert fitted.n_features_in_ == np.prod(shape)
    with pytest.raises(ValueError, match="fitted on images of shape"):
        fitted.transform(X[:, :4])
    with pytest.raises(ValueError, match="fitted on images of shape"):
        fitted.transform(X.reshape(24, -1))


def test_it_works_in_a_pipeline_and_a_grid_search_over_the_methods_options() -> None:
    X, y = load_breast_cancer(return_X_y=True)
    X, y = X[:80], y[:80]
    pipeline = make_pipeline(SelfSupervisedTransformer(**QUICK), StandardScaler(), LogisticRegression())
    search = GridSearchCV(pipeline, {"selfsupervisedtransformer__momentum": [0.9, 0.99]}, cv=2)
    assert search.fit(X, y).score(X, y) > 0.7


def test_output_columns_have_names() -> None:
    fitted = SelfSupervisedTransformer(**QUICK).set_output(transform="pandas").fit(people())
    found = fitted.transform(people())
    assert list(found.columns) == list(fitted.get_feature_names_out())
    assert found.columns[0] == "selfsupervisedtransformer0"


def test_labels_change_nothing() -> None:
    X, y = load_digits(return_X_y=True)
    X, y = X[:40] + np.random.default_rng(0).normal(size=(40, 64)), y[:40]
    first = SelfSupervisedTransformer(**QUICK).fit(X, y).transform(X)
    np.testing.assert_array_equal(first, SelfSupervisedTransformer(**QUICK).fit(X, y[::-1]).transform(X))


def test_a_fitted_transformer_survives_pickling() -> None:
    fitted = SelfSupervisedTransformer(**QUICK).fit(people())
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(people()), fitted.transform(people()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentun": 0.9}, "did you mean 'momentum'"),
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"method": "t_jep"}, "did you mean 't_jepa'"),
        ({"encoder": "small:convnet"}, "images|needs a table transformer|image size"),
        ({"method": "simclr"}, "needs a field 'image'"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelfSupervisedTransformer(**{**QUICK, **options}).fit(people())
