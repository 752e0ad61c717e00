"""SEER: what it changes in SwAV, and that its balance is what keeps it from collapsing."""

from __future__ import annotations

import inspect
import math
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import normalize

from autodidact.data import Source, open_source
from autodidact.encoders import build
from autodidact.methods import swapped
from autodidact.methods.image.seer import SEER
from autodidact.methods.image.swav import SwAV
from autodidact.methods.method import Progress, Views
from autodidact.objectives import power_law, sinkhorn
from autodidact.training import Settings, train


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits", progress=False)


def made(source, name="small:convnet", width=4, **options):
    torch.manual_seed(0)
    encoder = build(f"{name}?width={width}", schema=source.schema)
    return SEER(encoder, **{"prototypes": 10, "dimensions": 8, "local_count": 2, "queue": 0, **options})


def progress(step=0, epoch=0):
    return Progress(step, 100, epoch, torch.Generator().manual_seed(step))


def test_its_options_are_those_of_swav():
    assert list(inspect.signature(SEER).parameters) == list(inspect.signature(SwAV).parameters)


def test_its_defaults_are_a_projector_of_three_layers_codes_of_ten_iterations_and_a_queue_and_norms_can_be_left_out(
    digits,
):
    method = SEER(build("small:convnet", schema=digits.schema, width=4))
    assert [type(part) for part in method.projector] == 2 * [nn.Linear, nn.BatchNorm1d, nn.ReLU] + [nn.Linear]
    assert (method.epsilon, method.iterations, method.prototypes.out_features) == (0.02, 10, 512)
    plain = made(digits, norm=False).projector
    assert [type(part) for part in plain] == 2 * [nn.Linear, nn.ReLU] + [nn.Linear]
    assert [len(queue.embeddings) for queue in method.queues] == [0, 0]
    assert [augment.shape[0] for augment in method.augments] == [8, 8, 5, 5, 5, 5]


def test_the_power_law_over_the_prototypes_reaches_the_codes(digits):
    method = made(digits, marginal=1.0)
    views = method.views(digits.batch(np.arange(40)), progress())
    seen = []

    def recording(scores, *args, **kwargs):
        seen.append((scores, sinkhorn(scores, *args, **kwargs)))
        return seen[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swapped, "sinkhorn", recording)
        method.loss(views, progress())
    assert len(seen) == 2
    for scores, codes in seen:
        torch.testing.assert_close(codes, sinkhorn(scores, 0.02, 10, marginal=power_law(10, 1.0)))


def test_more_prototypes_than_images_in_a_batch_are_warned_of_once_unless_there_is_a_queue(digits):
    batch = digits.batch(np.arange(8))
    method = made(digits)
    with pytest.warns(UserWarning, match="10 prototypes share a batch of 8"):
        method.loss(method.views(batch, progress()), progress())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.loss(method.views(batch, progress()), progress())
        queued = made(digits, queue=32)
        queued.loss(queued.views(batch, progress()), progress())
        many = digits.batch(np.arange(16))
        enough = made(digits)
        enough.loss(enough.views(many, progress()), progress())
    short = made(digits, queue=1)
    with pytest.warns(UserWarning, match="10 prototypes share a batch of 8 and a queue of 1: .* a longer queue"):
        short.loss(short.views(batch, progress()), progress())


def test_a_single_pass_uses_its_queue_from_the_first_epoch_on(digits):
    method = made(digits, queue=20)
    for queue in method.queues:
        queue.push(normalize(torch.randn(20, 8), dim=1))
    views = method.views(digits.batch(np.arange(12)), progress())
    without = made(digits)
    without.load_state_dict(method.state_dict(), strict=False)
    assert float(method.loss(views, progress()).total.detach()) != pytest.approx(
        float(without.loss(views, progress()).total.detach()), rel=1e-5
    )


def test_one_view_has_no_other_to_predict(digits):
    views = made(digits).views(digits.batch(np.arange(12)), progress())
    with pytest.raises(ValueError, match="2 large views of each image are needed"):
        made(digits).loss(Views(dict(list(views.named.items())[:1]), views.ids), progress())


def used(method, source):
    """Entropy of the mean code that single images predict, as a share of that of equal use."""
    method.eval()
    with torch.inference_mode():
        z = normalize(method.projector(method.encoder(source.batch(np.arange(600))["image"] / 255).pooled), dim=1)
        mean = (z @ method.prototypes.weight.T / method.temperature).softmax(1).mean(0)
    return float(-(mean * mean.clamp(min=1e-12).log()).sum()) / math.log(len(mean))


def test_prototypes_stay_in_use_and_without_the_balance_they_do_not(digits, monkeypatch):
    settings = Settings(steps=40, batch_size=128, lr=3e-3, weight_decay=0.0)
    figures = {}
    for arm in ("balanced", "not balanced"):
        if arm == "not balanced":
            monkeypatch.setattr(swapped, "sinkhorn", lambda scores, epsilon, *_, **__: (scores / epsilon).softmax(1))
        method = made(digits, width=8, prototypes=20, dimensions=32, local_count=0, frozen=0)
        train(method, digits, settings, quiet=True)
        figures[arm] = used(method, digits)
    assert figures["balanced"] > 0.8
    assert figures["not balanced"] < 0.5


@pytest.mark.parametrize("name", ["timm:regnety_002", "timm:regnety_004"])
def test_the_papers_family_of_networks_takes_small_images_of_two_sizes(name):
    torch.manual_seed(0)
    encoder = build(name, image_size=32, channels=3)
    assert encoder.map_shape[1] * encoder.map_shape[2] > 1
    method = SEER(encoder, prototypes=6, dimensions=8, local_count=1, queue=0)
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    views = method.views(_batch(images), progress())
    loss = method.loss(views, progress()).total
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())


def _batch(images):
    from autodidact.data import Batch

    return Batch(torch.arange(len(images)), {"image": images})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"marginal": -1.0}, "marginal must not be negative"),
        ({"layers": 0}, "at least 1 layer"),
        ({"queue": -1}, "queue"),
    ],
)
def test_options_out_of_range_are_refused(digits, options, said):
    with pytest.raises(ValueError, match=said):
        made(digits, **options)


def test_it_goes_once_over_a_stream_of_images_of_unknown_number(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(24):
        Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    stream = open_source(f"hf-stream:{tmp_path}", image_size=16, buffer=8, progress=False)
    assert stream.streaming
    torch.manual_seed(0)
    encoder = build("small:convnet?width=4", schema=stream.schema, image_size=16)
    method = SEER(encoder, prototypes=10, dimensions=8, queue=16, frozen=0)
    train(method, stream, Settings(steps=3, batch_size=8, optimizer="lars", lr=0.3), quiet=True)
    assert [len(queue.embeddings) for queue in method.queues] == [16, 16]
    torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(10))


def test_small_views_are_whole_patches_where_the_encoder_reads_patches() -> None:
    source = open_source("digits", progress=False)
    for name in ("small:vit", "small:convnet"):
        torch.manual_seed(0)
        encoder = build(f"{name}?width=12", schema=source.schema)
        method = SEER(encoder, prototypes=10, dimensions=8, queue=0)
        small = method.augments[-1].size
        patch = min(encoder.spec["image_size"]) // min(encoder.grid) if encoder.token_width else 1
        assert small % patch == 0
        assert 0 < small < min(encoder.spec["image_size"])
