"""What the process of a model-written program does to itself before it runs the program. Run as a script, by `sandbox`.

It needs the standard library alone, and imports little of it: every program pays for that. The order of the steps
matters: namespaces while there is one thread, then a child, which is the first process of its own process namespace;
in the child limits, Landlock, a filter of system calls, a hook, and then the program. The parent of the child runs
nothing of the program's; it waits, and kills the child when it is told to end or when who started it dies.
"""

from __future__ import annotations

import ctypes
import errno
import marshal
import os
import resource
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

MEMORY_EXIT, TIME_EXIT = 113, 114
"""Statuses that say that the program ran out of memory, or of processor time."""
PROGRAM = "program.py"
DISK_MB = 16
"""Size of the program's folder, and of any file in it."""
OPEN_FILES = 64
THREADS = 64

_LIBC = ctypes.CDLL(None, use_errno=True)

_CLONE = 0x00020000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
"""New namespaces of mounts, host name, IPC, users, processes and network (linux/sched.h)."""


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def enter_namespaces(folder: str) -> list[str]:
    """No network, no sight of other processes, and a small folder in memory, as far as the kernel grants them.

    The folder is mounted where the empty one was, for this process and its children alone.
    """
    user, group = os.getuid(), os.getgid()
    if not hasattr(_LIBC, "unshare") or _LIBC.unshare(_CLONE) != 0:
        return []
    try:
        for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 (pathlib costs milliseconds a program)
                file.write(line)
        options = f"size={DISK_MB}m,nr_inodes=1024,mode=700".encode()
        # Neither devices nor set-user-id programs.
        _checked(_LIBC.mount(b"tmpfs", folder.encode(), b"tmpfs", ctypes.c_ulong(2 | 4), options), "mount")
    except OSError:
        return ["namespaces"]
    os.chdir(folder)
    return ["namespaces", "disk"]


def limit(seconds: float, memory_mb: int, *, namespaces: bool) -> None:
    """Bounds by the kernel for memory, processor time, files, and processes with threads."""
    # Another user's count includes what else that user runs, unless it is of a namespace of its own.
    bounds = {
        "RLIMIT_AS": memory_mb * 2**20,
        "RLIMIT_CPU": int(seconds) + 2,
        "RLIMIT_FSIZE": DISK_MB * 2**20,
        "RLIMIT_NOFILE": OPEN_FILES,
        "RLIMIT_NPROC": THREADS if namespaces else 0,
        "RLIMIT_CORE": 0,
    }
    for name, bound in bounds.items():
        kind = getattr(resource, name, None)
        if kind is not None:
            hard = resource.getrlimit(kind)[1]
            least = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
            resource.setrlimit(kind, (least, least))


def drop_privileges() -> None:
    """No capability is left, and none can be won by running a program."""
    if hasattr(_LIBC, "prctl"):
        _checked(_LIBC.prctl(38, 1, 0, 0, 0), "no new privileges")
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        _checked(_LIBC.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def restrict_files(folder: str, readable: Sequence[str]) -> list[str]:
    """Landlock: everything below the folder, reading below `readable`, and nothing else; no TCP, no signals out.

    It counts as in force only where it stops truncation too (version 3 of its interface, Linux 6.2).
    """
    if sys.platform != "linux":
        return []
    call = _LIBC.syscall
    create, add, restrict = 444, 445, 446
    version = call(create, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 3:
        return []
    files = 2**16 - 1 if version >= 5 else 2**15 - 1
    read = 1 << 2 | 1 << 3
    # Not in its folder either: to execute, devices, sockets, pipes with names, links out of it.
    write = files & ~(1 << 0 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 13 | 1 << 15)
    network, scoped = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = _checked(call(create, (ctypes.c_uint64 * 3)(files, network, scoped), ctypes.c_size_t(size), 0), "Landlock")
    for path, access in [(folder, write), *((path, read) for path in readable)]:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        allowed = access if os.path.isdir(path) else access & ~(1 << 3)  # noqa: PTH112
        rule = allowed.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder)
        _checked(call(add, rules, 1, rule, 0), f"Landlock for {path}")
        os.close(place)
    _checked(call(restrict, rules, 0), "Landlock")
    os.close(rules)
    return ["landlock"]


_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine -> column of `_CALLS`, and what the kernel calls it."""
_LAST = 456
"""No system call after this one is known here, so none is let through."""
_CALLS: dict[str, tuple[int, int]] = {
    # Other processes: to start, trace, signal, or slow them down.
    "fork": (57, -1), "vfork": (58, -1), "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117),
    "setsid": (112, 157), "setpgid": (109, 154), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272), "setpriority": (141, 140),
    "ioprio_set": (251, 30), "sched_setparam": (142, 118), "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122), "sched_setattr": (314, 274), "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    # The network, and memory that is shared with others or not counted.
    "socket": (41, 198), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    # What Landlock leaves alone: modes, owners, times, attributes, watching, handles.
    "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, -1),
    "fchown": (93, 55), "lchown": (94, -1), "fchownat": (260, 54), "utime": (132, -1), "utimes": (235, -1),
    "futimesat": (261, -1), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "mknod": (133, -1), "mknodat": (259, 33), "inotify_init": (253, -1), "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27), "fanotify_init": (300, 262), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # Large or rarely needed doors of the kernel.
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "syslog": (103, 116), "personality": (135, 92), "acct": (163, 89),
    "quotactl": (179, 60),
    # Those below, and clone3, whose arguments no filter sees.
    "clone": (56, 220), "clone3": (435, 435), "kill": (62, 129), "tgkill": (234, 131), "socketpair": (53, 199),
    "prctl": (157, 167), "prlimit64": (302, 261), "fcntl": (72, 25), "ioctl": (16, 29),
}  # fmt: skip
"""System call -> its number on x86_64 and on aarch64; -1 where there is none."""


def filter_calls() -> list[str]:
    """A filter of system calls: no process, no socket, no signal to others, and what else `_CALLS` holds."""
    if sys.platform != "linux" or os.uname().machine not in _ARCHITECTURES or sys.maxsize < 2**32:
        return []
    column, architecture = _ARCHITECTURES[os.uname().machine]
    numbers = {name: both[column] for name, both in _CALLS.items() if both[column] != -1}
    allow, kill, refuse, absent = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
    load, equal, greater, both_bits, give = 0x20, 0x15, 0x25, 0x54, 0x06
    program: list[tuple[int, int, int, int]] = [
        (load, 0, 0, 4),
        (equal, 1, 0, architecture),
        (give, 0, 0, kill),
        (load, 0, 0, 0),
        (greater, 0, 1, _LAST),
        (give, 0, 0, absent),
        # glibc then uses clone, whose flags can be seen.
        (equal, 0, 1, numbers.pop("clone3")),
        (give, 0, 0, absent),
    ]
    own = os.getpid()
    # Call, argument, its bits that count, their value, whether that value is refused or every other.
    for name, argument, mask, value, refused in (
        ("clone", 0, 0x10000, 0x10000, False),  # threads only
        ("kill", 0, 0xFFFFFFFF, own, False),
        ("tgkill", 0, 0xFFFFFFFF, own, False),
        ("socketpair", 0, 0xFFFFFFFF, 1, False),  # Unix, and
        ("socketpair", 1, 0xF, 1, False),  # stream: connected from the start, and to nothing else ever
        ("prctl", 0, 0xFFFFFFFF, 1, True),  # to outlive who waits for it
        ("prlimit64", 0, 0xFFFFFFFF, 0, False),
        ("fcntl", 1, 0xFFFFFFFF, 8, True),  # signals to an owner of a file
        ("fcntl", 1, 0xFFFFFFFF, 15, True),
        ("ioctl", 1, 0xFFFFFFFF, 0x8901, True),
        ("ioctl", 1, 0xFFFFFFFF, 0x8902, True),
        ("ioctl", 1, 0xFFFFFFFF, 0x5412, True),  # typing into a terminal
    ):
        program += [
            (equal, 0, 5, numbers[name]),
            (load, 0, 0, 16 + 8 * argument),
            (both_bits, 0, 0, mask),
            (equal, *((0, 1) if refused else (1, 0)), value),
            (give, 0, 0, refuse),
            (load, 0, 0, 0),
        ]
    conditional = ("clone", "kill", "tgkill", "socketpair", "prctl", "prlimit64", "fcntl", "ioctl")
    for name in numbers.keys() - set(conditional):
        program += [(equal, 0, 1, numbers[name]), (give, 0, 0, refuse)]
    program.append((give, 0, 0, allow))

    class Instruction(ctypes.Structure):
        _fields_ = [("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32)]

    class Filter(ctypes.Structure):
        _fields_ = [("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(Instruction))]

    instructions = (Instruction * len(program))(*(Instruction(*one) for one in program))
    whole = Filter(len(program), ctypes.cast(instructions, ctypes.POINTER(Instruction)))
    if _LIBC.prctl(22, 2, ctypes.byref(whole), 0, 0) != 0:
        return []
    return ["seccomp"]


_REFUSED = (
    "ctypes.", "fcntl.", "ftplib.", "gc.", "http.", "imaplib.", "nntplib.", "os.chmod", "os.chown", "os.exec",
    "os.fork", "os.kill", "os.lchown", "os.lockf", "os.posix_spawn", "os.removexattr", "os.setxattr", "os.spawn",
    "os.startfile", "os.system", "os.utime", "poplib.", "pty.", "resource.", "signal.pthread_kill", "smtplib.",
    "socket.bind", "socket.connect", "socket.get", "socket.send", "sqlite3.", "subprocess.", "syslog.", "telnetlib.",
    "urllib.", "webbrowser.",
)  # fmt: skip
_WRITING = ("os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate")
_LISTING = ("os.listdir", "os.scandir")


def hook(folder: str, readable: Sequence[str]) -> list[str]:
    """Refuse in Python what the kernel refuses too, where it does. It stops accidents: intent finds a way around."""
    folder = os.path.realpath(folder)
    places = tuple(os.path.realpath(path) for path in readable)
    to_write = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def within(path: Any, allowed: Sequence[str]) -> bool:
        real = os.path.realpath(os.fsdecode(path))
        return any(real == place or real.startswith(place + os.sep) for place in allowed)

    def watch(event: str, details: tuple[Any, ...]) -> None:
        fine = True
        if event == "open":
            path, mode, flags = details
            if not isinstance(path, int):
                writing = bool((flags or 0) & to_write) or any(letter in (mode or "") for letter in "wax+")
                fine = within(path, (folder,) if writing else (folder, *places))
        elif event == "socket.__new__":
            fine = details[1] == 1
        elif event in _LISTING:
            fine = isinstance(details[0], int) or within(details[0] or ".", (folder, *places))
        elif event in _WRITING:
            fine = all(within(path, (folder,)) for path in details if isinstance(path, str | bytes | os.PathLike))
        elif event.startswith(_REFUSED):
            fine = False
        if not fine:
            raise PermissionError(errno.EPERM, f"a sandboxed program may not do this: {event}")

    sys.addaudithook(watch)
    return ["hooks"]


def run(order: Mapping[str, Any], held: Sequence[str], status: int) -> int:
    """The program's process, once it is confined. Returns its exit status, or raises SystemExit as the program does."""
    wanted, folder, readable = order["layers"], order["folder"], order["readable"]
    with open(PROGRAM, "w", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        file.write(order["code"])
    held = list(held)
    # A process of its own session: signals of its group reach nobody else.
    os.setsid()
    if hasattr(_LIBC, "prctl"):
        _checked(_LIBC.prctl(1, signal.SIGKILL, 0, 0, 0), "death signal")
    drop_privileges()
    if "landlock" in wanted:
        held += restrict_files(folder, readable)
    limit(order["seconds"], order["memory_mb"], namespaces="namespaces" in held)
    if "seccomp" in wanted:
        held += filter_calls()
    # Nor may a program of no ill will find them loaded: imported anew they are seen by the hook.
    for name in [name for name in sys.modules if name.partition(".")[0] in ("ctypes", "_ctypes")]:
        del sys.modules[name]
    main = type(sys)("__main__")
    main.__dict__.update(__file__=PROGRAM, __builtins__=__builtins__)
    sys.modules["__main__"], sys.argv, code = main, [PROGRAM], order["code"]
    os.write(status, " ".join(held + (["hooks"] if "hooks" in wanted else [])).encode() + b"\n")
    os.close(status)
    if "hooks" in wanted:
        hook(folder, readable)
    try:
        exec(compile(code, PROGRAM, "exec", dont_inherit=True), main.__dict__)
    except SystemExit:
        raise
    except BaseException as raised:  # noqa: BLE001 (whatever the program raises is the program's end)
        traceback = raised.__traceback__
        raised = raised.with_traceback(traceback and traceback.tb_next)
        sys.excepthook(type(raised), raised, raised.__traceback__)
        return MEMORY_EXIT if isinstance(raised, MemoryError) else 1
    return 0


def supervise() -> int:
    """Read what is to be done, start the program's process, and wait for it."""
    status = int(sys.argv[1])
    read = b""
    while part := os.read(0, 2**16):
        read += part
    order = marshal.loads(read)
    if hasattr(_LIBC, "prctl"):
        # Who started this one is gone: so is the program.
        _LIBC.prctl(1, signal.SIGTERM, 0, 0, 0)
    _give_input(order["stdin"])
    held = enter_namespaces(order["folder"]) if "namespaces" in order["layers"] else []
    child = os.fork()
    if child == 0:
        return run(order, held, status)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    os.close(status)
    _, ended, used = os.wait4(child, 0)
    if os.WIFSIGNALED(ended):
        late = used.ru_utime + used.ru_stime > order["seconds"]
        os._exit(TIME_EXIT if os.WTERMSIG(ended) == signal.SIGKILL and late else 128 + os.WTERMSIG(ended))
    os._exit(os.waitstatus_to_exitcode(ended))


def _give_input(text: str) -> None:
    """Make a text the standard input. A file takes any length, as no pipe does; nothing but the descriptor is left."""
    name = "input"
    with open(name, "wb") as file:  # noqa: PTH123
        file.write(text.encode("utf-8", "replace"))
    kept = os.open(name, os.O_RDONLY)
    os.unlink(name)  # noqa: PTH108
    os.dup2(kept, 0)
    os.close(kept)


if __name__ == "__main__":
    sys.exit(supervise())
