"""What recipes share that teach a language model which of two answers is better."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autodidact.data import ArraySource, Field, Store
from autodidact.data.ids import row_ids
from autodidact.data.schema import Schema
from autodidact.lm.kept import LanguageModel
from autodidact.lm.local import LocalLM
from autodidact.methods.language.dpo import DPO, REFERENCES
from autodidact.model.model import write_aside
from autodidact.recipes.stages import Site

PAIRS = "pairs.jsonl"
Pair = tuple[str, str, str]
"""A prompt, the better completion of it, and the worse one."""


def differing(pairs: Sequence[Pair]) -> tuple[list[Pair], int]:
    """The pairs whose answers differ, and how many do not: two answers that are the same teach nothing."""
    kept = [pair for pair in pairs if pair[1].strip() != pair[2].strip()]
    return kept, len(pairs) - len(kept)


def read_preferences(path: str | Path) -> tuple[list[Pair], Counter[str]]:
    """Preferences that somebody else collected: JSON lines of ``prompt`` (or ``input``), ``chosen`` and ``rejected``.

    Such files are large and never quite clean, so that a bad line is left out and counted, not an error. Further fields
    are not looked at, blank lines are no rows.

    Returns
    -------
    The preferences in the order of the file, without spaces around the answers; and how many lines were left out, by
    reason.

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : it does not end in .jsonl, is not UTF-8 text, or no line of it is left; with the reasons.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file of preferences: {path}")
    if path.suffix.lower() != ".jsonl":
        raise ValueError(f"preferences are read from .jsonl, not from '{path.name}'")
    kept, bad = list[Pair](), Counter[str]()
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if not line.strip():
                    continue
                found = _preference(line)
                if isinstance(found, str):
                    bad[found] += 1
                else:
                    kept.append(found)
    except UnicodeDecodeError as broken:
        raise ValueError(f"{path} is not UTF-8 text: {broken.reason} at byte {broken.start}") from broken
    if not kept:
        reasons = "; ".join(f"{count} {reason}" for reason, count in bad.most_common())
        raise ValueError(f"no preference is left of {path} ({reasons or 'it is empty'})")
    return kept, bad


def _preference(line: str) -> Pair | str:
    """What a line says, or why it is left out."""
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
        return "not JSON"
    if not isinstance(row, dict):
        return "not an object"
    texts: dict[str, Any] = {
        "prompt": row.get("prompt", row.get("input")),
        **{name: row.get(name) for name in ("chosen", "rejected")},
    }
    for name, text in texts.items():
        if not isinstance(text, str):
            return f"without a text '{name}'"
    prompt, chosen, rejected = texts["prompt"], texts["chosen"].strip(), texts["rejected"].strip()
    if not chosen or not rejected:
        return "with an empty answer"
    return "with the same answer twice" if chosen == rejected else (prompt, chosen, rejected)


def pair_source(name: str, pairs: Sequence[Pair], references: Sequence[Sequence[float]] = ()) -> ArraySource:
    """Pairs as data to train on.

    Parameters
    ----------
    references : of each pair the log-probabilities (nats) of the chosen and the rejected answer under what the model is
        held to; none where that is a model.
    """
    named = zip(("prompt", "chosen", "rejected"), zip(*pairs, strict=True), strict=True)
    columns: dict[str, Any] = {field: list(texts) for field, texts in named}
    schema = Schema({field: Field("text") for field in columns})
    if len(references):
        columns |= zip(REFERENCES, np.asarray(references, dtype=np.float32).T, strict=True)
        schema |= {field: Field("target") for field in REFERENCES}
    return ArraySource(name, columns, schema, row_ids(name, "", len(pairs)))


def pairs_of(store: Store) -> tuple[list[Pair], list[tuple[float, float]]]:
    """The columns "prompt", "chosen" and "rejected" of a store, and those of the references."""
    texts = [store.column(name) for name in ("prompt", "chosen", "rejected")]
    numbers = [np.asarray(store.column(name)).tolist() for name in REFERENCES]
    return list(zip(*texts, strict=True)), list(zip(*numbers, strict=True))


def write_pairs(folder: Path, pairs: Sequence[Pair]) -> None:
    """Write into a run folder which answers the model is to prefer: JSON objects of prompt, chosen and rejected.

    DPOTrainer of trl reads it as it is, by ``load_dataset("json", data_files=...)``. Where all texts of a column are
    dates alone, `datasets` makes times of them. axolotl hands the same texts to that trainer by this configuration::

        rl: dpo
        datasets:
          - path: pairs.jsonl
            ds_type: json
            split: train
            type:
              field_prompt: prompt
              field_chosen: chosen
              field_rejected: rejected
              prompt_format: "{prompt}"
              chosen_format: "{chosen}"
              rejected_format: "{rejected}"
    """
    rows = [dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in pairs]
    write_aside(folder / PAIRS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def preferred(site: Site, stage: str, student: LocalLM, store: Store, options: Mapping[str, Any]) -> LanguageModel:
    """Train a language model on the pairs of a store, inside a stage, and keep it with the task."""
    pairs, references = pairs_of(store)
    source = pair_source(stage, pairs, references)
    settings = replace(site.settings, batch_size=min(site.settings.batch_size, len(source)))
    kept = site.train(stage, DPO(student, reference="recorded", **options), source, settings)
    assert isinstance(kept, LanguageModel)
    return LanguageModel(kept.lm, site.task)
