"""MCL (66): contrast among what the first stage cannot tell apart brings back the features that an easy one hides."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from autodidact.claims.images import Split, embeddings, fresh_encoder, split_images
from autodidact.data import Source, Store
from autodidact.evaluation.frozen import Frozen
from autodidact.evaluation.linear import fit_probe
from autodidact.model import Encoder, Model
from autodidact.recipes.multistage import Multistage
from autodidact.recipes.stages import Run, Site
from autodidact.training import Settings
from autodidact.worlds.suppressed import composite, random_bits

Kind = Literal["bits", "composite"]
Groups = Literal["clusters", "one", "shuffled", "truth"]
EASY = {"bits": "truth_bits", "composite": "truth_colour"}
LABELS = 1_000
"""Labels of the linear probe: the first in order."""


class _Stages(Multistage):
    """Further stages on groups that are found (the method), one for all (an ensemble), shuffled, or known."""

    groups: Groups = "clusters"
    truth: tuple[str, int] = ("", 1)

    def assigned(self, rows: Tensor, source: Source, number: int, generator: torch.Generator) -> Tensor:
        if self.groups == "one":
            return torch.zeros(len(rows), dtype=torch.long)
        if self.groups == "truth":
            field, values = self.truth
            code = torch.from_numpy(np.array(source.column(field)))
            # The digits of the truth to base K, one a stage, as many as there are.
            return code // max(1, values // self.clusters ** (number + 1)) % self.clusters
        found = super().assigned(rows, source, number, generator)
        return found[torch.randperm(len(found), generator=generator)] if self.groups == "shuffled" else found


def world(kind: Kind, split: Split, bits: int, seed: int) -> Split:
    """The parts of a split as they are shown."""
    parts = (("train", split.train), ("held", split.validation), ("held", split.test))
    if kind == "bits":
        return Split(*(random_bits(source, bits, seed=3 * seed + k) for k, (_, source) in enumerate(parts)))
    return Split(*(composite(source, part=part, seed=3 * seed + k) for k, (part, source) in enumerate(parts)))  # type: ignore[arg-type]


def run(
    *,
    kind: Kind,
    groups: Groups,
    further: int,
    longer: int,
    clusters: int,
    seed: int,
    data: str,
    images: int,
    held: int,
    bits: int,
    batch: int,
    steps: int,
    lr: float,
    temperature: float,
    encoder: str,
    view: str,
    view_changes: Mapping[str, Any],
) -> dict[str, float]:
    """SimCLR in one or several stages; how well a linear probe reads the easy and the hidden features."""
    split = world(kind, split_images(data, images, held, seed), bits, seed)
    settings = Settings(steps=steps * longer, batch_size=batch, lr=lr, seed=seed, schedule="cosine")
    recipe = _Stages(
        method={"name": "simclr", "temperature": temperature, "view": view, "view_changes": dict(view_changes)},
        further=further,
        clusters=clusters,
    )
    recipe.groups, recipe.truth = groups, (EASY[kind], 2**bits if kind == "bits" else clusters)

    def maker(_: str, draw: int = 0) -> Encoder:
        return fresh_encoder(encoder, split.train, seed + 100_000 * draw)

    with tempfile.TemporaryDirectory() as folder:
        site = Site(split.train, maker, settings, Path(folder), quiet=True)
        model: Any = Run(recipe.stages(site), Path(folder)).result()
        figures = probed(model, split, kind, bits)
        for number in range(further if groups != "one" else 0):
            store = Store(site.at(f"clusters.{number}") / "store")
            cluster = np.asarray(split.train.joined(store).column("cluster"))
            for field in ("label", EASY[kind]):
                truth = np.asarray(split.train.column(field))
                figures[f"nmi {number} {field}"] = float(normalized_mutual_info_score(truth, cluster))
    return figures


def probed(model: Model, split: Split, kind: Kind, bits: int) -> dict[str, float]:
    """Percent that a linear probe on 1,000 labels reads right: "garment", "easy" (the mean over bits), and "digit" in
    composites; "validation" is "garment" on the validation images."""
    rows = {name: embeddings(model, source) for name, source in vars(split).items()}

    def read(truth: Mapping[str, np.ndarray], part: str = "test") -> float:
        few = rows["train"][:LABELS]
        frozen = Frozen(few, truth["train"][:LABELS], rows["train"], rows[part], int(truth["train"].max()) + 1)
        return 100 * float((fit_probe(frozen).predict(rows[part]) == truth[part]).mean())

    columns = {
        field: {name: np.asarray(source.column(field), dtype=np.int64) for name, source in vars(split).items()}
        for field in split.train.schema
        if field != "image"
    }
    figures = {"garment": read(columns["label"]), "validation": read(columns["label"], "validation")}
    if kind == "composite":
        return {**figures, "easy": read(columns["truth_colour"]), "digit": read(columns["truth_digit"])}
    each = [{name: code >> k & 1 for name, code in columns["truth_bits"].items()} for k in range(bits)]
    return {**figures, "easy": float(np.mean([read(bit) for bit in each])) if each else float("nan")}
