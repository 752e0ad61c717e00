"""What was drawn for a view of each sample: the only thing that passes from drawing to rendering."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class ViewParameters:
    """One row a sample, on the CPU. Indexing with a slice, mask or index tensor selects samples.

    So a clip's frames get one view by `parameters[torch.arange(n).repeat_interleave(frames)]`, and a whole batch one
    colour by `replace(parameters, jitter=parameters.jitter[:1].expand(n, 4), ...)`.
    """

    crop: Int[Tensor, "n 4"]
    """Window of the source: top, left, height, width in pixels."""
    flip: Bool[Tensor, " n"]
    """Mirrored left to right."""
    vertical_flip: Bool[Tensor, " n"]
    """Mirrored top to bottom."""
    affine: Float[Tensor, "n 5"]
    """Rotation (degrees, counter-clockwise), shift right and down (shares of the sides), zoom, shear (degrees)."""
    jitter: Float[Tensor, "n 4"]
    """Factors of brightness, contrast and saturation (1 = unchanged) and hue shift in turns (0 = unchanged)."""
    order: Int[Tensor, "n 4"]
    """The columns of `jitter` in the order in which they are applied."""
    grey: Bool[Tensor, " n"]
    """Turned grey."""
    sigma: Float[Tensor, " n"]
    """Standard deviation of the blur in pixels; 0 = not blurred."""
    solarise: Bool[Tensor, " n"]
    """Solarised."""
    noise: Float[Tensor, " n"]
    """Standard deviation of the added noise; 0 = none."""
    noise_seed: Int[Tensor, " n"]
    """Seed of the sample's noise pixels."""
    erase: Int[Tensor, "n 4"]
    """Erased rectangle of the view: top, left, height, width in pixels; height 0 = none."""

    @classmethod
    def plain(cls, crop: Int[Tensor, "n 4"]) -> ViewParameters:
        """The windows `crop`, and nothing done to them."""
        n = len(crop)
        no = torch.zeros(n, dtype=torch.bool)
        return cls(
            crop=crop,
            flip=no,
            vertical_flip=no,
            affine=torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0]).expand(n, 5),
            jitter=torch.tensor([1.0, 1.0, 1.0, 0.0]).expand(n, 4),
            order=torch.arange(4).expand(n, 4),
            grey=no,
            sigma=torch.zeros(n),
            solarise=no,
            noise=torch.zeros(n),
            noise_seed=torch.zeros(n, dtype=torch.long),
            erase=torch.zeros(n, 4, dtype=torch.long),
        )

    def __len__(self) -> int:
        return self.crop.shape[0]

    def __getitem__(self, index: Any) -> ViewParameters:
        return ViewParameters(**{field.name: getattr(self, field.name)[index] for field in fields(self)})
