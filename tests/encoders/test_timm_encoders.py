"""Networks of timm: same outputs as timm's, at sizes and channels that timm was not made for."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from autodidact.encoders import build
from autodidact.encoders.attention import attention_maps
from autodidact.encoders.kept import EncoderModel
from autodidact.encoders.separable_positions import SeparablePositions
from autodidact.encoders.timm_encoder import TimmEncoder
from autodidact.model import Masked, load_model

timm = pytest.importorskip("timm")


def vit(**changes: object) -> TimmEncoder:
    torch.manual_seed(0)
    arguments = {"image_size": (12, 8), "channels": 2, "width": 24, "depth": 3, "heads": 2, "patch": 2, "registers": 2}
    encoder = build("small:vit", **{**arguments, **changes})
    for part in encoder.modules():
        if isinstance(part, nn.LayerNorm):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
    return encoder.eval()


def images(encoder: TimmEncoder, n: int = 3) -> Tensor:
    return torch.rand(n, encoder.channels, *encoder.image_size, generator=torch.Generator().manual_seed(1))


def normalised(encoder: TimmEncoder, x: Tensor) -> Tensor:
    return (x - 0.5) / 0.25


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_a_transformers_parts_are_those_of_timm(pool: str) -> None:
    encoder = vit(pool=pool)
    x = images(encoder)
    encoded = encoder(x)
    features = encoder.model.forward_features(normalised(encoder, x))
    torch.testing.assert_close(encoded.pooled, encoder.model(normalised(encoder, x)))
    torch.testing.assert_close(encoded.prefix, features[:, :3])
    torch.testing.assert_close(encoded.tokens, features[:, 3:])
    assert encoder.grid == (6, 4)
    torch.testing.assert_close(encoded.map[:, :, 4, 3], encoded.tokens[:, 4 * 4 + 3])


@pytest.mark.parametrize("positions", ["learned", "separable", "rotary"])
def test_taps_are_the_patch_tokens_behind_each_block(positions: str) -> None:
    encoder = vit(positions=positions)
    x = images(encoder)
    hooked = {}
    for index, block in enumerate(encoder.model.blocks):
        block.register_forward_hook(lambda _, __, out, index=index: hooked.update({index: out[:, 3:]}))
    taps = encoder(x, taps=(0, 2)).taps
    assert list(taps) == [0, 2]
    assert all(torch.equal(taps[index], hooked[index]) for index in taps)


@pytest.mark.parametrize("positions", ["learned", "separable", "rotary"])
def test_keeping_every_token_changes_nothing(positions: str) -> None:
    encoder = vit(positions=positions)
    x = images(encoder)
    plain, kept = encoder(x, taps=(1,)), encoder(x, keep=torch.arange(24).expand(3, -1), taps=(1,))
    assert torch.equal(kept.pooled, plain.pooled)
    assert torch.equal(kept.tokens, plain.tokens)
    assert torch.equal(kept.taps[1], plain.taps[1])


def test_kept_tokens_know_nothing_of_the_others() -> None:
    encoder = vit()
    x = images(encoder)
    keep = torch.stack([torch.randperm(24, generator=torch.Generator().manual_seed(row))[:7] for row in range(3)])
    kept = encoder(x, keep=keep)
    model = encoder.model
    for row in range(3):
        embedded = model._pos_embed(model.patch_embed(normalised(encoder, x[row : row + 1])))[0]
        tokens = torch.cat((embedded[:3], embedded[3:][keep[row]]))[None]
        for block in model.blocks:
            tokens = block(tokens)
        torch.testing.assert_close(kept.tokens[row], model.norm(tokens)[0, 3:], rtol=1e-4, atol=1e-5)
    hidden = x.clone()
    for row in range(3):
        for patch in set(range(24)) - set(keep[row].tolist()):
            top, left = 2 * (patch // 4), 2 * (patch % 4)
            hidden[row, :, top : top + 2, left : left + 2] = 0.123
    assert torch.equal(encoder(hidden, keep=keep).tokens, kept.tokens)


def test_separable_positions_are_the_sum_of_a_vector_of_the_row_and_one_of_the_column() -> None:
    """Some patches dropped, others masked, others without a position; the sum by hand."""
    encoder = vit(positions="separable")
    x, (where, token) = images(encoder), masked(vit())
    keep = torch.stack([torch.randperm(24, generator=torch.Generator().manual_seed(row))[:7] for row in range(3)])
    unplaced = torch.rand(3, 24, generator=torch.Generator().manual_seed(4)) < 0.5
    weights, model = encoder.state_dict(), encoder.model
    rows, columns = (weights[f"model.parametrizations.pos_embed.original{axis}"] for axis in (0, 1))
    assert (rows.shape, columns.shape) == ((6, 24), (4, 24))
    assert 0.01 < float(rows.std()) < 0.03
    patches = model.patch_embed(normalised(encoder, x)).detach().clone()
    for row, patch in where.nonzero().tolist():
        patches[row, patch] = token.detach()
    for row in range(3):
        for patch in range(24):
            if not unplaced[row, patch]:
                patches[row, patch] += rows[patch // 4] + columns[patch % 4]
        prefix = torch.cat([model.cls_token, model.reg_token], dim=1)
        expected = model.norm(model.blocks(torch.cat([prefix, patches[row, keep[row]][None]], dim=1)))[0, 3:]
        found = encoder(x, keep=keep, masked=Masked(where, token), unplaced=unplaced).tokens[row]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_separable_positions_are_few_are_trained_are_copied_and_come_back_from_a_file(tmp_path: Path) -> None:
    encoder = vit(positions="separable")
    x = images(encoder)
    count = {name: sum(p.numel() for p in vit(positions=name).parameters()) for name in ("learned", "separable")}
    assert count["learned"] - count["separable"] == (3 + 24 - 6 - 4) * 24
    encoder(x).pooled.square().sum().backward()
    parts = encoder.model.parametrizations.pos_embed
    assert all(bool(part.grad.any(dim=1).all()) for part in (parts.original0, parts.original1))
    model = EncoderModel({"encoder": copy.deepcopy(encoder)})
    model.save(tmp_path)
    loaded = load_model(tmp_path).encoder
    assert torch.equal(loaded(x).tokens, encoder(x).tokens)
    assert encoder.model.pos_embed.shape == (1, 24, 24)
    smaller = encoder(x[..., :8, :6])
    assert smaller.tokens.shape == (3, 12, 24)


def test_the_nearest_rows_and_columns_to_separable_positions_are_themselves() -> None:
    positions, away = SeparablePositions(3, 5), torch.randn(1, 15, 4, generator=torch.Generator().manual_seed(0))
    near = positions(*positions.right_inverse(away))
    torch.testing.assert_close(positions(*positions.right_inverse(near)), near)
    design = torch.stack([torch.eye(8)[[patch // 5, 3 + patch % 5]].sum(0) for patch in range(15)])
    torch.testing.assert_close(near[0], design @ torch.linalg.pinv(design) @ away[0], rtol=1e-4, atol=1e-5)


def test_positions_of_another_name_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown positions of small:vit 'seperable'; did you mean 'separable'"):
        vit(positions="seperable")


def turned(x: Tensor, rows: Tensor, columns: Tensor, temperature: float = 100.0) -> Tensor:
    """Queries or keys (heads, t, d) with neighbouring pairs of numbers turned as complex ones, an angle for each: the
    first half of the pairs by the column, the others by the row, at falling speeds."""
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    speeds = temperature ** -(torch.arange(pairs.shape[-1] // 2, dtype=torch.float64) / (pairs.shape[-1] // 2))
    angles = torch.cat([columns[:, None] * speeds, rows[:, None] * speeds], dim=-1)
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


def test_rotary_attention_is_that_of_turned_queries_and_keys() -> None:
    """A block in float64, token by token, with some patches dropped and others without a position: `turned` by hand."""
    encoder = vit(positions="rotary").double()
    x = images(encoder, 1).double()
    keep = torch.randperm(24, generator=torch.Generator().manual_seed(3))[None, :9]
    unplaced = torch.zeros(1, 24, dtype=torch.bool)
    unplaced[0, keep[0, :3]] = True
    model = encoder.model
    patches = model.patch_embed(normalised(encoder, x)).flatten(1, 2)[0][keep[0]]
    tokens = torch.cat([model.cls_token[0], model.reg_token[0], patches])
    rows, columns = (torch.where(unplaced[0], 0, place)[keep[0]].double() for place in _places(6, 4))
    for block in model.blocks:
        q, k, v = block.attn.qkv(block.norm1(tokens)).view(len(tokens), 3, 2, 12).permute(1, 2, 0, 3)
        q, k = (torch.cat([each[:, :3], turned(each[:, 3:], rows, columns)], dim=1) for each in (q, k))
        mixed = (q @ k.mT / 12**0.5).softmax(-1) @ v
        tokens = tokens + block.attn.proj(mixed.transpose(0, 1).flatten(1))
        tokens = tokens + block.mlp(block.norm2(tokens))
    found = encoder(x, keep=keep, unplaced=unplaced)
    torch.testing.assert_close(found.tokens[0], model.norm(tokens)[3:])


def _places(height: int, width: int) -> tuple[Tensor, Tensor]:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return rows.flatten(), columns.flatten()


def test_rotary_attention_between_patches_sees_how_far_apart_they_are_and_not_where() -> None:
    """In the first block; tokens without a place stand at the origin, so what they bring depends on it."""
    encoder = vit(positions="rotary", width=16).double()
    nn.init.normal_(encoder.model.blocks[0].attn.qkv.weight)
    x = images(encoder, 1).double()
    here, there = ([4 * row + column for row, column in places] for places in ([(1, 0), (2, 2)], [(3, 1), (4, 3)]))

    def preferred(pixels: Tensor, pair: list[int]) -> Tensor:
        """How much more each of two patches looks at the first of them than at the second."""
        seen = attention_maps(encoder, pixels)[0][0, :, 3:, 3:][:, pair][:, :, pair].log()
        return seen[:, :, 0] - seen[:, :, 1]

    moved = torch.roll(x, (4, 2), dims=(2, 3))
    torch.testing.assert_close(preferred(moved, there), preferred(x, here), rtol=0, atol=1e-5)
    swapped = x.clone()
    swapped[..., 4:6, 0:2], swapped[..., 2:4, 0:2] = x[..., 2:4, 0:2], x[..., 4:6, 0:2]
    assert (preferred(swapped, [2 * 4 + 0, here[1]]) - preferred(x, here)).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["vit_small_patch16_rope_224", "vit_small_patch16_rope_mixed_224"])
def test_rotary_transformers_of_timm_mask_and_drop_too(name: str) -> None:
    torch.manual_seed(0)
    encoder = build(f"timm:{name}", image_size=32, embed_dim=24, depth=2, num_heads=2, patch_size=8, init_values=1.0)
    for block in encoder.model.blocks:
        nn.init.normal_(block.attn.qkv.weight)
    x, every = images(encoder.eval()), torch.ones(3, 16, dtype=torch.bool)
    plain = encoder(x, taps=(0,))
    torch.testing.assert_close(plain.pooled, encoder.model(encoder.normalise(x)))
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0)).expand(3, -1)
    torch.testing.assert_close(encoder(x, keep=order).tokens, plain.tokens[:, order[0]])
    mask = Masked(torch.arange(16).expand(3, -1) % 3 == 0, torch.randn(24))
    shown = torch.arange(16)[torch.arange(16) % 3 != 0].expand(3, -1)
    torch.testing.assert_close(encoder(x, masked=mask, keep=shown).tokens, encoder(x, keep=shown).tokens)
    moved = encoder(x, keep=order, unplaced=every)
    torch.testing.assert_close(moved.tokens, encoder(x, unplaced=every).tokens[:, order[0]])
    assert (moved.pooled - plain.pooled).abs().max() > 1e-4
    torch.testing.assert_close(encoder(x, unplaced=~every).tokens, plain.tokens)


def test_small_views_have_rotary_positions_that_count_patches() -> None:
    encoder = vit(positions="rotary")
    x = images(encoder)
    part = encoder(x[..., :8, :6])
    columns = torch.tensor([4 * row + column for row in range(4) for column in range(3)])
    torch.testing.assert_close(part.tokens, encoder(x, keep=columns.expand(3, -1)).tokens, rtol=1e-4, atol=1e-5)
    assert part.map is None


def masked(encoder: TimmEncoder, n: int = 3) -> Masked:
    generator = torch.Generator().manual_seed(2)
    where = torch.rand(n, 24, generator=generator) < 0.5
    return Masked(where, torch.randn(encoder.token_width, generator=generator).requires_grad_())


def test_masked_patches_are_the_mask_token_at_their_position() -> None:
    encoder = vit()
    x, (where, token) = images(encoder), masked(vit())
    model = encoder.model
    embedded = model.patch_embed(normalised(encoder, x)).detach().clone()
    for row, patch in where.nonzero().tolist():
        embedded[row, patch] = token.detach()
    expected = model.norm(model.blocks(model._pos_embed(embedded)))
    torch.testing.assert_close(encoder(x, masked=Masked(where, token)).tokens, expected[:, 3:])


@pytest.mark.parametrize("positions", ["learned", "separable", "rotary"])
def test_masking_no_patch_changes_nothing(positions: str) -> None:
    encoder = vit(positions=positions)
    x = images(encoder)
    none = Masked(torch.zeros(3, 24, dtype=torch.bool), torch.randn(24))
    assert torch.equal(encoder(x, masked=none, taps=(1,)).taps[1], encoder(x, taps=(1,)).taps[1])


@pytest.mark.parametrize("positions", ["learned", "separable", "rotary"])
def test_nothing_of_a_masked_patch_is_seen(positions: str) -> None:
    encoder = vit(positions=positions)
    x, mask = images(encoder), masked(vit())
    hidden = x.clone()
    for row, patch in mask.where.nonzero().tolist():
        top, left = 2 * (patch // 4), 2 * (patch % 4)
        hidden[row, :, top : top + 2, left : left + 2] = 0.123
    assert torch.equal(encoder(hidden, masked=mask).tokens, encoder(x, masked=mask).tokens)


@pytest.mark.parametrize("positions", ["learned", "separable", "rotary"])
def test_of_masked_tokens_only_the_kept_ones_are_encoded(positions: str) -> None:
    encoder = vit(positions=positions)
    x, mask, keep = images(encoder), masked(vit()), torch.arange(4, 20).expand(3, -1)
    hidden = Masked(mask.where.clone(), mask.by)
    hidden.where[:, :4], hidden.where[:, 20:] = True, False
    assert torch.equal(encoder(x, masked=mask, keep=keep).tokens, encoder(x, masked=hidden, keep=keep).tokens)


def test_the_mask_token_is_trained_and_is_no_part_of_the_encoder() -> None:
    encoder = vit()
    x, mask = images(encoder), masked(vit())
    encoder(x, masked=mask).tokens.square().sum().backward()
    assert mask.by.grad is not None
    assert mask.by.grad.abs().sum() > 0
    assert encoder.state_dict().keys() == vit().state_dict().keys()


def test_a_transformer_of_any_image_size_masks_too() -> None:
    torch.manual_seed(0)
    plain = build("timm:vit_tiny_patch16_224", image_size=32, embed_dim=24, depth=2, num_heads=2, patch_size=8).eval()
    free = build(
        "timm:vit_tiny_patch16_224",
        image_size=32,
        embed_dim=24,
        depth=2,
        num_heads=2,
        patch_size=8,
        dynamic_img_size=True,
    ).eval()
    free.load_state_dict(plain.state_dict())
    mask = Masked(torch.arange(16).expand(3, -1) % 3 == 0, torch.randn(24))
    x = images(plain)
    torch.testing.assert_close(free(x, masked=mask).tokens, plain(x, masked=mask).tokens)


def test_unplaced_patches_know_nothing_of_where_they_are() -> None:
    """Moved to other places, they and all other tokens are encoded as before, up to rounding."""
    for options in ({"reg_tokens": 2}, {"no_embed_class": True}, {"dynamic_img_size": True}):
        torch.manual_seed(0)
        made = {"image_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8, **options}
        encoder = build("timm:vit_tiny_patch16_224", **made).eval()
        x = torch.rand(2, 3, 32, 32)
        every = torch.ones(2, 16, dtype=torch.bool)
        turned = encoder(x.unflatten(-1, (4, 8)).flip(-2).flatten(-2), unplaced=every)
        columns = torch.arange(16).view(4, 4).flip(1).flatten()
        torch.testing.assert_close(turned.tokens[:, columns], encoder(x, unplaced=every).tokens)
        torch.testing.assert_close(turned.pooled, encoder(x, unplaced=every).pooled)
        assert (encoder(x, unplaced=every).tokens - encoder(x).tokens).abs().max() > 1e-3
        torch.testing.assert_close(encoder(x, unplaced=~every).tokens, encoder(x).tokens)


def test_positions_are_left_out_where_it_is_said_and_kept_elsewhere() -> None:
    encoder = vit()
    x, where = images(encoder), masked(vit()).where
    model = encoder.model
    positions = model.pos_embed.detach().clone().repeat(3, 1, 1)
    for row, patch in where.nonzero().tolist():
        positions[row, 3 + patch] = 0.0
    prefix = torch.cat([model.cls_token, model.reg_token], dim=1).expand(3, -1, -1)
    embedded = torch.cat([prefix, model.patch_embed(normalised(encoder, x))], dim=1) + positions
    expected = model.norm(model.blocks(embedded))
    torch.testing.assert_close(encoder(x, unplaced=where).tokens, expected[:, 3:])


def test_small_views_have_interpolated_positions_with_every_kind_of_prefix() -> None:
    for options in ({}, {"reg_tokens": 2}, {"no_embed_class": True}, {"class_token": False, "global_pool": "avg"}):
        torch.manual_seed(0)
        made = {"image_size": 32, "embed_dim": 24, "depth": 1, "num_heads": 2, "patch_size": 8, **options}
        plain = build("timm:vit_tiny_patch16_224", **made).eval()
        free = build("timm:vit_tiny_patch16_224", dynamic_img_size=True, **made).eval()
        free.load_state_dict(plain.state_dict())
        for size in ((16, 24), (32, 32), (40, 8)):
            x = torch.rand(2, 3, *size)
            torch.testing.assert_close(plain(x).pooled, free(x).pooled)
    with pytest.raises(AssertionError, match="divisible"):
        plain(torch.rand(2, 3, 12, 16))


def test_a_mask_or_mask_token_of_another_size_is_refused() -> None:
    encoder = vit()
    x, mask = images(encoder), masked(vit())
    with pytest.raises(ValueError, match=r"a mask of shape \(3, 23\) .* 3 x 24 tokens of width 24"):
        encoder(x, masked=Masked(mask.where[:, 1:], mask.by))
    with pytest.raises(ValueError, match=r"a mask token of shape \(8,\)"):
        encoder(x, masked=Masked(mask.where, mask.by[:8]))


def test_a_hierarchical_transformer_gives_map_and_tokens_and_keeps_all() -> None:
    torch.manual_seed(0)
    encoder = build("timm:swin_tiny_patch4_window7_224", image_size=32, embed_dim=12, depths=[1, 1], num_heads=[1, 2])
    x = images(encoder.eval())
    encoded = encoder(x, taps=(1,))
    torch.testing.assert_close(encoded.pooled, encoder.model(normalised(encoder, x)))
    assert encoded.map.shape[1:] == encoder.map_shape
    torch.testing.assert_close(encoded.tokens, encoded.map.flatten(2).transpose(1, 2))
    with pytest.raises(ValueError, match="cannot drop tokens"):
        encoder(x, keep=torch.zeros(3, 1, dtype=torch.long))
    with pytest.raises(ValueError, match="cannot mask tokens"):
        encoder(x, masked=Masked(torch.zeros(3, 64, dtype=torch.bool), torch.zeros(12)))
    with pytest.raises(ValueError, match="cannot leave out positions"):
        encoder(x, unplaced=torch.zeros(3, 64, dtype=torch.bool))
    assert (encoder.any_tokens, vit().any_tokens) == (False, True)


def test_a_convolutional_network_taps_its_levels() -> None:
    torch.manual_seed(0)
    encoder = build("timm:resnet18", image_size=32, channels=2).eval()
    x = images(encoder)
    seen = {}
    for index, stage in enumerate(("act1", "layer1", "layer2", "layer3", "layer4")):
        encoder.model.get_submodule(stage).register_forward_hook(
            lambda _, __, out, index=index: seen.update({index: out.clone()})
        )
    encoded = encoder(x, taps=(1, 3, 4))
    for index in (1, 3, 4):
        torch.testing.assert_close(encoded.taps[index], seen[index])
    torch.testing.assert_close(encoded.map, seen[4])
    torch.testing.assert_close(encoded.pooled, seen[4].mean(dim=(2, 3)))


LAYOUTS = [
    ("mobilenetv3_small_050", "cpu", True),
    ("resnet10t", "cpu", False),
    ("convnext_atto", "cpu", False),
    ("resnet10t", "cuda", True),
    ("convnext_atto", "cuda", True),
]


@pytest.mark.parametrize(("name", "device", "last"), LAYOUTS)
def test_a_network_gets_its_images_channels_last_where_that_is_faster(name: str, device: str, last: bool) -> None:
    seen = []
    encoder = build(f"timm:{name}", image_size=64).eval()
    first = next(part for part in encoder.modules() if isinstance(part, nn.Conv2d))
    first.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].is_contiguous(memory_format=torch.channels_last))
    )
    # Tensors without values: there may be no GPU.
    with FakeTensorMode():
        weights = {
            key: torch.empty(value.shape, dtype=value.dtype, device=device)
            for key, value in encoder.state_dict(keep_vars=True).items()
        }
        functional_call(encoder, weights, (torch.empty(2, 3, *encoder.image_size, device=device),))
    assert seen == [last]


def test_images_channels_last_give_what_timm_gives_and_the_same_gradients() -> None:
    torch.manual_seed(0)
    encoder = build("timm:mobilenetv3_small_050", image_size=64, channels=2).eval()
    plain = copy.deepcopy(encoder.model)
    x = images(encoder)
    encoded = encoder(x, taps=(1,))
    encoded.pooled.square().sum().backward()
    features = plain.forward_features(normalised(encoder, x))
    pooled = plain.forward_head(features, pre_logits=True)
    pooled.square().sum().backward()
    torch.testing.assert_close(encoded.map, features, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoded.pooled, pooled, atol=1e-5, rtol=1e-5)
    own, theirs = dict(encoder.model.named_parameters()), dict(plain.named_parameters())
    assert encoded.map.is_contiguous(memory_format=torch.channels_last)
    for key, weight in own.items():
        # A file of weights, and a training that goes on, find them as they were.
        assert weight.stride() == theirs[key].stride()
        if theirs[key].grad is not None:
            torch.testing.assert_close(weight.grad, theirs[key].grad, atol=1e-5, rtol=1e-4)


def test_small_images_give_a_resnet_a_stem_of_stride_one() -> None:
    encoder = build("timm:resnet18", image_size=28, channels=1)
    assert encoder.spec["stem"] == "small"
    assert encoder.map_shape == (512, 4, 4)
    assert encoder.model.conv1.weight.shape == (64, 1, 3, 3)
    assert build("timm:resnet18", image_size=8, channels=1).grid == (2, 2)


@pytest.mark.parametrize(
    "arguments", [{"image_size": 96}, {"image_size": 28, "stem": "plain"}, {"image_size": 28, "output_stride": 8}]
)
def test_a_resnet_keeps_its_stem_at_larger_sizes_and_when_told_to(arguments: dict) -> None:
    encoder = build("timm:resnet18", **arguments)
    assert encoder.spec["stem"] == "plain"
    assert encoder.model.conv1.weight.shape == (64, 3, 7, 7)


def test_a_network_without_that_stem_gets_a_smaller_output_stride() -> None:
    encoder = build("timm:regnety_002", image_size=28, channels=1)
    assert encoder.spec["model_args"] == {"output_stride": 8}
    assert encoder.grid == (4, 4)


def test_a_network_that_runs_well_is_left_alone() -> None:
    assert build("timm:test_convnext", image_size=64).spec["model_args"] == {}


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_number_of_channels_is_taken(channels: int) -> None:
    encoder = build("timm:test_vit", image_size=32, channels=channels, patch_size=8).eval()
    assert encoder(images(encoder)).pooled.shape == (3, encoder.width)


def test_weights_of_a_file_are_adapted_to_size_and_channels(tmp_path: Path) -> None:
    source = timm.create_model("test_vit", pretrained=False)
    torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "weights.pth")
    encoder = build("timm:test_vit", image_size=64, channels=1, pretrained=tmp_path / "weights.pth")
    blocks = encoder.model.blocks.state_dict()
    assert all(torch.equal(value, source.blocks.state_dict()[name]) for name, value in blocks.items())
    # timm sums the colours' filters for one channel, and resizes the positions from 10 x 10 to 4 x 4 patches.
    summed = source.patch_embed.proj.weight.sum(dim=1, keepdim=True)
    torch.testing.assert_close(encoder.model.patch_embed.proj.weight, summed)
    assert encoder.model.pos_embed.shape[1] == 16 + encoder.prefix_count
    config = timm.get_pretrained_cfg("test_vit")
    assert encoder.spec["mean"] == pytest.approx([sum(config.mean) / 3])


def test_pretrained_resnets_keep_their_stem_at_small_sizes(tmp_path: Path) -> None:
    source = timm.create_model("test_resnet", pretrained=False)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    encoder = build("timm:test_resnet", image_size=64, pretrained=tmp_path / "weights.pth")
    assert encoder.spec["stem"] == "plain"
    assert torch.equal(
        encoder.model.state_dict()["layer1.0.conv1.weight"], source.state_dict()["layer1.0.conv1.weight"]
    )


def test_weights_that_cannot_be_reached_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no weights for timm:test_vit from") as caught:
        build("timm:test_vit", pretrained=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no weights for timm:test_vit at"):
        build("timm:test_vit", pretrained=tmp_path / "absent.safetensors")


def test_a_normalised_image_is_brought_back_and_a_patch_has_its_pixels() -> None:
    encoder = vit()
    x = images(encoder)
    torch.testing.assert_close(encoder.as_image(encoder.normalise(x)), x)
    assert (encoder.patches, encoder.patch) == ((6, 4), (2, 2))
    with pytest.raises(ValueError, match="timm:resnet18 has no patch tokens"):
        _ = build("timm:resnet18", image_size=32, channels=2).patch
