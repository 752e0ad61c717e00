"""From the text of an annotation to what a command line parses, shows and says about it."""

from __future__ import annotations

import ast
import re
from functools import cache, reduce
from operator import or_
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from autodidact.catalog.nearest import nearest

TRUTHS = ("true", "yes", "on", "1", "false", "no", "off", "0")
BARE, EITHER = " ", "[no-]"
"""Metavars of options that need no value: typed as ``--NAME``, and also as ``--no-NAME`` where the default is true."""
_NAMES: dict[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "Path": str,
    "Any": Any,
    "dict": dict[str, Any],
    "Mapping": dict[str, Any],
    "list": list[str],
    "tuple": list[str],
    "Sequence": list[str],
    "Method": str | dict[str, Any],
}
_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list[str]: "names with commas between",
    list[int]: "whole numbers with commas between",
    list[float]: "numbers with commas between",
}
_METAVARS = {
    int: "N",
    float: "X",
    str: "TEXT",
    list[str]: "A,B,...",
    list[int]: "N,M,...",
    list[float]: "X,Y,...",
    dict[str, Any]: "{NAME: VALUE}",
}


@cache
def typed(annotation: str) -> Any:
    """The type to parse; what no command line can give (`Source`, say) drops out of unions.

    Raises
    ------
    TypeError : nothing of the annotation can be given on a command line.
    """
    known = _typed(ast.parse(annotation, mode="eval").body)
    if known is None:
        raise TypeError(f"no command line can give a value of type {annotation}")
    return known


def _typed(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return NoneType if node.value is None else _typed(ast.parse(str(node.value), mode="eval").body)
    if isinstance(node, ast.BinOp):
        sides = [side for side in (_typed(node.left), _typed(node.right)) if side is not None]
        return reduce(or_, sides) if sides else None
    if isinstance(node, ast.Subscript):
        outer = ast.unparse(node.value)
        if outer == "Literal":
            return Literal[ast.literal_eval(node.slice)]
        if outer in ("dict", "Mapping") and isinstance(node.slice, ast.Tuple):
            return dict[str, _typed(node.slice.elts[1]) or Any]  # type: ignore[misc]
        if outer in ("list", "tuple", "Sequence"):
            first = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
            return list[_typed(first) or Any]  # type: ignore[misc]
        return _NAMES.get(outer)
    return _NAMES.get(ast.unparse(node))


def alternatives(annotation: str) -> list[Any]:
    """The types that a value may have, None aside."""
    kind = typed(annotation)
    return [
        part for part in (get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)) if part is not NoneType
    ]


def choices(annotation: str) -> list[str]:
    """The values that are allowed, where they are a fixed few."""
    return [str(value) for part in alternatives(annotation) if get_origin(part) is Literal for value in get_args(part)]


def metavar(annotation: str, default: Any) -> str:
    """What the help shows for a value."""
    first = alternatives(annotation)[0]
    if alternatives(annotation) == [bool]:
        return EITHER if default is True else BARE
    if few := choices(annotation):
        return f"{{{','.join(few)}}}"
    return _METAVARS.get(first, "VALUE")


def takes(annotation: str, given: str | None) -> str:
    """What an option takes, in words, and what it got instead (None for nothing at all)."""
    few = choices(annotation)
    words = [*few, *(_WORDS[part] for part in alternatives(annotation) if part in _WORDS)]
    *most, last = words or ["entries such as {name: value}"]
    listed = f"{', '.join(most)} or {last}" if most else last
    close = nearest(given or "", few)
    hint = f"; did you mean '{close}'?" if close else ""
    return f"takes {listed}, got {'nothing' if given is None else repr(given)}{hint}"


def items(text: Any, of: Any) -> list[Any]:
    """Values with commas between, each of type `of`; a list from a configuration file is as good.

    Raises
    ------
    ValueError : one of them is of another type.
    """
    parts = [part for part in re.split(r"[,\s]+", text.strip("[]()")) if part] if isinstance(text, str) else list(text)
    return [of(part) for part in parts]


def value(text: str, annotation: str) -> Any:
    """One value from its text.

    Raises
    ------
    ValueError : it is none of the types of the annotation; the message begins with "takes".
    """
    for kind in alternatives(annotation):
        if get_origin(kind) is Literal and text in choices(annotation):
            return next(choice for choice in get_args(kind) if str(choice) == text)
        if kind is bool and text.lower() in TRUTHS:
            return text.lower() in TRUTHS[: len(TRUTHS) // 2]
        if kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
        if kind in (str, Any):
            return text
    raise ValueError(takes(annotation, text))
