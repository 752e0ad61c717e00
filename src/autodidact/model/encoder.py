"""What every encoder gives, whatever it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from autodidact.data.schema import Kind, Schema


@dataclass
class Encoded:
    """Outputs of an encoder; what it does not have is None.

    Attributes
    ----------
    pooled : one embedding a sample.
    tokens : one embedding a patch, column or time step; never holds class or register tokens.
    prefix : class and register tokens, where there are any.
    map : spatial feature map.
    taps : outputs of inner layers by the index asked for: patch tokens (n t d), or maps (n c h w).
    """

    pooled: Float[Tensor, "n e"] | None = None
    tokens: Float[Tensor, "n t d"] | None = None
    prefix: Float[Tensor, "n p d"] | None = None
    map: Float[Tensor, "n d h w"] | None = None
    taps: dict[int, Tensor] = field(default_factory=dict)


class Masked(NamedTuple):
    """Tokens that an encoder is shown a mask token in the place of.

    The mask token is a parameter of the method that masks, so that the encoder stays what it is without it.

    Attributes
    ----------
    where : True where the token is replaced; tokens in the order of `Encoded.tokens`, any number in a row.
    by : the mask token.
    """

    where: Bool[Tensor, "n t"]
    by: Float[Tensor, " d"]

    def put(self, tokens: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        """The tokens, those at `where` replaced."""
        if self.where.shape != tokens.shape[:2] or self.by.shape != tokens.shape[2:]:
            raise ValueError(
                f"a mask of shape {tuple(self.where.shape)} and a mask token of shape {tuple(self.by.shape)} do not "
                f"fit {tokens.shape[0]} x {tokens.shape[1]} tokens of width {tokens.shape[2]}"
            )
        return torch.where(self.where[..., None], self.by.to(tokens.dtype), tokens)


@dataclass
class Parsed:
    """What an encoder says of how the parts of a sample hang together.

    Attributes
    ----------
    saliency : how much of the others depends on each token, at most 1.
    parent : index of the token on which each depends; -1 for the root. Always one root, and no cycle.
    part : index of the child of the root below which each token hangs; the root's own for the root.
    """

    saliency: Float[Tensor, "n t"]
    parent: Int[Tensor, "n t"]
    part: Int[Tensor, "n t"]


class Encoder(nn.Module, ABC):
    """A network from the fields of a sample to embeddings.

    Attributes
    ----------
    accepts : kind of field that it reads. Table encoders say "numeric" and read the categorical columns beside it.
    width : size of the pooled embedding.
    token_width : size of a token; 0 where there are no tokens.
    depth : number of layers that `taps` can name.
    any_tokens : whether it encodes any set of its tokens: takes `keep` and `masked`.
    finds_parts : whether `parse` says how the tokens depend on each other.
    map_shape : channels, rows and columns of the spatial map; None where there is none.
    spec : JSON-ready settings from which `autodidact.encoders.build_from_spec` makes the same network again.
    """

    accepts: Kind
    width: int
    token_width: int = 0
    depth: int = 0
    any_tokens: bool = False
    finds_parts: bool = False
    map_shape: tuple[int, int, int] | None = None
    spec: dict[str, Any]

    @abstractmethod
    def prepare(self, fields: Mapping[str, Any]) -> Any:
        """The network's input from a batch's fields, without augmentation: resized, scaled, on the fields' device."""

    @abstractmethod
    def forward(
        self,
        inputs: Any,
        *,
        keep: Int[Tensor, "n k"] | None = None,
        masked: Masked | None = None,
        unplaced: Bool[Tensor, "n t"] | None = None,
        taps: Sequence[int] = (),
    ) -> Encoded:
        """Encode.

        Parameters
        ----------
        inputs : what `prepare` or a view makes. Images: (n, c, h, w) in [0, 1]; the encoder normalises them itself.
        keep : indices of the tokens to encode; the others are dropped, not masked, so the cost falls with them.
            Where `any_tokens` is false this raises ValueError.
        masked : tokens that are replaced by a mask token before positions are added, so that the cost stays that of all
            tokens. Where `any_tokens` is false this raises ValueError.
        unplaced : True for tokens that get no position, so that nothing but what they and the others show says where
            they belong. Encoders other than plain vision transformers with positions of their own raise ValueError.
        taps : layers whose outputs are wanted, 0-based.
        """

    def parse(self, inputs: Any) -> Parsed:
        """How the tokens of each sample depend on each other; ValueError where the encoder does not say that."""
        raise ValueError(f"{self.name} does not find parts; use small:dependency_vit")

    @abstractmethod
    def fits(self, schema: Schema) -> None:
        """Raise ValueError where data of this schema cannot be given to the encoder (other columns, other channels)."""

    @property
    def name(self) -> str:
        """What was typed to get it, such as ``timm:resnet18``."""
        return str(self.spec["name"])

    @property
    def patch_projection(self) -> nn.Module | None:
        """The layer from patches of pixels to tokens, without their positions; None where there is none."""
        return None

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the map, which are those of the tokens where there are tokens."""
        return None if self.map_shape is None else self.map_shape[1:]

    def need_tap(self, taps: Sequence[int]) -> None:
        """Raise ValueError for a layer that does not exist."""
        if wrong := [tap for tap in taps if not 0 <= tap < self.depth]:
            raise ValueError(f"{self.name} has layers 0 to {self.depth - 1}, not {', '.join(map(str, wrong))}")

    def no_keep(self, keep: Tensor | None) -> None:
        """Raise ValueError when tokens are to be dropped and this encoder cannot."""
        if keep is not None:
            raise ValueError(f"{self.name} cannot drop tokens; use a plain vision transformer or small:tabular")

    def no_masked(self, masked: Masked | None) -> None:
        """Raise ValueError when tokens are to be replaced and this encoder cannot."""
        if masked is not None:
            raise ValueError(f"{self.name} cannot mask tokens; use a plain vision transformer or small:tabular")

    def no_unplaced(self, unplaced: Tensor | None) -> None:
        """Raise ValueError when tokens are to have no position and this encoder cannot do without."""
        if unplaced is not None:
            raise ValueError(f"{self.name} cannot leave out positions; use a plain vision transformer")
