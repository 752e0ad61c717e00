"""GMML repaints corrupted blocks: the loss looks at them alone, and the head reads the mean of four blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from autodidact.data import open_source
from autodidact.encoders import build
from autodidact.methods.masked.gmml import GMML, averaged_blocks
from autodidact.methods.method import Progress, Views
from autodidact.model import load_model
from autodidact.training import Settings, train


def gmml(size=(8, 12), **options):
    torch.manual_seed(0)
    encoder = build(
        "small:vit?width=16&depth=4&heads=2&patch=2", image_size=size, channels=1, statistics=([0.4], [0.2])
    )
    return GMML(encoder, **options)


def views_of(method, n=6, seed=0):
    images = torch.rand(n, 1, 10, 10, generator=torch.Generator().manual_seed(5))
    batch = type("B", (), {"__getitem__": lambda self, name: images, "fields": {}, "ids": torch.arange(n)})()
    return method.views(batch, Progress(0, 10, 0, torch.Generator().manual_seed(seed)))


def test_the_loss_is_the_mean_absolute_error_of_the_corrupted_pixels_in_units_of_the_standard_deviation():
    method = gmml().eval()
    views = views_of(method)
    painted = method.head(method.features(views["seen"])).detach().double()
    loss = float(method.loss(views, Progress(0, 1, 0, torch.Generator())).total.detach())
    clean, mask = views["clean"].double(), views["mask"]
    total, count = 0.0, 0
    for n, y, x in mask[:, 0].nonzero().tolist():
        total += float((painted[n, 0, y, x] - clean[n, 0, y, x]).abs())
        count += 1
    assert loss == pytest.approx(total / count, rel=1e-5)


def test_what_the_encoder_sees_equals_the_clean_image_outside_the_mask_and_noise_inside():
    method = gmml(alien_p=0.0)
    views = views_of(method)
    seen = (views["seen"] - 0.4) / 0.2
    assert torch.allclose(seen.where(~views["mask"], 0), views["clean"].where(~views["mask"], 0), atol=1e-5)
    assert not (seen == views["clean"])[views["mask"]].any()


def test_alien_blocks_show_the_same_place_of_another_image_of_the_batch():
    method = gmml(alien_p=1.0)
    views = views_of(method)
    seen, clean, mask = (views["seen"] - 0.4) / 0.2, views["clean"], views["mask"]
    for n in range(len(seen)):
        differences = [(seen[n] - other).abs()[mask[n]].max() for other in clean]
        assert min(differences) < 1e-5
    assert mask.float().mean() == pytest.approx(0.3, abs=0.06)


def test_features_are_the_normalised_mean_of_what_hooks_see_behind_four_blocks():
    method = gmml().eval()
    images, caught = torch.rand(3, 1, 8, 12), []
    for block in method.encoder.model.blocks:
        block.register_forward_hook(lambda _m, _i, out: caught.append(out))
    features = method.features(images)
    tokens = torch.stack([caught[i] for i in method.taps])[:, :, method.encoder.prefix_count :]
    expected = nn.functional.layer_norm(tokens.mean(0), (16,), method.norm.weight, method.norm.bias, eps=1e-6)
    assert torch.allclose(features, expected, atol=1e-6)


def test_the_authors_blocks_are_averaged_where_there_are_twelve():
    assert averaged_blocks(12) == (5, 7, 9, 11)
    assert averaged_blocks(6) == (2, 3, 4, 5)
    assert averaged_blocks(5) == (1, 2, 3, 4)
    assert averaged_blocks(4) == (1, 2, 3)
    assert averaged_blocks(1) == (0,)


def test_loss_and_gradients_are_those_of_the_authors_implementation(wavy):
    """A check made once outside this repository, and its figures kept.

    VisionTransformer and RECHead of vision_transformer.py, and FullpiplineSiT and the loss lines of main.py, in
    Sara-Ahmed/GMML at commit 1882712, were given this method's weights (width 32, depth 12, 4 heads, patches of 4,
    RGB of 16 pixels and grey of 28; no drop-path, two crops of three images) with blocks 6-8-10-12. In float64 painted
    pixels differ by 1.1e-15, the loss by 1.7e-16 and the gradients by 2.7e-15 at most, relative to the largest entry of
    each weight's, over masked and over all pixels; in float32 by 1.5e-6. Here are their loss and the norms of
    two gradients in a smaller case.
    """
    encoder = build("small:vit?width=8&depth=12&heads=2&patch=4", image_size=12, channels=1, statistics=([0.4], [0.2]))
    method = wavy(GMML(encoder))
    i = torch.arange(4 * 144, dtype=torch.float64).view(4, 1, 12, 12)
    clean, mask = torch.sin(1.1 * i), torch.zeros(4, 1, 12, 12, dtype=torch.bool)
    for k in range(4):
        mask[k, :, k : k + 5, 2 * k : 2 * k + 6] = True
    seen = torch.where(mask, torch.cos(1.7 * i), clean) * method.encoder.std + method.encoder.mean
    views = Views({"clean": clean, "seen": seen, "mask": mask}, torch.arange(4))
    loss = method.loss(views, Progress(0, 1, 0, torch.Generator())).total
    loss.backward()
    gradients = (encoder.model.patch_embed.proj.weight.grad, method.head.to_pixels.weight.grad)
    found = [float(x.detach().norm()) for x in (loss, *gradients)]
    assert found == pytest.approx([0.6740381380, 0.0112847917, 0.1088605789], rel=3e-6)


@pytest.mark.parametrize("size", [(8, 8), (8, 12), (12, 8)])
def test_the_head_paints_an_image_of_the_size_of_the_input(size):
    method = gmml(size)
    images = torch.rand(2, 1, *size)
    assert method.head(method.features(images)).shape == images.shape


def test_small_blocks_on_patches_corrupt_isolated_patches_at_about_the_same_share():
    def components(mask):
        from skimage.measure import label

        return sum(int(label(m.numpy(), connectivity=1).max()) for m in mask[:, 0])

    def masks(**options):
        method = gmml((32, 32), align=2, alien_p=0.0, share=0.5, **options)
        return views_of(method, 32)["mask"]

    blocks, patches = masks(), masks(max_block=0.01)
    assert blocks.float().mean() == pytest.approx(float(patches.float().mean()), abs=0.05)
    assert components(patches) > 2 * components(blocks)


def test_a_picture_shows_seen_pixels_as_they_are_and_corrupted_ones_as_they_are_painted():
    method = gmml().eval()
    views = views_of(method)
    pictures = method.pictures(views)
    mask, painted = views["mask"], method.encoder.as_image(method.head(method.features(views["seen"])))
    torch.testing.assert_close(pictures["repainted"][~mask], pictures["augmented"][~mask])
    torch.testing.assert_close(pictures["repainted"][mask], painted[mask])
    torch.testing.assert_close(pictures["augmented"], views["clean"] * 0.2 + 0.4)
    assert torch.equal(pictures["corrupted"], views["seen"])


def test_masks_and_weights_do_not_depend_on_how_many_workers_read_the_images(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(24):
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(tmp_path / f"{number:02d}.png")
    source = open_source(tmp_path, cache=False, progress=False)
    trained = []
    for workers in (0, 2):
        torch.manual_seed(0)
        method = _Watched(build("small:vit?width=8&depth=1&heads=2&patch=2", schema=source.schema))
        train(method, source, Settings(steps=3, batch_size=8, workers=workers, seed=1), quiet=True)
        trained.append(method)
    alone, with_workers = trained
    assert len(alone.masks) == 3
    assert all(torch.equal(*pair) for pair in zip(alone.masks, with_workers.masks, strict=True))
    weights, others = alone.state_dict(), with_workers.state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


class _Watched(GMML):
    """Keeps the masks of every update."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.masks = []

    def loss(self, views, progress):
        self.masks.append(views["mask"].clone())
        return super().loss(views, progress)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"share": 0.0}, "share must"),
        ({"share": 1.5}, "share must"),
        ({"alien_share": 0.0, "alien_p": 0.01}, "alien_share must"),
        ({"alien_share": 1.5}, "alien_share must"),
        ({"align": 9}, "align"),
        ({"alien_p": 2.0}, "alien_p"),
        ({"max_block": 0.0}, "max_block"),
        ({"fill": "fog"}, "fill"),
    ],
)
def test_options_out_of_range_are_refused_before_training(options, said):
    with pytest.raises(ValueError, match=said):
        gmml(**options)


def test_an_encoder_without_patch_tokens_is_refused():
    with pytest.raises(ValueError, match="vision transformer"):
        GMML(build("small:convnet", image_size=8, channels=1))


def test_it_learns_to_repaint_digits_and_keeps_an_encoder(tmp_path):
    digits = open_source("digits", progress=False)
    torch.manual_seed(0)
    encoder = build("small:vit?width=32&depth=2&heads=2", schema=digits.schema)
    method = GMML(encoder)
    batch = digits.batch(torch.arange(256).numpy())
    progress = Progress(0, 1, 0, torch.Generator().manual_seed(3))
    views = method.views(batch, progress)
    with torch.no_grad():
        before = float(method.loss(views, progress).total)
    model = train(method, digits, Settings(steps=60, batch_size=64, lr=3e-3), quiet=True)
    with torch.no_grad():
        after = float(method.loss(views, progress).total)
    assert after < 0.9 * before
    model.save(tmp_path)
    assert torch.equal(load_model(tmp_path).embed(batch), model.embed(batch))
