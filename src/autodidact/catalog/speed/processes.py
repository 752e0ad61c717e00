"""The parts of the page of speed on several processes, and on plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autodidact.catalog.speed.figures import between, ranging, versions
from autodidact.catalog.tables import markdown_table

TWO_PROCESSES = 1.7
"""The goal of the throughput of two processes, for figures that do not tell it."""


def scaling(found: Mapping[str, Any]) -> str:
    """Processes that share a batch."""
    goal = found.get("goal", TWO_PROCESSES)
    rows = [
        (
            f"{row['method']}, {row['encoder']}" + ("" if row["sharding"] == "none" else ", `--sharding full`"),
            f"{one['processes']}" if one["apart"] == 1 else f"{one['apart']}, each alone",
            f"{one['seconds']:.2f} s",
            _overhead(one) if one["a_core_each"] else "fewer cores than processes",
            _throughput(one),
            f"{goal:g}" if one["processes"] == 2 else "",
            f"{one['processor_seconds']:.2f} s",
            f"{100 * one['processor_seconds_overhead']:+.0f} %",
        )
        for row in found["rows"]
        for one in row["by_processes"]
    ]
    names = (
        *("training", "processes", "an update", "overhead", "throughput, times", "goal"),
        *("processor time of a process", "overhead of it"),
    )
    return (
        f"## Processes that share a batch\n\nAn update on a machine with {found['cores']} cores, each process with as "
        f"many samples, {found['threads']} thread(s) and the exchange over gloo ({versions(found)}; "
        f"{found['processor']}). Without any cost of sharing every row of a training would say what its first one "
        f"says; throughput is in multiples of one process's.\n\n{markdown_table(names, rows)}{_exchanged(found)}"
    )


def _throughput(one: Mapping[str, Any]) -> str:
    if one["processes"] == 1 or not one["a_core_each"]:
        return ""
    times = [one["processes"] / (1 + over) for over in one["overheads"]]
    return f"{one['processes'] / (1 + one['seconds_overhead']):.2f}{ranging(times, '.2f')}"


def _exchanged(found: Mapping[str, Any]) -> str:
    """What the collectives of an update take alone, of the whole overhead; where they were counted."""
    rows = [
        (
            f"{row['method']}, {row['encoder']}" + ("" if row["sharding"] == "none" else ", `--sharding full`"),
            f"{one['processes']}",
            f"{one['collectives']:,.0f}",
            f"{one['collective_bytes'] / 2**20:,.1f}",
            f"{1000 * one['collective_seconds']:,.1f}",
            f"{100 * one['collective_seconds'] / row['by_processes'][0]['seconds']:.0f} %",
            f"{100 * one['seconds_overhead']:.0f} %",
        )
        for row in found["rows"]
        for one in row["by_processes"]
        if one["processes"] > 1 and one["a_core_each"] and one.get("collectives")
    ]
    if not rows:
        return ""
    names = ("training", "processes", "collectives", "MiB", "alone, ms", "of an update of one", "overhead")
    return (
        "\n\nWhy: the collectives of an update, and what they take by themselves, one after another, while nobody "
        "computes. The overhead beyond that is waiting for each other and memory that is shared."
        f"\n\n{markdown_table(names, rows)}"
    )


def _overhead(one: Mapping[str, Any]) -> str:
    return f"{100 * one['seconds_overhead']:+.0f} %{ranging([100 * over for over in one['overheads']], '+.0f')}"


def cost(found: Mapping[str, Any]) -> str:
    """Plans, against trainings."""
    rows = [
        (
            f"{row['method']}, {row['encoder']}",
            f"{row['side']} px",
            f"{row['batch']:,}",
            f"{row['devices']}",
            *(
                f"{row[when]['seconds']:.2f} s{between(row.get('spread', {}).get(when), '.2f')}"
                for when in ("foreseen", "found")
            ),
            f"{100 * row['errors']['seconds']:+.0f} %",
            f"{row['apart']['seconds']:.2f} s" if "apart" in row else "",
            *(f"{row[when]['bytes'] / 2**20:,.0f} MiB" for when in ("foreseen", "found")),
            f"{100 * row['errors']['bytes']:+.0f} %",
            f"{row['found']['resident'] / 2**20:,.0f} MiB",
        )
        for row in found["rows"]
    ]
    names = (
        *("training", "image", "batch", "processes", "update, planned", "measured", "error", "exchanging nothing"),
        *("memory, planned", "measured", "error", "the process grows by"),
    )
    time, memory = (max(abs(row["errors"][what]) for row in found["rows"]) for what in ("seconds", "bytes"))
    return (
        "## Plans\n\nWhat `pretrain --plan` foresees, mostly from smaller batches, and what a training takes, "
        f"on a processor with {found['threads']} thread(s) a process ({versions(found)}; "
        f"{found['processor']}). The largest error is {100 * time:.0f} % of the time and {100 * memory:.0f} % of the "
        f'memory, the goal {100 * found["goal"]:.0f} %. Two processes are tried together; beside them, "exchanging '
        'nothing", are trainings of their shares side by side, which cost each other only the memory that they share. '
        "Memory is that of tensors; a process grows by more, libraries included."
        f"\n\n{markdown_table(names, rows)}{_formula(found)}"
    )


def _formula(found: Mapping[str, Any]) -> str:
    """Plans of several processes by one that takes itself for the first of them, where they were made."""
    alone = [row for row in found["rows"] if "formula" in row]
    if not alone:
        return ""
    rows = [
        (
            f"{row['method']}, {row['encoder']}",
            f"{row['batch']:,}",
            f"{row['devices']}",
            f"{row['formula']['link'] / 1e9:.2f} GB/s",
            f"{1000 * row['formula']['delay']:.2f} ms",
            f"{row['formula']['messages']:.0f}",
            f"{1000 * row['formula']['exchange']:.1f} ms",
            f"{row['formula']['seconds']:.2f} s",
            f"{row['found']['seconds']:.2f} s",
            f"{100 * row['errors']['formula']:+.0f} %",
            f"{100 * (row['formula']['bytes'] / row['found']['bytes'] - 1):+.0f} %",
        )
        for row in alone
    ]
    names = (
        *("training", "batch", "processes", "link", "a message", "messages", "exchange, planned"),
        *("update, planned", "measured", "error", "of memory"),
    )
    worst = max(abs(row["errors"]["formula"]) for row in alone)
    return (
        "\n\nWhere this machine has not all devices, one process takes itself for the first of them and counts what it "
        "would send. The same trainings so, with the link over gloo measured in the same run: the largest error of the "
        f"time is {100 * worst:.0f} %. What is left out is that processes share a memory and wait for each other."
        f"\n\n{markdown_table(names, rows)}"
    )
