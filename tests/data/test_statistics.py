"""Figures of a source."""

from __future__ import annotations

import numpy as np
import pytest

from autodidact.data import (
    ArraySource,
    Field,
    Schema,
    channel_statistics,
    describe,
    fingerprint,
    open_source,
    table_statistics,
)


def pictures(values: np.ndarray, **fields) -> ArraySource:
    n = len(values)
    schema = Schema(image=Field("image", shape=values.shape[1:]))
    return ArraySource("p", {"image": values, **fields}, schema, np.arange(n))


def test_channel_statistics_are_those_of_all_pixels():
    values = np.random.default_rng(0).integers(0, 256, (50, 3, 7, 5), dtype=np.uint8)
    found = channel_statistics(pictures(values))
    scaled = values.astype(np.float64) / 255
    np.testing.assert_allclose(found["mean"], scaled.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(found["std"], scaled.std(axis=(0, 2, 3)), rtol=1e-9)


def test_pixels_outside_the_box_do_not_count():
    values = np.zeros((4, 1, 6, 6), dtype=np.uint8)
    inside = np.random.default_rng(0).integers(0, 256, (4, 3, 4), dtype=np.uint8)
    values[:, 0, 1:4, 2:6] = inside
    boxes = np.tile(np.array([1, 2, 3, 4], dtype=np.float32), (4, 1))
    found = channel_statistics(pictures(values, box=boxes))
    assert found["mean"][0] == pytest.approx(inside.mean() / 255)
    assert found["std"][0] == pytest.approx(inside.std() / 255)


def test_float_images_are_taken_as_they_are():
    values = np.random.default_rng(0).random((20, 2, 4, 4), dtype=np.float32)
    np.testing.assert_allclose(channel_statistics(pictures(values))["mean"], values.mean(axis=(0, 2, 3)), rtol=1e-6)


def test_channel_statistics_of_a_table_are_an_error():
    with pytest.raises(ValueError, match="'wine' has no images; it has numeric, label"):
        channel_statistics(open_source("wine"))


def test_table_statistics_leave_out_missing_values():
    values = np.array([[1, np.nan, np.nan], [3, 5, np.nan], [5, 9, np.nan]], dtype=np.float32)
    schema = Schema(numeric=Field("numeric", shape=(3,), columns=("a", "b", "c")))
    found = table_statistics(ArraySource("t", {"numeric": values}, schema, np.arange(3)))
    assert found["minimum"] == [1, 5, 0]
    assert found["maximum"] == [5, 9, 0]
    assert found["mean"] == [3, 7, 0]
    np.testing.assert_allclose(found["std"], [np.sqrt(8 / 3), 2, 0])


def test_a_fingerprint_changes_with_content_ids_and_labels():
    values = np.zeros((4, 1, 2, 2), dtype=np.uint8)

    def of(values: np.ndarray, ids: list[int], labels: list[int]) -> str:
        schema = Schema(image=Field("image", shape=(1, 2, 2)), label=Field("label", classes=("a", "b")))
        return fingerprint(ArraySource("p", {"image": values, "label": np.array(labels)}, schema, np.array(ids)))

    plain = of(values, [1, 2, 3, 4], [0, 1, 0, 1])
    other = values.copy()
    other[3, 0, 1, 1] = 1
    assert plain == of(values.copy(), [1, 2, 3, 4], [0, 1, 0, 1])
    assert len({plain, of(other, [1, 2, 3, 4], [0, 1, 0, 1]), of(values, [1, 2, 3, 5], [0, 1, 0, 1])}) == 3
    assert plain != of(values, [1, 2, 3, 4], [0, 1, 1, 1])


def test_a_description_tells_samples_fields_and_classes():
    text = describe(open_source("digits"))
    assert "digits: 1,797 samples" in text
    assert "image 1 x 8 x 8" in text
    assert "10 classes (0, 1, 2" in text
