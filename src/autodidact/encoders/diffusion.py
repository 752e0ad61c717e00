"""What remains of a diffusion model: a denoiser that draws images, and embeds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from autodidact.data.batch import Batch
from autodidact.encoders.build import build_from_spec
from autodidact.encoders.denoiser import Denoiser
from autodidact.encoders.kept import EncoderModel


class DiffusionModel(EncoderModel):
    """A denoiser that draws an image for every row, and embeds as any encoder.

    Parameters
    ----------
    denoiser : with its steps and schedule.
    """

    kind: ClassVar[str] = "diffusion"

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__({"encoder": denoiser})
        self.abilities = ("embed", "generate")

    @property
    def settings(self) -> dict[str, Any]:  # type: ignore[override]
        return {"encoder": self.encoder.spec}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> DiffusionModel:
        return cls(denoiser_of(build_from_spec(settings["encoder"])))

    def generate(self, batch: Batch) -> Float[Tensor, "n c h w"]:
        """An image in [0, 1] for every row; it follows from the row's id, and from nothing else of the row."""
        return denoiser_of(self.encoder).images(batch.ids)


def denoiser_of(encoder: object) -> Denoiser:
    """The encoder, where it is a denoiser; ValueError else."""
    if not isinstance(encoder, Denoiser):
        raise ValueError(f"{getattr(encoder, 'name', encoder)} does not say the noise in images; use small:denoiser")
    return encoder
