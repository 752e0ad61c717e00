"""Where each second of an update goes, and how far it is from the floor: SimCLR and MAE on a processor.

An update is taken apart as it runs in a training: reading the batch, views, the networks and the loss forward,
backward, the optimiser, and the rest. Each part is also run once under counters of operations (of matrix products and
convolutions) and of bytes (what every operation reads and writes, as if each went through memory). The floor of a part
is the longer of its operations at the rate of a large matrix product and its bytes at the rate of a copy, both measured
here, in the same run and with the same threads. What is far above its floor is worth a look; what is near it can only
be made to do less. What stays in the processor's caches, as small batches of views do, may be below it.

    python benchmarks/step_profile.py --json benchmarks/step_profile.json
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from autodidact.catalog import cards, target
from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.methods.method import Loss, Method, Progress
from autodidact.training import Settings
from autodidact.training.feed import Feed, read
from autodidact.training.groups import optimiser
from autodidact.training.learner import Learner
from autodidact.training.run import fit
from common import arguments, tell_rows

UNTIMED = 3
ROWS: tuple[tuple[str, str, int, int], ...] = (
    ("simclr", "small:convnet?width=32", 32, 256),
    ("simclr", "timm:resnet18", 96, 64),
    ("mae", "small:vit?width=192&depth=6&heads=6&patch=8", 64, 128),
    ("mae", "timm:vit_small_patch16_224", 224, 8),
)
"""Method, encoder, side of the images, batch."""
PARTS = ("reading", "views", "forward", "backward", "optimiser", "rest")


class Bytes(TorchDispatchMode):
    """What operations read and write, but for those that only look at memory in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
        new = [tensor for tensor in tree_leaves(made) if isinstance(tensor, Tensor)]
        storages = {tensor.untyped_storage()._cdata for tensor in given}
        if func._schema.is_mutable or any(tensor.untyped_storage()._cdata not in storages for tensor in new):
            self.moved += sum(tensor.nbytes for tensor in (*given, *new))
        return made


def rates() -> dict[str, float]:
    """Operations a second of a large matrix product, and bytes a second of a copy; the best of several."""
    a, b = torch.rand(1_024, 1_024), torch.rand(1_024, 1_024)
    large = torch.rand(32 << 20)
    copy = torch.empty_like(large)

    def best(work: Callable[[], Any]) -> float:
        times = []
        for _ in range(7):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        return min(times)

    return {
        "operations": 2 * 1_024**3 / best(lambda: a @ b),
        "bytes": 2 * large.nbytes / best(lambda: copy.copy_(large)),
    }


class Watch:
    """Seconds of the parts of updates, taken where they are called."""

    def __init__(self) -> None:
        self.updates: list[dict[str, float]] = []
        self._now: dict[str, float] = {}

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            with self.part(part):
                return function(*args, **kwargs)

        return called

    @contextmanager
    def part(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._now[part] = self._now.get(part, 0.0) + time.perf_counter() - started

    def next(self) -> None:
        self.updates.append(self._now)
        self._now = {}


class Watched(Learner):
    """A learner whose updates are taken apart."""

    watch: Watch
    _ended = 0.0

    def training_step(self, batch: Any, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        now = time.perf_counter()
        if self._ended:
            self.watch._now["whole"] = now - self._ended
            self.watch.next()
        self._ended = now
        self.watch._now = {}


def taken_apart(method: Method, source: Any, settings: Settings) -> list[dict[str, float]]:
    """Seconds of every update but the first, by part and as a whole."""
    learner = Watched(method, source, settings)
    learner.watch = watch = Watch()
    method.views = watch.timed("views", method.views)  # type: ignore[method-assign]
    method.loss = watch.timed("forward", method.loss)  # type: ignore[method-assign]
    learner.manual_backward = watch.timed("backward", learner.manual_backward)  # type: ignore[method-assign]
    source.batch = watch.timed("reading", source.batch)
    made = learner.configure_optimizers

    def configured() -> Any:
        found = made()
        found.step = watch.timed("optimiser", found.step)
        return found

    learner.configure_optimizers = configured  # type: ignore[method-assign]
    fit(learner, settings, [], [])
    return watch.updates


def floors(method: Method, source: Any, settings: Settings, rate: dict[str, float]) -> dict[str, dict[str, float]]:
    """Operations, bytes and the floor in seconds of every part."""
    method.train()
    step = optimiser(method, settings)
    progress = Progress(0, settings.steps or 1, 0, torch.Generator().manual_seed(0))
    batch = read(source, next(Feed(source, method.batching, settings.batch_size, 0).draws(0, 1)))
    found: dict[str, dict[str, float]] = {}

    def counted(part: str, work: Callable[[], Any]) -> Any:
        with FlopCounterMode(display=False) as operations, Bytes() as moved:
            made = work()
        counts = {"operations": float(operations.get_total_flops()), "bytes": float(moved.moved)}
        found[part] = {**counts, "floor": max(counts[what] / rate[what] for what in counts)}
        return made

    with torch.no_grad():
        views = counted("views", lambda: method.views(batch, progress))
    loss: Loss = counted("forward", lambda: method.loss(views, progress))
    counted("backward", loss.total.backward)
    # The first one makes the optimiser's state.
    step.step()
    counted("optimiser", step.step)
    # A batch is copied out of the file that is mapped into memory.
    bytes_read = float(2 * sum(field.nbytes for field in batch.fields.values() if isinstance(field, Tensor)))
    found["reading"] = {"operations": 0.0, "bytes": bytes_read, "floor": bytes_read / rate["bytes"]}
    return found


def measured(row: tuple[str, str, int, int], options: argparse.Namespace) -> dict[str, Any]:
    name, encoder, side, batch = row
    pixels = np.random.default_rng(0).integers(0, 255, (max(256, 2 * batch), side, side, 3), dtype=np.uint8)
    settings = Settings(steps=UNTIMED + options.rounds + 1, batch_size=batch, accelerator="cpu")

    def made() -> tuple[Method, Any]:
        source = open_source(pixels, progress=False)
        torch.manual_seed(0)
        return target(cards()[name])(build(encoder, schema=source.schema, image_size=side)), source

    rate = rates()
    floor = floors(*made(), settings, rate)
    updates = taken_apart(*made(), settings)[UNTIMED:]
    seconds = {part: statistics.median(one.get(part, 0.0) for one in updates) for part in PARTS}
    whole = statistics.median(one["whole"] for one in updates)
    seconds["rest"] = whole - sum(seconds.values())
    found = {
        "method": name,
        "encoder": encoder,
        "side": side,
        "batch": batch,
        "seconds": whole,
        "floor": sum(part["floor"] for part in floor.values()),
        "rates": rate,
        "parts": {part: {"seconds": seconds[part], **floor.get(part, {})} for part in PARTS},
    }
    print(found, flush=True)
    return found


def main() -> None:
    options = arguments(__doc__, rounds=9).parse_args()
    torch.set_num_threads(options.threads)
    rows = [measured(row, options) for row in ROWS]
    tell_rows("the parts of an update, and their floors", options, rows, ("torch", "timm"))


if __name__ == "__main__":
    main()
