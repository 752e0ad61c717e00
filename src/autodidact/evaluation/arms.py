"""What is compared: the pretrained model, and what it has to beat."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from jaxtyping import Float32

from autodidact.catalog import unknown
from autodidact.data.source import Source
from autodidact.encoders.kept import EncoderModel, PredictorModel
from autodidact.evaluation.embeddings import Change, Embeddings, Featurise, embedder, of_changed
from autodidact.evaluation.hidden import Hidden
from autodidact.evaluation.random_encoder import random_encoder, random_model
from autodidact.evaluation.raw import has_raw, raw_features
from autodidact.methods.predicting import ReadOut
from autodidact.model import Encoder, Model

BASELINES = ("raw", "random", "scratch")


@dataclass(frozen=True)
class Sides:
    """Embeddings of the training and of the test rows.

    Attributes
    ----------
    changed : from a change of images to embeddings of all test rows, their images changed.
    """

    train: Embeddings
    test: Embeddings
    changed: Callable[[Change], Float32[np.ndarray, "m d"]]


@dataclass(frozen=True)
class Arm:
    """One row of the table.

    Attributes
    ----------
    name : of the row.
    frozen : from a seed to embeddings, which only random weights depend on; None where there are none.
    network : from a seed to the encoder that training starts from; None where there is nothing to train.
    pretrained : whether that encoder has learned anything yet.
    read_out : what a head on that encoder reads, see `autodidact.methods.predicting.Predicting`.
    """

    name: str
    frozen: Callable[[int], Sides] | None = None
    network: Callable[[int], Encoder] | None = None
    pretrained: bool = False
    read_out: ReadOut = "pooled"


@dataclass(frozen=True)
class Bench:
    """The rows on which arms are compared, and how embeddings of them are computed.

    Attributes
    ----------
    train, test : training and test rows.
    batch_size : samples in one call of a network.
    device : where the networks run.
    quiet : no progress lines.
    """

    train: Source
    test: Source
    batch_size: int = 256
    device: str = "cpu"
    quiet: bool = True

    def sides(self, featurise: Featurise, title: str) -> Sides:
        """Embeddings by one function; it is shown no answers."""

        def rows(part: Source, of: Featurise) -> Embeddings:
            return Embeddings(of, Hidden(part), batch_size=self.batch_size, quiet=self.quiet, title=title)

        def changed(change: Change) -> Float32[np.ndarray, "m d"]:
            field = self.test.schema.first("image")
            if field is None:
                raise ValueError(f"only images can be changed, and '{self.test.name}' has none")
            return rows(self.test, of_changed(featurise, change, field)).at(np.arange(len(self.test)))

        return Sides(rows(self.train, featurise), rows(self.test, featurise), changed)


def pretrained(model: Model, bench: Bench, name: str = "pretrained") -> Arm:
    """The arm of a model; whole networks start from its (primary) encoder."""
    network = (lambda _: model.encoder) if isinstance(model, EncoderModel | PredictorModel) else None
    if "embed" not in model.abilities:
        return Arm(name, None, network, True, _read_out(model))
    sides = cache(lambda: bench.sides(embedder(model, bench.device), name))
    return Arm(name, lambda _: sides(), network, True, _read_out(model))


def baselines(names: Iterable[str], model: Model, bench: Bench) -> dict[str, Arm]:
    """The arms of the baselines that this model and data allow.

    Parameters
    ----------
    names : of "raw" (the input itself), "random" (the same network, random weights, frozen; another draw of weights for
        each seed) and "scratch" (the same network, trained on the labels alone).

    Raises
    ------
    ValueError : a name is unknown.
    """
    found: dict[str, Arm] = {}
    for name in names:
        if name not in BASELINES:
            raise unknown("baseline", name, BASELINES)
        if name == "raw" and has_raw(bench.train.schema):
            found[name] = _raw(bench)
        elif name == "random" and isinstance(model, EncoderModel | PredictorModel):
            found[name] = Arm(name, frozen=_random(model, bench))
        elif name == "scratch" and isinstance(model, EncoderModel | PredictorModel):
            found[name] = Arm(name, network=_fresh(model.encoder), read_out=_read_out(model))
    return found


def _raw(bench: Bench) -> Arm:
    sides = cache(lambda: bench.sides(raw_features(Hidden(bench.train), np.arange(len(bench.train))), "raw"))
    return Arm("raw", lambda _: sides())


def _random(model: EncoderModel | PredictorModel, bench: Bench) -> Callable[[int], Sides]:
    rows = np.arange(len(bench.train))

    # One at a time: each seed has its own weights, and the embeddings of a large set are large.
    @lru_cache(maxsize=1)
    def sides(seed: int) -> Sides:
        made = random_model(model, seed, Hidden(bench.train), rows)
        return bench.sides(embedder(made, bench.device), "random")

    return sides


def _read_out(model: Model) -> ReadOut:
    """As the model embeds, where a head can read that; a layer's tap it cannot."""
    tap = getattr(model, "tap", None)
    return tap if tap in ("mean", "flat", "pooled+mean") else "pooled"


def _fresh(encoder: Encoder) -> Callable[[int], Encoder]:
    return lambda seed: random_encoder(encoder, seed)
