"""Run Python programs that a model wrote, in a process that can do little but compute."""

from __future__ import annotations

import marshal
import os
import selectors
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Literal, get_args

from autodidact.catalog import unknown
from autodidact.lm import confinement
from autodidact.lm.confinement import MEMORY_EXIT, TIME_EXIT

Outcome = Literal["ok", "error", "timeout", "memory", "output"]
Layer = Literal["namespaces", "landlock", "seccomp", "hooks"]
LAYERS: tuple[Layer, ...] = get_args(Layer)
Held = Literal["kernel", "hooks", "nothing"]
STARTING = 60.0
"""Seconds within which the process must be ready to run the program, on however busy a machine."""
ENDING = 5.0
"""Seconds within which it must be gone after it was told to end, before it is killed."""


@dataclass(frozen=True)
class Ran:
    """What became of a program.

    Attributes
    ----------
    stdout, stderr : what it wrote, cut off at the bound; bytes that are no UTF-8 are replaced.
    outcome : "ok": it ended by itself with status 0. "error": with another one, as by an exception. "timeout",
        "memory", "output": it went beyond that bound. A program may say any of these of itself; see `run_program`.
    """

    stdout: str
    stderr: str
    outcome: Outcome


def run_program(
    code: str,
    *,
    stdin: str = "",
    seconds: float = 2.0,
    memory_mb: int = 256,
    output_kb: int = 64,
    layers: Collection[Layer] = LAYERS,
) -> Ran:
    """Run a program in a process of its own, without this process's environment, files, network or privileges.

    The program has the standard library, a folder of its own that is its working folder and is removed afterwards, and
    its standard streams. Of its bounds, these are of the kernel on every POSIX system: address space, processor time,
    size of files, number of open files. This process stops it when its time or its output is used up. What else holds
    depends on the kernel; `guarantees` says what does on this machine. There are four layers, each of which is used
    where it can be:

    - namespaces (Linux, where users may create them): no network device but an unconnected one, no process
      but its own is seen, all of its processes end with its first, and its folder is a small file system in memory.
    - landlock (Linux 6.2 or later): files are written in its folder alone, and read there, in Python's library and in
      the system's shared libraries. Later versions refuse TCP and signals to other processes too.
    - seccomp (Linux on x86_64 and aarch64): no further process, no program is executed, no socket but connected pairs,
      no signal to or trace of another process, no change of modes, owners or times of files, no system call that this
      filter does not know.
    - hooks (everywhere): Python's own functions for all that are refused. This stops accidents. Code that wants to can
      find its way around it, by Python's internals or by extension modules that tell no hook.

    With Linux 6.7 and the first three layers, the kernel holds: no network; no files outside; no further processes, and
    none left behind; no signals; memory, time, output and disk. Never held: that a path outside exists, and its size
    and times, can be learnt (``os.stat``); threads are bounded by memory alone where this process is root's; a flaw of
    the kernel itself. A program whose harm would be grave belongs on a machine of its own.

    The outcome tells how the process ended and nothing else: a program that is tested by code in the same process can
    end with status 0 before the tests, or print what they would. Compare its output with what only the caller knows.

    Parameters
    ----------
    code : the program. What does not compile ends in "error", as it would elsewhere. Sets of texts have no fixed order.
    stdin : its standard input; it reads the end of the file after it.
    seconds : of the clock from its start, above 0; processor time of all its threads is bounded to two seconds more.
    memory_mb : address space, from 64. An empty program takes about 15.
    output_kb : of each of its two outputs, from 1.
    layers : those to be used. Fewer are for showing what each of them holds.

    Raises
    ------
    ValueError : bounds that make no sense, an unknown layer.
    RuntimeError : the process could not be started or confined; the program was not run.
    """
    if os.name != "posix":
        raise RuntimeError(f"programs are confined on POSIX systems alone, this one is {os.name}")
    if not 0 < seconds < float("inf"):
        raise ValueError(f"seconds must be above 0, got {seconds}")
    for name, given, least in (("memory_mb", memory_mb, 64), ("output_kb", output_kb, 1)):
        if given < least:
            raise ValueError(f"{name} must be at least {least}, got {given}")
    for layer in layers:
        if layer not in LAYERS:
            raise unknown("layer", layer, LAYERS)
    return _run(code, stdin, seconds, memory_mb, output_kb * 1024, layers)[0]


@cache
def layers_in_force() -> frozenset[str]:
    """Those of `LAYERS` that this machine has; "disk" is another, where its folder can be a file system of its own.

    Raises
    ------
    RuntimeError : as `run_program`.
    """
    return frozenset(_run("", "", 10.0, 256, 1024, LAYERS)[1])


def guarantees() -> dict[str, Held]:
    """What holds for programs on this machine, and by what: the kernel, hooks in Python, or nothing.

    network : no socket leads out, be it of the network or of this machine. files : nothing outside is written or read
    but Python's and the system's libraries. attributes : modes, owners and times of files outside stay. processes : no
    program or process is started. leftovers : no process outlives the call. signals : no other process is signalled or
    traced. disk : its files take 16 megabytes at most. Memory, time and output are always held by the kernel and by the
    calling process.

    Raises
    ------
    RuntimeError : as `run_program`.
    """
    by: dict[str, set[str]] = {
        "network": {"seccomp"},  # a network namespace leaves the sockets that are files
        "files": {"landlock"},
        "attributes": {"seccomp"},
        "processes": {"seccomp"},
        "leftovers": {"namespaces", "seccomp"},
        "signals": {"namespaces", "seccomp"},
    }
    held: dict[str, Held] = {name: "kernel" if layers & layers_in_force() else "hooks" for name, layers in by.items()}
    return held | {"disk": "kernel" if "disk" in layers_in_force() else "nothing"}


def _run(
    code: str, stdin: str, seconds: float, memory_mb: int, most: int, layers: Collection[Layer]
) -> tuple[Ran, list[str]]:
    """The program's end, and the layers that were in force."""
    with tempfile.TemporaryDirectory(prefix="autodidact-program-", ignore_cleanup_errors=True) as folder:
        order = {
            "code": code,
            "stdin": stdin,
            "seconds": seconds,
            "memory_mb": memory_mb,
            "layers": sorted(layers),
            "folder": folder,
            "readable": _readable(),
        }
        told, tells = os.pipe()
        with (
            os.fdopen(told, "rb") as ready,
            subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(_script()), str(tells)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env={},
                pass_fds=(tells,),
                start_new_session=True,
            ) as process,
        ):
            os.close(tells)
            try:
                assert process.stdin is not None
                # It may have failed already; then it does not read, and what it wrote tells why.
                with suppress(BrokenPipeError), process.stdin as given:
                    given.write(marshal.dumps(order))
                return _watch(process, ready, seconds, most)
            finally:
                _end(process)


def _watch(process: subprocess.Popen[bytes], ready: IO[bytes], seconds: float, most: int) -> tuple[Ran, list[str]]:
    """Read what the program writes until it ends or goes beyond a bound."""
    assert process.stdout is not None
    assert process.stderr is not None
    written: dict[IO[bytes], bytearray] = {ready: bytearray(), process.stdout: bytearray(), process.stderr: bytearray()}
    deadline, started = time.monotonic() + STARTING, False
    beyond: Outcome | None = None
    with selectors.DefaultSelector() as selector:
        for stream in written:
            selector.register(stream, selectors.EVENT_READ, stream)
        while selector.get_map() and beyond is None:
            events = selector.select(max(0.0, deadline - time.monotonic()))
            if not events and time.monotonic() >= deadline:
                beyond = "timeout"
            for key, _ in events:
                stream = key.data
                part = os.read(key.fd, 2**16)
                written[stream] += part
                if not part:
                    selector.unregister(stream)
                if stream is ready and part.endswith(b"\n"):
                    deadline, started = time.monotonic() + seconds, True
                elif len(written[stream]) > most and stream is not ready:
                    beyond = "output"
    if beyond is None:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            beyond = "timeout"
    out, err = (bytes(written[one][:most]).decode("utf-8", "replace") for one in (process.stdout, process.stderr))
    if not started:
        raise RuntimeError(f"the sandbox did not start, and the program was not run: {err.strip() or beyond}")
    ended: Mapping[int | None, Outcome] = {0: "ok", MEMORY_EXIT: "memory", TIME_EXIT: "timeout"}
    outcome = beyond or ended.get(process.poll(), "error")
    return Ran(out, err, outcome), written[ready].decode().split()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program and who waits for it."""
    if process.poll() is None:
        # Who waits for the program kills it when it gets this, and ends by itself. If it does not, the kernel kills the
        # program when it is gone.
        process.terminate()
        try:
            process.wait(ENDING)
        except subprocess.TimeoutExpired:
            process.kill()


def _script() -> Path:
    """What the process runs: compiled already if it can be, which saves a third of its start."""
    source = Path(confinement.__file__)
    compiled = Path((confinement.__spec__ and confinement.__spec__.cached) or "")
    fresh = compiled.is_file() and compiled.stat().st_mtime >= source.stat().st_mtime
    return compiled if fresh else source


@cache
def _readable() -> tuple[str, ...]:
    """What a program must read to import from the standard library."""
    python = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), sysconfig.get_config_var("LIBDIR")}
    system = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
    return (*sorted(filter(None, python)), *system)
