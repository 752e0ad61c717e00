"""Any image model of timm as an encoder, at any size and number of channels."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from autodidact.catalog.extras import need
from autodidact.data.schema import Schema
from autodidact.encoders.image import ImageEncoder, image_spec
from autodidact.encoders.separable_positions import separate
from autodidact.model import Encoded, Masked
from autodidact.views import gather_tokens


class TimmEncoder(ImageEncoder):
    """A timm model without its classifier.

    ``pooled`` is what timm gives its classifier (class token or average, after the last norm). Vision transformers have
    ``tokens``, ``prefix`` (class, then register tokens) and ``map``; convolutional networks have ``map``. ``taps``
    index the blocks of a transformer (before its last norm), or the levels of a convolutional network. A vision
    transformer also takes images of another number of whole patches, as small views are: learned positions are
    interpolated then, rotary ones count patches, and there is no ``map``.

    Convolutional networks get their images channels last where that is faster: on CUDA, whose tensor cores need it, and
    on a CPU where convolutions of single channels are followed by batch norms (EfficientNet, MobileNet). Weights stay
    as timm has them.

    Parameters
    ----------
    spec : "timm": the model's name; "model_args": what `timm.create_model` gets beside it; "stem"; "separable", where
        positions are those of rows and columns; and what `ImageEncoder` needs.
    model : that model.
    """

    def __init__(self, spec: Mapping[str, Any], model: nn.Module) -> None:
        super().__init__(spec)
        self.model: Any = model
        self.prefix_count = int(getattr(model, "num_prefix_tokens", 0))
        self._patches = _grid(model)
        self.any_tokens = self.plain_vit or self.rotary_vit
        if self.plain_vit and self._patches is not None:
            patches: Any = model.patch_embed
            patches.strict_img_size = False
        self.channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        self.depth = len(getattr(model, "blocks", ())) if self.any_tokens else len(getattr(model, "feature_info", ()))
        self._convolutional = self._light = False
        with _evaluating(model), torch.no_grad():
            probe = self(torch.zeros(1, self.channels, *self.image_size))
        assert probe.pooled is not None
        self.width = probe.pooled.shape[1]
        self.token_width = 0 if probe.tokens is None else probe.tokens.shape[2]
        self.map_shape = None if probe.map is None else tuple(probe.map.shape[1:])
        self._convolutional = probe.map is not None and probe.tokens is None
        self._light = self._convolutional and _single_channels_then_batch_norm(model)

    @property
    def plain_vit(self) -> bool:
        """Whether the model is timm's VisionTransformer, whose blocks take any set of tokens."""
        from timm.models.vision_transformer import VisionTransformer

        return isinstance(self.model, VisionTransformer)

    @property
    def rotary_vit(self) -> bool:
        """Whether the model is timm's other plain vision transformer, with rotary positions in its attention."""
        from timm.models.eva import Eva

        return isinstance(self.model, Eva) and self.model.rope is not None and self.model.patch_drop is None

    @property
    def pools_class_token(self) -> bool:
        """Whether ``pooled`` is the class token, the first of the prefix."""
        return getattr(self.model, "global_pool", "") == "token"

    @property
    def patch_projection(self) -> nn.Module | None:
        return self.model.patch_embed if self.any_tokens else None

    def forward(
        self,
        inputs: Float[Tensor, "n c h w"],
        *,
        keep: Int[Tensor, "n k"] | None = None,
        masked: Masked | None = None,
        unplaced: Bool[Tensor, "n t"] | None = None,
        taps: Sequence[int] = (),
    ) -> Encoded:
        self.need_tap(taps)
        x = self.normalise(inputs)
        if self.any_tokens:
            return self._vit(x, keep, masked, unplaced, taps)
        self.no_keep(keep)
        self.no_masked(masked)
        self.no_unplaced(unplaced)
        if self._convolutional and (x.is_cuda or (self._light and x.device.type == "cpu")):
            x = x.contiguous(memory_format=torch.channels_last)
        if not taps:
            return self._encoded(self.model.forward_features(x), {})
        features, tapped = self.model.forward_intermediates(x, indices=sorted(set(taps)))
        return self._encoded(features, dict(zip(sorted(set(taps)), tapped, strict=True)))

    def _vit(
        self,
        x: Tensor,
        keep: Tensor | None,
        masked: Masked | None,
        unplaced: Tensor | None,
        taps: Sequence[int],
    ) -> Encoded:
        model, size = self.model, x.shape[2:]
        x = model.patch_embed(x)
        if masked is not None:
            # With dynamic_img_size timm still has a map here, channels last.
            x = masked.put(x.flatten(1, -2)).reshape(x.shape)
        turns: Sequence[Mapping[str, Tensor]] = [{}] * self.depth
        if self.rotary_vit:
            x, turns = self._turned(x, keep, unplaced)
        else:
            x = model.patch_drop(self._placed(x, size, unplaced))
        if keep is not None:
            x = torch.cat((x[:, : self.prefix_count], gather_tokens(x[:, self.prefix_count :], keep)), dim=1)
        x = model.norm_pre(x)
        tapped = {}
        for index, (block, turn) in enumerate(zip(model.blocks, turns, strict=True)):
            x = block(x, **turn)
            if index in taps:
                tapped[index] = x[:, self.prefix_count :]
        return self._encoded(model.norm(x), tapped)

    def _placed(self, x: Tensor, size: Sequence[int], unplaced: Tensor | None) -> Tensor:
        """Prefix tokens and patches with their positions, which are interpolated for images of another size."""
        model, patches = self.model, self._patches
        if unplaced is not None and (model.pos_embed is None or patches is None):
            self.no_unplaced(unplaced)
        elsewhere = x.ndim == 3 and tuple(size) != self.image_size
        if model.pos_embed is None or patches is None or (unplaced is None and not elsewhere):
            # With dynamic_img_size timm interpolates by itself.
            return model._pos_embed(x)
        from timm.layers import resample_abs_pos_embed

        x = x.flatten(1, -2)
        placed_prefix = 0 if model.no_embed_class else self.prefix_count
        positions = resample_abs_pos_embed(
            model.pos_embed,
            new_size=[patches[axis] * size[axis] // self.image_size[axis] for axis in (0, 1)],
            old_size=list(patches),
            num_prefix_tokens=placed_prefix,
        )
        own = positions[:, placed_prefix:]
        if unplaced is not None:
            own = own.masked_fill(unplaced.to(x.device)[..., None], 0.0)
        prefix = [token.expand(len(x), -1, -1) for token in (model.cls_token, model.reg_token) if token is not None]
        if placed_prefix:
            prefix = [torch.cat(prefix, dim=1) + positions[:, :placed_prefix]]
        return model.pos_drop(torch.cat([*prefix, x + own], dim=1))

    def _turned(
        self, x: Tensor, keep: Tensor | None, unplaced: Tensor | None
    ) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Prefix tokens and patches, and for every block how it turns queries and keys of the kept ones by position."""
        model = self.model
        if unplaced is not None and model.pos_embed is not None:
            self.no_unplaced(unplaced)
        x, turn = model._pos_embed(x)
        if unplaced is not None:
            # Sines, then cosines: a patch without a position is not turned.
            still = torch.zeros_like(turn)
            still[..., turn.shape[-1] // 2 :] = 1.0
            lifted = unplaced.to(x.device).view(len(x), *[1] * (turn.ndim - 2), -1, 1)
            turn = torch.where(lifted, still, turn)
        if keep is not None:
            from timm.layers import apply_keep_indices_nlc

            turn = apply_keep_indices_nlc(x, turn, keep.to(x.device), pos_embed_has_batch=unplaced is not None)
        batched = keep is not None or unplaced is not None
        if not model.rope_mixed:
            return x, [{"rope": turn[:, None] if batched else turn}] * self.depth
        return x, [{"rope": each} for each in turn.unbind(1 if batched else 0)]

    def _encoded(self, features: Tensor, taps: dict[int, Tensor]) -> Encoded:
        pooled = self.model.forward_head(features, pre_logits=True)
        if features.ndim == 4:
            channels_first = features.permute(0, 3, 1, 2) if self.channels_last else features
            tokens = channels_first.flatten(2).transpose(1, 2) if self.channels_last else None
            return Encoded(pooled=pooled, tokens=tokens, map=channels_first, taps=taps)
        if features.ndim != 3:
            return Encoded(pooled=pooled, taps=taps)
        prefix, tokens = features[:, : self.prefix_count], features[:, self.prefix_count :]
        spatial = None
        if self._patches is not None and self._patches[0] * self._patches[1] == tokens.shape[1]:
            spatial = tokens.transpose(1, 2).unflatten(2, self._patches)
        return Encoded(pooled=pooled, tokens=tokens, prefix=prefix, map=spatial, taps=taps)


def build(
    name: str,
    args: Mapping[str, Any],
    *,
    schema: Schema | None = None,
    image_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    statistics: Any = None,
    pretrained: bool | str | Path = False,
) -> TimmEncoder:
    """A new encoder.

    Small images (at most 64 pixels, no pretrained weights) would leave most convolutional networks a map of one
    position. Unless ``stem="plain"`` asks for the network as it is, and unless the arguments already say otherwise:

    - a ResNet with the 7x7 stem gets a 3x3 convolution of stride 1 and no max-pool (as SimCLR's appendix B.9 does for
      CIFAR-10), and below 9 pixels ``output_stride=16``; ``stem="small"`` asks for it at any size;
    - another network whose map would be 1x1, or which would not run at all, gets the first of ``output_stride=8``,
      ``patch_size=1`` (ConvNeXt) and ``output_stride=16`` that it knows and that gives a larger map.

    The small stem costs about six times the computation of the plain one at 28 pixels, for a map of 4x4 positions
    instead of one. What was chosen is written into the spec.

    Parameters
    ----------
    name : as it was typed.
    args : further arguments of the model ("patch_size", "drop_path_rate", "global_pool", ...), and "stem": "auto",
        "plain" or "small".
    pretrained : True for timm's own weights (from its cache or the hub), or the path of a safetensors or pth file, or
        of a folder that holds model.safetensors.
    """
    timm = need("timm", "vision", name)
    timm_name = name.removeprefix("timm:")
    if not timm.is_model(timm_name.split(".")[0]):
        close = get_close_matches(timm_name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(f'timm:{c}' for c in close)}?" if close else ""
        raise ValueError(f"timm has no model '{timm_name}'{hint} (`timm.list_models()` lists them all)")
    default = timm.get_pretrained_cfg(timm_name)
    weights = _weights(pretrained, name)
    if weights is not None and default is not None and default.mean:
        # Weights expect the normalisation they were trained with, whatever the data looks like.
        statistics = _for_channels(default, channels or _channels(schema))
    args = dict(args)
    stem = args.pop("stem", "auto")
    if stem not in ("auto", "plain", "small"):
        raise ValueError(f"stem must be auto, plain or small, got {stem!r}")
    if "img_size" in args:
        raise ValueError("the image size is set by image_size (--image-size PX), not by img_size")
    size = default.input_size[-1] if default is not None and default.input_size else 224
    spec = image_spec(
        name,
        args,
        schema=schema,
        image_size=image_size,
        channels=channels,
        statistics=statistics,
        default_size=size,
    )
    return build_sized(spec, timm_name, args, "plain" if weights is not None and stem == "auto" else stem, weights)


def build_sized(
    spec: Mapping[str, Any],
    timm_name: str,
    args: Mapping[str, Any],
    stem: str = "auto",
    weights: Mapping[str, Any] | None = None,
) -> TimmEncoder:
    """The encoder of a timm model once size, channels and normalisation are known: completes the spec."""
    timm = need("timm", "vision", str(spec["name"]))
    spec = {**spec, "timm": timm_name}
    spec["model_args"], spec["stem"] = _fitted(timm, spec, dict(args), stem)
    return TimmEncoder(spec, _create(timm, spec, weights))


def rebuild(spec: Mapping[str, Any]) -> TimmEncoder:
    """The encoder of a spec, with weights at random."""
    return TimmEncoder(spec, _create(need("timm", "vision", str(spec["name"])), spec))


def _create(timm: Any, spec: Mapping[str, Any], weights: Mapping[str, Any] | None = None) -> nn.Module:
    """The timm model of a spec; with `weights`, those of timm or of a file."""
    args = {key: tuple(value) if isinstance(value, list) else value for key, value in spec["model_args"].items()}
    try:
        model = timm.create_model(
            spec["timm"],
            pretrained=weights is not None,
            pretrained_cfg_overlay=weights or None,
            num_classes=0,
            in_chans=spec["channels"],
            **args,
        )
    except (OSError, RuntimeError) as error:
        if weights is None:
            raise
        where = weights.get("file", "timm's cache or the hub")
        raise ValueError(f"no weights for {spec['name']} from {where}: {_one_line(error)}") from error
    if spec["stem"] == "small":
        small_stem(model)
    if spec.get("separable"):
        separate(model)
    return model


def small_stem(model: Any) -> None:
    """Replace a ResNet's 7x7 stride-2 stem and its max-pool by a 3x3 convolution of stride 1, in place."""
    old = model.conv1
    model.conv1 = nn.Conv2d(old.in_channels, old.out_channels, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()


def _single_channels_then_batch_norm(model: nn.Module) -> bool:
    parts = list(model.modules())
    single = any(isinstance(part, nn.Conv2d) and part.groups == part.in_channels > 1 for part in parts)
    return single and any(isinstance(part, nn.BatchNorm2d) for part in parts)


def _has_plain_stem(model: Any) -> bool:
    from timm.models.resnet import ResNet

    return (
        isinstance(model, ResNet)
        and isinstance(model.conv1, nn.Conv2d)
        and model.conv1.kernel_size == (7, 7)
        and isinstance(model.maxpool, nn.MaxPool2d)
    )


_FITS: dict[str, tuple[dict[str, Any], str]] = {}


def _fitted(timm: Any, spec: Mapping[str, Any], args: dict[str, Any], stem: str) -> tuple[dict[str, Any], str]:
    """Arguments and stem with which the model takes images of the spec's size; see `build`. Finding them builds the
    model at least once more, without memory but with all its modules, so what was found is kept."""
    asked = [spec["timm"], spec["channels"], list(spec["image_size"]), args, stem]
    key = json.dumps(asked, sort_keys=True, default=repr)
    if key not in _FITS:
        _FITS[key] = _fit(timm, spec, args, stem)
    found, stem = _FITS[key]
    return copy.deepcopy(found), stem


def _fit(timm: Any, spec: Mapping[str, Any], args: dict[str, Any], stem: str) -> tuple[dict[str, Any], str]:
    height, width = spec["image_size"]
    args, model = _with_size(timm, spec, args)
    attempt = {**spec, "model_args": args, "stem": "plain"}
    if stem == "small" and not _has_plain_stem(model):
        raise ValueError(f"stem='small' is for ResNets with a 7x7 stem; {spec['name']} has another")
    _check_patch(model, spec)
    small = min(height, width) <= 64
    if stem == "small" or (stem == "auto" and small and _has_plain_stem(model) and "output_stride" not in args):
        with torch.device("meta"):
            small_stem(model)
        if "output_stride" not in args and _positions(model, spec)[0] <= 1:
            args = {**args, "output_stride": 16}
        return args, "small"
    found, why = _positions(model, spec)
    if stem == "auto" and small and found <= 1 and not hasattr(model, "blocks"):
        for remedy in ({"output_stride": 8}, {"patch_size": 1}, {"output_stride": 16}):
            if set(remedy) & set(args):
                continue
            better = _try(timm, {**attempt, "model_args": {**args, **remedy}})
            if better > found:
                return {**args, **remedy}, "plain"
    if found:
        return args, "plain"
    sides = (16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256, 384)
    works = (s for s in sides if s > min(height, width) and _try(timm, {**attempt, "image_size": [s, s]}))
    smallest = next(works, None)
    advice = f"the smallest it takes is about {smallest} (--image-size {smallest})" if smallest else "try another size"
    raise ValueError(
        f"{spec['name']} does not run on images of {height}x{width} pixels ({why}); {advice}, "
        "or use a network made for small images, such as small:convnet"
    )


def _with_size(timm: Any, spec: Mapping[str, Any], args: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The arguments, with img_size where the model has one (transformers, mixers), and the model without memory."""
    sized = {**args, "img_size": list(spec["image_size"])}
    with torch.device("meta"):
        try:
            return sized, _create(timm, {**spec, "model_args": sized, "stem": "plain"})
        except TypeError as error:
            if "img_size" not in str(error):
                raise _unknown_argument(timm, spec, error) from error
        except AssertionError as error:
            raise ValueError(f"{spec['name']} cannot be built for {spec['image_size']}: {_one_line(error)}") from error
        return args, _create_named(timm, {**spec, "model_args": args, "stem": "plain"})


def _create_named(timm: Any, spec: Mapping[str, Any]) -> nn.Module:
    try:
        return _create(timm, spec)
    except TypeError as error:
        raise _unknown_argument(timm, spec, error) from error


def _unknown_argument(timm: Any, spec: Mapping[str, Any], error: TypeError) -> ValueError:
    with torch.device("meta"):
        plain = timm.create_model(spec["timm"], num_classes=0)
    known = [name for name in inspect.signature(type(plain).__init__).parameters if name not in ("self", "kwargs")]
    wrong = [name for name in spec["args"] if name not in known]
    close = get_close_matches(wrong[0], known, n=1) if wrong else []
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return ValueError(f"{spec['name']} does not take these arguments: {_one_line(error)}{hint}")


def _check_patch(model: Any, spec: Mapping[str, Any]) -> None:
    """timm silently drops the pixels that do not fill a patch; here that is an error."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if patch is None or getattr(model.patch_embed, "dynamic_img_pad", False):
        return
    patch = (patch, patch) if isinstance(patch, int) else tuple(patch)
    height, width = spec["image_size"]
    if height % patch[0] == 0 and width % patch[1] == 0 and height > patch[0]:
        return
    if height % patch[0] or width % patch[1]:
        problem = f"images of {height}x{width} pixels are not divisible by the patch size {patch[0]} of {spec['name']}"
    else:
        problem = f"images of {height}x{width} pixels are a single patch of {spec['name']}"
    divisors = [p for p in range(2, min(height, width) // 2 + 1) if height % p == 0 and width % p == 0]
    nearest = sorted(divisors, key=lambda p: (abs(max(height, width) / p - 7), p))[:2]
    larger = max(2, -(-max(height, width) // patch[0])) * patch[0]
    # Our own names of networks that timm makes have our own names of their arguments.
    option = "patch_size" if spec["name"].startswith("timm:") else "patch"
    patches = "".join(f"--encoder.{option} {p}, " for p in nearest)
    raise ValueError(f"{problem}; use {patches}or --image-size {larger}")


def _positions(model: Any, spec: Mapping[str, Any]) -> tuple[int, str]:
    """Number of positions of the last map (0 where the model does not run), and why it does not."""
    try:
        # Shapes are all that is asked, so nothing is computed: the model is on the meta device.
        with _evaluating(model), torch.no_grad():
            features = model.forward_features(torch.empty(1, spec["channels"], *spec["image_size"], device="meta"))
    except (RuntimeError, AssertionError, ValueError) as error:
        return 0, _one_line(error)
    if features.ndim == 4:
        spatial = features.shape[1:3] if getattr(model, "output_fmt", "NCHW") == "NHWC" else features.shape[2:]
        return spatial[0] * spatial[1], ""
    return int(features.shape[1]) if features.ndim == 3 else 1, ""


def _try(timm: Any, spec: Mapping[str, Any]) -> int:
    args = dict(spec["model_args"])
    if "img_size" in args:
        args["img_size"] = list(spec["image_size"])
    try:
        with torch.device("meta"):
            model = _create(timm, {**spec, "model_args": args})
    except (TypeError, AssertionError, RuntimeError, ValueError):
        return 0
    return _positions(model, spec)[0]


def _grid(model: Any) -> tuple[int, int] | None:
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    return None if grid is None else (int(grid[0]), int(grid[1]))


class _evaluating:
    """A module in eval mode for a while."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.training = module, module.training

    def __enter__(self) -> None:
        self.module.eval()

    def __exit__(self, *_: object) -> None:
        self.module.train(self.training)


def _weights(pretrained: bool | str | Path, name: str) -> dict[str, Any] | None:
    """How timm is told where weights come from: {} for its own, {"file": path}, or None for random ones."""
    if pretrained is False or pretrained is None:
        return None
    if pretrained is True:
        return {}
    path = Path(pretrained)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"no weights for {name} at {path}")
    return {"file": str(path)}


def _channels(schema: Schema | None) -> int | None:
    field = schema.first("image") if schema is not None else None
    return schema[field].shape[0] if schema is not None and field and schema[field].shape else None


def _for_channels(config: Any, channels: int | None) -> dict[str, Any]:
    """Mean and std of pretrained weights; their averages for another number of channels, as timm adapts the weights."""
    if channels in (None, len(config.mean)):
        return {"mean": list(config.mean), "std": list(config.std)}
    average: Any = lambda values: [sum(values) / len(values)]  # noqa: E731
    return {"mean": average(config.mean), "std": average(config.std)}


def _one_line(error: BaseException) -> str:
    lines: Iterable[str] = str(error).strip().splitlines() or [type(error).__name__]
    return next(iter(lines)).rstrip(".")
