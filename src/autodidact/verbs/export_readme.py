"""The README of an export: what is in the folder, and a few lines that use it, to be run in the folder itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WHAT = {
    "timm": "a network of timm",
    "hf": "a network of transformers",
    "torch": "a graph of torch.export",
    "onnx": "an ONNX graph",
}

_SMALL_STEM = """\
The network was trained on the small image with a 3x3 convolution of stride 1 as its stem and no max-pool. timm has no
argument for that, so the same computation is written as timm's own stem on an image enlarged four times. To train on at
the small size, give it the small stem back; afterwards it takes images that are not enlarged:

```python
network = NETWORK
small = network.conv1.weight.data[:, :, ::3, ::3].clone()
network.conv1 = torch.nn.Conv2d(small.shape[1], small.shape[0], 3, padding=1, bias=False)
network.conv1.weight.data, network.maxpool = small, torch.nn.Identity()
```
"""


def readme(usage: Mapping[str, Any]) -> str:
    """Text of ``README.md`` from what ``usage.json`` holds."""
    difference = f"at most {usage['difference']:.1e}" if usage["difference"] else "nothing"
    lines = [
        f"# {usage['encoder']}, exported by autodidact {usage['autodidact']}",
        "",
        f"This folder holds {_WHAT[usage['format']]}. On random inputs its embeddings differ from the original's by "
        f"{difference}.",
        "",
        "## Input",
        "",
        *_inputs(usage),
        "",
        "## Use",
        "",
        "```python",
        *_use(usage),
        "```",
        "",
    ]
    if usage.get("enlarge", 1) > 1:
        lines.append(_SMALL_STEM.replace("NETWORK", "model" if usage["format"] == "timm" else "model.timm_model"))
    if "classes" in usage and "predictions" in usage["outputs"]:
        lines += [f"Classes, in order: {', '.join(usage['classes'])}.", ""]
    return "\n".join(lines)


def _inputs(usage: Mapping[str, Any]) -> list[str]:
    inside = usage["format"] in ("torch", "onnx")
    lines = []
    for entry in usage["inputs"]:
        shape = " x ".join(map(str, entry["shape"]))
        lines.append(f"- `{entry['name']}`: {entry['dtype']}, {shape}, {entry['values']}.")
        if "mean" in entry:
            mean, std = (", ".join(f"{value:.6g}" for value in entry[key]) for key in ("mean", "std"))
            where = "The graph normalises them itself" if inside else "Then (x - mean) / std"
            lines.append(f"  {where}, with mean {mean} and std {std}.")
        if usage.get("enlarge", 1) > 1:
            lines.append(f"  Then every pixel is repeated {usage['enlarge']} times in both directions.")
        if "columns" in entry:
            lines.append(f"  Columns: {', '.join(entry['columns'])}.")
        for column, names in zip(entry.get("columns", ()), entry.get("categories", ()), strict=False):
            lines.append(f"  - {column}: " + ", ".join(f"{number} = {name}" for number, name in enumerate(names)) + ".")
    return lines


def _use(usage: Mapping[str, Any]) -> list[str]:
    if usage["format"] in ("torch", "onnx"):
        return _use_graph(usage)
    if usage["format"] == "timm":
        return _use_timm(usage)
    entry = usage["inputs"][0]
    return _use_tokens() if entry["name"] == "input_ids" else _use_transformers(usage, entry)


def _use_timm(usage: Mapping[str, Any]) -> list[str]:
    entry = usage["inputs"][0]
    load = 'model = timm.create_model("local-dir:.", pretrained=True).eval()'
    if mode := {1: "L", 3: "RGB"}.get(entry["shape"][1]):
        lines = [
            "import timm",
            "import torch",
            "from PIL import Image",
            "",
            load,
            "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)",
            f'x = transform(Image.open("photo.png").convert("{mode}"))[None]',
        ]
    else:
        lines = ["import timm", "import torch", "", load, *_normalised(usage, entry)]
    lines.append("with torch.no_grad():")
    if "predictions" not in usage["outputs"]:
        return [*lines, "    embeddings = model(x)"]
    return [
        *lines,
        "    features = model.forward_features(x)",
        "    embeddings = model.forward_head(features, pre_logits=True)",
        "    predictions = model.forward_head(features)" + (".softmax(dim=1)" if "classes" in usage else ""),
    ]


def _use_transformers(usage: Mapping[str, Any], entry: Mapping[str, Any]) -> list[str]:
    return [
        "import torch",
        "from transformers import AutoModel",
        "",
        'model = AutoModel.from_pretrained(".").eval()',
        *_normalised(usage, entry),
        "with torch.no_grad():",
        f"    embeddings = model(pixel_values=x).{usage['pooling']}",
    ]


def _normalised(usage: Mapping[str, Any], entry: Mapping[str, Any]) -> list[str]:
    """Lines that make the network's input ``x`` from images in [0, 1]."""
    shape = ", ".join(map(str, entry["shape"][1:]))
    lines = [
        f"mean, std = torch.tensor({entry['mean']}), torch.tensor({entry['std']})",
        f"images = torch.rand(3, {shape})  # pixels in [0, 1]",
        "x = (images - mean[:, None, None]) / std[:, None, None]",
    ]
    if usage["enlarge"] > 1:
        lines.append(f"x = x.repeat_interleave({usage['enlarge']}, dim=2).repeat_interleave({usage['enlarge']}, dim=3)")
    return lines


def _use_tokens() -> list[str]:
    return [
        "import torch",
        "from transformers import AutoModel",
        "",
        'model = AutoModel.from_pretrained(".").eval()',
        "ids = torch.tensor([[1, 2, 3], [4, 5, 0]])",
        "mask = torch.tensor([[1, 1, 1], [1, 1, 0]])",
        "with torch.no_grad():",
        "    tokens = model(input_ids=ids, attention_mask=mask).last_hidden_state",
        "embeddings = (tokens * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)",
    ]


def _use_graph(usage: Mapping[str, Any]) -> list[str]:
    names = [entry["name"] for entry in usage["inputs"]]
    made = []
    for entry in usage["inputs"]:
        shape = ", ".join(["3", *("8" if size == "t" else str(size) for size in entry["shape"][1:])])
        value = f"ones({shape}, dtype=torch.long)" if entry["dtype"] == "int64" else f"rand({shape})"
        made.append(f"{entry['name']} = torch.{value}")
    results = ", ".join(usage["outputs"])
    if usage["format"] == "torch":
        return [
            "import torch",
            "",
            'program = torch.export.load("model.pt2").module()',
            *made,
            "with torch.no_grad():",
            f"    {results} = program({', '.join(names)})",
        ]
    return [
        "import onnxruntime",
        "import torch",
        "",
        'session = onnxruntime.InferenceSession("model.onnx")',
        *made,
        "given = {" + ", ".join(f'"{name}": {name}.numpy()' for name in names) + "}",
        (results if len(usage["outputs"]) > 1 else f"({results},)") + " = session.run(None, given)",
    ]
