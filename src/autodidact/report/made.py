"""What a run wrote on the way: how many rows and drawn answers it kept and dropped, why, and some rows to read."""

from __future__ import annotations

from collections import Counter

from autodidact.data.store import Store
from autodidact.report.markup import fold, paragraph, section, table, text
from autodidact.report.run_folder import RunFolder, Training

LEAD = "Read some rows of each kind: a model that learns from what it wrote learns its mistakes too."
SHOWN, LONGEST = 12, 400


def made(run: RunFolder) -> str:
    """The section of texts that the stages made, and of drawn answers that were left out; nothing where neither is."""
    stages = [_stage(run, line.name) for line in run.stages]
    drawn = [_drawn(training) for training in run.trainings]
    return section("made", "What was made", *stages, *drawn, lead=LEAD if any(stages) else "")


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
        parts.append(_reasons("rows", name, Counter(store.dropped.values())))
    if texts and kept:
        columns = [list(store.column(column)) for column in texts]
        # Evenly spread, so that the first round does not stand for all.
        places = sorted({round(k * (kept - 1) / max(1, SHOWN - 1)) for k in range(SHOWN)})
        rows = [tuple(text(column[k], LONGEST) for column in columns) for k in places]
        inside = table([text(column) for column in texts], rows, label=f"Rows of {name}", kind="plain")
        parts.append(fold(f"{len(places)} of them", inside))
    return "".join(parts)


def _drawn(training: Training) -> str:
    """Answers that were drawn in a training, and that nothing was learned from."""
    if not training.left_out:
        return ""
    name = training.name or "training"
    said = (
        f"{training.left_out.total():,} drawn answers were dropped, since their reward is not known, or that of all "
        "they would be compared with."
    )
    return f"<h3>{text(name, 120)}</h3>{paragraph(said)}{_reasons('answers', name, training.left_out)}"


def _reasons(what: str, name: str, counts: Counter[str]) -> str:
    """How many of something were dropped, by reason."""
    told = [(text(reason, 200), f"{count:,}") for reason, count in counts.most_common()]
    return table(("why dropped", what), told, label=f"Why {what} of {name} were dropped", kind="plain")
