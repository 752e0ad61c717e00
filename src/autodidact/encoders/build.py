"""Names to encoders, and specs back to the same encoders."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from autodidact.catalog import unknown
from autodidact.data.schema import Schema
from autodidact.model import Encoder

SMALL = (
    "small:convnet",
    "small:convpool",
    "small:denoiser",
    "small:dependency_vit",
    "small:mlp",
    "small:resnet",
    "small:scatnet",
    "small:tabular",
    "small:vit",
)


def build(
    name: str | Mapping[str, Any],
    *,
    schema: Schema | None = None,
    image_size: int | Sequence[int] | None = None,
    channels: int | None = None,
    statistics: Any = None,
    pretrained: bool | str | Path = False,
    **args: Any,
) -> Encoder:
    """An encoder by name, its weights from torch's global generator (seed it before) unless pretrained.

    Parameters
    ----------
    name : one of

        - ``timm:NAME``, any image model of timm at any size and number of channels;
        - ``hf:ID`` or ``hf:FOLDER``, a model of transformers for images or sequences;
        - ``small:convnet``, ``small:vit``, ``small:convpool``, ``small:scatnet``: for small images;
        - ``small:dependency_vit``: a vision transformer that says which patch depends on which;
        - ``small:denoiser``: an MLP that says the noise in small images, for diffusion;
        - ``small:resnet``: a residual network of any width, with selective kernels if wanted, for images of any size;
        - ``small:tabular``, ``small:mlp``: for tables;

        with arguments appended as in ``small:convnet?width=64&layers=5`` if wanted; or the spec of an encoder, which
        gives the same network with weights at random.
    schema : fields of the data; tells channels, image size and columns.
    image_size : side or (height, width) of the input in pixels; by default that of the schema, else the model's own.
    channels : number of image channels; by default that of the schema, else 3.
    statistics : "mean" and "std" per channel of images in [0, 1], or "minimum" and "maximum" per numeric column; as a
        mapping, as attributes, or the pair (mean, std).
    pretrained : True for the weights behind the name; or the path of a safetensors or pth file, or a folder with one.
    **args : arguments of the encoder, see its class.

    Raises
    ------
    ValueError
        Unknown name or argument (the nearest valid one is named), a size that the model cannot take, a package that is
        missing (the extra is named), weights that cannot be reached.
    """
    if not isinstance(name, str):
        return build_from_spec(name)
    name, query = _split(name)
    args = _plain({**query, **args}, name)
    where: dict[str, Any] = {"schema": schema, "statistics": statistics}
    shape: dict[str, Any] = {"image_size": image_size, "channels": channels}
    if name.startswith("timm:"):
        from autodidact.encoders import timm_encoder

        return timm_encoder.build(name, args, pretrained=pretrained, **where, **shape)
    if name.startswith("hf:"):
        from autodidact.encoders import hf_encoder

        return hf_encoder.build(name, args, pretrained=pretrained, **where, **shape)
    if name not in SMALL:
        raise unknown("encoder", name, (*SMALL, "timm:NAME", "hf:ID-or-folder"))
    if pretrained is True:
        raise ValueError(f"there are no pretrained weights for {name}; give the path of your own")
    try:
        encoder = _small(name, args, where, shape)
    except TypeError as error:
        raise ValueError(f"{name} cannot be made with {args}: {error}") from error
    if pretrained:
        from autodidact.encoders.weights import load_weights

        load_weights(encoder, Path(pretrained))
    return encoder


def build_from_spec(spec: Mapping[str, Any]) -> Encoder:
    """The encoder that a spec describes, weights at random."""
    name = str(spec["name"])
    if name.startswith("timm:") or name == "small:vit":
        from autodidact.encoders import timm_encoder

        return timm_encoder.rebuild(spec)
    if name.startswith("hf:"):
        from autodidact.encoders import hf_encoder

        return hf_encoder.rebuild(spec)
    if name not in SMALL:
        raise unknown("encoder", name, (*SMALL, "timm:NAME", "hf:ID-or-folder"))
    return _class(name)(spec, **spec["args"])


def _small(name: str, args: dict[str, Any], where: dict[str, Any], shape: dict[str, Any]) -> Encoder:
    if name == "small:vit":
        from autodidact.encoders import small_vit

        _known_arguments(name, small_vit.build, args)
        return small_vit.build(**args, **where, **shape)
    cls = _class(name)
    _known_arguments(name, cls, args)
    if name in ("small:tabular", "small:mlp"):
        from autodidact.encoders.tabular import table_spec

        return cls(table_spec(name, args, **where), **args)
    from autodidact.encoders.image import image_spec

    return cls(image_spec(name, args, **where, **shape), **args)


def _class(name: str) -> Callable[..., Encoder]:
    if name in ("small:convnet", "small:convpool"):
        from autodidact.encoders.convnet import ConvPool, SmallConvNet

        return SmallConvNet if name == "small:convnet" else ConvPool
    if name == "small:resnet":
        from autodidact.encoders.resnet import ResNet

        return ResNet
    if name == "small:denoiser":
        from autodidact.encoders.denoiser import Denoiser

        return Denoiser
    if name == "small:dependency_vit":
        from autodidact.encoders.dependency_vit import DependencyViT

        return DependencyViT
    if name == "small:scatnet":
        from autodidact.encoders.scatnet import ScatNet

        return ScatNet
    from autodidact.encoders.tabular import TabularMLP, TabularTransformer

    return TabularTransformer if name == "small:tabular" else TabularMLP


def _known_arguments(name: str, target: Callable[..., Any], args: Mapping[str, Any]) -> None:
    fixed = ("spec", "schema", "statistics", "image_size", "channels")
    known = [parameter for parameter in inspect.signature(target).parameters if parameter not in fixed]
    for given in args:
        if given not in known:
            raise unknown(f"argument of {name}", given, known)


def _plain(args: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The arguments as JSON has them (lists, not tuples), since they are kept with the model."""
    try:
        return dict(json.loads(json.dumps(args)))
    except TypeError as error:
        raise ValueError(
            f"arguments of {name} must be numbers, text, true, false, null or lists of them: {error}"
        ) from error


def _split(name: str) -> tuple[str, dict[str, Any]]:
    """``small:convnet?width=64&layers=5`` as name and arguments."""
    base, mark, query = name.partition("?")
    pairs = [part.partition("=") for part in query.split("&")] if mark else []
    if any(not key or not equals for key, equals, _ in pairs):
        raise ValueError(f"arguments of an encoder are written NAME?key=value&key=value, got '{name}'")
    return base, {key: yaml.safe_load(value) for key, _, value in pairs}
