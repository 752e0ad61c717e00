"""Exports load where autodidact cannot be imported, and give the same embeddings."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from autodidact.data import Batch, Field, Schema
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel, PredictorModel
from autodidact.encoders.program import Program
from autodidact.encoders.timm_folder import enlarged_stem, folded_head
from autodidact.model import Weightless
from autodidact.verbs import export as verb
from autodidact.verbs.export import export

pytest.importorskip("timm")
pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")

TABLE = Schema(
    numeric=Field("numeric", (3,), columns=("age", "mass", "height")),
    categorical=Field("categorical", (1,), columns=("site",), cardinalities=(2,), categories=(("Bonn", "Kiel"),)),
)
RANGES = {"minimum": [0.0, 0.0, 0.0], "maximum": [1.0, 2.0, 3.0]}
TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
NORMAL = ([0.286], [0.353])


def resnet() -> nn.Module:
    """A ResNet of four blocks with the stem for small images."""
    return build("timm:resnet18", image_size=28, channels=1, statistics=NORMAL, layers=[1, 1, 1, 1])


def vit(**options: object) -> nn.Module:
    return build("small:vit", image_size=28, channels=1, width=32, depth=2, heads=2, statistics=NORMAL, **options)


def table(name: str = "small:tabular") -> nn.Module:
    return build(name, schema=TABLE, statistics=RANGES)


def convnet() -> nn.Module:
    return build("small:convnet", image_size=8, channels=1, width=4)


def parser() -> nn.Module:
    name = "small:dependency_vit?width=12&depth=2&heads=3&prune=[1]"
    return build(name, image_size=8, channels=1, patch=4)


MODELS: dict[str, Callable[[], EncoderModel | PredictorModel]] = {
    "resnet": lambda: EncoderModel({"encoder": resnet()}),
    "parser": lambda: EncoderModel({"encoder": parser()}),
    "colour resnet": lambda: EncoderModel({"encoder": build("timm:test_resnet", image_size=64)}),
    "radar resnet": lambda: EncoderModel({"encoder": build("timm:test_resnet", image_size=64, channels=2)}),
    "vit": lambda: EncoderModel({"encoder": vit()}),
    "vit of rows and columns": lambda: EncoderModel({"encoder": vit(positions="separable")}),
    "vit by its tokens": lambda: EncoderModel({"encoder": vit()}, tap="mean"),
    "vit by a layer": lambda: EncoderModel({"encoder": vit()}, tap=1),
    "classifier": lambda: PredictorModel(vit(), classes=("shoe", "hat", "bag"), head={"standardise": True}),
    "regressor": lambda: PredictorModel(resnet(), mean=40.0, std=3.0),
    "table": lambda: EncoderModel({"encoder": table()}, tap="flat"),
    "table and image": lambda: EncoderModel({"row": table("small:mlp"), "photo": convnet()}, merge="concat"),
    "stages": lambda: EncoderModel({"first": convnet(), "second": convnet()}, merge="concat", normalise=True),
    "scattering": lambda: EncoderModel(
        {"encoder": build("small:scatnet?orientations=3", image_size=14, channels=1, width=8)}
    ),
    "hf image": lambda: EncoderModel({"encoder": build("hf:vit", image_size=8, channels=1, patch_size=4, **TINY)}),
    "hf text": lambda: EncoderModel({"encoder": build("hf:bert", vocab_size=50, **TINY)}),
}
EXPORTS = [
    ("resnet", "timm"),
    ("resnet", "torch"),
    ("resnet", "onnx"),
    ("colour resnet", "timm"),
    ("radar resnet", "timm"),
    ("vit", "timm"),
    ("resnet", "hf"),
    ("vit", "onnx"),
    ("vit of rows and columns", "timm"),
    ("vit by its tokens", "timm"),
    ("vit by a layer", "torch"),
    ("classifier", "timm"),
    ("classifier", "torch"),
    ("regressor", "timm"),
    ("parser", "onnx"),
    ("table", "torch"),
    ("table", "onnx"),
    ("table and image", "torch"),
    ("stages", "torch"),
    ("scattering", "onnx"),
    ("hf image", "hf"),
    ("hf text", "hf"),
    ("hf text", "torch"),
]

# Runs the README's own lines in each folder, and hands back the variables that they made.
RUNNER = """
import sys
sys.modules["autodidact"] = None
import os
import torch

torch.set_num_threads(2)
for folder in sys.argv[1:]:
    os.chdir(folder)
    blocks = [part.split("```")[0] for part in open("README.md").read().split("```python")[1:]]
    torch.manual_seed(0)
    scope = {}
    exec(blocks[0], scope)
    if len(blocks) > 1:
        exec(blocks[1], scope)
        scope["native"] = scope["network"](torch.load("native_input.pt"))
    made = {k: torch.as_tensor(v) for k, v in scope.items() if type(v).__name__ in ("Tensor", "ndarray")}
    torch.save(made, "made.pt")
assert sys.modules["autodidact"] is None
"""


def trained(model: nn.Module) -> nn.Module:
    """Statistics and scales away from their start, at which a ResNet's branches are exactly zero."""
    torch.manual_seed(0)
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
        if isinstance(part, nn.modules.batchnorm._BatchNorm | nn.LayerNorm) and part.weight is not None:
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
    if isinstance(model, PredictorModel):
        nn.init.normal_(model.head.out.weight)
        nn.init.normal_(model.head.out.bias)
    return model.eval()


def photo(model: EncoderModel | PredictorModel) -> Tensor:
    shape = (1, model.encoder.spec["channels"], *model.encoder.spec["image_size"])
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[nn.Module, Path]]:
    """Every export, after the lines of its README were run in a process that cannot import autodidact."""
    root = tmp_path_factory.mktemp("exports")
    models = {name: trained(make()) for name, make in MODELS.items()}
    folders = {}
    for number, (name, format) in enumerate(EXPORTS):
        model = models[name]
        folder = export(model, format, root / str(number))
        folders[name, format] = (model, folder)
        if model.encoder.accepts == "image" and model.encoder.channels != 2:
            pixels = photo(model)
            Image.fromarray(pixels[0].permute(1, 2, 0).squeeze(2).numpy()).save(folder / "photo.png")
            torch.save(model.encoder.normalise(pixels / 255), folder / "native_input.pt")
    paths = [str(folder) for _, folder in folders.values()]
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUNNER, *paths], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return folders


@pytest.mark.parametrize(("name", "format"), EXPORTS)
def test_the_readmes_lines_reproduce_embeddings_without_autodidact(exported: dict, name: str, format: str) -> None:
    model, folder = exported[name, format]
    made = torch.load(folder / "made.pt", weights_only=True)
    if format == "timm" and "images" not in made:
        batch = Batch(torch.arange(1), {"image": photo(model)})
        embeddings, predictions = (
            model.embed(batch),
            model.predict(batch) if isinstance(model, PredictorModel) else None,
        )
    elif name == "hf text" and format == "hf":
        encoded = model.encoder((made["ids"], made["mask"].bool()))
        embeddings, predictions = encoded.pooled, None
    else:
        program = Program(model)
        out = program(*(made[input_name] for input_name in program.names))
        embeddings, predictions = out if isinstance(out, tuple) else (out, None)
    torch.testing.assert_close(made["embeddings"], embeddings.detach(), rtol=1e-5, atol=1e-5)
    if predictions is not None:
        torch.testing.assert_close(made["predictions"].squeeze(), predictions.detach().squeeze(), rtol=1e-5, atol=1e-5)


def test_the_stem_for_small_images_comes_back_with_three_lines(exported: dict) -> None:
    model, folder = exported["resnet", "timm"]
    made = torch.load(folder / "made.pt", weights_only=True)
    expected = model.embed(Batch(torch.arange(1), {"image": photo(model)}))
    torch.testing.assert_close(made["native"], expected.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "format"), EXPORTS)
def test_usage_says_what_goes_in_and_how_exact_it_is(exported: dict, name: str, format: str) -> None:
    model, folder = exported[name, format]
    usage = json.loads((folder / "usage.json").read_text())
    assert usage["inputs"] == json.loads(json.dumps(Program(model).inputs))
    with torch.no_grad():
        out = Program(model)(*Program(model).example(4, torch.Generator().manual_seed(0)))
    largest = max(float(part.abs().max()) for part in (out if isinstance(out, tuple) else (out,)))
    assert usage["difference"] <= 1e-5 * max(1.0, largest)
    assert usage["format"] == format


def test_a_graph_takes_batches_of_any_size(exported: dict) -> None:
    model, folder = exported["table", "torch"]
    program, graph = Program(model), torch.export.load(folder / "model.pt2").module()
    for n in (1, 2, 64):
        tensors = program.example(n, torch.Generator().manual_seed(n))
        torch.testing.assert_close(graph(*tensors), program(*tensors))


def test_a_graph_archive_holds_nothing_pickled(exported: dict) -> None:
    for name in ("resnet", "table and image"):
        archive = zipfile.ZipFile(exported[name, "torch"][1] / "model.pt2")
        for entry in archive.infolist():
            # A pickle begins with its protocol, and what torch.save writes is a zip of pickles.
            start = archive.read(entry)[:2]
            assert not (start[:1] == b"\x80" and "weight" not in entry.filename), entry.filename
            assert start != b"PK", entry.filename


def test_weights_beside_a_graph_load_into_it(exported: dict) -> None:
    model, folder = exported["resnet", "torch"]
    graph = torch.export.load(folder / "model.pt2").module()
    weights = load_file(folder / "model.safetensors")
    with torch.no_grad():
        for parameter in graph.parameters():
            parameter.zero_()
    graph.load_state_dict(weights)
    tensors = Program(model).example(3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(graph(*tensors), Program(model)(*tensors))


def test_categories_and_columns_are_in_the_readme(exported: dict) -> None:
    text = (exported["table", "torch"][1] / "README.md").read_text()
    assert "Columns: age, mass, height." in text
    assert "site: 0 = Bonn, 1 = Kiel." in text


@pytest.mark.parametrize(("height", "width"), [(5, 8), (7, 7), (28, 20)])
def test_enlarged_stem_is_the_small_stem_exactly(height: int, width: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    state = enlarged_stem({"conv1.weight": weight}, eps=1e-5)
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    small = functional.conv2d(x, weight, padding=1).clamp(min=0)
    large = x.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    y = functional.conv2d(large, state["conv1.weight"], stride=2, padding=3).clamp(min=0)
    y = functional.conv2d(y, state["maxpool.0.weight"], stride=2, padding=1)
    statistics = (state["maxpool.1.running_mean"], state["maxpool.1.running_var"])
    y = functional.batch_norm(y, *statistics, state["maxpool.1.weight"], state["maxpool.1.bias"], eps=1e-5).clamp(min=0)
    torch.testing.assert_close(y, small, rtol=1e-12, atol=1e-12)
    assert torch.equal(state["conv1.weight"][:, :, ::3, ::3], weight)


def test_a_folded_head_is_one_linear_map() -> None:
    model = trained(PredictorModel(convnet(), outputs=2, mean=40.0, std=3.0, head={"standardise": True}))
    weight, bias = folded_head(model)
    embedding = torch.randn(6, model.encoder.width)
    torch.testing.assert_close(embedding @ weight.T + bias, model.answers(embedding).detach(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("vit", "tim", "unknown export format 'tim'; did you mean 'timm'"),
        ("table", "timm", "small:tabular is not a network of timm; --format torch and --format onnx"),
        ("table", "hf", "small:tabular is no network of transformers or timm"),
        ("hf image", "timm", "hf:vit is not a network of timm.*--format hf"),
        ("vit by a layer", "timm", "embeds by layer 1 of small:vit.*--format torch"),
        ("table and image", "hf", "joins row, photo; use --format torch"),
    ],
)
def test_a_format_that_cannot_hold_a_model_is_refused(tmp_path: Path, name: str, format: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        export(MODELS[name](), format, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="holds something other than an export"):
        export(MODELS["vit"](), "timm", tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        export(MODELS["vit"](), "timm", tmp_path / "thesis.txt")
    with pytest.raises(ValueError, match=r"an export is a folder; give a name without \.onnx"):
        export(MODELS["vit"](), "onnx", tmp_path / "model.onnx")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_earlier_export_is_replaced_whole(tmp_path: Path) -> None:
    model = MODELS["vit"]()
    out = export(model, "torch", tmp_path / "out")
    export(model, "timm", out)
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "usage.json",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained(MODELS["resnet"]())
    out = export(model, "timm", tmp_path / "out")
    before = (out / "model.safetensors").read_bytes()
    monkeypatch.setattr(verb, "_enlargement", lambda _: 1)
    with pytest.raises(ValueError, match="differs from timm:resnet18 by"):
        export(model, "timm", out)
    assert (out / "model.safetensors").read_bytes() == before


def test_a_run_folder_is_exported_by_its_path(tmp_path: Path) -> None:
    model = trained(MODELS["vit"]())
    model.save(tmp_path / "run" / "model")
    out = export(tmp_path / "run", "timm", tmp_path / "out")
    name = "blocks.0.attn.qkv.weight"
    assert torch.equal(load_file(out / "model.safetensors")[name], model.encoder.model.state_dict()[name])


def test_a_model_that_does_not_embed_is_refused(tmp_path: Path) -> None:
    class Prompt(Weightless):
        kind = "prompt"

        @classmethod
        def from_settings(cls, settings: object) -> Prompt:
            return cls()

    with pytest.raises(ValueError, match="this model is of kind 'prompt'"):
        export(Prompt(), "torch", tmp_path / "out")


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"onnxruntime, which is not installed: pip install 'autodidact\[export\]'"):
        export(MODELS["vit"](), "onnx", tmp_path / "out")
