"""DINO: who sees what, what the teacher is, and how temperature, centre and prototypes move."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autodidact.data import Source, open_source
from autodidact.encoders import build
from autodidact.methods.image.dino import DINO
from autodidact.methods.method import Progress
from autodidact.objectives import dino_loss
from autodidact.training import Settings, train

VIT = "small:vit?width=16&depth=2&heads=2&drop_path=0.2"


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False)


def made(source, name=VIT, **options):
    torch.manual_seed(0)
    encoder = build(name, schema=source.schema)
    return DINO(encoder, **{"prototypes": 12, "hidden": 16, "bottleneck": 8, "local_count": 2, **options})


def progress(step=0):
    return Progress(step, 100, 0, torch.Generator().manual_seed(step))


def shown(method, source, n=6, step=0):
    return method.views(source.batch(np.arange(n)), progress(step))


def naive(method, views, centre, temperature):
    large, small = list(views.named.values())[:2], list(views.named.values())[2:]
    student = [method.head(method.encoder(view).pooled) for view in (*large, *small)]
    teacher = [method.slow_head(method.slow_encoder(view).pooled) for view in large]
    return dino_loss(
        student, teacher, centre, student_temperature=method.temperature, teacher_temperature=temperature
    ), teacher


@pytest.mark.parametrize("centring", ["mean", "sinkhorn"])
def test_the_student_of_all_views_is_compared_with_the_teacher_of_the_two_large_ones(digits, centring):
    method = made(digits, centring=centring).eval()
    views = shown(method, digits)
    assert [tuple(view.shape[2:]) for view in views.named.values()] == [(8, 8), (8, 8), (4, 4), (4, 4)]
    expected, _ = naive(method, views, torch.zeros(12) if centring == "mean" else None, 0.04)
    torch.testing.assert_close(method.loss(views, progress()).total, expected, rtol=1e-5, atol=1e-6)


def test_the_centre_follows_the_teachers_mean_after_the_update_not_within_it(digits):
    method = made(digits, centre_momentum=0.8)
    views = shown(method, digits)
    first = method.loss(views, progress())
    _, teacher = naive(method, views, torch.zeros(12), 0.04)
    assert not method.centre.value.any()
    method.after_update(progress())
    torch.testing.assert_close(method.centre.value, 0.2 * torch.cat(teacher).mean(0), rtol=1e-4, atol=1e-6)
    method.eval()
    assert float(method.loss(views, progress()).total.detach()) != pytest.approx(float(first.total.detach()), rel=1e-4)
    assert method.said == []


def test_the_teacher_takes_no_gradient_drops_nothing_and_follows_ever_slower(digits):
    method = made(digits, momentum=0.8)
    loss = method.loss(shown(method, digits), progress())
    loss.total.backward()
    slow = [*method.slow_encoder.parameters(), *method.slow_head.parameters()]
    assert not any(p.requires_grad or p.grad is not None for p in slow)
    assert not {id(p) for group in method.groups() for p in group.parameters} & {id(p) for p in slow}
    images = shown(method, digits)["a"]
    method.train()
    assert torch.equal(method.slow_encoder(images).pooled, method.slow_encoder(images).pooled)
    for step, momentum in ((0, 0.8), (50, 0.9), (100, 1.0)):
        before = [p.clone() for p in method.slow_head.parameters()]
        with torch.no_grad():
            for p in method.head.parameters():
                p.add_(1.0)
        method.after_update(progress(step))
        for old, new, own in zip(before, method.slow_head.parameters(), method.head.parameters(), strict=True):
            torch.testing.assert_close(new, momentum * old + (1 - momentum) * own)


def test_the_teachers_temperature_rises_in_the_first_share_of_the_training(digits):
    method = made(digits, teacher_temperature=(0.02, 0.06), temperature_warmup=0.4)
    assert [method.teacher_heat(progress(step)) for step in (0, 20, 40, 90)] == pytest.approx([0.02, 0.04, 0.06, 0.06])
    assert made(digits, temperature_warmup=0.0).teacher_heat(progress(0)) == 0.07


def test_prototypes_stay_as_they_are_for_a_share_of_the_training(digits):
    settings = Settings(steps=4, batch_size=16, warmup=0.0, schedule="constant", lr=1e-2)
    for frozen, moves in ((1.0, False), (0.5, True)):
        method = made(digits, frozen=frozen, local_count=0)
        before = method.head.prototypes.detach().clone()
        train(method, digits.at(np.arange(64)), settings, quiet=True)
        assert torch.equal(method.head.prototypes, before) is not moves


def test_what_is_kept_is_the_teacher_and_can_be_trained(digits):
    method = made(digits)
    with torch.no_grad():
        next(method.encoder.parameters()).add_(1.0)
    kept = method.kept().encoder
    assert all(
        torch.equal(p, q) for p, q in zip(kept.parameters(), method.slow_encoder.module.parameters(), strict=True)
    )
    assert all(p.requires_grad for p in kept.parameters())
    assert not {id(p) for p in kept.parameters()} & {id(p) for p in method.parameters()}


def test_large_images_are_cropped_as_in_the_paper_in_whole_patches_and_colour_images_as_in_the_paper():
    method = DINO(build("small:vit?width=8&depth=1&heads=2&patch=16", image_size=224, channels=3), prototypes=4)
    found = [(a.crop_scale, a.shape[0], a.blur_p, a.solarise_p) for a in method.augments]
    assert found == [((0.4, 1.0), 224, 1.0, 0.0), ((0.4, 1.0), 224, 0.1, 0.2)] + [((0.05, 0.4), 96, 0.5, 0.0)] * 4
    grey = DINO(build("small:vit?width=8&depth=1&heads=2&patch=4", image_size=28, channels=1), prototypes=4)
    assert [a.shape[0] for a in grey.augments] == [28, 28, 16, 16, 16, 16]


def test_an_encoder_of_one_size_is_refused_before_training_unless_there_are_no_small_views():
    encoder = build("small:scatnet", image_size=8, channels=1, orientations=4, width=8, blocks=1)
    with pytest.raises(ValueError, match=r"small:scatnet takes no small views of 3 pixels .* set local_count=0"):
        DINO(encoder, prototypes=4, local_size=3)
    assert len(DINO(encoder, prototypes=4, local_count=0).augments) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": 0.0}, "temperatures must be positive"),
        ({"teacher_temperature": (0.04, -0.1)}, "temperatures must be positive"),
        ({"teacher_temperature": (0.04,)}, "the teacher's two of them"),
        ({"temperature_warmup": 1.5}, "temperature_warmup is a share"),
        ({"frozen": -0.1}, "frozen is a share"),
        ({"prototypes": 1}, "at least 2 prototypes"),
        ({"centring": "median"}, "centring must be mean or sinkhorn, got 'median'"),
        ({"centring": "sinkhorn", "centre_momentum": 0.8}, "of no use under sinkhorn"),
        ({"momentum": 1.5}, "momentum"),
        ({"local_count": 25}, "local_count is at most 24, got 25"),
    ],
)
def test_options_out_of_range_are_refused(digits, options, said):
    with pytest.raises(ValueError, match=said):
        made(digits, **options)


def test_it_learns_digits_better_than_its_own_random_start(digits, taught):
    method = made(
        digits,
        "small:vit?width=32&depth=2&heads=2",
        prototypes=64,
        hidden=64,
        bottleneck=32,
        momentum=0.9,
        local_count=0,
    )
    _, before, after = taught(method, 100)
    assert after > before + 0.02
