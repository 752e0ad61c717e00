"""The embeddings as a whole: maps, coloured by label where labels are known, and the spectrum."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from autodidact.report.figures import HUES, OTHER, Chart, Line, chart, scatter
from autodidact.report.geometry import Map, Shape, maps
from autodidact.report.markup import number, paragraph, section, text
from autodidact.report.samples import Samples

LEAD = "Each dot is a sample. Groups that nobody asked for are what the model found by itself."


def cloud(samples: Samples, shape: Shape, *, taught_by_labels: bool = False) -> str:
    """The section of maps and spectrum; it says whether the model was trained on the labels."""
    drawn = "".join(_map(found, samples, f"m{index}") for index, found in enumerate(maps(samples.embeddings)))
    seen = "it was trained on" if taught_by_labels else "it never saw"
    lead = f"{LEAD} Colours are the labels, which {seen}." if samples.labels is not None else LEAD
    shown = f"{len(samples):,}"
    some = f" Shown are {shown} of {samples.of:,} samples, chosen at random." if samples.of > len(samples) else ""
    return section(
        "map", "The embedding as a map", f'<div class="maps">{drawn}{_spectrum(shape)}</div>', lead=lead + some
    )


def _map(found: Map, samples: Samples, key: str) -> str:
    shown = len(found.points)
    description = f"{found.title} of {shown:,} embeddings."
    legend = ""
    if samples.labels is not None:
        groups, names, legend = colours(samples)
        description += f" Coloured by {len(names)} classes: {', '.join(names)}."
        drawn = scatter(found.points, key, description, groups=groups[:shown], names=names, labels=found.axes)
    else:
        # Values that are not known are left out of the colours by matplotlib itself.
        drawn = scatter(
            found.points,
            key,
            description,
            values=None if samples.targets is None else samples.targets[:shown],
            labels=found.axes,
        )
        legend = paragraph("Coloured by the target value.", "small") if samples.targets is not None else ""
    return (
        f'<figure class="map"><figcaption><h4>{text(found.title)}</h4>{paragraph(found.note)}</figcaption>'
        f"{drawn}{legend}</figure>"
    )


def colours(samples: Samples) -> tuple[Int[np.ndarray, " n"], list[str], str]:
    """Colour number of each sample (-1 for grey), the names of the colours, and a legend.

    The ten largest classes have a colour each; all others, and samples without a label, are grey.
    """
    assert samples.labels is not None
    classes, counts = np.unique(samples.labels[samples.labels >= 0], return_counts=True)
    largest = sorted(classes[np.argsort(-counts, kind="stable")][: len(HUES)].tolist())
    groups = np.full(len(samples), -1)
    for number_, label in enumerate(largest):
        groups[samples.labels == label] = number_
    names = [samples.classes[label] if label < len(samples.classes) else str(label) for label in largest]
    entries = [(HUES[i], name, int((groups == i).sum())) for i, name in enumerate(names)]
    if grey := int((groups < 0).sum()):
        said = f"{len(classes) - len(largest)} further classes" if len(classes) > len(largest) else "unlabelled"
        entries.append((OTHER, said, grey))
    swatches = "".join(
        f'<li><i style="background:{colour}"></i>{text(name, 24)} <small>{count:,}</small></li>'
        for colour, name, count in entries
    )
    return groups, names, f'<ul class="legend">{swatches}</ul>'


def _spectrum(shape: Shape) -> str:
    values = shape.singular_values
    largest = float(values[0]) if len(values) else 0.0
    if largest <= 0:
        return ""
    # Below this, singular values of float32 embeddings are rounding.
    relative = values[values > 1e-7 * largest] / largest
    line = Line(list(range(1, len(relative) + 1)), relative.tolist())
    rank = shape.centred_rank
    drawn = chart(
        Chart(
            [line],
            "direction, by size",
            "singular value / largest",
            log=True,
            marks={rank: f"effective rank {number(rank)}"},
        ),
        "spectrum",
        f"Singular values of the embeddings around their mean, from 1 down to {number(float(relative[-1]))} over "
        f"{len(relative)} directions; effective rank {number(rank)}.",
        (360, 320),
    )
    said = paragraph(
        "How much samples differ in each direction. A slow fall means that many directions are in use, a cliff that "
        f"the rest is idle. {len(relative):,} of {shape.possible:,} possible directions are not empty."
    )
    return f'<figure class="map"><figcaption><h4>Spectrum</h4>{said}</figcaption>{drawn}</figure>'
