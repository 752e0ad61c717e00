"""Denoising autoencoder: reconstruct the clean image from a noisy one through a narrow convolutional code."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.catalog import Card
from autodidact.data.batch import Batch
from autodidact.heads import convolutional_decoder
from autodidact.methods.method import Loss, Method, Progress, Views
from autodidact.model import Encoder
from autodidact.objectives import masked_reconstruction
from autodidact.views.draws import brought

CARD = Card(
    name="denoising_autoencoder",
    target="DenoisingAutoencoder",
    kind="method",
    title="Denoising autoencoder",
    paper="Vincent, Larochelle, Bengio, Manzagol: Extracting and Composing Robust Features (ICML 2008)",
    summary="Reconstructs a clean image from a noisy one; a quick embedding to cluster by.",
    needs=(("image", "image"),),
    arguments=("noise",),
    encoder="small:convpool",
)


class DenoisingAutoencoder(Method):
    """The autoencoder of G-SimCLR's first stage (arXiv 2009.12007, section III-A): MSE against the clean image.

    Parameters
    ----------
    encoder : image encoder with a spatial map; "small:convpool" is the paper's (32, 64, 128 channels).
    noise : standard deviation of the Gaussian noise on the input, in units of the full range. Paper: 0.01.
    """

    def __init__(self, encoder: Encoder, *, noise: float = 0.01) -> None:
        super().__init__()
        if noise < 0:
            raise ValueError(f"noise must not be negative, got {noise}")
        self.encoder, self.noise = encoder, noise
        self.decoder = convolutional_decoder(encoder)

    def views(self, batch: Batch, progress: Progress) -> Views:
        clean = self.encoder.prepare(batch.fields)
        noise = torch.randn(clean.shape, generator=brought(progress.generator, clean.device), device=clean.device)
        return Views({"clean": clean, "noisy": clean + self.noise * noise}, batch.ids)

    def pictures(self, views: Views) -> dict[str, Float[Tensor, "n c h w"]]:
        painted = self.decoder(self.encoder(views["noisy"]).map).sigmoid()
        return {"noisy": views["noisy"], "reconstructed": painted}

    def loss(self, views: Views, progress: Progress) -> Loss:
        encoded = self.encoder(views["noisy"])
        image = self.decoder(encoded.map).sigmoid()
        total = masked_reconstruction(image, views["clean"], norm="l2", region="all")
        return Loss(total, {}, {"embedding": encoded.pooled})
