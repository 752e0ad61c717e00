"""Export: a model in the form that timm, transformers, plain PyTorch or an ONNX runtime loads by its own means."""

from __future__ import annotations

import copy
import importlib.metadata
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save
from torch import Tensor

import autodidact
from autodidact.catalog import unknown
from autodidact.catalog.extras import need
from autodidact.encoders.hf_encoder import HFImageEncoder, HFSequenceEncoder
from autodidact.encoders.image import ImageEncoder
from autodidact.encoders.kept import EncoderModel, PredictorModel
from autodidact.encoders.program import Program
from autodidact.encoders.timm_encoder import TimmEncoder
from autodidact.encoders.timm_folder import write_timm_folder
from autodidact.encoders.transformed import TransformedPredictor
from autodidact.model import Model, load_model
from autodidact.model.model import write_aside, write_json
from autodidact.verbs.export_readme import readme

Format = Literal["timm", "hf", "torch", "onnx"]
Kept = EncoderModel | PredictorModel

# Batches of these sizes are compared, neither of which is the one that a graph is traced with.
TRACED, COMPARED = 2, (1, 5)
# Largest difference, relative to the largest embedding value, at which an export still counts as the same model.
TOLERANCE = 1e-3


def export(source: str | Path | Model, format: Format, out: str | Path) -> Path:
    """Write a model into a folder that needs no autodidact to be loaded, and check that it gives the same embeddings.

    ======  =====================================  ==========================================================
    format  files                                  loaded by
    ======  =====================================  ==========================================================
    timm    ``model.safetensors, config.json``     ``timm.create_model("local-dir:FOLDER", pretrained=True)``
    hf      ``model.safetensors, config.json``     ``transformers.AutoModel.from_pretrained("FOLDER")``
    torch   ``model.pt2, model.safetensors``       ``torch.export.load("FOLDER/model.pt2").module()``
    onnx    ``model.onnx``                         ``onnxruntime.InferenceSession("FOLDER/model.onnx")``
    ======  =====================================  ==========================================================

    ``model.pt2`` is a graph with its weights, nothing of it pickled; the safetensors file beside it holds the same
    weights by name, for ``load_state_dict``. ``README.md`` shows how to use the folder, and ``usage.json`` says it to
    programs: inputs with their preprocessing, outputs, and under "difference" the largest absolute difference to
    this library's embeddings on random inputs, measured by loading what was written, at batch sizes other than the
    traced one.

    Parameters
    ----------
    source : a run folder, a model folder, or a model that embeds.
    format : timm is for networks of timm (``timm:``, ``small:vit``), hf for these and for ``hf:``; torch and onnx are
        for every encoder, and take normalisation, read-out and head into the graph.
    out : folder; it must be empty, new, or an earlier export, which is replaced.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        An unknown format, one that cannot hold this model, a package that is missing, or a folder that holds something
        else.
    """
    if format not in get_args(Format):
        raise unknown("export format", str(format), get_args(Format))
    model = source if isinstance(source, Model) else load_model(source)
    if not isinstance(model, EncoderModel | PredictorModel):
        raise ValueError(f"encoders and predictors can be exported; this model is of kind '{model.kind}'")
    out = Path(out)
    _check_folder(out)
    model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    if isinstance(model, TransformedPredictor):
        model = model.plain()
    program = Program(model).eval()
    write: Callable[[Any, Program, Path], dict[str, Any]] = _WRITERS[format]
    out.parent.mkdir(parents=True, exist_ok=True)
    # Nobody sees a half-written export, and a failed one leaves an earlier one alone.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as made:
        aside = Path(made) / "export"
        aside.mkdir()
        with warnings.catch_warnings():
            # Remarks of the exporters about their own insides, which no user can act on; the result is checked anyway.
            warnings.simplefilter("ignore")
            usage = {"format": format, **_facts(model, program), **write(model, program, aside)}
        write_json(aside / "usage.json", usage)
        write_aside(aside / "README.md", readme(usage).encode())
        if out.exists():
            shutil.rmtree(out)
        aside.rename(out)
    return out


def _check_folder(out: Path) -> None:
    if out.suffix in (".onnx", ".pt2", ".pt", ".pth", ".safetensors"):
        raise ValueError(f"an export is a folder; give a name without {out.suffix}, such as {out.with_suffix('')}")
    if out.is_file():
        raise ValueError(f"{out} is a file; an export is a folder")
    if out.exists() and any(out.iterdir()) and not (out / "usage.json").exists():
        raise ValueError(f"{out} holds something other than an export; choose another --out")


def _facts(model: Kept, program: Program) -> dict[str, Any]:
    """What a user of the export has to know whatever its format."""
    facts: dict[str, Any] = {
        "encoder": " and ".join(encoder.name for encoder in program.slots.values()),
        "inputs": program.inputs,
        "outputs": list(program.outputs),
        "autodidact": autodidact.__version__,
        "torch": str(torch.__version__),
    }
    if isinstance(model, PredictorModel) and model.classes:
        facts["classes"] = list(model.classes)
    return facts


def _timm(model: Kept, program: Program, folder: Path) -> dict[str, Any]:
    timm = need("timm", "vision", "format timm")
    _one_encoder(model)
    config = write_timm_folder(model, folder)
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    enlarge = _enlargement(model)

    def run(images: Tensor) -> tuple[Tensor, ...]:
        features = loaded.forward_features(_normalised(model, images, enlarge))
        embeddings = loaded.forward_head(features, pre_logits=True)
        if not isinstance(model, PredictorModel):
            return (embeddings,)
        answers = loaded.forward_head(features)
        return embeddings, answers.softmax(dim=1) if model.classes else answers.squeeze(1)

    return {
        "pretrained_cfg": config["pretrained_cfg"],
        "enlarge": enlarge,
        "difference": _difference(model, program, run),
        "timm": importlib.metadata.version("timm"),
    }


def _hf(model: Kept, program: Program, folder: Path) -> dict[str, Any]:
    transformers = need("transformers", "hf", "format hf")
    _one_encoder(model)
    encoder = model.encoder
    enlarge = 1
    pooling = "pooler_output.flatten(1)"
    if isinstance(encoder, HFImageEncoder | HFSequenceEncoder):
        if model.tap is not None:
            raise ValueError(f"this model embeds by tap {model.tap!r} of {encoder.name}; use --format torch or onnx")
        with _quiet(transformers):
            encoder.model.save_pretrained(folder)
        pooling = encoder.pooling
        if isinstance(encoder, HFImageEncoder):
            write_json(folder / "preprocessor_config.json", _processor(encoder))
    elif isinstance(encoder, TimmEncoder):
        need("timm", "vision", "format hf of a network of timm")
        write_timm_folder(model, folder)
        enlarge = _enlargement(model)
    else:
        raise ValueError(f"{encoder.name} is no network of transformers or timm; use --format torch or --format onnx")
    with _quiet(transformers):
        loaded = transformers.AutoModel.from_pretrained(folder).eval()

    def run(*tensors: Tensor) -> Tensor:
        if isinstance(encoder, ImageEncoder):
            out = loaded(pixel_values=_normalised(model, tensors[0], enlarge))
        else:
            out = loaded(**dict(zip(program.names, tensors, strict=True)))
        return _POOLINGS[pooling](out, tensors)

    return {
        # transformers loads the encoder; a head stays behind, except as the classifier of a network of timm.
        "outputs": ["embeddings"],
        "pooling": pooling,
        "enlarge": enlarge,
        "difference": _difference(model, program, run),
        "transformers": importlib.metadata.version("transformers"),
    }


def _torch(model: Kept, program: Program, folder: Path) -> dict[str, Any]:
    traced = torch.export.export(program, _traced(program), dynamic_shapes={"tensors": _free_sizes(program)})
    # Example inputs are the one part of the archive that would be pickled.
    traced._example_inputs = None
    path = folder / "model.pt2"
    torch.export.save(traced, path)
    weights = {name: value.contiguous() for name, value in traced.state_dict.items()}
    write_aside(folder / "model.safetensors", save(weights, {"format": "pt"}))
    return {"difference": _difference(model, program, torch.export.load(path).module())}


def _onnx(model: Kept, program: Program, folder: Path) -> dict[str, Any]:
    need("onnx", "export", "format onnx")
    need("onnxscript", "export", "format onnx")
    runtime = need("onnxruntime", "export", "format onnx")
    path = folder / "model.onnx"
    size = sum(value.numel() * value.element_size() for value in program.state_dict().values())
    torch.onnx.export(
        program,
        _traced(program),
        path,
        input_names=program.names,
        output_names=list(program.outputs),
        dynamic_shapes={"tensors": _free_sizes(program)},
        dynamo=True,
        # A protocol buffer holds at most 2 GB.
        external_data=size > 1_500_000_000,
        verbose=False,
    )
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = {name: tensor.numpy() for name, tensor in zip(program.names, tensors, strict=True)}
        return tuple(torch.from_numpy(array) for array in session.run(list(program.outputs), given))

    return {"difference": _difference(model, program, run)}


_WRITERS = {"timm": _timm, "hf": _hf, "torch": _torch, "onnx": _onnx}

_POOLINGS: Mapping[str, Callable[[Any, tuple[Tensor, ...]], Tensor]] = {
    "pooler_output.flatten(1)": lambda out, _: out.pooler_output.flatten(1),
    "last_hidden_state[:, 0]": lambda out, _: out.last_hidden_state[:, 0],
    "last_hidden_state.mean(dim=1)": lambda out, _: out.last_hidden_state.mean(dim=1),
    "last_hidden_state.mean(dim=(2, 3))": lambda out, _: out.last_hidden_state.mean(dim=(2, 3)),
    "mean of last_hidden_state where attention_mask is 1": lambda out, tensors: (
        (out.last_hidden_state * tensors[1][..., None]).sum(dim=1) / tensors[1].sum(dim=1, keepdim=True).clamp(min=1)
    ),
}
"""How the embedding comes out of what a model of transformers returns, by its description."""


def _processor(encoder: HFImageEncoder) -> dict[str, Any]:
    height, width = encoder.image_size
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": encoder.spec["mean"],
        "image_std": encoder.spec["std"],
    }


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No progress bars for a file of a second, and no report that the encoder leaves the classifier's weights alone."""
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _traced(program: Program) -> tuple[Tensor, ...]:
    return program.example(TRACED, torch.Generator().manual_seed(0))


def _free_sizes(program: Program) -> tuple[dict[int, Any], ...]:
    longest = min((entry["longest"] for entry in program.inputs if entry.get("longest")), default=65536)
    sizes = {"n": torch.export.Dim("n", min=1, max=65536), "t": torch.export.Dim("t", min=2, max=longest)}
    return tuple(
        {axis: sizes[size] for axis, size in enumerate(entry["shape"]) if size in sizes} for entry in program.inputs
    )


def _difference(model: Kept, program: Program, run: Callable[..., Any]) -> float:
    """Largest absolute difference between what the export gives and what the model gives."""
    worst, scale = 0.0, 1.0
    with torch.no_grad():
        for seed, n in enumerate(COMPARED, start=1):
            tensors = program.example(n, torch.Generator().manual_seed(seed))
            expected, given = (out if isinstance(out, tuple) else (out,) for out in (program(*tensors), run(*tensors)))
            for ours, theirs in zip(expected, given, strict=False):
                worst = max(worst, float((ours - theirs).abs().max()))
                scale = max(scale, float(ours.abs().max()))
    if not worst <= TOLERANCE * scale:
        raise ValueError(
            f"what was written differs from {model.encoder.name} by {worst:.2g}, so it was not kept; use another format"
        )
    return worst


def _one_encoder(model: Kept) -> None:
    if isinstance(model, EncoderModel) and model.merge == "concat" and len(model.encoders) > 1:
        raise ValueError(f"this model joins {', '.join(model.encoders)}; use --format torch or --format onnx")


def _enlargement(model: Kept) -> int:
    """How often a pixel is repeated for a network whose small stem timm has no argument for; see `enlarged_stem`."""
    return 4 if model.encoder.spec.get("stem") == "small" else 1


def _normalised(model: Kept, images: Tensor, enlarge: int) -> Tensor:
    encoder = model.encoder
    assert isinstance(encoder, ImageEncoder)
    return encoder.normalise(images).repeat_interleave(enlarge, dim=2).repeat_interleave(enlarge, dim=3)
