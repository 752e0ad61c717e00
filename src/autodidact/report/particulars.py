"""The end of the page: what to do next, the settings, the versions."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from autodidact.model import Model
from autodidact.report.markup import fold, paragraph, section, table, text
from autodidact.report.run_folder import RunFolder


def next_steps(run: RunFolder, model: Model | None) -> str:
    """Commands that make sense with this run now."""
    if not run.finished or model is None:
        return ""
    folder, data = shlex.quote(str(run.path)), shlex.quote(str(run.config.get("data", "DATA")))
    steps = []
    if "embed" in model.abilities:
        steps = [
            ("Measure what it is worth with few labels", f"autodidact evaluate {folder} --data {data} --labels 1%"),
            (
                "Embed data, for search, clustering or a classifier",
                f"autodidact embed {folder} --data {data} --out out.parquet",
            ),
            ("Take the weights to another program", f"autodidact export {folder} --format torch --out exported"),
        ]
    if "generate" in model.abilities:
        steps = [
            (
                "Answer inputs, one a line",
                f"autodidact apply {folder} --ability generate --data in.txt --out out.jsonl",
            ),
        ]
    if model.kind == "language_model":
        onward = f"autodidact improve {run.method} --model {folder} --task TASK --out runs/next"
        steps.append(("Go on from here", onward))
    if model.kind == "judge":
        steps.append(
            (
                "Rate answers, one a line with its input",
                f"autodidact apply {folder} --ability score --data answers.jsonl --out rated.jsonl",
            )
        )
    lines = "".join(
        f"<li>{text(said)}<pre tabindex=0><code>{text(command, 400)}</code></pre></li>" for said, command in steps
    )
    return section("next", "What to do next", f'<ul class="next">{lines}</ul>' if lines else "")


def settings(run: RunFolder, notes: Sequence[str]) -> str:
    """How the data was taken, all settings and versions, folded."""
    taken = "".join(f"<li>{text(note, 400)}</li>" for note in notes)
    asked = table((), _flat(run.config), label="Settings", kind="plain")
    found = {
        "started": run.record.get("started"),
        "python": run.record.get("python"),
        "machine": run.record.get("machine"),
        **(run.record.get("versions") or {}),
    }
    about = table((), _flat({name: value for name, value in found.items() if value}), label="Versions", kind="plain")
    return section(
        "settings",
        "How it was done",
        paragraph(f"The run folder is {run.path}.", "small"),
        fold("How the data was taken", f"<ul>{taken}</ul>") if taken else "",
        fold("All settings", asked),
        fold("Versions and machine", about),
    )


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{name}.")
        elif value not in (None, {}, []):
            yield text(f"{above}{name}"), text(value, 200)
