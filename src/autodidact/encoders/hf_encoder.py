"""Models of transformers as encoders: images, or sequences of token ids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from autodidact.catalog import unknown
from autodidact.catalog.extras import need
from autodidact.data.batch import Ragged
from autodidact.data.schema import Kind, Schema
from autodidact.encoders.image import ImageEncoder, image_spec
from autodidact.encoders.weights import load_weights
from autodidact.model import Encoded, Encoder, Masked


class HFImageEncoder(ImageEncoder):
    """An image model of transformers (`AutoModel`).

    ``pooled`` is the class token after the last norm where there is one, else the mean of the patch tokens or of the
    positions. ``taps`` index the layers as transformers' ``hidden_states`` do, the embeddings not counted.

    Parameters
    ----------
    spec : "config": the model's configuration as plain data; and what `ImageEncoder` needs.
    model : that model.

    Attributes
    ----------
    pooling : how the embedding comes out of what the model returns.
    """

    def __init__(self, spec: Mapping[str, Any], model: nn.Module) -> None:
        super().__init__(spec)
        self.model: Any = model
        config = model.config
        patch = getattr(config, "patch_size", None)
        self._patches: tuple[int, int] | None = None
        if isinstance(patch, int):
            self._patches = (self.image_size[0] // patch, self.image_size[1] // patch)
        training = model.training
        model.eval()
        with torch.no_grad():
            probe = self.model(pixel_values=torch.zeros(1, self.channels, *self.image_size), output_hidden_states=True)
        model.train(training)
        last = probe.last_hidden_state
        hidden = probe.hidden_states or ()
        self.pooling = "last_hidden_state.mean(dim=(2, 3))"
        self.width = int(last.shape[-1] if last.ndim == 3 else last.shape[1])
        self.depth = max(0, len(hidden) - 1)
        self.prefix_count = 0
        if last.ndim == 3:
            self.token_width = self.width
            patches = self._patches[0] * self._patches[1] if self._patches else last.shape[1]
            self.prefix_count = last.shape[1] - patches
            if self.prefix_count < 0:
                # A hierarchical model: its last tokens are fewer than its first patches.
                self.prefix_count, self._patches = 0, None
            self.pooling = "last_hidden_state[:, 0]" if self.prefix_count else "last_hidden_state.mean(dim=1)"
            self.map_shape = None if self._patches is None else (self.width, *self._patches)
        else:
            self.map_shape = (last.shape[1], last.shape[2], last.shape[3])

    def forward(
        self,
        inputs: Float[Tensor, "n c h w"],
        *,
        keep: Int[Tensor, "n k"] | None = None,
        masked: Masked | None = None,
        unplaced: Bool[Tensor, "n t"] | None = None,
        taps: Sequence[int] = (),
    ) -> Encoded:
        self.no_keep(keep)
        self.no_masked(masked)
        self.no_unplaced(unplaced)
        self.need_tap(taps)
        out = self.model(pixel_values=self.normalise(inputs), output_hidden_states=bool(taps))
        last = out.last_hidden_state
        tapped = {tap: out.hidden_states[tap + 1] for tap in taps}
        if last.ndim == 4:
            return Encoded(pooled=last.mean(dim=(2, 3)), map=last, taps=tapped)
        skip = self.prefix_count
        prefix, tokens = last[:, :skip], last[:, skip:]
        spatial = None if self._patches is None else tokens.transpose(1, 2).unflatten(2, self._patches)
        pooled = prefix[:, 0] if skip else tokens.mean(dim=1)
        tapped = {tap: value[:, skip:] if value.ndim == 3 else value for tap, value in tapped.items()}
        return Encoded(pooled=pooled, tokens=tokens, prefix=prefix, map=spatial, taps=tapped)


class HFSequenceEncoder(Encoder):
    """A sequence model of transformers (`AutoModel`) over token ids.

    ``pooled`` is the mean of the tokens that are not padding.

    Parameters
    ----------
    spec : "config": the model's configuration as plain data; "field": the name of the sequence field.
    model : that model.
    """

    accepts: Kind = "sequence"
    pooling = "mean of last_hidden_state where attention_mask is 1"

    def __init__(self, spec: Mapping[str, Any], model: nn.Module) -> None:
        super().__init__()
        self.spec = dict(spec)
        self.model: Any = model
        config: Any = model.config
        self.width = self.token_width = int(config.hidden_size)
        self.depth = int(config.num_hidden_layers)
        self.vocabulary = int(config.vocab_size)
        self.longest = int(getattr(config, "max_position_embeddings", 0) or 0)

    def prepare(self, fields: Mapping[str, Any]) -> tuple[Int[Tensor, "n t"], Bool[Tensor, "n t"]]:
        """Padded token ids and the mask of the real ones, from a `Ragged` or (n, t) field of ids."""
        field = self.spec["field"]
        if field not in fields:
            raise ValueError(f"{self.name} reads the field '{field}'; the batch has {', '.join(fields) or 'nothing'}")
        value = fields[field]
        if isinstance(value, Ragged):
            ids, mask = value.padded()
        else:
            ids, mask = value, torch.ones_like(value, dtype=torch.bool)
        ids = ids.long()
        if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= self.vocabulary):
            raise ValueError(
                f"{self.name} knows token ids 0 to {self.vocabulary - 1}, got {int(ids.min())} to {int(ids.max())}"
            )
        if self.longest and ids.shape[1] > self.longest:
            raise ValueError(f"{self.name} takes at most {self.longest} tokens, got {ids.shape[1]}; cut the sequences")
        return ids, mask

    def fits(self, schema: Schema) -> None:
        schema.require({self.spec["field"]: "sequence"}, self.name)

    def forward(
        self,
        inputs: tuple[Int[Tensor, "n t"], Bool[Tensor, "n t"]],
        *,
        keep: Int[Tensor, "n k"] | None = None,
        masked: Masked | None = None,
        unplaced: Bool[Tensor, "n t"] | None = None,
        taps: Sequence[int] = (),
    ) -> Encoded:
        self.no_keep(keep)
        self.no_masked(masked)
        self.no_unplaced(unplaced)
        self.need_tap(taps)
        ids, mask = inputs
        out = self.model(input_ids=ids, attention_mask=mask.long(), output_hidden_states=bool(taps))
        tokens = out.last_hidden_state
        weight = mask[..., None].to(tokens.dtype)
        pooled = (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        return Encoded(pooled=pooled, tokens=tokens, taps={tap: out.hidden_states[tap + 1] for tap in taps})


def build(
    name: str,
    args: Mapping[str, Any],
    *,
    schema: Schema | None = None,
    image_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    statistics: Any = None,
    pretrained: bool | str | Path = False,
) -> HFImageEncoder | HFSequenceEncoder:
    """A new encoder from a configuration of transformers.

    Parameters
    ----------
    name : "hf:" and a folder that holds config.json, an id on the hub (its cache is looked at first), or the type of a
        model ("hf:vit", "hf:bert"), which gives that type's default configuration.
    args : fields of the configuration that are to be different ("hidden_size", "num_hidden_layers", ...).
    pretrained : True for the weights behind the name; or the path of weights or of a folder.
    """
    transformers = need("transformers", "hf", name)
    where = name.removeprefix("hf:")
    config = _config(transformers, where, name)
    for key in args:
        if not hasattr(config, key):
            raise unknown(f"argument of {name}", key, config.to_dict())
    if args:
        fields = plain(config)
        # Names of stages follow from the other fields; stale ones would contradict the new depth.
        for derived in ("stage_names", "out_features", "out_indices"):
            fields.pop(derived, None)
        config = transformers.AutoConfig.for_model(fields.pop("model_type"), **{**fields, **args})
    if hasattr(config, "vocab_size") and not hasattr(config, "num_channels"):
        field = (schema.first("sequence") if schema is not None else None) or "sequence"
        spec = {"name": name, "args": dict(args), "field": field, "config": plain(config)}
    else:
        spec = image_spec(
            name,
            args,
            schema=schema,
            image_size=image_size,
            channels=channels,
            statistics=_statistics(transformers, where, pretrained, statistics),
            default_size=_side(config),
        )
        _set_shape(config, spec)
        spec["config"] = plain(config)
    if pretrained is False:
        return rebuild(spec)
    if pretrained is True:
        try:
            model = transformers.AutoModel.from_pretrained(where, config=config, trust_remote_code=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"no weights for {name}: {str(error).strip().splitlines()[0]}") from error
        return _encoder(spec, model)
    encoder = rebuild(spec)
    load_weights(encoder.model, Path(pretrained))
    return encoder


def rebuild(spec: Mapping[str, Any]) -> HFImageEncoder | HFSequenceEncoder:
    """The encoder of a spec, with weights at random."""
    transformers = need("transformers", "hf", str(spec["name"]))
    fields = dict(spec["config"])
    config = transformers.AutoConfig.for_model(fields.pop("model_type"), **fields)
    return _encoder(spec, transformers.AutoModel.from_config(config))


def _encoder(spec: Mapping[str, Any], model: Any) -> HFImageEncoder | HFSequenceEncoder:
    # transformers hands out models in eval mode.
    model.train()
    return HFImageEncoder(spec, model) if "image_size" in spec else HFSequenceEncoder(spec, model)


def _config(transformers: Any, where: str, name: str) -> Any:
    if not Path(where).exists() and where in transformers.CONFIG_MAPPING:
        return transformers.AutoConfig.for_model(where)
    try:
        return transformers.AutoConfig.from_pretrained(where, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"no model for {name}: {reason} (accepted: a folder with config.json, an id of the hub, a type like hf:vit)"
        ) from error


def plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON has it."""
    return dict(json.loads(json.dumps(config.to_dict())))


def _side(config: Any) -> int | None:
    size = getattr(config, "image_size", None)
    return size if isinstance(size, int) else size[0] if size else 224


def _set_shape(config: Any, spec: Mapping[str, Any]) -> None:
    height, width = spec["image_size"]
    if hasattr(config, "image_size"):
        config.image_size = height if height == width else [height, width]
    if hasattr(config, "num_channels"):
        config.num_channels = spec["channels"]
    patch = getattr(config, "patch_size", None)
    if isinstance(patch, int) and (height % patch or width % patch):
        divisors = [p for p in range(2, min(height, width) // 2 + 1) if height % p == 0 and width % p == 0]
        patches = " or ".join(f"--encoder.patch_size {p}" for p in divisors[-3:])
        raise ValueError(
            f"images of {height}x{width} pixels are not divisible by the patch size {patch} of {spec['name']}; use "
            f"{patches or 'another size'} or --image-size {-(-max(height, width) // patch) * patch}"
        )


def _statistics(transformers: Any, where: str, pretrained: bool | str | Path, statistics: Any) -> Any:
    """Pretrained weights expect the normalisation in their folder's preprocessor_config.json."""
    if pretrained is False:
        return statistics
    try:
        processor, _ = transformers.ImageProcessingMixin.get_image_processor_dict(where)
    except (OSError, ValueError):
        return statistics
    if "image_mean" not in processor:
        return statistics
    return {"mean": processor["image_mean"], "std": processor["image_std"]}
