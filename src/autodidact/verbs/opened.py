"""Opening a finished run, and data in the way that its model was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from autodidact.data import Source, open_source
from autodidact.data.labels import Task
from autodidact.data.schema import Field, Schema
from autodidact.data.texts import SUFFIXES as TEXTS
from autodidact.data.texts import text_source
from autodidact.encoders.kept import EncoderModel, PredictorModel
from autodidact.lm.kept import TextModel
from autodidact.model import Encoder, Model, load_model

CONFIG = "config.yaml"


def open_run(run: str | Path | Model) -> tuple[Model, Path | None]:
    """The model of a run folder (or of a model folder), and the folder; a model is returned as it is, without one."""
    if isinstance(run, Model):
        return run.eval(), None
    folder = Path(run)
    return load_model(folder), folder


def run_config(folder: Path | None) -> dict[str, Any]:
    """What was asked of the run; empty where the folder is not a run's."""
    if folder is None or not (folder / CONFIG).is_file():
        return {}
    return yaml.safe_load((folder / CONFIG).read_text()) or {}


def encoders_of(model: Model) -> list[Encoder]:
    """The encoders that a model reads its data with."""
    if isinstance(model, EncoderModel):
        return [encoder for encoder in model.encoders.values() if isinstance(encoder, Encoder)]
    return [model.encoder] if isinstance(model, PredictorModel) else []


def coding_of(model: Model) -> Schema | None:
    """The schema by which data must be coded for a model: channels of images, columns and categories of tables."""
    schema = Schema()
    for encoder in encoders_of(model):
        if "table" in encoder.spec:
            schema.update(Schema.from_plain(encoder.spec["table"]))
        elif encoder.accepts == "image":
            height, width = encoder.spec["image_size"]
            schema[encoder.spec.get("field", "image")] = Field("image", (encoder.spec["channels"], height, width))
    return schema or None


def open_data(
    model: Model,
    data: Any,
    folder: Path | None = None,
    *,
    labels: str | None = None,
    task: Task = "auto",
    split: str | None = None,
    like: Schema | None = None,
    cache: bool = True,
    by_position: bool = False,
    quiet: bool = False,
    skipped: Path | None = None,
) -> Source:
    """Open data for a model.

    Parameters
    ----------
    model : whose columns, categories and channels the data gets.
    data : anything that `autodidact.data.open_source` accepts, or a source.
    folder : of the run; the size at which it packed its images is used again.
    labels, task, split, cache, by_position, skipped : see `autodidact.data.open_source`.
    like : further fields to code alike, such as the classes of a label.

    Raises
    ------
    ValueError : the data cannot be given to the model.
    """
    if isinstance(model, TextModel) and isinstance(data, str | Path) and str(data).lower().endswith(TEXTS):
        return text_source(data)
    coding = Schema({**(coding_of(model) or {}), **(like or {})})
    size = run_config(folder).get("image_size")
    if size is None:
        sides = [max(encoder.spec["image_size"]) for encoder in encoders_of(model) if encoder.accepts == "image"]
        size = max(sides) if sides and folder is None else None
    source = open_source(
        data,
        labels=labels,
        task=task,
        split=split,
        image_size=size,
        like=coding or None,
        cache=cache,
        progress=not quiet,
        by_position=by_position,
        skipped=skipped,
    )
    for encoder in encoders_of(model):
        encoder.fits(source.schema)
    return source
