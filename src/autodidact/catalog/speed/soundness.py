"""The parts of the page of speed on what must not change: memory, weights after a kill, alarms, verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from autodidact.catalog.speed.figures import versions
from autodidact.catalog.tables import markdown_table


def memory(found: Mapping[str, Any]) -> str:
    """Memory over fifty epochs."""
    rows = [
        (
            f"{row['method']}, {row['encoder']}",
            *(f"{row[when] / 2**20:,.0f} MiB" for when in ("first", "settled", "last")),
            f"{100 * row['growth']:.1f} %",
            f"{100 * found['goal']:g} %",
        )
        for row in found["rows"]
    ]
    names = (
        *("training", "after the first epoch", f"after epoch {found['settled_epoch']}"),
        *(f"after epoch {found['epochs']}", "largest growth from then on", "goal"),
    )
    return (
        f"## Memory\n\nWhat a process holds over {found['epochs']} epochs of a training, with checkpoints, logs and "
        f"monitors ({versions(found)}).\n\n{markdown_table(names, rows)}"
    )


def resume(found: Mapping[str, Any]) -> str:
    """A training that is killed again and again."""
    same = "bit-identical to" if found["identical"] else "NOT those of"
    return (
        f"## Killed and resumed\n\nA training killed {found['kills']} times at random moments (kill -9) and resumed "
        f"each time: its weights are {same} those of the training never killed."
    )


def poison(found: Mapping[str, Any]) -> str:
    """The protocol `poison` on clean and on poisoned sets."""
    clean = found["clean"]
    alarms = ", ".join(
        f'{count} called "{verdict}" (of the {worst["sets"]} of the worst kind {worst["false alarms"]}, so at most '
        f"{100 * worst['at most, 95 %']:.0f} % of that kind, 95 %)"
        for verdict, count in clean["false alarms"].items()
        for worst in (clean["worst kind"][verdict],)
    )
    shown = max(rate for rate in {row["rate"] for row in found["poisoned"]} if rate <= 0.01)
    rows = [
        (
            row["kind"],
            f"{row['magnitude']:g}",
            f"{row['suspicious or poisoned']:.2f}",
            f"{row['poisoned']:.2f}",
            f"{row['recall']:.2f}",
            "" if row["precision"] is None else f"{row['precision']:.2f}",
        )
        for row in found["poisoned"]
        if row["rate"] == shown
    ]
    names = (
        "images",
        "magnitude",
        "suspicious or poisoned",
        "poisoned",
        "images named, of those poisoned",
        "of those named",
    )
    return (
        f"## Looking for planted patterns\n\nThe protocol `poison` on {clean['sets']} clean sets of images that its "
        f"thresholds were not set on: {alarms}. On sets with {100 * shown:g} % of CTRL's poison, the share of sets "
        f"that are found:\n\n{markdown_table(names, rows)}"
    )


def verdicts(found: Mapping[str, Any]) -> str:
    """First seeds of claims, run anew."""
    rows = [
        (
            f"`{row['claim']}`",
            *(f"{row[when]:.3g}" for when in ("was", "is", "spread")),
            f"{_moved(row):+.1f}",
            row["verdict was"],
            row["verdict"],
        )
        for row in found["rows"]
    ]
    changed = [row["claim"] for row in found["rows"] if row["verdict"] != row["verdict was"]]
    names = ("claim", "first seed, then", "now", "from seed to seed", "moved", "verdict then", "with the new seed")
    left = f" Not run anew: {', '.join(found['left'])}." if found.get("left") else ""
    far = ", ".join(f"{row['claim']} ({_moved(row):+.1f})" for row in found["rows"] if abs(_moved(row)) > 1)
    return (
        "## Verdicts since\n\nWhether what was made faster says what it said: the first seed of claims run anew, of "
        f"the arms that decide ({versions(found)}; {found['processor']}), and the verdict with it in the "
        f"place of the old one. Changed: {', '.join(changed) or 'none'}. Moved is how far the number went, in standard "
        "deviations from seed to seed, of which a training of another seed would be off by 1.4 in quadratic mean; by "
        f"more than one: {far or 'none'}.{left}\n\n"
        f"{markdown_table(names, rows)}"
    )


def _moved(row: Mapping[str, Any]) -> float:
    """Standard deviations from seed to seed between the number now and then."""
    off = row["is"] - row["was"]
    if not off:
        return 0.0
    return off / row["spread"] if row["spread"] else math.copysign(math.inf, off)
