"""SimCore: a small target set chooses from a large open one what to be trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from autodidact.catalog import Card
from autodidact.data import Field, Source, Store, united
from autodidact.data.open import SKIPPED
from autodidact.measures.neighbours import nearest
from autodidact.model import Model
from autodidact.recipes.further import opened_like
from autodidact.recipes.names import MethodSpec, method_of, named_method
from autodidact.recipes.stages import Recipe, Site, Stage, training
from autodidact.selection import Coreset, check_directions, select_by_rounds
from autodidact.targets import kmeans

CARD = Card(
    name="simcore",
    target="SimCore",
    kind="recipe",
    number=38,
    title="SimCore",
    paper="Kim, Bae, Yun: Coreset Sampling from Open-Set for Fine-Grained Self-Supervised Learning (2303.11101, 2023)",
    summary="Adds to a small unlabelled set what resembles it in a large open pool, and pretrains on both.",
    needs=(("image", "image"),),
    arguments=("pool", "method", "share", "stop"),
    claim="simcore",
    asks="--method.pool POOL",
    encoder="small:convnet",
)


@dataclass(frozen=True)
class CoresetRule:
    """Which samples of a pool are selected for a target set; the arguments are explained at `SimCore`."""

    clusters: int = 100
    count: int = 0
    share: float = 0.0
    stop: float = 0.95
    patience: int = 20
    most: int = 50
    exclude_near_duplicates: float = 0.9999

    def __post_init__(self) -> None:
        if min(self.clusters, self.patience, self.most) < 1 or self.count < 0:
            raise ValueError(
                f"clusters, patience and most are at least 1 and count is not negative, got {self.clusters}, "
                f"{self.patience}, {self.most} and {self.count}"
            )
        if not 0 <= self.share <= 1 or (self.share and self.count):
            raise ValueError(f"share lies in (0, 1] and excludes count, got {self.share} and {self.count}")
        if not 0 < self.stop <= 1:
            raise ValueError(f"stop lies in (0, 1], got {self.stop}")
        if not 0 <= self.exclude_near_duplicates <= 1:
            raise ValueError(f"exclude_near_duplicates is a cosine in [0, 1], got {self.exclude_near_duplicates}")

        usual = {field.name: field.default for field in fields(self)}
        ends = [name for name in ("stop", "patience", "most") if getattr(self, name) != usual[name]]
        if ends and not self.stops:
            raise ValueError(f"count or share says how many are selected, so {', '.join(ends)} would mean nothing")

    @property
    def stops(self) -> bool:
        """Whether resemblance ends the selection, not a number of samples."""
        return not (self.count or self.share)

    def __call__(
        self, target: Float[Tensor, "x d"], pool: Float[Tensor, "n d"], generator: torch.Generator
    ) -> tuple[Coreset, Int[Tensor, " c"]]:
        """The selection, and the rows of the pool that were left out as copies of target samples."""
        among = torch.ones(len(pool), dtype=torch.bool)
        if self.exclude_near_duplicates and len(pool):
            among = nearest(pool, target, 1)[0][:, 0] < self.exclude_near_duplicates
        copies = (~among).nonzero().flatten()
        centroids = self.centroids(target, generator)
        if len(pool) - len(copies) < len(centroids):
            raise ValueError(
                f"the pool has {len(pool) - len(copies)} samples beside {len(copies)} copies of target samples, fewer "
                f"than the {len(centroids)} clusters of the target: take all of it, or fewer clusters"
            )
        budget = self.most * len(target) if self.stops else self.count or max(1, int(self.share * len(pool)))
        stop = self.stop if self.stops else None
        return (
            select_by_rounds(
                centroids, pool, budget=budget, stop=stop, patience=self.patience, among=among, generator=generator
            ),
            copies,
        )

    def centroids(self, target: Float[Tensor, "x d"], generator: torch.Generator) -> Float[Tensor, "k d"]:
        """Means of the target's k-means clusters by direction; the samples themselves where there are no more."""
        check_directions("target", target)
        rows = torch.nn.functional.normalize(target)
        if self.clusters >= len(rows):
            return rows
        return torch.nn.functional.normalize(kmeans(rows, self.clusters, generator=generator).centroids)

    def told(self, coreset: Coreset, copies: int, pool: int) -> list[str]:
        """What was decided, in sentences."""
        said = [f"{len(coreset)} of {pool} samples of the pool are selected, in {len(coreset.rounds.unique())} rounds"]
        if coreset.ended == "unlike" and not coreset.values[self.patience - 1] > 0:
            said.append(
                f"the pool does not resemble the target: after {self.patience} rounds by a mean cosine of "
                f"{coreset.values[self.patience - 1]:.3f}"
            )
        elif coreset.ended == "unlike":
            said.append(
                f"the next round would have resembled the target by {coreset.values[-1]:.3f}, less than {self.stop} of "
                f"the {coreset.values[self.patience - 1]:.3f} of round {self.patience}"
            )
        elif self.stops:
            why = f"{self.most} times the target" if coreset.ended == "budget" else "the whole pool"
            said.append(f"nothing stopped it before {why}: a smaller patience or a larger stop selects less")
        elif self.count > len(coreset):
            said.append(f"{self.count} were asked for, and the pool has no more")
        if self.exclude_near_duplicates:
            said.append(
                f"{copies} samples of the pool are left out as copies of target samples (cosine of at least "
                f"{self.exclude_near_duplicates})"
            )
        return said


class SimCore(Recipe):
    """SimCore (arXiv 2303.11101, sections 3.1 and 3.2).

    A model trained on the target alone embeds target and pool. The target's k-means centroids then take turns: in each
    round every one of them takes the pool's nearest sample that is left. That ends when the pool no longer resembles
    the target, or at a given number. A second training from the same initial weights as the first sees target and
    selection as one set. ``autodidact select`` makes the selection alone, as a list of files that ``--data`` accepts.

    Not part of it: selecting again during the second training.

    Parameters
    ----------
    pool : the open set, named as the data itself is: a folder, a list of files, ... Its labels are not looked at.
    method : what both trainings train, by name, or with options as ``{name: dcl, temperature: 0.2}``.
    retrieval : "trained" trains the model that embeds on the target first; "initial" embeds with the network as it is,
        which is of use with --pretrained.
    retrieval_epochs : passes over the target for that model; 0 for what the settings say.
    clusters : k-means clusters of the target; where it has no more samples, each is a centroid. Paper: 100.
    count : samples to select; 0 for as many as `share` or `stop` says.
    share : share of the pool to select, in (0, 1]; 0 for as many as `stop` says. Paper: 0.01 and 0.05.
    stop : the selection ends with the first round whose mean resemblance falls below this share of that of round
        `patience`, in (0, 1]. Paper: 0.95.
    patience : round from which it may end, at least 1. Paper: 20; take less where there are many clusters.
    most : end at this many times the target's samples, if nothing ends it before. Paper: 50.
    exclude_near_duplicates : cosine of the embeddings from which a sample of the pool counts as a copy of a target
        sample and is left out, counted; 0 leaves none out.
    most_seen : samples that the second training sees at most, where `stop` decides the number and the settings give
        epochs: ``min(epochs, most_seen // samples)``, so that a larger selection costs no more. 0 for no limit. Paper:
        128,116,700, which are 100 passes over ImageNet; it divides by the selected samples, here the target's count
        too.
    """

    def __init__(
        self,
        *,
        pool: Source | str | None = None,
        method: MethodSpec = "simclr",
        retrieval: Literal["trained", "initial"] = "trained",
        retrieval_epochs: int = 0,
        clusters: int = 100,
        count: int = 0,
        share: float = 0.0,
        stop: float = 0.95,
        patience: int = 20,
        most: int = 50,
        exclude_near_duplicates: float = 0.9999,
        most_seen: int = 128_116_700,
    ) -> None:
        named_method(method)
        if retrieval not in ("trained", "initial"):
            raise ValueError(f"retrieval is 'trained' or 'initial', got '{retrieval}'")
        if retrieval_epochs < 0 or most_seen < 0:
            raise ValueError(
                f"retrieval_epochs and most_seen must not be negative, got {retrieval_epochs} and {most_seen}"
            )
        self.rule = CoresetRule(clusters, count, share, stop, patience, most, exclude_near_duplicates)
        self.pool, self.method, self.retrieval = pool, method, retrieval
        self.retrieval_epochs, self.most_seen = retrieval_epochs, most_seen

    def stages(self, site: Site) -> list[Stage]:
        pool = opened_pool(self.pool, site.source, quiet=site.quiet, skipped=site.folder / SKIPPED)

        def retrieve(_: Mapping[str, Any]) -> Model:
            settings = site.settings
            if self.retrieval_epochs:
                settings = replace(settings, epochs=self.retrieval_epochs, steps=None, tokens=None)
            return site.train("retrieval", self._method(site), site.source, settings)

        def initial(_: Mapping[str, Any]) -> Model:
            return self._method(site).kept().eval()

        def target(results: Mapping[str, Any]) -> Store:
            return site.embedded("target", results["retrieval"], site.source)

        def open_set(results: Mapping[str, Any]) -> Store:
            return site.embedded("pool", results["retrieval"], pool)

        def coreset(results: Mapping[str, Any]) -> Store:
            store = site.store("coreset", round=Field("group"), similarity=Field("target"))
            if len(store):
                return store
            rows = [torch.from_numpy(np.array(results[name].column("embedding"))) for name in ("target", "pool")]
            generator = torch.Generator().manual_seed(site.settings.seed)
            found, copies = self.chosen(rows[0], rows[1], pool, generator)
            lost = [f"{len(pool.skipped)} files of the pool could not be read"] if pool.skipped else []
            site.note("coreset", *self.rule.told(found, len(copies), len(pool)), *lost)
            ids = results["pool"].ids[found.positions.numpy()]
            store.append(
                ids,
                name=pool.only(ids).names,
                round=found.rounds,
                similarity=found.similarity,
            )
            return store

        @training
        def train(results: Mapping[str, Any]) -> Model:
            both = united(target=site.source, pool=pool.only(results["coreset"].ids))
            settings = site.settings
            if settings.steps is None and settings.tokens is None and self.rule.stops and self.most_seen:
                settings = replace(settings, epochs=max(1, min(settings.epochs or 1, self.most_seen // len(both))))
            return site.train("train", self._method(site), both, settings)

        first = training(retrieve) if self.retrieval == "trained" else initial
        return [
            Stage("retrieval", first),
            Stage("target", target, ("retrieval",)),
            Stage("pool", open_set, ("retrieval",)),
            Stage("coreset", coreset, ("target", "pool")),
            Stage("train", train, ("coreset",)),
        ]

    def chosen(
        self, target: Float[Tensor, "x d"], rows: Float[Tensor, "n d"], pool: Source, generator: torch.Generator
    ) -> tuple[Coreset, Int[Tensor, " c"]]:
        """The selection of embedded samples of the pool, and the copies of target samples among them."""
        return self.rule(target, rows, generator)

    def _method(self, site: Site) -> Any:
        # Made alike each time, so that both trainings start from the same weights.
        return method_of(self.method, site.encoder, site.source, site.settings.seed)


def opened_pool(
    pool: Source | str | None, target: Source, *, quiet: bool = False, skipped: Path | None = None
) -> Source:
    """The pool, taken as the target is: the same canvas and channels, the same coding of columns, no labels.

    Raises
    ------
    ValueError : no pool, an empty one, a stream, or images of another size.
    """
    if pool is None or pool == "":
        raise ValueError("a pool to select from is needed: --method.pool DATA, named as the data itself is")
    return opened_like(pool, target, "pool", labels="none", quiet=quiet, skipped=skipped)
