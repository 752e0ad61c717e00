"""What every encoder gives, whatever it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from autodidact.data.schema import Kind


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

    pooled: Float[Tensor, "n d"] | None = None
    tokens: Float[Tensor, "n t d"] | None = None
    prefix: Float[Tensor, "n p d"] | None = None
    map: Float[Tensor, "n d h w"] | None = None
    taps: dict[int, Tensor] = field(default_factory=dict)


class Encoder(nn.Module, ABC):
    """A network from the fields of a sample to embeddings.

    Attributes
    ----------
    accepts : kind of field that it reads ("image", "numeric", "sequence", ...).
    width : size of the pooled embedding.
    token_width : size of a token; 0 where there are no tokens.
    depth : number of layers that `taps` can name.
    spec : JSON-ready settings from which `autodidact.encoders.build` makes the same network again.
    """

    accepts: ClassVar[Kind]
    width: int
    token_width: int = 0
    depth: int = 0
    spec: dict[str, Any]

    @abstractmethod
    def prepare(self, fields: Mapping[str, Any]) -> Any:
        """The network's input from a batch's fields, without augmentation: resized, scaled, on the fields' device."""

    @abstractmethod
    def forward(self, inputs: Any, *, keep: Int[Tensor, "n k"] | None = None, taps: Sequence[int] = ()) -> Encoded:
        """Encode.

        Parameters
        ----------
        inputs : what `prepare` or a view makes. Images: (n, c, h, w) in [0, 1]; the encoder normalises them itself.
        keep : indices of the tokens to encode; the others are dropped, not masked, so the cost falls with them.
            Encoders without tokens raise ValueError.
        taps : layers whose outputs are wanted, 0-based.
        """
