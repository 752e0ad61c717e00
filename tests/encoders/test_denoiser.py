"""The denoiser: what it predicts at first, what it draws for an id, and which images and weights it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autodidact.data.batch import Batch
from autodidact.encoders import build
from autodidact.encoders.denoiser import Denoiser
from autodidact.encoders.diffusion import DiffusionModel, denoiser_of
from autodidact.model import load_model
from autodidact.objectives import kept_signal


def denoiser(name: str = "small:denoiser?width=16&layers=2&steps=4", **more: object) -> Denoiser:
    torch.manual_seed(0)
    return denoiser_of(build(name, **{"image_size": (4, 3), "channels": 2, "statistics": ([0.4], [0.3]), **more}))


def shaken(one: Denoiser) -> Denoiser:
    nn.init.normal_(one.last.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    return one


def test_at_first_it_says_the_best_for_images_of_white_noise() -> None:
    one = denoiser()
    assert one.untrained
    x, t = torch.randn(4, 2, 4, 3), torch.arange(1, 5)
    want = (1 - kept_signal(one.betas)).sqrt().float()[:, None, None, None] * x
    torch.testing.assert_close(one.noise_in(x, t), want)
    assert not shaken(one).untrained


def test_an_image_follows_from_its_id_alone_and_is_the_last_of_the_way_without_noise() -> None:
    one = shaken(denoiser()).eval()
    ids = torch.tensor([7, 2**62 + 1, 7, 3])
    images = one.images(ids)
    assert images.shape == (4, 2, 4, 3)
    assert images.min() >= 0
    assert images.max() <= 1
    assert torch.equal(images[0], images[2])
    assert not torch.equal(images[0], images[3])
    torch.testing.assert_close(one.images(ids[3:])[0], images[3])
    noise = torch.randn(5, 2, 4, 3, generator=torch.Generator().manual_seed(3))
    x = noise[:1]
    for place, t in enumerate((4, 3, 2, 1), start=1):
        mean, std = one.step(x, torch.tensor([t]))
        x = mean + (std * noise[place] if t > 1 else 0)
    torch.testing.assert_close(one.as_image(x)[0].clamp(0, 1), images[3])


def test_the_way_starts_at_its_noise_and_each_step_is_drawn_from_the_one_before() -> None:
    one = shaken(denoiser())
    noise = torch.randn(3, 5, 2, 4, 3)
    path: Tensor = one.drawn(noise)
    assert not path.requires_grad
    assert torch.equal(path[:, 0], noise[:, 0])
    for place, t in enumerate((4, 3, 2, 1), start=1):
        mean, std = one.step(path[:, place - 1], torch.full((3,), t))
        torch.testing.assert_close(path[:, place], mean + std[:, None, None, None] * noise[:, place])


def test_a_diffusion_model_draws_and_embeds_alike_once_it_was_saved(tmp_path: Path) -> None:
    model = DiffusionModel(shaken(denoiser("small:denoiser?width=16&steps=6&schedule=cosine"))).eval()
    loaded = load_model(model.save(tmp_path))
    assert isinstance(loaded, DiffusionModel)
    assert loaded.abilities == ("embed", "generate")
    batch = Batch(torch.arange(3), {"image": torch.rand(3, 2, 4, 3)})
    assert torch.equal(loaded.generate(batch), model.generate(batch))
    assert torch.equal(loaded.embed(batch), model.embed(batch))
    assert loaded.embed(batch).shape == (3, 16)


def test_layers_can_be_tapped() -> None:
    one = denoiser()
    encoded = one(torch.rand(3, 2, 4, 3), taps=(0, 1))
    assert torch.equal(encoded.taps[1], encoded.pooled)
    assert not torch.equal(encoded.taps[0], encoded.taps[1])


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("small:denoiser", {"image_size": 64, "channels": 3}, "64x64x3 are 12,288 values, it takes 3,072 at most"),
        ("small:denoiser?steps=1", {}, "2 steps or more"),
        ("small:denoiser?width=0", {}, "at least 1"),
        ("small:denoiser?schedule=square", {}, "linear or cosine"),
        ("small:convnet", {"image_size": 8}, "use small:denoiser"),
    ],
)
@pytest.mark.usefixtures("wrong_types")
def test_what_makes_no_denoiser_is_refused(name: str, more: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        denoiser(name, **more)


@pytest.mark.parametrize("asked", ["steps=5", "steps=4&schedule=cosine"])
def test_weights_of_other_noise_are_refused_and_those_of_a_run_are_taken(asked: str, tmp_path: Path) -> None:
    one = shaken(denoiser())
    DiffusionModel(one).save(tmp_path / "run" / "model")
    again = denoiser(pretrained=str(tmp_path / "run"))
    assert torch.equal(again.last.weight, one.last.weight)
    with pytest.raises(ValueError, match="they are of 4 steps, or of another schedule"):
        denoiser(f"small:denoiser?width=16&layers=2&{asked}", pretrained=str(tmp_path / "run"))
    with pytest.raises(ValueError, match="do not fit this network: size mismatch"):
        denoiser("small:denoiser?width=8&layers=2&steps=4", pretrained=str(tmp_path / "run"))
