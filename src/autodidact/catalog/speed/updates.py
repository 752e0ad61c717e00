"""The parts of the page of speed on epochs, on where an update's seconds go, and on floors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autodidact.catalog.speed.figures import between, ranging, versions
from autodidact.catalog.tables import markdown_table


def epoch(found: Mapping[str, Any]) -> str:
    """An epoch of SimCLR and of MAE, against other libraries."""
    peers, contestants = found["rows"][0]["share"], found["rows"][0]["seconds"]
    rows = [
        (
            f"{row['method']}, {row['encoder']}",
            f"{row['side']} px",
            f"{row['images']:,}",
            f"{row['batch']}",
            *(f"{row['seconds'][one]:.2f} s" if one in row["seconds"] else "" for one in contestants),
            *(_share(row, peer) if peer in row["share"] else "" for peer in peers),
            f"{found['goal']:g}",
        )
        for row in found["rows"]
    ]
    names = ("training", "image", "images", "batch", *contestants, *(f"share of {p}" for p in peers))
    table = markdown_table((*names, "goal"), rows)
    if device := found.get("device"):
        return (
            f"The same in bf16 on one {device} and {found['threads']} workers of the peers ({versions(found)}; "
            f"{found['processor']}).\n\n{table}"
        )
    return (
        f"## An epoch of SimCLR and of MAE\n\nOn a processor with {found['threads']} thread(s), and as many workers of "
        f"the peers ({versions(found)}; {found['processor']}): the same encoder, head, loss, images and recipe of the "
        "views. autodidact keeps what an update frees for the next one; a peer saves the same page faults where its "
        "user sets `MALLOC_MMAP_MAX_=0` and `MALLOC_TRIM_THRESHOLD_`, which is not done here.\n\n"
        f"{table}\n\nsolo-learn is not among the peers: its release asks for a torch of 2021. stable-pretraining has "
        "an MAE, but for vision transformers of timm alone and with a decoder of its own, so that it would not be the "
        "same network; it is left out of that row."
    )


def _share(row: Mapping[str, Any], peer: str) -> str:
    both = zip(row["all_seconds"]["autodidact"], row["all_seconds"][peer], strict=True)
    return f"{row['share'][peer]:.2f}{ranging([own / other for own, other in both], '.2f')}"


def step_profile(found: Mapping[str, Any]) -> str:
    """The parts of an update and their floors."""
    rows = [
        (
            f"{row['method']}, {row['encoder']}, {row['side']} px, batch {row['batch']}" if not number else "",
            f"{row.get('threads', found['threads'])}" if not number else "",
            part,
            f"{1000 * one['seconds']:,.1f}{between(one.get('spread'), ',.1f', 1000)}",
            f"{1000 * one['floor']:,.1f}" if "floor" in one else "",
            f"{one['operations'] / 1e9:,.1f}" if one.get("operations") else "",
            f"{one['bytes'] / 2**20:,.0f}" if "bytes" in one else "",
        )
        for row in found["rows"]
        for number, (part, one) in enumerate(row["parts"].items())
    ]
    names = ("training", "threads", "part", "ms", "floor, ms", "operations, 1e9", "bytes, MiB")
    shares = ", ".join(
        f"{row['seconds'] / row['floor']:.1f} ({row['method']}, {row['encoder']}, "
        f"{row.get('threads', found['threads'])} thread(s))"
        for row in found["rows"]
    )
    return (
        "## Where an update's seconds go\n\nThe parts of an update as it runs in a training, on a processor "
        f"({versions(found)}; {found['processor']}). The floor of a part is the longer "
        "of its operations at the rate of a large matrix product and its bytes at the rate of a copy, measured in the "
        "same run; bytes are those that every operation reads and writes, so what stays in the caches may be below it. "
        f"Whole updates take so many times their floor: {shares}.\n\n{markdown_table(names, rows)}{_monitored(found)}"
    )


def _monitored(found: Mapping[str, Any]) -> str:
    """What monitors take of a training, where they were timed."""
    timed = [row for row in found["rows"] if "monitors" in row]
    if not timed:
        return ""
    rows = [
        (
            f"{row['method']}, {row['encoder']}, {row['side']} px, batch {row['batch']}",
            f"{row['threads']}",
            f"{1000 * row['monitors']['look']:,.1f}{between(row['monitors']['look_spread'], ',.1f', 1000)}",
            f"{row['monitors']['every']} updates",
            f"{100 * row['monitors']['share']:.1f} %",
        )
        for row in timed
    ]
    names = ("training", "threads", "a look, ms", "every, by default", "share of the training's time")
    return (
        "\n\nMonitors keep and log a little at every update, which is a part above, and look at the newest embeddings "
        "now and then: spectrum, uniformity and kNN of a full window with labels. The interval is the default in a "
        f"training of {timed[0]['monitors']['updates']:,} updates; a longer one looks no more often."
        f"\n\n{markdown_table(names, rows)}"
    )


def reachable(found: Mapping[str, Any], epoch: Mapping[str, Any]) -> list[str]:
    """How near the goals of `epoch` the floors let an update come, of the trainings that are in both.

    Nothing where the two were measured on different processors: their times have nothing to do with each other.
    """
    if found["processor"] != epoch["processor"]:
        return []
    trained = {(row["method"], row["encoder"], row["side"], row["batch"]): row for row in epoch["rows"]}
    rows = []
    for row in found["rows"]:
        other = trained.get((row["method"], row["encoder"], row["side"], row["batch"]))
        if other is None or row.get("threads", found["threads"]) != epoch["threads"]:
            continue
        for peer in other["share"]:
            theirs = other["seconds"][peer] / (other["images"] // other["batch"])
            goal = epoch["goal"] * theirs
            # What stays in the caches is below its floor already.
            least = {part: min(one["seconds"], one.get("floor", 0.0)) for part, one in row["parts"].items()}
            above = {part: max(0.0, one["seconds"] - least[part]) for part, one in row["parts"].items()}
            floor, room = sum(least.values()), goal - sum(least.values())
            kept = min(1.0, max(0.0, room) / sum(above.values())) if sum(above.values()) else 1.0
            wanted = ", ".join(
                f"{part} {1000 * one['seconds']:,.0f} to {1000 * (least[part] + kept * above[part]):,.0f}"
                for part, one in row["parts"].items()
                if one["seconds"] >= 0.01 * row["seconds"]
            )
            rows.append(
                (
                    f"{row['method']}, {row['encoder']}",
                    f"{peer}, {1000 * theirs:,.0f}",
                    f"{1000 * goal:,.0f}",
                    f"{1000 * row['seconds']:,.0f}",
                    f"{1000 * floor:,.0f}",
                    f"{floor / theirs:.2f}",
                    f"{epoch['goal']:g}",
                    wanted if room >= 0 else f"out of reach even at the floors: {wanted}",
                )
            )
    if not rows:
        return []
    names = (
        *("training", "an update of the peer, ms", "goal, ms", "ours, ms", "our floors, ms", "least share of the peer"),
        *("goal", "what each part would have to become, ms"),
    )
    return [
        f"Whether an epoch can reach its goal: the sum of the floors above as a share of the peer's time (its epoch by "
        f"its updates, from the table of epochs, so from another run; {epoch['threads']} thread(s)). It is the least "
        "that the operations which an update now consists of can take; below it only fewer operations help. The last "
        "column brings each part equally far towards its floor.\n\n" + markdown_table(names, rows)
    ]


def floors(found: Mapping[str, Any]) -> str:
    """Parts whose goals are missed, and their floors."""
    rows = [
        (
            row["what"],
            f"{1000 * row['seconds']:,.1f}{between(row.get('spread'), ',.1f', 1000)}",
            *(f"{1000 * row['floors'][of]:,.1f}" for of in ("operations", "bytes")),
            f"{row['seconds'] / max(row['floors'].values()):.1f}",
            ", ".join(f"{call} {100 * share:.0f} %" for call, share in row["calls"].items()),
        )
        for row in found["rows"]
    ]
    names = (
        *("what", "ms", "its matrix products, ms", "its bytes, ms", "times the longer"),
        "torch's operations by share of the time",
    )
    return (
        "## How far from the floor\n\nParts whose goals above are missed on a processor, with "
        f"{found['threads']} thread(s) ({versions(found)}; {found['processor']}): what they take, what their matrix "
        f"products would take at {found['rates']['operations'] / 1e9:,.0f} GFLOP/s, the rate of a large one here, and "
        f"their bytes at {found['rates']['bytes'] / 1e9:,.1f} GB/s, that of a copy. No way of computing the same "
        f"distances of neighbours takes less than their product.\n\n{markdown_table(names, rows)}"
    )
