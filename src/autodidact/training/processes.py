"""Processes that train together: which of them this one is, known before they have met; and how they part."""

from __future__ import annotations

import atexit
import os


def first_process() -> bool:
    """Whether this process speaks and writes for all; true where there is only one."""
    names = ["LOCAL_RANK", "NODE_RANK", "RANK"]
    if not {"RANK", "LOCAL_RANK"} & os.environ.keys():
        # srun numbers its tasks, and nobody has told them their rank yet.
        names.append("SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in names)


def part_at_exit() -> None:
    """Let this process leave the others in order when it ends, where it has met any.

    Lightning sees to that with NCCL alone. Threads of gloo that still run while the interpreter is taken down can abort
    it, after all work is done, and whoever started the processes takes the training for a failed one.
    """
    # Registered twice, it would still be done once.
    atexit.unregister(_part)
    atexit.register(_part)


def _part() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
