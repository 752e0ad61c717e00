"""examine: what data looks like before anything is trained on it; `evaluate` without a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autodidact.data import Source, open_source
from autodidact.evaluation.protocols import Examination, choose_data
from autodidact.model.model import write_json
from autodidact.verbs.evaluate import names_of

AS_IT_IS = 4096
"""Side in pixels up to which images are read at their own size."""


def examine(
    data: str | Path | Source,
    *,
    protocols: str | Sequence[str] = "poison",
    json: str | Path | None = None,
    quiet: bool = False,
) -> dict[str, Examination]:
    """Examine data alone, without a model and without its labels.

    Images are read from their files at their own size; nothing is packed and nothing is written but `json`.

    Parameters
    ----------
    data : what to look at, see `autodidact.data.open_source`.
    protocols : names, as a sequence or separated by commas: "poison" looks for images that carry the same faint pattern
        at single frequencies.
    json : file that gets what was found, by protocol.
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
    source = open_source(data, labels="none", image_size=AS_IT_IS, cache=False, progress=not quiet)
    for protocol in chosen:
        source.schema.require(protocol.needs, f"protocol '{protocol.name}'")
    found = {protocol.name: protocol.examine(source, quiet=quiet) for protocol in chosen}
    if json is not None:
        Path(json).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(json), {name: examination.plain() for name, examination in found.items()})
    return found
