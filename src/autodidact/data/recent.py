"""Pieces of files that several threads ask for, read once and held while they are in use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Recent(Generic[K, T]):
    """What was read last, read once however many threads ask for it.

    Parameters
    ----------
    read : reads what a key stands for.
    count : how many are held.
    """

    def __init__(self, read: Callable[[K], T], count: int) -> None:
        self.read, self.count = read, count
        self.held: OrderedDict[K, Future[T]] = OrderedDict()
        self.lock = Lock()

    def __call__(self, key: K) -> T:
        with self.lock:
            found = self.held.get(key)
            future = self.held[key] = found or Future()
            self.held.move_to_end(key)
            while len(self.held) > self.count:
                self.held.popitem(last=False)
        if found is None:
            try:
                future.set_result(self.read(key))
            except BaseException as error:
                with self.lock:
                    self.held.pop(key, None)
                future.set_exception(error)
                raise
        return future.result()

    def __reduce__(self) -> Any:
        return type(self), (self.read, self.count)
