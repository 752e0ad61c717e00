"""The methods of a run as they stand, networks and all, brought back from its checkpoints without training anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autodidact.data.batch import Batch
from autodidact.data.combined import Together
from autodidact.data.source import Source
from autodidact.data.stream import StreamSource
from autodidact.methods.method import Method, Progress, Views
from autodidact.model import Encoder, Model
from autodidact.recipes.names import demands, encoder_maker, encoder_names, find, make_method, statistics_of
from autodidact.recipes.stages import Recipe, Run, Site
from autodidact.report.run_folder import RunFolder, Training
from autodidact.training import Settings
from autodidact.training import checkpoint as checkpoints
from autodidact.training.feed import read


@dataclass(frozen=True)
class Rehearsed:
    """A method with the weights of its newest checkpoint, in eval mode, on the CPU.

    Attributes
    ----------
    stage : of a recipe; empty for a run of one method.
    source : what it is trained on.
    progress : where it stands, with a fixed generator.
    """

    stage: str
    method: Method
    source: Source
    progress: Progress


@dataclass(frozen=True)
class Scene:
    """What a method shows its networks of a few samples.

    Attributes
    ----------
    batch : the samples.
    names : of each.
    views : by the method's own `views`.
    pictures : by the method's own `pictures`; empty where there is nothing to see.
    """

    batch: Batch
    names: list[str]
    views: Views
    pictures: Mapping[str, Tensor]


def rehearsed(run: RunFolder, source: Source) -> list[Rehearsed]:
    """The method of a run, or those of a recipe's training stages, in their order; without those that have no
    checkpoint yet."""
    cls, card = find(run.method)
    given = dict(run.config.get("method_arguments") or {})
    asked = demands(cls, card, given)
    names = run.record.get("encoder") or encoder_names(run.config.get("encoder"), asked.slots, asked.encoder)
    settings = Settings(**run.config["settings"])
    arguments = {
        **(run.config.get("encoder_arguments") or {}),
        "image_size": run.config.get("image_size"),
        "channels": run.config.get("channels"),
        "statistics": statistics_of(source),
    }
    # The weights come from the checkpoint, so pretrained ones need not be there any more.
    maker = encoder_maker(names, source, settings.seed, arguments)
    if issubclass(cls, Method):
        own = next((training for training in run.trainings if not training.name), None)
        if own is None or own.checkpoint is None:
            return []
        method = make_method(cls, maker, given, source, settings.seed)
        return [_restored("", method, source, own)]
    return _of_recipe(cls(**given), run, source, maker, settings)


def _of_recipe(
    recipe: Recipe, run: RunFolder, source: Source, maker: Callable[[str], Encoder], settings: Settings
) -> list[Rehearsed]:
    site = _Stage(source, maker, settings, run.path, True, trainings={t.name: t for t in run.trainings})
    stages = recipe.stages(site)
    loaded = Run(stages, run.path)
    for stage in stages:
        training = site.trainings.get(stage.name)
        if getattr(stage.run, "trains", False) and training is not None and training.checkpoint is not None:
            stage.run({parent: loaded.read(parent) for parent in stage.parents})
    return site.seen


@dataclass
class _Stage(Site):
    """Where a recipe's stages run again, except that training gives the weights that are already there."""

    trainings: Mapping[str, Training] = field(default_factory=dict)
    seen: list[Rehearsed] = field(default_factory=list)

    def train(
        self, stage: str, method: Method, source: Source, settings: Settings | None = None, **carried_on: Any
    ) -> Model:
        found = _restored(stage, method, source, self.trainings[stage])
        self.seen.append(found)
        return found.method.kept()


def _restored(stage: str, method: Method, source: Source, training: Training) -> Rehearsed:
    saved = training.checkpoint
    assert saved is not None
    weights = checkpoints.by_prefix(saved.tensors, "average") or checkpoints.by_prefix(saved.tensors, "method")
    method.load_state_dict(weights)
    step, total = training.updates, training.total
    generator = torch.Generator().manual_seed(0)
    return Rehearsed(stage, method.eval(), source, Progress(step, total, 0, generator))


def _first(source: StreamSource, count: int) -> tuple[Batch, list[str]]:
    for stretch in source.shuffled_stretches(count, 0):
        if stretch.batch is not None:
            return stretch.batch, [*stretch.names]
    raise ValueError(f"'{source.name}' has no sample that can be read")


def scene(of: Rehearsed, count: int) -> Scene:
    """Let a method make views of a few samples, always the same ones."""
    source = of.source
    rng = np.random.default_rng(0)
    if isinstance(source, StreamSource):
        batch, names = _first(source, count)
    elif isinstance(source, Together):
        draws = {name: rng.permutation(len(part))[:count] for name, part in source.sources.items()}
        batch = read(source, draws)
        names = [f"sample {number + 1}" for number in range(count)]
    else:
        positions = rng.permutation(len(source))[:count]
        batch = source.batch(positions)
        names = [source.names[int(position)] for position in positions]
    with torch.no_grad():
        views = of.method.views(batch, of.progress)
        pictures = of.method.pictures(views)
    return Scene(batch, names, views, pictures)
