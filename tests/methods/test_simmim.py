"""SimMIM: mask tokens inside the encoder, and a linear layer that is asked for the masked pixels alone."""

from __future__ import annotations

import pytest
import torch
from tests.methods.vit_of_transformers import CONFIG, encoder_weights
from torch import nn

from autodidact.encoders import build
from autodidact.methods.masked.simmim import SimMIM
from autodidact.methods.method import Progress, Views
from autodidact.targets import patch_pixels


def progress() -> Progress:
    return Progress(0, 10, 0, torch.Generator())


def simmim(**options: object) -> SimMIM:
    torch.manual_seed(0)
    encoder = build(
        "small:vit?width=16&depth=2&heads=2&patch=4", image_size=16, channels=2, statistics=([0.4, 0.5], [0.2, 0.3])
    )
    method = SimMIM(encoder, **options)
    for name, parameter in method.named_parameters():
        if "norm" not in name:
            nn.init.normal_(parameter, std=0.3)
    return method.double()


def views(method: SimMIM, n: int = 3) -> Views:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(n, 2, 16, 16, generator=generator, dtype=torch.float64)
    return Views({"images": images, **method.hide(n, generator)}, torch.arange(n))


def test_loss_and_gradients_are_those_of_transformers() -> None:
    """Against ViTForMaskedImageModeling of transformers, with the same weights, images and masks, in float64.

    It adds 1e-5 to the number of masked pixels, which is taken out again here.
    """
    transformers = pytest.importorskip("transformers")
    method = simmim()
    theirs = transformers.ViTForMaskedImageModeling(transformers.ViTConfig(**CONFIG, encoder_stride=4)).double()
    # A 1x1 convolution and PixelShuffle: the channels of a pixel are outermost there, innermost in ours.
    head = {
        "decoder.0.weight": method.head.weight.view(4, 4, 2, 16).permute(2, 0, 1, 3).reshape(32, 16, 1, 1),
        "decoder.0.bias": method.head.bias.view(4, 4, 2).permute(2, 0, 1).reshape(32),
    }
    weights = encoder_weights(method.encoder.model) | head
    theirs.load_state_dict({**weights, "vit.embeddings.mask_token": method.mask_token[None, None]})
    shown = views(method)
    found = theirs(pixel_values=method.encoder.normalise(shown["images"]), bool_masked_pos=shown["mask"])
    pixels = 16 * int(shown["mask"].sum())
    expected = found.loss * (pixels + 1e-5) / pixels
    ours = method.loss(shown, progress()).total
    assert float(ours.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    ours.backward()
    expected.backward()
    for parameter, other in (
        (method.encoder.model.patch_embed.proj.weight, theirs.vit.embeddings.patch_embeddings.projection.weight),
        (method.encoder.model.blocks[1].mlp.fc2.weight, theirs.vit.layers[1].mlp.fc2.weight),
        (method.mask_token, theirs.vit.embeddings.mask_token),
    ):
        torch.testing.assert_close(parameter.grad, other.grad.view_as(parameter), rtol=1e-5, atol=1e-8)


def test_the_loss_is_the_mean_absolute_error_of_the_masked_pixels() -> None:
    method = simmim(masking="random", ratio=0.5)
    shown = views(method)
    tokens = method.seen(shown)
    patches = patch_pixels(method.encoder.normalise(shown["images"]), (4, 4))
    total, count = 0.0, 0
    for row, patch in shown["mask"].nonzero().tolist():
        guess = tokens[row, patch] @ method.head.weight.T + method.head.bias
        total += float((guess.detach() - patches[row, patch]).abs().sum())
        count += 32
    assert count == 3 * 8 * 32
    assert float(method.loss(shown, progress()).total) == pytest.approx(total / count, rel=1e-6)


def test_pixels_that_are_not_masked_are_not_asked_for() -> None:
    method = simmim()
    shown = views(method)
    tokens = method.seen(shown).detach().requires_grad_(True)
    method.seen = lambda _: tokens  # type: ignore[method-assign, assignment]
    method.loss(shown, progress()).total.backward()
    reached = tokens.grad.abs().sum(dim=2) > 0
    assert torch.equal(reached, shown["mask"])


def test_the_paper_masks_whole_units_of_two_by_two_patches() -> None:
    method = simmim(ratio=0.5)
    masks = method.masks(40, torch.Generator().manual_seed(0)).view(40, 2, 2, 2, 2).sum(dim=(2, 4))
    assert set(masks.unique().tolist()) == {0, 4}
    assert masks.sum(dim=(1, 2)).tolist() == [8] * 40


def test_pictures_show_what_is_said_of_the_masked_patches() -> None:
    method = simmim()
    shown = views(method)
    with torch.no_grad():
        painted = patch_pixels(method.pictures(shown)["repainted"], (4, 4))
        said = method.head(method.seen(shown))
    row, patch = (int(index[0]) for index in shown["mask"].nonzero(as_tuple=True))
    mean, std = (torch.tensor(v, dtype=torch.float64).repeat(16) for v in ([0.4, 0.5], [0.2, 0.3]))
    expected = (said[row, patch] * std + mean).clamp(0, 1)
    torch.testing.assert_close(painted[row, patch], expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(painted[~shown["mask"]], patch_pixels(shown["images"], (4, 4))[~shown["mask"]])


def test_an_unknown_masking_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'blocks'"):
        simmim(masking="block")
