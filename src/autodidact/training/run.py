"""train: (method, source, settings) -> Model."""

from __future__ import annotations

import logging
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy

from autodidact.data.combined import Together
from autodidact.data.source import Source
from autodidact.methods.method import Method
from autodidact.model import Model
from autodidact.model.memory import keeping_memory
from autodidact.schedules import Course
from autodidact.training import checkpoint as checkpoints
from autodidact.training.attention import ShortAttentionInFloat
from autodidact.training.callbacks import Checkpoints, KeepsMemory, Monitors, ProgressLine
from autodidact.training.checkpoint import Checkpoint
from autodidact.training.journal import Journal, further_loggers
from autodidact.training.learner import Learner
from autodidact.training.processes import first_process, part_at_exit
from autodidact.training.settings import Settings
from autodidact.training.sharded import spreadable
from autodidact.training.tokens import outer_encoders


class ReplicatedStrategy(DDPStrategy):
    """One replica a process without the DDP wrapper: a method may descend several times, in parts and on trial, so its
    `Step` averages the gradients itself."""

    def configure_ddp(self) -> None:
        for tensor in (*self.model.parameters(), *self.model.buffers()):  # type: ignore[union-attr]
            torch.distributed.broadcast(tensor.detach(), src=0)


def train(
    method: Method,
    source: Source,
    settings: Settings | None = None,
    *,
    out: str | Path | None = None,
    until: float = 1.0,
    quiet: bool = False,
    title: str = "train",
    carry: str | Path | None = None,
    course: Course | None = None,
) -> Model:
    """Train a method on a source and return what it keeps.

    Parameters
    ----------
    method : with its networks.
    source : has the fields that the method needs; ValueError names what is missing.
    settings : default `Settings()`.
    out : folder for checkpoints and logs. A training found there is gone on with, exactly: on one machine with the same
        settings the final weights equal those of a training that was never interrupted.
    until : share of the training, in (0, 1], after which to pause, with a checkpoint in `out`. Schedules are those of
        the whole training all the same: another call goes on with it, exactly.
    quiet : no progress line.
    title : what the progress line says.
    carry : folder of a finished training that this one goes on from: weights, averaged weights, the optimiser's state,
        and the count of updates, to which `settings` adds its own. Data that the other did not see last are begun from
        their first epoch. The method, its sizes and its optimiser must be the same.
    course : learning-rate multiplier by the count of updates, instead of the schedule of the settings.

    Raises
    ------
    autodidact.training.NonFinite
        The loss became NaN or infinite; the last good checkpoint stays.
    ValueError
        The data is smaller than a batch, or cannot be given to an encoder of the method (other channels, other
        columns); a batch norm of the method gets one value a channel; the checkpoint in `out` belongs to other
        settings; networks are to be spread over devices and the method has none that can be.
    FileNotFoundError
        There is no checkpoint in `carry`.
    """
    settings = settings or Settings()
    if not source.ids.size and not source.streaming:
        raise ValueError(f"'{source.name}' has no samples")
    if not 0 < until <= 1:
        raise ValueError(f"until is a share of the training in (0, 1], got {until}")
    # Before anything is written: a command that is wrong leaves no training behind.
    _devices(settings)
    check_encoders(method, source)
    if settings.sharding == "full":
        spreadable(method)
    learner = Learner(method, source, settings, None if carry is None else carried(carry), course)
    learner.until = until
    folder = Path(out) if out is not None else None
    if folder is not None and (saved := checkpoints.read(folder / "checkpoints")) is not None:
        learner.resume(saved)
    journal, loggers = None, list[Any]()
    if folder is not None and first_process():
        journal = Journal(folder / "log", learner.updates)
        loggers = further_loggers(settings.loggers, folder / "log", learner.updates)
    monitors = Monitors(journal)
    callbacks: list[Any] = [monitors]
    if folder is not None:
        callbacks.append(Checkpoints(folder / "checkpoints"))
    if not quiet:
        callbacks.append(ProgressLine(monitors, title))
    if not learner.finished or folder is None:
        fit(learner, settings, callbacks, loggers)
    else:
        assert saved is not None
        method.load_state_dict(checkpoints.by_prefix(saved.tensors, "method"))
        learner.average = checkpoints.by_prefix(saved.tensors, "average")
    return learner.kept().eval().cpu()


def check_encoders(method: Method, source: Source) -> None:
    """Raise ValueError where an encoder of the method, a slow copy too, does not fit what it reads of the source.

    It must fit every stream that has its field. Where none has, the method makes the encoder's inputs itself.
    """
    streams = list(source.sources.values()) if isinstance(source, Together) else [source]
    for encoder in outer_encoders(method):
        for stream in streams:
            if encoder.spec.get("field", encoder.accepts) in stream.schema:
                encoder.fits(stream.schema)


def carried(folder: str | Path) -> Checkpoint:
    """The newest checkpoint of a training in a folder."""
    found = checkpoints.read(Path(folder) / "checkpoints")
    if found is None:
        raise FileNotFoundError(f"{folder} has no checkpoint to go on from")
    return found


def fit(
    learner: Learner, settings: Settings, callbacks: list[Any], loggers: list[Any], strategy: Strategy | None = None
) -> None:
    """Run a learner's updates by Lightning, on the devices that the settings ask for, or by another strategy."""
    with warnings.catch_warnings(), ShortAttentionInFloat() if settings.precision == "bf16" else nullcontext():
        # Reading from the packed cache is faster in this process than in workers; Lightning cannot know.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Teachers stay in eval mode, and a pretrained network leaves it as soon as training starts.
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
        # Lightning's own use of a class that newer versions of torch are giving up.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        gpu, devices = _devices(settings)
        with nullcontext() if gpu else keeping_memory(devices) as keep:
            further = [] if keep is None else [KeepsMemory(keep)]
            _trainer(settings, [*callbacks, *further], loggers, strategy).fit(learner)
    part_at_exit()


def world_of(settings: Settings) -> tuple[bool, int]:
    """Whether the settings' devices are GPUs, and how many there are on all machines.

    Raises
    ------
    ValueError : there are not so many, or a batch cannot be shared equally among them.
    """
    gpu = settings.accelerator == "gpu" or (settings.accelerator == "auto" and torch.cuda.is_available())
    if settings.accelerator == "gpu" and not torch.cuda.is_available():
        raise ValueError("no GPU was found; use --accelerator cpu")
    world = (settings.devices or (torch.cuda.device_count() if gpu else 1)) * settings.nodes
    if settings.batch_size % (world * settings.accumulate):
        raise ValueError(
            f"batch size {settings.batch_size} cannot be shared equally by {world} processes"
            + (f" in {settings.accumulate} parts" if settings.accumulate > 1 else "")
        )
    return gpu, world


def _devices(settings: Settings) -> tuple[bool, int]:
    """Whether the settings' devices are GPUs, and how many are on this machine; ValueError where it has fewer."""
    gpu, world = world_of(settings)
    devices = world // settings.nodes
    if gpu and devices > torch.cuda.device_count():
        raise ValueError(f"{devices} devices asked for, {torch.cuda.device_count()} found")
    return gpu, devices


def _trainer(settings: Settings, callbacks: list[Any], loggers: list[Any], strategy: Strategy | None) -> L.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    gpu, devices = _devices(settings)
    # Beside what the devices exchange the hosts tell each other sizes, for which no device is waited then.
    backend = "cpu:gloo,cuda:nccl" if gpu and torch.distributed.is_gloo_available() else None
    if strategy is None and devices * settings.nodes > 1:
        strategy = ReplicatedStrategy(start_method="popen", process_group_backend=backend)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return L.Trainer(
            accelerator="gpu" if gpu else "cpu",
            devices=devices,
            num_nodes=settings.nodes,
            strategy=strategy or "auto",
            precision="bf16-mixed" if settings.precision == "bf16" else "32-true",
            max_epochs=1,
            logger=loggers,
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            deterministic=settings.deterministic or None,
            log_every_n_steps=1,
        )
