"""What a network makes of its input, as a target."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from autodidact.objectives.embeddings import full_precision


def unit_tokens(tokens: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
    """Every token with mean 0 and variance 1 over its entries: a layer norm without parameters.

    data2vec (2202.03555) and I-JEPA (2301.08243, in the authors' code) predict such targets. Their length is the same
    for all tokens, so nothing is gained by a network whose outputs shrink.
    """
    return functional.layer_norm(full_precision(tokens), tokens.shape[-1:])
