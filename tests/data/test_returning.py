"""What a device has computed is read when it has been asked for more: the same values in the same order.

There is no GPU here: a courier that leaves batches where they are, and a note of who asks and who reads, stand in its
place.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Self

import numpy as np
import pytest
import torch

from autodidact.data import ArraySource, Batch, Field, Schema
from autodidact.data.ids import row_ids
from autodidact.data.returning import Returning, lagging
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel
from autodidact.evaluation.embeddings import Embeddings
from autodidact.verbs import apply as applying

ROWS, SIZE = 10, 4


class Noted(Returning):
    """Notes when a tensor is asked for, and when it is read."""

    notes: list[str] = []  # noqa: RUF012

    @classmethod
    def of(cls, values: torch.Tensor) -> Self:
        cls.notes.append("asked")
        return cls(values)

    def here(self) -> torch.Tensor:
        self.notes.append("read")
        return super().here()


@pytest.fixture
def source() -> ArraySource:
    images = np.random.default_rng(0).random((ROWS, 3, 8, 8), dtype=np.float32)
    return ArraySource("a", {"image": images}, Schema(image=Field("image", (3, 8, 8))), row_ids("a", "", ROWS))


@pytest.fixture
def notes() -> Iterator[list[str]]:
    Noted.notes.clear()
    yield Noted.notes
    Noted.notes.clear()


@pytest.mark.parametrize(("by", "made"), [(0, [1, 2, 3, 4]), (1, [2, 3, 4, 4]), (3, [4, 4, 4, 4]), (9, [4, 4, 4, 4])])
def test_each_comes_after_so_many_more_were_asked_for(by: int, made: list[int]) -> None:
    asked: list[int] = []
    pairs = [(each, len(asked)) for each in lagging((asked.append(i) or i for i in range(4)), by)]
    assert pairs == list(zip(range(4), made, strict=True))


def test_nothing_comes_of_nothing() -> None:
    assert list(lagging(iter([]))) == []


def test_a_tensor_on_the_host_is_there_at_once() -> None:
    values = torch.randn(3)
    assert Returning.of(values).here() is values


def test_vectors_are_read_when_the_next_were_asked_for_and_lie_where_they_belong(
    source: ArraySource, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autodidact.evaluation.embeddings.Returning", Noted)
    threads = set()

    def featurise(batch: Batch) -> torch.Tensor:
        threads.add(threading.get_ident())
        return batch["image"].flatten(1)

    places = np.array([7, 2, 2, 9, 0, 5, 4, 8, 1, 6])
    found = Embeddings(featurise, source, batch_size=SIZE).at(places)
    assert np.array_equal(found, source.batch(places)["image"].flatten(1).numpy())
    assert notes == ["asked", "asked", "read", "asked", "read", "read"]
    assert threads == {threading.get_ident()}


class Stays:
    """A courier that brings batches nowhere."""

    def __init__(self, device: torch.device) -> None:
        assert device.type == "cuda"

    def send(self, batch: Batch) -> Batch:
        return batch

    def receive(self, sent: Batch) -> Batch:
        return sent


class Halves(EncoderModel):
    """Says pixels in half precision."""

    def embed(self, batch: Batch) -> torch.Tensor:
        return batch["image"].half()


@pytest.mark.parametrize(
    ("device", "order"),
    [
        ("cuda", ["asked", "asked", "read", "asked", "read", "read"]),
        ("cpu", ["asked", "read", "asked", "read", "asked", "read"]),
    ],
)
def test_a_gpu_is_asked_about_the_next_batch_before_the_last_is_read(
    device: str, order: list[str], source: ArraySource, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "Returning", Noted)
    monkeypatch.setattr(applying, "Courier", Stays)
    monkeypatch.setattr(Batch, "to", lambda self, *_, **__: self)
    model = Halves({"encoder": build("small:convnet", image_size=8, channels=3, width=4)})
    said = list(applying._said(model, source, "embed", device, SIZE, 0, True))
    assert notes == order
    assert [stretch.samples for stretch, _ in said] == [4, 4, 2]
    rows = torch.cat([columns["embedding"] for _, columns in said])
    assert rows.dtype == torch.float32
    assert torch.equal(rows, source.batch(np.arange(ROWS))["image"].half().float().flatten(1))
