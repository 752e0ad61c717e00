"""DDPM and DDPO: what is descended, what carries no gradient, which rewards count, and that rewards rise."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from autodidact.cli.main import main
from autodidact.data import Source, open_source
from autodidact.encoders import build
from autodidact.encoders.denoiser import Denoiser
from autodidact.encoders.diffusion import DiffusionModel, denoiser_of
from autodidact.methods.image.ddpm import DDPM
from autodidact.methods.image.ddpo import DDPO, Walked
from autodidact.methods.method import Loss, Progress, Views
from autodidact.model import load_model
from autodidact.objectives import kept_signal
from autodidact.training import Settings, train

STEPS, IMAGES = 4, 12


def progress(seed: int = 0) -> Progress:
    return Progress(0, 10, 0, torch.Generator().manual_seed(seed))


def digits(rows: int = IMAGES) -> Source:
    return open_source("digits", progress=False).at(np.arange(rows))


def denoiser() -> Denoiser:
    torch.manual_seed(0)
    name = f"small:denoiser?width=16&layers=1&steps={STEPS}"
    made = denoiser_of(build(name, image_size=8, channels=1, statistics=([0.3], [0.4])))
    torch.nn.init.normal_(made.last.weight, std=0.05)
    return made


def ddpo(**options: Any) -> DDPO:
    return DDPO(denoiser(), **options)


def views_of(method: DDPO, seed: int = 0) -> Views:
    return method.views(digits().batch(np.arange(IMAGES)), progress(seed))


def walked(method: DDPO, seed: int = 0) -> Walked:
    return method.walked(views_of(method, seed))


def gradient(method: DDPO, seed: int = 0) -> Tensor:
    method.zero_grad()
    method.loss_of(walked(method, seed)).total.backward()
    return torch.cat([p.grad.flatten() for p in method.encoder.parameters() if p.grad is not None])


def test_ddpm_noises_images_as_its_steps_say_and_descends_the_error_of_the_noise() -> None:
    method = DDPM(denoiser())
    batch = digits().batch(np.arange(IMAGES))
    views = method.views(batch, progress())
    clean = (batch["image"].double() / 255 - 0.3) / 0.4
    kept = kept_signal(method.encoder.betas)[views["t"] - 1][:, None, None, None]
    want = kept.sqrt() * clean + (1 - kept).sqrt() * views["noise"].double()
    torch.testing.assert_close(views["noisy"].double(), want, rtol=1e-5, atol=1e-5)
    assert set(views["t"].tolist()) <= set(range(1, STEPS + 1))
    said = method.encoder.noise_in(views["noisy"], views["t"])
    error = (said - views["noise"]).square().mean()
    torch.testing.assert_close(method.loss(views, progress()).total, error)
    assert method.pictures(views)["drawn"].shape == (IMAGES, 1, 8, 8)


def test_the_gradient_is_that_of_log_densities_weighted_with_whitened_rewards() -> None:
    method = ddpo()
    found = gradient(method)
    seen = walked(method)
    images = method.encoder.as_image(seen.after[:, -1]).clamp(0, 1)
    rewards = images.double().mean(dim=(1, 2, 3))
    ahead = (rewards - rewards.mean()) / rewards.std()
    method.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for row in range(IMAGES):
        for place in range(STEPS):
            mean, std = method.encoder.step(seen.before[row, place][None], seen.t[place][None])
            normal = torch.distributions.Normal(mean[0].double(), std.double())
            total = total - ahead[row] * normal.log_prob(seen.after[row, place].double()).sum() / IMAGES
    total.backward()
    want = torch.cat([p.grad.flatten() for p in method.encoder.parameters() if p.grad is not None])
    torch.testing.assert_close(found, want, rtol=2e-3, atol=2e-3 * float(want.abs().max()))


def moved(method: DDPO, by: float) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in method.encoder.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator)


def gradient_of(method: DDPO, total: Tensor) -> Tensor:
    method.zero_grad()
    total.backward()
    return torch.cat([p.grad.flatten() for p in method.encoder.parameters() if p.grad is not None])


def normals(denoiser: Any, seen: Walked, row: int, place: int) -> torch.distributions.Normal:
    mean, std = denoiser.step(seen.before[row, place][None], seen.t[place][None])
    return torch.distributions.Normal(mean[0].double(), std.double())


@pytest.mark.parametrize("estimator", ["reinforce", "reward_weighted"])
def test_away_from_the_start_a_nat_of_divergence_costs_beta(estimator: str) -> None:
    method = ddpo(beta=0.7, estimator=estimator, reward=lambda images: torch.zeros(len(images)))
    moved(method, 0.02)
    seen = walked(method)
    total = torch.zeros((), dtype=torch.float64)
    for row in range(IMAGES):
        for place in range(STEPS):
            now, then = (normals(one, seen, row, place) for one in (method.encoder, method.start.module))
            total = total + torch.distributions.kl_divergence(now, then).sum() / IMAGES
    loss = method.loss_of(seen)
    assert float(loss.terms["kl"]) == pytest.approx(float(total.detach()), rel=1e-4)
    assert float(total.detach()) > 0.01
    want = gradient_of(method, 0.7 * total)
    if estimator == "reward_weighted":
        method.beta = 0.0
        want = want + gradient_of(method, method.loss_of(seen).total)
        method.beta = 0.7
    found = gradient_of(method, method.loss_of(seen).total)
    torch.testing.assert_close(found, want, rtol=2e-3, atol=2e-3 * float(want.abs().max()))


@pytest.mark.parametrize("clip", [0.02, 0.4])
def test_after_a_descent_steps_beyond_the_bound_on_the_ratio_carry_no_gradient(clip: float) -> None:
    method = ddpo(clip=clip)
    seen = walked(method)
    moved(method, 0.003)
    total, clipped = torch.zeros((), dtype=torch.float64), []
    for row in range(IMAGES):
        for place in range(STEPS):
            now = normals(method.encoder, seen, row, place).log_prob(seen.after[row, place].double()).sum()
            ratio, ahead = (now - seen.old[row, place].double()).exp(), float(seen.advantages[row])
            past = bool(ratio.detach() > 1 + clip if ahead > 0 else ratio.detach() < 1 - clip)
            clipped.append(past)
            total = total if past else total - ratio * ahead / IMAGES
    assert any(clipped)
    assert not all(clipped)
    found, want = gradient_of(method, method.loss_of(seen).total), gradient_of(method, total)
    torch.testing.assert_close(found, want, rtol=5e-3, atol=5e-3 * float(want.abs().max()))


def test_a_set_of_images_is_descended_on_as_often_as_asked_and_drawn_once() -> None:
    class Counting:
        progress = progress()
        totals: ClassVar[list[float]] = []

        def descend(self, loss: Loss) -> Loss:
            self.totals.append(float(loss.total.detach()))
            moved(method, 0.01)
            return loss

    judged = []
    method = ddpo(inner=3, reward=lambda images: judged.append(images) or images.mean(dim=(1, 2, 3)))
    method.update(digits().batch(np.arange(IMAGES)), Counting())  # type: ignore[arg-type]
    assert len(judged) == 1
    assert len(set(Counting.totals)) == 3


def test_the_ratio_is_exactly_1_at_first_and_not_after_a_descent() -> None:
    method = ddpo()
    seen = walked(method)
    mean, _ = method._steps(method.encoder, seen.before, seen.t)
    assert torch.equal(method._densities(seen.after, mean, seen.std), seen.old)
    method.loss_of(seen).total.backward()
    with torch.no_grad():
        for parameter in method.encoder.parameters():
            parameter -= 0.01 * (parameter.grad if parameter.grad is not None else 0)
    mean, _ = method._steps(method.encoder, seen.before, seen.t)
    assert not torch.equal(method._densities(seen.after, mean, seen.std), seen.old)


def test_nothing_that_was_drawn_or_judged_carries_a_gradient_and_the_start_stays() -> None:
    method = ddpo(reward=lambda images: images.sum(dim=(1, 2, 3)).requires_grad_(), beta=0.1)
    seen = walked(method)
    assert not any(value.requires_grad for value in vars(seen).values() if isinstance(value, Tensor))
    method.loss_of(seen).total.backward()
    assert all(p.grad is None for p in method.start.parameters())
    assert all(not p.requires_grad for p in method.start.parameters())


def test_the_divergence_is_0_at_the_start_and_beta_pulls_back_to_it() -> None:
    method = ddpo(reward=lambda images: torch.zeros(len(images)), beta=1.0)
    assert method.loss_of(walked(method)).terms["kl"] == 0
    assert not gradient(method).any()
    with torch.no_grad():
        method.encoder.last.bias += 0.1
    before = method.loss_of(walked(method)).terms["kl"]
    settings = Settings(steps=20, batch_size=IMAGES, lr=1e-3, weight_decay=0.0, accelerator="cpu")
    train(method, digits(), settings, quiet=True)
    after = method.loss_of(walked(method)).terms["kl"]
    assert 0 < after < 0.5 * before


@pytest.mark.parametrize("estimator", ["reinforce", "reward_weighted"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_an_image_without_a_reward_is_left_out_and_counted_and_is_not_worth_0(estimator: str, bad: float) -> None:
    def judge(images: Tensor) -> Tensor:
        given = images.mean(dim=(1, 2, 3)) + 5
        given[::3] = bad
        return given

    method = ddpo(reward=judge, estimator=estimator)
    seen = walked(method)
    assert len(seen.old) == IMAGES - 4
    assert seen.figures["dropped"] == pytest.approx(4 / IMAGES)
    assert seen.figures["reward"] > 5
    kept = [row for row in range(IMAGES) if row % 3]
    assert torch.equal(seen.before, walked(ddpo()).before[kept])
    assert gradient(method).isfinite().all()
    assert gradient(method).any()


@pytest.mark.parametrize("value", [0.1, -3.0, torch.nan])
def test_rewards_that_are_all_equal_or_all_missing_give_no_gradient_and_no_nan(value: float) -> None:
    method = ddpo(reward=lambda images: torch.full((len(images),), value))
    method.judged = 1
    assert torch.equal(gradient(method), torch.zeros_like(gradient(method)))


@pytest.mark.parametrize("estimator", ["reinforce", "reward_weighted"])
def test_no_reward_at_all_is_an_error_at_once_and_a_pause_later(estimator: str) -> None:
    given = [torch.nan]
    method = ddpo(reward=lambda images: torch.full((len(images),), given[0]), estimator=estimator)
    settings = Settings(steps=2, batch_size=IMAGES, lr=1e-3, accelerator="cpu")
    with pytest.raises(ValueError, match=f"none of the first {IMAGES} images has a reward: .* is NaN or infinite"):
        train(method, digits(), settings, quiet=True)
    method = ddpo(reward=lambda images: torch.full((len(images),), given[0]), estimator=estimator)
    given[0] = 0.5
    walked(method)
    given[0] = torch.inf
    assert walked(method).figures["dropped_total"] == IMAGES
    assert not gradient(method).any()
    assert (method.judged, method.dropped) == (IMAGES, 2 * IMAGES)


def test_images_that_were_left_out_before_a_training_was_cut_off_stay_counted(tmp_path: Path) -> None:
    def judge(images: Tensor) -> Tensor:
        return torch.where(torch.arange(len(images)) < 2, torch.nan, images.mean(dim=(1, 2, 3)))

    settings = Settings(steps=4, batch_size=IMAGES, lr=1e-3, accelerator="cpu")
    train(ddpo(reward=judge), digits(), settings, out=tmp_path, until=0.5, quiet=True)
    method = ddpo(reward=judge)
    train(method, digits(), settings, out=tmp_path, quiet=True)
    assert (method.judged, method.dropped) == (4 * (IMAGES - 2), 4 * 2)


def test_the_weights_of_reward_weighted_regression_are_1_on_average_and_larger_for_the_better() -> None:
    method = ddpo(estimator="reward_weighted", tau=0.5)
    seen = walked(method)
    rewards = method.encoder.as_image(seen.after[:, -1]).clamp(0, 1).mean(dim=(1, 2, 3)).double()
    want = ((rewards - rewards.mean()) / rewards.std() / 0.5).exp()
    torch.testing.assert_close(seen.advantages.double(), want / want.mean(), rtol=1e-3, atol=1e-3)


def test_without_a_reward_to_weigh_by_it_trains_on_nothing() -> None:
    method = ddpo(estimator="reward_weighted", reward=lambda images: torch.full((len(images),), torch.nan))
    method.judged = 1
    assert not gradient(method).any()


def test_as_many_images_are_drawn_as_asked_or_as_a_batch_has() -> None:
    assert len(walked(ddpo()).old) == IMAGES
    assert len(walked(ddpo(draws=5)).old) == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"beta": -0.1}, "beta is a price of 0 or more, got -0.1"),
        ({"beta": torch.nan}, "beta is a price"),
        ({"draws": 1}, "draws is 2 or more"),
        ({"inner": 0}, "inner is 1 descent or more"),
        ({"clip": 0.0}, "above 0"),
        ({"tau": 0.0}, "above 0"),
        ({"estimator": "reinforced"}, "did you mean 'reinforce'"),
        ({"reward": "inc"}, "did you mean 'ink'"),
    ],
)
def test_options_out_of_their_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ddpo(**options)


def test_a_model_that_draws_no_images_is_refused() -> None:
    for method in (DDPM, DDPO):
        with pytest.raises(ValueError, match="small:convnet does not say the noise"):
            method(build("small:convnet", image_size=8, channels=1))


@pytest.mark.parametrize("options", [{}, {"inner": 2}, {"estimator": "reward_weighted"}, {"beta": 0.01}])
def test_the_reward_rises(options: dict[str, Any]) -> None:
    method = ddpo(draws=64, **options)
    batch = digits(100).batch(np.arange(100))
    before = DiffusionModel(method.encoder).generate(batch).mean()
    settings = Settings(steps=40, batch_size=IMAGES, lr=5e-3, weight_decay=0.0, clip_norm=1.0, accelerator="cpu")
    kept = train(method, digits(), settings, quiet=True)
    assert isinstance(kept, DiffusionModel)
    assert kept.generate(batch).mean() > before + 0.02


@pytest.mark.slow
def test_from_the_command_line_a_run_is_trained_improved_and_draws(tmp_path: Path, capsys: Any) -> None:
    shared = ["--data", "digits", "--steps", "2", "--batch-size", "16", "--accelerator", "cpu"]
    small = ["--encoder.width", "16", "--encoder.steps", "3"]
    first, second = tmp_path / "ddpm", tmp_path / "ddpo"
    assert main(["pretrain", "ddpm", *shared, *small, "--out", str(first)]) == 0
    more = ["--pretrained", str(first), "--method.beta", "0.1", "--out", str(second)]
    assert main(["pretrain", "ddpo", *shared, *small, *more]) == 0
    out = tmp_path / "drawn.npy"
    assert main(["apply", str(second), "--data", "digits", "--ability", "generate", "--out", str(out)]) == 0
    drawn = np.load(out)
    assert drawn.shape == (1797, 1, 8, 8)
    model = load_model(second)
    assert isinstance(model, DiffusionModel)
    batch = open_source("digits", progress=False).batch(np.arange(4))
    np.testing.assert_allclose(drawn[:4], model.generate(batch).numpy(), atol=1e-5)
    assert "at the start" in (second / "report.html").read_text()
