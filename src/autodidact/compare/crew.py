"""Processes that share a search: who is at work, on this machine or on others that see the folder."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from types import TracebackType

from filelock import FileLock

BEAT = 5.0
"""Seconds between signs of life."""
SILENT = 60.0
"""Seconds without one after which a process on another machine is taken for dead."""


class Crew:
    """This process among those that work in a folder.

    While the context is open it gives signs of life. `name` says which process it is; `alone` is a lock that one
    process holds at a time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "workers"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.alone = FileLock(folder / ".lock")
        self.over = threading.Event()

    def __enter__(self) -> Crew:
        self.over.clear()
        self._sign(self.name).touch()
        self.thread = threading.Thread(target=self._beat, daemon=True)
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self.thread.join()
        self._sign(self.name).unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self.over.wait(BEAT):
            self._sign(self.name).touch()

    def _sign(self, name: str) -> Path:
        return self.folder / name.replace(":", "-")

    def lives(self, name: str | None) -> bool:
        """Whether another process is at work; of this one, which has nothing else to do, it is false."""
        if name is None or name == self.name:
            return False
        host, _, number = name.rpartition(":")
        sign = self._sign(name)
        if not sign.exists() or (host == socket.gethostname() and not _runs(int(number))):
            return False
        mine = self._sign(self.name)
        mine.touch()
        # Both by the clock of the machine that the folder lies on.
        return mine.stat().st_mtime - sign.stat().st_mtime < SILENT


def _runs(number: int) -> bool:
    """Whether there is such a process, where that can be asked; elsewhere its signs of life have to do."""
    if os.name != "posix":
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
