"""Further data of a recipe, opened as the data itself was."""

from __future__ import annotations

from pathlib import Path

from autodidact.data import Source, open_source
from autodidact.data.open import write_skipped
from autodidact.data.schema import Schema


def opened_like(
    data: Source | str,
    first: Source,
    what: str,
    *,
    labels: str | None = None,
    quiet: bool = False,
    skipped: Path | None = None,
) -> Source:
    """Data with the same canvas, channels and coding of columns as the first; its labels are its own.

    Parameters
    ----------
    data : named as the data itself is, or a source.
    first : the data itself.
    what : what errors call it.
    labels : where labels come from; "none" for none.
    skipped : file in which what cannot be read is listed, beside what it has already.

    Raises
    ------
    ValueError : it is empty, a stream, or of images of another size.
    """
    image = first.schema.get("image")
    if not isinstance(data, Source):
        height, width = image.shape[1:] if image is not None and image.shape else (0, 0)
        like = Schema({name: field for name, field in first.schema.items() if field.kind not in ("label", "target")})
        data = open_source(
            data, labels=labels, canvas=(height, width) if height else None, like=like, progress=not quiet
        )
    if data.streaming or not len(data):
        raise ValueError(f"the {what} '{data.name}' is {'a stream' if data.streaming else 'empty'}")
    if skipped is not None and data.skipped:
        write_skipped(data, skipped, further=True)
    theirs = data.schema.get("image")
    if image is not None and theirs is not None and theirs.shape != image.shape:
        raise ValueError(
            f"images of the {what} are {theirs.shape}, those of '{first.name}' {image.shape}; make them alike"
        )
    return data
