"""The parts of the page of speed on views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autodidact.catalog.speed.figures import ranging, versions
from autodidact.catalog.tables import markdown_table


def views(found: Mapping[str, Any]) -> str:
    """Two SimCLR views of a batch on a processor, against lightly."""
    rows = [
        (
            f"{row['size']} px",
            f"{row['threads']}",
            *_rates(row),
            f"{row['side_by_side']:,}" if "side_by_side" in row else "",
        )
        for row in found["rows"]
    ]
    names = ("image", "threads", "views/s", "lightly, views/s", "times", "goal", "processes, views/s")
    return (
        f"## Augmentation\n\nTwo SimCLR views of a batch on a processor ({versions(found)}). With several threads "
        "torch shares each operation out to them; as many processes with a thread each, which the last column has, "
        f"never wait for each other. A peer's workers are processes.\n\n{markdown_table(names, rows)}"
    )


def views_gpu(found: Mapping[str, Any]) -> str:
    """The same on a GPU, against kornia."""
    rows = [
        (f"{row['size']} px", f"{row['batch']:,}", *_rates(row), f"{row['share_of_a_resnet50_step']:.2f}")
        for row in found["rows"]
    ]
    table = markdown_table(
        ("image", "batch", "views/s", "kornia, views/s", "times", "goal", "share of a ResNet-50 step"), rows
    )
    return f"Two SimCLR views of a batch on one {found['device']} ({versions(found)}).\n\n{table}"


def views_counted(found: Mapping[str, Any]) -> str:
    """What a view on a GPU is made of, counted."""

    def ms(seconds: float | None) -> str:
        return "" if seconds is None else f"{1000 * seconds:.1f}"

    rows = [
        (
            f"{row['size']} px",
            f"{row['batch']:,}",
            row["blur"],
            f"{row['launches']}",
            f"{row['bytes'] / 1e9:.1f}",
            *(ms(row["floors"][of]) for of in ("bytes", "operations")),
            ms(row["drawing_seconds"]),
            ms(row.get("seconds")),
        )
        for row in found["rows"]
    ]
    names = (
        *("image", "batch", "blur by", "launches", "GB", "its bytes, ms", "its matrix products, ms"),
        *("drawing, ms", "took, ms"),
    )
    rates = found["rates"]
    return (
        f"Why that is short of the goal, counted without a GPU ({versions(found)}): a view of a batch, its bytes at "
        f"{rates['bytes'] / 1e12:.2f} TB/s and its matrix products at {rates['operations'] / 1e12:.0f} TFLOP/s, which "
        f"the maker publishes of an H100; drawing its parameters on the processor here ({found['processor']}); and "
        f"what it took on the {found['device']}.\n\n{markdown_table(names, rows)}\n\n{_timed_views(found['rows'])}"
        "Rendering reads nothing back from the device: it is counted on tensors that have no values."
    )


def _timed_views(rows: Sequence[Mapping[str, Any]]) -> str:
    """What of the measured time the counted bytes explain, and what was changed since."""
    timed = [row for row in rows if row.get("seconds")]
    shares = ", ".join(f"{row['size']} px {100 * row['floors']['bytes'] / row['seconds']:.0f} %" for row in timed)
    said = f"Of the time that views took, their bytes are at {shares}. " if timed else ""
    untimed = sorted({row["blur"] for row in rows} - {row["blur"] for row in timed})
    return said + (f"Blur by {' and by '.join(untimed)} has not been timed there. " if untimed else "")


def _rates(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return (
        f"{row['views_per_second']:,}",
        f"{row['peer_views_per_second']:,}",
        f"{row['ratio']:.1f}{ranging(row['ratios'], '.1f')}",
        f"{row['goal']:g}",
    )
