"""The parts of the page of speed on what is done with a model, and on starting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autodidact.catalog.speed.figures import heading, machine, ranging, versions
from autodidact.catalog.tables import markdown_table

EMBED_KEEPS = (
    "`embed` keeps what a batch frees for the next one, which the bare loop does not: where a batch is large that is "
    "worth more than reading and writing cost."
)


def embed(found: Mapping[str, Any]) -> str:
    """`embed`, against a bare loop."""
    rows = [
        (
            row["encoder"],
            f"{row['side']} px",
            f"{row['images']:,}",
            f"{row['batch']}",
            *(f"{took:.2f} s" for took in row["seconds"].values()),
            f"{row['ratio']:.2f}{ranging(row['ratios'], '.2f')}",
            f"{found['goal']:g}",
        )
        for row in found["rows"]
    ]
    names = ("encoder", "image", "images", "batch", *found["rows"][0]["seconds"], "times the bare loop", "goal")
    return (
        f"{heading(found, 'Embedding')}`embed` of packed images into a Parquet file, {machine(found)} "
        f"({versions(found)}), against a loop of the encoder alone over images in memory. "
        + ("" if found.get("device") else EMBED_KEEPS)
        + f"\n\n{markdown_table(names, rows)}"
    )


def generate(found: Mapping[str, Any]) -> str:
    """Batched generation, against a bare loop."""
    rows = [
        (
            f"{row['weights'] / 1e6:.1f} million",
            f"{row['prompts']}",
            f"{row['rows']}",
            f"{row['tokens']}",
            "drawn" if row["drawn"] else "greedy",
            *(f"{row['seconds'][name]:.2f} s" for name in ("autodidact", "bare loop")),
            f"{row['ratio']:.2f}{ranging(row['ratios'], '.2f')}",
            f"{row['processor_time']:.2f}",
            f"{found['goal']}",
        )
        for row in found["rows"]
    ]
    names = (
        *("weights", "prompts", "batch", "tokens written", "how", "autodidact", "bare loop", "times the bare loop"),
        *("of its processor time", "goal"),
    )
    same = min(row["same_texts"] for row in found["rows"] if not row["drawn"])
    return (
        f"## Generation\n\nBatches of prompts through a local language model, on a processor with {found['threads']} "
        f"thread(s) ({versions(found)}; {found['processor']}), against a bare loop of transformers' `generate` of the "
        "same batches. What is more than the bare loop is the log-probability of every token, and drawing each row "
        f"from numbers of its own. Greedy texts are the same in {100 * same:.0f} % of the prompts.\n\n"
        f"{markdown_table(names, rows)}"
    )


def neighbours(found: Mapping[str, Any]) -> str:
    """Nearest neighbours, against scikit-learn."""
    rows = [
        (name, f"{one['seconds']:.1f} s", f"{one['memory'] / 2**20:,.0f} MiB")
        for name, one in found["contestants"].items()
    ]
    operations = 2e-9 * found["bank"] * found["queries"] * found["width"]
    needed = operations * found["goal"] / found["contestants"]["scikit-learn"]["seconds"]
    return (
        f"{heading(found, 'Nearest neighbours')}The {found['neighbours']} nearest by cosine of {found['bank']:,} rows "
        f"of {found['width']} numbers, for {found['queries']:,} queries, {machine(found)} "
        f"({versions(found)}{'' if found.get('device') else '; ' + found['processor']}): {found['times_as_fast']:.1f} "
        f"times{ranging(found['ratios'], '.1f')} as fast as scikit-learn's brute force, with the goal at "
        f"{found['goal']:g}. The products of rows and queries are {operations:,.0f} GFLOP, so that the goal asks for "
        f"{needed:,.0f} GFLOP/s of them. Memory is what the search takes beside the rows.\n\n"
        f"{markdown_table(('', 'seconds' if found.get('device') else 'processor time', 'memory'), rows)}"
    )


def start(found: Mapping[str, Any]) -> str:
    """From a command to its answer."""
    what = {"demo": "`autodidact demo`, to the end of its first update"}
    rows = [
        (
            what.get(row["command"], f"`autodidact {row['command']}`"),
            f"{row['seconds']:.2f} s{ranging(row['all_seconds'], '.2f')}",
            f"{row['goal']:g} s",
            "yes" if row["imports_torch"] else "no",
        )
        for row in found["rows"]
    ]
    table = markdown_table(("command", "seconds", "goal", "imports torch"), rows)
    libraries = found["libraries"]
    return (
        f"## Start\n\nFrom a command to its answer, as a process of its own ({versions(found)}; {found['processor']})."
        f" To import {', '.join(libraries['names'])}, and nothing else, takes {libraries['seconds']:.2f} s.\n\n{table}"
    )
