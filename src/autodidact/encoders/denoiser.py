"""A denoiser of small images: an MLP that says the noise in an image, and so draws images out of noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn
from torch.nn.functional import silu

from autodidact.encoders.image import ImageEncoder
from autodidact.heads.transformer import sinusoidal
from autodidact.model import Encoded, Masked
from autodidact.objectives.diffusion import NoiseSchedule, ancestral_step, kept_signal, noise_schedule

LARGEST = 3_072
"""Values of an image, over which an MLP makes no sense: 32x32 pixels in colour, 55x55 in grey."""
LARGEST_VARIANCE = 0.5
"""Of a step. With tens of steps the papers' 0.999 would multiply errors of the predicted noise by thirty."""
LOOK = 0.1
"""Share of the steps at which it looks at an image to embed it."""


class Denoiser(ImageEncoder):
    """An MLP on all pixels and the step, which predicts the noise of DDPM (2006.11239).

    What its layers make of a clean image at a step of little noise is the embedding (Xiang et al., 2303.09769). The
    prediction starts as the best one for images of white noise, sqrt(1 - abar_t) x_t; the layers say what is to be
    added. Their last weights start at 0.

    Parameters
    ----------
    width : of the layers.
    layers : residual ones, between the first and the last.
    steps : T, of noise that is added and taken away, 2 or more. DDPM: 1,000; small images do with 20 to 50.
    schedule : of the noise: "linear" or "cosine", see `autodidact.objectives.noise_schedule`.

    Raises
    ------
    ValueError : a size below 1, fewer than 2 steps, no such schedule, or images of more than 3,072 values.
    """

    betas: Tensor

    def __init__(
        self,
        spec: Mapping[str, Any],
        *,
        width: int = 256,
        layers: int = 3,
        steps: int = 50,
        schedule: NoiseSchedule = "linear",
    ) -> None:
        super().__init__(spec)
        if min(width, layers) < 1:
            raise ValueError(f"small:denoiser needs width and layers of at least 1, got {width} and {layers}")
        height, side = self.image_size
        values = self.channels * height * side
        if values > LARGEST:
            raise ValueError(
                f"small:denoiser is an MLP on all pixels: {height}x{side}x{self.channels} are {values:,} values, it "
                f"takes {LARGEST:,} at most; use a smaller --image-size"
            )
        self.steps, self.width, self.depth = steps, width, layers
        self.register_buffer("betas", noise_schedule(schedule, steps, LARGEST_VARIANCE))
        self.first = nn.Linear(values, width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU())
        self.layers = nn.ModuleList(_Layer(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, values)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    @property
    def untrained(self) -> bool:
        """Whether it is as it was made: its last layer says nothing."""
        return not bool(self.last.weight.any())

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its images."""
        return (self.channels, *self.image_size)

    def forward(
        self,
        inputs: Float[Tensor, "n c h w"],
        *,
        keep: Int[Tensor, "n k"] | None = None,
        masked: Masked | None = None,
        unplaced: Bool[Tensor, "n t"] | None = None,
        taps: Sequence[int] = (),
    ) -> Encoded:
        self.no_keep(keep)
        self.no_masked(masked)
        self.no_unplaced(unplaced)
        self.need_tap(taps)
        t = torch.full((len(inputs),), max(1, round(LOOK * self.steps)), device=inputs.device)
        hidden = self._hidden(self.normalise(inputs), t)
        return Encoded(pooled=hidden[-1], taps={tap: hidden[tap] for tap in taps})

    def noise_in(self, x: Float[Tensor, "n c h w"], t: Int[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """The noise in normalised images.

        Parameters
        ----------
        x : x_t, in the units of `normalise`.
        t : step of each, from 1 to `steps`.
        """
        said = self.last(self.norm(self._hidden(x, t)[-1])).view_as(x)
        return said + (1 - kept_signal(self.betas)[t - 1]).sqrt().to(x)[:, None, None, None] * x

    def step(
        self, x: Float[Tensor, "n c h w"], t: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, " n"]]:
        """Mean and standard deviation of x_{t-1}, see `autodidact.objectives.ancestral_step`."""
        return ancestral_step(x, self.noise_in(x, t), t, self.betas)

    @torch.no_grad()
    def drawn(self, noise: Float[Tensor, "n draws c h w"]) -> Float[Tensor, "n draws c h w"]:
        """The way from noise to images: x_T, x_{T-1}, ..., x_0, without gradient.

        Parameters
        ----------
        noise : T + 1 draws a row: x_T itself, and the noise of each step.
        """
        path = [noise[:, 0]]
        for place, step in enumerate(range(self.steps, 0, -1), start=1):
            mean, std = self.step(path[-1], torch.full((len(noise),), step, device=noise.device))
            path.append(mean + std[:, None, None, None] * noise[:, place])
        return torch.stack(path, dim=1)

    def images(self, ids: Int64[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """An image in [0, 1] for each id: the same for the same id and weights. The last step adds no noise."""
        rows = [torch.randn(self.steps + 1, *self.shape, generator=seeded(one)) for one in ids.tolist()]
        noise = torch.stack(rows).to(self.betas.device)
        noise[:, -1] = 0
        return self.as_image(self.drawn(noise)[:, -1]).clamp(0, 1)

    def _hidden(self, x: Float[Tensor, "n c h w"], t: Int[Tensor, " n"]) -> list[Float[Tensor, "n d"]]:
        """What comes out of each layer."""
        # Steps on a common scale, whatever their number.
        when = self.time(sinusoidal(t * (1000 / self.steps), self.width).to(x))
        h = self.first(x.flatten(1))
        found = []
        for layer in self.layers:
            h = layer(h, when)
            found.append(h)
        return found

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Weights that were trained with other noise are refused: they would load, and draw nonsense."""
        given = state_dict.get(f"{prefix}betas")
        if given is not None and (given.shape != self.betas.shape or not torch.allclose(given, self.betas.to(given))):
            rest[-1].append(f"they are of {len(given)} steps, or of another schedule of noise than asked for")
            return
        super()._load_from_state_dict(state_dict, prefix, *rest)


class _Layer(nn.Module):
    """h + Linear(silu(Linear(norm(h)) + Linear(time)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.into, self.when, self.out = (nn.Linear(width, width) for _ in range(3))

    def forward(self, h: Float[Tensor, "n d"], when: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return h + self.out(silu(self.into(self.norm(h)) + self.when(when)))


def seeded(number: int) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator().manual_seed(number)
