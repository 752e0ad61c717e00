"""What a recipe wrote on the way: how many rows each stage kept and dropped, why, and some of them to read."""

from __future__ import annotations

from collections import Counter

from autodidact.data.store import Store
from autodidact.report.markup import fold, paragraph, section, table, text
from autodidact.report.run_folder import RunFolder

LEAD = "Read some rows of each kind: a model that learns from what it wrote learns its mistakes too."
SHOWN, LONGEST = 12, 400


def made(run: RunFolder) -> str:
    """The section of texts that the stages made; nothing where no stage made any."""
    return section("made", "What was made", *(_stage(run, line.name) for line in run.stages), lead=LEAD)


def _stage(run: RunFolder, name: str) -> str:
    folder = run.path / "stages" / name / "store"
    if not folder.is_dir():
        return ""
    store = Store(folder, name=name)
    texts = [column for column in store.columns if store.schema[column].kind == "text"]
    if not texts and not store.dropped:
        return ""
    kept, dropped = len(store), len(store.dropped)
    parts = [f"<h3>{text(name, 120)}</h3>", paragraph(f"{kept:,} rows were kept, {dropped:,} were dropped.")]
    if dropped:
        reasons = Counter(store.dropped.values()).most_common()
        told = [(text(reason, 200), f"{count:,}") for reason, count in reasons]
        parts.append(table(("why dropped", "rows"), told, label=f"Why rows of {name} were dropped", kind="plain"))
    if texts and kept:
        columns = [list(store.column(column)) for column in texts]
        # Evenly spread, so that the first round does not stand for all.
        places = sorted({round(k * (kept - 1) / max(1, SHOWN - 1)) for k in range(SHOWN)})
        rows = [tuple(text(column[k], LONGEST) for column in columns) for k in places]
        inside = table([text(column) for column in texts], rows, label=f"Rows of {name}", kind="plain")
        parts.append(fold(f"{len(places)} of them", inside))
    return "".join(parts)
