"""The part of the page of speed on folders of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autodidact.catalog.speed.figures import between
from autodidact.catalog.tables import markdown_table


def data(found: Mapping[str, Any]) -> str:
    """Folders of images, against datasets."""

    def ranging(folder: str, step: str) -> Mapping[str, Sequence[float]]:
        return found.get("spread", {}).get(folder, {}).get(step, {})

    rows = [
        (folder, step, *(f"{took:.2f}{between(ranging(folder, step).get(name), '.2f')}" for name, took in by.items()))
        for folder, steps in found["seconds"].items()
        for step, by in steps.items()
    ]
    names = next(iter(next(iter(found["seconds"].values())).values()))
    many = found.get("many")
    return (
        f"## Folders of images\n\n{found['fashion images']:,} small PNGs (fashion) and {found['photographs']:,} JPEGs "
        f"of 1,000 x 1,000 pixels (photographs, reduced to 192), passed over in random batches of {found['batch']}; "
        f"seconds.\n\n{markdown_table(('folder', 'step', *names), rows)}{_bare(found)}{_many(many) if many else ''}"
    )


def _bare(found: Mapping[str, Any]) -> str:
    """The floors of a first opening and of a pass, where they were measured."""
    floors = found.get("floors")
    if not floors:
        return ""
    rows = []
    for folder, floor in floors.items():
        took = {step: found["seconds"][folder][step]["autodidact"] for step in ("first opening", "pass")}
        rate = [f"{floor['bytes'] / seconds / 1e9:.1f} GB/s" for seconds in (took["pass"], floor["copy"])]
        rows.append((folder, f"{took['first opening']:.2f} s", f"{floor['decode']:.2f} s", *rate))
    names = ("folder", "first opening", "its files decoded by Pillow alone, on all cores", "pass", "copy of as much")
    return f"\n\nBeside them their floors.\n\n{markdown_table(names, rows)}"


def _many(found: Mapping[str, Any]) -> str:
    growth = 100 * (found["held"] / found["settled"] - 1)
    return (
        f"\n\n{found['count']:,} very small images open in {found['seconds']:.1f} s once they are packed (the goal is "
        f"{found['goal']:g} s; {found['processor_seconds']:.1f} s of processor time), and are passed over in "
        f"{found['pass']:.1f} s; meanwhile what the process holds grows by {growth:.1f} % (at most "
        f"{100 * found['memory_goal']:g} %). Asking the system for the name, the size and the time of every file, "
        f"without which one that was written anew goes unnoticed, takes a single process {found['bare']:.1f} s of that."
    )
