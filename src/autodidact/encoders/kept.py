"""What remains after training: encoders that embed, and predictors that name classes or values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autodidact.data.batch import Batch
from autodidact.encoders.build import build_from_spec
from autodidact.heads import LinearHead, projector
from autodidact.model import Ability, Encoded, Encoder, Model

Tap = int | Literal["mean", "flat", "pooled+mean"] | None


class EncoderModel(Model):
    """One or several encoders, by slot.

    Parameters
    ----------
    encoders : slot -> encoder.
    primary : slot of the one that `encoder` names; by default the first.
    merge : "primary" embeds with that one alone, "concat" with all of them side by side.
    tap : what the embedding is. None: the encoder's own pooled output; "mean": mean of the last tokens or positions;
        "flat": the last tokens side by side; "pooled+mean": the pooled output and that mean, side by side; a number:
        mean of that layer's tokens or positions.
    normalise : L2-normalise what each encoder gives. Side by side the cosine of two embeddings is then the mean of the
        encoders' own cosines.
    """

    kind: ClassVar[str] = "encoder"

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        *,
        primary: str | None = None,
        merge: Literal["primary", "concat"] = "primary",
        tap: Tap = None,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        if not encoders:
            raise ValueError("an encoder model needs at least one encoder")
        self.primary = primary or next(iter(encoders))
        if self.primary not in encoders:
            raise ValueError(f"no encoder in slot '{self.primary}'; there is {', '.join(encoders)}")
        if merge not in ("primary", "concat"):
            raise ValueError(f"merge must be primary or concat, got {merge!r}")
        self.merge, self.tap, self.normalise = merge, tap, normalise
        self.abilities: tuple[Ability, ...] = ("embed", *_of(encoders[self.primary]))
        self.encoders = nn.ModuleDict(encoders)

    @property
    def settings(self) -> dict[str, Any]:  # type: ignore[override]
        return {
            "encoders": {slot: encoder.spec for slot, encoder in self.encoders.items()},
            "primary": self.primary,
            "merge": self.merge,
            "tap": self.tap,
            "normalise": self.normalise,
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> EncoderModel:
        return cls(
            {slot: build_from_spec(spec) for slot, spec in settings["encoders"].items()},
            primary=settings["primary"],
            merge=settings["merge"],
            tap=settings["tap"],
            # Models of earlier versions do not say it.
            normalise=settings.get("normalise", False),
        )

    @property
    def encoder(self) -> Encoder:
        """The primary encoder."""
        return self[self.primary]

    def __getitem__(self, slot: str) -> Encoder:
        encoder = self.encoders[slot]
        assert isinstance(encoder, Encoder)
        return encoder

    def embed(self, batch: Batch) -> Float[Tensor, "n d"]:
        """One embedding a sample, float32."""
        slots = list(self.encoders) if self.merge == "concat" else [self.primary]
        return self.joined([read_out(self[slot], self[slot].prepare(batch.fields), self.tap) for slot in slots])

    def joined(self, parts: Sequence[Float[Tensor, "n _"]]) -> Float[Tensor, "n d"]:
        """The embedding, from what each encoder that takes part in it gives."""
        if self.normalise:
            parts = [torch.nn.functional.normalize(part.float()) for part in parts]
        return torch.cat(list(parts), dim=1).float()

    def parse(self, batch: Batch) -> dict[str, Tensor]:
        """Of the primary encoder's tokens ``saliency``, ``parent`` and ``part``, see `autodidact.model.Parsed`."""
        return _parsed(self.encoder, batch)

    def tokens(self, batch: Batch) -> Float[Tensor, "n t d"]:
        """The primary encoder's tokens (patches, columns, time steps); without tokens, the positions of its map."""
        encoded = self.encoder(self.encoder.prepare(batch.fields))
        return _tokens(encoded, self.encoder)


def read_out(encoder: Encoder, inputs: Any, tap: Tap = None) -> Float[Tensor, "n d"]:
    """The embedding of an encoder's inputs that `tap` names, see `EncoderModel`."""
    if isinstance(tap, int):
        tapped = encoder(inputs, taps=(tap,)).taps[tap]
        return tapped.mean(dim=(2, 3)) if tapped.ndim == 4 else tapped.mean(dim=1) if tapped.ndim == 3 else tapped
    encoded: Encoded = encoder(inputs)
    if tap in (None, "pooled+mean") and encoded.pooled is None:
        raise ValueError(f"{encoder.name} has no pooled embedding; use tap='mean'")
    if tap is None:
        assert encoded.pooled is not None
        return encoded.pooled
    tokens = _tokens(encoded, encoder)
    if tap == "flat":
        return tokens.flatten(1)
    mean = tokens.mean(dim=1)
    return mean if encoded.pooled is None or tap == "mean" else torch.cat([encoded.pooled, mean], dim=1)


def _of(encoder: Encoder) -> tuple[Ability, ...]:
    """Abilities of a model that are its encoder's."""
    return ("parse",) if encoder.finds_parts else ()


def _parsed(encoder: Encoder, batch: Batch) -> dict[str, Tensor]:
    return dict(vars(encoder.parse(encoder.prepare(batch.fields))))


def _tokens(encoded: Encoded, encoder: Encoder) -> Float[Tensor, "n t d"]:
    if encoded.tokens is not None:
        return encoded.tokens
    if encoded.map is not None:
        return encoded.map.flatten(2).transpose(1, 2)
    raise ValueError(f"{encoder.name} has neither tokens nor a map")


class ProjectedModel(EncoderModel):
    """An encoder and the projection head that it was pretrained with. It embeds by the encoder alone.

    Parameters
    ----------
    encoder : what embeds.
    head : arguments of `autodidact.heads.projector`.
    """

    kind: ClassVar[str] = "projected"

    def __init__(self, encoder: Encoder, *, head: Mapping[str, Any]) -> None:
        super().__init__({"encoder": encoder})
        self.head_args = dict(head)
        self.projector = projector(**self.head_args)

    @property
    def settings(self) -> dict[str, Any]:  # type: ignore[override]
        return {"encoder": self.encoder.spec, "head": self.head_args}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> ProjectedModel:
        return cls(build_from_spec(settings["encoder"]), head=settings["head"])


class PredictorModel(Model):
    """An encoder with a head: class probabilities, or values.

    Parameters
    ----------
    encoder : what embeds.
    tap, width : what the head reads, see `EncoderModel`, and its size; by default the encoder's own pooled output.
    neck : arguments of `autodidact.heads.projector`, whose layers then stand between that and the head; None for none.
        Embeddings are what the neck reads.
    classes : names of the classes, in the order of the label's integers; empty for a regression.
    outputs : number of regression values; ignored for classes.
    head : arguments of `LinearHead`.
    mean, std : of the training targets, which the head's outputs are scaled by.
    """

    kind: ClassVar[str] = "predictor"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: Encoder,
        *,
        tap: Tap = None,
        width: int | None = None,
        neck: Mapping[str, Any] | None = None,
        classes: Sequence[str] = (),
        outputs: int = 1,
        head: Mapping[str, Any] | None = None,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        super().__init__()
        if tap is not None and width is None:
            raise ValueError(f"the size of what tap={tap!r} reads is needed: give its width")
        if len(classes) == 1 or outputs < 1:
            raise ValueError("a predictor needs at least two classes, or at least one regression value")
        self.classes, self.outputs = tuple(classes), outputs
        self.head_args = dict(head or {})
        self.abilities: tuple[Ability, ...] = ("embed", "predict", *_of(encoder))
        self.encoder, self.tap, self.width = encoder, tap, width or encoder.width
        self.neck_args = None if neck is None else dict(neck)
        self.neck = nn.Sequential() if neck is None else projector(**neck)
        self.head = LinearHead(_out(self.neck, self.width), len(self.classes) or outputs, **self.head_args)
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("std", torch.tensor(float(std)))

    @property
    def settings(self) -> dict[str, Any]:  # type: ignore[override]
        return {
            "encoder": self.encoder.spec,
            "tap": self.tap,
            "width": self.width,
            "neck": self.neck_args,
            "classes": list(self.classes),
            "outputs": self.outputs,
            "head": self.head_args,
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> PredictorModel:
        return cls(
            build_from_spec(settings["encoder"]),
            tap=settings["tap"],
            width=settings["width"],
            # Predictors saved before necks came have no word of them.
            neck=settings.get("neck"),
            classes=settings["classes"],
            outputs=settings["outputs"],
            head=settings["head"],
        )

    def forward(self, inputs: Any) -> Float[Tensor, "n out"]:
        """Logits of the classes, or standardised values, of an encoder's inputs: what training descends on."""
        return self.head(self.neck(read_out(self.encoder, inputs, self.tap)))

    def embed(self, batch: Batch) -> Float[Tensor, "n d"]:
        return read_out(self.encoder, self.encoder.prepare(batch.fields), self.tap).float()

    def predict(self, batch: Batch) -> Float[Tensor, "n classes"] | Float[Tensor, " n"]:
        """Probabilities of the classes, which sum to 1; or the value in the target's unit, one a row for one output."""
        return self.respond(self.encoder.prepare(batch.fields))[1]

    def parse(self, batch: Batch) -> dict[str, Tensor]:
        """Of the encoder's tokens ``saliency``, ``parent`` and ``part``, see `autodidact.model.Parsed`."""
        return _parsed(self.encoder, batch)

    def respond(self, inputs: Any) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n classes"] | Float[Tensor, " n"]]:
        """Embeddings and answers of an encoder's inputs, encoded once."""
        embedding = read_out(self.encoder, inputs, self.tap).float()
        return embedding, self.answers(embedding)

    def answers(self, embedding: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"] | Float[Tensor, " n"]:
        """What `predict` says, of embeddings."""
        out = self.head(self.neck(embedding)).float()
        if self.classes:
            return out.softmax(dim=1)
        values = out * self.std + self.mean
        return values[:, 0] if self.outputs == 1 else values


def _out(neck: nn.Sequential, width: int) -> int:
    """Size of what a neck makes of `width` numbers."""
    return next((part.out_features for part in reversed(neck) if isinstance(part, nn.Linear)), width)
