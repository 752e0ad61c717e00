"""A folder that timm and transformers load by their own means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from autodidact.encoders.kept import EncoderModel, PredictorModel
from autodidact.encoders.separable_positions import joined
from autodidact.encoders.timm_encoder import TimmEncoder
from autodidact.encoders.transformed import TransformedPredictor
from autodidact.heads import LinearHead
from autodidact.model.model import write_aside, write_json


def write_timm_folder(model: EncoderModel | PredictorModel, folder: Path) -> dict[str, Any]:
    """Write ``model.safetensors`` and ``config.json``; returns what config.json holds.

    ``timm.create_model("local-dir:FOLDER", pretrained=True)`` and ``transformers.AutoModel.from_pretrained(FOLDER)``
    rebuild the network from these two, without any other code. What timm's arguments cannot say is said in the weights:

    - The 3x3 stride-1 stem without a max-pool that small images get is a stem of timm's own on the image enlarged
      four times without interpolation (see `enlarged_stem`); the configuration asks for that size.
    - Positions of rows and columns become one vector a patch.
    - A model that embeds by the mean of its patch tokens becomes one with average pooling.
    - A linear head becomes the classifier; its standardisation and the scale of a regression are folded into it.
    """
    encoder = model.encoder
    if not isinstance(encoder, TimmEncoder):
        raise ValueError(
            f"{encoder.name} is not a network of timm; --format torch and --format onnx take it"
            + (", or --format hf" if encoder.name.startswith("hf:") else "")
        )
    network, spec = encoder.model, encoder.spec
    state = joined({name: value.detach().cpu() for name, value in network.state_dict().items()})
    args = {**spec["model_args"], "in_chans": encoder.channels}
    height, width = encoder.image_size
    interpolation = "bilinear"
    if spec["stem"] == "small":
        if not isinstance(network.act1, nn.ReLU):
            raise ValueError(f"the small stem of {encoder.name} has another activation than ReLU; use --format torch")
        state = enlarged_stem(state, network.bn1.eps)
        args["replace_stem_pool"] = True
        height, width, interpolation = 4 * height, 4 * width, "nearest"
    args |= _pooling(model, encoder)
    source = network.pretrained_cfg
    classes = 0
    if isinstance(model, PredictorModel):
        classes = len(model.classes) or model.outputs
        weight, bias = folded_head(model)
        state |= {f"{source['classifier']}.weight": weight, f"{source['classifier']}.bias": bias}
    config: dict[str, Any] = {
        "architecture": spec["timm"],
        "num_classes": classes,
        "num_features": encoder.width,
        "global_pool": args.get("global_pool", getattr(network, "global_pool", None)),
        "model_args": args,
        "model_type": "timm_wrapper",
        "architectures": ["TimmWrapperForImageClassification" if classes else "TimmWrapperModel"],
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [encoder.channels, height, width],
            "fixed_input_size": "img_size" in args,
            "interpolation": interpolation,
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": spec["mean"],
            "std": spec["std"],
            "num_classes": classes,
            "pool_size": None,
            "first_conv": source.get("first_conv"),
            "classifier": source.get("classifier"),
        },
    }
    if not isinstance(config["global_pool"], str):
        del config["global_pool"]
    if isinstance(model, PredictorModel) and model.classes:
        config["label_names"] = list(model.classes)
    write_aside(folder / "model.safetensors", save({k: v.contiguous() for k, v in state.items()}, {"format": "pt"}))
    write_json(folder / "config.json", config)
    return config


def enlarged_stem(state: dict[str, Tensor], eps: float) -> dict[str, Tensor]:
    """Weights of a ResNet with timm's 7x7 stride-2 stem and a convolution for the max-pool, from those of a 3x3 stem.

    On an image enlarged four times by repeating pixels, output 2p + 1 of a 7x7 stride-2 convolution with padding 3 sees
    the enlarged pixels 4p - 1 to 4p + 5, that is the pixels p - 1, p and p + 1, the first at the kernel's place 0,
    the second at 3, the third at 6 among others; the zero padding of both agrees. A 3x3 stride-2 convolution that only
    passes its last place on then picks the outputs 2p + 1. BatchNorm is made an identity there, and ReLU does nothing
    twice. So the two networks compute the same, and ``conv1.weight[:, :, ::3, ::3]`` is the small stem again.
    """
    small = state["conv1.weight"]
    channels = len(small)
    large = small.new_zeros(*small.shape[:2], 7, 7)
    large[:, :, ::3, ::3] = small
    pick = small.new_zeros(channels, channels, 3, 3)
    pick[torch.arange(channels), torch.arange(channels), 2, 2] = 1
    return {
        **state,
        "conv1.weight": large,
        "maxpool.0.weight": pick,
        "maxpool.1.weight": small.new_full((channels,), (1 + eps) ** 0.5),
        "maxpool.1.bias": small.new_zeros(channels),
        "maxpool.1.running_mean": small.new_zeros(channels),
        "maxpool.1.running_var": small.new_ones(channels),
        "maxpool.1.num_batches_tracked": torch.zeros((), dtype=torch.long),
    }


def _pooling(model: EncoderModel | PredictorModel, encoder: TimmEncoder) -> dict[str, Any]:
    """Arguments with which timm's own pooled output is the model's embedding."""
    tap = model.tap
    if tap is None or (tap == "mean" and not encoder.token_width):
        # The mean over a map is what a convolutional network pools by, unless it has a norm behind; that is measured.
        return {}
    if tap == "mean" and encoder.plain_vit and isinstance(encoder.model.fc_norm, nn.Identity):
        # By default timm would move the last norm behind the average.
        return {"global_pool": "avg", "fc_norm": False}
    raise ValueError(
        f"this model embeds by {f'layer {tap}' if isinstance(tap, int) else f'its tokens ({tap})'} of {encoder.name}, "
        "which timm's pooling cannot express; use --format torch or --format onnx"
    )


def folded_head(model: PredictorModel) -> tuple[Tensor, Tensor]:
    """Weight and bias of one Linear that does what the head and the scale of the target do.

    W (x - m) / sqrt(v + eps) + b = (W / sqrt(v + eps)) x + (b - W m / sqrt(v + eps)); a regression is s (W x + b) + t.
    """
    head: LinearHead = model.head
    if isinstance(model, TransformedPredictor):
        raise ValueError(
            "aggregated answers take several passes; use --format torch, --format onnx or another inference"
        )
    if not isinstance(head.hidden, nn.Identity) or len(model.neck):
        raise ValueError("a head with a hidden layer is no linear classifier; use --format torch or --format onnx")
    weight, bias = head.out.weight.detach().double(), head.out.bias.detach().double()
    if isinstance(head.norm, nn.BatchNorm1d):
        assert head.norm.running_mean is not None
        assert head.norm.running_var is not None
        weight = weight / (head.norm.running_var.double() + head.norm.eps).sqrt()
        bias = bias - weight @ head.norm.running_mean.double()
    if not model.classes:
        weight, bias = weight * model.std.double(), bias * model.std.double() + model.mean.double()
    return weight.float().cpu(), bias.float().cpu()
