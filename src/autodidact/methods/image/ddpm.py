"""DDPM: a network learns to say the noise in images, and so to draw new ones out of noise."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.catalog import Card
from autodidact.data.batch import Batch
from autodidact.encoders.diffusion import DiffusionModel, denoiser_of
from autodidact.methods.method import Loss, Method, Progress, Views
from autodidact.model import Encoder
from autodidact.objectives import denoising_loss, noised
from autodidact.views.draws import brought

CARD = Card(
    name="ddpm",
    target="DDPM",
    kind="method",
    title="DDPM",
    paper="Ho, Jain, Abbeel: Denoising Diffusion Probabilistic Models (2006.11239, 2020)",
    summary="Learns to say the noise in small images, and so to draw new ones; where `ddpo` starts from.",
    needs=(("image", "image"),),
    abilities=("embed", "generate"),
    encoder="small:denoiser",
)


class DDPM(Method):
    """Denoising diffusion (arXiv 2006.11239, section 3.4, algorithm 1).

    Every image gets the noise of a step drawn at random, and the network says which noise it was. The number of steps
    and the schedule belong to the encoder: ``--encoder.steps 20 --encoder.schedule cosine``. They travel with the
    model. `autodidact apply RUN --ability generate` draws an image for every row of the data.

    Parameters
    ----------
    encoder : "small:denoiser", an MLP for small images; ``--image-size`` makes larger ones small.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = denoiser_of(encoder)

    def views(self, batch: Batch, progress: Progress) -> Views:
        images = self.encoder.prepare(batch.fields)
        clean = self.encoder.normalise(images)
        there = brought(progress.generator, clean.device)
        noise = torch.randn(clean.shape, generator=there, device=clean.device)
        t = torch.randint(1, self.encoder.steps + 1, (len(clean),), generator=there, device=clean.device)
        noisy = noised(clean, t, noise, self.encoder.betas)
        return Views({"images": images, "noisy": noisy, "noise": noise, "t": t}, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        return Loss(denoising_loss(self.encoder.noise_in(views["noisy"], views["t"]), views["noise"]))

    def pictures(self, views: Views) -> dict[str, Float[Tensor, "n c h w"]]:
        """Images, the same with their noise, and what the model draws for their ids, which are other images."""
        assert views.ids is not None
        noisy = self.encoder.as_image(views["noisy"]).clamp(0, 1)
        return {"images": views["images"], "noisy": noisy, "drawn": self.encoder.images(views.ids)}

    def kept(self) -> DiffusionModel:
        return DiffusionModel(self.encoder)
