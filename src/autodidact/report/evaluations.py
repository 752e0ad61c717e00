"""Tables that evaluations of the run have left in its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autodidact.evaluation.table import Table
from autodidact.report.figures import Chart, Line, chart
from autodidact.report.markup import fold, number, paragraph, section, table, text
from autodidact.report.run_folder import RunFolder

NAMES = {
    "raw": "raw input",
    "random": "random encoder",
    "pretrained": "pretrained encoder",
    "scratch": "trained from scratch",
    "knn": "kNN",
    "linear": "linear probe",
    "propagate": "label propagation",
    "regress": "ridge regression",
    "finetune": "fine-tuning",
    "finetune+distill": "fine-tuning, then distillation",
    "groups": "linear probe by group,",
    "retrieval": "neighbours,",
    "corruption": "corrupted images,",
    "copies": "copies found,",
    "fewshot": "linear probe,",
}
"""What a person reads for the names of arms and protocols."""
RISKS = "risk against coverage"
"""What a table calls such curves: by arm, pairs of the share that is answered and what of it is wrong."""
MANY = 8
"""Metrics that stand side by side; more stand below each other."""
OF_LANGUAGE = (
    "The same inputs before and after. A gain counts where answers are not empty, not copies of the input, and not one "
    "and the same for everything."
)
LEAD = "What the model is worth once a few labels are given: means over seeds, ± half of their 95 % intervals."


def evaluations(run: RunFolder) -> str:
    """The section of tables; nothing where the run has none."""
    lead = OF_LANGUAGE if run.of_language else LEAD
    return section("evaluations", "How useful it is", *(_file(path) for path in run.evaluations), lead=lead)


def _file(path: Path) -> str:
    try:
        found = Table.load(path)
    except ValueError as broken:
        return paragraph(str(broken), "notice warning")
    about = found.about
    title = f"<h3>{text(about.get('title', path.stem), 120)}</h3>"
    said = paragraph(str(about["sentence"]), "finding") if "sentence" in about else ""
    return title + said + grid(found) + _risks(about, path.stem) + _facts(about) + _protocols(about)


def _risks(about: Mapping[str, Any], key: str) -> str:
    """The curves of risk against coverage, where the table has them."""
    told = about.get(RISKS)
    if not isinstance(told, Mapping) or not told:
        return ""
    lines = [Line([100 * x for x, _ in at], [100 * y for _, y in at], str(name)) for name, at in told.items()]
    ends = " ".join(f"{line.name}: {number(line.y[0])} % at first, {number(line.y[-1])} % of all." for line in lines)
    drawn = chart(Chart(lines, "answers given, %", "of these wrong, %"), f"risk-{key}", f"Risk and coverage. {ends}")
    said = paragraph("Answers with the highest scores are given first; the lower the line, the better they are told.")
    return f"<figure><figcaption><h4>Risk against coverage</h4>{said}</figcaption>{drawn}</figure>"


def grid(found: Table) -> str:
    """Arms by metrics; the best of each metric is marked where larger is better, as for all shares between 0 and 1
    but gaps."""
    shares = {
        metric: not metric.endswith(("rmse", " gap"))
        and all(0 <= v <= 1 for arm in found.arms for v in found.values(arm, metric))
        for metric in found.metrics
    }
    best = {
        metric: max((found.mean_interval(a, metric).mean for a in found.arms if found.values(a, metric)), default=0.0)
        for metric in found.metrics
    }
    rows = [
        ("", *(text(_said(metric), 60) for metric in found.metrics)),
        *(
            (text(_said(a), 60), *(_cell(found, a, metric, best[metric], shares[metric]) for metric in found.metrics))
            for a in found.arms
        ),
    ]
    if len(found.metrics) > max(MANY, len(found.arms)):
        rows = list(zip(*rows, strict=True))
    return table(rows[0], rows[1:], label="Results", kind="results")


def _said(name: str) -> str:
    """A name for the reader; of a number's protocols ("regress r2") the measure is kept behind."""
    first, _, measure = name.partition(" ")
    return f"{NAMES[first]} {measure}".rstrip() if first in NAMES else name


def _cell(found: Table, arm: str, metric: str, best: float, share: bool) -> str:
    values = found.values(arm, metric)
    if not values:
        return '<span class="none" title="makes no sense, or was not asked for">—</span>'
    mean, _, high = found.mean_interval(arm, metric)
    half = f" <small>± {high - mean:.3f}</small>" if math.isfinite(high) else ""
    figure = f"{mean:.3f}" if share else number(mean)
    shown = f"<b>{figure}</b>" if share and mean == best and len(found.arms) > 1 else figure
    bar = f' style="--share:{100 * mean:.1f}%"' if share else ""
    return f'<span class="figure"{bar}>{shown}{half}</span>'


def _protocols(about: Mapping[str, Any]) -> str:
    """What each protocol does, folded, where the table says it."""
    told = about.get("protocols")
    if not isinstance(told, Mapping):
        return ""
    lines = "".join(f"<li><b>{text(name)}</b> {text(said, 400)}</li>" for name, said in told.items())
    return fold("How each figure was measured", f"<ul>{lines}</ul>")


def _facts(about: Mapping[str, Any]) -> str:
    plain = [
        f"{text(name)} {text(value, 60)}"
        for name, value in about.items()
        if name not in ("title", "sentence") and isinstance(value, str | int | float) and not isinstance(value, bool)
    ]
    return f'<p class="small">{" · ".join(plain)}</p>' if plain else ""
