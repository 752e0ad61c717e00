"""Exact, invertible transformations in small named sets: no pixel is interpolated, none is lost.

What tells the members of a set apart is a label that costs nothing: the task of rotation prediction, and of supervised
training on joint labels. Each set is a group that begins with the identity; products of sets are sets again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import permutations
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from autodidact.views.parcel import sent

Map = Callable[[Tensor], Tensor]
JOIN = "+"


@dataclass(frozen=True)
class Transformation:
    """A bijection of tensors (n, c, ...), the same for all samples.

    Attributes
    ----------
    name : for people.
    apply, undo : the map and its inverse; both may return a view of what they are given.
    """

    name: str
    apply: Map
    undo: Map


@dataclass(frozen=True)
class TransformationSet:
    """A few transformations in a fixed order, the identity first.

    Attributes
    ----------
    name : as `transformation_set` finds it.
    members : the transformations.
    axes : number of axes behind the channels that it needs (1 for series, 2 for images, 3 for volumes).
    exact_axes : whether there may be no more than that.
    square : whether the last two axes must be of one length.
    channels : number of channels that it needs; None for any.
    """

    name: str
    members: tuple[Transformation, ...]
    axes: int = 1
    exact_axes: bool = False
    square: bool = False
    channels: int | None = None

    def __len__(self) -> int:
        return len(self.members)

    def __add__(self, other: TransformationSet) -> TransformationSet:
        """Every member of this set followed by every member of the other, those of the other counting fastest."""
        return TransformationSet(
            f"{self.name}{JOIN}{other.name}",
            tuple(_then(first, second) for first in self.members for second in other.members),
            max(self.axes, other.axes),
            self.exact_axes or other.exact_axes,
            self.square or other.square,
            self.channels or other.channels,
        )

    def check(self, shape: Sequence[int]) -> None:
        """Raise ValueError where samples of a shape (c, ...) cannot be transformed."""
        axes = len(shape) - 1
        if axes < self.axes or (self.exact_axes and axes > self.axes):
            kind = {1: "(channels, time)", 2: "(channels, height, width)", 3: "(channels, depth, height, width)"}
            raise ValueError(f"'{self.name}' transforms samples {kind[self.axes]}, got shape {tuple(shape)}")
        if self.square and shape[-1] != shape[-2]:
            raise ValueError(f"'{self.name}' needs square images, got {shape[-2]} x {shape[-1]} pixels")
        if self.channels is not None and shape[0] != self.channels:
            raise ValueError(f"'{self.name}' needs {self.channels} channels, got {shape[0]}")

    def copies(self, x: Shaped[Tensor, "n *sample"]) -> Shaped[Tensor, "copies *sample"]:
        """All transformations of every sample; row ``b * len(self) + j`` is transformation j of sample b."""
        self.check(x.shape[1:])
        return torch.stack([member.apply(x) for member in self.members], dim=1).flatten(0, 1)

    def apply(self, x: Shaped[Tensor, "n *sample"], which: Int[Tensor, " n"]) -> Shaped[Tensor, "n *sample"]:
        """Each sample under the transformation of its number."""
        return self._each(x, which, [member.apply for member in self.members])

    def undo(self, x: Shaped[Tensor, "n *sample"], which: Int[Tensor, " n"]) -> Shaped[Tensor, "n *sample"]:
        """Each sample before the transformation of its number."""
        return self._each(x, which, [member.undo for member in self.members])

    def _each(self, x: Tensor, which: Tensor, maps: Sequence[Map]) -> Tensor:
        self.check(x.shape[1:])
        # A choice among all copies needs no look at `which` on the host, so no accelerator is waited for.
        stacked = torch.stack([one(x) for one in maps])
        return stacked[sent(which, x.device), torch.arange(len(x), device=x.device)]


def transformation_set(name: str) -> TransformationSet:
    """The set of a name, or the product of several, written ``rotation+colour3``.

    ============  ==  =======================================================================================
    name          M   transformations
    ============  ==  =======================================================================================
    identity      1   nothing
    rotation      4   quarter turns of square images
    rotation2     2   half turns
    mirror        2   the last axis reversed: images left to right, series in time
    mirrors       4   the last two axes reversed, each or not: images, volumes
    mirrors3      8   the last three axes reversed, each or not: volumes
    colour3       3   the three channels shifted in a cycle
    colour6       6   the three channels in every order
    sign          2   all values negated: series about zero
    strand        2   the last axis and the channels reversed: one-hot sequences over A, C, G, T
    ============  ==  =======================================================================================

    Raises
    ------
    ValueError
        An unknown name; the nearest one is named.
    """
    found = [_one(part) for part in name.split(JOIN)]
    made = found[0]
    for other in found[1:]:
        made = made + other
    return made


def _one(name: str) -> TransformationSet:
    if name not in TRANSFORMATIONS:
        near = get_close_matches(name, TRANSFORMATIONS, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"unknown transformations {name!r}; nearest: {near!r}; all: {', '.join(TRANSFORMATIONS)}, or several joined"
            f" by {JOIN}"
        )
    return TRANSFORMATIONS[name]


def _then(first: Transformation, second: Transformation) -> Transformation:
    return Transformation(
        f"{first.name}, {second.name}",
        lambda x: second.apply(first.apply(x)),
        lambda x: first.undo(second.undo(x)),
    )


def _same(x: Tensor) -> Tensor:
    return x


def _turned(k: int) -> Transformation:
    return Transformation(
        f"{90 * k} degrees", lambda x: torch.rot90(x, k, (-2, -1)), lambda x: torch.rot90(x, -k, (-2, -1))
    )


def _reversed(*axes: int) -> Transformation:
    name = f"axes {', '.join(map(str, axes))} reversed" if axes else "as it is"
    return Transformation(name, *[(lambda x: x.flip(axes)) if axes else _same] * 2)


def _permuted(order: Sequence[int]) -> Transformation:
    back = sorted(range(len(order)), key=order.__getitem__)
    return Transformation(f"channels {', '.join(map(str, order))}", lambda x: x[:, list(order)], lambda x: x[:, back])


_IDENTITY = Transformation("as it is", _same, _same)
_IMAGE: dict[str, Any] = {"axes": 2, "exact_axes": True}
TRANSFORMATIONS: dict[str, TransformationSet] = {
    made.name: made
    for made in (
        TransformationSet("identity", (_IDENTITY,), axes=0),
        TransformationSet("rotation", tuple(map(_turned, range(4))), square=True, **_IMAGE),
        TransformationSet("rotation2", (_turned(0), _turned(2)), **_IMAGE),
        TransformationSet("mirror", (_reversed(), _reversed(-1))),
        TransformationSet("mirrors", tuple(_reversed(*axes) for axes in ((), (-1,), (-2,), (-2, -1))), axes=2),
        TransformationSet(
            "mirrors3",
            tuple(_reversed(*axes) for axes in ((), (-1,), (-2,), (-2, -1), (-3,), (-3, -1), (-3, -2), (-3, -2, -1))),
            axes=3,
        ),
        TransformationSet("colour3", tuple(map(_permuted, ((0, 1, 2), (1, 2, 0), (2, 0, 1)))), channels=3, **_IMAGE),
        TransformationSet("colour6", tuple(map(_permuted, permutations(range(3)))), channels=3, **_IMAGE),
        TransformationSet("sign", (_IDENTITY, Transformation("negated", torch.neg, torch.neg))),
        TransformationSet("strand", (_reversed(), _reversed(1, -1)), channels=4),
    )
}
