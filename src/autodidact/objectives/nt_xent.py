"""NT-Xent, the loss of SimCLR (Chen et al., arXiv 2002.05709, section 2.1)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from autodidact.objectives.contrastive import info_nce


def nt_xent(
    z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], temperature: float = 0.1, *, gather: bool = True
) -> Float[Tensor, ""]:
    r"""Normalised temperature-scaled cross entropy, mean over the 2N anchors.

    With unit rows, :math:`s_i = z_i^{(1)} \cdot z_i^{(2)} / t` and
    :math:`U_i^{(k)} = \sum_{l} \sum_{j \ne i} \exp(z_i^{(k)} \cdot z_j^{(l)} / t)`::

        L_i^(k) = -s_i + log( exp(s_i) + U_i^(k) ),      L = mean over i and k

    The authors' code for SimCLR and SimCLR v2 adds the mean over the anchors of one view to that over those of the
    other; its value is twice this one, which a learning rate for plain SGD must know.

    Parameters
    ----------
    z1, z2 : tensors of shape (N, D), N >= 2
        Raw projections of the two views; normalised here.
    temperature : float
        t > 0, in units of cosine similarity.
    gather : bool
        Contrast with the embeddings of every process (see `info_nce`).

    Returns
    -------
    scalar tensor
        float32 (float64 for float64 input), >= 0.

    Raises
    ------
    ValueError
        N = 1, views that differ in shape, NaN or infinite values, temperature <= 0.
    """
    return info_nce(z1, z2, temperature, gather=gather)
