"""Size and time of many files, asked of the system by several processes: threads would wait for Python's lock.

The other processes run this file alone, without the package and without what is installed; it imports nothing else.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from array import array
from collections.abc import Sequence

WORTH_A_PROCESS = 25_000
"""Files that are worth another process: it starts in 20 ms, and a file takes some 3 microseconds."""
GONE, OTHER = -1, -2
"""In the place of a size: nothing is there, as behind a dangling link; what is there is no regular file."""


def asked(names: Sequence[str] | Sequence[bytes], descriptor: int | None = None) -> array[int]:
    """Size in bytes and time of the last change in nanoseconds of every file, one after the other.

    Parameters
    ----------
    names : of the files, from inside the folder that is open at `descriptor`, else from inside the current one.
    """
    found = array("q")
    for name in names:
        try:
            status = os.stat(name, dir_fd=descriptor)
        except OSError:
            found.extend((GONE, 0))
            continue
        if stat.S_ISREG(status.st_mode):
            found.extend((status.st_size, status.st_mtime_ns))
        else:
            found.extend((OTHER, 0))
    return found


def asked_together(names: Sequence[str], folder: str, descriptor: int, processes: int) -> array[int]:
    """`asked` of the files of one folder, shared out to as many processes as they are worth, this one included.

    What a process does not answer, because it cannot be started or ends early, is asked here.
    """
    processes = max(1, min(processes, len(names) // WORTH_A_PROCESS))
    share = max(1, -(-len(names) // processes))
    parts = [names[start : start + share] for start in range(0, len(names), share)]
    others = [_started(part, folder) for part in parts[1:]]
    found = asked(parts[0] if parts else [], descriptor)
    for part, other in zip(parts[1:], others, strict=True):
        answer = array("q")
        told = other.communicate()[0] if other is not None else b""
        if len(told) == 2 * len(part) * answer.itemsize:
            answer.frombytes(told)
        else:
            answer = asked(part, descriptor)
        found += answer
    return found


def _started(names: Sequence[str], folder: str) -> subprocess.Popen[bytes] | None:
    """A process that has been told what to ask for."""
    command = [sys.executable, "-I", "-S", os.path.abspath(__file__)]  # noqa: PTH100
    quiet = subprocess.DEVNULL
    try:
        other = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet)
    except OSError:
        return None
    assert other.stdin is not None
    try:
        other.stdin.write(os.fsencode("\0".join(names)))
        other.stdin.close()
    except OSError:
        # It has ended; its answer will be too short.
        pass
    other.stdin = None
    return other


if __name__ == "__main__":
    sys.stdout.buffer.write(asked(sys.stdin.buffer.read().split(b"\0")).tobytes())
