"""What the networks are shown: views of a few samples beside the samples themselves."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from autodidact.data.schema import Schema
from autodidact.encoders.rows import Rows
from autodidact.report.looks import columns, looks, strips, thumbnail
from autodidact.report.markup import fold, paragraph, section, table, text
from autodidact.report.rehearsal import Rehearsed, Scene, scene

COUNT = 8
MOST_VIEWS = 6
SHOWN_COLUMNS = 40
LEAD = (
    "Made just now by the method's own views. Two views of one sample should still show you the same thing: if they do "
    "not, the augmentation is too strong; if they look the same, it is too weak."
)
PAINTED_LEAD = (
    "Made just now by the method's own views; what is painted is the model's. It should get the coarse shape right "
    "before the details."
)
TABLE_LEAD = (
    "Made just now by the method's own views, for eight rows. From the columns marked ● the model predicts what it "
    "would say about the numbered ones; a number is the set of targets that a column belongs to."
)


def scenes(found: Sequence[Rehearsed]) -> str:
    """The section of views, for each method of the run."""
    parts, lead = [], LEAD
    for of in found:
        shown = scene(of, COUNT)
        inside = _pictures(shown, of.source.schema)
        if inside and shown.pictures.keys() - shown.views.named.keys():
            lead = PAINTED_LEAD
        if not inside and isinstance(shown.views.named.get("rows"), Rows) and "context" in shown.views.named:
            inside, lead = _columns(shown, of), TABLE_LEAD
        if not inside:
            inside, lead = _listed(shown), ""
        parts.append((f"<h3>Stage {text(of.stage)}</h3>" if of.stage else "") + inside)
    return section("views", "What the model is shown", *parts, lead=lead)


def _pictures(shown: Scene, schema: Schema) -> str:
    views = dict(list(shown.pictures.items())[:MOST_VIEWS])
    if not views:
        return ""
    originals = looks(shown.batch, schema) if not shown.batch.streams else []
    rows = []
    for i in range(len(shown.names)):
        images = {_title(called): thumbnail(view[i]) for called, view in views.items() if i < len(view)}
        if originals and (pixels := originals[i].pixels) is not None:
            images = {"original": pixels, **images}
        rows.append(images)
    return strips(shown.names, rows)


def _title(called: str) -> str:
    return f"view {called}" if len(called) == 1 else called


def _columns(shown: Scene, of: Rehearsed) -> str:
    """Which columns of each row are context and which are targets; a column a line, so that names can be read."""
    context, targets = shown.views["context"], shown.views["targets"]
    named = columns(of.source.schema)
    if getattr(of.method, "released", False):
        named = ["[REG]", *named]
    rows = [
        (text(name, 40), *(_mark(number, context[i], targets[i]) for i in range(len(shown.names))))
        for number, name in enumerate(named)
    ]
    header = ("column", *(text(name, 10) for name in _short(shown.names)))

    def grid(part: Sequence[tuple[str, ...]]) -> str:
        return table(header, part, label="Columns that are context or target, by row of the data", kind="subsets")

    more = rows[SHOWN_COLUMNS:]
    return grid(rows[:SHOWN_COLUMNS]) + (fold(f"{len(more):,} more columns", grid(more)) if more else "")


def _short(names: Sequence[str]) -> list[str]:
    """Names without the folder or table that is common to all."""
    starts = {name[: max(name.rfind("/"), name.rfind(":")) + 1] for name in names}
    return [name.removeprefix(next(iter(starts))) if len(starts) == 1 else name for name in names]


def _mark(column: int, context: Tensor, targets: Tensor) -> str:
    if bool((context == column).any()):
        return '<span class="context" title="context">●</span>'
    sets = [str(k + 1) for k in range(len(targets)) if bool((targets[k] == column).any())]
    return f'<span class="target" title="target">{" ".join(sets)}</span>' if sets else ""


def _listed(shown: Scene) -> str:
    """Views that cannot be looked at, by name and size."""
    lines = "".join(f"<li><b>{text(name)}</b> {text(_size(view))}</li>" for name, view in shown.views.named.items())
    return paragraph("These views are not pictures; their sizes for eight samples:") + f"<ul>{lines}</ul>"


def _size(view: object) -> str:
    return " × ".join(str(side) for side in view.shape) if isinstance(view, Tensor) else type(view).__name__
