"""Which of the processes that train together this one is; known from the start, before they have met."""

from __future__ import annotations

import os


def first_process() -> bool:
    """Whether this process speaks and writes for all; true where there is only one."""
    names = ["LOCAL_RANK", "NODE_RANK", "RANK"]
    if not {"RANK", "LOCAL_RANK"} & os.environ.keys():
        # srun numbers its tasks, and nobody has told them their rank yet.
        names.append("SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in names)
