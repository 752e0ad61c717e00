"""Batches that a thread reads and sends to a GPU while it computes: the same batches, errors and resumed weights.

There is no GPU here: a courier that leaves the batches where they are stands in its place.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.test_training import SHORT, Interrupted, Regression, interrupted_after, made, toy

from autodidact.data import ArraySource, Batch, RandomBatching
from autodidact.data.batch import Ragged
from autodidact.data.courier import tensors_of
from autodidact.methods.method import Loss, Progress, Step
from autodidact.training import feed, train
from autodidact.training.feed import SENT_AHEAD, Feed

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@dataclass
class Stays:
    """A courier that brings batches nowhere, and notes who sends and who receives."""

    device: torch.device
    senders: list[int] = dataclasses.field(default_factory=list)
    receivers: list[int] = dataclasses.field(default_factory=list)

    def send(self, batch: Batch) -> Batch:
        self.senders.append(threading.get_ident())
        return batch

    def receive(self, sent: Batch) -> Batch:
        self.receivers.append(threading.get_ident())
        return sent


@pytest.fixture
def couriers(monkeypatch: pytest.MonkeyPatch) -> list[Stays]:
    sent: list[Stays] = []

    def one(device: torch.device) -> Stays:
        sent.append(Stays(device))
        return sent[-1]

    monkeypatch.setattr(feed, "Courier", one)
    # What a DataLoader of workers does with its batches where there is a GPU.
    monkeypatch.setattr(Batch, "pin_memory", lambda self: self)
    return sent


def _feed(source: ArraySource, accumulate: int = 1) -> Feed:
    return Feed(source, RandomBatching(), 8, 3, accumulate)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
def test_a_gpu_gets_the_batches_that_a_cpu_gets(couriers: list[Stays], workers: int) -> None:
    on_cpu = list(_feed(toy(), 2).loader(3, 15, 0, CPU))
    assert couriers == []
    early = _feed(toy(), 2).loader(3, 15, workers, CUDA)
    assert len(early) == len(on_cpu) == 24
    for mine, theirs in zip(early, on_cpu, strict=True):
        assert torch.equal(mine.ids, theirs.ids)
        assert torch.equal(mine["x"], theirs["x"])
    (courier,) = couriers
    assert set(courier.receivers) == {threading.get_ident()}
    assert threading.get_ident() not in courier.senders


class Watched(ArraySource):
    """Counts what is read, in how many threads at once, and cannot read one batch."""

    def __init__(self, broken: int = -1) -> None:
        base = toy()
        super().__init__("toy", base._fields, base.schema, base.ids)
        self.read_so_far, self.broken, self.inside, self.together = 0, broken, 0, False

    def read(self, positions: Any) -> Any:
        self.inside += 1
        self.together |= self.inside > 1
        time.sleep(0.001)
        if self.read_so_far == self.broken:
            raise OSError("b.png could be read when the data was opened, now it cannot")
        self.read_so_far += 1
        found = super().read(positions)
        self.inside -= 1
        return found


@pytest.mark.usefixtures("couriers")
def test_an_error_is_raised_at_the_turn_of_the_batch_that_has_it() -> None:
    batches = iter(_feed(Watched(broken=2)).loader(0, 6, 0, CUDA))
    assert [len(next(batches)), len(next(batches))] == [8, 8]
    with pytest.raises(OSError, match=r"b\.png could be read"):
        next(batches)


@pytest.mark.usefixtures("couriers")
def test_no_more_is_read_beforehand_than_was_agreed() -> None:
    source = Watched()
    batches = iter(_feed(source).loader(0, 6, 0, CUDA))
    next(batches)
    before, read = time.monotonic(), -1
    while read != source.read_so_far and time.monotonic() < before + 5:
        read = source.read_so_far
        threading.Event().wait(0.1)
    # One was taken, one waits for a place.
    assert source.read_so_far == 1 + SENT_AHEAD + 1
    batches.close()


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch, couriers: list[Stays]) -> list[Stays]:
    loader = Feed.loader
    monkeypatch.setattr(Feed, "loader", lambda self, *given: loader(self, *given[:-1], CUDA))
    return couriers


def test_a_training_that_reads_early_goes_on_exactly_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_on_a_gpu: list[Stays]
) -> None:
    interrupted_after(9, monkeypatch)
    with pytest.raises(Interrupted):
        train(made(), toy(), SHORT, out=tmp_path, quiet=True)
    first = as_on_a_gpu[0]
    assert len(first.senders) > len(first.receivers) == 9
    monkeypatch.undo()
    resumed = train(made(), toy(), SHORT, out=tmp_path, quiet=True)
    whole = train(made(), toy(), SHORT, quiet=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


@pytest.mark.usefixtures("as_on_a_gpu")
def test_further_batches_and_sweeps_do_not_read_while_the_thread_reads() -> None:
    class Draws(Regression):
        refresh_every = 3

        def update(self, batch: Batch, step: Step) -> Loss:
            step.draw()
            return super().update(batch, step)

        def refresh(self, sweep: Any, progress: Progress) -> None:
            sweep(lambda batch: {"x": batch["x"]})

    source = Watched()
    train(Draws(), source, SHORT, quiet=True)
    assert source.read_so_far > 40
    assert not source.together


def test_all_tensors_of_a_batch_are_found_and_none_of_its_context() -> None:
    ids, x, values, lengths, inner = (torch.tensor([float(i)]) for i in range(5))
    batch = Batch(
        ids,
        {"x": x, "ragged": Ragged(values, lengths), "text": ["a"]},
        {"graph": torch.zeros(3)},
        {"one": Batch(inner)},
    )
    assert [float(tensor) for tensor in tensors_of(batch)] == [0, 1, 2, 3, 4]
