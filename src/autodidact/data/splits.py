"""Splits and label fractions: decided by a keyed hash of each sample, whatever the order and the company."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autodidact.data.ids import sample_id, scrambled
from autodidact.data.source import Positions, Source

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names that people give to folders and files of a split."""


def split(
    source: Source,
    shares: Mapping[str, float],
    seed: int = 0,
    *,
    by: str | None = None,
    group: str | NDArray[np.int64] | None = None,
) -> dict[str, Source]:
    """Cut a source into disjoint parts.

    A sample goes where its own hash u in [0, 1), keyed by `seed`, falls among the cumulated shares. Nothing else
    decides: when files are added or removed, no other sample moves. The price is that part sizes (and class counts) are
    those of a fair draw, off by about sqrt(n share (1 - share)).

    With `by`, parts hold exactly their share of every class, rounded: within a class samples are ordered by u and cut
    at the quotas. When a class grows from n to n + k samples, those near a cut may move to a neighbouring part, on
    average share-weighted at most k of them; the others stay. Choose this for small data that does not grow, and the
    plain rule for anything that will.

    Parameters
    ----------
    shares : part -> positive share; they are divided by their sum.
    seed : another seed gives another, independent split.
    by : field whose values keep their proportions, usually "label"; unknown labels (-1) count as a class of their own.
    group : field, or (n,) integers: samples with the same value (subject, recording) stay in one part, decided by the
        hash of the value.

    Returns
    -------
    dict
        Part -> source, in the order of `shares`; within a part samples keep their order.

    Raises
    ------
    ValueError
        Shares that are not positive, both `by` and `group`, or a part that would be empty.
    """
    if not shares or any(not share > 0 for share in shares.values()):
        raise ValueError(f"shares must be positive, got {dict(shares)}")
    if by is not None and group is not None:
        raise ValueError("'by' and 'group' exclude each other: a group kept together cannot keep exact class counts")
    edges = np.cumsum(list(shares.values())) / sum(shares.values())
    if group is not None:
        u = uniform(_integers(source, group), seed)
    else:
        u = uniform(source.ids, seed)
    part = np.searchsorted(edges[:-1], u, side="right") if by is None else _by_quota(u, _integers(source, by), edges)
    parts = {name: source.at(np.flatnonzero(part == k)) for k, name in enumerate(shares)}
    if empty := [name for name, some in parts.items() if len(some) == 0]:
        raise ValueError(
            f"part '{empty[0]}' of '{source.name}' would be empty: {len(source)} samples, shares {dict(shares)}"
        )
    return parts


def uniform(values: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each integer, decided by it and the seed alone; shape of `values`."""
    return scrambled(values, sample_id("split", str(seed))).astype(np.float64) / 2.0**63


def _by_quota(u: NDArray[np.float64], values: NDArray[np.int64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    part = np.empty(len(u), dtype=np.int64)
    for value in np.unique(values):
        members = np.flatnonzero(values == value)
        members = members[np.argsort(u[members], kind="stable")]
        cuts = np.rint(edges * len(members)).astype(int)
        part[members] = np.searchsorted(cuts[:-1], np.arange(len(members)), side="right")
    return part


def label_fraction(source: Source, amount: str | float, seed: int = 0, field: str = "label") -> Positions:
    """Positions of the few samples whose labels may be used, ascending.

    The same number (or the same share, at least one) of every class: its samples are ordered by a keyed hash and the
    first are taken, so a smaller amount is always part of a larger one, and samples added later take few of their
    places.

    Parameters
    ----------
    amount : ``"1%"``, ``"2-per-class"``, ``"100%"``, or a share in (0, 1]. Of a quantity (field "target") only shares.
    seed : another seed draws others.
    field : "label", or "target" for a quantity, whose samples are drawn without classes.

    Raises
    ------
    ValueError
        The source is not labelled, has one class only, a class has fewer samples than asked, or `amount` is not
        understood.
    """
    share, per_class = label_budget(amount)
    if field not in source.schema:
        raise ValueError(
            f"'{source.name}' has no field '{field}': give labels, for example by class folders or --labels"
        )
    values = np.asarray(source.column(field))
    u = uniform(source.ids, seed)
    if source.schema[field].kind == "target":
        known = np.flatnonzero(np.isfinite(values))
        if per_class is not None:
            raise ValueError(f"'{amount}' needs classes; '{field}' of '{source.name}' is a number: give a percentage")
        if len(known) == 0:
            raise ValueError(f"no sample of '{source.name}' has a known '{field}'")
        return np.sort(known[np.argsort(u[known], kind="stable")[: max(1, round(share * len(known)))]])
    classes, counts = np.unique(values[values >= 0], return_counts=True)
    if len(classes) == 0:
        raise ValueError(f"no sample of '{source.name}' has a known '{field}'")
    if len(classes) == 1:
        raise ValueError(
            f"all labels of '{source.name}' are {_name(source, field, classes[0])}: one class cannot be learned"
        )
    taken = []
    for value, count in zip(classes, counts, strict=True):
        wanted = max(1, round(share * count)) if per_class is None else per_class
        if wanted > count:
            raise ValueError(
                f"'{amount}' asks for {wanted} samples of each class, {_name(source, field, value)} of '{source.name}' "
                f"has {count}"
            )
        members = np.flatnonzero(values == value)
        taken.append(members[np.argsort(u[members], kind="stable")[:wanted]])
    return np.sort(np.concatenate(taken))


def label_budget(amount: str | float) -> tuple[float, int | None]:
    """The share of the labels, or the number of each class, that a budget names; ValueError for what is no budget."""
    text = str(amount).strip()
    if match := re.fullmatch(r"(\d+)-per-class", text):
        if int(match[1]) >= 1:
            return 0.0, int(match[1])
    elif match := re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(?:e(-?\d+))?(%?)", text):
        share = float(text.removesuffix("%")) / (100 if match[3] else 1)
        if 0 < share <= 1:
            return share, None
    raise ValueError(f"labels '{amount}' are not understood; accepted are 1%, 100%, 2-per-class, or a share like 0.01")


def _name(source: Source, field: str, value: Any) -> str:
    names = source.schema[field].classes
    return f"'{names[int(value)]}'" if int(value) < len(names) else str(int(value))


def _integers(source: Source, field: str | NDArray[np.int64]) -> NDArray[np.int64]:
    values = np.asarray(source.column(field) if isinstance(field, str) else field)
    if values.shape != (len(source),) or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"one whole number per sample is needed to keep {field if isinstance(field, str) else 'groups'} together, "
            f"got {values.dtype} of shape {values.shape}"
        )
    return values.astype(np.int64)
