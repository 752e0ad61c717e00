"""What remains after training: embeddings and predictions, saved and loaded exactly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from autodidact.data import Batch, Field, Schema
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel, PredictorModel, ProjectedModel
from autodidact.model import load_model

TABLE = Schema(numeric=Field("numeric", (3,), columns=("a", "b", "c")))


def batch(n: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return Batch(torch.arange(n), {"image": images, "numeric": torch.rand(n, 3, generator=generator)})


def trained(model: nn.Module) -> nn.Module:
    """Weights and running statistics as training would leave them."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            part.num_batches_tracked.fill_(7)
    return model.eval()


def two_slots(**arguments: object) -> EncoderModel:
    image = build("small:convnet", image_size=8, channels=1, width=4)
    table = build("small:tabular", schema=TABLE, statistics={"minimum": [0, 0, 0], "maximum": [1, 1, 1]})
    model = trained(EncoderModel({"image": image, "table": table}, **arguments))
    assert isinstance(model, EncoderModel)
    return model


@pytest.mark.parametrize(
    "arguments", [{}, {"primary": "table", "tap": "flat"}, {"merge": "concat", "normalise": True}, {"tap": 1}]
)
def test_an_encoder_model_comes_back_exactly(tmp_path: Path, arguments: dict) -> None:
    model = two_slots(**arguments)
    again = load_model(model.save(tmp_path / "model"))
    assert isinstance(again, EncoderModel)
    assert again.settings == model.settings
    assert again.abilities == ("embed",)
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(again.embed(batch()), model.embed(batch()))


def test_the_folder_holds_safetensors_and_json_only(tmp_path: Path) -> None:
    two_slots().save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_embedding_is_the_primary_encoders_or_all_side_by_side() -> None:
    model = two_slots(merge="concat")
    image = model["image"](batch()["image"] / 255).pooled
    table = model["table"](model["table"].prepare(batch().fields)).pooled
    torch.testing.assert_close(model.embed(batch()), torch.cat((image, table), dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(two_slots().embed(batch()), image, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(two_slots(primary="table").embed(batch()), table)


def test_side_by_side_and_normalised_the_inner_product_is_the_sum_of_the_encoders_cosines() -> None:
    plain, normed = (two_slots(merge="concat", normalise=flag).embed(batch()).double() for flag in (False, True))
    parts = plain.split([two_slots()["image"].width, two_slots()["table"].width], dim=1)
    cosines = [torch.nn.functional.cosine_similarity(part[:, None], part, dim=-1) for part in parts]
    torch.testing.assert_close(normed @ normed.T, cosines[0] + cosines[1], rtol=1e-5, atol=1e-5)


def test_settings_of_before_models_could_be_normalised_are_still_read() -> None:
    old = {name: value for name, value in two_slots().settings.items() if name != "normalise"}
    assert EncoderModel.from_settings(old).normalise is False


def test_tap_names_what_is_read_out() -> None:
    table, columns = two_slots(primary="table", tap="mean"), two_slots(primary="table").tokens(batch())
    torch.testing.assert_close(table.embed(batch()), columns.mean(dim=1))
    torch.testing.assert_close(two_slots(primary="table", tap="flat").embed(batch()), columns.flatten(1))
    image = two_slots(tap=2)
    tapped = image.encoder(image.encoder.prepare(batch().fields), taps=(2,)).taps[2]
    torch.testing.assert_close(image.embed(batch()), tapped.mean(dim=(2, 3)))


def test_tokens_of_a_convnet_are_the_positions_of_its_map() -> None:
    model = two_slots()
    encoded = model.encoder(model.encoder.prepare(batch().fields))
    tokens = model.tokens(batch())
    torch.testing.assert_close(tokens[:, 4 * 2 + 3], encoded.map[:, :, 2, 3])


@pytest.mark.usefixtures("wrong_types")
def test_a_model_of_nothing_or_of_a_wrong_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one encoder"):
        EncoderModel({})
    with pytest.raises(ValueError, match="no encoder in slot 'text'; there is image, table"):
        two_slots(primary="text")
    with pytest.raises(ValueError, match="merge must be"):
        two_slots(merge="sum")


def predictor(**arguments: object) -> PredictorModel:
    model = trained(PredictorModel(build("small:convnet", image_size=8, channels=1, width=4), **arguments))
    assert isinstance(model, PredictorModel)
    return model


@pytest.mark.parametrize(
    "arguments",
    [
        {"classes": ("cat", "dog", "eel"), "head": {"standardise": True, "hidden": 6}},
        {"mean": 40.0, "std": 3.0},
        {"outputs": 2},
        {"classes": ("cat", "dog"), "neck": {"width": 16, "hidden": 5, "out": 3, "layers": 3, "first": 2}},
    ],
)
def test_a_predictor_comes_back_exactly(tmp_path: Path, arguments: dict) -> None:
    model = predictor(**arguments)
    again = load_model(model.save(tmp_path))
    assert isinstance(again, PredictorModel)
    assert (again.classes, again.outputs, again.settings) == (model.classes, model.outputs, model.settings)
    assert torch.equal(again.predict(batch()), model.predict(batch()))
    assert torch.equal(again.embed(batch()), model.embed(batch()))


def test_class_predictions_are_the_softmax_of_the_heads_logits() -> None:
    model = predictor(classes=("cat", "dog", "eel"))
    logits = model.embed(batch()) @ model.head.out.weight.T + model.head.out.bias
    weights = logits.double().exp()
    torch.testing.assert_close(
        model.predict(batch()).double(), weights / weights.sum(dim=1, keepdim=True), rtol=1e-5, atol=1e-6
    )


def test_a_regression_answers_in_the_targets_unit() -> None:
    model = predictor(mean=40.0, std=3.0)
    standardised = model.embed(batch()) @ model.head.out.weight.T + model.head.out.bias
    torch.testing.assert_close(model.predict(batch()), 40 + 3 * standardised[:, 0])


def test_a_predictor_of_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two classes"):
        predictor(classes=("cat",))


def test_a_neck_stands_between_embedding_and_head() -> None:
    model = predictor(classes=("cat", "dog"), neck={"width": 16, "hidden": 5, "out": 3, "norm_last": True, "first": 1})
    assert model.embed(batch()).shape == (5, 16)
    images = model.encoder.prepare(batch().fields)
    logits = model.head(model.neck(model.encoder(images).pooled))
    torch.testing.assert_close(model(images), logits)
    torch.testing.assert_close(model.predict(batch()), logits.softmax(dim=1))


def test_a_predictor_saved_before_there_were_necks_is_read(tmp_path: Path) -> None:
    model = predictor(classes=("cat", "dog"))
    model.save(tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    del described["settings"]["neck"]
    (tmp_path / "model.json").write_text(json.dumps(described))
    again = load_model(tmp_path)
    assert torch.equal(again.predict(batch()), model.predict(batch()))


def test_an_encoder_comes_back_with_its_projection_head_and_embeds_without_it(tmp_path: Path) -> None:
    encoder = build("small:convnet", image_size=8, channels=1, width=4)
    head = {"width": 16, "hidden": 6, "out": 3, "layers": 3, "norm_last": True, "scale_last": True}
    model = trained(ProjectedModel(encoder, head=head))
    again = load_model(model.save(tmp_path))
    assert isinstance(again, ProjectedModel)
    assert again.settings == model.settings
    assert torch.equal(again.embed(batch()), encoder(encoder.prepare(batch().fields)).pooled)
    assert torch.equal(again.projector(again.embed(batch())), model.projector(model.embed(batch())))
