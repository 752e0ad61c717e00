"""DDPO: a diffusion model learns from rewards of the images that it draws, each step of drawing being an action."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autodidact.catalog import Card, unknown
from autodidact.data.batch import Batch
from autodidact.encoders.denoiser import Denoiser
from autodidact.encoders.diffusion import DiffusionModel, denoiser_of
from autodidact.methods.method import Loss, Method, Progress, Step, Views
from autodidact.model import Encoder
from autodidact.objectives import (
    clipped_loss,
    denoising_loss,
    group_normalised,
    noised,
    raml_weights,
    step_divergence,
    step_log_density,
)
from autodidact.objectives.shards import gathered, mean_over_rows, process, shard_sizes
from autodidact.rewards.images import ImageReward, image_reward, judged
from autodidact.targets import EMATeacher
from autodidact.views.draws import brought

Estimator = Literal["reinforce", "reward_weighted"]

CARD = Card(
    name="ddpo",
    target="DDPO",
    kind="method",
    title="DDPO",
    paper="Black, Janner, Du, Kostrikov, Levine: Training Diffusion Models with Reinforcement Learning (2305.13301, "
    "2023), as in the survey 2308.14328",
    summary="A diffusion model learns by policy gradients to draw images that a reward likes, at a price for straying.",
    needs=(("image", "image"),),
    abilities=("embed", "generate"),
    arguments=("reward", "estimator", "beta", "draws"),
    encoder="small:denoiser",
)

SPREAD = 1e-6
"""Added to the standard deviation of rewards before they are divided by it."""


@dataclass(frozen=True)
class Walked:
    """Ways from noise to images, those without a reward left out, step by step.

    Attributes
    ----------
    before, after : x_t and x_{t-1} of every step, normalised.
    t : the step of each place, from T to 1.
    old : log-density of every step under the model that drew it, in nats.
    reference : mean of every step by the model that training started from.
    std : of every step. This, `old` and `reference` have no steps where nothing is compared, see `DDPO.compares`.
    advantages : of each way; for "reward_weighted" its weight, 1 on average.
    noise : for "reward_weighted": new noise for every step of each image.
    figures : what the log shows.
    """

    before: Float[Tensor, "n t c h w"]
    after: Float[Tensor, "n t c h w"]
    t: Int[Tensor, " t"]
    old: Float[Tensor, "n s"]
    reference: Float[Tensor, "n s c h w"]
    std: Float[Tensor, "n s"]
    advantages: Float[Tensor, " n"]
    noise: Float[Tensor, "n t c h w"]
    figures: dict[str, Tensor]

    @property
    def counted(self) -> Bool[Tensor, "n s"]:
        """All steps."""
        return torch.ones_like(self.old, dtype=torch.bool)


class DDPO(Method):
    r"""Policy gradients of a diffusion model (arXiv 2305.13301, section 4.3; E10 of the survey 2308.14328).

    Drawing an image is a walk of T steps, and p(x_{t-1} | x_t) of each is Gaussian, so that the gradient of the
    expected reward is that of the log-densities, weighted with the rewards::

        L = - mean over images of sum_t min( r_t A, clip(r_t) A ) + beta sum_t KL_t,      A = (R - mean R) / std R

    with r_t the ratio of a step's density to that under which it was drawn, summed over all pixels; and KL_t the exact
    divergence of the step from that of the model that training started from, at the places where the walks came by, as
    in DPOK (2305.16381). Rewards are divided by their spread, so beta is in standard deviations of the reward a nat.
    The first descent on a set of images has a ratio of exactly 1, and no bias but that of dividing by the spread;
    further ones have.

    "reward_weighted" (RWR, section 4.2) trains on the drawn images as DDPM does, each weighted with exp(A / tau). It
    knows nothing of the steps that led to an image.

    It starts from the weights that its encoder has: ``autodidact pretrain ddpo --data DATA --pretrained runs/ddpm``
    takes those of a run, as any method does, so that training goes on from a checkpoint without that folder. Steps,
    schedule and sizes of the encoder are those of that run; others are refused. Of the data only size, ids and number
    of the images count: it looks at none. A reward that is NaN or infinite is no reward: the image is left out, and
    counted: the log shows ``dropped``, the share in an update, and ``dropped_total``, their number so far. Before any
    image had a reward, a set of images without one is an error.

    Parameters
    ----------
    encoder : the denoiser to start from.
    reward : "ink" is the mean brightness of the image; ``RUN:CLASS`` the probability of that class by the classifier in
        a run folder, as in ``runs/classifier:7``. In Python also a function from images (n, c, h, w) in [0, 1] to a
        number each.
    estimator : "reinforce" or "reward_weighted".
    beta : price of a nat of divergence from the start, in standard deviations of the reward, 0 or more.
    draws : images drawn for an update, by each of several processes, 2 or more; 0 for as many as a batch has.
    inner : descents on each set of drawn images, 1 or more.
    clip : bound of the ratio, above 0, which counts from the second of these on. The paper's 1e-4 is of a density
        averaged over pixels.
    tau : of "reward_weighted", above 0, in standard deviations of the reward. The smaller, the fewer images count.

    Attributes
    ----------
    judged, dropped : images so far with a reward, and without.

    Raises
    ------
    ValueError : an option out of its range, no such reward, or an encoder that is no denoiser.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        reward: str | Callable[[Tensor], Tensor] = "ink",
        estimator: Estimator = "reinforce",
        beta: float = 0.0,
        draws: int = 0,
        inner: int = 1,
        clip: float = 0.2,
        tau: float = 1.0,
    ) -> None:
        super().__init__()
        if estimator not in get_args(Estimator):
            raise unknown("estimator", estimator, get_args(Estimator))
        if not 0 <= beta < torch.inf:
            raise ValueError(f"beta is a price of 0 or more, got {beta}")
        if draws < 0 or draws == 1:
            raise ValueError(f"rewards are compared with each other: draws is 2 or more, or 0, got {draws}")
        if inner < 1:
            raise ValueError(f"inner is 1 descent or more, got {inner}")
        if not (clip > 0 and tau > 0):
            raise ValueError(f"clip and tau are above 0, got {clip} and {tau}")
        self.encoder = denoiser_of(encoder)
        self.reward: ImageReward = image_reward(reward)
        self.estimator, self.beta, self.draws, self.inner = estimator, beta, draws, inner
        self.clip, self.tau = clip, tau
        self.start = EMATeacher(self.encoder, momentum=1.0)
        self.judged = self.dropped = 0

    def views(self, batch: Batch, progress: Progress) -> Views:
        """All the noise of an update: of the walks, and for "reward_weighted" of what is learned from them."""
        device = self.encoder.betas.device
        shape = (self.draws or len(batch), self.encoder.steps + 1, *self.encoder.shape)
        there = brought(progress.generator, device)
        named = {"noise": torch.randn(shape, generator=there, device=device)}
        if self.estimator == "reward_weighted":
            named["again"] = torch.randn(shape, generator=there, device=device)[:, 1:]
        return Views(named, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        return self.loss_of(self.walked(views))

    def update(self, batch: Batch, step: Step) -> Loss:
        if step.progress.step == 0 and self.encoder.untrained:
            warnings.warn("ddpo starts from a model that was never trained: --pretrained RUN of ddpm", stacklevel=2)
        with torch.no_grad(), torch.autocast(batch.ids.device.type, enabled=False):
            views = self.views(batch, step.progress)
        walked = self.walked(views)
        for _ in range(self.inner):
            loss = step.descend(self.loss_of(walked))
        return loss

    @property
    def compares(self) -> bool:
        """Whether steps are compared with those of the models that drew them and that training started from."""
        return self.estimator == "reinforce" or self.beta > 0

    @torch.no_grad()
    def walked(self, views: Views) -> Walked:
        """Draw images and judge them.

        Raises
        ------
        ValueError : not one image has a reward, and none before had.
        """
        path = self.encoder.drawn(views["noise"])
        rewards = judged(self.reward, self.encoder.as_image(path[:, -1]).clamp(0, 1))
        sizes = shard_sizes(len(rewards), rewards.device)
        # Of all processes, whose images are compared with each other.
        every = torch.cat(gathered(rewards, sizes))
        known = every.isfinite()
        count = int(known.sum())
        self.judged, self.dropped = self.judged + count, self.dropped + len(every) - count
        if not self.judged:
            raise ValueError(
                f"none of the first {self.dropped} images has a reward: the reward of each is NaN or infinite"
            )
        figures = {
            "reward": every[known].mean() if known.any() else rewards.new_zeros(()),
            "dropped": (~known).to(rewards).mean(),
            "dropped_total": rewards.new_tensor(float(self.dropped)),
        }
        # With fewer than two rewards there is nothing to learn from; a way without advantage keeps the shapes.
        first, few = sum(sizes[: process()]), count < 2
        rows = known[first : first + len(rewards)].nonzero()[:, 0]
        rows = rows if len(rows) and not few else torch.zeros(1, dtype=torch.long, device=rewards.device)
        worth = rewards.new_zeros(len(every))
        if not few:
            found = group_normalised(every[None, known], eps=SPREAD)[0]
            weighed = self.estimator == "reward_weighted"
            worth[known] = raml_weights(found[None], self.tau)[0] * count if weighed else found
        ahead = worth[first + rows]
        before, after = path[rows, :-1], path[rows, 1:]
        t = torch.arange(self.encoder.steps, 0, -1, device=path.device)
        old = std = before.new_zeros(len(rows), 0)
        reference = before[:, :0]
        if self.compares:
            mean, std = self._steps(self.encoder, before, t)
            reference, _ = self._steps(self.start.module, before, t)  # type: ignore[arg-type]
            old = self._densities(after, mean, std)
        noise = views["again"][rows] if self.estimator == "reward_weighted" else after[:, :0]
        return Walked(before, after, t, old, reference, std, ahead, noise, figures)

    def loss_of(self, walked: Walked) -> Loss:
        """What is descended on drawn images; its value means nothing but its gradient."""
        figures = dict(walked.figures)
        kl = None
        if self.compares:
            mean, _ = self._steps(self.encoder, walked.before, walked.t)
            each = step_divergence(mean.flatten(0, 1), walked.reference.flatten(0, 1), walked.std.flatten())
            kl = mean_over_rows(each.view_as(walked.old).sum(dim=1))
            figures["kl"] = kl.detach()
        if self.estimator == "reinforce":
            now = self._densities(walked.after, mean, walked.std)
            total = clipped_loss(now, walked.old, walked.counted, walked.advantages, self.clip, 1.0)
        else:
            images, count = walked.after[:, -1:].expand_as(walked.noise), len(walked.t)
            t = walked.t.repeat(len(images))
            noise = walked.noise.flatten(0, 1)
            said = self.encoder.noise_in(noised(images.flatten(0, 1), t, noise, self.encoder.betas), t)
            total = denoising_loss(said, noise, walked.advantages.repeat_interleave(count))
        if self.beta > 0:
            assert kl is not None
            total = total + self.beta * kl
        return Loss(total, figures)

    def memory(self) -> dict[str, Any]:
        return {"judged": self.judged, "dropped": self.dropped}

    def remember(self, memory: Mapping[str, Any]) -> None:
        self.judged, self.dropped = (int(memory.get(name, 0)) for name in ("judged", "dropped"))

    def pictures(self, views: Views) -> dict[str, Float[Tensor, "n c h w"]]:
        """What the model draws for the ids, and what the one drew that training started from."""
        assert views.ids is not None
        before: Denoiser = self.start.module  # type: ignore[assignment]
        return {"at the start": before.images(views.ids), "now": self.encoder.images(views.ids)}

    def kept(self) -> DiffusionModel:
        return DiffusionModel(self.encoder)

    @staticmethod
    def _steps(
        denoiser: Denoiser, x: Float[Tensor, "n t c h w"], t: Int[Tensor, " t"]
    ) -> tuple[Float[Tensor, "n t c h w"], Float[Tensor, "n t"]]:
        """Mean and standard deviation of every step of every walk."""
        mean, std = denoiser.step(x.flatten(0, 1), t.repeat(len(x)))
        return mean.view_as(x), std.view(len(x), len(t))

    @staticmethod
    def _densities(
        after: Float[Tensor, "n t c h w"], mean: Float[Tensor, "n t c h w"], std: Float[Tensor, "n t"]
    ) -> Float[Tensor, "n t"]:
        return step_log_density(after.flatten(0, 1), mean.flatten(0, 1), std.flatten()).view_as(std)
