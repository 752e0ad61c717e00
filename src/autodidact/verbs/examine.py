"""examine: what data looks like before anything is trained on it; `evaluate` without a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autodidact.data import Source, open_source
from autodidact.evaluation.curves import Curves
from autodidact.evaluation.protocols import Examination, choose_data
from autodidact.model.model import write_aside, write_json
from autodidact.verbs.evaluate import names_of

AS_IT_IS = 4096
"""Side in pixels up to which images are read at their own size."""


def examine(
    data: str | Path | Source,
    *,
    protocols: str | Sequence[str] = "poison",
    json: str | Path | None = None,
    picture: str | Path | None = None,
    quiet: bool = False,
) -> dict[str, Examination]:
    """Examine data alone, without a model and without its labels.

    Images are read from their files at their own size; nothing is packed, and nothing written but `json` and `picture`.

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
    source = open_source(data, labels="none", image_size=AS_IT_IS, cache=False, progress=not quiet, by_position=True)
    for protocol in chosen:
        source.schema.require(protocol.needs, f"protocol '{protocol.name}'", one_suffices=True)
    found = {protocol.name: protocol.examine(source, quiet=quiet) for protocol in chosen}
    if json is not None:
        Path(json).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(json), {name: examination.plain() for name, examination in found.items()})
    if file is not None:
        _draw(file, [panel for examination in found.values() for panel in examination.curves()], source.name)
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
