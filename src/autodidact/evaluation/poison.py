"""The protocol "poison": are some images of a set poisoned at single frequencies, which, and how sure is that?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from tqdm import tqdm

from autodidact.data.folder import evenly
from autodidact.data.source import Positions, Source
from autodidact.evaluation.curves import Curves
from autodidact.measures.frequencies import (
    PLANES,
    SIDES,
    Finding,
    WindowScan,
    mean_frequencies,
    strongest,
    thumbnails,
    windows_for,
)

Level = Literal["nothing", "suspicious", "poisoned"]

LEAST = 100
"""Images below which nothing can be said."""
SAMPLE = 2_048
"""Images by which median and spread of every frequency are found."""
BYTES = 2**24
"""Pixels that are read at once."""
TRACE = 1.5
"""Least score that is worth naming: two images at one frequency where none was to be expected."""
SUSPICIOUS, POISONED = 6.0, 12.0
"""Scores from which the verdict is "suspicious" and "poisoned": what ``benchmarks/poison.py`` finds on clean sets."""
CLEAN_SETS, CLEAN_KINDS, FALSE_ALARMS = 66, 11, 0
"""Clean sets on which the thresholds were tried after they were set, of how many kinds, and how many of the sets were
called suspicious or worse (``benchmarks/poison.json``)."""
WORST_KIND, WORST_SETS, WORST_ALARMS, AT_MOST = "photographs, JPEG 75, 32 px", 6, 0, 0.393
"""The kind of clean sets that leaves the highest rate of false alarms possible: how many sets of it were tried, how
many of these were called suspicious or worse, and the share that may be at most, at 95 % confidence, were the sets
independent. They are cut from the same pictures, so that it says too little rather than too much."""
CLEAN_HIGHEST = 5.618
"""The highest score of any of these sets."""
CLEAN_IMAGES, CLEAN_SIDES = (300, 10_000), (8, 96)
"""Fewest and most images of these sets, and shortest and longest side of the images in pixels."""
FOUND_PLAIN, FOUND_HARD = (12, 12), (3, 18)
"""How many sets with 1 % of poison were found, of how many: of colour images saved without loss; and of grey images, or
images saved as JPEG after they were poisoned (``benchmarks/poison.json``)."""
LISTED = 8
"""Frequencies and names that the plain words list."""


@dataclass(frozen=True)
class PoisonScan:
    """What the scan of a set of images found.

    Attributes
    ----------
    data : name of the set.
    images : how many were looked at.
    score : the highest of any frequency, 0 below `TRACE`; see `autodidact.measures.frequencies.Finding`.
    findings : the frequencies that reach `SUSPICIOUS`, most striking first.
    suspicious : (id, name) of each image that sticks out at one of them, in the order of the set.
    skipped : what was not looked at, or not at its own size, ``{"name": ..., "reason": ...}`` each.
    """

    data: str
    images: int
    score: float
    findings: tuple[Finding, ...]
    suspicious: tuple[tuple[int, str], ...]
    skipped: tuple[Mapping[str, str], ...] = ()

    @property
    def level(self) -> Level:
        return "poisoned" if self.score >= POISONED else "suspicious" if self.score >= SUSPICIOUS else "nothing"

    @property
    def sentence(self) -> str:
        """The verdict in plain words."""
        if self.level == "nothing":
            plain, hard = (f"{found} of {sets}" for found, sets in (FOUND_PLAIN, FOUND_HARD))
            return (
                f"No sign of poisoning at single frequencies in {self.images:,} images (score {self.score:.1f}, "
                f"{SUSPICIOUS:g} would be suspicious). Fewer than about {SUSPICIOUS:g} poisoned images, patches and "
                "other triggers are not found this way, and patterns in grey images or images saved as JPEG may go "
                f"unseen: of trial sets with 1 % poison {hard} such were found, and {plain} of colour images saved "
                "without loss."
            )
        count, share = len(self.suspicious), 100 * len(self.suspicious) / self.images
        said = {
            "suspicious": "Suspicious: look at these images",
            "poisoned": "Very probably poisoned, or marked in another way",
        }[self.level]
        return (
            f"{said} (score {self.score:.1f}; suspicious from {SUSPICIOUS:g}, poisoned from {POISONED:g}). "
            f"{count:,} of {self.images:,} images ({share:.2g} %) stick out together at single frequencies. Of "
            f"{CLEAN_SETS} clean trial sets of {CLEAN_KINDS} kinds ({CLEAN_IMAGES[0]:,} to {CLEAN_IMAGES[1]:,} images "
            f"of {CLEAN_SIDES[0]} to {CLEAN_SIDES[1]} pixels a side) {FALSE_ALARMS} scored {SUSPICIOUS:g} or more "
            f"(highest score {CLEAN_HIGHEST:.1f}). Of the worst kind ({WORST_KIND}) it was {WORST_ALARMS} of "
            f"{WORST_SETS}, so few sets that its rate may be up to {100 * AT_MOST:.0f} % (95 % confidence). Sets of "
            "one kind were cut from the same pictures, so on others, and on more or larger images, false alarms may be "
            "more frequent still."
        )

    @property
    def text(self) -> str:
        """The verdict, the frequencies and the first files, line by line."""
        lines = [self.sentence]
        lines += [f"  {_said(finding)}" for finding in self.findings[:LISTED]]
        lines += _more(len(self.findings), "frequencies")
        if self.suspicious:
            lines.append("images:")
            lines += [f"  {name}" for _, name in self.suspicious[:LISTED]]
            lines += _more(len(self.suspicious), "images; --json FILE writes all")
        if self.skipped:
            first = self.skipped[0]["reason"]
            lines.append(f"{len(self.skipped):,} images were not looked at, or not in full; the first: {first}")
        return "\n".join(lines)

    def curves(self) -> list[Curves]:
        """Nothing to draw."""
        return []

    def plain(self) -> dict[str, Any]:
        """JSON-ready: all of it, with every suspicious image."""
        frequencies = [
            {
                "plane": finding.plane,
                "window": finding.window,
                "row": finding.row,
                "column": finding.column,
                "sign": finding.sign,
                "score": round(finding.score, 3),
                "expected": round(finding.expected, 3),
                "magnitude": round(finding.magnitude, 2),
                "images": len(finding.images),
            }
            for finding in self.findings
        ]
        return {
            "protocol": "poison",
            "data": self.data,
            "verdict": self.level,
            "sentence": self.sentence,
            "score": round(self.score, 3),
            "thresholds": {"suspicious": SUSPICIOUS, "poisoned": POISONED},
            "clean sets": {
                "tried": CLEAN_SETS,
                "kinds": CLEAN_KINDS,
                "false alarms": FALSE_ALARMS,
                "highest score": CLEAN_HIGHEST,
                "worst kind": {
                    "kind": WORST_KIND,
                    "tried": WORST_SETS,
                    "false alarms": WORST_ALARMS,
                    "share at most, 95 %": AT_MOST,
                },
                "images": list(CLEAN_IMAGES),
                "pixels a side": list(CLEAN_SIDES),
            },
            "images": self.images,
            "frequencies": frequencies,
            "suspicious": [{"id": id_, "name": name} for id_, name in self.suspicious],
            "skipped": [dict(entry) for entry in self.skipped],
        }


def scan_for_poison(source: Source, *, quiet: bool = True) -> PoisonScan:
    """Look for images that carry the same faint pattern at single frequencies, as the trigger of CTRL (2210.07346).

    The images are read twice: a sample, for what is usual at every frequency of windows of several sizes, and all of
    them, for what is not. No labels are read and nothing is trained. It finds patterns of fixed frequencies that lie in
    windows counted from the top left corner, in less than half of the images, and at least in a handful; also marks
    that nobody meant as poison (watermarks, the traces of one scanner). It does not find patches, or patterns that are
    drawn anew for each image.

    Parameters
    ----------
    source : with a field "image", of 1 or 3 channels, at the size at which the files are: resizing blurs patterns.
    quiet : no progress line.

    Raises
    ------
    ValueError : fewer than 100 images, of less than 8 pixels a side, of other numbers of channels, a stream.
    """
    if source.streaming:
        raise ValueError(f"'{source.name}' is a stream; a scan reads images twice, so save it first")
    channels, height, width = source.schema["image"].shape
    if channels not in PLANES:
        raise ValueError(f"a scan for poison needs images of 1 or 3 channels, '{source.name}' has {channels}")
    size = max(1, BYTES // (channels * height * width))
    everything = np.arange(len(source))
    sample = _Sample(windows_for(height, width))
    for images, _ in _pieces(source, np.asarray(evenly(len(source), SAMPLE)), size, "usual frequencies", quiet):
        sample.add(images)
    scans = sample.scans()
    seen, small = np.zeros(len(source), dtype=bool), torch.zeros(len(source), 256)
    for images, rows in _pieces(source, everything, size, "scan", quiet):
        small[rows] = thumbnails(images)
        seen[rows.numpy()] = min(images.shape[2:]) >= SIDES[0]
        for scan in scans:
            if min(images.shape[2:]) >= scan.window:
                scan.update(images, rows)
    if seen.sum() < LEAST or not scans:
        raise ValueError(
            f"'{source.name}' has {seen.sum()} images of {SIDES[0]} pixels a side or more; a scan for poison compares "
            f"images with one another and needs at least {LEAST}"
        )
    traces = [finding for scan in scans for finding in scan.findings(TRACE, small)]
    findings = tuple(f for f in strongest(traces) if f.score >= SUSPICIOUS)
    rows = torch.cat([f.images for f in findings]).unique() if findings else torch.zeros(0, dtype=torch.long)
    reason = f"less than {SIDES[0]} pixels a side"
    too_small = [{"name": source.names[int(i)], "reason": reason} for i in np.flatnonzero(~seen)]
    return PoisonScan(
        source.name,
        int(seen.sum()),
        max((f.score for f in traces), default=0.0),
        findings,
        tuple((int(source.ids[i]), source.names[i]) for i in rows.tolist()),
        (*source.skipped, *too_small),
    )


class _Sample:
    """Frequencies of some images, in windows of every size."""

    def __init__(self, windows: Sequence[int]) -> None:
        self.seen: dict[int, list[Tensor]] = {window: [] for window in windows}

    def add(self, images: Shaped[Tensor, "n c h w"]) -> None:
        for window, found in self.seen.items():
            if min(images.shape[2:]) >= window:
                found.append(mean_frequencies(images, window))

    def scans(self) -> list[WindowScan]:
        """A scan for every size in which there are images enough to say what is usual."""
        joined = {window: torch.cat(found) for window, found in self.seen.items() if found}
        return [WindowScan(found, window) for window, found in joined.items() if len(found) >= LEAST]


def _pieces(
    source: Source, positions: Positions, size: int, title: str, quiet: bool
) -> Iterator[tuple[Shaped[Tensor, "n c h w"], Int[Tensor, " n"]]]:
    """Images of one size each, without the rest of their canvas, with their positions."""
    starts = range(0, len(positions), size)
    for start in tqdm(starts, desc=title, unit="batch", disable=quiet, leave=False, delay=2):
        part = positions[start : start + size]
        batch = source.batch(part)
        rows = torch.from_numpy(part)
        if "box" not in batch:
            yield batch["image"], rows
            continue
        boxes, group = batch["box"].long().unique(dim=0, return_inverse=True)
        for index, (top, left, height, width) in enumerate(boxes.tolist()):
            chosen = group == index
            yield batch["image"][chosen][..., top : top + height, left : left + width], rows[chosen]


def _said(finding: Finding) -> str:
    return (
        f"{finding.plane}, frequency ({finding.row}, {finding.column}) of {finding.window} x {finding.window} windows: "
        f"{len(finding.images):,} images, {finding.expected:.1f} to be expected, about {finding.magnitude:.0f} grey "
        f"levels {'more' if finding.sign > 0 else 'less'}"
    )


def _more(count: int, what: str) -> list[str]:
    return [f"  ... {count - LISTED:,} more {what}"] if count > LISTED else []
