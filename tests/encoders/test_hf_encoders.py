"""Models of transformers: images and sequences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from autodidact.data import Field, Ragged, Schema
from autodidact.encoders import build, build_from_spec
from autodidact.model import Masked

transformers = pytest.importorskip("transformers")

TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
TEXT = Schema(tokens=Field("sequence"))


def test_an_image_models_parts_are_those_of_transformers() -> None:
    torch.manual_seed(0)
    encoder = build("hf:vit", image_size=(12, 8), channels=1, patch_size=4, **TINY).eval()
    x = torch.rand(3, 1, 12, 8)
    encoded = encoder(x, taps=(0,))
    out = encoder.model(pixel_values=(x - 0.5) / 0.25, output_hidden_states=True)
    torch.testing.assert_close(encoded.pooled, out.last_hidden_state[:, 0])
    torch.testing.assert_close(encoded.tokens, out.last_hidden_state[:, 1:])
    torch.testing.assert_close(encoded.taps[0], out.hidden_states[1][:, 1:])
    torch.testing.assert_close(encoded.map[:, :, 2, 1], encoded.tokens[:, 5])
    assert (encoder.grid, encoder.depth) == ((3, 2), 2)


def test_an_image_model_neither_drops_nor_masks_tokens() -> None:
    encoder = build("hf:vit", image_size=8, channels=1, patch_size=4, **TINY)
    with pytest.raises(ValueError, match="hf:vit cannot drop tokens; use a plain vision transformer"):
        encoder(torch.rand(2, 1, 8, 8), keep=torch.zeros(2, 1, dtype=torch.long))
    with pytest.raises(ValueError, match="hf:vit cannot mask tokens; use a plain vision transformer"):
        encoder(torch.rand(2, 1, 8, 8), masked=Masked(torch.zeros(2, 4, dtype=torch.bool), torch.zeros(24)))


def test_a_model_without_tokens_gives_its_map() -> None:
    torch.manual_seed(0)
    encoder = build(
        "hf:resnet", image_size=32, hidden_sizes=[8, 16], depths=[1, 1], embedding_size=8, layer_type="basic"
    )
    encoded = encoder.eval()(torch.rand(2, 3, 32, 32))
    torch.testing.assert_close(encoded.pooled, encoded.map.mean(dim=(2, 3)))
    assert encoder.map_shape == encoded.map.shape[1:]


@pytest.mark.parametrize("name", ["hf:vit", "hf:bert"])
def test_a_spec_that_went_through_json_gives_the_same_model(name: str) -> None:
    torch.manual_seed(0)
    size = {"vocab_size": 50, "schema": TEXT} if name == "hf:bert" else {"image_size": 8, "patch_size": 4}
    encoder = build(name, **TINY, **size).eval()
    assert json.loads(json.dumps(encoder.spec)) == encoder.spec
    again = build_from_spec(encoder.spec).eval()
    again.load_state_dict(encoder.state_dict())
    fields = {"tokens": torch.tensor([[1, 2, 3]])} if name == "hf:bert" else {"image": torch.rand(2, 3, 8, 8)}
    assert torch.equal(again(again.prepare(fields)).pooled, encoder(encoder.prepare(fields)).pooled)


def test_a_saved_folder_gives_its_own_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.ViTConfig(image_size=8, patch_size=4, **TINY)
    saved = transformers.ViTModel(config, add_pooling_layer=False).eval()
    saved.save_pretrained(tmp_path)
    mean_std = {
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.4, 0.5, 0.6],
        "image_processor_type": "ViTImageProcessor",
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(mean_std))
    encoder = build(f"hf:{tmp_path}", pretrained=True, statistics=([0.5], [0.5])).eval()
    x = torch.rand(2, 3, 8, 8)
    mean, std = (torch.tensor(mean_std[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
    torch.testing.assert_close(encoder(x).pooled, saved(pixel_values=(x - mean) / std).last_hidden_state[:, 0])


def test_padding_does_not_change_a_sequences_embedding() -> None:
    torch.manual_seed(0)
    encoder = build("hf:bert", schema=TEXT, vocab_size=50, **TINY).eval()
    short, long = torch.tensor([3, 1, 4]), torch.tensor([2, 7, 1, 8, 2, 8])
    together = encoder(encoder.prepare({"tokens": Ragged.of([short, long])})).pooled
    alone = encoder(encoder.prepare({"tokens": short[None]})).pooled
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)
    tokens = encoder.model(input_ids=short[None]).last_hidden_state
    torch.testing.assert_close(alone, tokens.mean(dim=1), rtol=1e-4, atol=1e-5)


def test_tokens_that_the_model_cannot_take_are_refused() -> None:
    encoder = build("hf:bert", schema=TEXT, vocab_size=50, max_position_embeddings=4, **TINY)
    with pytest.raises(ValueError, match="knows token ids 0 to 49, got 3 to 50"):
        encoder.prepare({"tokens": torch.tensor([[3, 50]])})
    with pytest.raises(ValueError, match="takes at most 4 tokens, got 5"):
        encoder.prepare({"tokens": torch.tensor([[1, 2, 3, 4, 5]])})
    with pytest.raises(ValueError, match="needs a field 'tokens' of kind sequence"):
        encoder.fits(Schema(image=Field("image")))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("hf:vit", {"image_size": 28}, "28x28 pixels are not divisible by the patch size 16 of hf:vit"),
        ("hf:vit", {"hiden_size": 3}, "unknown argument of hf:vit 'hiden_size'; did you mean 'hidden_size'"),
        ("hf:no/such-model", {}, "no model for hf:no/such-model.*a folder with config.json"),
        ("hf:no_such_folder", {}, "no model for hf:no_such_folder"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(name: str, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build(name, **arguments)
    assert "\n" not in str(caught.value)
