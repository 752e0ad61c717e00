"""DDPM and DDPO: what is descended, what carries no gradient, which rewards count, and that rewards rise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from autodidact.methods.method import Progress, Views
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
    assert torch.equal(gradient(method), torch.zeros_like(gradient(method)))


def test_the_weights_of_reward_weighted_regression_are_1_on_average_and_larger_for_the_better() -> None:
    method = ddpo(estimator="reward_weighted", tau=0.5)
    seen = walked(method)
    rewards = method.encoder.as_image(seen.after[:, -1]).clamp(0, 1).mean(dim=(1, 2, 3)).double()
    want = ((rewards - rewards.mean()) / rewards.std() / 0.5).exp()
    torch.testing.assert_close(seen.advantages.double(), want / want.mean(), rtol=1e-3, atol=1e-3)


def test_without_a_reward_to_weigh_by_it_trains_on_nothing() -> None:
    method = ddpo(estimator="reward_weighted", reward=lambda images: torch.full((len(images),), torch.nan))
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
