"""DependencyViT: patches send what they know to the patches they depend on, and a tree of parts emerges from that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from autodidact.catalog import Card
from autodidact.encoders.image import ImageEncoder
from autodidact.encoders.small_vit import default_patch
from autodidact.heads.transformer import initialise
from autodidact.measures.dependency_tree import dependency_tree, parts_of
from autodidact.model import Encoded, Masked
from autodidact.model.encoder import Parsed
from autodidact.views import gather_tokens, scatter_tokens

CARD = Card(
    name="dependency_vit",
    target="DependencyViT",
    kind="encoder",
    number=19,
    title="DependencyViT",
    paper="Ding, Shen, Fan, Chen, Chen, Luo, Tenenbaum, Gan: Visual Dependency Transformers: Dependency Tree "
    "Emerges from Reversed Attention (2304.03282, 2023)",
    summary="A vision transformer whose patches send messages to the ones they depend on: a tree of parts, "
    "saliency, and a cheaper network that drops leaves.",
    needs=(("image", "image"),),
    abilities=("embed", "parse"),
    arguments=("width", "depth", "heads", "prune", "prune_score"),
    claim="dependency_vit",
)

Score = Literal["received", "sent"]


@dataclass(frozen=True)
class Sent:
    """Who sent how much to whom in one block.

    Attributes
    ----------
    mask : soft dependency mask A: entry (j, i) is what token i sent to token j, over all heads; column i sums to
        ``messages[i]``.
    messages : M, what is left of each token's will to speak after this block.
    index : which of the image's tokens these are.
    """

    mask: Float[Tensor, "n t t"]
    messages: Float[Tensor, "n t"]
    index: Int[Tensor, "n t"]


class ReversedAttention(nn.Module):
    r"""Attention in which every token distributes its value among receivers, instead of gathering from senders.

    With :math:`F_{hij} = \mathrm{softmax}_j(q_i k_j / \sqrt c)`, the head selector
    :math:`P_{ih} = \mathrm{softmax}_h(W_p x_i / \tau)` and the message controller :math:`M_i`, token j receives
    :math:`o_j = \mathrm{concat}_h \sum_i F_{hij} P_{ih} M_i v_{hi}` (sections 3.1 and 3.2).

    Parameters
    ----------
    width, heads : of the tokens.
    tau : temperature of the head selector.
    opening : bias at the start of the message controller's last layer.
    """

    def __init__(self, width: int, heads: int, *, tau: float = 0.1, opening: float = 2.0) -> None:
        super().__init__()
        self.heads, self.tau = heads, tau
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.select = nn.Linear(width, heads)
        self.control = nn.Sequential(nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, 1))
        self.out = nn.Linear(width, width)
        initialise(self)
        nn.init.constant_(self.control[-1].bias, opening)  # type: ignore[arg-type]

    def attention(
        self, x: Float[Tensor, "n t d"]
    ) -> tuple[Float[Tensor, "n h t t"], Float[Tensor, "n h t"], Float[Tensor, "n h t c"]]:
        """F (rows: senders, columns: receivers), P, and the values."""
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        forward = (q @ k.transpose(-2, -1) / (d // self.heads) ** 0.5).softmax(dim=-1)
        return forward, (self.select(x) / self.tau).softmax(dim=-1).transpose(1, 2), v

    def forward(
        self, x: Float[Tensor, "n t d"], messages: Float[Tensor, "n t"], *, want_mask: bool = False
    ) -> tuple[Float[Tensor, "n t d"], Float[Tensor, "n t"], Float[Tensor, "n t t"] | None]:
        """What the tokens receive, M after this block, and the soft dependency mask where it is wanted.

        Parameters
        ----------
        x : normalised tokens.
        messages : M before this block.
        """
        messages = messages * self.control(x)[..., 0].sigmoid()
        forward, selected, v = self.attention(x)
        sent = selected * messages[:, None]
        received = (forward.transpose(-2, -1) @ (v * sent[..., None])).transpose(1, 2).flatten(2)
        # einsum would make the product of all heads before it sums; this is one matrix product.
        mask = (forward * sent[..., None]).sum(dim=1).transpose(1, 2) if want_mask else None
        return self.out(received), messages, mask


class DependencyBlock(nn.Module):
    """Reversed attention and an MLP, each behind a LayerNorm and scaled by a LayerScale before it is added."""

    def __init__(
        self, width: int, heads: int, *, mlp_ratio: float, tau: float, opening: float, layer_scale: float
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = ReversedAttention(width, heads, tau=tau, opening=opening)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        initialise(self.mlp)
        self.scale1, self.scale2 = (nn.Parameter(torch.full((width,), layer_scale)) for _ in range(2))

    def forward(
        self, x: Float[Tensor, "n t d"], messages: Float[Tensor, "n t"], want_mask: bool = False
    ) -> tuple[Float[Tensor, "n t d"], Float[Tensor, "n t"], Float[Tensor, "n t t"] | None]:
        received, messages, mask = self.attention(self.norm1(x), messages, want_mask=want_mask)
        x = x + self.scale1 * received
        return x + self.scale2 * self.mlp(self.norm2(x)), messages, mask


class TokenPruner(nn.Module):
    """Drops the tokens that matter least, and knows whom each of them depended on.

    Parameters
    ----------
    share : share of the first number of tokens that is left after this event, in (0, 1); the number is rounded down,
        and is at least 1.
    score : what a token's worth is: "received", the mass that it received in the block before; "sent", its M.
    """

    def __init__(self, share: float, score: Score = "received") -> None:
        super().__init__()
        self.share, self.score = share, score

    def left(self, tokens: int) -> int:
        """How many of so many tokens at the start are left."""
        return max(1, int(tokens * self.share + 1e-9))

    def worth(self, mask: Float[Tensor, "n t t"], messages: Float[Tensor, "n t"]) -> Float[Tensor, "n t"]:
        """By what tokens are ranked."""
        return mask.sum(dim=2) if self.score == "received" else messages

    def forward(
        self, mask: Float[Tensor, "n t t"], messages: Float[Tensor, "n t"], tokens: int
    ) -> tuple[Int[Tensor, "n k"], Int[Tensor, "n t"]]:
        """Places of the tokens that stay, ascending; and, for each token, the place among them of itself, or of the one
        of them to which it sent most.

        Parameters
        ----------
        mask, messages : of the block before.
        tokens : how many there were at the start.
        """
        count = min(self.left(tokens), messages.shape[1])
        worth = self.worth(mask, messages).detach()
        kept = worth.topk(count, dim=1).indices.sort(dim=1).values
        place = gather_tokens(mask.detach(), kept).argmax(dim=1)
        own = torch.arange(count, device=kept.device).expand_as(kept)
        return kept, place.scatter(1, kept, own)


class DependencyViT(ImageEncoder):
    """A vision transformer with reversed attention, without a class token (arXiv 2304.03282, section 3).

    Every token sends its value along a distribution over all tokens, through the head that it selects, and as loudly as
    its message controller lets it; who stops speaking in one block is silent in those behind it. The embedding is the
    mean of the last tokens, each weighed by what is left of its messages, M. ``tokens`` and ``map`` are the last tokens
    themselves, after the norm.

    **Parsing.** `parse` says of every image on which patch each patch depends: of the soft dependency masks' mean over
    the blocks the spanning tree of the greatest sum, its root the patch that receives most in the later half of the
    blocks; that mass, scaled to at most 1, is the saliency. On the command line:
    ``autodidact apply RUN --ability parse --data D --out parts.parquet`` writes it, and the report shows it.

    **Lite.** With `prune`, patches are dropped on the way. Where patches are asked for, each dropped one gets what the
    patch that it depended on has become; the mean is of those that are left. `keep` (masked methods) leaves patches out
    from the start, and pruning then counts from their number. Images of another size than the encoder's, as in
    multi-crop methods, have positions between those learned; what does not fill a patch at their edge is cut off.

    No code of the authors has been published. Their bias of the message controller is unknown: at 0 every block would
    halve what a token says, so that little is left of it after a few blocks; here it starts at `opening`. Which score
    prunes is unclear in the paper too. Attention is materialised, tokens x tokens for every head, since a fused
    attention cannot be transposed.

    Parameters
    ----------
    width : size of a token, a multiple of `heads`. Paper: 192 (tiny), 384 (small).
    depth : number of blocks. Paper: 12.
    heads : attention heads, of which each token speaks mostly through one. Paper: 12.
    patch : side of a patch in pixels; by default the smallest divisor of both sides, at least 2, with at most 64
        patches (28 and 32 px: 4). Paper: 16 at 224 px.
    mlp_ratio : width of the blocks' MLP over `width`.
    tau : temperature of the head selector, > 0. Paper: 0.1.
    layer_scale : start of what every block's parts are scaled by. Paper: 1e-6, which starves short trainings.
    opening : bias at the start of the message controller: each token passes on sigmoid(opening) of its M. Unknown.
    prune : numbers of the blocks (from 1) behind which tokens are dropped. Paper's Lite: 2, 5, 8 and 11 of 12.
    prune_ratio : share of the tokens at the start that each of them drops. Paper: 0.16.
    prune_score : what stays: tokens that "received" most in the block before, or have "sent" most (the largest M).
    """

    finds_parts = True
    any_tokens = True

    def __init__(
        self,
        spec: Mapping[str, Any],
        *,
        width: int = 96,
        depth: int = 6,
        heads: int = 6,
        patch: int | None = None,
        mlp_ratio: float = 4.0,
        tau: float = 0.1,
        layer_scale: float = 1e-2,
        opening: float = 2.0,
        prune: Sequence[int] = (),
        prune_ratio: float = 0.16,
        prune_score: Score = "received",
    ) -> None:
        super().__init__(spec)
        if depth < 1 or heads < 1 or width < 2 or width % heads:
            raise ValueError(
                "small:dependency_vit needs a depth of at least 1 and a width that is a multiple of heads, got "
                f"depth={depth}, width={width}, heads={heads}"
            )
        if (patch or 0) < 0 or not mlp_ratio > 0:
            raise ValueError(f"patch must not be negative and mlp_ratio be positive, got {patch} and {mlp_ratio}")
        for name, value in (("tau", tau), ("layer_scale", layer_scale)):
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be a positive number, got {value}")
        if prune_score not in ("received", "sent"):
            raise ValueError(f"prune_score must be 'received' or 'sent', got {prune_score!r}")
        events = sorted(set(prune))
        if events and not 1 <= events[0] <= events[-1] < depth:
            raise ValueError(f"tokens are dropped behind blocks 1 to {depth - 1} of {depth}, not {list(prune)}")
        if not 0 < prune_ratio < 1 or prune_ratio * len(events) >= 1:
            raise ValueError(f"{len(events)} times {prune_ratio} of the tokens would leave none")
        side = patch or default_patch(*self.image_size)
        rows, columns = (length // side for length in self.image_size)
        if self.image_size != (rows * side, columns * side) or rows * columns < 1:
            raise ValueError(
                f"images of {self.image_size[0]}x{self.image_size[1]} pixels are not divisible by the patch size {side}"
            )
        self.embed = nn.Conv2d(self.channels, width, side, stride=side)
        self.positions = nn.Parameter(torch.empty(1, rows * columns, width))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.blocks = nn.ModuleList(
            DependencyBlock(width, heads, mlp_ratio=mlp_ratio, tau=tau, opening=opening, layer_scale=layer_scale)
            for _ in range(depth)
        )
        self.pruners = nn.ModuleDict(
            {str(block): TokenPruner(1 - prune_ratio * (event + 1), prune_score) for event, block in enumerate(events)}
        )
        self.norm = nn.LayerNorm(width)
        self.width = self.token_width = width
        self.depth, self.map_shape = depth, (width, rows, columns)

    def forward(
        self,
        inputs: Float[Tensor, "n c h w"],
        *,
        keep: Int[Tensor, "n k"] | None = None,
        masked: Masked | None = None,
        unplaced: Bool[Tensor, "n t"] | None = None,
        taps: Sequence[int] = (),
    ) -> Encoded:
        self.need_tap(taps)
        return self._encoded(self._placed(inputs, masked, unplaced), keep, taps, None)

    def dependencies(self, inputs: Float[Tensor, "n c h w"]) -> list[Sent]:
        """Who sent how much to whom, block by block."""
        found: list[Sent] = []
        self._encoded(self._placed(inputs, None, None), None, (), found)
        return found

    def parse(self, inputs: Float[Tensor, "n c h w"]) -> Parsed:
        sent = self.dependencies(inputs)
        count = sent[0].mask.shape[1]
        masks = torch.stack([_among_all(block.mask, block.index, count) for block in sent])
        received = masks[len(sent) // 2 :].mean(dim=0).sum(dim=2)
        saliency = received / received.amax(dim=1, keepdim=True).clamp(min=1e-12)
        parent = dependency_tree(masks.mean(dim=0).transpose(1, 2), saliency.argmax(dim=1))
        return Parsed(saliency.float(), parent, parts_of(parent))

    def _positions(self, grid: tuple[int, int]) -> Float[Tensor, "1 t d"]:
        """Positions of a grid: between those of the encoder's own where that is another."""
        if grid == self.grid:
            return self.positions
        assert self.grid is not None
        own = self.positions.transpose(1, 2).unflatten(2, self.grid)
        made = functional.interpolate(own, grid, mode="bilinear", align_corners=False)
        return made.flatten(2).transpose(1, 2)

    def _placed(
        self, inputs: Float[Tensor, "n c h w"], masked: Masked | None, unplaced: Bool[Tensor, "n t"] | None
    ) -> Float[Tensor, "n d rows columns"]:
        """Embedded patches with their positions, on their grid."""
        embedded = self.embed(self.normalise(inputs))
        grid = (embedded.shape[2], embedded.shape[3])
        tokens, positions = embedded.flatten(2).transpose(1, 2), self._positions(grid)
        if masked is not None:
            tokens = masked.put(tokens)
        if unplaced is not None:
            positions = positions.masked_fill(unplaced[..., None], 0.0)
        return (tokens + positions).transpose(1, 2).unflatten(2, grid)

    def _encoded(self, placed: Tensor, keep: Tensor | None, taps: Sequence[int], sent: list[Sent] | None) -> Encoded:
        grid = (placed.shape[2], placed.shape[3])
        x = placed.flatten(2).transpose(1, 2)
        n, count, _ = x.shape
        if keep is not None:
            x = gather_tokens(x, keep)
        start = x.shape[1]
        index = torch.arange(start, device=x.device).expand(n, -1)
        # For each token at the start, the place among those that are left of itself or of its parent.
        place = index
        messages = x.new_ones(n, start)
        tapped = {}
        for number, block in enumerate(self.blocks, start=1):
            pruner = self.pruners[str(number)] if str(number) in self.pruners else None  # noqa: SIM401 - no dictionary
            x, messages, mask = block(x, messages, want_mask=sent is not None or pruner is not None)
            if sent is not None:
                sent.append(Sent(mask, messages, index))
            if number - 1 in taps:
                tapped[number - 1] = gather_tokens(x, place)
            if pruner is not None:
                kept, moved = pruner(mask, messages, start)
                x, messages, index = (gather_tokens(of, kept) for of in (x, messages, index))
                place = moved.gather(1, place)
        x = self.norm(x)
        pooled = (x * messages[..., None]).mean(dim=1)
        tokens = gather_tokens(x, place) if self.pruners else x
        spatial = tokens.transpose(1, 2).unflatten(2, grid) if start == count else None
        return Encoded(pooled=pooled, tokens=tokens, map=spatial, taps=tapped)


def _among_all(mask: Float[Tensor, "n k k"], index: Int[Tensor, "n k"], count: int) -> Float[Tensor, "n t t"]:
    """A mask of some tokens as one of all, with nothing sent or received by the others."""
    if mask.shape[1] == count:
        return mask
    wide = scatter_tokens(mask, index, mask.new_zeros(len(mask), count, mask.shape[2]))
    return scatter_tokens(wide.transpose(1, 2), index, mask.new_zeros(len(mask), count, count)).transpose(1, 2)
