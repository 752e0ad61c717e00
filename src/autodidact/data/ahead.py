"""Items of an iterator made ready by a thread while the last one is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")
BATCHES_AHEAD = 2
"""Batches that are read and decoded while a model works."""
PATIENCE = 0.1
"""Seconds after which the thread looks whether anybody is still waiting."""


@contextmanager
def ahead(items: Iterator[T], depth: int) -> Iterator[Iterator[T]]:
    """The same items, up to `depth` of them made beforehand; what the iterator raises is raised where it is its turn.

    The thread ends with the context, whether or not all items were taken.
    """
    ready: Queue[tuple[str, Any]] = Queue(depth)
    over = Event()

    def put(kind: str, value: Any) -> None:
        while not over.is_set():
            try:
                ready.put((kind, value), timeout=PATIENCE)
                break
            except Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put("item", item)
                if over.is_set():
                    return
            put("end", None)
        except Exception as error:  # noqa: BLE001  (raised again where the item is waited for)
            put("error", error)

    thread = Thread(target=work, daemon=True)
    thread.start()

    def waiting() -> Iterator[T]:
        while True:
            kind, value = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value

    try:
        yield waiting()
    finally:
        over.set()
        while thread.is_alive():
            try:
                ready.get_nowait()
            except Empty:
                thread.join(PATIENCE)
