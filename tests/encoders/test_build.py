"""Names to encoders, specs back to the same encoders, and one clear line for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from autodidact.data import Field, Schema
from autodidact.encoders import build, build_from_spec
from autodidact.encoders.rows import Rows
from autodidact.model import Encoder

TABLE = Schema(
    numeric=Field("numeric", (3,), columns=("age", "mass", "zero")),
    categorical=Field("categorical", (2,), columns=("sex", "site"), cardinalities=(2, 4)),
)
RANGES = {"minimum": [0.0, 1.0, 2.0], "maximum": [1.0, 3.0, 2.0]}


def randomised(network: nn.Module) -> nn.Module:
    """Every weight and statistic away from its start, at which much would be zero or one."""
    torch.manual_seed(0)
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
        if isinstance(part, nn.modules.batchnorm._BatchNorm | nn.LayerNorm) and part.weight is not None:
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
    return network.eval()


def inputs_of(encoder: Encoder) -> torch.Tensor | Rows:
    generator = torch.Generator().manual_seed(1)
    if encoder.accepts == "image":
        return torch.rand(3, encoder.spec["channels"], *encoder.spec["image_size"], generator=generator)
    return encoder.prepare(
        {
            "numeric": torch.rand(3, 3, generator=generator),
            "categorical": torch.tensor([[0, 3], [1, -1], [-1, 2]]),
        }
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("small:convnet", {"image_size": 8, "channels": 1}),
        ("small:convnet?width=8&layers=5", {"image_size": (28, 20), "channels": 2}),
        ("small:convpool", {"image_size": 32}),
        ("small:denoiser?width=12&steps=5&schedule=cosine", {"image_size": (8, 6), "channels": 2}),
        ("small:resnet?width=0.125&sk=true", {"image_size": 28, "channels": 1}),
        ("small:scatnet?blocks=1&width=8&stem=4", {"image_size": (20, 14), "channels": 2, "orientations": 3}),
        ("small:scatnet", {"image_size": 16, "channels": 1, "blocks": 0, "standardise": False}),
        ("small:vit", {"image_size": 28, "channels": 1, "width": 32, "depth": 2, "heads": 2, "registers": 1}),
        ("small:dependency_vit?width=12&heads=3&prune=[2,4]", {"image_size": (16, 24), "channels": 2}),
        ("small:tabular", {"schema": TABLE, "statistics": RANGES, "pool": "flat"}),
        ("small:mlp", {"schema": TABLE, "statistics": RANGES, "width": 16}),
        ("timm:resnet18", {"image_size": 28, "channels": 1}),
        ("timm:test_vit", {"image_size": 32, "patch_size": 8}),
        ("timm:test_convnext", {"image_size": 32}),
    ],
)
def test_a_spec_that_went_through_json_gives_the_same_network(name: str, arguments: dict) -> None:
    encoder = randomised(build(name, **arguments))
    spec = json.loads(json.dumps(encoder.spec))
    assert spec == encoder.spec
    torch.manual_seed(99)
    again = build_from_spec(spec)
    again.load_state_dict(encoder.state_dict())
    inputs = inputs_of(encoder)
    with torch.no_grad():
        encoded, twin = encoder(inputs), again.eval()(inputs)
    assert torch.equal(encoded.pooled, twin.pooled)
    assert encoded.pooled.shape == (3, encoder.width)
    assert (again.width, again.token_width, again.depth, again.map_shape) == (
        encoder.width,
        encoder.token_width,
        encoder.depth,
        encoder.map_shape,
    )
    if encoded.tokens is not None:
        assert encoded.tokens.shape[2] == encoder.token_width
    if encoded.map is not None:
        assert tuple(encoded.map.shape[1:]) == encoder.map_shape


def test_the_seed_decides_the_weights() -> None:
    def first(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(build("small:convnet", image_size=8, channels=1).parameters())

    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))


def test_size_channels_and_field_come_from_the_schema() -> None:
    schema = Schema(photo=Field("image", (1, 12, 20)))
    encoder = build("small:convnet", schema=schema)
    assert (encoder.image_size, encoder.channels) == ((12, 20), 1)
    prepared = encoder.prepare({"photo": torch.full((2, 1, 30, 50), 255, dtype=torch.uint8)})
    torch.testing.assert_close(prepared, torch.ones(2, 1, 12, 20))


@pytest.mark.parametrize("statistics", [{"mean": [0.2], "std": [0.4]}, ([0.2], [0.4])])
def test_images_are_normalised_inside_by_the_statistics(statistics: object) -> None:
    encoder = build("small:convnet", image_size=8, channels=1, statistics=statistics)
    images = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(encoder.normalise(images), (images - 0.2) / 0.4)


def test_a_channel_that_never_varies_does_not_divide_by_zero() -> None:
    encoder = build("small:convnet", image_size=8, channels=1, statistics=([0.5], [0.0])).eval()
    assert torch.isfinite(encoder(torch.rand(2, 1, 8, 8)).pooled).all()


def test_preparing_an_image_of_the_right_size_only_scales_it() -> None:
    encoder = build("small:convnet", image_size=28, channels=1)
    images = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
    torch.testing.assert_close(encoder.prepare({"image": images}), images / 255, atol=1e-6, rtol=0)


def test_preparing_reads_the_part_of_the_canvas_in_the_box() -> None:
    encoder = build("small:convnet", image_size=4, channels=1)
    canvas = torch.zeros(1, 1, 10, 10, dtype=torch.uint8)
    canvas[:, :, 2:6, 3:7] = 255
    prepared = encoder.prepare({"image": canvas, "box": torch.tensor([[2.0, 3.0, 4.0, 4.0]])})
    torch.testing.assert_close(prepared, torch.ones(1, 1, 4, 4))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("small:convnett", {}, "unknown encoder 'small:convnett'; did you mean 'small:convnet'"),
        ("resnet18", {}, "unknown encoder 'resnet18'.*timm:NAME"),
        ("small:convnet", {"image_size": 8, "widht": 3}, "argument of small:convnet 'widht'; did you mean 'width'"),
        ("small:convnet?width", {"image_size": 8}, "written NAME\\?key=value"),
        ("small:convnet", {}, "needs an image size"),
        ("timm:resnet18", {"image_size": 32, "norm_layer": nn.LayerNorm}, "arguments of timm:resnet18 must be numbers"),
        ("small:convpool", {"image_size": 7}, "at least 8 pixels"),
        ("small:tabular", {}, "needs a table"),
        ("small:convnet", {"image_size": 8, "pretrained": True}, "no pretrained weights for small:convnet"),
        ("small:vit", {"image_size": 31}, "no patch size divides 31x31.*--image-size 32"),
        ("small:vit", {"image_size": 28, "patch": 5}, "not divisible by the patch size 5.*--encoder.patch 4,"),
        ("timm:resnet19", {}, "no model 'resnet19'; did you mean timm:resnet18"),
        ("timm:resnet18", {"image_size": 32, "drop_pth_rate": 0.1}, "did you mean 'drop_path_rate'"),
        ("timm:vit_tiny_patch16_224", {"image_size": 28}, "by the patch size 16.*--encoder.patch_size 4,"),
        ("timm:vit_tiny_patch16_224", {"image_size": 16}, "16x16 pixels are a single patch"),
        ("timm:vgg11", {"image_size": 28}, "vgg11 does not run on images of 28x28 pixels.*--image-size 32"),
        ("timm:test_vit", {"image_size": 32, "img_size": 64}, "set by image_size"),
        ("timm:test_vit", {"image_size": 32, "stem": "small"}, "for ResNets with a 7x7 stem"),
        ("timm:resnet18", {"image_size": 32, "stem": "smal"}, "auto, plain or small"),
        ("small:convnet", {"image_size": 8, "statistics": ([0.5, 0.5], [1.0, 1.0])}, "2 values .* 3 channels"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(name: str, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build(name, **arguments)
    assert "\n" not in str(caught.value)


def test_other_columns_or_channels_than_the_encoders_are_refused() -> None:
    table = build("small:tabular", schema=TABLE, statistics=RANGES)
    table.fits(TABLE)
    other = Schema(TABLE, numeric=Field("numeric", (3,), columns=("age", "zero", "height")))
    with pytest.raises(ValueError, match="missing here: mass; unknown to it: height"):
        table.fits(other)
    images = build("small:convnet", image_size=8, channels=1)
    with pytest.raises(ValueError, match="1 channels, these have 3"):
        images.fits(Schema(image=Field("image", (3, 8, 8))))
    with pytest.raises(ValueError, match="1 channels, these have 3"):
        images.prepare({"image": torch.zeros(2, 3, 8, 8)})
    with pytest.raises(ValueError, match="reads the field 'image'; the batch has numeric"):
        images.prepare({"numeric": torch.zeros(2, 3)})


def test_categories_numbered_otherwise_are_refused() -> None:
    def schema(*names: str) -> Schema:
        categories = Field("categorical", (1,), columns=("city",), cardinalities=(2,), categories=(names,))
        return Schema(categorical=categories)

    encoder = build("small:tabular", schema=schema("Bonn", "Kiel"))
    encoder.fits(schema("Bonn", "Kiel"))
    with pytest.raises(ValueError, match=r"'city' has other categories .*Bonn, Kiel"):
        encoder.fits(schema("Aachen", "Bonn"))


def test_weights_come_from_a_file_of_ones_own(tmp_path: Path) -> None:
    given = randomised(build("small:convnet", image_size=8, channels=1))
    save_file(
        {f"encoders.encoder.{k}": v.contiguous() for k, v in given.state_dict().items()}, tmp_path / "w.safetensors"
    )
    again = build("small:convnet", image_size=8, channels=1, pretrained=tmp_path / "w.safetensors").eval()
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(again(images).pooled, given(images).pooled)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"somewhere.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="lacks"):
        build("small:convnet", image_size=8, channels=1, pretrained=tmp_path / "w.safetensors")
    with pytest.raises(FileNotFoundError, match="no weights"):
        build("small:convnet", image_size=8, channels=1, pretrained=tmp_path / "absent.pth")


def test_naming_encoders_imports_neither_timm_nor_transformers() -> None:
    code = "import sys, autodidact.encoders; print(*({'timm', 'transformers', 'torchvision'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


@pytest.mark.parametrize(("name", "extra"), [("timm:resnet18", "vision"), ("small:vit", "vision"), ("hf:vit", "hf")])
def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, name: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=rf"pip install 'autodidact\[{extra}\]'"):
        build(name, image_size=32)
