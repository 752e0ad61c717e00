"""Rewards of images: a number for every image, by brightness, by a classifier, or by a function of one's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.catalog import unknown
from autodidact.data.batch import Batch
from autodidact.encoders.kept import PredictorModel
from autodidact.model import load_model

INK = "ink"


class ImageReward(ABC):
    """Says how good images are; more is better. What it holds enters no checkpoint: it does not change."""

    @abstractmethod
    def judge(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        """The reward of each image in [0, 1]; NaN or infinite where it is not known."""


class Ink(ImageReward):
    """Mean brightness, in [0, 1]."""

    def judge(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        return images.mean(dim=(1, 2, 3))


class ClassProbability(ImageReward):
    """The probability, in [0, 1], that a classifier gives to one of its classes.

    Parameters
    ----------
    model : predicts classes of images.
    name : of the class.

    Raises
    ------
    ValueError : the model knows no classes, or not this one.
    """

    def __init__(self, model: PredictorModel, name: str) -> None:
        if not model.classes or model.encoder.accepts != "image":
            raise ValueError("a reward by a class needs a model that predicts classes of images")
        if name not in model.classes:
            raise unknown("class of the reward's classifier", name, model.classes)
        self.model, self.place = model.eval(), model.classes.index(name)

    def judge(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        model = self.model.to(images.device)
        ids = torch.arange(len(images), device=images.device)
        return model.predict(Batch(ids, {model.encoder.spec["field"]: images}))[:, self.place]


class ByFunction(ImageReward):
    """A function from images (n, c, h, w) in [0, 1] to a number each."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def judge(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        return torch.as_tensor(self.function(images), dtype=torch.float32, device=images.device)


def image_reward(asked: str | Callable[[Tensor], Tensor] | ImageReward) -> ImageReward:
    """The reward that a text names: ``ink``, or ``RUN:CLASS``; a function or a reward is taken as it is.

    Parameters
    ----------
    asked : ``runs/classifier:7`` is the probability of class 7 by the model in that folder.

    Raises
    ------
    ValueError : no such reward, or a model or class that it cannot be.
    FileNotFoundError : no such folder.
    """
    if isinstance(asked, ImageReward):
        return asked
    if not isinstance(asked, str):
        return ByFunction(asked)
    if asked == INK:
        return Ink()
    folder, colon, name = asked.rpartition(":")
    if not colon:
        if Path(asked).is_dir():
            raise ValueError(f"which class of {asked} is rewarded? {asked}:CLASS")
        raise unknown("reward of images", asked, (INK, "RUN:CLASS"))
    model = load_model(folder)
    if not isinstance(model, PredictorModel):
        raise ValueError(f"the reward {asked} needs a model that predicts classes; {folder} is of kind '{model.kind}'")
    return ClassProbability(model, name)


@torch.no_grad()
def judged(reward: ImageReward, images: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """The rewards of images in float32, without gradient; NaN where there is none.

    Raises
    ------
    ValueError : a reward gave anything but a number an image.
    """
    found = reward.judge(images)
    if found.shape != images.shape[:1]:
        raise ValueError(f"a reward gives one number an image, got {tuple(found.shape)} for {len(images)} images")
    return torch.where(found.isfinite(), found, torch.nan).detach().float()
