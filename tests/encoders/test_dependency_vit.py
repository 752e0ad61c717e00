"""DependencyViT: who sends what to whom, who is dropped, and the tree that follows."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from autodidact.encoders import build
from autodidact.encoders.dependency_vit import DependencyBlock, DependencyViT, ReversedAttention, TokenPruner
from autodidact.model import Masked

SMALL = {"width": 12, "depth": 3, "heads": 3, "patch": 4}


def attention(width=12, heads=3, seed=0):
    torch.manual_seed(seed)
    made = ReversedAttention(width, heads).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.5)
    return made


def tokens(n=2, t=5, d=12, seed=1):
    return torch.randn(n, t, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def vit(**options) -> DependencyViT:
    torch.manual_seed(0)
    made = build("small:dependency_vit", image_size=16, channels=1, **{**SMALL, **options})
    with torch.no_grad():
        for block in made.blocks:
            block.attention.qkv.weight.normal_(std=0.4)
            block.attention.select.weight.normal_(std=0.3)
            block.scale1.fill_(1.0)
    return made.eval()


def images(n=3, seed=0):
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def naive(made, x, before):
    """Steps of section 3.1, one number at a time."""
    n, t, d = x.shape
    h, c = made.heads, d // made.heads
    q, k, v = (x @ w.T for w in made.qkv.weight.chunk(3))
    select = x @ made.select.weight.T + made.select.bias
    out, after = torch.zeros_like(x), torch.zeros(n, t, dtype=x.dtype)
    mask = torch.zeros(n, t, t, dtype=x.dtype)
    for b in range(n):
        for i in range(t):
            s = 1 / (1 + math.exp(-float(made.control(x[b, i]))))
            after[b, i] = float(before[b, i]) * s
            chosen = [math.exp(float(select[b, i, g]) / made.tau) for g in range(h)]
            for g in range(h):
                cut = slice(g * c, (g + 1) * c)
                ways = [math.exp(float(q[b, i, cut] @ k[b, j, cut]) / math.sqrt(c)) for j in range(t)]
                for j in range(t):
                    sent = ways[j] / sum(ways) * chosen[g] / sum(chosen) * float(after[b, i])
                    mask[b, j, i] += sent
                    out[b, j, cut] += sent * v[b, i, cut]
    return made.out(out), after, mask


def test_it_equals_four_loops_in_float64():
    made, x = attention(), tokens()
    before = torch.rand(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found, wanted = made(x, before, want_mask=True), naive(made, x, before)
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_what_a_token_sends_over_all_heads_and_receivers_sums_to_its_messages():
    _, messages, mask = attention()(tokens(), torch.ones(2, 5, dtype=torch.float64), want_mask=True)
    torch.testing.assert_close(mask.sum(dim=1), messages, rtol=0, atol=1e-12)
    assert (mask >= 0).all()


def test_with_even_heads_open_messages_and_no_transposition_it_is_a_heads_th_of_plain_attention():
    made, x = attention(), tokens()
    with torch.no_grad():
        made.select.weight.zero_()
        made.select.bias.zero_()
        made.control[-1].weight.zero_()
        made.control[-1].bias.fill_(100.0)
    forward, selected, v = made.attention(x)
    torch.testing.assert_close(selected, torch.full_like(selected, 1 / 3))
    q, k, values = made.qkv(x).view(2, 5, 3, 3, 4).permute(2, 0, 3, 1, 4)
    plain = nn.functional.scaled_dot_product_attention(q, k, values)
    torch.testing.assert_close(forward @ v, plain)
    own = (forward * selected[..., None]) @ v
    torch.testing.assert_close(own, plain / 3)
    received, messages, _ = made(x, torch.ones(2, 5, dtype=torch.float64))
    torch.testing.assert_close(messages, torch.ones(2, 5, dtype=torch.float64))
    turned = forward.transpose(-2, -1) @ v / 3
    torch.testing.assert_close(received, made.out(turned.transpose(1, 2).flatten(2)))


def test_another_order_of_the_tokens_gives_the_same_in_that_order():
    torch.manual_seed(0)
    block = DependencyBlock(12, 3, mlp_ratio=2.0, tau=0.1, opening=0.0, layer_scale=1.0).double()
    x, before = tokens(), torch.rand(2, 5, dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    found, messages, mask = block(x, before, True)
    turned, turned_messages, turned_mask = block(x[:, order], before[:, order], True)
    torch.testing.assert_close(turned, found[:, order])
    torch.testing.assert_close(turned_messages, messages[:, order])
    torch.testing.assert_close(turned_mask, mask[:, order][:, :, order])


def test_messages_never_grow_with_depth_and_stay_above_zero():
    made = vit(opening=0.0, depth=5)
    spoken = [block.messages for block in made.dependencies(images())]
    assert all((messages > 0).all() and (messages <= 1).all() for messages in spoken)
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(spoken))


def test_the_gradient_reaches_controllers_and_selectors():
    made = vit().train()
    made(images()).pooled.square().sum().backward()
    for block in made.blocks:
        for part in (block.attention.select, block.attention.control[0], block.attention.control[-1]):
            assert part.weight.grad.norm() > 0


def test_the_embedding_is_the_mean_of_the_last_tokens_weighed_by_their_messages():
    made = vit()
    encoded = made(images(), taps=(2,))
    messages = made.dependencies(images())[-1].messages
    torch.testing.assert_close(encoded.tokens, made.norm(encoded.taps[2]))
    torch.testing.assert_close(encoded.pooled, (encoded.tokens * messages[..., None]).mean(dim=1))
    assert torch.equal(encoded.map.flatten(2).transpose(1, 2), encoded.tokens)


def test_tokens_that_are_left_out_from_the_start_send_and_receive_nothing():
    made = vit()
    keep = torch.tensor([[0, 3, 9], [15, 2, 4], [1, 5, 6]])
    whole = made(images(), keep=torch.arange(16).expand(3, -1))
    torch.testing.assert_close(whole.pooled, made(images()).pooled)
    part = made(images(), keep=keep)
    assert part.tokens.shape == (3, 3, 12)
    assert part.map is None
    again = made(images(), keep=keep.flip(1))
    torch.testing.assert_close(again.pooled, part.pooled)
    torch.testing.assert_close(again.tokens, part.tokens.flip(1))


def test_images_of_other_sizes_have_positions_between_those_learned():
    made = vit()
    small, wide = made(images()[:, :, :9, :8]), made(torch.rand(2, 1, 16, 24))
    assert small.map.shape == (3, 12, 2, 2)
    assert wide.map.shape == (2, 12, 4, 6)
    between = made._positions((2, 2)).view(2, 2, 12)
    learned = made.positions.view(4, 4, 12)
    # Halved, each new place lies in the middle of four.
    torch.testing.assert_close(between[0, 1], learned[0:2, 2:4].mean(dim=(0, 1)))
    assert made.parse(torch.rand(2, 1, 16, 24)).parent.shape == (2, 24)


@pytest.mark.parametrize("tokens_at_start", [64, 196, 49, 3, 1])
def test_each_event_leaves_exactly_its_share_of_the_tokens_at_the_start(tokens_at_start):
    pruners = [TokenPruner(1 - 0.16 * event) for event in (1, 2, 3, 4)]
    left = [max(1, math.floor(tokens_at_start * share + 1e-9)) for share in (0.84, 0.68, 0.52, 0.36)]
    assert [pruner.left(tokens_at_start) for pruner in pruners] == left


def test_a_share_that_rounds_to_just_below_a_whole_number_of_tokens_leaves_that_number():
    """In floats 300 (1 - 2 x 0.16) is 203.99999999999997."""
    pruners = build("small:dependency_vit", image_size=8, channels=1, depth=5, prune=[1, 2, 3, 4]).pruners.values()
    assert [int(300 * pruner.share) for pruner in pruners] == [252, 203, 156, 108]
    assert [pruner.left(300) for pruner in pruners] == [252, 204, 156, 108]


@pytest.mark.parametrize("score", ["received", "sent"])
def test_a_lite_network_drops_four_times_what_its_score_says_and_the_others_keep_their_messages(score):
    events = [1, 3, 5, 7]
    made = vit(depth=8, prune=events, prune_score=score, opening=0.0)
    with torch.no_grad():
        for event in events:
            # The next block lets all messages pass, so that what it was given is seen.
            last = made.blocks[event].attention.control[-1]
            last.weight.zero_()
            last.bias.fill_(100.0)
    sent = made.dependencies(images())
    assert [block.mask.shape[1] for block in sent] == [16, 13, 13, 10, 10, 8, 8, 5]
    for event in events:
        block, after = sent[event - 1], sent[event]
        worth = block.mask.sum(dim=2) if score == "received" else block.messages
        for row in range(3):
            stays = block.index[row][worth[row].argsort(descending=True)[: after.index.shape[1]]]
            assert after.index[row].tolist() == sorted(stays.tolist())
            at = dict(zip(block.index[row].tolist(), block.messages[row], strict=True))
            assert torch.equal(after.messages[row], torch.stack([at[token] for token in after.index[row].tolist()]))


def followed(sent, events, row, token) -> list[int]:
    """The token, the one to which it sent most when it was dropped, and so on to one that is left."""
    chain = [token]
    for event in events:
        block, left = sent[event - 1], sent[event].index[row].tolist()
        if chain[-1] not in left:
            place = {number: at for at, number in enumerate(block.index[row].tolist())}
            received = [float(block.mask[row, place[one], place[chain[-1]]]) for one in left]
            chain.append(left[received.index(max(received))])
    return chain


def test_pruned_tokens_become_the_kept_one_to_which_they_sent_most():
    mask = torch.zeros(1, 4, 4)
    # Token 1 sent to 2, token 3 sent to 0 and a little to 1, which is dropped itself.
    mask[0, 2, 1], mask[0, 0, 3], mask[0, 1, 3], mask[0, 0, 2], mask[0, 2, 0] = 0.9, 0.5, 0.6, 0.4, 0.3
    kept, place = TokenPruner(0.5)(mask, torch.ones(1, 4), 4)
    assert kept.tolist() == [[0, 2]]
    assert place.tolist() == [[0, 1, 1, 0]]


@pytest.mark.parametrize(("events", "hops"), [([1], 1), ([1, 2], 2), ([1, 3, 5, 7], 2)])
def test_dropped_tokens_are_put_back_as_those_they_depended_on_have_become_through_all_events(events, hops):
    made = vit(prune=events, depth=events[-1] + 1, prune_ratio=0.2)
    left = []
    made.norm.register_forward_hook(lambda _m, _i, out: left.append(out))
    with torch.no_grad():
        whole, sent = made(images(), taps=(events[-1],)), made.dependencies(images())
        torch.testing.assert_close(made.norm(whole.taps[events[-1]]), whole.tokens)
    lengths = set()
    for row in range(3):
        at = dict(zip(sent[-1].index[row].tolist(), left[0][row], strict=True))
        for token in range(16):
            chain = followed(sent, events, row, token)
            lengths.add(len(chain) - 1)
            assert torch.equal(whole.tokens[row, token], at[chain[-1]])
    assert max(lengths) >= hops
    torch.testing.assert_close(whole.pooled, (left[0] * sent[-1].messages[..., None]).mean(dim=1))


@pytest.mark.parametrize("options", [{}, {"prune": [1, 2], "prune_score": "sent"}])
def test_every_image_has_a_tree_whose_root_is_the_most_salient_token(options):
    made = vit(**options)
    parsed = made.parse(images())
    assert parsed.saliency.amax(dim=1).tolist() == [1.0] * 3
    assert (parsed.saliency >= 0).all()
    for parent, saliency, part in zip(parsed.parent, parsed.saliency, parsed.part, strict=True):
        root = int(saliency.argmax())
        assert (parent < 0).nonzero().tolist() == [[root]]
        for token in range(16):
            node, above = token, []
            while parent[node] >= 0:
                above.append(node)
                node = int(parent[node])
                assert len(above) <= 16
            assert node == root
            assert int(part[token]) == (above[-1] if above else root)


def test_saliency_is_the_mass_received_in_the_later_half_of_the_blocks():
    made = vit(depth=4)
    sent = made.dependencies(images())
    received = (sent[2].mask + sent[3].mask).sum(dim=2)
    torch.testing.assert_close(made.parse(images()).saliency, received / received.amax(dim=1, keepdim=True))


@pytest.mark.parametrize("options", [{}, {"prune": [1]}, {"opening": 0.0}])
def test_a_single_patch_is_its_own_root_and_has_an_embedding_and_a_gradient(options):
    made = vit(patch=16, **options)
    parsed = made.parse(images())
    assert parsed.parent.tolist() == [[-1]] * 3
    assert parsed.saliency.tolist() == [[1.0]] * 3
    pooled = made.train()(images()).pooled
    assert pooled.shape == (3, 12)
    assert pooled.isfinite().all()
    pooled.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in made.parameters())
    assert made.embed.weight.grad.norm() > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heads": 5}, "multiple of heads"),
        ({"depth": 0}, "depth of at least 1"),
        ({"heads": 0}, "multiple of heads"),
        ({"patch": -4}, "patch must not be negative"),
        ({"mlp_ratio": 0.0}, "mlp_ratio be positive"),
        ({"tau": 0.0}, "tau must be a positive number, got 0"),
        ({"tau": float("nan")}, "tau must be a positive number, got nan"),
        ({"layer_scale": float("inf")}, "layer_scale must be a positive number"),
        ({"prune": [3]}, "behind blocks 1 to 2 of 3, not \\[3\\]"),
        ({"prune": [0]}, "behind blocks 1 to 2"),
        ({"prune": [1, 2], "prune_ratio": 0.5}, "2 times 0.5 of the tokens would leave none"),
        ({"prune": [1], "prune_ratio": 1.0}, "would leave none"),
        ({"patch": 5}, "not divisible by the patch size 5"),
        ({"prune_scor": "sent"}, "did you mean 'prune_score'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        vit(**options)


def test_a_score_that_does_not_exist_is_refused(wrong_types):
    with pytest.raises(ValueError, match="'received' or 'sent', got 'size'"):
        vit(prune_score="size")


def test_other_encoders_say_that_they_find_no_parts():
    with pytest.raises(ValueError, match="small:convnet does not find parts; use small:dependency_vit"):
        build("small:convnet", image_size=8, channels=1).parse(torch.rand(1, 1, 8, 8))


def test_a_masked_token_is_the_mask_token_at_its_place_and_an_unplaced_one_has_no_place():
    made = vit()
    where = torch.zeros(3, 16, dtype=torch.bool)
    where[:, 5] = True
    by = torch.randn(made.token_width, generator=torch.Generator().manual_seed(1))
    other = images().clone()
    other[:, :, 4:8, 4:8] = 0.5
    shown = [made(each, masked=Masked(where, by)).tokens for each in (images(), other)]
    torch.testing.assert_close(*shown)
    assert not torch.allclose(made(images()).tokens, made(other).tokens)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(2))
    tiles = images().unflatten(2, (4, 4)).unflatten(4, (4, 4)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    mixed = tiles[:, order].unflatten(1, (4, 4)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    nowhere = torch.ones(3, 16, dtype=torch.bool)
    torch.testing.assert_close(
        made(mixed, unplaced=nowhere).tokens, made(images(), unplaced=nowhere).tokens[:, order], atol=1e-5, rtol=1e-4
    )
