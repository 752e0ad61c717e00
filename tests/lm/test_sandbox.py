"""Programs that a model wrote are run where they can do little but compute. Here they try to do more."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from autodidact.lm import sandbox
from autodidact.lm.confinement import TIME_EXIT
from autodidact.lm.sandbox import LAYERS, Layer, guarantees, layers_in_force, run_program

KERNEL = tuple(layer for layer in LAYERS if layer != "hooks")
ATTEMPT = """
def attempt(name, act):
    try:
        act()
    except BaseException as refused:
        print(name, "refused", type(refused).__name__)
    else:
        print(name, "done")

"""
C = "import ctypes, os\nc = ctypes.CDLL(None, use_errno=True)\n"


def attempts(program: str, layers: tuple[Layer, ...] = LAYERS, **bounds: float) -> dict[str, str]:
    """What became of each attempt of a program. All of them were made."""
    ran = run_program(ATTEMPT + program, layers=layers, **bounds)  # type: ignore[arg-type]
    assert ran.outcome == "ok", ran
    return {line.split()[0]: line.split()[1] for line in ran.stdout.splitlines()}


def held_by_kernel(*names: str) -> None:
    """Skip where the kernel does not hold it: then nothing is promised."""
    if missing := [name for name in names if guarantees()[name] != "kernel"]:
        pytest.skip(f"this kernel does not hold {', '.join(missing)}")


def in_force(layers: tuple[Layer, ...]) -> None:
    """Skip where the kernel does not have them all."""
    if missing := set(layers) - layers_in_force():
        pytest.skip(f"this kernel does not have {', '.join(missing)}")


def test_a_program_reads_its_input_and_what_it_writes_is_told():
    ran = run_program("import sys; print(sum(map(int, input().split()))); print('é', file=sys.stderr)", stdin="3 4\n")
    assert (ran.stdout, ran.stderr, ran.outcome) == ("7\n", "é\n", "ok")


def test_without_an_input_the_input_is_at_its_end():
    assert run_program("import sys; print(repr(sys.stdin.read()))").stdout == "''\n"


def test_a_long_input_is_given_whole():
    ran = run_program("import sys; print(len(sys.stdin.read()))", stdin="a" * 3_000_000)
    assert ran.stdout == "3000000\n"


def test_a_failing_program_is_an_error_that_tells_of_its_own_lines():
    ran = run_program("def f():\n    return 1 / 0\nf()")
    assert ran.outcome == "error"
    assert 'File "program.py", line 2, in f' in ran.stderr
    assert "ZeroDivisionError" in ran.stderr
    assert "confinement" not in ran.stderr


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("raise SystemExit(0)", "ok"),
        ("raise SystemExit(3)", "error"),
        ("def", "error"),
        ("x = '\0'", "error"),
        ("x = '\ud800'", "error"),
        ("import os; os.abort()", "error"),
        ("", "ok"),
    ],
)
def test_how_a_program_ends_is_told(program: str, outcome: str):
    assert run_program(program).outcome == outcome


def test_ordinary_programs_run():
    program = """
import asyncio, collections, dataclasses, decimal, functools, hashlib, heapq, itertools, json, math, random, threading
async def six(): return 6
with open("kept.txt", "w") as file: file.write("7")
found = []
worker = threading.Thread(target=lambda: found.append(int(open("kept.txt").read()))); worker.start(); worker.join()
print(asyncio.run(six()) * found[0], __name__)
"""
    ran = run_program(program, seconds=20)
    assert (ran.stdout, ran.stderr, ran.outcome) == ("42 __main__\n", "", "ok")


def test_an_endless_program_is_stopped_at_its_time():
    began = time.monotonic()
    assert run_program("print('begun', flush=True)\nwhile True: pass", seconds=0.5).outcome == "timeout"
    ran = run_program("import time\nprint('begun', flush=True)\ntime.sleep(1000)", seconds=0.5)
    assert (ran.outcome, ran.stdout) == ("timeout", "begun\n")
    assert time.monotonic() - began < 60


def test_a_program_that_closes_its_outputs_is_stopped_all_the_same():
    assert run_program("import os, time\nos.close(1); os.close(2)\ntime.sleep(1000)", seconds=0.3).outcome == "timeout"


def test_a_program_that_ignores_signals_is_stopped_all_the_same():
    program = "import signal, time\nfor s in (15, 2, 1): signal.signal(s, signal.SIG_IGN)\ntime.sleep(1000)"
    for layers in (LAYERS, ()):
        assert run_program(program, seconds=0.3, layers=layers).outcome == "timeout"


def test_too_much_memory_is_told():
    for program in ("x = bytearray(10**9)", "x = []\nwhile True: x.append(bytearray(10**6))"):
        assert run_program(program, seconds=20).outcome == "memory"


def test_endless_output_is_cut_off():
    ran = run_program("while True: print('x' * 1000)", output_kb=2, seconds=20)
    assert (ran.outcome, len(ran.stdout)) == ("output", 2048)
    ran = run_program("import sys\nprint('kept')\nwhile True: sys.stderr.write('y' * 1000)", output_kb=2, seconds=20)
    assert (ran.outcome, len(ran.stderr)) == ("output", 2048)


def test_its_folder_is_empty_but_for_the_program_and_gone_afterwards():
    ran = run_program("import os; print(os.getcwd()); print(os.listdir())")
    folder, listed = ran.stdout.splitlines()
    assert listed == "['program.py']"
    assert not Path(folder).exists()


def test_the_environment_is_not_handed_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AUTODIDACT_SECRET", "unheard")
    # Python itself may set the locale.
    assert run_program("import os; print(sorted(set(os.environ) - {'LC_CTYPE'}))").stdout == "[]\n"


def test_programs_run_side_by_side():
    with ThreadPoolExecutor(4) as pool:
        ran = list(pool.map(lambda number: run_program(f"print({number})", seconds=20).stdout, range(6)))
    assert ran == [f"{number}\n" for number in range(6)]


def test_bounds_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="seconds must be above 0, got 0"):
        run_program("", seconds=0)
    with pytest.raises(ValueError, match="memory_mb must be at least 64, got 1"):
        run_program("", memory_mb=1)
    with pytest.raises(ValueError, match="output_kb must be at least 1, got 0"):
        run_program("", output_kb=0)
    with pytest.raises(ValueError, match="layer 'hook'"):
        run_program("", layers=["hook"])  # type: ignore[list-item]


def test_a_process_that_cannot_be_confined_runs_no_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise OSError('no such luck')")
    monkeypatch.setattr(sandbox, "_script", lambda: broken)
    with pytest.raises(RuntimeError, match=r"(?s)the program was not run: .*no such luck"):
        run_program("print(1)")


def test_what_holds_is_told_of_every_concern():
    held = guarantees()
    assert set(held) == {"network", "files", "attributes", "processes", "leftovers", "signals", "disk"}
    assert set(held.values()) <= {"kernel", "hooks", "nothing"}


NETWORK = """
import socket
def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as s: s.connect(address)
attempt("inet", lambda: connect(socket.AF_INET, ("127.0.0.1", PORT)))
attempt("unix", lambda: connect(socket.AF_UNIX, PATH))
"""


@pytest.mark.parametrize("layers", [("seccomp",), ("namespaces",), ("hooks",), LAYERS])
def test_nothing_is_connected_to(layers: tuple[Layer, ...], tmp_path: Path):
    import socket

    in_force(layers)
    with socket.socket() as inet, socket.socket(socket.AF_UNIX) as unix:
        inet.bind(("127.0.0.1", 0))
        inet.listen()
        unix.bind(str(tmp_path / "socket"))
        unix.listen()
        program = f"PORT, PATH = {inet.getsockname()[1]}, {str(tmp_path / 'socket')!r}\n" + NETWORK
        made = attempts(program, layers)
    assert made["inet"] == "refused"
    # A network of its own leaves sockets that are files; the other layers do not.
    assert made["unix"] == ("done" if layers == ("namespaces",) else "refused")


FILES = """
import os
attempt("password", lambda: open("/etc/passwd").read())
attempt("environment", lambda: open("/proc/self/environ").read())
attempt("parent", lambda: open(f"/proc/{PARENT}/environ").read())
attempt("reading", lambda: open(OUT + "/kept").read())
attempt("listing", lambda: os.listdir(OUT))
attempt("writing", lambda: open(OUT + "/new", "w"))
attempt("appending", lambda: open(OUT + "/kept", "a"))
attempt("truncating", lambda: os.truncate(OUT + "/kept", 0))
attempt("removing", lambda: os.remove(OUT + "/kept"))
attempt("folder", lambda: os.mkdir(OUT + "/folder"))
attempt("moving", lambda: os.rename("program.py", OUT + "/program.py"))
attempt("linking", lambda: os.link(OUT + "/kept", "kept"))
def through():
    os.symlink(OUT + "/kept", "soft")
    open("soft").read()
attempt("through", through)
"""


@pytest.mark.parametrize("layers", [("landlock",), ("hooks",), LAYERS])
def test_no_file_outside_is_read_or_written(layers: tuple[Layer, ...], tmp_path: Path):
    in_force(layers)
    (tmp_path / "kept").write_text("kept")
    made = attempts(f"OUT, PARENT = {str(tmp_path)!r}, {os.getpid()}\n" + FILES, layers)
    assert {name for name, end in made.items() if end == "done"} == set()
    assert len(made) == 13
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_text() == "kept"


def test_modes_owners_and_times_outside_stay(tmp_path: Path):
    held_by_kernel("attributes")
    kept = tmp_path / "kept"
    kept.write_text("kept")
    before = kept.stat()
    program = f"import os\nKEPT = {str(kept)!r}\n" + (
        "attempt('mode', lambda: os.chmod(KEPT, 0o777))\n"
        "attempt('owner', lambda: os.chown(KEPT, os.getuid(), os.getgid()))\n"
        "attempt('time', lambda: os.utime(KEPT, (0, 0)))\n"
        "attempt('attribute', lambda: os.setxattr(KEPT, 'user.a', b'b'))\n"
        "attempt('pipe', lambda: os.mkfifo('pipe'))\n"
    )
    assert set(attempts(program, ("seccomp",)).values()) == {"refused"}
    assert kept.stat() == before


PROCESSES = """
import os, subprocess, sys
attempt("fork", lambda: os.fork() or os._exit(0))
attempt("shell", lambda: os.system("true") and 1 / 0)
attempt("subprocess", lambda: subprocess.run([sys.executable, "-c", ""]))
attempt("spawn", lambda: os.posix_spawn("/bin/true", ["true"], {}))
attempt("exec", lambda: os.execv("/bin/true", ["true"]))
"""


@pytest.mark.parametrize("layers", [("seccomp",), ("hooks",)])
def test_no_process_is_started(layers: tuple[Layer, ...]):
    in_force(layers)
    assert attempts(PROCESSES, layers) == dict.fromkeys(("fork", "shell", "subprocess", "spawn", "exec"), "refused")


def test_a_fork_bomb_does_not_go_off():
    held_by_kernel("processes")
    ran = run_program("import os\nwhile True: os.fork()", layers=KERNEL, seconds=20)
    assert ran.outcome == "error"
    assert "PermissionError" in ran.stderr


def test_threads_are_bounded_by_memory():
    program = "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
    ran = run_program(program, seconds=20)
    assert ran.outcome == "error"
    assert "can't start new thread" in ran.stderr


@pytest.mark.parametrize("layers", [("namespaces",), KERNEL, LAYERS])
def test_no_process_is_left_behind(layers: tuple[Layer, ...]):
    in_force(layers)
    name = f"left{os.getpid() % 10_000_000}"
    program = (
        C
        + f"""
try: child = os.fork()
except OSError: child = 1
if child == 0:
    os.setsid(); os.close(1); os.close(2)
    c.prctl(15, b"{name}", 0, 0, 0); c.prctl(1, 0, 0, 0, 0)
    import time; time.sleep(100)
"""
        if "hooks" not in layers
        else "import os; os.fork()"
    )
    ran = run_program(program, layers=layers, seconds=20)
    assert ran.outcome == ("error" if "hooks" in layers else "ok"), ran
    assert name not in running()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def test_a_program_ends_with_who_started_it(tmp_path: Path):
    in_force(("namespaces",))
    name = f"orphan{os.getpid() % 1_000_000}"
    code = C + f"c.prctl(15, b'{name}', 0, 0, 0)\nprint('on', flush=True)\nimport time; time.sleep(100)"
    starts = f"from autodidact.lm.sandbox import run_program\nrun_program({code!r}, seconds=100, layers=['namespaces'])"
    # Who is killed leaves the program's folder behind.
    with subprocess.Popen([sys.executable, "-c", starts], env=os.environ | {"TMPDIR": str(tmp_path)}) as caller:
        until(lambda: name in running())
        caller.kill()
    until(lambda: name not in running())


def running() -> list[str]:
    return [_read(path) for path in Path("/proc").glob("[0-9]*/comm")]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        os.sched_yield()


SIGNALS = """
import os, signal
attempt("parent", lambda: os.kill(PARENT, 0))
attempt("waiting", lambda: os.kill(os.getppid() or PARENT, 9))
attempt("group", lambda: os.killpg(PARENT_GROUP, 0))
attempt("handle", lambda: os.pidfd_open(PARENT))
"""


@pytest.mark.parametrize("layers", [("seccomp",), ("namespaces",), LAYERS])
def test_no_other_process_is_signalled(layers: tuple[Layer, ...]):
    in_force(layers)
    program = f"PARENT, PARENT_GROUP = {os.getpid()}, {os.getpgrp()}\n" + SIGNALS
    assert set(attempts(program, layers).values()) == {"refused"}


def test_code_that_gets_around_the_hooks_meets_the_kernel(tmp_path: Path):
    held_by_kernel("files", "network")
    program = f"""
import os, sys
# The hook believes what the path functions say.
os.path.realpath = lambda path, **_: os.getcwd()
attempt("password", lambda: open("/etc/passwd").read())
attempt("writing", lambda: open({str(tmp_path / "new")!r}, "w"))
# It is not asked about functions of the C library that were looked up before it.
frame = sys._getframe()
while "_LIBC" not in frame.f_globals: frame = frame.f_back
c = frame.f_globals["_LIBC"]
def called(result):
    if result < 0: raise OSError
attempt("named", lambda: called(c.prctl(15, b"mine", 0, 0, 0)))
attempt("unshared", lambda: called(c.unshare(0x10000000)))
attempt("mounted", lambda: called(c.mount(b"proc", b".", b"proc", 0, 0)))
attempt("deathless", lambda: called(c.prctl(1, 0, 0, 0, 0)))
attempt("unknown", lambda: called(c.syscall(463, 0, 0, 0, 0)))
"""
    made = attempts(program)
    refused = dict.fromkeys(("password", "writing", "unshared", "mounted", "deathless", "unknown"), "refused")
    assert made == {"named": "done", **refused}
    assert not (tmp_path / "new").exists()


def test_the_kernel_holds_what_a_program_asks_it_by_itself(tmp_path: Path):
    held_by_kernel("files", "network", "processes", "signals", "attributes")
    kept = tmp_path / "kept"
    kept.write_text("kept")
    program = f"""
import ctypes
c = ctypes.CDLL(None, use_errno=True)
kept, pid, pair = {str(kept).encode()!r}, {os.getpid()}, (ctypes.c_int * 2)()
def called(result):
    if result < 0: raise OSError
attempt("own", lambda: called(c.getpid()))
attempt("stream", lambda: called(c.socketpair(1, 1, 0, pair)))
attempt("open", lambda: called(c.open(kept, 0)))
attempt("create", lambda: called(c.open(kept + b"2", 0o102, 0o600)))
attempt("unlink", lambda: called(c.unlink(kept)))
attempt("chmod", lambda: called(c.chmod(kept, 0o777)))
attempt("truncate", lambda: called(c.truncate(kept, 0)))
attempt("socket", lambda: called(c.socket(2, 1, 0)))
attempt("datagrams", lambda: called(c.socketpair(1, 2, 0, pair)))
attempt("fork", lambda: called(c.fork()))
attempt("execute", lambda: called(c.execve(b"/bin/true", None, None)))
attempt("trace", lambda: called(c.ptrace(16, pid, 0, 0)))
attempt("kill", lambda: called(c.kill(pid, 0)))
attempt("everyone", lambda: called(c.kill(-1, 0)))
attempt("owner", lambda: called(c.fcntl(1, 8, pid)))
attempt("session", lambda: called(c.setpgid(0, 0)))
attempt("memory", lambda: called(c.memfd_create(b"m", 0)))
attempt("bounds", lambda: called(c.prlimit64(pid, 0, None, None)))
"""
    made = attempts(program, KERNEL)
    assert {name for name, end in made.items() if end == "done"} == {"own", "stream"}
    assert len(made) == 18
    assert kept.read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_hooks_alone_refuse_foreign_calls():
    made = attempts("def load():\n    import ctypes\n    ctypes.CDLL(None)\nattempt('load', load)", ("hooks",))
    assert made == {"load": "refused"}


def test_its_files_take_no_more_than_their_share_of_the_disk():
    held_by_kernel("disk")
    program = """
def fill():
    for number in range(100):
        with open(str(number), "wb") as file: file.write(bytes(2**20))
attempt("fill", fill)
def many():
    for number in range(5000): open(f"m{number}", "w").close()
attempt("many", many)
"""
    assert attempts(program, seconds=20) == {"fill": "refused", "many": "refused"}


def test_processor_time_of_many_threads_counts(monkeypatch: pytest.MonkeyPatch):
    """Where the clock does not stop it, the kernel does, which counts its threads together, and it is told as time."""
    watch = sandbox._watch
    monkeypatch.setattr(sandbox, "_watch", lambda process, ready, _, most: watch(process, ready, 300.0, most))
    # Hashing goes on without the interpreter's lock.
    program = """
import hashlib, threading, time
block, written = bytes(2**20), threading.Lock()
def burn(name):
    told = 0.0
    while True:
        hashlib.sha256(block)
        if time.thread_time() > told + 0.05:
            told = time.thread_time()
            with written: print(name, told, flush=True)
for name in "abcd": threading.Thread(target=burn, args=name).start()
"""
    began = time.monotonic()
    ran = run_program(program, seconds=0.5)
    assert ran.outcome == "timeout"
    assert time.monotonic() - began < 100
    used = {name: float(seconds) for name, seconds in map(str.split, ran.stdout.splitlines())}
    # Two seconds more than what it was given of the clock, but for what was not told at the end.
    assert set(used) == set("abcd")
    assert 1.2 < sum(used.values()) < 3.5
    assert max(used.values()) < 1.2


def test_an_end_that_the_kernel_brought_for_want_of_time_is_told_as_time():
    assert run_program(f"raise SystemExit({TIME_EXIT})").outcome == "timeout"


def test_a_program_is_compiled_as_it_stands():
    """Not as what runs it is, whose annotations are texts."""
    assert run_program("def f(x: int): pass\nprint(f.__annotations__['x'] is int)").stdout == "True\n"


def test_limits_cannot_be_raised():
    program = """
import resource
for name in ("AS", "CPU", "FSIZE", "NOFILE"):
    kind = getattr(resource, "RLIMIT_" + name)
    attempt(name, lambda: resource.setrlimit(kind, (resource.getrlimit(kind)[1] + 1,) * 2))
"""
    assert set(attempts(program, KERNEL).values()) == {"refused"}
