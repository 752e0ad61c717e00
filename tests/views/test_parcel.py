"""What goes to the device that renders: together, untouched, and without being waited for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.views.test_augment import EVERYTHING as EVERYTHING_AT_ONCE
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from autodidact.views import Augment, column_subsets, gmml_corruption, jepa_blocks, parcel, random_mask
from autodidact.views.parcel import Parcel, sent

META = torch.device("meta")


class Copies(TorchDispatchMode):
    """Notes every operation that takes tensors of the CPU to the meta device: those waited for, and those not."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[str] = []
        self.unwaited: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        # Numbers go along with the operation itself.
        from_host = [tensor for tensor in given if tensor.device.type == "cpu" and tensor.ndim]
        onto_device = any(tensor.device == META for tensor in [*given, *made])
        if from_host and onto_device:
            goes_on = (kwargs or {}).get("non_blocking", False) or args[-1] is True
            (self.unwaited if goes_on else self.waited).append(str(func))
        return out


EVERYTHING = replace(EVERYTHING_AT_ONCE, size=24)
MOVED = Augment(size=24, rotate=20.0, translate=0.1, zoom=(0.5, 2.0), shear=5.0, jitter=(0.8, 0.8, 0.8, 0.2))


@pytest.mark.parametrize("augment", [EVERYTHING, MOVED, Augment.preset("simclr", 24)], ids=["all", "moved", "simclr"])
@pytest.mark.parametrize(("n", "chunk"), [(16, None), (20, 8)])
def test_a_view_takes_one_copy_to_the_device_that_nobody_waits_for(augment: Augment, n: int, chunk: int | None) -> None:
    images = torch.empty(n, 3, 32, 30, dtype=torch.uint8, device=META)
    p = augment.draw(n, 32, 30, torch.Generator().manual_seed(0))
    with Copies() as copies:
        augment.render(images, p, chunk=chunk)
    assert copies.waited == []
    assert len(copies.unwaited) == 1


@pytest.mark.parametrize(
    "drawn",
    [
        lambda generator: random_mask(6, 16, 4, generator, device=META),
        lambda generator: jepa_blocks(6, (8, 8), generator, device=META),
        lambda generator: column_subsets(6, 12, generator, device=META),
        lambda generator: gmml_corruption(torch.empty(6, 3, 16, 16, device=META), generator, fill="self"),
    ],
    ids=["random_mask", "jepa_blocks", "column_subsets", "corruption"],
)
def test_masks_are_sent_without_waiting(drawn: Callable[[torch.Generator], object]) -> None:
    with Copies() as copies:
        drawn(torch.Generator().manual_seed(0))
    assert copies.waited == []
    assert 1 <= len(copies.unwaited) <= 5


def test_the_count_sees_a_copy_that_is_waited_for() -> None:
    images = torch.empty(4, 3, device=META)
    with Copies() as copies:
        torch.arange(4).to(META)
        images[torch.tensor([1, 2])]
        images.copy_(torch.zeros(4, 3))
    assert len(copies.waited) == 3


@pytest.fixture
def to_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parcels for the meta device arrive in the CPU's memory, where they can be looked at."""
    arrive = Tensor.to
    monkeypatch.setattr(parcel.Tensor, "to", lambda self, device, **kw: arrive(self, "cpu", copy=True))


@pytest.mark.usefixtures("to_memory")
def test_what_arrives_is_what_was_sent_whatever_its_type_and_shape() -> None:
    given = [
        torch.arange(5),
        torch.tensor([True, False, True]),
        torch.rand(3, 4, generator=torch.Generator().manual_seed(0)),
        torch.zeros(0, dtype=torch.long),
        torch.tensor([[1, 2, 3, 4]]).expand(6, 4),
        torch.rand(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))[:, ::2],
    ]
    packed = Parcel(META)
    twins = [packed.add(tensor) for tensor in given]
    packed.send()
    for tensor, twin in zip(given, twins, strict=True):
        assert twin.here is tensor
        assert twin.there is not tensor
        assert twin.there.dtype == tensor.dtype
        assert torch.equal(twin.there, tensor)
        assert twin.there.data_ptr() % 16 == 0
    assert torch.equal(twins[2].rows(slice(1, 3)).there, given[2][1:3])


def test_on_a_cpu_nothing_is_copied() -> None:
    packed, tensor = Parcel(torch.device("cpu")), torch.arange(3)
    twin = packed.add(tensor)
    packed.send()
    assert twin.there is tensor
    assert sent(tensor, "cpu") is tensor
