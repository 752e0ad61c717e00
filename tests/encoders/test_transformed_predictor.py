"""A predictor that knows transformations: its three ways to predict, saved, loaded, and as an ordinary predictor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autodidact.data import Batch
from autodidact.encoders import build
from autodidact.encoders.kept import PredictorModel
from autodidact.encoders.program import Program
from autodidact.encoders.transformed import TransformedPredictor
from autodidact.model import load_model

CLASSES = ("cat", "dog", "eel")


def made(**arguments: Any) -> TransformedPredictor:
    torch.manual_seed(0)
    encoder = build("small:convnet", image_size=8, channels=1, width=4)
    options: dict[str, Any] = {"classes": CLASSES, "transformations": "rotation", "distilled": True, **arguments}
    model = TransformedPredictor(encoder, **options)
    for head in (model.head, model.second):
        if head is not None:
            torch.nn.init.normal_(head.out.weight)
            torch.nn.init.normal_(head.out.bias)
    return model.eval()


def batch(n: int = 5) -> Batch:
    pixels = torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Batch(torch.arange(n), {"image": pixels})


def probabilities(model: TransformedPredictor) -> Tensor:
    with torch.no_grad():
        return model.predict(batch())


def joint_logits(model: TransformedPredictor, turns: int) -> Tensor:
    """Logits of all joint classes for the images turned, (n, classes, transformations)."""
    images = batch()["image"].float() / 255
    with torch.no_grad():
        return model.head(model.encoder(torch.rot90(images, turns, (2, 3))).pooled).view(5, 3, -1)


def test_single_inference_reads_the_untransformed_entries_of_the_untransformed_image() -> None:
    model = made(inference="single")
    torch.testing.assert_close(probabilities(model), joint_logits(model, 0)[:, :, 0].softmax(1))


def test_aggregated_inference_averages_each_copys_own_entries() -> None:
    model = made(inference="aggregated")
    mean = sum(joint_logits(model, turns)[:, :, turns] for turns in range(4)) / 4
    torch.testing.assert_close(probabilities(model), mean.softmax(1))


def test_aggregated_inference_of_a_head_on_classes_averages_all_it_says() -> None:
    model = made(inference="aggregated", joint=False)
    mean = sum(joint_logits(model, turns)[:, :, 0] for turns in range(4)) / 4
    torch.testing.assert_close(probabilities(model), mean.softmax(1))


def test_distilled_inference_is_the_second_head() -> None:
    model = made(inference="distilled")
    torch.testing.assert_close(probabilities(model), model.second(model.embed(batch())).softmax(1).detach())


def test_a_turned_image_gets_the_same_aggregated_answer_from_an_encoder_and_head_that_ignore_turns() -> None:
    model = made(joint=False)
    turned = Batch(batch().ids, {"image": torch.rot90(batch()["image"], 1, (2, 3))})
    with torch.no_grad():
        torch.testing.assert_close(model.predict(turned), probabilities(model))


@pytest.mark.parametrize("inference", ["single", "aggregated", "distilled"])
@pytest.mark.parametrize("joint", [True, False])
def test_it_comes_back_exactly_and_its_inference_can_be_changed(tmp_path: Path, inference: Any, joint: bool) -> None:
    model = made(inference=inference, joint=joint)
    again = load_model(model.save(tmp_path))
    assert isinstance(again, TransformedPredictor)
    assert again.settings == model.settings
    assert torch.equal(probabilities(again), probabilities(model))
    for other in ("single", "aggregated", "distilled"):
        again.inference = model.inference = other  # type: ignore[assignment]
        assert torch.equal(probabilities(again), probabilities(model))


@pytest.mark.parametrize("inference", ["single", "distilled"])
@pytest.mark.parametrize("joint", [True, False])
def test_what_needs_one_pass_is_an_ordinary_predictor_too(inference: Any, joint: bool) -> None:
    model = made(inference=inference, joint=joint, head={"standardise": True})
    plain = model.plain()
    assert type(plain) is PredictorModel
    assert plain.head.out.weight.shape[0] == 3
    torch.testing.assert_close(plain.predict(batch()), model.predict(batch()))
    assert made(inference="aggregated").plain().kind == "transformed_predictor"


@pytest.mark.parametrize("inference", ["single", "aggregated", "distilled"])
def test_its_program_answers_as_it_predicts(inference: Any) -> None:
    model = made(inference=inference)
    with torch.no_grad():
        embeddings, answers = Program(model)(batch()["image"].float() / 255)
    torch.testing.assert_close(answers, probabilities(model))
    torch.testing.assert_close(embeddings, model.embed(batch()).detach())


def test_an_exported_program_aggregates_too(tmp_path: Path) -> None:
    from autodidact.verbs.export import export

    folder = export(made(inference="aggregated"), "torch", tmp_path / "out")
    program = torch.export.load(folder / "model.pt2").module()
    answers = program(batch()["image"].float() / 255)[1]
    torch.testing.assert_close(answers, probabilities(made(inference="aggregated")))


@pytest.mark.usefixtures("wrong_types")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"inference": "agregated"}, "did you mean 'aggregated'"),
        ({"inference": "distilled", "distilled": False}, "no distilled head"),
        ({"classes": ()}, "this needs classes"),
        ({"transformations": "rotatoin"}, "nearest: 'rotation'"),
    ],
)
def test_what_it_cannot_be_is_said(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(**arguments)


def test_aggregated_answers_are_not_made_from_an_embedding() -> None:
    model = made(inference="aggregated")
    with pytest.raises(ValueError, match="need the copies"):
        model.answers(model.embed(batch()))
