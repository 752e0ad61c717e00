"""What the claim on DependencyViT measures, on two images of six patches whose figures can be counted by hand."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.claims import dependency_vit
from autodidact.claims.dependency_vit import Chance, _by_chance, _edges, _name, _where
from autodidact.data import ArraySource, Field, Schema
from autodidact.encoders import build
from autodidact.encoders.dependency_vit import DependencyViT, Sent, TokenPruner
from autodidact.encoders.image import image_spec
from autodidact.model import Encoded, Encoder
from autodidact.model.encoder import Parsed

SALIENCY = torch.tensor([[1.0, 0.8, 0.2, 0.6, 0.4, 0.0], [0.5, 0.5, 0.0, 0.0, 1.0, 0.25]])
PARENT = torch.tensor([[-1, 0, 5, 4, 0, 1], [1, -1, 1, 1, 5, 1]])
MEASURED = {"width": 8, "depth": 3, "heads": 2, "patch": 2, "layer_scale": 1.0, "prune": (1, 2)}


def scenes() -> ArraySource:
    """Patches of 2 x 2 pixels, numbered 0 1 2 and 3 4 5. Ink of digit 0 and of digit 1, in pixels of each patch:

    first image   4 4 0 / 4 0 0   and   0 0 4 / 0 1 2   so that patches belong to   0 0 1 / 0 - 1
    second image  4 0 0 / 0 0 0   and   0 0 0 / 0 4 2   so that patches belong to   0 - - / - 1 1
    """
    masks = np.zeros((2, 2, 4, 6), dtype=bool)
    masks[0, 0, :2, :4] = masks[0, 0, 2:, :2] = True
    masks[0, 1, :2, 4:] = masks[0, 1, 2, 3] = masks[0, 1, 2:, 5] = True
    masks[1, 0, :2, :2] = True
    masks[1, 1, 2:, 2:4] = masks[1, 1, 3, 4:] = True
    schema = Schema(image=Field("image", (1, 4, 6)), truth_masks=Field("mask", (2, 4, 6)))
    return ArraySource(
        "by hand", {"image": np.zeros((2, 1, 4, 6), np.uint8), "truth_masks": masks}, schema, np.arange(2)
    )


class Known(DependencyViT):
    """Says what is known. Its tokens lie on an arc: of the most similar patches the tree is the chain 0 1 4 2 5 3, and
    the one in its middle, 2, the root."""

    def __init__(self) -> None:
        spec = image_spec("by hand", {}, schema=None, image_size=(4, 6), channels=1, statistics=None)
        super().__init__(spec, width=2, depth=1, heads=1, patch=2)

    def forward(self, inputs: Float[Tensor, "n c h w"], **_: object) -> Encoded:
        degrees = torch.tensor([0.0, 10.0, 45.0, 75.0, 20.0, 55.0]).deg2rad()
        lengths = torch.tensor([1.0, 9.0, 0.5, 0.1, 20.0, 3.0])
        arc = lengths[:, None] * torch.stack([degrees.cos(), degrees.sin()], dim=1)
        return Encoded(tokens=arc.expand(len(inputs), -1, -1))

    def dependencies(self, inputs: Float[Tensor, "n c h w"]) -> list[Sent]:
        mask, index = torch.zeros(2, 6, 6), torch.arange(6).expand(2, -1)
        return [Sent(mask, messages, index) for messages in (SALIENCY, SALIENCY.flip(0))]

    def parse(self, inputs: Float[Tensor, "n c h w"]) -> Parsed:
        return Parsed(SALIENCY, PARENT, PARENT)


def plain(monkeypatch: pytest.MonkeyPatch, *maps: Float[Tensor, "heads t t"]) -> Encoder:
    """A plain vision transformer whose blocks are said to attend so in every image."""

    def said(_: Encoder, inputs: Float[Tensor, "n c h w"]) -> list[Float[Tensor, "n heads t t"]]:
        return [attention.expand(len(inputs), -1, -1, -1) for attention in maps]

    monkeypatch.setattr(dependency_vit, "attention_maps", said)
    return build(_name("vanilla", **{**MEASURED, "depth": len(maps)}), image_size=(4, 6), channels=1).eval()


def alike(*weights: float) -> Float[Tensor, "2 t t"]:
    """All tokens attend with these weights in the mean of two heads, of which each ranks the first two otherwise."""
    row, apart = torch.tensor(weights) / sum(weights), torch.tensor([0.04, -0.04, 0, 0, 0, 0])
    return torch.stack([row + apart, row - apart])[:, None].expand(2, 6, 6)


def test_auroc_and_iou_are_those_of_every_pixel_with_its_patchs_saliency() -> None:
    found = _where(Known(), scenes(), "received")
    # Of 19 x 5 and 10 x 14 pairs of pixels of digit and surface; equal ones count half.
    auroc = (73.5 / 95 + 122 / 140) / 2
    assert found == pytest.approx({"auroc": auroc, "rollout": auroc, "iou": (12 / 19 + 8 / 14) / 2})


def test_what_is_sent_is_what_is_left_of_the_messages_in_the_last_block() -> None:
    """There the images have each other's saliency."""
    found = _where(Known(), scenes(), "sent")
    # Patches of the first above the mean: 0, 1 and 4; of the second: 0, 1 and 3.
    assert found["auroc"] == pytest.approx((21.5 / 95 + 82 / 140) / 2)
    assert found["iou"] == pytest.approx((9 / 22 + 4 / 18) / 2)


def test_a_plain_network_shows_the_attention_received_in_its_later_half_and_the_rollout_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = plain(monkeypatch, alike(1, 2, 5, 3, 4, 6), alike(6, 5, 2, 4, 3, 1))
    found = _where(encoder, scenes(), "received")
    # (2 r + s + 1 / 6) / 4 of the weights r and s of the two blocks: the patches' order is 0 1 3 4 2 5.
    rollout = (21.5 / 95 + 58 / 140) / 2
    assert found == pytest.approx(
        {"auroc": (73.5 / 95 + 82 / 140) / 2, "rollout": rollout, "iou": (12 / 19 + 4 / 18) / 2}
    )


def test_edges_are_counted_from_patches_of_a_digit_that_have_a_parent() -> None:
    found = _edges(Known(), scenes())
    # 1 to 0 and 2 to 5 stay, 3 to 4 and 5 to 1 do not; in the second image 4 to 5 stays, 0 to 1 and 5 to 1 do not.
    assert found["edges"] == pytest.approx(100 * 3 / 7)
    # 0 to 1 and 5 to 2 stay, 1 to 4 and 3 to 5 do not; in the second image none of 0, 4 and 5.
    assert found["by feature"] == pytest.approx(100 * 2 / 7)
    # Of five others two are of the same digit, three times, or one, four times, or none, once.
    assert found["by chance"] == pytest.approx(100 * (3 * 2 / 5 + 4 * 1 / 5) / 8)


@pytest.mark.parametrize(("turned", "share"), [(False, 2 / 6), (True, 3 / 7)])
def test_in_a_plain_network_the_parent_of_a_patch_is_the_one_that_gathers_from_it(
    turned: bool, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tree is the first of `PARENT`, a part of it in each head of each block; of the transposed attention it is
    another one."""
    gathered = {
        0: [0, 0.5, 0, 0, 0.5, 0],
        1: [0, 0.3, 0, 0, 0, 0.7],
        4: [0, 0, 0, 0.7, 0.3, 0],
        5: [0, 0, 0.7, 0, 0, 0.3],
    }
    heads = []
    for patch, row in gathered.items():
        head = torch.eye(6)
        head[patch] = torch.tensor(row)
        heads.append(head.T if turned else head)
    encoder = plain(monkeypatch, torch.stack(heads[:2]), torch.stack(heads[2:]))
    assert _edges(encoder, scenes())["edges"] == pytest.approx(100 * share)


def drawn(seed: int, share: float = 0.68) -> Chance:
    made = Chance(share)
    made.generator = torch.Generator().manual_seed(seed)
    return made


def test_chance_keeps_as_many_tokens_whatever_the_mask_and_others_in_every_draw() -> None:
    own, rows = torch.Generator().manual_seed(5), 500
    masks, messages = torch.rand(2, rows, 16, 16, generator=own), torch.rand(2, rows, 16, generator=own)
    chance, again = drawn(0), drawn(0)
    kept, other = (chance(masks[0], messages[0], 16)[0] for _ in range(2))
    assert torch.equal(again(masks[1], messages[1], 16)[0], kept)
    by_mass = TokenPruner(0.68)(masks[0], messages[0], 16)[0]
    assert kept.shape == other.shape == by_mass.shape == (rows, 10)
    assert not torch.equal(other, kept)
    assert not torch.equal(drawn(1)(masks[0], messages[0], 16)[0], kept)
    often = torch.cat([kept, other]).flatten().bincount(minlength=16) / (2 * rows)
    # Five standard errors around 10 of 16.
    assert (often - 10 / 16).abs().max() < 0.08


@pytest.mark.parametrize("network", ["lite", "lite, sent"])
def test_a_network_that_drops_by_chance_drops_as_many_behind_the_same_blocks(
    network: Literal["lite", "lite, sent"],
) -> None:
    torch.manual_seed(0)
    images = torch.rand(40, 1, 8, 8)
    lite, chance = (build(_name(n, **MEASURED), image_size=8, channels=1).eval() for n in (network, "chance"))
    assert isinstance(lite, DependencyViT)
    assert isinstance(chance, DependencyViT)
    _by_chance(chance, seed=0)
    with torch.no_grad():
        lengths = [[sent.index.shape[1] for sent in encoder.dependencies(images)] for encoder in (lite, chance)]
        draws = [chance.dependencies(images)[-1].index for _ in range(2)]
    assert lengths == [[16, 13, 10]] * 2
    assert all(isinstance(pruner, Chance) for pruner in chance.pruners.values())
    assert not torch.equal(*draws)
    assert len(draws[0].unique(dim=0)) > 20
