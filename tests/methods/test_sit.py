"""SiT: who sees what, what each task costs, and what GMML and it have in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from autodidact.data import Source, open_source
from autodidact.encoders import build
from autodidact.measures import collapse_verdict
from autodidact.methods.masked.gmml import GMML
from autodidact.methods.masked.sit import SiT
from autodidact.methods.method import Progress, Views
from autodidact.model import load_model
from autodidact.training.monitors import Window, look

VIT = "small:vit?width=16&depth=2&heads=2"
ALL = ("rec", "rot", "con")


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False)


def made(source, name=VIT, **options):
    torch.manual_seed(0)
    encoder = build(name, schema=source.schema, statistics={"mean": [0.3], "std": [0.4]})
    return SiT(encoder, **{"hidden": 16, "dimensions": 8, "max_block": 0.5, **options})


def progress(step=0):
    return Progress(step, 100, 0, torch.Generator().manual_seed(step))


def shown(method, source, n=6, step=0):
    return method.views(source.batch(np.arange(n)), progress(step))


def parts(method, views):
    """What networks say of the views, one view at a time where that makes no difference."""
    encoded = method.encoder(views["seen"])
    said = method.projector(encoded.pooled)
    clean = views["clean"] * method.encoder.std + method.encoder.mean
    wanted = method.slow_projector(method.slow_encoder(clean).pooled)
    return encoded, said, wanted


def contrast(said, wanted, t):
    u, v = normalize(said.double(), dim=1).chunk(2), normalize(wanted.double(), dim=1).chunk(2)
    labels = torch.arange(len(u[0]))
    return 2 * t * (cross_entropy(u[0] @ v[1].T / t, labels) + cross_entropy(u[1] @ v[0].T / t, labels))


def repainting(painted, views):
    total, count = 0.0, 0
    for n, y, x in views["mask"][:, 0].nonzero().tolist():
        total += float((painted[n, 0, y, x].double() - views["clean"][n, 0, y, x].double()).abs())
        count += 1
    return total / count


def test_the_loss_is_the_contrast_with_the_clean_views_and_lam_times_the_error_of_the_corrupted_pixels(digits):
    """Also that of Sara-Ahmed/SiT at 7f22e9c: its SimCLR, and the L1 over the pixels of its masks, of both views."""
    method = made(digits, lam=3.0, temperature=0.3)
    views = shown(method, digits)
    encoded, said, wanted = parts(method, views)
    expected = [float(contrast(said, wanted, 0.3).detach()), repainting(method.head(encoded.tokens).detach(), views)]
    loss = method.loss(views, progress())
    assert [float(loss.terms[name].detach()) for name in ("con", "rec")] == pytest.approx(expected, rel=1e-5)
    assert float(loss.total.detach()) == pytest.approx(expected[0] + 3 * expected[1], rel=1e-5)


def test_the_student_sees_corrupted_views_and_the_teacher_clean_ones(digits):
    method = made(digits, fill="noise", alien_p=0.0)
    views = shown(method, digits)
    seen, mask = (views["seen"] - 0.3) / 0.4, views["mask"].expand_as(views["seen"])
    assert len(seen) == 12
    torch.testing.assert_close(seen[~mask], views["clean"][~mask])
    assert not (seen == views["clean"])[mask].any()
    assert not torch.equal(views["clean"][:6], views["clean"][6:])
    changed = Views({**views.named, "seen": views["seen"] + 0.1}, views.ids)
    for name, reaches in (("projection", True), ("projection_b", False)):
        found = [method.loss(v, progress()).watch[name] for v in (views, changed)]
        assert torch.equal(*found) is not reaches


def test_exchanging_the_views_changes_nothing(digits):
    method = made(digits)
    views = shown(method, digits)
    swapped = Views({name: torch.cat(value.chunk(2)[::-1]) for name, value in views.named.items()}, views.ids)
    torch.testing.assert_close(method.loss(swapped, progress()).total, method.loss(views, progress()).total)


def test_no_gradient_reaches_the_teacher_and_the_optimiser_does_not_have_it(digits):
    method = made(digits)
    method.loss(shown(method, digits), progress()).total.backward()
    slow = [*method.slow_encoder.parameters(), *method.slow_projector.parameters()]
    assert not any(p.requires_grad or p.grad is not None for p in slow)
    assert not {id(p) for group in method.groups() for p in group.parameters} & {id(p) for p in slow}


@pytest.mark.parametrize(("momentum", "step", "kept"), [(1.0, 0, 1.0), (0.0, 0, 0.0), (0.6, 50, 0.8), (0.6, 100, 1.0)])
def test_the_teacher_follows_exactly_stays_at_one_and_copies_at_zero(digits, momentum, step, kept):
    method = made(digits, momentum=momentum)
    pairs = [(method.slow_encoder, method.encoder), (method.slow_projector, method.projector)]
    before = [[p.clone() for p in slow.parameters()] for slow, _ in pairs]
    with torch.no_grad():
        for _, student in pairs:
            for p in student.parameters():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    method.after_update(progress(step))
    for old, (slow, student) in zip(before, pairs, strict=True):
        for p, q, own in zip(old, slow.parameters(), student.parameters(), strict=True):
            torch.testing.assert_close(q.double(), kept * p.double() + (1 - kept) * own.double(), rtol=1e-5, atol=1e-6)


def test_batch_norms_of_the_teacher_use_the_batch_and_take_over_running_statistics_and_nothing_is_dropped(digits):
    method = made(digits, VIT + "&drop_path=0.5")
    method.eval().train()
    assert not method.slow_encoder.module.training
    views = shown(method, digits)
    *_, wanted = parts(method, views)
    # The last norm has no scale, so every dimension has mean 0 and spread 1 over the batch.
    torch.testing.assert_close(wanted.mean(0), torch.zeros(8), atol=1e-5, rtol=0)
    assert torch.equal(parts(method, views)[2], wanted)
    method.after_update(progress())
    norm = method.projector[1]
    assert norm.num_batches_tracked > 0
    assert torch.equal(method.slow_projector.module[1].running_mean, norm.running_mean)


def test_with_lam_zero_the_head_that_paints_takes_no_gradient_and_the_network_that_of_the_contrast(digits):
    both, alone = made(digits, lam=0.0), made(digits, tasks=("con",))
    alone.load_state_dict(both.state_dict(), strict=False)
    views = shown(both, digits)
    for method in (both, alone):
        method.loss(views, progress()).total.backward()
    assert all(not p.grad.any() for p in both.head.parameters())
    assert not hasattr(alone, "head")
    for p, q in zip(both.encoder.parameters(), alone.encoder.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_repainting_alone_is_gmml_from_the_last_block_on_the_same_masks(digits):
    sit = made(digits, tasks=("rec",))
    assert not hasattr(sit, "slow_encoder")
    torch.manual_seed(0)
    gmml = GMML(build(VIT, schema=digits.schema, statistics={"mean": [0.3], "std": [0.4]}))
    gmml.encoder.load_state_dict(sit.encoder.state_dict())
    gmml.head.load_state_dict(sit.head.state_dict())
    gmml.norm.load_state_dict(sit.encoder.model.norm.state_dict())
    gmml.taps = (sit.encoder.depth - 1,)
    views = shown(sit, digits)
    losses = [method.loss(views, progress()) for method in (sit, gmml)]
    torch.testing.assert_close(losses[0].total, losses[1].total)
    assert set(losses[0].terms) == {"rec"}


def test_the_rotation_is_read_from_a_token_of_its_own_of_views_turned_each_by_itself(digits):
    method = made(digits, VIT + "&registers=1", tasks=ALL, view="none", fill="zeros", alien_p=0.0)
    views = shown(method, digits, 24)
    upright = method.encoder.prepare(digits.batch(np.arange(24)).fields)
    for row, turn in enumerate(views["turn"].tolist()):
        back = torch.rot90(views["clean"][row] * 0.4 + 0.3, -turn, (-2, -1))
        torch.testing.assert_close(back, upright[row % 24], atol=1e-5, rtol=0)
    assert set(views["turn"].tolist()) == {0, 1, 2, 3}
    assert (views["turn"][:24] != views["turn"][24:]).any()
    loss = method.loss(views, progress())
    logits = method.turn_head(method.encoder(views["seen"]).prefix[:, 1])
    torch.testing.assert_close(loss.terms["rot"], cross_entropy(logits, views["turn"]))
    torch.testing.assert_close(loss.total, loss.terms["rec"] + loss.terms["con"] + loss.terms["rot"])


def test_learned_weights_are_trained_with_the_network(digits):
    method = made(digits, VIT + "&registers=1", tasks=ALL, weighting="uncertainty")
    views = shown(method, digits)
    loss = method.loss(views, progress())
    a = torch.tensor([0.5, -0.5, 1.0])
    plain = [loss.terms[name] for name in method.tasks]
    torch.testing.assert_close(loss.total, torch.stack(plain).sum())
    with torch.no_grad():
        method.weights.log_variances.copy_(a)
    total = method.loss(views, progress()).total
    torch.testing.assert_close(total, sum((-s).exp() * term + s for s, term in zip(a, plain, strict=True)))
    trained = {id(p) for group in method.groups() for p in group.parameters}
    assert id(method.weights.log_variances) in trained


def test_a_class_token_that_is_the_same_for_all_images_sets_off_the_alarm(digits):
    method = made(digits)
    batch = digits.batch(np.arange(64))
    window = Window()
    with torch.no_grad():
        loss = method.loss(method.views(batch, progress()), progress())
        assert collapse_verdict(loss.watch["embedding"]) is None
        for p in (method.encoder.model.norm.weight,):
            nn.init.zeros_(p)
        nn.init.ones_(method.encoder.model.norm.bias)
        loss = method.loss(method.views(batch, progress()), progress())
    unit = normalize(loss.watch["embedding"], dim=1)
    assert float(unit.std(0).max()) < 0.01 / 16**0.5
    window.add(loss, batch)
    assert "has collapsed" in look(window)[1]


def test_with_nothing_corrupted_repainting_costs_nothing(digits):
    method = made(digits)
    views = shown(method, digits)
    views.named["mask"] = torch.zeros_like(views["mask"])
    loss = method.loss(views, progress())
    loss.total.backward()
    assert float(loss.terms["rec"].detach()) == 0
    assert all(not p.grad.any() for p in method.head.parameters())


def test_a_picture_shows_seen_pixels_of_the_first_view_as_they_are_and_corrupted_ones_as_they_are_painted(digits):
    method = made(digits).eval()
    views = shown(method, digits)
    pictures = method.pictures(views)
    mask, clean = views["mask"][:6], views["clean"][:6] * 0.4 + 0.3
    painted = method.encoder.as_image(method.head(method.encoder(views["seen"][:6]).tokens))
    torch.testing.assert_close(pictures["repainted"][~mask], clean[~mask])
    torch.testing.assert_close(pictures["repainted"][mask], painted[mask])
    torch.testing.assert_close(pictures["augmented"], clean)
    assert torch.equal(pictures["corrupted"], views["seen"][:6])


def test_one_image_one_view_or_an_odd_number_of_views_cannot_be_contrasted(digits):
    method = made(digits, alien_p=0.0)
    with pytest.raises(ValueError, match="a batch of 1 has no other image"):
        method.loss(shown(method, digits, 1), progress())
    with pytest.raises(ValueError, match="this batch has one image"):
        shown(made(digits), digits, 1)
    views = shown(method, digits)
    for rows in (6, 11):
        some = Views({name: value[:rows] for name, value in views.named.items()}, views.ids)
        with pytest.raises(ValueError, match=f"two views of each image, got {rows} for 6 images"):
            method.loss(some, progress())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tasks": ()}, "each once; got none"),
        ({"tasks": ("rec", "rec")}, "each once; got rec, rec"),
        ({"tasks": ("rec", "cop")}, "unknown task of sit 'cop'"),
        ({"tasks": ALL}, "small:vit has none beside its class token"),
        ({"weighting": "learned"}, "unknown weighting"),
        ({"weighting": "uncertainty", "lam": 5.0}, "leave it at 1, got 5"),
        ({"lam": -1.0}, "lam not negative"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"momentum": 1.5}, "momentum must lie in"),
        ({"share": 1.5}, "share must"),
        ({"alien_share": 0.0, "alien_p": 0.01}, "alien_share must"),
        ({"alien_share": 1.5}, "alien_share must"),
        ({"align": 9}, "align"),
        ({"fill": "fog"}, "fill"),
    ],
)
def test_options_out_of_range_are_refused_before_training(digits, options, said):
    with pytest.raises(ValueError, match=said):
        made(digits, **options)


def test_an_encoder_without_patch_tokens_and_rotation_of_oblong_images_are_refused():
    with pytest.raises(ValueError, match="sit needs a vision transformer"):
        SiT(build("small:convnet", image_size=8, channels=1))
    with pytest.raises(ValueError, match="square"):
        SiT(build(VIT + "&registers=1", image_size=(8, 12), channels=1), tasks=("rot",))


def test_colour_images_get_the_authors_two_augmentations():
    method = SiT(build("small:vit?width=8&depth=1&heads=2", image_size=32, channels=3))
    found = [(a.crop_scale, a.blur_p, a.solarise_p, a.jitter) for a in method.augments]
    assert found == [((0.2, 1.0), 1.0, 0.0, (0.4, 0.4, 0.2, 0.1)), ((0.2, 1.0), 0.1, 0.2, (0.4, 0.4, 0.2, 0.1))]


@pytest.mark.parametrize(("tasks", "width"), [(("rec", "con"), 32), (("rec",), 16), (("con",), 16)])
def test_what_is_kept_embeds_by_what_the_tasks_trained(digits, tasks, width, tmp_path):
    method = made(digits, tasks=tasks).eval()
    batch = digits.batch(np.arange(5))
    with torch.no_grad():
        encoded = method.encoder(method.encoder.prepare(batch.fields))
        found = method.kept().embed(batch)
    sides = {"con": encoded.pooled, "rec": encoded.tokens.mean(1)}
    torch.testing.assert_close(found, torch.cat([sides[task] for task in ("con", "rec") if task in tasks], dim=1))
    assert found.shape[1] == width
    method.kept().save(tmp_path)
    assert torch.equal(load_model(tmp_path).embed(batch), found)


def test_it_learns_digits_better_than_its_own_random_start(digits, taught):
    torch.manual_seed(0)
    encoder = build("small:vit?width=32&depth=2&heads=2", schema=digits.schema)
    method = SiT(encoder, momentum=0.9, hidden=64, dimensions=32, lam=0.3, max_block=0.5)
    before = float(method.loss(shown(method, digits, 64), progress()).terms["rec"].detach())
    _, at_first, after = taught(method, 100)
    assert after > at_first + 0.03
    assert float(method.loss(shown(method, digits, 64), progress()).terms["rec"].detach()) < 0.9 * before
