"""How long a command takes to start: the help, the list of methods, and the demo's first update.

Each is a process of its own, from its start to its end; of the demo to the end of its first update, in a folder and
with a cache that are empty. Help and list must not import torch. Beside them stands what the demo's libraries take to
be imported as they are, and nothing else; commands leave out what only metrics of theirs need. They take turns; figures
are medians. A first round is not counted: it reads files from the disk.

    python benchmarks/start.py --json benchmarks/start.json
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from common import arguments, tell_rows

GOALS = {"--help": 0.3, "methods": 0.3, "demo": 8.0}
"""Seconds, by what follows ``autodidact``."""
RUN = "import sys; sys.argv[0] = 'autodidact'; from autodidact.cli.main import main; code = main(); "
LIBRARIES = ("torch", "lightning", "sklearn.linear_model")
"""What the demo stands on."""
SAYS = "sys.stderr.write('torch' if 'torch' in sys.modules else ''); sys.exit(code)"
FIRST = """
import importlib.abc, os, sys

class Watcher(importlib.abc.MetaPathFinder):
    '''Ends the process when the first update is done.'''

    def find_spec(self, name, path, target=None):
        if name != "autodidact.training.learner":
            return None
        sys.meta_path.remove(self)
        found = importlib.util.find_spec(name)
        made = found.loader.exec_module

        def watched(module):
            made(module)
            step = module.Learner.training_step

            def first(self, batch, number):
                step(self, batch, number)
                os._exit(0)

            module.Learner.training_step = first

        found.loader.exec_module = watched
        return found

import importlib.util
sys.meta_path.insert(0, Watcher())
"""


def seconds(word: str) -> tuple[float, str]:
    """From the start of the command to its end, and what it wrote to stderr."""
    program = {"demo": FIRST + RUN, "imports": f"import {', '.join(LIBRARIES)}"}.get(word, RUN + SAYS)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "AUTODIDACT_CACHE": folder}
        started = time.perf_counter()
        command = [sys.executable, "-c", program, word]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        took = time.perf_counter() - started
    if ended.returncode:
        raise RuntimeError(ended.stderr[-2000:])
    return took, ended.stderr


def main() -> None:
    options = arguments(__doc__, rounds=5, threads=1).parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    times: dict[str, list[float]] = {word: [] for word in (*GOALS, "imports")}
    imported = dict.fromkeys(times, False)
    for number in range(options.rounds + 1):
        for word in times:
            took, said = seconds(word)
            imported[word] |= said.endswith("torch")
            if number:
                times[word].append(took)
    rows = [
        {
            "command": word,
            "seconds": statistics.median(took),
            "all_seconds": [round(one, 3) for one in took],
            "imports_torch": imported[word] if word != "demo" else True,
            "goal": GOALS[word],
        }
        for word, took in times.items()
        if word in GOALS
    ]
    libraries = {"names": LIBRARIES, "seconds": statistics.median(times["imports"])}
    tell_rows("seconds until a command has answered", options, rows, ("torch", "lightning"), libraries=libraries)


if __name__ == "__main__":
    main()
