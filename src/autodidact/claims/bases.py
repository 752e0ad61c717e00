"""Models that claims start from, mostly tiny language models: trained once, and kept by what they follow from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from autodidact.compare.arms import digest
from autodidact.data import Source
from autodidact.lm.kept import LanguageModel
from autodidact.lm.local import LocalLM
from autodidact.lm.tiny import tiny_lm
from autodidact.methods.language.sft import SFT
from autodidact.methods.method import Method
from autodidact.model import Model, load_model
from autodidact.model.model import SETTINGS
from autodidact.recipes.improving import example_source
from autodidact.training import Settings, train
from autodidact.worlds.language.task import LanguageWorld

VERSION = 1
"""Raised by hand when a base follows from something that its key does not hold."""


def base_lm(
    world: LanguageWorld,
    folder: Path,
    *,
    documents: int,
    steps: int,
    batch: int,
    lr: float,
    width: int,
    depth: int,
    heads: int,
    context: int,
    seed: int,
    dials: Mapping[str, Any],
    symbols: Sequence[str] | None = None,
) -> LocalLM:
    """A model of a world's pretraining mix, from a folder where it is there, else trained and put there.

    Parameters
    ----------
    folder : of all bases.
    documents : texts of the mix.
    steps, batch, lr : of the training.
    width, depth, heads, context : of the model, see `tiny_lm`.
    seed : of texts, weights and order.
    dials : the world's own settings, for the key.
    symbols : of the model, see `tiny_lm`; default the characters of the world.
    """
    sizes = {"width": width, "depth": depth, "heads": heads, "context": context}
    training = {"documents": documents, "steps": steps, "batch": batch, "lr": lr}

    def make() -> Model:
        lm = tiny_lm(symbols or world.alphabet, seed=seed, **sizes)
        settings = Settings(steps=steps, batch_size=batch, lr=lr, weight_decay=0.01, clip_norm=1.0, seed=seed)
        return train(SFT(lm), mix_source(world, documents, seed, symbols), settings, quiet=True)

    return kept_base(folder, _key(world, documents, seed, dials, symbols) | sizes | training, make)


def learning_lm(
    world: LanguageWorld,
    folder: Path,
    *,
    right: Callable[[LocalLM], float],
    enough: float,
    most: int,
    least: int = 0,
    every: int = 100,
    goes_on: bool = False,
    documents: int,
    batch: int,
    lr: float,
    width: int,
    depth: int,
    heads: int,
    context: int,
    seed: int,
    dials: Mapping[str, Any],
    symbols: Sequence[str] | None = None,
) -> LocalLM:
    """A base that is still learning: trained until it is right often enough, and no further.

    How many updates that takes differs much from seed to seed, and the share that is right rises within few of them, so
    that a number of updates would find one seed before it and the next behind.

    Parameters
    ----------
    right : the share in [0, 1] that a model gets right of something that nothing is reported on.
    enough : the share that ends the training.
    least, most : updates.
    every : updates between two looks.
    goes_on : whether the optimiser goes on from one look to the next, which is much faster where `every` is small, or
        starts anew.
    others : see `base_lm`. The rate stays as it is.
    """
    sizes = {"width": width, "depth": depth, "heads": heads, "context": context}
    ends = {"enough": enough, "least": least, "most": most, "every": every} | ({"goes_on": True} if goes_on else {})
    settings = Settings(
        steps=most,
        batch_size=batch,
        lr=lr,
        weight_decay=0.01,
        schedule="constant",
        warmup=0.0,
        clip_norm=1.0,
        seed=seed,
    )

    def make() -> Model:
        lm = tiny_lm(symbols or world.alphabet, seed=seed, **sizes)
        source = mix_source(world, documents, seed, symbols)
        with TemporaryDirectory() as out:
            for number, done in enumerate([*range(every, most, every), most]):
                if goes_on:
                    kept = train(SFT(lm), source, settings, out=out, until=done / most, quiet=True)
                else:
                    part = replace(settings, steps=min(every, most), seed=1000 * seed + number)
                    kept = train(SFT(lm), source, part, quiet=True)
                assert isinstance(kept, LanguageModel)
                lm = kept.lm
                if done >= least and right(lm) > enough:
                    break
        return LanguageModel(lm)

    training = {"documents": documents, "batch": batch, "lr": lr, **ends}
    return kept_base(folder, _key(world, documents, seed, dials, symbols) | sizes | training, make)


def texts_lm(
    texts: Sequence[str],
    folder: Path,
    *,
    start: str,
    symbols: str,
    seed: int,
    sizes: Mapping[str, Any],
    **training: Any,
) -> LocalLM:
    """A base that writes texts like some that are given, each after the same symbol.

    Parameters
    ----------
    start : that every text is written after; `symbols` are the others.
    sizes : of the model, see `tiny_lm`.
    training : steps, batch and lr, see `taught`.
    """

    def make() -> Model:
        lm = tiny_lm([*symbols, start], seed=seed, **sizes)
        source = example_source("texts", [(start, text) for text in texts])
        return LanguageModel(taught(SFT(lm), source, seed=seed, **training))

    said = digest({"texts": list(texts)})
    key = {"texts": said, "symbols": symbols, "start": start, "seed": seed, **sizes, **training}
    return kept_base(folder, key, make)


def _key(
    world: LanguageWorld, documents: int, seed: int, dials: Mapping[str, Any], symbols: Sequence[str] | None
) -> dict[str, Any]:
    """What the texts of a base follow from, and the texts themselves: a world that is changed makes another base."""
    shown = [document.given + document.text for document in world.documents(min(documents, 100), seed)]
    said = {"symbols": list(symbols or world.alphabet), "texts": digest({"texts": shown})}
    return {"world": world.name, "dials": dict(dials), "seed": seed, **said}


def mix_source(world: LanguageWorld, documents: int, seed: int, symbols: Sequence[str] | None = None) -> Source:
    """A world's texts as data: what they give, or else the first symbol, is read, all that follows is learned."""
    found = world.documents(documents, seed)
    firsts = [one.given or max(filter(one.text.startswith, symbols or one.text[0]), key=len) for one in found]
    return example_source("mix", [(first, one.text[len(first) :]) for first, one in zip(firsts, found, strict=True)])


def kept_base(folder: Path, key: Mapping[str, Any], make: Callable[[], Model]) -> LocalLM:
    """A language model from a folder of bases where it is there, else made and put there, see `kept_model`."""
    kept = kept_model(folder, key, make)
    assert isinstance(kept, LanguageModel)
    return kept.lm


def kept_model(folder: Path, key: Mapping[str, Any], make: Callable[[], Model]) -> Model:
    """A model from a folder of bases where it is there, else made and put there.

    Parameters
    ----------
    key : all that it follows from.
    """
    name = digest({"version": VERSION, **key})
    place = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{name}.lock"):
        if not (place / SETTINGS).exists():
            make().save(place)
    return load_model(place)


def taught(method: Method, source: Source, *, steps: int, batch: int, lr: float, seed: int) -> LocalLM:
    """The language model that a method's training ends with, where all arms of a claim are trained alike.

    Parameters
    ----------
    batch : samples in a step, or all there are.
    """
    settings = Settings(
        steps=steps,
        batch_size=min(batch, len(source)),
        lr=lr,
        weight_decay=0.0,
        schedule="linear",
        clip_norm=1.0,
        seed=seed,
    )
    kept = train(method, source, settings, quiet=True)
    assert isinstance(kept, LanguageModel)
    return kept.lm
