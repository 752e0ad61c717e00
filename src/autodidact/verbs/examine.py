"""examine: what data looks like before anything is trained on it; `evaluate` without a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from autodidact.data import Source, open_source
from autodidact.data.frame import side_limit
from autodidact.data.images import fitted, read_header, without_warnings
from autodidact.data.pictures import ImageSource
from autodidact.data.source import Subset
from autodidact.evaluation.curves import Curves
from autodidact.evaluation.protocols import Examination, choose_data
from autodidact.model.model import write_aside, write_json
from autodidact.verbs.evaluate import names_of

AS_IT_IS = 4096
"""Side in pixels to ask for, so that images are read at their own size up to one and a half times that."""


def examine(
    data: str | Path | Source,
    *,
    protocols: str | Sequence[str] = "poison",
    json: str | Path | None = None,
    picture: str | Path | None = None,
    quiet: bool = False,
) -> dict[str, Examination]:
    """Examine data alone, without a model and without its labels.

    Images are read from their files at their own size up to 6,144 pixels a side; larger ones are made smaller, and
    named among what was not looked at in full. Nothing is packed, and nothing written but `json` and `picture`.

    Parameters
    ----------
    data : what to look at, see `autodidact.data.open_source`.
    protocols : names, as a sequence or separated by commas: "poison" looks for images that carry the same faint pattern
        at single frequencies; "learning_order" says which linear features a JEPA and an MAE would learn first, of two
        views of images, or of a table whose rows are steps in time.
    json : file that gets what was found, by protocol.
    picture : SVG file that gets what there is to draw, of "learning_order" how the features grow.
    quiet : no progress lines.

    Returns
    -------
    dict
        Protocol -> what it found; ``.text`` says it in plain words.

    Raises
    ------
    ValueError : an unknown protocol, or data that it cannot look at.
    """
    chosen = choose_data(names_of(protocols))
    file = _picture_file(picture)
    source = _at_own_size(data, quiet)
    for protocol in chosen:
        source.schema.require(protocol.needs, f"protocol '{protocol.name}'", one_suffices=True)
    found = {protocol.name: protocol.examine(source, quiet=quiet) for protocol in chosen}
    if json is not None:
        Path(json).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(json), {name: examination.plain() for name, examination in found.items()})
    if file is not None:
        _draw(file, [panel for examination in found.values() for panel in examination.curves()], source.name)
    return found


def _at_own_size(data: str | Path | Source, quiet: bool) -> Source:
    """Data whose canvas holds every image, not only those whose headers an opening looks at; what is made smaller all
    the same is listed in `skipped`."""
    opened = partial(open_source, data, labels="none", cache=False, progress=not quiet, by_position=True)
    source = opened(image_size=AS_IT_IS)
    large = _larger_than_canvas(source)
    if large and not isinstance(data, Source):
        limit = side_limit(AS_IT_IS)
        canvas = source.schema["image"].shape[1:]
        sizes = [canvas, *(fitted(*size, (limit, limit)) for size in large.values())]
        wanted = (max(height for height, _ in sizes), max(width for _, width in sizes))
        if wanted != canvas:
            source = opened(canvas=wanted)
            large = _larger_than_canvas(source)
    if large:
        _, height, width = source.schema["image"].shape
        reason = f"larger than {height} x {width} pixels: looked at after a reduction, which blurs patterns"
        # Of a source that somebody has opened, the list stays as it is.
        source = source.at(range(len(source)))
        source.skipped = [*source.skipped, *({"name": source.names[row], "reason": reason} for row in large)]
    return source


def _larger_than_canvas(source: Source) -> dict[int, tuple[int, int]]:
    """Position -> height and width of the file, of each image that was made smaller to fit the canvas."""
    base, rows = (source.base, source.positions) if isinstance(source, Subset) else (source, range(len(source)))
    if not isinstance(base, ImageSource) or base.pictures is None:
        return {}
    _, height, width = source.schema["image"].shape
    found = {}
    with without_warnings():
        for position, row in enumerate(rows):
            place = int(base.places[row])
            _, _, tall, wide = base.pixels.boxes[place]
            # What was made smaller is as tall or as wide as the canvas.
            if tall == height or wide == width:
                header = read_header(base.pictures.origin(place))
                if header.height > height or header.width > width:
                    found[position] = (header.height, header.width)
    return found


def _picture_file(picture: str | Path | None) -> Path | None:
    if picture is not None and Path(picture).suffix.lower() != ".svg":
        raise ValueError(f"a picture is an SVG file; '{Path(picture).name}' must end in .svg")
    return None if picture is None else Path(picture)


def _draw(file: Path, panels: Sequence[Curves], name: str) -> None:
    from autodidact.report.figures import picture

    if not panels:
        raise ValueError("this protocol has nothing to draw: leave out --picture")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_aside(file, picture(panels, f"{name}: {'; '.join(panel.title for panel in panels)}").encode())
