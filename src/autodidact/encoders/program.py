"""A kept model as a function of plain tensors, which is what other runtimes can hold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autodidact.encoders.hf_encoder import HFSequenceEncoder
from autodidact.encoders.image import ImageEncoder
from autodidact.encoders.kept import EncoderModel, PredictorModel, read_out
from autodidact.encoders.rows import Rows
from autodidact.encoders.tabular import TableEncoder
from autodidact.model import Encoder


class Program(nn.Module):
    """Tensors in, tensors out: normalisation, encoder, read-out and head of a model, without preparing a batch.

    Attributes
    ----------
    inputs : what `forward` takes, in order, as plain data: "name", "dtype", "shape" (free sizes by name), "values" in
        words, and what else there is to know ("mean" and "std" of the normalisation inside, "columns", "categories").
        Names are "images", "numeric", "categorical", "input_ids" and "attention_mask"; where a model joins encoders
        of different inputs, each begins with its slot. Encoders that all read the same have one input in common.
    outputs : names of what it returns: "embeddings" (n d), and for a predictor "predictions" (class probabilities, or
        values in the target's unit).
    """

    def __init__(self, model: EncoderModel | PredictorModel) -> None:
        super().__init__()
        self.model = model
        if isinstance(model, PredictorModel) or model.merge == "primary" or len(model.encoders) == 1:
            self.slots = {"": model.encoder}
        else:
            self.slots = {f"{slot}_": model[slot] for slot in model.encoders}
        first, *others = self.slots.values()
        self.shared = all(_reads(encoder) == _reads(first) for encoder in others)
        self.inputs: list[dict[str, Any]] = [
            {**entry, "name": entry["name"] if self.shared else prefix + entry["name"]}
            for prefix, encoder in self._read.items()
            for entry in _inputs(encoder)
        ]
        self.outputs = ("embeddings", "predictions") if isinstance(model, PredictorModel) else ("embeddings",)

    @property
    def _read(self) -> dict[str, Encoder]:
        """The encoders that have inputs of their own."""
        return dict(list(self.slots.items())[:1]) if self.shared else self.slots

    @property
    def names(self) -> list[str]:
        """Names of the inputs."""
        return [entry["name"] for entry in self.inputs]

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if isinstance(self.model, PredictorModel):
            return self.model.respond(_assembled(self.model.encoder, list(tensors)))
        left = list(tensors)
        parts = []
        for encoder in self.slots.values():
            own = left if self.shared else [left.pop(0) for _ in _inputs(encoder)]
            parts.append(read_out(encoder, _assembled(encoder, own), self.model.tap))
        return self.model.joined(parts)

    def example(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Random inputs of n samples, as different as real ones may be (missing values, padding)."""
        return tuple(tensor for encoder in self._read.values() for tensor in _example(encoder, n, generator))


def _reads(encoder: Encoder) -> tuple[str, list[dict[str, Any]]]:
    """What tells the inputs of two encoders apart: the field that they come from, and how they look."""
    return str(encoder.spec.get("field", "")), _inputs(encoder)


def _inputs(encoder: Encoder) -> list[dict[str, Any]]:
    if isinstance(encoder, ImageEncoder):
        shape = ["n", encoder.channels, *encoder.image_size]
        normalisation = {"mean": encoder.spec["mean"], "std": encoder.spec["std"]}
        return [{"name": "images", "dtype": "float32", "shape": shape, "values": "pixels in [0, 1]", **normalisation}]
    if isinstance(encoder, HFSequenceEncoder):
        tokens = {"dtype": "int64", "shape": ["n", "t"], "longest": encoder.longest or None}
        return [
            {"name": "input_ids", **tokens, "values": f"token ids below {encoder.vocabulary}"},
            {"name": "attention_mask", **tokens, "values": "1 where a token is real, 0 where it is padding"},
        ]
    if isinstance(encoder, TableEncoder):
        entries: list[dict[str, Any]] = []
        for name, dtype, columns, values in (
            ("numeric", "float32", encoder.numeric_names, "raw values, NaN where missing"),
            ("categorical", "int64", encoder.categorical_names, "number of the category, -1 where missing"),
        ):
            if columns:
                entry = {"name": name, "dtype": dtype, "shape": ["n", len(columns)], "values": values}
                entries.append({**entry, "columns": list(columns)})
        if encoder.categories:
            entries[-1]["categories"] = [list(names) for names in encoder.categories]
        return entries
    raise ValueError(f"{type(encoder).__name__} ({encoder.name}) cannot be exported: its inputs are not known")


def _assembled(encoder: Encoder, tensors: list[Tensor]) -> Any:
    if isinstance(encoder, TableEncoder):
        return Rows.of({entry["name"]: tensor for entry, tensor in zip(_inputs(encoder), tensors, strict=True)})
    if isinstance(encoder, HFSequenceEncoder):
        return tensors[0], tensors[1].bool()
    return tensors[0]


def _example(encoder: Encoder, n: int, generator: torch.Generator) -> list[Tensor]:
    if isinstance(encoder, ImageEncoder):
        return [torch.rand(n, encoder.channels, *encoder.image_size, generator=generator)]
    if isinstance(encoder, HFSequenceEncoder):
        length = min(7, encoder.longest or 7)
        ids = torch.randint(encoder.vocabulary, (n, length), generator=generator)
        mask = torch.ones_like(ids)
        mask[-1, length - 2 :] = 0
        return [ids, mask]
    assert isinstance(encoder, TableEncoder)
    tensors = []
    if encoder.numeric_names:
        unit = torch.rand(n, len(encoder.numeric_names), generator=generator)
        numeric = encoder.minimum.cpu() + unit * (encoder.maximum - encoder.minimum).cpu()
        tensors.append(numeric.masked_fill(unit < 0.1, float("nan")))
    if encoder.categorical_names:
        sizes = torch.tensor(encoder.cardinalities)
        tensors.append((torch.rand(n, len(sizes), generator=generator) * (sizes + 1)).long() - 1)
    return tensors
