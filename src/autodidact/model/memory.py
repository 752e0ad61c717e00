"""Memory of this machine, and keeping what one piece of work frees for the next one."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

GROUPS = Path("/sys/fs/cgroup")
"""Where Linux says what a group of processes may take: a container, or a job of a cluster."""
ROOM = 3
"""How many times its highest so far a process must find room for to keep what it frees: a block that was freed is cut
for smaller ones. A training with large batches was seen to grow to twice its highest, most trainings hardly at all."""
EVERY = 100
"""Pieces of work after which all that is free is given back once: gaps that nothing fits in would add up."""
THEIRS = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables of the environment by which a user sets the same: what they say is left alone."""
# Of glibc's malloc.h, and the bounds that it comes to by itself once large blocks were freed.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_LARGE, _MAPPED = 2**25, 2**16

_lock = Lock()
_inside = 0
"""Blocks of `keeping_memory` that were entered and not left."""
_kept = False


def memory_limit() -> int:
    """Bytes that this process may take: those of the machine, or of its container or job where that has fewer."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    told = Path("/proc/self/cgroup")
    for place in _limits(told.read_text() if told.exists() else ""):
        if place.exists() and (said := place.read_text().strip()).isdigit():
            found = min(found, int(said))
    return found


def memory_free() -> int:
    """Bytes of the machine that nobody holds for good."""
    return _told("meminfo", "MemAvailable:", 0)


def _limits(told: str) -> Iterator[Path]:
    """Files with the limits of the groups that a process is in, and of those above them, in both versions of Linux."""
    for line in told.splitlines():
        _, kinds, inside = line.split(":", 2)
        if not kinds:
            root, name = GROUPS, "memory.max"
        elif "memory" in kinds.split(","):
            root, name = GROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        parts = Path(inside).parts[1:]
        yield from (root.joinpath(*parts[:count], name) for count in range(len(parts) + 1))


@contextmanager
def keeping_memory(processes: int = 1) -> Iterator[Callable[[], None]]:
    """Inside, large tensors are made in memory that others have left, once the function given was called.

    Without that the memory of a freed tensor goes back to the operating system, and the next one is fetched page by
    page and filled with zeros: much of the time of a network's pass on a CPU (docs/speed.md, embedding). The function
    is to be called after every piece of work (an update, a batch). It keeps memory if `ROOM` times the highest that the
    process took so far is there and free; what was kept is given back at the end, and now and then in between
    (`EVERY`). Where the C library is not GNU's, or the environment sets its bounds, nothing happens.

    Parameters
    ----------
    processes : on this machine that work alike, in [1, inf).
    """
    global _inside, _kept
    pieces = 0

    def keep() -> None:
        nonlocal pieces
        global _kept
        if not pieces and _library() is not None and _room(processes):
            with _lock:
                _set(((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)))
                _kept = True
        pieces += 1
        if _kept and pieces % EVERY == 0:
            _set((), trim=True)

    with _lock:
        _inside += 1
    try:
        yield keep
    finally:
        with _lock:
            _inside -= 1
            if _kept and not _inside:
                _set(((_MMAP_MAX, _MAPPED), (_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, 2 * _LARGE)), trim=True)
                _kept = False


@cache
def _library() -> Any:
    """The C library where it is GNU's and its user has not set its bounds."""
    ours = sys.platform == "linux" and not any(name in os.environ for name in THEIRS)
    found = ctypes.CDLL(None) if ours else None
    return found if hasattr(found, "gnu_get_libc_version") else None


def _room(processes: int) -> bool:
    """Whether so many processes like this one can grow to `ROOM` times its highest."""
    highest = processes * _highest()
    return ROOM * highest <= memory_limit() and (ROOM - 1) * highest <= memory_free()


def _highest() -> int:
    """Bytes that this program had in memory at most, without what the one that started it had."""
    return _told("self/status", "VmHWM:", sys.maxsize)


def _told(file: str, name: str, otherwise: int) -> int:
    """Bytes that a line of the kernel's gives in KiB."""
    lines = (Path("/proc") / file).read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), otherwise)


def _set(bounds: tuple[tuple[int, int], ...], trim: bool = False) -> None:
    """Set bounds of the C library's memory, and give back what is free."""
    for which, value in bounds:
        _library().mallopt(which, value)
    if trim:
        _library().malloc_trim(0)
