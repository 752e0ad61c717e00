"""Contrastive loss, forward and backward: blocks against the dense matrix and against lightly's NTXentLoss.

Each measurement runs in a process of its own, on the same inputs: time by wall clock after a small warm-up (and by
processor, which other work on the machine disturbs less), memory as the highest resident size during the loss over the
resident size before it (Linux). Contestants are interleaved; figures are medians over rounds. The dense contestant is
the textbook one: similarities of all 2N rows, masked_fill, logsumexp, autograd. lightly takes part where it is
installed. On a GPU memory is the most that torch holds beyond the inputs, and time is the mean of several losses.

Blocks alone are run with more pairs too. Beside them stands what the others would need: their memory grows as the
matrix of similarities does, with N squared, from what was measured. Where that fits into what is free they are run.

    make bench BENCHES=contrastive
    python benchmarks/contrastive.py --json benchmarks/contrastive.json
    python benchmarks/contrastive.py --device cuda --json benchmarks/contrastive_gpu.json
    python benchmarks/contrastive.py --device cuda --small    # few pairs, without a GPU and without lightly too
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from autodidact.model.memory import memory_free, memory_limit
from common import (
    arguments,
    clock,
    device_arguments,
    held,
    most_held,
    peer_is_there,
    place,
    surroundings,
    tell,
    where,
)

GOALS = {"dense": {"memory": 1 / 20, "time": 1 / 2}, "lightly": {"memory": 1 / 20, "time": 1 / 4}}
TEMPERATURE = 0.1
GPU_TIMES = 5
"""Losses that are timed together on a GPU."""
SMALL = {"n": 1024, "d": 16, "large": 1536, "rounds": 1}
"""What is measured where a run is small."""
USABLE = 0.9
"""Share of the free memory that a peer may come to need to be run with more pairs: other programs want some too."""


def contestant(name: str) -> Callable[..., Any]:
    import torch
    from torch import Tensor

    if name == "blocks":
        from autodidact.objectives import nt_xent

        return lambda z1, z2: nt_xent(z1, z2, TEMPERATURE)
    if name == "lightly":
        from lightly.loss import NTXentLoss

        return NTXentLoss(temperature=TEMPERATURE)

    def dense(z1: Tensor, z2: Tensor) -> Tensor:
        z = torch.nn.functional.normalize(torch.cat([z1, z2]), dim=1)
        n = len(z1)
        logits = z @ z.T / TEMPERATURE
        own = torch.arange(2 * n, device=z.device)
        positive = logits[own, (own + n) % (2 * n)]
        itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
        return (logits.masked_fill(itself, -torch.inf).logsumexp(1) - positive).mean()

    return dense


def measure(name: str, n: int, d: int, threads: int, device: str, times: int) -> dict[str, float]:
    """Run in the child: seconds, bytes beyond the inputs, and the loss and gradient norm, for one contestant."""
    import torch

    torch.set_num_threads(threads)
    loss_of = contestant(name)

    def views(rows: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        first = torch.randn(rows, d, generator=generator)
        second = first + torch.randn(rows, d, generator=generator)
        return [z.to(device).requires_grad_() for z in (first, second)]

    loss_of(*views(64)).backward()
    z1, z2 = views(n)
    if times > 1:
        # What is compiled or chosen by shape.
        torch.autograd.grad(loss_of(z1, z2), [z1, z2])
    before = held(device)
    start, start_of_work = clock(device), time.process_time()
    for _ in range(times):
        loss = loss_of(z1, z2)
        gradients = torch.autograd.grad(loss, [z1, z2])
    seconds, processor_seconds = clock(device) - start, time.process_time() - start_of_work
    most = most_held(device)
    return {
        "seconds": seconds / times,
        "processor_seconds": processor_seconds / times,
        "bytes": most - before,
        "loss": float(loss.detach()),
        "gradient_norm": float(torch.cat(gradients).norm()),
    }


def child(name: str, n: int, options: argparse.Namespace) -> dict[str, float]:
    threads = str(options.threads)
    command = [sys.executable, __file__, "--child", name, "--n", str(n), "--d", str(options.d)]
    command += ["--threads", threads, "--device", options.device, *(["--small"] if options.small else [])]
    # Waiting threads sleep rather than spin, so that processor seconds are seconds of work.
    limits = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **limits}, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} at N = {n} ended with {done.returncode}: {done.stderr[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


def memory(device: str) -> tuple[int, int]:
    """Bytes of the GPU, or that the machine lets this process take, and how many of them are free."""
    if device == "cuda":
        import torch

        free, whole = torch.cuda.mem_get_info()
        return whole, free
    return memory_limit(), min(memory_limit(), memory_free())


def room(n: int, took: float, large: int, whole: int, free: int) -> dict[str, Any]:
    """Whether a peer that took so many bytes with n pairs has room for a larger batch: its memory grows with N^2."""
    needed = round(took * (large / n) ** 2)
    sizes = {"matrix_bytes": 4 * (2 * large) ** 2, "bytes": needed, "memory": whole, "free": free}
    return {**sizes, "fits": needed <= USABLE * free}


def main() -> None:
    parser = arguments(__doc__, rounds=5, threads=2)
    parser.add_argument("--n", type=int, default=8192, help="pairs in the batch")
    parser.add_argument("--d", type=int, default=128, help="dimensions")
    parser.add_argument("--large", type=int, default=65_536, help="pairs for the blocks alone; 0 to leave out")
    device_arguments(parser)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = place(options)
    if options.child:
        repeats = GPU_TIMES if options.device == "cuda" else 1
        print(json.dumps(measure(options.child, options.n, options.d, options.threads, device, repeats)))
        return
    if options.small:
        vars(options).update(SMALL)

    names = ["blocks", "dense"] + (["lightly"] if peer_is_there("lightly", "its loss") else [])
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(options.rounds):
        for name in names if number % 2 == 0 else reversed(names):
            rounds[name].append(child(name, options.n, options))
            figures = rounds[name][-1]
            times = f"{figures['seconds']:8.2f} s ({figures['processor_seconds']:.2f} s of processors)"
            print(f"{number} {name:8} {times} {figures['bytes'] / 2**20:9.1f} MiB", flush=True)
    result: dict[str, Any] = {
        "what": "NT-Xent forward and backward, float32",
        **where(options),
        "n": options.n,
        "d": options.d,
        "temperature": TEMPERATURE,
        "threads": options.threads,
        "rounds": options.rounds,
        **surroundings("torch", *(["lightly"] if "lightly" in names else [])),
        "medians": {name: medians(rounds[name]) for name in names},
        "against": {},
    }
    for peer in names[1:]:
        pairs = list(zip(rounds["blocks"], rounds[peer], strict=True))
        result["against"][peer] = {
            "memory": statistics.median(own["bytes"] / other["bytes"] for own, other in pairs),
            "time": statistics.median(own["seconds"] / other["seconds"] for own, other in pairs),
            "times": [own["seconds"] / other["seconds"] for own, other in pairs],
            "processor_time": statistics.median(o["processor_seconds"] / p["processor_seconds"] for o, p in pairs),
            "loss_difference": max(abs(own["loss"] / other["loss"] - 1) for own, other in pairs),
            "gradient_norm_difference": max(abs(own["gradient_norm"] / o["gradient_norm"] - 1) for own, o in pairs),
            "goal": GOALS[peer],
        }
    if options.large:
        result["large"] = {"n": options.large, **child("blocks", options.large, options), "peers": {}}
        for peer in names[1:]:
            needs = room(options.n, result["medians"][peer]["bytes"], options.large, *memory(device))
            ran = {"measured": child(peer, options.large, options)} if needs["fits"] else {}
            result["large"]["peers"][peer] = needs | ran
    tell(result, options.json)


if __name__ == "__main__":
    main()
