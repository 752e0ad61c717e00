"""Nearest neighbours: what the model finds alike, for a few samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from autodidact.data.schema import Schema
from autodidact.measures import nearest
from autodidact.report.looks import columns, picture
from autodidact.report.markup import number, paragraph, section, table, text
from autodidact.report.samples import Samples

QUERIES, QUERIES_OF_TABLES, NEAR, CELLS = 8, 4, 6, 12
LEAD = (
    "A sample first, then the six that the model puts nearest to it, by the cosine of their embeddings. Neighbours "
    "should be alike in what matters to you, not in background, brightness or position."
)


def neighbours(samples: Samples, schema: Schema) -> str:
    """The section of neighbours; nothing where there are too few samples."""
    count = min(NEAR, len(samples) - 1)
    if count < 1:
        return ""
    cosines, indices = without_self(samples, count)
    tabular = samples.looks[0].cells is not None
    chosen = queries(samples, QUERIES_OF_TABLES if tabular else QUERIES)
    rows = (_rows if tabular else _lines)(samples, schema, chosen, indices, cosines)
    return section("neighbours", "What the model finds alike", _agreement(samples, indices), rows, lead=LEAD)


def without_self(samples: Samples, count: int) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
    """Cosines and indices of the `count` other samples nearest to each, nearest first."""
    rows = samples.embeddings
    cosines, indices = nearest(rows, rows, count + 1)
    itself = indices == torch.arange(len(rows))[:, None]
    # Among duplicates a sample may not be its own nearest, or not be listed at all.
    itself[~itself.any(1), -1] = True
    return cosines[~itself].view(-1, count).numpy(), indices[~itself].view(-1, count).numpy()


def queries(samples: Samples, count: int) -> list[int]:
    """A few samples, of as many different classes as there are."""
    if samples.labels is None:
        return list(range(min(count, len(samples))))
    first = [int(np.flatnonzero(samples.labels == c)[0]) for c in np.unique(samples.labels[samples.labels >= 0])]
    chosen = [first[i] for i in np.unique(np.linspace(0, len(first) - 1, min(count, len(first))).astype(int))]
    return chosen + [i for i in range(len(samples)) if i not in chosen][: min(count, len(samples)) - len(chosen)]


def _agreement(samples: Samples, indices: Int[np.ndarray, "n k"]) -> str:
    if samples.labels is None:
        return ""
    of, near = samples.labels[:, None], samples.labels[indices]
    both = (of >= 0) & (near >= 0)
    if not both.any():
        return ""
    same = float((of == near)[both].mean())
    _, counts = np.unique(samples.labels[samples.labels >= 0], return_counts=True)
    chance = float(((counts / counts.sum()) ** 2).sum())
    return paragraph(
        f"Over {len(samples):,} samples, {same:.0%} of the {indices.shape[1]} nearest neighbours carry the sample's "
        f"own label; by chance it would be {chance:.0%}."
    )


def _label(samples: Samples, index: int) -> str:
    if samples.labels is not None:
        label = int(samples.labels[index])
        return samples.classes[label] if 0 <= label < len(samples.classes) else "unlabelled"
    if samples.targets is not None:
        return number(float(samples.targets[index])) if np.isfinite(samples.targets[index]) else "unknown"
    return ""


def _agrees(samples: Samples, query: int, other: int) -> str:
    """CSS class of a neighbour: "same", "other", or nothing where a label is unknown."""
    if samples.labels is None or samples.labels[query] < 0 or samples.labels[other] < 0:
        return ""
    return "same" if samples.labels[query] == samples.labels[other] else "other"


def _lines(
    samples: Samples,
    schema: Schema,
    chosen: Sequence[int],
    indices: Int[np.ndarray, "n k"],
    cosines: Float[np.ndarray, "n k"],
) -> str:
    """Pictures or texts: a query, then its neighbours."""
    kind = "pictures" if samples.looks[0].pixels is not None else "texts"
    lines = []
    for query in chosen:
        items = [_item(samples, query, "query", "query")]
        for other, cosine in zip(indices[query].tolist(), cosines[query].tolist(), strict=True):
            items.append(_item(samples, other, _agrees(samples, query, other), f"{cosine:.2f}"))
        lines.append(f'<div class="neighbours {kind}">{"".join(items)}</div>')
    return f'<div class="queries {kind}">{"".join(lines)}</div>'


_SIGNS = {"same": "✓ ", "other": "✗ "}


def _item(samples: Samples, index: int, kind: str, said: str) -> str:
    look, name, label = samples.looks[index], samples.names[index], _label(samples, index)
    if look.pixels is not None:
        shown = picture(look.pixels, f"{name}{f', {label}' if label else ''}")
    else:
        shown = f"<blockquote>{text(look.words or name, 160)}</blockquote>"
    called = f"<b>{_SIGNS.get(kind, '')}{text(label, 16)}</b> " if label else ""
    return f'<figure class="{kind}" title="{text(name)}">{shown}<figcaption>{called}{text(said)}</figcaption></figure>'


def _rows(
    samples: Samples,
    schema: Schema,
    chosen: Sequence[int],
    indices: Int[np.ndarray, "n k"],
    cosines: Float[np.ndarray, "n k"],
) -> str:
    """Rows of a table: for each query a table of it and its neighbours."""
    named = columns(schema)
    shown = named[:CELLS]
    labelled = ["label"] if samples.labels is not None or samples.targets is not None else []
    header = ["row", "cosine", *labelled, *(text(name, 24) for name in shown)]
    tables = []
    for query in chosen:
        listed = [(query, "", "query")] + [
            (other, _agrees(samples, query, other), f"{cosine:.3f}")
            for other, cosine in zip(indices[query].tolist(), cosines[query].tolist(), strict=True)
        ]
        rows = []
        for other, kind, cosine in listed:
            label = [f"{_SIGNS.get(kind, '')}{text(_label(samples, other), 24)}"] if labelled else []
            cells = [text(cell, 24) for cell in (samples.looks[other].cells or ())[:CELLS]]
            rows.append((text(samples.names[other], 24), cosine, *label, *cells))
        tables.append(table(header, rows, label=f"Row {samples.names[query]} and its neighbours", kind="rows"))
    more = len(named) - len(shown)
    return "".join(tables) + (paragraph(f"{more:,} more columns are not shown.", "small") if more > 0 else "")
