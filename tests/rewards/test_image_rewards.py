"""Rewards of images: what each says, and how they are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from autodidact.data.batch import Batch
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel, PredictorModel
from autodidact.rewards.images import Ink, image_reward, judged

IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def classifier(folder: Path) -> PredictorModel:
    torch.manual_seed(0)
    model = PredictorModel(build("small:convnet?width=4", image_size=8, channels=1), classes=("six", "seven")).eval()
    torch.nn.init.normal_(model.head.out.weight)
    model.save(folder / "model")
    return model


def test_ink_is_the_mean_brightness() -> None:
    assert judged(image_reward("ink"), IMAGES).tolist() == pytest.approx(IMAGES.flatten(1).mean(1).tolist())


def test_a_run_and_a_class_are_the_probability_of_that_class(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    want = model.predict(Batch(torch.arange(5), {"image": IMAGES}))[:, 1].detach()
    found = judged(image_reward(f"{tmp_path}:seven"), IMAGES)
    torch.testing.assert_close(found, want)
    assert found.std() > 0


def test_a_function_is_asked_and_what_is_not_finite_is_no_reward() -> None:
    given = torch.tensor([1.0, torch.nan, torch.inf, -torch.inf, 0.0], requires_grad=True)
    found = judged(image_reward(lambda images: given), IMAGES)
    assert found.isnan().tolist() == [False, True, True, True, False]
    assert found[0] == 1
    assert not found.requires_grad


def test_a_reward_is_taken_as_it_is_and_must_give_a_number_an_image() -> None:
    reward = Ink()
    assert image_reward(reward) is reward
    with pytest.raises(ValueError, match="one number an image"):
        judged(image_reward(lambda images: images.mean()), IMAGES)


def test_what_names_no_reward_is_refused_with_the_nearest(tmp_path: Path) -> None:
    classifier(tmp_path / "run")
    EncoderModel({"encoder": build("small:convnet", image_size=8, channels=1)}).save(tmp_path / "encoder")
    for asked, said in (
        ("inc", "did you mean 'ink'"),
        (f"{tmp_path / 'run'}", "which class of"),
        (f"{tmp_path / 'run'}:sevn", "did you mean 'seven'"),
        (f"{tmp_path / 'encoder'}:seven", "is of kind 'encoder'"),
    ):
        with pytest.raises(ValueError, match=said):
            image_reward(asked)
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "none"))):
        image_reward(f"{tmp_path / 'none'}:seven")
