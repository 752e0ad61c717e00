"""How recipes have a language model write instructions of its own: in rounds, from seeds, and what is new stays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from autodidact.data import Store
from autodidact.data.ids import row_ids
from autodidact.lm import LM, Completion, Sampling
from autodidact.lm.fitting import NoRoom, fitting
from autodidact.lm.instructions import Instance
from autodidact.recipes.improving import one_each
from autodidact.selection.novelty import Novelty

Written = Sequence[Instance | str]
"""What a completion holds: instances, and for each that is none the reason."""
Part = TypeVar("Part")


@dataclass(frozen=True)
class Asking:
    """How a model is asked for instructions.

    Attributes
    ----------
    name : of the pool, unique in its store.
    rounds, per_round : requests are made so many at a time; those of a round know what the rounds before it brought.
    slots : instructions of a completion that are looked at; what a completion has fewer is listed as not written, and
        what it has more as beyond these.
    sampling : of the completions.
    request : the instances made so far and randomness -> what is asked.
    read : what a completion holds.
    refused : why an instance is not kept, whatever the pool holds; empty where nothing speaks against it.
    """

    name: str
    rounds: int
    per_round: int
    slots: int
    sampling: Sampling
    request: Callable[[Sequence[Instance], np.random.Generator], str]
    read: Callable[[Completion], Written]
    refused: Callable[[Instance], str]


def gather(lm: LM, asking: Asking, known: Novelty, store: Store, seed: int) -> list[Instance]:
    """Ask for instructions round by round, and keep those that nothing speaks against and that the pool does not know.

    The columns of the store are "pool", "instruction" and "input"; what it has decided on is not asked for again.

    Parameters
    ----------
    known : instructions with their inputs that further ones are held against; those that are kept join it.
    seed : of prompts and completions.

    Returns
    -------
    list
        The instances that were kept, in their order.
    """
    columns = ("instruction", "input")
    before = zip(*(store.column(name) for name in columns), strict=True) if len(store) else ()
    old = {id_: Instance(*texts) for id_, texts in zip(store.ids.tolist(), before, strict=True)}
    made: list[Instance] = []
    for number in range(asking.rounds):
        ids = row_ids(asking.name, str(number), asking.per_round * asking.slots)
        rng = np.random.default_rng((seed, number, *asking.name.encode()))
        written: list[Instance | str] = ["not written"] * len(ids)
        kept, reasons = dict[int, Instance](), dict[int, str]()
        if not store.has(ids).all():
            requests = [asking.request(made, rng) for _ in range(asking.per_round)]
            sampling = replace(asking.sampling, seed=1000 * seed + number)
            for place, completion in enumerate(one_each(lm, requests, sampling)):
                found = asking.read(completion)
                looked_at = found[: asking.slots]
                written[place * asking.slots : place * asking.slots + len(looked_at)] = looked_at
                reasons |= beyond(asking.name, f"{number} {place}", asking.slots, len(found))
        for id_, one in zip(ids.tolist(), written, strict=True):
            one = old.get(id_, one)
            if isinstance(one, Instance) and id_ not in old:
                one = _reason(one, asking, known) or one
            if isinstance(one, str):
                reasons[id_] = one
                continue
            made.append(one)
            known.add(pooled(one))
            if id_ not in old:
                kept[id_] = one
        if kept:
            texts = {name: [getattr(one, name) for one in kept.values()] for name in columns}
            store.append(list(kept), pool=[asking.name] * len(kept), **texts)
        store.drop({id_: reason for id_, reason in reasons.items() if not store.has([id_])[0]})
    return made


def check_least(values: Mapping[str, float], least: int) -> None:
    """Raise ValueError, naming the option, for the first that is less than this, infinite, or no number."""
    for name, value in values.items():
        if not least <= value < math.inf:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def check_texts(name: str, texts: Sequence[str]) -> None:
    """Raise ValueError where a text that an option bans is empty or blanks alone: nearly every text holds it."""
    if any(not text.strip(" \t") for text in texts):
        raise ValueError(f"{name} must have no empty text, for nothing would be kept; got {list(texts)}")


def beyond(pool: str, completion: str, slots: int, count: int) -> dict[int, str]:
    """Reasons by id for what a completion holds beyond so many places: it is listed, and not looked at.

    Parameters
    ----------
    completion : which of the pool it is, for the ids.
    slots : that are looked at.
    count : instances in it.
    """
    ids = row_ids(f"{pool} beyond", completion, max(0, count - slots)).tolist()
    return dict.fromkeys(ids, f"beyond the first {slots} of its completion")


def asked_with(
    lm: LM | None,
    shown: Sequence[Part],
    seeds: Sequence[Part],
    written: Callable[[Sequence[Part]], str],
    *,
    tokens: int,
    longest: float = math.inf,
    cure: str = "show less",
) -> str:
    """A request that shows as much of what was drawn as fits, one at least; where none does, the shortest seed.

    Parameters
    ----------
    lm : that is asked; None for one of which nothing is known.
    shown : what was drawn.
    seeds : one or more.
    written : what is shown -> the request.
    tokens, longest, cure : see `autodidact.lm.fitting.fitting`.

    Raises
    ------
    NoRoom : not even the shortest seed leaves room.
    """
    try:
        return fitting(lm, shown, written, tokens=tokens, longest=longest)
    except NoRoom:
        shortest = min(seeds, key=lambda one: len(written([one])))
        return fitting(lm, [shortest], written, tokens=tokens, longest=longest, cure=cure)


def instances_in(store: Store) -> list[Instance]:
    """The columns "instruction", "input" and "output" of a store, row by row."""
    if not len(store):
        return []
    columns = [store.column(name) for name in ("instruction", "input", "output")]
    return [Instance(*texts) for texts in zip(*columns, strict=True)]


def pooled(one: Instance) -> str:
    """What of an instance is held against the pool: instruction and input."""
    return f"{one.instruction} {one.input}".strip()


def _reason(one: Instance, asking: Asking, known: Novelty) -> str:
    return asking.refused(one) or ("" if known.is_new(pooled(one)) else "too much like a known one")


def drawn_from(
    seeds: Sequence[Instance], made: Sequence[Instance], rng: np.random.Generator, *, shown: int, most_made: int
) -> list[Instance]:
    """So many instances in random order, at most some of them made by a model, the others seeds; fewer where there are
    not as many."""
    own = [made[k] for k in rng.permutation(len(made))[:most_made]]
    given = [seeds[k] for k in rng.permutation(len(seeds))[: shown - len(own)]]
    both = [*own, *given]
    return [both[k] for k in rng.permutation(len(both))]
