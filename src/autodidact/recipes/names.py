"""From names and options to methods, recipes and encoders."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from autodidact.catalog import Card, target, trained, unknown
from autodidact.catalog.from_file import from_file
from autodidact.data import channel_statistics, table_statistics
from autodidact.data.schema import Kind
from autodidact.data.source import Source
from autodidact.encoders import build
from autodidact.methods.method import Method
from autodidact.methods.predicting import answer_field
from autodidact.model import Encoder
from autodidact.recipes.stages import Recipe
from autodidact.training.feed import seeded

RESERVED = ("schema", "samples")
METHOD_TYPES = (Method, "Method", Method | str, "Method | str")
"""Annotations of an option that is another method; the last ones have a name for default."""
STATISTICS_ROWS = 2048
"""Samples of a stream that stand for all of it in its statistics."""
MethodSpec = str | Mapping[str, Any]
"""A method as an option of a recipe: its name, or ``{"name": ..., further options}``. The recipe makes it anew for each
of its trainings, with `method_of`."""


def find(name: str) -> tuple[type[Method] | type[Recipe], Card | None]:
    """The class and card of a method or recipe.

    Parameters
    ----------
    name : a name of the catalogue, or ``path/to/file.py:ClassName`` for one's own.
    """
    if ".py:" in name:
        return _own(name), None
    known = trained(name)
    return target(known), known


def _own(name: str) -> type[Method] | type[Recipe]:
    found: type[Method] | type[Recipe] = from_file(
        name, "method", lambda value: isinstance(value, type) and issubclass(value, Method | Recipe)
    )
    return found


def options(cls: type[Method] | type[Recipe]) -> dict[str, inspect.Parameter]:
    """The constructor's keyword arguments that a user may set."""
    parameters = inspect.signature(cls).parameters
    return {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in RESERVED
    }


def check_options(cls: type[Method] | type[Recipe], given: Mapping[str, Any]) -> None:
    """Raise ValueError naming the nearest option where one is unknown."""
    valid = options(cls)
    for name in given:
        if name not in valid:
            raise unknown(f"option of {cls.__name__}", name, valid)


@dataclass(frozen=True)
class Demands:
    """What a method or recipe asks of data and networks.

    Attributes
    ----------
    needs, one_need_suffices, learns_answers, slots : as on the class.
    encoder : name of the encoder where none is asked for; empty for none.
    """

    needs: Mapping[str, Kind]
    one_need_suffices: bool
    learns_answers: bool
    slots: tuple[str, ...]
    encoder: str

    def check(self, source: Source, name: str) -> None:
        """Raise ValueError naming what the source lacks: fields, or labels of two classes where labels are needed."""
        source.schema.require(self.needs, f"method '{name}'", one_suffices=self.one_need_suffices)
        if source.streaming:
            return
        fields = [] if self.one_need_suffices else [field for field, kind in self.needs.items() if kind == "label"]
        if self.learns_answers:
            field, classes = answer_field(source.schema)
            fields += [field] if classes else []
        for field in fields:
            _check_labels(np.asarray(source.column(field)), f"method '{name}'", source.name)


def _check_labels(labels: np.ndarray, who: str, source: str) -> None:
    known = labels[labels >= 0]
    if not len(known):
        raise ValueError(f"{who} needs labels; none of the {len(labels):,} samples of '{source}' has one")
    if (known == known[0]).all():
        raise ValueError(
            f"{who} needs labels of two classes; the {len(known):,} labelled samples of '{source}' are of one"
        )


def demands(cls: type[Method] | type[Recipe], card: Card | None, given: Mapping[str, Any]) -> Demands:
    """What a class asks for under these options: a recipe that trains a method of choice asks for what that one does.

    Raises
    ------
    ValueError : the method of choice, or one of its options, does not exist.
    """
    for name, parameter in options(cls).items() if issubclass(cls, Recipe) else ():
        if parameter.annotation in (MethodSpec, "MethodSpec"):
            chosen, own, _ = named_method(given.get(name, parameter.default))
            inner = demands(chosen, own or card, {})
            return replace(inner, needs={**inner.needs, **vars(cls).get("needs", {})})
    answers = issubclass(cls, Method) and cls.learns_answers
    return Demands(cls.needs, cls.one_need_suffices, answers, cls.slots, card.encoder if card else "")


def encoder_names(asked: str | Mapping[str, str] | None, slots: tuple[str, ...], default: str) -> dict[str, str]:
    """Slot -> encoder name.

    Parameters
    ----------
    asked : one name for all slots, or slot -> name; None for the default.
    slots : the method's slots.
    default : the card's encoder.
    """
    if asked is None or asked == {}:
        if not default:
            raise ValueError("no encoder was named and this method has no default; use --encoder NAME")
        asked = default
    if isinstance(asked, str):
        return dict.fromkeys(slots, asked)
    for slot in asked:
        if slot not in slots:
            raise unknown("encoder slot", slot, slots)
    if missing := [slot for slot in slots if slot not in asked and not default]:
        raise ValueError(f"no encoder for slot {', '.join(missing)}; use --encoder {missing[0]}=NAME")
    return {slot: asked.get(slot, default) for slot in slots}


def encoder_maker(
    names: Mapping[str, str], source: Source, seed: int, arguments: Mapping[str, Any]
) -> Callable[..., Encoder]:
    """A function from a slot to a fresh encoder whose random weights follow from the seed, the slot, and the number of
    the draw where there are several."""

    def make(slot: str, draw: int = 0) -> Encoder:
        state = torch.random.get_rng_state()
        torch.manual_seed(seeded(seed, "encoder", slot, *([draw] if draw else [])))
        try:
            return build(names[slot], schema=source.schema, **arguments)
        finally:
            torch.random.set_rng_state(state)

    return make


def statistics_of(source: Source) -> dict[str, list[float]] | None:
    """Channel or column statistics of a source, which encoders normalise by; None where neither makes sense."""
    if source.streaming:
        source = source.take(STATISTICS_ROWS)  # type: ignore[attr-defined]
    if source.schema.first("image"):
        return channel_statistics(source)
    if source.schema.first("numeric") or source.schema.first("categorical"):
        return table_statistics(source)
    return None


def make_method(
    cls: type[Method],
    encoder: Callable[[str], Encoder],
    given: Mapping[str, Any],
    source: Source,
    seed: int,
) -> Method:
    """A method with fresh networks.

    An option whose type is `Method` is given as a name, or as ``{"name": ..., further options}``, or is the name that
    is its default, and is built on the same networks.
    """
    check_options(cls, given)
    parameters = inspect.signature(cls).parameters
    arguments: dict[str, Any] = dict(given)
    networks = [encoder(slot) for slot in cls.slots]
    made = dict(zip(cls.slots, networks, strict=True))
    for name, parameter in parameters.items():
        value = given.get(name, parameter.default)
        if parameter.annotation in METHOD_TYPES and isinstance(value, str | Mapping):
            arguments[name] = method_of(value, made.__getitem__, source, seed)
    if "schema" in parameters:
        arguments["schema"] = source.schema
    if "samples" in parameters:
        arguments["samples"] = len(source)
    with seeded_weights(seed):
        return cls(*networks, **arguments)


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Within it the random weights of a method's own follow from the run's seed."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seeded(seed, "method"))
    try:
        yield
    finally:
        torch.random.set_rng_state(state)


def named_method(spec: MethodSpec) -> tuple[type[Method], Card | None, dict[str, Any]]:
    """The class and card of a method that is given as an option, and its own options, checked."""
    given = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = str(given.pop("name", ""))
    found, known = find(name)
    if not issubclass(found, Method):
        raise ValueError(f"'{name}' is a recipe; what is trained inside another must be a method")
    check_options(found, given)
    return found, known, given


def method_of(spec: MethodSpec, encoder: Callable[[str], Encoder], source: Source, seed: int) -> Method:
    """The method that an option names, with fresh networks."""
    found, _, given = named_method(spec)
    return make_method(found, encoder, given, source, seed)
