"""The protocol "learning_order": which linear features of data would a JEPA learn first, and which an MAE?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.data.folder import evenly
from autodidact.data.source import Source
from autodidact.evaluation.curves import Curves
from autodidact.evaluation.table import Table
from autodidact.measures import FeatureDynamics, LearningOrder, learning_order
from autodidact.measures.jepa_dynamics import OBJECTIVES
from autodidact.views import Augment

PAIRS = 4_096
"""Samples that are looked at, at most."""
SIDE = 16
"""Pixels a side of the views of images: what is finer is averaged."""
COMPONENTS = 64
"""Principal components in which features are looked for, at most."""
BYTES = 2**24
"""Pixels that are read at once."""
DRAWN, LISTED = 6, 12
"""Features that are drawn, and that the plain words list."""
DISTINCT = 1e-6
"""Share of the largest variance below which a component does not vary."""


@dataclass(frozen=True)
class OrderFound:
    """What the protocol found.

    Attributes
    ----------
    data : name of the data.
    paired, pairs : how pairs were made, in words, and their number.
    order : the features, and when each objective learns them.
    names : of the features, in their order.
    """

    data: str
    paired: str
    pairs: int
    order: LearningOrder
    names: tuple[str, ...]

    def table(self, most: int | None = None) -> Table:
        """lambda and rho of every feature, or of the first so many; by objective time, place and end in the encoder.

        What an objective never learns has no time and no place.
        """
        found = Table({"data": self.data, "pairs": self.paired, "depth": self.order.depth, "start": self.order.start})
        features = self.order.features
        for row, name in enumerate(self.names[:most]):
            figures = {"lambda": float(features.lambdas[row]), "rho": float(features.rhos[row])}
            for objective in OBJECTIVES:
                place = self.order.ranks(objective)[row]
                if place is not None:
                    figures[f"{objective} place"] = place
                    figures[f"{objective} time"] = float(self.order.times[objective][row])
                figures[f"{objective} left"] = float(self.order.encoded[objective][row])
            for metric, value in figures.items():
                found.add(name, metric, 0, value)
        return found

    def curves(self) -> list[Curves]:
        """How the features of largest lambda grow, in a panel for each objective."""
        features = self.order.features
        shown = [i for i in range(len(self.names)) if features.learnable[i]][:DRAWN]
        panels = []
        for objective in OBJECTIVES:
            dynamics = FeatureDynamics(objective, self.order.depth)
            # Features that start as they end take no time, those that are never learned all of it.
            taken = [time for time in self.order.times[objective][shown].tolist() if 0 < time < math.inf]
            end = 3 * max(taken) if taken else 1 / float(features.lambdas[shown[0]])
            times = [0.0, *np.geomspace(end / 3_000, end, 200).tolist()]
            paths = dynamics.flow(features.lambdas[shown], features.rhos[shown], self.order.start, times)
            lines = {
                self.names[feature]: list(zip(times[1:], path[1:], strict=True))
                for feature, path in zip(shown, paths.tolist(), strict=True)
            }
            panels.append(Curves(f"{objective.upper()}: growth of features", "time", "amplitude", lines, log_x=True))
        return panels

    @property
    def text(self) -> str:
        """The features as a table, what turns round between the objectives, and what speaks against the theory."""
        order = self.order
        pairs = f"{self.pairs:,} pairs of '{self.data}': {self.paired}"
        lines = [pairs, f"by the theory of a linear encoder of {order.depth} layers that start at {order.start:g}:"]
        lines.append(self.table(LISTED).text())
        if len(self.names) > LISTED:
            lines.append(f"... {len(self.names) - LISTED} more features; --json FILE writes all")
        if order.turned:
            first, second = order.turned[0]
            lines.append(
                f"pairs of features that change places: {len(order.turned)}; an MAE learns {self.names[first]} before "
                f"{self.names[second]}, a JEPA after it"
            )
        else:
            lines.append("both learn the features in the same order, as far as they learn them")
        shrunk = [n for n, place in zip(self.names, order.ranks("jepa"), strict=True) if place is None]
        if shrunk:
            named = ", ".join(shrunk[:LISTED])
            lines.append(f"a JEPA only shrinks, or leaves out, {len(shrunk)} of {len(self.names)} features: {named}")
        return "\n".join([*lines, *(f"caution: {warning}" for warning in order.features.warnings)])

    def plain(self) -> dict[str, Any]:
        """JSON-ready: the table, the pairs that turn round, the cautions, the curves."""
        return {
            "protocol": "learning_order",
            "data": self.data,
            "pairs": self.pairs,
            "paired": self.paired,
            "table": self.table().plain(),
            "turned": [[self.names[i], self.names[j]] for i, j in self.order.turned],
            "off_diagonal": self.order.features.off_diagonal,
            "cautions": list(self.order.features.warnings),
            "curves": [panel.plain() for panel in self.curves()],
        }


def find_learning_order(source: Source, *, quiet: bool = True) -> OrderFound:
    """Which features a JEPA and an MAE would learn first, by the linear theory (`autodidact.measures.learning_order`).

    Of images the pairs are two random views, as methods on two views make them unless told otherwise, of 16 pixels a
    side; features are directions among pixels. Of a table they are each row and the next one, so
    its rows are read as steps in time; columns are divided by their standard deviation, gaps are filled with their
    mean. At most 4,096 samples and 64 principal components are looked at. No labels are read and nothing is trained.

    Parameters
    ----------
    source : with a field "image" or "numeric".
    quiet : of no use here; nothing takes long.

    Raises
    ------
    ValueError : a stream, fewer than 20 samples, nothing that varies or covaries.
    """
    if source.streaming:
        raise ValueError(f"'{source.name}' is a stream; save it first, so that its samples can be drawn")
    if len(source) < 20:
        raise ValueError(f"features of pairs need at least 20 samples, '{source.name}' has {len(source)}")
    image = "image" in source.schema
    x, y, paired = _views(source) if image else _steps(source)
    if unknown := int((~x.isfinite()).any(0).sum()):
        raise ValueError(f"{unknown} of {x.shape[1]} features of '{source.name}' hold no numbers in some samples")
    values = torch.linalg.eigvalsh(torch.atleast_2d((x - x.mean(0)).T.double().cov()))
    vary = int((values > DISTINCT * values[-1]).sum())
    components = min(COMPONENTS, vary, max(2, len(x) // 10))
    order = learning_order(x, y, components=components)
    names = _names(order, None if image else source.schema["numeric"].columns)
    return OrderFound(source.name, paired, len(x), order, names)


def _views(source: Source) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"], str]:
    channels, height, width = source.schema["image"].shape
    preset = "simclr" if channels == 3 else "tiny" if min(height, width) <= SIDE else "grey"
    augment = Augment.preset(preset, SIDE)
    generator = torch.Generator().manual_seed(0)
    rows: tuple[list[Tensor], list[Tensor]] = ([], [])
    positions = np.asarray(evenly(len(source), PAIRS))
    size = max(1, BYTES // (channels * height * width))
    for start in range(0, len(positions), size):
        batch = source.batch(positions[start : start + size])
        for side in rows:
            side.append(augment(batch["image"], generator, batch.get("box")).flatten(1))
    said = f"two views of an image ('{preset}', {SIDE} x {SIDE} pixels)"
    return torch.cat(rows[0]), torch.cat(rows[1]), said


def _steps(source: Source) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"], str]:
    rows = source.batch(np.arange(min(len(source), PAIRS + 1)))["numeric"]
    assert isinstance(rows, Tensor)
    seen = rows.double()
    mean = seen.nanmean(0)
    seen = torch.where(seen.isnan(), mean, seen) - mean
    spread = seen.square().mean(0).sqrt()
    seen = seen / spread.where(spread > 0, 1.0)
    return seen[:-1], seen[1:], "each row and the next one, as steps in time"


def _names(order: LearningOrder, columns: tuple[str, ...] | None) -> tuple[str, ...]:
    """Numbers by lambda; with the two columns that weigh most, where there are columns."""
    found = []
    for number, direction in enumerate(order.features.directions.T, start=1):
        most = direction.abs().argsort(descending=True)[:2].tolist()
        found.append(f"{number}" + (f" ({', '.join(columns[i] for i in most)})" if columns else ""))
    return tuple(found)
