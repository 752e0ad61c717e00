"""What the benchmarks share: their arguments, what surrounds a measurement, and how a result is told."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from autodidact.verbs.doctor import cpu_name


def arguments(doc: str | None, *, rounds: int, threads: int = 1) -> argparse.ArgumentParser:
    """A parser with the options that all have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=threads)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    return parser


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
    """Means of the figures that so many processes of a command print as their last line, in JSON, all at once.

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
        found.append(json.loads(said.splitlines()[-1]))
    return {figure: statistics.fmean(one[figure] for one in found) for figure in found[0]}


def resident(which: str) -> int:
    """Bytes: VmRSS is the resident size now, VmHWM the highest since `forget_the_highest` (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which + ":"))


def forget_the_highest() -> None:
    """Let VmHWM begin anew."""
    Path("/proc/self/clear_refs").write_text("5")
