"""MAE encodes what is visible alone, and its decoder is asked for the rest."""

from __future__ import annotations

import pytest
import torch
from tests.methods.vit_of_transformers import CONFIG, decoder_weights, encoder_weights
from torch import Tensor, nn

from autodidact.encoders import build
from autodidact.methods.masked.mae import MAE
from autodidact.methods.method import Progress, Views
from autodidact.targets import patch_pixels


def progress(seed: int = 0) -> Progress:
    return Progress(0, 10, 0, torch.Generator().manual_seed(seed))


def mae(**options: object) -> MAE:
    torch.manual_seed(0)
    encoder = build(
        "small:vit?width=16&depth=2&heads=2&patch=4", image_size=16, channels=2, statistics=([0.4, 0.5], [0.2, 0.3])
    )
    method = MAE(encoder, **{"hidden": 8, "depth": 1, "heads": 2, **options})
    for name, parameter in method.named_parameters():
        # At the start most of them are so small that hardly anything would hang on them.
        if "norm" not in name:
            nn.init.normal_(parameter, std=0.3)
    return method.double()


def views(method: MAE, n: int = 3) -> Views:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(n, 2, 16, 16, generator=generator, dtype=torch.float64)
    return Views({"images": images, **method.hide(n, generator)}, torch.arange(n))


def said(method: MAE, shown: Views) -> Tensor:
    encoded = method.encoder(shown["images"], keep=shown["keep"])
    return method.decoder(encoded.tokens, shown["keep"], shown["masked"][:, None], prefix=encoded.prefix)[:, 0]


@pytest.mark.parametrize("normalised", [True, False])
def test_loss_and_gradients_are_those_of_transformers(normalised: bool) -> None:
    """Against ViTMAEForPreTraining of transformers, with the same weights, positions, images and masks, in float64.

    All norms of transformers' model have one eps; its decoder's are set to that of ours.
    """
    transformers = pytest.importorskip("transformers")
    method = mae(normalised=normalised)
    config = transformers.ViTMAEConfig(
        **CONFIG,
        decoder_hidden_size=8,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
        norm_pix_loss=normalised,
        mask_ratio=0.75,
    )
    theirs = transformers.ViTMAEForPreTraining(config).double()
    positions = torch.cat((torch.zeros(1, 8, dtype=torch.float64), method.decoder.positions))[None]
    weights = encoder_weights(method.encoder.model) | decoder_weights(method.decoder)
    theirs.load_state_dict({**weights, "decoder.decoder_pos_embed": positions})
    for part in theirs.decoder.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = 1e-5
    shown = views(method)
    noise = torch.zeros(3, 16).scatter_(1, shown["masked"], 1.0)
    found = theirs(pixel_values=method.encoder.normalise(shown["images"]), noise=noise)
    ours = method.loss(shown, progress()).total
    assert float(ours.detach()) == pytest.approx(float(found.loss.detach()), rel=1e-5)
    ours.backward()
    found.loss.backward()
    for parameter, other in (
        (method.encoder.model.patch_embed.proj.weight, theirs.vit.embeddings.patch_embeddings.projection.weight),
        (method.encoder.model.blocks[0].mlp.fc1.weight, theirs.vit.layers[0].mlp.fc1.weight),
        (method.decoder.embed.weight, theirs.decoder.decoder_embed.weight),
        (method.decoder.out.bias, theirs.decoder.decoder_pred.bias),
    ):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(method.decoder.mask.grad, theirs.decoder.mask_token.grad[0, 0], rtol=1e-5, atol=1e-8)


def test_the_loss_is_the_mean_over_masked_patches_of_the_mean_squared_error_of_their_normalised_pixels() -> None:
    method = mae()
    shown = views(method)
    guesses = said(method, shown).detach()
    patches = patch_pixels(method.encoder.normalise(shown["images"]), (4, 4))
    errors = []
    for row in range(3):
        for place, patch in enumerate(shown["masked"][row].tolist()):
            pixels = patches[row, patch]
            wanted = (pixels - pixels.mean()) / (pixels.var(unbiased=True) + 1e-6).sqrt()
            errors.append(float((guesses[row, place] - wanted).square().mean()))
    assert float(method.loss(shown, progress()).total) == pytest.approx(sum(errors) / len(errors), rel=1e-6)


def test_the_encoder_sees_a_quarter_of_the_patches_and_nothing_of_the_others() -> None:
    method = mae()
    shown = views(method)
    assert shown["keep"].shape == (3, 4)
    assert shown["masked"].shape == (3, 12)
    before = said(method, shown).detach()
    for row in range(3):
        for patch in shown["masked"][row].tolist():
            top, left = 4 * (patch // 4), 4 * (patch % 4)
            shown["images"][row, :, top : top + 4, left : left + 4] = 0.9
    assert torch.equal(said(method, shown), before)


def test_every_layer_of_the_encoder_works_on_the_visible_tokens_alone() -> None:
    method = mae()
    lengths = []
    for block in method.encoder.model.blocks:
        block.register_forward_hook(lambda _m, _i, out: lengths.append(out.shape[1]))
    method.loss(views(method), progress())
    assert lengths == [1 + 4, 1 + 4]


def test_the_order_of_the_batch_does_not_matter() -> None:
    method = mae()
    shown = views(method)
    order = torch.tensor([2, 0, 1])
    turned = Views({name: value[order] for name, value in shown.named.items()}, shown.ids)
    assert float(method.loss(turned, progress()).total) == pytest.approx(float(method.loss(shown, progress()).total))


def test_pictures_show_the_visible_patches_as_they_are_and_the_others_as_they_were_painted() -> None:
    for normalised in (True, False):
        method = mae(normalised=normalised)
        shown = views(method)
        with torch.no_grad():
            pictures = method.pictures(shown)
            guesses = said(method, shown)
        seen = torch.ones(3, 16, dtype=torch.bool).scatter_(1, shown["masked"], False)
        cut = {name: patch_pixels(picture, (4, 4)) for name, picture in pictures.items()}
        assert torch.equal(cut["repainted"][seen], cut["augmented"][seen])
        assert bool((cut["masked"][~seen] == 0.5).all())
        row, place = 1, 3
        patch = shown["masked"][row, place]
        pixels = patch_pixels(method.encoder.normalise(shown["images"]), (4, 4))[row, patch]
        painted = guesses[row, place] * pixels.std() + pixels.mean() if normalised else guesses[row, place]
        mean, std = (torch.tensor(v, dtype=torch.float64).repeat(16) for v in ([0.4, 0.5], [0.2, 0.3]))
        torch.testing.assert_close(
            cut["repainted"][row, patch], (painted * std + mean).clamp(0, 1), rtol=1e-4, atol=1e-4
        )


def test_ratios_widths_and_encoders_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ratio is the share of the patches that is masked, in \(0, 1\), got 1.0"):
        mae(ratio=1.0)
    with pytest.raises(ValueError, match="a patch of a single value has no spread"):
        MAE(build("small:vit?width=16&depth=1&heads=2&patch=1", image_size=8, channels=1))
    with pytest.raises(ValueError, match="width 8 is not a multiple of the number of heads 3"):
        mae(heads=3)
    with pytest.raises(ValueError, match="mae needs a vision transformer such as small:vit; small:convnet"):
        MAE(build("small:convnet", image_size=16, channels=1))
    swin = build("timm:swin_tiny_patch4_window7_224", image_size=32, embed_dim=12, depths=[1, 1], num_heads=[1, 2])
    with pytest.raises(ValueError, match=r"mae needs a plain vision transformer .* cannot drop or mask tokens"):
        MAE(swin)
