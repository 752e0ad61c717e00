"""Multistage contrastive learning: each further stage contrasts only what the stages before it cannot tell apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from autodidact.catalog import Card
from autodidact.data.batching import SameBatching
from autodidact.data.schema import Field
from autodidact.data.source import Joined, Source
from autodidact.data.store import Store
from autodidact.encoders.kept import EncoderModel
from autodidact.methods.method import Method
from autodidact.methods.same_group import SameGroup
from autodidact.model import Encoder, Model
from autodidact.recipes.names import MethodSpec, method_of, named_method
from autodidact.recipes.stages import Recipe, Site, Stage, at_once, training
from autodidact.targets import combined_code, kmeans, left_over, merged_groups
from autodidact.training.feed import seeded
from autodidact.training.processes import first_process

CARD = Card(
    name="multistage",
    target="Multistage",
    kind="recipe",
    number=66,
    title="MCL (Multistage Contrastive Learning)",
    paper="Zhang, Lan, Qi, Liu, Wang, Lan: Learning the Unlearned: Mitigating Feature Suppression in Contrastive "
    "Learning (2402.11816, 2024)",
    summary="Repeats a contrastive method on batches of what it could not tell apart, so that suppressed features are "
    "learned too.",
    needs=(("image", "image"),),
    arguments=("method", "further", "clusters", "form"),
    claim="multistage",
    encoder="small:convnet",
)


class Multistage(Recipe):
    """Multistage contrastive learning (arXiv 2402.11816, section 3).

    A contrastive loss is satisfied by any feature that tells the views of a batch apart, so an easy one (a colour, a
    watermark) keeps others from being learned. Stage 0 trains as usual. Its features are clustered, and stage 1 draws
    every batch from one cluster only: there the features of stage 0 no longer help, and others are learned. Stage s
    draws from the groups that agree in the clusters of all stages before it. What is kept are all encoders side by
    side, each L2-normalised; fine-tuning starts from that of stage 0. Every stage costs a training of its own, and
    embedding costs as many encoders as there are stages.

    The released code combines the labels of the last stage with themselves instead of those of all stages; here it is
    all stages, as the paper says. What an augmentation destroys (a colour jitter the colour) no stage can learn.
    Images alone: the paper's second experiment, pairs of images and texts, is not part of it, nor are weights of the
    stages in the joined embedding.

    Parameters
    ----------
    method : what each stage trains, by name, or with options as ``{name: dcl, temperature: 0.2}``.
    further : stages after the first. Paper: 2.
    clusters : k-means clusters of each stage's features. Paper: 10.
    form : "batches" draws each batch from one group (paper); there a queue of earlier keys (`moco`) also holds those of
        other groups, which any feature tells apart: keep it no longer than a batch. "mask" draws batches as usual and
        lets only samples of one group repel each other, for small data, with `simclr`, `dcl` and `scat_simclr`.
    start : where a further stage's encoder starts: "fresh" from weights of its own, "previous" from the stage before
        it, as when a large pretrained model is tuned.
    smallest : groups below this many batches join the group nearest to them, in units of the batch size. 0 merges none,
        as in the released code: groups that fill no batch are then never trained on.
    """

    def __init__(
        self,
        *,
        method: MethodSpec = "simclr",
        further: int = 2,
        clusters: int = 10,
        form: Literal["batches", "mask"] = "batches",
        start: Literal["fresh", "previous"] = "fresh",
        smallest: float = 2.0,
    ) -> None:
        named_method(method)
        if further < 0 or clusters < 1 or smallest < 0:
            raise ValueError(
                f"further and smallest must not be negative and clusters at least 1, got {further}, {smallest} and "
                f"{clusters}"
            )
        if form not in ("batches", "mask"):
            raise ValueError(f"form is 'batches' or 'mask', got '{form}'")
        if start not in ("fresh", "previous"):
            raise ValueError(f"start is 'fresh' or 'previous', got '{start}'")
        self.method, self.further, self.clusters = method, further, clusters
        self.form, self.start, self.smallest = form, start, smallest

    def stages(self, site: Site) -> list[Stage]:
        at_once(site.source)
        self._checked(site)
        if self.clusters > len(site.source):
            rows = len(site.source)
            raise ValueError(f"{self.clusters} clusters need as many samples; '{site.source.name}' has {rows}")
        found = [Stage("train.0", training(partial(self._train, site, 0)))]
        for number in range(1, self.further + 1):
            before = number - 1
            features = tuple(f"features.{k}" for k in range(number))
            clusters = tuple(f"clusters.{k}" for k in range(before))
            parents = (f"train.{before}", f"clusters.{before}")
            found += [
                Stage(features[-1], partial(self._features, site, before), (f"train.{before}",)),
                Stage(f"clusters.{before}", partial(self._clusters, site, before), (*features, *clusters)),
                Stage(f"train.{number}", training(partial(self._train, site, number)), parents),
            ]
        if self.further:
            found.append(Stage("joined", self._joined, tuple(f"train.{k}" for k in range(self.further + 1))))
        return found

    def _train(self, site: Site, number: int, results: Mapping[str, Any]) -> Model:
        if number == 0:
            return site.train(
                "train.0", method_of(self.method, site.encoder, site.source, site.settings.seed), site.source
            )
        settings = replace(site.settings, seed=seeded(site.settings.seed, "stage", number))
        before = results[f"train.{number - 1}"]
        method = method_of(self.method, self._encoder(site, number, before), site.source, settings.seed)
        source = site.source.joined(results[f"clusters.{number - 1}"], ["group"])
        grouped = self._grouped(method)
        model = site.train(f"train.{number}", grouped, source, settings)
        if isinstance(grouped, SameGroup) and first_process():
            site.note(f"train.{number}", grouped.told())
        return model

    def _checked(self, site: Site) -> None:
        """Raise now what would otherwise be found out after whole trainings."""
        if self.further:
            method = method_of(self.method, site.encoder, site.source, site.settings.seed)
            _encoders(method.kept())
            self._grouped(method)

    def _encoder(self, site: Site, number: int, before: Model) -> Any:
        def make(slot: str) -> Encoder:
            made = site.encoder(slot, number)
            if self.start == "previous":
                made.load_state_dict(_encoders(before)[slot].state_dict())
            return made

        return make

    def _grouped(self, method: Method) -> Method:
        if self.form == "mask":
            return SameGroup(method, "group")
        method.batching = SameBatching("group")
        return method

    def _features(self, site: Site, number: int, results: Mapping[str, Any]) -> Store:
        return site.embedded(f"features.{number}", results[f"train.{number}"], site.source)

    def _clusters(self, site: Site, number: int, results: Mapping[str, Any]) -> Store:
        """Clusters of the newest stage, what they are together with those before it, and groups that fill batches."""
        stage = f"clusters.{number}"
        store = site.store(stage, cluster=Field("group"), group=Field("group"))
        if len(store):
            return store
        ids = site.source.ids
        rows = [_column(results[f"features.{k}"], "embedding", site.source) for k in range(number + 1)]
        earlier = [_column(results[f"clusters.{k}"], "cluster", site.source) for k in range(number)]
        generator = torch.Generator().manual_seed(seeded(site.settings.seed, stage))
        cluster = self.assigned(rows[-1], site.source, number, generator)
        code = combined_code([*earlier, cluster], self.clusters)
        least = round(self.smallest * site.settings.batch_size)
        group = merged_groups(code, torch.cat(rows, dim=1), least)
        if self.form == "batches" and int(torch.bincount(group).max()) < site.settings.batch_size:
            raise ValueError(
                f"none of the {len(group.unique())} groups has the {site.settings.batch_size} samples of a batch: "
                f"start again with fewer clusters than {self.clusters}, smaller batches, or smallest above "
                f"{self.smallest:g}"
            )
        site.note(stage, *self._notes(code, group, least, site))
        store.append(ids, cluster=cluster, group=group)
        return store

    def assigned(
        self, rows: Float[Tensor, "n d"], source: Source, number: int, generator: torch.Generator
    ) -> Int[Tensor, " n"]:
        """The clusters of a stage's features: k-means."""
        return kmeans(rows, self.clusters, generator=generator).labels.long()

    def _notes(self, code: Tensor, group: Tensor, least: int, site: Site) -> list[str]:
        sizes = torch.bincount(group)
        small = int((code.unique(return_counts=True)[1] < least).sum())
        said = [
            f"{len(code.unique())} groups agree in all clusters; {small} of fewer than {least} samples joined others, "
            f"which leaves {len(sizes)} of {int(sizes.min())} to {int(sizes.max())} samples"
        ]
        if self.form == "batches":
            lost = left_over(group, site.settings.batch_size)
            said.append(f"{lost} of {len(group)} samples fill no batch of their group and are left out of an epoch")
        if len(sizes) == 1:
            said.append("a single group: the next stage trains as the first one did")
        return said

    def _joined(self, results: Mapping[str, Any]) -> Model:
        """The encoders of all stages side by side."""
        encoders = {
            f"{name}.{slot}".replace(".", "_"): e for name, m in results.items() for slot, e in _encoders(m).items()
        }
        tap = next(iter(results.values())).tap
        return EncoderModel(encoders, merge="concat", tap=tap, normalise=True)


def _encoders(model: Model) -> dict[str, Encoder]:
    """The encoders that take part in a model's embedding."""
    if not isinstance(model, EncoderModel):
        raise ValueError(f"stages are joined by their encoders; this method keeps a model of kind '{model.kind}'")
    slots = model.encoders if model.merge == "concat" else [model.primary]
    return {slot: model[slot] for slot in slots}


def _column(store: Store, name: str, source: Source) -> Tensor:
    """A column of a store in the order of the source, of all its samples."""
    joined = Joined(source, store, [name])
    if joined.missing:
        raise ValueError(f"the stage '{store.name}' knows {len(store)} samples, '{source.name}' has {len(source)}")
    return torch.from_numpy(np.array(joined.column(name)))
