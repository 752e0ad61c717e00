"""How to train, as plain data: every field is a command-line option."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from autodidact.schedules import Plan

INDIFFERENT = frozenset(
    {"checkpoint_seconds", "checkpoint_steps", "monitor_steps", "loggers", "workers", "recompute", "sharding"}
)
"""Settings that do not change the result."""
PLACES = frozenset({"devices", "nodes"})
"""Settings that say where a training runs. It may go on elsewhere: it is not the one that it would have been, since
every process draws views of its own, but as good."""


@dataclass
class Settings:
    """Settings of one training.

    Parameters
    ----------
    epochs : passes over the data; default 100, unless `steps` or `tokens` is given.
    steps : updates, instead of epochs.
    tokens : tokens that go through encoders, instead of epochs: the number of updates is as many as these pay for,
        counted from what the first updates cost. Slow copies count, dropped tokens do not. It makes methods comparable
        that see different shares of an image.
    batch_size : samples in an update, over all devices and accumulated parts together.
    accumulate : parts into which an update's batch is cut, to save memory; each part's loss sees its own samples only.
    optimizer : "adamw", "sgd" (momentum 0.9) or "lars" (momentum 0.9, for batches above 1,024).
    lr : peak learning rate, for exactly this batch size (it is not rescaled).
    weight_decay : decoupled for adamw; norms and biases are exempt.
    weight_decay_end : weight decay at the end, to which it moves along a cosine. Default: it stays as it is. DINO,
        iBOT, GMML and SiT raise it, from 0.04 to 0.4 or 0.1.
    momentum : of sgd and lars; of adamw it is beta1 = 0.9 always.
    schedule : after the warm-up "cosine", "linear" or "constant"; "repeated_cosine" warms up and decays in several
        cycles; "wsd" is constant and then anneals; "infinite" cools down to a constant share and then anneals.
    warmup : share of the updates during which the rate rises linearly from 0, in [0, 1).
    final : learning rate at the end as a share of `lr`. Default 0; of "wsd" and "infinite" 0.01, and never 0.
    cycles : cycles of "repeated_cosine". Default 1.
    anneal : share of the updates, at the end, in which "wsd" and "infinite" anneal. Default 0.15.
    const_ratio : constant rate of "infinite" as a share of `lr`, in (0, 1]. Default 0.25.
    cooldown : share of the updates, after the warm-up, in which "infinite" cools down. Default 0.5.
    cooldown_shape : of "infinite": "cosine" or "inverse_sqrt". Default "cosine".
    clip_norm : largest gradient norm; larger ones are scaled down. 0 for none.
    clip_each : largest gradient norm of each weight tensor by itself, before `clip_norm`. Default: none. DINO and what
        came of it: 3.
    average : decay of an exponential moving average of all weights, which is then what is kept. 0 for none.
    precision : "32" or "bf16" (mixed: weights stay float32).
    devices : number of devices, or 0 for all there are (one process on a CPU).
    nodes : number of machines.
    sharding : "none" keeps whole networks on every device; "full" spreads weights, gradients and the optimiser's state
        of encoders, their slow copies and heads over all of them, for networks that are large beside a device's memory:
        the same result, and more to send.
    accelerator : "auto", "cpu" or "gpu".
    compile : compile the encoders with torch.compile.
    recompute : keep only the inputs of the encoders' blocks, and compute their insides again in the backward pass: the
        same result in much less memory for one more forward pass, for large encoders.
    deterministic : use deterministic algorithms only, where a faster one is not.
    workers : processes that read data; 0 reads in the training process, which is fastest from the packed cache. A
        stream is read by a thread instead, whatever is asked for here.
    seed : seed of data order, views and dropout.
    checkpoint_seconds : seconds between checkpoints.
    checkpoint_steps : updates between checkpoints, beside those by time; 0 for none.
    monitor_steps : updates between looks at the embeddings (rank, spread, kNN); 0 for 4 an epoch and 50 in all at most,
        more than 10 of them only where a process has 16,384 samples between two.
    loggers : further loggers beside CSV and TensorBoard: "wandb", "mlflow".
    """

    epochs: int | None = None
    steps: int | None = None
    tokens: int | None = None
    batch_size: int = 256
    accumulate: int = 1
    optimizer: Literal["adamw", "sgd", "lars"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-4
    weight_decay_end: float | None = None
    momentum: float = 0.9
    schedule: Literal["cosine", "linear", "constant", "repeated_cosine", "wsd", "infinite"] = "cosine"
    warmup: float = 0.05
    final: float | None = None
    cycles: int | None = None
    anneal: float | None = None
    const_ratio: float | None = None
    cooldown: float | None = None
    cooldown_shape: Literal["cosine", "inverse_sqrt"] | None = None
    clip_norm: float = 0.0
    clip_each: float | None = None
    average: float = 0.0
    precision: Literal["32", "bf16"] = "32"
    devices: int = 0
    nodes: int = 1
    sharding: Literal["none", "full"] = "none"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    compile: bool = False
    recompute: bool = False
    deterministic: bool = False
    workers: int = 0
    seed: int = 0
    checkpoint_seconds: float = 60.0
    checkpoint_steps: int = 0
    monitor_steps: int = 0
    loggers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.loggers = tuple(self.loggers)
        if self.tokens is not None and (self.steps is not None or self.epochs is not None):
            raise ValueError("how long to train is said in tokens, or in steps or epochs, not in both")
        if self.epochs is None and self.steps is None and self.tokens is None:
            self.epochs = 100
        for name, low in (
            ("epochs", 1),
            ("steps", 1),
            ("tokens", 1),
            ("batch_size", 1),
            ("accumulate", 1),
            ("nodes", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{name} must be at least {low}, got {value}")
        least = ("weight_decay", "clip_norm", "devices", "workers", "seed", "checkpoint_seconds", "checkpoint_steps")
        for name in (*least, "monitor_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.weight_decay_end is not None and self.weight_decay_end < 0:
            raise ValueError(f"weight_decay_end must not be negative, got {self.weight_decay_end}")
        if self.clip_each is not None and self.clip_each <= 0:
            raise ValueError(f"clip_each must be positive, got {self.clip_each}; leave it out for none")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if self.lr <= 0:
            raise ValueError(f"lr must be positive, got {self.lr}")
        self.plan()
        if self.sharding == "full" and self.compile:
            raise ValueError("networks that are spread over devices are not compiled: leave out compile or sharding")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is a decay in [0, 1), got {self.average}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch size {self.batch_size} cannot be cut into {self.accumulate} equal parts")

    @property
    def length(self) -> str:
        """How long the training is, in the unit that was asked for."""
        if self.tokens:
            return f"{self.tokens} tokens"
        return f"{self.steps} updates" if self.steps else f"{self.epochs} epochs"

    def plan(self) -> Plan:
        """The learning-rate schedule.

        Raises
        ------
        ValueError : an option is out of range, or belongs to another schedule.
        """
        return Plan(
            self.schedule,
            self.warmup,
            self.final,
            self.cycles,
            self.anneal,
            self.const_ratio,
            self.cooldown,
            self.cooldown_shape,
        )

    def identity(self) -> dict[str, Any]:
        """The settings that change the result; a resumed run must have the same ones."""
        return {name: value for name, value in asdict(self).items() if name not in INDIFFERENT}
