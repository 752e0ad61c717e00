"""The top of the page: what was done, how it stands, and what a person must know before trusting it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from autodidact.catalog import cards
from autodidact.model import Model
from autodidact.report.geometry import Shape
from autodidact.report.markup import duration, fold, number, paragraph, table, text
from autodidact.report.run_folder import RunFolder
from autodidact.report.samples import Samples
from autodidact.training.monitors import left_out_knn

SHOWN_SKIPPED = 200
NEIGHBOURS = 10


def title(run: RunFolder) -> str:
    """ "SimCLR (NT-Xent) on digits", not escaped."""
    known = cards().get(run.method)
    return f"{known.title if known else run.method} on {run.data}"


def headline(
    run: RunFolder, samples: Samples | None, shape: Shape | None, model: Model | None, troubles: Sequence[str]
) -> str:
    """Title, one sentence, warnings, and the figures that matter most.

    Parameters
    ----------
    samples, shape, model : what could be had of them.
    troubles : what could not be had, in plain words.
    """
    known = cards().get(run.method)
    return "".join(
        (
            f"<h1>{text(title(run), 160)}</h1>",
            paragraph(_story(run), "story"),
            paragraph(known.summary, "lead") if known else "",
            _verdict(run, shape),
            *(paragraph(trouble, "notice warning") for trouble in troubles),
            _skipped(run),
            f'<dl class="tiles">{_tiles(run, samples, shape, model)}</dl>',
        )
    )


def _story(run: RunFolder) -> str:
    many = run.record.get("samples")
    of = "examples" if run.of_language else "samples"
    what = f"{many:,} {of}" if isinstance(many, int) else of
    if run.finished:
        seconds = run.record.get("seconds")
        took = f" in {duration(seconds)}" if isinstance(seconds, int | float) else ""
        return f"Trained on {what}{took}{_how_long(run)}."
    last = run.trainings[-1] if run.trainings else None
    where = f" of stage “{last.name}”" if last is not None and last.name else ""
    if last is None or last.total == 0:
        return f"Training on {what} has begun, and has not written a checkpoint yet."
    return (
        f"Training on {what} is not finished: the newest checkpoint{where} stands at update {last.updates:,} of "
        f"{last.total:,}, and this page shows the model as it is there. The same command goes on from it."
    )


def _how_long(run: RunFolder) -> str:
    settings = run.config.get("settings") or {}
    if settings.get("steps"):
        return f" ({settings['steps']:,} updates)"
    if settings.get("tokens"):
        return f" ({settings['tokens']:,} tokens through encoders)"
    passes = settings.get("epochs")
    return f" ({passes:,} pass{'es' if passes > 1 else ''} over the data)" if passes else ""


def _verdict(run: RunFolder, shape: Shape | None) -> str:
    if shape is None:
        return ""
    if shape.verdict is not None:
        return paragraph(shape.verdict, "notice warning")
    return paragraph(
        f"No sign of collapse: samples differ in {number(shape.centred_rank)} effective directions"
        f" (of {shape.possible:,} possible)" + (" so far." if not run.finished else "."),
        "notice good",
    )


def _skipped(run: RunFolder) -> str:
    count = len(run.skipped)
    if not count:
        return ""
    rows = [
        (
            text(f"{row['data']}: {row.get('name', '?')}" if "data" in row else row.get("name", "?"), 120),
            text(row.get("reason", "?"), 200),
        )
        for row in run.skipped[:SHOWN_SKIPPED]
    ]
    more = paragraph(f"and {count - SHOWN_SKIPPED:,} more in skipped.jsonl") if count > SHOWN_SKIPPED else ""
    said = f"{count:,} file{'s' if count > 1 else ''} could not be read and {'were' if count > 1 else 'was'} left out"
    inside = table(("file", "why"), rows, label="Files that were left out", kind="plain") + more
    return f'<div class="notice warning">{fold(said, inside)}</div>'


def _tiles(run: RunFolder, samples: Samples | None, shape: Shape | None, model: Model | None) -> str:
    tiles: list[tuple[str, str, str]] = []
    encoder = run.record.get("encoder") or run.config.get("encoder")
    if encoder:
        named = encoder.values() if isinstance(encoder, dict) else [encoder]
        size = f"{sum(p.numel() for p in model.parameters()):,} weights" if model is not None else ""
        tiles.append(("Encoder", ", ".join(dict.fromkeys(str(name) for name in named)), size))
    if samples is not None:
        tiles.append(("Embedding", f"{samples.embeddings.shape[1]:,}", "numbers for each sample"))
    if shape is not None:
        said = f"of {shape.possible:,}, around the mean; {number(shape.rankme)} with it (RankMe)"
        tiles.append(("Effective rank", number(shape.centred_rank), said))
    if samples is not None and samples.labels is not None and len(samples) > NEIGHBOURS:
        rows, labels = samples.embeddings, torch.from_numpy(samples.labels)
        accuracy = left_out_knn(rows, torch.arange(len(rows)), labels, NEIGHBOURS)
        tiles.append(("kNN accuracy", f"{accuracy:.1%}", f"{NEIGHBOURS} neighbours vote, the sample itself left out"))
    if (loss := run.last("loss")) is not None:
        tiles.append(("Loss", number(loss), "at the last look"))
    if run.record.get("started"):
        version = (run.record.get("versions") or {}).get("autodidact", "?")
        day, _, clock = str(run.record["started"]).partition("T")
        tiles.append(("Started", day, f"at {clock[:5]}, with autodidact {version}"))
    return "".join(
        f"<div><dt>{text(called)}</dt><dd>{text(value)}</dd><dd>{text(said)}</dd></div>"
        for called, value, said in tiles
    )
