"""What the benchmarks share: their arguments, what surrounds a measurement, and how a result is told."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from autodidact.verbs.doctor import cpu_name


def arguments(doc: str | None, *, rounds: int, threads: int = 1) -> argparse.ArgumentParser:
    """A parser with the options that all have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=threads)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    return parser


def device_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a benchmark that has rows for a GPU too."""
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="whose rows are measured")
    small = "a few images, to try the rows out; those of a GPU run on a processor where there is none"
    parser.add_argument("--small", action="store_true", help=small)


def place(options: argparse.Namespace) -> Literal["cpu", "cuda"]:
    """Where the rows are computed: on the device that they are for, and small ones of a GPU on what is there.

    Raises
    ------
    SystemExit : a GPU is asked for where there is none.
    """
    if options.device == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if options.small:
        return "cpu"
    raise SystemExit("no GPU was found; --device cuda --small tries its rows out without one")


def where(options: argparse.Namespace) -> dict[str, Any]:
    """The device by name, nothing for a processor's rows; and that rows were small, which are no measurement."""
    at = place(options)
    name = cpu_name() if at != options.device else device_name(at)
    return {"device": name, **({"small": True} if options.small else {})}


def clock(device: str) -> float:
    """Seconds by the wall clock, once a GPU has done all that it was given."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def held(device: str) -> int:
    """Bytes that this process holds, on a GPU those of torch's tensors; `most_held` counts from here."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    forget_the_highest()
    return resident("VmRSS")


def most_held(device: str) -> int:
    """The most bytes since."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return resident("VmHWM")


def peer_is_there(module: str, left_out: str) -> bool:
    """Whether a peer can be imported; where it cannot, a line on stderr says what is left out for want of it."""
    if find_spec(module) is not None:
        return True
    name = module.replace("_", "-")
    print(f"{name} is not installed here: {left_out} is left out; `make bench` installs it", file=sys.stderr)
    return False


def surroundings(*packages: str) -> dict[str, Any]:
    """The processor, what else it has to do, and versions."""
    return {
        "processor": cpu_name(),
        "load_average": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def device_name(device: str) -> str:
    """Of the GPU, where "cuda" is meant; nothing for a processor, which `surroundings` name."""
    if device == "cpu":
        return ""
    import torch

    return torch.cuda.get_device_name()


def tell(result: Mapping[str, Any], path: Path | None) -> None:
    """Print a result, and write it."""
    told = json.dumps(result, indent=2)
    print(told)
    if path is not None:
        path.write_text(told + "\n")


def tell_rows(
    what: str, options: argparse.Namespace, rows: Sequence[Mapping[str, Any]], packages: Sequence[str], **more: Any
) -> None:
    """Tell a result of several rows, with how and where it was measured."""
    how = {"rounds": options.rounds, "threads": options.threads}
    tell({"what": what, **how, **surroundings(*packages), "rows": rows, **more}, options.json)


def side_by_side(command: Sequence[str], count: int, threads: int) -> dict[str, float]:
    """Means of the figures that so many processes of a command print in a line of JSON, all at once.

    Raises
    ------
    RuntimeError : one of them fails; with what it complained of.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, env=environment, **pipes) for _ in range(count)]
    found = []
    for one in started:
        said, complaints = one.communicate()
        if one.returncode:
            raise RuntimeError(complaints[-2000:])
        # Libraries of processes that a command starts speak when they end, some after it.
        found.append(json.loads([line for line in said.splitlines() if line.startswith("{")][-1]))
    return {figure: statistics.fmean(one[figure] for one in found) for figure in found[0]}


def resident(which: str) -> int:
    """Bytes: VmRSS is the resident size now, VmHWM the highest since `forget_the_highest` (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which + ":"))


def forget_the_highest() -> None:
    """Let VmHWM begin anew."""
    Path("/proc/self/clear_refs").write_text("5")
