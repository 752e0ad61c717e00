"""Where each second of an update goes, and how far it is from the floor: SimCLR and MAE on a processor.

An update is taken apart as it runs in a training: reading the batch, views, the networks and the loss forward,
backward, the optimiser, and the rest. Each part is also run once under counters of operations (of matrix products and
convolutions) and of bytes (what every operation reads and writes, as if each went through memory). The floor of a part
is the longer of its operations at the rate of a large matrix product and its bytes at the rate of a copy, both measured
here, in the same run and with the same threads. What is far above its floor is worth a look; what is near it can only
be made to do less. What stays in the processor's caches, as small batches of views do, may be below it.

The trainings of `epoch.py` are among the rows, with the same heads and views, each with all numbers of threads that are
asked for. Monitors are timed by themselves: what they keep and log at every update, and a look at a full window, with
labels, at the interval that is the default of a training of so many updates (`--updates`).

    python benchmarks/step_profile.py --json benchmarks/step_profile.json
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from autodidact.catalog import cards, target
from autodidact.data import Batch, open_source
from autodidact.encoders import build
from autodidact.methods.method import Loss, Method, Progress
from autodidact.training import Settings
from autodidact.training.callbacks import Monitors, look_every
from autodidact.training.feed import Feed, read
from autodidact.training.groups import optimiser
from autodidact.training.learner import Learner
from autodidact.training.monitors import look
from autodidact.training.run import fit
from common import arguments, tell_rows
from epoch import DIMENSIONS, HIDDEN, MAE_CROP, TEMPERATURE
from epoch import ROWS as OF_AN_EPOCH

UNTIMED = 3
Row = tuple[str, str, int, int]
"""Method, encoder, side of the images, batch."""
ROWS: tuple[Row, ...] = (
    *((method, encoder, side, batch) for method, encoder, side, _, batch in OF_AN_EPOCH["cpu"]),
    ("simclr", "timm:resnet18", 96, 64),
    ("mae", "small:vit?width=192&depth=6&heads=6&patch=8", 64, 128),
    ("mae", "timm:vit_small_patch16_224", 224, 8),
)
CHANGES: dict[str, dict[str, Any]] = {
    "simclr": {"temperature": TEMPERATURE, "hidden": HIDDEN, "dimensions": DIMENSIONS, "view": "simclr"},
    "mae": {"view_changes": {"crop_scale": MAE_CROP}},
}
"""As `epoch.py` has them."""
PARTS = ("reading", "views", "forward", "backward", "optimiser", "monitors", "rest")
UPDATES = 1_000
"""Of the training whose interval of the monitors is taken, a short one: longer ones look less often."""
CLASSES = 10


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


class WatchedMonitors(Monitors):
    """Monitors that are timed, and look at nothing before the last update."""

    watch: Watch

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        self.look_every = pl_module.total

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *more: Any) -> None:
        with self.watch.part("monitors"):
            super().on_train_batch_end(trainer, pl_module, *more)


def looks(monitors: Monitors, learner: Learner, rounds: int) -> list[float]:
    """Seconds of looks at a window that is filled with what the newest update lets be watched."""
    loss, batch = learner.last_loss, learner.last_batch
    assert loss is not None
    assert batch is not None
    for number in range(monitors.window.rows // len(batch) + 1):
        ids = number * len(batch) + torch.arange(len(batch))
        monitors.window.add(loss, Batch(ids, {**batch.fields, "label": ids % CLASSES}))
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        look(monitors.window)
        seconds.append(time.perf_counter() - started)
    return seconds


def taken_apart(method: Method, source: Any, settings: Settings) -> tuple[list[dict[str, float]], list[float]]:
    """Seconds of every update but the first, by part and as a whole; and of looks at the embeddings."""
    learner = Watched(method, source, settings)
    learner.watch = watch = Watch()
    monitors = WatchedMonitors(None)
    monitors.watch = watch
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
    fit(learner, settings, [monitors], [])
    return watch.updates, looks(monitors, learner, settings.steps or 1)


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


def made_for(row: Row) -> tuple[Method, Any]:
    name, encoder, side, batch = row
    pixels = np.random.default_rng(0).integers(0, 255, (max(256, 2 * batch), side, side, 3), dtype=np.uint8)
    source = open_source(pixels, progress=False)
    torch.manual_seed(0)
    return target(cards()[name])(build(encoder, schema=source.schema, image_size=side), **CHANGES[name]), source


def measured(row: Row, threads: int, options: argparse.Namespace) -> dict[str, Any]:
    name, encoder, side, batch = row
    settings = Settings(steps=UNTIMED + options.rounds + 1, batch_size=batch, accelerator="cpu", devices=1)
    torch.set_num_threads(threads)
    rate = rates()
    floor = floors(*made_for(row), settings, rate)
    updates, looked = taken_apart(*made_for(row), settings)
    whole, parts = by_part(updates[UNTIMED:])
    apart = look_every(options.updates, 0, batch)
    look = statistics.median(looked)
    kept = parts["monitors"]["seconds"]
    found = {
        "method": name,
        "encoder": encoder,
        "side": side,
        "batch": batch,
        "threads": threads,
        **whole,
        "floor": sum(part["floor"] for part in floor.values()),
        "rates": rate,
        "parts": {part: {**parts[part], **floor.get(part, {})} for part in PARTS},
        "monitors": {
            "updates": options.updates,
            "look": look,
            "look_spread": [min(looked), max(looked)],
            "every": apart,
            "share": (kept + look / apart) / whole["seconds"],
        },
    }
    print(found, flush=True)
    return found


def by_part(updates: Sequence[Mapping[str, float]]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Medians over updates of the whole and of each part, with the least and the greatest; the rest is what is left."""
    told = []
    for update in updates:
        parts = {part: update.get(part, 0.0) for part in PARTS}
        told.append({**parts, "rest": update["whole"] - sum(parts.values())})

    def figures(values: list[float]) -> dict[str, Any]:
        return {"seconds": statistics.median(values), "spread": [min(values), max(values)]}

    whole = figures([update["whole"] for update in updates])
    return whole, {part: figures([one[part] for one in told]) for part in PARTS}


def main() -> None:
    parser = arguments(__doc__, rounds=9)
    also = "further numbers of threads, each of which is measured too"
    parser.add_argument("--also", type=int, nargs="*", default=[2], help=also)
    parser.add_argument("--updates", type=int, default=UPDATES, help="of the training that monitors look at")
    options = parser.parse_args()
    rows = [measured(row, threads, options) for row in ROWS for threads in (options.threads, *options.also)]
    tell_rows("the parts of an update, and their floors", options, rows, ("torch", "timm"), also=options.also)


if __name__ == "__main__":
    main()
