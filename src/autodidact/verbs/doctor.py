"""doctor: what is installed, which devices there are, and what would make training faster."""

from __future__ import annotations

import os
import platform
import re
import shutil
import statistics
import time
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import torch

import autodidact
from autodidact.data.cores import cores
from autodidact.data.packed import cache_folder
from autodidact.model.memory import memory_limit

# Below this much free disk a packed cache of a usual photo collection does not fit.
LITTLE_DISK = 5e9
# A product of two square matrices of this side tells what bf16 is worth; the smaller one costs 10 ms on a CPU.
SIDE = {"cpu": 512, "cuda": 4096}
WORTH_IT = 1.3


def doctor() -> dict[str, Any]:
    """Look at the installation and the machine.

    Returns
    -------
    dict, JSON-ready
        python, platform; packages (name -> version, None where it is missing); extras (name -> packages, missing, add);
        devices (a list of kind, name, memory in bytes, bf16 speed-up over float32 in a matrix product); cores, threads,
        memory in bytes; compiler (path, None where there is none); cache (folder, bytes, files, bytes that are free);
        advice (sentences, the most worthwhile first).
    """
    core, extras = _packages()
    found: dict[str, Any] = {
        "autodidact": autodidact.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": core,
        "extras": extras,
        "devices": _devices(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "memory": memory_limit(),
        "compiler": _compiler(),
        "cache": _cache(),
    }
    return {**found, "advice": _advice(found)}


def _packages() -> tuple[dict[str, str | None], dict[str, dict[str, Any]]]:
    core: dict[str, str | None] = {}
    extras: dict[str, dict[str, Any]] = {}
    for line in requires("autodidact") or ():
        name = re.split(r"[^\w.-]", line)[0]
        part_of = re.search(r"extra == [\"']([\w-]+)[\"']", line)
        if part_of is None:
            core[name] = _version(name)
        elif part_of.group(1) not in ("dev", "all") and name != "autodidact":
            extras.setdefault(part_of.group(1), {"packages": {}})["packages"][name] = _version(name)
    for extra, known in extras.items():
        known["missing"] = [name for name, found in known["packages"].items() if found is None]
        known["add"] = f"pip install 'autodidact[{extra}]'" if known["missing"] else ""
    return core, extras


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _devices() -> list[dict[str, Any]]:
    found = [{"kind": "cpu", "name": cpu_name(), "memory": None, "bf16": round(_bf16("cpu"), 2)}]
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        gain = round(_bf16("cuda", index), 2) if torch.cuda.is_bf16_supported() else None
        found.append({"kind": "gpu", "name": card.name, "memory": card.total_memory, "bf16": gain})
    return found


def cpu_name() -> str:
    """What the processor calls itself."""
    listed = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", listed.read_text()) if listed.exists() else None
    return named.group(1) if named else platform.processor() or platform.machine()


def _bf16(kind: str, index: int = 0) -> float:
    """How many times faster a matrix product is in bf16 than in float32."""
    device = torch.device(kind, index) if kind == "cuda" else torch.device(kind)
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(SIDE[kind], SIDE[kind], dtype=dtype, device=device)
        runs = []
        for _ in range(7):
            started = time.perf_counter()
            matrix @ matrix
            if kind == "cuda":
                torch.cuda.synchronize(device)
            runs.append(time.perf_counter() - started)
        seconds[dtype] = statistics.median(runs)
    return seconds[torch.float32] / seconds[torch.bfloat16]


def _compiler() -> str | None:
    """The C++ compiler that torch.compile would use."""
    for name in filter(None, (os.environ.get("CXX"), "g++", "clang++", "c++")):
        if path := shutil.which(name):
            return path
    return None


def _cache() -> dict[str, Any]:
    folder = cache_folder()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    return {
        "folder": str(folder),
        "bytes": sum(path.stat().st_size for path in files),
        "files": len(files),
        "free": shutil.disk_usage(existing).free,
        "writable": os.access(existing, os.W_OK),
    }


def _advice(found: dict[str, Any]) -> list[str]:
    """What would make training faster or is about to fail, the most worthwhile first."""
    said = []
    gpus = [device for device in found["devices"] if device["kind"] == "gpu"]
    if not gpus and shutil.which("nvidia-smi"):
        said.append(
            f"an NVIDIA driver is installed, but torch {torch.__version__} sees no GPU: install a CUDA build of torch "
            "that fits the driver (https://pytorch.org/get-started)"
        )
    elif not gpus:
        said.append("no GPU: images above 64 pixels and encoders of the size of ResNet-50 train for hours here")
    said += [
        f"{device['name']} computes {device['bf16']:.1f} times as fast in bf16: --precision bf16 for large encoders"
        for device in (gpus or found["devices"])
        if (device["bf16"] or 0) >= WORTH_IT
    ]
    if found["threads"] < found["cores"] and "OMP_NUM_THREADS" in os.environ:
        said.append(
            f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']} leaves {found['cores'] - found['threads']} of "
            f"{found['cores']} cores idle: unset it when nothing else runs"
        )
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if busy > 1.5 * found["cores"]:
        said.append(
            f"{busy:.0f} threads share {found['cores']} cores: those that wait for each other cost far more than they "
            "bring, so set OMP_NUM_THREADS=1 while that lasts"
        )
    if found["compiler"] is None:
        said.append("no C++ compiler, so --compile does not work: install g++ (Debian: apt install g++)")
    cache = found["cache"]
    if not cache["writable"]:
        said.append(f"the cache folder {cache['folder']} cannot be written: set AUTODIDACT_CACHE, or use --no-cache")
    if cache["free"] < LITTLE_DISK:
        said.append(f"{cache['free'] / 1e9:.1f} GB are free for packed images: set AUTODIDACT_CACHE to a larger disk")
    said += [
        f"{', '.join(extra['missing'])} is missing: {extra['add']}"
        for extra in found["extras"].values()
        if extra["missing"]
    ]
    return said
