"""BSS: one style and one look a slot, negatives from the own slot, whatever method it stands before."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from autodidact.catalog import cards, target
from autodidact.data import ArraySource, Batch, Field, Schema
from autodidact.encoders import build
from autodidact.methods.image.bss import BSS, TAKEN
from autodidact.methods.image.denoising_autoencoder import DenoisingAutoencoder
from autodidact.methods.image.look import LOOK
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.image.swav import SwAV
from autodidact.methods.method import Progress, Views
from autodidact.methods.two_views import SeveralViews
from autodidact.model import load_model
from autodidact.recipes.names import make_method
from autodidact.training import Settings, train
from autodidact.views import Augment, mix, restyle
from autodidact.views.style import low_frequencies

NARROW = {"dimensions": 16, "hidden": 16}
FEW = {"prototypes": 8, "local_count": 2, "local_size": 8}
METHODS = {
    "simclr": {},
    "dcl": {},
    "scat_simclr": {"pretext_dropout": 0.0},
    "moco": {"queue": 32},
    "moco_v3": NARROW,
    "swav": FEW,
    "seer": FEW,
    "dino": {**FEW, "hidden": 16, "bottleneck": 8},
    "ibot": {**FEW, "hidden": 16, "bottleneck": 8},
    "byol": NARROW,
    "simsiam": {"dimensions": 16, "bottleneck": 8},
    "direct_pred": NARROW,
    "barlow_twins": {"dimensions": 16},
    "mixed_barlow_twins": {"dimensions": 16},
    "vicreg": {"dimensions": 16},
}
"""All methods that are taken, with options that keep them small."""
STILL = {"crop_scale": None, "flip": 0.0, "jitter": (0.0, 0.0, 0.0, 0.0), "grey_p": 0.0, "blur_p": 0.0}
"""An augmentation that changes nothing, so that only styles are seen."""


@pytest.fixture(scope="module")
def colours():
    images = np.random.default_rng(0).random((32, 3, 16, 16)).astype(np.float32) * 0.2 + 0.4
    return ArraySource("colours", {"image": images}, Schema(image=Field("image", (3, 16, 16))), np.arange(100, 132))


def made(source, base="simclr", changes=None, encoder=None, **options):
    torch.manual_seed(0)
    plain = {"name": "small:convnet", "width": 4}
    patches = {"name": "small:vit", "width": 8, "depth": 1, "heads": 2, "patch": 4}
    encoder = encoder or build(schema=source.schema, **(patches if base == "ibot" else plain))
    own = {**METHODS[base], "view": "simclr", "view_changes": changes}
    return BSS(encoder, method=target(cards()[base])(encoder, **own), **options)


def progress(step=0):
    return Progress(step, 100, 0, torch.Generator().manual_seed(step))


def shown(method, source, n=8, step=0):
    return method.views(source.batch(np.arange(n)), progress(step))


def amplitudes(view, ratio):
    inside = low_frequencies(torch.tensor(ratio), *view.shape[2:])
    return torch.fft.rfft2(view.double()).abs()[..., inside]


def test_images_of_a_slot_share_their_low_frequency_amplitude_and_those_of_two_slots_do_not(colours):
    views = shown(made(colours, changes=STILL, ratio=(0.1, 0.1)), colours)
    a, b = (amplitudes(views[name], 0.1) for name in "ab")
    assert (a - a[:1]).abs().max() < 1e-4
    assert (b - b[:1]).abs().max() < 1e-4
    assert (a[0] - b[0]).abs().max() > 0.01


def test_with_ordinary_fourier_augmentation_each_image_has_a_style_of_its_own(colours):
    method = made(colours, changes=STILL, ratio=(0.1, 0.1), style="image")
    views = shown(method, colours)
    a = amplitudes(views["a"], 0.1)
    assert (a - a[:1]).abs().amax(dim=(1, 2))[1:].min() > 0.01
    assert views.slot is None
    assert not method.one_look
    # Every image has the style of some image of the batch, each once.
    images = colours.batch(np.arange(8))["image"]
    distance = (a[:, None] - amplitudes(images, 0.1)[None]).abs().amax(dim=(2, 3))
    assert distance.min(1).values.max() < 1e-4
    assert sorted(distance.argmin(1).tolist()) == list(range(8))


def test_with_a_ratio_of_0_only_the_look_is_shared(colours):
    views = shown(made(colours, changes=STILL, ratio=(0.0, 0.0)), colours)
    images = colours.batch(np.arange(8))["image"]
    torch.testing.assert_close(views["a"], images, atol=1e-5, rtol=0)


def test_colour_jitter_is_one_inside_a_slot_and_another_in_the_next(colours, monkeypatch):
    drawn = []
    render = made(colours).method.augments[0].__class__.render

    def spy(self, images, parameters, **more):
        drawn.append(parameters)
        return render(self, images, parameters, **more)

    monkeypatch.setattr("autodidact.views.Augment.render", spy)
    jittered = {"jitter_p": 1.0, "blur_p": 0.5}
    shown(made(colours, changes=jittered), colours)
    a, b = drawn
    for name in ("jitter", "order", "grey", "sigma"):
        assert len(getattr(a, name).unique(dim=0)) == 1
    assert not torch.equal(a.jitter, b.jitter)
    assert len(a.crop.unique(dim=0)) > 1
    drawn.clear()
    shown(made(colours, changes=jittered, jitter="image"), colours)
    assert len(drawn[0].jitter.unique(dim=0)) == 8


def test_views_name_their_slot_and_the_last_argument_takes_it_away(colours):
    views = shown(made(colours, "swav"), colours)
    assert {name: slot.tolist() for name, slot in views.slot.items()} == {
        name: [number] * 8 for number, name in enumerate("abcd")
    }
    assert shown(made(colours, negatives="all"), colours).slot is None


def naive(z, t):
    """The loss of SimCLR with BSS by loops: z (n, v, d), negatives are the other images in the anchor's slot."""
    n, v, _ = z.shape
    z = torch.nn.functional.normalize(z.double(), dim=2)
    total = 0.0
    for i in range(n):
        for a in range(v):
            others = math.fsum(math.exp(float(z[i, a] @ z[k, a]) / t) for k in range(n) if k != i)
            for b in set(range(v)) - {a}:
                positive = float(z[i, a] @ z[i, b]) / t
                total -= positive - math.log(math.exp(positive) + others)
    return total / (n * v * (v - 1))


@pytest.mark.parametrize("slots", [2, 3])
def test_simclr_takes_negatives_of_the_own_slot_over_all_pairs_of_slots(colours, slots):
    method = made(colours, slots=slots).double()
    views = shown(method, colours)
    assert len(views.named) == slots
    views.named = {name: view.double() for name, view in views.named.items()}
    images = list(views.named.values())
    z = method.method.projector(method.encoder(torch.cat(images)).pooled).detach().chunk(slots)
    found = float(method.loss(views, progress()).total.detach())
    assert found == pytest.approx(naive(torch.stack(z, dim=1), 0.1), rel=1e-10)


@pytest.mark.parametrize("base", METHODS)
def test_each_method_does_with_standardised_views_what_it_does_with_its_own(colours, base):
    """Its loss, groups, queue and teacher are its own: the same views give the same loss inside and outside."""
    method = made(colours, base, negatives="all")
    views = shown(method, colours)
    inside = method.loss(views, progress())
    outside = method.method.loss(views, progress())
    assert torch.allclose(inside.total, outside.total, rtol=1e-4)
    inside.total.backward()
    names = [group.name for group in method.groups()]
    assert names == [group.name for group in method.method.groups()]
    method.after_update(progress())
    if base == "moco":
        assert len(method.method.queue) > 0


def test_every_method_on_several_random_views_is_taken_and_named():
    assert set(TAKEN) == set(METHODS)
    methods = {name: target(card) for name, card in cards().items() if card.kind == "method"}
    assert set(TAKEN) == {name for name, cls in methods.items() if issubclass(cls, SeveralViews)}
    assert all(name in BSS.__doc__ for name in TAKEN)


def test_what_mixed_barlow_twins_mixes_are_the_standardised_views(colours):
    views = shown(made(colours, "mixed_barlow_twins", changes=STILL, ratio=(0.1, 0.1)), colours)
    expected = mix(views["a"], views["b"], views["order"], views["share"])
    torch.testing.assert_close(views["mixed"], expected, rtol=0, atol=0)


def test_the_task_of_scat_simclr_sees_the_images_in_their_own_styles(colours):
    still = made(colours, "scat_simclr", changes=STILL, ratio=(1.0, 1.0))
    views = shown(still, colours)
    images = colours.batch(np.arange(8))["image"]
    torch.testing.assert_close(views["pretext"][views["done"] == 0], images)
    assert (views["a"] - images).abs().max() > 0.01


@pytest.mark.parametrize("base", ["byol", "simsiam", "moco_v3"])
def test_methods_that_predict_the_other_view_compare_all_pairs_of_three_slots(colours, base):
    method = made(colours, base, slots=3)
    views = shown(method, colours)
    pairs = [
        method.method.loss(Views({"a": views[first], "b": views[second]}, views.ids), progress()).total.detach()
        for first, second in ("ab", "ac", "bc")
    ]
    torch.testing.assert_close(method.loss(views, progress()).total.detach(), torch.stack(pairs).mean())


@pytest.mark.parametrize("base", ["simclr", "dcl", "scat_simclr"])
def test_slots_change_the_loss_of_methods_with_negatives(colours, base):
    method = made(colours, base)
    views = shown(method, colours)
    within = float(method.loss(views, progress()).total.detach())
    among = float(made(colours, base).loss(replace(views, slot=None), progress()).total.detach())
    assert within != pytest.approx(among, rel=1e-3)


def test_the_codes_of_swav_are_of_one_slot_each_as_every_large_view_is_one(colours):
    method = made(colours, "swav")
    views = shown(method, colours)
    plain = made(colours, "swav").loss(replace(views, slot=None), progress()).total
    assert torch.allclose(method.loss(views, progress()).total, plain)


def test_crops_may_be_styled_instead_of_whole_images(colours):
    cropped = {**STILL, "crop_scale": (0.3, 0.6)}
    after = shown(made(colours, changes=cropped, ratio=(0.1, 0.1), order="crop, style"), colours)
    before = shown(made(colours, changes=cropped, ratio=(0.1, 0.1)), colours)
    spread = {
        name: (v - v[:1]).abs().max()
        for name, v in (("after", amplitudes(after["a"], 0.1)), ("before", amplitudes(before["a"], 0.1)))
    }
    assert spread["after"] < 1e-3
    assert spread["before"] > 0.01


def on_canvas(images, size, box, around=0.0):
    """A batch of images that lie in a box of a canvas."""
    top, left, height, width = box
    canvas = torch.full((*images.shape[:2], *size), around)
    canvas[:, :, top : top + height, left : left + width] = images
    boxes = torch.tensor([box], dtype=torch.float32).expand(len(images), 4)
    return Batch(torch.arange(len(images)), {"image": canvas, "box": boxes})


def smooth(n, height, width):
    """Images of slow waves, which hardly change when they are resized."""
    down, across = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    phase = torch.arange(3 * n).view(n, 3, 1, 1)
    return 0.5 + 0.2 * torch.sin(3 * down + 2 * across + phase) + 0.2 * torch.cos(4 * across + 2 * phase)


@pytest.mark.parametrize("order", ["style, crop", "crop, style"])
def test_an_image_smaller_than_its_canvas_is_styled_without_the_canvas(colours, order):
    method = made(colours, changes={**STILL, "crop_scale": (0.3, 0.6)}, ratio=(0.1, 0.1), references="far", order=order)
    images = colours.batch(np.arange(6))["image"]
    black, white = (
        method.views(on_canvas(images, (24, 24), (2, 4, 16, 16), around), progress()) for around in (0.0, 1.0)
    )
    for name in "ab":
        torch.testing.assert_close(black[name], white[name], rtol=0, atol=0)


@pytest.mark.parametrize("order", ["style, crop", "crop, style"])
def test_a_box_that_is_the_whole_image_changes_no_view_however_large_the_image(colours, order):
    """Images are four times as large as the views, and their stripes a pixel wide: what a crop shows is seen."""
    images = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 0.2
    images[..., ::2] += 0.8
    method = made(colours, changes={**STILL, "crop_scale": (0.03, 0.1)}, ratio=(0.01, 0.05), order=order)
    boxed = method.views(on_canvas(images, (64, 64), (0, 0, 64, 64)), progress())
    plain = method.views(Batch(torch.arange(6), {"image": images}), progress())
    for name in "ab":
        torch.testing.assert_close(boxed[name], plain[name], atol=1e-5, rtol=0)
        assert boxed[name].std() > 0.2


def test_crops_keep_the_shape_that_they_have_in_the_image(colours, monkeypatch):
    drawn = []
    draw = Augment.draw

    def spy(self, *given):
        drawn.append(draw(self, *given))
        return drawn[-1]

    monkeypatch.setattr("autodidact.views.Augment.draw", spy)
    method = made(colours, changes={**STILL, "crop_scale": (0.2, 0.5)}, ratio=(0.0, 0.0))
    batch = on_canvas(smooth(8, 20, 40), (40, 48), (10, 3, 20, 40))
    views = method.views(batch, progress())
    for name, parameters in zip("ab", drawn, strict=True):
        own = method.method.augments[0].render(batch["image"], parameters)
        torch.testing.assert_close(views[name], own, atol=0.03, rtol=0)


def test_far_references_are_apart_where_one_colour_is_common(colours):
    batch = colours.batch(np.arange(8))
    batch.fields["image"] = batch["image"].clone()
    batch.fields["image"][5] += 0.4
    for step in range(5):
        views = made(colours, changes=STILL, ratio=(0.1, 0.1), references="far").views(batch, progress(step))
        means = sorted(float(views[name].mean()) for name in "ab")
        assert means[1] - means[0] == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize("style", ["batch", "image"])
def test_ratios_are_drawn_uniformly_between_the_two_for_each_style(colours, monkeypatch, style):
    seen = []

    def spy(images, styles, ratios):
        seen.append(ratios)
        return restyle(images, styles, ratios)

    monkeypatch.setattr("autodidact.methods.image.bss.restyle", spy)
    method = made(colours, changes=STILL, ratio=(0.2, 0.6), style=style)
    for step in range(100):
        shown(method, colours, step=step)
    assert {tuple(one.shape) for one in seen} == {(2, 8 if style == "image" else 1)}
    ratios = torch.stack(seen).flatten()
    assert len(ratios.unique()) > 0.99 * len(ratios)
    assert 0.2 <= float(ratios.min()) < 0.22
    assert 0.58 < float(ratios.max()) <= 0.6
    assert float(ratios.mean()) == pytest.approx(0.4, abs=0.03)


def test_the_name_of_a_method_is_enough_where_methods_are_made_by_name(colours):
    def encoder(_):
        torch.manual_seed(0)
        return build("small:convnet", schema=colours.schema, width=4)

    assert type(make_method(BSS, encoder, {}, colours, 0).method) is SimCLR
    given = {"method": {"name": "swav", "prototypes": 7}}
    method = make_method(BSS, encoder, given, colours, 0)
    assert type(method.method) is SwAV
    assert method.method.prototypes.out_features == 7
    assert method.encoder is method.method.encoder


@pytest.mark.parametrize("base", ["simclr", "moco", "swav"])
def test_it_trains_and_keeps_the_encoder_of_the_method(colours, base, tmp_path):
    method = made(colours, base)
    model = train(method, colours, Settings(steps=2, batch_size=16), quiet=True)
    model.save(tmp_path / "model")
    batch = colours.batch(np.arange(4))
    with torch.inference_mode():
        torch.testing.assert_close(load_model(tmp_path / "model").embed(batch), model.embed(batch), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"slots": 1}, "SimCLR shows 2 views, .* slots is 0 or at least 2; got 1"),
        ({"slots": -2}, "got -2"),
        ({"base": "swav", "slots": 2}, "SwAV shows 4 views, .* slots is 0 or at least 4; got 2"),
        ({"base": "dino", "slots": 3}, "DINO shows 4 views, .* got 3"),
        ({"ratio": (0.1, 1.2)}, r"0 <= low <= high <= 1, got \(0.1, 1.2\)"),
        ({"ratio": (0.3, 0.1)}, "low <= high"),
        ({"style": "batches"}, "style must be one of 'batch', 'image', got 'batches'"),
        ({"style": "image", "negatives": "slot"}, "no two images share a style"),
        ({"style": "image", "slots": 2}, "no two images share a style"),
        ({"base": "moco", "slots": 3}, "MoCo compares 2 views, there cannot be 3 slots"),
    ],
)
def test_options_out_of_range_are_refused(colours, options, said):
    with pytest.raises(ValueError, match=said):
        made(colours, **options)


def test_methods_whose_views_cannot_be_made_for_them_are_refused(colours):
    encoder = build("small:convpool", schema=colours.schema)
    with pytest.raises(ValueError, match="not for DenoisingAutoencoder"):
        BSS(encoder, method=DenoisingAutoencoder(encoder))
    with pytest.raises(ValueError, match=r"\(simclr, dcl, .*, vicreg\), not for LOOK"):
        BSS(encoder, method=LOOK(encoder, samples=32, neighbours=2))
    with pytest.raises(ValueError, match="give bss a method on the same encoder, not the name 'simclr'"):
        BSS(encoder)
    with pytest.raises(ValueError, match="must have one encoder"):
        BSS(encoder, method=SimCLR(build("small:convpool", schema=colours.schema)))


def test_batches_with_too_few_images_for_the_styles_are_refused(colours):
    with pytest.raises(ValueError, match="this one has a single image"):
        shown(made(colours), colours, 1)
    with pytest.raises(ValueError, match="4 styles need as many images to take them from; the batch has 3"):
        shown(made(colours, slots=4), colours, 3)


def test_batches_with_constant_images_give_finite_views_and_losses(colours):
    batch = colours.batch(np.arange(8))
    batch.fields["image"] = batch["image"].clone()
    batch.fields["image"][:4] = 0
    method = made(colours, ratio=(0.0, 1.0))
    for step in range(5):
        views = method.views(batch, progress(step))
        assert all(torch.isfinite(view).all() for view in views.named.values())
        assert torch.isfinite(method.loss(views, progress(step)).total)
