"""The contract of a method: what one paper adds, and nothing more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from autodidact.data.batch import Batch
from autodidact.data.batching import Batching, RandomBatching
from autodidact.data.schema import Kind
from autodidact.encoders.kept import EncoderModel
from autodidact.model import Encoder, Model
from autodidact.objectives.contrastive import PairRule


@dataclass(frozen=True)
class Progress:
    """Where training is, and the randomness to use.

    Attributes
    ----------
    step : updates done so far, from 0.
    total : updates of the whole training.
    epoch : epochs done so far, from 0.
    generator : seeded anew for every step from the run's seed, so that a resumed run draws what an uninterrupted one
        would. It is on the CPU wherever the method is: a run draws the same on every device, and what is drawn is at
        hand without waiting for an accelerator. `autodidact.views.draws.brought` makes one for a device, where whole
        images of noise are drawn.
    """

    step: int
    total: int
    epoch: int
    generator: torch.Generator

    @property
    def fraction(self) -> float:
        """Share of the training that is done, in [0, 1]."""
        return min(1.0, self.step / max(1, self.total))


@dataclass
class Views:
    """What is shown to the networks, by name.

    Attributes
    ----------
    named : name -> tensor (or what an encoder takes).
    ids : (n,) ids of the samples.
    allowed : which pairs of the (concatenated) views may repel each other; None allows all.
    slot : name -> slot of every row of that view, where rows of one slot are alike in what an objective must not tell
        them apart by (their style): rows repel each other, or share a batch, inside a slot only. None where all rows
        are of one kind. It stands in place of `allowed`.
    """

    named: dict[str, Any]
    ids: Int[Tensor, " n"] | None = None
    allowed: Bool[Tensor, "m m"] | PairRule | None = None
    slot: Mapping[str, Int[Tensor, " n"]] | None = None

    def __post_init__(self) -> None:
        if self.allowed is not None and self.slot is not None:
            raise ValueError("views say which pairs may repel either by `allowed` or by `slot`, not by both")

    def __getitem__(self, name: str) -> Any:
        return self.named[name]


@dataclass
class Loss:
    """What one step minimises.

    Attributes
    ----------
    total : the scalar that is descended.
    terms : named parts for the log.
    watch : named tensors that the monitors may look at: "embedding" (n, d) before the head, "projection" (n, d) after
        it, "projection_b" its partner row by row.
    """

    total: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]] = field(default_factory=dict)
    watch: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Group:
    """Parameters that are optimised alike.

    Attributes
    ----------
    name : what ``Step.descend(only=...)`` names.
    parameters : the parameters; norms and biases among them are exempt from weight decay on their own.
    lr_scale : factor on the learning rate.
    decay : whether weight decay applies at all.
    frozen_until : update before which the group stays as it is.
    frozen_share : the same as a share of the whole training, in [0, 1]; 1 freezes the group for good. The later of both
        counts.
    """

    name: str
    parameters: Iterable[nn.Parameter]
    lr_scale: float = 1.0
    decay: bool = True
    frozen_until: int = 0
    frozen_share: float = 0.0


@runtime_checkable
class Step(Protocol):
    """A method's only door to optimisation; precision, accumulation, clipping and distribution stay behind it."""

    progress: Progress

    def descend(self, loss: Loss, only: str | None = None) -> Loss:
        """One descent on ``loss.total``, of all groups or of the one named; returns the loss for the log."""

    def trial(self) -> AbstractContextManager[None]:
        """Descents inside are undone on exit: parameters, buffers and optimiser state."""

    def draw(self) -> Batch:
        """One more batch of the same source, on the device."""


Sweep = Callable[[Callable[[Batch], Mapping[str, Any]]], Mapping[str, Any]]
"""``sweep(fn)`` visits the whole source once, in order, in eval mode without gradient, and returns what ``fn`` said of
each batch, concatenated by key, with the key ``ids`` beside it."""


class Method(nn.Module, ABC):
    """One self-supervised method.

    The constructor takes the networks named in `slots`, in that order, and keyword arguments only after them; each of
    these is typed, documented and has the paper's default, and is therefore a command-line option. An argument called
    ``schema`` receives the source's schema instead, ``samples`` the number of samples; an argument of type `Method`
    is another method, named and configured in the same way (its default may be a name: ``Method | str``).
    """

    needs: ClassVar[Mapping[str, Kind]] = {"image": "image"}
    """Fields of the source that the method reads, by name."""
    one_need_suffices: ClassVar[bool] = False
    """Whether any one of `needs` is enough, as for a table of numeric columns, categorical columns, or both."""
    slots: ClassVar[tuple[str, ...]] = ("encoder",)
    heeds_allowed: ClassVar[bool] = False
    """Whether in the loss only those pairs of samples repel each other that `Views.allowed` permits."""
    learns_answers: ClassVar[bool] = False
    """Whether it learns to predict the label of a source, or else its target."""
    batching: Batching = RandomBatching()
    refresh_every: int | None = None

    @abstractmethod
    def views(self, batch: Batch, progress: Progress) -> Views:
        """Views from data, the generator and own buffers; never from a network. Runs without gradient."""

    @abstractmethod
    def loss(self, views: Views, progress: Progress) -> Loss:
        """The objective on the views."""

    def after_update(self, progress: Progress) -> None:
        """Called after every update: EMA, queue, closed-form parts."""

    def refresh(self, sweep: Sweep, progress: Progress) -> None:
        """Called before step 0 and every `refresh_every` updates, when that is set."""

    def update(self, batch: Batch, step: Step) -> Loss:
        """One update: by default one descent. Override only for another optimisation pattern."""
        with torch.no_grad(), torch.autocast(batch.ids.device.type, enabled=False):
            views = self.views(batch, step.progress)
        return step.descend(self.loss(views, step.progress))

    def memory(self) -> dict[str, Any]:
        """What else is in checkpoints, beside parameters and buffers: plain values, as JSON has them."""
        return {}

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Take back what `memory` gave when the checkpoint was written that training goes on from."""

    def groups(self) -> list[Group]:
        """How parameters are optimised: by default all alike."""
        return [Group("all", [p for p in self.parameters() if p.requires_grad])]

    def pictures(self, views: Views) -> dict[str, Float[Tensor, "n c h w"]]:
        """Images in [0, 1] that show a person what is made of the samples, by name, for the report. Without gradient.

        By default the views that are images; a method that paints adds what it painted, one with views in other units
        brings them back to those of an image.
        """
        return {
            name: view
            for name, view in views.named.items()
            if isinstance(view, Tensor) and view.ndim == 4 and view.is_floating_point()
        }

    def kept(self) -> Model:
        """What remains after training: by default the networks of the slots."""
        return EncoderModel({slot: self._slot(slot) for slot in self.slots})

    def _slot(self, slot: str) -> Encoder:
        module = getattr(self, slot)
        if not isinstance(module, Encoder):
            raise TypeError(f"{type(self).__name__}.{slot} must be the encoder of that slot")
        return module
