"""The report: one HTML file that holds everything it shows and asks the network for nothing."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from autodidact.catalog import cards
from autodidact.data import open_source
from autodidact.data.source import Source
from autodidact.model import Model, load_model
from autodidact.model.model import write_aside
from autodidact.report.attention import attention
from autodidact.report.cloud import cloud
from autodidact.report.curves import curves
from autodidact.report.evaluations import evaluations
from autodidact.report.geometry import shape_of
from autodidact.report.headline import headline, title
from autodidact.report.made import made
from autodidact.report.markup import text
from autodidact.report.neighbours import neighbours
from autodidact.report.particulars import next_steps, settings
from autodidact.report.parts import parts as parts_found
from autodidact.report.rehearsal import Rehearsed, rehearsed
from autodidact.report.run_folder import RunFolder, read_run
from autodidact.report.samples import embedded, first_stream
from autodidact.report.scenes import scenes

REPORT = "report.html"
T = TypeVar("T")


def write_report(run: str | Path, *, source: Source | None = None, out: str | Path | None = None) -> Path:
    """Write the report of a run, finished or not.

    What cannot be shown (data that has moved, a model without embeddings, a part that fails) is said in the page; the
    rest is there all the same.

    Parameters
    ----------
    run : run folder.
    source : the data; by default it is opened as the run's config.yaml says.
    out : where the page goes; default ``report.html`` in the run folder.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    FileNotFoundError : the folder does not exist, or is not a run's.
    """
    found = read_run(run)
    target = Path(out) if out is not None else found.path / REPORT
    target.parent.mkdir(parents=True, exist_ok=True)
    write_aside(target, page(found, source).encode())
    return target


def page(run: RunFolder, source: Source | None = None) -> str:
    """The HTML of a run's report; see `write_report`."""
    having = _Having()
    if source is None and not run.of_language:
        source = having.try_("the data could not be opened again", lambda: _open(run))
    acting: list[Rehearsed] = []
    if source is not None:
        data = source
        acting = having.try_("the methods could not be brought back", lambda: rehearsed(run, data)) or []
    model = having.try_("the model could not be loaded", lambda: _model(run, acting))
    samples = shape = None
    if source is not None and model is not None:
        data, able = source, model
        samples = having.try_("the samples could not be embedded", lambda: embedded(able, data))
    if samples is not None and len(samples) > 1:
        rows = samples.embeddings
        shape = having.try_("the embeddings could not be measured", lambda: shape_of(rows))
    parts = [
        having.try_("the evaluations could not be shown", lambda: evaluations(run)),
        having.try_("what was made could not be shown", lambda: made(run)) if run.of_language else None,
        having.try_("the views could not be shown", lambda: scenes(acting)),
        having.try_("the curves could not be drawn", lambda: curves(run)),
    ]
    if samples is not None and source is not None:
        some, schema = samples, first_stream(source).schema
        parts.append(having.try_("the neighbours could not be shown", lambda: neighbours(some, schema)))
        if shape is not None:
            form, known = shape, cards().get(run.method)
            taught = known is not None and known.taught_by_labels
            parts.append(having.try_("the map could not be drawn", lambda: cloud(some, form, taught_by_labels=taught)))
    if source is not None and model is not None:
        data, able = source, model
        parts.append(having.try_("the parts could not be shown", lambda: parts_found(able, data)))
        parts.append(having.try_("the attention could not be shown", lambda: attention(able, data)))
    parts += [next_steps(run, model), settings(run, [*(source.notes if source is not None else ()), *run.notes])]
    body = "".join(part for part in parts if part)
    style = files("autodidact.report").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{text(title(run), 160)}</title><style>{style}</style></head><body>"
        f'<header><p class="brand">autodidact <span>report</span></p>'
        f"{headline(run, samples, shape, model, having.troubles)}</header><main>{body}</main></body></html>\n"
    )


class _Having:
    """Makes parts of the page; where one fails, says so in `troubles` and goes on."""

    def __init__(self) -> None:
        self.troubles: list[str] = []

    def try_(self, said: str, make: Callable[[], T]) -> T | None:
        try:
            return make()
        except Exception as failed:  # noqa: BLE001 - one part must not take the others with it; the page says what failed
            kind = "" if isinstance(failed, ValueError | FileNotFoundError) else f"{type(failed).__name__}: "
            self.troubles.append(f"{said[0].upper()}{said[1:]}: {kind}{failed}")
            return None


def _open(run: RunFolder) -> Source:
    config = run.config
    return open_source(
        config["data"],
        labels=config.get("labels"),
        image_size=config.get("image_size"),
        channels=config.get("channels"),
        cache=config.get("cache", True),
        progress=False,
    )


def _model(run: RunFolder, acting: list[Rehearsed]) -> Model | None:
    """The finished model; before that, what the last method with a checkpoint would keep; None before the first one."""
    if run.finished:
        return load_model(run.path)
    return acting[-1].method.kept().eval() if acting else None
