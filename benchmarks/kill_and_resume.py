"""Kill a pretraining with SIGKILL at random moments, resume it each time, and compare with a run never killed.

Usage: python benchmarks/kill_and_resume.py [--kills 10] [--seed 0] [--json benchmarks/kill_and_resume.json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = ["pretrain", "simclr", "--data", "digits", "--epochs", "12", "--batch-size", "128", "--accelerator", "cpu"]
EVERY = 3
FURTHER = ["--encoder.width", "8", "--checkpoint-steps", str(EVERY), "--no-report", "--quiet"]
MOST_LATER = 0.3
"""Seconds by which a kill may come later than the update it was meant for."""


def run(out: Path) -> subprocess.Popen[bytes]:
    """Start the training as a user would, in a process of its own."""
    command = [sys.executable, "-m", "autodidact", *COMMAND, *FURTHER, "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> float:
    started = time.monotonic()
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors.decode())
    return time.monotonic() - started


def updates_done(out: Path) -> int:
    """Updates in the newest checkpoint; 0 before the first."""
    from autodidact.training import checkpoint as checkpoints

    try:
        saved = checkpoints.read(out / "checkpoints")
    except RuntimeError:
        # The run has just put a newer one in its place.
        return updates_done(out)
    return int(saved.progress["updates"]) if saved else 0


def digest(out: Path) -> str:
    return hashlib.sha256((out / "model" / "model.safetensors").read_bytes()).hexdigest()


def kill_and_resume(kills: int, seed: int, folder: Path) -> dict[str, object]:
    """Digests of both runs' weights, and after how many updates each kill came."""
    seconds = finish(run(folder / "whole"))
    rng = random.Random(seed)
    out = folder / "killed"
    # The moments are drawn over the whole run: so many updates on, and a random fraction of a second more, which falls
    # between checkpoints or into the writing of one.
    killed: list[int] = []
    for wanted in sorted(rng.uniform(0, updates_done(folder / "whole")) for _ in range(kills)):
        process = run(out)
        while process.poll() is None and updates_done(out) < wanted - EVERY:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, MOST_LATER))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed.append(updates_done(out))
    finish(run(out))
    return {
        "whole": digest(folder / "whole"),
        "resumed": digest(out),
        "identical": digest(folder / "whole") == digest(out),
        "kills": len(killed),
        "updates_at_kill": killed,
        "seconds_of_whole_run": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = kill_and_resume(arguments.kills, arguments.seed, Path(folder))
    print(json.dumps(result, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(0 if result["identical"] and result["kills"] == arguments.kills else 1)


if __name__ == "__main__":
    main()
